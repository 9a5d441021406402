//! `weft explain`: a frame's way through the running switch, without sending it.

mod capture_file;
mod fields;
mod page;

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use clap::{ArgGroup, Args};

use self::fields::Fields;
use super::{NOT_SO, SocketArg, UsageError, client::Client, output, wait};
use crate::{
    control::api::explanation::{ExplainRequest, Fate},
    wire::MacAddr,
};

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("from").required(true).args(["port", "vtep"]))]
pub(super) struct ExplainArgs {
    /// The frame in hexadecimal, from its Ethernet header on; with --pcap its number there, counted from 1. Left out: a
    /// frame of the fields below
    #[arg(value_name = "FRAME")]
    frame: Option<String>,
    /// The port that it comes in by
    #[arg(long, value_name = "NETNS/INTERFACE")]
    port: Option<String>,
    /// The VTEP that it comes from over the tunnel
    #[arg(long, value_name = "ADDRESS")]
    vtep: Option<IpAddr>,
    /// The VNI that it has in the tunnel [default: of the only bridge that knows the VTEP]
    #[arg(long, conflicts_with_all = ["port", "outer"])]
    vni: Option<u32>,
    /// FRAME is the whole UDP payload: VXLAN header and inner frame
    #[arg(long, requires = "frame", conflicts_with_all = ["port", "pcap"])]
    outer: bool,
    /// The outer TOS or traffic class [default: 0]
    #[arg(long, value_name = "TOS", conflicts_with = "port", value_parser = fields::byte)]
    outer_tos: Option<u8>,
    /// The capture file, pcap or pcapng, that FRAME is a number in
    #[arg(long, value_name = "FILE", requires = "frame")]
    pcap: Option<PathBuf>,
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
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (frame, payload) = if args.outer { (None, Some(hex)) } else { (Some(hex), None) };
    let ExplainArgs { port, vtep, vni, outer_tos, .. } = args;
    Ok(ExplainRequest { port: port.clone(), vtep: *vtep, vni: *vni, outer_tos: *outer_tos, frame, payload })
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
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let byte = |pair: &[u8]| match *pair {
        [high, low] => Some(value(high)? << 4 | value(low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        usage(format!(
            "`{text}` is no frame: two hexadecimal digits a byte, or --pcap FILE and a frame's number, or fields"
        ))
    })
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}
