//! `cargo run --release -p weft-bench --bin side_by_side`: see `bench/README.md`.

use std::process::ExitCode;

use clap::Parser;
use weft_bench::side_by_side::{Options, run};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("side_by_side: {error:#}");
            ExitCode::FAILURE
        }
    }
}
