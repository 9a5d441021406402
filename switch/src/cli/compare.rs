//! `weft compare`: the same frames through the kernel's devices and through weft, every difference shown.
//!
//! Exit codes: 0 if nothing differs that nobody explained; 1 if something does; 2 if this machine can't compare at all.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{NOT_SO, UsageError, output};
use crate::{
    compare::{
        Comparison, Outcome,
        case::Case,
        catalogue::{About, cases},
        conformance::conformance,
        kernel_release, random, replay,
        report::{CaseResult, Results, Summary, text},
        shrink::shrink,
        statement::Cite,
        verdict::Verdict,
        world::CompareError,
    },
    lab::{Ovs, missing_capabilities},
};

#[derive(Args, Debug)]
pub(super) struct CompareArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Compare bridges: the kernel's and weft's
    Bridge(RunArgs),
    /// Compare overlays: a kernel bridge with a vxlan device, and weft
    Vxlan(RunArgs),
    /// Print the conformance table of results that --json wrote, a column for each kernel
    Report {
        /// Files with the output of --json
        #[arg(value_name = "RESULTS", required = true)]
        results: Vec<PathBuf>,
    },
}

#[derive(Args, Debug)]
struct RunArgs {
    /// Only cases whose name or group has this in it, or that cite this ("3", "row 5")
    #[arg(value_name = "CASE")]
    filter: Option<String>,
    /// Only say which cases there are
    #[arg(long)]
    list: bool,
    /// Only the cases of these names, one in each line of the file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cases", "replay"])]
    names: Option<PathBuf>,
    /// Run this many random sequences of 50 steps instead of the catalogue
    #[arg(long, value_name = "N")]
    cases: Option<u64>,
    /// The seed of the random sequences [default: another one each time, which is printed]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Run the case in this file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cases", "filter"])]
    replay: Option<PathBuf>,
    /// Where a sequence that differs is written, made short, as a case file and a capture
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    save: PathBuf,
    /// Let times be so many times longer, those that cases wait for and those that options say: for a slow machine
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    slow: u32,
    /// What weft is compared with
    #[arg(long, value_name = "SWITCH", value_enum, default_value_t = Reference::Kernel)]
    against: Reference,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Reference {
    /// The kernel's own devices
    Kernel,
    /// Open vSwitch's bridge in its userspace datapath
    Ovs,
}

pub(super) fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Bridge(args) => compare(About::Bridge, args),
        What::Vxlan(args) => compare(About::Vxlan, args),
        What::Report { results } => report(results),
    }
}

fn compare(about: About, args: &RunArgs) -> anyhow::Result<ExitCode> {
    // JSON numbers are exact to 53 bits everywhere.
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1 << 48));
    if args.against == Reference::Ovs {
        if about == About::Vxlan {
            return Err(UsageError("with Open vSwitch only bridges are compared".to_owned()).into());
        }
        if args.cases.is_some() {
            let why = "random sequences are for the kernel: all that Open vSwitch does otherwise would be found again";
            return Err(UsageError(why.to_owned()).into());
        }
    }
    let (cases, random) = match (&args.replay, args.cases) {
        (Some(file), _) => (vec![read(file)?], None),
        (None, Some(count)) => ((0..count).map(|number| random::case(about, seed, number)).collect(), Some(seed)),
        (None, None) => (named(about, args)?, None),
    };
    let cases: Vec<_> = cases.into_iter().map(|case| case.slowed(args.slow)).collect();
    if args.list {
        return list(&cases, args.json);
    }
    let mut comparison = begin(args.against)?;
    if let Some(seed) = random
        && !args.json
    {
        output::print(&format!("{} random sequences of seed {seed}", cases.len()))?;
    }
    let started = Instant::now();
    let progress = progress(cases.len());
    let mut summary = Summary::default();
    let mut results = Vec::new();
    for case in &cases {
        progress.set_message(case.name.clone());
        let mut outcome = comparison.run(case)?;
        if random.is_some() && outcome.verdict.is_bad() {
            outcome = shorten(&mut comparison, outcome)?;
        }
        summary.add(&outcome);
        results.push(CaseResult::of(&outcome));
        progress.inc(1);
        let shown = !args.json && (random.is_none() || outcome.verdict != Verdict::Same);
        progress.suspend(|| -> anyhow::Result<()> {
            if shown {
                output::print(&text(&outcome, comparison.reference()))?;
            }
            if outcome.verdict.is_bad() {
                keep(&outcome, &args.save, comparison.reference(), about)?;
            }
            Ok(())
        })?;
    }
    progress.finish_and_clear();
    let code = if summary.differs > 0 { ExitCode::from(NOT_SO) } else { ExitCode::SUCCESS };
    if args.json {
        let against = comparison.reference().to_owned();
        output::print_json(&Results { kernel: kernel_release(), against, seed: random, summary, cases: results })?;
    } else {
        output::print(&format!("\n{}", summary.text(started.elapsed().as_secs_f64())))?;
        if !summary.not_run.is_empty() && args.against == Reference::Kernel {
            output::print(
                "A kernel that has everything: integration/full-kernel/run -- target/release/weft compare ...",
            )?;
        }
    }
    Ok(code)
}

fn begin(against: Reference) -> anyhow::Result<Comparison> {
    let missing = missing_capabilities();
    if !missing.is_empty() {
        let names = missing.join(" and ");
        return Err(
            UsageError(format!("comparing needs {names}, for namespaces and interfaces: run it as root")).into()
        );
    }
    let comparison = match against {
        Reference::Kernel => Comparison::with_kernel(),
        Reference::Ovs => match Ovs::lacks() {
            Some(program) => return Err(UsageError(format!("Open vSwitch is not here: there is no {program}")).into()),
            None => Comparison::with_ovs(),
        },
    };
    Ok(comparison
        .map_err(|error| UsageError(format!("this machine can't compare: {:#}", anyhow::Error::from(error))))?)
}

fn named(about: About, args: &RunArgs) -> anyhow::Result<Vec<Case>> {
    let mut all = cases(about);
    if let Some(file) = &args.names {
        let wrong = |error| UsageError(format!("{} has no names of cases: {error}", file.display()));
        let text = fs::read_to_string(file).map_err(wrong)?;
        let names: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        if let Some(name) = names.iter().find(|name| !all.iter().any(|case| case.name == **name)) {
            return Err(UsageError(format!("{}: no case is called {name:?}: see --list", file.display())).into());
        }
        all.retain(|case| names.contains(&case.name.as_str()));
    }
    if let Some(filter) = &args.filter {
        let cited = |cite: &Cite| cite.label() == *filter;
        all.retain(|case| case.name.contains(filter) || case.group.contains(filter) || case.cites.iter().any(cited));
        if all.is_empty() {
            return Err(
                UsageError(format!("no case has {filter:?} in its name or group, or cites it: see --list")).into()
            );
        }
    }
    Ok(all)
}

fn list(cases: &[Case], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::print_json(&cases)?;
        return Ok(ExitCode::SUCCESS);
    }
    for case in cases {
        let cites = case.cites.iter().map(Cite::label).collect::<Vec<_>>().join(", ");
        output::print(&format!("{:16} {cites:12} {}", case.group, case.name))?;
    }
    output::print(&format!("\n{} cases", cases.len()))?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Case, UsageError> {
    replay::load(file).map_err(|error| UsageError(format!("{} is no case: {error}", file.display())))
}

/// The shortest sequence that still differs, and how it does.
fn shorten(comparison: &mut Comparison, found: Outcome) -> Result<Outcome, CompareError> {
    let short = shrink(&found.case, |case| Ok::<_, CompareError>(comparison.run(case)?.verdict.is_bad()))?;
    let outcome = comparison.run(&short)?;
    // What differs only now and then is shown as it was found.
    Ok(if outcome.verdict.is_bad() { outcome } else { found })
}

/// Writes a case that differs into files.
fn keep(outcome: &Outcome, folder: &Path, reference: &str, about: About) -> anyhow::Result<()> {
    let name: String = outcome.case.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = folder.join(format!("weft-compare-{name}"));
    match replay::save(&path, outcome, reference) {
        Ok(()) => {
            let kind = if about == About::Bridge { "bridge" } else { "vxlan" };
            let shown = path.display();
            output::complain(&format!(
                "          again: weft compare {kind} --replay {shown}.json; its frames: {shown}.pcapng"
            ));
        }
        Err(error) => output::complain(&format!("weft: can't write {}.json: {error}", path.display())),
    }
    Ok(())
}

fn report(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let read = |file: &PathBuf| -> Result<Results, UsageError> {
        let wrong = |error: String| UsageError(format!("{} has no results of --json: {error}", file.display()));
        let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
    };
    let results = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    output::print(conformance(&results).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// On standard error, and only where somebody looks at it.
fn progress(count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {msg}");
    ProgressBar::new(count as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
