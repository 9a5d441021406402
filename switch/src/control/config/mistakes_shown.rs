//! Every mistake as users see it: message, place and cure.

use std::fs;

use super::*;

/// The mistakes of `text`: line, message, help.
fn mistakes(text: &str) -> Vec<(usize, String, String)> {
    let errors = Config::parse("weft.toml", text).unwrap_err();
    let reports = errors.reports().into_iter();
    reports.map(|report| (report.line.unwrap(), report.message, report.help.unwrap_or_default())).collect()
}

/// That `text` has exactly these mistakes.
#[track_caller]
fn expect(text: &str, expected: &[(usize, &str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(line, what, help)| (*line, (*what).into(), (*help).into())).collect();
    assert_eq!(mistakes(text), expected);
}

/// A good beginning, 6 lines long.
const BASE: &str = "[vtep]\naddress = \"192.0.2.1\"\n[[bridge]]\nname = \"blue\"\nvni = 42\nlearning = true\n";

#[track_caller]
fn expect_after_base(text: &str, expected: &[(usize, &str, &str)]) {
    expect(&format!("{BASE}{text}"), expected);
}

fn keys(title: &str, keys: &str) -> String {
    let words: Vec<_> = keys.split(' ').map(|key| format!("`{key}`")).collect();
    let (last, first) = words.split_last().unwrap();
    format!("{title} has {} and {last}", first.join(", "))
}

#[test]
fn everything_is_reported_at_once_and_in_order() {
    let text = r#"[switch]
workers = "two"
agening = "300s"
[vtep]
address = "192.0.2.300"
port = 0
[[bridge]]
name = "blue"
vni = 16777216
remotes = ["192.0.2.2", "nowhere", 7]
[[port]]
name = "eth0"
bridge = "blue"
mac = "01:00:5e:00:00:01"
mtu = 1450.5
"#;
    expect(
        text,
        &[
            (2, "`workers` must be an integer, and this is a string", "such as: workers = 2"),
            (3, "[switch] has no key `agening`", "did you mean `ageing`?"),
            (
                5,
                "`192.0.2.300` is not an IP address",
                "an address such as \"192.0.2.1\" or \"2001:db8::1\"; names are not looked up",
            ),
            (6, "0 is not a UDP port", "1 to 65535"),
            (9, "VNI 16777216 does not fit 24 bits", "0 to 16777215"),
            (
                10,
                "`nowhere` is not a VTEP's address",
                "an address, perhaps with a port: \"192.0.2.2\", \"192.0.2.2:8472\", \"2001:db8::2\", \"[2001:db8::2]:8472\"",
            ),
            (10, "`remotes` must be a list of strings, and this is an integer", "such as: remotes = [\"192.0.2.2\"]"),
            (14, "01:00:5e:00:00:01 is a multicast address", "the first octet must be even, such as 00:00:5e:00:00:01"),
            (15, "`mtu` must be an integer, and this is a fraction", "such as: mtu = 1450"),
        ],
    );
}

#[test]
fn people_see_the_line_the_place_and_the_cure() {
    let errors = Config::parse("weft.toml", "[[bridge]]\nname = \"blue\"\nremote = [\"192.0.2.2\"]\n").unwrap_err();
    let expected = "  × [[bridge]] has no key `remote`
   ╭─[weft.toml:3:1]
 2 │ name = \"blue\"
 3 │ remote = [\"192.0.2.2\"]
   · ───┬──
   ·    ╰── here
   ╰────
  help: did you mean `remotes`?
";
    assert_eq!(errors.render(false).trim_end(), expected.trim_end());
}

#[test]
fn both_places_of_a_contradiction_are_shown() {
    let text = "[[bridge]]\nname = \"blue\"\n[[bridge]]\nname = \"blue\"\n";
    let shown = Config::parse("weft.toml", text).unwrap_err().render(false);
    assert!(shown.contains("first here") && shown.contains("weft.toml:4:8"), "{shown}");
}

#[test]
fn columns_count_characters() {
    let text = "switch = { ageing = \"äöü\" }";
    let report = &Config::parse("weft.toml", text).unwrap_err().reports()[0];
    assert_eq!((report.line, report.column), (Some(1), Some(21)));
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weft.toml");
    let message = || Config::load(&path).unwrap_err().to_string();
    assert_eq!(message(), format!("can't read {}: No such file or directory (os error 2)", path.display()));
    fs::write(&path, b"[switch]\n# \xff").unwrap();
    assert_eq!(message(), format!("can't read {}: line 2 is not UTF-8", path.display()));
    fs::write(&path, BASE).unwrap();
    assert_eq!(Config::load(&path).unwrap().bridges.len(), 1);
}

#[test]
fn what_is_not_toml_is_all_that_is_said() {
    expect("[switch\nworkers = \"x\"\n", &[(1, "this is not TOML: unclosed table", "expected `]`")]);
    expect(
        "[[bridge]]\nname = blue\nbogus = 1\n[[port]]\nname =\n",
        &[
            (2, "this is not TOML: string values must be quoted", "expected literal string"),
            (5, "this is not TOML: string values must be quoted", "expected literal string"),
        ],
    );
}

#[test]
fn unknown_tables_and_keys() {
    expect(
        "[[bridges]]\nname = \"blue\"\n[[port]]\nname = \"a\"\nbridge = \"blue\"\n",
        &[(1, "a configuration has no `bridges`", "did you mean `[[bridge]]`?")],
    );
    expect(
        "netns = \"left\"\nthing = 1\n",
        &[
            (1, "a configuration has no `netns`", "it belongs below `[vtep]`"),
            (
                2,
                "a configuration has no `thing`",
                "there are `[switch]`, `[vtep]`, `[[bridge]]`, `[[port]]`, `[[fdb]]`, `[[neigh]]` and `[[mdb]]`",
            ),
        ],
    );
    expect(
        "[switch]\ncolour = 1\n",
        &[(2, "[switch] has no key `colour`", &keys("[switch]", "workers ageing socket busy_poll pin nice"))],
    );
    expect(
        "[[port]]\nname = \"a\"\nbrigde = \"blue\"\n",
        &[(3, "[[port]] has no key `brigde`", "did you mean `bridge`?")],
    );
}

#[test]
fn tables_of_the_wrong_shape() {
    expect(
        "[bridge]\nname = \"blue\"\n",
        &[(1, "`bridge` must be a list of tables, and this is a table", "begin each with `[[bridge]]`")],
    );
    expect(
        "[[vtep]]\naddress = \"192.0.2.1\"\n",
        &[(1, "`vtep` must be one table, and this is a list", "begin it with `[vtep]`, once")],
    );
    expect(
        "port = [1]\n",
        &[(1, "`port` must be a list of tables, and this is an integer", "begin each with `[[port]]`")],
    );
}

#[test]
fn wrong_types() {
    expect_after_base(
        "[[port]]\nname = 5\nbridge = [\"blue\"]\nlearning = \"yes\"\naddress = \"10.0.0.1/24\"\n",
        &[
            (8, "`name` must be a string, and this is an integer", "such as: name = \"eth0\""),
            (9, "`bridge` must be a string, and this is a list", "such as: bridge = \"blue\""),
            (10, "`learning` must be true or false, and this is a string", "such as: learning = true"),
            (11, "`address` must be a list of strings, and this is a string", "such as: address = [\"10.10.0.1/24\"]"),
        ],
    );
}

#[test]
fn a_number_beyond_64_bits_is_out_of_range() {
    expect("[switch]\nworkers = 99999999999999999999\n", &[(2, "9223372036854775807 is out of range", "1 to 256")]);
}

#[test]
fn the_switch_itself() {
    expect(
        "[switch]\nworkers = 0\nageing = \"300\"\nsocket = \"/tmp/\"\n",
        &[
            (2, "0 is out of range", "1 to 256"),
            (
                3,
                "`300` is not a duration: time unit needed, for example 300sec or 300ms",
                "write a number with its unit, such as \"300s\", \"5min\" or \"1h 30min\"; \"0\" learns nothing",
            ),
            (4, "`/tmp/` is not the path of a socket", "such as \"/run/weft/weft.sock\""),
        ],
    );
    expect(
        "[switch]\nageing = 300\n",
        &[(2, "`ageing` must be a string, and this is an integer", "such as: ageing = \"300s\"")],
    );
    let long = format!("[switch]\nsocket = \"/{}\"\n", "a".repeat(107));
    expect(&long, &[(2, "the path has 108 bytes, too long for a unix socket", "at most 107 bytes")]);
    expect_after_base(
        "ageing = \"12days\"\n",
        &[(
            7,
            "an ageing time of 12days is too long",
            "at most \"1000000s\" (11 days), as in IEEE 802.1Q and the kernel",
        )],
    );
}

#[test]
fn the_vtep_needs_an_address() {
    expect("[vtep]\nport = 4789\n", &[(1, "`address` is missing", "add it, such as: address = \"192.0.2.1\"")]);
    expect(
        "[vtep]\naddress = \"fe80::1\"\n",
        &[(
            2,
            "fe80::1 is link-local, which weft does not support as an underlay address",
            "a global or unique local address, such as \"2001:db8::1\" or \"fd00::1\"",
        )],
    );
}

#[test]
fn words_numbers_and_ranges_of_the_vtep() {
    let text = r#"[vtep]
address = "192.0.2.1"
profile = "rfc7384"
peers = "all"
ecn = "kernal"
ttl = 0
tos = 3
df = true
gso = "yes"
source_port_range = [60000, 50000]
netns = "a b"
inner_vlan = 1
"#;
    expect(
        text,
        &[
            (3, "`profile` can't be \"rfc7384\"", "did you mean \"rfc7348\"?"),
            (4, "`peers` can't be \"all\"", "\"known\" or \"any\""),
            (5, "`ecn` can't be \"kernal\"", "did you mean \"kernel\"?"),
            (6, "a TTL of 0", "1 to 255, or \"inherit\""),
            (7, "a TOS of 3 sets the ECN bits, which follow the inner packet", "0, or `ecn` for those two bits"),
            (8, "`df` must be a string, and this is true or false", "such as: df = \"set\""),
            (9, "`gso` can't be \"yes\"", "\"auto\" or \"on\" or \"off\""),
            (10, "60000 to 50000 is no range of ports", "[50000, 60000]"),
            (
                11,
                "`a b` does not name a network namespace",
                "a name under /run/netns, an absolute path, \"pid:1234\", or \"fd:3\"",
            ),
            (12, "`inner_vlan` must be a string, and this is an integer", "such as: inner_vlan = \"pass\""),
        ],
    );
    let vtep = |rest: &str| format!("[vtep]\naddress = \"192.0.2.1\"\n{rest}");
    expect(
        &vtep("ttl = \"always\"\n"),
        &[(3, "`ttl` must be an integer or \"inherit\", and this is a string", "such as: ttl = 64")],
    );
    expect(&vtep("source_port_range = [0, 10]\n"), &[(3, "0 is not a UDP port", "1 to 65535")]);
    expect(
        &vtep("source_port_range = [1, 2, 3]\n"),
        &[(
            3,
            "`source_port_range` must be a list of two integers, and this is a list",
            "such as: source_port_range = [49152, 65535]",
        )],
    );
    expect(&vtep("source_ports = 300\n"), &[(3, "300 source ports", "1 to 256: each costs a socket")]);
    expect(
        &vtep("source_ports = 4\nsource_port_range = [4788, 4790]\n"),
        &[(3, "4 source ports", "1 to 1, which is what the range 4788 to 4790 has")],
    );
    expect(
        &vtep("source_port_range = [4789, 4789]\n"),
        &[(
            3,
            "weft may listen on every port from 4789 to 4789 itself",
            "a range with another port in it, such as [49152, 65535]",
        )],
    );
}

#[test]
fn names_of_bridges() {
    expect(
        "[[bridge]]\nvni = 1\n[[bridge]]\nname = \"a b\"\n[vtep]\naddress = \"192.0.2.1\"\n",
        &[
            (1, "`name` is missing", "add it, such as: name = \"blue\""),
            (4, "`a b` can't be the name of a bridge", "1 to 15 characters of A-Z a-z 0-9 . _ -"),
        ],
    );
    expect_after_base(
        "[[bridge]]\nname = \"blue\"\n",
        &[(8, "there are two bridges `blue`", "each needs a name of its own")],
    );
    expect_after_base(
        "[[port]]\nname = \"a\"\nbridge = \"bleu\"\n[[port]]\nname = \"b\"\nbridge = \"red\"\n",
        &[
            (9, "there is no bridge `bleu`", "did you mean `blue`?"),
            (12, "there is no bridge `red`", "there are `blue`"),
        ],
    );
    expect(
        "[[port]]\nname = \"a\"\nbridge = \"red\"\n",
        &[(3, "there is no bridge `red`", "add [[bridge]] with name = \"red\"")],
    );
}

#[test]
fn vnis() {
    expect_after_base(
        "[[bridge]]\nname = \"green\"\nvni = 42\n[[bridge]]\nname = \"red\"\nvni = -1\n",
        &[
            (
                9,
                "VNI 42 belongs to bridge `blue` already",
                "each bridge needs a VNI of its own: it tells arriving frames apart",
            ),
            (12, "VNI -1 does not fit 24 bits", "0 to 16777215"),
        ],
    );
    expect(
        "[[bridge]]\nname = \"blue\"\nvni = 1\n",
        &[(
            3,
            "bridge `blue` has a VNI, but there is no [vtep]",
            "add [vtep] with address = \"192.0.2.1\", or take `vni` out for a bridge that stays on this host",
        )],
    );
}

#[test]
fn flood_lists() {
    let text = "remotes = [\"192.0.2.2\", \"2001:db8::2\", \"192.0.2.1\", \"192.0.2.1:8472\", \"192.0.2.2:8472\"]\n";
    expect_after_base(
        text,
        &[
            (
                7,
                "2001:db8::2 is IPv6, but this VTEP's own address 192.0.2.1 is IPv4",
                "an IPv4 address: one socket speaks one family",
            ),
            (7, "192.0.2.1:4789 is this VTEP itself", "the other VTEPs' addresses: weft would send to itself"),
            (
                7,
                "192.0.2.1 is twice in the flood list of bridge `blue`",
                "once is enough: it would get two copies of each frame",
            ),
            (
                7,
                "192.0.2.2 is twice in the flood list of bridge `blue`",
                "once is enough: it would get two copies of each frame",
            ),
        ],
    );
    expect_after_base(
        "remotes = [\"239.1.1.1\", \"0.0.0.0\"]\n",
        &[
            (
                7,
                "239.1.1.1 is multicast, and no VTEP has it",
                "name each VTEP by its own address: weft sends a copy to each (head-end replication)",
            ),
            (7, "0.0.0.0 is the unspecified address, and no VTEP has it", "the VTEP's own underlay address"),
        ],
    );
    expect_after_base(
        "group = \"239.1.1.1\"\nlocalbypass = true\n",
        &[
            (
                7,
                "[[bridge]] has no key `group`",
                "name each VTEP in `remotes`: weft sends a copy to each (head-end replication)",
            ),
            (
                8,
                "[[bridge]] has no key `localbypass`",
                "take it out: a VNI is one bridge of a weft, so there is no other that could get the frame without the wire",
            ),
        ],
    );
    expect_after_base(
        "[[bridge]]\nname = \"green\"\nremotes = [\"192.0.2.2\"]\n",
        &[(
            9,
            "bridge `green` has remotes, but no VNI to send them",
            "add vni = 42, the same number that the remotes have",
        )],
    );
}

#[test]
fn limits_of_a_bridge() {
    expect_after_base(
        "group_fwd_mask = 1\nfdb_max_learned = -1\nfdb_full = \"evikt\"\n",
        &[
            (
                7,
                "0x1 forwards what a bridge must keep: bits 0 to 2 can't be set",
                "without them, 0x0; the kernel refuses STP, pause frames and LACP as well",
            ),
            (8, "-1 is out of range", "0 to 4294967295"),
            (9, "`fdb_full` can't be \"evikt\"", "did you mean \"evict\"?"),
        ],
    );
}

#[test]
fn names_of_ports() {
    expect_after_base(
        "[[port]]\nname = \"an-interface-too-long\"\nbridge = \"blue\"\n",
        &[(
            8,
            "`an-interface-too-long` can't name an interface: it has 21 characters",
            "at most 15 characters: the kernel has no room for more",
        )],
    );
    expect_after_base(
        "[[port]]\nname = \"left/a\"\nbridge = \"blue\"\n[[port]]\nname = \".\"\nbridge = \"blue\"\n",
        &[
            (
                8,
                "`left/a` can't name an interface: it contains `/`",
                "write the namespace by itself: name = \"a\", netns = \"left\"",
            ),
            (11, "`.` can't name an interface: the kernel keeps it for directories", "such as \"eth0\""),
        ],
    );
    let twice = "[[port]]\nname = \"a\"\nnetns = \"left\"\nbridge = \"blue\"\n\
                 [[port]]\nname = \"a\"\nnetns = \"/run/netns/left\"\nbridge = \"blue\"\n\
                 [[port]]\nname = \"a\"\nbridge = \"blue\"\n";
    expect_after_base(
        twice,
        &[(12, "there are two ports `left/a`", "one interface is one port; for several bridges give it a `trunk`")],
    );
}

#[test]
fn a_port_is_access_or_trunk() {
    expect_after_base(
        "[[port]]\nname = \"a\"\n",
        &[(
            7,
            "a port needs `bridge` or `trunk`, and this has neither",
            "bridge = \"blue\" for an access port, or trunk = { 10 = \"blue\", 20 = \"green\" }",
        )],
    );
    expect_after_base(
        "[[port]]\nname = \"a\"\nbridge = \"blue\"\ntrunk = { 10 = \"blue\" }\n",
        &[(
            10,
            "a port has either `bridge` or `trunk`, and this has both",
            "keep `bridge` for an access port, or `trunk` (with `native` for untagged frames)",
        )],
    );
    expect_after_base(
        "[[port]]\nname = \"a\"\nbridge = \"blue\"\nnative = \"blue\"\n",
        &[(
            10,
            "`native` is for trunks: an access port has one bridge for all frames",
            "take `native` out, or write trunk = { 10 = \"blue\" } instead of `bridge`",
        )],
    );
}

#[test]
fn trunks() {
    expect_after_base(
        "[[port]]\nname = \"a\"\ntrunk = { 10 = \"blue\", 20 = \"blue\", 4095 = \"blue\", x = 1 }\n",
        &[
            (
                9,
                "bridge `blue` has two VLANs of this trunk",
                "one VLAN for each bridge: frames to the port would have two tags to choose from",
            ),
            (9, "VLAN 4095 is out of range", "a VLAN identifier from 1 to 4094, such as: trunk = { 10 = \"blue\" }"),
            (9, "`x` is not a VLAN identifier", "a VLAN identifier from 1 to 4094, such as: trunk = { 10 = \"blue\" }"),
            (
                9,
                "`trunk` must be a table of strings, and this is an integer",
                "such as: trunk = { 10 = \"blue\", 20 = \"green\" }",
            ),
        ],
    );
    expect_after_base(
        "[[port]]\nname = \"a\"\ntrunk = {}\nnative = \"blue\"\n",
        &[(9, "this trunk carries no VLAN", "trunk = { 10 = \"blue\" }, or bridge = \"blue\" for an access port")],
    );
    expect_after_base(
        "[[port]]\nname = \"a\"\ntrunk = { 10 = \"blue\" }\nnative = \"blue\"\nnative = \"green\"\n",
        &[(11, "`native` is there twice", "keep one of the two")],
    );
    expect_after_base(
        "[[port]]\nname = \"a\"\ntrunk = { 10 = \"blue\", 10 = \"blue\" }\nmtu = 1\n",
        &[(9, "`10` is there twice", "keep one of the two"), (10, "an MTU of 1 is out of range", "68 to 65521")],
    );
}

#[test]
fn what_is_set_on_interfaces() {
    let port = |rest: &str| format!("[[port]]\nname = \"a\"\nbridge = \"blue\"\n{rest}");
    expect_after_base(&port("mtu = 65522\n"), &[(10, "an MTU of 65522 is out of range", "68 to 65521")]);
    expect_after_base(
        &port("mtu = 1279\naddress = [\"2001:db8::1/64\"]\n"),
        &[(
            10,
            "an MTU of 1279 is too small for the IPv6 address 2001:db8::1/64",
            "at least 1280, which IPv6 needs on every link",
        )],
    );
    expect_after_base(
        &port("address = [\"10.0.0.1\", \"10.0.0.2/24\", \"10.0.0.2/25\"]\n"),
        &[
            (
                10,
                "`10.0.0.1` has no prefix length",
                "an address with its prefix length, such as \"10.10.0.1/24\" or \"2001:db8::1/64\"",
            ),
            (10, "10.0.0.2 is twice in the list", "each address once"),
        ],
    );
    let packet = "set it with `ip`, or take kind = \"packet\" out if weft shall make the interface";
    expect_after_base(
        &port("kind = \"packet\"\naddress = [\"10.0.0.1/24\"]\nmac = \"02:00:00:00:00:01\"\n"),
        &[
            (11, "`address` on the packet port `a`: its interface exists and is not weft's", packet),
            (12, "`mac` on the packet port `a`: its interface exists and is not weft's", packet),
        ],
    );
    for (mac, message) in [
        ("02:00", "`02:00` is not a MAC address"),
        ("00:00:00:00:00:00", "00:00:00:00:00:00 is nobody's address"),
        ("ff:ff:ff:ff:ff:ff", "ff:ff:ff:ff:ff:ff is the broadcast address"),
        ("03:00:00:00:00:01", "03:00:00:00:00:01 is a multicast address"),
    ] {
        assert_eq!(mistakes(&format!("{BASE}{}", port(&format!("mac = \"{mac}\"\n"))))[0].1, message);
    }
}

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
fn options_of_ports_that_contradict_each_other() {
    expect_after_base(
        "[[port]]\nname = \"p\"\nbridge = \"blue\"\nmab = true\nstate = \"forward\"\ngroup_fwd_mask = 6\n",
        &[
            (
                10,
                "`mab` lets unknown addresses be seen at a locked port that learns, and this is none",
                "add locked = true and leave `learning` as it is, or take `mab` out",
            ),
            (11, "`state` can't be \"forward\"", "did you mean \"forwarding\"?"),
            (12, "0x6 forwards pause frames, which never pass a bridge: bit 1 can't be set", "without it, 0x4"),
        ],
    );
}

#[test]
fn floods_have_a_part_of_the_time() {
    for share in [0, 101, -1] {
        let port = format!("[[port]]\nname = \"p\"\nbridge = \"blue\"\nflood_share = {share}\n");
        expect_after_base(&port, &[(10, &format!("{share} is out of range"), "1 to 100")]);
    }
}

#[test]
fn who_may_speak_at_a_port() {
    let help =
        "a MAC address, perhaps with IP addresses or prefixes behind it: \"02:00:00:00:00:0a 10.10.0.1 fd00::/64\"";
    let port = "[[port]]\nname = \"p\"\nbridge = \"blue\"\nport_security = ";
    let cases = [
        ("[\"\"]", "an empty text names no station", help),
        (
            "[\"10.0.0.1\"]",
            "`10.0.0.1` is not a MAC address",
            "six pairs of hexadecimal digits, such as \"02:00:00:00:00:0a\"",
        ),
        ("[\"02:00:00:00:00:0a 10.0.0\"]", "`10.0.0` is not an IP address", "such as \"10.10.0.2\" or \"fd00:10::2\""),
        ("[\"02:00:00:00:00:0a 10.0.0.0/33\"]", "`10.0.0.0/33` has no good prefix length", "/0 to /32"),
        ("[\"02:00:00:00:00:0a x/3\"]", "`x/3` is no IP address with a prefix length", help),
        (
            "[\"02:00:00:00:00:0a\", \"02:00:00:00:00:0a 10.0.0.1\"]",
            "02:00:00:00:00:0a is twice in `port_security`",
            "name 02:00:00:00:00:0a once, with all of its addresses behind it",
        ),
    ];
    for (value, message, help) in cases {
        expect_after_base(&format!("{port}{value}\n"), &[(10, message, help)]);
    }
}

#[test]
fn an_entry_is_of_one_kind() {
    expect_after_base(
        "[[fdb]]\nbridge = \"blue\"\nmac = \"02:00:00:00:00:01\"\npermanent = true\nsticky = true\n",
        &[(10, "an entry can't be `sticky` and `permanent`", "keep one of the two")],
    );
}

#[test]
fn untagged_vlans_and_backup_ports_must_be_there() {
    expect_after_base(
        "[[port]]\nname = \"p\"\ntrunk = { 10 = \"blue\" }\nuntagged = [20]\nbackup_port = \"p\"\n",
        &[
            (10, "this trunk does not carry VLAN 20", "it carries `10`"),
            (11, "port `p` is its own backup", "another port of the same bridge"),
        ],
    );
    expect_after_base(
        "[[port]]\nname = \"p\"\nbridge = \"blue\"\nuntagged = [10]\nbackup_port = \"uplink9\"\n",
        &[
            (
                10,
                "`untagged` is for trunks, and this is an access port",
                "take it out: an access port leaves tags as they are",
            ),
            (11, "there is no port `uplink9`", "there are `p`"),
        ],
    );
}

#[test]
fn a_vlan_leaves_untagged_once() {
    expect_after_base(
        "[[port]]\nname = \"p\"\ntrunk = { 10 = \"blue\" }\nuntagged = [10, 10, 10]\n",
        &[
            (10, "VLAN 10 is twice in the list", "each VLAN once"),
            (10, "VLAN 10 is twice in the list", "each VLAN once"),
        ],
    );
}

#[test]
fn the_bridge_of_unknown_vnis_is_there_and_can_answer() {
    expect(
        "[vtep]\naddress = \"192.0.2.1\"\nunknown_vni = \"bleu\"\n[[bridge]]\nname = \"blue\"\n",
        &[(3, "there is no bridge `bleu`", "did you mean `blue`?")],
    );
    expect(
        "[vtep]\naddress = \"192.0.2.1\"\nunknown_vni = \"blue\"\n[[bridge]]\nname = \"blue\"\n",
        &[(
            3,
            "bridge `blue` has no VNI: nobody there could answer",
            "a bridge with a `vni`: answers leave with that one",
        )],
    );
}

#[test]
fn a_bridge_without_vni_has_nothing_behind_vteps() {
    expect_after_base(
        "[[bridge]]\nname = \"green\"\nvxlan_learning = false\nmaxaddress = 5\nneigh_suppress = true\n",
        &[
            (
                9,
                "`vxlan_learning` is about VTEPs, and bridge `green` has no VNI",
                "give the bridge a `vni`, or take `vxlan_learning` out",
            ),
            (
                10,
                "`maxaddress` is about VTEPs, and bridge `green` has no VNI",
                "give the bridge a `vni`, or take `maxaddress` out",
            ),
            (
                11,
                "`neigh_suppress` is about VTEPs, and bridge `green` has no VNI",
                "give the bridge a `vni`, or take `neigh_suppress` out",
            ),
        ],
    );
}

#[test]
fn encapsulations_and_their_ports() {
    expect(
        "[vtep]\naddress = \"192.0.2.1\"\nencapsulation = \"genive\"\ngeneve_port = 70000\n",
        &[
            (3, "`encapsulation` can't be \"genive\"", "did you mean \"geneve\"?"),
            (4, "70000 is not a UDP port", "1 to 65535"),
        ],
    );
    expect_after_base(
        "[[bridge]]\nname = \"green\"\nencapsulation = \"geneve\"\n",
        &[(
            9,
            "`encapsulation` is about VTEPs, and bridge `green` has no VNI",
            "give the bridge a `vni`, or take `encapsulation` out",
        )],
    );
    let bridges =
        "[[bridge]]\nname = \"blue\"\nvni = 42\n[[bridge]]\nname = \"green\"\nvni = 43\nencapsulation = \"geneve\"\n";
    let help = "another `port` or `geneve_port`: nothing else tells them apart";
    let message = "VXLAN and Geneve would both come to port 6081";
    expect(&format!("[vtep]\naddress = \"192.0.2.1\"\nport = 6081\n{bridges}"), &[(3, message, help)]);
    // Nobody speaks Geneve, so nobody is in the way.
    Config::parse("weft.toml", "[vtep]\naddress = \"192.0.2.1\"\nport = 6081\n").unwrap();
    expect_after_base(
        "remotes = [\"192.0.2.1\"]\nencapsulation = \"vxlan-gpe\"\n",
        &[(7, "192.0.2.1:4790 is this VTEP itself", "the other VTEPs' addresses: weft would send to itself")],
    );
    expect_after_base(
        "[[port]]\nname = \"p\"\nbridge = \"blue\"\ngbp_policy = 7\n",
        &[(
            10,
            "port `p` has a group policy, and no bridge of its sends it",
            "gbp = true below [vtep], or encapsulation = \"vxlan-gbp\" below [[bridge]]",
        )],
    );
    expect(
        "[vtep]\naddress = \"192.0.2.1\"\nencapsulation = \"vxlan-gpe\"\nreserved_bits = \"0x8400000000000000\"\n",
        &[(
            4,
            "vxlan-gpe uses bits that `reserved_bits` refuses: 0x0400000000000000",
            "without them, 0x8000000000000000",
        )],
    );
}

#[test]
fn options_of_geneve() {
    let geneve = |option: &str| format!("encapsulation = \"geneve\"\ngeneve_option = {option}\n");
    let example = "such as: geneve_option = { class = 0xff01, type = 1, data = \"c0ffee00\" }";
    for (option, message, help) in [
        ("7", "`geneve_option` must be a table or a list of tables, and this is an integer", example),
        ("{ class = 1 }", "`type` of a Geneve option is missing", example),
        ("{ type = 1, class = \"x\" }", "`class` of a Geneve option must be an integer, and this is a string", example),
        ("{ class = 65536, type = 1 }", "`class` can't be 65536", "0 to 65535"),
        ("{ class = 1, type = -1 }", "`type` can't be -1", "0 to 255"),
        ("{ class = 1, typ = 1 }", "`geneve_option` has no key `typ`", "did you mean `type`?"),
        ("{ class = 1, colour = 1 }", "`geneve_option` has no key `colour`", "it has `class`, `type` and `data`"),
        (
            "{ class = 1, type = 1, data = 5 }",
            "`data` of a Geneve option must be a string, and this is an integer",
            example,
        ),
        (
            "{ class = 1, type = 1, data = \"0g\" }",
            "`0g` is not hexadecimal",
            "two digits a byte, such as \"c0ffee00\"",
        ),
        (
            "{ class = 1, type = 1, data = \"c0ffee\" }",
            "3 bytes of option data are no multiple of 4",
            "whole words of 4 bytes: \"c0ffee00\" would do",
        ),
    ] {
        expect_after_base(&geneve(option), &[(8, message, help)]);
    }
    let long = format!("{{ class = 1, type = 1, data = \"{}\" }}", "00".repeat(124));
    let help = "at most 252 bytes, of which each option takes 4 beside its data";
    let three = format!("[{long}, {long}, {{ class = 1, type = 1 }}]");
    let message = "all options together would have 256 bytes, and 252 is the most";
    expect_after_base(&geneve(&three), &[(8, message, help)]);
    let longer = format!("{{ class = 1, type = 1, data = \"{}\" }}", "00".repeat(128));
    let message = "128 bytes of data are more than the 124 that an option can have";
    expect_after_base(&geneve(&longer), &[(8, message, "at most 124 bytes; several options can have more")]);
    expect_after_base(
        "geneve_option = { class = 1, type = 1 }\n",
        &[(
            7,
            "`geneve_option` is for Geneve, and bridge `blue` has vxlan",
            "encapsulation = \"geneve\", or take `geneve_option` out",
        )],
    );
}

#[test]
fn a_protocol_of_tags_is_one_of_two_and_for_trunks() {
    expect_after_base(
        "vlan_protocol = \"802.1aq\"\n[[port]]\nname = \"p\"\nbridge = \"blue\"\nvlan_protocol = \"802.1ad\"\n",
        &[
            (7, "`vlan_protocol` can't be \"802.1aq\"", "did you mean \"802.1ad\"?"),
            (
                11,
                "`vlan_protocol` is for trunks, and this is an access port",
                "take it out: an access port leaves tags of both kinds as they are",
            ),
        ],
    );
}
