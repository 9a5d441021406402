//! Mistakes as users see them: line, what is wrong, what would be right.

use super::Topology;
use crate::lab::drawing::Drawing;

const HEAD: &str = "name = \"t\"\ntitle = \"t\"\ntext = \"t\"\n";

/// The mistakes of a text behind [`HEAD`], which has 3 lines.
fn mistakes(text: &str) -> Vec<(usize, String, String)> {
    let errors = Topology::parse("t.toml", &format!("{HEAD}{text}")).unwrap_err();
    let reports = errors.reports().into_iter();
    reports.map(|report| (report.line.unwrap_or(0), report.message, report.help.unwrap_or_default())).collect()
}

#[track_caller]
fn expect(text: &str, expected: &[(usize, &str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(line, what, cure)| (*line, (*what).into(), (*cure).into())).collect();
    assert_eq!(mistakes(text), expected);
}

const HOSTS: &str = "[[host]]\nname = \"a\"\n[[host.interface]]\nname = \"eth0\"\npeer = \"b/eth0\"\n\
                     [[host]]\nname = \"b\"\n[[host.interface]]\nname = \"eth0\"\npeer = \"a/eth0\"\n";

/// Any text: a lab that is written so that it is read again, and can be drawn, or mistakes that lie inside the text.
#[test]
fn fuzz_lab() {
    crate::fuzzing::inputs(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        match Topology::parse("t.toml", text) {
            Ok(lab) => {
                // The taps of a lab's wefts are written too, and can't be read: they are made from the wefts.
                let written = toml::to_string(&lab).unwrap();
                if lab.hosts.iter().all(|host| host.weft.is_none()) {
                    assert_eq!(toml::from_str::<Topology>(&written).unwrap(), lab, "{written}");
                }
                let drawing = Drawing::of(&lab);
                assert!(!drawing.svg().is_empty());
                drawing.text();
            }
            Err(errors) => {
                for mistake in errors.mistakes() {
                    assert!(mistake.span().is_none_or(|span| text.get(span).is_some()));
                }
                assert!(!errors.render(false).is_empty());
            }
        }
    });
}

#[test]
fn what_serde_does_not_understand_has_place_and_cure() {
    expect("[[host]]\nname = \"a\"\nadress = 1\n", &[(6, "there is no key `adress` here", HOST_KEYS)]);
    expect("[[host]]\nnme = \"a\"\n", &[(5, "there is no key `nme` here", "did you mean `name`?")]);
    expect(
        "[[host]]\nname = \"a\"\n[[host.interface]]\nname = \"eth0\"\naddress = [\"10.0.0.1\"]\n",
        &[(
            8,
            "\"10.0.0.1\" is no address with its prefix length",
            "write one such as \"10.0.0.1/24\" or \"fd00::1/64\"",
        )],
    );
    expect(
        "[[host]]\nname = \"a\"\n[[host.interface]]\nname = \"eth0\"\nkind = \"brigde\"\n",
        &[(8, "there is no `brigde` here", "did you mean `bridge`?")],
    );
    expect("[[host]]\nrole = \"x\"\n", &[(4, "the key `name` is missing", "add `name` to this table")]);
}

const HOST_KEYS: &str =
    "there is `name`, `role`, `at`, `sysctl`, `nft`, `interface`, `route`, `neighbour`, `fdb`, `bpf`, `weft`";

#[test]
fn names_that_nobody_has_are_told_with_the_one_that_was_meant() {
    let text = HOSTS.replace("peer = \"b/eth0\"", "peer = \"bb/eth0\"");
    expect(
        &text,
        &[
            (8, "there is no host `bb`", "did you mean `b`?"),
            (
                13,
                "`a/eth0` is not the other end of this cable",
                "write `peer = \"b/eth0\"` there, or name another end here",
            ),
        ],
    );
    expect(
        &format!("{HOSTS}[[check]]\nname = \"c\"\nfrom = \"c\"\nping = \"10.0.0.1\"\n"),
        &[(16, "there is no host `c`", "did you mean `a`?")],
    );
    expect(
        &format!(
            "{HOSTS}[[fault]]\nname = \"f\"\ntext = \"f\"\nfinding = \"f\"\nchange = [{{ at = \"a/eth1\", up = false }}]\n"
        ),
        &[(18, "host `a` has no interface `eth1`", "did you mean `eth0`?")],
    );
}

#[test]
fn options_belong_to_a_kind() {
    expect(
        "[[host]]\nname = \"a\"\n[[host.interface]]\nname = \"br0\"\nkind = \"bridge\"\nid = 4\n\
         [[host.interface]]\nname = \"vx0\"\nkind = \"vxlan\"\nid = 16777216\n",
        &[
            (9, "a bridge has no `id`", "it is an option of vlan, vxlan"),
            (10, "the vxlan `vx0` has no `local`", "such as: local = \"192.0.2.1\""),
            (13, "this id is out of range", "0 to 16777215"),
        ],
    );
}

#[test]
fn a_weft_that_would_not_start_is_told_at_once() {
    let found = mistakes("[[host]]\nname = \"a\"\n[[host.weft.port]]\nname = \"eth0\"\nbridge = \"blue\"\n");
    assert!(found[0].1.starts_with("weft would not take this: "), "{found:?}");
    let found = mistakes(
        "[[host]]\nname = \"a\"\n[[host.weft.bridge]]\nname = \"blue\"\n\
         [[host.weft.port]]\nname = \"eth0\"\nnetns = \"nowhere\"\nbridge = \"blue\"\n",
    );
    assert!(found[0].1.contains("names a namespace `nowhere`"), "{found:?}");
}

#[test]
fn routes_need_a_way() {
    expect(
        "[[host]]\nname = \"a\"\n[[host.route]]\nto = \"10.0.0.1/24\"\nvia = \"fd00::1\"\n",
        &[
            (7, "10.0.0.1/24 has bits behind its prefix length", "clear them: \"10.1.0.0/16\""),
            (
                8,
                "fd00::1 can't be the next hop to 10.0.0.1/24",
                "the next hop to 10.0.0.1/24 is an address of the same family",
            ),
        ],
    );
}
