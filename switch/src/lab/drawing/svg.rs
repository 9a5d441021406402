//! A drawing as SVG.

use std::fmt::Write;

use super::{Drawing, cables::Cell};

/// Pixels of a cell: about what a letter of the font takes.
const CELL: [usize; 2] = [8, 18];

impl Drawing {
    /// As an SVG image, for a light or a dark page.
    pub fn svg(&self) -> String {
        let (width, height) = (self.width * CELL[0], self.height * CELL[1]);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
             <style>\n  rect {{ fill: #f6f8fa; stroke: #57606a }}\n  polyline {{ fill: none; stroke: #0969da; stroke-width: 2 }}\n  \
             text {{ font: 13px ui-monospace, monospace; fill: #1f2328; white-space: pre }}\n  .title {{ font-weight: bold }}\n\
             </style>\n<rect width=\"100%\" height=\"100%\" style=\"fill: #ffffff; stroke: none\"/>\n"
        );
        for cable in &self.cables {
            let points: Vec<_> = corners(cable)
                .into_iter()
                .map(|cell| {
                    let (x, y) = centre(cell);
                    format!("{x},{y}")
                })
                .collect();
            let (first, last) = (cable.first(), cable.last());
            // From edge to edge: the cells themselves end half a cell before the boxes.
            let reach = |end: Option<&Cell>| end.map(|end| self.edge(*end)).unwrap_or_default();
            let line = format!("{} {} {}", reach(first), points.join(" "), reach(last));
            let _ = writeln!(svg, "<polyline points=\"{}\"/>", line.trim());
        }
        for host in &self.boxes {
            let (x, y) = (host.x * CELL[0], host.y * CELL[1]);
            let (width, height) = (host.width * CELL[0], host.height() * CELL[1]);
            let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\"/>");
            let left = x + 2 * CELL[0];
            let line = |row: usize| y + row * CELL[1] + 13;
            let _ =
                writeln!(svg, "<text class=\"title\" x=\"{left}\" y=\"{}\">{}</text>", line(0), escaped(&host.title));
            for (row, words) in (1..).zip(&host.lines) {
                let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\">{}</text>", line(row), escaped(&words.text));
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The point of a box's edge that a cable's end touches.
    fn edge(&self, end: Cell) -> String {
        let beside = self.boxes.iter().filter(|host| (host.y..host.y + host.height()).contains(&end.y));
        for host in beside {
            let y = centre(end).1;
            if end.x == host.x + host.width {
                return format!("{},{y}", end.x * CELL[0]);
            }
            if end.x + 1 == host.x {
                return format!("{},{y}", host.x * CELL[0]);
            }
        }
        String::new()
    }
}

fn centre(cell: Cell) -> (usize, usize) {
    (cell.x * CELL[0] + CELL[0] / 2, cell.y * CELL[1] + CELL[1] / 2)
}

/// The first cell, those where it bends, and the last one.
fn corners(way: &[Cell]) -> Vec<Cell> {
    let straight = |window: &[Cell]| {
        (window[0].x == window[1].x && window[1].x == window[2].x)
            || (window[0].y == window[1].y && window[1].y == window[2].y)
    };
    let inner = way.windows(3).filter(|window| !straight(window)).map(|window| window[1]);
    let ends = way.first().copied().into_iter();
    let last = (way.len() > 1).then(|| way[way.len() - 1]);
    ends.chain(inner).chain(last).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
