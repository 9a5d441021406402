//! The kernel's tables: who is where (its bridge's FDB and that of its vxlan device), who is in which VLAN, and who has which
//! IP address.

use std::{collections::BTreeMap, io, net::IpAddr};

use super::{BRIDGE, BRIDGE_FAMILY, KernelWorld, tunnel::TUNNEL};
use crate::{
    compare::{
        case::{At, FdbAdd, Kind, Neighbour, UNDERLAY, VlanMember},
        world::CompareError,
    },
    lab::rtnl::{self, Nest, Request, attributes, field},
    wire::MacAddr,
};

// include/uapi/linux/if_link.h, if_bridge.h
pub(super) const IFLA_AF_SPEC: u16 = 26;
pub(super) const IFLA_BR_VLAN_FILTERING: u16 = 7;
pub(super) const IFLA_BR_FDB_FLUSH: u16 = 21;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_VLAN_INFO_PVID: u16 = 2;
const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 4;
// include/uapi/linux/neighbour.h
pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
const NDA_VLAN: u16 = 5;
const NDA_MASTER: u16 = 9;
pub(super) const NDA_SRC_VNI: u16 = 11;
const NDA_FLAGS_EXT: u16 = 15;
pub(super) const NTF_SELF: u8 = 0x02;
const NTF_MASTER: u8 = 0x04;
const NTF_EXT_LEARNED: u8 = 0x10;
const NTF_STICKY: u8 = 0x40;
pub(super) const NTF_ROUTER: u8 = 0x80;
const NTF_EXT_LOCKED: u32 = 2;
pub(super) const NUD_NOARP: u16 = 0x40;
pub(super) const NUD_PERMANENT: u16 = 0x80;
const NUD_REACHABLE: u16 = 0x02;

/// An FDB entry as the kernel tells it.
pub(super) struct Dumped {
    pub(super) index: u32,
    pub(super) master: u32,
    pub(super) state: u16,
    pub(super) flags: u8,
    pub(super) extended: u32,
    pub(super) mac: MacAddr,
    pub(super) vid: Option<u16>,
    pub(super) dst: Option<IpAddr>,
}

impl KernelWorld {
    pub(super) fn clear_fdb(&mut self) -> Result<(), CompareError> {
        let failed = || CompareError::io("empty the FDB");
        self.set_bridge_attribute(IFLA_BR_FDB_FLUSH, &[]).map_err(failed())?;
        for entry in self.dump()? {
            let of_bridge = entry.master == self.bridge && entry.state & NUD_PERMANENT == 0;
            let of_tunnel = entry.dst.is_some() && !entry.mac.is_zero();
            if of_bridge {
                self.remove(&entry, NTF_MASTER).map_err(failed())?;
            } else if of_tunnel {
                self.remove(&entry, NTF_SELF).map_err(failed())?;
            }
        }
        Ok(())
    }

    pub(super) fn dump(&mut self) -> Result<Vec<Dumped>, CompareError> {
        let mut entries = Vec::new();
        let request = Request::neighbour(Request::GET_NEIGHBOUR, BRIDGE_FAMILY, 0, 0, 0);
        let dumped = self.rtnl.dump(&request, |body| entries.extend(Dumped::parse(body)));
        dumped.map_err(CompareError::io("read the FDB"))?;
        Ok(entries)
    }

    fn remove(&mut self, entry: &Dumped, flags: u8) -> io::Result<()> {
        let mut request = Request::neighbour(Request::DELETE_NEIGHBOUR, BRIDGE_FAMILY, entry.index, 0, flags)
            .with(NDA_LLADDR, &entry.mac.octets());
        if let (Some(vid), NTF_MASTER) = (entry.vid, flags) {
            request = request.with(NDA_VLAN, &vid.to_ne_bytes());
        }
        match self.rtnl.change(&request, 0) {
            // It aged out meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// What the vxlan device learned and the bridge does not know to be in the tunnel is forgotten, if the scene wants that.
    pub(super) fn keep_in_step(&mut self) -> Result<(), CompareError> {
        let Some(tunnel) = self.tunnel.as_ref().filter(|tunnel| tunnel.overlay.in_step).map(|tunnel| tunnel.index)
        else {
            return Ok(());
        };
        let dumped = self.dump()?;
        let is_there = |mac| dumped.iter().any(|e| e.mac == mac && e.master == self.bridge && e.index == tunnel);
        let is_learned = |e: &&Dumped| e.dst.is_some() && e.state & (NUD_NOARP | NUD_PERMANENT) == 0;
        let lost: Vec<_> = dumped.iter().filter(is_learned).filter(|e| !is_there(e.mac)).collect();
        for entry in lost {
            self.remove(entry, NTF_SELF).map_err(CompareError::io("keep the tables in step"))?;
        }
        Ok(())
    }

    /// Adds a user's entry. `Ok(Err)`: the kernel refuses it.
    pub(super) fn fdb_add(&mut self, entry: &FdbAdd) -> Result<io::Result<()>, CompareError> {
        // A user of weft takes out what was there. In the kernel a control plane's entry could be replaced by a user's and the other
        // way round, and would be both then (`br_fdb.c`: `fdb_add_entry`, `br_fdb_external_learn_add`).
        let is_external = |kind| kind == Kind::External;
        let is_it = |old: &&Dumped| old.mac == entry.mac && old.vid == entry.vid && old.state & NUD_PERMANENT == 0;
        if let Some(old) = self.dump()?.iter().filter(is_it).find(|old| old.master == self.bridge)
            && is_external(old.kind()) != is_external(entry.kind)
        {
            self.remove(old, NTF_MASTER).map_err(CompareError::io("remove an entry"))?;
        }
        Ok(self.put_entry(entry))
    }

    fn put_entry(&mut self, entry: &FdbAdd) -> io::Result<()> {
        let port = match entry.at {
            At::Port(port) => port,
            At::Vtep(remote) => {
                self.tunnel_entry(entry.mac, remote, None, rtnl::CREATE | rtnl::REPLACE)?;
                UNDERLAY
            }
        };
        let (state, flags) = match entry.kind {
            Kind::Static | Kind::Locked => (NUD_NOARP, 0),
            Kind::Sticky => (NUD_NOARP, NTF_STICKY),
            Kind::External => (NUD_REACHABLE, NTF_EXT_LEARNED),
            Kind::Learned => (NUD_REACHABLE, 0),
        };
        let index = self.port_index(port);
        let mut request = Request::neighbour(Request::NEW_NEIGHBOUR, BRIDGE_FAMILY, index, state, NTF_MASTER | flags)
            .with(NDA_LLADDR, &entry.mac.octets());
        if let Some(vid) = entry.vid {
            request = request.with(NDA_VLAN, &vid.to_ne_bytes());
        }
        self.rtnl.change(&request, rtnl::CREATE | rtnl::REPLACE)
    }

    pub(super) fn fdb_delete(&mut self, mac: MacAddr, vid: Option<u16>) -> Result<io::Result<()>, CompareError> {
        let bridge = self.bridge;
        let is_it = |entry: &Dumped| entry.mac == mac && entry.state & NUD_PERMANENT == 0;
        let found: Vec<_> = self.dump()?.into_iter().filter(|entry| is_it(entry) || entry.dst.is_some()).collect();
        let mut outcome = Err(io::ErrorKind::NotFound.into());
        for entry in found.iter().filter(|entry| entry.mac == mac) {
            if entry.master == bridge && entry.dst.is_none() && (vid.is_none() || entry.vid == vid) {
                outcome = self.remove(entry, NTF_MASTER);
            } else if entry.dst.is_some() && vid.is_none() {
                let removed = self.remove(entry, NTF_SELF);
                outcome = outcome.or(removed);
            }
        }
        Ok(outcome)
    }

    pub(super) fn filter_vlans(&mut self, vlans: &BTreeMap<u8, Vec<VlanMember>>) -> Result<(), CompareError> {
        let lacks = |_| CompareError::Lacks("this kernel's bridge has no VLAN filtering".into());
        self.set_bridge_attribute(IFLA_BR_VLAN_FILTERING, &[1]).map_err(lacks)?;
        self.filters = true;
        for (port, members) in vlans {
            for member in members {
                self.vlan(*port, *member, true).map_err(CompareError::io("add a VLAN"))?;
            }
        }
        self.vlans.clone_from(vlans);
        Ok(())
    }

    pub(super) fn vlan(&mut self, port: u8, member: VlanMember, add: bool) -> io::Result<()> {
        /// RTM_SETLINK adds VLANs, RTM_DELLINK takes them away.
        const fn kind(add: bool) -> u16 {
            if add { Request::SET_LINK } else { Request::DELETE_LINK }
        }
        let mut flags = 0;
        if member.pvid {
            flags |= BRIDGE_VLAN_INFO_PVID;
        }
        if member.untagged {
            flags |= BRIDGE_VLAN_INFO_UNTAGGED;
        }
        let info = [flags.to_ne_bytes(), member.vid.to_ne_bytes()].concat();
        let spec = Nest::default().with(IFLA_BRIDGE_VLAN_INFO, &info);
        let request = Request::link(kind(add), BRIDGE_FAMILY, self.port_index(port), 0, 0).nest(IFLA_AF_SPEC, &spec);
        self.rtnl.change(&request, 0)
    }

    /// The bridge suppresses by its own neighbours, and the vxlan device answers by those that it has.
    pub(super) fn neighbour(&mut self, neighbour: Neighbour, kind: u16, flags: u16) -> io::Result<()> {
        const AF_INET: u8 = 2;
        const AF_INET6: u8 = 10;
        let (family, ip) = match neighbour.ip {
            IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
        };
        let tunnel = self.tunnel.as_ref().map(|tunnel| tunnel.index);
        let router = if neighbour.router { NTF_ROUTER } else { 0 };
        for index in [Some(self.bridge), tunnel].into_iter().flatten() {
            let request = Request::neighbour(kind, family, index, NUD_PERMANENT, router)
                .with(NDA_DST, &ip)
                .with(NDA_LLADDR, &neighbour.mac.octets());
            self.rtnl.change(&request, flags)?;
        }
        Ok(())
    }

    /// Lets the bridge and the vxlan device have neighbours with IPv6 addresses, without any of their own.
    pub(super) fn ipv6(&self, neighbours: &[Neighbour], on: bool) -> Result<(), CompareError> {
        if neighbours.iter().any(|neighbour| neighbour.ip.is_ipv6()) {
            for name in [Some(BRIDGE), self.tunnel.as_ref().map(|_| TUNNEL)].into_iter().flatten() {
                self.namespace.sysctl(&format!("net.ipv6.conf.{name}.addr_gen_mode"), "1")?;
                self.namespace.sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6"), if on { "0" } else { "1" })?;
            }
        }
        Ok(())
    }
}

impl Dumped {
    fn parse(body: &[u8]) -> Option<Self> {
        // struct ndmsg: family, padding, ifindex, state, flags, type
        let mut entry = Self {
            index: u32::from_ne_bytes(field(body, 4)?),
            master: 0,
            state: u16::from_ne_bytes(field(body, 8)?),
            flags: *body.get(10)?,
            extended: 0,
            mac: MacAddr::ZERO,
            vid: None,
            dst: None,
        };
        for (number, value) in attributes(body.get(12..)?) {
            match number {
                NDA_LLADDR => entry.mac = MacAddr::new(field(value, 0)?),
                NDA_VLAN => entry.vid = field(value, 0).map(u16::from_ne_bytes),
                NDA_MASTER => entry.master = u32::from_ne_bytes(field(value, 0)?),
                NDA_FLAGS_EXT => entry.extended = u32::from_ne_bytes(field(value, 0)?),
                NDA_DST if value.len() == 4 => entry.dst = Some(IpAddr::from(field::<4>(value, 0)?)),
                _ => {}
            }
        }
        Some(entry)
    }

    pub(super) fn kind(&self) -> Kind {
        if self.extended & NTF_EXT_LOCKED != 0 {
            Kind::Locked
        } else if self.flags & NTF_EXT_LEARNED != 0 {
            Kind::External
        } else if self.flags & NTF_STICKY != 0 {
            Kind::Sticky
        } else if self.state & NUD_NOARP != 0 {
            Kind::Static
        } else {
            Kind::Learned
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_fdb_dump() {
        crate::fuzzing::inputs(|body| {
            if let Some(entry) = Dumped::parse(body) {
                entry.kind();
            }
        });
    }
}
