//! Channels, and the outbox: what is to be made known of executions, and what became of it.

use remit_job::notify::Target;
use remit_protocol::{
    ChannelName, ExecutionId, JobName, ProjectName, Timestamp,
    notice::Occasion,
    operator::{ChannelKind, NoticeState},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{MAX_PAGE, Store, StoreError, row};
use crate::execution::Notice;

/// Most notices of a project that wait at once: what comes after is recorded as failed.
const MOST_WAITING: u32 = 10_000;

/// Where executions are made known; its secret is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The project.
    pub project: ProjectName,
    /// Its name.
    pub name: ChannelName,
    /// What it is.
    pub kind: ChannelKind,
    /// What a webhook is signed with.
    pub secret: Option<Vec<u8>>,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
}

/// A notice of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNotice {
    /// Its number; numbers grow.
    pub number: u64,
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// The execution.
    pub execution: ExecutionId,
    /// On what occasion.
    pub occasion: Occasion,
    /// To whom.
    pub target: Target,
    /// When it happened.
    pub at: Timestamp,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    pub next: Option<Timestamp>,
    /// How it stands.
    pub state: NoticeState,
    /// Why the newest try failed.
    pub error: Option<String>,
    /// When it was delivered or given up.
    pub ended: Option<Timestamp>,
}

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It arrived.
    Sent,
    /// It did not, and is tried again then.
    Again(Timestamp, String),
    /// It did not, and is given up.
    Failed(String),
}

fn read_channel(row: &Row<'_>) -> rusqlite::Result<Channel> {
    Ok(Channel {
        project: row::text(row, "project")?,
        name: row::text(row, "name")?,
        kind: row::json(row, "definition")?,
        secret: row.get("secret")?,
        created: row::time(row, "created")?,
        created_by: row.get("created_by")?,
    })
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredNotice> {
    Ok(StoredNotice {
        number: row.get("number")?,
        project: row::text(row, "project")?,
        job: row::text(row, "job")?,
        execution: row::id(row, "execution", ExecutionId::from_u128)?,
        occasion: row::text(row, "occasion")?,
        target: row::json(row, "target")?,
        at: row::time(row, "at")?,
        tries: row.get("tries")?,
        next: row::maybe_time(row, "next")?,
        state: row::text(row, "state")?,
        error: row.get("error")?,
        ended: row::maybe_time(row, "ended")?,
    })
}

impl Store {
    /// Makes a channel; a conflict if the name is taken.
    pub async fn create_channel(&self, channel: Channel) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let made = tx
                    .prepare_cached("insert into channel values (?, ?, ?, ?, ?, ?) on conflict do nothing")?
                    .execute(params![
                        channel.project.as_str(),
                        channel.name.as_str(),
                        row::to_json(&channel.kind)?,
                        channel.secret,
                        channel.created.as_millis(),
                        channel.created_by
                    ])?;
                match made {
                    1 => Ok(()),
                    _ => Err(StoreError::conflict("channel", channel.name, "the name is taken")),
                }
            })
            .await
    }

    /// The channels of a project, by name.
    pub async fn channels(&self, project: &ProjectName) -> Result<Vec<Channel>, StoreError> {
        let project = project.clone();
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached("select * from channel where project = ? order by name")?;
                Ok(query.query_map([project.as_str()], read_channel)?.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// A channel.
    pub async fn channel(
        &self,
        project: &ProjectName,
        name: &ChannelName,
    ) -> Result<Option<Channel>, StoreError> {
        let (project, name) = (project.clone(), name.clone());
        self.db
            .read(move |db| {
                let found = db
                    .prepare_cached("select * from channel where project = ? and name = ?")?
                    .query_row([project.as_str(), name.as_str()], read_channel);
                Ok(found.optional()?)
            })
            .await
    }

    /// Takes a channel away. True if it was there.
    pub async fn delete_channel(
        &self,
        project: &ProjectName,
        name: &ChannelName,
    ) -> Result<bool, StoreError> {
        let (project, name) = (project.clone(), name.clone());
        self.db
            .write(move |tx| {
                let gone = tx
                    .prepare_cached("delete from channel where project = ? and name = ?")?
                    .execute([project.as_str(), name.as_str()])?;
                Ok(gone == 1)
            })
            .await
    }

    /// Notices whose time has come, the longest due first; at most `limit`.
    pub async fn notices_due(&self, now: Timestamp, limit: u32) -> Result<Vec<StoredNotice>, StoreError> {
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select * from notice where state = 'waiting' and next <= ? order by next limit ?",
                )?;
                let rows = query.query_map(params![now.as_millis(), limit.min(MAX_PAGE)], read)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Records what became of a try.
    pub async fn notice_tried(&self, number: u64, tried: Tried, now: Timestamp) -> Result<(), StoreError> {
        let (state, next, error, ended) = match tried {
            Tried::Sent => (NoticeState::Sent, None, None, Some(now)),
            Tried::Again(next, error) => (NoticeState::Waiting, Some(next), Some(error), None),
            Tried::Failed(error) => (NoticeState::Failed, None, Some(error), Some(now)),
        };
        self.db
            .write(move |tx| {
                tx.prepare_cached(
                    "update notice set tries = tries + 1, state = ?, next = ?, error = ?, ended = ? where number = ?",
                )?
                .execute(params![
                    state.as_str(),
                    next.map(Timestamp::as_millis),
                    error,
                    ended.map(Timestamp::as_millis),
                    number
                ])?;
                Ok(())
            })
            .await
    }

    /// The notices of a project, the newest first; only before this number, at most `limit`.
    pub async fn notices(
        &self,
        project: &ProjectName,
        state: Option<NoticeState>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StoredNotice>, StoreError> {
        let project = project.clone();
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select * from notice where project = ?1 and (?2 is null or state = ?2) and number < ?3
                     order by number desc limit ?4",
                )?;
                let before = before.unwrap_or(i64::MAX as u64);
                let rows = query.query_map(
                    params![project.as_str(), state.map(NoticeState::as_str), before, limit.min(MAX_PAGE)],
                    read,
                )?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Puts a notice about an execution into the outbox, unless it is there.
    pub async fn add_notice(
        &self,
        execution: ExecutionId,
        notice: Notice,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.db.write(move |tx| add(tx, execution, &notice, at)).await
    }

    /// Forgets notices that were delivered or given up before `before`. Gives their number.
    pub async fn forget_notices(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.db
            .write(move |tx| {
                let forgotten = tx
                    .prepare_cached("delete from notice where state != 'waiting' and ended < ?")?
                    .execute([before.as_millis()])?;
                Ok(forgotten)
            })
            .await
    }

    /// How long the newest executions of a job took that succeeded, on average; none if there is none.
    pub async fn average(
        &self,
        project: &ProjectName,
        job: &JobName,
    ) -> Result<Option<std::time::Duration>, StoreError> {
        /// So many executions make an average.
        const NEWEST: u32 = 10;
        let (project, job) = (project.clone(), job.clone());
        self.db
            .read(move |db| {
                let average: Option<f64> = db
                    .prepare_cached(
                        "select avg(ended - began) from (select began, ended from execution
                         where project = ? and job = ? and state = 'succeeded' and began is not null order by id desc limit ?)",
                    )?
                    .query_row(params![project.as_str(), job.as_str(), NEWEST], |row| row.get(0))?;
                Ok(average.map(|millis| std::time::Duration::from_secs_f64(millis.max(0.0) / 1000.0)))
            })
            .await
    }
}

/// Puts a notice into the outbox, unless it is there.
pub(super) fn add(
    tx: &Connection,
    execution: ExecutionId,
    notice: &Notice,
    at: Timestamp,
) -> Result<(), StoreError> {
    let id = row::key(execution.to_u128());
    let (project, job): (String, String) = tx
        .prepare_cached("select project, job from execution where id = ?")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let waiting: u32 = tx
        .prepare_cached(
            "select count(*) from (select 1 from notice where project = ? and state = 'waiting' limit ?)",
        )?
        .query_row(params![project, MOST_WAITING], |row| row.get(0))?;
    let (state, next, error) = if waiting < MOST_WAITING {
        (NoticeState::Waiting, Some(at.as_millis()), None)
    } else {
        (NoticeState::Failed, None, Some(format!("{MOST_WAITING} notices of the project wait already")))
    };
    let ended = error.as_ref().map(|_| at.as_millis());
    tx.prepare_cached(
        "insert into notice (project, job, execution, occasion, part, entry, target, at, next, state, error, ended)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
    )?
    .execute(params![
        project,
        job,
        id,
        notice.occasion.as_str(),
        notice.part,
        notice.entry,
        row::to_json(&notice.target)?,
        at.as_millis(),
        next,
        state.as_str(),
        error,
        ended
    ])?;
    Ok(())
}
