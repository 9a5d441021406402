//! `weft experiment mtu`: from arguments to a sweep, and the run of it.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{prepare, progress, tell_files};
use crate::{
    cli::{NOT_SO, UsageError, output},
    experiment::{
        cell::{Cell, DfPolicy, Engine, Offload, Oversize, Tunnel, Underlay},
        mtu::{Run, matches},
        report,
        sweep::{InnerMtu, MiddleMtu, Sweep},
    },
};

/// Every combination of the axes is a cell. Axes take several values, with commas between them.
#[derive(Args, Debug)]
pub(super) struct MtuArgs {
    /// A small sweep of less than a minute
    #[arg(long)]
    quick: bool,
    /// Measure the kernel's vxlan devices on the same cells, too
    #[arg(long)]
    kernel: bool,
    /// MTUs of the hosts' links [default: 1500,9000]
    #[arg(long, value_name = "BYTES", value_delimiter = ',')]
    underlay_mtu: Option<Vec<u32>>,
    /// MTUs of the link in the middle of the underlay: bytes, or `same` [default: same]
    #[arg(long, value_name = "BYTES", value_delimiter = ',')]
    middle_mtu: Option<Vec<MiddleMtu>>,
    /// MTUs of the stations: bytes, `fit`, `fit-100`, `fit+1`, `underlay` [default: 576,1280,1500,4000,fit,underlay]
    #[arg(long, value_name = "BYTES", value_delimiter = ',', allow_hyphen_values = true)]
    inner_mtu: Option<Vec<InnerMtu>>,
    /// Encapsulations [default: vxlan,vxlan-gbp,vxlan-gpe,geneve]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    encapsulation: Option<Vec<Tunnel>>,
    /// IP versions of the underlay: ipv4, ipv6 [default: ipv4]
    #[arg(long, value_name = "VERSION", value_delimiter = ',')]
    underlay: Option<Vec<Underlay>>,
    /// Whether ports have offloads: on, off [default: on,off]
    #[arg(long, value_name = "SETTING", value_delimiter = ',')]
    offload: Option<Vec<Offload>>,
    /// The outer DF bit: set, unset, inherit [default: set,unset,inherit]
    #[arg(long, value_name = "POLICY", value_delimiter = ',')]
    df: Option<Vec<DfPolicy>>,
    /// What becomes of IPv4 without DF that is too long: fragment, outer, drop [default: fragment]
    #[arg(long, value_name = "WAY", value_delimiter = ',')]
    oversize: Option<Vec<Oversize>>,
    /// How long each of the three loads runs in each cell [default: 0.4]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// What the UDP source offers [default: 100]
    #[arg(long, value_name = "MBIT/S")]
    udp_rate: Option<f64>,
    /// Payload of each UDP datagram [default: what fills the inner MTU]
    #[arg(long, value_name = "BYTES")]
    udp_size: Option<u16>,
    /// Length of an answer [default: 16384]
    #[arg(long, value_name = "BYTES")]
    answer: Option<u32>,
    /// Frames that the link in the middle loses, each way [default: 0]
    #[arg(long, value_name = "PERCENT")]
    loss: Option<f64>,
    /// How long the link in the middle takes, each way [default: 0]
    #[arg(long, value_name = "MS")]
    delay: Option<f64>,
    /// Threads of each weft that forward [default: 1]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// What losses are drawn from [default: 1]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only cells whose key has these words ("geneve inner=1450"); the others stay for a later --resume
    #[arg(long, value_name = "WORDS")]
    only: Vec<String>,
    /// Only say which cells there are
    #[arg(long)]
    list: bool,
    /// The folder for journal, CSV, JSON and report, which must have none of an earlier run
    #[arg(long, value_name = "DIR", default_value = "weft-experiment-mtu")]
    out: PathBuf,
    /// Go on with the run in this folder; other options must be what they were, or left out
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "quick"])]
    resume: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

impl MtuArgs {
    /// What is measured if these options are laid over a sweep.
    fn over(&self, sweep: Sweep) -> Sweep {
        fn or<T: Clone>(asked: &Option<T>, otherwise: T) -> T {
            asked.clone().unwrap_or(otherwise)
        }
        let Sweep {
            engine,
            encapsulation,
            underlay,
            underlay_mtu,
            middle_mtu,
            inner_mtu,
            offload,
            df,
            oversize,
            conditions,
        } = sweep;
        let engine = if self.kernel { vec![Engine::Weft, Engine::Kernel] } else { engine };
        let mut conditions = conditions;
        conditions.seconds = or(&self.seconds, conditions.seconds);
        conditions.udp_mbit = or(&self.udp_rate, conditions.udp_mbit);
        conditions.udp_size = self.udp_size.or(conditions.udp_size);
        conditions.answer_len = or(&self.answer, conditions.answer_len);
        conditions.loss_percent = or(&self.loss, conditions.loss_percent);
        conditions.delay_ms = or(&self.delay, conditions.delay_ms);
        conditions.workers = or(&self.workers, conditions.workers);
        conditions.seed = or(&self.seed, conditions.seed);
        Sweep {
            engine,
            encapsulation: or(&self.encapsulation, encapsulation),
            underlay: or(&self.underlay, underlay),
            underlay_mtu: or(&self.underlay_mtu, underlay_mtu),
            middle_mtu: or(&self.middle_mtu, middle_mtu),
            inner_mtu: or(&self.inner_mtu, inner_mtu),
            offload: or(&self.offload, offload),
            df: or(&self.df, df),
            oversize: or(&self.oversize, oversize),
            conditions,
        }
    }
}

pub(super) fn run(args: &MtuArgs) -> anyhow::Result<ExitCode> {
    let wanted = || args.over(if args.quick { Sweep::quick() } else { Sweep::standard() });
    if args.list {
        return list(args, &wanted());
    }
    prepare(&[])?;
    let mut run = match &args.resume {
        Some(folder) => Run::resume(folder, |sweep| args.over(sweep))?,
        None => {
            wanted().check().map_err(UsageError)?;
            Run::begin(&args.out, wanted())?
        }
    };
    for what in run.left_out() {
        output::complain(&format!("left out: {what}"));
    }
    let left = run.left(&args.only);
    let bar = progress(left.len());
    bar.suspend(|| output::complain(&format!("an interrupted run goes on with --resume {}", run.folder().display())));
    for cell in &left {
        bar.set_message(cell.key());
        let failed = run.measure(cell)?.failed.clone();
        if let Some(why) = failed {
            bar.suspend(|| output::complain(&format!("weft: {}: {why}", cell.key())));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    tell_files(&run.write()?);
    let results = run.results();
    if args.json {
        output::print_json(&results)?;
    } else {
        for finding in report::mtu::findings(&results) {
            output::print(&finding)?;
        }
    }
    let failed = results.cells.iter().any(|record| record.failed.is_some());
    Ok(if failed { ExitCode::from(NOT_SO) } else { ExitCode::SUCCESS })
}

fn list(args: &MtuArgs, sweep: &Sweep) -> anyhow::Result<ExitCode> {
    sweep.check().map_err(UsageError)?;
    let (cells, left_out) = sweep.cells();
    let cells: Vec<Cell> = cells.into_iter().filter(|cell| matches(&cell.key(), &args.only)).collect();
    for what in left_out {
        output::complain(&format!("left out: {what}"));
    }
    if args.json {
        output::print_json(&cells)?;
    } else {
        for cell in &cells {
            output::print(&cell.key())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
