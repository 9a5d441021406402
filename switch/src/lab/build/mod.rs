//! How a lab is built: its [`Topology`](super::topology::Topology) becomes a list of [`Step`]s, each of which can be done
//! over netlink (`apply`) or written as the command that does the same by hand (`commands`). Both say the same because
//! both come from the same list.
//!
//! # The order
//! Namespaces first; then parameters that the interfaces to come inherit; then interfaces, each after what it rests on,
//! bridges before their ports; addresses before they come up, so that nobody sees them half made; then what needs
//! interfaces: filters, routes, neighbours. A weft makes the taps of its hosts, so that their routes come after it.

mod apply;
mod commands;
mod step;

pub(super) use self::{
    apply::{Site, ruleset, written_config},
    commands::script,
    step::{Action, Parameter, Step, VlanPort, again, plan, restoring},
};
