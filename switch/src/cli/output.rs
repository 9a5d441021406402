//! Printing. A reader that has enough (`weft show fdb | head`) is no error.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

/// Prints text and a line's end on standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a value as JSON on standard output.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Prints text on standard error; if that is gone, nobody is there to be told.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
}
