//! What a host's weft is told.

use std::fmt::Write;

use weft_vxlan::{encapsulation::Encapsulation, pmtu::Policy};

use super::{Plan, STATION_INTERFACE, VNI, host_address, station_address, station_mac};
use crate::{
    control::config::{PATH_MTU_WORDS, word_of},
    experiment::cell::{DfPolicy, Engine, Offload, Oversize, Tunnel},
};

/// One host's end of the tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VtepPlan {
    /// Who carries the frames.
    pub engine: Engine,
    /// How they are wrapped.
    pub tunnel: Tunnel,
    /// MTU of the station's interface; `None`: what weft finds to fit. The kernel's devices must be told.
    pub port_mtu: Option<u16>,
    /// Whether the port has offloads.
    pub offload: Offload,
    /// The outer DF bit.
    pub df: DfPolicy,
    /// What becomes of IPv4 without DF that is too long.
    pub oversize: Oversize,
    /// Whether TCP is held to segments that fit.
    pub mss_clamp: bool,
    /// Whether UDP checksums are sent.
    pub udp_checksum: bool,
    /// What the path MTU goes by. If it is measured, probes are on the wire among the traffic.
    pub path_mtu: Policy,
}

impl VtepPlan {
    /// A weft as it is if nobody says anything, but that it takes the link's MTU for the path's: what is counted on the wire
    /// is the traffic's.
    pub const fn weft() -> Self {
        Self {
            engine: Engine::Weft,
            tunnel: Tunnel::VXLAN,
            port_mtu: None,
            offload: Offload::On,
            df: DfPolicy::Set,
            oversize: Oversize::Fragment,
            mss_clamp: false,
            udp_checksum: true,
            path_mtu: Policy::Assume,
        }
    }
}

/// The configuration of the weft on a host, whose station's namespace is `station`. What is weft's default is not said.
pub(super) fn text(plan: &Plan, side: usize, station: &str) -> String {
    let VtepPlan { engine: _, tunnel, port_mtu, offload, df, oversize, mss_clamp, udp_checksum, path_mtu } =
        &plan.vteps[side];
    let local = host_address(plan.underlay, side);
    let remote = host_address(plan.underlay, 1 - side);
    let mut text = format!("[switch]\nworkers = {}\n\n[vtep]\naddress = \"{local}\"\n", plan.workers);
    if *path_mtu != Policy::Measure {
        let _ = writeln!(text, "path_mtu = \"{}\"", word_of(PATH_MTU_WORDS, path_mtu));
    }
    if *df != DfPolicy::Set {
        let _ = writeln!(text, "df = \"{df}\"");
    }
    if *oversize != Oversize::Fragment {
        let _ = writeln!(text, "oversize = \"{oversize}\"");
    }
    if !udp_checksum {
        let key = if local.is_ipv4() { "udpcsum = false" } else { "udp6zerocsumtx = true\nudp6zerocsumrx = true" };
        let _ = writeln!(text, "{key}");
    }
    if tunnel.encapsulation != Encapsulation::Vxlan {
        let _ = writeln!(text, "encapsulation = \"{}\"", tunnel.encapsulation.word());
    }
    let _ = write!(text, "\n[[bridge]]\nname = \"blue\"\nvni = {VNI}\nremotes = [\"{remote}\"]\n");
    text.push_str(&geneve_options(*tunnel));
    if *mss_clamp {
        text.push_str("mss_clamp = true\n");
    }
    let _ = write!(
        text,
        "\n[[port]]\nname = \"{STATION_INTERFACE}\"\nnetns = \"{station}\"\nbridge = \"blue\"\nmac = \"{}\"\naddress = [\"{}/24\"]\n",
        station_mac(side),
        station_address(side)
    );
    if let Some(mtu) = port_mtu {
        let _ = writeln!(text, "mtu = {mtu}");
    }
    if *offload == Offload::Off {
        text.push_str("offload = false\n");
    }
    text
}

fn geneve_options(tunnel: Tunnel) -> String {
    let option = |(kind, data): (usize, Vec<u8>)| {
        let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{ class = 0xff01, type = {}, data = \"{data}\" }}", kind + 1)
    };
    let options: Vec<_> = tunnel.options().into_iter().enumerate().map(option).collect();
    if options.is_empty() { String::new() } else { format!("geneve_option = [{}]\n", options.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::config::Config, experiment::cell::Underlay};

    fn plan(vtep: VtepPlan, underlay: Underlay) -> Plan {
        let vteps = [vtep.clone(), vtep];
        Plan { underlay, underlay_mtu: 1500, middle_mtu: 1500, vteps, cables: Vec::new(), workers: 1, is_dead: false }
    }

    #[test]
    fn every_plan_is_a_good_configuration() {
        let oversize = Oversize::Drop;
        for underlay in [Underlay::Ipv4, Underlay::Ipv6] {
            for df in [DfPolicy::Set, DfPolicy::Unset, DfPolicy::Inherit] {
                for udp_checksum in [true, false] {
                    for (port_mtu, offload) in [(None, Offload::On), (Some(1400), Offload::Off)] {
                        let vtep = VtepPlan {
                            df,
                            udp_checksum,
                            port_mtu,
                            offload,
                            oversize,
                            mss_clamp: udp_checksum,
                            ..VtepPlan::weft()
                        };
                        let plan = plan(vtep, underlay);
                        for side in [0, 1] {
                            let text = text(&plan, side, "left");
                            let config = Config::parse("test", &text);
                            let config = config.unwrap_or_else(|errors| panic!("{}\n{text}", errors.render(false)));
                            assert_eq!(config.ports[0].mtu, port_mtu);
                            assert_eq!(config.ports[0].offload, offload == Offload::On);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn defaults_are_not_said() {
        let plan = plan(VtepPlan::weft(), Underlay::Ipv4);
        let expected = "[switch]\nworkers = 1\n\n[vtep]\naddress = \"192.0.2.1\"\npath_mtu = \"assume\"\n\n\
                        [[bridge]]\nname = \"blue\"\nvni = 42\nremotes = [\"203.0.113.1\"]\n\n[[port]]\nname = \"eth0\"\nnetns = \"left\"\nbridge = \"blue\"\n\
                        mac = \"02:00:00:00:42:01\"\naddress = [\"10.9.0.1/24\"]\n";
        assert_eq!(text(&plan, 0, "left"), expected);
    }

    #[test]
    fn options_are_as_long_as_they_are_asked_for() {
        let options = |options_len| geneve_options(Tunnel { encapsulation: Encapsulation::Geneve, options_len });
        assert_eq!(options(0), "");
        assert_eq!(options(4), "geneve_option = [{ class = 0xff01, type = 1, data = \"\" }]\n");
        assert_eq!(options(8), "geneve_option = [{ class = 0xff01, type = 1, data = \"c0ffee00\" }]\n");
        let longest = options(252);
        assert_eq!(longest.matches("class").count(), 2);
        assert_eq!(longest.matches("c0ffee00").count() * 4 + 2 * 4, 252);
    }
}
