//! Who did what: append only.

use remit_protocol::Timestamp;
use rusqlite::{Row, params};

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

impl Store {
    /// Appends an entry.
    pub async fn audit(&self, new: NewAudit) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                tx.prepare_cached(
                    "insert into audit (at, who, action, target, detail) values (?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    new.at.as_millis(),
                    new.who,
                    new.action,
                    new.target,
                    new.detail
                ])?;
                Ok(())
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
}
