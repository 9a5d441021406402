//! Which sizes to ask for at once.

/// What paths' MTUs often are (RFC 1191 section 7.1, and what tunnels of today leave of 1500 and 9000): with luck one of
/// them is it, and the next round only has to see that one byte more does not pass.
const COMMON: [u16; 20] = [
    1280, // IPv6's least
    1380, 1400, // what is set by hand
    1420, 1440, // WireGuard over IPv6 and IPv4
    1450, // VXLAN in 1500
    1460, 1472, 1476, // GRE
    1480, // IPv4 in IPv4
    1488, 1492, // PPPoE
    1500, // Ethernet
    1550, 1600, 4000, // set by hand again
    8000, 8950, // VXLAN in 9000
    8951, // a cloud's jumbo frames behind its own tunnel
    9000, // jumbo frames
];

/// The first sizes of a search between one that passes and one that is being tried: common ones if there are, the rest
/// evenly spread. At most `count`, in no order, all between the two.
pub(super) fn first(low: u16, high: u32, count: usize) -> impl Iterator<Item = u16> {
    let is_between = |size: &u16| *size > low && u32::from(*size) < high;
    let common: Vec<u16> = COMMON.into_iter().filter(is_between).collect();
    let mut sizes: Vec<u16> =
        (0..count.min(common.len())).map(|nth| common[nth * common.len() / count.max(1)]).collect();
    if common.len() < count {
        sizes = common;
        sizes.extend(spread(low, high, count - sizes.len()));
    }
    sizes.into_iter()
}

/// The next sizes: one more than what passes, since that is often not by chance, the rest evenly spread.
pub(super) fn between(low: u16, high: u32, count: usize) -> impl Iterator<Item = u16> {
    let next = low.saturating_add(1);
    let next = (u32::from(next) < high).then_some(next);
    next.into_iter().chain(spread(low, high, count.saturating_sub(1).max(1)))
}

/// At most `count` sizes between the two, evenly spread; all of them if there are no more.
fn spread(low: u16, high: u32, count: usize) -> impl Iterator<Item = u16> {
    let inside = high.saturating_sub(u32::from(low) + 1);
    let count = u32::try_from(count).unwrap_or(u32::MAX).min(inside);
    (1..=count).filter_map(move |nth| {
        let offset = u64::from(nth) * u64::from(inside + 1) / u64::from(count + 1);
        u16::try_from(u64::from(low) + offset).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ethernet_is_searched_by_the_mtus_of_tunnels() {
        let sizes: Vec<_> = first(576, 1500, 7).collect();
        assert_eq!(sizes, [1280, 1380, 1420, 1450, 1460, 1476, 1488]);
        let sizes: Vec<_> = first(1280, 1400, 7).collect();
        assert_eq!(sizes[0], 1380);
        assert_eq!(sizes.len(), 7);
    }

    #[test]
    fn the_next_round_asks_for_one_byte_more_and_spreads_the_rest() {
        assert_eq!(between(1400, 1420, 8).collect::<Vec<_>>(), [1401, 1402, 1405, 1407, 1410, 1412, 1415, 1417]);
        assert_eq!(between(1400, 1404, 8).collect::<BTreeSet<_>>(), BTreeSet::from([1401, 1402, 1403]));
    }

    proptest! {
        #[test]
        fn sizes_lie_between_the_two_and_there_is_always_one(
            low in 576..65_535u16, gap in 2..9000u32, count in 1..9usize
        ) {
            let high = (u32::from(low) + gap).min(65_536);
            prop_assume!(high - u32::from(low) > 1);
            for sizes in [first(low, high, count).collect::<Vec<_>>(), between(low, high, count).collect()] {
                prop_assert!(!sizes.is_empty());
                prop_assert!(sizes.iter().all(|size| *size > low && u32::from(*size) < high));
            }
        }

        /// So that a search ends after few rounds: what is left after one is a small part of what was there.
        #[test]
        fn a_round_of_eight_leaves_a_seventh(low in 576..9000u16, gap in 64..8000u32) {
            let high = u32::from(low) + gap;
            let mut borders: Vec<u32> = between(low, high, 8).map(u32::from).collect();
            borders.extend([u32::from(low), high]);
            borders.sort_unstable();
            let widest = borders.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            prop_assert!(widest <= gap / 8 + 2, "{widest} of {gap}");
        }
    }
}
