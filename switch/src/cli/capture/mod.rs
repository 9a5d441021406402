//! `weft capture`: frames at several points at once, and one packet followed across them.
//!
//! Exit codes: 0 it captured; 1 a point ended before it was asked to; 2 a point or filter that makes no sense.

mod wefts;

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::wefts::Weft;
use super::{
    NOT_SO, UsageError,
    doctor::{PortArg, lab_hosts, open, plural},
    output,
    voice::Voice,
};
use crate::{
    capture::{CaptureFile, Ended, Event, Journal, Journey, Source},
    lab::namespace_name,
    sys::netns::Netns,
};

/// Capture frames at several points at once, and follow each packet across them
#[derive(Args, Debug)]
pub(super) struct CaptureArgs {
    /// Where: an interface of a namespace, which is a name of `ip netns` or `pid:N`; of a host with --lab; without a namespace,
    /// of the own
    #[arg(value_name = "NS/IF", required_unless_present = "lab")]
    points: Vec<PortArg>,
    /// Namespaces are hosts of this lab; without points, all interfaces of all of them
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
    /// Write all frames to one pcapng file, with an interface for each point
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Only frames that this lets through at each point, as in pcap-filter(7); what is in a tunnel there, it sees from outside
    #[arg(short, long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// End after so many packets, wherever each was seen
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time [default: when interrupted]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// Print only what it comes to
    #[arg(short, long)]
    quiet: bool,
    /// Control socket of a weft that tells what it drops, frame by frame and in all [default: those of --lab, and the one at its
    /// usual place]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// A packet that was seen nowhere for so long, in nanoseconds, has arrived or is lost.
const SETTLED: u64 = 300_000_000;
/// The same where a weft tells what became of it, which it does a moment later.
const EXPLAINED: u64 = 1_000_000_000;

/// A point, found.
struct Point {
    name: String,
    netns: Netns,
    interface: String,
}

pub(super) fn run(args: &CaptureArgs) -> anyhow::Result<ExitCode> {
    let points = points(args)?;
    let names: Vec<_> = points.iter().map(|point| point.name.clone()).collect();
    let wefts = wefts::find(args)?;
    let settles_after = if wefts.is_empty() { SETTLED } else { EXPLAINED };
    let file = args.write.as_ref().map(|path| {
        let file = File::create(path).and_then(|file| CaptureFile::new(BufWriter::new(file), &names, settles_after));
        file.with_context(|| format!("can't write {}", path.display()))
    });
    let mut file = file.transpose()?;
    let before: Vec<_> = wefts.iter().map(Weft::drops).collect();
    let (events, received) = mpsc::channel();
    stop_on_signals(events.clone())?;
    let mut sources = Vec::new();
    for (number, point) in points.iter().enumerate() {
        let source = Source::start(number, &point.netns, &point.interface, args.filter.as_deref(), events.clone());
        sources.push(source.map_err(|error| UsageError(format!("{}: {error}", point.name)))?);
    }
    let voice = Voice::new();
    for weft in &wefts {
        if let Err(why) = weft.tell_fates(events.clone()) {
            voice.bad(&format!("{} tells nothing of single frames: {why}", weft.name))?;
        }
    }
    if !args.quiet {
        voice.title(&format!("at {}; Ctrl-C ends it", names.join(", ")))?;
    }

    let mut journal = Journal::new(settles_after);
    let mut ends: Vec<Option<Ended>> = vec![None; points.len()];
    let mut broken = false;
    let mut frames = vec![0; points.len()];
    let mut open = points.len();
    let deadline = args.time.map(|time| Instant::now() + time);
    let mut stopping = false;
    while open > 0 {
        /// How often those who have settled are looked for.
        const LOOK: Duration = Duration::from_millis(100);
        let enough = args.count.is_some_and(|count| journal.packets() as u64 >= count);
        if !stopping && (enough || deadline.is_some_and(|deadline| Instant::now() >= deadline)) {
            stopping = true;
            sources.iter().for_each(Source::stop);
        }
        match received.recv_timeout(LOOK) {
            Ok(Event::Frame(frame)) => {
                frames[frame.point] += 1;
                let packet = journal.see(&frame);
                if let Some(file) = &mut file {
                    file.add(frame, packet)?;
                }
            }
            Ok(Event::Fate { packet, said }) => {
                journal.tell(packet, &said);
                if let Some(file) = &mut file {
                    file.comment(packet, &said);
                }
            }
            Ok(Event::Ended { point, how }) => {
                open -= 1;
                match how {
                    Ok(end) => ends[point] = Some(end),
                    Err(error) => voice.bad(&format!("{}: {error}", names[point]))?,
                }
                if !stopping {
                    // Signals of a terminal reach tcpdump as well, and may do so before they are seen here.
                    broken |= ends[point].is_none();
                }
            }
            Ok(Event::Stop) => {
                stopping = true;
                sources.iter().for_each(Source::stop);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        tell(&voice, &names, &journal.settle(nanos(SystemTime::now())), args.quiet)?;
    }
    tell(&voice, &names, &journal.settle(u64::MAX), args.quiet)?;
    let dropped: Vec<_> =
        wefts.iter().zip(&before).flat_map(|(weft, before)| weft.grown(before, &weft.drops())).collect();
    let missed: Vec<_> = ends.iter().map(|end| end.and_then(|end| end.missed)).collect();
    if let Some(file) = file {
        file.finish(&missed, &dropped.join("\n"))?;
    }
    sum_up(&voice, &names, &journal, &frames, &missed, &dropped)?;
    if let Some(path) = &args.write {
        voice.say(&format!("written to {}: {}", path.display(), plural(frames.iter().sum(), "frame")))?;
    }
    Ok(ExitCode::from(if broken { NOT_SO } else { 0 }))
}

fn points(args: &CaptureArgs) -> anyhow::Result<Vec<Point>> {
    let hosts = args.lab.as_deref().map(lab_hosts).transpose()?;
    let mut points = Vec::new();
    for PortArg { netns, interface } in &args.points {
        let full = match (netns, &args.lab, &hosts) {
            // What doctor prints are full names.
            (Some(netns), Some(lab), Some(hosts)) if !hosts.contains(netns) => Some(namespace_name(lab, netns)),
            (netns, ..) => netns.clone(),
        };
        let opened = full.as_deref().map_or_else(Netns::own, open);
        let opened = opened.map_err(|error| UsageError(error.to_string()))?;
        let name = netns.as_ref().map_or_else(|| interface.clone(), |netns| format!("{netns}/{interface}"));
        points.push(Point { name, netns: opened, interface: interface.clone() });
    }
    if let (true, Some(hosts), Some(lab)) = (points.is_empty(), hosts, &args.lab) {
        let prefix = namespace_name(lab, "");
        for host in hosts {
            let netns = Netns::named(&host)?;
            for interface in netns.within(interfaces)?? {
                let name = format!("{}/{interface}", host.strip_prefix(&prefix).unwrap_or(&host));
                points.push(Point { name, netns: netns.clone(), interface });
            }
        }
    }
    if points.is_empty() {
        bail!(UsageError("there is no interface to capture at".to_owned()));
    }
    Ok(points)
}

/// The interfaces of the thread's namespace, but for loopback.
fn interfaces() -> io::Result<Vec<String>> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
    Ok(names.filter(|name| name != "lo").collect())
}

/// Sends [`Event::Stop`] when somebody wants the capture to end.
fn stop_on_signals(events: Sender<Event>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        _ = events.send(Event::Stop);
    });
    Ok(())
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Prints journeys: the packet, then where it was seen, and how long after the first time.
fn tell(voice: &Voice, names: &[String], journeys: &[Journey], quiet: bool) -> anyhow::Result<()> {
    if quiet {
        return Ok(());
    }
    let width = names.iter().map(String::len).max().unwrap_or(0);
    for journey in journeys {
        let Some(first) = journey.sightings.first() else { continue };
        let second = first.time / 1_000_000_000 % 86_400;
        let micros = first.time / 1000 % 1_000_000;
        let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
        output::print(&format!("{hours:02}:{minutes:02}:{seconds:02}.{micros:06}  {}", journey.text))?;
        let rows = journey.sightings.iter().map(|sighting| {
            let after = match sighting.time - first.time {
                0 => String::new(),
                nanos => format!("+{}", took(nanos)),
            };
            let tunnels: Vec<_> = sighting.tunnels.iter().map(|tunnel| format!("  in {tunnel}")).collect();
            let row = format!("{:width$}  {after:>9}{}", names[sighting.point], tunnels.concat());
            row.trim_end().to_owned()
        });
        let rows: Vec<_> = rows.chain(journey.fates.iter().cloned()).collect();
        voice.seen(&rows.join("\n"))?;
    }
    Ok(())
}

/// A time in the unit that suits it.
fn took(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{:.1} us", nanos as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} us", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

fn sum_up(
    voice: &Voice,
    names: &[String],
    journal: &Journal,
    frames: &[usize],
    missed: &[Option<u64>],
    dropped: &[String],
) -> anyhow::Result<()> {
    let width = names.iter().map(String::len).max().unwrap_or(0);
    voice.title(&plural(journal.packets(), "packet"))?;
    for (point, name) in names.iter().enumerate() {
        let missed = missed[point].filter(|missed| *missed > 0);
        let missed = missed.map_or_else(String::new, |missed| format!(", {missed} more missed"));
        voice.say(&format!(
            "{name:width$}  {}{missed}, {} seen last here",
            plural(frames[point], "frame"),
            plural(journal.seen_last_at(point), "packet")
        ))?;
    }
    for ((from, to), leg) in journal.legs().filter(|((from, to), _)| from != to) {
        let times = format!("{} in the middle, {} at most", took(leg.median), took(leg.most));
        voice.say(&format!("{} -> {}: {}, {times}", names[from], names[to], plural(leg.packets, "packet")))?;
    }
    for line in dropped {
        voice.bad(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_suits_them() {
        let times = [0, 900, 12_000, 3_400_000, 2_000_000_000].map(took);
        assert_eq!(times, ["0.0 us", "0.9 us", "12 us", "3.4 ms", "2.00 s"]);
    }
}
