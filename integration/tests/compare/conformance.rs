//! The conformance table: `switch/docs/conformance.md` is what both catalogues show, on the running kernel and on Debian's own in an
//! emulated machine (`integration/full-kernel/run`), which can do what the running one lacks.
//!
//! The emulated machine runs the cases that show something of the table, and those that were not run here: one boot for both
//! catalogues. Nothing in the page varies from run to run.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use weft::compare::report::{CaseResult, Results};
use weft_integration::weft::binary;

use crate::{KINDS, compare, differing, on_this_kernel};

/// What releases of the running kernel's column begin with.
pub(crate) const KERNEL: &str = "6.18.";
/// How much longer cases wait in the emulated machine.
const SLOW: &str = "5";
/// How long it may take, in seconds.
const PATIENCE: &str = "1800";

pub(crate) fn page_is_what_both_kernels_show() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut files = Vec::new();
    for kind in KINDS {
        let results = on_this_kernel(kind)?;
        let names: Vec<_> =
            results.cases.iter().filter(|case| is_wanted(case)).map(|case| case.name.as_str()).collect();
        fs::write(folder.path().join(format!("{kind}.names")), names.join("\n"))?;
        files.push(folder.path().join(format!("here-{kind}.json")));
        fs::write(&files[files.len() - 1], serde_json::to_string(&results)?)?;
    }
    files.extend(on_the_full_kernel(folder.path())?);
    let mut args = vec!["report".to_owned()];
    args.extend(files.iter().map(|file| file.display().to_string()));
    let output = compare(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    is_the_page(&String::from_utf8_lossy(&output.stdout))
}

fn is_wanted(case: &CaseResult) -> bool {
    !case.shows.is_empty() || case.verdict == "not run"
}

/// Runs the named cases of both catalogues there; the files of results.
fn on_the_full_kernel(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    const SCRIPT: &str = r#"for kind in bridge vxlan; do
        "$1" compare "$kind" --names "$2/$kind.names" --slow "$3" --json --save "$2" >"$2/there-$kind.json" || true
    done"#;
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("full-kernel/run");
    let mut command = Command::new(run);
    command.env("FULL_KERNEL_SECONDS", PATIENCE).arg("-w").arg(folder).args(["--", "bash", "-c", SCRIPT, "bash"]);
    command.arg(binary()?).arg(folder).arg(SLOW).stdin(Stdio::null());
    let output = command.output().context("full-kernel/run can't be started")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "on the full kernel: {}\n{said}", output.status);
    let mut files = Vec::new();
    for kind in KINDS {
        let file = folder.join(format!("there-{kind}.json"));
        let results: Results = serde_json::from_str(&fs::read_to_string(&file)?)
            .with_context(|| format!("weft compare {kind} on the full kernel said:\n{said}"))?;
        ensure!(results.summary.differs == 0, "on {}:\n{}", results.kernel, differing(&results));
        files.push(file);
    }
    Ok(files)
}

fn is_the_page(shown: &str) -> anyhow::Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../switch/docs/conformance.md");
    let committed = fs::read_to_string(&page)?;
    if committed == shown {
        return Ok(());
    }
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance.md");
    fs::write(&fresh, shown)?;
    let mut lines = Vec::new();
    let (old, new): (Vec<_>, Vec<_>) = (committed.lines().collect(), shown.lines().collect());
    lines.extend(old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}")));
    lines.extend(new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}")));
    bail!(
        "switch/docs/conformance.md is not what both kernels show. If that is as it should be, commit {} in its place.\n{}",
        fresh.display(),
        lines.join("\n")
    )
}
