//! A side's interfaces, by netlink: up and down, their MTU, what they counted.

use std::io;

use super::CompareError;
use crate::lab::rtnl::{Request, Rtnl, attribute, field};

// include/uapi/linux/if_link.h
const IFLA_MTU: u16 = 4;
const IFLA_STATS64: u16 = 23;
const IFF_UP: u32 = 1;

/// Sets an interface up or down.
pub(super) fn set_up(rtnl: &mut Rtnl, index: u32, up: bool) -> Result<(), CompareError> {
    let request = Request::link(Request::NEW_LINK, 0, index, if up { IFF_UP } else { 0 }, IFF_UP);
    rtnl.change(&request, 0).map_err(CompareError::io("set a port up or down"))
}

/// Sets an interface's MTU.
pub(super) fn set_mtu(rtnl: &mut Rtnl, index: u32, mtu: u32) -> io::Result<()> {
    let request = Request::link(Request::NEW_LINK, 0, index, 0, 0).with(IFLA_MTU, &mtu.to_ne_bytes());
    rtnl.change(&request, 0)
}

/// An interface's MTU.
pub(super) fn mtu(rtnl: &mut Rtnl, index: u32) -> Result<u32, CompareError> {
    let found = rtnl.get(&Request::link(Request::GET_LINK, 0, index, 0, 0));
    let found = found.map_err(CompareError::io("read an interface"))?;
    let mtu = attribute(found.get(16..).unwrap_or_default(), IFLA_MTU).and_then(|value| field(value, 0));
    Ok(mtu.map_or(0, u32::from_ne_bytes))
}

/// The counters of an interface, in the order of `struct rtnl_link_stats64`.
pub(super) fn stats(rtnl: &mut Rtnl, index: u32) -> Result<Vec<u64>, CompareError> {
    let found = rtnl.get(&Request::link(Request::GET_LINK, 0, index, 0, 0));
    let found = found.map_err(CompareError::io("read an interface's counters"))?;
    let stats = attribute(found.get(16..).unwrap_or_default(), IFLA_STATS64).unwrap_or_default();
    Ok(stats.chunks_exact(8).filter_map(|chunk| field(chunk, 0).map(u64::from_ne_bytes)).collect())
}

/// What came in and went out at the ports with these interfaces, in order, by the names that weft's counters have as well.
pub(super) fn port_counters(rtnl: &mut Rtnl, ports: &[u32]) -> Result<Vec<(String, u64)>, CompareError> {
    let mut counters = Vec::new();
    for (port, index) in (1..).zip(ports) {
        let stats = stats(rtnl, *index)?;
        let of = |at: usize| stats.get(at).copied().unwrap_or(0);
        counters.push((counter_in(port), of(0)));
        counters.push((counter_out(port), of(1)));
    }
    Ok(counters)
}

/// The counter of frames that came in at a port.
pub(super) fn counter_in(port: u8) -> String {
    format!("port {port} in")
}

/// The counter of frames that left at a port.
pub(in crate::compare) fn counter_out(port: u8) -> String {
    format!("port {port} out")
}
