//! How steps ended, and what happened meanwhile: results by node, the feed by number.

use std::collections::BTreeMap;

use remit_protocol::{
    AttemptId, ExecutionId, NodeIndex, Outcome, StepIndex, Timestamp,
    report::{StepEnded, Usage},
};
use rusqlite::{Row, params, params_from_iter, types::Value as Column};

use super::{
    MAX_PAGE, Store, StoreError,
    query::{Conditions, all, escaped, key},
    row,
};
use crate::execution::Happening;

/// How a step ended, on one node if it is a node step.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRecord {
    /// In which attempt; none if it was never handed out.
    pub attempt: Option<AttemptId>,
    /// How it ended.
    pub ended: StepEnded,
}

/// Which results are wanted; all that is given must hold. They come by node, then by step.
#[derive(Debug, Clone, Default)]
pub struct ResultFilter {
    /// Of this step.
    pub step: Option<StepIndex>,
    /// Of this node.
    pub node: Option<NodeIndex>,
    /// Whose outcome is of this kind: `failed`, `refused` …
    pub outcome: Option<String>,
    /// True: only node steps' results; false: only workflow steps'.
    pub per_node: Option<bool>,
    /// Only what comes after this node and step: the last of the page before.
    pub after: Option<(Option<NodeIndex>, StepIndex)>,
    /// At most so many.
    pub limit: u32,
}

/// A happening with its number in the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedEntry {
    /// Its number.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happening,
}

fn read_result(row: &Row<'_>) -> rusqlite::Result<ResultRecord> {
    let node: i64 = row.get("node")?;
    Ok(ResultRecord {
        attempt: row::maybe_id(row, "attempt", AttemptId::from_u128)?,
        ended: StepEnded {
            step: StepIndex(row.get("step")?),
            node: u32::try_from(node).ok().map(NodeIndex),
            outcome: row::text(row, "outcome")?,
            tries: row.get("tries")?,
            started: row::time(row, "started")?,
            ended: row::time(row, "ended")?,
            output: row::maybe_json(row, "output")?,
            message: row.get("message")?,
            usage: row::maybe_json::<Usage>(row, "usage")?.map(Box::new),
            remit: row::maybe_digest(row, "remit")?,
            // They have a table of their own.
            artifacts: Vec::new(),
        },
    })
}

impl Store {
    /// How steps ended, by node and then by step.
    pub async fn results(
        &self,
        id: ExecutionId,
        filter: ResultFilter,
    ) -> Result<Vec<ResultRecord>, StoreError> {
        self.db
            .read(move |db| {
                let mut conditions = Conditions::default();
                conditions.and("execution = ?", key(id));
                if let Some(step) = filter.step {
                    conditions.and("step = ?", i64::from(step.0));
                }
                if let Some(node) = filter.node {
                    conditions.and("node = ?", i64::from(node.0));
                }
                if let Some(outcome) = filter.outcome {
                    conditions.and("(outcome || '(') like ?", format!("{}(%", escaped(&outcome)));
                }
                match filter.per_node {
                    Some(true) => conditions.and("node >= ?", 0),
                    Some(false) => conditions.and("node = ?", -1),
                    None => {}
                }
                if let Some((node, step)) = filter.after {
                    conditions.and("(node, step) > (?,", column_of(node));
                    conditions.sql.push_str(" ?)");
                    conditions.values.push(Column::Integer(step.0.into()));
                }
                let sql = format!(
                    "select * from result{} order by node, step limit {}",
                    conditions.sql,
                    filter.limit.min(MAX_PAGE)
                );
                let mut query = db.prepare_cached(&sql)?;
                let rows = query.query_map(params_from_iter(conditions.values), read_result)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// How many results of each step ended how.
    pub async fn result_counts(
        &self,
        id: ExecutionId,
    ) -> Result<BTreeMap<StepIndex, BTreeMap<Outcome, u32>>, StoreError> {
        self.db
            .read(move |db| {
                let counted = all(
                    db,
                    "select step, outcome, count(*) as number from result where execution = ? group by step, outcome",
                    id,
                    |row| Ok((StepIndex(row.get("step")?), row::text(row, "outcome")?, row.get("number")?)),
                )?;
                let mut counts: BTreeMap<StepIndex, BTreeMap<Outcome, u32>> = BTreeMap::new();
                for (step, outcome, number) in counted {
                    counts.entry(step).or_default().insert(outcome, number);
                }
                Ok(counts)
            })
            .await
    }

    /// Every result's step, node and outcome, and the outputs of workflow steps: what the scheduler needs to go on
    /// with an execution.
    pub async fn outcomes(
        &self,
        id: ExecutionId,
    ) -> Result<Vec<(StepIndex, Option<NodeIndex>, Outcome, Option<serde_json::Value>)>, StoreError> {
        self.db
            .read(move |db| {
                all(
                    db,
                    "select step, node, outcome, iif(node < 0, output, null) as output from result where execution = ?",
                    id,
                    |row| {
                        let node: i64 = row.get("node")?;
                        Ok((
                            StepIndex(row.get("step")?),
                            u32::try_from(node).ok().map(NodeIndex),
                            row::text(row, "outcome")?,
                            row::maybe_json(row, "output")?,
                        ))
                    },
                )
            })
            .await
    }

    /// The nodes that each attempt of an execution was about to begin.
    pub async fn dispatched(&self, id: ExecutionId) -> Result<Vec<(AttemptId, Vec<NodeIndex>)>, StoreError> {
        self.db
            .read(move |db| {
                all(
                    db,
                    "select d.attempt, d.nodes from attempt a join dispatch d on d.attempt = a.id where a.execution = ?",
                    id,
                    |row| Ok((row::id(row, "attempt", AttemptId::from_u128)?, row::json(row, "nodes")?)),
                )
            })
            .await
    }

    /// Happenings after number `after`, in order; at most [`MAX_PAGE`] commits' worth.
    pub async fn events_after(&self, id: ExecutionId, after: u64) -> Result<Vec<FeedEntry>, StoreError> {
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select last, at, events from feed where execution = ? and last > ? order by last limit ?",
                )?;
                let rows = query.query_map(params![row::key(id.to_u128()), after, MAX_PAGE], |row| {
                    let last: u64 = row.get("last")?;
                    Ok((last, row::time(row, "at")?, row::json::<Vec<Happening>>(row, "events")?))
                })?;
                let mut entries = Vec::new();
                for found in rows {
                    let (last, at, events) = found?;
                    let first = last + 1 - events.len() as u64;
                    let numbered = (first..).zip(events).map(|(number, what)| FeedEntry { number, at, what });
                    entries.extend(numbered.filter(|entry| entry.number > after));
                }
                Ok(entries)
            })
            .await
    }
}

fn column_of(node: Option<NodeIndex>) -> Column {
    Column::Integer(node.map_or(-1, |node| node.0.into()))
}
