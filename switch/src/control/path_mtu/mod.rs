//! The path MTU to each VTEP: asking, listening, and telling the workers.
//!
//! # Theory of operation
//! What is known of a path is a [`PathMtu`] for each VTEP, a state machine without sockets. A [`Prober`](prober::Prober), one task of
//! the control plane, lends them the sockets: it sends the probes that are due, hands over what was heard, and publishes the
//! values, which go into the workers' tables.
//!
//! ```text
//!           probes                                   +--> a worker --> the tunnel's own sockets --> VTEP   in band
//!  PathMtu --------> prober --- by each method that --+--> a worker --> the tunnel --> a station behind it
//!    ^                          there is              +--> a socket for ICMP echo ---------------> VTEP
//!    |                  ^
//!    +------------------+--- answers, from workers and the echo socket
//!                       +--- errors, from the queues of the tunnel's sockets and the echo socket
//!                       +--- the MTU of the link that leads there, from netlink
//! ```
//!
//! | method | the question | who answers |
//! |---|---|---|
//! | in band | a frame to a reserved group ([`crate::wire::probe`]), which nobody but a weft looks into | the VTEP, if it is a weft |
//! | echo | ICMP echo, DF set ([`echo`]) | every host that answers to ping |
//! | station | ARP or neighbour discovery with padding ([`stations`]) | any station behind the VTEP |
//!
//! **Errors** count only if what they quote can be ours: it was sent to a VTEP and, as far as it is quoted, begins with the tunnel
//! header of a network that this VTEP belongs to; or it is an echo request that is under way. The rest is counted as foreign.

pub(crate) mod echo;
mod errors;
#[cfg(test)]
mod fuzz;
mod peer;
mod prober;
pub(crate) mod stations;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    sync::Arc,
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use crossbeam_channel::Receiver;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use weft_vxlan::{
    Encapsulation, Vni,
    mtu::HeaderBudget,
    pmtu::{PathMtu, Policy, Reason, State},
};

pub(crate) use self::peer::Counts;
use self::prober::Prober;
use crate::{
    ids::{BridgeId, VtepId},
    sys::netns::Netns,
    underlay::events::{ErrorQueues, UnderlayEvent},
    worker::{ProbeNews, UsedVteps, thread::Commands},
};

/// What workers find out about probes and stations may wait here; a worker that finds no room counts the loss and goes on.
pub(crate) const PROBE_NEWS_LEN: usize = 1024;
/// The same for everything that is heard.
const HEARD_LEN: usize = 1024;

/// What paths are measured by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) ageing: Duration,
}

/// The underlay as the prober needs it.
pub(crate) struct Ground {
    /// Where it is.
    pub(crate) netns: Netns,
    /// The VTEP's own address.
    pub(crate) local: IpAddr,
    /// The MTU of its interface.
    pub(crate) mtu: u32,
    pub(crate) queues: ErrorQueues,
}

/// A VTEP whose path counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Peer {
    pub(crate) vtep: VtepId,
    pub(crate) address: SocketAddr,
    /// The bridges that it belongs to; at least one.
    pub(crate) carriers: Vec<Carrier>,
}

/// A bridge whose frames a VTEP gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Carrier {
    pub(crate) bridge: BridgeId,
    pub(crate) vni: Vni,
    pub(crate) encapsulation: Encapsulation,
    /// What its headers cost.
    pub(crate) budget: HeaderBudget,
}

/// What the prober is told to do.
pub(crate) enum Order {
    /// Here is the underlay, or there is none. The answer comes when nothing of the old one is in use any more.
    Ground(Option<Ground>, oneshot::Sender<()>),
    /// These are the VTEPs, and the rules.
    Peers(Rules, Vec<Peer>),
    /// Routes or interfaces may have changed.
    LinksChanged(u32),
    /// Say all that is known.
    Report(oneshot::Sender<Report>),
}

/// What the prober hears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// A host answered an echo request that came in an IP packet of this size.
    Echo { from: IpAddr, nonce: u64, size: usize },
    /// A router would not pass an echo request on.
    EchoTooBig { to: IpAddr, mtu: u32, from: Option<IpAddr>, sequence: u16 },
    /// The kernel would not let an echo request out.
    LinkTooSmall { to: IpAddr, mtu: u32 },
    /// Something happened to what was sent through the tunnel's sockets.
    Underlay(UnderlayEvent),
    /// A worker found something out.
    Worker(ProbeNews),
    /// The MTU of the link that leads to a VTEP.
    Route { vtep: VtepId, mtu: u32 },
}

/// What the prober has to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// What workers go by is another thing now: [`PathMtus::published`].
    Published,
    /// A path is not what it was.
    Changed(Change),
}

/// A path is not what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) vtep: VtepId,
    /// What its MTU was.
    pub(crate) from: u16,
    /// What it is.
    pub(crate) to: u16,
    pub(crate) state: State,
    pub(crate) reason: Reason,
}

/// What workers go by.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Published {
    /// By [`VtepId`]; `None`: nothing better is known than the MTU of the underlay's link.
    pub(crate) path_mtus: Vec<Option<u16>>,
    /// VTEPs behind which stations are looked for.
    pub(crate) wanted: Vec<VtepId>,
    /// Bridges in which stations are asked, so that answers come back there.
    pub(crate) asking: Vec<BridgeId>,
}

/// All that is known.
pub(crate) struct Report {
    /// The prober's time.
    pub(crate) now: Duration,
    pub(crate) peers: Vec<PeerReport>,
    /// Errors that quote nothing that was sent to any VTEP.
    pub(crate) foreign: u64,
    /// Why there is no ICMP echo.
    pub(crate) no_echo: Option<String>,
}

/// What is known of one path.
pub(crate) struct PeerReport {
    pub(crate) vtep: VtepId,
    pub(crate) carriers: Vec<Carrier>,
    pub(crate) mtu: PathMtu,
    pub(crate) counts: Counts,
    pub(crate) in_use: bool,
    /// The stations behind it that answered.
    pub(crate) stations: Vec<stations::Station>,
}

/// The switch's end of its prober.
pub(crate) struct PathMtus {
    orders: mpsc::UnboundedSender<Order>,
    published: Arc<ArcSwap<Published>>,
    task: JoinHandle<()>,
}

impl PathMtus {
    /// Starts a prober, without an underlay. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// A thread can't be started.
    pub(crate) fn start(
        commands: Commands,
        used: Arc<UsedVteps>,
        from_workers: Receiver<ProbeNews>,
        news: mpsc::Sender<News>,
    ) -> io::Result<Self> {
        let (orders, orders_receiver) = mpsc::unbounded_channel();
        let (heard, heard_receiver) = mpsc::channel(HEARD_LEN);
        hand_on(from_workers, heard.clone())?;
        let published = Arc::<ArcSwap<Published>>::default();
        let prober = Prober::new(commands, used, heard, news, Arc::clone(&published));
        let task = tokio::spawn(prober.run(orders_receiver, heard_receiver));
        Ok(Self { orders, published, task })
    }

    /// The underlay is open; its sockets stay so until it is taken away again.
    pub(crate) async fn set_ground(&self, ground: Option<Ground>) {
        let (done, is_done) = oneshot::channel();
        if self.orders.send(Order::Ground(ground, done)).is_ok() {
            _ = is_done.await;
        }
    }

    /// These are the VTEPs whose paths count, from now on.
    pub(crate) fn set_peers(&self, rules: Rules, peers: Vec<Peer>) {
        _ = self.orders.send(Order::Peers(rules, peers));
    }

    /// The MTU of the underlay's interface is this now, or something else changed that routes depend on.
    pub(crate) fn links_changed(&self, mtu: u32) {
        _ = self.orders.send(Order::LinksChanged(mtu));
    }

    /// What workers are to go by.
    pub(crate) fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// All that is known; `None` if the prober has ended.
    pub(crate) async fn report(&self) -> Option<Report> {
        let (answer, report) = oneshot::channel();
        self.orders.send(Order::Report(answer)).ok()?;
        report.await.ok()
    }
}

impl Drop for PathMtus {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches a descriptor for readiness. To be called inside a tokio runtime.
///
/// # Errors
/// The reactor can't take it.
#[expect(
    deprecated,
    reason = "its successor is unsafe because `as_raw_fd` may lie; of these types it names what they own"
)]
fn watched<T: AsRawFd>(of: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(of, interest)
}

/// Brings what workers found out into the runtime. Ends when the workers have.
fn hand_on(from_workers: Receiver<ProbeNews>, heard: mpsc::Sender<Heard>) -> io::Result<()> {
    let hand_on = move || {
        for news in &from_workers {
            if heard.blocking_send(Heard::Worker(news)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("weft-probes".to_owned()).spawn(hand_on).map(drop)
}
