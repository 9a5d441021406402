//! Walks in surveys that were recorded in labs (`weft doctor --save`), and cut down to what they look at.

use std::net::Ipv4Addr;

use super::{End, Errand, follow};
use crate::{
    doctor::{
        map::{Page, draw},
        runbook::{self, Focus},
        survey::{Survey, values::Protocol},
    },
    fuzzing::{Script, change_json},
};

/// The survey, the namespace that it was taken around, whom a packet is for, and what ends it.
const RECORDED: [(&str, &str, [u8; 4], &str); 6] = [
    (include_str!("fixtures/bridge-healthy.json"), "one", [10, 10, 0, 2], "arrives"),
    (include_str!("fixtures/bridge-fdb-missing.json"), "one", [10, 10, 0, 2], "fdb-entry-missing at switch/port2"),
    (include_str!("fixtures/bridge-nat-healthy.json"), "web", [192, 0, 2, 2], "arrives"),
    (include_str!("fixtures/bridge-nat-nat-missing.json"), "web", [192, 0, 2, 2], "nat-missing at host/eth0"),
    (include_str!("fixtures/vxlan-healthy.json"), "a", [10, 10, 0, 2], "arrives"),
    (include_str!("fixtures/vxlan-vni-mismatch.json"), "a", [10, 10, 0, 2], "vni-mismatch at host1/vx0"),
];

fn errand(survey: &Survey, from: &str, to: [u8; 4]) -> Errand {
    let from = survey.spaces.iter().position(|space| space.is_called(from)).unwrap();
    Errand { from, to: to.into(), port: None, listening: false, len: None, whole: false }
}

fn end(survey: &Survey, errand: Errand) -> String {
    match follow(survey, errand).end {
        End::Arrived => "arrives".to_owned(),
        End::OutOfSight { place, .. } => format!("leaves sight at {place}"),
        End::Fault(trouble) => {
            assert!(!trouble.evidence.is_empty() && !trouble.text.is_empty(), "{trouble:?}");
            format!("{} at {}", trouble.finding, trouble.place)
        }
    }
}

/// A recorded survey with a few places changed: doctor comes to an end and says something, and the map is drawn.
#[test]
fn fuzz_survey() {
    let recorded = RECORDED.map(|(text, ..)| serde_json::from_str::<serde_json::Value>(text).unwrap());
    crate::fuzzing::inputs(move |input| {
        let mut script = Script::new(input);
        let mut value = recorded[usize::from(script.u8()) % recorded.len()].clone();
        let to = [[10, 10, 0, 2], [192, 0, 2, 2], [10, 10, 0, 1]].map(Ipv4Addr::from)[usize::from(script.u8()) % 3];
        let port = script.bool().then_some((Protocol::Tcp, 80));
        let len = script.bool().then_some(1500);
        while !script.is_empty() {
            change_json(&mut value, &mut script);
        }
        let Ok(survey) = serde_json::from_value::<Survey>(value) else { return };
        let text = serde_json::to_string(&survey).unwrap();
        assert_eq!(serde_json::from_str::<Survey>(&text).unwrap(), survey, "it is read as it was written");
        let spaces: Vec<_> = (0..survey.spaces.len()).collect();
        let errand = |from: &usize| Errand {
            from: *from,
            to: to.into(),
            port,
            listening: port.is_some(),
            len,
            whole: len.is_some(),
        };
        let mut errands: Vec<_> = spaces.iter().map(errand).collect();
        errands.extend(spaces.first().map(|first| runbook::gateways(&survey, *first)).unwrap_or_default());
        runbook::add_full_size(&survey, &mut errands);
        let moved = runbook::moved(&survey, &survey);
        let focus = Focus { title: "all".to_owned(), moved, spaces, errands, ..Focus::default() };
        let report = runbook::look(&survey, &focus);
        assert_eq!(report.ways.len(), focus.errands.len());
        let page = Page::of(&survey);
        assert!(!draw(&page).is_empty());
        page.text();
    });
}

#[test]
fn recorded_networks_are_judged_without_the_network() {
    for (text, from, to, expected) in RECORDED {
        let survey: Survey = serde_json::from_str(text).unwrap();
        assert_eq!(end(&survey, errand(&survey, from, to)), expected);
        let again: Survey = serde_json::from_str(&serde_json::to_string(&survey).unwrap()).unwrap();
        assert_eq!(survey, again, "a survey is read back as it was written");
    }
}

/// Whatever is taken out of a survey, its walk ends; and what is gone for the packet is a fault.
#[test]
fn a_network_with_something_missing_is_no_panic() {
    for (text, from, to, _) in RECORDED {
        let survey: Survey = serde_json::from_str(text).unwrap();
        let errand = errand(&survey, from, to);
        for space in 0..survey.spaces.len() {
            for link in 0..survey.spaces[space].links.len() {
                let mut changed = survey.clone();
                changed.spaces[space].links.remove(link);
                end(&changed, errand);
                let mut changed = survey.clone();
                changed.spaces[space].links[link].up = false;
                end(&changed, errand);
            }
            for route in 0..survey.spaces[space].routes.len() {
                let mut changed = survey.clone();
                changed.spaces[space].routes.remove(route);
                end(&changed, errand);
            }
            let mut changed = survey.clone();
            changed.spaces[space].addresses.clear();
            end(&changed, errand);
        }
    }
}

#[test]
fn a_vlan_that_a_port_does_not_carry_is_named() {
    let filtered = |vlans: &str| -> Survey {
        let mut survey: Survey = serde_json::from_str(RECORDED[0].0).unwrap();
        let switch = survey.spaces.iter_mut().find(|space| space.is_called("switch")).unwrap();
        let mut bridge = serde_json::to_value(&switch.links).unwrap();
        for link in bridge.as_array_mut().unwrap() {
            let vlan: serde_json::Value = serde_json::from_str(match link["name"].as_str() {
                Some("port2") => vlans,
                _ => r#"[{"id": 10, "pvid": true, "untagged": true}]"#,
            })
            .unwrap();
            if link["details"]["bridge"].is_object() {
                link["details"]["bridge"]["vlan_filtering"] = true.into();
            }
            if link["port"].is_object() {
                link["port"]["vlans"] = vlan;
            }
        }
        switch.links = serde_json::from_value(bridge).unwrap();
        survey
    };
    let way = |vlans| {
        let survey = filtered(vlans);
        end(&survey, errand(&survey, "one", [10, 10, 0, 2]))
    };
    assert_eq!(way(r#"[{"id": 10, "pvid": true, "untagged": true}]"#), "arrives");
    assert_eq!(way(r#"[{"id": 20, "pvid": true, "untagged": true}]"#), "vlan-mismatch at switch/port2");
    assert_eq!(way(r#"[{"id": 20}, {"id": 30}]"#), "vlan-missing at switch/port2");
}
