//! Who has which IP address in a bridge: what somebody needs who answers ARP and neighbour solicitations in another's
//! name. Named by the user; nothing is learned from frames.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use crate::wire::MacAddr;

/// A station, by one of its IP addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neigh {
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Whether it is a router, which a neighbour advertisement says.
    pub router: bool,
}

/// The neighbours of one bridge. Part of the tables' snapshot: it never changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Neighs {
    by_ip: HashMap<IpAddr, Neigh, foldhash::fast::RandomState>,
    routers: HashSet<MacAddr, foldhash::fast::RandomState>,
}

impl Neighs {
    /// Who has this address.
    #[inline]
    pub fn get(&self, ip: IpAddr) -> Option<Neigh> {
        self.by_ip.get(&ip).copied()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.by_ip.is_empty()
    }

    /// Whether a router has this Ethernet address.
    #[inline]
    pub fn is_router(&self, mac: MacAddr) -> bool {
        self.routers.contains(&mac)
    }
}

impl FromIterator<(IpAddr, Neigh)> for Neighs {
    fn from_iter<I: IntoIterator<Item = (IpAddr, Neigh)>>(neighs: I) -> Self {
        let by_ip: HashMap<_, Neigh, _> = neighs.into_iter().collect();
        let routers = by_ip.values().filter(|neigh| neigh.router).map(|neigh| neigh.mac).collect();
        Self { by_ip, routers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_found_by_its_address_and_no_other() {
        let neigh = Neigh { mac: MacAddr::new([2, 0, 0, 0, 0, 1]), router: true };
        let neighs: Neighs = [("fd00::1".parse().unwrap(), neigh)].into_iter().collect();
        assert_eq!(neighs.get("fd00::1".parse().unwrap()), Some(neigh));
        assert_eq!(neighs.get("fd00::2".parse().unwrap()), None);
        assert!(neighs.is_router(neigh.mac) && !neighs.is_router(MacAddr::ZERO));
        assert!(!neighs.is_empty() && Neighs::default().is_empty());
    }
}
