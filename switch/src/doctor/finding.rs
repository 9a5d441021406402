//! What doctor can find wrong: one stable code for each kind of fault.
//!
//! A code names the cause, not the symptom: many causes make a ping fail, and each has a code of its own. Labs name the code
//! of each fault that they inject (`finding = "route-missing"`); JSON and scripts match on it.

use std::{fmt, str::FromStr};

macro_rules! findings {
    ($(#[doc = $doc:literal] $variant:ident = $code:literal,)*) => {
        /// A kind of fault. [`Finding::code`] is stable and documented.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Finding {
            $(
                #[doc = concat!("`", $code, "`:", $doc, ".")]
                $variant,
            )*
        }

        impl Finding {
            /// Every kind, in the order of the runbook.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in `weft doctor`, in JSON and in labs.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// One line for people: what is so.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc.trim_ascii(),)*
                }
            }
        }
    };
}

findings! {
    // interfaces
    /// an interface of the way is set down
    LinkDown = "link-down",
    /// an interface is up, but has no carrier: the cable's other end is down or gone, or nobody has opened the tap
    NoCarrier = "no-carrier",
    /// a namespace has no interface that leads out of it
    InterfaceMissing = "interface-missing",
    /// the two ends of a cable have different MTUs, so that one sends what the other drops
    MtuMismatch = "mtu-mismatch",
    /// an interface's MTU is larger than what the way behind it carries
    MtuTooLarge = "mtu-too-large",
    /// an interface's MTU is smaller than what the others on its segment send
    MtuTooSmall = "mtu-too-small",
    /// an interface drops or delays frames on purpose: a netem or other qdisc
    QdiscLoss = "qdisc-loss",

    // addresses and neighbours
    /// a host lacks the address that others reach it by, or has no address at all
    AddressMissing = "address-missing",
    /// an IPv6 address was found to be somebody else's, or is still being looked into, and can't be used
    AddressUnusable = "address-unusable",
    /// an address has another prefix length than its neighbours on the segment: one takes the other for remote
    PrefixMismatch = "prefix-mismatch",
    /// two interfaces on one segment have the same IP address
    DuplicateIp = "duplicate-ip",
    /// two interfaces on one segment have the same MAC address
    DuplicateMac = "duplicate-mac",
    /// a permanent or stale neighbour entry names a MAC that is not the neighbour's
    NeighbourWrong = "neighbour-wrong",
    /// nobody answers for a neighbour's address
    NeighbourFailed = "neighbour-failed",
    /// an interface asks nobody (NOARP), and there is no entry for the neighbour
    NeighbourMissing = "neighbour-missing",
    /// an interface answers ARP for addresses that are others' (`proxy_arp`), and draws their traffic
    ProxyArpOn = "proxy-arp-on",
    /// a host's gateway can only be reached if the next hop answers for it (`proxy_arp`), which it does not
    ProxyArpOff = "proxy-arp-off",
    /// a host doesn't answer ARP for its own address (`arp_ignore`, `arp_filter`, NOARP)
    ArpIgnored = "arp-ignored",

    // routes
    /// there is no route to the destination
    RouteMissing = "route-missing",
    /// the destination has no route back
    ReturnRouteMissing = "return-route-missing",
    /// the route is a blackhole, unreachable, prohibit or throw one
    RouteBlackhole = "route-blackhole",
    /// the route leads to a gateway or interface behind which the destination is not
    RouteWrong = "route-wrong",
    /// a policy rule takes the packet to another table, or drops it
    RuleDiverts = "rule-diverts",
    /// packets go round between hosts until their TTL ends
    RouteLoop = "route-loop",
    /// the way leads through a host that does not forward (`ip_forward`, `forwarding`)
    ForwardingOff = "forwarding-off",
    /// the receiver drops what it would not send back by the same interface (`rp_filter`)
    RpFilter = "rp-filter",
    /// the host is told not to answer pings (`icmp_echo_ignore_all`)
    EchoIgnored = "echo-ignored",

    // bridges
    /// an interface whose other end should meet a bridge is no port of one
    BridgePortMissing = "bridge-port-missing",
    /// the two hosts are on bridges that are not connected
    BridgeWrong = "bridge-wrong",
    /// a bridge's port is not in the state forwarding (spanning tree, or set by hand)
    BridgePortBlocked = "bridge-port-blocked",
    /// both ports are isolated, and so don't reach each other
    BridgePortIsolated = "bridge-port-isolated",
    /// a port is locked, and its host has no entry that lets it in
    BridgePortLocked = "bridge-port-locked",
    /// a port gets no broadcast, so that nobody behind it is found
    BridgeFloodOff = "bridge-flood-off",
    /// the FDB has no entry for an address, and such frames are not flooded to where it is
    FdbEntryMissing = "fdb-entry-missing",
    /// an FDB entry points elsewhere than to where the address is
    FdbEntryWrong = "fdb-entry-wrong",
    /// a bridge's port doesn't carry the VLAN that the frame is in
    VlanMissing = "vlan-missing",
    /// two hosts that are to meet are in different VLANs, or a port's untagged frames are in the wrong one (PVID)
    VlanMismatch = "vlan-mismatch",
    /// a bridge does not send a multicast group to a port behind which it is wanted (`mcast_flood`, snooping)
    McastFiltered = "mcast-filtered",
    /// frames between ports of a bridge go through the host's IP filter (br_netfilter), which drops them
    BridgeNetfilter = "bridge-netfilter",

    // macvlan, ipvlan
    /// the mode of a macvlan keeps its children apart (private, vepa without a reflecting switch, passthru)
    MacvlanMode = "macvlan-mode",
    /// a host and its own macvlan or ipvlan child don't reach each other
    MacvlanParent = "macvlan-parent",
    /// the mode or a flag of an ipvlan keeps its children apart
    IpvlanMode = "ipvlan-mode",

    // filters and translation
    /// a rule or a policy of nftables or iptables drops or rejects the packet
    NftDrop = "nft-drop",
    /// packets leave with an address that the other side has no way back to: no masquerade or SNAT
    NatMissing = "nat-missing",
    /// an address translation leads elsewhere than to where the service is
    NatWrong = "nat-wrong",
    /// the table of connections is full, and new ones are dropped
    ConntrackFull = "conntrack-full",
    /// a tc filter drops the packet, or sends it elsewhere
    TcDrop = "tc-drop",
    /// the eBPF program that should carry the packet is not attached
    EbpfMissing = "ebpf-missing",
    /// the eBPF program's map lacks the destination, or leads elsewhere
    EbpfMapWrong = "ebpf-map-wrong",

    // overlay
    /// a VTEP's host has neither a tunnel device nor a weft
    TunnelMissing = "tunnel-missing",
    /// there is no way through the underlay to a remote VTEP
    UnderlayRouteMissing = "underlay-route-missing",
    /// the tunnel's UDP port is filtered on the way
    UdpFiltered = "udp-filtered",
    /// the tunnel's local address is on no interface of its host
    VtepAddressMissing = "vtep-address-missing",
    /// the tunnel's UDP port is another process's socket
    VtepPortTaken = "vtep-port-taken",
    /// nobody listens on the tunnel's UDP port at the remote VTEP
    VtepSilent = "vtep-silent",
    /// two VTEPs use different UDP ports
    VtepPortMismatch = "vtep-port-mismatch",
    /// two VTEPs that are to meet use different VNIs
    VniMismatch = "vni-mismatch",
    /// two VTEPs wrap frames in different ways (VXLAN, its GBP or GPE extension, Geneve)
    EncapsulationMismatch = "encapsulation-mismatch",
    /// a remote VTEP's address is wrong: nobody has it, or somebody else
    VtepRemoteWrong = "vtep-remote-wrong",
    /// the flood list lacks a VTEP, so that nobody behind it is found
    VtepRemoteMissing = "vtep-remote-missing",
    /// weft drops what comes from a VTEP that nobody named (`peers = "known"`)
    VtepUnknownPeer = "vtep-unknown-peer",
    /// the tunnel's TTL ends on the way
    TtlTooSmall = "ttl-too-small",
    /// large packets vanish on the way without an answer
    PathMtuBlackHole = "path-mtu-black-hole",
    /// UDP or TCP checksums are wrong, or missing where they may not: an offload that the way can't do, ends that disagree
    ChecksumOffload = "checksum-offload",
    /// weft drops frames of this way, and says why
    WeftDrops = "weft-drops",

    // processes
    /// nobody listens on the port that is asked for, or only on another address
    NotListening = "not-listening",
    /// a process that should be there is not: a switch, a daemon
    ProcessMissing = "process-missing",
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// There is no finding of this code.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("doctor has no finding `{0}`")]
pub struct UnknownFinding(String);

impl FromStr for Finding {
    type Err = UnknownFinding;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|finding| finding.code() == code).ok_or_else(|| UnknownFinding(code.to_owned()))
    }
}

impl serde::Serialize for Finding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> serde::Deserialize<'de> for Finding {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        code.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_guide_has_a_row_for_each() {
        let guide = include_str!("../../docs/doctor.md");
        for finding in Finding::ALL {
            assert!(guide.contains(&format!("| `{}` | {} |", finding.code(), finding.text())), "{finding}");
        }
    }

    #[test]
    fn codes_are_kebab_case_unique_and_read_back() {
        let mut seen = HashSet::new();
        for finding in Finding::ALL {
            let code = finding.code();
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{code}");
            assert!(seen.insert(code), "{code} twice");
            assert_eq!(code.parse(), Ok(*finding));
            assert!(!finding.text().is_empty() && !finding.text().ends_with('.'), "{code}");
        }
        let error = "route-mising".parse::<Finding>().unwrap_err();
        assert_eq!(error.to_string(), "doctor has no finding `route-mising`");
    }
}
