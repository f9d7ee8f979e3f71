//! The schedules of jobs, and up to which time each was decided.

use remit_job::schedule::Schedule;
use remit_protocol::{ExecutionId, JobName, ProjectName, ScheduleName, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{MAX_PAGE, Store, StoreError, row};

/// A schedule as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSchedule {
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// What its author wrote.
    pub schedule: Schedule,
    /// Whether it fires.
    pub enabled: bool,
    /// Everything up to here was decided.
    pub done: Timestamp,
    /// The first time after that.
    pub next: Option<Timestamp>,
    /// The newest execution that it began.
    pub execution: Option<ExecutionId>,
    /// Why the newest of its times did not become an execution.
    pub error: Option<String>,
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredSchedule> {
    Ok(StoredSchedule {
        project: row::text(row, "project")?,
        job: row::text(row, "job")?,
        schedule: row::json(row, "definition")?,
        enabled: row.get("enabled")?,
        done: row::time(row, "done")?,
        next: row::maybe_time(row, "next")?,
        execution: row::maybe_id(row, "execution", ExecutionId::from_u128)?,
        error: row.get("error")?,
    })
}

/// Which schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleKey {
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// The schedule.
    pub name: ScheduleName,
}

impl StoredSchedule {
    /// Which one it is.
    pub fn key(&self) -> ScheduleKey {
        ScheduleKey { project: self.project.clone(), job: self.job.clone(), name: self.schedule.name.clone() }
    }
}

impl Store {
    /// Schedules, by project, job and name.
    pub async fn schedules(
        &self,
        project: &ProjectName,
        job: Option<&JobName>,
    ) -> Result<Vec<StoredSchedule>, StoreError> {
        let (project, job) = (project.clone(), job.cloned());
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select * from schedule where project = ?1 and (?2 is null or job = ?2) order by job, name",
                )?;
                let rows = query.query_map(params![project.as_str(), job.as_ref().map(JobName::as_str)], read)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Schedules whose next time has come, the longest due first; at most [`MAX_PAGE`].
    pub async fn schedules_due(&self, now: Timestamp) -> Result<Vec<StoredSchedule>, StoreError> {
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select * from schedule where enabled = 1 and next is not null and next <= ? order by next limit ?",
                )?;
                let rows = query.query_map(params![now.as_millis(), MAX_PAGE], read)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Decides times up to `done` without an execution: they are left out, or (`error`) could not be run.
    pub async fn pass_schedule(
        &self,
        key: ScheduleKey,
        done: Timestamp,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        self.db
            .write(move |tx| {
                let Some(stored) = find(tx, &key)?.filter(|stored| stored.done < done) else { return Ok(()) };
                tx.prepare_cached(
                    "update schedule set done = ?, next = ?, error = coalesce(?, error)
                     where project = ? and job = ? and name = ?",
                )?
                .execute(params![
                    done.as_millis(),
                    stored.schedule.next(done).map(Timestamp::as_millis),
                    error,
                    key.project.as_str(),
                    key.job.as_str(),
                    key.name.as_str()
                ])?;
                Ok(())
            })
            .await
    }

    /// Lets a schedule fire, from `now` on, or stops it. True if that changed anything.
    pub async fn enable_schedule(
        &self,
        key: ScheduleKey,
        enabled: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.db
            .write(move |tx| {
                let stored = find(tx, &key)?.ok_or_else(|| StoreError::not_found("schedule", &key.name))?;
                if stored.enabled == enabled {
                    return Ok(false);
                }
                // The times of a pause were not missed: somebody wanted them left out.
                let done = stored.done.max(now);
                tx.prepare_cached(
                    "update schedule set enabled = ?, done = ?, next = ?, error = null
                     where project = ? and job = ? and name = ?",
                )?
                .execute(params![
                    enabled,
                    done.as_millis(),
                    stored.schedule.next(done).map(Timestamp::as_millis),
                    key.project.as_str(),
                    key.job.as_str(),
                    key.name.as_str()
                ])?;
                Ok(true)
            })
            .await
    }
}

fn find(tx: &Connection, key: &ScheduleKey) -> Result<Option<StoredSchedule>, StoreError> {
    let found = tx
        .prepare_cached("select * from schedule where project = ? and job = ? and name = ?")?
        .query_row([key.project.as_str(), key.job.as_str(), key.name.as_str()], read);
    Ok(found.optional()?)
}

/// Brings the schedules of a job in line with its newest revision. One whose times are the same goes on where it was.
pub(super) fn sync(
    tx: &Connection,
    (project, job): (&ProjectName, &JobName),
    schedules: &[Schedule],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut known = tx.prepare_cached("select * from schedule where project = ? and job = ?")?;
    let known: Vec<StoredSchedule> =
        known.query_map([project.as_str(), job.as_str()], read)?.collect::<Result<_, _>>()?;
    for gone in known.iter().filter(|old| schedules.iter().all(|new| new.name != old.schedule.name)) {
        tx.prepare_cached("delete from schedule where project = ? and job = ? and name = ?")?.execute([
            project.as_str(),
            job.as_str(),
            gone.schedule.name.as_str(),
        ])?;
    }
    for schedule in schedules {
        let before = known.iter().find(|old| old.schedule.name == schedule.name);
        let done = before.map_or(now, |old| {
            let same_times = old.schedule.cron == schedule.cron && old.schedule.zone == schedule.zone;
            // Times before a change of the expression belong to what it was.
            if same_times { old.done } else { old.done.max(now) }
        });
        tx.prepare_cached(
            "insert into schedule (project, job, name, definition, done, next) values (?, ?, ?, ?, ?, ?)
             on conflict do update set definition = excluded.definition, done = excluded.done,
             next = excluded.next, error = null",
        )?
        .execute(params![
            project.as_str(),
            job.as_str(),
            schedule.name.as_str(),
            row::to_json(schedule)?,
            done.as_millis(),
            schedule.next(done).map(Timestamp::as_millis)
        ])?;
    }
    Ok(())
}

/// Takes a time of a schedule for an execution that is being made. It is taken once, whoever asks, and only forward.
pub(super) fn take(
    tx: &Connection,
    key: &ScheduleKey,
    due: Timestamp,
    execution: ExecutionId,
) -> Result<(), StoreError> {
    let taken = |why| StoreError::conflict("schedule", &key.name, why);
    let stored = find(tx, key)?.ok_or_else(|| taken("the job does not have it any more"))?;
    if !stored.enabled {
        return Err(taken("it is disabled"));
    }
    if stored.done >= due {
        return Err(taken("this time was decided before"));
    }
    tx.prepare_cached(
        "update schedule set done = ?, next = ?, execution = ?, error = null where project = ? and job = ? and name = ?",
    )?
    .execute(params![
        due.as_millis(),
        stored.schedule.next(due).map(Timestamp::as_millis),
        row::key(execution.to_u128()),
        key.project.as_str(),
        key.job.as_str(),
        key.name.as_str()
    ])?;
    Ok(())
}
