//! The signed ends of runners' own records: kept elsewhere than the records, so that cutting one off is seen.

use remit_protocol::{RunnerId, Timestamp};
use remit_signing::trail::Head;
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, row};

/// The signed end of a runner's own record, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailHead {
    /// The key that signed it.
    pub key: [u8; 32],
    /// What was signed.
    pub head: Head,
    /// The note, exactly.
    pub note: String,
    /// When it came.
    pub at: Timestamp,
    /// A signed end that does not fit to it: it is shorter, or another one of the same length. The first of them.
    pub against: Option<String>,
}

/// What became of a signed end that a runner sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is the newest now.
    Newest,
    /// It was there.
    Same,
    /// It does not fit to the one of so many entries that is kept.
    Against {
        /// How many.
        entries: u64,
        /// This is the first time.
        first: bool,
    },
}

fn read_trail(found: &Row<'_>) -> rusqlite::Result<TrailHead> {
    Ok(TrailHead {
        key: *row::digest(found, "key")?.as_bytes(),
        head: Head { entries: found.get("entries")?, digest: row::digest(found, "digest")? },
        note: found.get("note")?,
        at: row::time(found, "at")?,
        against: found.get("against")?,
    })
}

impl Store {
    /// Keeps the signed end of a runner's record; one that is shorter than what was seen is kept as evidence beside it.
    pub async fn keep_trail(&self, runner: RunnerId, new: TrailHead) -> Result<Kept, StoreError> {
        self.db
            .write(move |tx| {
                let id = row::key(runner.to_u128());
                let found = tx
                    .prepare_cached("select * from runner_trail where runner = ? and key = ?")?
                    .query_row(params![id, new.key], read_trail)
                    .optional()?;
                match found {
                    Some(old) if old.head == new.head => Ok(Kept::Same),
                    Some(old) if old.head.entries >= new.head.entries => {
                        tx.prepare_cached(
                            "update runner_trail set against = coalesce(against, ?) where runner = ? and key = ?",
                        )?
                        .execute(params![new.note, id, new.key])?;
                        Ok(Kept::Against { entries: old.head.entries, first: old.against.is_none() })
                    }
                    found => {
                        tx.prepare_cached("insert or replace into runner_trail values (?, ?, ?, ?, ?, ?, ?)")?
                            .execute(params![
                                id,
                                new.key,
                                new.head.entries,
                                new.head.digest.as_bytes(),
                                new.note,
                                new.at.as_millis(),
                                found.and_then(|old| old.against)
                            ])?;
                        Ok(Kept::Newest)
                    }
                }
            })
            .await
    }

    /// The signed ends of a runner's records, one for each key that it has had, the newest first.
    pub async fn trails(&self, runner: RunnerId) -> Result<Vec<TrailHead>, StoreError> {
        self.db
            .read(move |db| {
                let mut query =
                    db.prepare_cached("select * from runner_trail where runner = ? order by at desc")?;
                Ok(query.query_map([row::key(runner.to_u128())], read_trail)?.collect::<Result<_, _>>()?)
            })
            .await
    }
}
