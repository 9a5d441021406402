//! The shapes in which a weft has to be right: what it forwards must not depend on offloads or on the number of its workers.

use std::fmt;

use libtest_mimic::Trial;

use crate::{Needs, scene, trial};

/// How the weft of a test is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Whether its ports carry super-frames and unfinished checksums; else each frame is one as on the wire.
    pub offload: bool,
    /// How many workers it has.
    pub workers: usize,
}

impl Shape {
    /// Those that every test of forwarding runs in: with offloads and without, with one worker and with more of them than
    /// processors.
    pub const ALL: [Self; 4] = [
        Self { offload: true, workers: 4 },
        Self { offload: true, workers: 1 },
        Self { offload: false, workers: 4 },
        Self { offload: false, workers: 1 },
    ];
    /// The one of tests for which it makes no difference.
    pub const USUAL: Self = Self { offload: true, workers: 2 };

    /// The table `[switch]`, to which lines may be added.
    pub fn switch(self) -> String {
        format!("[switch]\nworkers = {}\n", self.workers)
    }

    /// What a `[[port]]` says about it: nothing where that is the default.
    pub fn port_line(self) -> &'static str {
        if self.offload { "" } else { "offload = false\n" }
    }

    /// A `[[port]]` of the bridge `blue`, with these lines more.
    pub fn port(self, netns: &str, name: &str, more: &str) -> String {
        scene::port(netns, name, &format!("{}{more}", self.port_line()))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offload = if self.offload { "offload" } else { "no offload" };
        let workers = if self.workers == 1 { "worker" } else { "workers" };
        write!(f, "{offload}, {} {workers}", self.workers)
    }
}

/// A test of forwarding: its name, what it needs, and what it does with a weft of this shape.
pub type ShapedTest = (&'static str, Needs, fn(Shape) -> anyhow::Result<()>);

/// Every test once in each of [`Shape::ALL`]; the name ends with the shape.
pub fn in_every_shape(tests: &[ShapedTest]) -> Vec<Trial> {
    in_shapes(&Shape::ALL, tests)
}

/// Every test once in each of these shapes.
pub fn in_shapes(shapes: &[Shape], tests: &[ShapedTest]) -> Vec<Trial> {
    let trials = |(name, needs, test): &ShapedTest| {
        let (name, needs, test) = (*name, *needs, *test);
        shapes.iter().map(move |&shape| trial(&format!("{name} [{shape}]"), needs, move || test(shape))).collect()
    };
    tests.iter().flat_map(|test| -> Vec<Trial> { trials(test) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_runs_once_in_each_shape_and_says_so() {
        let trials = in_every_shape(&[("ping_crosses", Needs::NONE, |_| Ok(()))]);
        let names: Vec<_> = trials.iter().map(Trial::name).collect();
        assert_eq!(
            names,
            [
                "ping_crosses [offload, 4 workers]",
                "ping_crosses [offload, 1 worker]",
                "ping_crosses [no offload, 4 workers]",
                "ping_crosses [no offload, 1 worker]",
            ]
        );
    }
}
