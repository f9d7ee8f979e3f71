//! Jobs and their revisions: the source as it was written, the document by digest.

use remit_job::schedule::Schedule;
use remit_protocol::{JobName, ProjectName, Revision, Timestamp, digest};
use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, row, schedules};

/// A job that is to be saved; its document is a blob already.
#[derive(Debug, Clone)]
pub struct NewRevision {
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// The compiled document.
    pub document: digest::Sized,
    /// The note on the document.
    pub note: Option<String>,
    /// What the author wrote.
    pub source: String,
    /// Where it stands among others: `ops/web`.
    pub group: String,
    /// What it does, in words.
    pub description: String,
    /// At which times it is run.
    pub schedules: Vec<Schedule>,
    /// Who saves it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What saving came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// The revision that holds it now.
    pub revision: Revision,
    /// False if the newest revision was the same already.
    pub new: bool,
}

/// A revision of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The project.
    pub project: ProjectName,
    /// The name.
    pub name: JobName,
    /// Which revision this is.
    pub revision: Revision,
    /// The compiled document, a blob.
    pub document: digest::Sized,
    /// The note on the document.
    pub note: Option<String>,
    /// What the author wrote.
    pub source: String,
    /// Where it stands among others.
    pub group: String,
    /// What it does, in words.
    pub description: String,
    /// When it was saved.
    pub saved: Timestamp,
    /// Who saved it.
    pub saved_by: String,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// The name.
    pub name: JobName,
    /// The newest revision.
    pub revision: Revision,
    /// Where it stands among others.
    pub group: String,
    /// What it does, in words.
    pub description: String,
    /// When the newest revision was saved.
    pub saved: Timestamp,
    /// Who saved it.
    pub saved_by: String,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        project: row::text(row, "project")?,
        name: row::text(row, "job")?,
        revision: Revision(row.get("revision")?),
        document: digest::Sized { digest: row::digest(row, "document")?, length: row.get("length")? },
        note: row.get("note")?,
        source: row.get("source")?,
        group: row.get("folder")?,
        description: row.get("description")?,
        saved: row::time(row, "saved")?,
        saved_by: row.get("saved_by")?,
    })
}

const NEWEST: &str = "select r.* from job j
    join job_revision r on r.project = j.project and r.job = j.name and r.revision = j.revision
    where j.project = ? and j.name = ?";

impl Store {
    /// Saves a job: the next revision, or none if document, note and source are those of the newest.
    pub async fn save_job(&self, new: NewRevision) -> Result<Saved, StoreError> {
        self.db
            .write(move |tx| {
                let project = new.project.as_str();
                let name = new.job.as_str();
                let known: Option<()> = tx
                    .prepare_cached("select 1 from project where name = ?")?
                    .query_row([project], |_| Ok(()))
                    .optional()?;
                known.ok_or_else(|| StoreError::not_found("project", project))?;
                let newest = tx.prepare_cached(NEWEST)?.query_row([project, name], read).optional()?;
                if let Some(job) = &newest
                    && (job.document, &job.note, &job.source) == (new.document, &new.note, &new.source)
                {
                    return Ok(Saved { revision: job.revision, new: false });
                }
                // A job that was deleted and comes back goes on counting.
                let last: u32 = tx
                    .prepare_cached(
                        "select coalesce(max(revision), 0) from job_revision where project = ? and job = ?",
                    )?
                    .query_row([project, name], |row| row.get(0))?;
                let revision = Revision(last).next();
                let insert =
                    "insert into job_revision (project, job, revision, document, length, note, source,
                     folder, description, saved, saved_by) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
                tx.prepare_cached(insert)?.execute(params![
                    project,
                    name,
                    revision.0,
                    new.document.digest.as_bytes(),
                    new.document.length,
                    new.note,
                    new.source,
                    new.group,
                    new.description,
                    new.at.as_millis(),
                    new.by
                ])?;
                let list = "insert or replace into job
                     select project, job, revision, folder, description, saved, saved_by from job_revision
                     where project = ? and job = ? and revision = ?";
                tx.prepare_cached(list)?.execute(params![project, name, revision.0])?;
                schedules::sync(tx, (&new.project, &new.job), &new.schedules, new.at)?;
                Ok(Saved { revision, new: true })
            })
            .await
    }

    /// The newest revision of a job, or the one that is asked for.
    pub async fn job(
        &self,
        project: &ProjectName,
        name: &JobName,
        revision: Option<Revision>,
    ) -> Result<Option<Job>, StoreError> {
        let (project, name) = (project.clone(), name.clone());
        self.db
            .read(move |db| {
                let found = match revision {
                    None => db.prepare_cached(NEWEST)?.query_row([project.as_str(), name.as_str()], read),
                    Some(revision) => db
                        .prepare_cached(
                            "select * from job_revision where project = ? and job = ? and revision = ?",
                        )?
                        .query_row(params![project.as_str(), name.as_str(), revision.0], read),
                };
                Ok(found.optional()?)
            })
            .await
    }

    /// The jobs of a project, by name: those behind `after`, at most `limit`.
    pub async fn jobs(
        &self,
        project: &ProjectName,
        after: Option<JobName>,
        limit: u32,
    ) -> Result<Vec<JobSummary>, StoreError> {
        let project = project.clone();
        self.db
            .read(move |db| {
                let mut query = db.prepare_cached(
                    "select * from job where project = ? and name > ? order by name limit ?",
                )?;
                let after = after.as_ref().map_or("", JobName::as_str);
                let all = query.query_map(params![project.as_str(), after, limit], |row| {
                    Ok(JobSummary {
                        name: row::text(row, "name")?,
                        revision: Revision(row.get("revision")?),
                        group: row.get("folder")?,
                        description: row.get("description")?,
                        saved: row::time(row, "saved")?,
                        saved_by: row.get("saved_by")?,
                    })
                })?;
                Ok(all.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Takes a job away; its revisions stay for the executions that ran them. True if it was there.
    pub async fn delete_job(&self, project: &ProjectName, name: &JobName) -> Result<bool, StoreError> {
        let (project, name) = (project.clone(), name.clone());
        self.db
            .write(move |tx| {
                let gone = tx
                    .prepare_cached("delete from job where project = ? and name = ?")?
                    .execute([project.as_str(), name.as_str()])?;
                schedules::sync(tx, (&project, &name), &[], Timestamp::default())?;
                Ok(gone == 1)
            })
            .await
    }
}
