//! The walk over ports and an underlay in memory: no thread, no clock, no root.

mod coalescing;
mod encapsulations;
mod fuzz;
mod groups;
mod options;
mod overlay;
mod oversize;
mod ports;
mod probes;
mod proxy;
pub(super) mod scene;
mod storm;
mod tunnel;
