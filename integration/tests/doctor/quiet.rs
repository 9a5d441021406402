//! Doctor reads: nothing is other than before, no packet was sent, and few capabilities are enough.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use weft::lab::{builtin, running::RunningLab};
use weft_integration::{labs::Up, weft::binary};

use crate::doctor;

/// All that could be changed in a lab, by other programs than weft's own. Counters of interfaces are among it, so that a
/// packet that was sent would show.
fn state(running: &RunningLab) -> anyhow::Result<String> {
    const COMMANDS: [&str; 11] = [
        "ip -d -s link",
        "ip address",
        "ip route show table all",
        "ip rule",
        "ip -s neighbour",
        "bridge fdb show",
        "bridge -d link",
        "bridge vlan show",
        "tc -s qdisc show",
        "nft -a list ruleset",
        "sysctl -a --pattern ^net[.]",
    ];
    let mut all = String::new();
    for host in &running.topology().hosts {
        for command in COMMANDS {
            let words: Vec<_> = command.split(' ').collect();
            let output = running.host(&host.name)?.run(&words)?;
            all.push_str(&format!("# {} {command}\n{}{}", host.name, output.stdout, output.stderr));
        }
    }
    // The time since a neighbour was used, and timers that run down by themselves, are no state; nor is how full the whole
    // machine's tables are.
    let moves = |line: &&str| {
        !["timer", "gc_", "nf_conntrack_count", "dentry", "expires", "used "].iter().any(|word| line.contains(word))
    };
    Ok(all.lines().filter(moves).collect::<Vec<_>>().join("\n"))
}

pub(crate) fn changes_nothing() -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let (up, running) = Up::start(builtin::find("bridge", None).context("the lab bridge")?)?;
    // Until the kernel has done with announcing IPv6 addresses and groups by itself.
    let begun = Instant::now();
    let mut difference = String::new();
    while begun.elapsed() < PATIENCE {
        let before = state(&running)?;
        thread::sleep(Duration::from_secs(1));
        if state(&running)? != before {
            continue;
        }
        let (code, report) = doctor(&["--lab", &up.name, "--verbose"])?;
        ensure!(code == 0, "{report:#}");
        let after = state(&running)?;
        if after == before {
            return Ok(());
        }
        // Once can be the kernel's own doing; a doctor that changes something does it each time.
        let rows = before.lines().zip(after.lines()).filter(|(before, after)| before != after);
        difference = rows.map(|(before, after)| format!("- {before}\n+ {after}\n")).collect();
    }
    anyhow::bail!("something moves:\n{difference}")
}

/// What the guide says that doctor needs.
const CAPABILITIES: &str = "sys_admin,net_admin,sys_ptrace";

pub(crate) fn few_capabilities() -> anyhow::Result<()> {
    let (up, mut running) = Up::start(builtin::find("minimal", None).context("the lab minimal")?)?;
    running.inject("nft-drop-input")?;
    let with = |capabilities: &str| -> anyhow::Result<serde_json::Value> {
        let bounds = format!(
            "-all{}",
            capabilities.split(',').filter(|it| !it.is_empty()).map(|it| format!(",+{it}")).collect::<String>()
        );
        let output = Command::new("setpriv")
            .args(["--bounding-set", &bounds, "--inh-caps", "-all"])
            .arg(binary()?)
            .args(["doctor", "--json", "--lab", &up.name])
            .output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{capabilities}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    let report = with(CAPABILITIES)?;
    ensure!(report["first_fault"]["finding"] == "nft-drop", "{:#}", report["first_fault"]);
    // Without the right to ask nftables that is said, and not taken for "no rules".
    let report = with("sys_admin,sys_ptrace")?;
    let unknown = report["steps"].as_array().context("steps")?.iter().any(|step| {
        step["unknown"]
            .as_array()
            .is_some_and(|all| all.iter().any(|why| why.as_str().is_some_and(|why| why.contains("filters of"))))
    });
    ensure!(unknown, "{:#}", report["steps"]);
    Ok(())
}
