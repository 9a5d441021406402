//! Single values: from what the text says to what it means. Pure; each refusal says what would be right.

mod addresses;
mod names;
mod spelling;
#[cfg(test)]
mod tests;
mod times;

use std::ops::RangeInclusive;

use weft_vxlan::{ReservedBits, Vni};

pub(crate) use self::spelling::nearest;
pub(super) use self::{addresses::*, names::*, times::*};
use super::types::{MCAST_ROUTERS, Pin, RESERVED_BITS_WORDS, Tos, Ttl};
use crate::{snoop::Router, sys::affinity::MAX_CPUS, wire::VlanId};

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

type Checked<T> = Result<T, Wrong>;

/// At least a datagram of 64 KiB; the kernel doubles what it is told and keeps it in an int (`net/core/sock.c`:
/// __sock_set_rcvbuf).
const BUFFER_SIZES: RangeInclusive<usize> = 64 << 10..=512 << 20;
/// At least a batch, so that reading one empties no more than the queue; at most what fits 1 MiB of pointers for each
/// worker, which the kernel allocates whether they are used or not.
const QUEUE_LENGTHS: (i64, i64) = (32, 131_072);
/// Bits 0 to 2 of a bridge's forward mask, which the kernel refuses (`BR_GROUPFWD_RESTRICTED`, net/bridge/br_private.h).
const GROUP_FWD_RESTRICTED: u16 = 0x0007;
/// Bit 1 of a port's forward mask, which the kernel refuses there (`BR_GROUPFWD_MACPAUSE`, net/bridge/br_private.h).
const GROUP_FWD_PAUSE: u16 = 0x0002;
/// The two low bits of TOS and traffic class (RFC 3168 section 5).
const ECN_BITS: u8 = 0x03;

/// Where workers run: a truth value, or the numbers of CPUs.
pub(super) fn pin(value: Result<bool, Vec<i64>>) -> Checked<Pin> {
    let numbers = match value {
        Ok(false) => return Ok(Pin::No),
        Ok(true) => return Ok(Pin::InOrder),
        Err(numbers) => numbers,
    };
    if numbers.is_empty() {
        return Err(Wrong::new("workers can't be pinned to no CPU", "such as [0, 2]; false lets them run anywhere"));
    }
    let mut cpus = Vec::new();
    for number in numbers {
        let cpu = usize::try_from(number).ok().filter(|&cpu| cpu < MAX_CPUS);
        let cpu = cpu.ok_or_else(|| {
            Wrong::new(format!("{number} is not the number of a CPU"), format!("0 to {}", MAX_CPUS - 1))
        })?;
        if cpus.contains(&cpu) {
            return Err(Wrong::new(format!("CPU {cpu} is twice in the list"), "each CPU once"));
        }
        cpus.push(cpu);
    }
    Ok(Pin::To(cpus))
}

/// The size of a socket's buffer: a number with KiB or MiB behind it.
pub(super) fn buffer(text: &str) -> Checked<usize> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20)];
    let found = units.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?.trim_end(), *bytes)));
    let digits = found.filter(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    let Some((number, unit)) = digits else {
        let help = "a whole number with its unit, such as \"512KiB\" or \"8MiB\"";
        return Err(Wrong::new(format!("`{text}` is not a size"), help));
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| BUFFER_SIZES.contains(bytes))
        .ok_or_else(|| Wrong::new(format!("a buffer of {text} is out of range"), "\"64KiB\" to \"512MiB\""))
}

/// Frames that a tap holds for each worker.
pub(super) fn queue_length(number: i64) -> Checked<u32> {
    within(number, QUEUE_LENGTHS.0, QUEUE_LENGTHS.1)
        .map(|length| length as u32)
        .map_err(|wrong| Wrong { message: format!("a queue of {number} frames is out of range"), ..wrong })
}

/// Whether a multicast router is behind a port.
pub(super) fn mcast_router(number: i64) -> Checked<Router> {
    let found = MCAST_ROUTERS.iter().find(|(known, _)| *known == number);
    found.map(|(_, router)| *router).ok_or_else(|| {
        let help = "0: there is none; 1: there is one if it says so; 2: there is one";
        Wrong::new(format!("`mcast_router` can't be {number}"), help)
    })
}

/// A VLAN identifier as the key of a trunk's table.
pub(super) fn vlan_key(text: &str) -> Checked<VlanId> {
    let help = "a VLAN identifier from 1 to 4094, such as: trunk = { 10 = \"blue\" }";
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if !plain && text != "0" {
        return Err(Wrong::new(format!("`{text}` is not a VLAN identifier"), help));
    }
    let vlan = text.parse().ok().and_then(VlanId::new);
    vlan.ok_or_else(|| Wrong::new(format!("VLAN {text} is out of range"), help))
}

/// A VXLAN network identifier.
pub(super) fn vni(number: i64) -> Checked<Vni> {
    let vni = u32::try_from(number).ok().and_then(Vni::new);
    vni.ok_or_else(|| Wrong::new(format!("VNI {number} does not fit 24 bits"), format!("0 to {}", Vni::MAX)))
}

/// A bridge's forward mask.
pub(super) fn group_fwd_mask(number: i64) -> Checked<u16> {
    let mask = mask(number, "one bit for each of 01-80-C2-00-00-03 to -0F, so 0 to 0xfff8")?;
    if mask & GROUP_FWD_RESTRICTED != 0 {
        let message = format!("{mask:#x} forwards what a bridge must keep: bits 0 to 2 can't be set");
        let help = format!(
            "without them, {:#x}; the kernel refuses STP, pause frames and LACP as well",
            mask & !GROUP_FWD_RESTRICTED
        );
        return Err(Wrong::new(message, help));
    }
    Ok(mask)
}

/// Which reserved bits of a VXLAN header are refused: a word, or a mask of its 64 bits as iproute2 writes it.
pub(super) fn reserved_bits(text: &str) -> Checked<ReservedBits> {
    if let Some((_, bits)) = RESERVED_BITS_WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*bits);
    }
    let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let Some(mask) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
        let help = "\"drop\", \"ignore\", or the bits that are refused, such as \"0xf7ffffff000000ff\"";
        return Err(Wrong::new(format!("`{text}` is not a mask of 64 bits"), help));
    };
    ReservedBits::of_mask(mask).ok_or_else(|| {
        let help = format!("without them, \"{:#018x}\"", mask & ReservedBits::Drop.mask());
        Wrong::new(format!("{text} has bits that are not reserved: those of the I flag and the VNI"), help)
    })
}

/// Most entries behind VTEPs.
pub(super) fn maxaddress(number: i64) -> Checked<u32> {
    within(number, 0, i64::from(u32::MAX)).map(|most| most as u32)
}

/// A group policy; 0 is none, as in the kernel.
pub(super) fn gbp_policy(number: i64) -> Checked<u16> {
    within(number, 0, i64::from(u16::MAX)).map(|policy| policy as u16)
}

/// A port's forward mask, which may say more than its bridge's.
pub(super) fn port_group_fwd_mask(number: i64) -> Checked<u16> {
    let mask = mask(number, "one bit for each of 01-80-C2-00-00-00 to -0F without -01, so 0 to 0xfffd")?;
    if mask & GROUP_FWD_PAUSE != 0 {
        let message = format!("{mask:#x} forwards pause frames, which never pass a bridge: bit 1 can't be set");
        return Err(Wrong::new(message, format!("without it, {:#x}", mask & !GROUP_FWD_PAUSE)));
    }
    Ok(mask)
}

fn mask(number: i64, help: &str) -> Checked<u16> {
    u16::try_from(number).map_err(|_| Wrong::new(format!("{number} is not a mask of 16 bits"), help))
}

/// A fixed outer TTL.
pub(super) fn ttl(number: i64) -> Checked<Ttl> {
    let ttl = u8::try_from(number).ok().filter(|&ttl| ttl != 0);
    ttl.map(Ttl::Fixed).ok_or_else(|| Wrong::new(format!("a TTL of {number}"), "1 to 255, or \"inherit\""))
}

/// A fixed outer TOS.
pub(super) fn tos(number: i64) -> Checked<Tos> {
    match u8::try_from(number) {
        Err(_) => Err(Wrong::new(format!("a TOS of {number}"), "0 to 255 with the two low bits zero, or \"inherit\"")),
        Ok(tos) if tos & ECN_BITS != 0 => {
            let help = format!("{}, or `ecn` for those two bits", tos & !ECN_BITS);
            Err(Wrong::new(format!("a TOS of {tos} sets the ECN bits, which follow the inner packet"), help))
        }
        Ok(tos) => Ok(Tos::Fixed(tos)),
    }
}

/// A number of a range, with what it counts.
pub(super) fn within(number: i64, least: i64, most: i64) -> Checked<i64> {
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(Wrong::new(format!("{number} is out of range"), format!("{least} to {most}")))
}
