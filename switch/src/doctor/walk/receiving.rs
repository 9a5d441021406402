//! What a host does with a packet that has come in: before it asks where that is to go, and when it is its own.

use super::{
    Stop, Walker,
    packet::Packet,
    route::{self, Answer, Question},
    tunnels::socket_row,
};
use crate::doctor::{Finding, step::Trouble, survey::values::Protocol, world::At};

impl Walker<'_> {
    /// What a namespace does with a packet before it asks where it is to go.
    pub(super) fn received(&mut self, at: At, packet: &mut Packet) -> Result<(), Stop> {
        let space = self.survey.space(at.space);
        if let Some(back) = self.back_at_entry(at.space, *packet) {
            if back.destination != packet.destination {
                self.note(space.label(), format!("translated back: now {} > {}", back.source, back.destination));
            }
            *packet = back;
        } else {
            self.conntrack_has_room(at.space)?;
            self.hook(at.space, "prerouting", Some(at), None, packet)?;
        }
        self.comes_by_the_right_interface(at, *packet)
    }

    /// `net/ipv4/fib_frontend.c:__fib_validate_source`.
    fn comes_by_the_right_interface(&self, at: At, packet: Packet) -> Result<(), Stop> {
        let space = self.survey.space(at.space);
        let link = self.survey.link(at);
        if packet.is_ipv6() {
            return Ok(());
        }
        let name = &link.name;
        if space.has(packet.source) && space.own(link, "accept_local") == 0 {
            let text = format!("{} gets a packet from its own address {}, and drops it", self.at(at), packet.source);
            let rows = space.addresses.iter().filter(|address| address.prefix.address == packet.source);
            let rows: Vec<_> = rows.map(|address| space.address_row(address)).collect();
            return Err(Trouble::new(Finding::DuplicateIp, self.at(at), text)
                .rows(space.inside("ip address"), rows)
                .into());
        }
        let mode = space.largest(link, "rp_filter");
        if mode == 0 {
            return Ok(());
        }
        let back =
            Question { destination: packet.source, source: Some(packet.destination), iif: None, mark: packet.mark };
        let answer = route::lookup(space, back);
        let (fits, row) = match answer {
            Answer::By { route, hop } => (mode == 2 || hop.link == at.link, space.route_row(route)),
            Answer::Local => (false, "local".to_owned()),
            Answer::Refused(route) => (false, space.route_row(route)),
            Answer::RuleRefused(rule) => (false, route::rule_row(rule)),
            Answer::Nothing => (false, format!("(no route to {})", packet.source)),
        };
        if fits {
            return Ok(());
        }
        let how = if mode == 2 { "by no interface" } else { "not by that interface" };
        let text = format!(
            "{} drops {packet}: the way back to {} leads {how} (rp_filter = {mode})",
            self.at(at),
            packet.source
        );
        let setting = |of: &str| {
            let value = space.sysctl(&format!("net/ipv4/conf/{of}/rp_filter")).unwrap_or(0);
            format!("net.ipv4.conf.{of}.rp_filter = {value}")
        };
        let mut trouble = Trouble::new(Finding::RpFilter, self.at(at), text)
            .row(space.inside(&format!("ip route get {}", packet.source)), row)
            .rows(space.inside("sysctl -a"), [setting("all"), setting(name)]);
        if let Some(drops) = space.counters.get("TcpExt.IPReversePathFilter").filter(|drops| **drops > 0) {
            trouble = trouble.row(space.inside("nstat -a"), format!("TcpExtIPReversePathFilter {drops}"));
        }
        Err(trouble.next(space.inside(&format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2"))).into())
    }

    fn conntrack_has_room(&self, space: usize) -> Result<(), Stop> {
        let here = self.survey.space(space);
        let uses = |chain: &crate::doctor::survey::nft::Chain| {
            chain.kind == "nat" || chain.rules.iter().any(|rule| rule.words().contains("ct "))
        };
        let tracks = here.nft.as_ref().is_some_and(|ruleset| ruleset.chains.iter().any(uses));
        match here.conntrack {
            Some(table) if tracks && table.count >= table.limit && table.limit > 0 => {
                let text = format!(
                    "{} tracks {} connections of {}: new ones are dropped",
                    here.label(),
                    table.count,
                    table.limit
                );
                let rows = [
                    format!("net.netfilter.nf_conntrack_count = {}", table.count),
                    format!("net.netfilter.nf_conntrack_max = {}", table.limit),
                ];
                let trouble = Trouble::new(Finding::ConntrackFull, here.label(), text)
                    .rows(here.inside("sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max"), rows);
                Err(trouble.next(here.inside("conntrack -L")).into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The receiver's last word: pings that it ignores, ports that nobody listens on.
    pub(super) fn accepted(&mut self, space: usize, packet: Packet, listening: bool) -> Result<(), Stop> {
        let here = self.survey.space(space);
        let (path, key) = if packet.is_ipv6() {
            ("net/ipv6/icmp/echo_ignore_all", "net.ipv6.icmp.echo_ignore_all")
        } else {
            ("net/ipv4/icmp_echo_ignore_all", "net.ipv4.icmp_echo_ignore_all")
        };
        if packet.protocol == Protocol::Icmp && here.sysctl(path).unwrap_or(0) != 0 {
            let text = format!("{} is told to answer no pings", here.label());
            let trouble = Trouble::new(Finding::EchoIgnored, here.label(), text)
                .row(here.inside(&format!("sysctl {key}")), format!("{key} = 1"));
            return Err(trouble.next(here.inside(&format!("sysctl -w {key}=0"))).into());
        }
        if !listening || packet.protocol == Protocol::Icmp {
            return Ok(());
        }
        let on_port = here.sockets.iter().filter(|socket| {
            socket.protocol == packet.protocol
                && socket.local.port() == packet.destination_port
                && socket.remote.is_none()
        });
        let on_port: Vec<_> = on_port.collect();
        let takes =
            on_port.iter().find(|socket| socket.local.ip().is_unspecified() || socket.local.ip() == packet.destination);
        if let Some(socket) = takes {
            self.note(here.label(), format!("socket {}", socket_row(socket)));
            return Ok(());
        }
        let port = packet.destination_port;
        let text = match on_port.first() {
            Some(socket) => format!("port {port} is listened on at {} only", socket.local.ip()),
            None => format!("nobody listens on {} port {port}", packet.protocol),
        };
        let command = here.inside(&format!("ss -lntup sport = {port}"));
        let rows: Vec<_> = on_port.iter().map(|socket| socket_row(socket)).collect();
        let rows = if rows.is_empty() { vec!["(nobody)".to_owned()] } else { rows };
        Err(Trouble::new(Finding::NotListening, here.label(), text).rows(&command, rows).next(command).into())
    }
}
