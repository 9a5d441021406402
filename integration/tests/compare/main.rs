//! `weft compare`: the catalogue and random sequences against the running kernel, and what finds and shortens a difference.

mod conformance;

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, ExitCode, Output, Stdio},
    sync::Mutex,
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::compare::{
    Comparison,
    case::{Bytes, Case, Setup, Step},
    catalogue::About,
    frame::station,
    observe::{Entry, Seen},
    random,
    report::{CaseResult, Results},
    ruling,
    shrink::shrink,
    verdict::Verdict,
    world::{CompareError, World},
};
use weft_integration::{Needs, main_with, trial, weft::binary};

/// Both commands.
const KINDS: [&str; 2] = ["bridge", "vxlan"];
/// Named cases on both commands together.
const CASES: usize = 250;
/// Random sequences of 50 steps for each seed and command: 20,000 steps in all.
const SEQUENCES: &str = "50";
/// Cases in which Open vSwitch does the same.
const BESIDE_OVS: usize = 60;
const OVS: Needs = Needs::ROOT.programs(&["ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl"]);
/// What the sequences are made from; `weft compare --cases` draws a new one where none is said.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

fn main() -> ExitCode {
    let root = |name: &str, test: fn() -> anyhow::Result<()>| trial(name, Needs::ROOT, test);
    let random = KINDS
        .into_iter()
        .map(|kind| trial(&format!("random_{kind}_sequences_do_not_differ"), Needs::ROOT, move || random_steps(kind)));
    let both_kernels = Needs::ROOT.programs(&["qemu-system-x86_64", "python3"]).kernel(conformance::KERNEL);
    // The longest first, and what needs no time after that has run last.
    let mut tests: Vec<Trial> = vec![trial(
        "the_conformance_page_is_what_both_kernels_show",
        both_kernels,
        conformance::page_is_what_both_kernels_show,
    )];
    tests.extend(random);
    tests.extend([
        root("a_case_from_a_file_runs_again_and_a_wrong_file_is_bad_usage", replay),
        trial("open_vswitch_differs_in_just_the_ways_that_are_known", OVS, beside_ovs),
        root("open_vswitch_is_for_named_cases_of_bridges", ovs_is_no_kernel),
        trial("a_fault_is_found_and_made_as_short_as_it_can_be", Needs::NONE, planted_fault),
        root("the_catalogue_does_not_differ", catalogue),
    ]);
    main_with(tests)
}

fn compare(args: &[&str]) -> anyhow::Result<Output> {
    Command::new(binary()?).arg("compare").args(args).stdin(Stdio::null()).output().context("weft can't be started")
}

/// What a catalogue shows on the running kernel. It is run once, for all who ask.
fn on_this_kernel(kind: &'static str) -> anyhow::Result<Results> {
    static RUN: Mutex<BTreeMap<&str, Result<Results, String>>> = Mutex::new(BTreeMap::new());
    let mut run = RUN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let results = run.entry(kind).or_insert_with(|| results(&[kind]).map_err(|error| format!("{error:#}")));
    results.clone().map_err(anyhow::Error::msg)
}

/// What a comparison says, in which nothing may differ.
fn results(args: &[&str]) -> anyhow::Result<Results> {
    let folder = tempfile::tempdir()?;
    let save = folder.path().display().to_string();
    let output = compare(&[args, &["--json", "--save", &save]].concat())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let results: Results = serde_json::from_str(&said)
        .with_context(|| format!("{args:?}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr)))?;
    ensure!(output.status.success() && results.summary.differs == 0, "{args:?}: {}", differing(&results));
    Ok(results)
}

/// The cases that differ, all that is known of them.
fn differing(results: &Results) -> String {
    let bad = results.cases.iter().filter(|case| case.verdict == "differs");
    bad.map(|case| format!("{case:#?}")).collect::<Vec<_>>().join("\n")
}

fn catalogue() -> anyhow::Result<()> {
    let mut count = 0;
    for kind in KINDS {
        count += on_this_kernel(kind)?.cases.len();
    }
    ensure!(count >= CASES, "{count} cases, and there should be {CASES}");
    Ok(())
}

fn beside_ovs() -> anyhow::Result<()> {
    let results = results(&["bridge", "--against", "ovs"])?;
    ensure!(results.against == "ovs" && results.summary.same >= BESIDE_OVS, "{:?}", results.summary);
    for ruling in ruling::ovs::RULINGS {
        let names = |case: &CaseResult| {
            let named = case.reason.as_ref().filter(|_| case.verdict == "intended");
            named.is_some_and(|named| named.split(", ").any(|id| id == ruling.id))
        };
        ensure!(results.cases.iter().any(names), "no case shows {}", ruling.id);
    }
    Ok(())
}

fn ovs_is_no_kernel() -> anyhow::Result<()> {
    for args in [&["vxlan", "--against", "ovs"][..], &["bridge", "--against", "ovs", "--cases", "1"]] {
        let output = compare(args)?;
        ensure!(output.status.code() == Some(2) && !output.stderr.is_empty(), "{args:?}: {}", output.status);
    }
    Ok(())
}

fn random_steps(kind: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?.keep();
    for seed in SEEDS {
        let saved = folder.display().to_string();
        let output = compare(&[kind, "--cases", SEQUENCES, "--seed", &seed.to_string(), "--save", &saved])?;
        let said = String::from_utf8_lossy(&output.stdout);
        let wrong = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{kind}, seed {seed}: {}\n{said}{wrong}", output.status);
        ensure!(said.contains("50 same, 0 intended, 0 older, 0 differ, 0 not run"), "{said}");
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

fn replay() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("case.json");
    fs::write(&file, serde_json::to_string(&random::case(About::Bridge, 1, 1))?)?;
    let file = file.display().to_string();
    let output = compare(&["bridge", "--replay", &file])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(0) && said.contains("1 cases, 50 steps"), "{}: {said}", output.status);
    fs::write(&file, "{}")?;
    for args in [&["bridge", "--replay", &file][..], &["bridge", "no such case"], &["report", &file]] {
        let output = compare(args)?;
        ensure!(output.status.code() == Some(2), "{args:?}: {}", output.status);
        ensure!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
    Ok(())
}

/// A switch that sends every frame out of the next port; a faulty one forgets those to one station, if the port's hairpin was
/// turned on before.
#[derive(Default)]
struct Next {
    is_faulty: bool,
    hairpin: bool,
}

impl World for Next {
    fn name(&self) -> &'static str {
        "next"
    }

    fn begin(&mut self, _setup: &Setup) -> Result<(), CompareError> {
        self.hairpin = false;
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<Seen, CompareError> {
        let mut seen = Seen::default();
        if let Step::SetPort { option, .. } = step {
            self.hairpin |= option == "hairpin";
        }
        if let Step::Send { port, frame: Bytes(frame) } = step {
            let forgotten = self.is_faulty && self.hairpin && frame.starts_with(&station(3).octets());
            if !forgotten {
                seen.frames.insert(port % 4 + 1, vec![Bytes(frame.clone())]);
            }
        }
        Ok(seen)
    }

    fn fdb(&mut self) -> Result<Vec<Entry>, CompareError> {
        Ok(vec![])
    }

    fn counters(&mut self) -> Result<Vec<(String, u64)>, CompareError> {
        Ok(vec![])
    }
}

fn planted_fault() -> anyhow::Result<()> {
    let faulty = Next { is_faulty: true, ..Next::default() };
    let mut comparison = Comparison::of(Box::new(Next::default()), Box::new(faulty));
    let cases: Vec<_> = (0..100).map(|number| random::case(About::Bridge, 1, number)).collect();
    let mut found: Vec<Case> = Vec::new();
    for case in &cases {
        if comparison.run(case)?.verdict.is_bad() {
            found.push(shrink(case, |case| Ok::<_, CompareError>(comparison.run(case)?.verdict.is_bad()))?);
        }
    }
    ensure!(!found.is_empty(), "100 sequences did not find it");
    for short in found {
        ensure!(short.steps.len() == 2, "{:?}", short.steps);
        ensure!(matches!(comparison.run(&short)?.verdict, Verdict::Differs(differences) if differences.len() == 1));
    }
    Ok(())
}
