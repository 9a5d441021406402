//! Makes a case that shows a difference as short as it can be while it still shows one.
//!
//! Steps are left out in ever smaller pieces (delta debugging: A. Zeller, R. Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input"), then options of the scene one by one, until nothing more can go.

use super::case::Case;

/// The shortest case found. `differs` says whether one still shows a difference; `case` itself does.
///
/// # Errors
/// The first that `differs` has.
pub fn shrink<E>(case: &Case, mut differs: impl FnMut(&Case) -> Result<bool, E>) -> Result<Case, E> {
    let mut best = case.clone();
    loop {
        let before = (best.steps.len(), weight(&best));
        best = fewer_steps(best, &mut differs)?;
        best = fewer_options(best, &mut differs)?;
        if (best.steps.len(), weight(&best)) == before {
            best.name = format!("{} ({} of {} steps)", case.name, best.steps.len(), case.steps.len());
            return Ok(best);
        }
    }
}

fn fewer_steps<E>(mut best: Case, differs: &mut impl FnMut(&Case) -> Result<bool, E>) -> Result<Case, E> {
    let mut piece = best.steps.len().div_ceil(2).max(1);
    loop {
        let mut at = best.steps.len();
        // From the end: what comes after the difference goes first.
        while at > 0 {
            let from = at.saturating_sub(piece);
            let mut shorter = best.clone();
            shorter.steps.drain(from..at);
            if differs(&shorter)? {
                best = shorter;
            }
            at = from;
        }
        if piece == 1 {
            return Ok(best);
        }
        piece = piece.div_ceil(2);
    }
}

fn fewer_options<E>(mut best: Case, differs: &mut impl FnMut(&Case) -> Result<bool, E>) -> Result<Case, E> {
    let bridge: Vec<_> = best.setup.bridge.keys().cloned().collect();
    for option in bridge {
        let mut simpler = best.clone();
        simpler.setup.bridge.remove(&option);
        if differs(&simpler)? {
            best = simpler;
        }
    }
    let ports: Vec<_> =
        best.setup.port.iter().flat_map(|(port, options)| options.keys().map(|name| (*port, name.clone()))).collect();
    for (port, option) in ports {
        let mut simpler = best.clone();
        if let Some(options) = simpler.setup.port.get_mut(&port) {
            options.remove(&option);
        }
        simpler.setup.port.retain(|_, options| !options.is_empty());
        if differs(&simpler)? {
            best = simpler;
        }
    }
    Ok(best)
}

fn weight(case: &Case) -> usize {
    case.setup.bridge.len() + case.setup.port.values().map(std::collections::BTreeMap::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::compare::{case::Step, catalogue::About, random};

    #[test]
    fn only_what_the_difference_needs_is_left() {
        // "Differs" if a wait of 7 comes after a wait of 3 and port 2 has hairpin.
        let mut case = random::case(About::Bridge, 1, 1).port(2, "hairpin", true).bridge("ageing", 0);
        case.steps.insert(10, Step::Wait { ms: 3 });
        case.steps.insert(40, Step::Wait { ms: 7 });
        let differs = |case: &Case| {
            let at = |wanted| case.steps.iter().position(|step| *step == Step::Wait { ms: wanted });
            let hairpin = case.setup.port.get(&2).is_some_and(|options| options.contains_key("hairpin"));
            Ok::<_, Infallible>(hairpin && matches!((at(3), at(7)), (Some(three), Some(seven)) if three < seven))
        };
        let Ok(short) = shrink(&case, differs);
        assert_eq!(short.steps, [Step::Wait { ms: 3 }, Step::Wait { ms: 7 }]);
        assert!(short.setup.bridge.is_empty() && short.setup.port.len() == 1, "{:?}", short.setup);
        assert!(short.name.ends_with("(2 of 52 steps)"), "{}", short.name);
    }
}
