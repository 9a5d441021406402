//! The wefts around a capture: what they drop meanwhile, in all and frame by frame.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::mpsc::{Sender, sync_channel},
    thread,
};

use super::{
    super::{ClientError, client::Client},
    CaptureArgs,
};
use crate::{
    capture::{Event, Packet},
    control::{
        api::{
            explanation::Fate,
            live::{LiveEvent, LiveRequest, Passed},
            model::DropCount,
        },
        config::default_socket,
    },
    lab::running,
    wire::hex,
    worker::sampling::MAX_RATE,
};

/// A weft that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Weft {
    /// `weft`, or that of a lab's host: `weft of host1`.
    pub(super) name: String,
    socket: PathBuf,
}

/// The weft that was named; else those of the lab, and the one at its usual place if it answers.
pub(super) fn find(args: &CaptureArgs) -> anyhow::Result<Vec<Weft>> {
    let plain = |socket| Weft { name: "weft".to_owned(), socket };
    if let Some(socket) = &args.socket {
        let weft = plain(socket.clone());
        // Who names one wants to know that it does not answer.
        weft.ask()?;
        return Ok(vec![weft]);
    }
    let mut found = Vec::new();
    if let Some(lab) = &args.lab {
        for host in running::topology(lab)?.hosts.iter().filter(|host| host.weft.is_some()) {
            found.push(Weft { name: format!("weft of {}", host.name), socket: running::weft_socket(lab, &host.name) });
        }
    }
    let usual = default_socket();
    found.extend(usual.exists().then(|| plain(usual)));
    // A socket that was left behind is no reason not to capture.
    found.retain(|weft| weft.ask().is_ok());
    Ok(found)
}

impl Weft {
    fn ask(&self) -> Result<Vec<DropCount>, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        runtime.block_on(Client::new(&self.socket).drops())
    }

    /// What it dropped so far; nothing if it has ended.
    pub(super) fn drops(&self) -> Vec<DropCount> {
        self.ask().unwrap_or_default()
    }

    /// What was dropped since, a line each.
    pub(super) fn grown(&self, before: &[DropCount], after: &[DropCount]) -> Vec<String> {
        let key = |count: &DropCount| (count.name.clone(), format!("{:?}", count.direction), count.reason.clone());
        let before: BTreeMap<_, _> = before.iter().map(|count| (key(count), count.frames)).collect();
        let more = |count: &DropCount| count.frames.saturating_sub(before.get(&key(count)).copied().unwrap_or(0));
        let grown = after.iter().map(|count| (count, more(count))).filter(|(_, more)| *more > 0);
        let line = |(count, more): (&DropCount, u64)| {
            format!("{} dropped meanwhile: {} {} {more}: {}", self.name, count.name, count.reason, count.explanation)
        };
        grown.map(line).collect()
    }

    /// Has it tell, from now on, what became of frames that did not get through it: [`Event::Fate`]. Returns when it looks.
    ///
    /// It tells of so many frames a second as it explains at most; of others only the sum is known.
    pub(super) fn tell_fates(&self, events: Sender<Event>) -> Result<(), String> {
        let (began, has_begun) = sync_channel(1);
        let weft = self.clone();
        thread::spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(began.send(Err(error.to_string()))),
            };
            let request = LiveRequest { rate: Some(MAX_RATE), ..LiveRequest::default() };
            let told = |_: &str, event: &LiveEvent| match event {
                LiveEvent::Begin => began.send(Ok(())).is_ok(),
                LiveEvent::Frame(passed) => {
                    let Some(packet) =
                        hex::decode(passed.explanation.frame.hex.as_bytes()).map(|bytes| Packet::of(&bytes).id)
                    else {
                        return true;
                    };
                    // Whoever captured is gone when nobody listens.
                    fates(&weft.name, passed).into_iter().all(|said| events.send(Event::Fate { packet, said }).is_ok())
                }
                LiveEvent::End { .. } => false,
            };
            if let Err(error) = runtime.block_on(Client::new(&weft.socket).explain_live(&request, told)) {
                // After it began there is nobody to tell, and no need: the capture goes on without.
                let _ = began.send(Err(error.to_string()));
            }
        });
        has_begun.recv().unwrap_or_else(|_| Err("it has ended".to_owned()))
    }
}

/// What there is to say about a frame that did not get where it should.
fn fates(weft: &str, passed: &Passed) -> Vec<String> {
    let end = &passed.end;
    let reason = end.reason.as_deref().unwrap_or("nobody got it");
    let why = end.explanation.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match end.result {
        Fate::Dropped => vec![format!("{weft} dropped it, {reason}{why}")],
        Fate::Answered if end.reason.is_some() => vec![format!("{weft} answered it itself, {reason}{why}")],
        Fate::Answered => vec![format!("{weft} answered it itself")],
        Fate::Delivered => {
            let lost = passed.copies.iter().filter_map(|copies| Some((copies, copies.reason.as_ref()?)));
            let place = |port: &Option<String>, vtep: Option<std::net::SocketAddr>| match (port, vtep) {
                (Some(port), _) => port.clone(),
                (None, Some(vtep)) => format!("VTEP {vtep}"),
                (None, None) => "somewhere".to_owned(),
            };
            lost.map(|(copies, reason)| {
                format!("{weft} did not send it to {}, {reason}", place(&copies.port, copies.vtep))
            })
            .collect()
        }
    }
}
