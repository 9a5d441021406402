//! `weft explain --live`: frames as they pass.

use std::{
    cell::Cell,
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use tokio::{select, signal::ctrl_c};

use super::{
    super::{NOT_SO, UsageError, client::Client, output, wait},
    ExplainArgs,
    fields::{Arp, Ips, Proto},
    page,
};
use crate::{
    control::api::{
        explanation::Fate,
        live::{Ending, LiveEvent, LiveRequest, Passed, SampledSaid},
    },
    wire::{
        arp,
        dissect::{PROTOCOL_TCP, PROTOCOL_UDP},
        ethernet::ETHER_TYPE_IPV6,
        ndisc::PROTOCOL_ICMPV6,
    },
};

/// IPv4's protocol number of ICMP.
const PROTOCOL_ICMP: u8 = 1;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Frames as they pass")]
pub(super) struct LiveArgs {
    /// Explain frames that pass from now on, those with the fields below, and say whether it was so
    #[arg(long, conflicts_with_all = ["frame", "pcap", "outer", "outer_tos", "len", "ttl", "tos", "df"])]
    pub(super) live: bool,
    /// Only with this type behind tags, such as 0x88cc
    #[arg(long, value_name = "TYPE", requires = "live", value_parser = ether_type)]
    pub(super) ether_type: Option<u16>,
    /// End after so many frames
    #[arg(long, value_name = "N", requires = "live")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N", requires = "live")]
    seconds: Option<u64>,
    /// Explain one in so many of each worker's frames that fit
    #[arg(long, value_name = "N", requires = "live")]
    every: Option<u64>,
    /// Explain so many frames a second at most, and twenty at once [default: 10; at most 200]
    #[arg(long, value_name = "N", requires = "live")]
    rate: Option<u32>,
}

pub(super) fn run(args: &ExplainArgs, client: &Client) -> anyhow::Result<ExitCode> {
    let request = request(args)?;
    let (last, has_ended) = (Cell::new(SampledSaid::default()), Cell::new(false));
    let told = |line: &str, event: &LiveEvent| {
        match event {
            LiveEvent::Begin if !args.json => {
                output::complain("looking at what passes, until Ctrl-C\n");
                return true;
            }
            LiveEvent::Begin => {}
            LiveEvent::Frame(passed) => last.set(passed.sampled),
            LiveEvent::End { sampled, .. } => {
                last.set(*sampled);
                has_ended.set(true);
            }
        }
        let text = if args.json { line.to_owned() } else { page_of(event) };
        // Whoever has read enough ends it.
        writeln!(io::stdout(), "{text}").is_ok() && !has_ended.get()
    };
    let cut_off = wait(async {
        select! {
            told = client.explain_live(&request, told) => told.map(|()| "the switch has ended; "),
            _ = ctrl_c() => Ok(""),
        }
    })?;
    if !has_ended.get() && !args.json {
        output::complain(&format!("{cut_off}{}", summary(&last.get())));
    }
    Ok(if last.get().explained > 0 { ExitCode::SUCCESS } else { ExitCode::from(NOT_SO) })
}

fn request(args: &ExplainArgs) -> Result<LiveRequest, UsageError> {
    let ExplainArgs { port, vtep, vni, fields, live, .. } = args;
    if fields.vlan.is_some_and(|tag| tag.0 >> 12 != 0) {
        return Err(UsageError("frames that pass are chosen by their VLAN, not by its priority".to_owned()));
    }
    let (ip, src_ip, dst_ip) = match fields.ip {
        Some(Ips::One(ip)) => (Some(ip), None, None),
        Some(Ips::Two(src, dst)) => (None, Some(src), Some(dst)),
        None => (None, fields.src_ip, fields.dst_ip),
    };
    let is_v6 =
        [ip, src_ip, dst_ip].iter().flatten().any(|ip| ip.is_ipv6()) || live.ether_type == Some(ETHER_TYPE_IPV6);
    let protocol = fields.proto.map(|proto| match proto {
        Proto::Icmp if is_v6 => PROTOCOL_ICMPV6,
        Proto::Icmp => PROTOCOL_ICMP,
        Proto::Tcp => PROTOCOL_TCP,
        Proto::Udp => PROTOCOL_UDP,
    });
    let arp = fields.arp.map(|operation| match operation {
        Arp::WhoHas => arp::REQUEST,
        Arp::IsAt => arp::REPLY,
    });
    Ok(LiveRequest {
        port: port.clone(),
        vtep: *vtep,
        vni: *vni,
        src: fields.src,
        dst: fields.dst,
        vlan: fields.vlan.map(|tag| tag.vid()),
        ether_type: live.ether_type,
        ip,
        src_ip,
        dst_ip,
        arp,
        protocol,
        sport: fields.sport,
        dport: fields.dport,
        every: live.every,
        rate: live.rate,
        count: live.count,
        seconds: live.seconds,
    })
}

fn page_of(event: &LiveEvent) -> String {
    match event {
        LiveEvent::Begin => String::new(),
        LiveEvent::Frame(passed) => frame(passed),
        LiveEvent::End { why, sampled } => {
            let why = match why {
                Ending::Count | Ending::Seconds => "",
                Ending::Gone => "the port was taken out; ",
            };
            format!("{why}{}", summary(sampled))
        }
    }
}

/// A frame that passed, and whether its end was as explained.
fn frame(passed: &Passed) -> String {
    let Passed { explanation, age_ms, end, agrees, differences, notes, sampled, .. } = passed;
    let mut lines = vec![format!("--- frame {}, which passed {age_ms} ms ago", sampled.explained)];
    lines.push(page::page(explanation));
    if *agrees {
        lines.push("and so it was".to_owned());
    } else {
        let ending = match end.result {
            Fate::Delivered | Fate::Answered => page::ending(end),
            Fate::Dropped if end.reason.is_none() => "nobody got it".to_owned(),
            Fate::Dropped => page::ending(end),
        };
        lines.push(format!("but it was not so: {ending}"));
        lines.extend(differences.iter().map(|difference| format!("  {difference}")));
        lines.push(
            "  It is explained by the FDB and the ways of now, which may be others than when it passed.".to_owned(),
        );
    }
    lines.extend(notes.iter().map(|note| format!("  {note}")));
    lines.push(String::new());
    lines.join("\n")
}

/// `3 frames explained of 15 that fitted: 10 came too soon, 2 were lost`
fn summary(sampled: &SampledSaid) -> String {
    let SampledSaid { matched, explained, passed_over, too_soon, lost } = *sampled;
    let frames = |count: u64| if count == 1 { "1 frame".to_owned() } else { format!("{count} frames") };
    let left_out = [
        (passed_over, "passed over as --every wants it"),
        (too_soon, "too soon after others (--rate)"),
        (lost, "lost on the way to be explained"),
    ];
    let left_out: Vec<_> =
        left_out.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    let why = if left_out.is_empty() { String::new() } else { format!(": {}", left_out.join(", ")) };
    format!("{} explained, of {matched} that fitted{why}", frames(explained))
}

fn ether_type(text: &str) -> Result<u16, String> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    value.map_err(|_| "0x0000 to 0xffff, such as 0x0806 for ARP".to_owned())
}
