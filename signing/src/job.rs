//! The job note, `remit/job/v1`: an author stands for one job document.

use std::{fmt, str::FromStr, time::Duration};

use remit_protocol::{InvalidId, JobName, ProjectName, Timestamp, digest::Sized};

use serde::{Deserialize, Serialize};

use crate::{
    Refusal,
    component::check_validity,
    note::{Fields, NoteKind, TextWriter, UnverifiedNote},
};

/// Longest validity of a job note.
pub const MAX_VALIDITY: Duration = Duration::from_secs(180 * 86_400);

/// A job in its project, `project/job`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobPath {
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
}

impl fmt::Display for JobPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.job)
    }
}

impl FromStr for JobPath {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (project, job) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self { project: project.parse()?, job: job.parse()? })
    }
}

/// What a job note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobNote {
    /// The job.
    pub name: JobPath,
    /// The author's count of its versions; it only rises.
    pub version: u64,
    /// The exact bytes of the job document.
    pub definition: Sized,
    /// First instant at which the note is valid, to the second.
    pub not_before: Timestamp,
    /// First instant at which it is not valid any more; at most 180 days later.
    pub expires: Timestamp,
}

impl JobNote {
    /// The text to sign.
    pub fn to_text(&self) -> String {
        TextWriter::new(NoteKind::Job)
            .line("name", &self.name)
            .line("version", self.version)
            .sized("definition", &self.definition)
            .time("not-before", self.not_before)
            .time("expires", self.expires)
            .finish()
    }

    /// Reads the text of a note that is well formed; the signatures are [`crate::verify`]'s to judge.
    ///
    /// # Errors
    /// `E_SYNTAX`.
    pub fn parse(note: &UnverifiedNote) -> Result<Self, Refusal> {
        if note.kind() != NoteKind::Job {
            return Err(Refusal::syntax("This is not a job note."));
        }
        let mut fields = Fields::of(note);
        let parsed = Self {
            name: fields.parsed("name")?,
            version: fields.number("version")?,
            definition: fields.sized("definition")?,
            not_before: fields.time("not-before")?,
            expires: fields.time("expires")?,
        };
        fields.finish()?;
        check_validity(parsed.not_before, parsed.expires, MAX_VALIDITY)?;
        Ok(parsed)
    }
}
