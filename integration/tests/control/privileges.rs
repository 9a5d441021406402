//! What a running weft holds of privileges: nothing, and everything works nevertheless.

use std::{
    collections::BTreeSet,
    env, fs, io,
    net::{TcpListener, UdpSocket},
    os::fd::AsFd,
    os::unix::{
        fs::MetadataExt,
        process::{CommandExt, ExitStatusExt},
    },
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::{
    process::{Pid, PidfdFlags, Signal},
    thread::LinkNameSpaceType,
};
use serde_json::{Value, json};
use weft::{isolation, lab::VxlanOptions};
use weft_integration::{
    scene::{Pair, Star, port},
    traffic::quiet,
    weft::{PATIENCE, Weft, binary, eventually},
};
use weft_vxlan::Vni;

use crate::{PREFIX, array, ping, port_state};

/// Nobody's number, as a user and as a group.
const NOBODY: u32 = 1_499_999_999;

/// The lines of `/proc/PID/status`, or of a thread's.
fn status(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

fn field<'s>(status: &'s str, name: &str) -> anyhow::Result<&'s str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim).with_context(|| format!("no {name} in {status}"))
}

/// Fails unless each thread of the process holds nothing.
fn holds_nothing(pid: u32, user: u32) -> anyhow::Result<()> {
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = status(&task?.path().join("status").display().to_string())?;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            ensure!(field(&status, set)? == "0000000000000000", "{set}: {status}");
        }
        ensure!(field(&status, "NoNewPrivs")? == "1" && field(&status, "Seccomp")? == "2", "{status}");
        let ids = [user.to_string().as_str(); 4].join("\t");
        ensure!(field(&status, "Uid")? == ids && field(&status, "Gid")? == ids, "{status}");
        ensure!(user == 0 || field(&status, "Groups")?.is_empty(), "{status}");
        threads += 1;
    }
    ensure!(threads > 4, "workers and the control plane: {threads}");
    Ok(())
}

/// The opener's process, as weft says.
fn opener_of(weft: &Weft) -> anyhow::Result<u32> {
    let (_, status) = weft.request("GET", "/v1/status", "")?;
    Ok(status["held"]["opener"].as_u64().with_context(|| format!("{status:#}"))?.try_into()?)
}

fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) fn held() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let mut weft = Weft::start(&star.switch, &star.config())?;
    let pid = weft.process().id();
    holds_nothing(pid, 0)?;
    ping(&star.hosts[0], &Star::address(1))?;

    let opener = opener_of(&weft)?;
    let (_, said) = weft.request("GET", "/v1/status", "")?;
    let expected = json!({"uid": 0, "gid": 0, "capabilities": [], "no_new_privs": true, "seccomp": true,
        "landlock": said["held"]["landlock"], "opener": opener});
    ensure!(said["held"] == expected, "{said:#}");
    let of_opener = status(&format!("/proc/{opener}/status"))?;
    ensure!(field(&of_opener, "PPid")? == pid.to_string(), "{of_opener}");
    ensure!(field(&of_opener, "NoNewPrivs")? == "1" && field(&of_opener, "Seccomp")? == "2", "{of_opener}");
    // net_bind_service, net_admin, net_raw, sys_ptrace, sys_admin, dac_read_search.
    const KEPT: u64 = 1 << 10 | 1 << 12 | 1 << 13 | 1 << 19 | 1 << 21 | 1 << 2;
    for set in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"] {
        let held = u64::from_str_radix(field(&of_opener, set)?, 16)?;
        ensure!(held & !KEPT == 0, "{set}: {held:x}");
    }

    // Doctor shows it, and counts the opener for no weft of its own.
    let doctor = star.switch.command(binary()?).args(["doctor", "-v", "--netns", star.switch.full_name()]).output()?;
    let shown = doctor.stdout;
    let line = format!("weft {pid}: user 0, group 0, capabilities none, no-new-privs yes, seccomp filter yes");
    ensure!(shown.contains(&line) && shown.contains(&format!("opener {opener}")), "{shown}");
    ensure!(!shown.contains(&format!("weft {opener}")), "{shown}");

    weft.process().terminate(PATIENCE)?.ok()?;
    ensure!(!is_running(opener), "the opener ended before its weft");
    Ok(())
}

/// What this program is asked to try by itself, as a child of its own: behind [`TRY`].
const TRY: &str = "--try-call";

/// What is tried, and what comes of it: an errno, a signal or success.
const CALLS: &[(&str, End)] = &[
    ("exec", End::Killed),
    ("setns", End::Killed),
    ("setuid", End::Killed),
    ("mount", End::Killed),
    ("pidfd_getfd", End::Killed),
    ("spawn", End::Errno(libc_errno::EPERM)),
    ("kill", End::Errno(libc_errno::EPERM)),
    ("udp", End::Errno(libc_errno::EPERM)),
    ("tcp", End::Errno(libc_errno::EPERM)),
    ("write", End::Errno(libc_errno::EPERM)),
    ("read", End::Errno(libc_errno::EACCES)),
    ("list", End::Errno(libc_errno::EACCES)),
    ("thread", End::Works),
    ("time", End::Works),
    ("stat", End::Works),
];

/// `asm-generic/errno-base.h`.
mod libc_errno {
    pub(super) const EPERM: i32 = 1;
    pub(super) const EACCES: i32 = 13;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Works,
    Errno(i32),
    Killed,
}

/// If this process is a child that is to try something: gives up what a running weft does, tries it, and says by its exit code
/// how it went. 0: it worked; else the errno.
pub(crate) fn trial_of_a_call() -> Option<ExitCode> {
    let arguments: Vec<_> = env::args().collect();
    let [_, flag, call] = &arguments[..] else { return None };
    if flag != TRY {
        return None;
    }
    let file = tempfile::NamedTempFile::new().ok()?;
    let before = if call == COST { cost() } else { [0.0; 2] };
    let mut shortcomings = Vec::new();
    isolation::restrain(&mut shortcomings);
    if !shortcomings.is_empty() {
        eprintln!("{shortcomings:?}");
        return Some(ExitCode::from(200));
    }
    if call == COST {
        eprintln!("{}", json!({"without": before, "with": cost()}));
    }
    let tried = attempt(call, file.path());
    // It can't be removed any more; its maker, who has its path, does so.
    let _ = file.keep();
    Some(match tried {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let errno = error.raw_os_error().and_then(|errno| u8::try_from(errno).ok());
            ExitCode::from(errno.unwrap_or(201))
        }
    })
}

/// The call that is none: what calls cost is measured.
const COST: &str = "cost";

/// Nanoseconds that a system call takes whose arguments don't matter, and one where they do.
fn cost() -> [f64; 2] {
    const CALLS: u32 = 300_000;
    let input = io::stdin();
    let time = |call: &dyn Fn()| {
        let round = || {
            let start = Instant::now();
            (0..CALLS).for_each(|_| call());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
        };
        (0..5).map(|_| round()).fold(f64::INFINITY, f64::min)
    };
    [
        time(&|| {
            let _ = rustix::process::getppid();
        }),
        time(&|| {
            let _ = rustix::fs::fcntl_getfl(&input);
        }),
    ]
}

/// A measurement rather than a test: it prints, and fails only if there is nothing to print.
pub(crate) fn cost_of_filters() -> anyhow::Result<()> {
    let child = process::Command::new(env::current_exe()?).args([TRY, COST]).output()?;
    let figures: Value = serde_json::from_slice(&child.stderr)?;
    eprintln!("ns a call, any arguments and some: {figures}");
    Ok(())
}

fn attempt(call: &str, file: &std::path::Path) -> io::Result<()> {
    let own = Pid::from_raw(process::id().cast_signed()).expect("a process has a number");
    match call {
        "exec" => Err(process::Command::new("/bin/true").exec()),
        "spawn" => process::Command::new("/bin/true").status().map(drop),
        "setns" => {
            let any = io::stdin();
            Ok(rustix::thread::move_into_link_name_space(any.as_fd(), Some(LinkNameSpaceType::Network))?)
        }
        "setuid" => Ok(rustix::thread::set_thread_uid(rustix::process::Uid::ROOT)?),
        "mount" => Ok(rustix::mount::unmount("/proc", rustix::mount::UnmountFlags::DETACH)?),
        "pidfd_getfd" => {
            let socket = io::stdin();
            let flags = rustix::process::PidfdGetfdFlags::empty();
            Ok(rustix::process::pidfd_getfd(&socket, 0, flags).map(drop)?)
        }
        "kill" => Ok(rustix::process::kill_process(own, Signal::TERM)?),
        "udp" => UdpSocket::bind("127.0.0.1:0").map(drop),
        "tcp" => TcpListener::bind("127.0.0.1:0").map(drop),
        "write" => fs::OpenOptions::new().write(true).open(file).map(drop),
        "read" => fs::File::open(file).map(drop),
        "list" => fs::read_dir("/").map(drop),
        "thread" => {
            let worker = thread::Builder::new().spawn(|| UdpSocket::bind("127.0.0.1:0"))?;
            let refused = worker.join().expect("it does not panic");
            match refused.map_err(|error| error.raw_os_error()) {
                Err(Some(libc_errno::EPERM)) => Ok(()),
                _ => Err(io::Error::other("a new thread may do what others may not")),
            }
        }
        "time" => {
            thread::sleep(Duration::from_millis(1));
            Ok(())
        }
        COST => Ok(()),
        "stat" => fs::metadata("/etc/passwd").map(drop),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

pub(crate) fn forbidden_calls() -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    for (call, expected) in CALLS {
        let child = process::Command::new(env::current_exe()?)
            .args([TRY, call])
            .env("TMPDIR", temporary.path())
            .stderr(process::Stdio::piped())
            .output()?;
        let end = match (child.status.code(), child.status.signal()) {
            (Some(0), _) => End::Works,
            (Some(errno), _) => End::Errno(errno),
            (None, Some(signal)) if signal == Signal::SYS.as_raw() => End::Killed,
            other => bail!("{call}: {other:?}: {}", String::from_utf8_lossy(&child.stderr)),
        };
        ensure!(
            end == *expected,
            "{call}: {end:?} instead of {expected:?}: {}",
            String::from_utf8_lossy(&child.stderr)
        );
    }
    Ok(())
}

/// The commands of a page of help.
fn commands(help: &str) -> BTreeSet<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Commands that start wefts of their own, which are without privileges like all; each has tests of its own. And `run`, which
/// is what all of this is about, and `check`, which needs no weft.
const OTHERS: &[&str] = &["run", "check", "demo", "compare", "experiment", "lab"];

pub(crate) fn every_command() -> anyhow::Result<()> {
    let pair = Pair::new(PREFIX)?;
    let [a, b] = &pair.sides;
    let spare = quiet(&pair.lab, "spare")?;
    let mut weft = Weft::start(&a.switch, &a.config("", ""))?;
    let _far = Weft::start(&b.switch, &b.config("", ""))?;
    ping(&a.host, b.address)?;
    let left = a.port_name();
    let new = format!("{}/eth0", spare.full_name());
    let (left, new) = (left.as_str(), new.as_str());
    let mac = "02:00:00:00:00:77";
    let point = format!("{}/eth0", a.host.full_name());
    let cases: &[(&str, &[&[&str]])] = &[
        (
            "fdb",
            &[
                &["fdb", "add", "--bridge", "blue", "--mac", mac, "--port", left],
                &["fdb", "del", "--bridge", "blue", "--mac", mac],
                &["fdb", "flush"],
            ],
        ),
        (
            "neigh",
            &[
                &["neigh", "add", "--bridge", "blue", "--ip", "10.0.0.7", "--mac", mac],
                &["neigh", "del", "--bridge", "blue", "--ip", "10.0.0.7"],
            ],
        ),
        (
            "mdb",
            &[
                &["mdb", "add", "--bridge", "blue", "--group", "239.1.1.1", "--port", left],
                &["mdb", "del", "--bridge", "blue", "--group", "239.1.1.1", "--port", left],
            ],
        ),
        ("bridge", &[&["bridge", "add", "green", "--vni", "43", "--remote", b.vtep], &["bridge", "del", "green"]]),
        (
            "port",
            &[
                &["port", "add", new, "--bridge", "blue", "--address", "10.0.0.8/24", "--mtu", "1400", "--mac", mac],
                &["port", "del", new],
                &["port", "add", new, "--bridge", "blue", "--no-offload"],
                &["port", "del", new],
                &["port", "add", new, "--bridge", "blue", "--kind", "veth", "--address", "10.0.0.8/24"],
                &["port", "del", new],
            ],
        ),
        ("explain", &[&["explain", "--port", left, "--arp", "who-has", "--src", mac, "--ip", "10.0.0.1,10.0.0.2"]]),
        ("reload", &[&["reload"]]),
        ("shell", &[&["shell", "--bridge", "blue", "--address", "10.0.0.9/24", "--", "ping", "-c1", "-W5", b.address]]),
        ("capture", &[&["capture", &point, "--time", "100ms", "--quiet"]]),
    ];
    let shown = commands(&weft_help(&a.switch, &["show", "--help"])?);
    ensure!(shown.len() >= 9, "{shown:?}");
    let mut done: BTreeSet<String> = OTHERS.iter().map(|&name| name.to_owned()).collect();
    for what in &shown {
        weft.succeed(&["show", what])?;
        done.insert("show".to_owned());
    }
    for (name, lines) in cases {
        for line in *lines {
            match *line {
                // `--` ends weft's own arguments.
                [verb @ .., "--", _, _, _, _] => with_socket(&weft, &a.switch, verb, &line[verb.len()..])?,
                _ => weft.succeed(line).map(drop)?,
            }
        }
        done.insert((*name).to_owned());
    }
    events(&weft, &a.host, b.address)?;
    live(&weft, &a.host, b.address)?;
    oci_hook(&weft, &spare)?;
    done.extend(["events", "oci-hook"].map(str::to_owned));
    for line in [&["doctor", "--netns", a.host.full_name()][..], &["map"]] {
        let output = a.switch.command(binary()?).args(line).output()?;
        ensure!(output.status.code().is_some_and(|code| code < 2), "{output}");
        done.insert(line[0].to_owned());
    }
    let all = commands(&weft_help(&a.switch, &["--help"])?);
    ensure!(all.len() > 15, "{all:?}");
    ensure!(all == done, "without a case here: {:?}", all.symmetric_difference(&done).collect::<Vec<_>>());
    ping(&a.host, b.address)?;
    let pid = weft.process().id();
    holds_nothing(pid, 0)?;
    weft.ledger_comes_to_balance()
}

fn weft_help(namespace: &weft::lab::Namespace, args: &[&str]) -> anyhow::Result<String> {
    Ok(namespace.command(binary()?).args(args).output()?.ok()?.stdout)
}

fn with_socket(weft: &Weft, namespace: &weft::lab::Namespace, verb: &[&str], rest: &[&str]) -> anyhow::Result<()> {
    let command = namespace.command(binary()?).args(verb).arg("--socket").arg(weft.socket()).args(rest);
    command.timeout(PATIENCE).output()?.ok().map(drop).with_context(|| weft.log())
}

fn events(weft: &Weft, host: &weft::lab::Namespace, address: &str) -> anyhow::Result<()> {
    let mut events = weft.begin(&["events", "--json"])?;
    // Until it listens.
    eventually("an event is told", PATIENCE, || {
        weft.succeed(&["fdb", "flush"])?;
        ping(host, address)?;
        Ok(events.stdout().contains("learned"))
    })
    .with_context(|| format!("{}{}", events.stdout(), events.stderr()))?;
    events.kill();
    Ok(())
}

fn live(weft: &Weft, host: &weft::lab::Namespace, address: &str) -> anyhow::Result<()> {
    let mut live = weft.begin(&["explain", "--live", "--proto", "icmp", "--count", "1", "--seconds", "30"])?;
    eventually("a frame is explained", PATIENCE, || {
        let _ = host.run(&["ping", "-c1", "-W1", address])?;
        Ok(!live.is_running())
    })?;
    live.wait(PATIENCE)?.ok()?;
    Ok(())
}

/// As a runtime calls it, for a container that is a process in a namespace.
fn oci_hook(weft: &Weft, spare: &weft::lab::Namespace) -> anyhow::Result<()> {
    let mut container = spare.command("sleep").arg("60").spawn()?;
    let state = json!({"ociVersion": "1.0.2", "id": "c", "status": "created", "pid": container.id(), "bundle": "/b",
        "annotations": {"weft.bridge": "blue", "weft.address": "10.0.0.8/24", "weft.name": "hooked0"}});
    let hook = spare.command(binary()?).arg("oci-hook").arg("--socket").arg(weft.socket()).input(state.to_string());
    hook.output()?.ok().with_context(|| weft.log())?;
    let name = format!("pid:{}/hooked0", container.id());
    ensure!(port_state(weft, &name)?["state"] == "up", "{}", weft.show("ports")?);
    container.kill();
    eventually("the port goes with its process", PATIENCE, || Ok(port_state(weft, &name).is_err()))
}

pub(crate) fn every_reload() -> anyhow::Result<()> {
    let pair = Pair::new(PREFIX)?;
    let [a, b] = &pair.sides;
    let spare = quiet(&pair.lab, "spare")?;
    a.switch.address("under0", "192.0.2.11/24")?;
    let user = format!("{NOBODY}:{NOBODY}");
    let plain = a.config("", "");
    let mut weft = Weft::start_with(&a.switch, &plain, &["--user", &user, "--sandbox", "on"])?;
    let pid = weft.process().id();
    holds_nothing(pid, NOBODY)?;
    let options = VxlanOptions::new(Vni::new(42).context("a VNI")?, b.vtep.parse()?);
    let remotes = ["192.0.2.1".parse()?, "192.0.2.11".parse()?];
    b.switch.vxlan("vx0", &VxlanOptions { mtu: Some(1450), ..options.remotes(remotes) })?;
    b.switch.address("vx0", &format!("{}/24", b.address))?;
    ping(&a.host, b.address)?;
    let reload = |config: &str| weft.reload(config).with_context(|| weft.log());

    // Ports in another namespace: each kind comes, changes and goes.
    let more = |lines: &str| plain.clone() + &port(spare.full_name(), "eth0", lines);
    for kind in ["", "offload = false\n", "kind = \"veth\"\n"] {
        reload(&more(&format!("{kind}address = [\"10.0.0.3/24\"]\nmtu = 1400\n")))?;
        ping(&spare, b.address).with_context(|| kind.to_owned())?;
        let changed = format!(
            "{kind}address = [\"10.0.0.4/24\", \"10.0.0.44/24\"]\nmtu = 1300\nmac = \"02:00:00:00:00:04\"\nisolated = true\n"
        );
        reload(&more(&changed))?;
        let link = spare.link("eth0")?;
        ensure!((link.mtu, link.mac) == (1300, Some("02:00:00:00:00:04".parse()?)), "{kind}: {link:?}");
        ping(&spare, b.address).with_context(|| kind.to_owned())?;
        reload(&plain)?;
        eventually("the interface goes", PATIENCE, || Ok(spare.link("eth0").is_err()))?;
    }
    // A packet port, whose interface is somebody else's.
    pair.lab.veth((&spare, "near"), (&a.host, "far"), 1500)?;
    spare.up("near")?;
    reload(&(plain.clone() + &port(spare.full_name(), "near", "kind = \"packet\"\nmtu = 1450\n")))?;
    ensure!(spare.link("near")?.mtu == 1450);
    reload(&plain)?;
    ensure!(spare.link("near")?.mtu == 1450, "it stays when the port goes");

    // The VTEP: its address, its port, its buffers, and back.
    reload(&plain.replace("address = \"192.0.2.1\"", "address = \"192.0.2.11\""))?;
    ping(&a.host, b.address)?;
    reload(&a.config("receive_buffer = \"32MiB\"\nsend_buffer = \"16MiB\"", ""))?;
    let buffers = a.switch.run(&["ss", "-uanmO", "src", a.vtep])?.ok()?.stdout;
    ensure!(buffers.contains(&format!("rb{}", 64 << 20)), "larger than net.core.rmem_max: {buffers}");
    reload(&a.config("port = 789", ""))?;
    reload(&plain)?;
    ping(&a.host, b.address)?;

    // Bridges come and go, and change; an option of a bridge, and of the switch.
    let green = "[[bridge]]\nname = \"green\"\nvni = 43\nremotes = [\"192.0.2.2\"]\n";
    reload(&(plain.clone() + green))?;
    reload(&(plain.clone() + &green.replace("43", "44")))?;
    reload(&plain.replace("vni = 42", "vni = 42\nneigh_suppress = true\nmss_clamp = true"))?;
    reload(&plain.replace("[switch]", "[switch]\nageing = \"10s\"\nbusy_poll = \"50us\""))?;
    reload(&plain)?;

    // What is wrong is refused as ever, also by a signal.
    weft.rewrite(&more("kind = \"packet\"\nmtu = 99\n"))?;
    ensure!(!weft.command(&["reload"])?.success());
    weft.rewrite(&plain.replace(a.host.full_name(), "no-such-netns"))?;
    let refused = weft.command(&["reload"])?;
    ensure!(refused.stderr.contains("there is no network namespace `no-such-netns`"), "{refused}");
    weft.rewrite(&plain)?;
    weft.process().signal(Signal::HUP)?;
    ping(&a.host, b.address)?;

    holds_nothing(pid, NOBODY)?;
    weft.ledger_comes_to_balance()?;
    weft.process().terminate(PATIENCE)?.ok()?;
    ensure!(a.host.link("eth0").is_err(), "its taps went with it");
    Ok(())
}

pub(crate) fn sockets_of_a_user() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 1)?;
    let user = format!("{NOBODY}:{NOBODY}");
    let mut weft = Weft::start_with(&star.switch, &star.config(), &["--user", &user])?;
    let socket = fs::metadata(weft.socket())?;
    ensure!((socket.uid(), socket.gid(), socket.mode() & 0o777) == (NOBODY, NOBODY, 0o600), "{socket:?}");
    let opener = opener_of(&weft)?;
    weft.process().kill();
    ensure!(weft.socket().exists(), "nobody was left to remove it");
    eventually("the opener ends with its weft", PATIENCE, || Ok(!is_running(opener)))?;
    eventually("the tap is gone", PATIENCE, || Ok(star.hosts[0].link("eth0").is_err()))?;
    weft.start_again()?;
    weft.succeed(&["show", "ports"])?;
    weft.process().terminate(PATIENCE)?.ok()?;
    ensure!(!weft.socket().exists(), "removed from a folder of root's");
    Ok(())
}

pub(crate) fn opener_killed() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 3)?;
    let config = star.head() + &star.port(0, "") + &star.port(1, "");
    let mut weft = Weft::start(&star.switch, &config)?;
    let opener = opener_of(&weft)?;
    let pidfd =
        rustix::process::pidfd_open(Pid::from_raw(opener.cast_signed()).context("a number")?, PidfdFlags::empty())?;
    rustix::process::pidfd_send_signal(&pidfd, Signal::KILL)?;
    eventually("weft says so", PATIENCE, || Ok(weft.log().contains("the opener has ended")))?;
    let (_, status) = weft.request("GET", "/v1/status", "")?;
    ensure!(status["held"]["opener"] == Value::Null, "{status:#}");

    let refused = weft.command(&["port", "add", &star.port_name(2), "--bridge", "blue"])?;
    ensure!(!refused.success() && refused.stderr.contains("weft's opener has ended: frames go on"), "{refused}");
    weft.rewrite(&(config + &star.port(2, "")))?;
    let refused = weft.command(&["reload"])?;
    ensure!(!refused.success() && refused.stderr.contains("weft's opener has ended"), "{refused}");
    ping(&star.hosts[0], &Star::address(1))?;
    ensure!(array(&weft.show("ports")?).len() == 2);
    weft.ledger_comes_to_balance()?;
    weft.process().terminate(PATIENCE)?.ok()?;
    Ok(())
}

pub(crate) fn demands() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 1)?;
    let mut weft = Weft::start_with(&star.switch, &star.config(), &["--sandbox", "off"])?;
    let status = status(&format!("/proc/{}/status", weft.process().id()))?;
    ensure!(field(&status, "Seccomp")? == "0" && field(&status, "NoNewPrivs")? == "0", "{status}");
    let (_, said) = weft.request("GET", "/v1/status", "")?;
    ensure!(said["held"] == Value::Null, "{said:#}");

    let directory = tempfile::tempdir()?;
    let file = directory.path().join("weft.toml");
    fs::write(&file, "[switch]\nworkers = 1\n")?;
    let run = |before: &[&str], args: &[&str]| {
        let program = before.first().map_or_else(binary, |first| Ok(first.into()));
        let command = star.switch.command(program?).args(before.iter().skip(1));
        let command = if before.is_empty() { command } else { command.arg(binary()?) };
        let command = command.arg("run").arg(&file).arg("--socket").arg(directory.path().join("s")).args(args);
        command.timeout(PATIENCE).output().map_err(anyhow::Error::from)
    };
    let refused = run(&[], &["--user", "root", "--sandbox", "off"])?;
    ensure!(refused.status.code() == Some(2) && refused.stderr.contains("exclude each other"), "{refused}");
    let refused = run(&[], &["--user", "nobody-of-this-name"])?;
    ensure!(refused.status.code() == Some(2) && refused.stderr.contains("there is no user `nobody-of"), "{refused}");
    // Who may not take from the bounding set is told, and refused if he demanded it.
    let without = ["setpriv", "--inh-caps=-setpcap", "--bounding-set=-setpcap", "--"];
    let refused = run(&without, &["--sandbox", "on"])?;
    let why = "--sandbox on can't be had here: ";
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains(why), "{refused}");
    ensure!(refused.stderr.contains("CAP_SETPCAP"), "{refused}");
    ensure!(!directory.path().join("s").exists(), "nothing is left");
    Ok(())
}
