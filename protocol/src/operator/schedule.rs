//! Schedules: when jobs are run without being asked. They are written in job files; here they are seen and paused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ExecutionId, JobName, OptionName, ScheduleName, Timestamp};

/// Most times of a schedule in one answer.
pub const MAX_FIRES: u32 = 100;

/// Which schedules are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct ScheduleQuery {
    /// Only of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub job: Option<JobName>,
    /// How many times of each, up to [`MAX_FIRES`]; absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fires: Option<u32>,
    /// `next` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many entries at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleView {
    /// The job.
    pub job: JobName,
    /// Its name in the job.
    pub name: ScheduleName,
    /// The cron expression.
    pub cron: String,
    /// The time zone.
    pub zone: String,
    /// What becomes of missed times, as the job file says it: `skip`, `once`, `all`.
    pub missed: String,
    /// With `all`: how many at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
    /// Option values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub options: BTreeMap<OptionName, Value>,
    /// Whether it fires.
    pub enabled: bool,
    /// Its next times; none while it is disabled.
    pub next: Vec<Timestamp>,
    /// The newest execution that it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// Why its newest time did not become an execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
