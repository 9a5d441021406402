//! VLANs: which one a frame is in at a bridge's port, whether it has a tag when it leaves, and the interfaces that take tags.

use super::{Walker, frames::Frame};
use crate::doctor::{
    Finding,
    step::Trouble,
    survey::values::{Details, PortVlan},
    world::{At, Other},
};

impl Walker<'_> {
    /// The VLAN that a frame is in, 0 where they mean nothing (`net/bridge/br_vlan.c:__allowed_ingress`).
    pub(super) fn vlan_in(
        &self,
        bridge: At,
        ingress: Option<At>,
        filtering: bool,
        frame: Frame,
    ) -> Result<u16, Trouble> {
        if !filtering {
            return Ok(0);
        }
        let at = ingress.unwrap_or(bridge);
        let vlans = self.vlans_of(at);
        let vlan = match frame.vlan.filter(|vlan| *vlan != 0) {
            Some(vlan) => vlan,
            None => match vlans.iter().find(|vlan| vlan.pvid) {
                Some(vlan) => vlan.id,
                None => return Err(self.no_pvid(at)),
            },
        };
        if vlans.iter().any(|it| it.id == vlan) { Ok(vlan) } else { Err(self.not_in_vlan(at, vlan)) }
    }

    /// The tag that a frame has at the bridge device, if that is in the frame's VLAN
    /// (`net/bridge/br_input.c:br_pass_frame_up`).
    pub(super) fn vlan_at_device(&self, bridge: At, vlan: u16, frame: Frame) -> Result<Option<u16>, Trouble> {
        if vlan == 0 {
            return Ok(frame.vlan);
        }
        match self.vlans_of(bridge).iter().find(|member| member.id == vlan) {
            Some(member) => Ok((!member.untagged).then_some(vlan)),
            None => Err(self.not_in_vlan(bridge, vlan)),
        }
    }

    /// The interface for frames with this tag, on top of another one.
    pub(super) fn vlan_interface(&self, at: At, id: u16) -> Option<At> {
        let is_it = |child: &At| matches!(&self.survey.link(*child).details, Details::Vlan(vlan) if vlan.id == id);
        self.survey.children(at).into_iter().find(is_it)
    }

    /// Of a bridge's port, or of the bridge device itself.
    fn vlans_of(&self, at: At) -> &[PortVlan] {
        let link = self.survey.link(at);
        match (&link.port, &link.details) {
            (Some(port), _) => &port.vlans,
            (None, Details::Bridge(bridge)) => &bridge.vlans,
            (None, _) => &[],
        }
    }

    /// A tag that comes to an interface with nothing for it: the port before it should have taken it off, if there are no
    /// interfaces for any tag.
    pub(super) fn tag_is_not_understood(&self, at: At, id: u16) -> Trouble {
        let space = self.survey.space(at.space);
        let name = &self.survey.link(at).name;
        let is_vlan = |child: &At| matches!(self.survey.link(*child).details, Details::Vlan(_));
        if self.survey.children(at).iter().any(is_vlan) {
            let text = format!("a frame of VLAN {id} comes in by {name}, which has no interface for it");
            let cure = format!("ip link add link {name} name {name}.{id} type vlan id {id}");
            return Trouble::new(Finding::VlanMissing, self.at(at), text)
                .row(space.inside("ip link"), self.row(at))
                .next(space.inside(&cure));
        }
        let text = format!("a frame comes to {name} with the tag of VLAN {id}, and there are no interfaces for tags");
        let trouble = Trouble::new(Finding::VlanMismatch, self.at(at), text).row(space.inside("ip link"), self.row(at));
        let Other::At(peer) = self.survey.other(at) else { return trouble };
        if self.vlans_of(peer).is_empty() {
            return trouble;
        }
        let pvid = if self.vlans_of(peer).iter().any(|vlan| vlan.id == id && vlan.pvid) { " pvid" } else { "" };
        let cure = format!("bridge vlan add dev {} vid {id}{pvid} untagged", self.survey.link(peer).name);
        trouble.row(self.vlan_command(peer), self.vlan_row(peer)).next(self.survey.space(peer.space).inside(&cure))
    }

    fn no_pvid(&self, at: At) -> Trouble {
        let name = &self.survey.link(at).name;
        let text = format!("{name} takes no untagged frames: none of its VLANs is the one for them (PVID)");
        let cure = match self.vlans_of(at) {
            [only] => format!("bridge vlan add dev {name} vid {} pvid untagged", only.id),
            _ => format!("bridge vlan add dev {name} vid VLAN pvid untagged"),
        };
        Trouble::new(Finding::VlanMismatch, self.at(at), text)
            .row(self.vlan_command(at), self.vlan_row(at))
            .next(self.survey.space(at.space).inside(&cure))
    }

    pub(super) fn not_in_vlan(&self, at: At, vlan: u16) -> Trouble {
        let name = &self.survey.link(at).name;
        let text = format!("{name} does not carry VLAN {vlan}");
        // A port of one untagged VLAN that meets another one is not a trunk that lacks something.
        let finding = match self.vlans_of(at) {
            [only] if only.untagged && only.pvid => Finding::VlanMismatch,
            _ => Finding::VlanMissing,
        };
        Trouble::new(finding, self.at(at), text)
            .row(self.vlan_command(at), self.vlan_row(at))
            .next(self.survey.space(at.space).inside(&format!("bridge vlan add dev {name} vid {vlan}")))
    }

    fn vlan_command(&self, at: At) -> String {
        let space = self.survey.space(at.space);
        space.inside(&format!("bridge vlan show dev {}", space.link_name(at.link)))
    }

    fn vlan_row(&self, at: At) -> String {
        let link = self.survey.link(at);
        let word = |vlan: &PortVlan| {
            let pvid = if vlan.pvid { " PVID" } else { "" };
            let untagged = if vlan.untagged { " untagged" } else { "" };
            format!("{}{pvid}{untagged}", vlan.id)
        };
        let words: Vec<_> = self.vlans_of(at).iter().map(word).collect();
        format!("{} {}", link.name, if words.is_empty() { "(none)".to_owned() } else { words.join(", ") })
    }
}
