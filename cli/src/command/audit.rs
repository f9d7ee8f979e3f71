//! `remit audit`: whether a record is whole.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use remit_protocol::Timestamp;
use remit_signing::{
    Vkey,
    note::{NoteKind, UnverifiedNote},
    trail::{self, Entry, Head, Linked, TrailNote},
};
use serde::Serialize;

use crate::{
    command::note as note_command,
    failure::{Code, Failure, Result},
    files,
    output::{Output, harmless},
};

/// Longest file of a trail: a whole one has a gibibyte at most.
const MAX_TRAIL: u64 = 2 << 30;
const HEAD: &str = "head.note";
/// What stands between the lines of an exported trail and its signed end.
const BREAK: &[u8] = b"\n\n";

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Check that a trail is linked from line to line, and that its keeper signed its end.
    ///
    /// Exit code 0: it is; 3: it cannot be read; 4: it was changed, or is not signed by that key; 8: it is empty.
    Verify {
        /// A runner's audit folder, or the file of `remit-runner audit export`.
        path: PathBuf,
        /// The keeper's verification key (`remit-runner audit key`). Left out: only the links are checked.
        #[arg(long, value_name = "VKEY")]
        key: Option<Vkey>,
    },
}

#[derive(Serialize)]
struct Verified {
    keeper: Option<String>,
    first: u64,
    last: u64,
    whole: bool,
    signed: Option<Signed>,
    from: Timestamp,
    to: Timestamp,
    events: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Signed {
    entries: u64,
    at: Timestamp,
}

/// A trail as it lies on disk.
struct Trail {
    lines: Vec<u8>,
    note: Option<Vec<u8>>,
}

impl Trail {
    fn read(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let mut bytes = files::read(path, MAX_TRAIL)?;
            let split = bytes.windows(BREAK.len()).position(|two| two == BREAK);
            let note = split.map(|at| bytes.split_off(at + BREAK.len()));
            return Ok(Self { lines: bytes, note });
        }
        let entries = std::fs::read_dir(path).map_err(|error| Failure::file(path, &error))?;
        let part = |file: &PathBuf| file.extension().is_some_and(|end| end == "jsonl");
        let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(part).collect();
        parts.sort();
        let mut lines = Vec::new();
        for part in parts {
            lines.extend(files::read(&part, MAX_TRAIL)?);
        }
        // A runner may be writing the last line just now.
        lines.truncate(lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
        let head = path.join(HEAD);
        let note = if head.exists() { Some(files::read(&head, MAX_TRAIL)?) } else { None };
        Ok(Self { lines, note })
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }

    /// What the holder of `key` signed of it.
    fn signed(&self, key: &Vkey) -> Result<TrailNote> {
        let failed = |why: &str| Failure::new(Code::Refused, why, "ask the keeper for the whole trail");
        let note = self.note.as_ref().ok_or_else(|| failed("the trail has no signed end"))?;
        let note = UnverifiedNote::parse_as(NoteKind::Trail, note)
            .map_err(|refusal| note_command::refused(&refusal))?;
        let signers = note.signed_by([key]).map_err(|refusal| note_command::refused(&refusal))?;
        if signers.is_empty() {
            return Err(failed("the end of the trail is not signed by this key"));
        }
        TrailNote::parse(&note).map_err(|refusal| note_command::refused(&refusal))
    }
}

impl Audit {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let Self::Verify { path, key } = self;
        let trail = Trail::read(&path)?;
        let note = key.as_ref().map(|key| trail.signed(key)).transpose()?;
        let mut seen = Seen::default();
        let linked = match &note {
            Some(note) => trail::verify_to(trail.lines(), note.head, |entry| seen.see(entry)),
            None => trail::verify(trail.lines(), |entry| seen.see(entry)),
        };
        let linked = linked.map_err(|broken| {
            Failure::new(
                Code::Refused,
                format!("{}: {}", path.display(), harmless(&broken.to_string())),
                "what stands before that line is as it was written; what comes after it proves nothing",
            )
        })?;
        let Some(linked) = linked else {
            return Err(Failure::new(Code::Nothing, format!("{}: there is no entry", path.display()), ""));
        };
        output.print(&seen.into_verified(linked, note), text);
        Ok(())
    }
}

/// What the entries say together.
#[derive(Default)]
struct Seen {
    times: Option<(Timestamp, Timestamp)>,
    events: BTreeMap<String, u64>,
}

impl Seen {
    fn see(&mut self, entry: &Entry) {
        let (first, last) = self.times.unwrap_or((entry.at, entry.at));
        self.times = Some((first.min(entry.at), last.max(entry.at)));
        *self.events.entry(harmless(entry.kind())).or_default() += 1;
    }

    fn into_verified(self, Linked { before, head }: Linked, note: Option<TrailNote>) -> Verified {
        let (from, to) = self.times.unwrap_or((Timestamp::from_millis(0), Timestamp::from_millis(0)));
        Verified {
            keeper: note.as_ref().map(|note| harmless(&note.keeper)),
            first: before.entries + 1,
            last: head.entries,
            whole: before == Head::origin(),
            signed: note.map(|note| Signed { entries: note.head.entries, at: note.at }),
            from,
            to,
            events: self.events,
        }
    }
}

fn text(verified: &Verified) -> String {
    let mut lines = Vec::new();
    let begins = if verified.whole { "from its beginning" } else { "older ones are not here" };
    lines.push(format!("linked    entries {} to {}, {begins}", verified.first, verified.last));
    lines.push(format!("time      {} to {}", verified.from, verified.to));
    match (&verified.signed, &verified.keeper) {
        (Some(signed), Some(keeper)) => {
            lines.push(format!("signed    up to entry {} by {keeper} at {}", signed.entries, signed.at));
        }
        _ => lines.push("signed    not looked at: name the keeper's key with --key".to_owned()),
    }
    for (kind, count) in &verified.events {
        lines.push(format!("{count:>8}  {kind}"));
    }
    lines.join("\n")
}
