//! What becomes of the labs of this process when a signal comes to end it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc},
    thread,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{Remover, State, lock};

/// The status of a process that a signal ended: what a shell says of SIGINT.
const STATUS: i32 = 130;

/// The labs that are to be removed; `None`: nobody waits for signals yet. Labs come and go, the thread that waits stays.
static WATCHED: Mutex<Option<Vec<Weak<Mutex<State>>>>> = Mutex::new(None);

/// Adds a lab to those that are removed when a signal comes. From that moment on nobody gets in here any more, and the
/// process ends.
pub(super) fn watch(lab: &Arc<Mutex<State>>) -> io::Result<()> {
    let mut watched = watched();
    if watched.is_none() {
        wait_for_signals()?;
    }
    let labs = watched.get_or_insert_default();
    labs.retain(|lab| lab.strong_count() > 0);
    labs.push(Arc::downgrade(lab));
    Ok(())
}

fn watched() -> MutexGuard<'static, Option<Vec<Weak<Mutex<State>>>>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that waits, and returns when it can hear.
fn wait_for_signals() -> io::Result<()> {
    let (ready, installed) = mpsc::sync_channel::<()>(1);
    let wait = move || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            let _ = ready.send(());
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            remove_all_and_exit()
        })
    };
    let waiting = thread::Builder::new().name("lab-signals".into()).spawn(wait)?;
    match installed.recv() {
        Ok(()) => Ok(()),
        // The thread ended without a word; its result says why.
        Err(_) => waiting.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))),
    }
}

fn remove_all_and_exit() -> ! {
    let watched = watched();
    let labs: Vec<_> = watched.iter().flatten().filter_map(Weak::upgrade).collect();
    for lab in &labs {
        lock(lab).ending = true;
    }
    for state in labs {
        if let Err(error) = (Remover { state }).remove() {
            tracing::warn!(error = &error as &dyn std::error::Error, "a lab could not be removed whole");
        }
    }
    std::process::exit(STATUS)
}
