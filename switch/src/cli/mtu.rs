//! `weft show mtu`: sums that can be read from top to bottom.

use std::fmt::Write;

use super::tables::{Column, table};
use crate::control::api::mtu::{MtuBudget, MtuState, PortMtu, UnderlayMtu, VtepMtu};

/// The whole text.
pub(super) fn text(state: &MtuState) -> String {
    let mut parts = Vec::new();
    match &state.underlay {
        Some(underlay) => parts.push(of_underlay(underlay)),
        None => parts.push("no underlay: frames meet no VTEP".to_owned()),
    }
    parts.extend(state.vteps.iter().map(of_vtep));
    parts.push(of_ports(&state.ports));
    parts.join("\n\n")
}

fn of_underlay(underlay: &UnderlayMtu) -> String {
    let UnderlayMtu { address, interface, mtu, policy, .. } = underlay;
    let mut text = format!("underlay {address} on {interface}, MTU {mtu}; path_mtu = \"{policy}\"");
    if let Some(note) = &underlay.note {
        _ = write!(text, "\n  {note}");
    }
    if underlay.errors_foreign > 0 {
        _ = write!(text, "\n  {} ICMP errors quote nothing that was sent to a VTEP", underlay.errors_foreign);
    }
    text
}

fn of_vtep(vtep: &VtepMtu) -> String {
    let mut lines = vec![format!("VTEP {} port {}", vtep.address, vtep.port)];
    let state = vtep.state.replace('_', " ");
    lines.push(format!("  {state} for {}: {}", time(vtep.age_s), vtep.reason));
    lines.push(format!("  {}", answers(vtep)));
    let under = vtep.link_mtu - vtep.path_mtu.min(vtep.link_mtu);
    lines.push(sum_line("link MTU", vtep.link_mtu.into(), ""));
    if under > 0 {
        lines.push(sum_line("what a later link lacks", -i32::from(under), ""));
    }
    lines.push(sum_line("path MTU", vtep.path_mtu.into(), ""));
    for budget in &vtep.budgets {
        lines.extend(of_budget(budget, vtep.budgets.len() > 1));
    }
    let VtepMtu { probes_sent, probes_answered, errors_accepted, errors_doubted, errors_impossible, .. } = vtep;
    lines.push(format!(
        "  probes: {probes_sent} sent, {probes_answered} answered; ICMP errors: {errors_accepted} accepted, \
         {errors_doubted} doubted, {errors_impossible} impossible, {} foreign, {} unreachable",
        vtep.errors_foreign, vtep.unreachable
    ));
    lines.join("\n")
}

/// Who answers, how fast, and when last.
fn answers(vtep: &VtepMtu) -> String {
    let who = match vtep.method.as_deref() {
        Some("in_band") => "the VTEP answers in band (it is a weft)".to_owned(),
        Some("echo") => "the VTEP's host answers to ICMP echo".to_owned(),
        Some("station") => {
            let stations: Vec<_> = vtep.stations.iter().map(ToString::to_string).collect();
            format!("stations behind it answer: {}", stations.join(", "))
        }
        Some(other) => format!("answered by {other}"),
        None => "nobody has answered a probe".to_owned(),
    };
    let mut text = who;
    if let Some(us) = vtep.round_trip_us {
        _ = write!(text, ", round trip {}.{:03} ms", us / 1000, us % 1000);
    }
    if let Some(seconds) = vtep.confirmed_s {
        _ = write!(text, ", this size {} ago", time(seconds));
    }
    if let Some(seconds) = vtep.unanswered_s {
        _ = write!(text, ", no answer for {}", time(seconds));
    }
    text
}

fn of_budget(budget: &MtuBudget, is_one_of_many: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if is_one_of_many {
        lines.push(format!("  bridge {} ({})", budget.bridges.join(", "), budget.encapsulation));
    }
    lines.extend(budget.headers.iter().map(|header| sum_line(&header.name, -i32::from(header.bytes), "")));
    match budget.inner_mtu {
        Some(inner) => {
            let tagged = budget.inner_mtu_tagged.map(|tagged| format!("   ({tagged} behind an 802.1Q tag)"));
            lines.push(sum_line("inner packet", inner.into(), &tagged.unwrap_or_default()));
        }
        None => lines.push("  nothing remains for an inner packet".to_owned()),
    }
    lines
}

fn sum_line(what: &str, bytes: i32, behind: &str) -> String {
    format!("    {what:<24}{bytes:>6}{behind}")
}

fn of_ports(ports: &[PortMtu]) -> String {
    let rows = ports.iter().map(|port| {
        let mtu = port.mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string());
        vec![port.port.clone(), mtu, port.why.clone()]
    });
    table(&[Column::Left("PORT"), Column::Right("MTU"), Column::Left("WHY")], rows.collect(), "no ports")
}

/// A time as people say it.
fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::mtu::MtuHeader;

    fn vtep() -> VtepMtu {
        let header = |name: &str, bytes| MtuHeader { name: name.to_owned(), bytes };
        VtepMtu {
            address: "192.0.2.2".parse().unwrap(),
            port: 4789,
            link_mtu: 1500,
            path_mtu: 1400,
            state: "black_hole".to_owned(),
            reason: "packets of 1401 bytes and more vanish, and no router says so".to_owned(),
            age_s: 130,
            vanishing_from: Some(1401),
            method: Some("in_band".to_owned()),
            stations: vec![],
            round_trip_us: Some(412),
            confirmed_s: Some(3),
            unanswered_s: None,
            in_use: true,
            budgets: vec![MtuBudget {
                bridges: vec!["blue".to_owned()],
                encapsulation: "vxlan".to_owned(),
                headers: vec![
                    header("outer IPv4", 20),
                    header("outer UDP", 8),
                    header("VXLAN", 8),
                    header("inner Ethernet", 14),
                ],
                inner_mtu: Some(1350),
                inner_mtu_tagged: Some(1346),
            }],
            probes_sent: 31,
            probes_answered: 12,
            errors_accepted: 0,
            errors_doubted: 0,
            errors_impossible: 2,
            errors_foreign: 1,
            unreachable: 0,
        }
    }

    #[test]
    fn the_sum_can_be_checked_by_hand() {
        let underlay = UnderlayMtu {
            address: "192.0.2.1".parse().unwrap(),
            interface: "under0".to_owned(),
            mtu: 1500,
            policy: "measure".to_owned(),
            ageing_s: 600,
            note: None,
            errors_foreign: 0,
        };
        let port = PortMtu {
            port: "left/eth0".to_owned(),
            mtu: Some(1450),
            configured: None,
            default: 1450,
            smallest_path: Some(1350),
            why: "what fits the underlay's interface".to_owned(),
        };
        let state = MtuState { underlay: Some(underlay), vteps: vec![vtep()], ports: vec![port] };
        let expected = "\
underlay 192.0.2.1 on under0, MTU 1500; path_mtu = \"measure\"

VTEP 192.0.2.2 port 4789
  black hole for 2 min: packets of 1401 bytes and more vanish, and no router says so
  the VTEP answers in band (it is a weft), round trip 0.412 ms, this size 3 s ago
    link MTU                  1500
    what a later link lacks   -100
    path MTU                  1400
    outer IPv4                 -20
    outer UDP                   -8
    VXLAN                       -8
    inner Ethernet             -14
    inner packet              1350   (1346 behind an 802.1Q tag)
  probes: 31 sent, 12 answered; ICMP errors: 0 accepted, 0 doubted, 2 impossible, 1 foreign, 0 unreachable

PORT        MTU  WHY
left/eth0  1450  what fits the underlay's interface";
        assert_eq!(text(&state), expected);
    }

    #[test]
    fn a_switch_without_an_underlay_says_so() {
        let state = MtuState { underlay: None, vteps: vec![], ports: vec![] };
        assert_eq!(text(&state), "no underlay: frames meet no VTEP\n\nno ports");
    }

    #[test]
    fn each_encapsulation_has_its_own_sum() {
        let mut vtep = vtep();
        let mut other = vtep.budgets[0].clone();
        other.bridges = vec!["green".to_owned(), "red".to_owned()];
        other.encapsulation = "geneve".to_owned();
        other.inner_mtu = None;
        vtep.budgets.push(other);
        let text = of_vtep(&vtep);
        assert!(text.contains("  bridge blue (vxlan)\n") && text.contains("  bridge green, red (geneve)\n"), "{text}");
        assert!(text.contains("nothing remains for an inner packet"), "{text}");
    }

    #[test]
    fn stations_and_silence_are_named() {
        let mut vtep = vtep();
        vtep.method = Some("station".to_owned());
        vtep.stations = vec!["10.0.0.2".parse().unwrap()];
        assert!(answers(&vtep).starts_with("stations behind it answer: 10.0.0.2, round trip"));
        (vtep.method, vtep.round_trip_us, vtep.confirmed_s, vtep.unanswered_s) = (None, None, None, Some(12));
        assert_eq!(answers(&vtep), "nobody has answered a probe, no answer for 12 s");
    }
}
