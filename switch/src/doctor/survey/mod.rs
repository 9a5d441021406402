//! The state of namespaces, read whole into plain values.
//!
//! # Theory of operation
//! A survey reads and never writes: netlink dumps, files of `/proc`, `nft list`, questions to a weft's control socket. All of
//! what doctor says is computed from it afterwards, by functions that ask nobody, so that a survey which was recorded
//! (`--save`) says the same elsewhere, and tests need no namespaces.
//!
//! **Which namespaces.** Those asked for, and from there whatever their interfaces lead to: an interface names its peer by a
//! number of the peer's namespace (IFLA_LINK_NETNSID) and an index in it (IFLA_LINK). Which namespace the number means is
//! found by asking the kernel for the number of each namespace in sight (RTM_GETNSID), named or not.
//!
//! **What can't be read** is no error: it is noted with the reason, and what depends on it is `unknown`.

mod host;
mod links;
pub(crate) mod nft;
mod prefix;
mod proc;
mod spaces;
mod tables;
pub(crate) mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::Path,
    thread,
};

use serde::{Deserialize, Serialize};

pub(crate) use self::{host::Host, prefix::Prefix};
use self::{
    proc::Processes,
    spaces::Found,
    values::{Details, Link, Program, Space, Weft, WeftState},
};
use crate::{
    isolation::Held,
    lab::rtnl::{Request, Rtnl, attribute, field},
    sys::{bpf, netns::Netns},
};

/// Everything that was read.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Survey {
    /// The namespaces; those that were asked for come first.
    pub(crate) spaces: Vec<Space>,
    /// What concerns the machine and no namespace.
    pub(crate) host: Host,
}

/// Which namespaces to read.
pub(crate) enum Scope {
    /// All in sight.
    All,
    /// These, and those that their interfaces lead to, and so on.
    Around(Vec<Netns>),
}

/// Asks the weft that answers on a control socket for its state; the error says why it gave none.
pub(crate) type AskWeft<'a> = &'a (dyn Fn(&Path) -> Result<WeftState, String> + Sync);

impl Survey {
    /// Reads the namespaces.
    pub(crate) fn take(scope: Scope, ask: AskWeft<'_>) -> Self {
        let processes = Processes::scan();
        let mut found = spaces::all(&processes);
        let mut wanted: Vec<u64> = match scope {
            Scope::All => found.keys().copied().collect(),
            Scope::Around(start) => {
                let inodes = start.iter().map(Netns::inode).collect();
                for netns in start {
                    let inode = netns.inode();
                    found.entry(inode).or_insert_with(|| Found { netns, names: Vec::new(), paths: Vec::new() });
                }
                inodes
            }
        };
        let (mut spaces, mut seen) = (Vec::new(), BTreeSet::new());
        while !wanted.is_empty() {
            wanted.retain(|inode| seen.insert(*inode));
            let read = read_many(&wanted, &found, &processes, ask);
            wanted = read.iter().flat_map(|space| space.ids.values().copied()).collect();
            spaces.extend(read);
        }
        Self { spaces, host: Host::read() }
    }

    /// The namespace of this inode.
    pub(crate) fn by_inode(&self, inode: u64) -> Option<usize> {
        self.spaces.iter().position(|space| space.inode == inode)
    }
}

/// Reads some namespaces side by side: most of the time goes into waiting for `nft`.
fn read_many(inodes: &[u64], found: &BTreeMap<u64, Found>, processes: &Processes, ask: AskWeft<'_>) -> Vec<Space> {
    const SIDE_BY_SIDE: usize = 8;
    let mut spaces = Vec::with_capacity(inodes.len());
    for some in inodes.chunks(SIDE_BY_SIDE) {
        thread::scope(|scope| {
            let readers: Vec<_> = some
                .iter()
                .filter_map(|inode| found.get(inode))
                .map(|space| scope.spawn(move || read_one(space, found, processes, ask)))
                .collect();
            for reader in readers {
                spaces.push(reader.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked)));
            }
        });
    }
    spaces
}

fn read_one(it: &Found, found: &BTreeMap<u64, Found>, processes: &Processes, ask: AskWeft<'_>) -> Space {
    let inode = it.netns.inode();
    let mut space = Space { inode, names: it.names.clone(), paths: it.paths.clone(), ..Space::default() };
    let here = processes.all.iter().filter(|(netns, _)| *netns == inode);
    space.processes = here.map(|(_, process)| process.clone()).collect();
    space.host = Netns::of_pid(1).is_ok_and(|first| first.inode() == inode);
    let entered = it.netns.within(|| read_inside(&mut space, found, processes));
    if let Err(error) = entered {
        space.unread.insert("all".to_owned(), error.to_string());
    }
    read_wefts(&mut space, processes, ask);
    space
}

/// All that is read by a thread inside the namespace.
fn read_inside(space: &mut Space, found: &BTreeMap<u64, Found>, processes: &Processes) {
    if let Err(error) = read_tables(space, found) {
        space.unread.insert("netlink".to_owned(), error.to_string());
    }
    space.sysctls = proc::sysctls(&space.links);
    match proc::sockets() {
        Ok(sockets) => space.sockets = sockets,
        Err(error) => drop(space.unread.insert("sockets".to_owned(), error.to_string())),
    }
    for socket in &mut space.sockets {
        socket.owners = processes.owners(socket.inode);
    }
    space.conntrack = proc::conntrack();
    space.counters = proc::counters();
    match nft::read() {
        Ok(ruleset) => space.nft = Some(ruleset),
        Err(error) => drop(space.unread.insert("nft".to_owned(), error.to_string())),
    }
    let legacy = proc::legacy_tables();
    if !legacy.is_empty() {
        let why = format!("tables {} are iptables' own, which nft doesn't show", legacy.join(", "));
        space.unread.insert("iptables-legacy".to_owned(), why);
    }
    read_programs(space);
}

// include/uapi/linux/rtnetlink.h
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_GETRULE: u16 = 34;
const RTM_GETQDISC: u16 = 38;
const RTM_GETTFILTER: u16 = 46;
const RTM_GETNSID: u16 = 90;

fn read_tables(space: &mut Space, found: &BTreeMap<u64, Found>) -> io::Result<()> {
    let mut rtnl = Rtnl::open(&Netns::own()?)?;
    let all_links = Request::link(Request::GET_LINK, 0, 0, 0, 0);
    rtnl.dump(&all_links, |body| space.links.extend(links::link(body)))?;
    space.links.sort_unstable_by_key(|link| link.index);
    read_vlans(space, &mut rtnl)?;
    rtnl.dump(&Request::plain(RTM_GETADDR, &[0; 8]), |body| space.addresses.extend(tables::address_entry(body)))?;
    rtnl.dump(&Request::plain(RTM_GETROUTE, &[0; 12]), |body| space.routes.extend(tables::route(body)))?;
    space.routes.retain(|route| !route.cached);
    rtnl.dump(&Request::plain(RTM_GETRULE, &[0; 12]), |body| space.rules.extend(tables::rule(body)))?;
    rtnl.dump(&Request::neighbour(Request::GET_NEIGHBOUR, 0, 0, 0, 0), |body| {
        space.neighbours.extend(tables::neighbour(body));
    })?;
    read_proxies(space, &mut rtnl)?;
    let fdb = Request::link(Request::GET_NEIGHBOUR, Request::BRIDGE_FAMILY, 0, 0, 0);
    rtnl.dump(&fdb, |body| space.fdb.extend(tables::forwarding(body)))?;
    if space.links.iter().any(|link| matches!(link.details, Details::Bridge(_))) {
        // A kernel without snooping has no such table.
        let _ = rtnl.dump(&Request::groups(Request::GET_GROUP, 0), |body| {
            space.groups.extend(tables::groups(body));
            space.router_ports.extend(tables::router_ports(body));
        });
    }
    rtnl.dump(&Request::plain(RTM_GETQDISC, &[0; 20]), |body| space.qdiscs.extend(tables::qdisc(body)))?;
    read_filters(space, &mut rtnl)?;
    read_ids(space, &mut rtnl, found);
    Ok(())
}

/// What the other namespaces in sight are called here, as far as an interface leads there.
fn read_ids(space: &mut Space, rtnl: &mut Rtnl, found: &BTreeMap<u64, Found>) {
    const NETNSA_NSID: u16 = 1;
    const NETNSA_FD: u16 = 3;
    let mut asked: BTreeSet<i32> = space.links.iter().filter_map(|link| link.lower_netns).collect();
    for (inode, other) in found {
        if asked.is_empty() {
            return;
        }
        let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&other.netns));
        let request = Request::plain(RTM_GETNSID, &[0; 4]).with(NETNSA_FD, &fd.to_ne_bytes());
        let Ok(answer) = rtnl.get(&request) else { continue };
        let id = answer.get(4..).and_then(|rest| attribute(rest, NETNSA_NSID)).and_then(|value| field(value, 0));
        if let Some(id) = id.map(i32::from_ne_bytes)
            && asked.remove(&id)
        {
            space.ids.insert(id, *inode);
        }
    }
}

/// The VLANs of bridges and their ports.
fn read_vlans(space: &mut Space, rtnl: &mut Rtnl) -> io::Result<()> {
    const IFLA_EXT_MASK: u16 = 29;
    const RTEXT_FILTER_BRVLAN: u32 = 2;
    let request = Request::link(Request::GET_LINK, Request::BRIDGE_FAMILY, 0, 0, 0)
        .with(IFLA_EXT_MASK, &RTEXT_FILTER_BRVLAN.to_ne_bytes());
    rtnl.dump(&request, |body| {
        let Some((index, vlans)) = links::vlans(body) else { return };
        let Some(link) = space.links.iter_mut().find(|link| link.index == index) else { return };
        match (&mut link.port, &mut link.details) {
            (Some(port), _) => port.vlans = vlans,
            (None, Details::Bridge(bridge)) => bridge.vlans = vlans,
            (None, _) => {}
        }
    })
}

/// Addresses that an interface answers for (`ip neigh show proxy`).
fn read_proxies(space: &mut Space, rtnl: &mut Rtnl) -> io::Result<()> {
    const NTF_PROXY: u8 = 8;
    let request = Request::neighbour(Request::GET_NEIGHBOUR, 0, 0, 0, NTF_PROXY);
    let mut proxies = Vec::new();
    rtnl.dump(&request, |body| proxies.extend(tables::neighbour(body)))?;
    space.neighbours.extend(proxies.into_iter().filter(|entry| entry.proxy));
    Ok(())
}

fn read_filters(space: &mut Space, rtnl: &mut Rtnl) -> io::Result<()> {
    const INGRESS: u32 = 0xffff_fff2;
    const EGRESS: u32 = 0xffff_fff3;
    let hooks: Vec<u32> = space
        .qdiscs
        .iter()
        .filter(|qdisc| matches!(qdisc.kind.as_str(), "clsact" | "ingress"))
        .map(|q| q.link)
        .collect();
    for link in hooks {
        for (parent, ingress) in [(INGRESS, true), (EGRESS, false)] {
            let mut header = vec![0; 4];
            header.extend(link.to_ne_bytes());
            header.extend([0; 4]);
            header.extend(parent.to_ne_bytes());
            header.extend([0; 4]);
            let request = Request::plain(RTM_GETTFILTER, &header);
            // An ingress qdisc has no way out, and says so.
            let _ = rtnl.dump(&request, |body| space.filters.extend(tables::filter(body, ingress)));
        }
    }
    // Each filter is told once for its kind and once for itself; only the latter has options.
    space.filters.retain(|filter| filter.program.is_some() || !filter.actions.is_empty() || filter.kind != "bpf");
    Ok(())
}

/// Programs attached by tcx, of which a kernel before 6.6 has none, and what the maps of all programs say.
fn read_programs(space: &mut Space) {
    let indices: BTreeSet<u32> = space.links.iter().map(|link| link.index).collect();
    let targets = |id: u32| {
        let words = bpf::program_words(id).unwrap_or_default();
        let target = |(key, value): ([u8; 4], [u8; 4])| (IpAddr::from(key), u32::from_ne_bytes(value));
        let targets: BTreeMap<_, _> = words.into_iter().map(target).collect();
        // Else it is a map of something else.
        if targets.values().all(|index| indices.contains(index)) { targets } else { BTreeMap::new() }
    };
    let named = |id| Program { id, name: bpf::program_name(id).unwrap_or_default(), targets: targets(id) };
    for program in space.filters.iter_mut().filter_map(|filter| filter.program.as_mut()) {
        program.targets = targets(program.id);
    }
    for Link { index, tcx_ingress, tcx_egress, .. } in &mut space.links {
        let (Ok(ingress), Ok(egress)) = (bpf::tcx_programs(*index, true), bpf::tcx_programs(*index, false)) else {
            return;
        };
        *tcx_ingress = ingress.into_iter().map(named).collect();
        *tcx_egress = egress.into_iter().map(named).collect();
    }
}

/// The wefts whose main thread is in the namespace.
fn read_wefts(space: &mut Space, processes: &Processes, ask: AskWeft<'_>) {
    let here = |pid: u32| space.processes.iter().any(|process| process.pid == pid);
    for (pid, sockets) in processes.wefts.iter().filter(|(pid, _)| here(*pid)) {
        let listening = proc::listening_unix_sockets(*pid);
        let Some((_, path)) = listening.into_iter().find(|(inode, _)| sockets.contains(inode)) else { continue };
        // As that process sees it: it may have another root.
        let seen = format!("/proc/{pid}/root{path}");
        let answer = ask(Path::new(if Path::new(&path).exists() { &path } else { &seen }));
        let (silent, state) = match answer {
            Ok(state) => (None, Some(state)),
            Err(why) => (Some(why), None),
        };
        let mut held = Held::of(*pid).ok();
        if let (Some(held), Some(said)) = (&mut held, state.as_ref().and_then(|state| state.held.as_ref())) {
            // Nobody else knows.
            held.landlock = said.landlock;
        }
        space.wefts.push(Weft { pid: *pid, socket: path, silent, state, held });
    }
}
