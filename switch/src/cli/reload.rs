//! `weft reload`: makes the running switch read its configuration again, as SIGHUP does, and says what that changed.

use std::process::ExitCode;

use clap::Args;

use super::{SocketArg, output, wait};
use crate::control::api::model::Reloaded;

#[derive(Args, Debug)]
pub(super) struct ReloadArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

pub(super) fn run(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let reloaded = wait(args.socket.client().reload())?;
    if args.json {
        output::print_json(&reloaded)?
    } else {
        output::print(&lines(&reloaded))?
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(reloaded: &Reloaded) -> String {
    let each =
        |what: &'static str, parts: &[String]| parts.iter().map(|part| format!("{what}{part}")).collect::<Vec<_>>();
    let mut lines = each("added    ", &reloaded.added);
    lines.extend(each("changed  ", &reloaded.changed));
    lines.extend(each("removed  ", &reloaded.removed));
    lines.extend(each("waits for a restart of weft: ", &reloaded.needs_restart));
    if lines.is_empty() { "nothing changed".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_did_is_told_part_by_part() {
        assert_eq!(lines(&Reloaded::default()), "nothing changed");
        let reloaded = Reloaded {
            added: vec!["port left/eth1".into()],
            removed: vec!["bridge green".into()],
            needs_restart: vec!["vtep.address".into()],
            ..Reloaded::default()
        };
        let expected = "added    port left/eth1\nremoved  bridge green\nwaits for a restart of weft: vtep.address";
        assert_eq!(lines(&reloaded), expected);
    }
}
