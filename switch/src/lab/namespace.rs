//! One network namespace of a lab: its interfaces, addresses, routes, settings, and programs inside.

use std::{
    ffi::OsStr,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
    thread,
    time::Duration,
};

use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
    packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::LinkAttribute,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    },
};

use super::{Command, LabError, Output, State};
use crate::{
    control::{
        config::Cidr,
        link::{Link, LinkError, Links},
    },
    sys::netns::{self, Netns},
    wire::MacAddr,
};

/// A network namespace of a [`super::Lab`]. Cloning gives another handle to the same one.
///
/// A handle that outlives its lab keeps the nameless namespace alive until it is dropped.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    full_name: String,
    netns: Netns,
    /// The lab, which holds this in turn.
    lab: Weak<Mutex<State>>,
}

impl Namespace {
    pub(super) fn new(name: &str, full_name: &str, netns: Netns, lab: Weak<Mutex<State>>) -> Self {
        Self(Arc::new(Inner { name: name.to_owned(), full_name: full_name.to_owned(), netns, lab }))
    }

    /// What every namespace of a lab begins with.
    pub(super) fn prepare(&self) -> Result<(), LabError> {
        // Duplicate address detection would leave every IPv6 address unusable for a second or two. `default` is for the
        // interfaces that are yet to come, `all` weighs in with each of them; a kernel without IPv6 has neither.
        for scope in ["all", "default"] {
            if self.has_sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"))? {
                self.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0")?;
                self.sysctl(&format!("net.ipv6.conf.{scope}.dad_transmits"), "0")?;
            }
        }
        self.up("lo")
    }

    /// The name it was asked for by.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its name under `/run/netns`, as `ip netns` and weft's configuration take it.
    pub fn full_name(&self) -> &str {
        &self.0.full_name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        [netns::RUN_DIR, self.full_name()].iter().collect()
    }

    /// The namespace itself.
    pub fn netns(&self) -> &Netns {
        &self.0.netns
    }

    /// Runs `work` on a thread inside; see [`Netns::within`].
    ///
    /// # Errors
    /// The namespace can't be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        self.netns().within(work).map_err(|error| LabError::step(format!("work in {}", self.name()), error))
    }

    /// A program to be started inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(program, self.netns(), self.name(), self.0.lab.clone())
    }

    /// Runs a program with its arguments to its end, for a minute at most.
    ///
    /// # Errors
    /// It can't be started, or takes longer. How it ends is no error: see [`Output::ok`].
    pub fn run(&self, command: &[&str]) -> Result<Output, LabError> {
        const LIMIT: Duration = Duration::from_secs(60);
        let [program, args @ ..] = command else {
            return Err(LabError::Invalid(format!("no program to run in {}", self.name())));
        };
        self.command(program).args(args).timeout(LIMIT).output()
    }

    /// Asks or changes the kernel's interfaces over a netlink socket inside; waits for the answer.
    ///
    /// # Errors
    /// What `work` says, or that there can be no such socket.
    pub fn links<T: Send>(&self, work: impl AsyncFnOnce(&Links) -> Result<T, LinkError> + Send) -> Result<T, LabError> {
        let visit = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let runtime = runtime.map_err(|error| LabError::step("start a runtime", error))?;
            runtime.block_on(async { Ok(work(&Links::open(self.netns())?).await?) })
        };
        // On a thread of its own because the caller's may be driving a runtime already, and those don't nest.
        thread::scope(|scope| {
            let visitor = thread::Builder::new().name("lab-netlink".into()).spawn_scoped(scope, visit);
            let visitor = visitor.map_err(|error| LabError::step("start a thread", error))?;
            visitor.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
        })
    }

    /// An interface as it is now.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn link(&self, interface: &str) -> Result<Link, LabError> {
        self.links(async |links| links.by_name(interface).await)
    }

    /// Adds an address with its prefix length, "10.0.0.1/24". It can be used at once.
    ///
    /// # Errors
    /// It is no address, the interface has it already, or there is no such interface.
    pub fn address(&self, interface: &str, address: &str) -> Result<(), LabError> {
        let cidr = parse_cidr(address)?;
        self.links(async |links| links.add_address_without_dad(interface, cidr).await)
    }

    /// Sets an interface up.
    pub fn up(&self, interface: &str) -> Result<(), LabError> {
        self.links(async |links| links.set_up(interface, true).await)
    }

    /// Sets an interface down.
    pub fn down(&self, interface: &str) -> Result<(), LabError> {
        self.links(async |links| links.set_up(interface, false).await)
    }

    /// Sets an interface's MTU.
    pub fn mtu(&self, interface: &str, mtu: u32) -> Result<(), LabError> {
        self.links(async |links| links.set_mtu(interface, mtu).await)
    }

    /// Limits how many segments a super-frame may have that leaves by an interface; longer ones the kernel cuts before it
    /// (`net/core/dev.c: gso_features_check`). With 1, whoever is at the other end sees wire frames only.
    ///
    /// # Errors
    /// There is no such interface, or the kernel doesn't take the number.
    pub fn gso_max_segments(&self, interface: &str, count: u32) -> Result<(), LabError> {
        self.links(async |links| {
            let message = LinkMessageBuilder::<LinkUnspec>::new();
            let limit = message.append_extra_attribute(LinkAttribute::GsoMaxSegs(count));
            links.change(interface, limit, format!("limit super-frames to {count} segments")).await
        })
    }

    /// Sets an interface's hardware address.
    pub fn mac(&self, interface: &str, mac: MacAddr) -> Result<(), LabError> {
        self.links(async |links| links.set_mac(interface, mac).await)
    }

    /// Deletes an interface; of a veth pair, both ends.
    pub fn delete(&self, interface: &str) -> Result<(), LabError> {
        self.links(async |links| links.delete(interface).await)
    }

    /// Moves an interface to another namespace, under another name there. It comes down on the way and loses its addresses.
    pub fn hand_over(&self, interface: &str, to: &Self, name: &str) -> Result<(), LabError> {
        let attempt = format!("move it to {} as {name}", to.name());
        self.links(async |links| {
            // By its index, since a name in the message is the one that it is to have.
            let index = links.by_name(interface).await?.index;
            let moved = LinkUnspec::new_with_index(index).name(name).setns_by_fd(to.netns().as_fd().as_raw_fd());
            links.acknowledged(interface, RouteNetlinkMessage::NewLink(moved.build()), 0, attempt).await
        })
    }

    /// Makes an interface a port of a bridge.
    pub fn enslave(&self, interface: &str, bridge: &str) -> Result<(), LabError> {
        self.links(async |links| {
            let change = LinkMessageBuilder::<LinkUnspec>::new().controller(links.by_name(bridge).await?.index);
            links.change(interface, change, format!("make it a port of {bridge}")).await
        })
    }

    /// Takes an interface out of its bridge.
    pub fn release(&self, interface: &str) -> Result<(), LabError> {
        let change = LinkMessageBuilder::<LinkUnspec>::new().nocontroller();
        self.links(async |links| links.change(interface, change, "take it out of its bridge".to_owned()).await)
    }

    /// Adds a route to "10.1.0.0/16" or "default" by way of a neighbour.
    ///
    /// # Errors
    /// The destination is no prefix, `via` is of the other address family, or no interface reaches it.
    pub fn route(&self, destination: &str, via: IpAddr) -> Result<(), LabError> {
        let prefix = match (destination, via) {
            ("default", IpAddr::V4(_)) => Cidr { address: Ipv4Addr::UNSPECIFIED.into(), prefix_len: 0 },
            ("default", IpAddr::V6(_)) => Cidr { address: Ipv6Addr::UNSPECIFIED.into(), prefix_len: 0 },
            _ => parse_cidr(destination)?,
        };
        let message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(prefix.address, prefix.prefix_len)
            .and_then(|route| route.gateway(via))
            .map_err(|error| LabError::Invalid(format!("no route to {destination} via {via}: {error}")))?
            .build();
        self.links(async |links| {
            let request = RouteNetlinkMessage::NewRoute(message);
            links.acknowledged(destination, request, NLM_F_CREATE | NLM_F_EXCL, format!("add a route via {via}")).await
        })
    }

    /// Tells the hardware address of a neighbour for good, so that nobody asks for it on the wire.
    pub fn neighbour(&self, interface: &str, address: IpAddr, mac: MacAddr) -> Result<(), LabError> {
        self.links(async |links| {
            let mut message = NeighbourMessage::default();
            message.header.family = family_of(address);
            message.header.ifindex = links.by_name(interface).await?.index;
            message.header.state = NeighbourState::Permanent;
            message.attributes.push(NeighbourAttribute::Destination(neighbour_address(address)));
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
            let request = RouteNetlinkMessage::NewNeighbour(message);
            let attempt = format!("add neighbour {address} at {mac}");
            links.acknowledged(interface, request, NLM_F_CREATE | NLM_F_REPLACE, attempt).await
        })
    }

    /// Adds a VTEP to an FDB entry of a vxlan device: `bridge fdb append MAC dev DEVICE dst REMOTE`.
    ///
    /// With [`MacAddr::ZERO`] that is the flood list; any other address has at most one VTEP.
    pub fn fdb_append(&self, device: &str, mac: MacAddr, remote: IpAddr) -> Result<(), LabError> {
        self.links(async |links| {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Bridge;
            message.header.ifindex = links.by_name(device).await?.index;
            message.header.state = NeighbourState::Permanent;
            message.header.flags = NeighbourFlags::Own;
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
            message.attributes.push(NeighbourAttribute::Destination(neighbour_address(remote)));
            let request = RouteNetlinkMessage::NewNeighbour(message);
            let attempt = format!("add {remote} to the FDB entry of {mac}");
            links.acknowledged(device, request, NLM_F_CREATE | NLM_F_APPEND, attempt).await
        })
    }

    /// Adds a static entry to a bridge's FDB: `bridge fdb add MAC dev PORT master static`.
    pub fn fdb_static(&self, port: &str, mac: MacAddr) -> Result<(), LabError> {
        self.links(async |links| {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Bridge;
            message.header.ifindex = links.by_name(port).await?.index;
            // NUD_NOARP is what the bridge takes for "static, not local" (`net/bridge/br_fdb.c:fdb_add_entry`).
            message.header.state = NeighbourState::Noarp;
            message.header.flags = NeighbourFlags::Controller;
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
            let request = RouteNetlinkMessage::NewNeighbour(message);
            links.acknowledged(port, request, NLM_F_CREATE | NLM_F_EXCL, format!("add an FDB entry for {mac}")).await
        })
    }

    /// Sets a kernel parameter, "net.ipv4.ip_forward"; a dot in an interface's name is written as a slash, as sysctl(8)
    /// wants it.
    ///
    /// # Errors
    /// There is no such parameter, or it doesn't take this value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        // What `/proc/sys/net` shows depends on the namespace of the thread that opens the file.
        self.within(|| fs::write(sysctl_path(key), value))?
            .map_err(|error| LabError::step(format!("set {key} to {value} in {}", self.name()), error))
    }

    /// A kernel parameter, without the line's end.
    ///
    /// # Errors
    /// There is no such parameter.
    pub fn sysctl_value(&self, key: &str) -> Result<String, LabError> {
        self.within(|| fs::read_to_string(sysctl_path(key)))?
            .map(|text| text.trim_end().to_owned())
            .map_err(|error| LabError::step(format!("read {key} in {}", self.name()), error))
    }

    /// Keeps IPv6 off the interfaces of this namespace, those to come above all, so that its kernel sends nothing of its
    /// own accord.
    ///
    /// # Errors
    /// The kernel refuses; that it has no IPv6 is none.
    pub fn without_ipv6(self) -> Result<Self, LabError> {
        for scope in ["all", "default"] {
            let key = format!("net.ipv6.conf.{scope}.disable_ipv6");
            if self.has_sysctl(&key)? {
                self.sysctl(&key, "1")?;
            }
        }
        Ok(self)
    }

    pub(super) fn has_sysctl(&self, key: &str) -> Result<bool, LabError> {
        self.within(|| sysctl_path(key).exists())
    }

    /// Keeps netfilter off the kernel's bridges. By default they hand IP packets to it, which drops malformed ones and
    /// reassembles and fragments others: a different device from the bridge. Done by [`Namespace::bridge`] already.
    pub fn bridge_nf_off(&self) -> Result<(), LabError> {
        for table in ["iptables", "ip6tables", "arptables"] {
            let key = format!("net.bridge.bridge-nf-call-{table}");
            // Without the module br_netfilter there is nothing to turn off.
            if self.has_sysctl(&key)? {
                self.sysctl(&key, "0")?;
            }
        }
        Ok(())
    }
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn neighbour_address(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}

fn sysctl_path(key: &str) -> PathBuf {
    let swapped: String = key
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    ["/proc/sys", &swapped].iter().collect()
}

fn parse_cidr(text: &str) -> Result<Cidr, LabError> {
    let parse = || -> Option<Cidr> {
        let (address, prefix_len) = text.split_once('/')?;
        let (address, prefix_len) = (address.parse::<IpAddr>().ok()?, prefix_len.parse().ok()?);
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix_len <= longest).then_some(Cidr { address, prefix_len })
    };
    parse().ok_or_else(|| LabError::Invalid(format!("{text:?} is no address with prefix length, such as 10.0.0.1/24")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_prefix_length_that_fits() {
        assert_eq!(parse_cidr("10.0.0.1/24").unwrap(), Cidr { address: [10, 0, 0, 1].into(), prefix_len: 24 });
        assert_eq!(parse_cidr("fd00::1/128").unwrap().prefix_len, 128);
        for text in ["10.0.0.1", "10.0.0.1/33", "10.0.0/24", "fd00::1/129", "/24", "10.0.0.1/", "10.0.0.1/-1"] {
            assert!(parse_cidr(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dots_in_interface_names_are_written_as_slashes() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward").to_str(), Some("/proc/sys/net/ipv4/ip_forward"));
        let path = sysctl_path("net.ipv6.conf.eth0/10.disable_ipv6");
        assert_eq!(path.to_str(), Some("/proc/sys/net/ipv6/conf/eth0.10/disable_ipv6"));
    }
}
