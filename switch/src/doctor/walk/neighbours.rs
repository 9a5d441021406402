//! From one IP hop to the next over what lies between: whose hardware address, and how a frame gets there.

use std::net::{IpAddr, Ipv6Addr};

use super::{
    Stop, Walker,
    frames::{Frame, Spread},
    packet::Packet,
    path,
};
use crate::{
    doctor::{
        Finding,
        step::Trouble,
        survey::values::{Address, Details, NeighbourState},
        world::At,
    },
    wire::MacAddr,
};

/// Who answers for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answer {
    at: At,
    mac: MacAddr,
    /// It has the address itself.
    own: bool,
}

impl Walker<'_> {
    /// Sends a packet by an interface to a neighbour; gives the interface that receives it.
    pub(super) fn reach_neighbour(&mut self, out: At, neighbour: IpAddr, packet: &mut Packet) -> Result<At, Stop> {
        let link = self.survey.link(out);
        if !link.up {
            return Err(self.link_down(out).into());
        }
        if !link.carrier && link.kind != "bridge" && !matches!(link.details, Details::Tunnel(_)) {
            return Err(self.no_carrier(out).into());
        }
        if let Details::Ipvlan(ipvlan) = &link.details
            && ipvlan.is_routed()
        {
            return self.by_parents_routes(out, ipvlan, packet);
        }
        let packet = *packet;
        let source = link.mac.unwrap_or(MacAddr::ZERO);
        let space = self.survey.space(out.space);
        let entry = space.neighbour(out.link, neighbour);
        let nailed = matches!(entry, Some((Some(_), NeighbourState::Permanent | NeighbourState::Noarp)));
        let frame = Frame { source, destination: MacAddr::BROADCAST, vlan: None, packet, arp: !packet.is_ipv6() };
        let mac = match entry {
            Some((Some(mac), _)) if nailed => {
                self.note(self.at(out), format!("neighbour {}", space.neighbour_row(out.link, neighbour)));
                mac
            }
            _ if link.noarp => {
                // Without hardware addresses a frame needs none.
                if source != MacAddr::ZERO {
                    return Err(self.asks_nobody(out, neighbour).into());
                }
                MacAddr::ZERO
            }
            entry => {
                let answer = self.ask(out, neighbour, frame)?;
                let known = entry.and_then(|(mac, _)| mac).filter(|known| *known != answer.mac);
                if let Some(known) = known {
                    let text = format!(
                        "{} takes {neighbour} to be {known}, and {} has {}",
                        self.at(out),
                        self.at(answer.at),
                        answer.mac
                    );
                    let command = space.inside("ip neighbour");
                    let trouble = Trouble::new(Finding::NeighbourWrong, self.at(out), text)
                        .row(command, space.neighbour_row(out.link, neighbour))
                        .row(self.survey.space(answer.at.space).inside("ip link"), self.row(answer.at));
                    // What was learned by asking is asked for again before long.
                    self.warn(trouble.next(space.inside(&format!("ip neighbour flush dev {}", link.name))));
                }
                self.note(self.at(out), format!("neighbour {neighbour} is {} at {}", answer.mac, self.at(answer.at)));
                answer.mac
            }
        };
        let frame = Frame { destination: mac, arp: false, ..frame };
        let spread = self.spread(out, frame);
        self.note_switches(&spread);
        let owners = self.survey.owners(neighbour);
        let wanted =
            |at: &&At| owners.iter().any(|owner| owner.space == at.space) || Some(mac) == self.survey.link(**at).mac;
        if let Some(at) = spread.arrivals.iter().find(|at| owners.iter().any(|owner| owner.space == at.space)) {
            return Ok(*at);
        }
        if let Some(at) = spread.arrivals.iter().find(wanted) {
            return Ok(*at);
        }
        // Somebody may answer for it who is no owner.
        let Some(to) = owners.iter().find(|owner| path::path(self.survey, out, **owner).is_some()).copied() else {
            return Err(self.nobody_has(out, neighbour, mac, &spread));
        };
        if nailed
            && self.survey.link(to).mac != Some(mac)
            && !matches!(self.survey.link(to).details, Details::Ipvlan(_))
        {
            return Err(self.neighbour_is_wrong(out, neighbour, to).into());
        }
        Err(self.blame(out, to, &spread))
    }

    /// The bridges that a frame went through are worth a word.
    fn note_switches(&mut self, spread: &Spread) {
        let mut words = Vec::new();
        for at in &spread.passed {
            if matches!(self.survey.link(*at).details, Details::Bridge(_)) {
                words.push(self.at(*at));
            }
        }
        words.dedup();
        if !words.is_empty() {
            let first = words[0].clone();
            self.note(first, format!("bridged ({})", words.join(", ")));
        }
    }

    /// Asks who has an address, as ARP and neighbour discovery do, and follows question and answer.
    fn ask(&mut self, out: At, neighbour: IpAddr, frame: Frame) -> Result<Answer, Stop> {
        let question = match neighbour {
            IpAddr::V4(_) => frame,
            // The solicited-node group (RFC 4291 section 2.7.1).
            IpAddr::V6(address) => Frame { destination: solicited_node(address), ..frame },
        };
        // It is short whatever waits for its answer, and the interface's own.
        let packet = Packet {
            source: self.asks_from(out, neighbour).unwrap_or(frame.packet.source),
            destination: neighbour,
            len: 72.min(frame.packet.len),
            ..frame.packet
        };
        let question = Frame { packet, ..question };
        let spread = self.spread(out, question);
        self.same_mac(out, &spread, neighbour)?;
        let answers: Vec<_> = spread.arrivals.iter().filter_map(|at| self.answer(*at, out, neighbour)).collect();
        let own: Vec<_> = answers.iter().filter(|answer| answer.own).copied().collect();
        if let Some((one, other)) = own.iter().find_map(|one| {
            let other = own.iter().find(|other| other.mac != one.mac && other.at.space != one.at.space)?;
            Some((*one, *other))
        }) {
            let text = format!("{} and {} both have {neighbour}", self.at(one.at), self.at(other.at));
            return Err(self.two_of(Finding::DuplicateIp, [one.at, other.at], neighbour, text).into());
        }
        let proxy = answers.iter().find(|answer| !answer.own).copied();
        let answer = match (own.first().copied(), proxy) {
            (Some(_), Some(proxy)) => {
                let space = self.survey.space(proxy.at.space);
                let name = space.link_name(proxy.at.link);
                let text = format!(
                    "{} answers ARP requests for {neighbour}, which is another's (proxy_arp)",
                    self.at(proxy.at)
                );
                let trouble = Trouble::new(Finding::ProxyArpOn, self.at(proxy.at), text).row(
                    space.inside(&format!("sysctl net.ipv4.conf.{name}.proxy_arp")),
                    format!("net.ipv4.conf.{name}.proxy_arp = 1"),
                );
                return Err(trouble.next(space.inside(&format!("sysctl -w net.ipv4.conf.{name}.proxy_arp=0"))).into());
            }
            (Some(own), None) => own,
            (None, Some(proxy)) => proxy,
            (None, None) => match spread.answers.first() {
                // Whatever answered has its answer back by the way it was asked.
                Some((at, mac)) => return Ok(Answer { at: *at, mac: *mac, own: false }),
                None => return Err(self.nobody_answers(out, neighbour, &spread)),
            },
        };
        // The answer has to come back as well.
        let packet =
            Packet { source: question.packet.destination, destination: question.packet.source, ..question.packet };
        let back = Frame { source: answer.mac, destination: frame.source, packet, ..question };
        let returned = self.spread(answer.at, back);
        let is_back = returned.arrivals.iter().any(|at| at.space == out.space);
        if is_back { Ok(answer) } else { Err(self.blame(answer.at, out, &returned)) }
    }

    /// The address that an interface asks for a neighbour from: one of the neighbour's network if it has such.
    pub(super) fn asks_from(&self, out: At, neighbour: IpAddr) -> Option<IpAddr> {
        let space = self.survey.space(out.space);
        let same_family = |it: &&Address| it.prefix.address.is_ipv6() == neighbour.is_ipv6();
        let own: Vec<_> = space.addresses_of(out.link).filter(same_family).collect();
        let best = own.iter().find(|it| it.prefix.contains(neighbour)).or_else(|| own.first())?;
        Some(best.prefix.address)
    }

    /// Whether an interface that hears the question answers it, and with which address.
    fn answer(&self, at: At, asker: At, neighbour: IpAddr) -> Option<Answer> {
        let space = self.survey.space(at.space);
        let link = self.survey.link(at);
        let mac = link.mac?;
        if at == asker || link.noarp {
            return None;
        }
        let here = space.addresses_of(at.link).any(|it| it.prefix.address == neighbour && !it.dad_failed);
        let own = match neighbour {
            // `net/ipv4/devinet.c:confirm_addr_indev` and `arp_ignore`.
            IpAddr::V4(_) => match space.largest(link, "arp_ignore") {
                0 => space.has(neighbour),
                1 | 2 => here,
                _ => false,
            },
            IpAddr::V6(_) => here,
        };
        if own {
            return Some(Answer { at, mac, own });
        }
        let asked_for = |entry: &&crate::doctor::survey::values::Neighbour| {
            entry.proxy && entry.address == neighbour && entry.link == at.link
        };
        if space.neighbours.iter().any(|entry| asked_for(&entry)) {
            return Some(Answer { at, mac, own: false });
        }
        let proxies = match neighbour {
            IpAddr::V4(_) => space.largest(link, "proxy_arp") != 0,
            // That needs an entry for each address.
            IpAddr::V6(_) => false,
        };
        // Only for what is reached by another interface (`net/ipv4/arp.c:arp_fwd_proxy`).
        let elsewhere = proxies && space.forwards(link, false) && self.leads_elsewhere(at, neighbour);
        elsewhere.then_some(Answer { at, mac, own: false })
    }

    fn nobody_answers(&self, out: At, neighbour: IpAddr, spread: &Spread) -> Stop {
        let owners = self.survey.owners(neighbour);
        // It heard the question.
        if let Some(deaf) =
            spread.arrivals.iter().find(|at| owners.iter().any(|owner| owner.space == at.space) && **at != out)
        {
            let space = self.survey.space(deaf.space);
            let link = self.survey.link(*deaf);
            let name = &link.name;
            let text = format!("{} has {neighbour}, and does not answer for it", self.at(*deaf));
            let ignore = space.largest(link, "arp_ignore");
            let trouble = Trouble::new(Finding::ArpIgnored, self.at(*deaf), text)
                .row(space.inside("ip address"), self.addresses_row(*deaf))
                .row(
                    space.inside(&format!("sysctl net.ipv4.conf.{name}.arp_ignore")),
                    format!("net.ipv4.conf.{name}.arp_ignore = {ignore}"),
                );
            return trouble.next(space.inside(&format!("sysctl -w net.ipv4.conf.{name}.arp_ignore=0"))).into();
        }
        if let Some(trouble) = self.routed_ipvlan(out, &owners, neighbour) {
            return trouble.into();
        }
        if let Some(trouble) = self.nobody_stands_in(out, neighbour, spread) {
            return trouble.into();
        }
        match owners.iter().find(|owner| path::path(self.survey, out, **owner).is_some()).or_else(|| owners.first()) {
            Some(owner) => match self.parent_and_child(out, *owner) {
                Some(trouble) => trouble.into(),
                None => self.blame(out, *owner, spread),
            },
            None => self.nobody_has(out, neighbour, MacAddr::ZERO, spread),
        }
    }

    /// An address that is on no network of the interface, as hosts without a bridge have them: whoever hears the question is to
    /// answer for it (`proxy_arp`), and to route.
    fn nobody_stands_in(&self, out: At, neighbour: IpAddr, spread: &Spread) -> Option<Trouble> {
        const HOST_LEN: u8 = 32;
        let holds = |it: &Address| it.prefix.len < HOST_LEN && it.prefix.contains(neighbour);
        let is_neighbour = self.survey.space(out.space).addresses_of(out.link).any(holds);
        if is_neighbour || neighbour.is_ipv6() {
            return None;
        }
        let at = *spread.arrivals.iter().find(|at| at.space != out.space)?;
        let space = self.survey.space(at.space);
        let link = self.survey.link(at);
        let name = &link.name;
        if space.largest(link, "proxy_arp") != 0 && space.forwards(link, false) {
            return None;
        }
        let text =
            format!("{neighbour} is on no network of {}, and {} does not answer for it", self.at(out), self.at(at));
        let proxy_arp = space.largest(link, "proxy_arp");
        let finding = if proxy_arp == 0 { Finding::ProxyArpOff } else { Finding::ForwardingOff };
        let cure = if finding == Finding::ProxyArpOff {
            format!("sysctl -w net.ipv4.conf.{name}.proxy_arp=1")
        } else {
            "sysctl -w net.ipv4.ip_forward=1".to_owned()
        };
        Some(
            Trouble::new(finding, self.at(at), text)
                .row(
                    space.inside(&format!("sysctl net.ipv4.conf.{name}")),
                    format!(
                        "net.ipv4.conf.{name}.proxy_arp = {proxy_arp}, forwarding = {}",
                        space.own(link, "forwarding")
                    ),
                )
                .next(space.inside(&cure)),
        )
    }

    /// A host and its own macvlan don't hear each other.
    fn parent_and_child(&self, one: At, other: At) -> Option<Trouble> {
        let is_parent = |parent: At, child: At| {
            self.survey.other(child) == crate::doctor::world::Other::At(parent)
                && matches!(self.survey.link(child).details, Details::Macvlan(_) | Details::Ipvlan(_))
        };
        let (parent, child) = match (is_parent(one, other), is_parent(other, one)) {
            (true, _) => (one, other),
            (_, true) => (other, one),
            (false, false) => return None,
        };
        let text = format!(
            "{} rests on {}: the two don't reach each other, whatever the mode",
            self.at(child),
            self.at(parent)
        );
        let space = self.survey.space(parent.space);
        let cure = format!("ip link add macvlan0 link {} type macvlan mode bridge", self.survey.link(parent).name);
        Some(
            Trouble::new(Finding::MacvlanParent, self.at(child), text)
                .row(space.inside("ip -d link"), self.row(parent))
                .row(self.survey.space(child.space).inside("ip -d link"), self.row(child))
                .next(space.inside(&cure)),
        )
    }

    /// Nobody in sight has an address.
    fn nobody_has(&self, out: At, neighbour: IpAddr, mac: MacAddr, spread: &Spread) -> Stop {
        let space = self.survey.space(out.space);
        if let Some((at, why)) = spread.out_of_sight.first() {
            let state = space.neighbour(out.link, neighbour).map(|(_, state)| state);
            if matches!(state, Some(NeighbourState::Failed | NeighbourState::Incomplete)) {
                let text = format!("nobody answers for {neighbour} by {}", self.survey.link(out).name);
                let row = space.neighbour_row(out.link, neighbour);
                return Trouble::new(Finding::NeighbourFailed, self.at(out), text)
                    .row(space.inside("ip neighbour"), row)
                    .next(format!("weft capture {}", self.at(out)))
                    .into();
            }
            return Stop::OutOfSight { place: self.at(*at), why: why.clone() };
        }
        if mac != MacAddr::ZERO && !self.survey.all().any(|(_, link)| link.mac == Some(mac)) {
            return self.neighbour_is_wrong(out, neighbour, out).into();
        }
        if let Some((_, trouble)) = spread.ends.first().filter(|_| spread.arrivals.is_empty()) {
            return trouble.clone().into();
        }
        if let Some(empty) = self
            .survey
            .spaces
            .iter()
            .find(|space| space.links.iter().all(|link| link.loopback) && !space.links.is_empty())
        {
            let text =
                format!("nobody has the address {neighbour}, and {} has no interface but loopback", empty.label());
            let rows = empty.links.iter().map(|link| empty.link_row(link));
            return Trouble::new(Finding::InterfaceMissing, empty.label(), text)
                .rows(empty.inside("ip link"), rows)
                .row(space.inside("ip neighbour"), space.neighbour_row(out.link, neighbour))
                .into();
        }
        let heard: Vec<_> = spread.arrivals.iter().map(|at| self.addresses_row(*at)).collect();
        let is_gateway = space.routes.iter().any(|route| route.hops.iter().any(|hop| hop.via == Some(neighbour)));
        let command = space.inside(&format!("ip neighbour show dev {}", self.survey.link(out).name));
        let row = space.neighbour_row(out.link, neighbour);
        // A router that has lost its address is not a route that is wrong.
        let nameless = spread.arrivals.iter().find(|at| {
            let there = self.survey.space(at.space);
            at.space != out.space
                && there.forwards(self.survey.link(**at), neighbour.is_ipv6())
                && !there
                    .addresses_of(at.link)
                    .any(|it| it.prefix.address.is_ipv6() == neighbour.is_ipv6() && !it.link_local)
        });
        let trouble = if let (true, Some(at)) = (is_gateway, nameless) {
            let text = format!("the next hop {neighbour} is nobody's address: {} forwards, and has none", self.at(*at));
            let cure = format!("ip address add {neighbour}/PREFIX dev {}", self.survey.link(*at).name);
            Trouble::new(Finding::AddressMissing, self.at(*at), text).next(self.survey.space(at.space).inside(&cure))
        } else if is_gateway {
            let text = format!("the next hop {neighbour} is nobody's address on the segment of {}", self.at(out));
            Trouble::new(Finding::RouteWrong, self.at(out), text).next(space.inside("ip route"))
        } else {
            let place = match spread.arrivals.as_slice() {
                [only] => self.at(*only),
                _ => self.at(out),
            };
            let text = format!("nobody on the segment of {} has the address {neighbour}", self.at(out));
            Trouble::new(Finding::AddressMissing, place, text)
                .next(format!("ip address add {neighbour}/PREFIX dev INTERFACE"))
        };
        trouble.row(command, row).rows("those who heard the question", heard).into()
    }

    fn neighbour_is_wrong(&self, out: At, neighbour: IpAddr, owner: At) -> Trouble {
        let space = self.survey.space(out.space);
        let name = &self.survey.link(out).name;
        let text = if owner == out {
            format!("the neighbour entry of {neighbour} names a hardware address that nobody has")
        } else {
            format!("the neighbour entry of {neighbour} does not name the hardware address of {}", self.at(owner))
        };
        let mut trouble = Trouble::new(Finding::NeighbourWrong, self.at(out), text)
            .row(space.inside("ip neighbour"), space.neighbour_row(out.link, neighbour));
        let real = if owner == out { self.survey.owners(neighbour).first().copied() } else { Some(owner) };
        if let Some(real) = real {
            trouble = trouble.row(self.survey.space(real.space).inside("ip link"), self.row(real));
        }
        trouble.next(space.inside(&format!("ip neighbour del {neighbour} dev {name}")))
    }

    /// Two interfaces of one segment with one hardware address.
    fn same_mac(&self, out: At, spread: &Spread, neighbour: IpAddr) -> Result<(), Stop> {
        let mut heard: Vec<At> = spread.arrivals.clone();
        heard.push(out);
        let shares = |at: At| {
            matches!(self.survey.link(at).details, Details::Ipvlan(_) | Details::Vlan(_) | Details::Tunnel(_))
                || self
                    .survey
                    .children(at)
                    .iter()
                    .any(|child| matches!(self.survey.link(*child).details, Details::Ipvlan(_)))
        };
        for (place, one) in heard.iter().enumerate() {
            for other in &heard[place + 1..] {
                let same =
                    self.survey.link(*one).mac.is_some() && self.survey.link(*one).mac == self.survey.link(*other).mac;
                if same && one != other && !shares(*one) && !shares(*other) {
                    let mac = self.survey.link(*one).mac.unwrap_or(MacAddr::ZERO);
                    let text = format!("{} and {} on one segment both have {mac}", self.at(*one), self.at(*other));
                    return Err(self.two_of(Finding::DuplicateMac, [*one, *other], neighbour, text).into());
                }
            }
        }
        Ok(())
    }

    fn two_of(&self, finding: Finding, both: [At; 2], _neighbour: IpAddr, text: String) -> Trouble {
        let mut trouble = Trouble::new(finding, self.at(both[1]), text);
        for at in both {
            let space = self.survey.space(at.space);
            trouble = if finding == Finding::DuplicateMac {
                trouble.row(space.inside("ip link"), self.row(at))
            } else {
                trouble.row(space.inside("ip address"), self.addresses_row(at))
            };
        }
        trouble
    }

    pub(super) fn addresses_row(&self, at: At) -> String {
        let space = self.survey.space(at.space);
        let addresses = space.addresses_of(at.link).filter(|address| !address.link_local);
        let rows: Vec<_> = addresses.map(|address| address.prefix.to_string()).collect();
        let what = if rows.is_empty() { "(no address)".to_owned() } else { rows.join(" ") };
        format!("{} {what}", self.at(at))
    }

    /// An interface that asks nobody, and has no entry: to whom would it have to send?
    fn asks_nobody(&self, out: At, neighbour: IpAddr) -> Trouble {
        let space = self.survey.space(out.space);
        let text = format!("{} asks no neighbours (NOARP), and has no entry for {neighbour}", self.at(out));
        Trouble::new(Finding::NeighbourMissing, self.at(out), text)
            .row(space.inside("ip neighbour"), space.neighbour_row(out.link, neighbour))
    }
}

fn solicited_node(address: Ipv6Addr) -> MacAddr {
    let [.., a, b, c] = address.octets();
    MacAddr::new([0x33, 0x33, 0xff, a, b, c])
}
