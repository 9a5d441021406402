//! `weft experiment blackhole`: each fault told, looked at, and ended.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::prepare;
use crate::{
    cli::{NOT_SO, UsageError, output, voice::Voice},
    experiment::blackhole::{
        Fault, Finding, Remedy, cure, faults, reproduce,
        symptoms::{Ping, Symptoms, Transfer},
    },
};

#[derive(Args, Debug)]
pub(super) struct BlackholeArgs {
    /// Only these faults [default: all]
    #[arg(value_name = "FAULT")]
    faults: Vec<String>,
    /// Only say which faults there are
    #[arg(long)]
    list: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A fault and what was seen of it, as `--json` has it.
#[derive(Serialize)]
struct Told {
    fault: &'static str,
    title: &'static str,
    told: &'static str,
    finding: Finding,
    remedies: Vec<Ended>,
}

/// A remedy and what was seen with it.
#[derive(Serialize)]
struct Ended {
    remedy: &'static str,
    told: &'static str,
    finding: Finding,
}

pub(super) fn run(args: &BlackholeArgs) -> anyhow::Result<ExitCode> {
    let faults = chosen(&args.faults)?;
    if args.list {
        for fault in &faults {
            output::print(&format!("{:<18} {}", fault.name, fault.title))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    prepare(&[("ping", "iputils-ping or iputils")])?;
    let voice = (!args.json).then(Voice::new);
    if let Some(voice) = &voice {
        voice.title("weft experiment blackhole: why packets vanish, and what ends it")?;
        voice.say(DRAWING)?;
    }
    let mut all = Vec::new();
    for (number, fault) in (1..).zip(&faults) {
        if let Some(voice) = &voice {
            voice.step(number, fault.title)?;
            voice.say(&wrapped(fault.told))?;
            voice.say(&wrapped(&format!("What its user says: {}", fault.complaint)))?;
        }
        let finding = reproduce(fault)?;
        if let Some(voice) = &voice {
            tell(voice, &finding.symptoms)?;
            verdict(voice, &finding, "that is the fault", "the fault is not as it should be")?;
        }
        let mut remedies = Vec::new();
        for remedy in &fault.remedies {
            let ended = end(fault, remedy, voice.as_ref())?;
            remedies.push(ended);
        }
        all.push(Told { fault: fault.name, title: fault.title, told: fault.told, finding, remedies });
    }
    let all_so = all.iter().all(|told| told.finding.is_so && told.remedies.iter().all(|ended| ended.finding.is_so));
    match &voice {
        None => output::print_json(&all)?,
        Some(voice) if all_so => voice.title("\nAll of it was so; everything is removed again.")?,
        Some(voice) => voice.title("\nNot all of it was so; everything is removed again.")?,
    }
    Ok(if all_so { ExitCode::SUCCESS } else { ExitCode::from(NOT_SO) })
}

fn chosen(names: &[String]) -> Result<Vec<Fault>, UsageError> {
    let all = faults::all();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|fault| fault.name == **name)) {
        let known: Vec<_> = all.iter().map(|fault| fault.name).collect();
        return Err(UsageError(format!("there is no fault `{name}`; there are {}", known.join(", "))));
    }
    Ok(all.into_iter().filter(|fault| names.is_empty() || names.iter().any(|name| name == fault.name)).collect())
}

fn end(fault: &Fault, remedy: &Remedy, voice: Option<&Voice>) -> anyhow::Result<Ended> {
    if let Some(voice) = voice {
        voice.say(&format!("\nRemedy: {}", remedy.name))?;
        voice.say(&wrapped(remedy.told))?;
    }
    let finding = cure(fault, remedy)?;
    if let Some(voice) = voice {
        tell(voice, &finding.symptoms)?;
        verdict(voice, &finding, "it helps as far as it can", "it does not help as it should")?;
    }
    Ok(Ended { remedy: remedy.name, told: remedy.told, finding })
}

const DRAWING: &str = "
 left                                                      right
   |                                                         |
 host1 ------ router1 ------ middle ------ router2 ------ host2
 (weft)                                                   (weft)";

/// What was seen.
fn tell(voice: &Voice, symptoms: &Symptoms) -> anyhow::Result<()> {
    for ping in [&symptoms.small, &symptoms.large] {
        voice.command("left", &ping.command)?;
        voice.seen(&ping_words(ping))?;
    }
    voice.seen(&transfer_words(&symptoms.tcp))?;
    for (name, count) in &symptoms.middleboxes {
        let (link, what) = name.split_once(' ').unwrap_or((name, "changed"));
        voice.seen(&format!("{count:>7}  packets {what} by the middlebox on the {link} link"))?;
    }
    let counts = [
        ("fragments on the underlay", symptoms.fragments),
        ("wrong UDP checksums at host2 (weft show ledger)", symptoms.checksum_errors),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        voice.seen(&format!("{count:>7}  {name}"))?;
    }
    for (name, count) in &symptoms.drops {
        voice.seen(&format!("{count:>7}  {name} (weft show drops)"))?;
    }
    if let Some(text) = &symptoms.show_mtu {
        voice.command("host1", "weft show mtu")?;
        voice.seen(text.trim_end())?;
    }
    Ok(())
}

fn ping_words(ping: &Ping) -> String {
    let told = ping.told.as_ref().map_or_else(String::new, |told| format!("; told: {told}"));
    format!("{} of {} answered, packets of {} bytes{told}", ping.answered, ping.sent, ping.packet_len)
}

fn transfer_words(tcp: &Transfer) -> String {
    let state = if !tcp.is_connected {
        "no connection".to_owned()
    } else if tcp.is_whole() {
        format!("all of it after {:.2} s", tcp.seconds)
    } else {
        format!("connected, and stuck: {} bytes after {:.1} s", tcp.arrived, tcp.seconds)
    };
    format!("{} KiB by TCP: {state}", tcp.wanted >> 10)
}

fn verdict(voice: &Voice, finding: &Finding, good: &str, bad: &str) -> anyhow::Result<()> {
    if finding.is_so {
        return voice.good(good);
    }
    let words = |small, large, tcp| {
        let of = |gets_through| if gets_through { "gets through" } else { "does not" };
        format!("small ping {}, large ping {}, TCP {}", of(small), of(large), of(tcp))
    };
    let (expected, seen) = (finding.expected, &finding.symptoms);
    voice.bad(&format!(
        "{bad}\nexpected: {}\nseen:     {}",
        words(expected.small, expected.large, expected.tcp),
        words(seen.small.answered > 0, seen.large.answered > 0, seen.tcp.is_whole())
    ))
}

/// Prose in lines of a terminal's width.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 96;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().filter(|line| line.is_empty() || line.len() + 1 + word.len() <= WIDTH);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_wrapped_at_words() {
        let text = wrapped(&"word ".repeat(50));
        assert!(text.lines().all(|line| line.len() <= 96 && !line.ends_with(' ')));
        assert_eq!(text.split_whitespace().count(), 50);
    }

    #[test]
    fn unknown_faults_are_refused_with_those_that_there_are() {
        assert_eq!(chosen(&[]).unwrap().len(), faults::all().len());
        assert_eq!(chosen(&["checksum".to_owned()]).unwrap().len(), 1);
        let error = chosen(&["gremlins".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("there is no fault `gremlins`; there are middle-link, "), "{error}");
    }
}
