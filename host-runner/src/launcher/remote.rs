//! Programs that the launcher process starts: the runner's side.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::Mutex,
};
use tokio_util::task::TaskTracker;

use super::{
    Catalogue, Client, Exit, Launch, Program, Running, Source,
    catalogue::DIRECTORY,
    streams::{Ends, Streams},
    wire::{self, Answer, Answers},
};

/// How long the launcher may take to hear what it is for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The launcher process. It ends when this is dropped, and with it everything that it started.
#[derive(Debug)]
pub struct Launcher(std::os::unix::net::UnixStream);

impl Launcher {
    /// Splits it off: the `remit-runner` at `program`, as `remit-runner launch`. It starts what `catalogue` lists for
    /// `client`, and gives each broker `charter` to begin with. Call it before this process is confined.
    ///
    /// # Errors
    /// The process cannot be started, or does not listen.
    pub fn start(program: &Path, catalogue: &Catalogue, client: Client, charter: &[u8]) -> io::Result<Self> {
        let (mut near, far) = std::os::unix::net::UnixStream::pair()?;
        // The launcher is not waited for: it ends after this process, which it outlives to clear up.
        command(program)
            .arg("launch")
            .env_clear()
            .stdin(OwnedFd::from(far))
            .stdout(Stdio::null())
            // A terminal's Ctrl-C is for the runner, which ends its steps in order.
            .process_group(0)
            .spawn()?;
        near.set_write_timeout(Some(PATIENCE))?;
        wire::instruct(&mut near, catalogue, client, charter)?;
        near.set_nonblocking(true)?;
        Ok(Self(near))
    }
}

impl From<OwnedFd> for Launcher {
    /// The launcher at the other end of a socket that this process was born with.
    fn from(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

#[expect(clippy::disallowed_methods, reason = "this program itself, as the launcher process")]
fn command(program: &Path) -> Command {
    Command::new(program)
}

/// Has programs started by the launcher process.
pub struct Remote {
    launcher: Mutex<UnixStream>,
    scratch: PathBuf,
    endings: TaskTracker,
}

impl Remote {
    /// Has `launcher` start programs; empty working directories are made below `scratch`.
    ///
    /// # Errors
    /// The runtime does not take the socket.
    pub fn new(launcher: Launcher, scratch: PathBuf) -> io::Result<Self> {
        launcher.0.set_nonblocking(true)?;
        let launcher = Mutex::new(UnixStream::from_std(launcher.0)?);
        Ok(Self { launcher, scratch, endings: TaskTracker::new() })
    }
}

#[async_trait]
impl Launch for Remote {
    async fn start(&self, mut program: Program) -> io::Result<Box<dyn Running>> {
        let (streams, ends) = Streams::new(std::mem::take(&mut program.stdin))?;
        self.order(program, streams, ends).await
    }

    async fn attach(&self, program: Program, ends: Ends) -> io::Result<Box<dyn Running>> {
        self.order(program, Streams::none(), ends).await
    }

    async fn connect(&self, path: &Path) -> io::Result<UnixStream> {
        let (mut control, far) = UnixStream::pair()?;
        let far = far.into_std()?;
        wire::send_descriptors(&*self.launcher.lock().await, far.as_fd(), None).await?;
        drop(far);
        wire::send(&mut control, path.as_os_str().as_encoded_bytes()).await?;
        if let Some(connection) = wire::receive_connection(&control).await? {
            let connection = std::os::unix::net::UnixStream::from(connection);
            connection.set_nonblocking(true)?;
            return UnixStream::from_std(connection);
        }
        match Answers::default().next(&mut control).await? {
            Answer::Failed { code: Some(code), .. } => Err(io::Error::from_raw_os_error(code)),
            Answer::Failed { message, .. } => Err(io::Error::other(message)),
            Answer::Started | Answer::Ended(_) => Err(io::Error::other("the launcher speaks out of turn")),
        }
    }

    async fn idle(&self) {
        self.endings.close();
        self.endings.wait().await;
    }
}

impl Remote {
    async fn order(
        &self,
        mut program: Program,
        streams: Streams,
        ends: Ends,
    ) -> io::Result<Box<dyn Running>> {
        let (directory, own) = match program.directory.take() {
            Some(directory) => (directory, None),
            None => {
                let own = TempDir::with_prefix_in(DIRECTORY, &self.scratch)?;
                (own.path().to_owned(), Some(own))
            }
        };
        let (mut control, far) = UnixStream::pair()?;
        let far = far.into_std()?;
        wire::send_descriptors(&*self.launcher.lock().await, far.as_fd(), Some(&ends)).await?;
        drop((far, ends));
        wire::send_order(&mut control, program, directory).await?;
        let mut answers = Answers::default();
        match answers.next(&mut control).await? {
            Answer::Started => {}
            Answer::Failed { code: Some(code), .. } => return Err(io::Error::from_raw_os_error(code)),
            Answer::Failed { message, .. } => return Err(io::Error::other(message)),
            Answer::Ended(_) => return Err(io::Error::other("the launcher speaks out of turn")),
        }
        let endings = self.endings.clone();
        Ok(Box::new(RemoteRunning { streams, control: Some(control), answers, exit: None, own, endings }))
    }
}

struct RemoteRunning {
    streams: Streams,
    control: Option<UnixStream>,
    answers: Answers,
    exit: Option<Exit>,
    own: Option<TempDir>,
    endings: TaskTracker,
}

#[async_trait]
impl Running for RemoteRunning {
    async fn read(&mut self) -> io::Result<Option<(Source, Vec<u8>)>> {
        self.streams.read().await
    }

    async fn wait(&mut self) -> io::Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let gone = || io::Error::other("it was ended");
        let control = self.control.as_mut().ok_or_else(gone)?;
        let answer = tokio::select! {
            answer = self.answers.next(control) => answer?,
            broken = self.streams.drain() => return Err(broken.err().unwrap_or_else(gone)),
        };
        match answer {
            Answer::Ended(exit) => {
                self.exit = Some(exit);
                Ok(exit)
            }
            Answer::Started | Answer::Failed { .. } => {
                Err(io::Error::other("the launcher speaks out of turn"))
            }
        }
    }
}

impl Drop for RemoteRunning {
    fn drop(&mut self) {
        // Closing the control socket is the order to end the program; without a runtime nobody waits for it.
        let (Some(mut control), own) = (self.control.take(), self.own.take()) else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.endings.spawn(async move {
            // The launcher closes its side when the whole group is gone, which may long be so.
            let _ = control.shutdown().await;
            let _ = control.read_to_end(&mut Vec::new()).await;
            if let Some(directory) = own {
                let _ = tokio::task::spawn_blocking(move || directory.close()).await;
            }
        });
    }
}
