//! Which VTEPs there are, and which of them get copies.
//!
//! A VTEP has many appearances (configuration, learned entries, the source of a datagram) and one small index, so that
//! tables and counters are arrays and an FDB entry is two bytes. The table only grows: an index is never given to another
//! VTEP while a frame, a counter or an FDB entry may still carry it. Its bound is what keeps a sender of spoofed source
//! addresses from growing it without end.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, SocketAddrV6},
};

use thiserror::Error;

/// How many VTEPs a table holds. 4096 of them in one flood list are 4096 copies of every broadcast, far past what
/// head-end replication is good for.
pub const MAX_VTEPS: usize = 4096;

const _: () = assert!(MAX_VTEPS <= 1 << 16, "an index is a u16");

/// VTEPs by index, and their indices by address.
///
/// An address is compared by what datagrams to it look like: IPv4-mapped IPv6 addresses are IPv4, the flow label doesn't
/// count, and the scope (interface) only for IPv6 link-local addresses, as in the kernel (`vxlan_core.c:vxlan_rcv`).
#[derive(Clone, Default, Debug)]
pub struct VtepTable {
    vteps: Vec<Vtep>,
    // The standard hasher is keyed at random, which addresses chosen by strangers ask for.
    indices: HashMap<Vtep, u16>,
}

/// A tunnel end point, by its normalised address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vtep {
    address: SocketAddr,
}

/// The table already holds [`MAX_VTEPS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the table of VTEPs is full (4096)")]
pub struct TableFull;

impl VtepTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The VTEP's index; it gets the next one if it is new.
    ///
    /// # Errors
    /// [`TableFull`] if it is new and there is no index left. VTEPs in the table keep theirs.
    pub fn intern(&mut self, address: SocketAddr) -> Result<u16, TableFull> {
        let vtep = Vtep::new(address);
        if let Some(&index) = self.indices.get(&vtep) {
            return Ok(index);
        }
        if self.vteps.len() >= MAX_VTEPS {
            return Err(TableFull);
        }
        let index = self.vteps.len() as u16;
        self.vteps.push(vtep);
        self.indices.insert(vtep, index);
        Ok(index)
    }

    /// The VTEP's index, if it is in the table.
    pub fn lookup(&self, address: &SocketAddr) -> Option<u16> {
        self.indices.get(&Vtep::new(*address)).copied()
    }

    /// The normalised address of the VTEP with this index.
    pub fn get(&self, index: u16) -> Option<&SocketAddr> {
        self.vteps.get(usize::from(index)).map(|vtep| &vtep.address)
    }

    /// Every VTEP with its index, in the order of the indices.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u16, &SocketAddr)> {
        self.vteps.iter().enumerate().map(|(index, vtep)| (index as u16, &vtep.address))
    }

    /// How many VTEPs it holds.
    pub fn len(&self) -> usize {
        self.vteps.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.vteps.is_empty()
    }
}

impl Vtep {
    /// The VTEP at this address and UDP port.
    pub fn new(address: SocketAddr) -> Self {
        let address = match (address.ip().to_canonical(), address) {
            (IpAddr::V6(ip), SocketAddr::V6(given)) if ip.is_unicast_link_local() => {
                SocketAddrV6::new(ip, given.port(), 0, given.scope_id()).into()
            }
            (ip, _) => SocketAddr::new(ip, address.port()),
        };
        Self { address }
    }

    /// Where datagrams to it go.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The VTEPs that get a copy of each flooded frame, in the order in which they were named, each once: a VTEP that is named
/// twice would get every broadcast twice.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FloodList {
    indices: Vec<u16>,
}

impl FloodList {
    /// An empty list: flooded frames don't leave the host.
    pub const fn new() -> Self {
        Self { indices: Vec::new() }
    }

    /// Puts a VTEP at the end. `false` if it was in the list already.
    pub fn insert(&mut self, index: u16) -> bool {
        let new = !self.contains(index);
        if new {
            self.indices.push(index);
        }
        new
    }

    /// Takes a VTEP out; the others keep their order. `false` if it wasn't in the list.
    pub fn remove(&mut self, index: u16) -> bool {
        let before = self.indices.len();
        self.indices.retain(|&other| other != index);
        self.indices.len() < before
    }

    /// Whether a VTEP is in the list.
    pub fn contains(&self, index: u16) -> bool {
        self.indices.contains(&index)
    }

    /// The VTEPs' indices in their order.
    pub fn as_slice(&self) -> &[u16] {
        &self.indices
    }

    /// How many VTEPs get a copy.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

impl FromIterator<u16> for FloodList {
    fn from_iter<I: IntoIterator<Item = u16>>(indices: I) -> Self {
        let mut list = Self::new();
        list.extend(indices);
        list
    }
}

impl Extend<u16> for FloodList {
    fn extend<I: IntoIterator<Item = u16>>(&mut self, indices: I) {
        for index in indices {
            self.insert(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The address that differs from all others by `n`.
    fn nth(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4((0x0a00_0000 + n).into()), 4789)
    }

    #[test]
    fn a_vtep_keeps_the_index_it_was_given() {
        let mut table = VtepTable::new();
        assert_eq!(table.intern(address("192.0.2.1:4789")), Ok(0));
        assert_eq!(table.intern(address("192.0.2.2:4789")), Ok(1));
        assert_eq!(table.intern(address("192.0.2.1:4789")), Ok(0));
        assert_eq!(table.lookup(&address("192.0.2.2:4789")), Some(1));
        assert_eq!(table.lookup(&address("192.0.2.3:4789")), None);
        assert_eq!(table.get(1), Some(&address("192.0.2.2:4789")));
        assert_eq!(table.get(2), None);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn another_port_is_another_vtep() {
        let mut table = VtepTable::new();
        assert_eq!(table.intern(address("192.0.2.1:4789")), Ok(0));
        assert_eq!(table.intern(address("192.0.2.1:8472")), Ok(1));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_vtep() {
        let mut table = VtepTable::new();
        assert_eq!(table.intern(address("[::ffff:192.0.2.1]:4789")), Ok(0));
        assert_eq!(table.get(0), Some(&address("192.0.2.1:4789")));
        assert_eq!(table.lookup(&address("192.0.2.1:4789")), Some(0));
    }

    #[test]
    fn flow_label_and_scope_of_a_global_address_do_not_count() {
        let ip = "2001:db8::1".parse().unwrap();
        let mut table = VtepTable::new();
        assert_eq!(table.intern(SocketAddrV6::new(ip, 4789, 7, 3).into()), Ok(0));
        assert_eq!(table.intern(SocketAddrV6::new(ip, 4789, 0, 0).into()), Ok(0));
    }

    #[test]
    fn a_link_local_address_means_something_else_on_each_interface() {
        let ip = "fe80::1".parse().unwrap();
        let mut table = VtepTable::new();
        assert_eq!(table.intern(SocketAddrV6::new(ip, 4789, 0, 2).into()), Ok(0));
        assert_eq!(table.intern(SocketAddrV6::new(ip, 4789, 0, 3).into()), Ok(1));
        assert_eq!(table.intern(SocketAddrV6::new(ip, 4789, 9, 2).into()), Ok(0));
    }

    #[test]
    fn a_full_table_refuses_new_vteps_and_still_knows_the_old_ones() {
        let mut table = VtepTable::new();
        for n in 0..MAX_VTEPS as u32 {
            assert_eq!(table.intern(nth(n)).map(u32::from), Ok(n));
        }
        assert_eq!(table.intern(nth(MAX_VTEPS as u32)), Err(TableFull));
        assert_eq!(table.len(), MAX_VTEPS);
        assert_eq!(table.intern(nth(4095)), Ok(4095));
        assert_eq!(TableFull.to_string(), format!("the table of VTEPs is full ({MAX_VTEPS})"));
    }

    #[test]
    fn a_vtep_named_twice_is_flooded_once() {
        let list: FloodList = [3, 1, 3, 2, 1].into_iter().collect();
        assert_eq!(list.as_slice(), [3, 1, 2]);
    }

    #[test]
    fn a_removed_vtep_leaves_the_others_in_order() {
        let mut list: FloodList = [3, 1, 2].into_iter().collect();
        assert!(list.remove(1));
        assert!(!list.remove(1));
        assert_eq!(list.as_slice(), [3, 2]);
        assert!(list.insert(1));
        assert!(!list.insert(3));
        assert_eq!(list.as_slice(), [3, 2, 1]);
    }

    proptest! {
        #[test]
        fn addresses_and_indices_map_onto_each_other(numbers in vec(0..40_u32, 0..80)) {
            let mut table = VtepTable::new();
            for &n in &numbers {
                let index = table.intern(nth(n)).unwrap();
                prop_assert_eq!(table.get(index), Some(&nth(n)));
            }
            for (index, address) in table.iter() {
                prop_assert_eq!(table.lookup(address), Some(index));
            }
            let distinct: BTreeSet<_> = numbers.iter().collect();
            prop_assert_eq!(table.len(), distinct.len());
        }

        #[test]
        fn a_flood_list_holds_what_was_put_in_each_once(indices in vec(0..30_u16, 0..60)) {
            let list: FloodList = indices.iter().copied().collect();
            let mut seen = BTreeSet::new();
            let first_seen: Vec<_> = indices.into_iter().filter(|index| seen.insert(*index)).collect();
            prop_assert_eq!(list.as_slice(), first_seen);
        }
    }
}
