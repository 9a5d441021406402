//! Mistakes of ports.

use super::*;

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
