//! `weft explain --live`: frames that pass are taken aside by the workers ([`sampling`](crate::worker::sampling)) and
//! explained here when they have passed.
//!
//! A frame is explained by the tables that its worker forwarded it by, which it brings along, and by what its worker says that
//! its source changed in the FDB. The rest of the FDB and the ways to VTEPs are those of now. So the explanation can be
//! another than it would have been then; whether it is shows in the frame's end, which the worker brings along as well.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use crossbeam_channel::Receiver;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use weft_vxlan::Vni;

use super::{ExplainError, Switch, narrator::Narrator};
use crate::{
    control::api::{
        explanation::{Fate, VerdictSaid},
        live::{CopiesSaid, Ending, LiveEvent, LiveRequest, Passed, SampledSaid},
    },
    ids::{Endpoint, PortId},
    worker::{
        TunnelHeader,
        explain::{Arriving, Difference, Path, Walkthrough, differences},
        sampling::{Came, Choice, EntersBy, Filter, Ips, MAX_RATE, Sample, Sampler, Witness},
        thread::Command,
    },
};

/// Frames a second that are explained if nothing else is said: more than anybody reads.
const RATE: u32 = 10;
/// Who may look at frames at the same time. Each costs the workers a comparison for every frame.
const MAX_SAMPLERS: usize = 8;
/// How often it is looked whether a frame has been taken. Waking whoever waits would cost the worker a system call; this costs
/// it nothing.
const POLL: Duration = Duration::from_millis(20);
/// For how long the kernel's answer about the way to a VTEP is good enough.
const PATHS_AGE: Duration = Duration::from_secs(1);

/// Somebody who looks at frames as they pass. Ends with this value.
pub struct Live {
    sampler: Arc<Sampler>,
    samples: Receiver<Sample>,
    paths: HashMap<SocketAddr, Path>,
    paths_of: Instant,
    explained: u64,
    count: Option<u64>,
    until: Option<Instant>,
    has_begun: bool,
    has_ended: bool,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.sampler.end();
    }
}

impl Live {
    /// Waits for the next frame and explains it; `None` behind the end.
    pub async fn next(&mut self, switch: &Mutex<Switch>) -> Option<LiveEvent> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Some(LiveEvent::Begin);
        }
        while !self.has_ended {
            if let Some(why) = self.ending() {
                self.has_ended = true;
                self.sampler.end();
                return Some(LiveEvent::End { why, sampled: self.sampled() });
            }
            if self.samples.is_empty() {
                sleep(POLL).await;
                continue;
            }
            // Only who holds the switch takes a sample: the numbers in it are not another's then.
            let switch = switch.lock().await;
            if let Ok(sample) = self.samples.try_recv() {
                self.explained += 1;
                return Some(LiveEvent::Frame(Box::new(switch.explain_sample(&sample, self).await)));
            }
        }
        None
    }

    fn ending(&self) -> Option<Ending> {
        if self.count.is_some_and(|count| self.explained >= count) {
            return Some(Ending::Count);
        }
        if self.until.is_some_and(|until| Instant::now() >= until) {
            self.sampler.end();
            // What was taken in time is explained.
            return self.samples.is_empty().then_some(Ending::Seconds);
        }
        self.sampler.is_over().then_some(Ending::Gone)
    }

    fn sampled(&self) -> SampledSaid {
        let counted = self.sampler.sampled();
        SampledSaid {
            matched: counted.matched,
            explained: self.explained,
            passed_over: counted.passed_over,
            too_soon: counted.too_soon,
            lost: counted.no_room,
        }
    }
}

impl Switch {
    /// Begins to look at frames.
    ///
    /// # Errors
    /// See [`ExplainError`].
    pub fn start_live(&mut self, request: &LiveRequest) -> Result<Live, ExplainError> {
        let (filter, choice) = (self.filter(request)?, choice(request)?);
        self.forget_ended_samplers();
        if self.samplers.len() >= MAX_SAMPLERS {
            return Err(ExplainError::Busy { most: MAX_SAMPLERS });
        }
        let (sampler, samples) = Sampler::new(filter, choice);
        self.samplers.push((sampler.clone(), samples.clone()));
        self.tell_samplers();
        self.workers.barrier();
        Ok(Live {
            sampler,
            samples,
            paths: HashMap::new(),
            paths_of: Instant::now(),
            explained: 0,
            count: request.count,
            until: request.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            has_begun: false,
            has_ended: false,
        })
    }

    /// Workers let go of whoever no longer looks, by themselves with the next frame and here if there is none.
    pub(in crate::control::switch) fn forget_ended_samplers(&mut self) {
        let before = self.samplers.len();
        self.samplers.retain(|(sampler, _)| !sampler.is_over());
        if self.samplers.len() != before {
            self.tell_samplers();
        }
    }

    fn tell_samplers(&self) {
        let all = || self.samplers.iter().map(|(sampler, _)| sampler.clone()).collect();
        self.workers.tell_all(|| Command::Sample(all()));
    }

    /// Ports and bridges are gone and their numbers will be others': what was taken of their frames is forgotten, and whoever
    /// looked at one of these ports has seen the last of it. To be called when no worker has anything of them.
    pub(in crate::control::switch) fn forget_samples(&mut self, gone: &[PortId]) {
        for (sampler, samples) in &self.samplers {
            sampler.lose(samples.try_iter().count() as u64);
            if let Some(EntersBy::Port(port)) = sampler.filter().enters_by
                && gone.contains(&port)
            {
                sampler.end();
            }
        }
        self.forget_ended_samplers();
    }

    fn filter(&self, request: &LiveRequest) -> Result<Filter, ExplainError> {
        let enters_by = match (&request.port, request.vtep) {
            (Some(_), Some(_)) => {
                let help = "name one of them, or neither";
                return Err(ExplainError::request("a frame comes in either by a `port` or from a `vtep`", help));
            }
            (Some(port), None) if request.vni.is_some() => {
                let help = "leave `vni` out, or name a `vtep`";
                return Err(ExplainError::request(format!("what comes in by port {port} has no VNI"), help));
            }
            (Some(port), None) => {
                let id = self.port_id(port);
                let id = id.ok_or_else(|| ExplainError::NotFound { what: "port", name: port.clone() })?;
                Some(EntersBy::Port(id))
            }
            (None, Some(vtep)) => Some(EntersBy::Vtep(self.of_underlay(vtep)?)),
            (None, None) => None,
        };
        let no_vni = |vni: u32| ExplainError::request(format!("{vni} is no VNI"), "0 to 16777215");
        let vni = request.vni.map(|vni| Vni::new(vni).ok_or_else(|| no_vni(vni))).transpose()?;
        let ip = match (request.ip, request.src_ip, request.dst_ip) {
            (None, None, None) => Ips::Any,
            (Some(ip), None, None) => Ips::Either(ip),
            (None, src, dst) => Ips::Both(src, dst),
            (Some(_), ..) => {
                let help = "`ip` is either of them: name it alone";
                return Err(ExplainError::request("`ip` does not go with `src_ip` and `dst_ip`", help));
            }
        };
        if request.vlan.is_some_and(|vlan| vlan > 4095) {
            return Err(ExplainError::request("`vlan` is too large", "0 to 4095"));
        }
        let LiveRequest { src, dst, vlan, ether_type, arp, protocol, sport, dport, .. } = *request;
        Ok(Filter {
            enters_by,
            vni,
            src,
            dst,
            vlan,
            ether_type,
            ip,
            arp_operation: arp,
            protocol,
            src_port: sport,
            dst_port: dport,
        })
    }

    async fn explain_sample(&self, sample: &Sample, live: &mut Live) -> Passed {
        let mut bytes = sample.bytes.to_vec();
        bytes.resize(sample.len, 0);
        let (arriving, frame_len) = match sample.came {
            Came::Port { port, vnet } => (Arriving::Frame { port, bytes: &bytes, vnet }, bytes.len()),
            Came::Datagram { format, source, tos } => {
                let arriving = Arriving::Datagram { format, source, tos, payload: &bytes };
                (arriving, TunnelHeader::inner(format, &bytes).map_or(bytes.len(), <[u8]>::len))
            }
        };
        let (tables, learned) = (&sample.tables, sample.witness.learned);
        let first = self.walk(tables, arriving, learned, &|_| Path::Unknown);
        self.find_paths(&first, live).await;
        let path = |address| live.paths.get(&address).copied().unwrap_or(Path::Unknown);
        let walk = self.walk(tables, arriving, learned, &path);
        let mut explanation = self.narrated(|narrator| narrator.explanation(arriving, &walk));
        let taken = frame_len.saturating_sub(sample.len - sample.bytes.len());
        explanation.frame.hex.truncate(taken * 2);

        let differing = differences(&walk, &sample.witness);
        let mut notes = Vec::new();
        if sample.bytes.len() < sample.len {
            notes.push(format!("of its {} bytes the first {} were taken", sample.len, sample.bytes.len()));
        }
        if !Arc::ptr_eq(tables, &self.shared.tables.load_full()) {
            notes.push("the tables have changed since; it is explained by those of then".to_owned());
        }
        Passed {
            age_ms: self.clock.now().since(sample.at).as_millis() as u64,
            taken,
            end: self.narrated(|narrator| narrator.end(&walk, &sample.witness)),
            copies: self.narrated(|narrator| narrator.copies(&sample.witness)),
            more_places: sample.witness.more,
            agrees: differing.is_empty(),
            differences: self.narrated(|narrator| differing.iter().map(|it| narrator.difference(*it)).collect()),
            notes,
            sampled: live.sampled(),
            explanation,
        }
    }

    /// Asks for the ways that are not known, or no longer.
    async fn find_paths(&self, walk: &Walkthrough, live: &mut Live) {
        if live.paths_of.elapsed() > PATHS_AGE {
            live.paths.clear();
            live.paths_of = Instant::now();
        }
        let address = |to| match to {
            Endpoint::Vtep(vtep) => self.shared.vteps.address(vtep),
            Endpoint::Port(_) => None,
        };
        let is_known = |address: SocketAddr| live.paths.contains_key(&address);
        if !walk.departures().filter_map(|departure| address(departure.to)).all(is_known) {
            live.paths.extend(self.paths(walk).await);
        }
    }
}

fn choice(request: &LiveRequest) -> Result<Choice, ExplainError> {
    let (every, rate) = (request.every.unwrap_or(1), request.rate.unwrap_or(RATE));
    if every == 0 {
        return Err(ExplainError::request("`every` is 0", "1 for each frame, 100 for one in a hundred"));
    }
    if rate == 0 || rate > MAX_RATE {
        return Err(ExplainError::request(format!("`rate` is {rate}"), format!("1 to {MAX_RATE} frames a second")));
    }
    Ok(Choice { every, rate })
}

impl Narrator<'_> {
    /// How a frame really ended.
    fn end(&self, walk: &Walkthrough, witness: &Witness) -> VerdictSaid {
        let is_answer = |to| walk.departures().any(|departure| departure.is_answer && departure.to == to);
        let left: Vec<_> =
            witness.copies.iter().filter(|copies| copies.result.is_ok()).map(|copies| copies.to).collect();
        let not_sent = || witness.copies.iter().find_map(|copies| copies.result.err());
        let result = match left.as_slice() {
            [] => Fate::Dropped,
            places if places.iter().all(|to| is_answer(*to)) => Fate::Answered,
            _ => Fate::Delivered,
        };
        let reason = (result != Fate::Delivered).then(|| witness.dropped.first().copied().or_else(not_sent)).flatten();
        VerdictSaid {
            result,
            reason: reason.map(|reason| reason.name().to_owned()),
            explanation: reason.map(|reason| reason.explanation().to_owned()),
            ports: left.iter().filter_map(|to| self.port_of(*to)).collect(),
            vteps: left.iter().filter_map(|to| self.vtep_of(*to)).collect(),
        }
    }

    fn copies(&self, witness: &Witness) -> Vec<CopiesSaid> {
        let said = |copies: &crate::worker::sampling::Copies| CopiesSaid {
            port: self.port_of(copies.to),
            vtep: self.vtep_of(copies.to),
            frames: copies.frames,
            reason: copies.result.err().map(|reason| reason.name().to_owned()),
        };
        witness.copies.iter().map(said).collect()
    }

    fn difference(&self, difference: Difference) -> String {
        let frames = |count: u64| if count == 1 { "a frame".to_owned() } else { format!("{count} frames") };
        match difference {
            Difference::Unforeseen(to, Ok(()), count) => {
                format!("{} left by {}, unforeseen", frames(count), self.place(to))
            }
            Difference::Unforeseen(to, Err(reason), count) => {
                let (reason, why) = (reason.name(), reason.explanation());
                format!("{} for {} ended as {reason}, unforeseen: {why}", frames(count), self.place(to))
            }
            Difference::Missing(to, Ok(()), count) => {
                format!("{} should have left by {} and did not", frames(count), self.place(to))
            }
            Difference::Missing(to, Err(reason), count) => {
                format!("{} for {} should have ended as {} and did not", frames(count), self.place(to), reason.name())
            }
            Difference::Dropped(reason) => {
                format!("it was dropped as {}, unforeseen: {}", reason.name(), reason.explanation())
            }
            Difference::NotDropped(reason) => format!("it should have been dropped as {} and was not", reason.name()),
            Difference::Places(more) if more > 0 => format!("{more} places more than foreseen got it"),
            Difference::Places(fewer) => format!("{} places fewer than foreseen got it", -fewer),
        }
    }
}

#[cfg(test)]
mod tests;
