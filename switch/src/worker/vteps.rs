//! VTEPs by number: one table for the switch, a copy of what it used in every worker.
//!
//! FDB entries and counters name a VTEP by a small number. The numbers are given out under a lock, but seldom: a VTEP
//! keeps its number for the life of the process, so a worker asks once for each and then reads its own copy.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use weft_vxlan::vtep::{MAX_VTEPS, TableFull, VtepTable};

use crate::ids::VtepId;

/// The switch's table of VTEPs, shared by its workers and its control plane.
#[derive(Clone, Default)]
pub struct SharedVteps(Arc<Mutex<VtepTable>>);

impl SharedVteps {
    /// The number of a VTEP, a new one if it has none yet.
    ///
    /// # Errors
    /// [`TableFull`] after [`weft_vxlan::vtep::MAX_VTEPS`] of them.
    pub fn intern(&self, address: SocketAddr) -> Result<VtepId, TableFull> {
        self.table().intern(address).map(VtepId)
    }

    /// The number that [`SharedVteps::intern`] would give; nothing changes.
    ///
    /// # Errors
    /// As that.
    pub fn foresee(&self, address: SocketAddr) -> Result<VtepId, TableFull> {
        let table = self.table();
        let next = || if table.len() < MAX_VTEPS { Ok(table.len() as u16) } else { Err(TableFull) };
        table.lookup(&address).map_or_else(next, Ok).map(VtepId)
    }

    /// The VTEP with this number.
    pub fn address(&self, vtep: VtepId) -> Option<SocketAddr> {
        self.table().get(vtep.0).copied()
    }

    /// All VTEPs that have a number, in its order.
    pub fn all(&self) -> Vec<SocketAddr> {
        let table = self.table();
        (0..).map_while(|index| table.get(index).copied()).collect()
    }

    fn table(&self) -> MutexGuard<'_, VtepTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's copy.
#[derive(Default)]
pub(super) struct VtepCache {
    shared: SharedVteps,
    addresses: Vec<SocketAddr>,
    by_source: HashMap<(IpAddr, u16), VtepId, foldhash::fast::RandomState>,
}

impl VtepCache {
    pub(super) fn new(shared: SharedVteps) -> Self {
        Self { shared, ..Self::default() }
    }

    /// Where a VTEP is.
    #[inline]
    pub(super) fn address(&mut self, vtep: VtepId) -> Option<SocketAddr> {
        if vtep.index() >= self.addresses.len() {
            self.addresses = self.shared.all();
        }
        self.addresses.get(vtep.index()).copied()
    }

    /// The VTEP that a datagram's source is, reached at the port that VTEPs use by default (`vxlan_core.c`: `vxlan_snoop`
    /// learns the configured port, not the source port).
    #[inline]
    pub(super) fn of_source(&mut self, source: IpAddr, port: u16) -> Result<VtepId, TableFull> {
        if let Some(vtep) = self.by_source.get(&(source, port)) {
            return Ok(*vtep);
        }
        let vtep = self.shared.intern(SocketAddr::new(source, port))?;
        self.by_source.insert((source, port), vtep);
        Ok(vtep)
    }
}
