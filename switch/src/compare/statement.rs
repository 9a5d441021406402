//! What the kernel's bridge and vxlan devices do, statement by statement: what weft is to match, and what cases cite.
//!
//! The numbers are stable. Each statement was read in the kernel's source, seen on a running kernel, or both; a named case of
//! the catalogue shows that it is so on the kernel that runs it, and that weft does the same.

use serde::{Deserialize, Serialize};

/// What a case tests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cite {
    /// One of [`STATEMENTS`].
    Statement(u8),
    /// One of [`ROWS`].
    Row(u8),
    /// Something else that can be looked up.
    Text(String),
}

/// A numbered statement.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// Its number.
    pub number: u8,
    /// What is so.
    pub text: &'static str,
    /// Where: file and function of the kernel.
    pub source: &'static str,
}

/// A row of the table of what a vxlan device does with a packet that arrives.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number.
    pub number: u8,
    /// The packet.
    pub packet: &'static str,
    /// What becomes of it, and which counters of the device say so.
    pub result: &'static str,
}

const fn of(number: u8, source: &'static str, text: &'static str) -> Statement {
    Statement { number, text, source }
}

/// The statements, in the order of their numbers.
pub const STATEMENTS: &[Statement] = &[
    of(1, "br_input.c:br_handle_frame", "a frame from a multicast or all-zeros source is dropped and teaches nothing"),
    of(2, "br_input.c:br_handle_frame", "01-80-C2-00-00-00 is flooded without spanning tree"),
    of(3, "br_input.c:br_handle_frame", "..-01 (pause) never passes; group_fwd_mask can't have its bits 0 to 2 set"),
    of(
        4,
        "br_input.c:br_handle_frame",
        "..-02 to ..-0F pass only with their bit of group_fwd_mask; ..-10 is ordinary multicast",
    ),
    of(5, "br_input.c:__br_handle_local_finish", "a reserved frame that is kept still teaches its source"),
    of(
        6,
        "br_input.c:br_handle_frame",
        "only ports in learning or forwarding state pass frames on; learning learns, then drops",
    ),
    of(7, "br_input.c:br_handle_frame_finish", "the order: VLAN, locked, learn, multicast, state, ARP and ND, look-up"),
    of(
        8,
        "br_input.c:br_handle_frame_finish",
        "a locked port drops unknown sources, and those that are known elsewhere",
    ),
    of(9, "br_fdb.c:br_fdb_update", "the FDB's key is address and VLAN; with ageing 0 nothing is learned"),
    of(
        10,
        "br_fdb.c:br_fdb_update",
        "a source that is a port's own address is not learned, and its frame is forwarded",
    ),
    of(
        11,
        "br_fdb.c:br_fdb_update",
        "an address moves at once to where it was seen last, a static one too; a sticky one stays",
    ),
    of(12, "br_fdb.c:fdb_create", "at fdb_max_learned nothing more is learned, and frames are still forwarded"),
    of(
        13,
        "br_fdb.c:br_fdb_cleanup",
        "an entry lives for the ageing time since its address last sent, not since it was last sent to",
    ),
    of(14, "br_fdb.c:fdb_add_local", "a learned entry goes when a port with its address is added"),
    of(
        15,
        "br_fdb.c:br_fdb_add",
        "a user's entry without a VLAN counts in every VLAN of its port; the zero address is refused",
    ),
    of(16, "br_fdb.c:br_fdb_delete_by_port", "a port that goes down loses its learned entries, static ones stay"),
    of(17, "br_input.c:br_handle_frame_finish", "a frame to a port's own address is the host's and is not forwarded"),
    of(
        18,
        "br_forward.c:should_deliver",
        "known unicast back to its port, or to one that may not be reached, is dropped and not flooded",
    ),
    of(19, "br_forward.c:br_flood", "a hairpin port gets its own frames back, floods too"),
    of(20, "br_forward.c:br_flood", "flood, mcast_flood and bcast_flood each gate one kind of flooded frame"),
    of(21, "br_forward.c:br_flood", "a proxy_arp port gets no flooded frames at all"),
    of(22, "br_forward.c:br_skb_isolated", "isolated ports reach only those that are not, by unicast and by flooding"),
    of(23, "br_forward.c:br_forward", "backup_port takes the place of a port without carrier"),
    of(
        24,
        "br_forward.c:br_dev_queue_push_xmit",
        "longer than the egress MTU and a tag: dropped in silence; up to there it passes",
    ),
    of(25, "br_if.c:br_mtu_auto_adjust", "the bridge's MTU follows the smallest of its ports'"),
    of(
        26,
        "br_input.c:br_handle_frame_finish",
        "with snooping, groups flood until a querier is known, then go to members and routers",
    ),
    of(
        27,
        "br_vlan.c:__allowed_ingress",
        "with VLAN filtering untagged and priority-tagged frames take the PVID; other VLANs must be the port's",
    ),
    of(
        28,
        "br_vlan.c:br_handle_vlan",
        "a frame leaves by members of its VLAN only, without the tag where the membership is untagged",
    ),
    of(
        29,
        "br_vlan.c:recalculate_group_addr",
        "an 802.1ad bridge has its own group address and passes the customers' groups",
    ),
    of(
        30,
        "br_vlan.c:br_vlan_set_default_pvid",
        "default_pvid is the PVID of ports that are no members of it yet; 0 is none; by netlink it changes at any time",
    ),
    of(31, "br_vlan_tunnel.c", "vlan_tunnel maps tunnel ids to VLANs for untagged frames, and back"),
    of(
        32,
        "br_arp_nd_proxy.c",
        "with neigh_suppress, requests for known neighbours are answered and kept off the port",
    ),
    of(
        33,
        "vxlan_core.c:vxlan_rcv",
        "a packet's checks come in this order: header, VNI, reserved bits, source and learning, inner header, ECN",
    ),
    of(34, "vxlan_core.c:vxlan_rcv", "the bytes that are counted are those of the frame without its Ethernet header"),
    of(
        35,
        "vxlan_core.c:vxlan_vs_find_vni",
        "the VNI is looked up by UDP port alone; the outer source is not asked for",
    ),
    of(
        36,
        "vxlan_core.c:vxlan_snoop",
        "the outer source is learned, not its port; a new one takes the entry over; a static entry keeps it",
    ),
    of(37, "vxlan_core.c:vxlan_snoop", "a packet from the entry's source renews it"),
    of(
        38,
        "vxlan_core.c:vxlan_parse_gpe_proto",
        "GPE needs its P bit, version 0, no O bit and a next protocol that is known",
    ),
    of(
        39,
        "inet_ecn.h:__INET_ECN_decapsulate",
        "CE is copied inwards where the inner packet is capable, else the packet is dropped; ECT(1) is not copied",
    ),
    of(
        40,
        "vxlan_core.c:vxlan_xmit",
        "an unknown destination goes to the flood list; without one the frame is dropped",
    ),
    of(41, "vxlan_core.c:vxlan_xmit", "each VTEP of the flood list gets a copy"),
    of(
        42,
        "vxlan_core.c:vxlan_xmit_one",
        "the remote 0.0.0.0 means here: dropped, unless route short-circuit reached it",
    ),
    of(
        43,
        "vxlan_core.c:arp_reduce",
        "proxy consumes every ARP frame and neighbour solicitation, and answers those that it can",
    ),
    of(44, "vxlan_core.c:route_shortcircuit", "rsc routes frames to a router's entry by their inner destination"),
    of(
        45,
        "udp.h:udp_flow_src_port",
        "the source port is the flow's hash scaled into the range, whose last is never used",
    ),
    of(
        46,
        "vxlan_core.c:vxlan_xmit_one",
        "DF is clear by default; inherit sets it for IPv6 and for IPv4 with DF; set always",
    ),
    of(
        47,
        "vxlan_core.c:vxlan_xmit_one",
        "TTL and TOS are the options', the inner packet's, or the route's; ECN is always carried out",
    ),
    of(48, "vxlan_core.c:vxlan_build_skb", "datagrams have UDP checksums"),
    of(49, "vxlan_core.c:encap_bypass_if_local", "a remote that is this host's own is reached without the wire"),
    of(50, "vxlan_core.c:vxlan_xmit_one", "without a route the frame is dropped and counted"),
    of(
        51,
        "ip_tunnel_core.c:skb_tunnel_check_pmtu",
        "what is too large for the route is answered by ICMP towards its sender",
    ),
    of(
        52,
        "ip_tunnel_core.c:iptunnel_pmtud_build_icmp",
        "that answer is made only for DF, not for errors and groups, and is 576 octets at most",
    ),
    of(53, "vxlan_core.c:vxlan_xmit_one", "without DF the outer packet is cut in fragments"),
    of(54, "vxlan_core.c:vxlan_config_apply", "the device's MTU follows the device below, and is 1500 without one"),
    of(55, "vxlan_core.c:vxlan_stop", "a device that goes down forgets what it learned and keeps what a user added"),
];

const fn row(number: u8, packet: &'static str, result: &'static str) -> Row {
    Row { number, packet, result }
}

/// The rows of the table of what arrives, in order (vxlan_core.c: vxlan_rcv, vxlan_set_mac, vxlan_snoop).
pub const ROWS: &[Row] = &[
    row(1, "I flag clear, unknown VNI, or less than a VXLAN header", "dropped; no counter"),
    row(2, "any reserved bit set", "dropped; rx_frame_errors"),
    row(3, "inner source zero or multicast", "dropped if the device learns, without a counter; else accepted"),
    row(4, "inner source the device's own address", "dropped; no counter"),
    row(
        5,
        "inner source with a static entry at another VTEP",
        "dropped if the device learns, without a counter; else accepted",
    ),
    row(6, "inner frame of 0 to 13 octets", "dropped; no counter"),
    row(7, "inner IP header cut off or absent", "dropped; rx_length_errors"),
    row(8, "inner frame of 14 octets and an unknown type", "accepted"),
    row(9, "outer CE, inner Not-ECT", "dropped; rx_frame_errors"),
    row(10, "outer CE, inner ECT", "accepted; the inner packet says CE"),
    row(11, "outer ECT, inner Not-ECT", "accepted"),
    row(12, "outer CE, inner no IP", "accepted"),
    row(13, "the device is down", "dropped; no counter"),
];

impl Cite {
    /// As people write it: "3", "row 5", "RFC 7348 section 5".
    pub fn label(&self) -> String {
        match self {
            Self::Statement(number) => number.to_string(),
            Self::Row(number) => format!("row {number}"),
            Self::Text(text) => text.clone(),
        }
    }

    /// The kernel's file and function, or the text.
    pub fn source(&self) -> &str {
        match self {
            Self::Statement(number) => {
                STATEMENTS.iter().find(|statement| statement.number == *number).map_or("", |statement| statement.source)
            }
            Self::Row(_) => "vxlan_core.c:vxlan_rcv",
            Self::Text(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_gaps() {
        for (number, statement) in (1..).zip(STATEMENTS) {
            assert_eq!(statement.number, number);
        }
        for (number, row) in (1..).zip(ROWS) {
            assert_eq!(row.number, number);
        }
        assert_eq!(STATEMENTS.len(), 55);
    }
}
