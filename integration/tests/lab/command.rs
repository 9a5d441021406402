//! `weft lab`, used as people use it: labs come up, hold what they say, break as they say, are mended, and leave nothing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use libtest_mimic::Trial;
use weft::{
    lab::{
        builtin::{Builtin, LABS},
        running::{self, RunningLab},
    },
    sys::netns,
};
use weft_integration::{
    Needs,
    labs::Up,
    trial,
    weft::{PATIENCE, binary},
};

use crate::{
    by_hand::of_the_guide,
    full_kernel::{COMES_UP, FAULTS_BREAK, of_lab},
};

/// What the labs' own programs and checks need.
pub(crate) const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["ping", "ip", "bridge", "nft", "tc", "sysctl"]);

pub(crate) fn tests() -> Vec<Trial> {
    let mut trials = vec![
        trial("a_lab_is_used_as_the_guide_says", NEEDS, used_as_the_guide_says),
        trial("what_was_killed_while_it_built_can_be_taken_down", NEEDS, killed_while_building),
        trial("an_interrupted_lab_takes_itself_away", NEEDS, interrupted),
        trial("labs_and_files_that_are_not_there_are_named", NEEDS, mistakes_are_named),
        trial("the_lab_of_the_guide_works", NEEDS, of_the_guide),
        trial("without_root_a_lab_says_what_it_lacks", NEEDS, without_root),
    ];
    for lab in LABS {
        trials.push(of_lab(lab, COMES_UP, comes_up_and_goes));
        trials.push(of_lab(lab, FAULTS_BREAK, faults_break));
    }
    trials
}

fn weft(words: &str) -> anyhow::Result<Output> {
    Ok(Command::new(binary()?).args(words.split_whitespace()).output()?)
}

fn says(words: &str) -> anyhow::Result<String> {
    let output = weft(words)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "weft {words}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// The code and what was said on standard error, without the frame that miette draws.
pub(crate) fn complains(words: &str) -> anyhow::Result<(Option<i32>, String)> {
    let output = weft(words)?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Whatever could be left of a lab.
fn traces(name: &str) -> anyhow::Result<Vec<String>> {
    let mut traces: Vec<String> =
        netns::names()?.into_iter().filter(|namespace| namespace.starts_with(&format!("weft.{name}."))).collect();
    traces.extend(running::folder(name).exists().then(|| running::folder(name).display().to_string()));
    for entry in fs::read_dir("/proc")?.flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&format!("/labs/{name}/")) {
            traces.push(line);
        }
    }
    Ok(traces)
}

pub(crate) fn leaves_nothing(name: &str) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let left = traces(name)?;
        if left.is_empty() {
            return Ok(());
        }
        // What was killed a moment ago may still be on its way out.
        ensure!(Instant::now() < end, "left behind: {left:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What the namespace that the tests run in has of interfaces and rules.
fn own_namespace() -> anyhow::Result<(BTreeSet<String>, String)> {
    let links = Command::new("ip").args(["-o", "link"]).output()?;
    let links = String::from_utf8_lossy(&links.stdout)
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .map(str::to_owned)
        .collect();
    let rules = Command::new("nft").args(["list", "ruleset"]).output()?;
    Ok((links, String::from_utf8_lossy(&rules.stdout).into_owned()))
}

fn comes_up_and_goes(lab: &'static Builtin) -> anyhow::Result<()> {
    let before = own_namespace()?;
    let (up, running) = Up::start(lab)?;
    holds(&running).context(lab.file)?;
    let started = Instant::now();
    running::down(&up.name)?;
    println!("{}: down in {:.3} s", lab.file, started.elapsed().as_secs_f64());
    leaves_nothing(&up.name)?;
    ensure!(own_namespace()? == before, "the namespace around it is not as it was");
    Ok(())
}

/// Each in a lab of its own, all at once: they mostly wait for answers that don't come.
fn faults_break(lab: &'static Builtin) -> anyhow::Result<()> {
    let topology = lab.topology()?;
    thread::scope(|scope| {
        let tried: Vec<_> =
            topology.faults.iter().map(|fault| (fault, scope.spawn(|| fault_breaks(lab, &fault.name)))).collect();
        let mut wrong = Vec::new();
        for (fault, tried) in tried {
            if let Err(error) = tried.join().unwrap() {
                wrong.push(format!("{} {}: {error:#}", lab.file, fault.name));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

fn fault_breaks(lab: &Builtin, fault: &str) -> anyhow::Result<()> {
    let (_up, mut running) = Up::start(lab)?;
    holds(&running).context("before")?;
    running.inject(fault)?;
    let results = running.check_all()?;
    ensure!(results.iter().any(|result| !result.holds), "nothing fails: {results:#?}");
    ensure!(running.broken()? == [fault]);
    running.mend(Some(fault)).context("mending")?;
    holds(&running).context("after it was mended")
}

/// A check tries for some seconds; a machine that is busy with everything else may need longer.
pub(crate) fn holds(running: &RunningLab) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let wrong: Vec<_> = running.check_all()?.into_iter().filter(|result| !result.holds).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{wrong:#?}");
    }
}

fn used_as_the_guide_says() -> anyhow::Result<()> {
    let up = Up::named("guide");
    let name = &up.name;
    ensure!(says("lab list")?.contains("two namespaces and a cable between them"));
    ensure!(says(&format!("lab up minimal --name {name}"))?.contains("┌ left"));
    ensure!(says("lab list")?.contains(name.as_str()));
    let shown = says(&format!("lab show {name}"))?;
    ensure!(shown.contains(&format!("weft.{name}.left")) && shown.contains("Can be broken"), "{shown}");
    ensure!(says(&format!("lab check {name}"))?.lines().filter(|line| line.starts_with("ok ")).count() == 3);
    ensure!(says(&format!("lab exec {name} left -- ip -br address"))?.contains("10.10.0.1/24"));
    ensure!(weft(&format!("lab exec {name} left -- false"))?.status.code() == Some(1));
    let (code, said) = complains(&format!("lab up minimal --name {name}"))?;
    ensure!(code == Some(1) && said.contains("is up: take it down"), "{said}");
    ensure!(says(&format!("lab break {name}"))?.contains("link-down"));
    says(&format!("lab break {name} link-down"))?;
    ensure!(weft(&format!("lab check {name}"))?.status.code() == Some(1));
    let (code, said) = complains(&format!("lab break {name} link-down"))?;
    ensure!(code == Some(1) && said.contains("already"), "{said}");
    // With another one on top, the first is mended and the other stays.
    says(&format!("lab break {name} echo-ignored"))?;
    ensure!(says(&format!("lab mend {name} link-down"))?.contains("mended: link-down"));
    ensure!(weft(&format!("lab check {name}"))?.status.code() == Some(1));
    ensure!(says(&format!("lab break {name} --mend"))?.contains("mended: echo-ignored"));
    says(&format!("lab check {name}"))?;
    let svg = std::env::temp_dir().join(format!("{name}.svg"));
    says(&format!("lab show {name} --svg {}", svg.display()))?;
    let drawn = fs::read_to_string(&svg)?;
    fs::remove_file(&svg)?;
    ensure!(drawn.starts_with("<svg"));
    says(&format!("lab down {name}"))?;
    leaves_nothing(name)?;
    let (code, said) = complains(&format!("lab down {name}"))?;
    ensure!(code == Some(1) && said.contains("no lab named"), "{said}");
    Ok(())
}

/// Killed at different moments, with and without a weft that had been started.
fn killed_while_building() -> anyhow::Result<()> {
    let mut half_built = 0;
    for (round, wait) in [0, 5, 10, 20, 40, 80, 120, 160].into_iter().enumerate() {
        let up = Up::named("killed");
        let mut command = Command::new(binary()?);
        let datapath = if round % 2 == 0 { "kernel" } else { "weft" };
        command.args(["lab", "up", "bridge", "--name", &up.name, "--datapath", datapath]);
        let mut child = command.stdout(Stdio::null()).spawn()?;
        let begun = Instant::now();
        while !running::folder(&up.name).exists() && begun.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(wait));
        child.kill()?;
        child.wait()?;
        let found = running::list()?.into_iter().find(|found| found.name == up.name);
        let found = found.context("what is left of it is listed")?;
        if !found.whole {
            half_built += 1;
            let (code, said) = complains(&format!("lab check {}", up.name))?;
            ensure!(code == Some(1) && said.contains("never built to its end"), "{said}");
        }
        says(&format!("lab down {}", up.name))?;
        leaves_nothing(&up.name)?;
    }
    ensure!(half_built > 0, "none was killed in time");
    Ok(())
}

/// By SIGINT, as Ctrl-C sends it.
fn interrupted() -> anyhow::Result<()> {
    let mut gone = 0;
    for wait in [0, 10, 30] {
        let up = Up::named("stopped");
        let mut command = Command::new(binary()?);
        command.args(["lab", "up", "routed", "--name", &up.name]).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn()?;
        let begun = Instant::now();
        while !running::folder(&up.name).exists() && begun.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(wait));
        ensure!(Command::new("kill").args(["-INT", &child.id().to_string()]).status()?.success());
        let output = child.wait_with_output()?;
        if output.status.success() {
            // It was faster.
            running::down(&up.name)?;
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(1) && said.contains("was given up"), "{}: {said}", output.status);
            gone += 1;
        }
        leaves_nothing(&up.name)?;
    }
    ensure!(gone > 0, "it was up each time before the signal came");
    Ok(())
}

fn mistakes_are_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("mine.toml");
    let expect = |words: &str, code: i32, pieces: &[&str]| {
        let (found, said) = complains(words)?;
        ensure!(
            found == Some(code) && pieces.iter().all(|piece| said.contains(piece)),
            "weft {words}: {found:?}\n{said}"
        );
        Ok(())
    };
    expect("lab up minmal", 2, &["there is no lab minmal", "minimal"])?;
    expect("lab up minimal --name No.Dots", 2, &["can't name a lab", "a-z"])?;
    expect("lab check nobody", 1, &["no lab named nobody is up"])?;
    expect("lab up minimal --datapath weft", 2, &["no such datapath"])?;
    fs::write(&file, "name = \"mine\"\ntitle = \"t\"\ntext = \"t\"\n[[host]]\nname = \"a\"\nadress = 1\n")?;
    expect(&format!("lab up {}", file.display()), 2, &["mine.toml:6:1", "no key `adress`"])?;
    Ok(())
}

/// As nobody, in a copy of the program that nobody may run.
fn without_root() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let program: PathBuf = folder.path().join("weft");
    fs::copy(binary()?, &program)?;
    let mut command = Command::new(Path::new(&program));
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    let output = command.args(["lab", "up", "minimal", "--name", "never"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(2) || !said.contains("CAP_NET_ADMIN") || !said.contains("run it as root") {
        bail!("{}: {said}", output.status);
    }
    Ok(())
}
