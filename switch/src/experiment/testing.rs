//! Records that nobody measured, for tests of what is made of them.

use super::{
    cell::{Cell, DfPolicy, Engine, Offload, Oversize, Tunnel, Underlay},
    observe::Amount,
    record::{Load, LoadRecord, Record},
};

pub(super) fn cell(inner_mtu: u16) -> Cell {
    Cell {
        engine: Engine::Weft,
        tunnel: Tunnel::VXLAN,
        underlay: Underlay::Ipv4,
        underlay_mtu: 1500,
        middle_mtu: 1500,
        inner_mtu,
        offload: Offload::On,
        df: DfPolicy::Set,
        oversize: Oversize::Fragment,
    }
}

/// A cell in which TCP had this throughput, UDP a tenth of it with a loss of a quarter, and requests a twentieth.
pub(super) fn record(inner_mtu: u16, mbit_per_s: f64) -> Record {
    of(cell(inner_mtu), mbit_per_s)
}

pub(super) fn of(cell: Cell, mbit_per_s: f64) -> Record {
    let loads = vec![
        load(Load::Tcp, mbit_per_s),
        LoadRecord {
            sent: Some(100),
            received: Some(75),
            drops: [("host1 underlay_mtu".to_owned(), 7)].into(),
            ..load(Load::Udp, mbit_per_s / 10.0)
        },
        LoadRecord { sent: Some(40), received: Some(40), ..load(Load::Request, mbit_per_s / 20.0) },
    ];
    Record { key: cell.key(), cell, failed: None, loads, took_s: 1.0 }
}

pub(super) fn failed_record() -> Record {
    let cell = cell(1500);
    Record { key: cell.key(), cell, failed: Some("no packet gets through".to_owned()), loads: Vec::new(), took_s: 20.0 }
}

fn load(load: Load, mbit_per_s: f64) -> LoadRecord {
    let payload_bytes = (mbit_per_s * 1e6 / 8.0) as u64;
    let wire = Amount { frames: payload_bytes / 1000, bytes: payload_bytes + payload_bytes / 10 };
    LoadRecord {
        load,
        seconds: 1.0,
        payload_bytes,
        mbit_per_s,
        wire,
        wire_back: Amount { frames: wire.frames / 2, bytes: wire.frames * 50 },
        efficiency: (wire.bytes > 0).then(|| payload_bytes as f64 / wire.bytes as f64),
        fragments: 0,
        icmp_underlay: 0,
        icmp_overlay: 0,
        icmp_other: 0,
        observer_missed: 0,
        retransmissions: 0,
        mss: None,
        sent: None,
        refused: None,
        received: None,
        reordered: None,
        p50_us: Some(100.0),
        p99_us: Some(300.0),
        drops: Default::default(),
        cables: Default::default(),
        switch_cpu_s: Some(0.5),
        machine_cpu_s: 1.0,
    }
}
