//! Users and groups by their names, and becoming one of them.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    fmt,
    io::{self, ErrorKind},
    mem::MaybeUninit,
    ptr,
    str::FromStr,
};

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// Who a process is to be: a user and a group, as `NAME[:GROUP]` says, by names or numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    text: String,
    uid: Uid,
    gid: Gid,
}

impl Identity {
    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The group's number.
    pub fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Makes the calling thread, and what it starts, this user of this group, and a member of no other group. Root loses its
    /// capabilities by that (capabilities(7), "Effect of user ID changes on capabilities").
    ///
    /// # Errors
    /// Needs CAP_SETUID and CAP_SETGID.
    pub fn assume(&self) -> io::Result<()> {
        // The user last: it takes away the right to the others.
        set_thread_groups(&[])?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        Ok(set_thread_res_uid(self.uid, self.uid, self.uid)?)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let entry = user_named(user).map_err(|error| format!("can't look up user `{user}`: {error}"))?;
        let number = user.parse().ok();
        let uid = entry.map(|(uid, _)| uid).or(number).ok_or_else(|| format!("there is no user `{user}`"))?;
        let gid = match group {
            Some(group) => {
                let entry = group_named(group).map_err(|error| format!("can't look up group `{group}`: {error}"))?;
                entry.or_else(|| group.parse().ok()).ok_or_else(|| format!("there is no group `{group}`"))?
            }
            None => match entry {
                Some((_, gid)) => gid,
                None => return Err(format!("user {user} has no entry: name a group as well, `{user}:GROUP`")),
            },
        };
        // The number that stands for "no change" in setresuid(2).
        if [uid, gid].contains(&u32::MAX) {
            return Err(format!("{} is nobody's number", u32::MAX));
        }
        Ok(Self { text: text.to_owned(), uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
    }
}

/// Room for the texts of an entry; a group with thousands of members needs more than the usual.
const TEXTS_LEN: usize = 256 * 1024;

/// The numbers of a user and of its group.
fn user_named(name: &str) -> io::Result<Option<(u32, u32)>> {
    let name = CString::new(name)?;
    let mut texts = vec![0; TEXTS_LEN];
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: all pointers are of values that live during the call, with the lengths that are given; the function writes an
    // entry, and a pointer to it or null.
    let errno =
        unsafe { libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), texts.as_mut_ptr(), texts.len(), &raw mut found) };
    if found.is_null() {
        return not_found(errno, &name);
    }
    // SAFETY: the function has said that it has filled the entry in.
    let entry = unsafe { entry.assume_init() };
    Ok(Some((entry.pw_uid, entry.pw_gid)))
}

/// A group's number.
fn group_named(name: &str) -> io::Result<Option<u32>> {
    let name = CString::new(name)?;
    let mut texts = vec![0; TEXTS_LEN];
    let mut entry = MaybeUninit::<libc::group>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: as in `user_named`.
    let errno =
        unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), texts.as_mut_ptr(), texts.len(), &raw mut found) };
    if found.is_null() {
        return not_found(errno, &name);
    }
    // SAFETY: the function has said that it has filled the entry in.
    Ok(Some(unsafe { entry.assume_init() }.gr_gid))
}

/// "The given name or uid was not found": 0, and with some sources of users one of these (getpwnam(3)).
fn not_found<T>(errno: i32, name: &CStr) -> io::Result<Option<T>> {
    match errno {
        0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => Ok(None),
        libc::ERANGE => {
            Err(io::Error::new(ErrorKind::InvalidData, format!("the entry of {} is too long", name.to_string_lossy())))
        }
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_known_by_name_and_by_number() {
        let numbers = |text: &str| text.parse().map(|identity: Identity| (identity.uid(), identity.gid()));
        assert_eq!(numbers("root"), Ok((0, 0)));
        assert_eq!(numbers("root:1234"), Ok((0, 1234)));
        assert_eq!(numbers("4321:root"), Ok((4321, 0)));
        assert_eq!(numbers("4321:1234"), Ok((4321, 1234)));
        assert!(numbers("4321").unwrap_err().contains("name a group as well"));
        assert_eq!(numbers("nobody-of-this-name"), Err("there is no user `nobody-of-this-name`".to_owned()));
        assert_eq!(numbers("root:no-such-group"), Err("there is no group `no-such-group`".to_owned()));
        assert_eq!(numbers("4294967295:0"), Err("4294967295 is nobody's number".to_owned()));
        assert!(numbers("").is_err() && numbers("a\0b").is_err());
    }
}
