//! Logs: one append-only file an execution, a line an entry, checksummed; beside it a sparse index of entry numbers.
//! A line says which attempt's how manieth entry it is; its own number is its place in the file. Where the job limits its
//! log, a line marked as a cut stands for the first entry that was not kept; what follows it leaves no trace.
//!
//! One thread appends. What has gathered is written and synced as a group, and only then acknowledged. A torn end, which
//! a crash may leave and which nobody was told of, is cut off when the file is next written to.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use remit_protocol::{AttemptId, ExecutionId, LogLimit, NodeIndex, StepIndex, report::LogEntry};
use tokio::sync::{mpsc, oneshot};

use crate::execution::log::{Cut, Kept, Tally, in_place_of};

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

struct Append {
    execution: ExecutionId,
    limit: Option<LogLimit>,
    attempt: AttemptId,
    first: u64,
    entries: Vec<LogEntry>,
    done: oneshot::Sender<Result<Appended, LogError>>,
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
        let mut appender = Appender { root: Arc::clone(&root), open: HashMap::new(), turn: 0 };
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

struct Appender {
    root: Arc<PathBuf>,
    open: HashMap<ExecutionId, OpenLog>,
    turn: u64,
}

impl Appender {
    fn run(&mut self, mut queue: mpsc::Receiver<Append>) {
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

/// How a cut is marked, before the JSON of what stands for it.
const CUTS: [(&str, Cut); 2] = [("cut-log ", Cut::Log), ("cut-node ", Cut::Node)];

/// `crc32c attempt number json\n`: readable with a pager, and a torn line is known for what it is.
fn write_line(
    lines: &mut Vec<u8>,
    attempt: AttemptId,
    number: u64,
    cut: Option<Cut>,
    entry: &LogEntry,
) -> Result<(), LogError> {
    let mark = CUTS.iter().find(|(_, known)| Some(*known) == cut).map_or("", |(mark, _)| mark);
    let mut body = format!("{attempt} {number} {mark}").into_bytes();
    serde_json::to_writer(&mut body, entry).map_err(io::Error::other)?;
    write!(lines, "{:08x} ", crc32c::crc32c(&body))?;
    lines.extend_from_slice(&body);
    lines.push(b'\n');
    Ok(())
}

/// A line of a file.
struct Parsed<'a> {
    attempt: AttemptId,
    /// Which entry of the attempt it is.
    number: u64,
    cut: Option<Cut>,
    /// The entry.
    json: &'a str,
}

fn parse_line(line: &[u8]) -> Option<Parsed<'_>> {
    let body = line.strip_suffix(b"\n")?.get(9..)?;
    let sum = std::str::from_utf8(line.get(..8)?).ok()?;
    if u32::from_str_radix(sum, 16).ok()? != crc32c::crc32c(body) {
        return None;
    }
    let mut parts = std::str::from_utf8(body).ok()?.splitn(3, ' ');
    let (attempt, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let entry = parts.next()?;
    let cut = CUTS.iter().find_map(|(mark, cut)| Some((*cut, entry.strip_prefix(mark)?)));
    let (cut, json) = cut.map_or((None, entry), |(cut, json)| (Some(cut), json));
    Some(Parsed { attempt, number, cut, json })
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
        let Some(Parsed { attempt, cut, json, .. }) = parse_line(&line) else { break };
        if number >= from {
            if page.entries.len() >= limit || seen > MAX_SCAN {
                page.end = false;
                break;
            }
            page.next = number + 1;
            let line = LogLine { number, attempt, cut, entry: serde_json::from_str(json)? };
            if filter.wants(&line) {
                page.entries.push(line);
            }
            seen += json.len() as u64;
        }
        number += 1;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use remit_protocol::{
        Timestamp,
        log_limit::{AtLimit, LogMost},
        report::Level,
    };

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

    fn log(number: u128) -> ExecutionId {
        ExecutionId::from_parts(Timestamp::from_millis(1), number)
    }

    fn attempt(number: u128) -> AttemptId {
        AttemptId::from_parts(Timestamp::from_millis(1), number)
    }

    async fn numbers(logs: &Logs, from: u64, limit: usize, filter: LogFilter) -> Vec<u64> {
        let page = logs.page(log(1), from, limit, filter).await.unwrap();
        page.entries
            .into_iter()
            .map(|line| {
                assert_eq!(line.entry, entry(line.number));
                line.number
            })
            .collect()
    }

    #[tokio::test]
    async fn entries_are_numbered_and_kept_once() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path()).unwrap();
        let a = attempt(1);
        assert_eq!(logs.append(log(1), None, a, 1, entries(1..=3)).await.unwrap().durable, 3);
        assert_eq!(logs.append(log(1), None, a, 2, entries(2..=5)).await.unwrap().durable, 5);
        assert_eq!(logs.append(log(1), None, a, 1, entries(1..=2)).await.unwrap().durable, 5);
        let gap = logs.append(log(1), None, a, 7, entries(7..=7)).await;
        assert!(matches!(gap, Err(LogError::Gap { durable: 5, found: 7 })));
        assert_eq!(logs.append(log(1), None, attempt(2), 1, entries(6..=6)).await.unwrap().durable, 1);
        assert_eq!(numbers(&logs, 0, 10, LogFilter::default()).await, [1, 2, 3, 4, 5, 6]);
        assert_eq!(numbers(&logs, 4, 10, LogFilter::default()).await, [4, 5, 6]);
        assert_eq!(numbers(&logs, 2, 2, LogFilter::default()).await, [2, 3]);
        let filter = LogFilter { step: Some(StepIndex(1)), ..LogFilter::default() };
        assert_eq!(numbers(&logs, 1, 10, filter).await, [1, 3, 5]);
        let filter = LogFilter { node: Some(NodeIndex(0)), ..LogFilter::default() };
        assert_eq!(numbers(&logs, 1, 10, filter).await, [3, 6]);
        let filter = LogFilter { attempt: Some(attempt(2)), ..LogFilter::default() };
        assert_eq!(numbers(&logs, 1, 10, filter).await, [6]);
        assert_eq!(logs.page(log(2), 1, 9, LogFilter::default()).await.unwrap().next, 1);
    }

    #[tokio::test]
    async fn a_log_goes_on_after_a_restart_and_a_torn_end_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = path_of(directory.path(), log(1));
        for torn in [&b""[..], b"0123", b"00000000 {\"at\"", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n"] {
            let logs = Logs::open(directory.path()).unwrap();
            logs.append(log(1), None, attempt(1), 1, entries(1..=300)).await.unwrap();
            drop(logs);
            OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
            let index = &torn[..torn.len().min(3)];
            OpenOptions::new().append(true).open(index_of(&path)).unwrap().write_all(index).unwrap();
            let logs = Logs::open(directory.path()).unwrap();
            assert_eq!(
                logs.append(log(1), None, attempt(1), 301, entries(301..=302)).await.unwrap().durable,
                302
            );
            assert_eq!(numbers(&logs, 299, 10, LogFilter::default()).await, [299, 300, 301, 302]);
            assert!(logs.remove(log(1)).await.unwrap());
        }
    }

    #[tokio::test]
    async fn many_logs_are_synced_together() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::open(directory.path()).unwrap();
        let appends = (1..=600).map(|number| logs.append(log(number), None, attempt(1), 1, entries(1..=1)));
        for written in futures_util::future::join_all(appends).await {
            assert_eq!(written.unwrap(), Appended { durable: 1, full: false });
        }
        assert_eq!(logs.append(log(1), None, attempt(1), 2, entries(2..=2)).await.unwrap().durable, 2);
    }

    /// The texts of a log, a cut as `|`.
    async fn texts(logs: &Logs, filter: LogFilter) -> Vec<String> {
        let page = logs.page(log(1), 1, 100, filter).await.unwrap();
        let text = |line: LogLine| line.cut.map_or(line.entry.text, |_| "|".to_owned());
        page.entries.into_iter().map(text).collect()
    }

    #[tokio::test]
    async fn a_full_log_keeps_its_limit_over_attempts_and_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let limit = Some(LogLimit { most: LogMost::Lines(4), at_limit: AtLimit::Truncate });
        let logs = Logs::open(directory.path()).unwrap();
        let took = async |logs: &Logs, by, numbers: std::ops::RangeInclusive<u64>| {
            let first = *numbers.start();
            let taken = logs.append(log(1), limit, attempt(by), first, entries(numbers)).await.unwrap();
            (taken.durable, taken.full)
        };
        assert_eq!(took(&logs, 1, 1..=3).await, (3, false));
        assert_eq!(took(&logs, 2, 1..=3).await, (3, true));
        let kept = ["line 1", "line 2", "line 3", "line 1", "|"];
        assert_eq!(texts(&logs, LogFilter::default()).await, kept);
        // A runner whose answer was lost says it again; one whose answer came goes on, and the end is taken without a line.
        assert_eq!(took(&logs, 2, 2..=9).await, (9, true));
        drop(logs);
        let logs = Logs::open(directory.path()).unwrap();
        assert_eq!(took(&logs, 2, 10..=12).await, (12, true));
        assert_eq!(took(&logs, 1, 2..=7).await, (7, true));
        let end = logs.append(log(1), limit, attempt(2), 13, Vec::new()).await.unwrap();
        assert_eq!(end, Appended { durable: 12, full: true });
        assert_eq!(texts(&logs, LogFilter::default()).await, kept);
        // Whoever looks at a part of it is told as well.
        let of_attempt = LogFilter { attempt: Some(attempt(1)), ..LogFilter::default() };
        assert_eq!(texts(&logs, of_attempt).await, ["line 1", "line 2", "line 3", "|"]);
    }

    #[tokio::test]
    async fn a_node_that_says_too_much_leaves_room_for_others() {
        let directory = tempfile::tempdir().unwrap();
        let limit = Some(LogLimit { most: LogMost::LinesPerNode(2), at_limit: AtLimit::Truncate });
        let of = |node: u32, text: &str| LogEntry {
            node: Some(NodeIndex(node)),
            text: text.to_owned(),
            ..entry(1)
        };
        let logs = Logs::open(directory.path()).unwrap();
        let first = vec![of(0, "a"), of(0, "b"), of(1, "c"), of(0, "d"), of(0, "e")];
        let took = logs.append(log(1), limit, attempt(1), 1, first).await.unwrap();
        assert_eq!(took, Appended { durable: 5, full: true });
        drop(logs);
        let logs = Logs::open(directory.path()).unwrap();
        let next = vec![of(0, "f"), of(1, "g"), of(1, "h")];
        assert_eq!(logs.append(log(1), limit, attempt(1), 6, next).await.unwrap().durable, 8);
        assert_eq!(texts(&logs, LogFilter::default()).await, ["a", "b", "c", "|", "g", "|"]);
        let of_node =
            LogFilter { node: Some(NodeIndex(1)), step: Some(StepIndex(7)), ..LogFilter::default() };
        assert_eq!(texts(&logs, of_node).await, ["|"]);
    }

    #[tokio::test]
    async fn a_log_without_a_limit_keeps_its_gaps_to_itself() {
        let directory = tempfile::tempdir().unwrap();
        let limit = Some(LogLimit { most: LogMost::Lines(9), at_limit: AtLimit::Truncate });
        let logs = Logs::open(directory.path()).unwrap();
        for limit in [None, limit] {
            let gap = logs.append(log(1), limit, attempt(1), 2, entries(2..=2)).await;
            assert!(matches!(gap, Err(LogError::Gap { durable: 0, found: 2 })), "{limit:?}");
        }
    }
}
