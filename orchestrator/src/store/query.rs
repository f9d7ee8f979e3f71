//! What queries about executions have in common.

use remit_protocol::ExecutionId;
use rusqlite::{Connection, Row, types::Value as Column};

use super::{StoreError, row};

/// Every row that `sql` finds for an execution.
pub(super) fn all<T>(
    db: &Connection,
    sql: &str,
    id: ExecutionId,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([row::key(id.to_u128())], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Conditions of a query, and their values in the same order.
#[derive(Default)]
pub(super) struct Conditions {
    pub(super) sql: String,
    pub(super) values: Vec<Column>,
}

impl Conditions {
    pub(super) fn and(&mut self, condition: &str, value: impl Into<Column>) {
        self.and_no_value(condition);
        self.values.push(value.into());
    }

    pub(super) fn and_no_value(&mut self, condition: &str) {
        self.sql.push_str(if self.sql.is_empty() { " where " } else { " and " });
        self.sql.push_str(condition);
    }
}

pub(super) fn key(id: ExecutionId) -> Column {
    Column::Blob(row::key(id.to_u128()).to_vec())
}

/// A kind as a pattern: only its letters and hyphens count.
pub(super) fn escaped(kind: &str) -> String {
    kind.chars().filter(|c| c.is_ascii_lowercase() || *c == '-').collect()
}
