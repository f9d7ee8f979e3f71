//! Compiling in a process of its own: `remit-runner compile` reads wasm, writes native code, and is gone.
//!
//! A component that makes the compiler run wild takes only that process with it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use remit_protocol::Size;
use remit_signing::VerifiedComponent;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::sync::Semaphore;

use super::cache::MAX_NATIVE;
use crate::{
    launcher::{Exit, Launch, Program, Running, Source},
    sandbox::Metering,
};

/// What a compile process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Address space: the largest components take about half of what is given.
    pub memory: Size,
    /// Seconds of processor time, over all of its threads.
    pub cpu_seconds: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { memory: Size::from_mib(4096), cpu_seconds: 300 }
    }
}

/// After this the process is killed.
const PATIENCE: Duration = Duration::from_secs(240);
/// What is kept of the process's words when it fails.
const MAX_WORDS: usize = 4 << 10;

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CannotCompile {
    /// The compiler said no, or ran into a limit.
    #[error("the compiler ended with {status}: {words}")]
    Refused {
        /// How the process ended.
        status: Exit,
        /// What it said.
        words: String,
    },
    /// It took too long.
    #[error("the compiler did not end within {} seconds", PATIENCE.as_secs())]
    Slow,
    /// The process could not be run: the host's fault.
    #[error("the compile process could not be run: {0}")]
    Host(#[from] std::io::Error),
}

/// Starts compile processes, one at a time: each uses all cores.
pub struct Compiler {
    program: PathBuf,
    launch: Arc<dyn Launch>,
    bounds: Bounds,
    one: Semaphore,
}

impl Compiler {
    /// Compiles with the `remit-runner` at `program`, started by `launch`.
    pub fn new(program: PathBuf, launch: Arc<dyn Launch>) -> Self {
        Self { program, launch, bounds: Bounds::default(), one: Semaphore::new(1) }
    }

    /// The same, with less for each process.
    #[must_use]
    pub(crate) fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Native code of a verified component, which counts its fuel or does not.
    ///
    /// # Errors
    /// [`CannotCompile`].
    pub async fn compile(
        &self,
        component: &VerifiedComponent,
        metering: Metering,
    ) -> Result<Vec<u8>, CannotCompile> {
        self.native(component.bytes(), metering).await
    }

    /// What the compile process makes of these bytes.
    pub(crate) async fn native(&self, wasm: &[u8], metering: Metering) -> Result<Vec<u8>, CannotCompile> {
        let Bounds { memory, cpu_seconds } = self.bounds;
        let mut arguments =
            vec!["compile".to_owned(), format!("--memory={memory}"), format!("--cpu-seconds={cpu_seconds}")];
        if metering == Metering::On {
            arguments.push("--fuel".to_owned());
        }
        let _turn = self.one.acquire().await.map_err(std::io::Error::other)?;
        let process = self.launch.start(Program {
            path: self.program.clone(),
            arguments,
            environment: BTreeMap::new(),
            secret: None,
            directory: Some(PathBuf::from("/")),
            stdin: wasm.to_vec(),
        });
        let run = async { run(process.await?).await };
        tokio::time::timeout(PATIENCE, run).await.map_err(|_| CannotCompile::Slow)?
    }
}

/// What the process has to say: native code, or why there is none. Dropping it ends it.
async fn run(mut process: Box<dyn Running>) -> Result<Vec<u8>, CannotCompile> {
    let (mut code, mut words) = (Vec::new(), Vec::new());
    while code.len() as u64 <= MAX_NATIVE
        && let Some((source, piece)) = process.read().await?
    {
        match source {
            Source::Output => code.extend(piece),
            Source::Error => words.extend(piece.into_iter().take(MAX_WORDS - words.len())),
        }
    }
    let whole = code.len() as u64 <= MAX_NATIVE;
    let status = process.wait().await?;
    if status == Exit::Code(0) && whole {
        return Ok(code);
    }
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let words =
        if words.is_empty() { "it said nothing; it may have used up its memory".to_owned() } else { words };
    Err(CannotCompile::Refused { status, words })
}

/// Bounds this process, which is the compile process, before it reads a byte.
///
/// # Errors
/// When the operating system refuses a limit.
pub fn limit_this_process(bounds: Bounds) -> std::io::Result<()> {
    let limits = [
        (Resource::As, bounds.memory.bytes()),
        (Resource::Cpu, bounds.cpu_seconds),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}
