//! Mistakes of bridges.

use super::*;

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
