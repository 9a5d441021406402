//! What is shown of the running switch, and single changes of it.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use weft::lab::Namespace;
use weft_integration::{
    scene::{self, Pair, Star, port},
    traffic::{EXPERIMENT, Injector, PingTrain, frame, quiet},
    weft::{PATIENCE, Weft, eventually},
};

use crate::{PREFIX, array, ping};

/// Fails unless the object has these keys and no others.
fn has_keys(value: &Value, keys: &[&str]) -> anyhow::Result<()> {
    let found: BTreeSet<_> = value.as_object().with_context(|| format!("not an object: {value}"))?.keys().collect();
    let expected: BTreeSet<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    ensure!(found == expected.iter().collect(), "keys are {found:?}, not {expected:?}");
    Ok(())
}

pub(crate) fn documented_keys() -> anyhow::Result<()> {
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
        let keys =
            ["name", "vni", "encapsulation", "ports", "remotes", "learning", "ageing_s", "learned", "limit", "options"];
        has_keys(bridge, &keys)?;
    }
    ensure!(bridges[0]["vni"] == 42 && bridges[0]["remotes"] == json!(["192.0.2.2:4789"]), "{bridges:#}");
    ensure!(bridges[0]["learned"] == 2 && bridges[0]["ageing_s"] == 300 && bridges[0]["limit"] == 65536, "{bridges:#}");
    ensure!(bridges[1]["vni"].is_null() && bridges[1]["learning"] == false, "{bridges:#}");
    ensure!(bridges[0]["encapsulation"] == "vxlan" && bridges[1]["encapsulation"].is_null(), "{bridges:#}");

    let ports = weft.show("ports")?;
    for port in array(&ports) {
        has_keys(
            port,
            &[
                "name", "kind", "bridge", "trunk", "native", "mtu", "mac", "state", "ifindex", "offloads", "queues",
                "options",
            ],
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
        has_keys(entry, &["bridge", "mac", "port", "vtep", "origin", "age_s", "locked"])?;
        ensure!(entry["port"].is_null() != entry["vtep"].is_null(), "{entry}");
        ensure!((entry["origin"] == "learned") == entry["age_s"].is_u64(), "{entry}");
    }
    let origins: BTreeSet<_> = array(&fdb).iter().filter_map(|entry| entry["origin"].as_str()).collect();
    ensure!(origins == BTreeSet::from(["learned", "static", "sticky"]), "{fdb:#}");
    let of_green = weft.succeed(&["show", "fdb", "--bridge", "green", "--json"])?;
    ensure!(of_green.trim() == "[]", "{of_green}");

    let vteps = weft.show("vteps")?;
    ensure!(array(&vteps).len() == 1, "{vteps:#}");
    let keys = [
        "address",
        "port",
        "encapsulations",
        "known_by",
        "rx_frames",
        "rx_bytes",
        "tx_frames",
        "tx_bytes",
        "path_mtu",
        "path_mtu_state",
    ];
    has_keys(&vteps[0], &keys)?;
    ensure!(vteps[0]["encapsulations"] == json!(["vxlan"]), "{vteps:#}");
    let mtu = weft.show("mtu")?;
    has_keys(&mtu, &["underlay", "vteps", "ports"])?;
    has_keys(&mtu["underlay"], &["address", "interface", "mtu", "policy", "ageing_s", "note", "errors_foreign"])?;
    ensure!(array(&mtu["vteps"]).len() == 1 && array(&mtu["ports"]).len() == 3, "{mtu:#}");
    has_keys(
        &mtu["vteps"][0],
        &[
            "address",
            "port",
            "link_mtu",
            "path_mtu",
            "state",
            "reason",
            "age_s",
            "vanishing_from",
            "method",
            "stations",
            "round_trip_us",
            "confirmed_s",
            "unanswered_s",
            "in_use",
            "budgets",
            "probes_sent",
            "probes_answered",
            "errors_accepted",
            "errors_doubted",
            "errors_impossible",
            "errors_foreign",
            "unreachable",
        ],
    )?;
    let budget = &mtu["vteps"][0]["budgets"][0];
    has_keys(budget, &["bridges", "encapsulation", "headers", "inner_mtu", "inner_mtu_tagged"])?;
    array(&budget["headers"]).iter().try_for_each(|header| has_keys(header, &["name", "bytes"]))?;
    for port in array(&mtu["ports"]) {
        has_keys(port, &["port", "mtu", "configured", "default", "smallest_path", "why"])?;
    }

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
                "gso_refusals",
                "gso_off_sockets",
                "gbp_policies",
                "checksum_errors",
            ],
        )?;
    }
    let kinds: BTreeSet<_> = array(&ledger["rows"]).iter().filter_map(|row| row["kind"].as_str()).collect();
    ensure!(kinds == BTreeSet::from(["port", "bridge", "vtep", "underlay", "own"]), "{ledger:#}");

    let (status, body) = weft.request("GET", "/v1/status", "")?;
    ensure!(status == 200 && body["pid"] == weft.process().id() && body["workers"] == 2, "{body}");
    has_keys(&body, &["version", "pid", "uptime_s", "workers", "config", "held"])?;

    for (what, word) in [
        ("bridges", "green"),
        ("ports", "t0"),
        ("fdb", "02:00:00:00:00:77"),
        ("vteps", "192.0.2.2"),
        ("mtu", "VTEP 192.0.2.2 port 4789"),
        ("drops", "vlan_not_member"),
        ("ledger", "underlay"),
    ] {
        let text = weft.succeed(&["show", what])?;
        ensure!(text.contains(word), "show {what} lacks {word}:\n{text}");
    }
    Ok(())
}

pub(crate) fn fdb() -> anyhow::Result<()> {
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

pub(crate) fn come_and_go() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 4)?;
    let weft = Weft::start(&star.switch, &(star.head() + &star.port(0, "") + &star.port(1, "")))?;
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
