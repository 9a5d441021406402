//! Names of the switch's parts: small indices into the tables, never reused for something else while a frame may carry them.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u16);

        impl $name {
            /// The id as an index of a table.
            #[inline]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A port of the switch.
    PortId
);
id!(
    /// A bridge (broadcast domain) of the switch.
    BridgeId
);
id!(
    /// A VTEP that the switch has heard of, by configuration or by learning.
    VtepId
);

/// Where a frame goes to or comes from: what an FDB entry points at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Endpoint {
    /// A port of this switch.
    Port(PortId),
    /// A remote VTEP, over the underlay.
    Vtep(VtepId),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(id) => write!(f, "port {}", id.0),
            Self::Vtep(id) => write!(f, "vtep {}", id.0),
        }
    }
}
