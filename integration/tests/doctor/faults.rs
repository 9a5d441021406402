//! Every fault of every lab, and what doctor takes it for.

use std::{collections::VecDeque, sync::Mutex, thread};

use anyhow::{Context, ensure};
use weft::lab::builtin::{Builtin, LABS, missing};
use weft_integration::{
    labs::{Diagnosis, Up, is_healthy},
    weft::binary,
};

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
    rows.sort_by(|one: &Diagnosis, other| one.key().cmp(&other.key()));
    let named = rows.iter().filter(|row| row.is_right()).count();
    for row in &rows {
        println!("{}", row.row());
    }
    println!("{named} of {} faults named first", rows.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(named * 100 >= rows.len() * WANTED_PERCENT, "{named} of {}", rows.len());
    let complete = LABS.iter().all(|lab| lab.topology().is_ok_and(|topology| missing(&topology.needs).is_empty()));
    ensure!(!complete || rows.len() >= WANTED_FAULTS, "only {} faults", rows.len());
    Ok(())
}

/// The faults of one lab; that nothing is found while it is whole, before the first and after each.
fn of_lab(lab: &Builtin) -> anyhow::Result<Vec<Diagnosis>> {
    let topology = lab.topology()?;
    let lacks = missing(&topology.needs);
    if !lacks.is_empty() {
        // The labs' own tests go through it on the full kernel.
        println!("not run here: {} ({})", lab.file, lacks.join(", "));
        return Ok(Vec::new());
    }
    let weft = binary()?;
    let (up, mut running) = Up::start(lab)?;
    let mut rows = Vec::new();
    is_healthy(&weft, &up).context("while it is whole")?;
    for fault in &topology.faults {
        running.inject(&fault.name)?;
        rows.push(Diagnosis::of(&weft, &running, fault)?);
        running.mend(Some(&fault.name)).with_context(|| format!("mending {}", fault.name))?;
    }
    is_healthy(&weft, &up).context("after everything was mended")?;
    Ok(rows)
}
