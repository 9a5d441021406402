//! What goes wrong with interfaces, in words for the one who has to mend it.

use std::{fmt, io};

use rtnetlink::packet_core::ErrorMessage;

/// An interface can't be found, read or changed. The text names the interface, the namespace and the attempt; what the
/// kernel said is the source.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel knows no such interface (ENODEV).
    #[error("no such interface: {interface} in {netns}")]
    NoSuchInterface {
        /// Its name, or `#7` for an index.
        interface: String,
        /// The namespace as [`crate::sys::netns::Netns`] shows it.
        netns: String,
    },
    /// The kernel refused.
    #[error("{interface} in {netns}: can't {attempt}")]
    Refused {
        /// The interface's name, or what else it was about.
        interface: String,
        /// The namespace.
        netns: String,
        /// What was tried: "set the MTU to 70000".
        attempt: String,
        /// What the kernel said.
        source: Refusal,
    },
    /// What was asked for can't be: the kernel wasn't bothered with it.
    #[error("{interface} in {netns}: {reason}")]
    Invalid {
        /// The interface's name.
        interface: String,
        /// The namespace.
        netns: String,
        /// Why not.
        reason: String,
    },
    /// The namespace can't be entered, or no netlink socket be opened there.
    #[error("can't open a netlink socket in {netns}")]
    Socket {
        /// The namespace.
        netns: String,
        /// Why not.
        source: io::Error,
    },
}

impl LinkError {
    /// What kind of thing the kernel said, to tell EEXIST, EPERM and "no such interface" apart.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::NoSuchInterface { .. } => io::ErrorKind::NotFound,
            Self::Refused { source, .. } => source.error.kind(),
            Self::Invalid { .. } => io::ErrorKind::InvalidInput,
            Self::Socket { source, .. } => source.kind(),
        }
    }
}

/// The kernel's answer to a netlink request it refused: an errno and, from many places in it, a sentence.
#[derive(Debug)]
pub struct Refusal {
    /// The errno.
    pub error: io::Error,
    /// The sentence ("extended acknowledgement"), such as "mtu greater than device maximum".
    pub message: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} ({})", self.error),
            None => fmt::Display::fmt(&self.error, f),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<rtnetlink::Error> for Refusal {
    fn from(error: rtnetlink::Error) -> Self {
        if let rtnetlink::Error::NetlinkError(error) = error {
            let message = extended_message(&error);
            Self { error: error.to_io(), message }
        } else {
            Self { error: io::Error::other(error), message: None }
        }
    }
}

/// The kernel's sentence in an error: attribute NLMSGERR_ATTR_MSG behind the header of the request, which is all that is
/// sent back of it when the socket has NETLINK_CAP_ACK (`include/uapi/linux/netlink.h`).
fn extended_message(error: &ErrorMessage) -> Option<String> {
    const REQUEST_HEADER_LEN: usize = 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    const TYPE_MASK: u16 = 0x3fff;
    let mut rest = error.header.get(REQUEST_HEADER_LEN..)?;
    loop {
        let (&[len_0, len_1, kind_0, kind_1], _) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([len_0, len_1]));
        let value = rest.get(4..len)?;
        if u16::from_ne_bytes([kind_0, kind_1]) & TYPE_MASK == NLMSGERR_ATTR_MSG {
            let text = String::from_utf8_lossy(value);
            let text = text.trim_end_matches('\0').trim_end_matches('.');
            return (!text.is_empty()).then(|| text.to_owned());
        }
        // Attributes begin at multiples of four bytes.
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error_with(tail: &[u8]) -> ErrorMessage {
        let mut message = ErrorMessage::default();
        message.header = [&[0; 16], tail].concat();
        message
    }

    #[test]
    fn the_kernels_sentence_is_found_behind_other_attributes() {
        let offset = [8u8, 0, 2, 0, 1, 2, 3, 4];
        let tail = [offset.as_slice(), &[12, 0, 1, 0], b"too big\0"].concat();
        assert_eq!(extended_message(&error_with(&tail)).as_deref(), Some("too big"));
    }

    #[test]
    fn an_error_without_attributes_has_no_sentence() {
        assert_eq!(extended_message(&error_with(&[])), None);
        assert_eq!(extended_message(&ErrorMessage::default()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = extended_message(&error_with(&bytes));
        }
    }
}
