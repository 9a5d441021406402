//! Labs that are up: found again from their namespaces, whoever built them and whatever became of that process.
//!
//! A lab's namespaces are named `weft.LAB.HOST` under `/run/netns`; that is enough to take it down. What else is known
//! of it lies in `/run/weft/labs/LAB`: the file it was built from (`lab.toml`), what was broken and how it is mended
//! (`broken.json`), and configuration, control socket and log of its wefts. Its programs run inside its namespaces, by
//! which they are found. So nothing has to go on running while a lab is up, and what a crash leaves half built can be
//! taken down like everything else. Whoever changes a lab holds a lock on its folder meanwhile.

mod check;
mod fault;
pub(super) mod programs;
pub(super) mod switches;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::fs::FlockOperation;

pub use self::{check::CheckResult, switches::socket as weft_socket};
use super::{
    LabError, Namespace,
    build::{Site, Step, plan, script},
    builtin::missing,
    kill_processes,
    topology::{NAME_RULE, Pair, Topology, is_name},
    weft_config::{PREFIX, namespace_name},
};
use crate::{
    control::config::ConfigErrors,
    sys::netns::{self, Netns},
};

/// How long a program of a lab may take to start or end on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The file that a lab was built from.
const TOPOLOGY: &str = "lab.toml";
/// That the lab is not whole yet.
const BUILDING: &str = "building";

/// A lab that is up.
#[derive(Debug)]
pub struct RunningLab {
    name: String,
    topology: Topology,
    site: Site,
}

/// A lab as `weft lab list` shows it.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its hosts, as far as they have namespaces.
    pub hosts: Vec<String>,
    /// Faults that were put in and not mended.
    pub broken: Vec<String>,
    /// Whether it was built to its end.
    pub whole: bool,
}

/// Why a lab is not up, or not to be had.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A lab of this name is there.
    #[error(
        "a lab named {0} is up: take it down with `weft lab down {0}`, or give this one a name of its own with --name"
    )]
    Taken(String),
    /// There is none of this name.
    #[error("no lab named {0} is up: `weft lab list` shows those that are")]
    NotUp(String),
    /// It was never built to its end.
    #[error("the lab {0} was never built to its end: take it down with `weft lab down {0}`")]
    HalfBuilt(String),
    /// A name that can't be a lab's.
    #[error("{0:?} can't name a lab: {NAME_RULE}")]
    Name(String),
    /// The kernel has no such thing.
    #[error("this kernel has no {}", .0.join(", and no "))]
    Kernel(Vec<&'static str>),
    /// It was given up.
    #[error("the lab {0} was given up, and what was there of it is gone")]
    Stopped(String),
    /// The file of a lab that is up is no longer understood.
    #[error("the lab's file is not understood")]
    File(#[from] ConfigErrors),
    /// A step failed.
    #[error(transparent)]
    Lab(#[from] LabError),
}

impl RunningLab {
    /// Builds a lab of this name from a file's text. If a step fails, what was built is taken away again.
    ///
    /// `weft` is the program that its wefts run: this very one for `weft lab`.
    ///
    /// # Errors
    /// The name is taken, the kernel lacks something, the text is wrong, or a step fails.
    pub fn up(name: &str, file: &str, text: &str, weft: &Path) -> Result<Self, UpError> {
        Self::up_unless(&AtomicBool::new(false), name, file, text, weft)
    }

    /// The same, given up and taken away again between two steps as soon as `stopped` is set.
    ///
    /// # Errors
    /// As [`RunningLab::up`], and [`UpError::Stopped`].
    pub fn up_unless(stopped: &AtomicBool, name: &str, file: &str, text: &str, weft: &Path) -> Result<Self, UpError> {
        if !is_name(name) {
            return Err(UpError::Name(name.to_owned()));
        }
        let topology = Topology::parse(file, text)?;
        let lacks = missing(&topology.needs);
        if !lacks.is_empty() {
            return Err(UpError::Kernel(lacks));
        }
        let folder = folder(name);
        fs::create_dir_all(LABS).map_err(|error| LabError::step(format!("make folder {LABS}"), error))?;
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(UpError::Taken(name.to_owned())),
            made => made.map_err(|error| LabError::step(format!("make folder {}", folder.display()), error))?,
        }
        let _lock = lock(name)?;
        if !hosts(name)?.is_empty() {
            remove_folder(&folder)?;
            return Err(UpError::Taken(name.to_owned()));
        }
        let mut site = Site::empty(name, weft);
        let mut build = || -> Result<(), UpError> {
            write(&folder.join(BUILDING), "")?;
            write(&folder.join(TOPOLOGY), text)?;
            for step in plan(&topology, name)? {
                if stopped.load(Ordering::Relaxed) {
                    return Err(UpError::Stopped(name.to_owned()));
                }
                site.apply(&step)?;
            }
            fs::remove_file(folder.join(BUILDING)).map_err(|error| LabError::step("finish the lab", error).into())
        };
        if let Err(error) = build() {
            if let Err(left) = remove(name) {
                tracing::warn!(error = &left as &dyn std::error::Error, "a lab could not be removed whole");
            }
            return Err(error);
        }
        Ok(Self { name: name.to_owned(), topology, site })
    }

    /// The lab of this name, which is up.
    ///
    /// # Errors
    /// There is none, or it was never built to its end.
    pub fn find(name: &str, weft: &Path) -> Result<Self, UpError> {
        let folder = folder(name);
        if !is_name(name) || (!folder.exists() && hosts(name)?.is_empty()) {
            return Err(UpError::NotUp(name.to_owned()));
        }
        if folder.join(BUILDING).exists() || !folder.join(TOPOLOGY).exists() {
            return Err(UpError::HalfBuilt(name.to_owned()));
        }
        let topology = Topology::load(&folder.join(TOPOLOGY))?;
        let site = Site::of(name, weft, topology.hosts.iter().map(|host| host.name.as_str()))?;
        Ok(Self { name: name.to_owned(), topology, site })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was built from.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A host's namespace.
    ///
    /// # Errors
    /// The lab has no such host.
    pub fn host(&self, name: &str) -> Result<&Namespace, LabError> {
        self.site.host(name)
    }

    /// Who must reach whom.
    pub fn pairs(&self) -> Vec<Pair> {
        self.topology.pairs()
    }
}

/// What a lab that is up was built from.
///
/// # Errors
/// There is no such lab, or its file is not understood.
pub fn topology(name: &str) -> Result<Topology, UpError> {
    let file = folder(name).join(TOPOLOGY);
    if !is_name(name) || !file.exists() {
        return Err(UpError::NotUp(name.to_owned()));
    }
    Ok(Topology::load(&file)?)
}

/// All labs that are up, or half built, in the order of their names.
///
/// # Errors
/// `/run` can't be read.
pub fn list() -> Result<Vec<Found>, LabError> {
    let mut names: Vec<String> = Vec::new();
    for namespace in namespaces()? {
        if let Some((lab, _)) = namespace.strip_prefix(PREFIX).and_then(|name| name.split_once('.')) {
            names.push(lab.to_owned());
        }
    }
    if let Ok(folders) = fs::read_dir(LABS) {
        names.extend(folders.flatten().filter_map(|entry| entry.file_name().into_string().ok()));
    }
    names.sort();
    names.dedup();
    let found = |name: String| {
        let folder = folder(&name);
        let broken = fault::broken(&name)?.into_iter().map(|broken| broken.fault).collect();
        let whole = folder.join(TOPOLOGY).exists() && !folder.join(BUILDING).exists();
        Ok(Found { hosts: hosts(&name)?, broken, whole, name })
    };
    names.into_iter().map(found).collect()
}

/// Takes a lab away, half built or whole: its programs, its namespaces with all that is in them, its folder.
///
/// # Errors
/// There is no such lab, or the first thing that could not be removed; the rest is removed nevertheless.
pub fn down(name: &str) -> Result<(), UpError> {
    if !is_name(name) || (!folder(name).exists() && hosts(name)?.is_empty()) {
        return Err(UpError::NotUp(name.to_owned()));
    }
    // Without its folder nobody can be building it.
    let _lock = folder(name).exists().then(|| lock(name)).transpose()?;
    Ok(remove(name)?)
}

/// The commands that build a lab of this name by hand.
///
/// # Errors
/// Its parts can't be put together.
pub fn commands(topology: &Topology, name: &str) -> Result<String, LabError> {
    let steps: Vec<Step> = plan(topology, name)?;
    Ok(script(name, &steps))
}

/// Where labs have their folders.
const LABS: &str = "/run/weft/labs";

/// The folder of a lab.
pub fn folder(lab: &str) -> PathBuf {
    Path::new(LABS).join(lab)
}

/// A host of a lab that is up.
pub(super) fn namespace(lab: &str, host: &str) -> Result<Namespace, LabError> {
    let full_name = namespace_name(lab, host);
    let netns =
        Netns::named(&full_name).map_err(|error| LabError::step(format!("open host {host} of {lab}"), error))?;
    Ok(Namespace::new(host, &full_name, netns, Weak::new()))
}

fn namespaces() -> Result<Vec<String>, LabError> {
    netns::names().map_err(|error| LabError::step("look for labs", error))
}

/// The hosts of a lab that have names under `/run/netns`.
fn hosts(lab: &str) -> Result<Vec<String>, LabError> {
    let prefix = namespace_name(lab, "");
    let mut hosts: Vec<_> =
        namespaces()?.iter().filter_map(|name| Some(name.strip_prefix(&prefix)?.to_owned())).collect();
    hosts.sort();
    Ok(hosts)
}

fn remove(lab: &str) -> Result<(), LabError> {
    let mut outcome = Ok(());
    for host in hosts(lab)? {
        let full_name = namespace_name(lab, &host);
        // A plain file in place of a namespace: whoever made it was killed before it mounted one there.
        if let Ok(netns) = Netns::named(&full_name) {
            kill_processes(&netns);
        }
        let removed = netns::remove_name(&full_name);
        let removed = removed.map_err(|error| LabError::step(format!("remove namespace {full_name}"), error));
        outcome = outcome.and(removed);
    }
    let removed = remove_folder(&folder(lab));
    outcome.and(removed)
}

fn remove_folder(folder: &Path) -> Result<(), LabError> {
    super::remove_folder(folder)?;
    // The last one takes the folder of all labs with it; while others are there that is refused.
    let _ = fs::remove_dir(LABS);
    Ok(())
}

/// Waits until nobody else changes the lab, and keeps others waiting while the file is open.
fn lock(lab: &str) -> Result<File, LabError> {
    let failed = |error| LabError::step(format!("lock the lab {lab}"), error);
    let file = File::open(folder(lab)).map_err(failed)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    Ok(file)
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(|error| LabError::step(format!("write {}", path.display()), error))
}
