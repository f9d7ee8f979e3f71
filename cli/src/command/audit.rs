//! `remit audit`: whether a record is whole.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use remit_protocol::{
    Timestamp,
    operator::{AuditLines, AuditView, path as address},
};
use remit_signing::{
    Vkey,
    note::{NoteKind, UnverifiedNote},
    trail::{self, Entry, Head, Linked, TrailNote},
};
use serde::Serialize;

use crate::{
    command::note as note_command,
    connection::{Connection, Target},
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
    Verify(Box<Verify>),
    /// Fetch the orchestrator's own record of who did what, with its end signed now.
    Export {
        /// Where it goes; left out: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the key that signs the end of the orchestrator's record: good for whoever believes the orchestrator.
    Key,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// A runner's audit folder, or the file of `remit-runner audit export`.
    path: PathBuf,
    /// The keeper's verification key (`remit-runner audit key`). Left out: only the links are checked.
    #[arg(long, value_name = "VKEY")]
    key: Option<Vkey>,
    /// A signed end of it that was seen elsewhere (`remit runner trail`, or a leaf of the log): it has to be in it.
    #[arg(long, value_name = "FILE", requires = "key")]
    head: Option<PathBuf>,
}

#[derive(Serialize)]
struct Exported {
    keeper: String,
    entries: u64,
    file: PathBuf,
}

#[derive(Serialize)]
struct Verified {
    keeper: Option<String>,
    first: u64,
    last: u64,
    whole: bool,
    signed: Option<Signed>,
    /// The end that was seen elsewhere, and is in it.
    elsewhere: Option<Signed>,
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
        let note = self.note.as_ref().ok_or_else(|| failed("the trail has no signed end"))?;
        signed(note, key)
    }
}

fn failed(why: &str) -> Failure {
    Failure::new(Code::Refused, why, "ask the keeper for the whole trail")
}

/// A note on a trail that the holder of `key` signed.
fn signed(note: &[u8], key: &Vkey) -> Result<TrailNote> {
    let note =
        UnverifiedNote::parse_as(NoteKind::Trail, note).map_err(|refusal| note_command::refused(&refusal))?;
    let signers = note.signed_by([key]).map_err(|refusal| note_command::refused(&refusal))?;
    if signers.is_empty() {
        return Err(failed("the end of the trail is not signed by this key"));
    }
    TrailNote::parse(&note).map_err(|refusal| note_command::refused(&refusal))
}

impl Audit {
    pub(crate) async fn run(self, target: &Target, output: Output) -> Result<()> {
        match self {
            Self::Verify(asked) => verify(&asked.path, asked.key.as_ref(), asked.head.as_deref(), output),
            Self::Export { out } => export(&Connection::open(target)?, out, output).await,
            Self::Key => {
                let view: AuditView = Connection::open(target)?.get(address::AUDIT).await?;
                output.print(&view, |view| harmless(&view.key));
                Ok(())
            }
        }
    }
}

fn verify(path: &Path, key: Option<&Vkey>, head: Option<&Path>, output: Output) -> Result<()> {
    let trail = Trail::read(path)?;
    let note = key.map(|key| trail.signed(key)).transpose()?;
    let broken = |broken: trail::Broken| {
        Failure::new(
            Code::Refused,
            format!("{}: {}", path.display(), harmless(&broken.to_string())),
            "what stands before that line is as it was written; what comes after it proves nothing",
        )
    };
    let mut seen = Seen::default();
    let linked = match &note {
        Some(note) => trail::verify_to(trail.lines(), note.head, |entry| seen.see(entry)),
        None => trail::verify(trail.lines(), |entry| seen.see(entry)),
    };
    let Some(linked) = linked.map_err(broken)? else {
        return Err(Failure::new(Code::Nothing, format!("{}: there is no entry", path.display()), ""));
    };
    let mut elsewhere = None;
    if let (Some(head), Some(key)) = (head, key) {
        let known = signed(&files::read(head, MAX_TRAIL)?, key)?;
        if note.as_ref().is_some_and(|note| note.keeper != known.keeper) {
            return Err(failed("the end that was seen elsewhere is of another keeper's trail"));
        }
        trail::verify_to(trail.lines(), known.head, |_| {}).map_err(broken)?;
        elsewhere = Some(Signed { entries: known.head.entries, at: known.at });
    }
    let mut verified = seen.into_verified(linked, note);
    verified.elsewhere = elsewhere;
    output.print(&verified, text);
    Ok(())
}

/// Fetches the orchestrator's record up to its end, which is signed first: what is written meanwhile is for the next time.
async fn export(connection: &Connection, out: Option<PathBuf>, output: Output) -> Result<()> {
    let view: AuditView = connection.get(address::AUDIT).await?;
    let mut text = String::new();
    let (mut after, mut entries) = (0, 0);
    while entries < view.entries {
        let part: AuditLines = connection.get(&format!("{}?after={after}", address::AUDIT_LINES)).await?;
        let Some(last) = part.last else { break };
        after = last;
        for line in part.lines.iter().take(usize::try_from(view.entries - entries).unwrap_or(usize::MAX)) {
            // One line is one line, whatever came.
            text.push_str(&line.replace('\n', ""));
            text.push('\n');
            entries += 1;
        }
    }
    text.push('\n');
    text.push_str(&view.head);
    let Some(file) = out else {
        crate::output::line(text.trim_end_matches('\n'));
        return Ok(());
    };
    files::write(&file, text.as_bytes(), false)?;
    let exported = Exported { keeper: harmless(&view.keeper), entries, file };
    output.print(&exported, |exported| {
        let file = exported.file.display();
        format!(
            "{} entries of {} in {file}\nnext: remit audit verify {file} --key \"$(remit audit key)\"",
            exported.entries, exported.keeper
        )
    });
    Ok(())
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
            elsewhere: None,
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
    if let Some(elsewhere) = &verified.elsewhere {
        lines.push(format!("reaches   the end of {} entries that was seen elsewhere", elsewhere.entries));
    }
    for (kind, count) in &verified.events {
        lines.push(format!("{count:>8}  {kind}"));
    }
    lines.join("\n")
}
