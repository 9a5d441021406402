//! User namespaces: how an ordinary user comes to be root somewhere, and why not if he may not.
//!
//! In a user namespace of his own a process has all capabilities, and so over all namespaces that are made together with it or
//! from inside it: it may make interfaces, mount, set routes. Outside it stays who it was. Whether a kernel lets ordinary
//! users do so is a setting with many names; [`UsernsError`] finds the one that forbids it.
#![allow(unsafe_code)]

use std::{fmt, fs, io, path::Path};

use rustix::{mount::MountPropagationFlags, thread::UnshareFlags};

/// Namespaces that are made together with a user namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum With {
    /// A mount namespace whose mounts nobody outside sees.
    Mounts,
    /// A mount and a network namespace.
    MountsAndNetwork,
}

/// Why no user namespace could be made.
#[derive(Debug)]
pub struct UsernsError {
    source: io::Error,
    step: &'static str,
    cause: Option<Cause>,
}

/// Moves this process into a new user namespace, where it is root and its group is root's. Outside it stays who it was, and of
/// all users and groups there is only the own one inside. Nothing of it outlives its processes.
///
/// # Errors
/// The kernel does not let this user make one; or the process has more than one thread.
pub fn enter_new(with: With) -> Result<(), UsernsError> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let flags = UnshareFlags::NEWUSER
        | match with {
            With::Mounts => UnshareFlags::NEWNS,
            With::MountsAndNetwork => UnshareFlags::NEWNS | UnshareFlags::NEWNET,
        };
    // SAFETY: none of these flags touches memory or descriptors, so none of the hazards of unshare(2) that make it unsafe (a
    // descriptor table of its own, CLONE_FILES) applies. CLONE_NEWUSER is refused if there are other threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }
        .map_err(|errno| UsernsError::new("make a user namespace", errno.into()))?;
    let write = |file: &str, text: &str| {
        fs::write(file, text).map_err(|error| UsernsError::new("say who is who in a user namespace", error))
    };
    // Before the groups, as a user without privileges outside has to (user_namespaces(7)).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/gid_map", &format!("0 {} 1", group.as_raw()))?;
    write("/proc/self/uid_map", &format!("0 {} 1", user.as_raw()))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)
        .map_err(|errno| UsernsError::new("keep mounts to itself in a user namespace", errno.into()))
}

impl UsernsError {
    fn new(step: &'static str, source: io::Error) -> Self {
        let cause = Cause::find(&source, Path::new("/proc/sys"));
        Self { source, step, cause }
    }
}

impl fmt::Display for UsernsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {}: {}", self.step, self.source)?;
        match self.cause {
            Some(cause) => write!(f, "; {}", cause.words()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UsernsError {}

/// What keeps users from making user namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    /// `kernel.unprivileged_userns_clone = 0`: Debian's and Arch's patch.
    Clone,
    /// `kernel.apparmor_restrict_unprivileged_userns = 1`: Ubuntu from 23.10 on.
    AppArmor,
    /// `user.max_user_namespaces = 0`.
    None,
    /// As many as there may be, of one kind or another.
    Limit,
    /// None of the settings: a filter.
    Filter,
    /// Nested too deeply (EUSERS).
    Depth,
    /// A kernel without them.
    Kernel,
}

impl Cause {
    fn find(error: &io::Error, settings: &Path) -> Option<Self> {
        let setting = |name: &str| -> Option<u64> {
            fs::read_to_string(settings.join(name)).ok().and_then(|text| text.trim().parse().ok())
        };
        let none_allowed = setting("user/max_user_namespaces") == Some(0);
        match error.raw_os_error()? {
            libc::ENOSPC if none_allowed => Some(Self::None),
            libc::ENOSPC => Some(Self::Limit),
            libc::EUSERS => Some(Self::Depth),
            libc::EINVAL | libc::ENOSYS => Some(Self::Kernel),
            libc::EPERM | libc::EACCES if setting("kernel/unprivileged_userns_clone") == Some(0) => Some(Self::Clone),
            libc::EPERM | libc::EACCES if setting("kernel/apparmor_restrict_unprivileged_userns") == Some(1) => {
                Some(Self::AppArmor)
            }
            libc::EPERM | libc::EACCES => Some(Self::Filter),
            _ => None,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Clone => {
                "this kernel lets only root make them: `sysctl kernel.unprivileged_userns_clone=1`, as root, changes that"
            }
            Self::AppArmor => {
                "AppArmor lets only programs that have a profile do so (kernel.apparmor_restrict_unprivileged_userns is \
                 1): give weft a profile with the rule `userns,`, or set that to 0, as root"
            }
            Self::None => {
                "user.max_user_namespaces is 0, so that there may be none: `sysctl user.max_user_namespaces=10000`, as \
                 root, changes that"
            }
            Self::Limit => {
                "there are as many as there may be: see user.max_user_namespaces, user.max_net_namespaces and \
                 user.max_mnt_namespaces"
            }
            Self::Filter => {
                "no setting of the kernel forbids it, so a seccomp filter, a security module or a chroot does: inside of a \
                 container, ask its maker (`--security-opt seccomp=unconfined`)"
            }
            Self::Depth => "user namespaces are nested 32 deep at most",
            Self::Kernel => "this kernel was built without user namespaces (CONFIG_USER_NS)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_cause(errno: i32, settings: &[(&str, &str)], expected: Option<Cause>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in settings {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        let found = Cause::find(&io::Error::from_raw_os_error(errno), folder.path());
        assert_eq!(found, expected, "{errno} with {settings:?}");
    }

    #[test]
    fn the_setting_that_forbids_it_is_found() {
        let (clone, most) = ("kernel/unprivileged_userns_clone", "user/max_user_namespaces");
        let restricted = ("kernel/apparmor_restrict_unprivileged_userns", "1\n");
        assert_cause(libc::EPERM, &[(clone, "0\n")], Some(Cause::Clone));
        assert_cause(libc::EPERM, &[(clone, "1\n"), restricted], Some(Cause::AppArmor));
        // What writing a map says.
        assert_cause(libc::EACCES, &[restricted], Some(Cause::AppArmor));
        assert_cause(libc::ENOSPC, &[(most, "0\n")], Some(Cause::None));
        assert_cause(libc::ENOSPC, &[(most, "5\n")], Some(Cause::Limit));
        assert_cause(libc::EPERM, &[(most, "5\n")], Some(Cause::Filter));
        assert_cause(libc::EUSERS, &[], Some(Cause::Depth));
        assert_cause(libc::EINVAL, &[], Some(Cause::Kernel));
        assert_cause(libc::ENOMEM, &[], None);
    }

    #[test]
    fn the_error_says_what_would_be_right() {
        let source = io::Error::from_raw_os_error(libc::ENOSPC);
        let error = UsernsError { source, step: "make a user namespace", cause: Some(Cause::None) };
        let said = error.to_string();
        assert!(said.starts_with("can't make a user namespace: No space left on device"), "{said}");
        assert!(said.contains("sysctl user.max_user_namespaces=10000"), "{said}");
    }
}
