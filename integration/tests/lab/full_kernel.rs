//! Every lab on Debian's kernel, which has all that labs need: ipvlan and VLAN filtering too.
//!
//! One boot of the emulated machine (`integration/full-kernel/run`) for all of them: there this very program runs again. A
//! lab that this kernel can't build is tested there as the others are here, and its tests have the outcome of those inside.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    time::Instant,
};

use anyhow::{Context, anyhow, ensure};
use libtest_mimic::Trial;
use weft::lab::{
    builtin::{Builtin, Datapath, LABS, missing},
    running,
};
use weft_integration::{
    REQUIRE_ALL,
    labs::{Diagnosis, Up, is_healthy},
    trial,
    weft::binary,
};

use crate::{
    by_hand::same_by_hand,
    command::{NEEDS, complains, holds, leaves_nothing},
};

/// Of each lab; its name comes in the place of `NAME`.
pub(crate) const COMES_UP: &str = "lab_NAME_comes_up_holds_and_goes";
pub(crate) const FAULTS_BREAK: &str = "every_fault_of_lab_NAME_breaks_it_and_is_mended";
pub(crate) const BY_HAND: &str = "the_commands_of_lab_NAME_build_the_same_by_hand";

const NAME: &str = "every_lab_comes_up_holds_and_goes_on_the_full_kernel";
/// Set in the environment of the test inside the emulated machine, which must not look for another one: the files of the
/// labs that can't be built outside.
const INSIDE: &str = "WEFT_FULL_KERNEL";

pub(crate) fn tests() -> Vec<Trial> {
    let test = || {
        let Ok(elsewhere_impossible) = env::var(INSIDE) else { return passed(NAME) };
        every_lab(&elsewhere_impossible.split(' ').collect::<Vec<_>>())
    };
    vec![trial(NAME, NEEDS, test)]
}

/// A test of a lab, which stands for `NAME` in the test's name. Where this kernel lacks something that the lab needs, what
/// came of it on the full kernel.
pub(crate) fn of_lab(lab: &'static Builtin, name: &str, test: fn(&'static Builtin) -> anyhow::Result<()>) -> Trial {
    let name = named(lab, name);
    trial(&name.clone(), NEEDS, move || {
        let lacks = missing(&lab.topology()?.needs);
        if lacks.is_empty() {
            return test(lab);
        }
        println!("{name}: this kernel has no {}", lacks.join(", "));
        let option = if lab.datapath == Datapath::Weft { "weft" } else { "kernel" };
        let (code, said) = complains(&format!("lab up {} --datapath {option}", lab.name))?;
        ensure!(code == Some(2) && said.contains(lacks[0]), "{said}");
        passed(&name)
    })
}

/// Whether a test does nothing but wait for what comes of it on the full kernel.
pub(crate) fn waits(name: &str) -> bool {
    let kinds = [COMES_UP, BY_HAND, FAULTS_BREAK];
    impossible_here().any(|lab| kinds.iter().any(|kind| named(lab, kind) == name))
}

/// The labs that this kernel lacks something for.
fn impossible_here() -> impl Iterator<Item = &'static Builtin> {
    LABS.iter().filter(|lab| lab.topology().is_ok_and(|lab| !missing(&lab.needs).is_empty()))
}

fn named(lab: &Builtin, name: &str) -> String {
    name.replace("NAME", lab.file.trim_end_matches(".toml"))
}

/// Whether a test passed inside; who asks first has the machine booted.
fn passed(name: &str) -> anyhow::Result<()> {
    static SAID: OnceLock<Result<String, String>> = OnceLock::new();
    let said = SAID.get_or_init(|| {
        let said = on_the_full_kernel().map_err(|error| format!("{error:#}"));
        println!("{}", said.as_ref().unwrap_or_else(|error| error));
        said
    });
    let said = said.as_ref().map_err(|error| anyhow!("on the full kernel: {error}"))?;
    ensure!(said.lines().any(|line| line.ends_with(&told(name))), "on the full kernel:\n{said}");
    Ok(())
}

/// What is printed inside of a test that passed.
fn told(name: &str) -> String {
    format!("passed: {name}")
}

fn on_the_full_kernel() -> anyhow::Result<String> {
    let files: Vec<_> = impossible_here().map(|lab| lab.file).collect();
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("full-kernel/run");
    let mut command = Command::new(run);
    command.args(["--", "env"]).arg(format!("{INSIDE}={}", files.join(" "))).arg(format!("{REQUIRE_ALL}=1"));
    // Beside all the other tests: what an emulated machine does then takes its time.
    command.env("FULL_KERNEL_SECONDS", "1500");
    command.arg(env::current_exe()?).args([NAME, "--nocapture"]).stdin(Stdio::null());
    let output = command.output().context("full-kernel/run can't be started")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains("test result:"), "{}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// `impossible`: the labs that nothing but their refusal is known of from outside.
fn every_lab(impossible: &[&str]) -> anyhow::Result<()> {
    // In the machine's memory: what it reads of the files outside it reads slowly, and each weft anew.
    let folder = tempfile::tempdir()?;
    let weft = folder.path().join("weft");
    fs::copy(binary()?, &weft)?;
    // The kernel would load them one by one in the midst of `nft`, which takes minutes here.
    let nftables = ["nf_tables", "nf_conntrack", "nft_chain_nat", "nft_nat", "nft_masq", "nft_ct", "nft_reject_inet"];
    let tc = ["sch_netem", "sch_ingress", "cls_matchall", "act_gact"];
    let loaded = Command::new("modprobe").arg("-a").args(nftables).args(tc).status()?;
    ensure!(loaded.success(), "a module of nftables or tc is missing");
    let started = Instant::now();
    let step = |what: String| println!("{:6.1} s {what}", started.elapsed().as_secs_f64());
    let mut wrong = Vec::new();
    for lab in LABS {
        let mut so = |name: &str, outcome: anyhow::Result<()>| match outcome {
            Ok(()) => step(told(&named(lab, name))),
            Err(error) => wrong.push(format!("{} {error:#}", named(lab, name))),
        };
        let lacks = missing(&lab.topology()?.needs);
        ensure!(lacks.is_empty(), "{}: the full kernel has no {}", lab.file, lacks.join(", "));
        so(COMES_UP, comes_up_and_goes(&weft, lab));
        if impossible.contains(&lab.file) {
            so(BY_HAND, same_by_hand(lab));
            so(FAULTS_BREAK, faults_break_and_are_named(&weft, lab));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    step(told(NAME));
    Ok(())
}

fn comes_up_and_goes(weft: &Path, lab: &Builtin) -> anyhow::Result<()> {
    let (up, running) = Up::start_with(lab, weft)?;
    holds(&running)?;
    is_healthy(weft, &up)?;
    running::down(&up.name)?;
    leaves_nothing(&up.name)
}

/// One after the other in the same lab, which mends what it breaks. Each breaks a check, and is what doctor names first.
fn faults_break_and_are_named(weft: &Path, lab: &Builtin) -> anyhow::Result<()> {
    let (up, mut running) = Up::start_with(lab, weft)?;
    let mut wrong = Vec::new();
    for fault in &lab.topology()?.faults {
        running.inject(&fault.name)?;
        if running.check_all()?.iter().all(|result| result.holds) {
            wrong.push(format!("{} breaks nothing", fault.name));
        }
        let diagnosis = Diagnosis::of(weft, &running, fault)?;
        println!("{}", diagnosis.row());
        if !diagnosis.is_right() {
            wrong.push(diagnosis.row());
        }
        running.mend(Some(&fault.name)).with_context(|| format!("mending {}", fault.name))?;
    }
    holds(&running).context("after everything was mended")?;
    is_healthy(weft, &up).context("after everything was mended")?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
