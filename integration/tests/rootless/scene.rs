//! A user without privileges, what he runs, and hosts for it.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;
use weft::{
    lab::{Command, Lab, LabError, Namespace, Output, Process, Signal},
    sys::netns::Netns,
};
use weft_integration::{
    Needs,
    traffic::quiet,
    weft::{PATIENCE, binary, eventually},
};

/// What all of these tests need, but for taps.
pub(crate) const NEEDS: Needs = Needs::ROOT.programs(&["setpriv", "unshare", "nsenter", "ping", "ip"]);
/// The same with taps.
pub(crate) const NEEDS_TUN: Needs =
    Needs::ROOT_AND_TUN.programs(&["setpriv", "unshare", "nsenter", "ping", "ip", "mknod"]);

/// What is at `/dev/net/tun` for a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tun {
    /// The device, for everybody: what distributions have.
    ForAll,
    /// The device, for root alone.
    ForRoot,
    /// Nothing.
    Missing,
}

impl Tun {
    /// Shell commands that make it so, in a mount namespace that is the program's own.
    pub(crate) fn script(self) -> &'static str {
        match self {
            Self::ForAll => "mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec \"$@\"",
            Self::ForRoot => "mount -t tmpfs tmpfs /dev/net && mknod -m 600 /dev/net/tun c 10 200 && exec \"$@\"",
            Self::Missing => "mount -t tmpfs tmpfs /dev/net && exec \"$@\"",
        }
    }
}

/// A user that nobody else is, with a folder of his own.
pub(crate) struct User {
    id: u32,
    home: TempDir,
    binary: PathBuf,
}

impl User {
    pub(crate) fn new() -> anyhow::Result<Self> {
        static USERS: AtomicU32 = AtomicU32::new(0);
        // Beyond all that are given to people, and those that are given to people's containers.
        let id = 1_500_000_000 + std::process::id() % 10_000_000 * 64 + USERS.fetch_add(1, Ordering::Relaxed);
        let home = tempfile::tempdir()?;
        chown(home.path(), Some(id), Some(id))?;
        Ok(Self { id, home, binary: binary_for_all()? })
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.home().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// A program as this user, who has no capability and can't get one.
    pub(crate) fn command(&self, namespace: &Namespace, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.environment(namespace.command("setpriv").args(self.privileges())).arg(program)
    }

    /// The same where `/dev/net/tun` is like this.
    pub(crate) fn command_with(
        &self,
        tun: Tun,
        namespace: &Namespace,
        program: impl AsRef<std::ffi::OsStr>,
    ) -> Command {
        let command = namespace.command("unshare").args(["--mount", "sh", "-c", tun.script(), "sh", "setpriv"]);
        self.environment(command.args(self.privileges())).arg(program)
    }

    /// `weft` as this user.
    pub(crate) fn weft(&self, namespace: &Namespace, args: &[&str]) -> Command {
        self.command(namespace, &self.binary).args(args)
    }

    /// `weft` as this user, started by a program of root's that runs what stands behind its arguments.
    pub(crate) fn started_by(&self, starter: Command) -> Command {
        self.environment(starter.arg("setpriv").args(self.privileges()).arg(&self.binary))
    }

    /// The `weft` binary, where he may run it.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    fn privileges(&self) -> [String; 7] {
        let id = self.id;
        [
            format!("--reuid={id}"),
            format!("--regid={id}"),
            "--clear-groups".to_owned(),
            "--inh-caps=-all".to_owned(),
            "--bounding-set=-all".to_owned(),
            "--no-new-privs".to_owned(),
            "--".to_owned(),
        ]
    }

    pub(crate) fn environment(&self, command: Command) -> Command {
        command.env("HOME", self.home()).env("XDG_RUNTIME_DIR", self.home()).env("TMPDIR", self.home())
    }
}

/// A copy of the binary that everybody may run: the folder of the original may be closed to others.
fn binary_for_all() -> anyhow::Result<PathBuf> {
    static COPY: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut copy = COPY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*copy {
        return Ok(path.clone());
    }
    let original = binary()?;
    let name = format!("weft-rootless-test-{}", std::process::id());
    // Beside it, if everybody can get there; that saves a hundred megabytes.
    let may_pass =
        |folder: &Path| fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    let path = if original.ancestors().skip(1).all(may_pass) {
        original
    } else {
        let path = std::env::temp_dir().join(name);
        fs::copy(&original, &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        path
    };
    *copy = Some(path.clone());
    Ok(path)
}

/// Removes what [`binary_for_all`] may have made.
pub(crate) fn clean_up() {
    let _ = fs::remove_file(std::env::temp_dir().join(format!("weft-rootless-test-{}", std::process::id())));
}

/// A process in a user and a network namespace of its user's own, without interfaces but for `lo`.
pub(crate) struct Station {
    user: u32,
    process: Process,
    netns: Netns,
}

impl Station {
    pub(crate) fn new(user: &User, namespace: &Namespace) -> anyhow::Result<Self> {
        Self::of_command(user, user.command(namespace, "unshare").args(["-U", "-r", "-n", "sleep", "3600"]))
    }

    /// One whose user namespace lies in another one of its user's.
    pub(crate) fn nested(user: &User, namespace: &Namespace) -> anyhow::Result<Self> {
        let command = user.command(namespace, "unshare").args(["-U", "-r", "unshare"]);
        Self::of_command(user, command.args(["-U", "-r", "-n", "sleep", "3600"]))
    }

    fn of_command(user: &User, command: Command) -> anyhow::Result<Self> {
        let process = command.spawn()?;
        let id = process.id();
        eventually("a station is ready", PATIENCE, || {
            Ok(fs::read_to_string(format!("/proc/{id}/comm"))?.trim() == "sleep")
        })?;
        Ok(Self { user: user.id(), netns: Netns::of_pid(id)?, process })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// How a configuration names its namespace.
    pub(crate) fn name(&self) -> String {
        format!("pid:{}", self.id())
    }

    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A program inside, as its root.
    pub(crate) fn run(&self, command: &[&str]) -> anyhow::Result<std::process::Output> {
        Ok(self.inside(command).output()?)
    }

    /// Starts a program inside that runs until it is dropped.
    pub(crate) fn begin(&self, command: &[&str]) -> anyhow::Result<Background> {
        let mut inside = self.inside(command);
        inside.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Background(inside.spawn()?))
    }

    fn inside(&self, command: &[&str]) -> std::process::Command {
        let id = self.id().to_string();
        let mut inside = std::process::Command::new("setpriv");
        // Who its user is outside, is root inside.
        let (user, group) = (format!("--reuid={}", self.user), format!("--regid={}", self.user));
        inside.args([&user, &group, "--clear-groups", "--", "nsenter"]);
        inside.args(["--target", &id, "--user", "--net", "--preserve-credentials", "--"]).args(command);
        inside
    }

    /// The same for one that must succeed; what it printed.
    pub(crate) fn succeed(&self, command: &[&str]) -> anyhow::Result<String> {
        let output = self.run(command)?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{command:?}: {}\n{said}{complained}", output.status);
        Ok(said.into_owned())
    }

    pub(crate) fn pings(&self, address: &str) -> anyhow::Result<()> {
        self.succeed(&["ping", "-c", "3", "-i", "0.05", "-W", "5", address]).map(drop)
    }

    /// Whoever had an address before may have another interface now.
    pub(crate) fn forgets_neighbours(&self) -> anyhow::Result<()> {
        self.succeed(&["ip", "neighbour", "flush", "all"]).map(drop)
    }

    pub(crate) fn has_interface(&self, name: &str) -> anyhow::Result<bool> {
        Ok(self.run(&["ip", "link", "show", name])?.status.success())
    }

    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.wait(PATIENCE)?;
        Ok(())
    }
}

/// A program that is ended when this is dropped.
pub(crate) struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `weft run` as a user.
pub(crate) struct Weft<'u> {
    user: &'u User,
    namespace: Namespace,
    process: Process,
}

impl<'u> Weft<'u> {
    /// Starts it and waits until it runs.
    pub(crate) fn start(user: &'u User, namespace: &Namespace, config: &str, tun: Tun) -> anyhow::Result<Self> {
        let file = user.file("weft.toml", config)?;
        let command = user.command_with(tun, namespace, user.binary()).arg("run").arg(file);
        Self::wait(user, namespace, command)
    }

    pub(crate) fn wait(user: &'u User, namespace: &Namespace, command: Command) -> anyhow::Result<Self> {
        let process = command.env("RUST_LOG", "weft=debug").spawn()?;
        let mut weft = Self { user, namespace: namespace.clone(), process };
        let waited = weft.process.wait_for("weft runs", PATIENCE);
        waited.with_context(|| format!("weft did not start:\n{}", weft.process.stderr()))?;
        Ok(weft)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    pub(crate) fn command(&self, args: &[&str]) -> anyhow::Result<Output> {
        Ok(self.user.weft(&self.namespace, args).timeout(PATIENCE).output()?)
    }

    pub(crate) fn succeed(&self, args: &[&str]) -> anyhow::Result<String> {
        Ok(self.command(args)?.ok().with_context(|| format!("weft {}\n{}", args.join(" "), self.log()))?.stdout)
    }

    pub(crate) fn show(&self, what: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.succeed(&["show", what, "--json"])?)?)
    }

    pub(crate) fn rewrite(&self, config: &str) -> anyhow::Result<()> {
        self.user.file("weft.toml", config).map(drop)
    }

    /// The port of this name, if it is there.
    pub(crate) fn port(&self, name: &str) -> anyhow::Result<Option<Value>> {
        let ports = self.show("ports")?;
        Ok(ports.as_array().context("a list")?.iter().find(|port| port["name"] == name).cloned())
    }

    /// Waits until it has no ports any more.
    pub(crate) fn ports_go(&self) -> anyhow::Result<()> {
        eventually("the ports go", PATIENCE, || Ok(self.show("ports")?.as_array().is_some_and(Vec::is_empty)))
    }

    pub(crate) fn books_balance(&self) -> anyhow::Result<()> {
        eventually("the books balance", Duration::from_secs(10), || {
            Ok(self.show("ledger")?["totals"]["balanced"] == true)
        })
    }

    /// Fails unless the process has no capability at all and is the user.
    pub(crate) fn has_no_privileges(&self) -> anyhow::Result<()> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let line = status.lines().find(|line| line.starts_with(set)).context(set)?;
            ensure!(line.ends_with(":\t0000000000000000"), "{line}");
        }
        let users = status.lines().find(|line| line.starts_with("Uid:")).context("Uid")?;
        let id = self.user.id();
        ensure!(users == format!("Uid:\t{id}\t{id}\t{id}\t{id}"), "{users}");
        for held in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            ensure!(status.lines().any(|line| line == held), "{held}: {status}");
        }
        let own = fs::read_link("/proc/self/ns/user")?;
        ensure!(fs::read_link(format!("/proc/{}/ns/user", self.id()))? == own, "it is in the first user namespace");
        Ok(())
    }

    /// Ends it as a user would; fails unless it ends well.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::TERM)?;
        let output = self.process.wait(PATIENCE)?;
        output.ok()?;
        Ok(())
    }
}

/// Two hosts with a cable of 1,500 bytes between them.
pub(crate) struct Hosts {
    _lab: Lab,
    pub(crate) hosts: [Namespace; 2],
}

/// The hosts' addresses.
pub(crate) const UNDERLAY: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// The stations' addresses.
pub(crate) const OVERLAY: [&str; 2] = ["10.10.0.1", "10.10.0.2"];

impl Hosts {
    pub(crate) fn new() -> Result<Self, LabError> {
        let lab = Lab::new("weft-rootless");
        let hosts = [quiet(&lab, "a")?, quiet(&lab, "b")?];
        lab.veth((&hosts[0], "under0"), (&hosts[1], "under0"), 1500)?;
        for (host, address) in hosts.iter().zip(UNDERLAY) {
            host.address("under0", &format!("{address}/24"))?;
        }
        Ok(Self { _lab: lab, hosts })
    }
}

/// A configuration of the host with this index, whose station is the namespace of this name.
pub(crate) fn config(host: usize, station: &str, more: &str) -> String {
    let (own, other, address) = (UNDERLAY[host], UNDERLAY[1 - host], OVERLAY[host]);
    format!(
        "[switch]\nworkers = 2\n\n[vtep]\naddress = \"{own}\"\n\n[[bridge]]\nname = \"blue\"\nvni = 42\n\
         remotes = [\"{other}\"]\n\n[[port]]\nname = \"eth0\"\nnetns = \"{station}\"\nbridge = \"blue\"\n\
         address = [\"{address}/24\"]\n{more}\n"
    )
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
