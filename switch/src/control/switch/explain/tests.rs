//! What is said of each step.

use std::collections::BTreeSet;

use serde_json::{Value, json, to_value};

use super::{narrator::Narrator, *};
use crate::{
    bridge::{Admission, DropReason, FloodKind, Verdict},
    control::{
        api::explanation::{Decider, Fate, Outcome, Stage, StageName},
        config::Config,
    },
    fdb::{EntryView, Learned, Origin, Stamp, Standing},
    ids::VtepId,
    l3::NoAnswer,
    underlay::Target,
    wire::{MacAddr, Tag, ethernet},
    worker::{
        SharedVteps,
        explain::{Departure, Exit, Learning, Oversized, Proxied, Step},
    },
};

const CONFIG: &str = r#"[vtep]
address = "192.0.2.1"
profile = "rfc7348"

[[bridge]]
name = "blue"
vni = 42
remotes = ["192.0.2.2"]
fdb_max_learned = 2
proxy = true

[[port]]
name = "p0"
bridge = "blue"
learning = false

[[port]]
name = "p1"
trunk = { 10 = "blue" }
mtu = 1400
bcast_flood = false

[[fdb]]
bridge = "blue"
mac = "02:00:00:00:00:09"
vtep = "192.0.2.2"

[[neigh]]
bridge = "blue"
ip = "10.0.0.2"
mac = "02:00:00:00:00:09"
"#;

const BLUE: BridgeId = BridgeId(0);
const P0: PortId = PortId(0);
pub(super) const P1: PortId = PortId(1);
pub(super) const PEER: VtepId = VtepId(0);
const A: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
const NINE: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 9]);
const FRAME: &[u8] = &[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 6];

pub(super) fn peer() -> SocketAddr {
    "192.0.2.2:4789".parse().unwrap()
}

/// Whoever knows what everything is called in [`CONFIG`].
pub(super) fn narrator_of_config<T>(tell: impl FnOnce(&Narrator<'_>) -> T) -> T {
    let config = Config::parse("weft.toml", CONFIG).unwrap();
    let vteps = SharedVteps::default();
    assert_eq!(vteps.intern(peer()), Ok(PEER));
    tell(&Narrator {
        config: &config,
        port_name: &|port| format!("p{}", port.0),
        bridge_name: &|_| "blue".to_owned(),
        vteps: &vteps,
        outer_port: &|_, _| Some(50_000),
        now: Stamp(5_000),
    })
}

pub(super) fn walk(steps: Vec<Step>, dropped: Option<DropReason>) -> Walkthrough {
    Walkthrough { steps, frames: 1, ingress: Some(Endpoint::Port(P0)), bridge: Some(BLUE), dropped }
}

fn told(steps: Vec<Step>, dropped: Option<DropReason>) -> Explanation {
    let arriving = Arriving::Frame { port: P0, bytes: FRAME, vnet: Some(VnetHeader::NONE) };
    narrator_of_config(|narrator| narrator.explanation(arriving, &walk(steps, dropped)))
}

fn stage(step: Step) -> Stage {
    told(vec![step], None).stages.remove(0)
}

/// `line key`, or `- key` for a default.
fn lines(config: &[Decider]) -> Vec<String> {
    let line = |decider: &Decider| decider.line.map_or_else(|| "-".to_owned(), |line| line.to_string());
    config.iter().map(|decider| format!("{} {}", line(decider), decider.key)).collect()
}

fn learn(learning: Learning) -> Stage {
    stage(Step::Learn { bridge: BLUE, src: NINE, at: Endpoint::Port(P0), learning })
}

fn decide(verdict: Verdict, passed_over: Vec<(PortId, Option<DropReason>)>) -> Step {
    let vteps_passed_over = if passed_over.is_empty() { vec![] } else { vec![PEER] };
    Step::Decide {
        bridge: BLUE,
        ingress: Endpoint::Vtep(PEER),
        dst: NINE,
        verdict,
        passed_over,
        vteps_passed_over,
        members_only: false,
    }
}

fn host(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// Of the neighbours 10.0.0.2 alone is named.
fn proxy(asked: Option<u8>, proxied: Proxied) -> Step {
    let neigh = asked.filter(|last| *last == 2).map(|_| NINE);
    Step::Proxy { bridge: BLUE, asked: asked.map(host), neigh, proxied }
}

fn short_circuit(ip: Option<u8>, station: Option<(MacAddr, Option<Endpoint>)>, result: Result<(), DropReason>) -> Step {
    Step::ShortCircuit { bridge: BLUE, dst: A, ip: ip.map(host), station, result }
}

fn tunnel(vtep: Result<VtepId, DropReason>, named: bool) -> Step {
    let source = peer().ip();
    Step::Tunnel { vni: Vni::new(42).unwrap(), source, bridge: Some(BLUE), named, vtep }
}

fn plain(format: HeaderFormat) -> Result<TunnelHeader, DropReason> {
    Ok(TunnelHeader::plain(format, Vni::new(42).unwrap()))
}

fn header_step(format: HeaderFormat, header: Result<TunnelHeader, DropReason>, options: &[u8]) -> Step {
    let options = options.to_vec();
    Step::Header { format, len: 58, header, reserved: false, refused: false, policy: None, options }
}

pub(super) fn to_port(tag: Option<Tag>, result: Result<(), DropReason>) -> Step {
    let exit = Some(Exit::Port { tag, mtu: 1400 });
    Step::Egress(Departure {
        to: Endpoint::Port(P1),
        bytes: vec![0; 64],
        frames: 1,
        bridge: BLUE,
        is_answer: false,
        exit,
        oversized: None,
        clamped: None,
        result,
    })
}

pub(super) fn to_vtep(path: Path, dont_fragment: bool, result: Result<(), DropReason>) -> Step {
    let (bridge, vtep) = (BLUE, PEER);
    let target = Target { bridge, vtep, address: peer(), tos: 0xb8, ttl: 64, dont_fragment, header_len: 8 };
    let header = plain(HeaderFormat::Vxlan).unwrap();
    let exit = Exit::Vtep { target, header, hash: 7, payload_len: 1480, path_mtu: 1600, path };
    Step::Egress(Departure {
        to: Endpoint::Vtep(PEER),
        bytes: vec![0; 1472],
        frames: 1,
        bridge: BLUE,
        is_answer: false,
        exit: Some(exit),
        oversized: None,
        clamped: None,
        result,
    })
}

fn oversized(oversized: Oversized, result: Result<(), DropReason>) -> Step {
    let Step::Egress(departure) = to_vtep(Path::Mtu(1500), true, result) else { panic!("an egress") };
    let exit = departure.exit.map(|exit| match exit {
        Exit::Vtep { target, header, hash, path, .. } => {
            Exit::Vtep { target, header, hash, payload_len: 1480, path_mtu: 1500, path }
        }
        Exit::Port { .. } => exit,
    });
    Step::Egress(Departure { exit, oversized: Some(oversized), ..departure })
}

#[test]
fn the_line_that_decided_is_named_and_a_default_is_said_to_be_one() {
    let classified = stage(Step::Classify { port: P1, tag: Some(Tag(10)), bridge: Ok((BLUE, Some(Tag(10)))) });
    assert_eq!(lines(&classified.config), ["19 trunk.10"]);
    assert_eq!(classified.text, "VLAN 10 of the trunk is bridge blue; the tag is taken off");
    let refused = stage(Step::Classify { port: P1, tag: Some(Tag(11)), bridge: Err(DropReason::VlanNotMember) });
    assert_eq!(lines(&refused.config), ["19 trunk"]);
    assert_eq!((refused.outcome, refused.reason.as_deref()), (Outcome::Drop, Some("vlan_not_member")));
    assert_eq!(refused.text, "VLAN 11 is none of the trunk's, which are 10");
    let untagged = stage(Step::Classify { port: P1, tag: None, bridge: Err(DropReason::VlanUntagged) });
    assert_eq!(lines(&untagged.config), ["- native"]);

    assert_eq!(lines(&learn(Learning::PortOff).config), ["15 learning"]);
    assert_eq!(lines(&learn(Learning::Foreseen(Learned::Full)).config), ["9 fdb_max_learned", "- fdb_full"]);
    assert_eq!(lines(&learn(Learning::Foreseen(Learned::Sticky)).config), ["- sticky"]);
    assert_eq!(lines(&learn(Learning::Foreseen(Learned::StaticAtOtherVtep)).config), ["26 vtep"]);
    assert_eq!(lines(&learn(Learning::BridgeOff).config), ["- ageing"]);

    assert_eq!(lines(&stage(tunnel(Ok(PEER), true)).config), ["7 vni", "8 remotes"]);
    assert_eq!(lines(&stage(tunnel(Err(DropReason::VtepUnknown), false)).config), ["7 vni", "- peers"]);
    // What the profile says is said by its line.
    assert_eq!(lines(&stage(tunnel(Err(DropReason::VxlanReservedBits), true)).config), ["3 profile"]);
    assert_eq!(lines(&stage(to_port(None, Err(DropReason::EgressMtu))).config), ["20 mtu"]);
    assert_eq!(lines(&stage(to_port(Some(Tag(10)), Ok(()))).config), ["19 trunk.10"]);
    assert_eq!(lines(&stage(to_vtep(Path::Mtu(1500), true, Err(DropReason::UnderlayMtu))).config), ["- df"]);
}

#[test]
fn whom_a_bridge_answers_for_is_named_with_the_line_that_says_so() {
    let answered = stage(proxy(Some(2), Proxied::Answered(Ok(()))));
    assert_eq!(answered.text, "asks for 10.0.0.2, which is 02:00:00:00:00:09: answered here, it does not leave");
    assert_eq!((answered.outcome, answered.reason.as_deref()), (Outcome::Drop, Some("neigh_proxied")));
    assert_eq!(lines(&answered.config), ["10 proxy", "31 mac"]);
    assert_eq!(answered.config[1].part, "neigh blue 10.0.0.2");
    let passes = stage(proxy(None, Proxied::Passes));
    assert_eq!((passes.outcome, passes.fields["asked"].is_null()), (Outcome::Pass, true));

    let routed = stage(short_circuit(Some(2), Some((NINE, Some(Endpoint::Vtep(PEER)))), Ok(())));
    let expected = "a packet to a router, for 10.0.0.2: straight to 02:00:00:00:00:09 at VTEP 192.0.2.2, as if from \
                    02:00:00:00:00:01";
    assert_eq!(routed.text, expected);
    assert_eq!(lines(&routed.config), ["- rsc", "31 mac"]);
}

#[test]
fn who_gets_no_copy_is_named_with_the_line_that_says_so() {
    let passed_over = vec![(P0, Some(DropReason::SameEndpoint)), (P1, None)];
    let flood = stage(decide(Verdict::Flood(FloodKind::Broadcast), passed_over));
    assert_eq!(flood.text, "broadcast: flooded to the rest of bridge blue");
    assert_eq!(
        flood.notes,
        [
            "not to port p0: the frame came from there",
            "not to port p1: its gate for broadcast is closed",
            "not to VTEP 192.0.2.2: never from VTEP to VTEP (split horizon)"
        ]
    );
    assert_eq!(lines(&flood.config), ["- hairpin", "21 bcast_flood"]);
}

#[test]
fn the_tunnel_header_is_said_with_its_options() {
    let told = stage(header_step(HeaderFormat::Geneve, plain(HeaderFormat::Geneve), &[0xff, 1, 0x81, 1, 1, 2, 3, 4]));
    assert_eq!(told.text, "Geneve header: VNI 42, 8 bytes of options");
    let options = json!([{"class": 0xff01, "type": 0x81, "critical": true, "data": "01020304"}]);
    assert_eq!(told.fields["options"], options);
    assert_eq!(
        stage(header_step(HeaderFormat::Vxlan, plain(HeaderFormat::Vxlan), &[])).text,
        "VXLAN header: VNI 42, no reserved bit set"
    );
    let differs = stage(tunnel(Err(DropReason::EncapsulationDiffers), true));
    assert_eq!(differs.text, "VNI 42 is bridge blue, whose frames come in vxlan, and this did not");
    assert_eq!(lines(&differs.config), ["7 vni", "- encapsulation"]);
}

#[test]
fn the_outer_header_is_written_out() {
    let whole = stage(to_vtep(Path::Mtu(1600), true, Ok(())));
    assert_eq!(
        whole.notes,
        [
            "outer IPv4 192.0.2.1 > 192.0.2.2, TTL 64, TOS 0xb8, DF",
            "outer UDP 50000 > 4789, the source port by the inner flow's hash 0x00000007",
            "outer packet of 1508 bytes, of 1600 that the way allows"
        ]
    );
    let fragmented = stage(to_vtep(Path::Mtu(1500), false, Ok(())));
    assert_eq!(fragmented.notes[2], "outer packet of 1508 bytes, cut into fragments for an interface of 1500");
}

#[test]
fn what_is_too_long_says_what_is_done_about_it_and_by_which_line() {
    let answered = stage(oversized(Oversized::Answered(vec![]), Err(DropReason::OversizeAnswered)));
    assert_eq!(
        (answered.text.as_str(), answered.reason.as_deref()),
        ("too long for the way to VTEP 192.0.2.2", Some("oversize_answered"))
    );
    assert_eq!(answered.notes[2], "outer packet of 1508 bytes, of 1500 that the way allows");
    assert_eq!(answered.notes[3], "its sender is told by ICMP what fits, in the name of its receiver");
    assert_eq!(lines(&answered.config), ["- oversize", "7 vni"]);
    let fragments = stage(oversized(Oversized::Fragmented(vec![vec![0; 1458], vec![0; 48]]), Ok(())));
    assert_eq!(fragments.notes[3], "its 1472 bytes leave in 2 fragments of up to 1458");
    assert_eq!((&fragments.fields["oversize"], &fragments.fields["fragments"]), (&"fragmented".into(), &2.into()));
    let outside = stage(oversized(Oversized::FragmentedOutside, Ok(())));
    assert_eq!(outside.notes[2], "outer packet of 1508 bytes, cut into fragments for a way of 1500");
    let dropped = stage(oversized(Oversized::Dropped(NoAnswer::IcmpError), Err(DropReason::Oversize)));
    assert_eq!(dropped.notes[3], "its sender is not told: it is itself an ICMP error");
}

#[test]
fn the_verdict_is_of_the_copies_that_leave() {
    let both = told(vec![to_port(None, Ok(())), to_vtep(Path::Unknown, true, Ok(()))], None).verdict;
    assert_eq!((both.result, both.ports, both.vteps), (Fate::Delivered, vec!["p1".to_owned()], vec![peer()]));
    let none = told(vec![to_port(None, Err(DropReason::EgressMtu))], None).verdict;
    assert_eq!((none.result, none.reason.as_deref()), (Fate::Dropped, Some("egress_mtu")));
    let before = told(vec![], Some(DropReason::Malformed)).verdict;
    assert_eq!((before.result, before.reason.as_deref()), (Fate::Dropped, Some("malformed")));
}

/// At least one step of each kind and turn.
fn every_step() -> Vec<Step> {
    let header = ethernet::parse(FRAME).unwrap();
    let entry = |origin| EntryView {
        bridge: BLUE,
        mac: NINE,
        at: Endpoint::Vtep(PEER),
        origin,
        updated: Stamp(2_000),
        locked: false,
    };
    let admit =
        |admission| Step::Admit { bridge: BLUE, src: A, dst: MacAddr::new([1, 0x80, 0xc2, 0, 0, 2]), admission };
    let inspect = |tos, result| Step::Inspect { tag_count: 1, outer_tos: 3, tos, clamped: None, result };
    let learned = [
        Learned::Known,
        Learned::New { evicted: None },
        Learned::New { evicted: Some(A) },
        Learned::Moved { from: Endpoint::Port(P1) },
        Learned::Sticky,
        Learned::StaticAtOtherVtep,
        Learned::Full,
    ];
    let learning = learned.map(Learning::Foreseen).into_iter().chain([
        Learning::PortOff,
        Learning::PortDown,
        Learning::PortState,
        Learning::Locked,
        Learning::TunnelOff,
        Learning::BridgeOff,
        Learning::LocalAddress,
    ]);
    let mut steps = vec![
        header_step(HeaderFormat::Vxlan, plain(HeaderFormat::Vxlan), &[]),
        header_step(HeaderFormat::Vxlan, Err(DropReason::VxlanTruncated), &[]),
        header_step(HeaderFormat::Geneve, plain(HeaderFormat::Geneve), &[0xff, 1, 1, 1, 1, 2, 3, 4]),
        tunnel(Ok(PEER), true),
        tunnel(Ok(VtepId(7)), false),
        tunnel(Err(DropReason::VniUnknown), false),
        tunnel(Err(DropReason::EncapsulationDiffers), true),
        Step::Parse(Ok(header)),
        Step::Parse(Err(DropReason::Malformed)),
        Step::Classify { port: P0, tag: None, bridge: Ok((BLUE, None)) },
        Step::Classify { port: P1, tag: Some(Tag(4095)), bridge: Err(DropReason::VlanInvalid) },
        admit(Admission::Enter),
        admit(Admission::KeepAndLearn(DropReason::ReservedGroup)),
        admit(Admission::Refuse(DropReason::SourceInvalid)),
        inspect(None, Ok(())),
        inspect(Some((2, 3)), Ok(())),
        inspect(Some((0, 0)), Err(DropReason::EcnNotCapable)),
        Step::Guard { port: P0, src: NINE, standing: None, reason: Some(DropReason::PortState) },
        Step::Guard { port: P0, src: NINE, standing: Some(Standing::Known), reason: None },
        Step::Guard { port: P0, src: NINE, standing: Some(Standing::Unknown), reason: Some(DropReason::Locked) },
        Step::Answer { bridge: BLUE, answered: true, spares: true },
        Step::Answer { bridge: BLUE, answered: false, spares: false },
        Step::LookUp { bridge: BLUE, dst: NINE, entry: None },
        Step::LookUp { bridge: BLUE, dst: NINE, entry: Some(entry(Origin::Learned)) },
        Step::LookUp { bridge: BLUE, dst: NINE, entry: Some(entry(Origin::Sticky)) },
        decide(Verdict::Unicast(Endpoint::Vtep(PEER)), vec![]),
        decide(Verdict::Drop(DropReason::SameEndpoint), vec![]),
        decide(Verdict::Flood(FloodKind::UnknownUnicast), vec![(P1, Some(DropReason::Isolated))]),
        proxy(None, Proxied::Passes),
        proxy(None, Proxied::Kept),
        proxy(Some(9), Proxied::Unknown),
        proxy(Some(2), Proxied::HearsItself),
        proxy(Some(2), Proxied::Senseless),
        proxy(Some(2), Proxied::Answered(Ok(()))),
        proxy(Some(2), Proxied::Answered(Err(DropReason::PortDown))),
        short_circuit(None, None, Ok(())),
        short_circuit(Some(9), None, Ok(())),
        short_circuit(Some(2), Some((NINE, Some(Endpoint::Port(P1)))), Ok(())),
        short_circuit(Some(2), Some((NINE, None)), Ok(())),
        short_circuit(Some(2), Some((NINE, None)), Err(DropReason::NoFloodTarget)),
        to_port(None, Ok(())),
        to_vtep(Path::Unreachable, true, Err(DropReason::UnderlayUnreachable)),
        oversized(Oversized::Answered(vec![]), Err(DropReason::OversizeAnswered)),
        oversized(Oversized::Fragmented(vec![vec![0; 1458], vec![0; 48]]), Ok(())),
        oversized(Oversized::FragmentedOutside, Ok(())),
        oversized(Oversized::Dropped(NoAnswer::NotIp), Err(DropReason::OversizeNotIp)),
    ];
    steps.extend(learning.map(|learning| Step::Learn { bridge: BLUE, src: NINE, at: Endpoint::Port(P0), learning }));
    steps
}

/// The names in backticks of the first and of the second column of the table rows that begin so.
pub(super) fn documented(first: &str) -> BTreeSet<String> {
    let page = include_str!("../../../../docs/explain.md");
    let row = page.lines().find(|line| line.starts_with(&format!("| {first} |")));
    let row = row.unwrap_or_else(|| panic!("explain.md has no row `{first}`"));
    row.split('|').nth(2).unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

pub(super) fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_page_has_every_key_of_the_answer() {
    let explanation = told(every_step(), None);
    for stage in &explanation.stages {
        let way = match (stage.stage, stage.fields.get("vtep").is_none_or(Value::is_null)) {
            (StageName::Egress, true) => "`egress` by a port".to_owned(),
            (StageName::Egress, false) => "`egress` to a VTEP".to_owned(),
            (stage, _) => format!("`{}`", stage.name()),
        };
        assert_eq!(keys(&Value::Object(stage.fields.clone())), documented(&way), "{way}");
        assert!(!stage.text.is_empty() && stage.kernel.is_some(), "{stage:?}");
    }
    let seen: BTreeSet<_> = explanation.stages.iter().map(|stage| stage.stage).collect();
    assert_eq!(seen, StageName::ALL.iter().copied().collect());

    let value = to_value(&explanation).unwrap();
    assert_eq!(keys(&value), documented("the answer"));
    assert_eq!(keys(&value["frame"]), documented("`frame`"));
    assert_eq!(keys(&value["stages"][0]), documented("each of `stages`"));
    let decider = value["stages"].as_array().unwrap().iter().find_map(|stage| stage["config"].get(0)).unwrap();
    assert_eq!(keys(decider), documented("each of `config`"));
    assert_eq!(keys(&value["verdict"]), documented("`verdict`"));
}

#[test]
fn hexadecimal_that_is_none_is_refused() {
    assert_eq!(bytes_of("frame", Some("00fF")).unwrap(), [0, 0xff]);
    for text in [None, Some("0"), Some("0g"), Some("é0")] {
        assert!(bytes_of("frame", text).is_err(), "{text:?}");
    }
    assert!(bytes_of("frame", Some(&"00".repeat(MAX_LEN + 1))).is_err());
}
