//! How much log an execution keeps, and what happens once there is more.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Outcome, Size, report::Limit};

/// What a line and each of its fields counts beside its texts, in bytes, so that empty lines count as well.
pub const ENTRY: u64 = 64;

/// The log limit of a job. It is one number for all runners that take part in an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLimit {
    /// How much is kept.
    pub most: LogMost,
    /// What happens once there is more.
    pub at_limit: AtLimit,
}

/// How much log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LogMost {
    /// So many lines: 1 to [`LogLimit::MOST_LINES`].
    Lines(u64),
    /// So many bytes as [`cost`] counts them: [`LogLimit::LEAST_BYTES`] to [`LogLimit::MOST_BYTES`].
    Bytes(Size),
    /// So many lines of each node; what is run once counts as one more node.
    LinesPerNode(u64),
}

/// What happens to an execution whose log is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AtLimit {
    /// It goes on; what would be more is thrown away.
    Truncate,
    /// It is stopped and ends so; what would be more is thrown away as well.
    Halt(LogHalt),
}

/// How an execution ends that is stopped because its log is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LogHalt {
    /// As `over-limit(log)`.
    #[default]
    OverLimit,
    /// As `failed`.
    Failed,
    /// As `cancelled`.
    Cancelled,
}

impl LogLimit {
    /// Highest number of lines.
    pub const MOST_LINES: u64 = 1_000_000_000;
    /// Lowest number of bytes: a line of some length has room.
    pub const LEAST_BYTES: Size = Size::from_bytes(1 << 10);
    /// Highest number of bytes.
    pub const MOST_BYTES: Size = Size::from_mib(1 << 20);

    /// How an execution ends that its full log stops; nothing if it goes on.
    pub fn halts_as(self) -> Option<Outcome> {
        match self.at_limit {
            AtLimit::Truncate => None,
            AtLimit::Halt(LogHalt::OverLimit) => Some(Outcome::OverLimit(Limit::Log)),
            AtLimit::Halt(LogHalt::Failed) => Some(Outcome::Failed),
            AtLimit::Halt(LogHalt::Cancelled) => Some(Outcome::Cancelled),
        }
    }
}

impl fmt::Display for LogMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lines(1) => f.write_str("1 line"),
            Self::Lines(lines) => write!(f, "{lines} lines"),
            Self::Bytes(size) => size.fmt(f),
            Self::LinesPerNode(1) => f.write_str("1 line of each node"),
            Self::LinesPerNode(lines) => write!(f, "{lines} lines of each node"),
        }
    }
}

impl fmt::Display for LogLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {}; with more ", self.most)?;
        match self.halts_as() {
            None => f.write_str("the execution goes on"),
            Some(outcome) => write!(f, "the execution is stopped as {outcome}"),
        }
    }
}

/// What a line with these fields counts in a limit of bytes: all its texts, and [`ENTRY`] for itself and for each field.
pub fn cost(text: &str, fields: &[(String, String)]) -> u64 {
    let long = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
    let fields = fields.iter().map(|(name, value)| ENTRY + long(name) + long(value));
    ENTRY + long(text) + fields.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_limit_has_one_form_and_one_sentence() {
        fn check(written: serde_json::Value, text: &str, outcome: Option<Outcome>) {
            let limit: LogLimit = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(serde_json::to_value(limit).unwrap(), written);
            assert_eq!((limit.to_string().as_str(), limit.halts_as()), (text, outcome));
        }
        check(
            json!({"most": {"lines": 500}, "at_limit": "truncate"}),
            "at most 500 lines; with more the execution goes on",
            None,
        );
        check(
            json!({"most": {"bytes": "10MiB"}, "at_limit": {"halt": "over-limit"}}),
            "at most 10MiB; with more the execution is stopped as over-limit(log)",
            Some(Outcome::OverLimit(Limit::Log)),
        );
        check(
            json!({"most": {"lines_per_node": 200}, "at_limit": {"halt": "failed"}}),
            "at most 200 lines of each node; with more the execution is stopped as failed",
            Some(Outcome::Failed),
        );
        check(
            json!({"most": {"lines": 2}, "at_limit": {"halt": "cancelled"}}),
            "at most 2 lines; with more the execution is stopped as cancelled",
            Some(Outcome::Cancelled),
        );
    }
}
