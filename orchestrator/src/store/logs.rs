//! Logs: one append-only file an attempt, a line an entry, checksummed; beside it a sparse index of entry numbers.
//!
//! One thread appends. What has gathered is written and synced as a group, and only then acknowledged. A torn end, which
//! a crash may leave and which nobody was told of, is cut off when the file is next written to.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use remit_protocol::{AttemptId, NodeIndex, StepIndex, report::LogEntry};
use tokio::sync::{mpsc, oneshot};

/// Most appends that wait.
const QUEUE: usize = 4096;
/// Most appends that are synced together.
const GROUP: usize = 512;
/// Files that are kept open.
const OPEN_FILES: usize = 512;
/// From how many files on the whole file system is synced at once.
const SYNC_ALL: usize = 4;
/// Entries between two marks of the index.
const MARK: u64 = 128;
/// Longest line in a file: an entry of the protocol's largest text, with its fields.
const MAX_LINE: u64 = 1 << 20;
/// Bytes that one page looks through at most.
const MAX_SCAN: u64 = 16 << 20;

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
}

impl LogFilter {
    fn wants(self, entry: &LogEntry) -> bool {
        self.step.is_none_or(|step| step == entry.step)
            && self.node.is_none_or(|node| Some(node) == entry.node)
    }
}

/// A part of a log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogPage {
    /// Entries with their numbers.
    pub entries: Vec<(u64, LogEntry)>,
    /// The number with which to ask for more; there may be none yet.
    pub next: u64,
    /// True if everything that is there now was looked at.
    pub end: bool,
}

struct Append {
    attempt: AttemptId,
    first: u64,
    entries: Vec<LogEntry>,
    done: oneshot::Sender<Result<u64, LogError>>,
}

/// The logs of all attempts.
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
        let mut appender = Appender { root: Arc::clone(&root), open: HashMap::new(), turn: 0 };
        let thread =
            std::thread::Builder::new().name("store-logs".to_owned()).spawn(move || appender.run(queue))?;
        Ok(Self { root, writer: Some(writer), thread: Some(thread) })
    }

    /// Appends entries, the first of which has number `first`; those that are there already are passed over. Gives the
    /// number of the last entry; all up to it are on disk.
    pub async fn append(
        &self,
        attempt: AttemptId,
        first: u64,
        entries: Vec<LogEntry>,
    ) -> Result<u64, LogError> {
        let (done, answer) = oneshot::channel();
        let writer = self.writer.as_ref().ok_or_else(LogError::closing)?;
        writer.send(Append { attempt, first, entries, done }).await.map_err(|_| LogError::closing())?;
        answer.await.map_err(|_| LogError::closing())?
    }

    /// Entries from number `from` (the first is 1) on, at most `limit` of them, while the attempt runs or after.
    pub async fn page(
        &self,
        attempt: AttemptId,
        from: u64,
        limit: usize,
        filter: LogFilter,
    ) -> Result<LogPage, LogError> {
        let path = path_of(&self.root, attempt);
        match tokio::task::spawn_blocking(move || read_page(&path, from.max(1), limit, filter)).await {
            Ok(page) => Ok(page?),
            Err(_) => Err(LogError::closing()),
        }
    }

    /// Removes the log of an attempt that has ended. True if there was one.
    pub async fn remove(&self, attempt: AttemptId) -> Result<bool, LogError> {
        let path = path_of(&self.root, attempt);
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

fn path_of(root: &Path, attempt: AttemptId) -> PathBuf {
    let name = attempt.to_string();
    // The last characters are random, the first are the time.
    root.join(&name[name.len() - 2..]).join(format!("{name}.log"))
}

fn index_of(path: &Path) -> PathBuf {
    path.with_extension("idx")
}

/// A file that is written to: how many entries and bytes it has.
struct OpenLog {
    file: File,
    index: File,
    entries: u64,
    bytes: u64,
    used: u64,
    new: bool,
}

struct Appender {
    root: Arc<PathBuf>,
    open: HashMap<AttemptId, OpenLog>,
    turn: u64,
}

impl Appender {
    fn run(&mut self, mut queue: mpsc::Receiver<Append>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            self.turn += 1;
            let mut written = Vec::with_capacity(group.len());
            for Append { attempt, first, entries, done } in group.drain(..) {
                written.push((attempt, self.append(attempt, first, &entries), done));
            }
            let synced = self.sync(written.iter().map(|(attempt, ..)| *attempt).collect());
            for (attempt, result, done) in written {
                let result = synced.clone().and(result);
                if result.is_err() && !matches!(result, Err(LogError::Gap { .. })) {
                    // What of it is on disk is found out when the file is next opened.
                    self.open.remove(&attempt);
                }
                let _ = done.send(result);
            }
            self.close_idle();
        }
    }

    fn append(&mut self, attempt: AttemptId, first: u64, entries: &[LogEntry]) -> Result<u64, LogError> {
        let turn = self.turn;
        let log = match self.open.entry(attempt) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(recover(&path_of(&self.root, attempt))?)
            }
        };
        log.used = turn;
        if first > log.entries + 1 {
            return Err(LogError::Gap { durable: log.entries, found: first });
        }
        let known = usize::try_from((log.entries + 1).saturating_sub(first.max(1))).unwrap_or(usize::MAX);
        let mut lines = Vec::new();
        let mut marks = Vec::new();
        let mut count = log.entries;
        for entry in entries.iter().skip(known) {
            if count.is_multiple_of(MARK) {
                marks.extend_from_slice(&(count + 1).to_le_bytes());
                marks.extend_from_slice(&(log.bytes + lines.len() as u64).to_le_bytes());
            }
            write_line(&mut lines, entry)?;
            count += 1;
        }
        if count > log.entries {
            log.file.write_all(&lines)?;
            log.index.write_all(&marks)?;
            log.entries = count;
            log.bytes += lines.len() as u64;
        }
        Ok(log.entries)
    }

    /// Brings what was written to disk: file by file, or, if there are many, the whole file system at once.
    fn sync(&mut self, mut attempts: Vec<AttemptId>) -> Result<(), LogError> {
        attempts.sort_unstable();
        attempts.dedup();
        let logs: Vec<_> = attempts.iter().filter_map(|id| self.open.get(id).map(|log| (*id, log))).collect();
        if logs.len() >= SYNC_ALL {
            rustix::fs::syncfs(File::open(self.root.as_path())?).map_err(io::Error::from)?;
        } else {
            for (attempt, log) in logs {
                log.file.sync_data()?;
                if log.new {
                    if let Some(directory) = path_of(&self.root, attempt).parent() {
                        File::open(directory)?.sync_all()?;
                    }
                    File::open(self.root.as_path())?.sync_all()?;
                }
            }
        }
        for attempt in attempts {
            if let Some(log) = self.open.get_mut(&attempt) {
                log.new = false;
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

/// `crc32c json\n`: readable with a pager, and a torn line is known for what it is.
fn write_line(lines: &mut Vec<u8>, entry: &LogEntry) -> Result<(), LogError> {
    let json = serde_json::to_vec(entry).map_err(io::Error::other)?;
    write!(lines, "{:08x} ", crc32c::crc32c(&json))?;
    lines.extend_from_slice(&json);
    lines.push(b'\n');
    Ok(())
}

fn parse_line(line: &[u8]) -> Option<LogEntry> {
    let json = line.strip_suffix(b"\n")?.get(9..)?;
    let sum = std::str::from_utf8(line.get(..8)?).ok()?;
    if u32::from_str_radix(sum, 16).ok()? != crc32c::crc32c(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// The last mark of the index at or before entry `from`: its number, and where it stands in the file.
fn find_mark(path: &Path, from: u64) -> io::Result<(u64, u64)> {
    let mut marks = Vec::new();
    match File::open(index_of(path)) {
        Ok(mut index) => index.read_to_end(&mut marks)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let marks: Vec<(u64, u64)> = marks
        .chunks_exact(16)
        .map(|mark| {
            let (number, offset) = mark.split_at(8);
            let read = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
            (read(number), read(offset))
        })
        // What does not grow was torn.
        .scan((0, None), |last: &mut (u64, Option<u64>), mark| {
            let grows = mark.0 > last.0 && last.1.is_none_or(|offset| mark.1 > offset);
            *last = (mark.0, Some(mark.1));
            grows.then_some(mark)
        })
        .collect();
    let before = marks.partition_point(|(number, _)| *number <= from);
    Ok(before.checked_sub(1).map_or((1, 0), |place| marks[place]))
}

/// Opens a log to go on with it: counts its entries from the last mark on and cuts off a torn end.
fn recover(path: &Path) -> io::Result<OpenLog> {
    let mut new = false;
    if let Some(directory) = path.parent()
        && !directory.exists()
    {
        std::fs::create_dir_all(directory)?;
        new = true;
    }
    new |= !path.exists();
    let options = || OpenOptions::new().read(true).append(true).create(true).to_owned();
    let file = options().open(path)?;
    let length = file.metadata()?.len();
    let (mut number, mut offset) = find_mark(path, u64::MAX)?;
    if offset > length {
        (number, offset) = (1, 0);
    }
    let mut reader = BufReader::new(&file);
    reader.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if parse_line(&line).is_none() {
            break;
        }
        number += 1;
        offset += line.len() as u64;
    }
    if offset < length {
        file.set_len(offset)?;
    }
    let index = options().open(index_of(path))?;
    rewrite_index(&index, path, number, offset)?;
    Ok(OpenLog { file, index, entries: number - 1, bytes: offset, used: 0, new })
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

fn read_page(path: &Path, from: u64, limit: usize, filter: LogFilter) -> io::Result<LogPage> {
    let mut page = LogPage { next: from, end: true, ..LogPage::default() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(page),
        Err(error) => return Err(error),
    };
    let (mut number, offset) = find_mark(path, from)?;
    let mut reader = BufReader::with_capacity(64 << 10, file);
    reader.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::new();
    let mut seen = 0;
    loop {
        line.clear();
        reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        // A line that is being written is not there yet.
        let Some(entry) = parse_line(&line) else { break };
        if number >= from {
            if page.entries.len() >= limit || seen > MAX_SCAN {
                page.end = false;
                break;
            }
            page.next = number + 1;
            if filter.wants(&entry) {
                page.entries.push((number, entry));
            }
            seen += line.len() as u64;
        }
        number += 1;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use remit_protocol::{Timestamp, report::Level};

    use super::*;

    fn entry(number: u64) -> LogEntry {
        LogEntry {
            at: Timestamp::from_millis(number),
            step: StepIndex(u32::try_from(number % 2).unwrap()),
            node: Some(NodeIndex(u32::try_from(number % 3).unwrap())),
            level: Level::Info,
            text: format!("line {number}"),
            fields: Vec::new(),
        }
    }

    fn entries(numbers: std::ops::RangeInclusive<u64>) -> Vec<LogEntry> {
        numbers.map(entry).collect()
    }

    fn id(number: u128) -> AttemptId {
        AttemptId::from_parts(Timestamp::from_millis(1), number)
    }

    async fn numbers(logs: &Logs, from: u64, limit: usize, filter: LogFilter) -> Vec<u64> {
        let page = logs.page(id(1), from, limit, filter).await.unwrap();
        page.entries
            .into_iter()
            .map(|(number, found)| {
                assert_eq!(found, entry(number));
                number
            })
            .collect()
    }

    #[tokio::test]
    async fn entries_are_numbered_and_kept_once() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path()).unwrap();
        assert_eq!(logs.append(id(1), 1, entries(1..=3)).await.unwrap(), 3);
        assert_eq!(logs.append(id(1), 2, entries(2..=5)).await.unwrap(), 5);
        assert_eq!(logs.append(id(1), 1, entries(1..=2)).await.unwrap(), 5);
        assert!(matches!(
            logs.append(id(1), 7, entries(7..=7)).await,
            Err(LogError::Gap { durable: 5, found: 7 })
        ));
        assert_eq!(numbers(&logs, 0, 10, LogFilter::default()).await, [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&logs, 4, 10, LogFilter::default()).await, [4, 5]);
        assert_eq!(numbers(&logs, 2, 2, LogFilter::default()).await, [2, 3]);
        let filter = LogFilter { step: Some(StepIndex(1)), node: None };
        assert_eq!(numbers(&logs, 1, 10, filter).await, [1, 3, 5]);
        let filter = LogFilter { step: None, node: Some(NodeIndex(0)) };
        assert_eq!(numbers(&logs, 1, 10, filter).await, [3]);
        assert_eq!(logs.page(id(2), 1, 9, LogFilter::default()).await.unwrap().next, 1);
    }

    #[tokio::test]
    async fn a_log_goes_on_after_a_restart_and_a_torn_end_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = path_of(directory.path(), id(1));
        for torn in [&b""[..], b"0123", b"00000000 {\"at\"", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n"] {
            let logs = Logs::open(directory.path()).unwrap();
            logs.append(id(1), 1, entries(1..=300)).await.unwrap();
            drop(logs);
            OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
            OpenOptions::new()
                .append(true)
                .open(index_of(&path))
                .unwrap()
                .write_all(&torn[..torn.len().min(3)])
                .unwrap();
            let logs = Logs::open(directory.path()).unwrap();
            assert_eq!(logs.append(id(1), 301, entries(301..=302)).await.unwrap(), 302);
            assert_eq!(numbers(&logs, 299, 10, LogFilter::default()).await, [299, 300, 301, 302]);
            assert!(logs.remove(id(1)).await.unwrap());
        }
    }

    #[tokio::test]
    async fn many_logs_are_synced_together() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path()).unwrap();
        let appends = (1..=600).map(|number| logs.append(id(number), 1, entries(1..=1)));
        for written in futures_util::future::join_all(appends).await {
            assert_eq!(written.unwrap(), 1);
        }
        assert_eq!(logs.append(id(1), 2, entries(2..=2)).await.unwrap(), 2);
    }
}
