//! What stands at an interface itself, before bridges and routes: filters and queues of tc, nftables' hooks of the device, eBPF
//! programs.

use super::{
    Walker,
    filter::{self, Outcome, Place},
    frames::Frame,
};
use crate::doctor::{
    Finding,
    step::Trouble,
    survey::values::{Link, TcFilter},
    world::{At, Other},
};

impl Walker<'_> {
    /// A filter of tc that drops what passes an interface.
    pub(super) fn tc_drops(&self, at: At, ingress: bool) -> Option<Trouble> {
        let space = self.survey.space(at.space);
        let drops = |filter: &&TcFilter| {
            filter.link == at.link
                && filter.ingress == ingress
                && filter.kind == "matchall"
                && filter.actions.iter().any(|action| action == "drop")
        };
        let filter = space.filters.iter().find(drops)?;
        let way = if ingress { "ingress" } else { "egress" };
        let name = space.link_name(at.link);
        let text =
            format!("a tc filter drops all that passes {name} on the way {}", if ingress { "in" } else { "out" });
        let row = format!("filter pref {} {} action {}", filter.priority, filter.kind, filter.actions.join(", "));
        let command = space.inside(&format!("tc filter show dev {name} {way}"));
        Some(Trouble::new(Finding::TcDrop, self.at(at), text).row(command, row))
    }

    /// nftables' hooks at the interface: `ingress` before everything else, `egress` after it.
    pub(super) fn device_filter_drops(&self, at: At, hook: &str, frame: Frame) -> Option<Trouble> {
        let space = self.survey.space(at.space);
        let name = space.link_name(at.link);
        let (iif, oif) = if hook == "egress" { (None, Some(name.as_str())) } else { (Some(name.as_str()), None) };
        let frame_of = Some((frame.source, frame.destination, frame.vlan));
        let place = Place { hook, iif, oif, bridged: false, arp: frame.arp, frame: frame_of };
        match filter::pass(space.nft.as_ref()?, place, frame.packet).outcome {
            Outcome::Drop { chain, rule } => {
                Some(self.dropped_by_rule(at.space, &self.at(at), chain, rule, frame.packet))
            }
            Outcome::Accept | Outcome::Translate { .. } => None,
        }
    }

    /// A queue that loses what it is given on purpose; a little of that is told by another check.
    pub(super) fn lossy(&self, at: At) -> Option<Trouble> {
        const HALF: u32 = u32::MAX / 2;
        let space = self.survey.space(at.space);
        let qdisc =
            space.qdiscs.iter().find(|qdisc| qdisc.link == at.link && qdisc.loss.is_some_and(|loss| loss > HALF))?;
        let share = f64::from(qdisc.loss?) / f64::from(u32::MAX) * 100.0;
        let name = space.link_name(at.link);
        let text = format!("its qdisc netem loses {share:.0} % of what is sent by {name}");
        let command = space.inside(&format!("tc -s qdisc show dev {name}"));
        let row = format!("qdisc netem loss {share:.0}% dropped {}", qdisc.drops);
        Some(
            Trouble::new(Finding::QdiscLoss, self.at(at), text)
                .row(command, row)
                .next(space.inside(&format!("tc qdisc del dev {name} root"))),
        )
    }

    /// Where an eBPF program sends what comes in by an interface, past bridge and routes: by its map from addresses to interfaces,
    /// if it has one; else it is taken to know which interface leads to the destination. With the trouble if that is wrong.
    pub(super) fn redirected(&self, at: At, frame: Frame) -> Option<(At, Option<Trouble>)> {
        let space = self.survey.space(at.space);
        let program = self.survey.program_at(at)?;
        if frame.arp {
            return None;
        }
        let destination = frame.packet.destination;
        if let Some(index) = program.targets.get(&destination) {
            let target = At { space: at.space, link: *index };
            let text = format!("the map of the program at {} sends {destination} to {}", self.at(at), self.at(target));
            let name = space.link_name(at.link);
            let row = format!("{destination} -> {} ({index})", space.link_name(*index));
            let trouble = Trouble::new(Finding::EbpfMapWrong, self.at(at), text)
                .row(format!("bpftool map dump, of program {} ({})", program.id, program.name), row)
                .next(space.inside(&format!("tc filter show dev {name} ingress")));
            return Some((target, Some(trouble)));
        }
        if !program.targets.is_empty() {
            return None;
        }
        let leads_to = |link: &&Link| {
            let there = At { space: at.space, link: link.index };
            there != at
                && matches!(self.survey.other(there), Other::At(peer)
                    if peer.space != at.space && self.survey.space(peer.space).has(destination))
        };
        space.links.iter().find(leads_to).map(|link| (At { space: at.space, link: link.index }, None))
    }
}
