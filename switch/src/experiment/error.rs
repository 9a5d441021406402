//! Why an experiment could not be made.

use std::io;

use crate::{lab::LabError, sys::packet_socket::PacketError};

/// What went wrong with the experiment itself. What it finds out, good or bad, is no error.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// Its namespaces could not be built, or a program in them did not do its work.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// An interface could not be watched, or a cable not be laid.
    #[error("can't watch an interface")]
    Watch(#[from] PacketError),
    /// A step failed.
    #[error("can't {what}")]
    Step {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The scene stands, and does not do what it must before anything can be measured.
    #[error("{0}")]
    Broken(String),
    /// What was asked for makes no sense; nothing was tried.
    #[error("{0}")]
    Refused(String),
}

impl ExperimentError {
    /// Makes an error of what a step failed with.
    pub(crate) fn step(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Step { what, source }
    }
}
