//! The kernel's bridge and vxlan device.

use std::net::IpAddr;

use anyhow::Context;
use weft::lab::{BridgeOptions, Namespace, VxlanOptions};
use weft_vxlan::Vni;

use super::{Builder, INTERFACE, MTU, PORT, UNDERLAY, VNI, host_address, station_address};

const BRIDGE: &str = "br0";
const DEVICE: &str = "vx0";

impl Builder<'_> {
    pub(super) fn kernel_bridge(&self, host: &Namespace, stations: &[Namespace; 2]) -> anyhow::Result<()> {
        host.bridge(BRIDGE, &BridgeOptions::default())?;
        for (side, station) in stations.iter().enumerate() {
            self.plug(host, station, side)?;
        }
        Ok(())
    }

    pub(super) fn kernel_vtep(&self, host: &Namespace, station: &Namespace, side: usize) -> anyhow::Result<()> {
        host.address(UNDERLAY, &format!("{}/24", host_address(side)))?;
        host.bridge(BRIDGE, &BridgeOptions::default())?;
        let vni = Vni::new(VNI).context("24 bits")?;
        let remote: IpAddr = host_address(1 - side).into();
        let options = VxlanOptions::new(vni, host_address(side).into()).remotes([remote]);
        let device = Some(UNDERLAY.to_owned());
        host.vxlan(DEVICE, &VxlanOptions { port: PORT, device, mtu: Some(MTU), ..options })?;
        host.enslave(DEVICE, BRIDGE)?;
        self.plug(host, station, side)
    }

    /// Lays a cable from a station to the bridge.
    fn plug(&self, host: &Namespace, station: &Namespace, side: usize) -> anyhow::Result<()> {
        self.lab.veth((station, INTERFACE), (host, station.name()), MTU)?;
        host.enslave(station.name(), BRIDGE)?;
        Ok(station.address(INTERFACE, &format!("{}/24", station_address(side)))?)
    }
}
