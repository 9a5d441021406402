//! The list as a page of the docs.

use std::fmt::Write as _;

use super::list::Mutant;

/// The page, from the top of the project.
pub const PATH: &str = "switch/docs/mutants.md";

const HEAD: &str = "# Wrong on purpose

A comparison that finds no difference says something only if it would find one. So weft is made wrong on purpose, in one way at a
time, and each must show in a case of `weft compare`. These are called mutants.

```
cargo run -p weft-integration --bin mutants                   # each mutant and its own case, as root
cargo run -p weft-integration --bin mutants -- isolated ecn-dropped
cargo run -p weft-integration --bin mutants -- --all          # each mutant and the whole catalogue: which others show it
cargo run -p weft-integration --bin mutants -- --full-kernel  # also those whose case this kernel can't run, on one that can
```

The exit code is 1 if one survives. All mutants are in one binary: the sources are copied to `target/mutants`, each expression
of the list is put behind a question there, and the copy is built once. With none awake it must behave as the kernel does, or
nothing is run. The sources themselves know nothing of mutants.

To look at one: `WEFT_MUTANT=isolated target/debug/weft-mutants compare bridge` shows what differs, and with `--cases 400`
random sequences do.

**A new mutant** is an entry of `integration/src/mutants/list.toml`: an expression in a function, the one that stands in its place, and
the case that must show it. If no case does, write one. If the sources have changed so that an expression is no longer
there, a test says so, and the entry is to follow them. `--page` writes this page, which is the list and nothing else; a test
holds it to it.

";

/// The page for a list.
pub fn page(mutants: &[Mutant]) -> String {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "| mutant | what is wrong | where | the case that shows it |\n|---|---|---|---|");
    for mutant in mutants {
        let Mutant { name, wrong, case, .. } = mutant;
        let _ = writeln!(text, "| `{name}` | {wrong} | `{}` | {case} |", mutant.place());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::mutants::mutants;

    #[test]
    fn the_page_is_the_lists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let there = fs::read_to_string(root.join(PATH)).unwrap();
        assert_eq!(there, page(&mutants().unwrap()), "cargo run -p weft-integration --bin mutants -- --page");
    }
}
