//! What would leave for VTEPs, where the bridge's `proxy` or `rsc` looks at it first.

use super::{
    super::tunnel::{Question, Reply, Shortcut, TUNNEL},
    Entered, Explainer, Learning, Proxied, Step, egress,
};
use crate::{
    bridge::{DropReason, Verdict},
    ids::{Endpoint, VtepId},
    snoop::Targets,
    wire::Tag,
};

impl Explainer<'_> {
    /// Whether a flooded frame has a copy for VTEPs that the proxy takes.
    pub(super) fn takes_flooded(
        &mut self,
        entered: &Entered<'_>,
        learning: Learning,
        members: Option<&Targets>,
        spares: bool,
    ) -> bool {
        let leaves = members.map_or(!(spares && entered.bridge.neigh_suppress), |members| members.overlay);
        self.looks_at(entered) && leaves && self.proxy(entered, learning)
    }

    /// A frame whose destination is at a VTEP.
    pub(super) fn leave_for(
        &mut self,
        entered: &Entered<'_>,
        learning: Learning,
        vtep: VtepId,
    ) -> Result<(), DropReason> {
        let looks_at = self.looks_at(entered);
        if looks_at && self.proxy(entered, learning) {
            return Err(DropReason::NeighProxied);
        }
        if looks_at && entered.bridge.tunnel.rsc {
            return self.short_circuit(entered, learning, vtep);
        }
        self.depart(entered, Endpoint::Vtep(vtep));
        Ok(())
    }

    /// Whether the bridge has an overlay's side that what comes from a port could leave by.
    fn looks_at(&self, entered: &Entered<'_>) -> bool {
        let has_overlay = entered.bridge.vni.is_some() && self.scene.tables.overlay.is_some();
        has_overlay && matches!(entered.ingress, Endpoint::Port(_))
    }

    /// Whether the proxy, if there is one, takes a frame that would leave for VTEPs. Its answer leaves.
    fn proxy(&mut self, entered: &Entered<'_>, learning: Learning) -> bool {
        let Entered { id, bridge, .. } = *entered;
        if !bridge.tunnel.proxy {
            return false;
        }
        let question = Question::of(bridge, &entered.bytes);
        let asked = question.as_ref().and_then(Question::asked);
        let neigh = asked.and_then(|ip| bridge.neighs.get(ip)).map(|neigh| neigh.mac);
        let find = |mac| self.entry(entered, learning, mac).map(|entry| entry.at);
        let mut answers = Vec::new();
        let proxied = match question.map(|question| question.reply(bridge, find)) {
            None => Proxied::Passes,
            Some(Reply::Nothing) => Proxied::Kept,
            Some(Reply::Unknown(_)) => Proxied::Unknown,
            Some(Reply::HearsItself) => Proxied::HearsItself,
            Some(Reply::Senseless) => Proxied::Senseless,
            Some(Reply::Answer { dst, answer }) => {
                let tables = self.scene.tables;
                let known = if dst.is_multicast() { None } else { find(dst) };
                let verdict = tables.decide(bridge, TUNNEL, dst, known);
                let targets: Vec<_> = match verdict {
                    Verdict::Unicast(to) => vec![to],
                    Verdict::Flood(kind) => tables.flood(bridge, TUNNEL, kind).collect(),
                    Verdict::Drop(_) => vec![],
                };
                // The switch's own frames have no priority.
                let own = Entered { bytes: vec![], sent: None, priority: Tag(0), ..*entered };
                answers.extend(targets.iter().map(|to| egress::answer(self.scene, &own, answer.bytes(), *to)));
                Proxied::Answered(match verdict {
                    Verdict::Drop(reason) => Err(reason),
                    Verdict::Unicast(_) | Verdict::Flood(_) => Ok(()),
                })
            }
        };
        self.walk.steps.push(Step::Proxy { bridge: id, asked, neigh, proxied });
        self.walk.steps.extend(answers.into_iter().map(Step::Egress));
        proxied != Proxied::Passes
    }

    fn short_circuit(&mut self, entered: &Entered<'_>, learning: Learning, vtep: VtepId) -> Result<(), DropReason> {
        let Entered { id, bridge, dst, .. } = *entered;
        let step = |ip, station, result| Step::ShortCircuit { bridge: id, dst, ip, station, result };
        let (ip, macs) = match Shortcut::of(bridge, dst, &entered.bytes) {
            Shortcut::Station(ip, macs) => (ip, macs),
            straight @ (Shortcut::Straight | Shortcut::Unknown(_)) => {
                let ip = if let Shortcut::Unknown(ip) = straight { Some(ip) } else { None };
                self.walk.steps.push(step(ip, None, Ok(())));
                self.depart(entered, Endpoint::Vtep(vtep));
                return Ok(());
            }
        };
        let at = self.entry(entered, learning, macs.dst).map(|entry| entry.at);
        let is_lost = at.is_none() && bridge.flood_list.is_empty();
        let result = if is_lost { Err(DropReason::NoFloodTarget) } else { Ok(()) };
        self.walk.steps.push(step(Some(ip), Some((macs.dst, at)), result));
        let rewritten = entered.rewritten(macs);
        match at {
            Some(to) => self.depart(&rewritten, to),
            None => bridge.flood_list.iter().for_each(|vtep| self.depart(&rewritten, Endpoint::Vtep(*vtep))),
        }
        result
    }
}
