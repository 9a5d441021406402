//! Traffic of tests and how it is measured: frames put on an interface one by one, pings in quick succession, and what the
//! kernel counted meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use weft::{
    lab::{Lab, LabError, Namespace, Process, Signal},
    offload::VnetHeader,
    port::{
        Port, TxFrame,
        packet::{self, PacketQueue},
    },
    wire::MacAddr,
};

/// EtherType for local experiments (IEEE 802): the kernel ignores such frames.
pub const EXPERIMENT: u16 = 0x88b5;

/// A namespace in which the kernel sends nothing on its own: no IPv6.
///
/// # Errors
/// See [`Lab::namespace`].
pub fn quiet(lab: &Lab, name: &str) -> Result<Namespace, LabError> {
    lab.namespace(name)?.without_ipv6()
}

/// A frame of 60 bytes, the shortest that a wire carries.
pub fn frame(dst: MacAddr, src: MacAddr, ether_type: u16) -> Vec<u8> {
    let mut frame = [&dst.octets()[..], &src.octets(), &ether_type.to_be_bytes()].concat();
    frame.resize(60, 0x5a);
    frame
}

/// Puts frames on an interface as a program in its namespace would, by a packet socket.
pub struct Injector(PacketQueue);

impl Injector {
    /// On an interface of a namespace.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn new(namespace: &Namespace, interface: &str) -> anyhow::Result<Self> {
        let mut queues = namespace.within(|| packet::open(interface, 1, true))??;
        Ok(Self(queues.pop().context("one queue was asked for")?))
    }

    /// Sends a frame with a virtio-net header beside it; false: the kernel does not take it.
    pub fn send_with(&mut self, bytes: &[u8], vnet: VnetHeader) -> bool {
        let frame = TxFrame { bytes, tag: None, vnet };
        self.0.send(&frame).is_ok()
    }

    /// Sends frames at this rate at most, some at a time with a pause in between; returns how many the kernel took.
    pub fn send_all<'f>(&mut self, frames: impl IntoIterator<Item = &'f Vec<u8>>, per_second: u32) -> u64 {
        // Less than a tap's queue holds (1,000 frames, `drivers/net/tun.c`: TUN_READQ_SIZE is 500).
        const BURST: u32 = 50;
        let started = Instant::now();
        let mut taken = 0;
        for (count, frame) in (0..).zip(frames) {
            taken += u64::from(self.send_with(frame, VnetHeader::NONE));
            if count % BURST == BURST - 1 {
                let due = started + Duration::from_secs(1) * (count + 1) / per_second;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        taken
    }
}

/// `ping` every ten milliseconds.
pub struct PingTrain {
    ping: Process,
    started: Instant,
}

impl PingTrain {
    /// Time from one request to the next.
    const INTERVAL: Duration = Duration::from_millis(10);

    /// A shorter train would tell little.
    const SHORTEST: Duration = Duration::from_millis(500);

    /// Starts pinging `address`, and returns when the first answer has come.
    ///
    /// # Errors
    /// None comes within five seconds.
    pub fn start(from: &Namespace, address: &str) -> anyhow::Result<Self> {
        Self::start_with(from, address, &[])
    }

    /// The same with more arguments for `ping`.
    ///
    /// # Errors
    /// As [`PingTrain::start`].
    pub fn start_with(from: &Namespace, address: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut ping = from.command("ping").args(["-n", "-i0.01", "-W2"]).args(arguments).arg(address).spawn()?;
        ping.wait_for("icmp_seq=", Duration::from_secs(5))?;
        Ok(Self { ping, started: Instant::now() })
    }

    /// Stops it and says how it went.
    ///
    /// # Errors
    /// `ping` says something that is not understood.
    pub fn stop(mut self) -> anyhow::Result<Pings> {
        thread::sleep(Self::SHORTEST.saturating_sub(self.started.elapsed()));
        self.ping.signal(Signal::INT)?;
        let output = self.ping.wait(Duration::from_secs(10))?.stdout;
        let answers = output.lines().filter_map(|line| {
            let after = |key: &str| line.split_once(key)?.1.split_whitespace().next();
            Some((after("icmp_seq=")?.parse().ok()?, after("time=")?.parse::<f64>().ok()?))
        });
        let answers: Vec<(u64, f64)> = answers.collect();
        let summary = output.lines().find(|line| line.contains("packets transmitted")).context("ping sums up")?;
        let number = |word: &str| summary.split(", ").find(|part| part.contains(word))?.split(' ').next()?.parse().ok();
        let sent: u64 = number("transmitted").context("ping tells what it sent")?;
        let mut numbers: Vec<u64> = answers.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let silence = numbers.windows(2).map(|pair| pair[1] - pair[0] - 1).max().unwrap_or(0);
        let silence = silence.max(sent.saturating_sub(numbers.last().copied().unwrap_or(0) + 1));
        Ok(Pings {
            sent,
            lost: numbers.last().map_or(0, |last| *last - numbers.len() as u64),
            longest_silence: Self::INTERVAL * u32::try_from(silence)?,
            slowest: Duration::from_secs_f64(answers.iter().map(|(_, millis)| millis / 1e3).fold(0.0, f64::max)),
        })
    }
}

/// How a [`PingTrain`] went.
#[derive(Clone, Debug)]
pub struct Pings {
    /// Requests.
    pub sent: u64,
    /// Those without an answer though a later one had one: the answers to the last ones may have been under way.
    pub lost: u64,
    /// For how long requests had no answer, the longest time in a row.
    pub longest_silence: Duration,
    /// The longest time that an answer took.
    pub slowest: Duration,
}

impl Pings {
    /// Fails if there was a gap of more than a tenth of a second.
    ///
    /// # Errors
    /// The gap.
    pub fn without_gap(&self) -> anyhow::Result<()> {
        ensure!(self.sent > 20, "too few pings to tell anything: {self:?}");
        ensure!(self.longest_silence <= Duration::from_millis(100), "there was a gap: {self:?}");
        Ok(())
    }

    /// Fails unless every ping was answered.
    ///
    /// # Errors
    /// What was not.
    pub fn without_loss(&self) -> anyhow::Result<()> {
        ensure!(self.sent > 20, "too few pings to tell anything: {self:?}");
        ensure!(self.lost == 0, "pings were lost: {self:?}");
        self.without_gap()
    }
}

/// What the kernel counted at an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkCounters {
    /// Frames that the stack of the namespace sent; of a tap, those that were read from it.
    pub tx_packets: u64,
    /// Frames that were to be sent and could not be queued.
    pub tx_dropped: u64,
    /// Frames that it received; of a tap, those that were written to it.
    pub rx_packets: u64,
    /// Bytes of those that it sent, from the Ethernet header on; a super-frame is one frame of its whole length.
    pub tx_bytes: u64,
    /// Bytes of those that it received, likewise.
    pub rx_bytes: u64,
}

impl LinkCounters {
    /// As they are now.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn of(namespace: &Namespace, interface: &str) -> anyhow::Result<Self> {
        let text = namespace.run(&["ip", "-s", "-s", "-j", "link", "show", "dev", interface])?.ok()?.stdout;
        let links: Value = serde_json::from_str(&text)?;
        let number = |way: &str, key: &str| links[0]["stats64"][way][key].as_u64().context("ip shows counters");
        Ok(Self {
            tx_packets: number("tx", "packets")?,
            tx_dropped: number("tx", "dropped")?,
            rx_packets: number("rx", "packets")?,
            tx_bytes: number("tx", "bytes")?,
            rx_bytes: number("rx", "bytes")?,
        })
    }
}
