//! Descriptors that weft is started with: taps and namespaces that somebody else opened.

use anyhow::ensure;
use libtest_mimic::Trial;
use weft::lab::{Lab, Namespace};
use weft_integration::{
    traffic::quiet,
    trial,
    weft::{PATIENCE, eventually},
};

use crate::scene::{NEEDS, NEEDS_TUN, Tun, User, Weft};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("taps_that_root_opened_are_a_users_ports", NEEDS_TUN.programs(PYTHON), || taps(true)),
        trial("plain_taps_that_root_opened_are_a_users_ports", NEEDS_TUN.programs(PYTHON), || taps(false)),
        trial("a_descriptor_that_is_no_tap_is_refused_with_what_it_is", NEEDS_TUN.programs(PYTHON), wrong_ones),
        trial("a_namespace_may_be_a_descriptor", NEEDS, namespace),
    ]
}

const PYTHON: &[&str] = &["python3", "setpriv", "ping", "ip"];

/// Opens taps, given as `NUMBER:NAME:FLAGS`, and runs what follows `--` with them.
const OPENER: &str = r#"
import fcntl, os, struct, sys
cut = sys.argv.index("--")
for wanted in sys.argv[1:cut]:
    number, name, flags = wanted.split(":")
    low = os.open("/dev/net/tun", os.O_RDWR)
    tun = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(low)
    fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", name.encode(), int(flags, 16)))
    os.dup2(tun, int(number), inheritable=True)
    os.close(tun)
    os.system("ip link set %s up mtu 1400; ip address add 10.10.0.%s/24 dev %s" % (name, number, name))
os.environ["LISTEN_FDS"] = str(cut - 1)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDNAMES"] = "first:second:third:fourth"
os.execvp(sys.argv[cut + 1], sys.argv[cut + 1:])
"#;

struct Scene {
    _lab: Lab,
    host: Namespace,
    user: User,
}

impl Scene {
    fn new() -> anyhow::Result<Self> {
        let lab = Lab::new("weft-handed");
        Ok(Self { host: quiet(&lab, "h")?, _lab: lab, user: User::new()? })
    }

    /// `weft run` as the user, started by root with taps that are open.
    fn command(&self, taps: &[&str], config: &str) -> anyhow::Result<weft::lab::Command> {
        let file = self.user.file("weft.toml", config)?;
        let opener = self.host.command("python3").args(["-c", OPENER]).args(taps).arg("--");
        Ok(self.user.started_by(opener).arg("run").arg(file))
    }
}

fn config(ports: &[(&str, &str)]) -> String {
    let port = |(netns, name): &(&str, &str)| {
        format!("[[port]]\nnetns = \"{netns}\"\nname = \"{name}\"\nbridge = \"blue\"\nmtu = 1400\n\n")
    };
    let ports: String = ports.iter().map(port).collect();
    format!("[switch]\nworkers = 2\n\n[[bridge]]\nname = \"blue\"\n\n{ports}")
}

/// IFF_TAP | IFF_NO_PI, with and without IFF_VNET_HDR.
fn flags(with_header: bool) -> &'static str {
    if with_header { "5002" } else { "1002" }
}

fn taps(with_header: bool) -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let flags = flags(with_header);
    let taps = [format!("3:t0:{flags}"), format!("4:t1:{flags}")];
    let command =
        scene.command(&taps.each_ref().map(String::as_str), &config(&[("fd:3", "t0"), ("fd:second", "t1")]))?;
    let weft = Weft::wait(&scene.user, &scene.host, command)?;
    weft.has_no_privileges()?;
    ensure!(weft.log().contains("no rights over the tap's namespace"), "{}", weft.log());
    // Who is not there is asked for, by a broadcast.
    for from in ["t0", "t1"] {
        let ping = scene.host.run(&["ping", "-c", "1", "-W", "1", "-I", from, "10.10.0.99"])?;
        ensure!(!ping.success(), "{ping}");
    }
    for name in ["fd:3/t0", "fd:second/t1"] {
        eventually("frames come in", PATIENCE, || {
            let ledger = weft.show("ledger")?;
            let row = ledger["rows"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == name).cloned());
            Ok(row.is_some_and(|row| row["in_frames"].as_u64() > Some(0) && row["out_frames"].as_u64() > Some(0)))
        })?;
    }
    weft.books_balance()?;
    // The descriptor outlives the port, which can be taken out and added again.
    weft.succeed(&["port", "del", "fd:3/t0"])?;
    weft.succeed(&["port", "add", "fd:3/t0", "--bridge", "blue"])?;
    let refused = weft.command(&["port", "add", "fd:9/t9", "--bridge", "blue"])?;
    ensure!(!refused.success() && refused.stderr.contains("weft was started with 3 (first), 4 (second)"), "{refused}");
    weft.succeed(&["port", "del", "fd:3/t0"])?;
    let refused = weft.command(&["port", "add", "fd:3/t0", "--bridge", "blue", "--address", "10.0.0.1/24"])?;
    ensure!(!refused.success() && refused.stderr.contains("`address` can't be set"), "{refused}");
    weft.end()
}

fn wrong_ones() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    for (flags, port, words) in [
        ("1001", "t0", "a tun device, which has packets and no frames: open it with IFF_TAP"),
        ("0002", "t0", "open it with IFF_NO_PI"),
        ("5002", "t1", "it is the tap `t0`: write name = \"t0\", and not \"t1\""),
    ] {
        let command = scene.command(&[&format!("3:t0:{flags}")], &config(&[("fd:3", port)]))?;
        let output = command.timeout(PATIENCE).output()?;
        ensure!(output.status.code() == Some(1) && output.stderr.contains(words), "{words}: {output}");
    }
    let file = scene.user.file("weft.toml", &config(&[("fd:3", "t0")]))?;
    let script = "exec 3</dev/null; exec \"$@\"";
    let started = scene.host.command("sh").args(["-c", script, "sh"]);
    let output = scene.user.started_by(started).arg("run").arg(&file).timeout(PATIENCE).output()?;
    ensure!(
        output.status.code() == Some(1) && output.stderr.contains("neither a tap nor a network namespace"),
        "{output}"
    );
    let output = scene.user.weft(&scene.host, &["run", file.to_str().unwrap()]).timeout(PATIENCE).output()?;
    ensure!(output.status.code() == Some(1) && output.stderr.contains("there is no descriptor 3"), "{output}");
    Ok(())
}

/// Of a station, by a descriptor of its namespace's file.
fn namespace() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let station = crate::scene::Station::new(&scene.user, &scene.host)?;
    let file = scene.user.file("weft.toml", &config(&[("fd:3", "eth0")]))?;
    let script = format!("exec 3</proc/{}/ns/net; exec \"$@\"", station.id());
    let started = scene.host.command("unshare").args(["--mount", "sh", "-c", Tun::Missing.script(), "sh"]);
    let started = started.args(["sh", "-c", &script, "sh"]);
    let weft = Weft::wait(&scene.user, &scene.host, scene.user.started_by(started).arg("run").arg(&file))?;
    ensure!(station.has_interface("eth0")?, "{}", weft.log());
    weft.succeed(&["reload"])?;
    weft.end()?;
    ensure!(!station.has_interface("eth0")?);
    Ok(())
}
