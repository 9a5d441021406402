//! The named cases.
//!
//! To add one, write it into the file of its group, in `cases()`. A name is a sentence that says what must be so; cite the
//! statement, the row or the RFC that says it:
//!
//! ```
//! use weft::compare::{case::Case, frame::{frame, station}};
//!
//! Case::new("an isolated port does not reach another isolated port")
//!     .statement(22)
//!     .port(1, "isolated", true)
//!     .port(2, "isolated", true)
//!     .send(2, frame(station(9), station(2)))  // unknown: flooded to ports 3 and 4
//!     .send(1, frame(station(2), station(1))); // known, and dropped
//! ```
//! Nothing says what comes out: the kernel does. A group of your own is a new file with its line in `GROUPS`.

mod flooding;
mod learning;
mod options;
mod ports;
mod reserved;
mod snooping;
mod tags;
mod vlan;
mod vxlan_options;
mod vxlan_receive;
mod vxlan_send;

use super::case::Case;

/// A part of the catalogue.
struct Group {
    name: &'static str,
    about: About,
    cases: fn() -> Vec<Case>,
}

/// Which command runs a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// `weft compare bridge`.
    Bridge,
    /// `weft compare vxlan`.
    Vxlan,
}

const fn group(name: &'static str, about: About, cases: fn() -> Vec<Case>) -> Group {
    Group { name, about, cases }
}

const GROUPS: &[Group] = &[
    group("reserved groups", About::Bridge, reserved::cases),
    group("learning", About::Bridge, learning::cases),
    group("flooding", About::Bridge, flooding::cases),
    group("ports", About::Bridge, ports::cases),
    group("options", About::Bridge, options::cases),
    group("snooping", About::Bridge, snooping::cases),
    group("vlan", About::Bridge, vlan::cases),
    group("tags", About::Bridge, tags::cases),
    group("vxlan receive", About::Vxlan, vxlan_receive::cases),
    group("vxlan send", About::Vxlan, vxlan_send::cases),
    group("vxlan vlan", About::Vxlan, vlan::tunnels),
    group("vxlan snooping", About::Vxlan, snooping::tunnels),
    group("vxlan options", About::Vxlan, vxlan_options::cases),
];

/// The cases about a bridge or about an overlay, those that wait for the clock last.
pub fn cases(about: About) -> Vec<Case> {
    let of = |group: &Group| {
        (group.cases)().into_iter().map(|case| Case { group: group.name.to_owned(), ..case }).collect::<Vec<_>>()
    };
    let mut cases: Vec<_> = GROUPS.iter().filter(|group| group.about == about).flat_map(of).collect();
    cases.sort_by_key(Case::waits_ms);
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::compare::{
        case::Step,
        older,
        option::{self, Part},
        ruling,
        statement::{Cite, ROWS, STATEMENTS},
    };

    fn all() -> Vec<Case> {
        [cases(About::Bridge), cases(About::Vxlan)].concat()
    }

    #[test]
    fn names_are_distinct_and_every_case_cites_what_it_tests() {
        let mut names = HashSet::new();
        for case in all() {
            assert!(names.insert(case.name.clone()), "twice: {}", case.name);
            assert!(!case.cites.is_empty() || case.ruling.is_some(), "{} cites nothing", case.name);
            assert!(!case.steps.is_empty(), "{} does nothing", case.name);
            for cite in &case.cites {
                let there = match cite {
                    Cite::Statement(number) => STATEMENTS.iter().any(|statement| statement.number == *number),
                    Cite::Row(number) => ROWS.iter().any(|row| row.number == *number),
                    Cite::Text(text) => !text.is_empty(),
                };
                assert!(there, "{} cites {cite:?}", case.name);
            }
            let ruled = case.ruling.as_deref().is_none_or(|id| ruling::find(id).is_some());
            assert!(ruled, "{} names no ruling: {:?}", case.name, case.ruling);
            let changed = case.changed.as_deref().is_none_or(|id| older::find(id).is_some());
            assert!(changed, "{} names no change: {:?}", case.name, case.changed);
        }
    }

    #[test]
    fn every_statement_and_row_is_shown_by_a_case() {
        let shown: HashSet<_> = all().into_iter().flat_map(|case| case.shows).map(|cite| cite.label()).collect();
        let statements = STATEMENTS.iter().map(|statement| Cite::Statement(statement.number));
        let rows = ROWS.iter().map(|row| Cite::Row(row.number));
        let missing: Vec<_> =
            statements.chain(rows).map(|cite| cite.label()).filter(|one| !shown.contains(one)).collect();
        assert!(missing.is_empty(), "no case shows {missing:?}");
    }

    #[test]
    fn every_option_that_cases_name_is_known() {
        for case in all() {
            let known = |part, name: &String| assert!(option::find(part, name).is_some(), "{}: {name}", case.name);
            case.setup.bridge.keys().for_each(|name| known(Part::Bridge, name));
            case.setup.port.values().flat_map(|options| options.keys()).for_each(|name| known(Part::Port, name));
            case.setup.overlay.iter().flat_map(|o| o.options.keys()).for_each(|name| known(Part::Tunnel, name));
            for step in &case.steps {
                if let Step::SetBridge { option, .. } = step {
                    known(Part::Bridge, option);
                }
                if let Step::SetPort { option, .. } = step {
                    known(Part::Port, option);
                }
            }
        }
    }
}
