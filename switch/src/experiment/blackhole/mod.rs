//! `weft experiment blackhole`: the faults that make packets vanish, what a user sees of each, and what ends it.
//!
//! [`faults`] is the list of them, [`symptoms`] what is looked at. A fault has its scene, and each remedy has that scene anew
//! with one thing changed, so that nothing which a station has learned meanwhile helps.

pub mod faults;
pub mod symptoms;

use serde::Serialize;

pub use self::faults::{Expected, Fault, Remedy};
use self::symptoms::{Patience, Symptoms};
use super::{error::ExperimentError, scene::Scene};

/// What was seen of a fault or of a remedy.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    /// What was seen.
    pub symptoms: Symptoms,
    /// What should have been.
    pub expected: Expected,
    /// Whether it was so.
    pub is_so: bool,
    /// The left host's configuration.
    pub config: String,
}

/// Builds the scene of a fault, and looks.
///
/// # Errors
/// It can't be built.
pub fn reproduce(fault: &Fault) -> Result<Finding, ExperimentError> {
    find(fault, &fault.plan, fault.expected, Patience::Short)
}

/// Builds the scene of a fault with a remedy applied, and looks.
///
/// # Errors
/// It can't be built.
pub fn cure(fault: &Fault, remedy: &Remedy) -> Result<Finding, ExperimentError> {
    find(fault, &remedy.plan, remedy.expected, Patience::Long)
}

fn find(
    fault: &Fault,
    plan: &super::scene::Plan,
    expected: Expected,
    patience: Patience,
) -> Result<Finding, ExperimentError> {
    let scene = Scene::build(plan)?;
    let symptoms = symptoms::look(&scene, fault.hears, patience)?;
    let config = scene.config(0).replace(&format!("{}-", scene.name()), "");
    let left = scene.remove()?;
    if !left.is_empty() {
        return Err(ExperimentError::Broken(format!("left behind: {}", left.join(", "))));
    }
    Ok(Finding { is_so: expected.are(&symptoms), symptoms, expected, config })
}
