//! `weft demo`: two hosts in namespaces, a weft on each, one overlay between them.

use std::process::ExitCode;

use clap::Args;

#[derive(Args, Debug)]
pub(super) struct DemoArgs {}

pub(super) fn run(_args: &DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no engine to show")
}
