//! `cargo run -p weft-integration --bin mutants`: see `switch/docs/mutants.md`.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, ensure};
use clap::Parser;
use weft_integration::mutants::{
    Mutant, mutants,
    page::{self, page},
    run::{Outcome, nobody_is_awake, on_the_full_kernel, wake},
    tree,
};

/// Makes weft wrong on purpose, in one way at a time, and sees whether weft compare shows it
#[derive(Parser)]
struct Arguments {
    /// Only these mutants
    #[arg(value_name = "MUTANT")]
    names: Vec<String>,
    /// Run the whole catalogue with each, not its own case alone
    #[arg(long)]
    all: bool,
    /// Run those whose case this kernel can't run on Debian's, in an emulated machine
    #[arg(long)]
    full_kernel: bool,
    /// Take this weft, which has the mutants already, and build none
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Only write the page in the docs
    #[arg(long)]
    page: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every mutant was caught.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate has no project around it")?;
    let all = mutants()?;
    if arguments.page {
        fs::write(root.join(page::PATH), page(&all))?;
        return Ok(true);
    }
    let unknown: Vec<_> =
        arguments.names.iter().filter(|name| all.iter().all(|mutant| mutant.name != **name)).collect();
    ensure!(unknown.is_empty(), "no mutants have these names: {unknown:?}");
    let chosen = |mutant: &&Mutant| arguments.names.is_empty() || arguments.names.contains(&mutant.name);
    let mutants: Vec<_> = all.iter().filter(chosen).cloned().collect();

    let started = Instant::now();
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => {
            let tree = root.join("target/mutants");
            // All of them, whichever are run: so the next run need not build it again.
            tree::make(root, &tree, &all)?;
            let this = env::current_exe()?;
            let binary = tree::build(&tree, this.parent().unwrap_or(&this))?;
            say(&format!("{} mutants built in {} s", all.len(), started.elapsed().as_secs()))?;
            nobody_is_awake(&binary)?;
            say("without a mutant nothing differs")?;
            binary
        }
    };
    let (mut caught, mut survived, mut elsewhere) = (0, 0, Vec::new());
    let mut failed = Ok(());
    wake(&binary, &mutants, arguments.all, |mutant, outcome| {
        match outcome {
            Outcome::Caught(_) | Outcome::CaughtBesideOvs => caught += 1,
            Outcome::Survived(_) => survived += 1,
            Outcome::NotHere(_) => elsewhere.push(mutant.name.clone()),
        }
        if failed.is_ok() {
            failed = say(&line(mutant, outcome));
        }
    })?;
    failed?;
    let seconds = started.elapsed().as_secs();
    say(&format!("\n{caught} caught, {survived} survived, {} not run here, in {seconds} s", elsewhere.len()))?;
    let mut is_well = survived == 0;
    if arguments.full_kernel && !elsewhere.is_empty() {
        let binary = ["--binary".to_owned(), binary.display().to_string()];
        is_well &= on_the_full_kernel(root, &[&binary[..], &elsewhere].concat())?;
    } else if arguments.binary.is_some() {
        // There is no other kernel to go to.
        is_well &= elsewhere.is_empty();
    }
    Ok(is_well)
}

fn line(mutant: &Mutant, outcome: &Outcome) -> String {
    let Mutant { name, wrong, case, .. } = mutant;
    let what = format!("{name:22} {wrong}");
    match outcome {
        Outcome::Caught(0) => format!("caught    {what}\n          by {case:?}"),
        Outcome::Caught(others) => format!("caught    {what}\n          by {case:?} and {others} more"),
        Outcome::CaughtBesideOvs => format!("caught    {what}\n          by {case:?}, beside Open vSwitch"),
        Outcome::Survived(survivor) if survivor.others.is_empty() => {
            format!("SURVIVED  {what}\n          {case:?} is {}", survivor.verdict)
        }
        Outcome::Survived(survivor) => {
            let others = survivor.others.join("\n            ");
            format!(
                "SURVIVED  {what}\n          {case:?} is {}, but it shows in\n            {others}",
                survivor.verdict
            )
        }
        Outcome::NotHere(why) => format!("not here  {what}\n          {why}"),
    }
}

/// A reader that has enough is no error.
fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
