//! Mistakes of static entries and neighbours.

use super::*;

#[test]
fn static_entries() {
    let ports = "[[bridge]]\nname = \"green\"\n[[port]]\nname = \"a\"\nnetns = \"left\"\nbridge = \"blue\"\n";
    let entry = |rest: &str| format!("{ports}[[fdb]]\n{rest}");
    let blue = "bridge = \"blue\"\nmac = \"02:00:00:00:00:01\"\n";
    let green = "bridge = \"green\"\nmac = \"02:00:00:00:00:01\"\n";
    expect_after_base(
        &entry(&format!("{blue}port = \"left/b\"\n")),
        &[(16, "there is no port `left/b`", "did you mean `left/a`?")],
    );
    expect_after_base(
        &entry(&format!("{green}port = \"left/a\"\n")),
        &[(16, "port `left/a` does not belong to bridge `green`", "it belongs to `blue`")],
    );
    expect_after_base(
        &entry(&format!("{green}vtep = \"192.0.2.2\"\n")),
        &[(
            16,
            "bridge `green` has no VNI, so nothing in it is behind a VTEP",
            "give the bridge a `vni`, or the entry a `port`",
        )],
    );
    expect_after_base(
        &entry(blue),
        &[(
            13,
            "an entry needs `port` or `vtep`, and this has neither",
            "port = \"left/eth0\" or vtep = \"192.0.2.2\"",
        )],
    );
    expect_after_base(
        &entry(&format!("{blue}port = \"left/a\"\nvtep = \"192.0.2.2\"\n")),
        &[(17, "an entry points at `port` or at `vtep`, and this at both", "keep one of the two")],
    );
    expect_after_base(
        &entry("mac = \"01:00:00:00:00:01\"\nport = \"left/a\"\nbridge = \"blue\"\n"),
        &[(14, "01:00:00:00:00:01 is a multicast address", "the first octet must be even, such as 00:00:00:00:00:01")],
    );
    expect_after_base(
        &entry("bridge = \"blue\"\nmac = \"00:00:00:00:00:00\"\nport = \"left/a\"\n"),
        &[(15, "00:00:00:00:00:00 is nobody's address", "such as \"02:00:00:00:00:0a\"")],
    );
    expect_after_base(
        &entry(&format!("{blue}vtep = \"192.0.2.1\"\n[[fdb]]\n{blue}vtep = \"2001:db8::1\"\n")),
        &[
            (16, "192.0.2.1:4789 is this VTEP itself", "the other VTEPs' addresses: weft would send to itself"),
            (
                19,
                "bridge `blue` has a static entry for 02:00:00:00:00:01 already",
                "an address is at one place; keep one of the two",
            ),
            (
                20,
                "2001:db8::1 is IPv6, but this VTEP's own address 192.0.2.1 is IPv4",
                "an IPv4 address: one socket speaks one family",
            ),
        ],
    );
}

#[test]
fn neighbours() {
    let neigh = |rest: &str| format!("[[neigh]]\nmac = \"02:00:00:00:00:01\"\n{rest}");
    let blue = |ip: &str| neigh(&format!("bridge = \"blue\"\nip = \"{ip}\"\n"));
    let example = "such as \"10.10.0.2\" or \"fd00:10::2\"";
    for (ip, message, help) in [
        ("ten", "`ten` is not an IP address", example),
        ("10.0.0.1/24", "`10.0.0.1/24` has a prefix length, and a station is one address", "\"10.0.0.1\""),
        ("224.0.0.1", "224.0.0.1 is a multicast address, and no station has it", example),
        ("::1", "::1 is a loopback address, and no station has it", example),
        ("0.0.0.0", "0.0.0.0 is the unspecified address, and no station has it", example),
    ] {
        expect_after_base(&blue(ip), &[(10, message, help)]);
    }
    let twice = format!("{}{}", blue("10.0.0.1"), blue("10.0.0.1"));
    let message = "bridge `blue` has a neighbour with 10.0.0.1 already";
    expect_after_base(&twice, &[(14, message, "one station has an address; keep one of the two")]);
    let red = neigh("bridge = \"red\"\nip = \"10.0.0.1\"\n");
    expect_after_base(&red, &[(9, "there is no bridge `red`", "there are `blue`")]);
}

#[test]
fn an_entry_is_of_one_kind() {
    expect_after_base(
        "[[fdb]]\nbridge = \"blue\"\nmac = \"02:00:00:00:00:01\"\npermanent = true\nsticky = true\n",
        &[(10, "an entry can't be `sticky` and `permanent`", "keep one of the two")],
    );
}
