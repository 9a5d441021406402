//! `weft events`: what happens in the running switch, as it happens.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use super::{SocketArg, wait};
use crate::control::api::model::{Happening, LinkState};

#[derive(Args, Debug)]
pub(super) struct EventsArgs {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

pub(super) fn run(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    wait(args.socket.client().events(|line, happening| {
        let line = if args.json { line.to_owned() } else { told(happening) };
        // Whoever has read enough ends it.
        writeln!(io::stdout(), "{line}").is_ok()
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// An event in a line for people.
fn told(happening: &Happening) -> String {
    match happening {
        Happening::Learned { bridge, mac, at } => format!("learned  {bridge} {mac} at {at}"),
        Happening::Moved { bridge, mac, from, to } => format!("moved    {bridge} {mac} from {from} to {to}"),
        Happening::Aged { entries } => {
            format!("aged     {entries} {}", if *entries == 1 { "entry" } else { "entries" })
        }
        Happening::L2miss { bridge, mac } => format!("l2miss   {bridge} {mac}"),
        Happening::L3miss { bridge, ip } => format!("l3miss   {bridge} {ip}"),
        Happening::PathMtu { vtep, from, path_mtu, state, reason } => {
            let hole = if state == "black_hole" { "black hole, " } else { "" };
            format!("path     {vtep} {hole}path MTU {path_mtu}, was {from}: {reason}")
        }
        Happening::Port { port, state } => {
            let state = match state {
                LinkState::Up => "up",
                LinkState::Down => "down",
                LinkState::Gone => "gone",
            };
            format!("port     {port} {state}")
        }
        Happening::Lost { events } => format!("lost     {events} {}", if *events == 1 { "event" } else { "events" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_begin_with_their_name() {
        let all = [
            r#"{"event":"learned","bridge":"blue","mac":"02:00:00:00:00:01","at":"left/eth0"}"#,
            r#"{"event":"moved","bridge":"blue","mac":"02:00:00:00:00:01","from":"left/eth0","to":"192.0.2.2:4789"}"#,
            r#"{"event":"aged","entries":1}"#,
            r#"{"event":"l2miss","bridge":"blue","mac":"02:00:00:00:00:01"}"#,
            r#"{"event":"l3miss","bridge":"blue","ip":"10.0.0.1"}"#,
            r#"{"event":"port","port":"left/eth0","state":"gone"}"#,
            r#"{"event":"lost","events":2}"#,
        ];
        for line in all {
            let happening: Happening = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&happening).unwrap(), line);
            let name = line.split('"').nth(3).unwrap();
            assert!(told(&happening).starts_with(name), "{line}");
        }
    }
}
