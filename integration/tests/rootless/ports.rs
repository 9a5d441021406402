//! Ports in namespaces that weft can't enter by itself: added, changed, reloaded, removed; and what is said if it can't be.

use anyhow::ensure;
use libtest_mimic::Trial;
use weft::lab::Signal;
use weft_integration::{
    trial,
    weft::{PATIENCE, eventually},
};

use crate::scene::{Hosts, NEEDS, NEEDS_TUN, Station, Tun, User, Weft};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("ports_come_and_go_while_weft_runs", NEEDS_TUN, || come_and_go(Tun::ForAll)),
        trial("veth_ports_come_and_go_while_weft_runs", NEEDS, || come_and_go(Tun::Missing)),
        trial("a_reload_changes_ports_of_other_user_namespaces", NEEDS_TUN, || reload(Tun::ForAll)),
        trial("a_reload_changes_veth_ports_of_other_user_namespaces", NEEDS, || reload(Tun::ForRoot)),
        trial("a_port_goes_with_the_process_it_was_added_for", NEEDS, with_its_process),
        trial("a_killed_weft_leaves_nothing_and_can_be_started_again", NEEDS, killed),
        trial("a_namespace_two_user_namespaces_deep_has_ports", NEEDS_TUN, nested),
        trial("a_namespace_of_somebody_else_is_refused_with_his_name", NEEDS, of_somebody_else),
        trial("a_plain_tap_is_made_by_the_helper_too", NEEDS_TUN, plain),
    ]
}

/// A local switch with these ports.
fn local(ports: &str) -> String {
    format!("[switch]\nworkers = 2\n\n[[bridge]]\nname = \"blue\"\n\n{ports}")
}

fn port(station: &Station, name: &str, more: &str) -> String {
    format!("[[port]]\nname = \"{name}\"\nnetns = \"{}\"\nbridge = \"blue\"\n{more}\n", station.name())
}

fn come_and_go(tun: Tun) -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let (one, two) = (Station::new(&user, &hosts[0])?, Station::new(&user, &hosts[0])?);
    let weft = Weft::start(&user, &hosts[0], &local(&port(&one, "eth0", "address = [\"10.10.0.1/24\"]")), tun)?;
    let name = format!("{}/eth0", two.name());
    for _ in 0..3 {
        weft.succeed(&["port", "add", &name, "--bridge", "blue", "--address", "10.10.0.2/24", "--mtu", "1400"])?;
        ensure!(two.succeed(&["ip", "link", "show", "eth0"])?.contains("mtu 1400"));
        one.forgets_neighbours()?;
        one.pings("10.10.0.2")?;
        weft.succeed(&["port", "del", &name])?;
        ensure!(!two.has_interface("eth0")?, "it went at once");
    }
    weft.books_balance()?;
    weft.end()
}

fn reload(tun: Tun) -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let (one, two) = (Station::new(&user, &hosts[0])?, Station::new(&user, &hosts[0])?);
    let first = port(&one, "eth0", "address = [\"10.10.0.1/24\"]\nmac = \"02:00:00:00:00:01\"");
    let weft = Weft::start(&user, &hosts[0], &local(&first), tun)?;
    // Another address and MTU on the one, and one more.
    let changed = port(&one, "eth0", "address = [\"10.10.0.3/24\"]\nmtu = 1300\nmac = \"02:00:00:00:00:03\"");
    let added = port(&two, "eth0", "address = [\"10.10.0.2/24\"]");
    weft.rewrite(&local(&format!("{changed}{added}")))?;
    weft.succeed(&["reload"])?;
    two.pings("10.10.0.3")?;
    let shown = one.succeed(&["ip", "address", "show", "eth0"])?;
    ensure!(
        shown.contains("mtu 1300") && shown.contains("02:00:00:00:00:03") && !shown.contains("10.10.0.1"),
        "{shown}"
    );
    // Without a MAC address of its own it has to be made anew, in the place of the old one.
    weft.rewrite(&local(&format!("{}{added}", port(&one, "eth0", "address = [\"10.10.0.3/24\"]"))))?;
    weft.succeed(&["reload"])?;
    let shown = one.succeed(&["ip", "address", "show", "eth0"])?;
    ensure!(!shown.contains("02:00:00:00:00:03"), "{shown}");
    two.forgets_neighbours()?;
    two.pings("10.10.0.3")?;
    // An interface that its owner sets down is down for weft, too: it watches.
    one.succeed(&["ip", "link", "set", "eth0", "down"])?;
    let name = format!("{}/eth0", one.name());
    eventually("weft sees it down", PATIENCE, || Ok(weft.port(&name)?.is_some_and(|port| port["state"] == "down")))?;
    one.succeed(&["ip", "link", "set", "eth0", "up"])?;
    two.pings("10.10.0.3")?;
    // An interface that its owner deletes is gone, and the next reload makes it again.
    one.succeed(&["ip", "link", "delete", "eth0"])?;
    eventually("weft sees it gone", PATIENCE, || Ok(weft.port(&name)?.is_some_and(|port| port["state"] == "gone")))?;
    weft.succeed(&["reload"])?;
    two.forgets_neighbours()?;
    two.pings("10.10.0.3")?;
    weft.end()
}

fn with_its_process() -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let (one, two) = (Station::new(&user, &hosts[0])?, Station::new(&user, &hosts[0])?);
    let weft = Weft::start(&user, &hosts[0], &local(&port(&one, "eth0", "")), Tun::Missing)?;
    let (of_file, added) = (format!("{}/eth0", one.name()), format!("{}/eth0", two.name()));
    weft.succeed(&["port", "add", &added, "--bridge", "blue"])?;
    two.end()?;
    eventually("the port goes", PATIENCE, || Ok(weft.port(&added)?.is_none()))?;
    // One that the file names stays, as gone, until the file changes; it is in nobody's way.
    one.end()?;
    eventually("the port is gone", PATIENCE, || Ok(weft.port(&of_file)?.is_some_and(|port| port["state"] == "gone")))?;
    let three = Station::new(&user, &hosts[0])?;
    weft.succeed(&["port", "add", &format!("{}/eth0", three.name()), "--bridge", "blue"])?;
    let refused = weft.command(&["reload"])?;
    ensure!(!refused.success() && refused.stderr.contains("there is no process"), "{refused}");
    weft.end()
}

fn killed() -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let station = Station::new(&user, &hosts[0])?;
    let config = local(&port(&station, "eth0", "address = [\"10.10.0.1/24\"]"));
    for _ in 0..2 {
        let weft = Weft::start(&user, &hosts[0], &config, Tun::Missing)?;
        ensure!(station.has_interface("eth0")?);
        rustix::process::kill_process(rustix::process::Pid::from_raw(weft.id() as i32).unwrap(), Signal::KILL)?;
    }
    Weft::start(&user, &hosts[0], &config, Tun::Missing)?.end()?;
    ensure!(!station.has_interface("eth0")?);
    Ok(())
}

fn nested() -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let (one, two) = (Station::nested(&user, &hosts[0])?, Station::nested(&user, &hosts[0])?);
    let tap = port(&one, "eth0", "address = [\"10.10.0.1/24\"]");
    let veth = port(&two, "eth0", "address = [\"10.10.0.2/24\"]\nkind = \"veth\"");
    let weft = Weft::start(&user, &hosts[0], &local(&(tap + &veth)), Tun::ForAll)?;
    one.pings("10.10.0.2")?;
    weft.end()
}

fn of_somebody_else() -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let (user, other) = (User::new()?, User::new()?);
    let (own, foreign) = (Station::new(&user, &hosts[0])?, Station::new(&other, &hosts[0])?);
    let weft = Weft::start(&user, &hosts[0], &local(&port(&own, "eth0", "")), Tun::Missing)?;
    let refused = weft.command(&["port", "add", &format!("{}/eth0", foreign.name()), "--bridge", "blue"])?;
    let whose = format!("the process is user {}'s, and weft is user {}", other.id(), user.id());
    ensure!(!refused.success() && refused.stderr.contains(&whose), "{refused}");
    // Its file can be reached by a name, and says whose it is.
    let named = format!("{}/eth0", hosts[1].path().display());
    let refused = weft.command(&["port", "add", &named, "--bridge", "blue"])?;
    ensure!(!refused.success() && refused.stderr.contains("Operation not permitted"), "{refused}");
    weft.end()
}

fn plain() -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let (one, two) = (Station::new(&user, &hosts[0])?, Station::new(&user, &hosts[0])?);
    let ports = port(&one, "eth0", "address = [\"10.10.0.1/24\"]\noffload = false")
        + &port(&two, "eth0", "address = [\"10.10.0.2/24\"]\noffload = false");
    let weft = Weft::start(&user, &hosts[0], &local(&ports), Tun::ForAll)?;
    one.pings("10.10.0.2")?;
    weft.books_balance()?;
    weft.end()
}
