//! Where weft differs from the kernel on purpose.
//!
//! Each ruling has a case that shows it, in which both sides must differ in just the way that [`Ruling::explains`] says, and
//! names the setting that is the kernel's way, with which another case is the same. Random sequences use the kernel's way
//! throughout: no ruling excuses what they find.

mod bridge;
mod oversize;
pub mod ovs;
mod tunnel;

use super::{case::Case, verdict::Difference};

/// A ruling.
#[derive(Clone, Copy, Debug)]
pub struct Ruling {
    /// Its name; that of the setting.
    pub id: &'static str,
    /// What it is about.
    pub question: &'static str,
    /// What the reference does.
    pub theirs: &'static str,
    /// What weft does.
    pub weft: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The setting of weft's that is the reference's way.
    pub setting: &'static str,
    /// Whether this very difference is what the ruling says.
    pub explains: fn(&Case, &Difference) -> bool,
}

impl PartialEq for Ruling {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// The ruling of this name about the kernel.
pub fn find(id: &str) -> Option<&'static Ruling> {
    all().find(|ruling| ruling.id == id)
}

/// All rulings about the kernel.
pub fn all() -> impl Iterator<Item = &'static Ruling> {
    [bridge::RULINGS, tunnel::RULINGS, oversize::RULINGS].into_iter().flatten()
}
