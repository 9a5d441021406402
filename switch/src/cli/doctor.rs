//! `weft doctor`: what is wrong with a network.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    str::FromStr,
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::{NOT_SO, UsageError, client::Client, output, voice::Voice};
use crate::{
    doctor::{
        Finding,
        runbook::{self, Focus, Report},
        step::{Evidence, Step, Trouble, Verdict},
        survey::{
            Scope, Survey,
            values::{Protocol, WeftState},
        },
        walk::{End, Errand, Hop, Way},
        world::At,
    },
    lab::{namespace_name, running},
    sys::netns::Netns,
};

/// Find out what is wrong with a network, by reading its state; exit code 1 if there is a fault
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("subject"))]
pub(super) struct DoctorArgs {
    /// Look at the namespace of this process
    #[arg(long, value_name = "N", group = "subject")]
    pid: Option<u32>,
    /// Look at this namespace: a name of `ip netns`, or a path
    #[arg(long, value_name = "NAME", group = "subject")]
    netns: Option<String>,
    /// Look at this interface
    #[arg(long, value_name = "NS/IF", group = "subject")]
    port: Option<PortArg>,
    /// Look at all hosts of this lab, and whether all of them that must reach each other do
    #[arg(long, value_name = "NAME", group = "subject")]
    lab: Option<String>,
    /// Follow a packet to this address, hop by hop, and its answer back; with a port TCP, else a ping
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    to: Option<ToArg>,
    /// With a port: UDP in place of TCP
    #[arg(long, requires = "to")]
    udp: bool,
    /// How long the IP packet is, in bytes
    #[arg(long, value_name = "BYTES", requires = "to", value_parser = clap::value_parser!(u32).range(28..=65535))]
    size: Option<u32>,
    /// Send something as well: three pings to the address of --to
    #[arg(long, requires = "to", conflicts_with = "load")]
    probe: bool,
    /// Look twice, so long apart, and say which counters of rules and losses moved meanwhile
    #[arg(long, value_name = "TIME", conflicts_with = "load", value_parser = humantime::parse_duration)]
    watch: Option<Duration>,
    /// Show the evidence of every step
    #[arg(long, short)]
    verbose: bool,
    /// Write what was read to a file, for another pair of eyes
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Look at what --save wrote in place of this machine
    #[arg(long, value_name = "FILE", conflicts_with = "save")]
    load: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `left/eth0`; without a namespace, the own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PortArg {
    pub(super) netns: Option<String>,
    pub(super) interface: String,
}

impl FromStr for PortArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (netns, interface) = match text.rsplit_once('/') {
            Some((netns, interface)) => (Some(netns.to_owned()).filter(|netns| !netns.is_empty()), interface),
            None => (None, text),
        };
        if crate::control::link::is_interface_name(interface) {
            Ok(Self { netns, interface: interface.to_owned() })
        } else {
            Err(format!("`{text}` is no port; one is written NAMESPACE/INTERFACE, such as left/eth0"))
        }
    }
}

/// `10.0.0.2`, `10.0.0.2:80`, `[fd00::2]:80`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ToArg {
    address: IpAddr,
    port: Option<u16>,
}

impl FromStr for ToArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self { address, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(both) if both.port() != 0 => Ok(Self { address: both.ip(), port: Some(both.port()) }),
            Ok(_) | Err(_) => Err(format!("`{text}` is no address, such as 10.0.0.2, 10.0.0.2:80 or [fd00::2]:80")),
        }
    }
}

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut survey = survey(args)?;
    let (mut moved, mut wrong_checksums) = (Vec::new(), Vec::new());
    if let Some(pause) = args.watch {
        thread::sleep(pause);
        let later = self::survey(args)?;
        moved = runbook::moved(&survey, &later);
        wrong_checksums = runbook::wrong_checksums(&survey, &later);
        survey = later;
    }
    if let Some(file) = &args.save {
        let text = serde_json::to_string_pretty(&survey)?;
        fs::write(file, text).with_context(|| format!("can't write {}", file.display()))?;
    }
    let focus = Focus { moved, wrong_checksums, ..focus(args, &survey)? };
    let mut report = runbook::look(&survey, &focus);
    let probes = if args.probe { probe(&survey, &focus) } else { Vec::new() };
    if args.json {
        output::print_json(&Answer { report: &report, probes: &probes })?;
    } else {
        report.next.dedup();
        show(&report, &probes, args.verbose)?;
    }
    let failed = report.faults > 0 || probes.iter().any(|probe| !probe.answered);
    Ok(ExitCode::from(if failed { NOT_SO } else { 0 }))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// What was sent, if anything was.
    probes: &'a [Probe],
}

/// Asks a running weft for all that a survey has of it.
pub(super) fn ask_weft(socket: &Path) -> Result<WeftState, String> {
    /// A weft that does not answer must not hold up those who look for what is wrong.
    const PATIENCE: Duration = Duration::from_secs(5);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let client = Client::new(socket);
    let all = async {
        Ok::<_, super::ClientError>(WeftState {
            bridges: client.bridges().await?,
            ports: client.ports().await?,
            fdb: client.fdb(None).await?,
            vteps: client.vteps().await?,
            drops: client.drops().await?,
            mtu: client.mtu().await?,
            held: client.status().await?.held,
        })
    };
    match runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await }) {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

/// Opens a namespace by a name, a path, or `pid:N`.
pub(super) fn open(netns: &str) -> io::Result<Netns> {
    match netns.strip_prefix("pid:").and_then(|pid| pid.parse().ok()) {
        Some(pid) => Netns::of_pid(pid),
        None if netns.contains('/') => Netns::open(netns),
        None => Netns::named(netns),
    }
}

fn survey(args: &DoctorArgs) -> anyhow::Result<Survey> {
    if let Some(file) = &args.load {
        return load(file);
    }
    let bad = |error: io::Error| UsageError(error.to_string());
    let start = match (&args.lab, &args.port, &args.netns, args.pid) {
        (Some(lab), ..) => lab_hosts(lab)?.iter().map(|name| Netns::named(name)).collect::<io::Result<_>>()?,
        (_, Some(PortArg { netns: Some(netns), .. }), ..) | (_, _, Some(netns), _) => vec![open(netns).map_err(bad)?],
        (_, _, _, Some(pid)) => vec![Netns::of_pid(pid).map_err(bad)?],
        _ => vec![Netns::own()?],
    };
    Ok(Survey::take(Scope::Around(start), &ask_weft))
}

/// Reads what `--save` wrote.
pub(super) fn load(file: &Path) -> anyhow::Result<Survey> {
    let text = fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no survey of `weft doctor --save`", file.display()))
}

/// The namespaces of a lab.
pub(super) fn lab_hosts(lab: &str) -> anyhow::Result<Vec<String>> {
    let topology = running::topology(lab)?;
    Ok(topology.hosts.iter().map(|host| namespace_name(lab, &host.name)).collect())
}

/// What a lab's checks try, but those that must fail.
fn lab_errands(lab: &str, survey: &Survey) -> anyhow::Result<Vec<Errand>> {
    let topology = running::topology(lab)?;
    let mut errands = Vec::new();
    for check in topology.checks.iter().filter(|check| !check.fails) {
        let host = namespace_name(lab, &check.from);
        let Some(from) = survey.spaces.iter().position(|space| space.is_called(&host)) else { continue };
        let Some(to) = check.ping.or_else(|| check.tcp.map(|to| to.ip())) else { continue };
        let headers = if to.is_ipv4() { 28 } else { 48 };
        errands.push(Errand {
            from,
            to,
            // The lab listens there only while it checks.
            port: check.tcp.map(|to| (Protocol::Tcp, to.port())),
            listening: false,
            len: check.size.map(|size| u32::from(size) + headers),
            whole: check.size.is_some(),
        });
    }
    Ok(errands)
}

fn focus(args: &DoctorArgs, survey: &Survey) -> anyhow::Result<Focus> {
    let of_lab = |index: &usize| {
        let prefix = args.lab.as_ref().map(|lab| format!("weft.{lab}."));
        prefix.is_some_and(|prefix| survey.space(*index).names.iter().any(|name| name.starts_with(&prefix)))
    };
    let named = |netns: &str| survey.spaces.iter().position(|space| space.is_called(netns) || space.label() == netns);
    let first = (!survey.spaces.is_empty()).then_some(0);
    let (spaces, title) = match (&args.lab, &args.port, &args.netns) {
        (Some(lab), ..) => ((0..survey.spaces.len()).filter(of_lab).collect(), format!("lab {lab}")),
        (_, Some(PortArg { netns: Some(netns), interface }), _) => {
            (named(netns).or(first).into_iter().collect(), format!("{netns}/{interface}"))
        }
        (_, _, Some(netns)) => (named(netns).or(first).into_iter().collect(), format!("namespace {netns}")),
        _ => (
            first.into_iter().collect::<Vec<_>>(),
            first.map_or_else(String::new, |index| format!("namespace {}", survey.space(index).label())),
        ),
    };
    let mut focus = Focus { title, spaces, ..Focus::default() };
    let Some(&from) = focus.spaces.first() else {
        return Err(UsageError("there is no such namespace in what was read".to_owned()).into());
    };
    if let Some(PortArg { interface, .. }) = &args.port {
        let link = survey
            .space(from)
            .link_named(interface)
            .ok_or_else(|| UsageError(format!("{} has no interface {interface}", survey.space(from).label())))?;
        focus.link = Some(At { space: from, link: link.index });
    }
    let mut errands = match (args.to, &args.lab) {
        (Some(ToArg { address, port }), _) => {
            let protocol = if args.udp { Protocol::Udp } else { Protocol::Tcp };
            let port = port.map(|port| (protocol, port));
            vec![Errand {
                from,
                to: address,
                port,
                listening: port.is_some(),
                len: args.size,
                whole: args.size.is_some(),
            }]
        }
        (None, Some(lab)) => lab_errands(lab, survey)?,
        (None, None) => focus.spaces.iter().flat_map(|space| runbook::gateways(survey, *space)).collect(),
    };
    if args.size.is_none() {
        runbook::add_full_size(survey, &mut errands);
    }
    focus.errands = errands;
    if let Some(lab) = &args.lab {
        focus.wefts = lab_wefts(lab, survey)?;
    }
    Ok(focus)
}

/// The hosts of a lab that run a weft.
fn lab_wefts(lab: &str, survey: &Survey) -> anyhow::Result<Vec<(usize, String)>> {
    let topology = running::topology(lab)?;
    let running = topology.hosts.iter().filter(|host| host.weft.is_some());
    let found = running.filter_map(|host| {
        let name = namespace_name(lab, &host.name);
        let space = survey.spaces.iter().position(|space| space.is_called(&name))?;
        Some((space, format!("the lab says that {} runs one", host.name)))
    });
    Ok(found.collect())
}

/// Something that was sent.
#[derive(Debug, Serialize)]
struct Probe {
    from: String,
    command: String,
    answered: bool,
    said: Vec<String>,
}

/// Pings where the errands lead, from where they begin.
fn probe(survey: &Survey, focus: &Focus) -> Vec<Probe> {
    let mut probes = Vec::new();
    for errand in &focus.errands {
        let space = survey.space(errand.from);
        let netns = space.names.first().map_or_else(
            || space.processes.first().map_or_else(Netns::own, |process| Netns::of_pid(process.pid)),
            |name| Netns::named(name),
        );
        let size = errand.len.map(|len| len.saturating_sub(if errand.to.is_ipv4() { 28 } else { 48 }).to_string());
        let mut words = vec!["ping".to_owned(), "-c3".to_owned(), "-i0.2".to_owned(), "-W1".to_owned()];
        words.extend(size.into_iter().flat_map(|size| ["-Mdo".to_owned(), format!("-s{size}")]));
        words.push(errand.to.to_string());
        let output = netns.and_then(|netns| netns.within(|| Command::new(&words[0]).args(&words[1..]).output())?);
        let (answered, said) = match output {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let lines = text.lines().filter(|line| line.contains("bytes from") || line.contains("transmitted"));
                (output.status.success(), lines.map(str::to_owned).collect())
            }
            Err(error) => (false, vec![error.to_string()]),
        };
        probes.push(Probe { from: space.label(), command: space.inside(&words.join(" ")), answered, said });
    }
    probes
}

fn show(report: &Report, probes: &[Probe], verbose: bool) -> anyhow::Result<()> {
    let mut page = Reader { voice: Voice::new(), verbose, told: Vec::new() };
    page.voice.title(&report.subject)?;
    for step in &report.steps {
        page.step(step)?;
    }
    for way in &report.ways {
        page.way(way, report.ways.len() <= 2)?;
    }
    let voice = page.voice;
    for probe in probes {
        let verdict = if probe.answered { Verdict::Ok } else { Verdict::Fault };
        voice.verdict(verdict.word(), &format!("sent: {}", probe.command))?;
        voice.seen(&probe.said.join("\n"))?;
    }
    output::print("")?;
    match &report.first_fault {
        Some(fault) => {
            voice.bad(&format!("first fault: {} at {}\n{}", fault.finding, fault.place, fault.text))?;
            let more = report.faults - 1;
            if more > 0 {
                voice.say(&format!("and {more} more: they may follow from it"))?;
            }
        }
        None if report.warnings > 0 => {
            voice.good(&format!("no fault; {} to look at", plural(report.warnings, "warning")))?;
        }
        None => voice.good("no fault")?,
    }
    if !report.next.is_empty() {
        voice.say("next:")?;
        voice.seen(&report.next.join("\n"))?;
    }
    Ok(())
}

/// `1 warning`, `2 warnings`.
pub(super) fn plural(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Tells each trouble whole but once: several ways often end at the same place.
struct Reader {
    voice: Voice,
    verbose: bool,
    told: Vec<(Finding, String)>,
}

impl Reader {
    fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        self.voice.verdict(step.verdict.word(), &format!("{} {}: {}", step.number, step.title, step.summary))?;
        for why in &step.unknown {
            self.voice.seen(&format!("unknown: {why}"))?;
        }
        for trouble in &step.troubles {
            self.trouble(trouble)?;
        }
        let moved = |evidence: &&Evidence| self.verbose || evidence.source.ends_with("that moved");
        step.evidence.iter().filter(moved).try_for_each(|evidence| self.evidence(evidence))
    }

    fn way(&mut self, way: &Way, in_full: bool) -> anyhow::Result<()> {
        let (verdict, end) = match &way.end {
            End::Arrived if way.warnings.is_empty() => (Verdict::Ok, "arrives, and so does the answer".to_owned()),
            End::Arrived => (Verdict::Warning, "arrives, and so does the answer".to_owned()),
            End::OutOfSight { place, why } => (Verdict::Unknown, format!("leaves sight at {place}: {why}")),
            End::Fault(fault) => (Verdict::Fault, format!("ends at {} ({})", fault.place, fault.finding)),
        };
        let line = format!("way from {} to {}, {} bytes: {end}", way.from, way.to, way.len);
        self.voice.verdict(verdict.word(), &line)?;
        let is_new = matches!(&way.end, End::Fault(fault) if !self.knows(fault));
        if self.verbose || is_new || in_full && way.is_small() && verdict != Verdict::Fault {
            let row = |hop: &Hop| format!("{:indent$}{}  {}", "", hop.place, hop.what, indent = 2 * hop.depth);
            self.voice.seen(&way.hops.iter().map(row).collect::<Vec<_>>().join("\n"))?;
        }
        for warning in &way.warnings {
            self.trouble(warning)?;
        }
        match &way.end {
            End::Fault(fault) => self.trouble(fault),
            End::Arrived | End::OutOfSight { .. } => Ok(()),
        }
    }

    fn knows(&self, trouble: &Trouble) -> bool {
        self.told.iter().any(|(finding, place)| *finding == trouble.finding && *place == trouble.place)
    }

    fn trouble(&mut self, trouble: &Trouble) -> anyhow::Result<()> {
        if self.knows(trouble) {
            return Ok(());
        }
        self.told.push((trouble.finding, trouble.place.clone()));
        let Trouble { finding, severity, place, text, .. } = trouble;
        self.voice.seen(&format!("{}: {finding} at {place}: {text}", severity.word()))?;
        trouble.evidence.iter().try_for_each(|evidence| self.evidence(evidence))
    }

    fn evidence(&self, evidence: &Evidence) -> anyhow::Result<()> {
        let Evidence { source, rows } = evidence;
        let rows: Vec<_> = rows.iter().map(|row| format!("  {row}")).collect();
        self.voice.seen(&format!("  # {source}\n{}", rows.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_targets_are_read_as_they_are_written() {
        let port: PortArg = "pid:7/eth0".parse().unwrap();
        assert_eq!((port.netns.as_deref(), port.interface.as_str()), (Some("pid:7"), "eth0"));
        assert_eq!("eth0".parse::<PortArg>().unwrap().netns, None);
        assert!("left/".parse::<PortArg>().is_err() && "left/a b".parse::<PortArg>().is_err());
        assert_eq!("fd00::2".parse(), Ok(ToArg { address: "fd00::2".parse().unwrap(), port: None }));
        assert_eq!("10.0.0.2:80".parse(), Ok(ToArg { address: [10, 0, 0, 2].into(), port: Some(80) }));
        assert!("10.0.0".parse::<ToArg>().is_err() && "10.0.0.2:0".parse::<ToArg>().is_err());
    }
}
