//! What no guest can try: it is done to the runner's own rooms, which are the product's, with real files, processes and
//! sockets.

mod bomb;
mod canary;
mod disk;
mod replay;

use std::{collections::BTreeMap, fs};

use anyhow::{Result, bail};

use self::{
    bomb::compile,
    canary::{loudest, search},
    disk::{journal, memory, policy},
    replay::{answer, fetch},
};
use super::{
    World,
    bench::{SECRET, Suite},
};
use crate::launcher::{Exit, Launch as _, Local, Program};

/// What is kept of a process's output.
const MAX_OUTPUT: usize = 256 << 20;

/// Something that is done.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// The rows about an echoed credential, run by another process with its log at its loudest; the canary is looked for in it.
    Loudest,
    /// A text is looked for in the memory and the environment of the worker that uses the credential.
    Search(Needle),
    /// A component is compiled.
    Compile(Bomb),
    /// An answer to the runner's poll.
    Answer(Answered),
    /// What a pinned component comes as.
    Fetch(Fetched),
    /// The policy that is found after this one was believed.
    Policy(u64),
    /// What the runner remembers, in a file of this form.
    Memory(u32),
    /// A journal with a record of this kind in the middle.
    Journal(u8),
    /// A process that was taken over tries something, with a worker's bars or without.
    Probe(bool, Probe),
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needle {
    /// The value of the secret.
    Secret,
    /// A header of the guest's own.
    Mark,
}

/// A component to be compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bomb {
    /// An ordinary one.
    None,
    /// Half a million functions.
    Functions,
    /// One function that is all arithmetic over thousands of variables.
    Long,
}

/// Whose answer a poll gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// Its own.
    Own,
    /// The one that another runner got for the same words.
    Another,
    /// One that nobody signed.
    Unsigned,
}

/// What comes for a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetched {
    /// What was pinned.
    Right,
    /// Another component, rightly signed.
    Another,
    /// The right note, and other bytes of the same length.
    OtherBytes,
}

/// What is tried from within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// To reach the service.
    Connect,
    /// To read a secret's file.
    Secret,
    /// To look into the cache of native code.
    Cache,
    /// To put something into it.
    Plant,
    /// To read the runner's environment.
    Environment,
    /// To start a program.
    Start,
}

type Seen = (String, String);

fn seen(good: bool, text: impl Into<String>) -> Seen {
    (if good { "succeeded" } else { "refused" }.to_owned(), text.into())
}

impl Deed {
    /// Does it. What is seen is an outcome, and words.
    pub(super) async fn perform(&self, suite: &Suite, world: &World) -> Result<Seen> {
        match self {
            Self::Loudest => loudest(suite).await,
            Self::Search(needle) => search(suite, world, *needle).await,
            Self::Compile(bomb) => compile(suite, *bomb).await,
            Self::Answer(answered) => answer(*answered).await,
            Self::Fetch(fetched) => fetch(suite, *fetched).await,
            Self::Policy(version) => policy(*version),
            Self::Memory(form) => memory(*form),
            Self::Journal(kind) => Ok(journal(*kind)),
            Self::Probe(confined, probe) => probed(suite, world, *confined, *probe).await,
        }
    }
}

/// What a process wrote, and how it ended.
async fn output(suite: &Suite, arguments: Vec<String>) -> Result<(Exit, Vec<u8>)> {
    let folder = tempfile::tempdir()?;
    let launch = Local::new(folder.path().to_owned());
    let program = Program {
        path: suite.program.clone(),
        arguments,
        environment: BTreeMap::new(),
        secret: None,
        directory: None,
        stdin: Vec::new(),
    };
    let mut running = launch.start(program).await?;
    let mut all = Vec::new();
    while let Some((_, piece)) = running.read().await? {
        if all.len() < MAX_OUTPUT {
            all.extend(piece);
        }
    }
    let exit = running.wait().await?;
    drop(running);
    launch.idle().await;
    Ok((exit, all))
}

async fn probed(suite: &Suite, world: &World, confined: bool, probe: Probe) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("api-token");
    fs::write(&secret, SECRET)?;
    let at = |path: &std::path::Path| path.display().to_string();
    let (what, at) = match probe {
        Probe::Connect => ("connect", format!("127.0.0.1:{}", world.plain.port())),
        Probe::Secret => ("read", at(&secret)),
        Probe::Cache => ("list", at(folder.path())),
        Probe::Plant => ("write", at(&folder.path().join("planted.native"))),
        Probe::Environment => ("read", format!("/proc/{}/environ", std::process::id())),
        Probe::Start => ("start", "/bin/true".to_owned()),
    };
    let mut arguments = vec!["probe".to_owned()];
    if confined {
        arguments.push("--confined".to_owned());
    }
    arguments.extend([what.to_owned(), at]);
    let (exit, said) = output(suite, arguments).await?;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Ok(match exit {
        Exit::Code(0) => seen(said == "it was done", said),
        // What only an attacker would call.
        Exit::Signal(libc::SIGSYS) => seen(false, "refused: the kernel ended the process"),
        other => bail!("the probe ended with {other}: {said}"),
    })
}
