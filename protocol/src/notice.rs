//! What is made known of an execution to people and programs outside.

use serde::{Deserialize, Serialize};

use crate::{ExecutionId, JobName, Origin, Outcome, ProjectName, Revision, Timestamp};

/// On what occasion something is made known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Occasion {
    /// The first part of it began.
    Start,
    /// It ended well.
    Success,
    /// It ended in any other way.
    Failure,
    /// A part of it is run again, because its runner was lost.
    Retry,
    /// It takes longer than such executions do on average.
    Slow,
}

impl Occasion {
    /// Every occasion.
    pub const ALL: [Self; 5] = [Self::Start, Self::Success, Self::Failure, Self::Retry, Self::Slow];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Retry => "retry",
            Self::Slow => "slow",
        }
    }
}

impl std::fmt::Display for Occasion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Occasion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|occasion| occasion.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not one of start, success, failure, retry, slow"))
    }
}

/// The body of an outgoing webhook. Option values and outputs are not in it: whoever may see them asks the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Announcement {
    /// The form of this message: 1.
    pub v: u32,
    /// What happened; absent: somebody tries the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occasion: Option<Occasion>,
    /// When it happened.
    pub at: Timestamp,
    /// The project.
    pub project: ProjectName,
    /// The execution, unless somebody tries the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<AnnouncedExecution>,
    /// In words.
    pub text: String,
}

/// The execution that is made known, as it stood when this was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AnnouncedExecution {
    /// Its id.
    pub id: ExecutionId,
    /// Where it is read.
    pub url: String,
    /// The job.
    pub job: JobName,
    /// The job's revision.
    pub revision: Revision,
    /// Who or what began it.
    pub started_by: String,
    /// Its trigger.
    #[serde(default, skip_serializing_if = "Origin::is_operator")]
    pub origin: Origin,
    /// When it was made.
    pub created: Timestamp,
    /// When its first part began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}
