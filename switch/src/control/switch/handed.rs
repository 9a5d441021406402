//! Ports whose tap was handed to weft: a descriptor that it was started with.
//!
//! If weft has rights over the namespace that the tap's interface is in, the port is like any other tap's. If not, which is why
//! somebody may have opened it for weft, nothing is known of the interface but what the descriptor itself says: whoever made it
//! sets its addresses, its MTU and its state, and weft takes for its MTU what the configuration says, or what fits.

use std::sync::Arc;

use tracing::{info, warn};

use super::port::{OpenPort, PortOpenError, set_up};
use crate::{
    control::{
        config::{PortConfig, PortKind},
        link::{Link, Links, OperState},
    },
    port::{Offloads, Port, PortQueue, plain_tap, tap},
    sys::{
        handed_tap::{HandedError, HandedTap},
        inherited::{self, Handle},
        netns::Netns,
    },
    wire::MacAddr,
};

/// The tap behind a descriptor; `None`: it is a namespace.
pub(super) fn tap_of(handle: &Handle) -> Result<Option<HandedTap>, PortOpenError> {
    let take = || inherited::take(handle).map_err(PortOpenError::Descriptor);
    if Netns::from_descriptor(take()?, "").is_ok() {
        return Ok(None);
    }
    Ok(Some(HandedTap::new(take()?)?))
}

/// Opens a port with a queue for each of `workers`.
pub(super) async fn open(
    config: &PortConfig,
    tap: HandedTap,
    workers: usize,
    default_mtu: u16,
) -> Result<(OpenPort, Vec<PortQueue>), PortOpenError> {
    if tap.name.as_str() != config.name {
        return Err(HandedError::OtherName { is: tap.name.to_string(), named: config.name.clone() }.into());
    }
    if config.kind != PortKind::Tap {
        return Err(HandedError::OtherKind(config.kind.name()).into());
    }
    let port = config.full_name();
    let (netns, link) = match tap.namespace() {
        Ok(descriptor) => {
            let netns = Netns::from_descriptor(descriptor, &format!("the namespace of {port}"));
            let netns = netns.map_err(PortOpenError::Netns)?;
            let links = Links::open(&netns)?;
            set_up(&links, config, config.kind, default_mtu).await?;
            let link = links.by_name(&config.name).await?;
            (Some(netns), link)
        }
        Err(error) => {
            refuse_settings(config)?;
            let mtu = config.mtu.unwrap_or(default_mtu);
            warn!(port, %error, mtu, "weft has no rights over the tap's namespace: its MTU is taken for this one, its state for up");
            (None, unseen_link(&tap, mtu)?)
        }
    };
    let mut queues = queues(tap, link.index, workers, config.offload)?;
    let offloads = queues.first().map_or_else(Offloads::default, Port::offloads);
    info!(port, kind = config.kind.name(), mtu = link.mtu, mac = ?link.mac, "port open, by a descriptor");
    let losses = queues.iter_mut().find_map(Port::take_link_losses).filter(|_| netns.is_some()).map(Arc::new);
    let (config, kind) = (config.clone(), config.kind);
    Ok((OpenPort { config, kind, netns, gone: false, link, losses, offloads, default_mtu }, queues))
}

/// What would have to be set by somebody with rights over the namespace.
pub(super) fn refuse_settings(config: &PortConfig) -> Result<(), HandedError> {
    let wanted = [
        ("address", !config.addresses.is_empty()),
        ("mac", config.mac.is_some()),
        ("queue_length", config.queue_length.is_some()),
    ];
    match wanted.iter().find(|(_, is_set)| *is_set) {
        Some((key, _)) => Err(HandedError::NoRights { key }),
        None => Ok(()),
    }
}

fn unseen_link(tap: &HandedTap, mtu: u16) -> Result<Link, PortOpenError> {
    Ok(Link {
        index: 0,
        name: tap.name.to_string(),
        mtu: u32::from(mtu),
        mac: Some(MacAddr::new(tap.mac().map_err(PortOpenError::Descriptor)?)),
        up: true,
        carrier: true,
        oper: OperState::Unknown,
        loopback: false,
        kind: Some("tun".to_owned()),
        master: None,
    })
}

fn queues(tap: HandedTap, index: u32, workers: usize, offload: bool) -> Result<Vec<PortQueue>, PortOpenError> {
    Ok(if tap.has_header() {
        let tap = tap.into_tap(index, workers, offload).map_err(PortOpenError::Tap)?;
        tap::of_one_queue(tap).into_iter().map(PortQueue::Tap).collect()
    } else {
        let tap = tap.into_plain(index).map_err(PortOpenError::Tap)?;
        plain_tap::of_tap(tap, workers).into_iter().map(PortQueue::PlainTap).collect()
    })
}
