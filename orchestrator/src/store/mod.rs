//! What lasts: projects, jobs, components, runners, tokens, nodes, executions; blobs by digest; logs.
//!
//! [`Store`] is by intent and in domain types: one method an intent, one transaction a method, no row leaves this room.
//! One thread writes, in groups: what has gathered is one transaction and one fsync, and only then anybody hears of it.
//! A few threads read. Nobody else knows SQL. A second back end joins by passing the suite in `conformance`.
//!
//! *Invariants:* G3 no answer before the commit; G4 no acknowledged log byte is lost; a full disk or a damaged file is
//! an error, never a panic; a command that fails does not undo the others of its group.

mod artifacts;
mod audit;
pub mod blobs;
mod components;
mod database;
mod executions;
mod history;
mod hooks;
mod jobs;
pub mod logs;
mod nodes;
mod notices;
mod projects;
mod query;
mod record;
mod results;
mod row;
mod runners;
mod schedules;
mod sealed;
mod tiles;
mod tokens;
mod trails;
mod verdicts;

#[cfg(test)]
mod conformance;

use std::path::{Path, PathBuf};

pub use artifacts::{ArtifactPlace, KeptArtifact, Upload};
pub use audit::{AuditEntry, AuditFilter, AuditLines, NewAudit};
pub use blobs::{BlobError, Blobs};
pub use components::{Component, Published};
pub use database::StoreError;
pub use executions::{Child, Created, ExecutionFilter, ExecutionRecord, ExecutionSummary, MAX_PAGE};
pub use hooks::Hook;
pub use jobs::{Job, JobSummary, NewRevision, Saved};
pub use logs::{Appended, LogError, LogFilter, LogLine, LogPage, Logs};
pub use nodes::{NewSource, Refreshed, Source, SourceKind, merge};
pub use notices::{Channel, StoredNotice, Tried};
pub use projects::Project;
pub use record::{Commit, NewExecution};
pub use results::{FeedEntry, ResultFilter, ResultRecord};
pub use runners::{Enrolment, NewRunner, NewTicket, Opening, Runner, RunnerChange, SessionFacts};
pub use schedules::{ScheduleKey, StoredSchedule};
pub use tiles::{LeafProof, LogHead};
pub use tokens::{NewToken, Token};
pub use trails::{Kept, TrailHead};
pub use verdicts::Verdict;

use database::Database;

/// Everything that the orchestrator keeps, in one directory.
#[derive(Debug)]
pub struct Store {
    db: Database,
    blobs: Blobs,
    logs: Logs,
}

/// Where everything is kept.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The database, a file.
    pub database: PathBuf,
    /// Blobs, a directory.
    pub blobs: PathBuf,
    /// Logs, a directory.
    pub logs: PathBuf,
}

impl Store {
    /// Opens the store in `directory`, as [`Self::open_at`] does.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_at(&Paths {
            database: directory.join("remit.db"),
            blobs: directory.join("blobs"),
            logs: directory.join("logs"),
        })
    }

    /// Opens the store, makes the directories that are absent, and brings its tables up to date.
    ///
    /// Takes a few files and threads; call it before the service begins, not from within it.
    pub fn open_at(paths: &Paths) -> Result<Self, StoreError> {
        if let Some(directory) = paths.database.parent() {
            std::fs::create_dir_all(directory)
                .map_err(|error| StoreError::unavailable("making the data directory", &error))?;
        }
        let logs =
            Logs::open(&paths.logs).map_err(|error| StoreError::unavailable("opening the logs", &error))?;
        let blobs = Blobs::open(&paths.blobs)
            .map_err(|error| StoreError::unavailable("opening the blobs", &error))?;
        Ok(Self { db: Database::open(&paths.database)?, blobs, logs })
    }

    /// Bytes by digest: documents, node sets, components, artifacts.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Logs of attempts.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }
}
