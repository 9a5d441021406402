//! A veth pair in a tap's place: for whoever may not open `/dev/net/tun`.
//!
//! The near end is the port's interface, where a tap would be. The far end lies in a nameless namespace that is made for it and
//! belongs to the same user namespace; nobody is there but weft's packet sockets, which read what the near end sends and
//! write what it is to receive. They are all that keeps that namespace: when they close, however that comes, the kernel takes
//! it away with the far end, and so the near one (`net/core/net_namespace.c:cleanup_net`). So nothing outlives weft, as with a
//! tap; only that it takes the kernel a moment, which is why [`take_away`] does not leave it to that.

use std::{
    io::ErrorKind,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::link::{InfoData, InfoVeth},
};

use super::port::{OpenPort, PortOpenError};
use crate::{
    control::{
        config::{PortConfig, PortKind},
        link::{LinkError, Links},
    },
    port::{PortQueue, packet},
    sys::{inside, netns::Netns},
};

/// The far end's name; it is alone in its namespace.
const FAR_END: &str = "weft";

/// The far end takes whatever the near one sends (`drivers/net/veth.c` allows ETH_MAX_MTU).
const FAR_MTU: u32 = 65_535;

/// Lays the cable and opens a queue for each worker at its far end.
pub(super) async fn lay(netns: &Netns, config: &PortConfig, workers: usize) -> Result<Vec<PortQueue>, PortOpenError> {
    let far = netns.making(inside::namespace).and_then(|made| made).map_err(PortOpenError::Netns)?;
    let label = format!("the far end of port {}", config.full_name());
    let far = Netns::from_descriptor(far, &label).map_err(PortOpenError::Netns)?;
    make(&Links::open(netns)?, &config.name, &far).await?;
    Links::open(&far)?.set_up(FAR_END, true).await?;
    let opened = far.making(|| packet::open(FAR_END, workers, config.offload)).map_err(PortOpenError::Netns)?;
    Ok(opened.map_err(PortOpenError::Packet)?.into_iter().map(PortQueue::Packet).collect())
}

/// Takes away what a port of this kind leaves behind for the kernel to find. Its queues are closed already.
pub(super) async fn take_away(port: &OpenPort) -> Result<(), LinkError> {
    let Some(netns) = port.netns.as_ref().filter(|_| port.kind == PortKind::Veth) else { return Ok(()) };
    let links = Links::open(netns)?;
    // By its index: somebody may have given the name to another interface.
    let is_gone = |error: &LinkError| error.kind() == ErrorKind::NotFound;
    match links.by_index(port.link.index).await {
        Ok(link) => links.delete(&link.name).await.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) }),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn make(links: &Links, name: &str, far: &Netns) -> Result<(), LinkError> {
    // An end of a weft that was killed a moment ago may still be there.
    const ATTEMPTS: usize = 20;
    const PAUSE: Duration = Duration::from_millis(100);
    for _ in 1..ATTEMPTS {
        match make_now(links, name, far).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_veth(links, name).await => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
    make_now(links, name, far).await
}

async fn make_now(links: &Links, name: &str, far: &Netns) -> Result<(), LinkError> {
    let far_fd = far.as_fd().as_raw_fd();
    let far_end = LinkMessageBuilder::<LinkUnspec>::new().name(FAR_END).mtu(FAR_MTU).setns_by_fd(far_fd).build();
    let message = LinkVeth::new(name, FAR_END).set_info_data(InfoData::Veth(InfoVeth::Peer(far_end))).build();
    links.create_with(name, message, Some(far), "make a veth pair".to_owned()).await
}

async fn is_veth(links: &Links, name: &str) -> bool {
    links.by_name(name).await.is_ok_and(|link| link.kind.as_deref() == Some("veth"))
}
