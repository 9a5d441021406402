//! The plots of `weft experiment mtu`, and what they have in common.

use super::{comparisons, curves};
use crate::experiment::{
    cell::Cell,
    error::ExperimentError,
    mtu::Results,
    record::{Load, LoadRecord, Record},
};

/// A plot of the report.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What names it among the files of a guide.
    pub name: String,
    /// The heading that it stands under, if it is the first there.
    pub section: Option<&'static str>,
    /// The plot.
    pub svg: String,
    /// What is to be seen.
    pub caption: String,
    /// A table below it.
    pub details: Option<Details>,
}

/// A table of numbers that a plot has no room for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Details {
    pub(super) names: Vec<&'static str>,
    pub(super) word_count: usize,
    pub(super) rows: Vec<Vec<String>>,
}

/// All plots, in the order of the report; those for which nothing was measured are left out.
///
/// # Errors
/// A plot can't be drawn.
pub fn figures(results: &Results) -> Result<Vec<Figure>, ExperimentError> {
    let mut figures = Vec::new();
    let measured = Measured::of(results);
    curves::throughput(&measured, &mut figures)?;
    curves::efficiency(&measured, &mut figures)?;
    comparisons::encapsulations(&measured, &mut figures)?;
    comparisons::too_large(&measured, &mut figures)?;
    curves::answers(&measured, &mut figures)?;
    curves::cost(&measured, &mut figures)?;
    Ok(figures)
}

/// Cells that were measured.
pub(super) struct Measured<'r> {
    pub(super) records: Vec<&'r Record>,
}

impl<'r> Measured<'r> {
    pub(super) fn of(results: &'r Results) -> Self {
        Self { records: results.cells.iter().filter(|record| record.failed.is_none()).collect() }
    }

    /// Different values of something, in the order of the sweep.
    pub(super) fn values<T: PartialEq>(&self, of: impl Fn(&Cell) -> T) -> Vec<T> {
        let mut values = Vec::new();
        for record in &self.records {
            let value = of(&record.cell);
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }

    /// The cells that are alike but for what a plot is about. The first of each setting stands for all.
    pub(super) fn plain(&self) -> Option<&'r Cell> {
        self.records.first().map(|record| &record.cell)
    }
}

/// The same path with another inner MTU; engine, offload and so on are the plot's affair.
pub(super) fn same_path(one: &Cell, other: &Cell) -> bool {
    (one.underlay, one.underlay_mtu, one.middle_mtu) == (other.underlay, other.underlay_mtu, other.middle_mtu)
}

pub(super) fn number(record: &Record, load: Load, of: impl Fn(&LoadRecord) -> Option<f64>) -> Option<f64> {
    record.load(load).and_then(of).filter(|value| value.is_finite())
}
