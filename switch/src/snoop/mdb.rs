//! The table that forwarding looks into.

use std::{collections::HashMap, net::IpAddr};

use super::Member;
use crate::{
    ids::PortId,
    wire::{
        MacAddr,
        membership::{self, Message, Packet, RecordKind},
    },
};

/// What a group is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Group {
    /// An IP group.
    Ip(IpAddr),
    /// A group address of Ethernet, for frames that are not IP.
    Mac(MacAddr),
}

/// A bridge's multicast database, as it is at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mdb {
    pub(super) v4: Family,
    pub(super) v6: Family,
    /// By group and, where hosts choose their sources, source.
    pub(super) entries: HashMap<(Group, Option<IpAddr>), Targets, foldhash::fast::RandomState>,
    pub(super) room: Room,
}

/// How many more groups there can be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Room {
    /// In the bridge (`mcast_hash_max`).
    pub(super) left: usize,
    /// At ports that have a limit of their own.
    pub(super) ports: Vec<PortRoom>,
}

/// How many more groups a port can be in (`mcast_max_groups`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PortRoom {
    pub(super) member: Member,
    pub(super) left: usize,
    /// Whether each host is in groups by itself (`mcast_to_unicast`).
    pub(super) by_host: bool,
    /// The groups that it is in.
    pub(super) joined: Vec<(IpAddr, Option<MacAddr>)>,
}

/// What holds for all groups of one IP version.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Family {
    /// Whether somebody asks for members, so that the table can be believed.
    pub(super) querier: bool,
    /// Whether hosts choose their sources: IGMP version 3, MLD version 2.
    pub(super) sources: bool,
    /// Where groups go that nobody is in.
    pub(super) routers: Targets,
}

/// Who gets frames of a group: members and routers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Targets {
    /// Ports, in order; a port with a copy for each of several hosts comes more than once.
    pub ports: Vec<Target>,
    /// Whether the whole flood list does.
    pub overlay: bool,
}

/// A port that gets a copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Target {
    /// The port.
    pub port: PortId,
    /// The address that the copy goes to instead of the group's (`mcast_to_unicast`).
    pub to_host: Option<MacAddr>,
}

/// Where a frame to a group goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'m> {
    /// To all.
    Flood,
    /// To these.
    Only(&'m Targets),
}

impl Mdb {
    /// Where a frame goes whose destination is the group address `dst` and in which `packet` was found.
    ///
    /// As `br_input.c`: `br_handle_frame_finish`: what hosts say about old-fashioned membership goes to routers only, since other
    /// hosts that hear it would not say it themselves; what else is said about groups is flooded; traffic goes to
    /// whoever wants it; and all of this only while there is a querier.
    #[inline]
    pub fn route(&self, dst: MacAddr, packet: Option<&Packet<'_>>) -> Route<'_> {
        let Some(packet) = packet else {
            return self.entries.get(&(Group::Mac(dst), None)).map_or(Route::Flood, Route::Only);
        };
        let family = if packet.dst.is_ipv4() { &self.v4 } else { &self.v6 };
        if !family.querier {
            return Route::Flood;
        }
        match packet.message {
            Some(Message::Report(_)) => Route::Only(&family.routers),
            Some(Message::Leave(_) | Message::Records(_) | Message::Query(_)) => Route::Flood,
            Some(Message::Router) | None => match self.members(family, packet) {
                Some(targets) => Route::Only(targets),
                None if packet.is_to_everybody() => Route::Flood,
                None => Route::Only(&family.routers),
            },
        }
    }

    /// Whether there is room for every group that a message of the station `src` behind `from` is to put it in. The kernel
    /// drops one for which there is not (`br_multicast_add_group`), so that no router takes the host for a member.
    pub fn has_room(&self, from: Member, src: MacAddr, message: &Message<'_>) -> bool {
        let mut room = self.room.clone();
        match message {
            Message::Report(group) => self.takes(&mut room, from, src, *group, 0),
            Message::Records(records) => records.iter().flatten().all(|record| {
                let is_leave =
                    record.is_without_sources() && matches!(record.kind, RecordKind::ToInclude | RecordKind::IsInclude);
                is_leave || self.takes(&mut room, from, src, record.group, record.sources().count())
            }),
            Message::Leave(_) | Message::Query(_) | Message::Router => true,
        }
    }

    /// Puts a member into a group, whose sources take room as well; `false`: there is none.
    fn takes(&self, room: &mut Room, from: Member, src: MacAddr, group: IpAddr, source_count: usize) -> bool {
        if membership::is_for_everybody(group) {
            return true;
        }
        if !self.entries.contains_key(&(Group::Ip(group), None)) {
            let Some(left) = room.left.checked_sub(1) else { return false };
            room.left = left;
        }
        let Some(port) = room.ports.iter_mut().find(|port| port.member == from) else { return true };
        let joins = (group, port.by_host.then_some(src));
        if !port.joined.contains(&joins) {
            let Some(left) = port.left.checked_sub(1) else { return false };
            port.left = left.saturating_sub(source_count);
            port.joined.push(joins);
        }
        true
    }

    /// `br_multicast.c`: `br_mdb_get`.
    #[inline]
    fn members(&self, family: &Family, packet: &Packet<'_>) -> Option<&Targets> {
        let group = Group::Ip(packet.dst);
        let of_source = if family.sources { self.entries.get(&(group, Some(packet.src))) } else { None };
        of_source.or_else(|| self.entries.get(&(group, None)))
    }
}
