//! Every lab on Debian's kernel, which has all that labs need: ipvlan and VLAN filtering too.
//!
//! One boot of the emulated machine (`integration/full-kernel/run`) for all of them: there this very program runs again, and
//! its outcome is that of the test.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::lab::{
    builtin::{LABS, missing},
    running,
};
use weft_integration::{REQUIRE_ALL, trial, weft::binary};

use crate::command::{NEEDS, Up, holds, leaves_nothing};

const NAME: &str = "every_lab_comes_up_holds_and_goes_on_the_full_kernel";
/// Set in the environment of the test inside the emulated machine, which must not look for another one.
const INSIDE: &str = "WEFT_FULL_KERNEL";

pub(crate) fn tests() -> Vec<Trial> {
    let test = if env::var_os(INSIDE).is_some() { every_lab } else { on_the_full_kernel };
    vec![trial(NAME, NEEDS, test)]
}

fn on_the_full_kernel() -> anyhow::Result<()> {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("full-kernel/run");
    let mut command = Command::new(run);
    command.args(["--", "env"]).arg(format!("{INSIDE}=1")).arg(format!("{REQUIRE_ALL}=1"));
    command.arg(env::current_exe()?).args([NAME, "--nocapture"]).stdin(Stdio::null());
    let output = command.output().context("full-kernel/run can't be started")?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let passed = output.status.success() && said.contains("1 passed");
    ensure!(passed, "on the full kernel: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn every_lab() -> anyhow::Result<()> {
    // In the machine's memory: what it reads of the files outside it reads slowly, and each weft anew.
    let folder = tempfile::tempdir()?;
    let weft = folder.path().join("weft");
    fs::copy(binary()?, &weft)?;
    // The kernel would load them one by one in the midst of `nft`, which takes minutes here.
    let modules = ["nf_tables", "nf_conntrack", "nft_chain_nat", "nft_nat", "nft_masq", "nft_ct", "nft_reject_inet"];
    ensure!(Command::new("modprobe").arg("-a").args(modules).status()?.success(), "a module of nftables is missing");
    for lab in LABS {
        let lacks = missing(&lab.topology()?.needs);
        ensure!(lacks.is_empty(), "{}: the full kernel has no {}", lab.file, lacks.join(", "));
        let started = Instant::now();
        let (up, running) = Up::start_with(lab, &weft)?;
        let built = started.elapsed();
        holds(&running).context(lab.file)?;
        let checked = started.elapsed();
        running::down(&up.name)?;
        leaves_nothing(&up.name)?;
        println!(
            "{}: up in {:.1} s, checked after {:.1} s, gone",
            lab.file,
            built.as_secs_f64(),
            checked.as_secs_f64()
        );
    }
    Ok(())
}
