//! A tap that somebody else made and handed over: one queue, of which all is the kernel's to say.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::fcntl_dupfd_cloexec,
};

use super::{
    interface::InterfaceName,
    opener,
    tun::{self, InterfaceRequest, PlainTap, Tap, TapError, TunOffloads},
};

/// Why a descriptor is no tap that weft can use.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    /// Something else is behind it.
    #[error("it is neither a tap nor a network namespace")]
    NoTap(#[source] io::Error),
    /// IFF_TUN: packets without Ethernet headers.
    #[error("it is a tun device, which has packets and no frames: open it with IFF_TAP")]
    Tun,
    /// A tap without IFF_NO_PI has four bytes in front of each frame.
    #[error("its frames have packet information in front of them: open it with IFF_NO_PI")]
    PacketInformation,
    /// The kernel refused a step.
    #[error("the kernel refused {step}")]
    Refused {
        /// The step.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The configuration calls it otherwise.
    #[error("it is the tap `{is}`: write name = \"{is}\", and not \"{named}\"")]
    OtherName {
        /// What the kernel calls it.
        is: String,
        /// What the configuration does.
        named: String,
    },
    /// It can't be what the configuration wants.
    #[error("it is a tap, and not what kind = \"{0}\" says: leave `kind` out")]
    OtherKind(&'static str),
    /// Nothing can be set on it.
    #[error("`{key}` can't be set: weft has no rights over the namespace of its interface, so whoever made it has to")]
    NoRights {
        /// What was to be set.
        key: &'static str,
    },
}

/// A tap's queue that was handed over.
#[derive(Debug)]
pub struct HandedTap {
    queue: OwnedFd,
    has_header: bool,
    /// The interface's name in its namespace.
    pub name: InterfaceName,
}

impl HandedTap {
    /// Looks at what was handed over.
    ///
    /// # Errors
    /// It is no tap, or not one that weft can use.
    pub fn new(queue: OwnedFd) -> Result<Self, HandedError> {
        let mut request = InterfaceRequest::EMPTY;
        // A queue with a filter tells by this bit whether its frames have packet information; one without has it set
        // always, as IFF_NOFILTER (`drivers/net/tun.c:__tun_chr_ioctl`).
        let filtered = tun::filter_nothing(&queue);
        // SAFETY: TUNGETIFF writes one `struct ifreq`; `request` has its size and is exclusively borrowed.
        let asked = tun::check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNGETIFF, &raw mut request) });
        if filtered.is_ok() {
            tun::filter_no_more(&queue).map_err(refused("TUNDETACHFILTER"))?;
        }
        asked.map_err(HandedError::NoTap)?;
        let flags = libc::c_int::from(request.flags);
        if flags & libc::IFF_TAP == 0 {
            return Err(HandedError::Tun);
        }
        filtered.map_err(refused("TUNATTACHFILTER"))?;
        if flags & libc::IFF_NO_PI == 0 {
            return Err(HandedError::PacketInformation);
        }
        let name = request.name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = InterfaceName::new(&String::from_utf8_lossy(name));
        let name = name.map_err(|error| refused("a name")(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let status = fcntl_getfl(&queue).map_err(|errno| refused("F_GETFL")(errno.into()))?;
        fcntl_setfl(&queue, status | OFlags::NONBLOCK).map_err(|errno| refused("F_SETFL")(errno.into()))?;
        Ok(Self { queue, has_header: flags & libc::IFF_VNET_HDR != 0, name })
    }

    /// The namespace that its interface is in now.
    ///
    /// # Errors
    /// Needs CAP_NET_ADMIN there.
    pub fn namespace(&self) -> io::Result<OwnedFd> {
        match opener::get() {
            Some(opener) => opener.tap_namespace(self.queue.as_fd()),
            None => namespace_of(&self.queue),
        }
    }

    /// The interface's own address.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn mac(&self) -> io::Result<[u8; 6]> {
        let mut request = InterfaceRequest::EMPTY;
        // SAFETY: SIOCGIFHWADDR, which a tap's descriptor answers itself, writes one `struct ifreq`; `request` has its size and
        // is exclusively borrowed.
        tun::check(unsafe { libc::ioctl(self.queue.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) })?;
        // Behind the name: the family, which is where the flags are otherwise, and the address.
        let bytes = request.rest.first_chunk().copied();
        bytes.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether its frames have virtio-net headers.
    pub fn has_header(&self) -> bool {
        self.has_header
    }

    /// With virtio-net headers: as a tap of that many queues, the first of which is read. `index` is its interface's.
    ///
    /// # Errors
    /// The kernel refuses a step.
    pub fn into_tap(self, index: u32, queue_count: usize, offload: bool) -> Result<Tap, TapError> {
        let first = self.queue;
        let refused = |step| tun::refused(&self.name, step);
        let header_len = tun::VNET_HDR_LEN as libc::c_int;
        tun::set_by_pointer(&first, libc::TUNSETVNETHDRSZ, header_len).map_err(refused("TUNSETVNETHDRSZ"))?;
        tun::set_by_pointer(&first, libc::TUNSETSNDBUF, tun::SEND_BUFFER).map_err(refused("TUNSETSNDBUF"))?;
        let offloads = if offload {
            tun::climb_down(&first)
        } else {
            tun::set_offloads(&first, TunOffloads::NONE).map(|()| TunOffloads::NONE)
        };
        let offloads = offloads.map_err(refused("TUNSETOFFLOAD"))?;
        let others = (1..queue_count).map(|_| fcntl_dupfd_cloexec(&first, 0));
        let others = others.collect::<Result<Vec<_>, _>>().map_err(|errno| refused("F_DUPFD")(errno.into()))?;
        Ok(Tap { index, queues: std::iter::once(first).chain(others).collect(), offloads })
    }

    /// Without: as a plain tap. `index` is its interface's.
    ///
    /// # Errors
    /// The kernel refuses to finish what it hands over.
    pub fn into_plain(self, index: u32) -> Result<PlainTap, TapError> {
        let name = self.name;
        tun::set_offloads(&self.queue, TunOffloads::NONE).map_err(tun::refused(&name, "TUNSETOFFLOAD"))?;
        Ok(PlainTap::of_queue(self.queue, index))
    }
}

/// The namespace that the interface is in whose queue this is.
pub(super) fn namespace_of(queue: &OwnedFd) -> io::Result<OwnedFd> {
    // include/uapi/linux/if_tun.h: _IO('T', 227)
    const TUNGETDEVNETNS: libc::c_ulong = 0x54e3;
    // SAFETY: the request takes no argument and writes no memory; the descriptor is open for as long as `queue` is borrowed.
    let descriptor = unsafe { libc::ioctl(queue.as_raw_fd(), TUNGETDEVNETNS) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for the caller, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn refused(step: &'static str) -> impl Fn(io::Error) -> HandedError {
    move |source| HandedError::Refused { step, source }
}
