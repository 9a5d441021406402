//! The wefts of a lab: each runs in its host's namespace, with configuration, control socket and log in the lab's folder,
//! and goes on when the command that started it has ended.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{PATIENCE, folder, programs, write};
use crate::lab::{LabError, Namespace};

/// What it logs when its ports are there with their addresses.
const READY: &str = "weft runs";

/// The control socket of a host's weft.
pub fn socket(lab: &str, host: &str) -> PathBuf {
    folder(lab).join(format!("{host}.sock"))
}

/// Starts a host's weft in place of one that runs there, and waits until it forwards.
pub(in crate::lab) fn start(lab: &str, host: &Namespace, program: &Path, config: &str) -> Result<(), LabError> {
    stop(lab, host)?;
    let file = folder(lab).join(format!("{}.toml", host.name()));
    let log = folder(lab).join(format!("{}.log", host.name()));
    let socket = socket(lab, host.name());
    write(&file, config)?;
    let failed = |error| LabError::step(format!("start weft in {}", host.name()), error);
    let written = File::create(&log).map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("run").arg(&file).arg("--socket").arg(&socket).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(written).process_group(0);
    let mut child = host.netns().within(|| command.spawn()).and_then(|spawned| spawned).map_err(failed)?;
    let begun = Instant::now();
    loop {
        let said = fs::read_to_string(&log).unwrap_or_default();
        if said.contains(READY) {
            break;
        }
        let ended = child.try_wait().map_err(failed)?;
        if ended.is_some() || begun.elapsed() > PATIENCE {
            let how = ended.map_or_else(|| "it is not ready".to_owned(), |status| status.to_string());
            return Err(LabError::Program {
                command: "weft run".to_owned(),
                namespace: host.name().to_owned(),
                what: format!("{how}\n{}", said.trim_end()),
            });
        }
        thread::sleep(Duration::from_millis(5));
    }
    programs::let_go(child);
    Ok(())
}

/// Ends a host's weft, if one runs, and waits until it is gone.
pub(in crate::lab) fn stop(lab: &str, host: &Namespace) -> Result<(), LabError> {
    let file = folder(lab).join(format!("{}.toml", host.name()));
    programs::end(host, |arguments| arguments.iter().any(|argument| Path::new(argument) == file))?;
    match fs::remove_file(socket(lab, host.name())) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::step(format!("remove the socket of the weft of {}", host.name()), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
