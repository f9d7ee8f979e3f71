//! `remit log monitor`: what was signed with a key, read out of the log itself.
//!
//! It goes on where it stopped: the edge of the tree at the earlier size comes out of the log's tiles and has to give the
//! root that was seen then; the leaves since are hashed onto it, and have to give the root that the log signs now. So a
//! log that was rewritten, or leaves that are not what the log committed to, cannot go unnoticed.

use std::path::{Path, PathBuf};

use clap::Args;
use remit_protocol::Digest;
use remit_signing::{
    Vkey,
    log::{
        Checkpoint, Leaf, SignedBy,
        tile::{self, Edge, TILE, TileId, TileKind},
    },
};
use serde::Serialize;

use super::{
    Files, bad,
    files::{Fetched, fetch},
    own_key,
};
use crate::{
    connection::{Connection, Target},
    failure::{Code, Failure, Result},
    files as disk,
    output::{Output, harmless, table},
};

#[derive(Args)]
pub(crate) struct Monitor {
    /// The key whose signatures are looked for.
    #[arg(long, value_name = "VKEY")]
    key: Vkey,
    /// Begin with this leaf; default: where the state file says, or the first.
    #[arg(long, value_name = "N", conflicts_with = "state")]
    from: Option<u64>,
    /// Remembers the log's head from one look to the next.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The log's files, as `remit log mirror` copies them; default: the orchestrator's.
    #[arg(long, value_name = "DIR", requires = "log_key")]
    directory: Option<PathBuf>,
    /// The log's verification key; without it, the one that the orchestrator says it has.
    #[arg(long, value_name = "VKEY")]
    log_key: Option<Vkey>,
}

/// What was found. Schema 1 of `--output json`.
#[derive(Serialize)]
struct Found {
    schema: u32,
    origin: String,
    /// The leaves that were read: `from` up to `size`.
    from: u64,
    size: u64,
    root: Digest,
    /// What the key signed among them.
    entries: Vec<Entry>,
    /// Leaves that are no note at all.
    unreadable: Vec<u64>,
}

#[derive(Serialize)]
struct Entry {
    index: u64,
    kind: String,
    name: Option<String>,
    version: Option<String>,
    identity: Digest,
    leaf: Digest,
    /// A line says that the key signed it, and the signature is wrong.
    forged: bool,
}

impl Monitor {
    pub(crate) async fn run(self, target: &Target, output: Output) -> Result<()> {
        let (files, log) = match &self.directory {
            Some(directory) => (Files::Directory(directory.clone()), self.log_key.clone()),
            None => (Files::of(Connection::open(target)?), self.log_key.clone()),
        };
        let log = match (log, &files) {
            (Some(log), _) => log,
            (None, Files::Served(connection)) => own_key(connection).await?,
            (None, Files::Directory(_)) => {
                return Err(Failure::input("the log's key is not known").with_remedy("give --log-key VKEY"));
            }
        };
        let before = self.state.as_deref().map(|state| seen(state, &log)).transpose()?.flatten();
        let bytes = files.checkpoint().await?;
        let head = Checkpoint::verify(&bytes, std::slice::from_ref(&log)).map_err(|error| bad(&error))?;
        let from = before.as_ref().map_or(self.from.unwrap_or(0), Checkpoint::size);
        let found = self.look(&files, &head, from, before.as_ref()).await?;
        output.print(&found, text);
        if let Some(state) = &self.state {
            disk::write(state, head.note().as_bytes(), false)?;
        }
        if found.entries.is_empty() {
            let what = format!("nothing new is signed with {}", self.key.name());
            return Err(Failure::new(Code::Nothing, what, ""));
        }
        Ok(())
    }

    /// Reads the leaves `from` up to the head's size.
    async fn look(
        &self,
        files: &Files,
        head: &Checkpoint,
        from: u64,
        before: Option<&Checkpoint>,
    ) -> Result<Found> {
        let size = head.size();
        let Some(tiles) = Edge::tiles(from, size) else {
            let shrunk = format!("it has {size} leaves, and it had {from}");
            return Err(match before {
                Some(before) => fork(&shrunk, before, head),
                None => Failure::input(format_args!("the log has only {size} leaves")),
            });
        };
        let fetched: Fetched = fetch(files, tiles).await?;
        let edge = Edge::read(from, |level, index| fetched.get(&(level, index)).cloned());
        let mut edge = edge.ok_or_else(|| bad(&"a tile is too short"))?;
        if let Some(before) = before
            && edge.root() != Some(before.root())
        {
            return Err(fork("its beginning is not what it was", before, head));
        }
        let mut found = Found {
            schema: 1,
            origin: head.origin().to_owned(),
            from,
            size,
            root: head.root(),
            entries: Vec::new(),
            unreadable: Vec::new(),
        };
        for number in from / TILE..size.div_ceil(TILE) {
            let Some(id) = TileId::of(TileKind::Entries, number, size) else { break };
            let bundle = files.tile(id).await?;
            let leaves =
                tile::leaves(&bundle, id.width()).ok_or_else(|| bad(&format!("{id} is not whole")))?;
            let numbered = (number * TILE..).zip(leaves).filter(|(index, _)| *index >= from);
            for (index, (hash, leaf)) in numbered {
                edge.append(hash).ok_or_else(|| bad(&"it has more leaves than a log may have"))?;
                self.take(index, leaf, &mut found);
            }
        }
        if edge.root() != Some(head.root()) {
            return Err(match before {
                Some(before) => {
                    fork("its leaves do not lead from the head that was seen to this one", before, head)
                }
                None => bad(&"its leaves do not give the root that it signed"),
            });
        }
        Ok(found)
    }

    fn take(&self, index: u64, leaf: &[u8], found: &mut Found) {
        let Some(leaf) = Leaf::read(leaf, &self.key) else {
            found.unreadable.push(index);
            return;
        };
        if leaf.signed == SignedBy::No {
            return;
        }
        found.entries.push(Entry {
            index,
            kind: leaf.kind,
            name: leaf.name,
            version: leaf.version,
            identity: leaf.identity,
            leaf: leaf.hash,
            forged: leaf.signed == SignedBy::Forged,
        });
    }
}

/// The head in the state file; none before the first look.
fn seen(state: &Path, log: &Vkey) -> Result<Option<Checkpoint>> {
    if !state.exists() {
        return Ok(None);
    }
    let bytes = disk::read(state, 64 << 10)?;
    let head = Checkpoint::verify(&bytes, std::slice::from_ref(log));
    head.map(Some).map_err(|error| {
        Failure::input(format_args!("{}: not a head of this log: {error}", state.display()))
            .with_remedy("name the state file that belongs to this log, or a new one")
    })
}

/// Two heads of one log that do not go together: both are printed, since they are the evidence.
fn fork(what: &str, before: &Checkpoint, head: &Checkpoint) -> Failure {
    let evidence = format!("seen before:\n{}\nshown now:\n{}", before.note(), head.note());
    Failure::new(Code::Refused, format!("the log is forked: {what}"), evidence)
}

fn text(found: &Found) -> String {
    let row = |entry: &Entry| {
        vec![
            entry.index.to_string(),
            harmless(&entry.kind),
            harmless(entry.name.as_deref().unwrap_or("-")),
            harmless(entry.version.as_deref().unwrap_or("-")),
            entry.identity.to_string(),
            (if entry.forged { "FORGED" } else { "" }).to_owned(),
        ]
    };
    let mut lines =
        vec![format!("{}: {} leaves, read from {} on", harmless(&found.origin), found.size, found.from)];
    if !found.entries.is_empty() {
        let rows: Vec<_> = found.entries.iter().map(row).collect();
        lines.push(table(&["LEAF", "KIND", "NAME", "VERSION", "NOTE", ""], &rows));
    }
    lines.extend(found.unreadable.iter().map(|index| format!("leaf {index} is not a note")));
    lines.join("\n")
}
