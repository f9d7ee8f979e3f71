//! Verdicts of reviewers, beside the components that they are about.

use std::collections::BTreeSet;

use remit_protocol::{Digest, Timestamp};
use rusqlite::{Connection, params};

use super::{Store, StoreError};

/// A verdict that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The wasm that it is about.
    pub component: Digest,
    /// The wasm of the release that it began from, if it is about a change.
    pub since: Option<Digest>,
    /// It is for the release, not against it.
    pub pass: bool,
    /// The note, exactly.
    pub note: String,
    /// When it came.
    pub published: Timestamp,
    /// Who sent it.
    pub publisher: String,
}

/// Notes about one wasm with what they began from: those against it first, then the newest.
fn about(
    db: &Connection,
    component: &Digest,
    most: usize,
) -> Result<Vec<(String, Option<Digest>)>, StoreError> {
    let mut query = db.prepare_cached(
        "select note, since from verdict where component = ? order by pass, number desc limit ?",
    )?;
    let found = query.query_map(params![component.as_bytes(), most], |row| {
        let since: Option<[u8; 32]> = row.get("since")?;
        Ok((row.get("note")?, since.map(Digest::from_bytes)))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

impl Store {
    /// Keeps a verdict, unless these very bytes are there. True if it is new.
    pub async fn keep_verdict(&self, new: Verdict) -> Result<bool, StoreError> {
        self.db
            .write(move |tx| {
                let kept = tx
                    .prepare_cached(
                        "insert or ignore into verdict (digest, component, since, pass, note, published, publisher)
                         values (?, ?, ?, ?, ?, ?, ?)",
                    )?
                    .execute(params![
                        Digest::of(new.note.as_bytes()).as_bytes(),
                        new.component.as_bytes(),
                        new.since.as_ref().map(Digest::as_bytes),
                        new.pass,
                        new.note,
                        new.published.as_millis(),
                        new.publisher
                    ])?;
                Ok(kept == 1)
            })
            .await
    }

    /// The notes about a wasm, and about those that they began from, and so on: at most `most`, nearest first.
    pub async fn verdicts_behind(&self, component: Digest, most: usize) -> Result<Vec<String>, StoreError> {
        self.db
            .read(move |db| {
                let mut notes = Vec::new();
                let mut seen = BTreeSet::from([component]);
                let mut next = vec![component];
                while !next.is_empty() && notes.len() < most {
                    let mut bases = Vec::new();
                    for component in next {
                        for (note, since) in about(db, &component, most - notes.len())? {
                            notes.push(note);
                            bases.extend(since.filter(|base| seen.insert(*base)));
                        }
                    }
                    next = bases;
                }
                Ok(notes)
            })
            .await
    }
}
