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
