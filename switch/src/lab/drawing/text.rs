//! A drawing as lines of text.

use super::{Drawing, HostBox, cables::Cell};

/// Which of the four neighbours a line in a cell leads to: right, down, left, up.
const SHAPES: [char; 16] = [' ', '─', '│', '┌', '─', '─', '┐', '┬', '│', '└', '│', '├', '┘', '┴', '┤', '┼'];
const RIGHT: u8 = 1;
const DOWN: u8 = 2;
const LEFT: u8 = 4;
const UP: u8 = 8;

impl Drawing {
    /// As text, in the box-drawing characters of Unicode.
    pub fn text(&self) -> String {
        let mut canvas = Canvas { width: self.width, lines: vec![0; self.width * self.height], words: Vec::new() };
        for host in &self.boxes {
            canvas.frame(host);
        }
        for cable in &self.cables {
            canvas.cable(cable, &self.boxes);
        }
        canvas.text()
    }
}

struct Canvas {
    width: usize,
    lines: Vec<u8>,
    words: Vec<(usize, char)>,
}

impl Canvas {
    fn add(&mut self, x: usize, y: usize, ways: u8) {
        self.lines[y * self.width + x] |= ways;
    }

    fn frame(&mut self, host: &HostBox) {
        let (right, bottom) = (host.x + host.width - 1, host.y + host.height() - 1);
        for x in host.x + 1..right {
            self.add(x, host.y, LEFT | RIGHT);
            self.add(x, bottom, LEFT | RIGHT);
        }
        for y in host.y + 1..bottom {
            self.add(host.x, y, UP | DOWN);
            self.add(right, y, UP | DOWN);
        }
        self.add(host.x, host.y, RIGHT | DOWN);
        self.add(right, host.y, LEFT | DOWN);
        self.add(host.x, bottom, RIGHT | UP);
        self.add(right, bottom, LEFT | UP);
        self.write(host.x + 1, host.y, &format!(" {} ", host.title));
        for (line, y) in host.lines.iter().zip(host.y + 1..) {
            self.write(host.x + 2, y, &line.text);
        }
    }

    fn write(&mut self, x: usize, y: usize, words: &str) {
        let start = y * self.width + x;
        self.words.extend((start..).zip(words.chars()));
    }

    fn cable(&mut self, way: &[Cell], boxes: &[HostBox]) {
        for pair in way.windows(2) {
            let (one, other) = (pair[0], pair[1]);
            let (there, back) = if other.x > one.x {
                (RIGHT, LEFT)
            } else if other.x < one.x {
                (LEFT, RIGHT)
            } else if other.y > one.y {
                (DOWN, UP)
            } else {
                (UP, DOWN)
            };
            self.add(one.x, one.y, there);
            self.add(other.x, other.y, back);
        }
        // Its ends join the boxes that they touch.
        for end in way.first().into_iter().chain(way.last()) {
            for host in boxes.iter().filter(|host| (host.y..host.y + host.height()).contains(&end.y)) {
                if end.x == host.x + host.width {
                    self.add(end.x, end.y, LEFT);
                    self.add(end.x - 1, end.y, RIGHT);
                } else if end.x + 1 == host.x {
                    self.add(end.x, end.y, RIGHT);
                    self.add(host.x, end.y, LEFT);
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut cells: Vec<char> = self.lines.iter().map(|ways| SHAPES[usize::from(*ways & 15)]).collect();
        for (at, letter) in &self.words {
            cells[*at] = *letter;
        }
        let lines: Vec<String> = cells.chunks(self.width.max(1)).map(|row| row.iter().collect()).collect();
        let used: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        // Nothing but margin at the left of every line.
        let indent =
            used.iter().filter(|line| !line.is_empty()).map(|line| line.chars().take_while(|c| *c == ' ').count());
        let indent = indent.min().unwrap_or(0);
        let first = used.iter().position(|line| !line.is_empty()).unwrap_or(0);
        let last = used.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        used[first..last].iter().map(|line| line.chars().skip(indent).collect::<String>() + "\n").collect()
    }
}
