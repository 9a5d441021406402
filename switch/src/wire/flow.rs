//! The flow hash: frames of one inner flow get one number, different flows different ones.
//!
//! The number becomes the outer source port (RFC 7348 section 5), by which routers and receiving hosts spread flows over
//! paths and cores, and chooses the sending socket. So all frames of a flow must hash alike, super-frame or segment, or
//! they overtake one another; fragments carry ports only in the first, so all of them go without.
//!
//! A few multiplications, each folding its 128-bit product, mix all input bits into all output bits. The seed keeps
//! somebody outside from choosing flows that all meet in one place.

use super::dissect::{Dissected, IpVersion, L3};

/// Hashes the flow that `frame` belongs to: addresses, protocol and ports of TCP and UDP; addresses and protocol of other
/// packets and of fragments; MAC addresses and type of what is not IP. All 32 bits are mixed alike.
///
/// `dissected` is what [`super::dissect::dissect`] found in this very frame. The two directions of a connection hash
/// differently.
#[inline]
pub fn hash(frame: &[u8], dissected: &Dissected, seed: u64) -> u32 {
    let Some(l3) = dissected.l3 else { return finish(hash_link(frame, dissected.ether_type, seed)) };
    let ports = dissected.l4.map_or(0, |l4| u64::from(l4.src_port) << 16 | u64::from(l4.dst_port));
    let state = hash_addresses(frame, &l3, seed);
    finish(mix(state ^ (ports << 8 | u64::from(l3.protocol)), K2))
}

// Odd numbers with about as many ones as zeros: the fractional parts of the square roots of 2, 3 and 5.
const K0: u64 = 0x6a09_e667_f3bc_c909;
const K1: u64 = 0xbb67_ae85_84ca_a73b;
const K2: u64 = 0x3c6e_f372_fe94_f82b;

/// Multiplies to 128 bits and folds both halves together: each input bit reaches the high half or the low one.
#[inline(always)]
const fn mix(value: u64, key: u64) -> u64 {
    let product = value as u128 * key as u128;
    (product >> 64) as u64 ^ product as u64
}

/// The last mixing step, so that the high bits (of which the source port is made) depend on all others.
#[inline(always)]
const fn finish(state: u64) -> u32 {
    (mix(state ^ K1, K0) >> 32) as u32
}

#[inline(always)]
fn hash_addresses(frame: &[u8], l3: &L3, seed: u64) -> u64 {
    let packet = frame.get(usize::from(l3.offset)..).unwrap_or_default();
    let mut state = seed ^ K0;
    match l3.version {
        IpVersion::V4 => {
            if let Some(addresses) = packet.get(12..).and_then(<[u8]>::first_chunk) {
                state = mix(state ^ u64::from_ne_bytes(*addresses), K1);
            }
        }
        IpVersion::V6 => {
            if let Some(addresses) = packet.get(8..).and_then(<[u8]>::first_chunk::<32>) {
                for word in addresses.as_chunks().0 {
                    state = mix(state ^ u64::from_ne_bytes(*word), K1);
                }
            }
        }
    }
    state
}

#[inline(always)]
fn hash_link(frame: &[u8], ether_type: u16, seed: u64) -> u64 {
    let Some(&[a, b, c, d, e, f, g, h, i, j, k, l]) = frame.first_chunk() else { return seed };
    let [t0, t1] = ether_type.to_be_bytes();
    let state = mix(seed ^ K0 ^ u64::from_ne_bytes([a, b, c, d, e, f, g, h]), K1);
    mix(state ^ u64::from_ne_bytes([i, j, k, l, t0, t1, 0, 0]), K2)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::dissect::dissect;

    fn tcp4(src: [u8; 4], dst: [u8; 4], ports: (u16, u16), seq: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4(src, dst, 64)
            .tcp(ports.0, ports.1, seq, 1000)
            .write(&mut frame, payload)
            .unwrap();
        frame
    }

    fn udp6(src: [u8; 16], dst: [u8; 16], ports: (u16, u16)) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv6(src, dst, 64)
            .udp(ports.0, ports.1)
            .write(&mut frame, &[])
            .unwrap();
        frame
    }

    fn of(frame: &[u8]) -> u32 {
        hash(frame, &dissect(frame), SEED)
    }

    const SEED: u64 = 0x1234_5678_9abc_def0;

    #[test]
    fn all_segments_of_a_flow_hash_alike_and_the_super_frame_too() {
        let flow = |seq, payload: &[u8]| of(&tcp4([10, 0, 0, 1], [10, 0, 0, 2], (40_000, 80), seq, payload));
        assert_eq!(flow(1, b"one"), flow(4, &[7; 60_000]));
    }

    #[test]
    fn directions_protocols_ports_and_seeds_differ() {
        let frame = tcp4([10, 0, 0, 1], [10, 0, 0, 2], (1, 2), 0, &[]);
        let back = tcp4([10, 0, 0, 2], [10, 0, 0, 1], (2, 1), 0, &[]);
        let other_port = tcp4([10, 0, 0, 1], [10, 0, 0, 2], (1, 3), 0, &[]);
        let mut other_protocol = frame.clone();
        other_protocol[23] = 17;
        for other in [back, other_port, other_protocol] {
            assert_ne!(of(&frame), of(&other));
        }
        assert_ne!(of(&frame), hash(&frame, &dissect(&frame), SEED + 1));
    }

    #[test]
    fn fragments_hash_alike_with_and_without_ports() {
        let mut first = tcp4([10, 0, 0, 1], [10, 0, 0, 2], (1, 2), 0, &[0; 40]);
        first[20..22].copy_from_slice(&0x2000_u16.to_be_bytes());
        let mut later = tcp4([10, 0, 0, 1], [10, 0, 0, 2], (3, 4), 9, &[1; 40]);
        later[20..22].copy_from_slice(&0x0007_u16.to_be_bytes());
        assert_eq!(of(&first), of(&later));
    }

    #[test]
    fn frames_that_are_not_ip_go_by_addresses_and_type() {
        let frame = |last_octet: u8, ether_type: u16, payload: u8| {
            let mut frame = [0xff; 30];
            frame[11] = last_octet;
            frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
            frame[14..].fill(payload);
            of(&frame)
        };
        assert_eq!(frame(1, 0x0806, 0), frame(1, 0x0806, 1));
        assert_ne!(frame(1, 0x0806, 0), frame(2, 0x0806, 0));
        assert_ne!(frame(1, 0x0806, 0), frame(1, 0x88cc, 0));
    }

    /// Frames whose flows lie as close together as they do in practice: one host's counting ports, neighbouring hosts.
    fn families() -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let host = |n: u16| [10, 0, (n >> 8) as u8, n as u8];
        let host6 = |n: u16| [[0xfd, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0], n.to_be_bytes()].concat();
        let host6 = |n| <[u8; 16]>::try_from(host6(n)).unwrap();
        let range = 0..10_000_u16;
        vec![
            ("source ports", range.clone().map(|n| tcp4(host(1), host(2), (30_000 + n, 80), 0, &[])).collect()),
            ("destination ports", range.clone().map(|n| tcp4(host(1), host(2), (80, n), 0, &[])).collect()),
            ("IPv4 sources", range.clone().map(|n| tcp4(host(n), host(2), (80, 80), 0, &[])).collect()),
            ("IPv4 pairs", range.clone().map(|n| tcp4(host(n), host(n + 1), (80, 80), 0, &[])).collect()),
            ("IPv6 ports", range.clone().map(|n| udp6(host6(1), host6(2), (n, 53))).collect()),
            ("IPv6 pairs", range.clone().map(|n| udp6(host6(n), host6(!n), (53, 53))).collect()),
            (
                "MAC addresses",
                range
                    .map(|n| [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0][..], &n.to_be_bytes(), &[0x88, 0xb5]].concat())
                    .collect(),
            ),
        ]
    }

    #[test]
    fn near_flows_spread_evenly_over_buckets_of_high_bits_and_of_low_bits() {
        for (name, frames) in families() {
            let mut high = [0_f64; 16];
            let mut low = [0_f64; 16];
            for frame in &frames {
                high[(of(frame) >> 28) as usize] += 1.0;
                low[(of(frame) & 15) as usize] += 1.0;
            }
            for counts in [high, low] {
                let expected = frames.len() as f64 / 16.0;
                let chi_squared: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
                // 15 degrees of freedom: a fair die exceeds 44.3 once in ten thousand times.
                assert!(chi_squared < 44.3, "{name}: {chi_squared} {counts:?}");
            }
        }
    }

    #[test]
    fn near_flows_rarely_collide() {
        for (name, frames) in families() {
            let mut hashes: Vec<_> = frames.iter().map(|frame| of(frame)).collect();
            hashes.sort_unstable();
            hashes.dedup();
            // 10,000 draws out of 2^32 meet 0.012 times on average.
            assert!(hashes.len() >= frames.len() - 2, "{name}: {} of {}", hashes.len(), frames.len());
        }
    }

    #[test]
    fn each_input_bit_flips_each_output_bit_about_half_the_time() {
        let mut random = fastrand::Rng::with_seed(7);
        let rounds = 400;
        for bit in 0..96 {
            let mut flips = [0; 32];
            for _ in 0..rounds {
                let mut frame = tcp4([0; 4], [0; 4], (0, 0), 0, &[]);
                // Both addresses and both ports stand side by side.
                frame[26..38].fill_with(|| random.u8(..));
                let before = of(&frame);
                frame[26 + bit / 8] ^= 1 << (bit % 8);
                let changed = before ^ of(&frame);
                for (out, flips) in flips.iter_mut().enumerate() {
                    *flips += changed >> out & 1;
                }
            }
            // Six standard deviations (10 each) around 200.
            assert!(flips.iter().all(|flips| (140..=260).contains(flips)), "input bit {bit}: {flips:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_hash(bytes in proptest::collection::vec(any::<u8>(), 0..120), seed: u64) {
            let dissected = dissect(&bytes);
            prop_assert_eq!(hash(&bytes, &dissected, seed), hash(&bytes, &dissected, seed));
            // Offsets of another frame are a mistake, but no panic.
            hash(&bytes[..bytes.len() / 2], &dissected, seed);
        }
    }
}
