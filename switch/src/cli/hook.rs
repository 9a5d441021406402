//! `weft oci-hook`: a port of a running weft for a container, as the container is made.
//!
//! Container runtimes run hooks while they make a container and hand them its state (OCI runtime specification, "Lifecycle"
//! and "State"): among it the process whose namespaces it has, and the annotations that its user gave it. A container that
//! asks for a bridge by an annotation gets a port; all others are none of this one's business. Nothing has to be taken back: weft
//! takes the port out when the process has ended.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::IpAddr,
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use serde::Deserialize;

use super::{SocketArg, UsageError, wait};
use crate::{
    control::{api::request::PortRequest, link::Links},
    sys::netns::Netns,
};

/// Annotations, behind `weft.`. The first says that there is to be a port.
const BRIDGE: &str = "bridge";
const ANNOTATIONS: [&str; 6] = [BRIDGE, "address", "gateway", "name", "mac", "mtu"];

#[derive(Args, Debug)]
pub(super) struct HookArgs {
    #[command(flatten)]
    socket: SocketArg,
}

/// The state of a container, as far as it matters here.
#[derive(Deserialize, Debug)]
struct State {
    id: String,
    /// Missing when the container has ended.
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

pub(super) fn run(args: &HookArgs) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("can't read the container's state from standard input")?;
    let state: State = serde_json::from_str(&text).map_err(|error| {
        UsageError(format!("standard input has no state of a container, as runtimes hand it to their hooks: {error}"))
    })?;
    let Some((request, gateways)) = wanted(&state)? else { return Ok(ExitCode::SUCCESS) };
    wait(args.socket.client().add_port(&request)).with_context(|| format!("no port for container {}", state.id))?;
    add_routes(&state, &request.name, &gateways)?;
    Ok(ExitCode::SUCCESS)
}

/// The port, and where default routes lead. `None`: the container asks for none, or has ended.
fn wanted(state: &State) -> Result<Option<(PortRequest, Vec<IpAddr>)>, UsageError> {
    let of = |name: &str| state.annotations.get(&format!("weft.{name}")).cloned();
    let Some(bridge) = of(BRIDGE).filter(|_| state.pid != 0) else { return Ok(None) };
    let unknown = state.annotations.keys().find_map(|key| {
        let name = key.strip_prefix("weft.")?;
        (!ANNOTATIONS.contains(&name)).then_some(key)
    });
    if let Some(unknown) = unknown {
        let known = ANNOTATIONS.map(|name| format!("weft.{name}")).join(", ");
        return Err(UsageError(format!("there is no annotation {unknown}: there are {known}")));
    }
    let list = |name| of(name).map_or_else(Vec::new, |text| text.split(',').map(|one| one.trim().to_owned()).collect());
    let mtu = match of("mtu").map(|text| text.parse().map_err(|_| text)) {
        Some(Err(text)) => return Err(UsageError(format!("annotation weft.mtu: {text:?} is no number"))),
        Some(Ok(mtu)) => Some(mtu),
        None => None,
    };
    let gateway = |text: &String| {
        let wrong = || UsageError(format!("annotation weft.gateway: {text:?} is no IP address"));
        text.parse().map_err(|_| wrong())
    };
    let gateways = list("gateway").iter().map(gateway).collect::<Result<_, _>>()?;
    let request = PortRequest {
        name: of("name").unwrap_or_else(|| "eth0".to_owned()),
        netns: Some(format!("pid:{}", state.pid)),
        bridge: Some(bridge),
        address: list("address"),
        mac: of("mac"),
        mtu,
        ..PortRequest::default()
    };
    Ok(Some((request, gateways)))
}

fn add_routes(state: &State, interface: &str, gateways: &[IpAddr]) -> anyhow::Result<()> {
    if gateways.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let links = Links::open(&Netns::of_pid(state.pid)?)?;
        for gateway in gateways {
            links.add_default_route(interface, *gateway).await?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, to_value};

    use super::*;

    /// What a container engine says of a container.
    #[test]
    fn fuzz_hook() {
        crate::fuzzing::inputs(|json| {
            let Ok(state) = serde_json::from_slice::<State>(json) else { return };
            match wanted(&state) {
                Ok(request) => {
                    assert_eq!(request.is_some(), state.annotations.contains_key("weft.bridge") && state.pid != 0)
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        });
    }

    fn state(value: Value) -> State {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn annotations_become_a_port() {
        let state = state(json!({"ociVersion": "1.0.2", "id": "web", "status": "created", "pid": 77, "bundle": "/b",
            "annotations": {"weft.bridge": "blue", "weft.address": "10.0.0.5/24, fd00::5/64", "weft.gateway": "10.0.0.1",
            "weft.mtu": "1400", "other": "x"}}));
        let (request, gateways) = wanted(&state).unwrap().unwrap();
        let expected = json!({"name": "eth0", "netns": "pid:77", "bridge": "blue", "mtu": 1400,
            "address": ["10.0.0.5/24", "fd00::5/64"]});
        assert_eq!(to_value(request).unwrap(), expected);
        assert_eq!(gateways, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn who_asks_for_nothing_or_has_ended_gets_nothing() {
        for value in [
            json!({"id": "a", "pid": 1, "annotations": {"other": "x"}}),
            json!({"id": "a", "pid": 1}),
            json!({"id": "a", "annotations": {"weft.bridge": "blue"}}),
        ] {
            assert!(wanted(&state(value)).unwrap().is_none());
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_annotation() {
        let with = |name: &str, value: &str| {
            let value = json!({"id": "a", "pid": 1, "annotations": {"weft.bridge": "blue", name: value}});
            wanted(&state(value)).unwrap_err().to_string()
        };
        assert!(with("weft.mtu", "much").contains("weft.mtu: \"much\" is no number"));
        assert!(with("weft.gateway", "x").contains("weft.gateway"));
        assert!(with("weft.adress", "10.0.0.5/24").contains("there is no annotation weft.adress"));
    }
}
