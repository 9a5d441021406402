//! The task that asks and listens.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tracing::{debug, info, warn};
use weft_vxlan::pmtu::{Claim, Method, Policy, Probe};

use super::{
    Ground, Heard, News, Order, Peer, Published, Report, Rules, echo::Echo, errors::Listeners, peer::Tracked,
    stations::Station,
};
use crate::{
    control::link::Links,
    ids::{BridgeId, VtepId},
    underlay::events::UnderlayEvent,
    wire::probe::{self, Kind, MIN_LEN, own_address},
    worker::{
        ProbeNews, UsedVteps,
        thread::{Command, Commands},
    },
};

/// VTEPs that are measured at one time. One takes a second or two and some tens of kilobytes.
const MEASURED_AT_ONCE: usize = 64;
/// How often it is looked which VTEPs were sent frames.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often routes are asked for, which nobody else would tell of.
const ROUTES_EVERY: Duration = Duration::from_secs(30);
/// Things heard between two looks at what is due.
const HEARD_AT_ONCE: usize = 256;

/// See [`super::PathMtus`].
pub(super) struct Prober {
    commands: Commands,
    used: Arc<UsedVteps>,
    heard: mpsc::Sender<Heard>,
    news: mpsc::Sender<News>,
    published: Arc<ArcSwap<Published>>,
    started: Instant,
    rules: Rules,
    peers: BTreeMap<VtepId, Tracked>,
    ground: Option<Footing>,
    no_echo: Option<String>,
    /// Errors that quote nothing that was sent to any VTEP.
    foreign: u64,
    /// Bridges in which stations were asked.
    asking: BTreeSet<BridgeId>,
    next_look: Duration,
    next_routes: Duration,
}

/// The underlay, and what is open there.
struct Footing {
    local: IpAddr,
    mtu: u32,
    echo: Option<Echo>,
    listeners: Option<Listeners>,
    links: Option<Arc<Links>>,
}

impl Prober {
    pub(super) fn new(
        commands: Commands,
        used: Arc<UsedVteps>,
        heard: mpsc::Sender<Heard>,
        news: mpsc::Sender<News>,
        published: Arc<ArcSwap<Published>>,
    ) -> Self {
        Self {
            commands,
            used,
            heard,
            news,
            published,
            started: Instant::now(),
            rules: Rules { policy: Policy::Assume, ageing: Duration::MAX },
            peers: BTreeMap::new(),
            ground: None,
            no_echo: None,
            foreign: 0,
            asking: BTreeSet::new(),
            next_look: Duration::ZERO,
            next_routes: Duration::ZERO,
        }
    }

    /// Works until nobody gives orders any more.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>, mut heard: mpsc::Receiver<Heard>) {
        loop {
            let wake = self.next_wake();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                Some(first) = heard.recv() => {
                    self.hear(first);
                    for _ in 0..HEARD_AT_ONCE {
                        let Ok(next) = heard.try_recv() else { break };
                        self.hear(next);
                    }
                }
                () = sleep_until(wake) => {}
            }
            self.look();
            self.ask();
            self.tell().await;
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Ground(ground, done) => {
                if let Some(Footing { listeners: Some(listeners), .. }) = self.ground.take() {
                    listeners.stop().await;
                }
                self.peers.clear();
                self.asking.clear();
                self.ground = ground.map(|ground| self.stand_on(ground));
                _ = done.send(());
            }
            Order::Peers(rules, peers) => self.track(rules, peers),
            Order::LinksChanged(mtu) => {
                if let Some(ground) = &mut self.ground {
                    ground.mtu = mtu;
                }
                self.ask_routes(|_| true);
            }
            Order::Report(answer) => _ = answer.send(self.report()),
        }
    }

    fn stand_on(&mut self, ground: Ground) -> Footing {
        let Ground { netns, local, mtu, queues } = ground;
        let listeners = Listeners::start(&queues, &self.heard)
            .inspect_err(|error| warn!(%error, "what ICMP says about the tunnel is not listened to"))
            .ok();
        let echo = Echo::open(&netns, local, self.heard.clone());
        self.no_echo = echo.as_ref().err().map(ToString::to_string);
        if let Some(why) = &self.no_echo {
            info!(%local, why, "path MTUs are not measured by pings");
        }
        let links = Links::open(&netns)
            .inspect_err(|error| warn!(%error, "routes of the underlay are not asked for; its interface's MTU counts"))
            .ok();
        Footing { local, mtu, echo: echo.ok(), listeners, links: links.map(Arc::new) }
    }

    fn track(&mut self, rules: Rules, peers: Vec<Peer>) {
        let now = self.now();
        let Some(Footing { mtu, .. }) = self.ground else { return self.peers.clear() };
        if rules != self.rules {
            self.peers.clear();
            self.rules = rules;
        }
        let mut before = std::mem::take(&mut self.peers);
        let mut new = BTreeSet::new();
        for peer in peers {
            let vtep = peer.vtep;
            let tracked = match before.remove(&vtep) {
                Some(mut tracked) => {
                    tracked.peer = peer;
                    tracked
                }
                None => {
                    new.insert(vtep);
                    Tracked::new(peer, rules, mtu, now)
                }
            };
            self.peers.insert(vtep, tracked);
        }
        self.ask_routes(|vtep| new.contains(&vtep));
    }

    /// Asks the kernel which links lead to some VTEPs; what it says is heard later.
    fn ask_routes(&self, which: impl Fn(VtepId) -> bool) {
        let Some(Footing { local, mtu, links: Some(links), .. }) = &self.ground else { return };
        let (local, mtu, links, heard) = (*local, *mtu, Arc::clone(links), self.heard.clone());
        let asked: Vec<_> = self
            .peers
            .values()
            .filter(|peer| which(peer.peer.vtep))
            .map(|peer| (peer.peer.vtep, peer.address()))
            .collect();
        if asked.is_empty() {
            return;
        }
        tokio::spawn(async move {
            for (vtep, address) in asked {
                // Without a route nothing leaves, and nothing is to be known.
                let mtu = links.route_to(address, Some(local)).await.map_or(mtu, |route| route.mtu);
                if heard.send(Heard::Route { vtep, mtu }).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Looks which VTEPs are in use, and whether the links to those are what they were.
    fn look(&mut self) {
        let now = self.now();
        if now < self.next_look || self.peers.is_empty() {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        for tracked in self.peers.values_mut() {
            tracked.look_at_use(self.used.take(tracked.peer.vtep), now);
        }
        if now >= self.next_routes {
            self.next_routes = now + ROUTES_EVERY;
            self.ask_routes(|vtep| self.peers.get(&vtep).is_some_and(|tracked| tracked.is_in_use(now)));
        }
    }

    /// Sends what is due.
    fn ask(&mut self) {
        let now = self.now();
        let Self { peers, ground: Some(ground), commands, asking, .. } = self else { return };
        let mut busy = peers.values().filter(|tracked| tracked.mtu.is_asking()).count();
        for tracked in peers.values_mut() {
            let was_asking = tracked.mtu.is_asking();
            if !was_asking && busy >= MEASURED_AT_ONCE {
                continue;
            }
            while let Some(probe) = tracked.mtu.poll(now) {
                send(tracked, ground, commands, asking, probe, now);
            }
            busy += usize::from(tracked.mtu.is_asking() && !was_asking);
        }
    }

    /// When something is due next.
    fn next_wake(&self) -> Instant {
        let busy = self.peers.values().filter(|tracked| tracked.mtu.is_asking()).count();
        let has_turn = |tracked: &&Tracked| tracked.mtu.is_asking() || busy < MEASURED_AT_ONCE;
        let due = self.peers.values().filter(has_turn).filter_map(|tracked| tracked.mtu.next_timeout());
        let look = (!self.peers.is_empty()).then_some(self.next_look);
        const LONG: Duration = Duration::from_secs(3600);
        let next = due.chain(look).min().unwrap_or_else(|| self.now() + LONG);
        self.started + next.min(self.now() + LONG)
    }

    fn hear(&mut self, heard: Heard) {
        let now = self.now();
        match heard {
            Heard::Echo { from, nonce, size } => {
                let is_it = |tracked: &&mut Tracked| {
                    tracked.address() == from
                        && tracked.mtu.asked(nonce).is_some_and(|asked| usize::from(asked) == size)
                };
                if let Some(tracked) = self.peers.values_mut().find(is_it) {
                    tracked.on_answer(nonce, Method::Echo, now);
                }
            }
            Heard::EchoTooBig { to, mtu, from, sequence } => {
                let mut is_ours = false;
                for tracked in self.peers.values_mut().filter(|tracked| tracked.address() == to) {
                    if tracked.has_echo(sequence, mtu) {
                        is_ours = true;
                        tracked.on_claim(Claim { mtu, quotes_us: true, from }, now);
                    }
                }
                self.foreign += u64::from(!is_ours);
            }
            Heard::LinkTooSmall { to, mtu } => self.on_link(|tracked| tracked.address() == to, mtu, now),
            Heard::Route { vtep, mtu } => {
                if let Some(tracked) = self.peers.get_mut(&vtep) {
                    tracked.mtu.set_link_mtu(mtu, now);
                }
            }
            Heard::Underlay(event) => self.on_underlay(event, now),
            Heard::Worker(news) => self.on_worker(news, now),
        }
    }

    fn on_link(&mut self, which: impl Fn(&Tracked) -> bool, mtu: u32, now: Duration) {
        for tracked in self.peers.values_mut().filter(|tracked| which(tracked)) {
            if mtu < u32::from(tracked.mtu.link_mtu()) {
                tracked.mtu.set_link_mtu(mtu, now);
            }
        }
    }

    fn on_underlay(&mut self, event: UnderlayEvent, now: Duration) {
        let (peer, quoted) = match &event {
            UnderlayEvent::TooBigForLink { peer, mtu } => {
                return self.on_link(|tracked| tracked.peer.address == *peer, *mtu, now);
            }
            UnderlayEvent::TooBig { peer, quoted, .. } | UnderlayEvent::Unreachable { peer, quoted, .. } => {
                (*peer, quoted)
            }
        };
        let Some(tracked) = self.find(peer) else {
            self.foreign += 1;
            return;
        };
        let quotes_us = tracked.can_be_quoted(quoted);
        match event {
            UnderlayEvent::TooBig { mtu, from, .. } => tracked.on_claim(Claim { mtu, quotes_us, from }, now),
            UnderlayEvent::Unreachable { from, error, .. } if quotes_us => {
                tracked.counts.unreachable += 1;
                debug!(%peer, ?from, %error, "a datagram did not arrive");
            }
            UnderlayEvent::Unreachable { .. } => tracked.counts.errors_foreign += 1,
            UnderlayEvent::TooBigForLink { .. } => {}
        }
    }

    fn find(&mut self, address: SocketAddr) -> Option<&mut Tracked> {
        self.peers.values_mut().find(|tracked| tracked.peer.address == address)
    }

    /// What workers go by and what a user wants to hear, if that is new.
    async fn tell(&mut self) {
        let mut news: Vec<_> = self.peers.values_mut().filter_map(Tracked::take_change).map(News::Changed).collect();
        let published = self.what_workers_need();
        if published != **self.published.load() {
            self.published.store(Arc::new(published));
            // Tables first, then the tale of them.
            news.insert(0, News::Published);
        }
        for news in news {
            if self.news.send(news).await.is_err() {
                return;
            }
        }
    }

    fn what_workers_need(&self) -> Published {
        let mut needed = Published { asking: self.asking.iter().copied().collect(), ..Published::default() };
        for (vtep, tracked) in &self.peers {
            let index = vtep.index();
            if needed.path_mtus.len() <= index {
                needed.path_mtus.resize(index + 1, None);
            }
            needed.path_mtus[index] = Some(tracked.mtu.path_mtu());
            if self.wants_stations(tracked) {
                needed.wanted.push(*vtep);
            }
        }
        needed
    }

    /// Whether stations have to be looked for behind a VTEP: nobody else answers.
    fn wants_stations(&self, tracked: &Tracked) -> bool {
        let is_silent = tracked.mtu.unanswered_since().is_some() || tracked.mtu.method() == Some(Method::Station);
        self.rules.policy == Policy::Measure && is_silent && !tracked.stations.are_enough()
    }

    fn report(&self) -> Report {
        let now = self.now();
        Report {
            now,
            peers: self.peers.values().map(|tracked| tracked.report(now)).collect(),
            foreign: self.foreign,
            no_echo: self.no_echo.clone(),
        }
    }

    fn on_worker(&mut self, news: ProbeNews, now: Duration) {
        let vtep = news.vtep();
        let Some(tracked) = self.peers.get_mut(&vtep) else { return };
        match news {
            ProbeNews::Answered { bridge, nonce, len, .. } => {
                let is_whole = tracked
                    .mtu
                    .asked(nonce)
                    .is_some_and(|size| tracked.frame_len(bridge, size).max(MIN_LEN) == len as usize);
                if is_whole {
                    tracked.on_answer(nonce, Method::InBand, now);
                }
            }
            ProbeNews::Asked { .. } => tracked.mtu.ask_again(now),
            ProbeNews::Station { bridge, mac, ip, is_certain, .. } => {
                let station = Station { bridge, mac, ip, is_certain };
                if tracked.stations.note(station) {
                    tracked.mtu.ask_again(now);
                }
            }
            ProbeNews::StationAnswered { mac, index, .. } => {
                if let Some(nonce) = tracked.stations.answered(index, mac, now) {
                    tracked.on_answer(nonce, Method::Station, now);
                }
            }
        }
    }
}

/// Sends one probe, in every way that is asked for and that there is.
fn send(
    tracked: &mut Tracked,
    ground: &Footing,
    commands: &Commands,
    asking: &mut BTreeSet<BridgeId>,
    probe: Probe,
    now: Duration,
) {
    let Probe { size, nonce, method } = probe;
    let asks_by = |one| method.is_none_or(|method| method == one);
    let vtep = tracked.peer.vtep;
    tracked.counts.probes_sent += 1;
    if asks_by(Method::InBand)
        && let Some(carrier) = tracked.carrier()
    {
        let bridge = carrier.bridge;
        let len = tracked.frame_len(bridge, size).max(MIN_LEN) as u32;
        let frame = probe::Probe { kind: Kind::Question, nonce, len }.frame(own_address(ground.local, 0));
        commands.tell(Command::SendProbe { bridge, vtep, frame });
    }
    if asks_by(Method::Station) {
        let tracked_len = |bridge| tracked.frame_len(bridge, size);
        let lens: Vec<_> =
            tracked.peer.carriers.iter().map(|carrier| (carrier.bridge, tracked_len(carrier.bridge))).collect();
        let len_of = |bridge| lens.iter().find(|(of, _)| *of == bridge).map_or(0, |(_, len)| *len);
        for question in tracked.stations.ask(ground.local, size, nonce, len_of, now) {
            asking.insert(question.bridge);
            commands.tell(Command::SendProbe { bridge: question.bridge, vtep, frame: question.frame });
        }
    }
    if asks_by(Method::Echo)
        && let Some(echo) = &ground.echo
    {
        // What did not leave counts as not answered; what the kernel says about the link comes with the socket's errors.
        if echo.send(tracked.address(), size, nonce) {
            tracked.echo_sent(nonce, size);
        }
    }
}
