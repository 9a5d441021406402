//! `weft explain`: a frame's way through the running switch, without sending it, or when it passes.

mod capture_file;
mod fields;
mod live;
mod page;

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use clap::{ArgGroup, Args};

use self::{fields::Fields, live::LiveArgs};
use super::{NOT_SO, SocketArg, UsageError, client::Client, output, wait};
use crate::{
    control::api::explanation::{ExplainRequest, Fate},
    wire::{MacAddr, hex},
};

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("from").required(true).multiple(true).args(["port", "vtep", "live"]))]
pub(super) struct ExplainArgs {
    /// The frame in hexadecimal, from its Ethernet header on; with --pcap its number there, counted from 1. Left out: a
    /// frame of the fields below
    #[arg(value_name = "FRAME")]
    frame: Option<String>,
    /// The port that it comes in by
    #[arg(long, value_name = "NETNS/INTERFACE")]
    port: Option<String>,
    /// The VTEP that it comes from over the tunnel
    #[arg(long, value_name = "ADDRESS", conflicts_with = "port")]
    vtep: Option<IpAddr>,
    /// The VNI that it has in the tunnel [default: of the only bridge that knows the VTEP]
    #[arg(long, conflicts_with_all = ["port", "outer"])]
    vni: Option<u32>,
    /// How it is wrapped, which the UDP port tells: vxlan, vxlan-gbp, vxlan-gpe or geneve [default: as the bridge of its VNI
    /// has it; with --outer as [vtep] has it]
    #[arg(long, value_name = "WORD", conflicts_with = "port")]
    encapsulation: Option<String>,
    /// FRAME is the whole UDP payload: tunnel header and inner frame
    #[arg(long, requires = "frame", conflicts_with_all = ["port", "pcap"])]
    outer: bool,
    /// The outer TOS or traffic class [default: 0]
    #[arg(long, value_name = "TOS", conflicts_with = "port", value_parser = fields::byte)]
    outer_tos: Option<u8>,
    /// The capture file, pcap or pcapng, that FRAME is a number in
    #[arg(long, value_name = "FILE", requires = "frame")]
    pcap: Option<PathBuf>,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    fields: Fields,
    /// Print JSON
    #[arg(long, help_heading = "Options")]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let client = args.socket.client();
    if args.live.live {
        return live::run(args, &client);
    }
    let explanation = wait(client.explain(&request(args, &client)?))?;
    if args.json {
        output::print_json(&explanation)?;
    } else {
        output::print(&page::page(&explanation))?;
    }
    Ok(match explanation.verdict.result {
        Fate::Delivered | Fate::Answered => ExitCode::SUCCESS,
        Fate::Dropped => ExitCode::from(NOT_SO),
    })
}

fn request(args: &ExplainArgs, client: &Client) -> anyhow::Result<ExplainRequest> {
    let bytes = match (&args.frame, &args.pcap) {
        (Some(_), _) if !args.fields.are_empty() => {
            return Err(usage("a frame is given either whole or by its fields"));
        }
        (Some(number), Some(file)) => {
            let number = number.parse().ok().filter(|number| *number > 0);
            capture_file::frame(file, number.ok_or_else(|| usage("with --pcap, FRAME is a number from 1 on"))?)?
        }
        (Some(hex), None) => bytes_of(hex)?,
        (None, _) => args.fields.frame(own_address(args, client)?)?,
    };
    let hex = hex::encode(&bytes);
    let (frame, payload) = if args.outer { (None, Some(hex)) } else { (Some(hex), None) };
    let ExplainArgs { port, vtep, vni, outer_tos, encapsulation, .. } = args;
    Ok(ExplainRequest {
        port: port.clone(),
        vtep: *vtep,
        vni: *vni,
        encapsulation: encapsulation.clone(),
        outer_tos: *outer_tos,
        frame,
        payload,
    })
}

/// The address of whoever is most likely to send a frame there.
fn own_address(args: &ExplainArgs, client: &Client) -> anyhow::Result<Option<MacAddr>> {
    if args.fields.src.is_some() {
        return Ok(None);
    }
    if let Some(name) = &args.port {
        let ports = wait(client.ports())?;
        return Ok(ports.iter().find(|port| port.name == *name).and_then(|port| port.mac));
    }
    let entries = wait(client.fdb(None))?;
    let behind = entries.iter().find(|entry| entry.vtep == args.vtep).map(|entry| entry.mac);
    match behind {
        Some(mac) => Ok(Some(mac)),
        None => Err(usage("no station is known behind this VTEP to be the source: say --src MAC")),
    }
}

/// Hexadecimal, as tools print it: perhaps with spaces, colons or dashes between the bytes, and 0x in front.
fn bytes_of(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u8> =
        text.trim().trim_start_matches("0x").bytes().filter(|byte| !b" \t\r\n:-".contains(byte)).collect();
    hex::decode(&digits).filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        usage(format!(
            "`{text}` is no frame: two hexadecimal digits a byte, or --pcap FILE and a frame's number, or fields"
        ))
    })
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}
