//! The kernel's vxlan device.

use std::{io, net::IpAddr};

use super::{
    BRIDGE_FAMILY, IFF_UP, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, KernelWorld, TUNNEL_PORT,
    tables::{IFLA_AF_SPEC, NDA_DST, NDA_LLADDR, NDA_SRC_VNI, NTF_ROUTER, NTF_SELF, NUD_NOARP, NUD_PERMANENT},
};
use crate::{
    compare::{
        case::{LOCAL, Options, Overlay, PORTS, UNDERLAY, Value, VlanMember},
        option::{self, Form, Kernel, Knob, Part},
        world::{CompareError, ends::UNDERLAY_NAME},
    },
    lab::rtnl::{self, Nest, Request},
    wire::MacAddr,
};

// include/uapi/linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_VLAN_TUNNEL: u16 = 29;
// include/uapi/linux/if_bridge.h
const IFLA_BRIDGE_VLAN_TUNNEL_INFO: u16 = 3;
const IFLA_BRIDGE_VLAN_TUNNEL_ID: u16 = 1;
const IFLA_BRIDGE_VLAN_TUNNEL_VID: u16 = 2;
const IFLA_BRIDGE_VLAN_TUNNEL_FLAGS: u16 = 3;
// include/uapi/linux/if_link.h
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
const IFLA_VXLAN_TTL_INHERIT: u16 = 28;
/// Options of the tunnel whose default here is not the kernel's own.
const SPOKEN: [&str; 3] = ["source_port_range", "port", "udpcsum"];
pub(super) const TUNNEL: &str = "vx0";
const OTHER_TUNNEL: &str = "vx1";

pub(super) struct Tunnel {
    pub(super) index: u32,
    pub(super) overlay: Overlay,
}

impl KernelWorld {
    /// Makes the tunnel anew unless it is as wanted.
    pub(super) fn tunnel(&mut self, wanted: Option<&Overlay>) -> Result<(), CompareError> {
        if self.tunnel.as_ref().map(|tunnel| &tunnel.overlay) == wanted {
            return Ok(());
        }
        if let Some(old) = self.tunnel.take() {
            let request = Request::link(Request::DELETE_LINK, 0, old.index, 0, 0);
            self.rtnl.change(&request, 0).map_err(CompareError::io("delete the vxlan device"))?;
        }
        let Some(overlay) = wanted else { return Ok(()) };
        let IpAddr::V4(local) = LOCAL else { return Ok(()) };
        let data = Nest::default().with(IFLA_VXLAN_LOCAL, &local.octets());
        // A device of VXLAN-GPE is of all networks, is no Ethernet device and no bridge's port, and learns nothing.
        let is_gpe = overlay.is_gpe();
        let mut data = if overlay.networks.is_empty() && !is_gpe {
            data.with(IFLA_VXLAN_ID, &overlay.vni.to_ne_bytes())
        } else {
            data.with(IFLA_VXLAN_COLLECT_METADATA, &[1])
        };
        for knob in option::OPTIONS.iter().filter(|knob| knob.part == Part::Tunnel) {
            let value = overlay.options.get(knob.name).cloned().unwrap_or_else(|| knob.default.into());
            match knob.kernel {
                Kernel::Attribute(..) if knob.name == "ttl" && value == Value::Word("inherit".into()) => {
                    data = data.with(IFLA_VXLAN_TTL_INHERIT, &[]);
                }
                Kernel::Attribute(number, Form::Underlay) => {
                    if value == Value::Switch(true) {
                        let index = self.namespace.link(UNDERLAY_NAME)?.index;
                        data = data.with(number, &index.to_ne_bytes());
                    }
                }
                Kernel::Attribute(number, form) => {
                    // What a kernel may lack is only mentioned where it is asked for.
                    let asked_for = overlay.options.contains_key(knob.name) || SPOKEN.contains(&knob.name);
                    if let Some(octets) = form.octets(&value).filter(|_| asked_for) {
                        data = data.with(number, &octets);
                    }
                }
                Kernel::Learning if !overlay.options.contains_key("vxlan_learning") => {
                    let learns = value == Value::Switch(true) && !is_gpe;
                    data = data.with(IFLA_VXLAN_LEARNING, &[u8::from(learns)]);
                }
                Kernel::Learning => {}
                Kernel::Bool(_) | Kernel::Mtu | Kernel::Absent => {}
            }
        }
        let info = Nest::default().with(IFLA_INFO_KIND, b"vxlan\0").nest(IFLA_INFO_DATA, &data);
        let mut request = Request::link(Request::NEW_LINK, 0, 0, IFF_UP, IFF_UP)
            .with(IFLA_IFNAME, format!("{TUNNEL}\0").as_bytes())
            .nest(IFLA_LINKINFO, &info);
        if !is_gpe {
            request = request
                .with(IFLA_ADDRESS, &crate::compare::frame::port_mac(TUNNEL_PORT).octets())
                .with(IFLA_MASTER, &self.bridge.to_ne_bytes());
        }
        let made = self.rtnl.change(&request, rtnl::CREATE | rtnl::EXCLUSIVE);
        made.map_err(|error| CompareError::Lacks(format!("the kernel can't make such a vxlan device: {error}")))?;
        let index = self.namespace.link(TUNNEL)?.index;
        self.tunnel = Some(Tunnel { index, overlay: overlay.clone() });
        for name in overlay.options.keys() {
            if let Some(Knob { kernel: Kernel::Attribute(number, _), .. }) = option::find(Part::Tunnel, name)
                && self.info(index, IFLA_INFO_DATA, *number)?.is_none()
            {
                return Err(CompareError::Lacks(format!("this kernel's vxlan device has no {name}")));
            }
        }
        if is_gpe {
            return Ok(());
        }
        for remote in &overlay.remotes {
            let networks: Vec<_> = overlay.networks.values().map(|vni| Some(*vni)).collect();
            for network in if networks.is_empty() { vec![None] } else { networks } {
                self.tunnel_entry(MacAddr::ZERO, *remote, network, rtnl::CREATE | rtnl::APPEND)
                    .map_err(CompareError::io("fill the flood list"))?;
            }
        }
        self.until_forwarding(UNDERLAY)
    }

    /// Lets the tunnel carry VLANs, each in its network (`vlan_tunnel`).
    pub(super) fn networks(&mut self, overlay: Option<&Overlay>) -> Result<(), CompareError> {
        let Some(overlay) = overlay.filter(|overlay| !overlay.networks.is_empty()) else { return Ok(()) };
        let failed = || CompareError::io("give a VLAN its network");
        let index = self.port_index(UNDERLAY);
        self.set_port_attribute(index, IFLA_BRPORT_VLAN_TUNNEL, &[1]).map_err(failed())?;
        for (at, (vid, vni)) in overlay.networks.iter().enumerate() {
            self.vlan(UNDERLAY, VlanMember { vid: *vid, pvid: at == 0, untagged: false }, true).map_err(failed())?;
            let info = Nest::default()
                .with(IFLA_BRIDGE_VLAN_TUNNEL_ID, &vni.to_ne_bytes())
                .with(IFLA_BRIDGE_VLAN_TUNNEL_VID, &vid.to_ne_bytes())
                .with(IFLA_BRIDGE_VLAN_TUNNEL_FLAGS, &[0, 0]);
            let spec = Nest::default().nest(IFLA_BRIDGE_VLAN_TUNNEL_INFO, &info);
            let request = Request::link(Request::SET_LINK, BRIDGE_FAMILY, index, 0, 0).nest(IFLA_AF_SPEC, &spec);
            self.rtnl.change(&request, 0).map_err(failed())?;
        }
        Ok(())
    }

    /// Changes an option of the device. `Ok(Err)`: the kernel refuses this value.
    pub(super) fn set_tunnel(&mut self, option: &str, value: &Value) -> Result<io::Result<()>, CompareError> {
        let known = option::find(Part::Tunnel, option).map(|knob| knob.kernel);
        let Some(Kernel::Attribute(number, form)) = known else {
            return Err(CompareError::Lacks(format!("no option {option} of a tunnel is known to this comparison")));
        };
        let Some(octets) = form.octets(value) else { return Ok(Err(io::ErrorKind::InvalidInput.into())) };
        self.tunnel_changed = true;
        let data = Nest::default().with(number, &octets);
        let info = Nest::default().with(IFLA_INFO_KIND, b"vxlan\0").nest(IFLA_INFO_DATA, &data);
        let index = self.port_index(UNDERLAY);
        Ok(self.rtnl.change(&Request::link(Request::NEW_LINK, 0, index, 0, 0).nest(IFLA_LINKINFO, &info), 0))
    }

    /// Makes another device for another network on the same UDP port, of no bridge. `Ok(Err)`: the kernel refuses.
    pub(super) fn add_tunnel(&mut self, vni: u32) -> Result<io::Result<()>, CompareError> {
        let IpAddr::V4(local) = LOCAL else { return Ok(Ok(())) };
        let data = Nest::default()
            .with(IFLA_VXLAN_ID, &vni.to_ne_bytes())
            .with(IFLA_VXLAN_LOCAL, &local.octets())
            .with(IFLA_VXLAN_PORT, &4789_u16.to_be_bytes());
        let info = Nest::default().with(IFLA_INFO_KIND, b"vxlan\0").nest(IFLA_INFO_DATA, &data);
        let request = Request::link(Request::NEW_LINK, 0, 0, IFF_UP, IFF_UP)
            .with(IFLA_IFNAME, format!("{OTHER_TUNNEL}\0").as_bytes())
            .nest(IFLA_LINKINFO, &info);
        let made = self.rtnl.change(&request, rtnl::CREATE | rtnl::EXCLUSIVE);
        if made.is_ok() {
            self.other_tunnel = Some(self.namespace.link(OTHER_TUNNEL)?.index);
        }
        Ok(made)
    }

    pub(super) fn remove_other_tunnel(&mut self) -> Result<(), CompareError> {
        let Some(index) = self.other_tunnel.take() else { return Ok(()) };
        let request = Request::link(Request::DELETE_LINK, 0, index, 0, 0);
        self.rtnl.change(&request, 0).map_err(CompareError::io("delete the other vxlan device"))
    }

    /// An entry of the vxlan device's FDB; `network` is of a device that has several.
    pub(super) fn tunnel_entry(
        &mut self,
        mac: MacAddr,
        remote: IpAddr,
        network: Option<u32>,
        flags: u16,
    ) -> io::Result<()> {
        let IpAddr::V4(remote) = remote else { return Err(io::ErrorKind::InvalidInput.into()) };
        let index = self.port_index(UNDERLAY);
        let state = NUD_NOARP | NUD_PERMANENT;
        let is_router = self.neighbours.iter().any(|neighbour| neighbour.router && neighbour.mac == mac);
        let router = if is_router { NTF_ROUTER } else { 0 };
        let mut request = Request::neighbour(Request::NEW_NEIGHBOUR, BRIDGE_FAMILY, index, state, NTF_SELF | router)
            .with(NDA_LLADDR, &mac.octets())
            .with(NDA_DST, &remote.octets());
        if let Some(network) = network {
            request = request.with(NDA_SRC_VNI, &network.to_ne_bytes());
        }
        self.rtnl.change(&request, flags)
    }

    /// A device that does not learn is a port of the bridge that does not. With `learning` off no port does: weft's bridge learns
    /// from all or from none.
    pub(super) fn learning(&mut self, overlay: &Overlay) -> Result<(), CompareError> {
        if overlay.is_gpe() {
            return Ok(());
        }
        let is_off = |name: &str| overlay.options.get(name) == Some(&Value::Switch(false));
        if is_off("learning") {
            for port in 1..=PORTS {
                self.options(Part::Port, port, &Options::from([("learning".to_owned(), Value::Switch(false))]))?;
            }
        } else if !is_off("vxlan_learning") {
            return Ok(());
        }
        let index = self.port_index(UNDERLAY);
        self.set_port_attribute(index, IFLA_BRPORT_LEARNING, &[0]).map_err(CompareError::io("turn learning off"))
    }
}
