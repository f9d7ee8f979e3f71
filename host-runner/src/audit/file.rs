//! The trail on disk: parts of linked lines, `000001.jsonl` and so on, and `head.note`, the signed end.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use remit_protocol::{Size, Timestamp};
use remit_signing::{
    SigningKey,
    note::{self, NoteKind, UnverifiedNote},
    trail::{self, Head, TrailNote},
};

use super::Event;
use crate::state::{self, StateError};

const HEAD: &str = "head.note";
const SUFFIX: &str = "jsonl";
/// A part that is longer is followed by a new one.
const PART: Size = Size::from_mib(16);
/// Bytes of all parts; the oldest goes first, and the rest says by its numbers that something came before.
const MOST: Size = Size::from_mib(1024);
/// Longest head note.
const MAX_HEAD: u64 = 4 << 10;

/// The newest part, and the end of the trail.
pub(super) struct File {
    folder: PathBuf,
    part: u64,
    open: fs::File,
    /// Bytes of the part that are known to be good.
    length: u64,
    head: Head,
    sealed: Head,
    /// What is not in the file yet.
    waiting: Vec<u8>,
    /// False while something is in the file and maybe not on disk.
    synced: bool,
    keeper: String,
    key: SigningKey,
}

impl File {
    /// Opens the trail in `folder`, cuts off what a crash left unfinished, and says how many bytes that was.
    pub(super) fn open(folder: &Path, keeper: String, key: SigningKey) -> Result<(Self, u64), StateError> {
        state::make_private(folder)?;
        let fault = |source| StateError::Io { path: folder.to_owned(), source };
        let part = parts(folder).map_err(fault)?.last().copied().unwrap_or(1);
        let path = place(folder, part);
        let damaged = |why: String| StateError::Damaged { path: path.clone(), why };
        let newest = read(&path)?;
        let (good, torn) = (newest.good, newest.torn);
        // A part that was just begun says nothing yet: the end stands in the one before.
        let head = match newest.head {
            None if part > 1 => read(&place(folder, part - 1))?.head,
            head => head,
        };
        let head = head.unwrap_or_else(Head::origin);
        let sealed = signed_head(folder, &key)?;
        if sealed.is_some_and(|sealed| {
            sealed.entries > head.entries || (sealed.entries == head.entries && sealed.digest != head.digest)
        }) {
            return Err(damaged("it ends before its own signed end: something was taken out".to_owned()));
        }
        let open = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(state::no_follow())
            .open(&path)
            .map_err(fault)?;
        open.set_len(good).map_err(fault)?;
        let sealed = sealed.unwrap_or_else(Head::origin);
        let (folder, length) = (folder.to_owned(), good);
        Ok((
            Self { folder, part, open, length, head, sealed, waiting: Vec::new(), synced: true, keeper, key },
            torn,
        ))
    }

    /// Takes an event; it is in the file after [`write`](Self::write), and on disk after [`sync`](Self::sync).
    pub(super) fn append(&mut self, at: Timestamp, event: &Event) {
        let line = trail::append(self.head, at, event).or_else(|| {
            // A remit or a refusal of many lines: its digest and kind stay, the rest is with the job.
            trail::append(self.head, at, &shortened(event))
        });
        if let Some((line, head)) = line {
            self.head = head;
            self.waiting.extend_from_slice(line.as_bytes());
            self.waiting.push(b'\n');
        }
    }

    /// Writes what waits, so that it outlives this process. What could not be written goes on waiting.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if let Err(error) = self.open.write_all(&self.waiting) {
            // A part of it may stand there: it is cut off, so that the whole can be written again.
            self.open.set_len(self.length)?;
            return Err(error);
        }
        self.length += self.waiting.len() as u64;
        self.synced &= self.waiting.is_empty();
        self.waiting.clear();
        if self.length >= PART.bytes() {
            self.sync()?;
            self.next()?;
        }
        Ok(())
    }

    /// Makes what was written outlive the machine's crash.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.synced {
            self.open.sync_data()?;
            self.synced = true;
        }
        Ok(())
    }

    /// Begins the next part and removes the oldest ones beyond the limit.
    fn next(&mut self) -> io::Result<()> {
        let path = place(&self.folder, self.part + 1);
        let flags = state::no_follow();
        self.open =
            OpenOptions::new().create_new(true).append(true).mode(0o600).custom_flags(flags).open(path)?;
        fs::File::open(&self.folder)?.sync_all()?;
        self.part += 1;
        self.length = 0;
        let most = MOST.bytes() / PART.bytes();
        let old = parts(&self.folder)?.into_iter().filter(|part| part + most <= self.part);
        for part in old {
            fs::remove_file(place(&self.folder, part))?;
        }
        Ok(())
    }

    /// Signs the end, if it is another one than the last time, and gives the note.
    pub(super) fn seal(&mut self, at: Timestamp) -> Result<Option<String>, StateError> {
        if self.head == self.sealed || !self.waiting.is_empty() || !self.synced {
            return Ok(None);
        }
        let at = Timestamp::from_millis(at.as_secs() * 1000);
        let says = TrailNote { keeper: self.keeper.clone(), head: self.head, at };
        let path = self.folder.join(HEAD);
        let signed = note::sign(&says.to_text(), &[&self.key])
            .map_err(|refusal| StateError::Damaged { path: path.clone(), why: refusal.to_string() })?;
        state::write_private(&path, &signed)?;
        self.sealed = self.head;
        Ok(Some(String::from_utf8_lossy(&signed).into_owned()))
    }

    /// The note on the end that was signed last, of an earlier process as well.
    pub(super) fn sealed(&self) -> Result<Option<String>, StateError> {
        let bytes = state::read_private(&self.folder.join(HEAD), MAX_HEAD)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Writes all parts in order, an empty line, and the signed end.
pub(super) fn export(folder: &Path, out: &mut dyn io::Write) -> io::Result<()> {
    for part in parts(folder)? {
        let bytes = fs::read(place(folder, part))?;
        let good = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        out.write_all(&bytes[..good])?;
    }
    match fs::read(folder.join(HEAD)) {
        Ok(note) => {
            out.write_all(b"\n")?;
            out.write_all(&note)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A part as it was found.
struct Part {
    /// Bytes of whole lines.
    good: u64,
    /// Bytes of an unfinished one.
    torn: u64,
    /// The end, if there is a line.
    head: Option<Head>,
}

/// Reads a part and checks that its lines are linked.
fn read(path: &Path) -> Result<Part, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(StateError::Io { path: path.to_owned(), source }),
    };
    let good = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let lines = bytes[..good].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let linked = trail::verify(lines, |_| {})
        .map_err(|broken| StateError::Damaged { path: path.to_owned(), why: broken.to_string() })?;
    let (good, torn) = (good as u64, (bytes.len() - good) as u64);
    Ok(Part { good, torn, head: linked.map(|linked| linked.head) })
}

/// The end that this runner has signed; none if it has not yet.
fn signed_head(folder: &Path, key: &SigningKey) -> Result<Option<Head>, StateError> {
    let path = folder.join(HEAD);
    let Some(bytes) = state::read_private(&path, MAX_HEAD)? else { return Ok(None) };
    let damaged = |why: String| StateError::Damaged { path: path.clone(), why };
    let note = UnverifiedNote::parse_as(NoteKind::Trail, &bytes).map_err(|e| damaged(e.to_string()))?;
    let own = key.vkey();
    let signed = note.signed_by([&own]).map_err(|e| damaged(e.to_string()))?;
    if signed.is_empty() {
        return Err(damaged("it is not signed by this runner".to_owned()));
    }
    TrailNote::parse(&note).map(|says| Some(says.head)).map_err(|e| damaged(e.to_string()))
}

fn place(folder: &Path, part: u64) -> PathBuf {
    folder.join(format!("{part:06}.{SUFFIX}"))
}

/// The numbers of the parts, in order.
fn parts(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if path.extension().is_some_and(|end| end == SUFFIX) {
            found.extend(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What is recorded of an event that is too long for a line.
fn shortened(event: &Event) -> serde_json::Value {
    let mut short = serde_json::Map::new();
    if let Ok(serde_json::Value::Object(whole)) = serde_json::to_value(event) {
        for (name, value) in whole {
            match value {
                serde_json::Value::String(text) => {
                    short.insert(name, text.chars().take(1000).collect::<String>().into());
                }
                serde_json::Value::Number(number) => drop(short.insert(name, number.into())),
                _ => {}
            }
        }
    }
    short.insert("shortened".to_owned(), true.into());
    short.into()
}
