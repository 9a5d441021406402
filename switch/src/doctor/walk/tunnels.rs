//! Frames in tunnels: to which VTEP, over the underlay, and into what is there.

use std::net::IpAddr;

use super::{
    Stop, Walker,
    frames::{Behind, Decision, Domain, Frame, Spread},
    packet::{DEFAULT_TTL, Packet},
};
use crate::{
    doctor::{
        Finding,
        step::Trouble,
        survey::values::{Details, Protocol, Socket, Tunnel},
        world::{At, WeftAt},
    },
    wire::MacAddr,
};

/// How frames are wrapped and for whom: what both ends must agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrapping {
    /// The namespace whose address it is sent from.
    pub(super) space: usize,
    /// The device or port that sends, for the places of troubles.
    pub(super) from: At,
    pub(super) local: Option<IpAddr>,
    pub(super) remote: IpAddr,
    pub(super) port: u16,
    pub(super) vni: Option<u32>,
    /// `vxlan`, `vxlan-gbp`, `vxlan-gpe` or `geneve`.
    pub(super) encapsulation: String,
    /// The outer packet may not be fragmented.
    pub(super) whole: bool,
    /// 0: the host's default.
    pub(super) ttl: u8,
    /// Without a UDP checksum.
    pub(super) bare: bool,
}

/// What takes the frames at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Far {
    Device(At),
    Weft(WeftAt, usize),
}

/// VXLAN and Geneve without options: 8 bytes each (RFC 7348 section 5, RFC 8926 section 3.4).
const HEADER_LEN: u32 = 8;
/// Source ports of tunnels begin here (RFC 7348 section 5).
const SENDING_PORTS: u16 = 49152;
const UDP_LEN: u32 = 8;
const ETHERNET_LEN: u32 = 14;
/// What IPv6's questions for neighbours are sent to (RFC 4291 section 2.7.1, RFC 2464 section 7).
const SOLICITED: [u8; 3] = [0x33, 0x33, 0xff];

impl Wrapping {
    /// The outer packet from an address.
    pub(super) fn outer(&self, source: IpAddr, frame: Frame) -> Packet {
        let ip = if self.remote.is_ipv4() { 20 } else { 40 };
        let tag = if frame.vlan.is_some() { 4 } else { 0 };
        Packet {
            source,
            destination: self.remote,
            protocol: Protocol::Udp,
            source_port: SENDING_PORTS,
            destination_port: self.port,
            len: frame.len() + tag + ETHERNET_LEN + HEADER_LEN + UDP_LEN + ip,
            reply: false,
            mark: 0,
            whole: self.whole,
            redirected: false,
            disguised: false,
            error: false,
            ttl: if self.ttl == 0 { DEFAULT_TTL } else { self.ttl },
        }
    }
}

impl Walker<'_> {
    /// Out of a vxlan or geneve device (`drivers/net/vxlan/vxlan_core.c:vxlan_xmit`).
    pub(super) fn encapsulate(&mut self, at: At, tunnel: &Tunnel, frame: Frame, spread: &mut Spread) {
        let of_neighbours = frame.arp || frame.destination.octets().starts_with(&SOLICITED);
        if tunnel.proxy && of_neighbours {
            return self.answers_itself(at, frame, spread);
        }
        let remotes = self.remotes(at, tunnel, frame.destination);
        if remotes.is_empty() {
            let space = self.survey.space(at.space);
            let what =
                if frame.destination.is_multicast() { "broadcast".to_owned() } else { frame.destination.to_string() };
            let text = format!("{} has no remote VTEP for {what}", self.survey.link(at).name);
            let rows = space.fdb.iter().filter(|entry| entry.link == at.link && !entry.master);
            let mut rows: Vec<_> = rows.map(|entry| self.tunnel_entry_row(entry)).collect();
            if rows.is_empty() {
                rows.push("(no entries)".to_owned());
            }
            let name = &self.survey.link(at).name;
            let command = space.inside(&format!("bridge fdb show dev {name}"));
            let cure = format!("bridge fdb append 00:00:00:00:00:00 dev {name} dst REMOTE");
            let trouble = Trouble::new(Finding::VtepRemoteMissing, self.at(at), text).rows(command, rows);
            return spread.end(at, trouble.next(space.inside(&cure)));
        }
        for remote in remotes {
            if let Some(trouble) = &remote.decision {
                spread.decisions.push(Decision { at, remote: Some(remote.address), trouble: trouble.clone() });
            }
            let wrapping = Wrapping {
                space: at.space,
                from: at,
                local: tunnel.local,
                remote: remote.address,
                port: remote.port,
                vni: remote.vni,
                encapsulation: encapsulation(&self.survey.link(at).kind, tunnel).to_owned(),
                whole: tunnel.df == "set" || tunnel.df == "inherit" && frame.packet.whole,
                ttl: tunnel.ttl,
                bare: remote.address.is_ipv6() && tunnel.zero_checksum6_tx,
            };
            self.through_underlay(wrapping, frame, spread);
        }
    }

    /// Over the underlay to one VTEP and into what is behind it.
    pub(super) fn through_underlay(&mut self, wrapping: Wrapping, frame: Frame, spread: &mut Spread) {
        // A tunnel in a tunnel in a tunnel is a loop.
        const DEEPEST: usize = 3;
        let at = wrapping.from;
        if self.depth >= DEEPEST {
            let text = "the tunnel's own packets go into a tunnel again and again".to_owned();
            return spread.end(at, Trouble::new(Finding::RouteLoop, self.at(at), text));
        }
        let vni = wrapping.vni.map_or_else(|| "no VNI".to_owned(), |vni| format!("VNI {vni}"));
        self.note(
            self.at(at),
            format!("{} to {} port {}, {vni}", wrapping.encapsulation, wrapping.remote, wrapping.port),
        );
        if wrapping.remote.is_multicast() {
            return self.through_group(&wrapping, frame, spread);
        }
        self.depth += 1;
        let reached = self.underlay(&wrapping, frame);
        self.depth -= 1;
        match reached {
            Ok((space, outer)) if self.is_silent_wefts(space, outer) => {
                spread.out_of_sight.push((at, format!("the weft at {} does not answer doctor", outer.destination)));
            }
            Ok((space, outer)) => match self.listener(&wrapping, space, outer) {
                Ok(Far::Device(far)) => self.decapsulate(far, outer.source, frame, spread),
                Ok(Far::Weft(weft, bridge)) => self.enter_weft_by_tunnel(weft, bridge, outer.source, frame, spread),
                Err(trouble) => spread.end(at, *trouble),
            },
            Err(Stop::Fault(trouble)) => spread.end(at, *trouble),
            Err(Stop::OutOfSight { place, why }) => {
                spread.out_of_sight.push((at, format!("the underlay at {place}: {why}")))
            }
        }
    }

    /// Whether the port that a packet is for is that of a weft of which nothing is known, as it did not answer.
    fn is_silent_wefts(&self, space: usize, outer: Packet) -> bool {
        let silent = |pid: u32| {
            let mut wefts = self.survey.spaces.iter().flat_map(|space| &space.wefts);
            wefts.any(|weft| weft.pid == pid && weft.state.is_none())
        };
        self.survey.space(space).sockets.iter().any(|socket| {
            socket.protocol == Protocol::Udp
                && socket.local.port() == outer.destination_port
                && socket.owners.iter().any(|owner| silent(owner.pid))
        })
    }

    fn underlay(&mut self, wrapping: &Wrapping, frame: Frame) -> Result<(usize, Packet), Stop> {
        let Wrapping { space, from: at, local, remote, .. } = wrapping;
        let here = self.survey.space(*space);
        if let Some(local) = local
            && !here.has(*local)
        {
            let text = format!("the tunnel sends from {local}, which is on no interface of {}", here.label());
            let rows = here.addresses.iter().filter(|address| !address.prefix.address.is_loopback());
            let rows: Vec<_> = rows.map(|address| here.address_row(address)).collect();
            let trouble = Trouble::new(Finding::VtepAddressMissing, self.at(*at), text)
                .row(here.inside("ip -d link"), self.row(*at))
                .rows(here.inside("ip address"), rows);
            return Err(trouble.into());
        }
        let source = match local {
            Some(local) => *local,
            None => self.source_for(*space, *remote).map_err(|stop| self.about_underlay(stop, wrapping))?,
        };
        let outer = wrapping.outer(source, frame);
        if let Some(trouble) = self.does_not_fit(wrapping, outer, frame) {
            return Err(trouble.into());
        }
        self.carry(*space, outer).map_err(|stop| self.about_underlay(stop, wrapping))
    }

    /// The outer packet against the interface that it leaves by.
    fn does_not_fit(&self, wrapping: &Wrapping, outer: Packet, frame: Frame) -> Option<Trouble> {
        let (link, mtu) = self.way_out(wrapping.space, outer)?;
        let out = At { space: wrapping.space, link };
        (outer.len > mtu).then(|| self.too_long(wrapping, outer, frame, (out, mtu)))
    }

    pub(super) fn too_long(&self, wrapping: &Wrapping, outer: Packet, frame: Frame, (out, mtu): (At, u32)) -> Trouble {
        let overhead = outer.len - frame.len();
        let text = format!(
            "an inner packet of {} bytes makes an outer one of {} ({} + {overhead}), and {} carries {mtu}",
            frame.len(),
            outer.len,
            frame.len(),
            self.survey.link(out).name,
        );
        let device = self.survey.link(wrapping.from);
        let cure = format!("ip link set {} mtu {}", device.name, mtu.saturating_sub(overhead));
        let here = self.survey.space(wrapping.from.space);
        Trouble::new(Finding::MtuTooLarge, self.at(wrapping.from), text)
            .row(here.inside("ip link"), self.row(wrapping.from))
            .row(self.survey.space(out.space).inside("ip link"), self.row(out))
            .next(here.inside(&cure))
    }

    /// The same troubles have other names when it is a tunnel that they meet.
    fn about_underlay(&self, stop: Stop, wrapping: &Wrapping) -> Stop {
        let Stop::Fault(mut trouble) = stop else { return stop };
        let remote = wrapping.remote;
        let nobodys = self.survey.owners(remote).is_empty();
        let renamed = [
            (Finding::RouteMissing, Finding::UnderlayRouteMissing, true),
            (Finding::RouteBlackhole, Finding::UnderlayRouteMissing, true),
            (Finding::NftDrop, Finding::UdpFiltered, true),
            (Finding::AddressMissing, Finding::VtepRemoteWrong, nobodys),
        ];
        if let Some((_, name, _)) = renamed.iter().find(|(of, _, applies)| *of == trouble.finding && *applies) {
            trouble.finding = *name;
        }
        trouble.text = format!("on the underlay, to the VTEP {remote}: {}", trouble.text);
        Stop::Fault(trouble)
    }

    /// What takes the frames in a namespace that the outer packet has come to.
    fn listener(&self, wrapping: &Wrapping, space: usize, outer: Packet) -> Result<Far, Box<Trouble>> {
        let here: Vec<_> = self.survey.tunnels().filter(|(at, ..)| at.space == space).collect();
        let bound = |tunnel: &Tunnel| tunnel.local.is_none_or(|local| local == outer.destination);
        for (at, link, tunnel) in &here {
            let fits = tunnel.port == outer.destination_port && bound(tunnel);
            if fits && link.up && (tunnel.external || tunnel.vni == wrapping.vni) {
                let theirs = encapsulation(&link.kind, tunnel);
                if theirs != wrapping.encapsulation {
                    let text = format!(
                        "{} wraps frames as {theirs}, and {} as {}",
                        self.at(*at),
                        self.at(wrapping.from),
                        wrapping.encapsulation
                    );
                    return Err(Box::new(self.both_ends(Finding::EncapsulationMismatch, wrapping, *at, text)));
                }
                if wrapping.bare && !tunnel.zero_checksum6_rx {
                    let text = format!(
                        "{} sends over IPv6 without UDP checksums (udp6zerocsumtx), and {} takes none such (noudp6zerocsumrx)",
                        self.at(wrapping.from),
                        self.at(*at)
                    );
                    return Err(Box::new(self.both_ends(Finding::ChecksumOffload, wrapping, *at, text)));
                }
                return Ok(Far::Device(*at));
            }
        }
        for (weft, state) in self.survey.wefts() {
            let is_there = self
                .weft_sockets(weft)
                .any(|(at, socket)| at == space && socket.local.port() == outer.destination_port);
            if !is_there {
                continue;
            }
            if let Some(bridge) = state.bridges.iter().position(|bridge| bridge.vni == wrapping.vni) {
                return match state.bridges[bridge].encapsulation.as_deref() {
                    Some(theirs) if theirs != wrapping.encapsulation => {
                        let text = format!(
                            "the weft there wraps frames as {theirs}, and this end as {}",
                            wrapping.encapsulation
                        );
                        Err(Box::new(self.at_both(Finding::EncapsulationMismatch, wrapping, space, text)))
                    }
                    Some(_) | None => Ok(Far::Weft(weft, bridge)),
                };
            }
            let vnis: Vec<_> =
                state.bridges.iter().filter_map(|bridge| bridge.vni).map(|vni| vni.to_string()).collect();
            let text = format!(
                "the weft at {} has the VNIs {}, and not {}",
                outer.destination,
                vnis.join(", "),
                or_none(wrapping.vni)
            );
            return Err(Box::new(self.at_both(Finding::VniMismatch, wrapping, space, text)));
        }
        Err(Box::new(self.nobody_takes(wrapping, space, outer, &here)))
    }

    /// Nothing fits there: what comes nearest?
    fn nobody_takes(
        &self,
        wrapping: &Wrapping,
        space: usize,
        outer: Packet,
        here: &[(At, &crate::doctor::survey::values::Link, &Tunnel)],
    ) -> Trouble {
        let port = outer.destination_port;
        let named = self.survey.space(space);
        let socket = named.sockets.iter().find(|socket| {
            socket.protocol == Protocol::Udp && socket.local.port() == port && !socket.owners.is_empty()
        });
        if let Some(socket) = socket {
            let owners: Vec<_> = socket.owners.iter().map(ToString::to_string).collect();
            let text =
                format!("UDP port {port} at {} belongs to {}, not to a tunnel", outer.destination, owners.join(", "));
            let trouble = self.at_both(Finding::VtepPortTaken, wrapping, space, text);
            return trouble.row(named.inside(&format!("ss -lunp sport = {port}")), socket_row(socket));
        }
        if let Some((at, ..)) =
            here.iter().find(|(_, link, tunnel)| !link.up && tunnel.vni == wrapping.vni && tunnel.port == port)
        {
            return self.link_down(*at);
        }
        let on_port = here.iter().find(|(_, link, tunnel)| link.up && tunnel.port == port);
        if let Some((at, _, tunnel)) = on_port {
            if tunnel.local.is_some_and(|local| local != outer.destination) {
                let text = format!(
                    "{} takes packets for {} only, not for {}",
                    self.at(*at),
                    tunnel.local.map_or(String::new(), |it| it.to_string()),
                    outer.destination
                );
                return self.both_ends(Finding::VtepRemoteWrong, wrapping, *at, text);
            }
            let text = format!(
                "{} sends VNI {}, and {} takes VNI {}",
                self.at(wrapping.from),
                or_none(wrapping.vni),
                self.at(*at),
                or_none(tunnel.vni)
            );
            return self.both_ends(Finding::VniMismatch, wrapping, *at, text);
        }
        if let Some((at, _, tunnel)) = here.iter().find(|(_, _, tunnel)| tunnel.vni == wrapping.vni) {
            let text = format!(
                "{} sends to UDP port {port}, and {} listens on {}",
                self.at(wrapping.from),
                self.at(*at),
                tunnel.port
            );
            return self.both_ends(Finding::VtepPortMismatch, wrapping, *at, text);
        }
        if let Some(trouble) = self.weft_on_another_port(wrapping, space, port) {
            return trouble;
        }
        // A VTEP for this network elsewhere means that this address is the wrong one.
        let elsewhere = self
            .survey
            .tunnels()
            .find(|(at, _, tunnel)| at.space != space && at.space != wrapping.space && tunnel.vni == wrapping.vni);
        // Unless it has a bridge that a tunnel could be for.
        let bridges = named.links.iter().any(|link| matches!(link.details, Details::Bridge(_)));
        if let (true, false, Some((at, ..))) = (here.is_empty(), bridges, elsewhere) {
            let text = format!(
                "{} is an address of {}, which has no tunnel; {} is a VTEP of VNI {}",
                outer.destination,
                named.label(),
                self.at(at),
                or_none(wrapping.vni)
            );
            return self.both_ends(Finding::VtepRemoteWrong, wrapping, at, text);
        }
        if here.is_empty() {
            let words = format!("VNI {}, UDP port {port}", or_none(wrapping.vni));
            return self.no_tunnel(wrapping.from, space, &words);
        }
        let text = format!("nobody at {} takes UDP port {port}", outer.destination);
        let sockets = named.sockets.iter().filter(|socket| socket.protocol == Protocol::Udp).map(socket_row);
        self.at_both(Finding::VtepSilent, wrapping, space, text)
            .rows(named.inside("ss -lunp"), sockets.collect::<Vec<_>>())
    }

    /// A weft that has the VNI, and listens elsewhere: since it wraps frames otherwise, or just so.
    fn weft_on_another_port(&self, wrapping: &Wrapping, space: usize, port: u16) -> Option<Trouble> {
        self.survey.wefts().find_map(|(weft, state)| {
            let bridge = state.bridges.iter().find(|bridge| bridge.vni == wrapping.vni)?;
            // Sources of its packets are ports from here up.
            let listens = |socket: &Socket| socket.local.port() < SENDING_PORTS;
            let (_, socket) =
                self.weft_sockets(weft).filter(|(at, _)| *at == space).find(|(_, socket)| listens(socket))?;
            let theirs = bridge.encapsulation.as_deref().filter(|theirs| *theirs != wrapping.encapsulation);
            let sender = self.at(wrapping.from);
            let listening = socket.local.port();
            let (finding, text) = match theirs {
                Some(theirs) => {
                    let mine = &wrapping.encapsulation;
                    let text = format!(
                        "{sender} wraps frames as {mine} for UDP port {port}, and the weft there as {theirs} on port {listening}"
                    );
                    (Finding::EncapsulationMismatch, text)
                }
                None => {
                    let text =
                        format!("{sender} sends to UDP port {port}, and the weft there listens on {listening}");
                    (Finding::VtepPortMismatch, text)
                }
            };
            Some(self.at_both(finding, wrapping, space, text).row("ss -lunp", socket_row(socket)))
        })
    }

    fn both_ends(&self, finding: Finding, wrapping: &Wrapping, far: At, text: String) -> Trouble {
        let theirs = self.survey.space(far.space).inside("ip -d link");
        self.at_both(finding, wrapping, far.space, text).row(theirs, self.row(far))
    }

    fn at_both(&self, finding: Finding, wrapping: &Wrapping, space: usize, text: String) -> Trouble {
        let here = self.survey.space(wrapping.from.space);
        let there = self.survey.space(space);
        Trouble::new(finding, self.at(wrapping.from), text)
            .row(here.inside("ip -d link"), self.row(wrapping.from))
            .next(there.inside("ip -d link show type vxlan"))
    }

    /// Into the other end's device and on from there.
    pub(super) fn decapsulate(&mut self, far: At, from: IpAddr, frame: Frame, spread: &mut Spread) {
        let link = self.survey.link(far);
        spread.passed.push(far);
        if Some(frame.source) == link.mac {
            let text = format!("{} drops frames with its own address {} (a loop)", link.name, frame.source);
            return spread.end(far, Trouble::new(Finding::DuplicateMac, self.at(far), text));
        }
        let nailed = self.survey.space(far.space).fdb.iter().any(|entry| {
            entry.link == far.link
                && !entry.master
                && entry.fixed
                && entry.mac.0 == frame.source
                && entry.remote != Some(from)
        });
        let learns = self.survey.tunnels().any(|(at, _, tunnel)| at == far && tunnel.learning);
        if learns && nailed {
            let text = format!(
                "{} drops frames of {} from {from}: a static entry has it at another VTEP",
                link.name, frame.source
            );
            let rows = self.survey.space(far.space).fdb.iter().filter(|entry| entry.link == far.link);
            let rows: Vec<_> = rows.map(|entry| self.tunnel_entry_row(entry)).collect();
            let command = self.survey.space(far.space).inside(&format!("bridge fdb show dev {}", link.name));
            return spread.end(far, Trouble::new(Finding::FdbEntryWrong, self.at(far), text).rows(command, rows));
        }
        if learns {
            self.learned.insert((Domain::Tunnel(far), 0, frame.source), Behind::Remote(from));
        }
        self.take_in(far, frame, spread);
    }

    /// Where a device sends an address.
    fn remotes(&self, at: At, tunnel: &Tunnel, destination: MacAddr) -> Vec<Remote> {
        let space = self.survey.space(at.space);
        let entries =
            || space.fdb.iter().filter(|entry| entry.link == at.link && !entry.master && entry.remote.is_some());
        let remote = |address: IpAddr, port: Option<u16>, vni: Option<u32>, decision| Remote {
            address,
            port: port.unwrap_or(tunnel.port),
            vni: vni.or(tunnel.vni),
            decision,
        };
        if !destination.is_multicast() {
            let known = entries().find(|entry| entry.mac.0 == destination);
            let learned = self.learned.get(&(Domain::Tunnel(at), 0, destination));
            match (known, learned) {
                (Some(entry), learned) if entry.fixed || learned.is_none() => {
                    let Some(address) = entry.remote else { return Vec::new() };
                    let text =
                        format!("the FDB of {} says that {destination} is behind the VTEP {address}", self.at(at));
                    let name = &self.survey.link(at).name;
                    let trouble = Trouble::new(Finding::FdbEntryWrong, self.at(at), text)
                        .row(space.inside(&format!("bridge fdb show dev {name}")), self.tunnel_entry_row(entry))
                        .next(space.inside(&format!("bridge fdb del {destination} dev {name} dst {address}")));
                    return vec![remote(address, entry.port, entry.vni, Some(trouble))];
                }
                (_, Some(Behind::Remote(address))) => return vec![remote(*address, None, None, None)],
                (_, Some(Behind::Port(_)) | None) => {}
            }
        }
        let mut found = Vec::new();
        for entry in entries().filter(|entry| entry.mac.0.is_zero()) {
            if let Some(address) = entry.remote {
                found.push(remote(address, entry.port, entry.vni, None));
            }
        }
        if let Some(address) = tunnel.remote
            && !found.iter().any(|known: &Remote| known.address == address)
        {
            found.push(remote(address, None, None, None));
        }
        found
    }

    /// A weft's UDP sockets, and the namespaces they are in.
    pub(super) fn weft_sockets(&self, weft: WeftAt) -> impl Iterator<Item = (usize, &Socket)> {
        let pid = self.survey.space(weft.space).wefts[weft.number].pid;
        self.survey.spaces.iter().enumerate().flat_map(move |(space, it)| {
            let own = move |socket: &&Socket| {
                socket.protocol == Protocol::Udp && socket.owners.iter().any(|owner| owner.pid == pid)
            };
            it.sockets.iter().filter(own).map(move |socket| (space, socket))
        })
    }
}

struct Remote {
    address: IpAddr,
    port: u16,
    vni: Option<u32>,
    /// What is wrong with the entry that chose it, if the address is not behind it.
    decision: Option<Trouble>,
}

fn encapsulation(kind: &str, tunnel: &Tunnel) -> &'static str {
    match (kind, tunnel.gbp, tunnel.gpe) {
        ("geneve", ..) => "geneve",
        (_, true, _) => "vxlan-gbp",
        (_, _, true) => "vxlan-gpe",
        _ => "vxlan",
    }
}

fn or_none(vni: Option<u32>) -> String {
    vni.map_or_else(|| "none".to_owned(), |vni| vni.to_string())
}

/// A socket in `ss`'s words.
pub(crate) fn socket_row(socket: &Socket) -> String {
    let Socket { protocol, local, remote, owners, drops, .. } = socket;
    let mut row = format!("{protocol} {local}");
    if let Some(remote) = remote {
        row.push_str(&format!(" > {remote}"));
    }
    let owners: Vec<_> = owners.iter().map(ToString::to_string).collect();
    row.push_str(&match owners.is_empty() {
        true if socket.inode == 0 => " (the kernel's)".to_owned(),
        true => " (owner out of sight)".to_owned(),
        false => format!(" {}", owners.join(", ")),
    });
    if *drops > 0 {
        row.push_str(&format!(", {drops} dropped"));
    }
    row
}
