//! Names of bridges, interfaces and namespaces, and paths.

use std::path::{Path, PathBuf};

use super::{Checked, Wrong};
use crate::{
    control::config::types::{NETNS_DIRECTORY, NetnsName},
    sys::inherited::Handle,
};

/// Longest name of an interface: `IFNAMSIZ` (include/uapi/linux/if.h) less the terminating zero.
const INTERFACE_NAME_MAX_LEN: usize = 15;
/// Longest path of a unix socket: `sun_path` (include/uapi/linux/un.h) less the terminating zero.
const SOCKET_PATH_MAX_LEN: usize = 107;

/// The path of a unix socket.
pub(in crate::control::config) fn socket(text: &str) -> Checked<PathBuf> {
    if text.is_empty() || text.contains('\0') || text.ends_with('/') {
        return Err(Wrong::new(format!("`{text}` is not the path of a socket"), "such as \"/run/weft/weft.sock\""));
    }
    if text.len() > SOCKET_PATH_MAX_LEN {
        let message = format!("the path has {} bytes, too long for a unix socket", text.len());
        return Err(Wrong::new(message, format!("at most {SOCKET_PATH_MAX_LEN} bytes")));
    }
    Ok(PathBuf::from(text))
}

/// The name of a bridge.
pub(in crate::control::config) fn bridge_name(text: &str) -> Checked<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 15 || !text.chars().all(good) {
        let help = "1 to 15 characters of A-Z a-z 0-9 . _ -";
        return Err(Wrong::new(format!("`{text}` can't be the name of a bridge"), help));
    }
    Ok(text.to_owned())
}

/// The name of an interface, as `dev_valid_name` (net/core/dev.c) has it; also without `%`, which TUNSETIFF takes for a
/// pattern, and without anything that a terminal can't show.
pub(in crate::control::config) fn interface_name(text: &str) -> Checked<String> {
    let refuse = |why: &str, help: &str| Err(Wrong::new(format!("`{text}` can't name an interface: {why}"), help));
    if text.is_empty() {
        return refuse("it is empty", "such as \"eth0\"");
    }
    if text.len() > INTERFACE_NAME_MAX_LEN {
        let why = format!("it has {} characters", text.len());
        return refuse(&why, "at most 15 characters: the kernel has no room for more");
    }
    if text == "." || text == ".." {
        return refuse("the kernel keeps it for directories", "such as \"eth0\"");
    }
    if let Some((netns, name)) = text.rsplit_once('/') {
        return refuse(
            "it contains `/`",
            &format!("write the namespace by itself: name = \"{name}\", netns = \"{netns}\""),
        );
    }
    if let Some(bad) = text.chars().find(|&c| !c.is_ascii_graphic() || c == ':' || c == '%') {
        return refuse(&format!("it contains {bad:?}"), "letters, digits and . _ - are always good");
    }
    Ok(text.to_owned())
}

/// A namespace. A path straight under /run/netns is the same as the name there.
pub(in crate::control::config) fn netns(text: &str) -> Checked<NetnsName> {
    let help = "a name under /run/netns, an absolute path, \"pid:1234\", or \"fd:3\"";
    if let Some(handle) = text.strip_prefix("fd:") {
        return descriptor(handle).map(NetnsName::Descriptor);
    }
    if let Some(pid) = text.strip_prefix("pid:") {
        let pid = pid.parse().ok().filter(|&pid| pid != 0 && i32::try_from(pid).is_ok());
        return pid.map(NetnsName::Pid).ok_or_else(|| Wrong::new(format!("`{text}` is no process"), help));
    }
    if text.starts_with('/') && !text.contains('\0') {
        let path = Path::new(text);
        let named = path.strip_prefix(NETNS_DIRECTORY).or_else(|_| path.strip_prefix("/var/run/netns"));
        return Ok(match named.ok().and_then(Path::to_str) {
            Some(name) if is_netns_name(name) => NetnsName::Named(name.to_owned()),
            Some(_) | None => NetnsName::Path(path.to_owned()),
        });
    }
    if text == "." {
        return Ok(NetnsName::Own);
    }
    if is_netns_name(text) {
        return Ok(NetnsName::Named(text.to_owned()));
    }
    Err(Wrong::new(format!("`{text}` does not name a network namespace"), help))
}

/// A descriptor by its number, or by its name in `LISTEN_FDNAMES`.
fn descriptor(text: &str) -> Checked<Handle> {
    let is_name =
        |text: &str| !text.starts_with('-') && text.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':');
    let help = "a number from 3 to 1023 of a descriptor that weft is started with, or its name in LISTEN_FDNAMES";
    match text.parse() {
        Ok(number @ 3..=1023) => Ok(Handle::Number(number)),
        Err(_) if !text.is_empty() && !text.bytes().all(|c| c.is_ascii_digit()) && is_name(text) => {
            Ok(Handle::Name(text.to_owned()))
        }
        Ok(_) | Err(_) => Err(Wrong::new(format!("`fd:{text}` is no descriptor"), help)),
    }
}

fn is_netns_name(text: &str) -> bool {
    let fits = (1..=255).contains(&text.len()) && text != "." && text != "..";
    fits && !text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
}
