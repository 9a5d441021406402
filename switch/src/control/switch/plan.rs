//! What has to happen to the ports for a configuration to be so: which are closed, opened, changed.

use super::{Switch, default_mtu, port};
use crate::control::config::{Config, PortConfig};

/// What becomes of ports whose interface is gone.
#[derive(Clone, Copy)]
pub(super) enum Gone<'f> {
    /// They stay so: what is wanted is about something else, and must not fail because of them.
    Stay,
    /// Those that this file names are opened again.
    Open(&'f Config),
}

/// What has to happen to the ports.
pub(super) struct Plan {
    pub(super) close: Vec<u16>,
    pub(super) open: Vec<PortConfig>,
    /// Ports that are closed first and then opened: their interface would be in its own way.
    pub(super) reopen: Vec<PortConfig>,
    pub(super) change: Vec<(u16, PortConfig)>,
}

impl Plan {
    pub(super) fn new(switch: &Switch, wanted: &Config, gone: Gone<'_>) -> Self {
        let mut plan = Self { close: vec![], open: vec![], reopen: vec![], change: vec![] };
        for (id, open) in switch.ports.iter() {
            match wanted.port(&open.config.full_name()) {
                None => plan.close.push(id),
                Some(to) if open.is_gone() => match gone {
                    // It has no interface that could be in the way.
                    Gone::Open(file) if file.port(&open.config.full_name()).is_some() => {
                        plan.close.push(id);
                        plan.open.push(to.clone());
                    }
                    Gone::Open(_) | Gone::Stay => {}
                },
                Some(to) if port::needs_reopening(&open.config, to) => {
                    plan.close.push(id);
                    plan.reopen.push(to.clone());
                }
                Some(to) if *to != open.config => plan.change.push((id, to.clone())),
                Some(_) => {}
            }
        }
        let is_open = |port: &PortConfig| switch.port_id(&port.full_name()).is_some();
        plan.open.extend(wanted.ports.iter().filter(|port| !is_open(port)).cloned());
        plan
    }

    /// Taps whose MTU follows the underlay's, when that is another one now.
    pub(super) fn add_ports_of_another_mtu(&mut self, switch: &Switch, wanted: &Config, underlay_mtu: Option<u32>) {
        for (id, open) in switch.ports.iter() {
            let is_named = self.close.contains(&id) || self.change.iter().any(|(other, _)| *other == id);
            let follows = open.config.kind.is_made() && open.config.mtu.is_none();
            let fitting = default_mtu(&open.config, wanted, underlay_mtu);
            if follows && !is_named && open.default_mtu != fitting {
                self.change.push((id, open.config.clone()));
            }
        }
    }
}
