//! Executions: made once, moved by changes that the pure core decided, read in pages.

use std::collections::BTreeMap;

use remit_protocol::{
    AttemptId, ExecutionId, JobName, Origin, Outcome, ProjectName, Revision, SectionNumber, StepIndex,
    Timestamp, assignment::OptionValues, digest, operator,
};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::{
    Store, StoreError,
    query::{Conditions, all, escaped, key},
    row,
};
use crate::execution::{Approval, AttemptRecord, ExecutionState, Head, Purpose, SectionRecord};

/// The largest page of any list.
pub const MAX_PAGE: u32 = 1000;

/// What making an execution came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// The same request made this one before.
    Before(ExecutionId),
}

/// An execution in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionSummary {
    /// Its id; ids sort by time.
    pub id: ExecutionId,
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// The job's revision.
    pub revision: Revision,
    /// Why it runs.
    pub purpose: Purpose,
    /// Its state.
    pub state: ExecutionState,
    /// Who or what began it.
    pub started_by: String,
    /// Its trigger.
    pub origin: Origin,
    /// When it was made.
    pub created: Timestamp,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

impl ExecutionSummary {
    /// The state as people see it.
    pub fn shown(&self) -> operator::ExecutionState {
        Self::state_of(self.state, self.began)
    }

    /// The state as people see it.
    pub fn state_of(state: ExecutionState, began: Option<Timestamp>) -> operator::ExecutionState {
        match state {
            ExecutionState::Queued => operator::ExecutionState::Waiting,
            ExecutionState::Running if began.is_none() => operator::ExecutionState::Waiting,
            ExecutionState::Running => operator::ExecutionState::Running,
            ExecutionState::Held => operator::ExecutionState::Held,
            ExecutionState::Cancelling => operator::ExecutionState::Cancelling,
            ExecutionState::Ended(_) => operator::ExecutionState::Ended,
        }
    }
}

/// An execution with its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionRecord {
    /// Its id.
    pub id: ExecutionId,
    /// What it is of.
    pub head: Head,
    /// Its state.
    pub state: ExecutionState,
    /// Grows with every change: what is decided on an older one is refused.
    pub version: u64,
    /// The number of the last happening in its feed.
    pub last_event: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it is being stopped, or was: `cancelled` or `timed-out`.
    pub stop: Option<Outcome>,
    /// Its sections, by number.
    pub sections: Vec<SectionRecord>,
    /// Its attempts, the oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// Who has agreed at its gates.
    pub approvals: Vec<Approval>,
    /// What steps have come to over all their nodes.
    pub steps: BTreeMap<StepIndex, Outcome>,
}

/// An execution that another one began.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its id.
    pub id: ExecutionId,
    /// For which item of the parent's list.
    pub item: u32,
    /// There is a list.
    pub many: bool,
    /// Its job.
    pub job: JobName,
    /// Its option values.
    pub options: OptionValues,
    /// Its job document.
    pub document: digest::Sized,
    /// How it stands.
    pub state: ExecutionState,
    /// When it began.
    pub began: Option<Timestamp>,
}

/// Which executions are wanted; all that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct ExecutionFilter {
    /// Of this project.
    pub project: Option<ProjectName>,
    /// Of this job.
    pub job: Option<JobName>,
    /// In this state.
    pub state: Option<operator::ExecutionState>,
    /// With an outcome of this kind: `succeeded`, `refused` …
    pub outcome: Option<String>,
    /// Made at or after.
    pub since: Option<Timestamp>,
    /// Also those that refresh node sources.
    pub sources: bool,
    /// Only older ones than this: the last of the page before.
    pub before: Option<ExecutionId>,
    /// At most so many.
    pub limit: u32,
}

fn read_summary(row: &Row<'_>) -> rusqlite::Result<ExecutionSummary> {
    Ok(ExecutionSummary {
        id: row::id(row, "id", ExecutionId::from_u128)?,
        project: row::text(row, "project")?,
        job: row::text(row, "job")?,
        revision: Revision(row.get("job_revision")?),
        purpose: row::json(row, "purpose")?,
        state: row::text(row, "state")?,
        started_by: row.get("started_by")?,
        origin: row::json(row, "origin")?,
        created: row::time(row, "created")?,
        began: row::maybe_time(row, "began")?,
        ended: row::maybe_time(row, "ended")?,
    })
}

fn read_section(row: &Row<'_>) -> rusqlite::Result<SectionRecord> {
    Ok(SectionRecord {
        place: row::json(row, "body")?,
        state: row::text(row, "state")?,
        epoch: remit_protocol::Epoch(row.get("epoch")?),
        losses: row.get("losses")?,
        not_before: row::maybe_time(row, "not_before")?,
    })
}

fn read_attempt(row: &Row<'_>) -> rusqlite::Result<AttemptRecord> {
    Ok(AttemptRecord {
        id: row::id(row, "id", AttemptId::from_u128)?,
        section: remit_protocol::SectionNumber(row.get("section")?),
        epoch: remit_protocol::Epoch(row.get("epoch")?),
        runner: row::id(row, "runner", remit_protocol::RunnerId::from_u128)?,
        session: remit_protocol::Session(row.get("session")?),
        ranges: row::json(row, "ranges")?,
        state: row::text(row, "state")?,
        nonce: row.get::<_, Option<i64>>("nonce")?.map(i64::cast_unsigned),
        events: row.get("events")?,
        leased: row::time(row, "leased")?,
        began: row::maybe_time(row, "began")?,
        ended: row::maybe_time(row, "ended")?,
        message: row.get("message")?,
        result: row.get::<_, Option<String>>("result")?.map(|_| row::json(row, "result")).transpose()?,
    })
}

fn read_execution(db: &Connection, id: ExecutionId) -> Result<Option<ExecutionRecord>, StoreError> {
    let found = db
        .prepare_cached("select * from execution where id = ?")?
        .query_row([row::key(id.to_u128())], |row| {
            Ok(ExecutionRecord {
                id,
                head: row::json(row, "head")?,
                state: row::text(row, "state")?,
                version: row.get("version")?,
                last_event: row.get("last_event")?,
                created: row::time(row, "created")?,
                began: row::maybe_time(row, "began")?,
                ended: row::maybe_time(row, "ended")?,
                stop: row::maybe_text(row, "stop")?,
                sections: Vec::new(),
                attempts: Vec::new(),
                approvals: Vec::new(),
                steps: BTreeMap::new(),
            })
        })
        .optional()?;
    let Some(mut execution) = found else { return Ok(None) };
    execution.sections =
        all(db, "select * from section where execution = ? order by number", id, read_section)?;
    execution.attempts =
        all(db, "select * from attempt where execution = ? order by leased, id", id, read_attempt)?;
    execution.approvals =
        all(db, "select * from approval where execution = ? order by section, at", id, |row| {
            Ok(Approval {
                section: SectionNumber(row.get("section")?),
                by: row.get("by")?,
                at: row::time(row, "at")?,
                note: row.get("note")?,
            })
        })?;
    execution.steps = all(db, "select step, outcome from step where execution = ?", id, |row| {
        Ok((StepIndex(row.get("step")?), row::text(row, "outcome")?))
    })?
    .into_iter()
    .collect();
    Ok(Some(execution))
}

impl Store {
    /// An execution with its sections and attempts.
    pub async fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionRecord>, StoreError> {
        self.db.read(move |db| read_execution(db, id)).await
    }

    /// The executions that a section of another one began, by item.
    pub(crate) async fn children(
        &self,
        parent: ExecutionId,
        section: SectionNumber,
    ) -> Result<Vec<Child>, StoreError> {
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select id, head, state, began, parent_item from execution where parent = ? and parent_section = ?
                     order by parent_item",
                )?;
                let children = query.query_map(params![row::key(parent.to_u128()), section.0], |row| {
                    let head: Head = row::json(row, "head")?;
                    Ok(Child {
                        id: row::id(row, "id", ExecutionId::from_u128)?,
                        item: row.get("parent_item")?,
                        many: head.parent.is_some_and(|parent| parent.many),
                        document: head.document,
                        job: head.job,
                        options: head.options,
                        state: row::text(row, "state")?,
                        began: row::maybe_time(row, "began")?,
                    })
                })?;
                Ok(children.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Every execution that has not ended, the oldest first: what the scheduler begins with.
    pub async fn open_executions(&self) -> Result<Vec<ExecutionId>, StoreError> {
        self.db
            .read(|db| {
                let mut query =
                    db.prepare_cached("select id from execution where ended is null order by id")?;
                let ids = query.query_map([], |row| row::id(row, "id", ExecutionId::from_u128))?;
                Ok(ids.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Every execution after which its job is to be tried again, and when.
    pub(crate) async fn retries(&self) -> Result<Vec<(ExecutionId, Timestamp)>, StoreError> {
        self.db
            .read(|db| {
                let mut query = db.prepare_cached("select execution, due from retry")?;
                let rows = query.query_map([], |row| {
                    Ok((row::id(row, "execution", ExecutionId::from_u128)?, row::time(row, "due")?))
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The job of an execution is not tried again.
    pub(crate) async fn forget_retry(&self, id: ExecutionId) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                tx.prepare_cached("delete from retry where execution = ?")?
                    .execute([row::key(id.to_u128())])?;
                Ok(())
            })
            .await
    }

    /// Forgets the idempotency keys of executions before `before`; gives their number.
    pub async fn forget_keys(&self, before: ExecutionId) -> Result<usize, StoreError> {
        self.db
            .write(move |tx| {
                let forgotten = tx
                    .prepare_cached("delete from idempotency where execution < ?")?
                    .execute([row::key(before.to_u128())])?;
                Ok(forgotten)
            })
            .await
    }

    /// Executions, the newest first.
    pub async fn executions(&self, filter: ExecutionFilter) -> Result<Vec<ExecutionSummary>, StoreError> {
        self.db
            .read(move |db| {
                let mut conditions = Conditions::default();
                if let Some(project) = filter.project {
                    conditions.and("project = ?", String::from(project));
                }
                if let Some(job) = filter.job {
                    conditions.and("job = ?", String::from(job));
                }
                if let Some(state) = filter.state {
                    conditions.and_no_value(match state {
                        operator::ExecutionState::Waiting => {
                            "ended is null and began is null and state in ('queued', 'running')"
                        }
                        operator::ExecutionState::Running => "began is not null and state = 'running'",
                        operator::ExecutionState::Held => "state = 'held'",
                        operator::ExecutionState::Cancelling => "state = 'cancelling'",
                        operator::ExecutionState::Ended => "ended is not null",
                    });
                }
                if let Some(outcome) = filter.outcome {
                    conditions.and("(state || '(') like ?", format!("{}(%", escaped(&outcome)));
                    conditions.and_no_value("ended is not null");
                }
                if let Some(since) = filter.since {
                    conditions.and("id >= ?", key(ExecutionId::from_parts(since, 0)));
                }
                if !filter.sources {
                    let job = row::to_json(&Purpose::Job)?;
                    conditions.and("(purpose = ? or purpose = '\"command\"')", job);
                }
                if let Some(before) = filter.before {
                    conditions.and("id < ?", key(before));
                }
                let sql = format!(
                    "select * from execution{} order by id desc limit {}",
                    conditions.sql,
                    filter.limit.min(MAX_PAGE)
                );
                let mut query = db.prepare_cached(&sql)?;
                let rows = query.query_map(params_from_iter(conditions.values), read_summary)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The execution to which an attempt belongs.
    pub async fn execution_of(&self, attempt: AttemptId) -> Result<Option<ExecutionId>, StoreError> {
        self.db
            .read(move |db| {
                let found = db
                    .prepare_cached("select execution from attempt where id = ?")?
                    .query_row([row::key(attempt.to_u128())], |row| {
                        row::id(row, "execution", ExecutionId::from_u128)
                    });
                Ok(found.optional()?)
            })
            .await
    }
}
