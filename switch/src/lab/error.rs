//! Why a lab could not be built or used.

use std::io;

use crate::control::link::LinkError;

/// A step of building or using a lab failed. The text says which, and in which namespace; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// About an interface.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// About a namespace, a file in it, or a program that can't be started.
    #[error("lab: can't {step}")]
    Step {
        /// What was tried: "make namespace weft-7-0-host1".
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was asked for makes no sense; nothing was tried.
    #[error("lab: {0}")]
    Invalid(String),
    /// A program ran and didn't do what was asked of it.
    #[error("{command} in {namespace}: {what}")]
    Program {
        /// The program with its arguments.
        command: String,
        /// The namespace by its short name.
        namespace: String,
        /// How it ended, or that it didn't, and what it said.
        what: String,
    },
}

impl LabError {
    pub(super) fn step(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Step { step: step.into(), source: source.into() }
    }
}
