//! Runners as operators see and change them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ShownOnce;
use crate::{Description, ProjectName, RunnerId, RunnerName, Tag, TicketId, Timestamp};

/// The projects whose work a runner gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Projects {
    /// Every project, also future ones.
    All,
    /// These; none at all is legal and means no work.
    Only(BTreeSet<ProjectName>),
}

impl Projects {
    /// True if work of `project` may go there.
    pub fn includes(&self, project: &ProjectName) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(project),
        }
    }
}

impl Default for Projects {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

/// A runner to be made: its host then enrols with the ticket of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewRunner {
    /// Its name.
    pub name: RunnerName,
    /// Its tags: a job's runner has to carry all that the job names.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// The projects whose work it gets.
    #[serde(default)]
    pub projects: Projects,
    /// For people.
    #[serde(default)]
    pub description: Description,
    /// A local runner gets the work of jobs that name no tags.
    #[serde(default)]
    pub local: bool,
}

/// A one-use ticket was issued. Its text is not kept: this is the only answer that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TicketIssued {
    /// The ticket, to be given to `remit-runner enrol` on standard input.
    pub ticket: ShownOnce,
    /// Its id.
    pub id: TicketId,
    /// When it stops being good.
    pub expires: Timestamp,
    /// The orchestrator's address, as runners reach it.
    pub url: String,
    /// What to paste on the runner's host, the ticket included.
    pub enrol: ShownOnce,
    /// The runner.
    pub runner: RunnerView,
}

/// Changes to a runner: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EditRunner {
    /// All its tags from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeSet<Tag>>,
    /// All its projects from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<Projects>,
    /// Its description from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// Whether it gets the work of jobs that name no tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<bool>,
}

/// How a runner is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RunnerStatus {
    /// It has not enrolled yet.
    Expected,
    /// It is there and takes work.
    Healthy,
    /// It has not been heard of for a while; it gets no new work.
    Suspect,
    /// It is not there.
    Offline,
    /// It is about to stop and takes no more work.
    Draining,
    /// Somebody disabled it.
    Disabled,
    /// Two hosts use its identity; enrol it again with a new ticket.
    Locked,
}

/// A runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunnerView {
    /// Its id.
    pub id: RunnerId,
    /// Its name.
    pub name: RunnerName,
    /// For people.
    pub description: Description,
    /// Its tags.
    pub tags: BTreeSet<Tag>,
    /// The projects whose work it gets.
    pub projects: Projects,
    /// Whether it gets the work of jobs that name no tags.
    pub local: bool,
    /// How it is doing.
    pub status: RunnerStatus,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// Its program's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its host, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What it can do beyond the base.
    #[serde(default)]
    pub features: BTreeSet<String>,
    /// How many sandboxes it runs at once.
    pub slots: u32,
    /// How many of them are free.
    pub free: u32,
    /// How many attempts it has.
    pub attempts: u32,
    /// Until when a ticket for it is good, if one waits to be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_expires: Option<Timestamp>,
}
