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
