//! One port, or a stranger, sends rubbish as fast as it can; the others go on as if nothing were.
//!
//! What the others notice is measured in pairs of trains of pings, one while all is quiet and one under the flood, since no
//! machine is as fast as another, nor as itself a minute later.

use std::{
    fmt,
    net::UdpSocket,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use weft::{lab::Namespace, offload::VnetHeader, wire::MacAddr};
use weft_integration::{
    scene::{Star, mac},
    shape::Shape,
    traffic::{EXPERIMENT, Injector},
    weft::{PATIENCE, Weft, eventually},
};

use crate::{PREFIX, pair_with_locals, ping};

/// Pings of one train.
const PINGS: usize = 1000;

/// How much longer the hundredth part of the pings that takes longest may take under a flood.
const FACTOR: f64 = 5.0;

/// Trains of each kind that the median is taken of.
const ROUNDS: usize = 3;

/// How often the whole is measured before it counts as failed. A build without optimisation has little to spare on a
/// machine where everything else is tested at the same time; where weft is as users have it, once is enough.
const ATTEMPTS: usize = if cfg!(debug_assertions) { 8 } else { 1 };

/// What is sent meanwhile, at least, for a flood to be one.
const FLOOD: u64 = if cfg!(debug_assertions) { 10_000 } else { 50_000 };

/// Held by whoever measures: two floods at a time would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

/// How one train of pings fared.
struct Train {
    lost: usize,
    median_ms: f64,
    p99_ms: f64,
}

impl fmt::Display for Train {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, median_ms, p99_ms } = self;
        write!(f, "{lost} lost, median {median_ms} ms, p99 {p99_ms} ms")
    }
}

fn train(from: &Namespace, address: &str) -> anyhow::Result<Train> {
    let count = PINGS.to_string();
    let ping = from.command("ping").args(["-n", "-c", &count, "-i0.001", "-W3", address]);
    // ping's exit code says that some were lost; which is for the caller to judge.
    let output = ping.timeout(Duration::from_secs(60)).output()?.stdout;
    let time = |line: &str| line.split_once("time=")?.1.split(' ').next()?.parse::<f64>().ok();
    let mut times: Vec<f64> = output.lines().filter_map(time).collect();
    let received = output.lines().find_map(|line| line.split_once(" packets transmitted, ")?.1.split(' ').next());
    let received: usize = received.context("ping sums up")?.parse()?;
    ensure!(received == times.len(), "{received} answers, and {} of them have a time: {output}", times.len());
    times.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(f64::INFINITY);
    Ok(Train { lost: PINGS - received, median_ms: at(0.5), p99_ms: at(0.99) })
}

/// How a flood is told to stop, and how many frames it has sent.
#[derive(Default)]
struct Tap {
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Tap {
    fn is_open(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Frames of all sizes to everybody, to groups and to nobody, from addresses without end.
fn flood(mut injector: Injector, tap: &Tap) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut frames: Vec<Vec<u8>> = (0..4096).map(|_| rubbish(&mut random)).collect();
    for at in (0..frames.len()).cycle().take_while(|_| tap.is_open()) {
        random.fill(&mut frames[at][7..12]);
        injector.send_with(&frames[at], VnetHeader::NONE);
        tap.count();
    }
}

fn rubbish(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut frame = vec![0; random.usize(60..1400)];
    random.fill(&mut frame);
    match random.u8(..4) {
        0 => frame[..6].fill(0xff),
        1 => frame[0] |= 1,
        _ => frame[0] &= !1,
    }
    frame[6] = 2;
    frame[12..14].copy_from_slice(&EXPERIMENT.to_be_bytes());
    frame
}

/// Holds what `measured` pings against what they are when nobody floods.
#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
fn compare(weft: &Weft, measured: &[(&Namespace, &str)], flood: impl Fn(&Tap) + Sync) -> anyhow::Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut said = String::new();
    for _ in 0..ATTEMPTS {
        let mut factors = vec![Vec::new(); measured.len()];
        for _ in 0..ROUNDS {
            for (&(from, to), factors) in measured.iter().zip(&mut factors) {
                let (idle, busy, sent) = round(from, to, &flood)?;
                said += &format!("to {to}: {idle} when idle; {busy} under {sent} frames\n");
                ensure!(idle.lost == 0 && busy.lost == 0, "pings were lost:\n{said}");
                // Whoever gets no processor floods nobody.
                factors.push(if sent < FLOOD { f64::INFINITY } else { busy.p99_ms / idle.p99_ms });
            }
        }
        weft.ledger_comes_to_balance()?;
        let median = |factors: &mut Vec<f64>| {
            factors.sort_unstable_by(f64::total_cmp);
            factors[ROUNDS / 2]
        };
        let worst = factors.iter_mut().map(median).fold(0.0, f64::max);
        said += &format!("p99 of the others: {worst:.1} times what it is when idle\n");
        if worst <= FACTOR {
            print!("{said}");
            return Ok(());
        }
    }
    anyhow::bail!("the others wait too long:\n{said}")
}

fn round(from: &Namespace, to: &str, flood: &(impl Fn(&Tap) + Sync)) -> anyhow::Result<(Train, Train, u64)> {
    let idle = train(from, to)?;
    let tap = Tap::default();
    thread::scope(|scope| {
        scope.spawn(|| flood(&tap));
        let begun = eventually("the flood begins", PATIENCE, || Ok(tap.sent() > 0));
        let before = tap.sent();
        let busy = begun.and_then(|()| train(from, to));
        let sent = tap.sent() - before;
        tap.stop.store(true, Ordering::Relaxed);
        Ok((idle, busy?, sent))
    })
}

/// With workers that stand before the flooder also where nothing but weft's start allows that.
fn going_first(config: &str) -> String {
    config.replace("[switch]\n", "[switch]\nnice = -20\n")
}

pub(crate) fn one_port(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 3)?;
    let weft = Weft::start(&star.switch, &going_first(&star.config()))?;
    ping(&star.hosts[0], &Star::address(1))?;
    let open = || Injector::new(&star.hosts[2], "eth0").expect("the port is there");
    compare(&weft, &[(&star.hosts[0], "10.0.0.2")], |tap| flood(open(), tap))
}

pub(crate) fn one_port_into_the_overlay(shape: Shape) -> anyhow::Result<()> {
    let (pair, locals, config) = pair_with_locals(shape)?;
    let [a, b] = &pair.sides;
    let weft = Weft::start(&a.switch, &going_first(&config))?;
    let _far = Weft::start(&b.switch, &going_first(&b.config("", "")))?;
    ping(&locals[0], b.address)?;
    let open = || Injector::new(&locals[1], "eth0").expect("the port is there");
    compare(&weft, &[(&locals[0], b.address)], |tap| flood(open(), tap))
}

/// Somebody who has an address in the underlay and knows the VNI.
pub(crate) fn a_stranger(shape: Shape) -> anyhow::Result<()> {
    const STRANGER: &str = "192.0.2.77";
    let (pair, locals, config) = pair_with_locals(shape)?;
    let [a, b] = &pair.sides;
    let weft = Weft::start(&a.switch, &going_first(&config))?;
    let _far = Weft::start(&b.switch, &going_first(&b.config("", "")))?;
    b.switch.address("under0", &format!("{STRANGER}/24"))?;
    ping(&locals[0], b.address)?;
    let target = mac(&locals[0], "eth0")?;
    let flood = |tap: &Tap| {
        let socket = b.switch.within(|| UdpSocket::bind((STRANGER, 0)));
        let socket = socket.expect("the namespace is there").expect("the address is there");
        let datagram = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &frame_to(target)].concat();
        while tap.is_open() {
            if socket.send_to(&datagram, (a.vtep, 4789)).is_ok() {
                tap.count();
            }
        }
    };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Between the ports; what comes by the tunnel waits in the same socket as the stranger's, and may find it full. How long they
    // take is the scheduler's affair if the stranger keeps a worker busy without end.
    let (idle, busy, sent) = round(&locals[0], "10.0.0.12", &flood)?;
    ensure!(idle.lost == 0 && busy.lost == 0, "{idle} when idle; {busy} under {sent} datagrams");
    ensure!(weft.dropped("vtep_unknown")? > FLOOD, "the stranger was heard");
    ping(&locals[0], b.address)
}

fn frame_to(dst: MacAddr) -> Vec<u8> {
    weft_integration::traffic::frame(dst, MacAddr::new([2, 0, 0, 0, 0, 1]), EXPERIMENT)
}
