//! Files: a running switch opens none; landlock(7).
//!
//! All that it reads and writes then is open already, or is opened by the opener and handed over: Landlock asks where a file is
//! opened, not who reads it. What is left is to list the names of namespaces, for "did you mean".
//!
//! In a Landlock domain a process can't look into `/proc` at processes outside of it either
//! (`security/landlock/task.c:hook_ptrace_access_check`), so that it could not open the namespaces of others. So the opener is in
//! none.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::sys::netns::RUN_DIR;

/// What is asked for: files, TCP, ioctls of devices, signals and abstract unix sockets out of the domain. An older kernel gives
/// what it knows.
const WANTED: ABI = ABI::V6;

/// Forbids it, and returns which version of Landlock does; `None`: none does.
pub(super) fn open_none(shortcomings: &mut Vec<String>) -> Option<u32> {
    let (missing, version) = match restrict() {
        Ok(status) => (status.ruleset == RulesetStatus::NotEnforced, version(status.landlock)),
        Err(error) => {
            shortcomings.push(format!("files can be opened: Landlock refuses ({error})"));
            return None;
        }
    };
    if missing {
        let why = match version {
            Some(_) => "is off",
            None => "is not in this kernel (CONFIG_SECURITY_LANDLOCK, Linux 5.13, and `lsm=` with landlock)",
        };
        shortcomings.push(format!("files can be opened: Landlock {why}"));
        return None;
    }
    version
}

fn restrict() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules([RUN_DIR], AccessFs::ReadDir))?
        .restrict_self()
}

fn version(status: LandlockStatus) -> Option<u32> {
    match status {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            Some(kernel_abi.map_or(effective_abi as u32, i32::cast_unsigned))
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}
