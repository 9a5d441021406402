//! A bridge with three ports and an overlay, and what is said in it.

use std::net::Ipv4Addr;

use super::*;
use crate::{
    snoop::Route,
    wire::membership::{
        ALL_HOSTS, parse,
        testing::{HOST, RecordOf, STATION, igmp_frame, query, records_of},
    },
};

pub(super) const A: Member = Member::Port(PortId(1));
pub(super) const B: Member = Member::Port(PortId(2));
pub(super) const ROUTER: Member = Member::Port(PortId(3));
pub(super) const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 10, 10, 10));
pub(super) const OTHER_GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 10, 10, 11));
pub(super) const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
pub(super) const ROUTER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254));
pub(super) const GROUP_V6: IpAddr = v6(0xff0e, 7);
pub(super) const OTHER_GROUP_V6: IpAddr = v6(0xff0e, 8);
pub(super) const SOURCE_V6: IpAddr = v6(0x2001, 100);
pub(super) const ROUTER_ADDRESS_V6: IpAddr = v6(0xfe80, 0xfe);
/// The bridge's own address; its link-local one is fe80::bfff:fefe:1.
pub(super) const OWN: MacAddr = MacAddr::new([2, 0, 0xbf, 0xfe, 0, 1]);

const fn v6(first: u16, last: u16) -> IpAddr {
    IpAddr::V6(std::net::Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last))
}

pub(super) struct Scene {
    pub(super) snooper: Snooper,
    pub(super) now: Duration,
    ports: Vec<(Member, PortSettings)>,
}

impl Scene {
    pub(super) fn new(settings: Settings) -> Self {
        let ports = [A, B, ROUTER, Member::Overlay].map(|member| (member, PortSettings::default())).to_vec();
        let mut snooper = Snooper::new(settings, OWN, Duration::ZERO);
        snooper.set_ports(&ports, Duration::ZERO);
        Self { snooper, now: Duration::ZERO, ports }
    }

    /// After ten seconds in which a querier behind [`ROUTER`] has had its answers.
    pub(super) fn with_querier(settings: Settings, address: IpAddr) -> Self {
        let mut scene = Self::new(settings);
        scene.hear(ROUTER, &query(address), 0);
        scene.poll(10);
        scene
    }

    pub(super) fn port(&mut self, member: Member, settings: PortSettings) {
        self.ports.iter_mut().filter(|(other, _)| *other == member).for_each(|(_, old)| *old = settings);
        self.snooper.set_ports(&self.ports, self.now);
    }

    pub(super) fn without_port(&mut self, member: Member) {
        self.ports.retain(|(other, _)| *other != member);
        self.snooper.set_ports(&self.ports, self.now);
    }

    pub(super) fn hear(&mut self, from: Member, frame: &[u8], second: u64) {
        self.hear_from(from, STATION, frame, second);
    }

    pub(super) fn hear_from(&mut self, from: Member, src: MacAddr, frame: &[u8], second: u64) {
        self.now = Duration::from_secs(second);
        let packet = parse(frame, false).unwrap().unwrap();
        self.snooper.on_packet(from, src, &packet, self.now);
    }

    pub(super) fn has_room(&self, from: Member, frame: &[u8]) -> bool {
        let (Ok(Some(packet)), Some(mdb)) = (parse(frame, false), self.snooper.mdb()) else { panic!("{frame:?}") };
        mdb.has_room(from, STATION, &packet.message.unwrap())
    }

    pub(super) fn poll(&mut self, second: u64) {
        self.now = Duration::from_secs(second);
        self.snooper.poll(self.now);
    }

    pub(super) fn targets(&self, frame: &[u8]) -> Option<Targets> {
        let (Ok(Some(packet)), Some(mdb)) = (parse(frame, false), self.snooper.mdb()) else { panic!("{frame:?}") };
        match mdb.route(MacAddr::BROADCAST, Some(&packet)) {
            Route::Flood => None,
            Route::Only(targets) => Some(targets.clone()),
        }
    }

    /// Who gets a frame; `None`: everybody.
    pub(super) fn route(&self, frame: &[u8]) -> Option<Vec<Member>> {
        let targets = self.targets(frame)?;
        let ports = targets.ports.iter().map(|target| Member::Port(target.port));
        Some(ports.chain(targets.overlay.then_some(Member::Overlay)).collect())
    }

    pub(super) fn members(&self, group: IpAddr) -> Vec<Member> {
        let entries = self.snooper.entries(self.now);
        let of_group = entries.iter().filter(|entry| entry.group == Group::Ip(group));
        of_group.flat_map(|entry| &entry.members).map(|member| member.member).collect()
    }

    pub(super) fn routers(&self) -> Vec<Member> {
        self.snooper.routers(self.now).iter().map(|router| router.member).collect()
    }

    /// The one membership in [`GROUP`]: whether it excludes, the sources that it wants and those that it has blocked.
    pub(super) fn state(&self) -> Option<(bool, Vec<u8>, Vec<u8>)> {
        let entries = self.snooper.entries(self.now);
        let entry = entries.iter().find(|entry| entry.group == Group::Ip(GROUP))?;
        let [member] = entry.members.as_slice() else { panic!("{entry:?}") };
        let of = |is_wanted: bool| {
            let sources = member.sources.iter().filter(|(_, left)| left.is_some() == is_wanted);
            let mut sources: Vec<_> = sources.map(|(source, _)| last_octet(*source)).collect();
            sources.sort_unstable();
            sources
        };
        Some((member.excludes, of(true), of(false)))
    }

    /// The seconds for which a source of [`GROUP`] is still wanted.
    pub(super) fn left(&self, source: u8) -> Option<u64> {
        let entries = self.snooper.entries(self.now);
        let sources = entries.iter().flat_map(|entry| &entry.members).flat_map(|member| &member.sources);
        sources
            .filter(|(address, _)| last_octet(*address) == source)
            .find_map(|(_, left)| Some(left.as_ref()?.as_secs()))
    }
}

pub(super) fn port_id(member: Member) -> PortId {
    match member {
        Member::Port(port) => port,
        Member::Overlay => panic!("the overlay is no port"),
    }
}

/// 192.0.2.x
pub(super) fn source(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn last_octet(address: IpAddr) -> u8 {
    let IpAddr::V4(address) = address else { panic!("{address}") };
    address.octets()[3]
}

/// A record about [`GROUP`] from [`HOST`].
pub(super) fn record(kind: RecordKind, sources: &[u8]) -> Vec<u8> {
    record_from(HOST, kind, sources)
}

pub(super) fn record_from(host: Ipv4Addr, kind: RecordKind, sources: &[u8]) -> Vec<u8> {
    let record: RecordOf = (kind, GROUP, sources.iter().copied().map(source).collect());
    records_of(host.into(), &[record])
}

pub(super) fn is_include(sources: &[u8]) -> Vec<u8> {
    record(RecordKind::IsInclude, sources)
}

/// A query of version 2 with this many tenths of a second to answer.
pub(super) fn igmp_query(tenths: u8, group: IpAddr) -> Vec<u8> {
    let (IpAddr::V4(group), IpAddr::V4(router)) = (group, ROUTER_ADDRESS) else { panic!("{group}") };
    igmp_frame(router, ALL_HOSTS, [&[0x11, tenths, 0, 0][..], &group.octets()].concat())
}

pub(super) fn pim_hello() -> Vec<u8> {
    let dst = Ipv4Addr::new(224, 0, 0, 13);
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(STATION.octets(), [1, 0, 0x5e, 0, 0, 13])
        .ipv4(HOST.octets(), dst.octets(), 1)
        .write(&mut frame, 103.into(), &[0x20, 0, 0, 0])
        .unwrap();
    frame
}
