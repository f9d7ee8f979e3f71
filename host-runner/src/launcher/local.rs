//! Programs that are started from this process.

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use super::{
    Exit, Launch, Program, Running, Source,
    catalogue::DIRECTORY,
    group::Group,
    socket,
    streams::{Ends, Streams},
};

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
    async fn start(&self, mut program: Program) -> io::Result<Box<dyn Running>> {
        let (streams, ends) = Streams::new(std::mem::take(&mut program.stdin))?;
        self.run(program, streams, ends)
    }

    async fn attach(&self, program: Program, ends: Ends) -> io::Result<Box<dyn Running>> {
        self.run(program, Streams::none(), ends)
    }

    async fn connect(&self, path: &Path) -> io::Result<UnixStream> {
        socket::connect(path).await
    }

    async fn idle(&self) {
        self.endings.close();
        self.endings.wait().await;
    }
}

impl Local {
    fn run(&self, program: Program, streams: Streams, ends: Ends) -> io::Result<Box<dyn Running>> {
        let (directory, own) = match &program.directory {
            Some(directory) => (directory.clone(), None),
            None => {
                let own = TempDir::with_prefix_in(DIRECTORY, &self.scratch)?;
                (own.path().to_owned(), Some(own))
            }
        };
        let group = Group::start(&program, &directory, ends)?;
        Ok(Box::new(LocalRunning { streams, parts: Some((group, own)), endings: self.endings.clone() }))
    }
}

struct LocalRunning {
    streams: Streams,
    parts: Option<(Group, Option<TempDir>)>,
    endings: TaskTracker,
}

#[async_trait]
impl Running for LocalRunning {
    async fn read(&mut self) -> io::Result<Option<(Source, Vec<u8>)>> {
        self.streams.read().await
    }

    async fn wait(&mut self) -> io::Result<Exit> {
        let Some((group, _)) = &self.parts else { return Err(io::Error::other("it was ended")) };
        tokio::select! {
            exit = group.exited() => exit,
            broken = self.streams.drain() => Err(broken.err().unwrap_or_else(|| io::Error::other("it was ended"))),
        }
    }
}

impl Drop for LocalRunning {
    fn drop(&mut self) {
        let Some((group, directory)) = self.parts.take() else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            return group.kill();
        }
        self.endings.spawn(async move {
            group.end().await;
            if let Some(directory) = directory {
                let _ = tokio::task::spawn_blocking(move || directory.close()).await;
            }
        });
    }
}
