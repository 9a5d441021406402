//! Plots as SVG: curves, bars and heat maps with titles, axes with units, and colours that colour-blind readers can tell apart.
//!
//! Each series has a colour of Okabe and Ito's palette and a marker of its own. A plot is legible on light and on dark paper:
//! `DARK` holds the other colours, found by the attribute that has the light one, so a viewer that knows no style sheets
//! shows the light plot.

mod scale;

use std::{fmt::Write, ops::Range};

use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

pub use self::scale::Axis;
use self::scale::Scale;
use super::words;
use crate::experiment::error::ExperimentError;

/// The fonts that a reader's system has.
const FONT: &str = "system-ui, sans-serif";
/// plotters divides the size of a font by this.
const EM: f64 = 1.24;

const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const SOFT: RGBColor = RGBColor(0x59, 0x63, 0x6e);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);
const AXIS: RGBColor = RGBColor(0x9a, 0xa2, 0xab);
const WARN: RGBColor = RGBColor(0xb0, 0x2a, 0x1c);

const SERIES: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xaa, 0x44, 0x99),
    RGBColor(0x8a, 0x6d, 0x00),
    RGBColor(0x6b, 0x72, 0x80),
];

/// Light colours, and what they are on dark paper.
const DARK: [(RGBColor, &str); 12] = [
    (PAPER, "#14181d"),
    (INK, "#e6edf3"),
    (SOFT, "#a3adb8"),
    (GRID, "#2a3038"),
    (AXIS, "#5c6670"),
    (WARN, "#ff8f7f"),
    (SERIES[0], "#56b4e9"),
    (SERIES[1], "#f0883e"),
    (SERIES[2], "#3ecf9e"),
    (SERIES[3], "#e28fd0"),
    (SERIES[4], "#e6c548"),
    (SERIES[5], "#aab3bd"),
];

/// The style sheet that makes plots dark where the reader's system is: once for each page or file.
pub fn dark_style() -> String {
    let mut style = String::from("@media (prefers-color-scheme: dark) {\n");
    for (light, dark) in DARK {
        let light = hex(light);
        let _ =
            writeln!(style, "svg [fill=\"{light}\"] {{ fill: {dark} }} svg [stroke=\"{light}\"] {{ stroke: {dark} }}");
    }
    style.push('}');
    style
}

/// As plotters writes it.
fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// How a series is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// A line with a marker at each point.
    Both,
    /// A line alone: what was computed.
    Line,
    /// Markers alone: what was measured.
    Points,
}

/// One series of a plot.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// What the legend says; nothing: it is not in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Which colour and marker, counted from 0.
    pub style: usize,
    /// How it is drawn.
    pub mark: Mark,
}

/// Curves over two axes.
#[derive(Clone, PartialEq, Debug)]
pub struct Curves {
    /// What is to be seen.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The curves.
    pub series: Vec<Series>,
    /// Vertical lines with a word at each: where something happens.
    pub rulers: Vec<(f64, String)>,
}

/// A number for each pair of a row and a column, as a colour and in digits.
#[derive(Clone, PartialEq, Debug)]
pub struct HeatMap {
    /// What is to be seen.
    pub title: String,
    /// What the numbers are, with the unit.
    pub unit: String,
    /// What the columns are.
    pub x_label: String,
    /// What the rows are.
    pub y_label: String,
    /// The columns from left to right.
    pub columns: Vec<String>,
    /// The rows from top to bottom.
    pub rows: Vec<String>,
    /// Row by row; `None`: there is no number.
    pub values: Vec<Vec<Option<f64>>>,
}

/// Bars in groups.
#[derive(Clone, PartialEq, Debug)]
pub struct Bars {
    /// What is to be seen.
    pub title: String,
    /// What the numbers are, with the unit.
    pub unit: String,
    /// The groups from top to bottom.
    pub groups: Vec<String>,
    /// The bars of each group: name, and a number for each group.
    pub series: Vec<(String, Vec<Option<f64>>)>,
}

type Area<'s> = DrawingArea<SVGBackend<'s>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

const WIDTH: i32 = 860;

impl Curves {
    /// The plot as a file.
    ///
    /// # Errors
    /// It can't be drawn.
    pub fn to_svg(&self) -> Result<String, ExperimentError> {
        const HEIGHT: i32 = 420;
        svg(&self.title, HEIGHT, |area| self.draw(area, HEIGHT))
    }

    fn draw(&self, area: &Area<'_>, height: i32) -> Drawn {
        title(area, &self.title, &self.y.label)?;
        let named = self.series.iter().filter(|series| !series.name.is_empty());
        let names: Vec<_> = named.map(|series| (series.name.clone(), series.style, series.mark)).collect();
        let rows = legend(area, &names)?;
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let x_scale = Scale::of(&self.x, points().map(|(x, _)| x).chain(self.rulers.iter().map(|(x, _)| *x)));
        let y_scale = Scale::of(&self.y, points().map(|(_, y)| y));
        let (Some(x_scale), Some(y_scale)) = (x_scale, y_scale) else {
            return text(area, "nothing was measured", (WIDTH / 2, height / 2), 14.0, &SOFT, HPos::Center);
        };
        // The words of rulers stand above the chart, where no curve is.
        let ruler_height = if self.rulers.is_empty() { 0 } else { 14 };
        let top = TITLE_HEIGHT + rows * LEGEND_ROW + 16 + ruler_height;
        let ordinates = y_scale.range();
        let mut chart = ChartBuilder::on(area)
            .margin_top(top)
            .margin_right(28)
            .margin_left(8)
            .margin_bottom(8)
            .x_label_area_size(50)
            .y_label_area_size(58)
            .build_cartesian_2d(x_scale, y_scale)?;
        let label_style = (FONT, 12.5 * EM).into_font().color(&SOFT);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID.stroke_width(1))
            .light_line_style(TRANSPARENT)
            .axis_style(AXIS.stroke_width(1))
            .label_style(label_style.clone())
            .axis_desc_style((FONT, 13.0 * EM).into_font().color(&INK))
            .x_desc(self.x.label.clone())
            .x_label_formatter(&|value| words::short(*value))
            .y_label_formatter(&|value| words::short(*value))
            .draw()?;
        for (at, word) in &self.rulers {
            let Range { start: bottom, end: top } = ordinates.clone();
            chart.draw_series([PathElement::new(vec![(*at, bottom), (*at, top)], AXIS.stroke_width(1))])?;
            let (x, y) = chart.backend_coord(&(*at, top));
            text(area, word, (x, y - 9), 11.5, &SOFT, HPos::Center)?;
        }
        for series in &self.series {
            let colour = SERIES[series.style % SERIES.len()];
            let points = || series.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
            if series.mark != Mark::Points {
                chart.draw_series([PathElement::new(points().collect::<Vec<_>>(), colour.stroke_width(2))])?;
            }
            if series.mark != Mark::Line {
                for point in points() {
                    marker(area, chart.backend_coord(&point), series.style)?;
                }
            }
        }
        Ok(())
    }
}

impl HeatMap {
    /// The plot as a file.
    ///
    /// # Errors
    /// It can't be drawn.
    pub fn to_svg(&self) -> Result<String, ExperimentError> {
        let height = TITLE_HEIGHT + 54 + Self::ROW * self.rows.len() as i32 + 48;
        svg(&self.title, height, |area| self.draw(area))
    }

    const ROW: i32 = 34;
    /// Room for the names of the rows.
    const LEFT: i32 = 190;

    fn draw(&self, area: &Area<'_>) -> Drawn {
        const GAP: i32 = 2;
        title(area, &self.title, &self.unit)?;
        let top = TITLE_HEIGHT + 54;
        let column_width = (WIDTH - Self::LEFT - 24) / self.columns.len().max(1) as i32;
        text(area, &self.y_label, (16, top - 12), 12.5, &SOFT, HPos::Left)?;
        for (at, column) in (0..).zip(&self.columns) {
            let middle = Self::LEFT + at * column_width + column_width / 2;
            text(area, column, (middle, top - 12), 12.5, &INK, HPos::Center)?;
        }
        text(area, &self.x_label, (Self::LEFT + (WIDTH - Self::LEFT - 24) / 2, top - 34), 12.5, &SOFT, HPos::Center)?;
        let known = || self.values.iter().flatten().copied().flatten();
        let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
        for (row, (name, values)) in (0..).zip(self.rows.iter().zip(&self.values)) {
            let y = top + row * Self::ROW;
            text(area, name, (Self::LEFT - 12, y + Self::ROW / 2), 12.5, &INK, HPos::Right)?;
            for (column, value) in (0..).zip(values) {
                let x = Self::LEFT + column * column_width;
                let field = [(x, y), (x + column_width - GAP, y + Self::ROW - GAP)];
                let middle = (x + column_width / 2, y + Self::ROW / 2);
                match value {
                    Some(value) => {
                        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
                        let colour = heat(share);
                        area.draw(&Rectangle::new(field, colour.filled()))?;
                        text(area, &words::short(*value), middle, 12.5, &legible_on(colour), HPos::Center)?;
                    }
                    None => {
                        area.draw(&Rectangle::new(field, GRID.filled()))?;
                        text(area, "\u{2013}", middle, 12.5, &SOFT, HPos::Center)?;
                    }
                }
            }
        }
        let below = top + Self::ROW * self.rows.len() as i32 + 16;
        scale(area, below, low, high)
    }
}

/// The colours of a heat map from its least to its greatest value.
fn scale(area: &Area<'_>, y: i32, low: f64, high: f64) -> Drawn {
    const STEPS: i32 = 60;
    const STEP: i32 = 4;
    if low > high {
        return Ok(());
    }
    let left = WIDTH - 24 - STEPS * STEP - 60;
    text(area, &words::short(low), (left - 8, y + 6), 12.0, &SOFT, HPos::Right)?;
    for step in 0..STEPS {
        let x = left + step * STEP;
        let colour = heat(f64::from(step) / f64::from(STEPS - 1));
        area.draw(&Rectangle::new([(x, y), (x + 2 * STEP, y + 12)], colour.filled()))?;
    }
    text(area, &words::short(high), (left + STEPS * STEP + 12, y + 6), 12.0, &SOFT, HPos::Left)
}

impl Bars {
    /// The plot as a file.
    ///
    /// # Errors
    /// It can't be drawn.
    pub fn to_svg(&self) -> Result<String, ExperimentError> {
        let group = Self::BAR * self.series.len() as i32 + Self::BETWEEN;
        let height = TITLE_HEIGHT + 2 * LEGEND_ROW + group * self.groups.len() as i32 + 24;
        svg(&self.title, height, |area| self.draw(area, group))
    }

    const BAR: i32 = 18;
    const BETWEEN: i32 = 14;
    /// Room for the number behind the longest bar.
    const RIGHT: i32 = 90;

    fn draw(&self, area: &Area<'_>, group_height: i32) -> Drawn {
        title(area, &self.title, &self.unit)?;
        let names: Vec<_> =
            self.series.iter().enumerate().map(|(at, (name, _))| (name.clone(), at, Mark::Points)).collect();
        let rows = if names.len() > 1 { legend(area, &names)? } else { 0 };
        let top = TITLE_HEIGHT + rows * LEGEND_ROW + 16;
        let left = 28 + self.groups.iter().map(|group| text_width(group)).max().unwrap_or(0);
        let longest = self.series.iter().flat_map(|(_, values)| values.iter().copied().flatten()).fold(0.0, f64::max);
        for (at, group) in (0..).zip(&self.groups) {
            let y = top + at * group_height;
            let middle = y + Self::BAR * self.series.len() as i32 / 2;
            text(area, group, (left - 12, middle), 12.5, &INK, HPos::Right)?;
            for (number, (_, values)) in self.series.iter().enumerate() {
                let y = y + Self::BAR * number as i32;
                let Some(value) = values.get(at as usize).copied().flatten() else {
                    text(area, "\u{2013}", (left + 6, y + Self::BAR / 2), 12.0, &SOFT, HPos::Left)?;
                    continue;
                };
                let share = if longest > 0.0 { value / longest } else { 0.0 };
                let end = left + (share * f64::from(WIDTH - left - Self::RIGHT)) as i32;
                let bar = [(left, y + 1), (end.max(left + 1), y + Self::BAR - 2)];
                area.draw(&Rectangle::new(bar, SERIES[number % SERIES.len()].filled()))?;
                text(area, &words::short(value), (end + 6, y + Self::BAR / 2), 12.0, &INK, HPos::Left)?;
            }
        }
        Ok(())
    }
}

/// Room for a plot's title and the line below it.
const TITLE_HEIGHT: i32 = 52;
const LEGEND_ROW: i32 = 22;

fn svg(title: &str, height: i32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, ExperimentError> {
    let mut drawn = String::new();
    {
        let area = SVGBackend::with_string(&mut drawn, (WIDTH as u32, height as u32)).into_drawing_area();
        let done = area.fill(&PAPER).and_then(|()| draw(&area)).and_then(|()| area.present());
        done.map_err(|error| ExperimentError::Broken(format!("a plot can't be drawn: {error}")))?;
    }
    // What a reader who does not see the plot is told.
    let opened = drawn.find('>').map_or(0, |at| at + 1);
    let (tag, rest) = drawn.split_at(opened);
    let tag = tag.trim_end_matches('>');
    Ok(format!("{tag} role=\"img\">\n<title>{}</title>{rest}", escaped(title)))
}

/// A plot for a file of its own, which brings its dark colours along.
pub fn standalone(svg: &str) -> String {
    let opened = svg.find("<title>").unwrap_or(0);
    let (tag, rest) = svg.split_at(opened);
    format!("{tag}<style>\n{}\n</style>\n{rest}", dark_style())
}

/// Text without what XML takes for its own.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn title(area: &Area<'_>, title: &str, unit: &str) -> Drawn {
    let bold = (FONT, 17.0 * EM).into_font().style(FontStyle::Bold).color(&INK);
    area.draw(&Text::new(title.to_owned(), (16, 12), bold.pos(Pos::new(HPos::Left, VPos::Top))))?;
    text(area, unit, (16, 44), 13.0, &SOFT, HPos::Left)
}

/// Text whose middle is at this height.
fn text(area: &Area<'_>, text: &str, at: (i32, i32), size: f64, colour: &RGBColor, anchor: HPos) -> Drawn {
    let style = (FONT, size * EM).into_font().color(colour).pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))
}

/// Names with their marks in rows below the title; gives the number of rows.
fn legend(area: &Area<'_>, names: &[(String, usize, Mark)]) -> Result<i32, DrawingAreaErrorKind<std::io::Error>> {
    const LEFT: i32 = 20;
    const MARK: i32 = 24;
    const BETWEEN: i32 = 26;
    let (mut x, mut row) = (LEFT, 0);
    for (name, style, mark) in names {
        let width = MARK + text_width(name) + BETWEEN;
        if x > LEFT && x + width > WIDTH {
            (x, row) = (LEFT, row + 1);
        }
        let y = TITLE_HEIGHT + 12 + row * LEGEND_ROW;
        let colour = SERIES[style % SERIES.len()];
        if *mark != Mark::Points {
            area.draw(&PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2)))?;
        }
        if *mark != Mark::Line {
            marker(area, (x + 9, y), *style)?;
        }
        text(area, name, (x + MARK, y), 12.5, &INK, HPos::Left)?;
        x += width;
    }
    Ok(if names.is_empty() { 0 } else { row + 1 })
}

/// About how wide a word of a legend is. Nobody knows the reader's font; an average letter of a sans-serif is a little over half as
/// wide as high.
fn text_width(text: &str) -> i32 {
    (text.chars().count() as f64 * 6.9) as i32
}

/// The mark of a series: a shape as well as a colour.
fn marker(area: &Area<'_>, (x, y): (i32, i32), style: usize) -> Drawn {
    let colour = SERIES[style % SERIES.len()];
    let polygon = |corners: &[(i32, i32)]| {
        Polygon::new(corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect::<Vec<_>>(), colour.filled())
    };
    match style % SERIES.len() {
        0 => area.draw(&Circle::new((x, y), 4, colour.filled())),
        1 => area.draw(&polygon(&[(-4, -4), (4, -4), (4, 4), (-4, 4)])),
        2 => area.draw(&polygon(&[(0, -5), (5, 4), (-5, 4)])),
        3 => area.draw(&polygon(&[(0, -6), (5, 0), (0, 6), (-5, 0)])),
        4 => area.draw(&polygon(&[(-5, -4), (5, -4), (0, 5)])),
        _ => area.draw(&Circle::new((x, y), 4, colour.stroke_width(2))),
    }
}

/// Viridis at a place between 0 and 1, from its five corner colours.
fn heat(share: f64) -> RGBColor {
    const CORNERS: [[f64; 3]; 5] =
        [[68.0, 1.0, 84.0], [59.0, 82.0, 139.0], [33.0, 145.0, 140.0], [94.0, 201.0, 98.0], [253.0, 231.0, 37.0]];
    let place = share.clamp(0.0, 1.0) * (CORNERS.len() - 1) as f64;
    let corner = (place as usize).min(CORNERS.len() - 2);
    let between = place - corner as f64;
    let [r, g, b] = std::array::from_fn(|at| {
        let (from, to) = (CORNERS[corner][at], CORNERS[corner + 1][at]);
        (from + (to - from) * between).round() as u8
    });
    RGBColor(r, g, b)
}

/// Black or white, whichever stands out. Not the plot's own ink and paper, which change places on dark paper.
fn legible_on(RGBColor(r, g, b): RGBColor) -> RGBColor {
    let brightness = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    if brightness > 140.0 { RGBColor(0x00, 0x00, 0x00) } else { RGBColor(0xfe, 0xfe, 0xfe) }
}

#[cfg(test)]
pub(super) mod tests;
