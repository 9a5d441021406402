//! The map as text: a namespace after another, and behind each interface what it leads to.

use std::fmt::Write;

use super::{LineKind, Page, Row};

impl Page {
    /// The whole page.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let names = self.namespaces.iter().flat_map(|space| &space.rows).map(|row| row.name.len() + 2 * row.depth);
        let width = names.max().unwrap_or(0);
        for (place, space) in self.namespaces.iter().enumerate() {
            if place > 0 {
                text.push('\n');
            }
            let _ = writeln!(text, "{}  {}", space.name, space.about);
            for (place, row) in space.rows.iter().enumerate() {
                let is_last = space.rows.get(place + 1).is_none_or(|next| next.depth < row.depth);
                let branch = match (row.depth, is_last) {
                    (0, _) => String::new(),
                    (_, true) => "└ ".to_owned(),
                    (_, false) => "├ ".to_owned(),
                };
                let name = format!("{branch}{}", row.name);
                let line = format!("  {name:width$}  {}{}", row.words, self.leads_to(row));
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        text.trim_end().to_owned()
    }

    fn leads_to(&self, row: &Row) -> String {
        let mut words = String::new();
        for line in &self.lines {
            let (other, outwards) = match (&line.from, &line.to) {
                (from, to) if *from == row.label => (to, true),
                (from, to) if *to == row.label => (from, false),
                (..) => continue,
            };
            let arrow = match (line.kind, outwards) {
                (LineKind::Cable, _) => "<->",
                (LineKind::Rests, true) => "on",
                (LineKind::Rests, false) => "under",
                (LineKind::Port, true) => "port",
                (LineKind::Port, false) => "port of",
                (LineKind::Tunnel, _) => "<==>",
            };
            let gap = if words.is_empty() && row.words.is_empty() { "" } else { "  " };
            words.push_str(&format!("{gap}{arrow} {other}"));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::survey;
    use super::*;

    #[test]
    fn a_page_is_read_from_top_to_bottom() {
        let expected = "\
left  net:[2]
  eth0      10.0.0.1/24, mtu 1400  <-> switch/p1
  └ eth0.7  VLAN 7, mtu 1400, DOWN

switch  net:[1], sleep
  br0       bridge
  └ p1      <-> left/eth0";
        assert_eq!(Page::of(&survey()).text(), expected);
    }
}
