//! Reloads: what differs changes, what does not is not touched, what can not be had is refused whole.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use weft::lab::{Namespace, Signal};
use weft_integration::{
    scene::{self, Pair, Star, port},
    shape::Shape,
    traffic::{PingTrain, quiet},
    weft::{PATIENCE, Weft, eventually, request_head},
};

use crate::{PREFIX, array, ping, port_state};

fn interface_indices(star: &Star) -> anyhow::Result<Vec<u32>> {
    star.hosts.iter().map(|host| Ok(host.link("eth0")?.index)).collect()
}

pub(crate) fn reload_of_the_same(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 3)?;
    star.switch.address("lo", "192.0.2.1/32")?;
    let config =
        star.config().replace("name = \"blue\"\n\n", "name = \"blue\"\nvni = 42\nremotes = [\"192.0.2.9\"]\n\n");
    let config = config + "[vtep]\naddress = \"192.0.2.1\"\n";
    let mut weft = Weft::start(&star.switch, &config)?;
    let before = interface_indices(&star)?;
    let fdb_keeps = star.mac(0)?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;
    // Names, order, comments: nothing that means anything.
    for text in [config.clone(), format!("# the same\n\n{config}")] {
        weft.rewrite(&text)?;
        ensure!(weft.succeed(&["reload"])?.trim() == "nothing changed");
        let changes: Value = serde_json::from_str(&weft.succeed(&["reload", "--json"])?)?;
        ensure!(changes == json!({"added": [], "changed": [], "removed": [], "needs_restart": []}), "{changes}");
        for _ in 0..5 {
            weft.process().signal(Signal::HUP)?;
            thread::sleep(Duration::from_millis(30));
        }
    }
    train.stop()?.without_loss()?;
    ensure!(interface_indices(&star)? == before, "an interface was made anew");
    ensure!(weft.whereabouts("blue", &fdb_keeps)?.is_some(), "what was learned is kept");
    let applied = weft.log().matches("configuration applied").count();
    ensure!(applied >= 5, "SIGHUP reloads as well: {applied} times");
    Ok(())
}

/// Capabilities, a bit each (`include/uapi/linux/capability.h`).
const SYS_RESOURCE: u64 = 1 << 24;

/// Those that this process has, and so the weft that it starts.
fn capabilities() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("a process has capabilities")?;
    Ok(u64::from_str_radix(line.trim(), 16)?)
}

pub(crate) fn reload_of_tuning() -> anyhow::Result<()> {
    let pair = Pair::new(PREFIX)?;
    let [side, _] = &pair.sides;
    let config = |switch: &str, vtep: &str, port: &str| {
        side.config(vtep, port).replace("[switch]\n", &format!("[switch]\n{switch}\n"))
    };
    let mut weft = Weft::start(&side.switch, &config("", "", ""))?;
    let pid = weft.process().id();
    let queue_length = || -> anyhow::Result<Value> {
        let link = side.host.run(&["ip", "-json", "link", "show", "eth0"])?.ok()?.stdout;
        Ok(serde_json::from_str::<Value>(&link)?[0]["txqlen"].clone())
    };
    // Of each worker the CPUs that it may run on.
    let cpus = || -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let field = |name: &str| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
            if field("Name:").is_some_and(|name| name.starts_with("weft-worker")) {
                found.push(field("Cpus_allowed_list:").context("a thread has CPUs")?);
            }
        }
        Ok(found)
    };
    // How nice each is: the 19th field of proc_pid_stat(5), the 17th behind the name.
    let niceness = || -> anyhow::Result<Vec<i32>> {
        let mut found = Vec::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            let (name, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
            if name.contains("(weft-worker") {
                found.push(fields.split_whitespace().nth(16).context("a niceness")?.parse()?);
            }
        }
        Ok(found)
    };
    // What the kernel says of the first receiver's and the first sender's buffers, which is twice what it was told.
    let buffers =
        || -> anyhow::Result<String> { Ok(side.switch.run(&["ss", "-uanmO", "src", side.vtep])?.ok()?.stdout) };
    let reload = |text: &str, changed: &[&str]| -> anyhow::Result<()> {
        weft.rewrite(text)?;
        let changes: Value = serde_json::from_str(&weft.succeed(&["reload", "--json"])?)?;
        let expected = json!({"added": [], "changed": changed, "removed": [], "needs_restart": []});
        ensure!(changes == expected, "{changes} instead of {expected}");
        Ok(())
    };
    let (index, everywhere) = (side.host.link("eth0")?.index, cpus()?);
    let may_return = capabilities()? & SYS_RESOURCE != 0;
    let first_nice = if may_return { -20 } else { 0 };
    ensure!(niceness()? == [first_nice; 2], "workers go first where they may step back and return: {:?}", niceness()?);
    ensure!(queue_length()? == 2000 && everywhere.len() == 2, "{} {everywhere:?}", queue_length()?);
    let defaults = buffers()?;
    ensure!(
        defaults.contains(&format!("rb{}", 16 << 20)) && defaults.contains(&format!("tb{}", 8 << 20)),
        "{defaults}"
    );

    let first = everywhere[0].split([',', '-']).next().context("a list of CPUs")?;
    let switch = format!("busy_poll = \"50us\"\npin = [{first}]");
    let vtep = "receive_buffer = \"1MiB\"\nsend_buffer = \"512KiB\"";
    let port = format!("port {}", side.port_name());
    reload(&config(&switch, vtep, "queue_length = 333"), &["switch", "vtep", &port])?;
    ensure!(queue_length()? == 333 && side.host.link("eth0")?.index == index, "{}", queue_length()?);
    ensure!(cpus()? == [first; 2], "{:?}", cpus()?);
    ensure!(niceness()?.iter().all(|nice| *nice >= 0), "who polls busily leaves others their turn: {:?}", niceness()?);
    let changed = buffers()?;
    ensure!(changed.contains(&format!("rb{}", 2 << 20)) && changed.contains(&format!("tb{}", 1 << 20)), "{changed}");

    weft.rewrite(&config("pin = [1023]", "", ""))?;
    let refused = weft.command(&["reload"])?;
    ensure!(!refused.success() && refused.stderr.contains("weft can't run on CPU `1023`"), "{refused}");
    ensure!(cpus()? == [first; 2], "what was refused changed nothing: {:?}", cpus()?);

    // Who has given all privileges up comes back as far as a limit lets him.
    reload(&config("nice = -7", "", ""), &["switch", "vtep", &port])?;
    ensure!(niceness()? == [if may_return { -7 } else { 0 }; 2], "{:?}", niceness()?);
    reload(&config("nice = 3", "", ""), &["switch"])?;
    ensure!(niceness()? == [3; 2], "{:?}", niceness()?);
    reload(&config("", "", ""), &["switch"])?;
    ensure!(niceness()? == [if may_return { -20 } else { 3 }; 2], "{:?}", niceness()?);
    ensure!(queue_length()? == 2000 && cpus()? == everywhere && buffers()?.contains(&format!("rb{}", 16 << 20)));
    Ok(())
}

pub(crate) fn reload_of_ports(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 5)?;
    let fixed = star.head() + &star.port(0, "") + &star.port(1, "");
    let weft = Weft::start(&star.switch, &fixed)?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;
    let before = [star.hosts[0].link("eth0")?.index, star.hosts[1].link("eth0")?.index];
    let reload = |config: &str, expected: Value| -> anyhow::Result<()> {
        weft.rewrite(config)?;
        let changes: Value = serde_json::from_str(&weft.succeed(&["reload", "--json"])?)?;
        ensure!(changes == expected, "{changes} instead of {expected}");
        Ok(())
    };
    let change = |added: &[&str], changed: &[&str], removed: &[&str]| json!({"added": added, "changed": changed, "removed": removed, "needs_restart": []});
    let two = format!("port {}", star.port_name(2));
    reload(&(fixed.clone() + &star.port(2, "")), change(&[&two], &[], &[]))?;
    ping(&star.hosts[2], &Star::address(0))?;
    let index = star.hosts[2].link("eth0")?.index;

    // MTU and addresses change on the interface that is there.
    let moved = shape.port(star.hosts[2].full_name(), "eth0", "address = [\"10.0.0.33/24\"]\nmtu = 1300");
    reload(&(fixed.clone() + &moved), change(&[], &[&two], &[]))?;
    let link = star.hosts[2].link("eth0")?;
    ensure!((link.mtu, link.index) == (1300, index), "{link:?}");
    ping(&star.hosts[0], "10.0.0.33")?;
    let addresses = star.hosts[2].links(async |links| links.addresses("eth0").await)?;
    ensure!(addresses.len() == 1, "the old address is gone: {addresses:?}");

    // With the first address of a subnet the kernel removes the others, which were to stay.
    let both = moved.replace("[\"10.0.0.33/24\"]", "[\"10.0.0.33/24\", \"10.0.0.34/24\"]");
    reload(&(fixed.clone() + &both), change(&[], &[&two], &[]))?;
    ping(&star.hosts[0], "10.0.0.34")?;
    let second = moved.replace("10.0.0.33", "10.0.0.34");
    reload(&(fixed.clone() + &second), change(&[], &[&two], &[]))?;
    ping(&star.hosts[0], "10.0.0.34")?;
    reload(&(fixed.clone() + &moved), change(&[], &[&two], &[]))?;

    // Another bridge: what was learned in the old one is forgotten.
    let mac = scene::mac(&star.hosts[2], "eth0")?.to_string();
    let green = "[[bridge]]\nname = \"green\"\n";
    let in_green = moved.replace("bridge = \"blue\"", "bridge = \"green\"");
    reload(&(fixed.clone() + green + &in_green), change(&["bridge green"], &[&two], &[]))?;
    ensure!(!star.hosts[2].run(&["ping", "-n", "-c1", "-W1", &Star::address(0)])?.success(), "it is elsewhere now");
    ensure!(star.hosts[2].link("eth0")?.index == index);
    reload(&(fixed.clone() + &moved), change(&[], &[&two], &["bridge green"]))?;
    ping(&star.hosts[2], &Star::address(0)).context("back in its old bridge")?;

    // Its own address; and from super-frames to plain ones or back, which takes a new interface.
    let with_mac = moved + "mac = \"02:00:00:00:00:0a\"\n";
    reload(&(fixed.clone() + &with_mac), change(&[], &[&two], &[]))?;
    ensure!(scene::mac(&star.hosts[2], "eth0")?.to_string() == "02:00:00:00:00:0a" && mac != "02:00:00:00:00:0a");
    ensure!(star.hosts[2].link("eth0")?.index == index);
    let otherwise =
        if shape.offload { with_mac + "offload = false\n" } else { with_mac.replace(shape.port_line(), "") };
    reload(&(fixed.clone() + &otherwise), change(&[], &[&two], &[]))?;
    ensure!(star.hosts[2].link("eth0")?.index != index);
    ping(&star.hosts[2], &Star::address(0)).context("as the other kind of tap")?;

    // Many at once, and away again.
    let (three, four) = (format!("port {}", star.port_name(3)), format!("port {}", star.port_name(4)));
    let all = fixed.clone() + &otherwise + &star.port(3, "") + &star.port(4, "");
    reload(&all, change(&[&three, &four], &[], &[]))?;
    ping(&star.hosts[3], &Star::address(4))?;
    reload(&fixed, change(&[], &[], &[&two, &three, &four]))?;
    ensure!((2..5).all(|host| star.hosts[host].link("eth0").is_err()), "removed ports' taps vanish");

    train.stop()?.without_loss()?;
    ensure!([star.hosts[0].link("eth0")?.index, star.hosts[1].link("eth0")?.index] == before);
    weft.rewrite(&fixed.replace(&shape.switch(), "[switch]\nworkers = 3\n"))?;
    let changes: Value = serde_json::from_str(&weft.succeed(&["reload", "--json"])?)?;
    ensure!(changes["needs_restart"] == json!(["switch.workers"]), "{changes}");
    weft.ledger_balances()?;
    Ok(())
}

pub(crate) fn reload_of_the_overlay(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::in_shape(shape, PREFIX)?;
    let [a, b] = &pair.sides;
    let locals = [quiet(&pair.lab, "l0")?, quiet(&pair.lab, "l1")?];
    let more: String = (0..2)
        .map(|n| shape.port(locals[n].full_name(), "eth0", &format!("address = [\"10.0.0.{}/24\"]", 11 + n)))
        .collect();
    let config = |vtep: &str| a.config(vtep, "") + &more;
    let near = Weft::start(&a.switch, &config(""))?;
    let far = Weft::start(&b.switch, &b.config("", ""))?;
    ping(&a.host, b.address)?;
    let to_local = PingTrain::start(&locals[0], "10.0.0.12")?;
    let reload = |weft: &Weft, config: &str| -> anyhow::Result<String> {
        weft.rewrite(config)?;
        weft.succeed(&["reload"])
    };

    // Rulings take effect at once, with the same sockets: no ping of the overlay is lost.
    let across = PingTrain::start(&a.host, b.address)?;
    ensure!(reload(&near, &config("reserved_bits = \"ignore\"\nttl = 7"))?.contains("vtep"));
    across.stop()?.without_loss()?;
    let seen = sniffed_ttl(b, || ping(&a.host, b.address))?;
    ensure!(seen == 7, "the outer TTL is {seen}");

    // Other senders: the sockets are opened anew, at the same place.
    reload(&near, &config("source_ports = 4"))?;
    ping(&a.host, b.address).context("with other source ports")?;

    // Another address. The peer knows only the old one.
    a.switch.address("under0", "192.0.2.11/24")?;
    reload(&near, &config("").replace("address = \"192.0.2.1\"", "address = \"192.0.2.11\""))?;
    ensure!(!a.host.run(&["ping", "-n", "-c2", "-i0.1", "-W1", b.address])?.success());
    ensure!(far.dropped("vtep_unknown")? > 0);
    reload(&far, &b.config("", "").replace("remotes = [\"192.0.2.1\"]", "remotes = [\"192.0.2.11\"]"))?;
    ping(&a.host, b.address).context("when the peer knows the new address")?;
    ensure!(far.whereabouts("blue", &scene::mac(&a.host, "eth0")?.to_string())? == Some("192.0.2.11".into()));

    // The peer forgets it again: what was learned behind it is forgotten too, and its frames are refused.
    reload(&far, &b.config("", ""))?;
    ensure!(far.whereabouts("blue", &scene::mac(&a.host, "eth0")?.to_string())?.is_none());
    reload(&near, &config(""))?;
    ping(&a.host, b.address).context("all as in the beginning")?;

    // Another UDP port on both sides.
    reload(&near, &config("port = 8472"))?;
    reload(&far, &b.config("port = 8472", ""))?;
    ping(&a.host, b.address).context("on port 8472")?;

    // An address that nobody has: refused whole, and the old sockets go on.
    near.rewrite(&config("").replace("address = \"192.0.2.1\"", "address = \"192.0.2.77\""))?;
    let refused = near.command(&["reload"])?;
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains("192.0.2.77"), "{refused}");
    ping(&a.host, b.address).context("after a refusal")?;

    // Without an overlay, and with it again.
    let without = config("port = 8472").replace("[vtep]\naddress = \"192.0.2.1\"\nport = 8472\n", "");
    let without = without.replace("vni = 42\nremotes = [\"192.0.2.2\"]\n", "");
    ensure!(reload(&near, &without)?.contains("removed  vtep"));
    ensure!(!a.host.run(&["ping", "-n", "-c1", "-W1", b.address])?.success());
    reload(&near, &config("port = 8472"))?;
    ping(&a.host, b.address).context("with an overlay again")?;

    to_local.stop()?.without_loss()?;
    near.ledger_balances()?;
    far.ledger_balances()?;
    Ok(())
}

/// The TTL of the outer packets that come to a side while `work` is done.
fn sniffed_ttl(side: &scene::Side, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<u8> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = side.switch.within(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)))??;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    work()?;
    let mut bytes = [0; 2000];
    let len = (&socket).read(&mut bytes)?;
    bytes[..len].get(8).copied().context("an IPv4 header")
}

pub(crate) fn wrong_files() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let mut weft = Weft::start(&star.switch, &star.config())?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;
    let good = star.config();
    let line = good.lines().count() + 2;
    let wrong = [
        format!("{good}[[bridge]]\nname = \"a name that is far too long\"\n"),
        format!("{good}[[bridge]]\nnonsense = 1\nname = \"x\"\n"),
        format!("{good}[[port]]\nname = = 1\n"),
    ];
    for (number, text) in wrong.iter().enumerate() {
        weft.rewrite(text)?;
        let refused = weft.command(&["reload"])?;
        ensure!(refused.status.code() == Some(2), "{refused}");
        ensure!(refused.stderr.contains(&format!("weft.toml:{line}")), "line {line} is named: {refused}");
        weft.process().signal(Signal::HUP)?;
        eventually("the log names file and line", PATIENCE, || {
            let log = weft.log();
            let told: Vec<_> = log.lines().filter(|log| log.contains("not applied")).collect();
            Ok(told.len() == number + 1
                && told[number].contains("weft.toml")
                && told[number].contains(&line.to_string()))
        })
        .with_context(|| weft.log())?;
    }
    fs::remove_file(weft.socket().with_file_name("weft.toml"))?;
    let refused = weft.command(&["reload"])?;
    ensure!(refused.status.code() == Some(2) && refused.stderr.contains("weft.toml"), "{refused}");
    train.stop()?.without_loss()?;
    weft.rewrite(&good)?;
    ensure!(weft.succeed(&["reload"])?.trim() == "nothing changed");
    Ok(())
}

pub(crate) fn impossible_files() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 4)?;
    let weft = Weft::start(&star.switch, &(star.head() + &star.port(0, "") + &star.port(1, "") + &star.port(2, "")))?;
    // In the way of a port. And an address that is none of weft's business.
    star.lab.veth((&star.hosts[3], "eth0"), (&star.switch, "x0"), 1500)?;
    star.hosts[2].address("eth0", "10.0.0.99/24")?;
    let links = |star: &Star| -> anyhow::Result<Vec<_>> {
        let link =
            |host: &Namespace| Ok((host.link("eth0")?, host.links(async |links| links.addresses("eth0").await)?));
        star.hosts.iter().map(link).collect()
    };
    let untouched = links(&star)?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;
    let before = (weft.show("ports")?, weft.show("bridges")?);

    // Every one of them also asks for things that could be had.
    let more = "[[bridge]]\nname = \"green\"\n";
    let other_mtu =
        port(star.hosts[1].full_name(), "eth0", "address = [\"10.0.0.2/24\", \"10.0.0.22/24\"]\nmtu = 1400");
    let head = star.head() + more + &star.port(0, "") + &other_mtu;
    let no_ipv6 = port(
        star.hosts[2].full_name(),
        "eth0",
        "address = [\"10.0.0.44/24\", \"fd00::44/64\"]\nmtu = 1300\nmac = \"02:00:00:00:00:0c\"",
    );
    for (text, code, word) in [
        (head.clone() + &star.port(2, "") + &star.port(3, ""), 1, "exists already"),
        (head.clone() + &star.port(2, "") + &port("weft-nowhere", "eth0", ""), 2, "weft-nowhere"),
        (head.clone() + &no_ipv6, 1, "fd00::44"),
        (head + &star.port(2, "") + "[[port]]\nname = \"nic9\"\nkind = \"packet\"\nbridge = \"blue\"\n", 1, "nic9"),
    ] {
        weft.rewrite(&text)?;
        let refused = weft.command(&["reload"])?;
        ensure!(refused.status.code() == Some(code) && refused.stderr.contains(word), "{word}: {refused}");
        eventually("everything is as it was", Duration::from_secs(2), || {
            Ok(links(&star)? == untouched && (weft.show("ports")?, weft.show("bridges")?) == before)
        })
        .with_context(|| format!("{word}: {untouched:?} became {:?}", links(&star)))?;
    }
    train.stop()?.without_loss()?;
    ping(&star.hosts[2], &Star::address(1))?;
    weft.ledger_balances()?;
    Ok(())
}

pub(crate) fn additions_survive(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 4)?;
    let file = star.head() + &star.port(0, "") + &star.port(1, "");
    let weft = Weft::start(&star.switch, &file)?;
    weft.succeed(&["bridge", "add", "green"])?;
    weft.succeed(&["port", "add", &star.port_name(2), "--bridge", "blue", "--address", "10.0.0.3/24"])?;
    weft.succeed(&["port", "add", &star.port_name(3), "--bridge", "green"])?;
    weft.succeed(&["fdb", "add", "--bridge", "blue", "--mac", "02:00:00:00:00:77", "--port", &star.port_name(2)])?;
    let index = star.hosts[2].link("eth0")?.index;
    let train = PingTrain::start(&star.hosts[2], &Star::address(0))?;

    weft.rewrite(&(star.head() + &star.port(0, "")))?;
    let said = weft.succeed(&["reload"])?;
    ensure!(said.trim() == format!("removed  port {}", star.port_name(1)), "{said}");
    weft.rewrite(&file)?;
    weft.succeed(&["reload"])?;
    train.stop()?.without_loss()?;
    ensure!(star.hosts[2].link("eth0")?.index == index);
    let bridges = weft.show("bridges")?;
    ensure!(array(&bridges).len() == 2 && array(&weft.show("ports")?).len() == 4, "{bridges}");
    ensure!(weft.whereabouts("blue", "02:00:00:00:00:77")? == Some(star.port_name(2)));

    // A file that takes away the bridge under it contradicts what was added, and is refused.
    weft.rewrite(&shape.switch())?;
    let refused = weft.command(&["reload"])?;
    ensure!(!refused.success() && refused.stderr.contains("blue"), "{refused}");
    ensure!(array(&weft.show("ports")?).len() == 4);
    Ok(())
}

/// Ctrl-C in the middle of a command.
pub(crate) fn early_leavers() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 4)?;
    let few = star.head() + &star.port(0, "") + &star.port(1, "");
    let many = star.config();
    let other = few.clone() + &star.port(2, "offload = false") + &star.port(3, "mtu = 1400");
    let mut weft = Weft::start(&star.switch, &few)?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..60 {
        weft.rewrite([&few, &many, &other][round % 3])?;
        let mut stream = UnixStream::connect(weft.socket())?;
        stream.write_all(request_head("POST", "/v1/reload", None, "").as_bytes())?;
        thread::sleep(Duration::from_micros(random.u64(..8000)));
        drop(stream);
        if round % 10 != 9 {
            continue;
        }
        // Whatever came of them, the next one who stays finds a switch that does as it is told.
        weft.rewrite(&many)?;
        weft.succeed(&["reload"]).with_context(|| format!("after round {round}"))?;
        for host in 0..4 {
            let state = port_state(&weft, &star.port_name(host))?;
            let ifindex = star.hosts[host].link("eth0")?.index;
            ensure!(state["state"] == "up" && state["ifindex"] == ifindex && state["mtu"] == 1500, "{round}: {state}");
        }
        star.hosts[2].run(&["ip", "neigh", "flush", "dev", "eth0"])?.ok()?;
        ping(&star.hosts[2], &Star::address(3)).with_context(|| format!("after round {round}"))?;
    }
    train.stop()?.without_loss()?;
    ensure!(weft.process().is_running());
    weft.ledger_balances()?;
    Ok(())
}
