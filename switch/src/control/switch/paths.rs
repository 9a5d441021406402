//! The paths to VTEPs as the switch has them measured: who they are goes to the prober, what it finds out goes into the tables.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crossbeam_channel::Receiver;
use tokio::sync::mpsc;
use tracing::{info, warn};
use weft_vxlan::{
    mtu::{Family, HeaderBudget, HeaderLine},
    pmtu::{Method, Policy, Reason, State},
};

use super::{ApplyError, Event, Switch, events::What, port::OpenPort};
use crate::{
    bridge::{Bridge, Tables},
    control::{
        api::{
            model::Happening,
            mtu::{MtuBudget, MtuHeader, MtuState, PortMtu, UnderlayMtu, VtepMtu},
        },
        config::{Df, PATH_MTU_WORDS, Peers, PortKind, VtepConfig, word_of},
        path_mtu::{Carrier, Change, Ground, News, PathMtus, Peer, PeerReport, Published, Report, Rules},
    },
    ids::{BridgeId, Endpoint, VtepId},
    underlay::events::ErrorQueues,
    wire::probe::{ADDRESS_COUNT, own_address},
    worker::{ProbeNews, Shared, thread::Commands},
};

/// Starts the prober; what it has to tell comes with the switch's other events.
pub(super) fn start(
    commands: Commands,
    shared: &Shared,
    from_workers: Receiver<ProbeNews>,
    events: mpsc::Sender<Event>,
) -> Result<PathMtus, ApplyError> {
    let (news, mut told) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(news) = told.recv().await {
            if events.send(Event(What::Path(news))).await.is_err() {
                return;
            }
        }
    });
    PathMtus::start(commands, Arc::clone(&shared.used), from_workers, news).map_err(ApplyError::Worker)
}

impl Switch {
    /// Gives the prober the underlay that is open now, or takes it away.
    pub(super) async fn ground_paths(&self, queues: Option<ErrorQueues>) {
        let ground = self.underlay.as_ref().zip(queues).map(|(underlay, queues)| Ground {
            netns: underlay.netns.clone(),
            local: underlay.config.address,
            mtu: underlay.mtu,
            queues,
        });
        self.path_mtus.set_ground(ground).await;
        self.tell_peers();
    }

    /// Tells the prober whose paths count now.
    pub(super) fn tell_peers(&self) {
        let Some(vtep) = &self.config.vtep else { return };
        let peers = self.peers(vtep, &self.shared.tables.load());
        self.path_mtus.set_peers(rules(vtep), peers);
    }

    /// VTEPs that somebody named; where any is taken, those too behind which an address was learned.
    fn peers(&self, vtep: &VtepConfig, tables: &Tables) -> Vec<Peer> {
        let mut carriers = BTreeMap::<VtepId, Vec<Carrier>>::new();
        for (id, bridge) in tables.bridge_ids() {
            let Some(carrier) = carrier(id, bridge, Family::of(vtep.address)) else { continue };
            let named = bridge.known_vteps.values().copied();
            let learned = match vtep.peers {
                Peers::Known => vec![],
                Peers::Any => self.shared.fdb.vteps_learned(id),
            };
            for vtep in named.chain(learned) {
                let of = carriers.entry(vtep).or_default();
                if of.iter().all(|other| other.bridge != id) {
                    of.push(carrier);
                }
            }
        }
        let peer = |(vtep, carriers)| Some(Peer { vtep, address: self.shared.vteps.address(vtep)?, carriers });
        carriers.into_iter().filter_map(peer).collect()
    }

    /// VTEPs that nobody named come and go with the addresses behind them.
    pub(super) fn look_for_peers(&self) {
        if self.config.vtep.as_ref().is_some_and(|vtep| vtep.peers == Peers::Any) {
            self.tell_peers();
        }
    }

    pub(super) fn on_path_news(&mut self, news: &News) {
        match news {
            News::Published => {
                let tables = Tables::clone(&self.shared.tables.load());
                let tables = with_paths(tables, &self.path_mtus.published());
                self.shared.tables.store(Arc::new(tables));
            }
            News::Changed(change) => self.on_path_changed(change),
        }
    }

    fn on_path_changed(&self, change: &Change) {
        let Change { vtep, from, to, state, reason } = *change;
        let vtep = self.endpoint_name(Endpoint::Vtep(vtep));
        match state {
            State::BlackHole => warn!(vtep, from, path_mtu = to, "black hole: {reason}"),
            State::Assumed | State::Learned | State::Measured => info!(vtep, from, path_mtu = to, "path MTU: {reason}"),
        }
        self.feed.tell(|| Happening::PathMtu {
            vtep,
            from,
            path_mtu: to,
            state: state.name().to_owned(),
            reason: reason.to_string(),
        });
    }
}

impl Switch {
    /// All that is known of MTUs.
    pub async fn mtu(&self) -> MtuState {
        let report = self.path_mtus.report().await;
        let underlay = self.underlay_mtu(report.as_ref());
        let peers = report.as_ref().map_or(&[][..], |report| &report.peers);
        let now = report.as_ref().map_or_else(Duration::default, |report| report.now);
        let vteps: Vec<_> = peers.iter().filter_map(|peer| self.vtep_mtu(peer, now)).collect();
        let ports = self.ports.iter().map(|(_, port)| self.port_mtu(port, &vteps)).collect();
        MtuState { underlay, vteps, ports }
    }

    fn underlay_mtu(&self, report: Option<&Report>) -> Option<UnderlayMtu> {
        let underlay = self.underlay.as_ref()?;
        let vtep = &underlay.config;
        let note = match (vtep.df, vtep.path_mtu) {
            (Df::Unset, _) => {
                Some("nothing is measured: with df = \"unset\" what is too big leaves in fragments".to_owned())
            }
            (Df::Set | Df::Inherit, Policy::Learn) => Some("nothing is measured: path_mtu = \"learn\"".to_owned()),
            (Df::Set | Df::Inherit, Policy::Assume) => Some("nothing is measured: path_mtu = \"assume\"".to_owned()),
            (Df::Set | Df::Inherit, Policy::Measure) => report.and_then(|report| report.no_echo.clone()),
        };
        Some(UnderlayMtu {
            address: vtep.address,
            interface: underlay.link.name.clone(),
            mtu: underlay.mtu,
            policy: word_of(PATH_MTU_WORDS, &vtep.path_mtu).to_owned(),
            ageing_s: vtep.path_mtu_ageing.as_secs(),
            note,
            errors_foreign: report.map_or(0, |report| report.foreign),
        })
    }

    fn vtep_mtu(&self, peer: &PeerReport, now: Duration) -> Option<VtepMtu> {
        let PeerReport { mtu, counts, .. } = peer;
        let address = self.shared.vteps.address(peer.vtep)?;
        let ago = |then: Duration| now.saturating_sub(then).as_secs();
        let vanishing_from = if let Reason::Vanishing { from } = mtu.reason() { Some(from) } else { None };
        let method = mtu.method().map(|method| match method {
            Method::InBand => "in_band",
            Method::Echo => "echo",
            Method::Station => "station",
        });
        let stations = match mtu.method() {
            Some(Method::Station) => peer.stations.iter().map(|station| station.ip).collect(),
            Some(Method::InBand | Method::Echo) | None => vec![],
        };
        Some(VtepMtu {
            address: address.ip(),
            port: address.port(),
            link_mtu: mtu.link_mtu(),
            path_mtu: mtu.path_mtu(),
            state: mtu.state().name().to_owned(),
            reason: mtu.reason().to_string(),
            age_s: ago(mtu.since()),
            vanishing_from,
            method: method.map(str::to_owned),
            stations,
            round_trip_us: mtu.round_trip().map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            confirmed_s: mtu.confirmed().map(ago),
            unanswered_s: mtu.unanswered_since().map(ago),
            in_use: peer.in_use,
            budgets: self.budgets(&peer.carriers, mtu.path_mtu()),
            probes_sent: counts.probes_sent,
            probes_answered: counts.probes_answered,
            errors_accepted: counts.errors_accepted,
            errors_doubted: counts.errors_doubted,
            errors_impossible: counts.errors_impossible,
            errors_foreign: counts.errors_foreign,
            unreachable: counts.unreachable,
        })
    }

    /// What remains of a path MTU, for bridges that wrap their frames alike together.
    fn budgets(&self, carriers: &[Carrier], path_mtu: u16) -> Vec<MtuBudget> {
        let mut budgets = Vec::<(HeaderBudget, MtuBudget)>::new();
        for carrier in carriers {
            let bridge = self.bridge_name(carrier.bridge);
            match budgets.iter_mut().find(|(budget, _)| *budget == carrier.budget) {
                Some((_, of)) => of.bridges.push(bridge),
                None => budgets.push((carrier.budget, budget(carrier, bridge, path_mtu))),
            }
        }
        budgets.into_iter().map(|(_, budget)| budget).collect()
    }

    fn port_mtu(&self, port: &OpenPort, vteps: &[VtepMtu]) -> PortMtu {
        let is_its = |bridge: &String| port.config.membership.contains(bridge);
        let of_vtep = |vtep: &VtepMtu| {
            let budgets = vtep.budgets.iter().filter(|budget| budget.bridges.iter().any(is_its));
            let smallest = budgets.filter_map(|budget| budget.inner_mtu).min()?;
            Some((smallest, SocketAddr::new(vtep.address, vtep.port)))
        };
        let smallest = vteps.iter().filter_map(of_vtep).min();
        let mtu = (!port.is_gone()).then_some(port.link.mtu);
        PortMtu {
            port: port.config.full_name(),
            mtu,
            configured: port.config.mtu,
            default: port.default_mtu,
            smallest_path: smallest.map(|(mtu, _)| mtu),
            why: why(port, mtu, smallest),
        }
    }
}

fn budget(carrier: &Carrier, bridge: String, path_mtu: u16) -> MtuBudget {
    let header = |line: HeaderLine| MtuHeader { name: line.name.to_owned(), bytes: line.len };
    MtuBudget {
        bridges: vec![bridge],
        encapsulation: carrier.encapsulation.word().to_owned(),
        headers: carrier.budget.lines().map(header).collect(),
        inner_mtu: carrier.budget.inner_mtu(path_mtu.into()),
        inner_mtu_tagged: carrier.budget.with_inner_tag().inner_mtu(path_mtu.into()),
    }
}

/// Why a port's MTU is what it is, and what becomes of what is larger than a path.
fn why(port: &OpenPort, mtu: Option<u32>, smallest: Option<(u16, SocketAddr)>) -> String {
    let Some(mtu) = mtu else { return "its interface is gone".to_owned() };
    let is_default = mtu == u32::from(port.default_mtu);
    let origin = match (port.config.mtu, port.config.kind, smallest) {
        (Some(_), ..) => "configured".to_owned(),
        (None, PortKind::Packet, _) => "the interface's own".to_owned(),
        (None, PortKind::Tap | PortKind::Veth, None) if is_default => "Ethernet's: its frames meet no VTEP".to_owned(),
        (None, PortKind::Tap | PortKind::Veth, Some(_)) if is_default => {
            "what fits the underlay's interface".to_owned()
        }
        (None, PortKind::Tap | PortKind::Veth, _) => {
            format!("set by somebody else; weft would have set {}", port.default_mtu)
        }
    };
    match smallest {
        Some((fits, vtep)) if u32::from(fits) < mtu => format!(
            "{origin}; only {fits} bytes reach VTEP {vtep}: a larger packet is answered by weft if it may not be fragmented, \
             and is lost there if nobody heeds the answer"
        ),
        Some(_) => format!("{origin}, and reaches every VTEP"),
        None => origin,
    }
}

/// Whether anything is measured. What may be fragmented arrives whatever its size.
fn rules(vtep: &VtepConfig) -> Rules {
    let policy = match vtep.df {
        Df::Unset => Policy::Assume,
        Df::Set | Df::Inherit => vtep.path_mtu,
    };
    Rules { policy, ageing: vtep.path_mtu_ageing }
}

fn carrier(bridge: BridgeId, of: &Bridge, family: Family) -> Option<Carrier> {
    let encapsulation = of.encapsulation;
    let options_len = u16::try_from(of.geneve_options.as_bytes().len()).unwrap_or(u16::MAX);
    let budget = HeaderBudget::new(family).with_encapsulation(encapsulation).with_options(options_len);
    Some(Carrier { bridge, vni: of.vni?, encapsulation, budget })
}

/// The same tables with the paths as they are now.
pub(super) fn with_paths(mut tables: Tables, published: &Published) -> Tables {
    let Some(overlay) = &mut tables.overlay else { return tables };
    overlay.path_mtus.clone_from(&published.path_mtus);
    overlay.stations_wanted.clone_from(&published.wanted);
    let local = overlay.local.ip();
    for id in &published.asking {
        if let Some(Some(bridge)) = tables.bridges.get_mut(id.index()) {
            take_answers(bridge, local);
        }
    }
    tables
}

/// Stations answer to these addresses: frames to them end in the switch.
fn take_answers(bridge: &mut Bridge, local: IpAddr) {
    for mac in (0..ADDRESS_COUNT).map(|index| own_address(local, index)) {
        if !bridge.local_macs.contains(&mac) {
            bridge.local_macs.push(mac);
        }
    }
}
