//! Which process has a socket open, and the kernel's tables of sockets and counters.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

pub(crate) use super::opener::{SocketOwner, Table};
use super::{inside, opener};

/// The text of one of the kernel's tables about the namespace that the calling thread visits, or is in.
///
/// # Errors
/// `/proc` is not mounted, or the table is unknown to this kernel.
pub(crate) fn table(table: Table) -> io::Result<String> {
    let mut text = String::new();
    File::from(inside::table(table)?).read_to_string(&mut text)?;
    Ok(text)
}

/// The process that has the socket with this inode open.
pub(crate) fn socket_owner(inode: u64) -> SocketOwner {
    match opener::get() {
        Some(opener) => opener.socket_owner(inode).unwrap_or(SocketOwner::NotAllowed),
        None => look(inode),
    }
}

fn look(inode: u64) -> SocketOwner {
    if inode == 0 {
        return SocketOwner::Nobody;
    }
    let wanted = format!("socket:[{inode}]");
    let mut is_complete = true;
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match has_open(&process.path(), &wanted) {
            Some(true) => {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return SocketOwner::Process { pid, name: name.trim_end().to_owned() };
            }
            Some(false) => {}
            None => is_complete = false,
        }
    }
    if is_complete { SocketOwner::Nobody } else { SocketOwner::NotAllowed }
}

/// Whether the process has a descriptor of `wanted`; `None` if it may not be looked at.
fn has_open(process: &Path, wanted: &str) -> Option<bool> {
    let descriptors = match fs::read_dir(process.join("fd")) {
        Ok(descriptors) => descriptors,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
        // It has ended.
        Err(_) => return Some(false),
    };
    let mut links = descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    Some(links.any(|link| link == Path::new(wanted)))
}
