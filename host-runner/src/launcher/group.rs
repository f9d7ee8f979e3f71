//! A program and all that it starts: one process group, ended as a whole.

use std::{
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    process::Stdio,
    time::Duration,
};

use remit_protocol::capability::exec::Given;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, test_kill_process_group,
    waitid,
};
use tokio::{
    io::unix::AsyncFd,
    process::{Child, Command},
};

use super::{Exit, Program, private, streams::Ends};

/// How long a process group may take to end after SIGTERM before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long processes that were killed are waited for: one may hang in the kernel.
const DYING: Duration = Duration::from_secs(2);
/// How often is looked whether they are gone; nothing tells of processes that are not our children.
const LOOK: Duration = Duration::from_millis(5);

/// A process group, by its leader. The leader is not reaped before the group is killed, so that the number stays its own.
pub(super) struct Group {
    leader: Child,
    pid: Pid,
    exited: AsyncFd<OwnedFd>,
}

#[expect(clippy::disallowed_methods, reason = "the one place where programs are started")]
fn command(path: &Path) -> Command {
    Command::new(path)
}

#[expect(unsafe_code, reason = "a descriptor is registered with the runtime by an unsafe call only")]
fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the `AsyncFd`, which is not taken apart, so it stays open while it is registered.
    Ok(unsafe { AsyncFd::register(process) }?)
}

impl Group {
    /// Starts `program` in `directory` with these standard streams, as the leader of a group of its own.
    pub(super) fn start(program: &Program, directory: &Path, ends: Ends) -> io::Result<Self> {
        let [stdin, stdout, stderr] = ends.map(Stdio::from);
        let mut command = command(&program.path);
        command
            .args(&program.arguments)
            .env_clear()
            .envs(&program.environment)
            .current_dir(directory)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        // Held until the program has its own.
        let _file = match &program.secret {
            None => None,
            Some((Given::Env(name), value)) => {
                command.env(name, OsStr::from_bytes(value.expose()));
                None
            }
            Some((Given::File(name), value)) => Some(private::give(&mut command, name, value)?),
        };
        let leader = command.spawn()?;
        let pid = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the program has no process id"))?;
        let exited = watch(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
        Ok(Self { leader, pid, exited })
    }

    /// Waits until the leader has ended, and leaves it to be reaped.
    pub(super) async fn exited(&self) -> io::Result<Exit> {
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

    /// Gives the group its time to end, kills what is left of it, and only then reaps its leader.
    pub(super) async fn end(mut self) {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(TERM_GRACE, self.exited()).await;
        self.signal(Signal::KILL);
        let _ = self.leader.wait().await;
        self.gone().await;
    }

    /// Kills the group where nothing can be waited for any more.
    pub(super) fn kill(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::KILL);
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
