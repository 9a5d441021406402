//! `weft map`: every namespace and how they hang together.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

use super::{doctor, output};
use crate::{
    doctor::{
        map::{self, Page},
        survey::{Scope, Survey},
    },
    sys::netns::Netns,
};

/// Show every namespace, its interfaces, and how they hang together
#[derive(Args, Debug)]
pub(super) struct MapArgs {
    /// Only the hosts of this lab
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
    /// Draw it into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Map what `weft doctor --save` wrote in place of this machine
    #[arg(long, value_name = "FILE", conflicts_with = "lab")]
    load: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &MapArgs) -> anyhow::Result<ExitCode> {
    let survey = match (&args.load, &args.lab) {
        (Some(file), _) => doctor::load(file)?,
        (None, Some(lab)) => {
            let hosts = doctor::lab_hosts(lab)?.iter().map(|name| Netns::named(name)).collect::<Result<_, _>>()?;
            Survey::take(Scope::Around(hosts), &doctor::ask_weft)
        }
        (None, None) => Survey::take(Scope::All, &doctor::ask_weft),
    };
    let page = Page::of(&survey);
    if let Some(file) = &args.svg {
        fs::write(file, map::draw(&page)).with_context(|| format!("can't write {}", file.display()))?;
    }
    match (args.json, &args.svg) {
        (true, _) => output::print_json(&page)?,
        (false, None) => output::print(&page.text())?,
        (false, Some(file)) => {
            output::print(&format!("{} namespaces drawn: {}", page.namespaces.len(), file.display()))?
        }
    }
    Ok(ExitCode::SUCCESS)
}
