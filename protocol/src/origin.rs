//! What began an execution: its trigger, as it is recorded and as the runner is told.
//!
//! A person's run may be signed by that person; an unattended one cannot. Whoever bounds unattended runs counts by
//! [`Origin::is_unattended`], and takes a run without a person's signature for unattended whatever it says here.

use serde::{Deserialize, Serialize};

use crate::{DeliveryId, ExecutionId, HookName, ScheduleName, SectionNumber, Timestamp};

/// What began an execution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Origin {
    /// Somebody who holds a token asked for it.
    #[default]
    Operator,
    /// A schedule of the job fired.
    Schedule {
        /// Which.
        name: ScheduleName,
        /// The time for which it was due, not the time at which it was noticed.
        due: Timestamp,
    },
    /// Something called a webhook of the job.
    Webhook {
        /// Which.
        name: HookName,
        /// The delivery: the same one is taken once.
        delivery: DeliveryId,
        /// The time that was signed with it.
        sent: Timestamp,
    },
    /// A step of another execution names the job.
    Parent {
        /// Which execution.
        execution: ExecutionId,
        /// Which section of it.
        section: SectionNumber,
    },
    /// Another execution is made known through this one.
    Notification {
        /// The execution that is made known.
        execution: ExecutionId,
    },
    /// An execution of the job ended badly, and its author wants it to be tried again.
    Retry {
        /// Which execution.
        execution: ExecutionId,
    },
    /// The time came to ask a node source anew.
    Interval,
}

impl Origin {
    /// True if no person asked for this very run.
    pub fn is_unattended(&self) -> bool {
        match self {
            Self::Operator => false,
            // A child runs within what its parent was allowed: whoever counts follows it to its parent.
            Self::Parent { .. } => false,
            Self::Schedule { .. }
            | Self::Webhook { .. }
            | Self::Notification { .. }
            | Self::Retry { .. }
            | Self::Interval => true,
        }
    }

    /// True for [`Origin::Operator`], which is not written.
    pub fn is_operator(&self) -> bool {
        *self == Self::Operator
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operator => f.write_str("a person or program"),
            Self::Schedule { name, due } => write!(f, "schedule {name}, due {}", due.to_seconds_text()),
            Self::Webhook { name, delivery, .. } => write!(f, "webhook {name}, delivery {delivery}"),
            Self::Parent { execution, section } => write!(f, "section {section} of execution {execution}"),
            Self::Notification { execution } => write!(f, "notification about execution {execution}"),
            Self::Retry { execution } => write!(f, "retry of execution {execution}"),
            Self::Interval => f.write_str("the node source's interval"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_one_form() {
        fn check(text: &str, unattended: bool) {
            let origin: Origin = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&origin).unwrap(), text);
            assert_eq!(origin.is_unattended(), unattended, "{text}");
        }
        check(r#"{"kind":"operator"}"#, false);
        check(r#"{"kind":"schedule","name":"nightly","due":"2026-11-20T03:00:00.000Z"}"#, true);
        check(
            r#"{"kind":"webhook","name":"deploy","delivery":"a-1","sent":"2026-11-20T03:00:00.000Z"}"#,
            true,
        );
        check(r#"{"kind":"parent","execution":"01ARZ3NDEKTSV4RRFFQ69G5FAV","section":2}"#, false);
        check(r#"{"kind":"notification","execution":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#, true);
        check(r#"{"kind":"retry","execution":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#, true);
        check(r#"{"kind":"interval"}"#, true);
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        for bad in [
            r#"{"kind":"schedule","name":"nightly"}"#,
            r#"{"kind":"schedule","name":"Nightly","due":"2026-11-20T03:00:00Z"}"#,
            r#"{"kind":"schedule","name":"nightly","due":"2026-11-20T03:00:00Z","x":1}"#,
            r#"{"kind":"cron"}"#,
        ] {
            assert!(serde_json::from_str::<Origin>(bad).is_err(), "{bad}");
        }
    }
}
