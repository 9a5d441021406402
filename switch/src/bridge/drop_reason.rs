//! Why a frame ends: one name for each way, the name an operator would say.

macro_rules! drop_reasons {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal,)*) => {
        /// Why a frame was not delivered. Counters are indexed by it; [`DropReason::name`] is stable and documented.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $(
                #[doc = concat!("`", $name, "`:", $doc, ".")]
                $variant,
            )*
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in `weft show drops` and in JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// One sentence for people: when it happens.
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc.trim_ascii(),)*
                }
            }

            /// The reason as an index of a counter array.
            #[inline]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

drop_reasons! {
    // what a frame from anywhere can be
    /// shorter than an Ethernet header, or a tag that is cut off
    Malformed = "malformed",
    /// the virtio-net header beside the frame contradicts the frame
    BadOffload = "bad_offload",
    /// the source address is multicast or all zeros
    SourceInvalid = "source_invalid",
    /// a reserved link-local group address (01-80-C2-00-00-0X) that a bridge keeps to itself
    ReservedGroup = "reserved_group",

    /// the port's `state` lets nothing pass, or learns only
    PortState = "port_state",
    /// the port is `locked`, and the source has no entry there that lets it in
    Locked = "locked",
    /// the source address is none that `port_security` of its port names
    MacSpoofed = "mac_spoofed",
    /// ARP or neighbour discovery in another's name, where `port_security` of its port knows the sender's
    ArpSpoofed = "arp_spoofed",
    /// an IP source that `port_security` does not give to the sender, or a packet that hides what it is
    IpSpoofed = "ip_spoofed",
    /// a router advertisement, a redirect or a DHCP server's message from a station to which `port_security` gives addresses
    RogueServer = "rogue_server",

    // VLANs
    /// an untagged frame on a trunk without `native`
    VlanUntagged = "vlan_untagged",
    /// a VLAN identifier that the trunk does not carry
    VlanNotMember = "vlan_not_member",
    /// VLAN identifier 4095, which is reserved
    VlanInvalid = "vlan_invalid",
    /// an inner 802.1Q tag where `inner_vlan = "drop"` forbids it
    InnerVlan = "inner_vlan",

    // the decision
    /// the destination is behind the port or VTEP that the frame came from
    SameEndpoint = "same_endpoint",
    /// the destination is the interface of one of the bridge's own packet ports, whose kernel has its own copy
    LocalDestination = "local_destination",
    /// flooded, but there was no other port or VTEP to take it
    NoFloodTarget = "no_flood_target",
    /// answered in the name of the station that was asked for, or nobody's business (`neigh_suppress`)
    NeighSuppressed = "neigh_suppressed",
    /// to a multicast group that nobody else is in, where the bridge snoops and somebody asks for members
    NoMcastMember = "no_mcast_member",
    /// a multicast IP packet that is cut off or has a wrong checksum, or a broken IGMP or MLD message, where the bridge snoops
    McastMalformed = "mcast_malformed",
    /// a report about a multicast group that `mcast_max_groups` of its port or `mcast_hash_max` has no room for
    McastFull = "mcast_full",
    /// learned behind a VTEP, but arrived from a VTEP (split horizon: never VTEP to VTEP)
    SplitHorizon = "split_horizon",
    /// both ports are `isolated`
    Isolated = "isolated",
    /// the destination's port is down or gone
    PortDown = "port_down",
    /// the port was taken out of the switch, or out of the bridge, while the frame was on its way
    PortRemoved = "port_removed",
    /// longer than the egress port's MTU allows
    EgressMtu = "egress_mtu",

    // writing to a port
    /// the port's queue in the kernel or in memory is full
    PortQueueFull = "port_queue_full",
    /// the kernel refused the frame on this port
    PortRefused = "port_refused",

    // from the underlay
    /// less than a VXLAN header
    VxlanTruncated = "vxlan_truncated",
    /// the I flag of the VXLAN header is clear
    VxlanNoVniFlag = "vxlan_no_vni_flag",
    /// less than a Geneve header, or less than the options that it announces
    GeneveTruncated = "geneve_truncated",
    /// a version of Geneve that is not 0
    GeneveVersion = "geneve_version",
    /// no bridge has this VNI, and `unknown_vni` names none
    VniUnknown = "vni_unknown",
    /// the bridge of this VNI has another encapsulation than the one that came
    EncapsulationDiffers = "encapsulation_differs",
    /// the VXLAN header has bits set that `reserved_bits` refuses
    VxlanReservedBits = "vxlan_reserved_bits",
    /// the P flag of the VXLAN-GPE header is clear, so that it says no protocol
    GpeNoProtocol = "gpe_no_protocol",
    /// a version of VXLAN-GPE that is not 0
    GpeVersion = "gpe_version",
    /// the VXLAN-GPE or Geneve header says that something else than Ethernet is inside
    TunnelNotEthernet = "tunnel_not_ethernet",
    /// the O flag of the VXLAN-GPE or Geneve header says that this is a message for the tunnel's end, not to be forwarded
    TunnelControl = "tunnel_control",
    /// the C flag of the Geneve header says that an option must be understood, and weft understands none
    GeneveCriticalOption = "geneve_critical_option",
    /// from a VTEP that nobody named, and `peers = "known"`
    VtepUnknown = "vtep_unknown",
    /// from a new VTEP when the table of VTEPs is full
    VtepTableFull = "vtep_table_full",
    /// a static entry says that the source is behind another VTEP
    SourceStatic = "source_static",
    /// no room for an inner Ethernet header
    InnerTruncated = "inner_truncated",
    /// the inner IP header is cut off or missing
    InnerIpTruncated = "inner_ip_truncated",
    /// a question about the path MTU, or an answer to one: for the switch itself
    PathMtuProbe = "path_mtu_probe",
    /// the outer header says "congestion experienced", the inner packet can't carry it (RFC 6040)
    EcnNotCapable = "ecn_not_capable",

    // to the underlay
    /// ARP or a neighbour solicitation that `proxy` keeps off the overlay, answered or not
    NeighProxied = "neigh_proxied",
    /// too long for the way to the VTEP; its sender was told by ICMP
    OversizeAnswered = "oversize_answered",
    /// too long for the way to the VTEP; its sender would have been told, but answers are limited to 1,000 a second for each port and 250 for each sender
    OversizeMuted = "oversize_muted",
    /// too long for the way to the VTEP, and not IP, which alone has a way to tell its sender
    OversizeNotIp = "oversize_not_ip",
    /// too long for the way to the VTEP; it may not be fragmented (or `oversize = "drop"`), and is none that is answered
    Oversize = "oversize",
    /// longer than a datagram or the underlay's interface takes
    UnderlayMtu = "underlay_mtu",
    /// the kernel knows no way to the VTEP
    UnderlayUnreachable = "underlay_unreachable",
    /// the underlay socket's queue is full, or a queueing discipline behind it
    UnderlayQueueFull = "underlay_queue_full",
    /// the kernel refused the datagram
    UnderlayRefused = "underlay_refused",
    /// the switch has no underlay
    UnderlayAbsent = "underlay_absent",
}

impl serde::Serialize for DropReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_indices_dense() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(!reason.explanation().trim().is_empty());
            assert_eq!(DropReason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
    }
}
