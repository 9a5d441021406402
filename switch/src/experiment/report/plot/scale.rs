//! The axes of plots: where values stand on them, and which are written there.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// An axis of numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Axis {
    /// What it shows, with the unit: "inner MTU, bytes".
    pub label: String,
    /// Steps are powers of two instead of equal distances.
    pub is_log: bool,
    /// The smallest and largest value that is to be seen whatever the points are.
    pub must_show: Option<(f64, f64)>,
}

impl Axis {
    /// An axis with equal steps from zero on.
    pub fn from_zero(label: &str) -> Self {
        Self { label: label.to_owned(), is_log: false, must_show: Some((0.0, 0.0)) }
    }

    /// An axis with equal steps about what there is.
    pub fn linear(label: &str) -> Self {
        Self { label: label.to_owned(), is_log: false, must_show: None }
    }

    /// An axis in powers of two.
    pub fn log(label: &str) -> Self {
        Self { label: label.to_owned(), is_log: true, must_show: None }
    }
}

/// Where values stand on an axis, and which are written there.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Scale {
    is_log: bool,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Scale {
    /// `None`: there are no values.
    pub(super) fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Option<Self> {
        let values = values.filter(|value| value.is_finite());
        let (mut low, mut high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        if let Some((at_least, at_most)) = axis.must_show {
            (low, high) = (low.min(at_least), high.max(at_most));
        }
        Some(if axis.is_log { Self::log(low, high) } else { Self::linear(low, high) })
    }

    fn log(low: f64, high: f64) -> Self {
        let (low, high) = (low.max(f64::MIN_POSITIVE).log2(), high.max(f64::MIN_POSITIVE).log2());
        let ticks: Vec<_> = (low.round() as i32..=high.ceil() as i32).map(f64::from).collect();
        let (low, high) = (low.min(ticks[0]), high);
        let margin = ((high - low) * 0.03).max(0.1);
        let ticks = ticks.into_iter().filter(|tick| *tick <= high + margin).collect();
        Self { is_log: true, low: low - margin, high: high + margin, ticks }
    }

    /// Steps of 1, 2 or 5 times a power of ten, about six of them.
    fn linear(low: f64, high: f64) -> Self {
        let room = if high > low { high - low } else { high.abs().max(1.0) };
        let rough = room / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(power * 10.0);
        let first = (low / step).floor();
        let last = (high / step).ceil().max(first + 1.0);
        let ticks: Vec<_> = (0..=(last - first) as i32).map(|at| (first + f64::from(at)) * step).collect();
        // A little room, so that a point at the edge is seen whole.
        let margin = (last - first) * step * 0.015;
        Self { is_log: false, low: first * step - margin, high: last * step + margin, ticks }
    }

    fn place(&self, value: f64) -> f64 {
        if self.is_log { value.max(f64::MIN_POSITIVE).log2() } else { value }
    }

    fn original(&self, place: f64) -> f64 {
        if self.is_log { place.exp2() } else { place }
    }
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (self.place(*value) - self.low) / (self.high - self.low);
        start + (share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| self.original(*tick)).collect()
    }

    fn range(&self) -> Range<f64> {
        self.original(self.low)..self.original(self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_that_hold_all_values() {
        let scale = Scale::linear(0.0, 937.0);
        assert_eq!(scale.ticks, [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]);
        assert!(scale.low < 0.0 && scale.high > 1000.0);
        let scale = Scale::linear(576.0, 1500.0);
        assert!(
            scale.ticks.first().is_some_and(|tick| *tick <= 576.0)
                && scale.ticks.last().is_some_and(|tick| *tick >= 1500.0)
        );
        assert_eq!(Scale::linear(5.0, 5.0).ticks.len(), 2 + 5 - 5);
        let scale = Scale::log(64.0, 9000.0);
        assert_eq!(
            scale.ticks.iter().map(|tick| tick.exp2()).collect::<Vec<_>>(),
            [64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0]
        );
        assert_eq!(scale.original(scale.place(9000.0)).round(), 9000.0);
    }
}
