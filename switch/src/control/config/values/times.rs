//! Times: numbers with units, within what makes sense.

use std::time::Duration;

use super::{Checked, Wrong};

/// The longest time that IEEE 802.1Q (table 8-6) and the kernel's switchdev (`BR_MAX_AGEING_TIME`) allow.
const MAX_AGEING: Duration = Duration::from_secs(1_000_000);
/// The kernel takes ageing times in hundredths of a second (`USER_HZ`).
const MIN_AGEING: Duration = Duration::from_millis(10);
/// Shorter times than the kernel can be told, in hundredths of a second, are nobody's wish; 100 ms is what a query can say.
const MIN_MCAST_INTERVAL: Duration = Duration::from_millis(100);
/// A member that may be silent for a day has been forgotten by its users.
const MAX_MCAST_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Ten times what any round trip through a switch should take.
const MAX_BUSY_POLL: Duration = Duration::from_millis(10);
/// A search that begins anew with every other packet would find nothing better.
const MIN_PATH_MTU_AGEING: Duration = Duration::from_secs(5);

/// An ageing time: a number with its unit, or "0" for "learn nothing".
pub(in crate::control::config) fn ageing(text: &str) -> Checked<Duration> {
    let example = "write a number with its unit, such as \"300s\", \"5min\" or \"1h 30min\"; \"0\" learns nothing";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let time = humantime::parse_duration(text)
        .map_err(|error| Wrong::new(format!("`{text}` is not a duration: {error}"), example))?;
    if !time.is_zero() && time < MIN_AGEING {
        return Err(Wrong::new(format!("an ageing time of {text} is too short"), "at least \"10ms\", or \"0\""));
    }
    if time > MAX_AGEING {
        let help = "at most \"1000000s\" (11 days), as in IEEE 802.1Q and the kernel";
        return Err(Wrong::new(format!("an ageing time of {text} is too long"), help));
    }
    Ok(time)
}

/// How long a smaller path MTU is believed without another look.
pub(in crate::control::config) fn path_mtu_ageing(text: &str) -> Checked<Duration> {
    let example = "write a number with its unit, such as \"10min\" or \"30s\"";
    let time = humantime::parse_duration(text)
        .map_err(|error| Wrong::new(format!("`{text}` is not a duration: {error}"), example))?;
    if !(MIN_PATH_MTU_AGEING..=MAX_AGEING).contains(&time) {
        let help = "\"5s\" to \"1000000s\"; RFC 1191 recommends \"10min\"";
        return Err(Wrong::new(format!("an ageing time of {text} for path MTUs is out of range"), help));
    }
    Ok(time)
}

/// For how long a worker may look for frames: a number with its unit, or "0" for "not at all".
pub(in crate::control::config) fn busy_poll(text: &str) -> Checked<Duration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let example = "write a number with its unit, such as \"50us\" or \"200us\"; \"0\" sleeps at once";
    let time = humantime::parse_duration(text)
        .map_err(|error| Wrong::new(format!("`{text}` is not a duration: {error}"), example))?;
    if time > MAX_BUSY_POLL {
        let help = "at most \"10ms\": whoever waits longer than that for frames can as well sleep";
        return Err(Wrong::new(format!("{text} of busy polling is too long"), help));
    }
    Ok(time)
}

/// A time of multicast snooping. `is_query`: the time between queries.
pub(in crate::control::config) fn mcast_interval(text: &str, is_query: bool) -> Checked<Duration> {
    let example = "write a number with its unit, such as \"125s\" or \"1s 500ms\"";
    let time = humantime::parse_duration(text)
        .map_err(|error| Wrong::new(format!("`{text}` is not a duration: {error}"), example))?;
    let (least, most) = (if is_query { Duration::from_secs(1) } else { MIN_MCAST_INTERVAL }, MAX_MCAST_INTERVAL);
    if !(least..=most).contains(&time) {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        return Err(Wrong::new(format!("an interval of {text} is out of range"), format!("\"{least}\" to \"{most}\"")));
    }
    Ok(time)
}
