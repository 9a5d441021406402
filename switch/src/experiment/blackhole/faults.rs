//! The classic faults, each with its scene and its remedies.

use serde::Serialize;
use weft_vxlan::pmtu::Policy;

use super::symptoms::Symptoms;
use crate::experiment::{
    cable::{CableSettings, Middlebox},
    cell::{DfPolicy, Underlay},
    scene::{Link, Plan, VtepPlan},
    traffic::tcp::Hears,
};

/// A fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it is called on the command line and in JSON.
    pub name: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What is wrong, and how it comes to be so.
    pub told: &'static str,
    /// What a user says who has it.
    pub complaint: &'static str,
    /// Its scene.
    pub plan: Plan,
    /// Whether the sender of the transfer hears ICMP.
    pub hears: Hears,
    /// What is seen while it lasts.
    pub expected: Expected,
    /// What ends it.
    pub remedies: Vec<Remedy>,
}

/// Something that ends a fault, or the part of it that it can.
#[derive(Clone, Debug)]
pub struct Remedy {
    /// What is done: a line of configuration, a command.
    pub name: &'static str,
    /// Why it helps, and what it costs.
    pub told: &'static str,
    /// The scene with it.
    pub plan: Plan,
    /// What is seen then.
    pub expected: Expected,
}

/// What gets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Expected {
    /// Small pings are answered.
    pub small: bool,
    /// Pings as large as the station's MTU are answered.
    pub large: bool,
    /// The transfer comes to its end.
    pub tcp: bool,
}

impl Expected {
    const ALL: Self = Self { small: true, large: true, tcp: true };
    const SMALL: Self = Self { small: true, large: false, tcp: false };
    const SMALL_AND_TCP: Self = Self { small: true, large: false, tcp: true };
    const NOTHING: Self = Self { small: false, large: false, tcp: false };

    /// Whether it is what was seen. The first ping may be lost to something that is being found out.
    pub const fn are(self, seen: &Symptoms) -> bool {
        (seen.small.answered > 0) == self.small
            && (seen.large.answered > 0) == self.large
            && seen.tcp.is_whole() == self.tcp
    }
}

const ETHERNET: u32 = 1500;
/// What fits an underlay of 1500 bytes, and one of 1400.
const FITS: u16 = 1450;
const FITS_MIDDLE: u16 = 1350;

/// All faults, in the order in which they are told.
pub fn all() -> Vec<Fault> {
    vec![middle_link(), too_large_inside(), wrong_port_mtu(), spoiled_checksums()]
}

fn plan(vteps: [VtepPlan; 2]) -> Plan {
    Plan {
        underlay: Underlay::Ipv4,
        underlay_mtu: ETHERNET,
        middle_mtu: ETHERNET,
        vteps,
        cables: Vec::new(),
        workers: 1,
        is_dead: false,
    }
}

fn both(vtep: VtepPlan) -> [VtepPlan; 2] {
    [vtep.clone(), vtep]
}

fn middle_link() -> Fault {
    let filter = CableSettings { middlebox: Middlebox::IcmpFilter, ..CableSettings::default() };
    let with = |vtep: VtepPlan| Plan {
        middle_mtu: 1400,
        cables: vec![(Link::Left, filter), (Link::Right, filter)],
        ..plan(both(vtep))
    };
    let remedy = |name, told, plan| Remedy { name, told, plan, expected: Expected::ALL };
    Fault {
        name: "middle-link",
        title: "A smaller link in the middle, and a firewall that eats ICMP",
        told: "Both hosts have links of 1500 bytes, and between their routers is one of 1400: a VPN, a provider's tunnel. \
               The router says so in ICMP, as it should (RFC 1191), but a firewall before each host lets no ICMP pass. weft \
               measures the way to each VTEP by itself; here it was told not to: path_mtu = \"assume\".",
        complaint: "\"ping works, ssh logs in, and hangs at the first long output.\"",
        plan: with(VtepPlan::weft()),
        hears: Hears::Icmp,
        expected: Expected::SMALL,
        remedies: vec![
            Remedy {
                name: "[vtep] path_mtu = \"measure\", on both hosts: weft's default",
                told: "The wefts send each other packets of many sizes and see which arrive: no ICMP is needed. A few seconds later \
                       the stations are told what fits, and TCP goes on. A ping that insists on its size is refused, with the size \
                       that fits.",
                plan: with(VtepPlan { path_mtu: Policy::Measure, ..VtepPlan::weft() }),
                expected: Expected::SMALL_AND_TCP,
            },
            remedy(
                "ip link set u0 mtu 1400, on both hosts",
                "The hosts are told the truth. weft takes its ports' MTU from it, and answers what is larger.",
                Plan { underlay_mtu: 1400, ..with(VtepPlan::weft()) },
            ),
            remedy(
                "[[port]] mtu = 1350, on both hosts",
                "The stations send nothing that is too large. Every station of the bridge must have it.",
                with(VtepPlan { port_mtu: Some(FITS_MIDDLE), ..VtepPlan::weft() }),
            ),
            remedy(
                "[vtep] df = \"unset\", on both hosts",
                "The router may cut the outer packets. It works, and costs: every large packet is two, and both are lost if one is.",
                with(VtepPlan { df: DfPolicy::Unset, ..VtepPlan::weft() }),
            ),
        ],
    }
}

fn too_large_inside() -> Fault {
    let oversized = || VtepPlan { port_mtu: Some(1500), ..VtepPlan::weft() };
    Fault {
        name: "1500-inside-1500",
        title: "1500 bytes inside 1500 bytes",
        told: "Somebody gave the stations Ethernet's usual MTU, and the underlay has the same: 50 bytes of headers have no room. \
               weft answers what is too large with ICMP, but this sender hears none, as behind many a firewall.",
        complaint: "\"Small pages load, large ones never do.\"",
        plan: plan(both(oversized())),
        hears: Hears::Nothing,
        expected: Expected::SMALL,
        remedies: vec![
            Remedy {
                name: "[[bridge]] mss_clamp = true, on both hosts",
                told: "weft lowers the segment size that both ends of a TCP connection agree on. That is TCP alone: a large ping \
                       still does not fit.",
                plan: plan(both(VtepPlan { mss_clamp: true, ..oversized() })),
                expected: Expected::SMALL_AND_TCP,
            },
            Remedy {
                name: "no [[port]] mtu: weft's default, 1450",
                told: "The stations' own kernels keep to what fits.",
                plan: plan(both(VtepPlan { port_mtu: None, ..oversized() })),
                expected: Expected::ALL,
            },
            Remedy {
                name: "an underlay of 1550 bytes",
                told: "Jumbo frames below make room for Ethernet's usual MTU above, if every link has them.",
                plan: Plan { underlay_mtu: 1550, middle_mtu: 1550, ..plan(both(oversized())) },
                expected: Expected::ALL,
            },
        ],
    }
}

fn wrong_port_mtu() -> Fault {
    let of = |left, right| {
        let vtep = |mtu| VtepPlan { port_mtu: Some(mtu), ..VtepPlan::weft() };
        plan([vtep(left), vtep(right)])
    };
    Fault {
        name: "wrong-port-mtu",
        title: "Two stations of one network with different MTUs",
        told: "The left station has an MTU of 1450, the right one 1300. In one Ethernet there is no router between them that \
               could say \"too big\": what is longer than the receiver's MTU ends at its port, silently for both. TCP alone \
               works, since each end tells the other its segment size.",
        complaint: "\"The web works, but large UDP (DNS, VPN, NFS) and large pings vanish.\"",
        plan: of(FITS, 1300),
        hears: Hears::Icmp,
        expected: Expected::SMALL_AND_TCP,
        remedies: vec![Remedy {
            name: "the same [[port]] mtu everywhere, or none",
            told: "All stations of a bridge must have one MTU; weft's default gives them that.",
            plan: of(FITS, FITS),
            expected: Expected::ALL,
        }],
    }
}

fn spoiled_checksums() -> Fault {
    let spoiler = CableSettings { middlebox: Middlebox::ChecksumSpoiler, ..CableSettings::default() };
    let with = |vtep: VtepPlan, is_dead| Plan { cables: vec![(Link::Middle, spoiler)], is_dead, ..plan(both(vtep)) };
    Fault {
        name: "checksum",
        title: "A middlebox that spoils outer UDP checksums",
        told: "Something on the way rewrites UDP and gets the checksum wrong: broken offloads of a card, broken NAT. The \
               receiving kernel throws every datagram away before weft could read it, whatever its size. weft reads the \
               kernel's counter and shows it.",
        complaint: "\"The tunnel is up, tcpdump sees the packets come in, and nothing arrives.\"",
        plan: with(VtepPlan::weft(), true),
        hears: Hears::Icmp,
        expected: Expected::NOTHING,
        remedies: vec![Remedy {
            name: "[vtep] udpcsum = false, on both hosts",
            told: "RFC 7348 allows outer checksums of zero over IPv4, which nobody may touch (RFC 768); the inner packets have their own. \
                   It costs speed: the kernel then takes one datagram a time.",
            plan: with(VtepPlan { udp_checksum: false, ..VtepPlan::weft() }, false),
            expected: Expected::ALL,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_a_remedy() {
        let faults = all();
        let mut names: Vec<_> = faults.iter().map(|fault| fault.name).collect();
        names.dedup();
        assert_eq!(names.len(), faults.len());
        assert!(faults.iter().all(|fault| !fault.remedies.is_empty()));
        for fault in faults {
            assert_ne!(fault.expected, Expected::ALL, "{} is a fault", fault.name);
            for remedy in &fault.remedies {
                assert_ne!(remedy.expected, fault.expected, "{} changes something", remedy.name);
            }
        }
    }
}
