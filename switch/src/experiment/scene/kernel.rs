//! The kernel's bridge and vxlan device in weft's place.

use weft_vxlan::Vni;

use super::{STATION_INTERFACE, Scene, UNDERLAY_INTERFACE, VNI, VtepPlan, host_address, station_address, station_mac};
use crate::{
    experiment::{
        cell::{Offload, Tunnel},
        error::ExperimentError,
    },
    lab::{BridgeOptions, VxlanOptions},
};

const BRIDGE: &str = "br0";
const DEVICE: &str = "vx0";
/// The host's end of the cable to its station.
const PORT: &str = "port0";

impl Scene {
    pub(super) fn build_kernel_vtep(&self, side: usize) -> Result<(), ExperimentError> {
        let VtepPlan { engine: _, tunnel, port_mtu, offload, df, udp_checksum, oversize: _, mss_clamp: _, path_mtu: _ } =
            &self.plan.vteps[side];
        let refused = |what: &str| ExperimentError::Refused(what.to_owned());
        if *tunnel != Tunnel::VXLAN {
            return Err(refused("the kernel is measured with VXLAN only"));
        }
        let mtu = u32::from(port_mtu.ok_or_else(|| refused("the kernel's devices must be told their MTU"))?);
        let vni = Vni::new(VNI).ok_or_else(|| refused("a VNI has 24 bits"))?;
        let (host, station) = (&self.hosts[side], &self.stations[side]);
        let underlay = self.plan.underlay;
        host.bridge(BRIDGE, &BridgeOptions::default())?;
        let options = VxlanOptions::new(vni, host_address(underlay, side)).remotes([host_address(underlay, 1 - side)]);
        let (df, udp_checksum) = (df.to_config(), *udp_checksum);
        // Without the device below the kernel takes any MTU, as weft does.
        host.vxlan(DEVICE, &VxlanOptions { mtu: Some(mtu), df, udp_checksum, ..options })?;
        self.lab.veth((station, STATION_INTERFACE), (host, PORT), mtu)?;
        if *offload == Offload::Off {
            // Nothing crosses the port but wire frames, whichever way.
            station.gso_max_segments(STATION_INTERFACE, 1)?;
            host.gso_max_segments(PORT, 1)?;
            host.gso_max_segments(UNDERLAY_INTERFACE, 1)?;
        }
        for port in [DEVICE, PORT] {
            host.enslave(port, BRIDGE)?;
        }
        station.mac(STATION_INTERFACE, station_mac(side))?;
        Ok(station.address(STATION_INTERFACE, &format!("{}/24", station_address(side)))?)
    }
}
