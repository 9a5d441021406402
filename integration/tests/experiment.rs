//! `weft experiment` as a user runs it: its files say what was on the wire, and nothing else stays behind, however it ends.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Output},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use weft::lab::Signal;
use weft_integration::{
    Needs, main_with,
    traceless::{self, Traceless, text},
    trial,
    weft::{binary, eventually},
};

/// How long a few cells may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
const PREFIX: &str = "weft-experiment";

fn main() -> ExitCode {
    let all = Needs::ROOT_AND_TUN;
    main_with(vec![
        trial("mtu_counts_what_is_on_the_wire_and_leaves_only_its_files", all, mtu),
        trial("what_the_middle_link_loses_and_delays_is_lost_and_late", all, faults),
        trial("an_interrupted_sweep_leaves_nothing_and_goes_on", all, interrupted),
        trial("encap_measures_exactly_what_it_computes", all, encap),
        trial("every_black_hole_is_one_and_its_remedies_end_it", all.programs(&["ping"]), blackhole),
        trial("a_machine_without_privileges_is_told_so", all.programs(&["setpriv"]), no_privileges),
        trial("what_makes_no_sense_is_refused", Needs::NONE, refused),
    ])
}

fn weft(arguments: &[&str]) -> anyhow::Result<Output> {
    traceless::weft(arguments, PREFIX, LIMIT)
}

/// Runs weft, which has to end with this status.
fn ends(code: i32, arguments: &[&str]) -> anyhow::Result<Output> {
    let output = weft(arguments)?;
    ensure!(
        output.status.code() == Some(code),
        "weft {}: {}\n{}{}",
        arguments.join(" "),
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(output)
}

fn path(folder: &Path) -> &str {
    folder.to_str().unwrap()
}

fn json(file: &Path) -> anyhow::Result<Value> {
    serde_json::from_str(&fs::read_to_string(file)?).with_context(|| format!("{}", file.display()))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn mtu() -> anyhow::Result<()> {
    const HEADERS: u64 = 14 + 50;
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let sweep = ["experiment", "mtu", "--quick", "--encapsulation", "vxlan", "--inner-mtu", "fit,underlay"];
    let sweep = [&sweep[..], &["--offload", "on", "--df", "set", "--oversize", "fragment,outer"]].concat();
    let sweep = [&sweep[..], &["--seconds", "0.1", "--udp-rate", "20"]].concat();
    ends(0, &[&sweep[..], &["--out", path(&out)]].concat())?;

    let results = json(&out.join("results.json"))?;
    let cells = results["cells"].as_array().context("there are cells")?;
    ensure!(cells.len() == 4, "{results:#}");
    for cell in cells {
        ensure!(cell["failed"].is_null(), "{cell:#}");
        let load = |name: &str| {
            let loads = cell["loads"].as_array().unwrap();
            loads.iter().find(|load| load["load"] == name).cloned().unwrap_or_default()
        };
        let (tcp, udp, request) = (load("tcp"), load("udp"), load("request"));
        for load in [&tcp, &udp, &request] {
            ensure!(load["observer_missed"] == 0, "{load:#}");
        }
        let inner = number(&cell["cell"]["inner_mtu"]);
        let (received, frames, bytes) =
            (number(&udp["received"]), number(&udp["wire"]["frames"]), number(&udp["wire"]["bytes"]));
        let (key, fragments) = (cell["key"].as_str().unwrap(), number(&udp["fragments"]));
        if inner == 1450 {
            ensure!(received > 10 && frames >= received && bytes == frames * (inner + HEADERS), "{key}: {udp:#}");
            ensure!(fragments == 0 && number(&udp["sent"]) == frames, "{key}: {udp:#}");
            ensure!(number(&tcp["payload_bytes"]) > 100_000 && number(&request["received"]) > 0, "{cell:#}");
        } else {
            // Each packet in two pieces, which are fragments to the underlay only if the outer packet was cut.
            let expected = if key.ends_with("oversize=outer") { frames } else { 0 };
            ensure!(received > 10 && frames >= 2 * received && fragments == expected, "{key}: {udp:#}");
            ensure!(number(&tcp["icmp_overlay"]) > 0 && number(&tcp["mss"]) == 1398, "{key}: {tcp:#}");
            ensure!(number(&tcp["payload_bytes"]) > 100_000, "{key}: weft's answer ends the black hole: {tcp:#}");
        }
    }
    let csv = fs::read_to_string(out.join("cells.csv"))?;
    ensure!(csv.lines().count() == 1 + 3 * 4, "{csv}");
    let html = fs::read_to_string(out.join("report.html"))?;
    ensure!(html.starts_with("<!DOCTYPE html>") && html.contains("<svg ") && html.contains("4 of 4 cells"), "{html}");

    let journal = fs::read_to_string(out.join("cells.jsonl"))?;
    let output = ends(0, &["experiment", "mtu", "--resume", path(&out), "--json"])?;
    let again: Value = serde_json::from_str(&text(&output.stdout))?;
    ensure!(again == results, "what was measured is not measured again");
    ensure!(fs::read_to_string(out.join("cells.jsonl"))? == journal);
    let said = text(&ends(2, &["experiment", "mtu", "--resume", path(&out), "--seconds", "9"])?.stderr);
    ensure!(said.contains("seconds is 9.0 and not 0.1"), "{said}");
    let said = text(&ends(2, &[&sweep[..], &["--out", path(&out)]].concat())?.stderr);
    ensure!(said.contains("is there already: go on with it by `--resume"), "{said}");
    Ok(())
}

/// A link that loses a tenth of all frames and takes 5 ms, each way. The losses are those of a seed, but not always the same
/// frames'.
fn faults() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    // A lost SYN takes a second.
    let cells = ["--encapsulation", "vxlan,geneve", "--inner-mtu", "fit", "--offload", "on", "--seconds", "1.5"];
    let faults = ["--loss", "10", "--delay", "5", "--udp-rate", "15", "--answer", "100", "--out", path(&out)];
    ends(0, &[&["experiment", "mtu", "--quick"][..], &cells, &faults].concat())?;
    let results = json(&out.join("results.json"))?;
    let cells = results["cells"].as_array().context("there are cells")?;
    ensure!(cells.len() == 2, "{results:#}");
    for cell in cells {
        let load = |name: &str| {
            let loads = cell["loads"].as_array().unwrap();
            loads.iter().find(|load| load["load"] == name).cloned().unwrap_or_default()
        };
        let (tcp, udp, request) = (load("tcp"), load("udp"), load("request"));
        // Some 2,000 datagrams: a tenth of them is 200, give or take 14.
        let (sent, received) = (number(&udp["sent"]), number(&udp["received"]));
        let lost = 1.0 - received as f64 / sent as f64;
        ensure!(sent > 500 && (0.05..0.25).contains(&lost), "{received} of {sent} datagrams: {cell:#}");
        // Question and answer, each over that link.
        ensure!(request["p50_us"].as_f64() >= Some(10_000.0), "{cell:#}");
        ensure!(number(&tcp["retransmissions"]) > 0 && number(&tcp["cables"]["middle lost"]) > 0, "{cell:#}");
        let fragments = number(&udp["fragments"]) + number(&tcp["fragments"]);
        ensure!(cell["failed"].is_null() && fragments == 0, "{cell:#}");
    }
    Ok(())
}

fn interrupted() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let mut command = Command::new(binary()?);
    let sweep = ["experiment", "mtu", "--quick", "--encapsulation", "vxlan", "--offload", "on", "--df", "set"];
    command.args(sweep).args(["--inner-mtu", "576,1280,fit", "--seconds", "0.1", "--out", path(&out)]);
    let run = Traceless::start(command, PREFIX, LIMIT)?;
    let lines = || fs::read_to_string(out.join("cells.jsonl")).map_or(0, |text| text.lines().count());
    eventually("its first cell is measured", LIMIT, || Ok(lines() > 1))?;
    run.signal(Signal::INT)?;
    let output = run.end()?;
    ensure!(output.status.code() == Some(130), "{}: {}", output.status, text(&output.stderr));
    let measured = lines();
    ensure!(measured < 1 + 3, "it was interrupted too late to show anything");
    ends(0, &["experiment", "mtu", "--resume", path(&out)])?;
    let keys: Vec<_> = json(&out.join("results.json"))?["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| cell["key"].as_str().unwrap().to_owned())
        .collect();
    ensure!(keys.len() == 3 && lines() == 1 + 3, "{keys:?}, {} lines", lines());
    Ok(())
}

fn encap() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let output = ends(0, &["experiment", "encap", "--quick", "--json", "--seconds", "0.05", "--out", path(&out)])?;
    let results: Value = serde_json::from_str(&text(&output.stdout))?;
    ensure!(results == json(&out.join("encap.json"))?, "{results:#}");
    let records = results["records"].as_array().context("there are records")?;
    ensure!(records.len() % (2 * 4) == 0 && !records.is_empty(), "{results:#}");
    for record in records {
        let (frame, computed) = (number(&record["frame_len"]), number(&record["computed_len"]));
        let outer = if record["underlay"] == "ipv4" { 50 } else { 70 };
        ensure!(computed >= frame + outer && record["agrees"] == true, "{record:#}");
        let measured = record["measured"].as_object().unwrap();
        ensure!(measured.len() == 1 && measured[&computed.to_string()] == record["sent"], "{record:#}");
        ensure!(record["frames_per_s"].as_f64().unwrap() > 100.0, "{record:#}");
    }
    let html = fs::read_to_string(out.join("report.html"))?;
    ensure!(html.contains("Every measured point lies exactly on its line."), "{html}");
    ensure!(fs::read_to_string(out.join("encap.csv"))?.lines().count() == 1 + records.len());
    Ok(())
}

fn blackhole() -> anyhow::Result<()> {
    let output = ends(0, &["experiment", "blackhole", "--json"])?;
    let told: Vec<Value> = serde_json::from_str(&text(&output.stdout))?;
    let of = |name: &str| told.iter().find(|fault| fault["fault"] == name).cloned().context(name.to_owned());
    ensure!(told.len() >= 4, "{told:#?}");
    let symptoms = |finding: &Value| finding["symptoms"].clone();
    let middle = of("middle-link")?;
    let seen = symptoms(&middle["finding"]);
    ensure!(number(&seen["middleboxes"]["left filtered"]) > 0 && seen["tcp"]["is_connected"] == true, "{seen:#}");
    ensure!(seen["tcp"]["arrived"] != seen["tcp"]["wanted"], "{seen:#}");
    let remedy = |word: &str| {
        let remedies = middle["remedies"].as_array().unwrap();
        let one = remedies.iter().find(|one| one["remedy"].as_str().unwrap().contains(word));
        symptoms(&one.unwrap_or_else(|| panic!("a remedy has {word} in its name"))["finding"])
    };
    ensure!(number(&remedy("df")["fragments"]) > 100, "{middle:#}");
    let measured = remedy("path_mtu");
    ensure!(measured["tcp"]["arrived"] == measured["tcp"]["wanted"] && measured["fragments"] == 0, "{measured:#}");
    let shown = measured["show_mtu"].as_str().context("weft show mtu was asked")?;
    ensure!(shown.contains("1400") && shown.contains("black hole"), "{shown}");
    let seen = symptoms(&of("checksum")?["finding"]);
    ensure!(number(&seen["checksum_errors"]) > 0 && seen["small"]["answered"] == 0, "{seen:#}");
    let seen = symptoms(&of("wrong-port-mtu")?["finding"]);
    ensure!(number(&seen["drops"]["host2 egress_mtu"]) >= 3, "{seen:#}");
    Ok(())
}

fn no_privileges() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin,-sys_admin"]).arg(binary()?);
    command.args(["experiment", "mtu", "--out"]).arg(folder.path().join("run"));
    let output = Traceless::start(command, PREFIX, LIMIT)?.end()?;
    let said = text(&output.stderr);
    ensure!(
        output.status.code() == Some(2) && said.contains("the capability CAP_NET_ADMIN"),
        "{}: {said}",
        output.status
    );
    ensure!(!folder.path().join("run").exists(), "nothing is begun");
    Ok(())
}

fn refused() -> anyhow::Result<()> {
    for (arguments, why) in [
        ("mtu --list --seconds 0", "--seconds is 0, and must be from 0.05 to 3600"),
        ("mtu --list --underlay ipv6 --underlay-mtu 1000", "must be from 1280"),
        ("mtu --list --inner-mtu fit-1450 --underlay-mtu 1500", "leaves room for a packet"),
        ("mtu --list --encapsulation geneve+3", "multiples of 4"),
        ("encap --size 9001", "a frame has 60 to 9000 bytes"),
        ("blackhole gremlins", "there is no fault `gremlins`; there are middle-link"),
    ] {
        let words: Vec<_> = ["experiment"].into_iter().chain(arguments.split(' ')).collect();
        let said = text(&ends(2, &words)?.stderr);
        ensure!(said.contains(why), "{arguments}: {said}");
    }
    let listed = text(&ends(0, &["experiment", "mtu", "--list", "--quick"])?.stdout);
    for tunnel in ["vxlan", "vxlan-gbp", "vxlan-gpe", "geneve"] {
        ensure!(listed.contains(&format!("weft {tunnel} ipv4 underlay=1500")), "{listed}");
    }
    let listed = text(&ends(0, &["experiment", "mtu", "--list", "--quick", "--only", "vxlan df=set"])?.stdout);
    ensure!(listed.lines().count() == 6 && listed.contains("weft vxlan ipv4 underlay=1500"), "{listed}");
    Ok(())
}
