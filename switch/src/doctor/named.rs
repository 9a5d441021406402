//! Each kind of fault is found somewhere: by a fault of a lab, which the tests of labs inject, or here, in recorded networks.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    Finding,
    runbook::{self, Focus},
    survey::{Survey, values::Protocol},
    walk::Errand,
};
use crate::lab::builtin::LABS;

/// Breaks a network, or asks more of it.
type Change = fn(&mut Survey, &mut Errand);

/// What no lab breaks, with what is changed in a healthy network for it.
const HERE: [(Finding, Change); 3] = [
    (Finding::AddressUnusable, |survey, _| {
        let one = place(survey, "one");
        survey.spaces[one].addresses.iter_mut().for_each(|address| address.dad_failed = true);
    }),
    (Finding::NeighbourFailed, |survey, _| {
        let one = place(survey, "one");
        let link =
            survey.spaces[one].addresses.iter().find(|address| !address.prefix.address.is_loopback()).unwrap().link;
        let failed = json!([{"link": link, "address": "10.10.0.2", "state": "failed"}]);
        survey.spaces[one].neighbours = serde_json::from_value(failed).unwrap();
        // What its cable leads to is out of sight.
        survey.spaces[one].ids.clear();
    }),
    (Finding::NotListening, |_, errand| {
        (errand.port, errand.listening) = (Some((Protocol::Tcp, 80)), true);
    }),
];

fn place(survey: &Survey, name: &str) -> usize {
    survey.spaces.iter().position(|space| space.is_called(name)).unwrap()
}

/// What is found on the way from one host of the lab `bridge` to another, once it was changed.
fn found(change: Change) -> BTreeSet<Finding> {
    let mut survey: Survey = serde_json::from_str(include_str!("walk/fixtures/bridge-healthy.json")).unwrap();
    let from = place(&survey, "one");
    let mut errand = Errand { from, to: [10, 10, 0, 2].into(), port: None, listening: false, len: None, whole: false };
    change(&mut survey, &mut errand);
    let focus = Focus { spaces: (0..survey.spaces.len()).collect(), errands: vec![errand], ..Focus::default() };
    let report = runbook::look(&survey, &focus);
    let of_steps = report.steps.iter().flat_map(|step| &step.troubles);
    of_steps.chain(&report.first_fault).map(|trouble| trouble.finding).collect()
}

#[test]
fn every_kind_of_fault_is_found_in_a_lab_or_here() {
    let mut left: BTreeSet<&str> = Finding::ALL.iter().map(|finding| finding.code()).collect();
    for fault in LABS.iter().flat_map(|lab| lab.topology().unwrap().faults) {
        assert!(fault.finding.parse::<Finding>().is_ok(), "{}: {}", fault.name, fault.finding);
        left.remove(fault.finding.as_str());
    }
    assert_eq!(found(|_, _| {}), BTreeSet::new(), "the network is healthy");
    for (finding, change) in HERE {
        assert!(left.remove(finding.code()), "{finding} is in a lab already");
        assert!(found(change).contains(&finding), "{finding}: {:?}", found(change));
    }
    assert!(left.is_empty(), "nobody names {left:?}");
}
