//! A report as one HTML file: no script, no font and no picture from elsewhere.

use std::fmt::Write;

use super::plot::{dark_style, escaped};

/// A page under construction.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    body: String,
    contents: String,
    figure_count: usize,
}

const STYLE: &str = "\
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d8dde3; --band: #f4f6f8; --mark: #0072b2; --bad: #b02a1c }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6edf3; --soft: #a3adb8; --line: #333a42; --band: #1b2027; --mark: #56b4e9; --bad: #ff8f7f } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 920px; margin: 0 auto; padding: 40px 24px 80px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px }
h2 { font-size: 21px; margin: 48px 0 12px; padding-top: 8px; border-top: 1px solid var(--line) }
p, ul { margin: 10px 0 } li { margin: 4px 0 }
.lead { color: var(--soft); margin: 0 0 24px }
.short { background: var(--band); border-left: 4px solid var(--mark); padding: 12px 20px; margin: 24px 0 }
.short.bad { border-left-color: var(--bad) }
.short h2 { border: 0; margin: 4px 0; padding: 0; font-size: 17px }
figure { margin: 28px 0 8px } figure svg { width: 100%; height: auto; display: block; border: 1px solid var(--line); border-radius: 6px }
figcaption { margin-top: 10px }
code { font: 13.5px ui-monospace, monospace; background: var(--band); padding: 1px 5px; border-radius: 4px }
pre { font: 13px/1.45 ui-monospace, monospace; background: var(--band); padding: 12px 16px; border-radius: 6px; overflow-x: auto }
.scroll { overflow-x: auto; margin: 14px 0 }
table { border-collapse: collapse; font-size: 13.5px }
th, td { white-space: nowrap; vertical-align: top } td.word { white-space: normal }
th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 600 } th.word, td.word { text-align: left }
details summary { cursor: pointer; color: var(--mark) }
nav a { color: var(--mark); text-decoration: none; margin-right: 16px }
@media print { details { display: none } main { padding: 0 } }
";

impl Page {
    /// A page with its heading and the line below it.
    pub fn new(title: &str, lead: &str) -> Self {
        let body = format!("<h1>{}</h1>\n<p class=\"lead\">{}</p>\n", escaped(title), escaped(lead));
        Self { title: title.to_owned(), body, contents: String::new(), figure_count: 0 }
    }

    /// What is to be known if one reads nothing else. `is_good`: nothing is wrong.
    pub fn short(&mut self, heading: &str, sentences: &[String], is_good: bool) {
        let class = if is_good { "short" } else { "short bad" };
        let _ = write!(self.body, "<div class=\"{class}\"><h2>{}</h2><ul>", escaped(heading));
        for sentence in sentences {
            let _ = write!(self.body, "<li>{}</li>", escaped(sentence));
        }
        self.body.push_str("</ul></div>\n");
    }

    /// A heading, to which the list at the top of the page leads.
    pub fn section(&mut self, heading: &str) {
        let anchor: String = heading.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let heading = escaped(heading);
        let _ = writeln!(self.body, "<h2 id=\"{anchor}\">{heading}</h2>");
        let _ = write!(self.contents, "<a href=\"#{anchor}\">{heading}</a>");
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escaped(text));
    }

    /// A plot with what is to be seen in it.
    pub fn figure(&mut self, svg: &str, caption: &str) {
        self.figure_count += 1;
        let caption = escaped(caption);
        let _ = writeln!(
            self.body,
            "<figure>\n{svg}<figcaption><strong>Figure {}.</strong> {caption}</figcaption></figure>",
            self.figure_count
        );
    }

    /// Text as it is.
    pub fn verbatim(&mut self, text: &str) {
        let _ = writeln!(self.body, "<pre>{}</pre>", escaped(text));
    }

    /// A table, folded away behind `summary` if that says something. The first `word_count` columns are words, the others numbers.
    pub fn table(&mut self, summary: Option<&str>, names: &[&str], word_count: usize, rows: &[Vec<String>]) {
        let class = |at: usize| if at < word_count { " class=\"word\"" } else { "" };
        if let Some(summary) = summary {
            let _ = write!(self.body, "<details><summary>{}</summary>", escaped(summary));
        }
        self.body.push_str("<div class=\"scroll\"><table><thead><tr>");
        for (at, name) in names.iter().enumerate() {
            let _ = write!(self.body, "<th{}>{}</th>", class(at), escaped(name));
        }
        self.body.push_str("</tr></thead><tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            for (at, field) in row.iter().enumerate() {
                let _ = write!(self.body, "<td{}>{}</td>", class(at), escaped(field));
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>");
        self.body.push_str(if summary.is_some() { "</details>\n" } else { "\n" });
    }

    /// The file's text.
    pub fn to_html(&self) -> String {
        // The list of sections stands behind the heading and the line below it.
        let lead_end = self.body.find("</p>").map_or(0, |at| at + "</p>\n".len());
        let (lead, rest) = self.body.split_at(lead_end);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
             <style>\n{STYLE}{}\n</style></head>\n<body><main>\n{lead}<nav>{}</nav>\n{rest}</main></body></html>\n",
            escaped(&self.title),
            dark_style(),
            self.contents
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::report::plot::tests::assert_well_formed;

    #[test]
    fn a_page_is_well_formed_and_needs_nothing_from_elsewhere() {
        let mut page = Page::new("A & B", "x < y");
        page.short("In short", &["one <b>".to_owned(), "two".to_owned()], false);
        page.section("What fits");
        page.paragraph("a \"quoted\" paragraph");
        page.figure("<svg><title>t</title></svg>\n", "seen");
        page.verbatim("a < b\n");
        page.table(Some("all"), &["name", "value"], 1, &[vec!["a".to_owned(), "1".to_owned()]]);
        page.table(None, &["name"], 1, &[]);
        let html = page.to_html();
        assert_well_formed(&html);
        for text in [
            "<a href=\"#What-fits\">What fits</a>",
            "Figure 1.",
            "one &lt;b&gt;",
            "<td class=\"word\">a</td><td>1</td>",
        ] {
            assert!(html.contains(text), "{text}\n{html}");
        }
        for foreign in ["http:", "https:", "<script", "url(", "@import", "src="] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }
}
