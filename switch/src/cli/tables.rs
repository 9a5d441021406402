//! Tables for people: plain, aligned, numbers to the right, a hundred columns where the data allows. JSON is for programs.

use std::{collections::BTreeMap, net::SocketAddr};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::Value;

use crate::control::api::model::{
    BridgeState, Direction, DropCount, FdbEntry, FdbOrigin, How, Ledger, LedgerRow, LinkState, NeighEntry, PortState,
    VtepState,
};

/// Columns of a terminal that tables are made for.
const WIDTH: u16 = 100;

/// A column: its title, and to which side it hangs.
pub(super) enum Column {
    Left(&'static str),
    Right(&'static str),
}

use Column::{Left, Right};

/// A table with these columns; `nothing` instead of a table without rows.
pub(super) fn table(columns: &[Column], rows: Vec<Vec<String>>, nothing: &str) -> String {
    if rows.is_empty() {
        return nothing.to_owned();
    }
    let mut table = plain(columns);
    table.add_rows(rows);
    table.trim_fmt()
}

fn plain(columns: &[Column]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.iter().map(|column| match column {
        Left(title) => Cell::new(title),
        Right(title) => Cell::new(title).set_alignment(CellAlignment::Right),
    }));
    for (column, kind) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if let Right(_) = kind {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `weft show bridges`
pub(super) fn bridges(bridges: &[BridgeState]) -> String {
    let columns = [
        Left("BRIDGE"),
        Right("VNI"),
        Left("ENCAPSULATION"),
        Right("LEARNED"),
        Right("LIMIT"),
        Right("AGEING"),
        Left("PORTS"),
        Left("REMOTES"),
    ];
    let rows = bridges.iter().map(|bridge| {
        let ageing =
            if bridge.learning && bridge.ageing_s > 0 { format!("{} s", bridge.ageing_s) } else { "off".into() };
        vec![
            bridge.name.clone(),
            or_dash(bridge.vni),
            or_dash(bridge.encapsulation.as_deref()),
            bridge.learned.to_string(),
            or_dash(bridge.limit),
            ageing,
            lines(bridge.ports.iter().cloned()),
            lines(bridge.remotes.iter().map(SocketAddr::to_string)),
        ]
    });
    table(&columns, rows.collect(), "no bridges")
}

/// `weft show ports`
pub(super) fn ports(ports: &[PortState]) -> String {
    let columns = [
        Left("PORT"),
        Left("KIND"),
        Left("STATE"),
        Left("BRIDGE"),
        Right("MTU"),
        Left("MAC"),
        Right("INDEX"),
        Right("QUEUES"),
        Left("OFFLOADS"),
    ];
    let rows = ports.iter().map(|port| {
        let state = match port.state {
            LinkState::Up => "up",
            LinkState::Down => "down",
            LinkState::Gone => "gone",
        };
        vec![
            port.name.clone(),
            port.kind.clone(),
            state.to_owned(),
            membership(port),
            or_dash(port.mtu),
            or_dash(port.mac),
            or_dash(port.ifindex),
            port.queues.to_string(),
            offloads(&port.offloads),
        ]
    });
    let mut text = table(&columns, rows.collect(), "no ports");
    for port in ports.iter().filter(|port| !port.options.is_empty()) {
        text.push_str(&format!("\n{}: {}", port.name, options(&port.options).join(", ")));
    }
    text
}

/// What is not the default: `isolated`, `no learning`, `state blocking`.
pub(super) fn options(options: &BTreeMap<String, Value>) -> Vec<String> {
    let words = options.iter().map(|(key, value)| match value {
        Value::Bool(true) => key.clone(),
        Value::Bool(false) => format!("no {key}"),
        Value::String(word) => format!("{key} {word}"),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => format!("{key} {value}"),
    });
    words.collect()
}

/// Both halves of TCP segmentation are one word here.
fn offloads(names: &[String]) -> String {
    let has = |name: &str| names.iter().any(|other| other == name);
    let both = has("tso4") && has("tso6");
    let names = names.iter().filter(|name| !both || *name != "tso6");
    lines(names.map(|name| if both && name == "tso4" { "tso".to_owned() } else { name.clone() }))
}

fn membership(port: &PortState) -> String {
    let tagged = port.trunk.iter().flatten().map(|(vlan, bridge)| format!("{vlan}={bridge}"));
    let native = port.native.iter().map(|bridge| format!("native={bridge}"));
    lines(port.bridge.clone().into_iter().chain(tagged).chain(native))
}

/// `weft show fdb`
pub(super) fn fdb(entries: &[FdbEntry]) -> String {
    let columns = [Left("BRIDGE"), Left("MAC"), Left("BEHIND"), Left("ORIGIN"), Right("AGE")];
    let rows = entries.iter().map(|entry| {
        let behind = match (&entry.port, entry.vtep) {
            (Some(port), _) => format!("port {port}"),
            (None, Some(vtep)) => format!("vtep {vtep}"),
            (None, None) => "-".to_owned(),
        };
        let origin = match entry.origin {
            FdbOrigin::Learned => "learned",
            FdbOrigin::Static => "static",
            FdbOrigin::Sticky => "sticky",
            FdbOrigin::ExternLearn => "extern_learn",
            FdbOrigin::Permanent => "permanent",
        };
        let origin = if entry.locked { format!("{origin}, locked") } else { origin.to_owned() };
        let age = entry.age_s.map(|age| format!("{age} s"));
        vec![entry.bridge.clone(), entry.mac.to_string(), behind, origin, or_dash(age)]
    });
    table(&columns, rows.collect(), "no entries")
}

/// `weft show neigh`
pub(super) fn neigh(entries: &[NeighEntry]) -> String {
    let columns = [Left("BRIDGE"), Left("IP"), Left("MAC"), Left("ROUTER")];
    let rows = entries.iter().map(|NeighEntry { bridge, ip, mac, router }| {
        let router = if *router { "yes" } else { "no" };
        vec![bridge.clone(), ip.to_string(), mac.to_string(), router.to_owned()]
    });
    table(&columns, rows.collect(), "no neighbours")
}

/// `weft show vteps`
pub(super) fn vteps(vteps: &[VtepState]) -> String {
    let columns = [
        Left("VTEP"),
        Right("PORT"),
        Left("ENCAPSULATION"),
        Left("KNOWN BY"),
        Right("FRAMES OF"),
        Right("BYTES OF"),
        Right("FRAMES TO"),
        Right("BYTES TO"),
        Left("PATH MTU"),
    ];
    let rows = vteps.iter().map(|vtep| {
        let known_by = vtep.known_by.iter().map(|known| {
            let how = match known.how {
                How::Flood => "flood",
                How::Static => "static",
                How::Learned => "learned",
            };
            format!("{}:{how}", known.bridge)
        });
        vec![
            vtep.address.to_string(),
            vtep.port.to_string(),
            lines(vtep.encapsulations.iter().cloned()),
            lines(known_by),
            vtep.rx_frames.to_string(),
            bytes(vtep.rx_bytes),
            vtep.tx_frames.to_string(),
            bytes(vtep.tx_bytes),
            path_mtu(vtep),
        ]
    });
    table(&columns, rows.collect(), "no VTEPs")
}

fn path_mtu(vtep: &VtepState) -> String {
    match (vtep.path_mtu, vtep.path_mtu_state.as_deref()) {
        (Some(mtu), Some(state)) => format!("{mtu}\n{}", state.replace('_', " ")),
        (Some(mtu), None) => mtu.to_string(),
        (None, _) => "-".to_owned(),
    }
}

/// `weft show drops`, most frames first.
pub(super) fn drops(drops: &[DropCount]) -> String {
    if drops.is_empty() {
        return "no drops".to_owned();
    }
    let mut sorted: Vec<_> = drops.iter().collect();
    sorted.sort_by_key(|drop| std::cmp::Reverse(drop.frames));
    let mut table = plain(&[Right("FRAMES"), Left("WHERE"), Left("WAY"), Left("REASON"), Left("WHICH MEANS")]);
    for drop in sorted {
        let way = match drop.direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        table.add_row(vec![
            drop.frames.to_string(),
            place(drop.kind.name(), &drop.name),
            way.to_owned(),
            drop.reason.clone(),
            drop.explanation.clone(),
        ]);
    }
    // sentences are wrapped, so that the lines stay within a terminal; nothing else is
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for column in table.column_iter_mut().take(4) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    if let Some(column) = table.column_mut(4) {
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(30)));
    }
    table.trim_fmt()
}

/// `weft show ledger`: the rows, what the kernel lost before weft saw it, and the equation with its numbers.
pub(super) fn ledger(ledger: &Ledger) -> String {
    let columns = [
        Left("WHERE"),
        Right("IN"),
        Right("BYTES"),
        Right("COPIES"),
        Right("OUT"),
        Right("BYTES"),
        Right("DROPS IN"),
        Right("DROPS OUT"),
        Right("LOST BEFORE"),
    ];
    let rows = ledger.rows.iter().map(|row| {
        vec![
            place(row.kind.name(), &row.name),
            row.in_frames.to_string(),
            bytes(row.in_bytes),
            row.copies.to_string(),
            row.out_frames.to_string(),
            bytes(row.out_bytes),
            row.drops_in.values().sum::<u64>().to_string(),
            row.drops_out.values().sum::<u64>().to_string(),
            or_dash(lost_before(row)),
        ]
    });
    let mut text = table(&columns, rows.collect(), "no ports");
    for row in &ledger.rows {
        let errors = [("receive buffer full", row.rcvbuf_errors), ("wrong UDP checksum", row.checksum_errors)];
        for (what, count) in errors.into_iter().filter_map(|(what, count)| Some((what, count.filter(|&n| n > 0)?))) {
            text.push_str(&format!("\n{}: {count} lost by the kernel, {what}", place(row.kind.name(), &row.name)));
        }
    }
    for row in &ledger.rows {
        if let (Some(refusals @ 1..), Some(off)) = (row.gso_refusals, row.gso_off_sockets) {
            let (runs, sockets) = (count(refusals, "run"), count(off, "socket"));
            let place = place(row.kind.name(), &row.name);
            text.push_str(&format!(
                "\n{place}: {runs} refused by the kernel (GSO) and sent one by one; now off for {sockets}"
            ));
        }
    }
    let totals = &ledger.totals;
    text.push_str(&format!(
        "\n\nin {} + copies {} = out {} + drops {}  {}",
        totals.in_frames,
        totals.copies,
        totals.out_frames,
        totals.drops,
        if totals.balanced { "balanced" } else { "NOT BALANCED" }
    ));
    text
}

/// A number with the word for what it counts.
fn count(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// What the kernel lost at a place, all causes together.
fn lost_before(row: &LedgerRow) -> Option<u64> {
    [row.kernel_drops, row.rcvbuf_errors, row.checksum_errors].into_iter().flatten().reduce(u64::saturating_add)
}

fn place(kind: &str, name: &str) -> String {
    if kind == name || name.is_empty() { kind.to_owned() } else { format!("{kind} {name}") }
}

pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Several values in one cell: beside each other if they are short, else below each other.
pub(super) fn lines(values: impl Iterator<Item = String>) -> String {
    let values: Vec<_> = values.collect();
    let len: usize = values.iter().map(|value| value.chars().count() + 1).sum();
    match values.len() {
        0 => "-".to_owned(),
        _ if len <= 24 => values.join(" "),
        _ => values.join("\n"),
    }
}

/// Bytes in the unit that keeps them short, rounded; the exact number is in the JSON.
fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (count.max(1).ilog2() / 10) as usize;
    if unit == 0 {
        return format!("{count} B");
    }
    let value = count as f64 / f64::from(1 << 10).powi(i32::try_from(unit).unwrap_or(0));
    format!("{value:.1} {}", units.get(unit).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::api::model::{KnownBy, Place, Totals},
        wire::MacAddr,
    };

    fn expect(shown: &str, expected: &str) {
        let expected = expected.trim_matches('\n');
        assert_eq!(shown, expected, "\n{shown}\n");
        assert!(shown.lines().all(|line| line.chars().count() <= usize::from(WIDTH)));
    }

    #[test]
    fn bridges_are_shown() {
        let blue = BridgeState {
            name: "blue".into(),
            vni: Some(42),
            encapsulation: Some("geneve".into()),
            ports: vec!["left/eth0".into(), "router/trunk0".into()],
            remotes: vec!["192.0.2.2:4789".parse().unwrap(), "192.0.2.3:8472".parse().unwrap()],
            learning: true,
            ageing_s: 300,
            learned: 17,
            limit: Some(65536),
            options: BTreeMap::new(),
        };
        let green = BridgeState {
            name: "green".into(),
            vni: None,
            encapsulation: None,
            ports: vec!["p".into(), "q".into()],
            remotes: vec![],
            learning: false,
            limit: None,
            ..blue.clone()
        };
        expect(
            &bridges(&[blue, green]),
            r"
BRIDGE  VNI  ENCAPSULATION  LEARNED  LIMIT  AGEING  PORTS                    REMOTES
blue     42  geneve              17  65536   300 s  left/eth0 router/trunk0  192.0.2.2:4789
                                                                             192.0.2.3:8472
green     -  -                   17      -     off  p q                      -",
        );
    }

    #[test]
    fn ports_are_shown() {
        let eth0 = PortState {
            name: "left/eth0".into(),
            kind: "tap".into(),
            bridge: Some("blue".into()),
            trunk: None,
            native: None,
            mtu: Some(1450),
            mac: Some(MacAddr::new([2, 0, 0, 0, 0, 10])),
            state: LinkState::Up,
            ifindex: Some(7),
            offloads: vec!["csum".into(), "tso4".into(), "tso6".into(), "uso".into()],
            queues: 2,
            options: BTreeMap::new(),
        };
        let trunk = PortState {
            name: "router/trunk0".into(),
            bridge: None,
            trunk: Some(BTreeMap::from([(10, "blue".into()), (20, "green".into())])),
            native: Some("blue".into()),
            mtu: None,
            mac: None,
            ifindex: None,
            state: LinkState::Gone,
            offloads: vec![],
            options: BTreeMap::from([("locked".into(), true.into()), ("flood".into(), false.into())]),
            ..eth0.clone()
        };
        expect(
            &ports(&[eth0, trunk]),
            r"
PORT           KIND  STATE  BRIDGE        MTU  MAC                INDEX  QUEUES  OFFLOADS
left/eth0      tap   up     blue         1450  02:00:00:00:00:0a      7       2  csum tso uso
router/trunk0  tap   gone   10=blue         -  -                      -       2  -
                            20=green
                            native=blue
router/trunk0: no flood, locked",
        );
    }

    #[test]
    fn entries_are_shown() {
        let learned = FdbEntry {
            bridge: "blue".into(),
            mac: MacAddr::new([2, 0, 0, 0, 0, 10]),
            port: Some("left/eth0".into()),
            vtep: None,
            origin: FdbOrigin::Learned,
            age_s: Some(12),
            locked: true,
        };
        let sticky = FdbEntry {
            port: None,
            vtep: Some("2001:db8::2".parse().unwrap()),
            origin: FdbOrigin::Sticky,
            age_s: None,
            locked: false,
            ..learned.clone()
        };
        expect(
            &fdb(&[learned, sticky]),
            r"
BRIDGE  MAC                BEHIND            ORIGIN            AGE
blue    02:00:00:00:00:0a  port left/eth0    learned, locked  12 s
blue    02:00:00:00:00:0a  vtep 2001:db8::2  sticky              -",
        );
        assert_eq!(fdb(&[]), "no entries");
    }

    #[test]
    fn vteps_are_shown() {
        let vtep = VtepState {
            address: "192.0.2.2".parse().unwrap(),
            port: 4789,
            encapsulations: vec!["vxlan".into(), "vxlan-gbp".into()],
            known_by: vec![
                KnownBy { bridge: "blue".into(), how: How::Flood },
                KnownBy { bridge: "green".into(), how: How::Learned },
            ],
            rx_frames: 123_456_789,
            rx_bytes: 123_456_789_012,
            tx_frames: 5,
            tx_bytes: 320,
            path_mtu: Some(1500),
            path_mtu_state: Some("measured".into()),
        };
        expect(
            &vteps(&[vtep]),
            r"
VTEP       PORT  ENCAPSULATION    KNOWN BY       FRAMES OF   BYTES OF  FRAMES TO  BYTES TO  PATH MTU
192.0.2.2  4789  vxlan vxlan-gbp  blue:flood     123456789  115.0 GiB          5     320 B  1500
                                  green:learned                                             measured",
        );
    }

    #[test]
    fn drops_are_shown_worst_first_and_within_the_terminal() {
        let unknown = DropCount {
            kind: Place::Underlay,
            name: "underlay".into(),
            direction: Direction::In,
            reason: "vtep_unknown".into(),
            explanation: "from a VTEP that nobody named, and `peers = \"known\"`".into(),
            frames: 3,
        };
        let port = DropCount {
            kind: Place::Port,
            name: "a-long-namespace/interface-name0".into(),
            direction: Direction::Out,
            reason: "local_destination".into(),
            explanation:
                "the destination is the interface of one of the bridge's own packet ports, whose kernel has its \
                          own copy"
                    .into(),
            frames: 1200,
        };
        expect(
            &drops(&[unknown, port]),
            r#"
FRAMES  WHERE                                  WAY  REASON             WHICH MEANS
  1200  port a-long-namespace/interface-name0  out  local_destination  the destination is the
                                                                       interface of one of the
                                                                       bridge's own packet ports,
                                                                       whose kernel has its own
                                                                       copy
     3  underlay                               in   vtep_unknown       from a VTEP that nobody
                                                                       named, and `peers = "known"`"#,
        );
    }

    #[test]
    fn the_ledger_ends_in_its_equation() {
        let port = LedgerRow {
            kind: Place::Port,
            name: "left/eth0".into(),
            in_frames: 1200,
            in_bytes: 1_800_000,
            copies: 40,
            out_frames: 30,
            out_bytes: 2000,
            drops_in: BTreeMap::from([("same_endpoint".into(), 6), ("malformed".into(), 4)]),
            drops_out: BTreeMap::new(),
            kernel_drops: Some(0),
            rcvbuf_errors: None,
            checksum_errors: None,
            gso_refusals: None,
            gso_off_sockets: None,
            gbp_policies: None,
        };
        let underlay = LedgerRow {
            kind: Place::Underlay,
            name: "underlay".into(),
            in_frames: 0,
            in_bytes: 0,
            copies: 0,
            out_frames: 1200,
            out_bytes: 1_800_000,
            drops_in: BTreeMap::new(),
            kernel_drops: None,
            rcvbuf_errors: Some(2),
            checksum_errors: Some(0),
            gso_refusals: Some(3),
            gso_off_sockets: Some(1),
            gbp_policies: None,
            ..port.clone()
        };
        let good = Ledger { totals: Totals::new(1200, 40, 1230, 10), rows: vec![port, underlay] };
        expect(
            &ledger(&good),
            r"
WHERE             IN    BYTES  COPIES   OUT    BYTES  DROPS IN  DROPS OUT  LOST BEFORE
port left/eth0  1200  1.7 MiB      40    30  2.0 KiB        10          0            0
underlay           0      0 B       0  1200  1.7 MiB         0          0            2
underlay: 2 lost by the kernel, receive buffer full
underlay: 3 runs refused by the kernel (GSO) and sent one by one; now off for 1 socket

in 1200 + copies 40 = out 1230 + drops 10  balanced",
        );
        let bad = Ledger { totals: Totals::new(1200, 40, 1230, 9), rows: vec![] };
        expect(&ledger(&bad), "no ports\n\nin 1200 + copies 40 = out 1230 + drops 9  NOT BALANCED");
    }

    #[test]
    fn bytes_stay_short() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (u64::MAX, "16.0 EiB")] {
            assert_eq!(bytes(count), text);
        }
    }
}
