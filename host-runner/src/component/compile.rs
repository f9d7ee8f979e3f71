//! Compiling in a process of its own: `remit-runner compile` reads wasm, writes native code, and is gone.
//!
//! A component that makes the compiler run wild takes only that process with it.

use std::{path::PathBuf, process::Stdio, time::Duration};

use remit_signing::VerifiedComponent;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    sync::Semaphore,
};

use super::cache::MAX_NATIVE;

/// Address space of the compile process: the largest components take about half of it.
const MEMORY: u64 = 4 << 30;
/// Processor time of the compile process, over all of its threads.
const CPU_SECONDS: u64 = 300;
/// After this the process is killed.
const PATIENCE: Duration = Duration::from_secs(240);
/// What is kept of the process's words when it fails.
const MAX_WORDS: u64 = 4 << 10;

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CannotCompile {
    /// The compiler said no, or ran into a limit.
    #[error("the compiler ended with {status}: {words}")]
    Refused {
        /// How the process ended.
        status: String,
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
#[derive(Debug)]
pub struct Compiler {
    program: PathBuf,
    one: Semaphore,
}

impl Compiler {
    /// Compiles with the `remit-runner` at `program`.
    pub fn new(program: PathBuf) -> Self {
        Self { program, one: Semaphore::new(1) }
    }

    /// Native code of a verified component.
    ///
    /// # Errors
    /// [`CannotCompile`].
    pub async fn compile(&self, component: &VerifiedComponent) -> Result<Vec<u8>, CannotCompile> {
        let _turn = self.one.acquire().await.map_err(std::io::Error::other)?;
        let child = self.spawn()?;
        tokio::time::timeout(PATIENCE, run(child, component.bytes()))
            .await
            .map_err(|_| CannotCompile::Slow)?
    }

    #[expect(clippy::disallowed_methods, reason = "this program itself, as the compile process")]
    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg("compile")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

async fn run(mut child: Child, wasm: &[u8]) -> Result<Vec<u8>, CannotCompile> {
    let gone = || std::io::Error::other("a pipe of the compile process is missing");
    let mut stdin = child.stdin.take().ok_or_else(gone)?;
    let mut stdout = child.stdout.take().ok_or_else(gone)?.take(MAX_NATIVE + 1);
    let mut stderr = child.stderr.take().ok_or_else(gone)?.take(MAX_WORDS);
    let (mut code, mut words) = (Vec::new(), Vec::new());
    let write = async move {
        // A process that ended early says why on its own.
        let _ = stdin.write_all(wasm).await;
    };
    let ((), read, said) = tokio::join!(write, stdout.read_to_end(&mut code), stderr.read_to_end(&mut words));
    read?;
    said?;
    let status = child.wait().await?;
    if !status.success() || code.len() as u64 > MAX_NATIVE {
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        let words = if words.is_empty() {
            "it said nothing; it may have used up its memory".to_owned()
        } else {
            words
        };
        return Err(CannotCompile::Refused { status: status.to_string(), words });
    }
    Ok(code)
}

/// Bounds this process, which is the compile process, before it reads a byte.
///
/// # Errors
/// When the operating system refuses a limit.
pub fn limit_this_process() -> std::io::Result<()> {
    let limits =
        [(Resource::As, MEMORY), (Resource::Cpu, CPU_SECONDS), (Resource::Core, 0), (Resource::Fsize, 0)];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}
