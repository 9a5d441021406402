//! Every fault of every lab, and what doctor takes it for.

use std::{collections::VecDeque, sync::Mutex, thread};

use anyhow::{Context, ensure};
use weft::{
    doctor::Finding,
    lab::builtin::{Builtin, LABS, missing},
};

use crate::{Up, doctor};

/// A fault that was put in, and the first one that doctor named.
struct Row {
    lab: String,
    fault: String,
    wanted: String,
    found: String,
    text: String,
}

/// Labs that are looked at side by side: most of the time goes into waiting for what faults do.
const SIDE_BY_SIDE: usize = 4;
/// Of a hundred faults, so many are to be named first.
const WANTED_PERCENT: usize = 95;
/// So many are to be tried, where the kernel has all that the labs need.
const WANTED_FAULTS: usize = 40;

pub(crate) fn are_named() -> anyhow::Result<()> {
    let left: Mutex<VecDeque<&Builtin>> = Mutex::new(LABS.iter().collect());
    let rows = Mutex::new(Vec::new());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(lab) = left.lock().unwrap().pop_front() else { return };
                    match of_lab(lab) {
                        Ok(mut found) => rows.lock().unwrap().append(&mut found),
                        Err(error) => wrong.lock().unwrap().push(format!("{}: {error:#}", lab.file)),
                    }
                }
            });
        }
    });
    let (mut rows, wrong) = (rows.into_inner()?, wrong.into_inner()?);
    rows.sort_by(|one, other| (&one.lab, &one.fault).cmp(&(&other.lab, &other.fault)));
    let named = rows.iter().filter(|row| row.wanted == row.found).count();
    for Row { lab, fault, wanted, found, text } in &rows {
        if wanted == found {
            println!("ok      {lab:12} {fault:26} {found}");
        } else {
            println!("NOT SO  {lab:12} {fault:26} {found}, wanted {wanted}: {text}");
        }
    }
    println!("{named} of {} faults named first", rows.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(named * 100 >= rows.len() * WANTED_PERCENT, "{named} of {}", rows.len());
    let complete = LABS.iter().all(|lab| lab.topology().is_ok_and(|topology| missing(&topology.needs).is_empty()));
    ensure!(!complete || rows.len() >= WANTED_FAULTS, "only {} faults", rows.len());
    Ok(())
}

/// The faults of one lab; that nothing is found while it is whole, before the first and after each.
fn of_lab(lab: &Builtin) -> anyhow::Result<Vec<Row>> {
    let topology = lab.topology()?;
    if !missing(&topology.needs).is_empty() {
        println!("not run: {} ({})", lab.file, missing(&topology.needs).join(", "));
        return Ok(Vec::new());
    }
    let (up, mut running) = Up::start(lab)?;
    let mut rows = Vec::new();
    healthy(&up).context("while it is whole")?;
    for fault in &topology.faults {
        // A code that doctor does not have could never be named.
        let wanted: Finding = fault.finding.parse()?;
        running.inject(&fault.name)?;
        let (code, report) = doctor(&["--lab", &up.name])?;
        let first = &report["first_fault"];
        let found = first["finding"].as_str().unwrap_or("nothing").to_owned();
        ensure!((code == 1) == first.is_object(), "exit code {code} with {first}");
        let text =
            format!("{} {}", first["place"].as_str().unwrap_or_default(), first["text"].as_str().unwrap_or_default());
        rows.push(Row {
            lab: lab.file.to_owned(),
            fault: fault.name.clone(),
            wanted: wanted.code().to_owned(),
            found,
            text,
        });
        running.mend(Some(&fault.name)).with_context(|| format!("mending {}", fault.name))?;
    }
    healthy(&up).context("after everything was mended")?;
    Ok(rows)
}

fn healthy(up: &Up) -> anyhow::Result<()> {
    let (code, report) = doctor(&["--lab", &up.name])?;
    ensure!(code == 0 && report["faults"] == 0, "{:#}", report["first_fault"]);
    let ways = report["ways"].as_array().context("a list of ways")?;
    ensure!(!ways.is_empty() && ways.iter().all(|way| way["end"] == "arrived"), "{ways:#?}");
    Ok(())
}
