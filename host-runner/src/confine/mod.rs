//! What this process may still do once it has begun: the kernel's own bars around the runner, below the sandbox.
//!
//! [`landlock`](https://docs.kernel.org/userspace-api/landlock.html) leaves the state directory to write in and the
//! host's configuration to read, nothing to execute and no TCP port to bind; a seccomp filter takes away starting
//! programs, listening, tracing other processes and the parts of the kernel that no runner needs. Neither can be
//! taken back. The supervisor and the broker each have what they need of that; what the one can read or write of the other's
//! is told by [`Reach`]. Programs are started by the [`launcher`](crate::launcher), which is split off before.
//!
//! *Must not know:* attempts, components. *Invariant:* a process that is to be confined is, or does not begin;
//! [`Confinement::WherePossible`] is the owner's word that a kernel without these bars is good enough.

mod capabilities;
mod files;
mod syscalls;
mod turns;
pub mod worker;

use std::path::{Path, PathBuf};

use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

pub use self::turns::{Behind, evenly, often};
use crate::{
    config::Config,
    secrets::{ProviderConfig, store},
    state::{OPTIONS, SCRATCH, sealing},
};

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

impl Confinement {
    /// The word for it, as in `runner.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::WherePossible => "where-possible",
        }
    }
}

impl std::str::FromStr for Confinement {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Required, Self::WherePossible]
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or("write required or where-possible")
    }
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
    /// What the supervisor of `config` needs; `file` is its `runner.toml`. No place of a secrets provider is among it, but for
    /// the store, which is in the state directory.
    pub fn of_supervisor(config: &Config, file: &Path) -> Self {
        let beside = |path: &Path| path.parent().map(Path::to_owned);
        let mut read: Vec<PathBuf> = HOST.iter().map(PathBuf::from).collect();
        // Files are replaced by renaming another one into their place: it is the directory that has to stay readable.
        read.extend(beside(file));
        read.extend(beside(&config.runner.trust));
        read.extend(config.orchestrator.ca_file.as_deref().and_then(beside));
        Self { write: vec![config.runner.state.clone()], read, ports: Ports::All }
    }

    /// What the broker of `config` needs: what steps may read, what proves hosts to it, and where secrets are, `credentials`
    /// among it. Of the state directory it has the scratch directories, the store, the sealing key and the files of options.
    pub fn of_broker(config: &Config, credentials: Option<&Path>) -> Self {
        let state = real(&config.runner.state);
        // As above, unless that would show the whole state: then it is the file that is there now.
        let near = |path: &Path| match path.parent() {
            Some(directory) if !state.starts_with(real(directory)) => directory.to_owned(),
            _ => path.to_owned(),
        };
        let mut read: Vec<PathBuf> = HOST.iter().map(PathBuf::from).collect();
        let ceiling = &config.ceiling;
        read.extend(config.orchestrator.ca_file.as_deref().map(near));
        read.extend(ceiling.http.iter().filter_map(|rule| rule.ca_file.as_deref().map(near)));
        read.extend(ceiling.tcp.iter().filter_map(|rule| rule.ca_file.as_deref().map(near)));
        read.extend(ceiling.ssh.iter().map(|rule| near(&rule.known_hosts)));
        read.extend(ceiling.files.iter().map(|rule| rule.path.clone()));
        for provider in &config.providers {
            match provider {
                ProviderConfig::Directory { path, .. } => read.push(path.clone()),
                ProviderConfig::Store { .. } => read.push(store::place(&config.runner.state)),
                ProviderConfig::Sealed { .. } => read.push(sealing::place(&config.runner.state)),
                _ => {}
            }
            read.extend(provider.reads().into_iter().map(near));
        }
        read.extend(credentials.map(Path::to_owned));
        read.push(config.runner.state.join(OPTIONS));
        Self { write: vec![config.runner.state.join(SCRATCH)], read, ports: Ports::All }
    }

    /// What of this shows the whole of `directory`.
    pub fn shows(&self, directory: &Path) -> impl Iterator<Item = &Path> {
        let directory = real(directory);
        self.read
            .iter()
            .chain(&self.write)
            .map(PathBuf::as_path)
            .filter(move |path| directory.starts_with(real(path)))
    }

    /// What of this is one file, which is not seen any more when another one takes its place.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let named = |path: &&Path| !HOST.iter().any(|host| Path::new(host) == *path);
        self.read.iter().map(PathBuf::as_path).filter(named).filter(|path| path.is_file())
    }
}

/// Where a path really leads, as far as it is there.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
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

/// Which of the runner's processes is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The supervisor, or what needs no other bars than it.
    Supervisor,
    /// The broker: it signals nobody, links nothing, and has no sockets but those of the network.
    Broker,
}

/// Confines this process to `reach`. Call it while there is one thread; what the kernel lacks is told to `missing` where
/// the owner does without.
///
/// # Errors
/// [`CannotConfine`], where confinement is required.
pub fn confine(
    part: Part,
    reach: &Reach,
    confinement: Confinement,
    mut missing: impl FnMut(&CannotConfine),
) -> Result<(), CannotConfine> {
    capabilities::keep(capabilities::FILES);
    let files = files::confine(reach).map_err(CannotConfine::Files);
    let calls = syscalls::confine(part).map_err(CannotConfine::Calls);
    for outcome in [files, calls] {
        match (outcome, confinement) {
            (Ok(()), _) => {}
            (Err(error), Confinement::WherePossible) => missing(&error),
            (Err(error), Confinement::Required) => return Err(error),
        }
    }
    Ok(())
}

/// Nobody looks into this process: neither another one of the same user, nor a debugger, nor an image of its memory.
///
/// # Errors
/// The kernel says no.
pub fn close_to_others() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// The first thing in a process that the launcher has started for the runner itself: it ends with its parent, nobody looks
/// into its memory, and it holds no descriptor but its three.
///
/// # Errors
/// The kernel says no.
pub fn begin() -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    close_to_others()?;
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: nothing in this process has opened a descriptor yet; the three standard ones stay. Kernels before 5.9 do not
    // know the call; there it is enough that whoever started this process has marked its descriptors to be closed.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0)
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str, directory: &Path) -> Config {
        let text = format!(
            "[orchestrator]\nurl = \"https://a.example\"\nca_file = \"ca.pem\"\n\
             [runner]\nstate = \"state\"\ntrust = \"trust/trust.toml\"\n{text}"
        );
        Config::parse(&text, directory).unwrap()
    }

    #[test]
    fn the_broker_sees_nothing_of_the_state_but_scratch_and_store() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("state/store")).unwrap();
        std::fs::create_dir(root.join("pki")).unwrap();
        std::fs::write(root.join("ca.pem"), "").unwrap();
        let text = "[[ceiling.ssh]]\naddresses = [\"10.0.0.0/8\"]\nusers = [\"ops\"]\nknown_hosts = \"pki/hosts\"\n\
             [[provider]]\nkind = \"store\"\nmount = \"keys/s\"\n\
             [[provider]]\nkind = \"sealed\"\nmount = \"keys/t\"\n\
             [[provider]]\nkind = \"directory\"\nmount = \"keys/d\"\npath = \"values\"\n";
        let config = config(text, root);
        let broker = Reach::of_broker(&config, Some(Path::new("/run/credentials/x")));
        assert_eq!(broker.write, [root.join("state/scratch")]);
        let own = broker.read.iter().filter(|path| !HOST.contains(&path.to_str().unwrap()));
        let expect = ["ca.pem", "pki", "state/store", "state/sealing", "values"].map(|name| root.join(name));
        let last = [PathBuf::from("/run/credentials/x"), root.join("state/options")];
        let expect: Vec<_> = expect.into_iter().chain(last).collect();
        assert_eq!(own.cloned().collect::<Vec<_>>(), expect);
        assert_eq!(broker.shows(&config.runner.state).count(), 0);
        assert_eq!(broker.files().collect::<Vec<_>>(), [root.join("ca.pem")]);

        let supervisor = Reach::of_supervisor(&config, &root.join("runner.toml"));
        assert!(!supervisor.read.contains(&root.join("values")));
        assert!(supervisor.shows(&config.runner.state).count() > 0);
    }

    #[test]
    fn what_shows_the_state_to_the_broker_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        let text = "[[ceiling.files]]\nname = \"all\"\npath = \".\"\n";
        let config = config(text, folder.path());
        let broker = Reach::of_broker(&config, None);
        assert_eq!(broker.shows(&config.runner.state).collect::<Vec<_>>(), [folder.path().join(".")]);
    }
}
