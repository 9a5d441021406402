//! The process: its socket, its signals, its exit codes, its log, and what it says to those who ask wrongly.

use std::{
    fs,
    io::Write,
    net::IpAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use weft::lab::{Namespace, Output, Process, Signal, VxlanOptions};
use weft_integration::{
    scene::{Pair, Star},
    traffic::quiet,
    weft::{PATIENCE, Weft, binary, request_head},
};
use weft_vxlan::Vni;

use crate::{PREFIX, array, ping};

pub(crate) fn idle() -> anyhow::Result<()> {
    idle_with("")
}

pub(crate) fn idle_busy_poll() -> anyhow::Result<()> {
    idle_with("busy_poll = \"10ms\"\n")
}

/// `switch`: lines more of `[switch]`.
fn idle_with(switch: &str) -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 8)?;
    star.switch.address("lo", "192.0.2.1/32")?;
    let config =
        star.config().replace("name = \"blue\"\n\n", "name = \"blue\"\nvni = 42\nremotes = [\"192.0.2.9\"]\n\n");
    let config = config.replace("[switch]\n", &format!("[switch]\n{switch}"));
    let mut weft = Weft::start(&star.switch, &(config + "[vtep]\naddress = \"192.0.2.1\"\n"))?;
    ensure!(array(&weft.show("ports")?).len() == 8);
    // So that there is something that could go on when it should not.
    star.hosts[0].run(&["ping", "-n", "-q", "-c200", "-i0.002", "-W2", &Star::address(1)])?.ok()?;
    thread::sleep(Duration::from_millis(500));
    // 0.2 % of 1,000 ticks. Once more where others' work came between, which only ever adds to them.
    let mut spent = Vec::new();
    while spent.iter().all(|ticks| *ticks > 2) {
        ensure!(spent.len() < 3, "{spent:?} hundredths of a second in ten seconds of nothing");
        let before = weft.ticks()?;
        thread::sleep(Duration::from_secs(10));
        spent.push(weft.ticks()? - before);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", weft.process().id()))?;
    // What is its own: how much of the program is in memory depends on how it was built.
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("a process has memory")?;
    let kibibytes: u64 = resident.split_whitespace().next().context("a number")?.parse()?;
    ensure!(kibibytes < 16 * 1024, "{kibibytes} KiB");
    Ok(())
}

/// Starts another `weft run` that is to fail.
fn refused_run(namespace: &Namespace, config: &str, socket: &std::path::Path) -> anyhow::Result<Output> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("weft.toml"), config)?;
    let run = namespace.command(binary()?).arg("run").arg(directory.path().join("weft.toml"));
    Ok(run.arg("--socket").arg(socket).timeout(PATIENCE).output()?)
}

pub(crate) fn second_weft() -> anyhow::Result<()> {
    let pair = Pair::new(PREFIX)?;
    let [a, b] = &pair.sides;
    let mut weft = Weft::start(&a.switch, &a.config("", ""))?;
    let pid = weft.process().id();

    let second = refused_run(&a.switch, "[switch]\nworkers = 1\n", &weft.socket())?;
    ensure!(second.status.code() == Some(1), "{second}");
    ensure!(second.stderr.contains(&format!("process {pid}")), "the process is named: {second}");
    ensure!(weft.socket().exists() && weft.succeed(&["show", "ports"]).is_ok(), "the first one keeps its socket");

    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("weft.sock");
    let on_same_port = "[vtep]\naddress = \"192.0.2.1\"\n";
    let second = refused_run(&a.switch, on_same_port, &socket)?;
    ensure!(second.status.code() == Some(1), "{second}");
    ensure!(second.stderr.contains(&format!("process {pid} (weft)")), "the process is named: {second}");
    ensure!(second.stderr.contains("192.0.2.1:4789") && !socket.exists(), "{second}");

    let options = VxlanOptions::new(Vni::new(7).context("a VNI")?, b.vtep.parse::<IpAddr>()?);
    b.switch.vxlan("vx0", &options)?;
    let second = refused_run(&b.switch, "[vtep]\naddress = \"192.0.2.2\"\n", &socket)?;
    ensure!(second.status.code() == Some(1), "{second}");
    ensure!(second.stderr.contains("the kernel (a vxlan device)"), "{second}");

    let in_the_way = directory.path().join("file");
    fs::write(&in_the_way, "precious")?;
    let second = refused_run(&b.switch, "", &in_the_way)?;
    ensure!(second.status.code() == Some(1) && second.stderr.contains("no socket"), "{second}");
    ensure!(fs::read(&in_the_way)? == b"precious");
    Ok(())
}

pub(crate) fn socket_mode() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 0)?;
    let weft = Weft::start(&star.switch, &star.head())?;
    let mode = fs::metadata(weft.socket())?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "{mode:o}");
    Ok(())
}

pub(crate) fn wrong_requests() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 1)?;
    let weft = Weft::start(&star.switch, &star.config())?;
    for (method, target, body, status, word) in [
        ("GET", "/", "", 404, "/"),
        ("GET", "/v1/nonsense", "", 404, "/v1/nonsense"),
        ("GET", "/v2/ports", "", 404, "/v2/ports"),
        ("PUT", "/v1/ports", "{}", 405, "PUT"),
        ("POST", "/v1/ledger", "{}", 405, "POST"),
        ("POST", "/v1/ports", "{\"name\": ", 400, "JSON"),
        ("POST", "/v1/ports", "", 400, "JSON"),
        ("POST", "/v1/ports", "[]", 400, "object"),
        ("POST", "/v1/ports", "{\"name\": \"x\", \"bridge\": \"blue\", \"colour\": 1}", 400, "colour"),
        ("POST", "/v1/ports", "{\"name\": \"x\", \"bridge\": \"red\"}", 400, "red"),
        ("POST", "/v1/bridges", "{\"name\": \"x\", \"vni\": \"many\"}", 400, "vni"),
        ("POST", "/v1/bridges", "{\"name\": \"a\\nb\"}", 400, "name"),
        ("POST", "/v1/fdb", "{\"bridge\": \"blue\", \"mac\": \"nonsense\", \"port\": \"x\"}", 400, "nonsense"),
        ("POST", "/v1/fdb/flush", "{\"brigde\": \"blue\"}", 400, "brigde"),
        ("POST", "/v1/fdb/flush", "{\"vtep\": \"nowhere\"}", 400, "IP address"),
        ("DELETE", "/v1/fdb?bridge=blue", "", 400, "mac"),
        ("DELETE", "/v1/fdb?bridge=blue&mac=nonsense", "", 400, "MAC address"),
        ("DELETE", "/v1/fdb?bridge=red&mac=02:00:00:00:00:01", "", 404, "red"),
        ("DELETE", "/v1/ports", "", 400, "name"),
        ("DELETE", "/v1/ports?name=nowhere", "", 400, "nowhere"),
        ("GET", "/v1/fdb?bridge=red", "", 404, "red"),
    ] {
        let (got, answer) = weft.request(method, target, body)?;
        let text = answer["error"].as_str().unwrap_or_default();
        ensure!(got == status && text.contains(word), "{method} {target} {body}: {got} {answer}");
    }
    for content_type in [None, Some("text/plain")] {
        let (status, answer) = weft.request_as("POST", "/v1/bridges", content_type, "{\"name\": \"x\"}")?;
        ensure!(status == 415 && answer["error"].as_str().unwrap_or_default().contains("application/json"), "{answer}");
    }
    // More than anybody has to say. The connection may end before all of it is written.
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(64 << 20));
    let mut stream = UnixStream::connect(weft.socket())?;
    let written = stream.write_all(request_head("POST", "/v1/bridges", Some("application/json"), &huge).as_bytes());
    ensure!(written.is_err(), "64 MiB were taken");

    // What is not even HTTP does no harm either.
    for garbage in [&b"\0\0\0\0"[..], b"GET /v1/ports HTTP/9.9\r\n\r\n", b"\xff\xfe\xfd\r\n\r\n"] {
        let mut stream = UnixStream::connect(weft.socket())?;
        stream.write_all(garbage)?;
    }
    let _hanging: Vec<_> = (0..50).map(|_| UnixStream::connect(weft.socket())).collect::<Result<_, _>>()?;
    ensure!(array(&weft.show("ports")?).len() == 1);
    Ok(())
}

pub(crate) fn exit_codes() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 1)?;
    let weft = Weft::start(&star.switch, &star.config())?;
    for (code, args) in [
        (0, &["show", "ports"][..]),
        (0, &["reload"]),
        (1, &["fdb", "del", "--bridge", "blue", "--mac", "02:00:00:00:00:99"]),
        (1, &["show", "fdb", "--bridge", "red"]),
        (2, &["port", "add", "nowhere/x", "--bridge", "blue"]),
        (2, &["bridge", "add", "far too long a name"]),
        (2, &["show", "nonsense"]),
        (2, &["fdb", "add", "--bridge", "blue"]),
    ] {
        let output = weft.command(args)?;
        ensure!(output.status.code() == Some(code), "{args:?}: {output}");
        ensure!(code == 0 || !output.stderr.is_empty(), "{args:?} fails without a word");
        ensure!(code == 0 || output.stdout.is_empty(), "an error is no output: {output}");
    }
    let nobody = star.switch.command(binary()?).args(["show", "ports", "--socket", "/nowhere/weft.sock"]).output()?;
    ensure!(nobody.status.code() == Some(1) && nobody.stderr.contains("is it running?"), "{nobody}");
    let directory = tempfile::tempdir()?;
    let wrong = refused_run(&star.switch, "nonsense = 1\n", &directory.path().join("s"))?;
    ensure!(wrong.status.code() == Some(2) && wrong.stderr.contains("nonsense"), "{wrong}");
    let absent = star.switch.command(binary()?).args(["run", "/nowhere/weft.toml"]).output()?;
    ensure!(absent.status.code() == Some(2) && absent.stderr.contains("/nowhere/weft.toml"), "{absent}");
    let not_so = refused_run(&star.switch, &star.config(), &directory.path().join("s"))?;
    ensure!(not_so.status.code() == Some(1) && not_so.stderr.contains("exists already"), "{not_so}");
    Ok(())
}

pub(crate) fn signals() -> anyhow::Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let star = Star::new(PREFIX, 2)?;
        let cable = quiet(&star.lab, "cable")?;
        star.lab.veth((&star.switch, "p0"), (&cable, "eth0"), 1500)?;
        let config = star.config() + "[[port]]\nname = \"p0\"\nkind = \"packet\"\nbridge = \"blue\"\n";
        let mut weft = Weft::start(&star.switch, &config)?;
        let before = star.switch.link("p0")?;
        // A client that only holds the line must not hold weft.
        let mut line = UnixStream::connect(weft.socket())?;
        line.write_all(b"GET /v1/ports HTTP/1.1\r\nHost: weft\r\n\r\n")?;
        ping(&star.hosts[0], &Star::address(1))?;
        let started = Instant::now();
        weft.process().signal(signal)?;
        let output = weft.process().wait(Duration::from_secs(5))?;
        ensure!(output.status.code() == Some(0), "{output}");
        ensure!(started.elapsed() < Duration::from_secs(2), "{signal:?} took {:?}", started.elapsed());
        ensure!(!weft.socket().exists(), "the socket's file is removed");
        ensure!(star.hosts.iter().all(|host| host.link("eth0").is_err()), "taps vanish");
        let after = star.switch.link("p0")?;
        ensure!(before == after, "nothing else is touched: {before:?} {after:?}");
        let flags = star.switch.run(&["ip", "-d", "link", "show", "p0"])?.ok()?.stdout;
        ensure!(flags.contains("promiscuity 0"), "{flags}");
    }
    Ok(())
}

pub(crate) fn check() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("weft.toml");
    let socket = directory.path().join("weft.sock");
    let config = star.config().replace("workers = 2", &format!("workers = 2\nsocket = \"{}\"", socket.display()));
    fs::write(&file, config)?;
    let check = |args: &[&str]| {
        star.switch.command(binary()?).arg("check").arg(&file).args(args).output().map_err(anyhow::Error::from)
    };
    let plan = check(&[])?.ok()?.stdout;
    for word in ["is good", "blue", &star.port_name(0), "10.0.0.2/24", "2 workers"] {
        ensure!(plan.contains(word), "{word} is not in\n{plan}");
    }
    let plan: Value = serde_json::from_str(&check(&["--json"])?.ok()?.stdout)?;
    ensure!(plan["good"] == true && array(&plan["mistakes"]).is_empty(), "{plan}");
    ensure!(star.hosts.iter().all(|host| host.link("eth0").is_err()), "check makes nothing");
    ensure!(!socket.exists() && fs::read_dir(directory.path())?.count() == 1);
    fs::write(&file, "[[port]]\nname = \"x\"\nbridge = \"blue\"\n")?;
    let wrong = check(&[])?;
    ensure!(wrong.status.code() == Some(2) && wrong.stderr.contains(":3"), "{wrong}");
    let wrong: Value = serde_json::from_str(&check(&["--json"])?.stdout)?;
    ensure!(wrong["good"] == false && wrong["mistakes"][0]["line"] == 3, "{wrong}");
    Ok(())
}

pub(crate) fn json_logs() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let directory = tempfile::tempdir()?;
    let (file, socket) = (directory.path().join("weft.toml"), directory.path().join("weft.sock"));
    fs::write(&file, star.config())?;
    let run = star.switch.command(binary()?).arg("run").arg(&file).arg("--socket").arg(&socket);
    let mut process: Process = run.args(["--log-format", "json"]).env("RUST_LOG", "weft=debug").spawn()?;
    process.wait_for("weft runs", PATIENCE)?;
    ping(&star.hosts[0], &Star::address(1))?;
    star.hosts[1].delete("eth0")?;
    process.wait_for("port gone", PATIENCE)?;
    process.wait_for("learned", PATIENCE)?;
    fs::write(&file, "nonsense \"\n\u{1b}[31m")?;
    process.signal(Signal::HUP)?;
    process.wait_for("not applied", PATIENCE)?;
    let log = process.terminate(PATIENCE)?.stderr;
    ensure!(log.lines().count() > 5, "{log}");
    let mut messages = Vec::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        ensure!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
        messages.push(line["fields"]["message"].as_str().unwrap_or_default().to_owned());
    }
    for message in ["weft runs", "port open", "learned", "weft stops"] {
        ensure!(messages.iter().any(|said| said == message), "{message} is not among {messages:?}");
    }
    Ok(())
}
