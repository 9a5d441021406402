//! The eBPF program of the lab `ebpf`, `redirect.c`: loaded and put on interfaces with aya.
//!
//! It is attached by netlink (`cls_bpf` in a `clsact` queueing discipline), so that the interface holds it: it stays when
//! the process that loaded it has ended, and goes with the interface. `redirect.o` is what clang makes of the source; how
//! is said there.

use std::{io, net::IpAddr};

use aya::{
    EbpfLoader,
    maps::HashMap,
    programs::{
        SchedClassifier, TcAttachType,
        tc::{self, NlOptions, TcAttachOptions, TcError},
    },
};

use super::{LabError, Namespace, topology::Bpf};

const OBJECT: &[u8] = aya::include_bytes_aligned!("redirect.o");
const PROGRAM: &str = "redirect";
const TARGETS: &str = "TARGETS";

/// Puts the program on what an interface receives, in place of one that is there.
pub(super) fn attach(host: &Namespace, bpf: &Bpf) -> Result<(), LabError> {
    let mut targets = Vec::new();
    for (address, interface) in &bpf.redirect {
        if let IpAddr::V4(address) = address {
            // As the program reads it out of the packet.
            targets.push((u32::from_ne_bytes(address.octets()), host.link(interface)?.index));
        }
    }
    detach(host, &bpf.interface)?;
    host.within(|| load(&bpf.interface, &targets))?
        .map_err(|error| LabError::step(format!("put an eBPF program on {} in {}", bpf.interface, host.name()), error))
}

/// Takes the program off an interface; that it isn't there is no error.
pub(super) fn detach(host: &Namespace, interface: &str) -> Result<(), LabError> {
    let detached = host.within(|| tc::qdisc_detach_program(interface, TcAttachType::Ingress, PROGRAM))?;
    match detached.map_err(io_error) {
        // ENOENT: no such filter; EINVAL: not even a queueing discipline for one.
        Err(error) if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::InvalidInput => {
            Err(LabError::step(format!("take an eBPF program off {interface} in {}", host.name()), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// aya's error as the kernel's, if it is one.
fn io_error(error: TcError) -> io::Error {
    match error {
        TcError::IoError(error) => error,
        TcError::NetlinkError(error) => match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(error),
        },
        TcError::NulError(_)
        | TcError::AlreadyAttached
        | TcError::InvalidTcxAttach(_)
        | TcError::InvalidLinkOperation => io::Error::other(error),
    }
}

/// Loads and attaches on the thread that calls: the interface is looked up in its namespace.
fn load(interface: &str, targets: &[(u32, u32)]) -> io::Result<()> {
    // The program knows no structure of the kernel, so that the kernel's types (BTF, 5 MB of them) need not be read.
    let mut object = EbpfLoader::new().btf(None).load(OBJECT).map_err(io::Error::other)?;
    let map = object.map_mut(TARGETS).ok_or_else(|| io::Error::other("the program has no map"))?;
    let mut map: HashMap<_, u32, u32> = map.try_into().map_err(io::Error::other)?;
    for (address, index) in targets {
        map.insert(address, index, 0).map_err(io::Error::other)?;
    }
    match tc::qdisc_add_clsact(interface).map_err(io_error) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let program = object.program_mut(PROGRAM).ok_or_else(|| io::Error::other("the object has no program"))?;
    let program: &mut SchedClassifier = program.try_into().map_err(io::Error::other)?;
    program.load().map_err(io::Error::other)?;
    let options = TcAttachOptions::Netlink(NlOptions::default());
    let attached = program.attach_with_options(interface, TcAttachType::Ingress, options).map_err(io::Error::other)?;
    let link = program.take_link(attached).map_err(io::Error::other)?;
    // It would take the program off as it goes out of scope; the program is the interface's from here on.
    std::mem::forget(link);
    Ok(())
}
