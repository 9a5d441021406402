//! What one looks at when packets vanish: small and large pings, a transfer over TCP, and what weft says.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::experiment::{
    error::ExperimentError,
    measure,
    scene::{self, STATION_INTERFACE, Scene},
    traffic::{Station, tcp},
};

/// Bytes of the transfer: more than any buffer on the way takes.
pub const TRANSFER: u64 = 512 << 10;

/// How long one waits for something to get through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Where nothing is expected to.
    Short,
    /// Where it is, perhaps after something was found out.
    Long,
}

/// What was seen.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Symptoms {
    /// Pings of the usual size.
    pub small: Ping,
    /// Pings as large as the left station's MTU allows, with DF.
    pub large: Ping,
    /// A transfer from left to right.
    pub tcp: Transfer,
    /// Frames that the wefts dropped, by host and the drop reason's name.
    pub drops: BTreeMap<String, u64>,
    /// Datagrams with a wrong UDP checksum that came to the right host, as weft's ledger has it.
    pub checksum_errors: u64,
    /// What middleboxes did: ICMP errors stopped, checksums spoiled.
    pub middleboxes: BTreeMap<String, u64>,
    /// Fragments that the underlay's hosts and routers made.
    pub fragments: u64,
    /// What `weft show mtu` says on the left host.
    pub show_mtu: Option<String>,
}

/// Some pings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Ping {
    /// The command.
    pub command: String,
    /// Bytes of each IP packet.
    pub packet_len: u16,
    /// How many were sent.
    pub sent: u32,
    /// How many were answered.
    pub answered: u32,
    /// What the sender was told, if anything: "Frag needed and DF set (mtu = 1450)".
    pub told: Option<String>,
}

/// A transfer over TCP.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Transfer {
    /// Whether a connection came to be, for which small packets are enough.
    pub is_connected: bool,
    /// Bytes to be sent.
    pub wanted: u64,
    /// Bytes that arrived.
    pub arrived: u64,
    /// How long it took, or until it was given up, in seconds.
    pub seconds: f64,
    /// Payload of a full segment.
    pub mss: u32,
    /// When how many bytes had arrived, in seconds.
    pub progress: Vec<(f64, u64)>,
}

impl Transfer {
    /// Whether everything arrived.
    pub const fn is_whole(&self) -> bool {
        self.arrived >= self.wanted
    }
}

/// Looks at a scene from the left station.
///
/// # Errors
/// ping can't be run, or a weft does not answer.
pub fn look(scene: &Scene, hears: tcp::Hears, patience: Patience) -> Result<Symptoms, ExperimentError> {
    const SMALL: u16 = 84;
    if hears == tcp::Hears::Nothing {
        scene.stations[0].sysctl("net.ipv4.ip_no_pmtu_disc", "2")?;
    }
    let before = fragments_made(scene)?;
    let small = ping(scene, SMALL)?;
    let mtu = u16::try_from(scene.stations[0].link(STATION_INTERFACE)?.mtu).unwrap_or(u16::MAX);
    let limit = match patience {
        Patience::Short => Duration::from_secs(2),
        Patience::Long => Duration::from_secs(15),
    };
    let station = |side: usize| Station {
        namespace: &scene.stations[side],
        address: SocketAddr::new(scene::station_address(side).into(), 0),
    };
    let bulk = tcp::bulk(station(0), station(1), limit, tcp::Amount::Bytes(TRANSFER), hears)?;
    let tcp = Transfer {
        is_connected: bulk.is_connected,
        wanted: TRANSFER,
        arrived: bulk.bytes,
        seconds: bulk.elapsed.as_secs_f64(),
        mss: bulk.mss,
        progress: bulk.progress.iter().map(|(time, bytes)| (time.as_secs_f64(), *bytes)).collect(),
    };
    // Behind the transfer, which gave weft the time to find out what it can.
    let large = ping(scene, mtu)?;
    let ledger = scene.ledger(1)?;
    let checksum_errors = ledger.iter().flat_map(|ledger| &ledger.rows).filter_map(|row| row.checksum_errors).sum();
    let show_mtu = scene.weft(0, &["show", "mtu"])?.filter(crate::lab::Output::success);
    Ok(Symptoms {
        small,
        large,
        tcp,
        drops: measure::drops(scene)?,
        checksum_errors,
        middleboxes: scene.cable_counts(),
        fragments: fragments_made(scene)? - before,
        show_mtu: show_mtu.map(|output| output.stdout),
    })
}

/// Fragments that hosts and routers have made of outer packets.
fn fragments_made(scene: &Scene) -> Result<u64, ExperimentError> {
    let mut made = 0;
    for namespace in scene.hosts.iter().chain(&scene.routers) {
        let mib = namespace.counters()?;
        made += mib.of("Ip.FragCreates") + mib.of("Ip6.FragCreates");
    }
    Ok(made)
}

/// Sends a few pings of so many bytes a packet, DF set.
fn ping(scene: &Scene, packet_len: u16) -> Result<Ping, ExperimentError> {
    const COUNT: u32 = 3;
    /// IPv4 and ICMP.
    const HEADERS_LEN: u16 = 28;
    const LIMIT: Duration = Duration::from_secs(10);
    let size = packet_len.saturating_sub(HEADERS_LEN);
    let arguments = format!("-c {COUNT} -i 0.2 -W 0.6 -M do -s {size} {}", scene::station_address(1));
    let output = scene.stations[0].command("ping").args(arguments.split(' ')).timeout(LIMIT).output()?;
    let said = format!("{}{}", output.stdout, output.stderr);
    Ok(Ping {
        command: format!("ping {arguments}"),
        packet_len,
        sent: COUNT,
        answered: answered(&said),
        told: told(&said),
    })
}

/// Lines with an answer, as iputils prints them.
fn answered(said: &str) -> u32 {
    said.lines().filter(|line| line.contains(" bytes from ") && line.contains("time=")).count() as u32
}

/// What an error says, without the address before it.
fn told(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.contains("Frag needed") || line.contains("essage too long"))?;
    let from = line.find("Frag needed").or_else(|| line.find("essage too long").map(|at| at - 1))?;
    Some(line[from..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_words_are_understood() {
        let said = "PING 10.9.0.2 (10.9.0.2) 1472(1500) bytes of data.\n\
                    From 10.9.0.2 icmp_seq=1 Frag needed and DF set (mtu = 1450)\n\
                    ping: local error: message too long, mtu=1450\n";
        assert_eq!((answered(said), told(said).as_deref()), (0, Some("Frag needed and DF set (mtu = 1450)")));
        assert_eq!(
            told("ping: local error: message too long, mtu=1450").as_deref(),
            Some("message too long, mtu=1450")
        );
        let said = "64 bytes from 10.9.0.2: icmp_seq=1 ttl=64 time=0.5 ms\n1 packets transmitted, 1 received\n";
        assert_eq!((answered(said), told(said)), (1, None));
    }
}
