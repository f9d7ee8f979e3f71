//! What happens to an execution right now, as server-sent events.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ExecutionSummary, LogLine, Progress, SectionView};
use crate::{NodeIndex, NodeName, Outcome, StepIndex, StepName};

/// Where a reader of live events is: the number of the last event and of the next log entry. Text: `12-340`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// The last event that was seen; 0: none.
    pub event: u64,
    /// The log entry that is wanted next.
    pub entry: u64,
}

/// A text that is not a place among live events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a place among live events: expected two numbers such as 12-340")]
pub struct InvalidPlace;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.event, self.entry)
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;
    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if plain { digits.parse().map_err(|_| InvalidPlace) } else { Err(InvalidPlace) }
        };
        let (event, entry) = text.split_once('-').ok_or(InvalidPlace)?;
        Ok(Self { event: number(event)?, entry: number(entry)? })
    }
}

impl TryFrom<String> for Place {
    type Error = InvalidPlace;
    fn try_from(text: String) -> Result<Self, InvalidPlace> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

/// From where live events are wanted; `Last-Event-ID` says the same and wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct EventsQuery {
    /// The id of the last event that was seen; absent: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub after: Option<Place>,
}

/// The data of one server-sent event; its id is a [`Place`]. After `end` the orchestrator closes the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LiveEvent {
    /// The execution stands differently.
    Execution {
        /// How it stands now.
        execution: ExecutionSummary,
    },
    /// A section stands differently.
    Section {
        /// How it stands now.
        section: SectionView,
    },
    /// A step ended, as a whole or on one node.
    StepEnded {
        /// Which step.
        step: StepIndex,
        /// Its name.
        name: StepName,
        /// On which node; absent: as a whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeName>,
        /// How.
        outcome: Outcome,
        /// Why, in words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    /// A step said how far it is.
    Progress {
        /// Which step.
        step: StepIndex,
        /// On which node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeIndex>,
        /// How far.
        progress: Progress,
    },
    /// Log entries.
    Log {
        /// In the log's order.
        lines: Vec<LogLine>,
    },
    /// The execution has ended and everything was said.
    End {
        /// How it ended.
        outcome: Outcome,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_text() {
        fn check(text: &str, expect: Option<Place>) {
            assert_eq!(text.parse().ok(), expect, "{text:?}");
        }
        check("12-340", Some(Place { event: 12, entry: 340 }));
        check("0-0", Some(Place::default()));
        check("12", None);
        check("-1", None);
        check("+1-2", None);
        check("1-99999999999999999999999", None);
    }
}
