//! `weft run`: a switch in the foreground, from its start to its end.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, mpsc},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use super::{
    api::server::{Api, ControlSocket, reload_from},
    config::Config,
    switch::{ApplyError, Event, RuntimeError, Switch},
};
use crate::sys::opener;

/// How often old entries are looked for and facts are heard.
const TICK: Duration = Duration::from_secs(1);
/// How often facts are heard while somebody listens to what happens: a switch that nobody listens to sleeps.
const SHORT_TICK: Duration = Duration::from_millis(50);

/// Why a switch could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration could not be made so.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The process can't hear signals.
    #[error("can't listen for signals")]
    Signals(#[source] io::Error),
    /// The control API ended.
    #[error("the control API failed")]
    Api(#[source] io::Error),
    /// A worker panicked.
    #[error("a worker has died; see the log")]
    Worker,
}

/// Runs a switch until SIGTERM or SIGINT, which answers at `socket`. SIGHUP reads `file` again.
///
/// When this returns nothing of it is left: its taps vanish with their descriptors, the control socket is removed.
///
/// # Errors
/// See [`RunError`].
pub async fn run(config: Config, file: &Path, mut socket: ControlSocket) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let (bridges, ports) = (config.bridges.len(), config.ports.len());
    let (workers, path) = (config.switch.workers, config.switch.socket.display().to_string());
    let (switch, events) = Switch::start(config).await?;
    let switch = Arc::new(Mutex::new(switch));
    let api = Api { switch: switch.clone(), config: file.to_owned(), started: std::time::Instant::now() };
    info!(bridges, ports, workers, socket = path, "weft runs");
    let ended = tokio::select! {
        served = socket.serve(api.clone()) => served.map_err(RunError::Api),
        ended = attend(&api, &mut signals, events) => ended,
    };
    info!("weft stops");
    switch.lock().await.end().await;
    ended
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

async fn attend(api: &Api, signals: &mut Signals, mut events: mpsc::Receiver<Event>) -> Result<(), RunError> {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut short_tick = interval(SHORT_TICK);
    short_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listened_to = false;
    let mut opener = opener::get();
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hang_up.recv() => hang_up(api).await,
            Some(event) = events.recv() => api.switch.lock().await.on_event(event).await,
            _ = short_tick.tick(), if listened_to => api.switch.lock().await.on_short_tick(),
            _ = tick.tick() => {
                let mut switch = api.switch.lock().await;
                switch.on_tick().await;
                listened_to = switch.is_listened_to();
                if opener.take_if(|opener| opener.has_ended()).is_some() {
                    error!("the opener has ended: frames go on, but nothing can be opened or changed until weft is started again");
                }
                if !switch.is_alive() {
                    error!("a worker has died");
                    return Err(RunError::Worker);
                }
            }
        }
    }
}

async fn hang_up(api: &Api) {
    const REFUSED: &str = "the configuration was not applied, the old one goes on";
    match reload_from(api).await {
        Ok(_) => {}
        Err(RuntimeError::Config(errors)) => {
            let mistakes: Vec<_> = errors.reports().iter().map(ToString::to_string).collect();
            warn!("{REFUSED}: {}", mistakes.join("; "));
        }
        Err(error) => warn!("{REFUSED}: {:#}", anyhow::Error::from(error)),
    }
}
