//! Recording what the pure core decided about executions.

use remit_protocol::{
    AttemptId, Digest, ExecutionId, IdempotencyKey, NodeIndex, Origin, Outcome, StepIndex, Timestamp,
    report::StepEnded, sealed::Sealed,
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Created, Refreshed, ScheduleKey, Store, StoreError, artifacts, database::Turn, hooks, nodes::refreshed,
    notices, row, schedules, sealed,
};
use crate::execution::{AttemptRecord, Change, ExecutionState, Happening, Head, Purpose, SectionRecord};

/// An execution that is to be made, with what was decided about it at once.
#[derive(Debug, Clone)]
pub struct NewExecution {
    /// Its id.
    pub id: ExecutionId,
    /// What it is of.
    pub head: Head,
    /// What was typed for it, sealed.
    pub sealed: Vec<Sealed>,
    /// When it is made.
    pub at: Timestamp,
    /// What makes the request repeatable: a key of the caller's choosing, and the digest of the request. The same key
    /// with another request is a conflict.
    pub key: Option<(IdempotencyKey, Digest)>,
    /// Its plan and its first moves.
    pub changes: Vec<Change>,
    /// What people are told.
    pub happenings: Vec<Happening>,
}

/// What was decided about one execution on the strength of what was known of it.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Which execution.
    pub execution: ExecutionId,
    /// The version that was known: if it is another by now, nothing is recorded.
    pub version: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// What changes.
    pub changes: Vec<Change>,
    /// What people are told.
    pub happenings: Vec<Happening>,
}

impl Store {
    /// Waits for a place in the queue of those who write. Take it, decide, and use it at once: what is recorded then
    /// stands in the order in which it was decided.
    pub(crate) async fn turn(&self) -> Result<Turn, StoreError> {
        self.db.turn().await
    }

    /// Makes an execution, unless the same request made it before.
    pub(crate) fn create_execution(
        turn: Turn,
        new: NewExecution,
    ) -> impl Future<Output = Result<Created, StoreError>> + Send + 'static {
        turn.write(move |tx| create(tx, new))
    }

    /// Records decisions about executions: each wholly or, if the execution has changed since, not at all.
    pub(crate) fn record(
        turn: Turn,
        commits: Vec<Commit>,
    ) -> impl Future<Output = Result<Vec<Result<(), StoreError>>, StoreError>> + Send + 'static {
        turn.write(move |tx| {
            let mut results = Vec::with_capacity(commits.len());
            for commit in commits {
                results.push(match record(tx, &commit) {
                    // Seen before anything was written.
                    Err(conflict @ StoreError::Conflict { .. }) => Err(conflict),
                    other => Ok(other?),
                });
            }
            Ok(results)
        })
    }
}

impl Store {
    /// Keeps what came too late for an execution that has ended.
    pub(crate) async fn record_evidence(
        &self,
        execution: ExecutionId,
        version: u64,
        at: Timestamp,
        changes: Vec<Change>,
        happenings: Vec<Happening>,
    ) -> Result<(), StoreError> {
        let commit = Commit { execution, version, at, changes, happenings };
        let results = Self::record(self.turn().await?, vec![commit]).await?;
        results.into_iter().collect()
    }
}

fn create(tx: &Connection, new: NewExecution) -> Result<Created, StoreError> {
    let id = row::key(new.id.to_u128());
    let project = new.head.project.as_str();
    let job = new.head.job.as_str();
    let parent = new.head.parent;
    if let Some(parent) = parent {
        let before = tx
            .prepare_cached(
                "select id from execution where parent = ? and parent_section = ? and parent_item = ?",
            )?
            .query_row(params![row::key(parent.execution.to_u128()), parent.section.0, parent.item], |row| {
                row::id(row, "id", ExecutionId::from_u128)
            })
            .optional()?;
        if let Some(before) = before {
            return Ok(Created::Before(before));
        }
    }
    if let Some((key, request)) = &new.key {
        let before: Option<(u128, [u8; 32])> = tx
            .prepare_cached(
                "select execution, request from idempotency where project = ? and job = ? and key = ?",
            )?
            .query_row([project, job, key.as_str()], |row| {
                Ok((row::id(row, "execution", |id| id)?, row.get("request")?))
            })
            .optional()?;
        if let Some((execution, digest)) = before {
            if digest != *request.as_bytes() {
                return Err(StoreError::conflict("idempotency key", key, "it was used for another request"));
            }
            return Ok(Created::Before(ExecutionId::from_u128(execution)));
        }
        tx.prepare_cached("insert into idempotency values (?, ?, ?, ?, ?)")?.execute(params![
            project,
            job,
            key.as_str(),
            request.as_bytes(),
            id
        ])?;
    }
    if let Origin::Schedule { name, due } = &new.head.origin {
        let key =
            ScheduleKey { project: new.head.project.clone(), job: new.head.job.clone(), name: name.clone() };
        schedules::take(tx, &key, *due, new.id)?;
    }
    if let Origin::Webhook { name, delivery, sent } = &new.head.origin {
        hooks::take(tx, &new.head.project, (name, delivery, *sent), new.id)?;
    }
    if let Origin::Retry { execution } = &new.head.origin {
        let taken = tx
            .prepare_cached("delete from retry where execution = ?")?
            .execute([row::key(execution.to_u128())])?;
        if taken == 0 {
            return Err(StoreError::conflict("execution", execution, "its job was tried again before"));
        }
    }
    let (state, began, ended, stop) =
        moved(&new.changes).unwrap_or((ExecutionState::Queued, None, None, None));
    tx.prepare_cached("insert into execution values (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?
        .execute(params![
            id,
            project,
            job,
            row::to_json(&new.head.purpose)?,
            row::to_json(&new.head)?,
            state.to_string(),
            new.happenings.len() as u64,
            new.at.as_millis(),
            began.map(Timestamp::as_millis),
            ended.map(Timestamp::as_millis),
            new.head.revision.0,
            new.head.started_by,
            stop.map(|outcome| outcome.to_string()),
            row::to_json(&new.head.origin)?,
            parent.map(|parent| row::key(parent.execution.to_u128())),
            parent.map(|parent| parent.section.0),
            parent.map(|parent| parent.item),
        ])?;
    if ended.is_none() {
        sealed::keep(tx, new.id, &new.sealed)?;
    }
    if let Purpose::Source(name) = &new.head.purpose {
        tx.prepare_cached("update source set execution = ? where project = ? and name = ?")?
            .execute(params![id, project, name.as_str()])?;
    }
    for change in &new.changes {
        apply(tx, new.id, change, new.at)?;
    }
    tell(tx, new.id, new.happenings.len() as u64, &new.happenings, new.at)?;
    Ok(Created::New)
}

/// The last move of the execution itself.
type Moved = (ExecutionState, Option<Timestamp>, Option<Timestamp>, Option<Outcome>);

fn moved(changes: &[Change]) -> Option<Moved> {
    changes.iter().rev().find_map(|change| match change {
        Change::Execution { state, began, ended, stop } => Some((*state, *began, *ended, *stop)),
        _ => None,
    })
}

fn record(tx: &Connection, commit: &Commit) -> Result<(), StoreError> {
    let id = row::key(commit.execution.to_u128());
    let known = params![id, commit.version];
    // An empty commit writes nothing, and still makes sure that what it stands on is recorded.
    if commit.changes.is_empty() && commit.happenings.is_empty() {
        let found = tx
            .prepare_cached("select 1 from execution where id = ? and version = ?")?
            .query_row(known, |_| Ok(()))
            .optional()?;
        return found.ok_or_else(|| stale(commit.execution));
    }
    let told = commit.happenings.len() as u64;
    let last: Option<u64> = match moved(&commit.changes) {
        Some((state, began, ended, stop)) => tx
            .prepare_cached(
                "update execution set version = version + 1, last_event = last_event + ?3, state = ?4, began = ?5,
                 ended = ?6, stop = ?7 where id = ?1 and version = ?2 returning last_event",
            )?
            .query_row(
                params![
                    id,
                    commit.version,
                    told,
                    state.to_string(),
                    began.map(Timestamp::as_millis),
                    ended.map(Timestamp::as_millis),
                    stop.map(|outcome| outcome.to_string())
                ],
                |row| row.get(0),
            )
            .optional()?,
        None => tx
            .prepare_cached(
                "update execution set version = version + 1, last_event = last_event + ?3
                 where id = ?1 and version = ?2 returning last_event",
            )?
            .query_row(params![id, commit.version, told], |row| row.get(0))
            .optional()?,
    };
    let last = last.ok_or_else(|| stale(commit.execution))?;
    if moved(&commit.changes).is_some_and(|(_, _, ended, _)| ended.is_some()) {
        sealed::forget(tx, commit.execution)?;
    }
    for change in &commit.changes {
        apply(tx, commit.execution, change, commit.at)?;
    }
    tell(tx, commit.execution, last, &commit.happenings, commit.at)
}

fn stale(id: ExecutionId) -> StoreError {
    StoreError::conflict("execution", id, "it has changed in the meantime; try again")
}

fn tell(
    tx: &Connection,
    id: ExecutionId,
    last: u64,
    happenings: &[Happening],
    at: Timestamp,
) -> Result<(), StoreError> {
    if !happenings.is_empty() {
        tx.prepare_cached("insert into feed values (?, ?, ?, ?)")?.execute(params![
            row::key(id.to_u128()),
            last,
            at.as_millis(),
            row::to_json(&happenings)?
        ])?;
    }
    Ok(())
}

fn apply(tx: &Connection, id: ExecutionId, change: &Change, at: Timestamp) -> Result<(), StoreError> {
    match change {
        // Written with the execution's version.
        Change::Execution { .. } => Ok(()),
        Change::Planned(section) => plan(tx, id, section),
        Change::Section(section) => move_section(tx, id, section),
        Change::HandedOut(attempt) => hand_out(tx, id, attempt),
        Change::Attempt(attempt) => move_attempt(tx, attempt),
        Change::Approved(approval) => {
            tx.prepare_cached("insert or ignore into approval values (?, ?, ?, ?, ?)")?.execute(params![
                row::key(id.to_u128()),
                approval.section.0,
                approval.by,
                approval.at.as_millis(),
                approval.note
            ])?;
            Ok(())
        }
        Change::Dispatched { attempt, number, nodes } => dispatch(tx, *attempt, *number, nodes),
        Change::StepEnded { attempt, ended } => step_ended(tx, id, *attempt, ended),
        Change::TakenOver { from, steps, nodes } => take_over(tx, id, *from, *steps, nodes.as_deref()),
        Change::StepConcluded { step, outcome } => {
            tx.prepare_cached("insert or replace into step values (?, ?, ?)")?.execute(params![
                row::key(id.to_u128()),
                step.0,
                outcome.to_string()
            ])?;
            Ok(())
        }
        Change::SourceNodes { name, found } => {
            let project: String = tx
                .prepare_cached("select project from execution where id = ?")?
                .query_row([row::key(id.to_u128())], |row| row.get(0))?;
            let project = project.parse().map_err(|_| StoreError::Damaged("a project's name".to_owned()))?;
            let what = match found {
                Ok((set, count)) => Refreshed::Nodes { set: *set, count: *count },
                Err(why) => Refreshed::Failed(why.clone()),
            };
            refreshed(tx, (&project, name), Some(id), &what, at)
        }
        Change::Retry(due) => {
            tx.prepare_cached("insert into retry values (?, ?)")?
                .execute(params![row::key(id.to_u128()), due.as_millis()])?;
            Ok(())
        }
        Change::Notice(notice) => notices::add(tx, id, notice, at),
        Change::Evidence { attempt, number, event } => {
            tx.prepare_cached("insert or ignore into evidence values (?, ?, ?, ?)")?.execute(params![
                row::key(attempt.to_u128()),
                number,
                at.as_millis(),
                row::to_json(event)?
            ])?;
            Ok(())
        }
    }
}

fn plan(tx: &Connection, id: ExecutionId, section: &SectionRecord) -> Result<(), StoreError> {
    tx.prepare_cached("insert into section values (?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        row::key(id.to_u128()),
        section.place.number.0,
        row::to_json(&section.place)?,
        section.state.to_string(),
        section.epoch.0,
        section.losses,
        section.not_before.map(Timestamp::as_millis)
    ])?;
    Ok(())
}

fn move_section(tx: &Connection, id: ExecutionId, section: &SectionRecord) -> Result<(), StoreError> {
    tx.prepare_cached(
        "update section set state = ?, epoch = ?, losses = ?, not_before = ? where execution = ? and number = ?",
    )?
    .execute(params![
        section.state.to_string(),
        section.epoch.0,
        section.losses,
        section.not_before.map(Timestamp::as_millis),
        row::key(id.to_u128()),
        section.place.number.0
    ])?;
    Ok(())
}

fn hand_out(tx: &Connection, id: ExecutionId, attempt: &AttemptRecord) -> Result<(), StoreError> {
    tx.prepare_cached("insert into attempt values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
        params![
            row::key(attempt.id.to_u128()),
            row::key(id.to_u128()),
            attempt.section.0,
            attempt.epoch.0,
            row::key(attempt.runner.to_u128()),
            attempt.session.0,
            row::to_json(&attempt.ranges)?,
            attempt.state.to_string(),
            attempt.nonce.map(u64::cast_signed),
            attempt.events,
            attempt.leased.as_millis(),
            attempt.began.map(Timestamp::as_millis),
            attempt.ended.map(Timestamp::as_millis),
            attempt.message,
            attempt.result.as_ref().map(row::to_json).transpose()?
        ],
    )?;
    Ok(())
}

fn move_attempt(tx: &Connection, attempt: &AttemptRecord) -> Result<(), StoreError> {
    tx.prepare_cached(
        "update attempt set session = ?, state = ?, nonce = ?, events = ?, began = ?, ended = ?, message = ?, result = ?
         where id = ?",
    )?
    .execute(params![
        attempt.session.0,
        attempt.state.to_string(),
        attempt.nonce.map(u64::cast_signed),
        attempt.events,
        attempt.began.map(Timestamp::as_millis),
        attempt.ended.map(Timestamp::as_millis),
        attempt.message,
        attempt.result.as_ref().map(row::to_json).transpose()?,
        row::key(attempt.id.to_u128())
    ])?;
    Ok(())
}

fn dispatch(tx: &Connection, attempt: AttemptId, number: u64, nodes: &[NodeIndex]) -> Result<(), StoreError> {
    tx.prepare_cached("insert into dispatch values (?, ?, ?)")?.execute(params![
        row::key(attempt.to_u128()),
        number,
        row::to_json(&nodes)?
    ])?;
    Ok(())
}

/// Results of an earlier execution become results of this one; no attempt of its own stands behind them.
fn take_over(
    tx: &Connection,
    id: ExecutionId,
    from: ExecutionId,
    (first, end): (StepIndex, StepIndex),
    nodes: Option<&[(u32, u32)]>,
) -> Result<(), StoreError> {
    // A workflow step's result stands at the node before the first.
    let nodes: Vec<(i64, i64)> = match nodes {
        Some(nodes) => nodes.iter().map(|(first, end)| (i64::from(*first), i64::from(*end))).collect(),
        None => vec![(-1, 0)],
    };
    for (low, high) in nodes {
        tx.prepare_cached(
            "insert or replace into result
             select ?1, step, node, null, outcome, tries, started, ended, output, message, usage, remit from result
             where execution = ?2 and node >= ?3 and node < ?4 and step >= ?5 and step < ?6",
        )?
        .execute(params![row::key(id.to_u128()), row::key(from.to_u128()), low, high, first.0, end.0])?;
    }
    Ok(())
}

/// A later attempt's result takes the place of an earlier one's.
fn step_ended(
    tx: &Connection,
    id: ExecutionId,
    attempt: Option<AttemptId>,
    ended: &StepEnded,
) -> Result<(), StoreError> {
    tx.prepare_cached("insert or replace into result values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(
        params![
            row::key(id.to_u128()),
            ended.step.0,
            ended.node.map_or(-1, |node| i64::from(node.0)),
            attempt.map(|attempt| row::key(attempt.to_u128())),
            ended.outcome.to_string(),
            ended.tries,
            ended.started.as_millis(),
            ended.ended.as_millis(),
            ended.output.as_ref().map(row::to_json).transpose()?,
            ended.message,
            ended.usage.as_ref().map(row::to_json).transpose()?,
            ended.remit.as_ref().map(|digest| digest.as_bytes())
        ],
    )?;
    artifacts::take(tx, id, attempt, ended)
}
