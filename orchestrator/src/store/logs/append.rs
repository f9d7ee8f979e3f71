//! The thread that appends, and the files that it keeps open.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use remit_protocol::{AttemptId, ExecutionId, LogLimit, report::LogEntry};
use tokio::sync::{mpsc, oneshot};

use super::{
    Appended, LogError, index_of,
    line::{MAX_LINE, parse_line, write_line},
    page::find_mark,
    path_of,
};
use crate::execution::log::{Kept, Tally, in_place_of};

/// Most appends that are synced together.
const GROUP: usize = 512;
/// Files that are kept open.
const OPEN_FILES: usize = 512;
/// From how many files on the whole file system is synced at once.
const SYNC_ALL: usize = 4;
/// Entries between two marks of the index.
const MARK: u64 = 128;

/// Entries of an attempt that are to be appended.
pub(super) struct Append {
    pub(super) execution: ExecutionId,
    pub(super) limit: Option<LogLimit>,
    pub(super) attempt: AttemptId,
    pub(super) first: u64,
    pub(super) entries: Vec<LogEntry>,
    pub(super) done: oneshot::Sender<Result<Appended, LogError>>,
}

/// A file that is written to: how many entries and bytes it has, and how many entries of each attempt.
struct OpenLog {
    file: File,
    index: File,
    attempts: HashMap<AttemptId, u64>,
    tally: Option<Tally>,
    entries: u64,
    bytes: u64,
    used: u64,
    new: New,
}

/// What of a file's name is not on disk yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum New {
    Nothing,
    Name,
    Directory,
}

pub(super) struct Appender {
    root: Arc<PathBuf>,
    open: HashMap<ExecutionId, OpenLog>,
    turn: u64,
}

impl Appender {
    pub(super) fn new(root: Arc<PathBuf>) -> Self {
        Self { root, open: HashMap::new(), turn: 0 }
    }

    pub(super) fn run(&mut self, mut queue: mpsc::Receiver<Append>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            self.turn += 1;
            let mut written = Vec::with_capacity(group.len());
            for Append { execution, limit, attempt, first, entries, done } in group.drain(..) {
                written.push((execution, self.append((execution, limit), attempt, first, &entries), done));
            }
            let synced = self.sync(written.iter().map(|(execution, ..)| *execution).collect());
            for (execution, result, done) in written {
                let result = synced.clone().and(result);
                if result.is_err() && !matches!(result, Err(LogError::Gap { .. })) {
                    // What of it is on disk is found out when the file is next opened.
                    self.open.remove(&execution);
                }
                let _ = done.send(result);
            }
            self.close_idle();
        }
    }

    fn append(
        &mut self,
        (execution, limit): (ExecutionId, Option<LogLimit>),
        attempt: AttemptId,
        first: u64,
        entries: &[LogEntry],
    ) -> Result<Appended, LogError> {
        let turn = self.turn;
        let log = match self.open.entry(execution) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => place.insert(recover(&path_of(&self.root, execution), limit)?),
        };
        log.used = turn;
        let mut durable = log.attempts.get(&attempt).copied().unwrap_or_default();
        if log.tally.as_ref().is_some_and(Tally::is_full) {
            // What was thrown away left no trace: what seems to be missing after a restart is that.
            durable = durable.max(first.saturating_sub(1));
        }
        if first > durable + 1 {
            return Err(LogError::Gap { durable, found: first });
        }
        let known = usize::try_from((durable + 1).saturating_sub(first.max(1))).unwrap_or(usize::MAX);
        let mut lines = Vec::new();
        let mut marks = Vec::new();
        let mut number = log.entries;
        let mut last = durable;
        for entry in entries.iter().skip(known) {
            last += 1;
            let kept = log.tally.as_mut().map_or(Kept::Whole, |tally| tally.take(entry));
            if kept == Kept::Nothing {
                continue;
            }
            if number.is_multiple_of(MARK) {
                marks.extend_from_slice(&(number + 1).to_le_bytes());
                marks.extend_from_slice(&(log.bytes + lines.len() as u64).to_le_bytes());
            }
            match kept {
                Kept::Cut(cut, words) => {
                    write_line(&mut lines, attempt, last, Some(cut), &in_place_of(entry, words))?;
                }
                Kept::Whole | Kept::Nothing => write_line(&mut lines, attempt, last, None, entry)?,
            }
            number += 1;
        }
        if number > log.entries {
            log.file.write_all(&lines)?;
            log.index.write_all(&marks)?;
            log.entries = number;
            log.bytes += lines.len() as u64;
        }
        log.attempts.insert(attempt, last);
        Ok(Appended { durable: last, full: log.tally.as_ref().is_some_and(Tally::is_full) })
    }

    /// Brings what was written to disk: file by file, or, if there are many, the whole file system at once.
    fn sync(&mut self, mut written: Vec<ExecutionId>) -> Result<(), LogError> {
        written.sort_unstable();
        written.dedup();
        let logs: Vec<_> = written.iter().filter_map(|id| self.open.get(id).map(|log| (*id, log))).collect();
        if logs.len() >= SYNC_ALL {
            rustix::fs::syncfs(File::open(self.root.as_path())?).map_err(io::Error::from)?;
        } else {
            for (execution, log) in logs {
                log.file.sync_data()?;
                if log.new != New::Nothing
                    && let Some(directory) = path_of(&self.root, execution).parent()
                {
                    File::open(directory)?.sync_all()?;
                }
                if log.new == New::Directory {
                    File::open(self.root.as_path())?.sync_all()?;
                }
            }
        }
        for execution in written {
            if let Some(log) = self.open.get_mut(&execution) {
                log.new = New::Nothing;
            }
        }
        Ok(())
    }

    /// Closes the files that were not used for longest.
    fn close_idle(&mut self) {
        if self.open.len() > OPEN_FILES {
            let mut turns: Vec<u64> = self.open.values().map(|log| log.used).collect();
            turns.sort_unstable();
            let limit = turns[self.open.len() - OPEN_FILES / 2];
            self.open.retain(|_, log| log.used >= limit);
        }
    }
}

/// Opens a log to go on with it: counts its entries and cuts off a torn end.
fn recover(path: &Path, limit: Option<LogLimit>) -> io::Result<OpenLog> {
    let mut new = if path.exists() { New::Nothing } else { New::Name };
    if let Some(directory) = path.parent()
        && !directory.exists()
    {
        std::fs::create_dir_all(directory)?;
        new = New::Directory;
    }
    let options = || OpenOptions::new().read(true).append(true).create(true).to_owned();
    let file = options().open(path)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(64 << 10, &file);
    let mut attempts = HashMap::new();
    let mut tally = limit.map(Tally::new);
    let (mut entries, mut bytes) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        let Some(parsed) = parse_line(&line) else { break };
        if let Some(tally) = &mut tally {
            tally.recall(&serde_json::from_str(parsed.json)?, parsed.cut);
        }
        attempts.insert(parsed.attempt, parsed.number);
        entries += 1;
        bytes += line.len() as u64;
    }
    if bytes < length {
        file.set_len(bytes)?;
    }
    let index = options().open(index_of(path))?;
    rewrite_index(&index, path, entries + 1, bytes)?;
    Ok(OpenLog { file, index, attempts, tally, entries, bytes, used: 0, new })
}

/// Keeps of an index the marks that stand before the end of the log.
fn rewrite_index(mut index: &File, path: &Path, number: u64, offset: u64) -> io::Result<()> {
    let length = index.metadata()?.len();
    let (last, place) = find_mark(path, number.saturating_sub(1))?;
    let sound = length.is_multiple_of(16) && last < number && place < offset;
    if length > 0 && !sound {
        // It only makes reading faster.
        index.set_len(0)?;
        index.write_all(&1_u64.to_le_bytes())?;
        index.write_all(&0_u64.to_le_bytes())?;
    }
    Ok(())
}
