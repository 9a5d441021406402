//! A copy of the sources with every mutant in it, asleep.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

use super::{
    VARIABLE,
    list::{Found, Mutant},
};

/// What of the project is copied: all of its crates, since cargo reads them all.
const PARTS: [&str; 6] = ["Cargo.toml", "Cargo.lock", "vxlan", "switch", "bench", "integration"];
/// The copy's program has a name of its own, so that it can lie beside the real one.
const PROGRAM: &str = "weft-mutants";
/// What its version has behind it. What cargo builds goes by name and version, not by where it was built from.
const VERSION: &str = "-mutants";
/// The crate that all others know has the question that mutants ask.
const ROOT_MODULE: &str = "vxlan/src/lib.rs";

/// The bytes of files by their paths from the top of the project.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Copies the project at `root` to `folder` and puts the mutants in. What is there already as it should be is left as it is, so
/// that it need not be built again.
///
/// # Errors
/// A mutant is not in the sources, two of them are in each other's way, or a file can't be read or written.
pub fn make(root: &Path, folder: &Path, mutants: &[Mutant]) -> anyhow::Result<()> {
    let mut files = Files::new();
    for part in PARTS {
        read(root, Path::new(part), &mut files)?;
    }
    let mut by_file: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    mutants.iter().for_each(|mutant| by_file.entry(&mutant.file).or_default().push(mutant));
    for (file, mutants) in by_file {
        let asks = if file.starts_with("vxlan/") { "crate::mutant" } else { "weft_vxlan::mutant" };
        change(&mut files, file, |text| mutate(text, &mutants, asks))?;
    }
    change(&mut files, ROOT_MODULE, |text| Ok(format!("{text}{}", question())))?;
    change(&mut files, "switch/Cargo.toml", |text| {
        let text = text.replacen("[package]\n", "[package]\nautobins = false\n", 1);
        Ok(format!("{text}\n[[bin]]\nname = \"{PROGRAM}\"\npath = \"src/main.rs\"\n"))
    })?;
    change(&mut files, "Cargo.toml", |text| Ok(other_version(text, "[workspace.package]\n")))?;
    change(&mut files, "Cargo.lock", |text| Ok(other_version(text, "[[package]]\nname = \"weft")))?;
    // What was moved in the sources would be there twice.
    let mut there = Files::new();
    if folder.exists() {
        read(folder, Path::new(""), &mut there)?;
    }
    for path in there.keys().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(folder.join(path)).with_context(|| format!("remove {}", folder.join(path).display()))?;
    }
    for (path, bytes) in files.iter().filter(|(path, bytes)| there.get(*path) != Some(*bytes)) {
        write(&folder.join(path), bytes)?;
    }
    Ok(())
}

/// The manifest, or the list of packages, with another version in each table that begins so.
fn other_version(text: &str, table: &str) -> String {
    let mut tables = text.split(table);
    let first = tables.next().unwrap_or_default().to_owned();
    tables.fold(first, |text, rest| {
        let (begin, end) = rest.split_once("version = \"").unwrap_or((rest, ""));
        let (version, end) = end.split_once('"').unwrap_or(("", end));
        format!("{text}{table}{begin}version = \"{version}{VERSION}\"{end}")
    })
}

/// Builds the copy's `weft` among what was built of the project in `target`, such as `target/debug`, with whose profile and
/// dependencies; says where it is.
///
/// # Errors
/// It can't be built; the message is the compiler's.
pub fn build(tree: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--bin", PROGRAM, "--target-dir"]);
    cargo.arg(target.parent().unwrap_or(target)).args((!cfg!(debug_assertions)).then_some("--release"));
    let output = cargo.current_dir(tree).stdin(Stdio::null()).output().context("cargo can't be started")?;
    ensure!(output.status.success(), "the mutants can't be built:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(target.join(PROGRAM))
}

/// Reads `root/part` and everything below it.
fn read(root: &Path, part: &Path, files: &mut Files) -> anyhow::Result<()> {
    let from = root.join(part);
    let failed = || format!("read {}", from.display());
    if from.is_dir() {
        for entry in fs::read_dir(&from).with_context(failed)? {
            read(root, &part.join(entry.with_context(failed)?.file_name()), files)?;
        }
    } else {
        files.insert(part.into(), fs::read(&from).with_context(failed)?);
    }
    Ok(())
}

fn change(files: &mut Files, path: &str, to: impl FnOnce(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
    let bytes = files.get_mut(Path::new(path)).with_context(|| format!("there is no {path}"))?;
    *bytes = to(std::str::from_utf8(bytes).context(path.to_owned())?)?.into_bytes();
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(failed)?;
    fs::write(path, bytes).with_context(failed)
}

/// The text of a file with its mutants in it. A function that has one is no longer `const`: it asks.
fn mutate(text: &str, mutants: &[&Mutant], asks: &str) -> anyhow::Result<String> {
    let mut places: Vec<(Found, Vec<&Mutant>)> = Vec::new();
    for mutant in mutants {
        let found = mutant.find(text)?;
        match places.iter_mut().find(|(other, _)| *other == found) {
            Some((_, here)) => here.push(mutant),
            None => places.push((found, vec![mutant])),
        }
    }
    places.sort_by_key(|(found, _)| found.expression.start);
    for pair in places.windows(2) {
        if let [(one, here), (other, there)] = pair
            && one.expression.end > other.expression.start
        {
            bail!("the mutants {} and {} are in each other's way", here[0].name, there[0].name);
        }
    }
    let mut changes: Vec<_> =
        places.iter().map(|(found, here)| (found.expression.clone(), woken(text, found, here, asks))).collect();
    for (found, _) in &places {
        let head = &text[found.function.clone()];
        let head = &head[..head.find("fn ").unwrap_or(0)];
        if let Some(at) = head.find("const ") {
            let begin = found.function.start + at;
            let change = (begin..begin + "const ".len(), String::new());
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
    }
    changes.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut text = text.to_owned();
    for (range, new) in changes {
        text.replace_range(range, &new);
    }
    Ok(text)
}

/// The expression that asks which of the mutants here is awake.
fn woken(text: &str, found: &Found, here: &[&Mutant], asks: &str) -> String {
    let question = |mutant: &&Mutant| format!("if {asks}({:?}) {{ {} }} else ", mutant.name, mutant.instead);
    let questions: String = here.iter().map(question).collect();
    format!("({questions}{{ {} }})", &text[found.expression.clone()])
}

/// The function that mutants ask.
fn question() -> String {
    format!(
        r#"
/// Whether the mutant of this name is awake.
#[doc(hidden)]
pub fn mutant(name: &str) -> bool {{
    static AWAKE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    AWAKE.get_or_init(|| std::env::var({VARIABLE:?}).ok()).as_deref() == Some(name)
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str, code: &str, instead: &str) -> Mutant {
        let words = |word: &str| word.to_owned();
        let (wrong, file, case) = (words(""), words("a.rs"), words(""));
        let (name, function) = (words(name), words("may"));
        Mutant { name, wrong, file, function, code: words(code), instead: words(instead), case }
    }

    const TEXT: &str = "const fn may(a: bool) -> bool {\n    a && !b\n}\n";

    #[test]
    fn an_expression_asks_which_mutant_is_awake() {
        let one = mutant("one", "«a» && !b", "true");
        let another = mutant("another", "«a» && !b", "false");
        let third = mutant("third", "!b", "b");
        let changed = mutate(TEXT, &[&third, &one, &another], "ask").unwrap();
        let a = r#"(if ask("one") { true } else if ask("another") { false } else { a })"#;
        let b = r#"(if ask("third") { b } else { !b })"#;
        assert_eq!(changed, format!("fn may(a: bool) -> bool {{\n    {a} && {b}\n}}\n"));
    }

    #[test]
    fn two_that_overlap_are_refused() {
        let (one, other) = (mutant("one", "a && !b", "true"), mutant("other", "!b", "true"));
        let error = mutate(TEXT, &[&one, &other], "ask").unwrap_err().to_string();
        assert!(error.contains("one and other are in each other's way"), "{error}");
    }

    #[test]
    fn every_crate_of_the_copy_has_another_version() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0\"\n\n[[package]]\nname = \"weft\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"weft-vxlan\"\nversion = \"0.1.0\"\n";
        let other = other_version(lock, "[[package]]\nname = \"weft");
        assert_eq!(other, lock.replace("0.1.0", "0.1.0-mutants"));
    }

    #[test]
    fn the_copy_has_them_and_the_sources_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mutants = crate::mutants::mutants().unwrap();
        make(root, folder.path(), &mutants).unwrap();
        for mutant in &mutants {
            let asks = format!("mutant({:?})", mutant.name);
            assert!(fs::read_to_string(folder.path().join(&mutant.file)).unwrap().contains(&asks), "{}", mutant.name);
            assert!(!mutant.read(root).unwrap().contains(&asks));
        }
    }
}
