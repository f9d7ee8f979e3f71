//! Starting programs and ending them, those of steps and the runner's own compile process, and connecting to daemons of
//! this host.
//!
//! A runner is confined before it takes work and then cannot start anything itself. [`Remote`] asks the *launcher*, a
//! process of the same program that was split off before: [`serve()`] is its life. What runs without confinement – tests and
//! an author's own machine – starts programs from its own process by [`Local`]. Both are told the same by [`Launch`].
//!
//! The launcher starts what its [`Catalogue`] names and nothing else, and connects to no other socket than it names: it is
//! told the owner's file before the runner has heard a word from outside, and who takes over the supervisor or the broker
//! later does not change it. It also keeps what a broker is born with, so that one that ended can be started again.
//!
//! *Must not know:* remits, steps. *Invariant:* a program that was started is gone, with its whole process group, soon
//! after its [`Running`] is dropped, and also when the runner dies.

mod catalogue;
mod group;
mod local;
mod private;
mod remote;
mod serve;
mod socket;
mod streams;
mod wire;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use tokio::net::UnixStream;

use remit_protocol::capability::exec::Given;

use crate::secrets::SecretValue;

pub use self::{
    catalogue::{BROKER, Catalogue, Client},
    local::Local,
    remote::{Launcher, Remote},
    serve::serve,
    socket::connect,
    streams::Ends,
};

/// What to start: everything is owned, so that it may be started in another process.
pub struct Program {
    /// The file that is started.
    pub path: PathBuf,
    /// The arguments after the program's own name.
    pub arguments: Vec<String>,
    /// The whole environment but the secret.
    pub environment: BTreeMap<String, String>,
    /// A secret, and how it gets it.
    pub secret: Option<(Given, SecretValue)>,
    /// Working directory; absent: an empty one of its own.
    pub directory: Option<PathBuf>,
    /// Written to its standard input, which is then closed.
    pub stdin: Vec<u8>,
}

/// Which stream a piece of output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Source {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Whatever starts programs.
#[async_trait]
pub trait Launch: Send + Sync {
    /// Starts a program in a process group of its own.
    async fn start(&self, program: Program) -> std::io::Result<Box<dyn Running>>;
    /// The same, with these descriptors as its standard input, output and error: nothing is written or read here.
    async fn attach(&self, program: Program, ends: Ends) -> std::io::Result<Box<dyn Running>>;
    /// Connects to the socket of a daemon of this host that the owner's file names.
    async fn connect(&self, socket: &Path) -> std::io::Result<UnixStream>;
    /// Waits until all programs whose [`Running`] was dropped are gone.
    async fn idle(&self);
}

/// A program that was started. Dropping it ends its process group: SIGTERM, and SIGKILL soon after.
#[async_trait]
pub trait Running: Send {
    /// The next piece of output, of at most 32 KiB; none when both streams have ended.
    async fn read(&mut self) -> std::io::Result<Option<(Source, Vec<u8>)>>;
    /// Waits for the end; output that was not read is dropped.
    async fn wait(&mut self) -> std::io::Result<Exit>;
}
