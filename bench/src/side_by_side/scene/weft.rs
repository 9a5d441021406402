//! weft, as a user runs it: the binary, with a configuration.

use std::{fs, time::Duration};

use anyhow::Context;
use weft::lab::Namespace;

use super::{Builder, INTERFACE, MTU, PORT, Switch, VNI, host_address, station_address};

/// How long it may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

impl Builder<'_> {
    pub(super) fn weft_taps(&mut self, host: &Namespace, stations: &[Namespace; 2]) -> anyhow::Result<()> {
        let ports: String = stations.iter().enumerate().map(|(side, station)| port(station, side)).collect();
        self.weft(host, &format!("[[bridge]]\nname = \"blue\"\n\n{ports}"))
    }

    pub(super) fn weft_vtep(&mut self, host: &Namespace, station: &Namespace, side: usize) -> anyhow::Result<()> {
        host.address(super::UNDERLAY, &format!("{}/24", host_address(side)))?;
        let config = format!(
            "[vtep]\naddress = \"{}\"\nport = {PORT}\n\n[[bridge]]\nname = \"blue\"\nvni = {VNI}\nremotes = [\"{}\"]\n\n{}",
            host_address(side),
            host_address(1 - side),
            port(station, side)
        );
        self.weft(host, &config)
    }

    fn weft(&mut self, host: &Namespace, config: &str) -> anyhow::Result<()> {
        let folder = self.lab.folder()?;
        let path = |suffix: &str| folder.join(format!("weft-{}.{suffix}", host.name()));
        let config = format!("[switch]\nworkers = {}\n\n{config}", self.setup.workers);
        fs::write(path("toml"), config).context("can't write weft's configuration")?;
        let command = host.command(&self.setup.binary).arg("run").arg(path("toml")).arg("--socket").arg(path("sock"));
        // Whatever the user's log level is: its start must be heard.
        let mut process = command.env("RUST_LOG", "info").spawn()?;
        process.wait_for("weft runs", PATIENCE)?;
        self.switches.push(Switch::Weft(process));
        Ok(())
    }
}

fn port(station: &Namespace, side: usize) -> String {
    format!(
        "[[port]]\nname = \"{INTERFACE}\"\nnetns = \"{}\"\nbridge = \"blue\"\nmtu = {MTU}\naddress = [\"{}/24\"]\n\n",
        station.full_name(),
        station_address(side)
    )
}
