//! The journal: what a restart must still know, on disk before anybody relies on it.
//!
//! One file at a time. A thread of its own appends what the dispatcher hands it, and syncs once for all that has come
//! meanwhile. A new file opens with a snapshot of what is still open, so the older ones go as soon as it is on disk: the
//! journal is never much larger than what the orchestrator does not have yet.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use tokio::sync::mpsc::UnboundedSender;

/// Space that a file takes from the disk when it is made, so that a full disk is met then and not in the middle.
const RESERVED: u64 = 8 << 20;
/// Largest file that is read back at start.
const MAX_FILE: u64 = 1 << 30;
const SUFFIX: &str = "journal";

/// How far the journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Everything up to this ticket is on disk.
    Durable(u64),
    /// Everything after the last durable ticket up to this one could not be written, for this reason.
    Failed(u64, String),
}

enum Command {
    Append { frames: Vec<u8>, ticket: u64, sync: bool },
    Rotate { snapshot: Vec<u8>, ticket: u64 },
}

/// The dispatcher's end of the journal. Dropping it ends the thread, after everything handed over is written.
#[derive(Debug)]
pub struct Journal {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<std::thread::JoinHandle<()>>,
    queued: Arc<AtomicUsize>,
    written: u64,
}

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the journal {path} cannot be opened: {source}; check the disk and the directory's owner and mode")]
pub struct CannotOpen {
    path: PathBuf,
    source: io::Error,
}

/// Reads the newest journal file of `directory`: empty if there is none.
///
/// # Errors
/// When the directory or the file cannot be read, or is larger than any journal gets.
pub fn read(directory: &Path) -> Result<Vec<u8>, CannotOpen> {
    let fault = |source| CannotOpen { path: directory.to_owned(), source };
    let Some((_, path)) = files(directory).map_err(fault)?.into_iter().max() else { return Ok(Vec::new()) };
    let fault = |source| CannotOpen { path: path.clone(), source };
    let file = File::open(&path).map_err(fault)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

fn files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = number
            && path.extension().is_some_and(|extension| extension == SUFFIX)
        {
            found.push((number, path));
        }
    }
    Ok(found)
}

impl Journal {
    /// Begins a new file with `snapshot`, the frames of what [`read`] still held open, and removes the older ones.
    /// `progress` hears of every ticket that asked for it.
    ///
    /// # Errors
    /// When the new file cannot be written durably.
    pub fn open(
        directory: &Path,
        snapshot: &[u8],
        progress: UnboundedSender<Progress>,
    ) -> Result<Self, CannotOpen> {
        let fault = |source| CannotOpen { path: directory.to_owned(), source };
        let segment = Segment::begin(directory, snapshot).map_err(fault)?;
        let written = segment.end;
        let (commands, incoming) = mpsc::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let writer = Writer { segment, incoming, progress, queued: Arc::clone(&queued) };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(fault)?;
        Ok(Self { commands: Some(commands), thread: Some(thread), queued, written })
    }

    /// Hands `frames` over. Tickets rise; with `sync`, this one is reported when everything up to it is on disk.
    pub fn append(&mut self, frames: Vec<u8>, ticket: u64, sync: bool) {
        self.written += frames.len() as u64;
        self.queued.fetch_add(frames.len(), Ordering::Relaxed);
        self.command(Command::Append { frames, ticket, sync });
    }

    /// True when the file has outgrown `live` bytes of open work so far that a new one is worth its snapshot.
    pub fn wants_rotation(&self, live: usize) -> bool {
        self.written > RESERVED.max(4 * live as u64)
    }

    /// Begins a new file with `snapshot`, which stands for everything up to `ticket`.
    pub fn rotate(&mut self, snapshot: Vec<u8>, ticket: u64) {
        self.written = snapshot.len() as u64;
        self.queued.fetch_add(snapshot.len(), Ordering::Relaxed);
        self.command(Command::Rotate { snapshot, ticket });
    }

    /// Bytes handed over and not yet written: a slow disk shows here.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    fn command(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // The thread ends only when this sender is gone.
            let _ = commands.send(command);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Segment {
    directory: PathBuf,
    number: u64,
    file: File,
    /// End of the last whole frame.
    end: u64,
}

impl Segment {
    fn begin(directory: &Path, snapshot: &[u8]) -> io::Result<Self> {
        let older = files(directory)?;
        let number = older.iter().map(|(number, _)| *number).max().unwrap_or(0) + 1;
        let path = directory.join(format!("{number:010}.{SUFFIX}"));
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        // Not every file system reserves; then a full disk is met later, and said then.
        let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVED);
        file.write_all(snapshot)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(directory)?.sync_all()?;
        for (_, path) in older {
            fs::remove_file(path)?;
        }
        Ok(Self { directory: directory.to_owned(), number, file, end: snapshot.len() as u64 })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(bytes));
        match written {
            Ok(()) => self.end += bytes.len() as u64,
            // A frame written in part must not hide whole ones that come after it.
            Err(_) => self.file.set_len(self.end)?,
        }
        written
    }
}

struct Writer {
    segment: Segment,
    incoming: mpsc::Receiver<Command>,
    progress: UnboundedSender<Progress>,
    queued: Arc<AtomicUsize>,
}

impl Writer {
    fn run(mut self) {
        while let Ok(first) = self.incoming.recv() {
            let mut batch = Vec::new();
            let mut last = 0;
            let mut sync = false;
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Append { frames, ticket, sync: wanted } => {
                        batch.extend_from_slice(&frames);
                        last = ticket;
                        sync |= wanted;
                    }
                    Command::Rotate { snapshot, ticket } => {
                        self.flush(&mut batch, last, sync);
                        self.rotate(&snapshot, ticket);
                        sync = false;
                    }
                }
                next = self.incoming.try_recv().ok();
            }
            self.flush(&mut batch, last, sync);
        }
    }

    fn flush(&mut self, batch: &mut Vec<u8>, ticket: u64, sync: bool) {
        if batch.is_empty() {
            return;
        }
        let mut done = self.segment.append(batch);
        if sync && done.is_ok() {
            done = self.segment.file.sync_data();
        }
        self.queued.fetch_sub(batch.len(), Ordering::Relaxed);
        batch.clear();
        self.tell(done, ticket, sync);
    }

    fn rotate(&mut self, snapshot: &[u8], ticket: u64) {
        let begun = Segment::begin(&self.segment.directory, snapshot);
        self.queued.fetch_sub(snapshot.len(), Ordering::Relaxed);
        match begun {
            Ok(segment) => {
                tracing::debug!(number = segment.number, "journal: a new file");
                self.segment = segment;
                self.tell(Ok(()), ticket, true);
            }
            // The file at hand holds all of it; the next rotation tries again.
            Err(source) => tracing::warn!(%source, "journal: no new file could be begun"),
        }
    }

    fn tell(&self, done: io::Result<()>, ticket: u64, sync: bool) {
        let progress = match done {
            Ok(()) if !sync => return,
            Ok(()) => Progress::Durable(ticket),
            Err(source) => Progress::Failed(ticket, source.to_string()),
        };
        // Nobody listens any more when the runner is ending.
        let _ = self.progress.send(progress);
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::{AttemptId, Epoch};

    use super::{
        super::record::{Record, decode, encode},
        *,
    };

    fn frames(attempt: u128) -> Vec<u8> {
        let mut bytes = Vec::new();
        let record = Record::Begun { epoch: Epoch(1), first_event: 1, first_entry: 1 };
        encode(AttemptId::from_u128(attempt), &record, &mut bytes);
        bytes
    }

    fn attempts(directory: &Path) -> Vec<u128> {
        let bytes = read(directory).unwrap();
        decode(&bytes).map(|(attempt, _)| attempt.to_u128()).collect()
    }

    #[test]
    fn what_was_synced_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (progress, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let mut journal = Journal::open(directory.path(), &frames(1), progress).unwrap();
        journal.append(frames(2), 1, false);
        journal.append(frames(3), 2, true);
        assert_eq!(heard.blocking_recv(), Some(Progress::Durable(2)));
        assert_eq!(attempts(directory.path()), [1, 2, 3]);
        journal.rotate(frames(9), 3);
        journal.append(frames(10), 4, false);
        drop(journal);
        assert_eq!(attempts(directory.path()), [9, 10]);
        assert_eq!(files(directory.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_torn_tail_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = frames(1);
        bytes.extend_from_slice(&frames(2)[..20]);
        fs::write(directory.path().join("0000000001.journal"), bytes).unwrap();
        assert_eq!(attempts(directory.path()), [1]);
        let (progress, _heard) = tokio::sync::mpsc::unbounded_channel();
        let mut journal = Journal::open(directory.path(), &frames(1), progress).unwrap();
        journal.append(frames(3), 1, true);
        drop(journal);
        assert_eq!(attempts(directory.path()), [1, 3]);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let (progress, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let segment = Segment {
            directory: directory.path().to_owned(),
            number: 1,
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
            end: 0,
        };
        let (commands, incoming) = mpsc::channel();
        commands.send(Command::Append { frames: frames(1), ticket: 1, sync: true }).unwrap();
        drop(commands);
        Writer { segment, incoming, progress, queued: Arc::new(AtomicUsize::new(1000)) }.run();
        assert!(matches!(heard.blocking_recv(), Some(Progress::Failed(1, _))));
    }
}
