//! Capabilities: which are left to whom, and how the others go; capabilities(7).

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What the opener keeps, of what weft was started with:
///
/// | capability | for what |
/// |---|---|
/// | CAP_NET_ADMIN | taps, changes of interfaces, buffers beyond `net.core.rmem_max` |
/// | CAP_NET_RAW | packet sockets, ICMP sockets |
/// | CAP_NET_BIND_SERVICE | underlay ports below 1024 |
/// | CAP_SYS_ADMIN | to enter network namespaces (setns) |
/// | CAP_SYS_PTRACE | to open namespaces of other users' processes; to say which process has a port |
/// | CAP_DAC_READ_SEARCH | namespaces and a configuration that lie in other users' directories |
pub(super) const OPENER: u64 = CapabilitySet::NET_ADMIN.bits()
    | CapabilitySet::NET_RAW.bits()
    | CapabilitySet::NET_BIND_SERVICE.bits()
    | CapabilitySet::SYS_ADMIN.bits()
    | CapabilitySet::SYS_PTRACE.bits()
    | CapabilitySet::DAC_READ_SEARCH.bits();

/// Whether this process may enter network namespaces by itself.
pub(super) fn may_enter() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Takes all but `kept` out of the bounding set, which says what a program could get that this process runs. Whoever has no
/// capability has none to take out, and gets none.
pub(super) fn forget_bounds(kept: u64, shortcomings: &mut Vec<String>) {
    let has_any = capabilities(None).map_or(true, |sets| !sets.permitted.is_empty());
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept & capability.bits() != 0 {
            continue;
        }
        match capability_is_in_bounding_set(capability) {
            Ok(false) => {}
            Ok(true) => {
                if let Err(error) = remove_capability_from_bounding_set(capability)
                    && has_any
                {
                    shortcomings.push(format!("its bounding set stays, which CAP_SETPCAP would empty ({error})"));
                    return;
                }
            }
            // Beyond the last one that this kernel knows.
            Err(_) => return,
        }
    }
}

/// Keeps of its capabilities those in `kept`, and none for programs that it runs.
pub(super) fn keep(kept: u64, shortcomings: &mut Vec<String>) {
    // Kernels before 4.3 have no such set.
    let _ = clear_ambient_capability_set();
    let kept = CapabilitySet::from_bits_retain(kept);
    let lowered = capabilities(None).and_then(|sets| {
        let permitted = sets.permitted.intersection(kept);
        let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets)
    });
    if let Err(error) = lowered {
        shortcomings.push(format!("it keeps its capabilities ({error})"));
    }
}

/// Programs that it runs get no more privileges than it has, whoever owns them.
pub(super) fn no_new_privileges(shortcomings: &mut Vec<String>) {
    if let Err(error) = set_no_new_privs(true) {
        shortcomings.push(format!("no-new-privs can't be set ({error})"));
    }
}
