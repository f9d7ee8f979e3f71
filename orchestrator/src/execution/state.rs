//! The states of an execution and its parts, and the events that move them.

use std::{fmt, str::FromStr};

use remit_protocol::Outcome;
use serde::{Deserialize, Serialize};

/// Declares a state whose last variant is `Ended(Outcome)`, with one text form for stores and people.
macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// Final.
            Ended(Outcome),
        }

        impl $name {
            /// Every state that is not final.
            pub const OPEN: &[Self] = &[$(Self::$variant,)*];

            /// True if nothing moves it any more.
            pub fn is_final(self) -> bool {
                matches!(self, Self::Ended(_))
            }

            /// How it ended, if it has.
            pub fn outcome(self) -> Option<Outcome> {
                match self {
                    Self::Ended(outcome) => Some(outcome),
                    $(Self::$variant => None,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Ended(outcome) => outcome.fmt(f),
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownState;
            fn from_str(text: &str) -> Result<Self, UnknownState> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    outcome => outcome.parse().map(Self::Ended).map_err(|_| UnknownState(text.chars().take(40).collect())),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = UnknownState;
            fn try_from(text: String) -> Result<Self, UnknownState> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(state: $name) -> Self {
                state.to_string()
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::String).into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

/// A text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a state")]
pub struct UnknownState(String);

states! {
    /// The state of an execution.
    ExecutionState {
        /// It waits for its time or for its job's turn.
        Queued = "queued",
        /// Sections of it are due, handed out or running.
        Running = "running",
        /// It cannot go on before a person decides.
        Held = "held",
        /// Somebody wants it to stop; its attempts have been told.
        Cancelling = "cancelling",
    }
}

states! {
    /// The state of a section.
    SectionState {
        /// What comes before it has not ended.
        Waiting = "waiting",
        /// Due: it waits for a runner.
        Ready = "ready",
        /// Handed to a runner that has not begun.
        Leased = "leased",
        /// A runner has begun.
        Started = "started",
        /// Child executions run for it.
        Delegated = "delegated",
        /// A runner that had begun is gone, and what it did is in doubt.
        InDoubt = "in-doubt",
        /// It waits for an approval.
        Gated = "gated",
    }
}

states! {
    /// The state of an attempt.
    AttemptState {
        /// Handed out.
        Leased = "leased",
        /// Begun.
        Started = "started",
        /// Its runner has not been heard of since it began; it may still come back.
        Missing = "missing",
    }
}

states! {
    /// The state of a node in a section.
    NodeState {
        /// Not begun.
        Pending = "pending",
        /// About to be begun, or running.
        Dispatched = "dispatched",
    }
}

impl SectionState {
    /// True while a runner holds it.
    pub fn is_with_runner(self) -> bool {
        matches!(self, Self::Leased | Self::Started)
    }

    /// True while only a person moves it on.
    pub fn hold(self) -> Option<Hold> {
        match self {
            Self::InDoubt => Some(Hold::Doubt),
            Self::Gated => Some(Hold::Approval),
            Self::Waiting | Self::Ready | Self::Leased | Self::Started | Self::Delegated | Self::Ended(_) => {
                None
            }
        }
    }
}

/// Why a section waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// Its runner was lost or restarted, and repeating it is not known to be safe.
    Doubt,
    /// It is a gate.
    Approval,
}

/// What moves an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionEvent {
    /// Its time and its turn have come.
    Admit,
    /// Nothing of it runs or is due, and a section waits for a person.
    Hold,
    /// A section goes on, by a decision or because its runner came back.
    Resume,
    /// Somebody wants it to stop.
    Cancel,
    /// Every section has ended.
    Conclude(Outcome),
}

/// What moves a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionEvent {
    /// What comes before it has ended, and its condition holds.
    Due,
    /// It is a gate, and due.
    Gate,
    /// It runs other jobs, and is due.
    Delegate,
    /// A runner was chosen.
    Lease,
    /// The hand-out was never begun and is void.
    Withdraw,
    /// The runner begins.
    Begin,
    /// Its runner is gone, and it is safe to do it again.
    Requeue,
    /// Its runner is gone, and it is not known to be safe to do it again.
    Doubt,
    /// Its runner came back and has it still.
    Adopt,
    /// A person wants it to be done again.
    Rerun,
    /// It ended, by a report, a decision, a condition or a cancellation.
    End(Outcome),
}

/// What moves an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEvent {
    /// The runner begins.
    Begin,
    /// The hand-out is void: it was never begun.
    Withdraw,
    /// The runner has not been heard of.
    Miss,
    /// The runner came back and has it still.
    Adopt,
    /// It ended.
    End(Outcome),
}

/// What moves a node of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEvent {
    /// It is about to be begun.
    Dispatch,
    /// It will be begun anew, by a later attempt.
    Reset,
    /// It ended.
    End(Outcome),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_one_text() {
        for state in SectionState::OPEN.iter().copied().chain([SectionState::Ended(Outcome::Lost)]) {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        for state in ExecutionState::OPEN.iter().copied().chain([ExecutionState::Ended(Outcome::Failed)]) {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert!("over".parse::<AttemptState>().is_err());
    }
}
