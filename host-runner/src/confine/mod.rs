//! What this process may still do once it has begun: the kernel's own bars around the runner, below the sandbox.
//!
//! [`landlock`](https://docs.kernel.org/userspace-api/landlock.html) leaves the state directory to write in and the
//! host's configuration to read, nothing to execute and no TCP port to bind; a seccomp filter takes away starting
//! programs, listening, tracing other processes and the parts of the kernel that no runner needs. Neither can be
//! taken back. Programs are started by the [`launcher`](crate::launcher), which is split off before.
//!
//! *Must not know:* attempts, components. *Invariant:* a process that is to be confined is, or does not begin;
//! [`Confinement::WherePossible`] is the owner's word that a kernel without these bars is good enough.

mod files;
mod syscalls;
pub mod worker;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// Whether the runner begins on a kernel that cannot confine it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// It does not.
    #[default]
    Required,
    /// It does, with what there is.
    WherePossible,
}

/// Which files a process keeps.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Directories in which it makes, changes and removes files.
    pub write: Vec<PathBuf>,
    /// Files and directories that it reads.
    pub read: Vec<PathBuf>,
    /// Whether it connects to ports; it binds none.
    pub ports: Ports,
}

/// Which ports of TCP a process connects to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// None, on kernels that know how to bar them (Linux 6.7 and later).
    #[default]
    None,
    /// Any.
    All,
}

/// Why a process is not confined.
#[derive(Debug, thiserror::Error)]
pub enum CannotConfine {
    /// The kernel has no landlock.
    #[error(
        "the kernel does not confine files (landlock, Linux 5.13 and later, named in the boot parameter `lsm`): {0}; if this host is to do without, write `confinement = \"where-possible\"` into [runner]"
    )]
    Files(String),
    /// The kernel takes no filter.
    #[error(
        "the kernel takes no filter of system calls (seccomp): {0}; if this host is to do without, write `confinement = \"where-possible\"` into [runner]"
    )]
    Calls(String),
}

/// What every process reads: configuration of the host, its libraries, certificates, the resolver's files, its own state.
const HOST: &[&str] = &[
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/proc",
    "/sys",
    "/dev/null",
    "/dev/urandom",
    "/nix/store",
    "/run/systemd/resolve",
    "/var/lib/ca-certificates",
];

impl Reach {
    /// What the runner of `config` needs; `file` is its `runner.toml`, `more` what its environment names.
    pub fn of(config: &Config, file: &std::path::Path, more: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut read: Vec<PathBuf> = HOST.iter().map(PathBuf::from).collect();
        // Files are replaced by renaming another one into their place: it is the directory that has to stay readable.
        let beside = |path: &std::path::Path| path.parent().map(std::path::Path::to_owned);
        read.extend(beside(file));
        read.extend(beside(&config.runner.trust));
        read.extend(config.orchestrator.ca_file.as_deref().and_then(beside));
        let ceiling = &config.ceiling;
        read.extend(ceiling.http.iter().filter_map(|rule| rule.ca_file.as_deref().and_then(beside)));
        read.extend(ceiling.ssh.iter().filter_map(|rule| beside(&rule.known_hosts)));
        read.extend(ceiling.files.iter().map(|rule| rule.path.clone()));
        read.extend(config.providers.iter().flat_map(|provider| provider.reads()));
        read.extend(more);
        Self { write: vec![config.runner.state.clone()], read, ports: Ports::All }
    }
}

/// What this kernel has, for people: `Ok` says how much, `Err` what the owner does without.
pub fn look() -> Result<String, &'static str> {
    match files::available() {
        Some(_) if !worker::kills() => {
            Err("seccomp is missing: Linux 4.14 and later have it, built with CONFIG_SECCOMP_FILTER")
        }
        Some(version) => Ok(format!("landlock {version:?} and seccomp")),
        None => Err("landlock is missing: Linux 5.13 and later have it, named in the boot parameter `lsm`"),
    }
}

/// Confines this process to `reach`. Call it while there is one thread; what the kernel lacks is told to `missing` where
/// the owner does without.
///
/// # Errors
/// [`CannotConfine`], where confinement is required.
pub fn confine(
    reach: &Reach,
    confinement: Confinement,
    mut missing: impl FnMut(&CannotConfine),
) -> Result<(), CannotConfine> {
    let files = files::confine(reach).map_err(CannotConfine::Files);
    let calls = syscalls::confine().map_err(CannotConfine::Calls);
    for outcome in [files, calls] {
        match (outcome, confinement) {
            (Ok(()), _) => {}
            (Err(error), Confinement::WherePossible) => missing(&error),
            (Err(error), Confinement::Required) => return Err(error),
        }
    }
    Ok(())
}
