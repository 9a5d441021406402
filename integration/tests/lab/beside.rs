//! Labs side by side: all of them at once, and one of them fifty times; and how long each takes when nothing else runs.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::lab::{
    builtin::{Builtin, LABS, find, missing},
    running::{self, RunningLab},
};
use weft_integration::{labs::Up, trial};

use crate::command::{NEEDS, holds, leaves_nothing};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("all_labs_are_up_at_once", NEEDS, all_at_once),
        trial("fifty_of_one_kind_are_up_at_once", NEEDS, fifty_at_once),
    ]
}

/// For when nothing else runs.
pub(crate) fn figures() -> Vec<Trial> {
    vec![trial("every_lab_comes_up_within_two_seconds", NEEDS, within_two_seconds)]
}

fn within_two_seconds() -> anyhow::Result<()> {
    // A debug build does everything slower.
    const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
    const TRIES: usize = 5;
    for lab in here() {
        // Others than tests have the processors as well: the quickest of some is what it takes.
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            let started = Instant::now();
            let (_up, _running) = Up::start(lab)?;
            best = best.min(started.elapsed());
            if best < LIMIT {
                break;
            }
        }
        println!("{}: up in {:.3} s", lab.file, best.as_secs_f64());
        ensure!(best < LIMIT, "{} takes {best:?} to come up, and may take {LIMIT:?}", lab.file);
    }
    Ok(())
}

/// Those that this kernel can do.
fn here() -> Vec<&'static Builtin> {
    LABS.iter().filter(|lab| lab.topology().is_ok_and(|lab| missing(&lab.needs).is_empty())).collect()
}

fn all_at_once() -> anyhow::Result<()> {
    together(&here())
}

fn fifty_at_once() -> anyhow::Result<()> {
    let minimal = find("minimal", None).context("there is one")?;
    together(&[minimal; 50])
}

/// All up before the first is checked, and all checked before the first goes.
fn together(labs: &[&'static Builtin]) -> anyhow::Result<()> {
    let started = Instant::now();
    let up: Mutex<Vec<(Up, RunningLab)>> = Mutex::new(Vec::new());
    in_parallel(labs, |lab| {
        let one = Up::start(lab)?;
        up.lock().unwrap().push(one);
        Ok(())
    })?;
    println!("{} labs up in {:.2} s", labs.len(), started.elapsed().as_secs_f64());
    let up = up.into_inner().unwrap();
    let listed = running::list()?;
    in_parallel(&up, |(one, running)| {
        ensure!(listed.iter().any(|found| found.name == one.name && found.whole), "{} is not listed", one.name);
        holds(running).with_context(|| one.name.clone())?;
        Ok(())
    })?;
    in_parallel(&up, |(one, _)| {
        running::down(&one.name)?;
        leaves_nothing(&one.name)
    })
}

/// Four at a time: they are about each other, not about the machine's limits.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                        work(item)?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap())
    })
}
