//! Starting a program and ending it: the effect behind `exec`.
//!
//! *Invariant:* a program that was started is gone, with its whole process group, soon after its [`Running`] is dropped.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, test_kill_process_group,
    waitid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, unix::AsyncFd},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};
use tokio_util::task::TaskTracker;

use crate::secrets::SecretValue;

/// Largest piece of output.
pub(super) const MAX_PIECE: usize = 32 << 10;
/// How long a process group may take to end after SIGTERM before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long processes that were killed are waited for: one may hang in the kernel.
const DYING: Duration = Duration::from_secs(2);
/// How often is looked whether they are gone; nothing tells of processes that are not our children.
const LOOK: Duration = Duration::from_millis(5);

/// What to start: everything is owned, so that it may be started in another process.
pub struct Program {
    /// The file that is started.
    pub path: PathBuf,
    /// The arguments after the program's own name.
    pub arguments: Vec<String>,
    /// The whole environment but the secret.
    pub environment: BTreeMap<String, String>,
    /// A variable with the value of a secret.
    pub secret: Option<(String, SecretValue)>,
    /// Working directory; absent: an empty one of its own.
    pub directory: Option<PathBuf>,
    /// Written to its standard input, which is then closed.
    pub stdin: Vec<u8>,
}

/// Which stream a piece of output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Whatever starts programs.
#[async_trait]
pub trait Launch: Send + Sync {
    /// Starts a program in a process group of its own.
    async fn start(&self, program: Program) -> std::io::Result<Box<dyn Running>>;
    /// Waits until all programs whose [`Running`] was dropped are gone.
    async fn idle(&self);
}

/// A program that was started. Dropping it ends its process group: SIGTERM, and SIGKILL soon after.
#[async_trait]
pub trait Running: Send {
    /// The next piece of output, of at most 64 KiB; none when both streams have ended.
    async fn read(&mut self) -> std::io::Result<Option<(Source, Vec<u8>)>>;
    /// Waits for the end; output that was not read is dropped.
    async fn wait(&mut self) -> std::io::Result<Exit>;
}

/// Starts programs from this process.
pub struct Local {
    scratch: PathBuf,
    endings: TaskTracker,
}

impl Local {
    /// Makes empty working directories below `scratch`.
    pub fn new(scratch: PathBuf) -> Self {
        Self { scratch, endings: TaskTracker::new() }
    }
}

#[async_trait]
impl Launch for Local {
    async fn start(&self, program: Program) -> std::io::Result<Box<dyn Running>> {
        let (directory, own) = match program.directory {
            Some(directory) => (directory, None),
            None => {
                let own = TempDir::with_prefix_in("exec-", &self.scratch)?;
                (own.path().to_owned(), Some(own))
            }
        };
        let mut command = command(&program.path);
        command
            .args(&program.arguments)
            .env_clear()
            .envs(&program.environment)
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some((name, value)) = &program.secret {
            command.env(name, OsStr::from_bytes(value.expose()));
        }
        let mut child = command.spawn()?;
        drop(command);
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| std::io::Error::other("the program has no process id"))?;
        let group = Group { pid, exited: watch(pidfd_open(pid, PidfdFlags::NONBLOCK)?)? };
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(Box::new(LocalRunning {
            stdin: stdin.map(|pipe| (pipe, program.stdin, 0)),
            stdout,
            stderr,
            parts: Some((child, group, own)),
            endings: self.endings.clone(),
        }))
    }

    async fn idle(&self) {
        self.endings.close();
        self.endings.wait().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where a step's programs are started")]
fn command(path: &std::path::Path) -> Command {
    Command::new(path)
}

#[expect(unsafe_code, reason = "a descriptor is registered with the runtime by an unsafe call only")]
fn watch(process: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the `AsyncFd`, which is not taken apart, so it stays open while it is registered.
    Ok(unsafe { AsyncFd::register(process) }?)
}

/// A process group, by its leader. The leader is not reaped before the group is killed, so that the number stays its own.
struct Group {
    pid: Pid,
    exited: AsyncFd<OwnedFd>,
}

impl Group {
    /// Waits until the leader has ended, and leaves it to be reaped.
    async fn exited(&self) -> std::io::Result<Exit> {
        loop {
            let mut ready = self.exited.readable().await?;
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            if let Some(status) = waitid(WaitId::Pid(self.pid), options)? {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, signal) => Exit::Signal(signal.unwrap_or_default()),
                });
            }
            ready.clear_ready();
        }
    }

    /// Waits, for a moment, until the other processes of the group have met their SIGKILL; the leader must be reaped before.
    async fn gone(&self) {
        let looks = DYING.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if test_kill_process_group(self.pid).is_err() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends to all of the group; one that is gone is no error.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
    }
}

struct LocalRunning {
    stdin: Option<(ChildStdin, Vec<u8>, usize)>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    parts: Option<(Child, Group, Option<TempDir>)>,
    endings: TaskTracker,
}

/// Writes what is left and closes the pipe; never ends when there is nothing to write.
async fn feed(stdin: &mut Option<(ChildStdin, Vec<u8>, usize)>) {
    while let Some((pipe, bytes, written)) = stdin {
        let rest = bytes.get(*written..).unwrap_or_default();
        match pipe.write(rest).await {
            Ok(more) if !rest.is_empty() && more > 0 => *written += more,
            // The program closed its side, or everything is written.
            _ => *stdin = None,
        }
    }
    std::future::pending::<()>().await;
}

/// The next piece of a stream, none at its end; waits for ever on a stream that has ended before.
async fn piece<R: AsyncReadExt + Unpin>(stream: &mut Option<R>) -> std::io::Result<Option<Vec<u8>>> {
    let Some(pipe) = stream else { return std::future::pending().await };
    let mut bytes = vec![0; MAX_PIECE];
    let length = pipe.read(&mut bytes).await?;
    bytes.truncate(length);
    if length == 0 {
        *stream = None;
        return Ok(None);
    }
    Ok(Some(bytes))
}

#[async_trait]
impl Running for LocalRunning {
    async fn read(&mut self) -> std::io::Result<Option<(Source, Vec<u8>)>> {
        while self.stdout.is_some() || self.stderr.is_some() {
            let (source, piece) = tokio::select! {
                () = feed(&mut self.stdin) => continue,
                piece = piece(&mut self.stdout) => (Source::Output, piece?),
                piece = piece(&mut self.stderr) => (Source::Error, piece?),
            };
            if let Some(bytes) = piece {
                return Ok(Some((source, bytes)));
            }
        }
        Ok(None)
    }

    async fn wait(&mut self) -> std::io::Result<Exit> {
        let Some((_, group, _)) = &self.parts else { return Err(std::io::Error::other("it was ended")) };
        loop {
            tokio::select! {
                exit = group.exited() => return exit,
                () = feed(&mut self.stdin) => {}
                ended = piece(&mut self.stdout) => drop(ended?),
                ended = piece(&mut self.stderr) => drop(ended?),
            }
        }
    }
}

impl Drop for LocalRunning {
    fn drop(&mut self) {
        let Some((child, group, directory)) = self.parts.take() else { return };
        group.signal(Signal::TERM);
        if tokio::runtime::Handle::try_current().is_err() {
            group.signal(Signal::KILL);
            return;
        }
        self.endings.spawn(end(child, group, directory));
    }
}

/// Gives the group its time to end, kills what is left of it, and only then reaps its leader.
async fn end(mut child: Child, group: Group, directory: Option<TempDir>) -> std::io::Result<ExitStatus> {
    let _ = tokio::time::timeout(TERM_GRACE, group.exited()).await;
    group.signal(Signal::KILL);
    let status = child.wait().await;
    group.gone().await;
    if let Some(directory) = directory {
        let _ = tokio::task::spawn_blocking(move || directory.close()).await;
    }
    status
}
