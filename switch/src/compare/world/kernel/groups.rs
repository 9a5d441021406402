//! The kernel's multicast database.

use std::{io, net::IpAddr};

use super::KernelWorld;
use crate::{
    compare::{
        case::{MdbAdd, UNDERLAY},
        observe::{membership, router},
        world::CompareError,
    },
    lab::rtnl::{self, Nest, Request, attribute, attributes, field},
    wire::MacAddr,
};

// include/uapi/linux/if_bridge.h
const MDBA_MDB: u16 = 1;
const MDBA_ROUTER: u16 = 2;
const MDBA_MDB_ENTRY: u16 = 1;
const MDBA_MDB_ENTRY_INFO: u16 = 1;
const MDBA_ROUTER_PORT: u16 = 1;
const MDBA_MDB_EATTR_SRC_LIST: u16 = 2;
const MDBA_MDB_EATTR_GROUP_MODE: u16 = 3;
const MDBA_MDB_EATTR_SOURCE: u16 = 4;
const MDBA_MDB_SRCLIST_ENTRY: u16 = 1;
const MDBA_MDB_SRCATTR_ADDRESS: u16 = 1;
const MDBA_MDB_SRCATTR_TIMER: u16 = 2;
const MDBA_SET_ENTRY: u16 = 1;
const MDBA_SET_ENTRY_ATTRS: u16 = 2;
const MDBE_ATTR_SOURCE: u16 = 1;
const MDB_PERMANENT: u8 = 1;
const MCAST_INCLUDE: u8 = 1;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// `struct br_mdb_entry`: interface, state, flags, VLAN, address, protocol, and what makes it a multiple of four.
const ENTRY_LEN: usize = 28;

impl KernelWorld {
    /// Adds a permanent member of a group, or takes one out.
    pub(super) fn group(&mut self, entry: &MdbAdd, add: bool) -> io::Result<()> {
        let mut bytes = self.port_index(entry.port).to_ne_bytes().to_vec();
        bytes.extend([MDB_PERMANENT, 0, 0, 0]);
        let (octets, protocol) = match entry.group {
            IpAddr::V4(group) => (group.octets().to_vec(), ETH_P_IP),
            IpAddr::V6(group) => (group.octets().to_vec(), ETH_P_IPV6),
        };
        bytes.extend(&octets);
        bytes.resize(24, 0);
        bytes.extend(protocol.to_be_bytes());
        bytes.resize(ENTRY_LEN, 0);
        let kind = if add { Request::NEW_GROUP } else { Request::DELETE_GROUP };
        let mut request = Request::groups(kind, self.bridge).with(MDBA_SET_ENTRY, &bytes);
        if let Some(source) = entry.source {
            let octets = match source {
                IpAddr::V4(source) => source.octets().to_vec(),
                IpAddr::V6(source) => source.octets().to_vec(),
            };
            request = request.nest(MDBA_SET_ENTRY_ATTRS, &Nest::default().with(MDBE_ATTR_SOURCE, &octets));
        }
        self.rtnl.change(&request, if add { rtnl::CREATE | rtnl::EXCLUSIVE } else { 0 })
    }

    /// Memberships and routers, a line each. Entries of a group and a source that the kernel made of a membership's list are
    /// left out: they say the same again.
    pub(super) fn group_lines(&mut self) -> Result<Vec<String>, CompareError> {
        let mut bodies = Vec::new();
        let dumped = self.rtnl.dump(&Request::groups(Request::GET_GROUP, 0), |body| bodies.push(body.to_vec()));
        dumped.map_err(CompareError::io("read the multicast database"))?;
        let of_bridge = bodies.iter().filter(|body| field(body, 4) == Some(self.bridge.to_ne_bytes()));
        let mut lines = Vec::new();
        for (number, value) in of_bridge.flat_map(|body| attributes(body.get(8..).unwrap_or_default())) {
            match number {
                MDBA_MDB => {
                    let entries = attributes(value).filter(|(number, _)| *number == MDBA_MDB_ENTRY);
                    let infos = entries.flat_map(|(_, entry)| attributes(entry));
                    let infos = infos.filter(|(number, _)| *number == MDBA_MDB_ENTRY_INFO);
                    lines.extend(infos.filter_map(|(_, info)| self.membership_line(info)));
                }
                MDBA_ROUTER => {
                    let ports = attributes(value).filter(|(number, _)| *number == MDBA_ROUTER_PORT);
                    let places = ports.filter_map(|(_, port)| self.place(u32::from_ne_bytes(field(port, 0)?)));
                    lines.extend(places.map(router));
                }
                _ => {}
            }
        }
        lines.sort_unstable();
        Ok(lines)
    }

    fn membership_line(&self, info: &[u8]) -> Option<String> {
        let at = self.place(u32::from_ne_bytes(field(info, 0)?))?;
        let permanent = *info.get(4)? == MDB_PERMANENT;
        let of_protocol = |octets: &[u8], protocol| match protocol {
            ETH_P_IP => Some(IpAddr::from(field::<4>(octets, 0)?).to_string()),
            ETH_P_IPV6 => Some(IpAddr::from(field::<16>(octets, 0)?).to_string()),
            _ => Some(MacAddr::new(field::<6>(octets, 0)?).to_string()),
        };
        let mut group = of_protocol(info.get(8..)?, u16::from_be_bytes(field(info, 24)?))?;
        let more = info.get(ENTRY_LEN..).unwrap_or_default();
        if let Some(source) = attribute(more, MDBA_MDB_EATTR_SOURCE) {
            if !permanent {
                return None;
            }
            group = format!("{group} from {}", address(source)?);
        }
        let excludes = permanent
            || attribute(more, MDBA_MDB_EATTR_GROUP_MODE).is_none_or(|mode| mode.first() != Some(&MCAST_INCLUDE));
        let list = attribute(more, MDBA_MDB_EATTR_SRC_LIST).unwrap_or_default();
        let listed = attributes(list).filter(|(number, _)| *number == MDBA_MDB_SRCLIST_ENTRY);
        let source = |(_, entry)| {
            let left = u32::from_ne_bytes(field(attribute(entry, MDBA_MDB_SRCATTR_TIMER)?, 0)?);
            Some((address(attribute(entry, MDBA_MDB_SRCATTR_ADDRESS)?)?, left > 0))
        };
        let mut sources: Vec<_> = listed.filter_map(source).collect();
        Some(membership(&group, at, permanent, excludes, &mut sources))
    }

    /// The port with this interface; `None`: it is none, but the bridge itself.
    fn place(&self, index: u32) -> Option<u8> {
        if self.tunnel.as_ref().is_some_and(|tunnel| tunnel.index == index) {
            return Some(UNDERLAY);
        }
        let at = self.ports.iter().position(|port| *port == index)?;
        u8::try_from(at + 1).ok()
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if octets.len() == 4 { field::<4>(octets, 0).map(IpAddr::from) } else { field::<16>(octets, 0).map(IpAddr::from) }
}
