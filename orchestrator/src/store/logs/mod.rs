//! Logs: one append-only file an execution, a line an entry, checksummed; beside it a sparse index of entry numbers.
//! A line says which attempt's how manieth entry it is; its own number is its place in the file. Where the job limits its
//! log, a line marked as a cut stands for the first entry that was not kept; what follows it leaves no trace.
//!
//! One thread appends. What has gathered is written and synced as a group, and only then acknowledged. A torn end, which
//! a crash may leave and which nobody was told of, is cut off when the file is next written to.

mod append;
mod line;
mod page;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use remit_protocol::{AttemptId, ExecutionId, LogLimit, NodeIndex, StepIndex, report::LogEntry};
use tokio::sync::{mpsc, oneshot};

use self::{
    append::{Append, Appender},
    page::read_page,
};
use crate::execution::log::Cut;

/// Most appends that wait.
const QUEUE: usize = 4096;

/// Why a log was not written or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The entries do not follow on what is there.
    #[error("the log has {durable} entries; the next one is {}, not {found}", durable + 1)]
    Gap {
        /// So many are there.
        durable: u64,
        /// The first that was sent.
        found: u64,
    },
    /// The disk is full; nothing was recorded.
    #[error("the orchestrator's disk is full; free some space and try again")]
    Full,
    /// The disk failed, or the store is closing.
    #[error("log storage: {0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

impl LogError {
    fn closing() -> Self {
        io::Error::other("it is closing").into()
    }
}

/// Which entries are wanted; all that is given must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogFilter {
    /// Of this step.
    pub step: Option<StepIndex>,
    /// On this node.
    pub node: Option<NodeIndex>,
    /// Of this attempt.
    pub attempt: Option<AttemptId>,
}

impl LogFilter {
    fn wants(self, line: &LogLine) -> bool {
        let of_node = self.node.is_none_or(|node| Some(node) == line.entry.node);
        match line.cut {
            // Whoever looks at a part of the log has to know that there was more.
            Some(Cut::Log) => return true,
            Some(Cut::Node) => return of_node,
            None => {}
        }
        self.step.is_none_or(|step| step == line.entry.step)
            && of_node
            && self.attempt.is_none_or(|attempt| attempt == line.attempt)
    }
}

/// An entry in its execution's log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// Its place in the log, from 1.
    pub number: u64,
    /// The attempt that wrote it.
    pub attempt: AttemptId,
    /// It stands for the first entry that the job's log limit left no room for.
    pub cut: Option<Cut>,
    /// What it says.
    pub entry: LogEntry,
}

/// What became of entries that were appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// The number of the attempt's last entry; all up to it are on disk, or thrown away by the job's log limit.
    pub durable: u64,
    /// There was more log than the job keeps, now or before.
    pub full: bool,
}

/// A part of a log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogPage {
    /// Entries with their numbers.
    pub entries: Vec<LogLine>,
    /// The number with which to ask for more; there may be none yet.
    pub next: u64,
    /// True if everything that is there now was looked at.
    pub end: bool,
}

/// The logs of all executions.
#[derive(Debug)]
pub struct Logs {
    root: Arc<PathBuf>,
    writer: Option<mpsc::Sender<Append>>,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        let root = Arc::new(root.to_owned());
        let (writer, queue) = mpsc::channel(QUEUE);
        let mut appender = Appender::new(Arc::clone(&root));
        let thread =
            std::thread::Builder::new().name("store-logs".to_owned()).spawn(move || appender.run(queue))?;
        Ok(Self { root, writer: Some(writer), thread: Some(thread) })
    }

    /// Appends entries of an attempt, the first of which is its entry number `first`; those that are there already are
    /// passed over, and so is what `limit`, which is the same for all entries of an execution, leaves no room for.
    pub async fn append(
        &self,
        execution: ExecutionId,
        limit: Option<LogLimit>,
        attempt: AttemptId,
        first: u64,
        entries: Vec<LogEntry>,
    ) -> Result<Appended, LogError> {
        let (done, answer) = oneshot::channel();
        let writer = self.writer.as_ref().ok_or_else(LogError::closing)?;
        writer
            .send(Append { execution, limit, attempt, first, entries, done })
            .await
            .map_err(|_| LogError::closing())?;
        answer.await.map_err(|_| LogError::closing())?
    }

    /// Entries from number `from` (the first is 1) on, at most `limit` of them, while the execution runs or after.
    pub async fn page(
        &self,
        execution: ExecutionId,
        from: u64,
        limit: usize,
        filter: LogFilter,
    ) -> Result<LogPage, LogError> {
        let path = path_of(&self.root, execution);
        match tokio::task::spawn_blocking(move || read_page(&path, from.max(1), limit, filter)).await {
            Ok(page) => Ok(page?),
            Err(_) => Err(LogError::closing()),
        }
    }

    /// How many bytes the log of an execution takes on disk; none: zero.
    pub async fn size(&self, execution: ExecutionId) -> Result<u64, LogError> {
        let path = path_of(&self.root, execution);
        let found = tokio::task::spawn_blocking(move || match std::fs::metadata(&path) {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        });
        Ok(found.await.map_err(|_| LogError::closing())??)
    }

    /// Removes the log of an execution that has ended. True if there was one.
    pub async fn remove(&self, execution: ExecutionId) -> Result<bool, LogError> {
        let path = path_of(&self.root, execution);
        let removed = tokio::task::spawn_blocking(move || {
            let _ = std::fs::remove_file(index_of(&path));
            match std::fs::remove_file(&path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        });
        Ok(removed.await.map_err(|_| LogError::closing())??)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn path_of(root: &Path, execution: ExecutionId) -> PathBuf {
    let name = execution.to_string();
    // The last character is random, the first are the time.
    root.join(&name[name.len() - 1..]).join(format!("{name}.log"))
}

fn index_of(path: &Path) -> PathBuf {
    path.with_extension("idx")
}
