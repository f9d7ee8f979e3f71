//! What was typed for executions, sealed: kept until they end.

use remit_protocol::{ExecutionId, sealed::Sealed};
use rusqlite::{Connection, params};

use super::{Store, StoreError, row};

/// Keeps the sealed values of an execution that is being made.
pub(super) fn keep(tx: &Connection, id: ExecutionId, values: &[Sealed]) -> Result<(), StoreError> {
    for (number, sealed) in (0_u32..).zip(values) {
        tx.prepare_cached("insert into sealed values (?, ?, ?)")?.execute(params![
            row::key(id.to_u128()),
            number,
            row::to_json(sealed)?
        ])?;
    }
    Ok(())
}

/// Forgets them: the execution has ended.
pub(super) fn forget(tx: &Connection, id: ExecutionId) -> Result<(), StoreError> {
    tx.prepare_cached("delete from sealed where execution = ?")?.execute([row::key(id.to_u128())])?;
    Ok(())
}

impl Store {
    /// What was typed for an execution, sealed; nothing once it has ended.
    pub(crate) async fn sealed(&self, id: ExecutionId) -> Result<Vec<Sealed>, StoreError> {
        self.db
            .read(move |db| {
                let mut query =
                    db.prepare_cached("select body from sealed where execution = ? order by number")?;
                let rows = query.query_map([row::key(id.to_u128())], |row| row::json(row, "body"))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}
