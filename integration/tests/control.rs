//! The control plane of a running weft as its users meet it: commands, the API under them, signals, reloads, refusals.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::IpAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use weft::lab::{Lab, Namespace, Output, Process, Signal, VxlanOptions};
use weft_integration::{
    Needs, main_with,
    scene::{self, HEAD, Pair, Star, port},
    traffic::{EXPERIMENT, Injector, PingTrain, frame, quiet},
    trial,
    weft::{PATIENCE, Weft, binary, eventually, request_head},
};
use weft_vxlan::Vni;

/// No namespace of another test begins so.
const PREFIX: &str = "weft-control";

fn main() -> ExitCode {
    // What an earlier run left that was killed. Without privileges nothing can be, and each test says so itself.
    let _ = Lab::remove_stale(PREFIX);
    let needs = Needs::ROOT_AND_TUN.programs(&["ping", "ip"]);
    main_with(vec![
        trial("an_idle_weft_costs_next_to_nothing", needs, idle),
        trial("all_that_is_shown_has_the_documented_keys", needs, documented_keys),
        trial("entries_are_added_removed_and_flushed", needs, fdb),
        trial("ports_and_bridges_come_and_go_under_traffic", needs, come_and_go),
        trial("reloading_the_same_file_touches_nothing", needs, reload_of_the_same),
        trial("a_reload_changes_what_differs_and_nothing_else", needs, reload_of_ports),
        trial("a_reload_changes_the_overlay", needs, reload_of_the_overlay),
        trial("a_wrong_file_is_refused_with_its_line_and_the_old_one_goes_on", needs, wrong_files),
        trial("a_file_that_can_not_be_had_is_refused_whole", needs, impossible_files),
        trial("what_was_added_while_it_ran_survives_a_reload", needs, additions_survive),
        trial("a_client_that_leaves_early_leaves_nothing_half_done", needs, early_leavers),
        trial("a_second_weft_is_told_who_is_in_its_way", needs, second_weft),
        trial("the_control_socket_is_its_owners_alone", needs, socket_mode),
        trial("wrong_requests_get_clear_answers", needs, wrong_requests),
        trial("exit_codes_tell_yes_no_and_wrong", needs, exit_codes),
        trial("signals_end_weft_and_leave_nothing", needs, signals),
        trial("check_prints_the_plan_and_changes_nothing", needs, check),
        trial("json_logs_are_lines_of_json", needs, json_logs),
    ])
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn port_state(weft: &Weft, name: &str) -> anyhow::Result<Value> {
    let ports = weft.show("ports")?;
    array(&ports).iter().find(|port| port["name"] == name).cloned().with_context(|| format!("no port {name}: {ports}"))
}

fn ping(from: &Namespace, address: &str) -> anyhow::Result<()> {
    from.run(&["ping", "-n", "-c3", "-i0.05", "-W2", address])?.ok()?;
    Ok(())
}

fn idle() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 8)?;
    star.switch.address("lo", "192.0.2.1/32")?;
    let config =
        star.config().replace("name = \"blue\"\n\n", "name = \"blue\"\nvni = 42\nremotes = [\"192.0.2.9\"]\n\n");
    let mut weft = Weft::start(&star.switch, &(config + "[vtep]\naddress = \"192.0.2.1\"\n"))?;
    ensure!(array(&weft.show("ports")?).len() == 8);
    let pid = weft.process().id();
    // Fields 14 and 15 of proc_pid_stat(5), in ticks of a hundredth of a second (USER_HZ). The name before them may have
    // spaces in it, but not a parenthesis.
    let ticks = || -> anyhow::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
        let numbers: Vec<u64> =
            fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        Ok(numbers.iter().sum())
    };
    thread::sleep(Duration::from_millis(500));
    let before = ticks()?;
    thread::sleep(Duration::from_secs(10));
    let spent = ticks()? - before;
    // 0.2 % of 1,000 ticks.
    ensure!(spent <= 2, "{spent} hundredths of a second in ten seconds of nothing");
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
    let kibibytes: u64 = resident.split_whitespace().next().context("a number")?.parse()?;
    ensure!(kibibytes < 40 * 1024, "{kibibytes} KiB");
    Ok(())
}

/// Fails unless the object has these keys and no others.
fn has_keys(value: &Value, keys: &[&str]) -> anyhow::Result<()> {
    let found: BTreeSet<_> = value.as_object().with_context(|| format!("not an object: {value}"))?.keys().collect();
    let expected: BTreeSet<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    ensure!(found == expected.iter().collect(), "keys are {found:?}, not {expected:?}");
    Ok(())
}

fn documented_keys() -> anyhow::Result<()> {
    let pair = Pair::new(PREFIX)?;
    let [a, b] = &pair.sides;
    let (router, cable) = (quiet(&pair.lab, "router")?, quiet(&pair.lab, "cable")?);
    pair.lab.veth((&a.switch, "p0"), (&cable, "eth0"), 1500)?;
    let config = a.config("", "offload = false")
        + &format!(
            "[[port]]\nname = \"t0\"\nnetns = \"{}\"\ntrunk = {{ 7 = \"blue\" }}\nnative = \"green\"\n",
            router.full_name()
        )
        + "[[port]]\nname = \"p0\"\nkind = \"packet\"\nbridge = \"green\"\n[[bridge]]\nname = \"green\"\nlearning = false\n\
           [[fdb]]\nbridge = \"blue\"\nmac = \"02:00:00:00:00:77\"\nvtep = \"192.0.2.2\"\n\
           [[fdb]]\nbridge = \"blue\"\nmac = \"02:00:00:00:00:78\"\nport = \"{HOST}/eth0\"\nsticky = true\n";
    let mut weft = Weft::start(&a.switch, &config.replace("{HOST}", a.host.full_name()))?;
    let _far = Weft::start(&b.switch, &b.config("", ""))?;
    ping(&a.host, b.address)?;

    let bridges = weft.show("bridges")?;
    for bridge in array(&bridges) {
        has_keys(bridge, &["name", "vni", "ports", "remotes", "learning", "ageing_s", "learned", "limit"])?;
    }
    ensure!(bridges[0]["vni"] == 42 && bridges[0]["remotes"] == json!(["192.0.2.2:4789"]), "{bridges:#}");
    ensure!(bridges[0]["learned"] == 2 && bridges[0]["ageing_s"] == 300 && bridges[0]["limit"] == 65536, "{bridges:#}");
    ensure!(bridges[1]["vni"].is_null() && bridges[1]["learning"] == false, "{bridges:#}");

    let ports = weft.show("ports")?;
    for port in array(&ports) {
        has_keys(
            port,
            &["name", "kind", "bridge", "trunk", "native", "mtu", "mac", "state", "ifindex", "offloads", "queues"],
        )?;
    }
    ensure!(ports[0]["kind"] == "tap" && ports[0]["offloads"] == json!([]), "{ports:#}");
    ensure!(ports[1]["trunk"] == json!({"7": "blue"}) && ports[1]["native"] == "green", "{ports:#}");
    ensure!(ports[1]["bridge"].is_null() && array(&ports[1]["offloads"]).len() == 4, "{ports:#}");
    ensure!(ports[2]["kind"] == "packet" && ports[2]["ifindex"] == a.switch.link("p0")?.index, "{ports:#}");
    // What fits an underlay of 1,600 bytes behind 50 of VXLAN over IPv4.
    ensure!(ports[0]["mtu"] == 1550 && a.host.link("eth0")?.mtu == 1550, "{ports:#}");

    let fdb = weft.show("fdb")?;
    for entry in array(&fdb) {
        has_keys(entry, &["bridge", "mac", "port", "vtep", "origin", "age_s"])?;
        ensure!(entry["port"].is_null() != entry["vtep"].is_null(), "{entry}");
        ensure!((entry["origin"] == "learned") == entry["age_s"].is_u64(), "{entry}");
    }
    let origins: BTreeSet<_> = array(&fdb).iter().filter_map(|entry| entry["origin"].as_str()).collect();
    ensure!(origins == BTreeSet::from(["learned", "static", "sticky"]), "{fdb:#}");
    let of_green = weft.succeed(&["show", "fdb", "--bridge", "green", "--json"])?;
    ensure!(of_green.trim() == "[]", "{of_green}");

    let vteps = weft.show("vteps")?;
    ensure!(array(&vteps).len() == 1, "{vteps:#}");
    has_keys(&vteps[0], &["address", "port", "known_by", "rx_frames", "rx_bytes", "tx_frames", "tx_bytes"])?;
    let hows: BTreeSet<_> = array(&vteps[0]["known_by"]).iter().filter_map(|known| known["how"].as_str()).collect();
    ensure!(hows == BTreeSet::from(["flood", "static", "learned"]), "{vteps:#}");
    array(&vteps[0]["known_by"]).iter().try_for_each(|known| has_keys(known, &["bridge", "how"]))?;

    // A frame to nobody, so that there is a drop to show.
    let orphan = frame("02:00:00:00:00:01".parse()?, "02:00:00:00:00:02".parse()?, EXPERIMENT);
    let tagged = [&orphan[..12], &[0x81, 0, 0, 99], &orphan[12..]].concat();
    Injector::new(&router, "t0")?.send_all([&tagged], 1000);
    eventually("the drop is shown", PATIENCE, || Ok(weft.dropped("vlan_not_member")? == 1))?;
    let drops = weft.show("drops")?;
    for drop in array(&drops) {
        has_keys(drop, &["kind", "name", "direction", "reason", "explanation", "frames"])?;
    }

    let ledger = weft.show("ledger")?;
    has_keys(&ledger, &["totals", "rows"])?;
    has_keys(&ledger["totals"], &["in", "copies", "out", "drops", "balanced"])?;
    for row in array(&ledger["rows"]) {
        has_keys(
            row,
            &[
                "kind",
                "name",
                "in_frames",
                "in_bytes",
                "copies",
                "out_frames",
                "out_bytes",
                "drops_in",
                "drops_out",
                "kernel_drops",
                "rcvbuf_errors",
                "checksum_errors",
            ],
        )?;
    }
    let kinds: BTreeSet<_> = array(&ledger["rows"]).iter().filter_map(|row| row["kind"].as_str()).collect();
    ensure!(kinds == BTreeSet::from(["port", "bridge", "vtep", "underlay"]), "{ledger:#}");

    let (status, body) = weft.request("GET", "/v1/status", "")?;
    ensure!(status == 200 && body["pid"] == weft.process().id() && body["workers"] == 2, "{body}");
    has_keys(&body, &["version", "pid", "uptime_s", "workers", "config"])?;

    for (what, word) in [
        ("bridges", "green"),
        ("ports", "t0"),
        ("fdb", "02:00:00:00:00:77"),
        ("vteps", "192.0.2.2"),
        ("drops", "vlan_not_member"),
        ("ledger", "underlay"),
    ] {
        let text = weft.succeed(&["show", what])?;
        ensure!(text.contains(word), "show {what} lacks {word}:\n{text}");
    }
    Ok(())
}

fn fdb() -> anyhow::Result<()> {
    let pair = Pair::new(PREFIX)?;
    let [a, b] = &pair.sides;
    let beside = quiet(&pair.lab, "beside")?;
    let config = a.config("", "")
        + &port(beside.full_name(), "eth0", "address = [\"10.0.0.3/24\"]")
        + "[[bridge]]\nname = \"green\"\n";
    let weft = Weft::start(&a.switch, &config)?;
    let _far = Weft::start(&b.switch, &b.config("", ""))?;
    let (port_a, port_beside) = (a.port_name(), format!("{}/eth0", beside.full_name()));
    let learn = || -> anyhow::Result<()> {
        ping(&a.host, b.address)?;
        ping(&beside, b.address)
    };
    let entries = || -> anyhow::Result<BTreeSet<String>> {
        let fdb = weft.show("fdb")?;
        Ok(array(&fdb).iter().map(|entry| entry["mac"].as_str().unwrap().to_owned()).collect())
    };
    let mac = |namespace: &Namespace| scene::mac(namespace, "eth0").map(|mac| mac.to_string());
    let (mac_a, mac_b, mac_beside) = (mac(&a.host)?, mac(&b.host)?, mac(&beside)?);
    let set = |macs: &[&str]| macs.iter().map(|mac| (*mac).to_owned()).collect::<BTreeSet<_>>();

    weft.succeed(&["fdb", "add", "--bridge", "blue", "--mac", "02:00:00:00:00:71", "--port", &port_a])?;
    weft.succeed(&["fdb", "add", "--bridge", "blue", "--mac", "02:00:00:00:00:72", "--vtep", "192.0.2.2"])?;
    weft.succeed(&["fdb", "add", "--bridge", "blue", "--mac", "02:00:00:00:00:73", "--port", &port_a, "--sticky"])?;
    let statics = ["02:00:00:00:00:71", "02:00:00:00:00:72", "02:00:00:00:00:73"];
    learn()?;
    let all = set(&[&statics[..], &[&mac_a, &mac_b, &mac_beside]].concat());
    ensure!(entries()? == all, "{:?}", entries()?);

    let flush = |args: &[&str], count: usize, left: &BTreeSet<String>| -> anyhow::Result<()> {
        let said = weft.succeed(&[&["fdb", "flush"], args].concat())?;
        ensure!(said.split(' ').nth(1) == Some(&count.to_string()), "{args:?}: {count} entries, but {said}");
        ensure!(entries()? == *left, "flush {args:?} left {:?}", entries()?);
        Ok(())
    };
    let without = |macs: &[&str]| all.difference(&set(macs)).cloned().collect::<BTreeSet<_>>();
    flush(&["--bridge", "green", "--static"], 0, &all)?;
    flush(&["--port", &port_beside], 1, &without(&[&mac_beside]))?;
    learn()?;
    flush(&["--vtep", "192.0.2.2"], 1, &without(&[&mac_b]))?;
    learn()?;
    flush(&["--bridge", "blue"], 3, &set(&statics))?;
    learn()?;
    flush(&["--vtep", "192.0.2.2", "--static"], 2, &without(&[&mac_b, statics[1]]))?;
    learn()?;
    flush(&["--port", &port_a, "--static"], 3, &set(&[&mac_b, &mac_beside]))?;
    weft.succeed(&["reload"])?;
    let kept = entries()?;
    ensure!(!statics.iter().any(|mac| kept.contains(*mac)), "a flushed static entry came back: {kept:?}");

    weft.succeed(&["fdb", "del", "--bridge", "blue", "--mac", &mac_b]).context("a learned entry")?;
    ensure!(entries()? == set(&[&mac_beside]));
    weft.succeed(&["fdb", "add", "--bridge", "blue", "--mac", statics[0], "--port", &port_a])?;
    weft.succeed(&["fdb", "del", "--bridge", "blue", "--mac", statics[0]]).context("a static entry")?;
    ensure!(entries()? == set(&[&mac_beside]));

    for (args, word) in [
        (vec!["fdb", "del", "--bridge", "blue", "--mac", statics[0]], "no entry"),
        (vec!["fdb", "del", "--bridge", "red", "--mac", statics[0]], "no bridge red"),
        (vec!["fdb", "flush", "--port", "nowhere/eth0"], "no port nowhere/eth0"),
        (vec!["fdb", "flush", "--vtep", "203.0.113.1"], "no VTEP 203.0.113.1"),
        (vec!["fdb", "flush", "--bridge", "red"], "no bridge red"),
        (vec!["fdb", "add", "--bridge", "blue", "--mac", "01:00:5e:00:00:01", "--port", &port_a], "01:00:5e:00:00:01"),
        (vec!["fdb", "add", "--bridge", "blue", "--mac", "02:00:00:00:00:01", "--port", "nowhere/eth0"], "nowhere"),
    ] {
        let refused = weft.command(&args)?;
        ensure!(!refused.success() && refused.stderr.contains(word), "{args:?}: {refused}");
    }

    // Both at once can only be asked for below the command line.
    learn()?;
    let both = json!({"port": port_a, "vtep": "192.0.2.2"}).to_string();
    let (status, body) = weft.request("POST", "/v1/fdb/flush", &both)?;
    ensure!(status == 200 && body["flushed"] == 0, "nothing is behind a port and a VTEP: {body}");
    Ok(())
}

fn come_and_go() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 4)?;
    let weft = Weft::start(&star.switch, &(HEAD.to_owned() + &star.port(0, "") + &star.port(1, "")))?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;
    let (two, three) = (star.port_name(2), star.port_name(3));
    for round in 0..3 {
        weft.succeed(&["bridge", "add", "green"])?;
        for (host, name) in [(2, &two), (3, &three)] {
            let address = format!("{}/24", Star::address(host));
            weft.succeed(&["port", "add", name, "--bridge", "green", "--mtu", "1400", "--address", &address])?;
            ensure!(star.hosts[host].link("eth0")?.mtu == 1400);
        }
        ping(&star.hosts[2], &Star::address(3)).with_context(|| format!("round {round}"))?;
        let out = star.hosts[2].run(&["ping", "-n", "-c1", "-W1", &Star::address(0)])?;
        ensure!(!out.success(), "two bridges are two worlds");
        let refused = weft.command(&["bridge", "del", "green"])?;
        ensure!(refused.stderr.contains(&two) && refused.stderr.contains(&three), "{refused}");
        weft.succeed(&["port", "del", &two])?;
        weft.succeed(&["port", "del", &three])?;
        ensure!(star.hosts[2].link("eth0").is_err(), "a removed port's tap vanishes");
        weft.succeed(&["bridge", "del", "green"])?;
        ensure!(weft.ledger_balances()?["in"].as_u64() > Some(0));
    }
    train.stop()?.without_loss()?;
    let ledger = weft.show("ledger")?;
    let row = |kind: &str| {
        array(&ledger["rows"])
            .iter()
            .find(|row| row["kind"] == kind && row["name"].as_str().unwrap().starts_with("(removed"))
    };
    ensure!(row("port").is_some() && row("bridge").is_some(), "what is removed stays in the account: {ledger:#}");
    for (args, word) in [
        (vec!["port", "add", star.port_name(0).as_str(), "--bridge", "blue"], "eth0"),
        (vec!["port", "add", "nowhere/eth9", "--bridge", "blue"], "nowhere"),
        (vec!["port", "add", two.as_str(), "--bridge", "red"], "red"),
        (vec!["port", "del", two.as_str()], "eth0"),
        (vec!["bridge", "del", "red"], "red"),
        (vec!["bridge", "add", "blue"], "blue"),
    ] {
        let refused = weft.command(&args)?;
        ensure!(!refused.success() && refused.stderr.contains(word), "{args:?}: {refused}");
    }
    Ok(())
}

fn interface_indices(star: &Star) -> anyhow::Result<Vec<u32>> {
    star.hosts.iter().map(|host| Ok(host.link("eth0")?.index)).collect()
}

fn reload_of_the_same() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 3)?;
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

fn reload_of_ports() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 5)?;
    let fixed = HEAD.to_owned() + &star.port(0, "") + &star.port(1, "");
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
    let moved = port(star.hosts[2].full_name(), "eth0", "address = [\"10.0.0.33/24\"]\nmtu = 1300");
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

    // Its own address; and from super-frames to plain ones, which takes a new interface.
    let with_mac = moved + "mac = \"02:00:00:00:00:0a\"\n";
    reload(&(fixed.clone() + &with_mac), change(&[], &[&two], &[]))?;
    ensure!(scene::mac(&star.hosts[2], "eth0")?.to_string() == "02:00:00:00:00:0a" && mac != "02:00:00:00:00:0a");
    ensure!(star.hosts[2].link("eth0")?.index == index);
    let plain = with_mac + "offload = false\n";
    reload(&(fixed.clone() + &plain), change(&[], &[&two], &[]))?;
    ensure!(star.hosts[2].link("eth0")?.index != index);
    ping(&star.hosts[2], &Star::address(0)).context("as a plain tap")?;

    // Many at once, and away again.
    let (three, four) = (format!("port {}", star.port_name(3)), format!("port {}", star.port_name(4)));
    let all = fixed.clone() + &plain + &star.port(3, "") + &star.port(4, "");
    reload(&all, change(&[&three, &four], &[], &[]))?;
    ping(&star.hosts[3], &Star::address(4))?;
    reload(&fixed, change(&[], &[], &[&two, &three, &four]))?;
    ensure!((2..5).all(|host| star.hosts[host].link("eth0").is_err()), "removed ports' taps vanish");

    train.stop()?.without_loss()?;
    ensure!([star.hosts[0].link("eth0")?.index, star.hosts[1].link("eth0")?.index] == before);
    weft.rewrite(&fixed.replace("workers = 2", "workers = 1"))?;
    let changes: Value = serde_json::from_str(&weft.succeed(&["reload", "--json"])?)?;
    ensure!(changes["needs_restart"] == json!(["switch.workers"]), "{changes}");
    weft.ledger_balances()?;
    Ok(())
}

fn reload_of_the_overlay() -> anyhow::Result<()> {
    let pair = Pair::new(PREFIX)?;
    let [a, b] = &pair.sides;
    let locals = [quiet(&pair.lab, "l0")?, quiet(&pair.lab, "l1")?];
    let more: String =
        (0..2).map(|n| port(locals[n].full_name(), "eth0", &format!("address = [\"10.0.0.{}/24\"]", 11 + n))).collect();
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

fn wrong_files() -> anyhow::Result<()> {
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

fn impossible_files() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 4)?;
    let weft =
        Weft::start(&star.switch, &(HEAD.to_owned() + &star.port(0, "") + &star.port(1, "") + &star.port(2, "")))?;
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
    let head = HEAD.to_owned() + more + &star.port(0, "") + &other_mtu;
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

fn additions_survive() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 4)?;
    let file = HEAD.to_owned() + &star.port(0, "") + &star.port(1, "");
    let weft = Weft::start(&star.switch, &file)?;
    weft.succeed(&["bridge", "add", "green"])?;
    weft.succeed(&["port", "add", &star.port_name(2), "--bridge", "blue", "--address", "10.0.0.3/24"])?;
    weft.succeed(&["port", "add", &star.port_name(3), "--bridge", "green"])?;
    weft.succeed(&["fdb", "add", "--bridge", "blue", "--mac", "02:00:00:00:00:77", "--port", &star.port_name(2)])?;
    let index = star.hosts[2].link("eth0")?.index;
    let train = PingTrain::start(&star.hosts[2], &Star::address(0))?;

    weft.rewrite(&(HEAD.to_owned() + &star.port(0, "")))?;
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
    weft.rewrite("[switch]\nworkers = 2\n")?;
    let refused = weft.command(&["reload"])?;
    ensure!(!refused.success() && refused.stderr.contains("blue"), "{refused}");
    ensure!(array(&weft.show("ports")?).len() == 4);
    Ok(())
}

/// Ctrl-C in the middle of a command.
fn early_leavers() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 4)?;
    let few = HEAD.to_owned() + &star.port(0, "") + &star.port(1, "");
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

/// Starts another `weft run` that is to fail.
fn refused_run(namespace: &Namespace, config: &str, socket: &std::path::Path) -> anyhow::Result<Output> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("weft.toml"), config)?;
    let run = namespace.command(binary()?).arg("run").arg(directory.path().join("weft.toml"));
    Ok(run.arg("--socket").arg(socket).timeout(PATIENCE).output()?)
}

fn second_weft() -> anyhow::Result<()> {
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

fn socket_mode() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 0)?;
    let weft = Weft::start(&star.switch, HEAD)?;
    let mode = fs::metadata(weft.socket())?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "{mode:o}");
    Ok(())
}

fn wrong_requests() -> anyhow::Result<()> {
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

fn exit_codes() -> anyhow::Result<()> {
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

fn signals() -> anyhow::Result<()> {
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

fn check() -> anyhow::Result<()> {
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

fn json_logs() -> anyhow::Result<()> {
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
