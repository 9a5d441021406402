//! Asking bpf(2) which programs are attached where. Nothing is loaded, attached or changed.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

// include/uapi/linux/bpf.h: enum bpf_cmd, enum bpf_attach_type
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// `union bpf_attr`, the part of BPF_PROG_QUERY.
#[repr(C, align(8))]
#[derive(Default)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// `union bpf_attr`, the part of BPF_PROG_GET_FD_BY_ID.
#[repr(C, align(8))]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
    padding: u32,
}

/// `struct bpf_prog_info` up to its map ids.
#[repr(C, align(8))]
#[derive(Default)]
struct ProgramInfo {
    kind_and_id: [u32; 2],
    tag: [u8; 8],
    code_len: [u32; 2],
    code: [u64; 2],
    load_time: u64,
    created_by: u32,
    map_count: u32,
    map_ids: u64,
}

/// `union bpf_attr`, the part of BPF_MAP_*_ELEM.
#[repr(C, align(8))]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    /// Also the next key.
    value: u64,
    flags: u64,
}

/// `union bpf_attr`, the part of BPF_OBJ_GET_INFO_BY_FD.
#[repr(C, align(8))]
struct InfoBy {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// The ids of the programs attached by tcx to an interface of the calling thread's namespace, in the order they run.
///
/// # Errors
/// Needs CAP_NET_ADMIN; EINVAL on a kernel before 6.6, which has no tcx.
pub fn tcx_programs(ifindex: u32, ingress: bool) -> io::Result<Vec<u32>> {
    const MOST: usize = 64;
    let mut ids = [0u32; MOST];
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: if ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS },
        prog_ids: ids.as_mut_ptr() as u64,
        prog_count: MOST as u32,
        ..Query::default()
    };
    // SAFETY: `query` is a `union bpf_attr` of the length given, zeroed where nothing is asked for; its `prog_ids` points
    // to `ids`, which has room for `prog_count` numbers and outlives the call. The kernel writes to both and keeps neither.
    let status = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ids[..(query.prog_count as usize).min(MOST)].to_vec())
}

/// A program's name, as far as the kernel kept it: 15 bytes.
///
/// # Errors
/// There is no such program, or asking needs CAP_SYS_ADMIN.
pub fn program_name(id: u32) -> io::Result<String> {
    // `struct bpf_prog_info` up to its name.
    const NAME_AT: usize = 64;
    const NAME_LEN: usize = 16;
    let mut info = [0u32; (NAME_AT + NAME_LEN) / 4];
    info_of(&by_id(BPF_PROG_GET_FD_BY_ID, id)?, &mut info)?;
    let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_ne_bytes()).skip(NAME_AT).collect();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// The entries of a program's hash maps whose keys and values have four bytes each, in the machine's order of the program.
///
/// # Errors
/// There is no such program, or asking needs CAP_SYS_ADMIN.
pub fn program_words(id: u32) -> io::Result<Vec<([u8; 4], [u8; 4])>> {
    let program = by_id(BPF_PROG_GET_FD_BY_ID, id)?;
    let mut found = Vec::new();
    for map in map_ids(&program)? {
        let map = by_id(BPF_MAP_GET_FD_BY_ID, map)?;
        // `struct bpf_map_info`: type, id, key_size, value_size.
        let mut info = [0u32; 20];
        info_of(&map, &mut info)?;
        if [info[0], info[2], info[3]] == [BPF_MAP_TYPE_HASH, 4, 4] {
            words_of(&map, &mut found)?;
        }
    }
    Ok(found)
}

fn by_id(command: libc::c_long, id: u32) -> io::Result<OwnedFd> {
    let by_id = ById { id, ..ById::default() };
    // SAFETY: `by_id` is a `union bpf_attr` of the length given, which the kernel only reads.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const by_id, size_of::<ById>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so that this is a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Fills in the beginning of an object's `struct bpf_prog_info` or `struct bpf_map_info`. Words that hold an address, as
/// those of arrays to be filled in do, must be zero.
fn info_of(object: &OwnedFd, info: &mut [u32]) -> io::Result<()> {
    let mut by_fd = InfoBy {
        fd: object.as_raw_fd().cast_unsigned(),
        info_len: size_of_val(info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: `by_fd` is a `union bpf_attr` of the length given; its `info` points to `info_len` bytes that outlive the call.
    // By the condition above the kernel finds no address in them to write to.
    let status = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut by_fd, size_of::<InfoBy>()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The ids of the maps that a program uses, a few of them.
fn map_ids(program: &OwnedFd) -> io::Result<Vec<u32>> {
    const MOST: usize = 16;
    let mut ids = [0u32; MOST];
    let mut info = ProgramInfo { map_count: MOST as u32, map_ids: ids.as_mut_ptr() as u64, ..ProgramInfo::default() };
    let mut by_fd = InfoBy {
        fd: program.as_raw_fd().cast_unsigned(),
        info_len: size_of::<ProgramInfo>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: `by_fd` is a `union bpf_attr` of the length given; its `info` points to a `struct bpf_prog_info` up to its array of
    // map ids, which has room for `map_count` of them. Both outlive the call; the other arrays' addresses are zero.
    let status = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut by_fd, size_of::<InfoBy>()) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ids[..(info.map_count as usize).min(MOST)].to_vec())
}

/// Reads a map with keys and values of four bytes from its first key to its last.
fn words_of(map: &OwnedFd, found: &mut Vec<([u8; 4], [u8; 4])>) -> io::Result<()> {
    const MANY: usize = 4096;
    let mut key = [0u8; 4];
    let mut is_first = true;
    while found.len() < MANY {
        let mut next = [0u8; 4];
        let mut element = Element {
            map_fd: map.as_raw_fd().cast_unsigned(),
            padding: 0,
            key: if is_first { 0 } else { key.as_ptr() as u64 },
            value: next.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: `element` is a `union bpf_attr` of the length given; `key` is absent or points to the four bytes of a key, `value`
        // to four bytes for the next one, as the map's sizes are; all outlive the call.
        let status =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_GET_NEXT_KEY, &raw mut element, size_of::<Element>()) };
        if status < 0 {
            // ENOENT: that was the last.
            return Ok(());
        }
        (key, is_first) = (next, false);
        let mut value = [0u8; 4];
        element.key = key.as_ptr() as u64;
        element.value = value.as_mut_ptr() as u64;
        // SAFETY: as above; `value` points to four bytes, which is the size of the map's values.
        let status =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_ELEM, &raw mut element, size_of::<Element>()) };
        if status >= 0 {
            found.push((key, value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error_and_no_crash() {
        assert!(tcx_programs(0x7fff_fff0, true).is_err());
        assert!(program_name(u32::MAX).is_err() && program_words(u32::MAX).is_err());
    }
}
