//! `weft explain`: a frame's way through the running switch, in words, without sending it.
//!
//! [`worker::explain`](crate::worker::explain) walks; [`narrator`], [`stages`], [`onward`] and [`looking`] find the words, [`deciders`] the lines of the
//! configuration. The kernel is asked which way each VTEP would be reached, since it is the kernel that would refuse.

mod deciders;
mod live;
mod looking;
mod narrator;
mod onward;
mod stages;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use weft_vxlan::{Encapsulation, HeaderFormat, Vni, encapsulation::MAX_HEADER_LEN};

pub use self::live::Live;
use self::narrator::Narrator;
use super::Switch;
use crate::{
    bridge::Tables,
    buffer::MAX_FRAME_LEN,
    control::{
        api::explanation::{ExplainRequest, Explanation},
        config::FdbTarget,
        link::Links,
    },
    fdb::Learned,
    ids::{BridgeId, Endpoint, PortId},
    offload::VnetHeader,
    wire::hex,
    worker::{
        TunnelHeader,
        explain::{Arriving, Path, Scene, Walkthrough, explain},
    },
};

/// Why a frame can't be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// It names something that is not there.
    #[error("there is no {what} {name}")]
    NotFound {
        /// `port`, `overlay` or `bridge with VNI`.
        what: &'static str,
        /// What was named.
        name: String,
    },
    /// The request can't be right.
    #[error("{message}")]
    Request {
        /// What is wrong.
        message: String,
        /// What would be right.
        help: String,
    },
    /// Too many look at frames already.
    #[error("{most} look at frames already")]
    Busy {
        /// How many may.
        most: usize,
    },
}

impl ExplainError {
    fn request(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Request { message: message.into(), help: help.into() }
    }
}

/// A request whose names and bytes make sense.
enum Question {
    Frame { port: PortId, bytes: Vec<u8> },
    Datagram { format: HeaderFormat, source: IpAddr, tos: u8, payload: Vec<u8> },
}

impl Question {
    fn arriving(&self) -> Arriving<'_> {
        match self {
            Self::Frame { port, bytes } => Arriving::Frame { port: *port, bytes, vnet: Some(VnetHeader::NONE) },
            Self::Datagram { format, source, tos, payload } => {
                Arriving::Datagram { format: *format, source: *source, tos: *tos, payload }
            }
        }
    }
}

impl Switch {
    /// What would happen to a frame now. Nothing happens to it, and nothing is learned from it.
    ///
    /// # Errors
    /// See [`ExplainError`].
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ExplainError> {
        let question = self.question(request)?;
        let arriving = question.arriving();
        let tables = self.shared.tables.load();
        // Which VTEPs it would go to is known when it was walked once.
        let first = self.walk(&tables, arriving, None, &|_| Path::Unknown);
        let paths = self.paths(&first).await;
        let path = |address| paths.get(&address).copied().unwrap_or(Path::Unknown);
        let walk = self.walk(&tables, arriving, None, &path);
        Ok(self.narrated(|narrator| narrator.explanation(arriving, &walk)))
    }

    fn walk(
        &self,
        tables: &Tables,
        arriving: Arriving<'_>,
        learned: Option<Learned>,
        path: &dyn Fn(SocketAddr) -> Path,
    ) -> Walkthrough {
        let scene = Scene {
            tables,
            fdb: &self.shared.fdb,
            vteps: &self.shared.vteps,
            flow_seed: self.shared.flow_seed,
            learned,
            now: self.clock.now(),
            path,
        };
        explain(&scene, arriving)
    }

    fn narrated<T>(&self, tell: impl FnOnce(&Narrator<'_>) -> T) -> T {
        tell(&Narrator {
            config: &self.config,
            port_name: &|id: PortId| self.endpoint_name(Endpoint::Port(id)),
            bridge_name: &|id: BridgeId| self.bridge_name(id),
            vteps: &self.shared.vteps,
            outer_port: &|hash, df| self.underlay.as_ref()?.outer_ports.port(hash, df),
            now: self.clock.now(),
        })
    }

    /// The interface to each VTEP that gets a copy, as the kernel would route it now. It refuses what is longer than its MTU;
    /// what the kernel knows of the path beyond, nobody asks.
    async fn paths(&self, walk: &Walkthrough) -> HashMap<SocketAddr, Path> {
        let mut paths = HashMap::new();
        let Some(underlay) = &self.underlay else { return paths };
        let Ok(links) = Links::open(&underlay.netns) else { return paths };
        for departure in walk.departures() {
            let Endpoint::Vtep(vtep) = departure.to else { continue };
            let Some(address) = self.shared.vteps.address(vtep) else { continue };
            let path = match links.route_to(address.ip(), Some(underlay.config.address)).await {
                Ok(route) => Path::Mtu(route.link.mtu),
                Err(_) => Path::Unreachable,
            };
            paths.insert(address, path);
        }
        paths
    }

    fn question(&self, request: &ExplainRequest) -> Result<Question, ExplainError> {
        let ExplainRequest { port, vtep, vni, encapsulation, outer_tos, frame, payload } = request;
        match (port, vtep) {
            (Some(port), None) => {
                if vni.is_some() || encapsulation.is_some() || outer_tos.is_some() || payload.is_some() {
                    let message = "`vni`, `encapsulation`, `outer_tos` and `payload` go with a `vtep`";
                    let help = "name a `vtep` instead of a `port`, or leave them out";
                    return Err(ExplainError::request(message, help));
                }
                let id = self.port_id(port);
                let id = id.ok_or_else(|| ExplainError::NotFound { what: "port", name: port.clone() })?;
                Ok(Question::Frame { port: id, bytes: bytes_of("frame", frame.as_deref())? })
            }
            (None, Some(vtep)) => {
                let source = self.of_underlay(*vtep)?;
                let said = encapsulation.as_deref().map(encapsulation_of).transpose()?;
                let by_default =
                    || self.config.vtep.as_ref().map_or_else(Encapsulation::default, |vtep| vtep.encapsulation);
                let (format, payload) = match (payload, frame) {
                    (Some(_), Some(_)) => {
                        let help = "`payload` is tunnel header and frame; `frame` is the frame alone";
                        return Err(ExplainError::request("either `frame` or `payload`", help));
                    }
                    (Some(_), None) => {
                        (said.unwrap_or_else(by_default).format(), bytes_of("payload", payload.as_deref())?)
                    }
                    (None, _) => {
                        let vni = self.vni(*vtep, *vni)?;
                        let bridge = self.config.bridges.iter().find(|bridge| bridge.vni == Some(vni));
                        let of_bridge = || bridge.map_or_else(by_default, |bridge| bridge.encapsulation);
                        let format = said.unwrap_or_else(of_bridge).format();
                        let header = TunnelHeader::plain(format, vni).to_bytes();
                        (format, [&header[..], &bytes_of("frame", frame.as_deref())?].concat())
                    }
                };
                Ok(Question::Datagram { format, source, tos: outer_tos.unwrap_or(0), payload })
            }
            (None, None) | (Some(_), Some(_)) => {
                let help = "`port` for a frame that comes in by a port, `vtep` for one that comes over the underlay";
                Err(ExplainError::request("a frame comes in either by a `port` or from a `vtep`", help))
            }
        }
    }

    /// An address that can be a VTEP's.
    fn of_underlay(&self, vtep: IpAddr) -> Result<IpAddr, ExplainError> {
        let address = self.config.vtep.as_ref().map(|vtep| vtep.address);
        let local = address.ok_or_else(|| ExplainError::NotFound {
            what: "overlay",
            name: "in this configuration: it has no [vtep]".to_owned(),
        })?;
        if local.is_ipv4() == vtep.is_ipv4() {
            return Ok(vtep);
        }
        let help = format!("an address of the underlay's family, that of {local}");
        Err(ExplainError::request(format!("{vtep} can't reach {local}"), help))
    }

    /// The VNI that is asked for, or the only one that can be meant.
    fn vni(&self, vtep: IpAddr, wanted: Option<u32>) -> Result<Vni, ExplainError> {
        if let Some(wanted) = wanted {
            let refusal = || ExplainError::request(format!("{wanted} is no VNI"), "0 to 16777215");
            return Vni::new(wanted).ok_or_else(refusal);
        }
        let names_it = |bridge: &str, remotes: &[SocketAddr]| {
            let at = |entry: &FdbTarget| matches!(entry, FdbTarget::Vtep(address) if address.ip() == vtep);
            remotes.iter().any(|remote| remote.ip() == vtep)
                || self.config.fdb.iter().any(|entry| entry.bridge == bridge && at(&entry.at))
        };
        let with_vni = || self.config.bridges.iter().filter_map(|bridge| Some((bridge, bridge.vni?)));
        let knowing: Vec<_> = with_vni().filter(|(bridge, _)| names_it(&bridge.name, &bridge.remotes)).collect();
        let all: Vec<_> = with_vni().collect();
        match (knowing.as_slice(), all.as_slice()) {
            ([(_, only)], _) | ([], [(_, only)]) => Ok(*only),
            ([], []) => Err(ExplainError::request("no bridge has a VNI", "name one: `vni`")),
            ([], several) | (several, _) => {
                let list: Vec<_> = several.iter().map(|(bridge, vni)| format!("{vni} ({})", bridge.name)).collect();
                Err(ExplainError::request(
                    "several bridges could be meant",
                    format!("name the VNI: {}", list.join(", ")),
                ))
            }
        }
    }
}

/// The encapsulation of this word.
fn encapsulation_of(word: &str) -> Result<Encapsulation, ExplainError> {
    let found = Encapsulation::WORDS.iter().find(|(known, _)| *known == word);
    found.map(|(_, encapsulation)| *encapsulation).ok_or_else(|| {
        let words: Vec<_> = Encapsulation::WORDS.iter().map(|(word, _)| *word).collect();
        ExplainError::request(format!("`{word}` is no encapsulation"), words.join(", "))
    })
}

/// The bytes of a hexadecimal string.
fn bytes_of(key: &str, text: Option<&str>) -> Result<Vec<u8>, ExplainError> {
    let help = "two hexadecimal digits a byte, such as \"ffffffffffff0200000000010806\"";
    let text = text.ok_or_else(|| ExplainError::request(format!("`{key}` is missing"), help))?;
    let bytes = hex::decode(text.as_bytes());
    let bytes = bytes.ok_or_else(|| ExplainError::request(format!("`{key}` is not hexadecimal"), help))?;
    if bytes.len() > MAX_LEN {
        let message = format!("`{key}` has {} bytes", bytes.len());
        return Err(ExplainError::request(message, format!("at most {MAX_LEN}: one frame of an interface of any MTU")));
    }
    Ok(bytes)
}

/// What a worker's buffer holds, behind a tunnel header.
const MAX_LEN: usize = MAX_FRAME_LEN + MAX_HEADER_LEN;

#[cfg(test)]
mod tests;
