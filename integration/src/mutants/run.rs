//! Mutants woken one by one, and whether `weft compare` shows it.

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use weft::{
    compare::{catalogue::About, report::Results},
    lab::Ovs,
};

use super::{VARIABLE, list::Mutant};

/// How long a run may take, in an emulated machine too.
const PATIENCE: Duration = Duration::from_secs(300);

/// What `weft compare --against` takes.
const KERNEL: &str = "kernel";
const OVS: &str = "ovs";

/// What became of a mutant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Its case shows it, and so many others of those that were run.
    Caught(usize),
    /// Its case can't be run with this kernel, and shows it beside Open vSwitch.
    CaughtBesideOvs,
    /// Its case does not.
    Survived(Survivor),
    /// Its case can't be run on this kernel; why.
    NotHere(String),
}

/// What is known of a mutant that its case does not show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survivor {
    /// The verdict of its case.
    pub verdict: String,
    /// Cases that do show it.
    pub others: Vec<String>,
}

/// Runs the catalogues without a mutant. What differs then, differs without anybody's doing.
///
/// # Errors
/// Something differs, or a catalogue can't be run.
pub fn nobody_is_awake(binary: &Path) -> anyhow::Result<()> {
    let beside_ovs = Ovs::lacks().is_none().then_some((About::Bridge, OVS));
    for (about, against) in [(About::Bridge, KERNEL), (About::Vxlan, KERNEL)].into_iter().chain(beside_ovs) {
        let results = compare(binary, about, against, None, None)?;
        let differs: Vec<_> = differing(&results).collect();
        ensure!(differs.is_empty(), "without a mutant, weft differs already: {}", differs.join("; "));
    }
    Ok(())
}

/// Wakes each mutant and runs its case, or with `all` the whole catalogue that the case is in; `told` hears of each as it
/// comes out.
///
/// # Errors
/// A mutant's case can't be run, for another reason than that the kernel can't.
pub fn wake(
    binary: &Path,
    mutants: &[Mutant],
    all: bool,
    mut told: impl FnMut(&Mutant, &Outcome),
) -> anyhow::Result<()> {
    // A comparison stays on one CPU.
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let (teller, hearer) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (next, teller) = (&next, teller.clone());
            scope.spawn(move || {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if teller.send((mutant, outcome(binary, mutant, all))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(teller);
        for (mutant, outcome) in hearer {
            told(mutant, &outcome?);
        }
        Ok(())
    })
}

fn outcome(binary: &Path, mutant: &Mutant, all: bool) -> anyhow::Result<Outcome> {
    let (about, case) = mutant.case()?;
    let filter = (!all).then_some(case.name.as_str());
    let run = |against| {
        compare(binary, about, against, filter, Some(mutant)).with_context(|| format!("mutant {}", mutant.name))
    };
    let results = run(KERNEL)?;
    let own = results.cases.iter().find(|result| result.name == case.name);
    let own = own.with_context(|| format!("mutant {}: its case was not run", mutant.name))?;
    let is_own = |name: &str| name == case.name;
    let others = differing(&results).filter(|name| !is_own(name));
    Ok(match own.verdict.as_str() {
        "differs" => Outcome::Caught(others.count()),
        "not run" if about == About::Bridge && Ovs::lacks().is_none() && differing(&run(OVS)?).any(is_own) => {
            Outcome::CaughtBesideOvs
        }
        "not run" => Outcome::NotHere(own.reason.clone().unwrap_or_default()),
        verdict => {
            Outcome::Survived(Survivor { verdict: verdict.to_owned(), others: others.map(str::to_owned).collect() })
        }
    })
}

fn differing(results: &Results) -> impl Iterator<Item = &str> {
    results.cases.iter().filter(|case| case.verdict == "differs").map(|case| case.name.as_str())
}

/// Runs the cases of a catalogue whose names have `filter` in them.
fn compare(
    binary: &Path,
    about: About,
    against: &str,
    filter: Option<&str>,
    mutant: Option<&Mutant>,
) -> anyhow::Result<Results> {
    let folder = tempfile::tempdir()?;
    let (said, complained) = (folder.path().join("said"), folder.path().join("complained"));
    let mut command = Command::new(binary);
    command.args(["compare", if about == About::Bridge { "bridge" } else { "vxlan" }]);
    command.args(["--against", against, "--json", "--save"]);
    command.arg(folder.path()).args(filter).env_remove(VARIABLE);
    command.envs(mutant.map(|mutant| (VARIABLE, &mutant.name)));
    command.stdin(Stdio::null()).stdout(File::create(&said)?).stderr(File::create(&complained)?);
    let mut child = command.spawn().with_context(|| format!("{} can't be started", binary.display()))?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                child.kill()?;
                child.wait()?;
                bail!("weft compare took more than {} s", PATIENCE.as_secs());
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    // 1: something differs.
    let complained = || fs::read_to_string(&complained).unwrap_or_default();
    ensure!(matches!(status.code(), Some(0 | 1)), "weft compare: {status}\n{}", complained());
    Ok(serde_json::from_slice(&fs::read(said)?)?)
}

/// Runs this program again, with these arguments, on a kernel that has everything (`integration/full-kernel/run`): whether
/// it ended well. Its output is this one's.
///
/// # Errors
/// It can't be started.
pub fn on_the_full_kernel(root: &Path, arguments: &[String]) -> anyhow::Result<bool> {
    let mut command = Command::new(root.join("integration/full-kernel/run"));
    command.arg("--").arg(env::current_exe()?).args(arguments).stdin(Stdio::null());
    Ok(command.status().context("integration/full-kernel/run can't be started")?.success())
}
