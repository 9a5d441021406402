//! Open vSwitch with its userspace datapath in a lab: a switch and a VTEP that shares no code with the kernel's devices.

use std::{
    fs,
    io::{self, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Command, Lab, LabError, Namespace, Process, find_program};

/// Where Debian has the database's schema.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const DATABASE: &str = "conf.db";
const SOCKET: &str = "db.sock";
const CONTROL: &str = "ctl";
/// How long a program of it may take to start, or to do what it is told, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A database and a switch of its own in a namespace, their files in the lab's folder. Both are killed when this is dropped.
#[derive(Debug)]
pub struct Ovs {
    namespace: Namespace,
    folder: PathBuf,
    switch: Process,
    _database: Process,
}

impl Ovs {
    /// What of it this machine lacks.
    pub fn lacks() -> Option<String> {
        let programs = ["ovsdb-tool", "ovsdb-server", "ovs-vsctl", "ovs-vswitchd"];
        let program = programs.into_iter().find(|program| find_program(program).is_none());
        program.map(str::to_owned).or_else(|| fs::metadata(SCHEMA).is_err().then(|| SCHEMA.to_owned()))
    }

    /// Starts it in a namespace, one in each at most. `settings` are columns of the `Open_vSwitch` table that are read only
    /// at the start, such as `other_config:userspace-tso-enable=true`.
    ///
    /// # Errors
    /// Open vSwitch is not installed, or a program of it fails.
    pub fn start(lab: &Lab, namespace: &Namespace, settings: &[&str]) -> Result<Self, LabError> {
        let folder = lab.folder()?.join(format!("ovs-{}", namespace.name()));
        fs::create_dir(&folder).map_err(|error| LabError::step(format!("make folder {}", folder.display()), error))?;
        let database = folder.join(DATABASE);
        let remote = format!("unix:{}", folder.join(SOCKET).display());
        let command = |program: &str| {
            // Whatever they write, and wherever they would look for each other by default, is in this folder.
            let variables = ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"];
            variables
                .iter()
                .fold(namespace.command(program).timeout(PATIENCE), |command, name| command.env(name, &folder))
        };
        command("ovsdb-tool").arg("create").arg(&database).arg(SCHEMA).output()?.ok()?;
        let mut server = command("ovsdb-server").arg(&database).arg(format!("--remote=p{remote}")).spawn()?;
        let started = Instant::now();
        while !folder.join(SOCKET).exists() && server.is_running() && started.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        let vsctl =
            || command("ovs-vsctl").arg(format!("--db={remote}")).args(["--no-wait", "--retry", "--timeout=10"]);
        vsctl().arg("init").output()?.ok()?;
        if !settings.is_empty() {
            vsctl().args(["set", "Open_vSwitch", "."]).args(settings).output()?.ok()?;
        }
        let control = folder.join(CONTROL);
        let switch = command("ovs-vswitchd").arg(&remote).arg(format!("--unixctl={}", control.display())).spawn()?;
        Ok(Self { namespace: namespace.clone(), folder, switch, _database: server })
    }

    /// The process that carries the frames.
    pub fn switch(&mut self) -> &mut Process {
        &mut self.switch
    }

    /// Changes it by the words of an `ovs-vsctl` command, and waits until the switch has followed.
    ///
    /// # Errors
    /// The command is refused, or the switch doesn't follow.
    pub fn vsctl(&self, words: &str) -> Result<(), LabError> {
        let command: Command = self.namespace.command("ovs-vsctl").timeout(PATIENCE);
        let command = command.arg(format!("--db=unix:{}", self.folder.join(SOCKET).display()));
        command.arg("--timeout=20").args(words.split_whitespace()).output()?.ok()?;
        Ok(())
    }

    /// Asks the switch something, as `ovs-appctl` does, and gives its answer.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub fn appctl(&self, command: &str, arguments: &[&str]) -> Result<String, LabError> {
        let step = || format!("ask Open vSwitch: {command} {}", arguments.join(" "));
        let failed = |error: io::Error| LabError::step(step(), error);
        // lib/unixctl.c: JSON-RPC 1.0, one object there and one back.
        let mut socket = UnixStream::connect(self.folder.join(CONTROL)).map_err(failed)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let question = json!({"id": 0, "method": command, "params": arguments});
        socket.write_all(question.to_string().as_bytes()).map_err(failed)?;
        let answer = serde_json::Deserializer::from_reader(socket).into_iter::<Value>().next();
        let answer = answer.unwrap_or(Ok(Value::Null)).map_err(|error| failed(error.into()))?;
        let error = &answer["error"];
        if error.is_null() {
            return Ok(answer["result"].as_str().unwrap_or_default().to_owned());
        }
        let why = error.as_str().map_or_else(|| error.to_string(), |why| why.trim().to_owned());
        Err(failed(io::Error::other(why)))
    }

    /// Gives a namespace a tap of this bridge as `eth0`, down and without an address. `settings` are columns of the port.
    ///
    /// # Errors
    /// There is no such bridge, or the namespace has an `eth0`.
    pub fn tap(&self, bridge: &str, host: &Namespace, settings: &str) -> Result<(), LabError> {
        let tap = host.name();
        self.vsctl(&format!("add-port {bridge} {tap} {settings} -- set interface {tap} type=tap"))?;
        self.namespace.hand_over(tap, host, "eth0")
    }
}
