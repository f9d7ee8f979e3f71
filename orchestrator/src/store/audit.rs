//! Who did what: append only, each entry a line that is linked to the one before ([`remit_signing::trail`]).

use remit_protocol::Timestamp;
use remit_signing::trail::{self, Head};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::{Store, StoreError, row};

/// Something that somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAudit {
    /// When.
    pub at: Timestamp,
    /// Who: a token, a runner, the system.
    pub who: String,
    /// What, such as `job.save`.
    pub action: String,
    /// To what, such as `ops/restart_web`.
    pub target: String,
    /// More, in words or JSON. Never a secret.
    pub detail: String,
}

/// An entry of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number; they grow.
    pub number: u64,
    /// What happened.
    pub entry: NewAudit,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only entries before this number.
    pub before: Option<u64>,
    /// Only of this actor.
    pub who: Option<String>,
    /// Only actions that begin so.
    pub action: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// A part of the record as lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLines {
    /// The lines, in order, without newlines.
    pub lines: Vec<String>,
    /// The number of the last one; pass it on to get what follows.
    pub last: Option<u64>,
}

/// An entry as it stands in its line.
#[derive(Serialize)]
struct Event<'a> {
    kind: &'a str,
    who: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

/// Longest text that is kept of an entry whose line would be too long.
const SHORT: usize = 1000;

fn read(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        number: row.get("number")?,
        entry: NewAudit {
            at: row::time(row, "at")?,
            who: row.get("who")?,
            action: row.get("action")?,
            target: row.get("target")?,
            detail: row.get("detail")?,
        },
    })
}

fn head(db: &Connection) -> Result<Head, StoreError> {
    let mut query = db.prepare_cached("select entries, digest from audit_head")?;
    let found = query.query_row([], |found| {
        Ok(Head { entries: found.get("entries")?, digest: row::digest(found, "digest")? })
    });
    Ok(found.optional()?.unwrap_or_else(Head::origin))
}

fn keep_head(tx: &Connection, head: Head) -> Result<(), StoreError> {
    tx.prepare_cached("insert or replace into audit_head values (0, ?, ?)")?
        .execute(params![head.entries, head.digest.as_bytes()])?;
    Ok(())
}

/// The line of an entry behind `head`. What is too long for a line is shortened, and says so.
fn line(head: Head, new: &NewAudit) -> Result<(String, Head), StoreError> {
    let NewAudit { at, who, action, target, detail } = new;
    let event = Event { kind: action, who, target, detail };
    if let Some(line) = trail::append(head, *at, &event) {
        return Ok(line);
    }
    let short = |text: &str| text.chars().take(SHORT).collect::<String>();
    let (who, kind, target) = (short(who), short(action), short(target));
    let event = Event { kind: &kind, who: &who, target: &target, detail: "shortened" };
    trail::append(head, *at, &event)
        .ok_or_else(|| StoreError::conflict("audit entry", kind, "it cannot be written down"))
}

/// Links entries that were written before there were lines. Called once, before the store is used.
pub(super) fn link(tx: &Connection) -> Result<(), StoreError> {
    let mut all = tx.prepare("select * from audit where line is null order by number")?;
    let old: Vec<AuditEntry> = all.query_map([], read)?.collect::<Result<_, _>>()?;
    let mut end = head(tx)?;
    for AuditEntry { number, entry } in old {
        let (line, after) = line(end, &entry)?;
        tx.execute("update audit set line = ? where number = ?", params![line, number])?;
        end = after;
    }
    keep_head(tx, end)
}

impl Store {
    /// Appends an entry.
    pub async fn audit(&self, new: NewAudit) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let (line, after) = line(head(tx)?, &new)?;
                tx.prepare_cached(
                    "insert into audit (at, who, action, target, detail, line) values (?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    new.at.as_millis(),
                    new.who,
                    new.action,
                    new.target,
                    new.detail,
                    line
                ])?;
                keep_head(tx, after)
            })
            .await
    }

    /// Entries, the newest first.
    pub async fn audit_entries(&self, filter: AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select * from audit where number < ?1 and (?2 is null or who = ?2)
                     and (?3 is null or substr(action, 1, length(?3)) = ?3) order by number desc limit ?4",
                )?;
                let before = filter.before.unwrap_or(i64::MAX as u64);
                let all = query
                    .query_map(params![before, filter.who, filter.action, filter.limit.min(1000)], read)?;
                Ok(all.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The end of the record.
    pub async fn audit_head(&self) -> Result<Head, StoreError> {
        self.db.read(head).await
    }

    /// The lines behind the entry `after`, the oldest first, at most `most`.
    pub async fn audit_lines(&self, after: u64, most: u32) -> Result<AuditLines, StoreError> {
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select number, line from audit where number > ? and line is not null order by number limit ?",
                )?;
                let found = query.query_map(params![after, most], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let found: Vec<(u64, String)> = found.collect::<Result<_, _>>()?;
                let last = found.last().map(|(number, _)| *number);
                Ok(AuditLines { lines: found.into_iter().map(|(_, line)| line).collect(), last })
            })
            .await
    }
}
