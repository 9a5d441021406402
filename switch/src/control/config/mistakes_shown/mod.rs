//! Every mistake as users see it: message, place and cure.

use std::fs;

mod bridges;
mod entries;
mod ports;

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
fn floods_have_a_part_of_the_time() {
    for share in [0, 101, -1] {
        let port = format!("[[port]]\nname = \"p\"\nbridge = \"blue\"\nflood_share = {share}\n");
        expect_after_base(&port, &[(10, &format!("{share} is out of range"), "1 to 100")]);
    }
}
