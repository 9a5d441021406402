//! What is seldom switched on at a port, each option with what can happen beside it.

use std::net::Ipv4Addr;

use crate::{
    compare::{
        case::{At, Case, Kind},
        frame::{ARP, DOT1Q, arp_request, ethernet, frame, group, reserved, station, tagged},
    },
    wire::MacAddr,
};

const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// An ARP packet of any kind, broadcast.
fn arp(operation: u8, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let (sender_mac, sender_ip) = (sender.0.octets(), sender.1.octets());
    let payload = [&head[..], &sender_mac, &sender_ip, &target.0.octets(), &target.1.octets()].concat();
    ethernet(MacAddr::BROADCAST, sender.0, ARP, &payload)
}

pub(super) fn cases() -> Vec<Case> {
    [states(), locks(), masks(), entries(), backups(), suppression()].concat()
}

fn states() -> Vec<Case> {
    let (a, b, c) = (station(1), station(2), station(3));
    let mut cases = vec![];
    // A kernel without spanning tree makes a blocking port forward at once.
    for state in ["learning", "listening", "disabled"] {
        cases.extend([
            Case::new(&format!("a port that is {state} gets nothing that is flooded"))
                .statement(6)
                .port(1, "state", state)
                .send(2, frame(MacAddr::BROADCAST, b))
                .send(2, frame(group(1), b))
                .send(2, frame(c, b)),
            Case::new(&format!("a port that is {state} forgets nothing, and forwards when it may"))
                .statement(6)
                .statement(18)
                .send(1, frame(b, a))
                .set_port(1, "state", state)
                .send(2, frame(a, b))
                .send(1, frame(b, a))
                .set_port(1, "state", "forwarding")
                .send(2, frame(a, b)),
            Case::new(&format!("a station that moves to a port that is {state}"))
                .statement(11)
                .statement(6)
                .port(2, "state", state)
                .send(1, frame(b, a))
                .send(2, frame(b, a))
                .send(3, frame(a, c)),
            Case::new(&format!("a reserved frame at a port that is {state}"))
                .statement(5)
                .statement(6)
                .port(1, "state", state)
                .send(1, frame(reserved(0x0e), a))
                .send(1, frame(reserved(0), b))
                .send(2, frame(a, c)),
        ]);
    }
    cases
}

fn locks() -> Vec<Case> {
    let (a, b, c) = (station(1), station(2), station(3));
    let locked = |name: &str| Case::new(name).statement(8).port(1, "locked", true);
    let mab = |name: &str| locked(name).port(1, "mab", true);
    vec![
        Case::new("who was known before the lock passes it")
            .statement(8)
            .send(1, frame(b, a))
            .set_port(1, "locked", true)
            .send(1, frame(b, a))
            .send(1, frame(a, b)),
        locked("a locked port drops broadcast and multicast from a stranger too")
            .send(1, frame(MacAddr::BROADCAST, a))
            .send(1, frame(group(1), a)),
        locked("a port that is no longer locked takes strangers")
            .send(1, frame(b, a))
            .set_port(1, "locked", false)
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        locked("a locked port takes a source of a control plane")
            .fdb(a, At::Port(1), Kind::External)
            .send(1, frame(b, a)),
        locked("a locked port takes a source that is sticky there")
            .fdb(a, At::Port(1), Kind::Sticky)
            .send(1, frame(b, a)),
        locked("a locked port drops a source with a static entry elsewhere, which stays")
            .fdb(a, At::Port(2), Kind::Static)
            .send(1, frame(b, a))
            .send(3, frame(a, c)),
        locked("who was let in may leave for another port, and not come back")
            .fdb(a, At::Port(1), Kind::Static)
            .send(1, frame(b, a))
            .send(2, frame(b, a))
            .send(1, frame(b, a)),
        locked("who was let in and is taken out is a stranger")
            .fdb(a, At::Port(1), Kind::Static)
            .send(1, frame(b, a))
            .fdb_delete(a)
            .send(1, frame(b, a)),
        locked("a lock does not ask whether the port learns")
            .port(1, "learning", false)
            .send(1, frame(b, a))
            .fdb(a, At::Port(1), Kind::Static)
            .send(1, frame(b, a)),
        locked("with no_linklocal_learn a reserved frame opens no lock")
            .statement(5)
            .bridge("no_linklocal_learn", true)
            .send(1, frame(reserved(0x0e), a))
            .send(1, frame(b, a)),
        locked("without no_linklocal_learn a reserved frame opens the lock")
            .statement(5)
            .send(1, frame(reserved(0x0e), a))
            .send(1, frame(b, a)),
        locked("a reserved frame that is forwarded is asked for its source")
            .statement(4)
            .port(1, "group_fwd_mask", 0x4000)
            .send(1, frame(reserved(0x0e), a))
            .send(1, frame(b, a)),
        locked("a locked port with hairpin")
            .port(1, "hairpin", true)
            .fdb(a, At::Port(1), Kind::Static)
            .send(1, frame(MacAddr::BROADCAST, a))
            .send(1, frame(MacAddr::BROADCAST, b)),
        mab("a locked entry is let in by a user")
            .send(1, frame(b, a))
            .fdb(a, At::Port(1), Kind::Static)
            .send(1, frame(b, a)),
        mab("a locked entry that is flushed comes back with the next frame")
            .send(1, frame(b, a))
            .flush(Some(1))
            .send(2, frame(a, b))
            .send(1, frame(b, a)),
        mab("a locked entry that is removed comes back with the next frame")
            .send(1, frame(b, a))
            .fdb_delete(a)
            .send(1, frame(b, a)),
        mab("two strangers have two locked entries").send(1, frame(b, a)).send(1, frame(b, c)).send(2, frame(c, b)),
        mab("with mab a source that is known elsewhere stays there")
            .send(2, frame(b, a))
            .send(1, frame(b, a))
            .send(3, frame(a, c)),
        mab("a locked entry goes with its port").statement(16).send(1, frame(b, a)).link(1, false).link(1, true),
        mab("with mab a reserved frame").statement(5).send(1, frame(reserved(0x0e), a)).send(1, frame(b, a)),
    ]
}

fn masks() -> Vec<Case> {
    let (a, b) = (station(1), station(2));
    let mut cases = vec![];
    for bit in [0_u8, 2, 3, 0x0b, 0x0d, 0x0f] {
        cases.push(
            Case::new(&format!("a port's group_fwd_mask opens group {bit:02X} alone, and there alone"))
                .statement(4)
                .port(1, "group_fwd_mask", 1_i64 << bit)
                .send(1, frame(reserved(bit), a))
                .send(2, frame(reserved(bit), b))
                .send(1, frame(reserved(bit ^ 4), a)),
        );
    }
    cases.extend([
        Case::new("masks of bridge and port add up")
            .statement(4)
            .bridge("group_fwd_mask", 0x4000)
            .port(1, "group_fwd_mask", 0x0008)
            .send(1, frame(reserved(3), a))
            .send(1, frame(reserved(0x0e), a))
            .send(2, frame(reserved(3), b)),
        Case::new("a pause frame does not pass with a port's mask either")
            .statement(3)
            .port(1, "group_fwd_mask", 0xfffd)
            .send(1, frame(reserved(1), a)),
        Case::new("no_linklocal_learn says nothing about what is forwarded")
            .statement(5)
            .bridge("no_linklocal_learn", true)
            .port(1, "group_fwd_mask", 0x4000)
            .send(1, frame(reserved(0x0e), a))
            .send(1, frame(reserved(0), b)),
        Case::new("with no_linklocal_learn a reserved frame moves nobody")
            .statement(5)
            .bridge("no_linklocal_learn", true)
            .send(1, frame(b, a))
            .send(2, frame(reserved(0x0e), a)),
        Case::new("no_linklocal_learn turns while frames come")
            .statement(5)
            .send(1, frame(reserved(0x0e), a))
            .set_bridge("no_linklocal_learn", true)
            .send(2, frame(reserved(0x0e), b))
            .set_bridge("no_linklocal_learn", false)
            .send(2, frame(reserved(0x0e), b)),
    ]);
    cases
}

fn entries() -> Vec<Case> {
    let (a, b, c) = (station(1), station(2), station(3));
    let mut cases = vec![];
    // A control plane's that a user replaces stays a control plane's in the kernel; in weft it is taken out and added anew.
    for kind in [Kind::Static, Kind::Sticky] {
        cases.push(
            Case::new(&format!("a {kind} entry becomes a static one elsewhere"))
                .statement(15)
                .fdb(a, At::Port(1), kind)
                .fdb(a, At::Port(3), Kind::Static)
                .send(2, frame(a, b)),
        );
    }
    for kind in [Kind::Static, Kind::Sticky, Kind::External] {
        cases.extend([
            Case::new(&format!("a {kind} entry whose station is seen elsewhere"))
                .statement(11)
                .fdb(a, At::Port(1), kind)
                .send(2, frame(b, a))
                .send(3, frame(a, c))
                .send(1, frame(b, a)),
            Case::new(&format!("a {kind} entry whose station is seen elsewhere, and then flushed"))
                .statement(11)
                .fdb(a, At::Port(1), kind)
                .send(2, frame(b, a))
                .flush(None),
            Case::new(&format!("a {kind} entry when its port goes down and up"))
                .statement(16)
                .fdb(a, At::Port(1), kind)
                .link(1, false)
                .send(2, frame(a, b))
                .link(1, true)
                .send(2, frame(a, b)),
            Case::new(&format!("a learned entry becomes a {kind} one"))
                .statement(15)
                .send(1, frame(b, a))
                .fdb(a, At::Port(1), kind)
                .send(2, frame(b, a))
                .flush(None),
            Case::new(&format!("a {kind} entry and a port that does not learn"))
                .statement(9)
                .port(2, "learning", false)
                .fdb(a, At::Port(1), kind)
                .send(2, frame(b, a)),
        ]);
    }
    cases
}

fn backups() -> Vec<Case> {
    let (a, b) = (station(1), station(2));
    let backed = |name: &str| Case::new(name).statement(23).port(1, "backup_port", 3).fdb(a, At::Port(1), Kind::Static);
    vec![
        backed("a backup port that is down, too").link(1, false).link(3, false).send(2, frame(a, b)),
        backed("a backup port that the frame came from").link(1, false).send(3, frame(a, b)),
        backed("a backup port with hairpin that the frame came from")
            .port(3, "hairpin", true)
            .link(1, false)
            .send(3, frame(a, b)),
        backed("a backup port that is isolated like the sender's")
            .shows(23)
            .port(2, "isolated", true)
            .port(3, "isolated", true)
            .link(1, false)
            .send(2, frame(a, b)),
        backed("a backup port that does not forward").port(3, "state", "listening").link(1, false).send(2, frame(a, b)),
        backed("a backup port gets no more of what is flooded than it would")
            .link(1, false)
            .send(2, frame(MacAddr::BROADCAST, b))
            .send(2, frame(station(9), b)),
        backed("the port is back, and its backup is not needed").link(1, false).link(1, true).send(2, frame(a, b)),
        backed("a port that has a backup no more").set_port(1, "backup_port", 0).link(1, false).send(2, frame(a, b)),
        backed("a backup is not for a port that only does not forward")
            .port(1, "state", "listening")
            .send(2, frame(a, b)),
        Case::new("what was learned at a port with a backup")
            .statement(16)
            .statement(23)
            .port(1, "backup_port", 3)
            .send(1, frame(b, a))
            .link(1, false)
            .send(2, frame(a, b))
            .link(1, true)
            .send(2, frame(a, b)),
    ]
}

fn suppression() -> Vec<Case> {
    let (a, b, c) = (station(1), station(2), station(3));
    let spared = |name: &str| {
        Case::new(name).statement(32).port(2, "neigh_suppress", true).neighbour(TO, b).send(2, frame(c, b))
    };
    vec![
        spared("who asks behind the port that is spared is not answered").send(2, arp_request(b, TO, FROM)),
        spared("a question for oneself").send(2, arp_request(b, TO, TO)),
        spared("a probe, with no sender's address").changed("probe").send(1, arp_request(a, NOBODY, TO)),
        spared("a probe for an address that nobody is known to have")
            .changed("probe")
            .send(1, arp_request(a, NOBODY, Ipv4Addr::new(10, 0, 0, 7))),
        spared("an answer that nobody asked for").send(1, arp(2, (a, FROM), (MacAddr::BROADCAST, FROM))),
        spared("an answer to somebody").send(1, arp(2, (a, FROM), (b, TO))),
        spared("a reverse question").send(1, arp(3, (a, FROM), (b, TO))),
        spared("a question that is cut off").send(1, arp_request(a, FROM, TO)[..40].to_vec()),
        spared("a question at a port that is learning is heard and not answered")
            .shows(7)
            .port(1, "state", "learning")
            .send(1, arp_request(a, FROM, TO))
            .send(2, frame(a, b)),
        spared("a question from a stranger at a locked port is not answered")
            .shows(7)
            .port(1, "locked", true)
            .send(1, arp_request(a, FROM, TO)),
        spared("a question in a tag").ruling("tagged_question").send(1, tagged(&arp_request(a, FROM, TO), DOT1Q, 5)),
        spared("a question that is no broadcast").changed("unicast_question").send(1, {
            let mut asked = arp_request(a, FROM, TO);
            asked[..6].copy_from_slice(&b.octets());
            asked
        }),
        spared("a question from a second port that is spared")
            .port(1, "neigh_suppress", true)
            .send(1, arp_request(a, FROM, TO)),
        spared("a station that has moved to a port that is not spared")
            .send(3, frame(c, b))
            .send(1, arp_request(a, FROM, TO)),
        spared("suppression turns while questions come")
            .set_port(2, "neigh_suppress", false)
            .send(1, arp_request(a, FROM, TO))
            .set_port(2, "neigh_suppress", true)
            .send(1, arp_request(a, FROM, TO)),
        Case::new("a neighbour whose station nobody has seen")
            .statement(32)
            .port(2, "neigh_suppress", true)
            .neighbour(TO, b)
            .send(1, arp_request(a, FROM, TO)),
        Case::new("a neighbour behind the port that asks")
            .statement(32)
            .port(2, "neigh_suppress", true)
            .neighbour(TO, b)
            .send(1, frame(c, b))
            .send(1, arp_request(a, FROM, TO)),
        Case::new("who asks at a proxy_arp port is answered")
            .statement(21)
            .statement(32)
            .port(1, "proxy_arp", true)
            .neighbour(TO, b)
            .send(2, frame(c, b))
            .send(1, arp_request(a, FROM, TO)),
        Case::new("who asks at a proxy_arp port for somebody unknown")
            .statement(21)
            .statement(32)
            .port(1, "proxy_arp", true)
            .send(2, frame(c, b))
            .send(1, arp_request(a, FROM, TO)),
        Case::new("who asks for somebody at a proxy_arp_wifi port is answered")
            .statement(21)
            .statement(32)
            .port(2, "proxy_arp_wifi", true)
            .neighbour(TO, b)
            .send(2, frame(c, b))
            .send(1, arp_request(a, FROM, TO))
            .send(1, frame(MacAddr::BROADCAST, a)),
        Case::new("who asks for somebody unknown beside a proxy_arp_wifi port")
            .shows(21)
            .statement(32)
            .port(2, "proxy_arp_wifi", true)
            .send(1, arp_request(a, FROM, TO)),
    ]
}
