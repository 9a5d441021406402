//! `weft lab`: network labs in namespaces, built, shown, checked, broken and taken away.
//!
//! Exit codes: 0 if all is well; 1 if a check doesn't hold, or a lab is not up; 2 if this machine can't do it at all. `exec`
//! has the status of what it ran.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    net::{IpAddr, UdpSocket},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use tokio::signal::unix::{SignalKind, signal};

use super::{NOT_SO, UsageError, output};
use crate::lab::{
    builtin::{self, LABS, missing},
    drawing::Drawing,
    missing_capabilities,
    running::{self, CheckResult, RunningLab, UpError},
    topology::{Bpf, Check, Topology},
};

#[derive(Args, Debug)]
pub(super) struct LabArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Say which labs there are, and which are up
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Build a lab
    Up {
        /// One of `weft lab list`, or a file of your own
        #[arg(value_name = "LAB|FILE.toml")]
        lab: String,
        /// What this one is called [default: as in its file]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        choice: Choice,
        /// Only print the commands that would build the same
        #[arg(long)]
        commands: bool,
    },
    /// Show what a lab teaches, its drawing, addresses, checks and faults
    Show {
        /// One that is up, one of `weft lab list`, or a file
        #[arg(value_name = "NAME|FILE.toml")]
        lab: String,
        #[command(flatten)]
        choice: Choice,
        /// Print the commands that would build it
        #[arg(long)]
        commands: bool,
        /// Write its drawing to a file as SVG
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Try what must work in a lab; exit code 1 if something does not
    Check {
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Break something in a lab on purpose; without a fault, say which there are
    Break {
        name: String,
        fault: Option<String>,
        /// Take the fault out again; without one, all of them
        #[arg(long)]
        mend: bool,
    },
    /// Take a fault out again; without one, all of them
    Mend { name: String, fault: Option<String> },
    /// Run a program in a host of a lab
    Exec {
        name: String,
        host: String,
        #[arg(value_name = "CMD", required = true, last = true)]
        command: Vec<String>,
    },
    /// Take a lab away, whatever became of it
    Down {
        #[arg(value_name = "NAME", required_unless_present = "all")]
        names: Vec<String>,
        /// All labs that are up
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
    /// Hold a UDP port of this namespace until killed
    #[command(hide = true)]
    HoldPort { port: u16 },
    /// Put the eBPF program of the lab `ebpf` on an interface of this namespace
    #[command(hide = true)]
    Attach {
        interface: String,
        /// Packets for this address go straight to this interface
        #[arg(long, value_name = "ADDRESS=INTERFACE", value_parser = parse_redirect)]
        redirect: Vec<(IpAddr, String)>,
    },
}

#[derive(Args, Debug, Clone, Copy)]
struct Choice {
    /// Who forwards in it, where there is a choice
    #[arg(long, value_enum)]
    datapath: Option<Datapath>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Datapath {
    /// The kernel's own devices
    Kernel,
    /// weft
    Weft,
}

impl From<Datapath> for builtin::Datapath {
    fn from(datapath: Datapath) -> Self {
        match datapath {
            Datapath::Kernel => Self::Kernel,
            Datapath::Weft => Self::Weft,
        }
    }
}

pub(super) fn run(args: &LabArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::List { json } => list(*json),
        What::Up { lab, name, choice, commands } => up(lab, name.as_deref(), *choice, *commands),
        What::Show { lab, choice, commands, svg } => show(lab, *choice, *commands, svg.as_deref()),
        What::Check { name, json } => check(name, *json),
        What::Break { name, fault, mend: false } => break_it(name, fault.as_deref()),
        What::Break { name, fault, mend: true } | What::Mend { name, fault } => mend(name, fault.as_deref()),
        What::Exec { name, host, command } => exec(name, host, command),
        What::Down { names, all } => down(names, *all),
        What::HoldPort { port } => hold_port(*port),
        What::Attach { interface, redirect } => attach(interface, redirect),
    }
}

/// A lab that can be built: its file's name and text.
struct Source {
    file: String,
    text: String,
}

/// Of a lab by its name, or of a file.
fn source(lab: &str, choice: Choice) -> anyhow::Result<Source> {
    if Path::new(lab).extension().is_some_and(|extension| extension == "toml") {
        let text = fs::read_to_string(lab).map_err(|error| UsageError(format!("can't read {lab}: {error}")))?;
        return Ok(Source { file: lab.to_owned(), text });
    }
    let datapath = choice.datapath.map(Into::into);
    let Some(found) = builtin::find(lab, datapath) else {
        let mut names: Vec<_> = LABS.iter().map(|lab| lab.name).collect();
        names.dedup();
        let why = match LABS.iter().any(|known| known.name == lab) {
            true => format!("the lab {lab} has no such datapath"),
            false => format!("there is no lab {lab}: there are {}; a file's name ends in .toml", names.join(", ")),
        };
        return Err(UsageError(why).into());
    };
    Ok(Source { file: found.file.to_owned(), text: found.text.to_owned() })
}

fn needs_root(what: &str) -> Result<(), UsageError> {
    let lacks = missing_capabilities();
    if lacks.is_empty() {
        return Ok(());
    }
    Err(UsageError(format!(
        "`weft lab {what}` makes and enters network namespaces, and lacks {} for it: run it as root",
        lacks.join(" and ")
    )))
}

/// The program that a lab's wefts run: this very one.
fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("can't find the program that this is")
}

fn find(name: &str, what: &str) -> anyhow::Result<RunningLab> {
    needs_root(what)?;
    RunningLab::find(name, &program()?).map_err(told)
}

/// A mistake of the caller's or of a file is printed as one.
fn told(error: UpError) -> anyhow::Error {
    match error {
        UpError::File(errors) => errors.into(),
        UpError::Name(_) | UpError::Kernel(_) => UsageError(error.to_string()).into(),
        UpError::Taken(_) | UpError::NotUp(_) | UpError::HalfBuilt(_) | UpError::Stopped(_) | UpError::Lab(_) => {
            error.into()
        }
    }
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    let up = running::list()?;
    let titles = LABS.iter().map(|lab| Ok((lab, lab.topology()?))).collect::<anyhow::Result<Vec<_>>>()?;
    if json {
        let labs: Vec<_> = titles
            .iter()
            .map(|(lab, topology)| {
                let datapath = match lab.datapath {
                    builtin::Datapath::Kernel => "kernel",
                    builtin::Datapath::Weft => "weft",
                };
                let faults: Vec<_> = topology.faults.iter().map(|fault| &fault.name).collect();
                let hosts: Vec<_> = topology.hosts.iter().map(|host| &host.name).collect();
                serde_json::json!({
                    "name": lab.name, "datapath": datapath, "title": topology.title, "hosts": hosts, "faults": faults,
                    "lacks": missing(&topology.needs),
                })
            })
            .collect();
        output::print_json(&serde_json::json!({ "labs": labs, "up": up }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["LAB", "SHOWS", "HOSTS", "FAULTS"]);
    for (lab, topology) in &titles {
        let name = match lab.datapath {
            builtin::Datapath::Weft if LABS.iter().any(|other| other.name == lab.name && other != *lab) => {
                format!("{} --datapath weft", lab.name)
            }
            builtin::Datapath::Kernel | builtin::Datapath::Weft => lab.name.to_owned(),
        };
        let lacks = missing(&topology.needs);
        let title = if lacks.is_empty() {
            topology.title.clone()
        } else {
            format!("{}\nnot here: this kernel has no {}", topology.title, lacks.join(", "))
        };
        table.add_row([name, title, topology.hosts.len().to_string(), topology.faults.len().to_string()]);
    }
    output::print(&trimmed(&table))?;
    if up.is_empty() {
        output::print("\nNo lab is up. `weft lab up minimal` builds one.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["UP", "HOSTS", "BROKEN"]);
    for found in &up {
        let state = if found.whole { found.broken.join(", ") } else { "never built to its end".to_owned() };
        table.add_row([&found.name, &found.hosts.join(", "), &state]);
    }
    output::print(&format!("\n{}", trimmed(&table)))?;
    Ok(ExitCode::SUCCESS)
}

fn up(lab: &str, name: Option<&str>, choice: Choice, commands: bool) -> anyhow::Result<ExitCode> {
    let Source { file, text } = source(lab, choice)?;
    let topology = Topology::parse(&file, &text)?;
    let name = name.unwrap_or(&topology.name);
    if commands {
        output::print(running::commands(&topology, name)?.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    needs_root("up")?;
    let stopped = stopped_by_signal()?;
    let lab = RunningLab::up_unless(&stopped, name, &file, &text, &program()?).map_err(told)?;
    output::print(&format!("{name} is up: {}\n\n{}", topology.title, Drawing::of(lab.topology()).text()))?;
    let host = topology.hosts.first().map_or("", |host| host.name.as_str());
    let namespace = crate::lab::namespace_name(name, host);
    output::print(&hints(&[
        (format!("weft lab check {name}"), "whether all works".to_owned()),
        (format!("weft lab exec {name} {host} -- sh"), format!("a shell in {host}, whose namespace is {namespace}")),
        (format!("weft lab break {name}"), "what can be broken".to_owned()),
        (format!("weft lab down {name}"), "takes it away".to_owned()),
    ]))?;
    Ok(ExitCode::SUCCESS)
}

/// Is set when a signal asks this process to end, which from now on doesn't end it.
fn stopped_by_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(signal)
            .into_iter()
            .collect::<io::Result<Vec<_>>>()?
    };
    let flag = Arc::clone(&stopped);
    thread::Builder::new().name("lab-signals".into()).spawn(move || {
        runtime.block_on(async {
            let [interrupt, terminate, hangup] = signals.as_mut_slice() else { return };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(stopped)
}

fn show(lab: &str, choice: Choice, commands: bool, svg: Option<&Path>) -> anyhow::Result<ExitCode> {
    // One that is up is meant first; whether it is can be seen without privileges.
    let found = running::list()?.into_iter().find(|found| found.name == lab && found.whole);
    let (topology, name) = match found {
        Some(found) if choice.datapath.is_none() => (running::topology(&found.name).map_err(told)?, found.name),
        _ => {
            let Source { file, text } = source(lab, choice)?;
            let topology = Topology::parse(&file, &text)?;
            let name = topology.name.clone();
            (topology, name)
        }
    };
    let drawing = Drawing::of(&topology);
    if let Some(path) = svg {
        fs::write(path, drawing.svg()).with_context(|| format!("can't write {}", path.display()))?;
    }
    if commands {
        output::print(running::commands(&topology, &name)?.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&format!("{name}: {}\n\n{}\n\n{}", topology.title, topology.text.trim(), drawing.text().trim_end()))?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["HOST", "INTERFACE", "ADDRESSES", "NAMESPACE"]);
    for host in &topology.hosts {
        let namespace = crate::lab::namespace_name(&name, &host.name);
        if host.interfaces.is_empty() {
            table.add_row([&host.name, "", "", &namespace]);
        }
        for interface in &host.interfaces {
            let addresses: Vec<_> = interface.address.iter().map(ToString::to_string).collect();
            table.add_row([&host.name, &interface.name, &addresses.join(" "), &namespace]);
        }
    }
    output::print(&format!("\n{}", trimmed(&table)))?;
    if topology.hosts.iter().any(|host| host.weft.is_some()) {
        output::print(&format!(
            "\nA host's weft: weft show fdb --socket {}/HOST.sock",
            running::folder(&name).display()
        ))?;
    }
    let checks: Vec<_> = topology.checks.iter().map(|check| format!("  {} ({})", check.name, tried(check))).collect();
    output::print(&format!("\nMust be so:\n{}", checks.join("\n")))?;
    if !topology.faults.is_empty() {
        output::print(&format!("\nCan be broken:\n{}", faults(&topology, &[])))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tried(check: &Check) -> String {
    let from = &check.from;
    let not = if check.fails { " must fail" } else { "" };
    match (check.ping, check.tcp, &check.run) {
        (Some(address), _, _) => match check.size {
            Some(size) => format!("{from}: ping {address} with {size} bytes{not}"),
            None => format!("{from}: ping {address}{not}"),
        },
        (None, Some(address), _) => format!("{from}: TCP to {address}{not}"),
        (None, None, Some(line)) => format!("{from}: {line}{not}"),
        (None, None, None) => from.clone(),
    }
}

fn faults(topology: &Topology, broken: &[String]) -> String {
    let longest = topology.faults.iter().map(|fault| fault.name.len()).max().unwrap_or(0);
    let line = |fault: &crate::lab::topology::Fault| {
        let mark = if broken.contains(&fault.name) { "*" } else { " " };
        format!("{mark} {:longest$}  {}", fault.name, fault.text)
    };
    topology.faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn check(name: &str, json: bool) -> anyhow::Result<ExitCode> {
    let results = find(name, "check")?.check_all()?;
    let all = results.iter().all(|result| result.holds);
    if json {
        output::print_json(&results)?;
    } else {
        for CheckResult { name, did, holds, saw } in &results {
            let verdict = if *holds { "ok    " } else { "NOT SO" };
            output::print(&format!("{verdict}  {name}\n          {did}\n          {saw}"))?;
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(NOT_SO) })
}

fn break_it(name: &str, fault: Option<&str>) -> anyhow::Result<ExitCode> {
    let Some(fault) = fault else {
        let found = running::list()?.into_iter().find(|found| found.name == name && found.whole);
        let (topology, broken) = match found {
            Some(found) => (running::topology(&found.name).map_err(told)?, found.broken),
            None => {
                let Source { file, text } = source(name, Choice { datapath: None })?;
                (Topology::parse(&file, &text)?, Vec::new())
            }
        };
        output::print(&faults(&topology, &broken))?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut lab = find(name, "break")?;
    let broken = lab.inject(fault)?;
    let hints = hints(&[
        (format!("weft lab check {name}"), "what does not work any more".to_owned()),
        (format!("weft doctor --lab {name}"), "finds out why".to_owned()),
        (format!("weft lab mend {name} {fault}"), "takes it out".to_owned()),
    ]);
    output::print(&format!("{fault} is in {name}: {}\n\n{hints}", broken.text))?;
    Ok(ExitCode::SUCCESS)
}

fn mend(name: &str, fault: Option<&str>) -> anyhow::Result<ExitCode> {
    let mended = find(name, "mend")?.mend(fault)?;
    output::print(&match mended.as_slice() {
        [] => format!("nothing is broken in {name}"),
        mended => format!("mended: {}", mended.join(", ")),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn exec(name: &str, host: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let lab = find(name, "exec")?;
    if lab.topology().host(host).is_none() {
        let known: Vec<_> = lab.topology().hosts.iter().map(|host| host.name.as_str()).collect();
        return Err(UsageError(format!("the lab {name} has no host {host}; it has {}", known.join(", "))).into());
    }
    let [program, args @ ..] = command else { return Err(UsageError("no command".to_owned()).into()) };
    let status = lab.host(host)?.within(|| Command::new(program).args(args).status())?;
    let status = status.with_context(|| format!("can't run {program}"))?;
    // As a shell says it.
    let code =
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or_else(|| i32::from(NOT_SO));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(NOT_SO)))
}

fn down(names: &[String], all: bool) -> anyhow::Result<ExitCode> {
    needs_root("down")?;
    let names = if all { running::list()?.into_iter().map(|found| found.name).collect() } else { names.to_vec() };
    let mut outcome = Ok(ExitCode::SUCCESS);
    for name in names {
        match running::down(&name) {
            Ok(()) => output::print(&format!("{name} is gone"))?,
            Err(error) => outcome = Err(told(error)),
        }
    }
    outcome
}

fn hold_port(port: u16) -> anyhow::Result<ExitCode> {
    // Of both families, where the kernel has IPv6.
    let held = UdpSocket::bind(("::", port)).or_else(|_| UdpSocket::bind(("0.0.0.0", port)));
    let _held = held.with_context(|| format!("can't hold UDP port {port}"))?;
    output::print("held")?;
    io::stdout().flush()?;
    loop {
        thread::park();
    }
}

fn attach(interface: &str, redirect: &[(IpAddr, String)]) -> anyhow::Result<ExitCode> {
    needs_root("attach")?;
    let redirect: BTreeMap<_, _> = redirect.iter().cloned().collect();
    crate::lab::attach_here(&Bpf { interface: interface.to_owned(), redirect })?;
    Ok(ExitCode::SUCCESS)
}

fn parse_redirect(text: &str) -> Result<(IpAddr, String), String> {
    let wrong = || "an address and an interface, such as 10.10.0.2=port2".to_owned();
    let (address, interface) = text.split_once('=').ok_or_else(wrong)?;
    Ok((address.parse().map_err(|_| wrong())?, interface.to_owned()))
}

/// Commands, and what each does.
fn hints(hints: &[(String, String)]) -> String {
    let longest = hints.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    hints.iter().map(|(command, what)| format!("{command:longest$}   {what}")).collect::<Vec<_>>().join("\n")
}

/// Without the blanks that pad the last column.
fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
