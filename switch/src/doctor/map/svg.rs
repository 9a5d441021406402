//! The map as a drawing: a box for each namespace, a row for each interface, lines between rows.
//!
//! Boxes stand in columns: those that most lines meet in the middle one, the others beside them by how many lines away they
//! are. That is enough for a page on which every line can be followed; it is no attempt at beauty.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
};

use super::{LineKind, Namespace, Page, Row};

const ROW_HEIGHT: usize = 18;
const HEAD_HEIGHT: usize = 40;
/// Of a monospaced letter of 11 pixels, generously.
const LETTER_WIDTH: usize = 7;
const GAP: usize = 30;
const COLUMN_GAP: usize = 140;
const MARGIN: usize = 20;

struct Placed<'a> {
    space: &'a Namespace,
    column: usize,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// The drawing as the text of an SVG file.
pub(crate) fn draw(page: &Page) -> String {
    let boxes = place(page);
    let (width, height) = boxes.iter().fold((0, 0), |(width, height), it| {
        (width.max(it.x + it.width + MARGIN), height.max(it.y + it.height + MARGIN))
    });
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"11\">"
    );
    let _ = writeln!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>");
    for it in &boxes {
        draw_box(&mut svg, it);
    }
    for line in &page.lines {
        let (Some(from), Some(to)) = (anchor(&boxes, &line.from), anchor(&boxes, &line.to)) else { continue };
        let (colour, dash) = match line.kind {
            LineKind::Cable => ("#1f5fa8", ""),
            LineKind::Rests => ("#777777", " stroke-dasharray=\"2 3\""),
            LineKind::Port => ("#2c8a4b", ""),
            LineKind::Tunnel => ("#c2571a", " stroke-dasharray=\"7 4\""),
        };
        let _ = writeln!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dash}/>",
            curve(from, to)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where a line meets a row: both ends of the row, the height, and the column of its box.
#[derive(Clone, Copy)]
struct Anchor {
    left: usize,
    right: usize,
    y: usize,
    column: usize,
}

fn anchor(boxes: &[Placed<'_>], label: &str) -> Option<Anchor> {
    boxes.iter().find_map(|it| {
        let row = it.space.rows.iter().position(|row| row.label == label)?;
        let y = it.y + HEAD_HEIGHT + row * ROW_HEIGHT + ROW_HEIGHT / 2;
        Some(Anchor { left: it.x, right: it.x + it.width, y, column: it.column })
    })
}

fn curve(from: Anchor, to: Anchor) -> String {
    const BOW: usize = 60;
    let (start, end, first, second) = match from.column.cmp(&to.column) {
        std::cmp::Ordering::Less => (from.right, to.left, from.right + BOW, to.left.saturating_sub(BOW)),
        std::cmp::Ordering::Greater => (from.left, to.right, from.left.saturating_sub(BOW), to.right + BOW),
        std::cmp::Ordering::Equal => {
            let out = from.right.max(to.right) + BOW;
            (from.right, to.right, out, out)
        }
    };
    format!("M{start} {} C{first} {} {second} {} {end} {}", from.y, from.y, to.y, to.y)
}

fn draw_box(svg: &mut String, it: &Placed<'_>) {
    let Placed { space, x, y, width, height, .. } = it;
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"#f6f8fa\" stroke=\"#555555\"/>"
    );
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{}</text><text x=\"{}\" y=\"{}\" fill=\"#666666\">{}</text>",
        x + 8,
        y + 16,
        escaped(&space.name),
        x + 8,
        y + 31,
        escaped(&space.about)
    );
    for (number, row) in space.rows.iter().enumerate() {
        let middle = y + HEAD_HEIGHT + number * ROW_HEIGHT + 13;
        let colour = if row.up { "#000000" } else { "#b00020" };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" fill=\"{colour}\">{} <tspan fill=\"#555555\">{}</tspan></text>",
            x + 8 + 14 * row.depth,
            escaped(&row.name),
            escaped(&row.words)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn place(page: &Page) -> Vec<Placed<'_>> {
    let columns = columns(page);
    let mut boxes = Vec::new();
    let mut x = MARGIN;
    for column in 0..=columns.iter().copied().max().unwrap_or(0) {
        let inside: Vec<_> =
            page.namespaces.iter().zip(&columns).filter(|(_, at)| **at == column).map(|(space, _)| space).collect();
        let width = inside.iter().map(|space| width_of(space)).max().unwrap_or(0);
        let mut y = MARGIN;
        for space in inside {
            let height = HEAD_HEIGHT + space.rows.len() * ROW_HEIGHT + 8;
            boxes.push(Placed { space, column, x, y, width, height });
            y += height + GAP;
        }
        x += width + COLUMN_GAP;
    }
    boxes
}

fn width_of(space: &Namespace) -> usize {
    let of_row = |row: &Row| (row.name.len() + row.words.len() + 3) * LETTER_WIDTH + 14 * row.depth;
    let rows = space.rows.iter().map(of_row).max().unwrap_or(0);
    rows.max(space.name.len().max(space.about.len()) * LETTER_WIDTH) + 16
}

/// The column of each namespace: those one line away from the middle stand by turns to its right and left.
fn columns(page: &Page) -> Vec<usize> {
    let of: BTreeMap<&str, usize> = page
        .namespaces
        .iter()
        .enumerate()
        .flat_map(|(index, space)| space.rows.iter().map(move |row| (row.label.as_str(), index)))
        .collect();
    let mut beside = vec![Vec::new(); page.namespaces.len()];
    for line in &page.lines {
        if let (Some(&one), Some(&other)) = (of.get(line.from.as_str()), of.get(line.to.as_str()))
            && one != other
        {
            beside[one].push(other);
            beside[other].push(one);
        }
    }
    let mut places: Vec<Option<i32>> = vec![None; page.namespaces.len()];
    // The busiest of each part that hangs together is its middle.
    let mut order: Vec<usize> = (0..beside.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(beside[*index].len()));
    for start in order {
        if places[start].is_some() {
            continue;
        }
        places[start] = Some(0);
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            let here = places[at].unwrap_or(0);
            let mut to_the_right = here >= 0;
            for &next in &beside[at] {
                if places[next].is_none() {
                    places[next] = Some(if to_the_right { here + 1 } else { here - 1 });
                    to_the_right = if here == 0 { !to_the_right } else { to_the_right };
                    queue.push_back(next);
                }
            }
        }
    }
    let leftmost = places.iter().flatten().copied().min().unwrap_or(0);
    places.into_iter().map(|place| usize::try_from(place.unwrap_or(0) - leftmost).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::survey;
    use super::*;

    #[test]
    fn every_namespace_row_and_line_is_drawn() {
        let mut page = Page::of(&survey());
        page.namespaces[0].name = "a<b>&\"c\"".into();
        let svg = draw(&page);
        assert!(svg.contains("a&lt;b&gt;&amp;&quot;c&quot;"));
        assert_eq!(svg.matches("<path").count(), 1);
        assert_eq!(svg.matches("rx=\"4\"").count(), 2);
        for row in page.namespaces.iter().flat_map(|space| &space.rows) {
            assert!(svg.contains(&format!(">{} <", row.name)), "{}", row.name);
        }
    }

    #[test]
    fn a_page_of_nothing_is_a_page() {
        let svg = draw(&Page { namespaces: Vec::new(), lines: Vec::new() });
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }
}
