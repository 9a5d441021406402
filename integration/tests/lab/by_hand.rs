//! The commands that `--commands` prints, run in a shell, build what `weft lab up` builds.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use weft::lab::{
    Namespace,
    builtin::{Builtin, LABS},
    running::{self, RunningLab},
    topology::Topology,
};
use weft_integration::{labs::Up, weft::binary};

use crate::full_kernel::{BY_HAND, of_lab};

pub(crate) fn tests() -> Vec<Trial> {
    let test = |lab| of_lab(lab, BY_HAND, same_by_hand);
    LABS.iter().map(test).collect()
}

pub(crate) fn same_by_hand(lab: &'static Builtin) -> anyhow::Result<()> {
    let topology = lab.topology()?;
    let by_hand = Up::named("hand");
    let script = running::commands(&topology, &by_hand.name)?;
    let path =
        format!("{}:{}", binary()?.parent().context("a program is in a folder")?.display(), std::env::var("PATH")?);
    let mut shell = Command::new("sh");
    // What the script leaves running holds its standard output, so that nobody may wait for its end.
    shell.args(["-ec", &script]).env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ensure!(shell.status()?.success(), "{} fails:\n{script}", lab.file);
    let (up, running) = Up::start(lab)?;
    for host in &topology.hosts {
        let namespace = |lab: &Up| Lookup::open(&lab.name, &host.name);
        let (hand, weft) = (namespace(&by_hand)?, namespace(&up)?);
        for (what, command) in STATE {
            let end = Instant::now() + PATIENCE;
            loop {
                let (hand, weft) = (hand.state(what, command, &by_hand.name)?, weft.state(what, command, &up.name)?);
                if hand == weft {
                    break;
                }
                // A bridge hears a moment later that a port of its has a carrier.
                if Instant::now() < end {
                    thread::sleep(Duration::from_millis(50));
                    continue;
                }
                let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
                    one.difference(other).cloned().collect()
                };
                let (hand, weft) = (only(&hand, &weft), only(&weft, &hand));
                bail!("{} {}, {what}: only by hand {hand:#?}, only by weft {weft:#?}", lab.file, host.name);
            }
        }
        for key in host.sysctl.keys() {
            let value = |host: &Namespace| host.sysctl_value(key);
            ensure!(value(running.host(&host.name)?)? == hand.sysctl(key)?, "{} {} {key}", lab.file, host.name);
        }
    }
    Ok(())
}

/// How long it may take until everything has settled.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is to compare, and the command that prints it, as JSON but for the rules.
const STATE: [(&str, &[&str]); 7] = [
    ("links", &["ip", "-d", "-j", "link"]),
    ("addresses", &["ip", "-j", "address"]),
    ("routes", &["ip", "-j", "route", "show", "table", "all"]),
    ("neighbours", &["ip", "-j", "neighbour", "show", "nud", "permanent"]),
    ("FDB", &["bridge", "-j", "fdb"]),
    ("VLANs", &["bridge", "-j", "vlan"]),
    ("rules", &["nft", "-s", "list", "ruleset"]),
];

struct Lookup {
    name: String,
}

impl Lookup {
    fn open(lab: &str, host: &str) -> anyhow::Result<Self> {
        Ok(Self { name: weft::lab::namespace_name(lab, host) })
    }

    fn run(&self, command: &[&str]) -> anyhow::Result<String> {
        // These two go into a namespace by themselves, which saves a program where programs start slowly.
        let output = match command {
            [program @ ("ip" | "bridge"), rest @ ..] => {
                Command::new(program).args(["-n", &self.name]).args(rest).output()?
            }
            _ => Command::new("ip").args(["netns", "exec", &self.name]).args(command).output()?,
        };
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn sysctl(&self, key: &str) -> anyhow::Result<String> {
        Ok(self.run(&["sysctl", "-n", key])?.trim().to_owned())
    }

    /// What is to be the same, one thing a line.
    fn state(&self, what: &str, command: &[&str], lab: &str) -> anyhow::Result<BTreeSet<String>> {
        let said = self.run(command)?;
        if what == "rules" {
            return Ok(said.lines().map(str::to_owned).collect());
        }
        // Without VLANs, and without anything to say, some versions print nothing.
        let list: Value = if said.trim().is_empty() { Value::Array(Vec::new()) } else { serde_json::from_str(&said)? };
        let list = list.as_array().context("a list")?;
        Ok(list.iter().flat_map(|item| lines(what, item)).map(|line| line.replace(lab, "LAB")).collect())
    }
}

/// An item of JSON without what is different each time: indices, made-up addresses, timers, what was learned.
fn lines(what: &str, item: &Value) -> Vec<String> {
    let text = |key: &str| item[key].to_string();
    match what {
        "links" => {
            let data = &item["linkinfo"]["info_data"];
            let port = &item["linkinfo"]["info_slave_data"];
            let pick = |value: &Value, keys: &[&str]| -> Vec<String> {
                keys.iter().filter(|key| !value[**key].is_null()).map(|key| format!("{key}={}", value[*key])).collect()
            };
            let of_kind = [
                "id",
                "local",
                "port",
                "ttl",
                "df",
                "learning",
                "mode",
                "stp_state",
                "vlan_filtering",
                "ageing_time",
                "mcast_snooping",
            ];
            let of_port = [
                "state",
                "hairpin",
                "isolated",
                "learning",
                "flood",
                "bcast_flood",
                "mcast_flood",
                "locked",
                "neigh_suppress",
            ];
            let up = item["flags"].as_array().is_some_and(|flags| flags.contains(&Value::from("UP")));
            vec![format!(
                "{} {} mtu {} up {up} master {} link {} {:?} {:?}",
                text("ifname"),
                item["linkinfo"]["info_kind"],
                text("mtu"),
                text("master"),
                text("link"),
                pick(data, &of_kind),
                pick(port, &of_port)
            )]
        }
        "addresses" => {
            let addresses = item["addr_info"].as_array().into_iter().flatten();
            let ours = addresses.filter(|address| address["scope"] != "link");
            ours.map(|address| format!("{} {} {}", text("ifname"), address["local"], address["prefixlen"])).collect()
        }
        "routes" => {
            let own = text("dst").contains("fe80") || text("dst").contains("ff00") || text("type") == "\"multicast\"";
            let keys = ["type", "dst", "gateway", "dev", "protocol", "scope", "prefsrc", "flags", "metrics", "table"];
            let words: Vec<_> = keys.iter().map(|key| format!("{key} {}", text(key))).collect();
            if own { Vec::new() } else { vec![words.join(" ")] }
        }
        "neighbours" => vec![format!("{} {} {}", text("dev"), text("dst"), text("lladdr"))],
        "FDB" => {
            // A bridge's own and multicast addresses come by themselves, others were learned.
            let said = text("state") == "\"static\"" || !item["dst"].is_null() && text("state") == "\"permanent\"";
            if said {
                vec![format!("{} {} {} {}", text("ifname"), text("mac"), text("dst"), text("state"))]
            } else {
                Vec::new()
            }
        }
        "VLANs" => vec![format!("{} {}", text("ifname"), text("vlans"))],
        _ => Vec::new(),
    }
}

/// A lab of the user's own, as the guide has it, comes up by its file.
pub(crate) fn of_the_guide() -> anyhow::Result<()> {
    let guide = include_str!("../../../switch/docs/labs.md");
    let text =
        guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).context("a file in the guide")?;
    let topology = Topology::parse("labs.md", text).map_err(|errors| anyhow::anyhow!(errors.render(false)))?;
    let up = Up::named("mine");
    let mut running = RunningLab::up(&up.name, "labs.md", text, &binary()?)?;
    ensure!(running.check_all()?.iter().all(|result| result.holds), "the guide's lab does not hold");
    running.inject(&topology.faults[0].name)?;
    ensure!(running.check_all()?.iter().any(|result| !result.holds), "the guide's fault breaks nothing");
    Ok(())
}
