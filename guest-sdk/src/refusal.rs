//! Why the host did not do what a step asked of it.

use std::fmt;

/// Why the host did not do what was asked of it. None of these ends the run by itself: the step decides.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The remit does not allow it; the text names the permission.
    Denied(String),
    /// A limit of the remit is used up; the text names it.
    OverLimit(String),
    /// The run has been cancelled. Carried into a [`crate::Fail`] by `?`, it ends the step as cancelled.
    Cancelled,
    /// It was allowed, and it did not work.
    Failed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(permission) => write!(f, "not allowed by this step's remit: {permission}"),
            Self::OverLimit(limit) => write!(f, "a limit of this step's remit is used up: {limit}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Refusal {}
