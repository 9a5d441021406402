//! What all topologies here have in common.

use weft::lab::{LabError, Namespace};

/// Makes the kernel finish what it sends by a veth, as it would for a wire. A veth else hands packets over as the kernel
/// holds them, inner checksums left open and inner TCP uncut, and a UDP socket at the other end gets them like that.
pub(crate) fn as_on_a_wire(namespace: &Namespace, veth: &str) -> Result<(), LabError> {
    let off = ["tx", "tso", "gso", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"];
    let mut command = vec!["ethtool", "-K", veth];
    command.extend(off.iter().flat_map(|feature| [*feature, "off"]));
    namespace.run(&command)?.ok().map(drop)
}
