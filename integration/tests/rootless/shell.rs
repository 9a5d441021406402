//! `weft shell` of an ordinary user.

use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::Trial;
use weft::lab::{Output, Process, Signal};
use weft_integration::{
    trial,
    weft::{PATIENCE, eventually},
};

use crate::scene::{Hosts, NEEDS, NEEDS_TUN, Station, Tun, User, Weft, config};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("two_shells_reach_each_other", NEEDS, two_shells),
        trial("a_shell_reaches_another_host", NEEDS, another_host),
        trial("a_shell_ends_as_its_program_does", NEEDS, exit_codes),
        trial("a_shell_passes_signals_on_and_its_port_goes", NEEDS, signals),
        trial("a_killed_shell_takes_its_program_and_its_port_along", NEEDS, killed),
        trial("a_shell_has_name_servers_of_its_own", NEEDS, dns),
        trial("a_shell_starts_a_weft_of_its_own", NEEDS_TUN, own_weft),
        trial("a_shell_that_can_not_be_is_told_why", NEEDS, refused),
        trial("a_kernel_without_user_namespaces_is_told_with_the_cure", NEEDS, forbidden),
    ]
}

const LOCAL: &str = "[switch]\nworkers = 2\n\n[[bridge]]\nname = \"blue\"\n";

struct Scene {
    hosts: Hosts,
    user: User,
}

impl Scene {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { hosts: Hosts::new()?, user: User::new()? })
    }

    fn weft(&self) -> anyhow::Result<Weft<'_>> {
        Weft::start(&self.user, &self.hosts.hosts[0], LOCAL, Tun::Missing)
    }

    fn begin(&self, args: &[&str]) -> anyhow::Result<Process> {
        Ok(self.user.weft(&self.hosts.hosts[0], &[&["shell", "--bridge", "blue"], args].concat()).spawn()?)
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        Ok(self.begin(args)?.wait(PATIENCE)?)
    }
}

fn two_shells() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let weft = scene.weft()?;
    let mut one = scene.begin(&["--address", "10.10.0.5/24", "--", "sh", "-c", "id -u; echo here; exec sleep 1000"])?;
    one.wait_for("here", PATIENCE)?;
    ensure!(one.stdout().starts_with("0\n"), "it is root inside: {}", one.stdout());
    let ping = ["--address", "10.10.0.6/24", "--name", "net0", "--mtu", "1400", "--", "sh", "-c"];
    let script = "ip link show net0 && ping -c 3 -i 0.05 -W 5 10.10.0.5";
    let two = scene.run(&[&ping[..], &[script]].concat())?.ok()?;
    ensure!(two.stdout.contains("mtu 1400"), "{two}");
    // What is inside is no more than that.
    let interfaces = scene.run(&["--", "ls", "/proc/self/net/dev_snmp6", "/proc/sys/net/ipv4/conf"])?;
    ensure!(!interfaces.stdout.contains("under0"), "{interfaces}");
    one.signal(Signal::TERM)?;
    let ended = one.wait(PATIENCE)?;
    ensure!(ended.status.code() == Some(128 + 15), "{ended}");
    weft.ports_go()?;
    weft.books_balance()?;
    weft.end()
}

fn another_host() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let other = User::new()?;
    let station = Station::new(&other, &scene.hosts.hosts[1])?;
    let far = Weft::start(&other, &scene.hosts.hosts[1], &config(1, &station.name(), ""), Tun::Missing)?;
    let near = config(0, "unused", "").split("[[port]]").next().unwrap().to_owned();
    let near = Weft::start(&scene.user, &scene.hosts.hosts[0], &near, Tun::Missing)?;
    let args = ["--address", "10.10.0.5/24", "--gateway", "10.10.0.2", "--", "sh", "-c"];
    let script = "ip route && ping -c 3 -i 0.05 -W 5 10.10.0.2";
    let output = scene.run(&[&args[..], &[script]].concat())?.ok()?;
    ensure!(output.stdout.contains("default via 10.10.0.2 dev eth0"), "{output}");
    near.has_no_privileges()?;
    near.end()?;
    far.end()
}

fn exit_codes() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let weft = scene.weft()?;
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 128 + 9)] {
        let output = scene.run(&["--", "sh", "-c", script])?;
        ensure!(output.status.code() == Some(code), "{script}: {output}");
    }
    let output = scene.run(&["--", "/no/such/program"])?;
    ensure!(output.status.code() == Some(127) && output.stderr.contains("can't run /no/such/program"), "{output}");
    weft.ports_go()?;
    weft.end()
}

fn signals() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let weft = scene.weft()?;
    for (name, signal) in [("INT", Signal::INT), ("TERM", Signal::TERM), ("HUP", Signal::HUP), ("USR1", Signal::USR1)] {
        let script = format!("trap 'echo heard {name}; exit 3' {name}; echo ready; while :; do sleep 0.05; done");
        let mut shell = scene.begin(&["--", "sh", "-c", &script])?;
        shell.wait_for("ready", PATIENCE)?;
        shell.signal(signal)?;
        let ended = shell.wait(PATIENCE)?;
        ensure!(ended.status.code() == Some(3) && ended.stdout.contains(&format!("heard {name}")), "{ended}");
        weft.ports_go()?;
    }
    weft.end()
}

fn killed() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let weft = scene.weft()?;
    let mut shell = scene.begin(&["--", "sh", "-c", "echo $$; exec sleep 1000"])?;
    shell.wait_for("\n", PATIENCE)?;
    let program = shell.stdout().trim().to_owned();
    shell.signal(Signal::KILL)?;
    shell.wait(PATIENCE)?;
    eventually("the program goes", PATIENCE, || {
        let status = std::fs::read_to_string(format!("/proc/{program}/status")).unwrap_or_default();
        Ok(status.is_empty() || status.contains("State:\tZ"))
    })?;
    weft.ports_go()?;
    weft.end()
}

fn dns() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let weft = scene.weft()?;
    let before = std::fs::read("/etc/resolv.conf")?;
    let output = scene.run(&["--dns", "10.10.0.53", "--dns", "fd00::53", "--", "cat", "/etc/resolv.conf"])?.ok()?;
    ensure!(output.stdout == "nameserver 10.10.0.53\nnameserver fd00::53\n", "{output}");
    ensure!(std::fs::read("/etc/resolv.conf")? == before, "it is the program's alone");
    let left = std::fs::read_dir(scene.user.home())?.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("weft-resolv")).collect();
    ensure!(left.is_empty(), "{left:?}");
    weft.end()
}

fn own_weft() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let host = &scene.hosts.hosts[0];
    let file = scene.user.file("own.toml", config(0, "unused", "").split("[[port]]").next().unwrap())?;
    let args = ["shell", "--bridge", "blue", "--address", "10.10.0.5/24", "--config"];
    let command = scene.user.command_with(Tun::ForAll, host, scene.user.binary()).args(args).arg(file);
    let script = "grep -q 10.10.0.5 /proc/net/fib_trie && ip -d link show eth0 && exit 5";
    let output = command.args(["--", "sh", "-c", script]).timeout(PATIENCE).output()?;
    ensure!(output.status.code() == Some(5) && output.stdout.contains("tap"), "{output}");
    ensure!(!output.stderr.contains("weft runs"), "it is quiet: {output}");
    let left = std::fs::read_dir(scene.user.home())?.flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name != "own.toml").collect();
    ensure!(left.is_empty(), "{left:?}");
    eventually("no process is left", Duration::from_secs(5), || {
        let id = scene.user.id().to_string();
        let found = std::process::Command::new("pgrep").args(["-U", &id]).output()?;
        Ok(found.stdout.is_empty())
    })?;
    let broken = scene.user.file("broken.toml", "[switch]\nworker = 2\n")?;
    let args = ["shell", "--bridge", "blue", "--config", broken.to_str().unwrap(), "--", "true"];
    let output = scene.user.weft(host, &args).timeout(PATIENCE).output()?;
    ensure!(!output.success() && output.stderr.contains("did you mean `workers`?"), "{output}");
    Ok(())
}

fn refused() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let output = scene.run(&["--", "true"])?;
    ensure!(!output.success() && output.stderr.contains("weft.sock"), "no weft runs: {output}");
    let weft = scene.weft()?;
    let host = &scene.hosts.hosts[0];
    let output = scene.user.weft(host, &["shell", "--bridge", "green", "--", "true"]).output()?;
    ensure!(output.status.code() == Some(2) && output.stderr.contains("has no bridge green; it has blue"), "{output}");
    let output = scene.run(&["--address", "10.10.0/24", "--", "true"])?;
    ensure!(!output.success() && output.stderr.contains("10.10.0/24"), "{output}");
    let output = scene.run(&["--gateway", "10.99.0.1", "--", "true"])?;
    ensure!(
        output.status.code() == Some(127) && output.stderr.contains("add a default route by 10.99.0.1"),
        "{output}"
    );
    weft.ports_go()?;
    weft.end()
}

/// A user namespace in which there may be no more of them is what a machine is whose `user.max_user_namespaces` is 0.
fn forbidden() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let weft = scene.weft()?;
    let host = &scene.hosts.hosts[0];
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let inside = |args: &[&str]| -> anyhow::Result<Output> {
        let command = scene.user.command(host, "unshare").args(["-U", "-r", "sh", "-c", script, "sh"]);
        let command = command.args(["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
        Ok(command.arg(scene.user.binary()).args(args).timeout(PATIENCE).output()?)
    };
    let socket = scene.user.home().join("weft.sock");
    let output = inside(&["shell", "--bridge", "blue", "--socket", socket.to_str().unwrap(), "--", "true"])?;
    ensure!(output.status.code() == Some(2), "{output}");
    for words in
        ["can't make a user namespace", "user.max_user_namespaces is 0", "sysctl user.max_user_namespaces=10000"]
    {
        ensure!(output.stderr.contains(words), "{words}: {output}");
    }
    let output = inside(&["demo"])?;
    ensure!(output.status.code() == Some(2) && output.stderr.contains("the demo can't run here"), "{output}");
    ensure!(output.stderr.contains("user.max_user_namespaces is 0"), "{output}");
    weft.ports_go()?;
    weft.end()
}
