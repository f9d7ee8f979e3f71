//! What of the history is let go: whole executions, with everything that was recorded of them.

use std::collections::HashSet;

use remit_protocol::{Digest, ExecutionId, ProjectName};
use rusqlite::{Connection, params};

use super::{Store, StoreError, row};

/// Tables with a row for each attempt, keyed by it.
const BY_ATTEMPT: &[&str] = &["dispatch", "evidence", "upload"];
/// Tables keyed by the execution. What keeps a request from being taken twice – idempotency keys, deliveries – and what is
/// still to be told has a time of its own, and stays.
const BY_EXECUTION: &[&str] = &["attempt", "section", "result", "step", "feed", "approval", "artifact"];

impl Store {
    /// Forgets executions that have ended; gives those that were there. What has not ended stays.
    pub async fn forget_executions(&self, ids: Vec<ExecutionId>) -> Result<Vec<ExecutionId>, StoreError> {
        self.db
            .write(move |tx| {
                let mut gone = Vec::with_capacity(ids.len());
                for id in ids {
                    if forget(tx, id)? {
                        gone.push(id);
                    }
                }
                Ok(gone)
            })
            .await
    }

    /// Every blob that something names: documents, components, node sets, artifacts.
    pub async fn blobs_in_use(&self) -> Result<HashSet<Digest>, StoreError> {
        /// Queries for digests as bytes, and for digests as text.
        const BYTES: &[&str] = &[
            "select document from job_revision",
            "select digest from component",
            "select document from source where document is not null",
            "select nodes from source where nodes is not null",
            "select digest from artifact",
            "select digest from upload",
            "select digest from file",
        ];
        const TEXTS: &[&str] = &[
            "select json_extract(head, '$.document.digest') from execution",
            "select json_extract(file.value, '$.digest') from execution, json_each(head, '$.files') as file where ended is null",
            "select json_extract(head, '$.nodes.set.digest') from execution where json_extract(head, '$.nodes') is not null",
        ];
        self.db
            .read(|db| {
                let mut used = HashSet::new();
                for sql in BYTES {
                    let mut query = db.prepare(sql)?;
                    for digest in query.query_map([], |row| row.get(0).map(Digest::from_bytes))? {
                        used.insert(digest?);
                    }
                }
                for sql in TEXTS {
                    let mut query = db.prepare(sql)?;
                    for text in query.query_map([], |row| row.get::<_, String>(0))? {
                        let digest = text?.parse();
                        used.insert(
                            digest.map_err(|_| StoreError::Damaged("a digest of an execution".to_owned()))?,
                        );
                    }
                }
                Ok(used)
            })
            .await
    }

    /// How many jobs a project has.
    pub async fn count_jobs(&self, project: &ProjectName) -> Result<u32, StoreError> {
        let project = project.clone();
        self.db
            .read(move |db| {
                let count = db
                    .prepare_cached("select count(*) from job where project = ?")?
                    .query_row([project.as_str()], |row| row.get(0))?;
                Ok(count)
            })
            .await
    }
}

fn forget(tx: &Connection, id: ExecutionId) -> Result<bool, StoreError> {
    let key = row::key(id.to_u128());
    let ended = tx
        .prepare_cached("delete from execution where id = ? and ended is not null")?
        .execute(params![key])?;
    if ended == 0 {
        return Ok(false);
    }
    for table in BY_ATTEMPT {
        let sql =
            format!("delete from {table} where attempt in (select id from attempt where execution = ?)");
        tx.prepare_cached(&sql)?.execute(params![key])?;
    }
    for table in BY_EXECUTION {
        tx.prepare_cached(&format!("delete from {table} where execution = ?"))?.execute(params![key])?;
    }
    Ok(true)
}
