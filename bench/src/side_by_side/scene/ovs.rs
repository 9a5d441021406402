//! Open vSwitch with its userspace datapath.

use weft::lab::{Namespace, Ovs};

use super::{Builder, INTERFACE, PORT, Switch, UNDERLAY, UNDERLAY_MTU, VNI, host_address, station_address};

impl Builder<'_> {
    pub(super) fn ovs_taps(&mut self, host: &Namespace, stations: &[Namespace; 2], tso: bool) -> anyhow::Result<()> {
        let settings: &[&str] = if tso { &["other_config:userspace-tso-enable=true"] } else { &[] };
        let ovs = Ovs::start(self.lab, host, settings)?;
        ovs.vsctl("add-br br0 -- set bridge br0 datapath_type=netdev")?;
        for (side, station) in stations.iter().enumerate() {
            plug(&ovs, "br0", station, side)?;
        }
        self.switches.push(Switch::Ovs(ovs));
        Ok(())
    }

    pub(super) fn ovs_vtep(&mut self, host: &Namespace, station: &Namespace, side: usize) -> anyhow::Result<()> {
        // Its tunnels take neither open checksums nor super-frames.
        host.run(&["ethtool", "-K", UNDERLAY, "tx", "off", "gro", "off"])?.ok()?;
        let ovs = Ovs::start(self.lab, host, &[])?;
        // They leave by the bridge that has the address.
        ovs.vsctl(&format!("add-br phy -- set bridge phy datapath_type=netdev -- add-port phy {UNDERLAY}"))?;
        host.address("phy", &format!("{}/24", host_address(side)))?;
        host.mtu("phy", UNDERLAY_MTU)?;
        host.up("phy")?;
        ovs.vsctl(&format!(
            "add-br int -- set bridge int datapath_type=netdev -- add-port int vx0 -- set interface vx0 type=vxlan \
             options:remote_ip={} options:key={VNI} options:dst_port={PORT}",
            host_address(1 - side)
        ))?;
        plug(&ovs, "int", station, side)?;
        station.run(&["ethtool", "-K", INTERFACE, "tx", "off"])?.ok()?;
        self.switches.push(Switch::Ovs(ovs));
        Ok(())
    }
}

fn plug(ovs: &Ovs, bridge: &str, station: &Namespace, side: usize) -> anyhow::Result<()> {
    ovs.tap(bridge, station, "")?;
    station.address(INTERFACE, &format!("{}/24", station_address(side)))?;
    Ok(station.up(INTERFACE)?)
}
