//! Options: what a job asks when it is run, and the check of what was given.
//!
//! [`OptionType`] has a variant for each type. A value is taken exactly as it was typed: nothing in it is ever replaced or
//! taken apart. Defaults are templates. An option may look at those above it, never at those below: so there are no circles.
//! [`Values`] may come from elsewhere (the nodes of the project, what another job found): those who call gather that as
//! [`Outside`], and nothing is accepted where it is not at hand.

mod accept;
mod check;
mod definition;
mod file;
mod values;

use remit_protocol::{OptionName, SecretPath, Size};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use check::{Described, check, check_ahead, describe, nobody_types};
pub use file::{GivenFile, files};
pub use values::{ByOption, Listed, OfJob, OfNodes, Outside, Values};

use crate::{date::DateFormat, pattern::Pattern, template::Template};

/// Most options of a job.
pub const MAX_OPTIONS: usize = 200;
/// Most values that an option lists, and most items of a list.
pub const MAX_VALUES: usize = 1000;

/// One option of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionDefinition {
    /// Its name.
    pub name: OptionName,
    /// What it is for, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// It has to have a value.
    #[serde(default)]
    pub required: bool,
    /// Its value when none is given: it sees the options above, `project`, `execution` and `date(…)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Template>,
    /// Which values it takes.
    #[serde(rename = "type")]
    pub kind: OptionType,
}

/// Which values an option takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OptionType {
    /// A text.
    String {
        /// One of these, if there are any.
        #[serde(default, skip_serializing_if = "Values::is_empty")]
        values: Values,
        /// The values are only proposed: another one may be given.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        open: bool,
        /// The whole text fits this regular expression.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pattern: Option<Pattern>,
        /// At least so many characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_length: Option<u32>,
        /// At most so many characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_length: Option<u32>,
    },
    /// A whole number inside ±(2^53 - 1).
    Integer {
        /// One of these, if any are listed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        values: Vec<i64>,
        /// The least.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<i64>,
        /// The most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<i64>,
    },
    /// True or false.
    Boolean {},
    /// Several texts, in their order.
    List {
        /// Each one of these, if there are any.
        #[serde(default, skip_serializing_if = "Values::is_empty")]
        values: Values,
        /// The values are only proposed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        open: bool,
        /// Each whole text fits this regular expression.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pattern: Option<Pattern>,
        /// At least so many of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min_items: Option<u32>,
        /// At most so many of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_items: Option<u32>,
    },
    /// A day, a time, or both: a text of a fixed form.
    Date {
        /// The form.
        #[serde(default)]
        format: DateFormat,
        /// Not before this, in the same form.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<String>,
        /// Not after this, in the same form.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<String>,
    },
    /// A file: its bytes go to the orchestrator before the job is run, and to the runner when a step reads them.
    File {
        /// At most so many bytes; none: [`USUAL_OPTION_FILE`](remit_protocol::limits::USUAL_OPTION_FILE).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_size: Option<Size>,
    },
    /// One of these secret paths: which of them a step uses is chosen when the job is run. Only the path travels.
    Secret {
        /// The paths that may be chosen.
        values: Vec<SecretPath>,
    },
    /// A secret that is typed when the job is run, for that run alone. Its value among the others is the path: what was typed
    /// travels sealed, to runners that alone can open it.
    Typed {
        /// As the secret of which path it arrives there.
        path: SecretPath,
    },
}

impl OptionType {
    /// The word in job files.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::String { .. } => "string",
            Self::Integer { .. } => "integer",
            Self::Boolean {} => "boolean",
            Self::List { .. } => "list",
            Self::Date { .. } => "date",
            Self::File { .. } => "file",
            Self::Secret { .. } | Self::Typed { .. } => "secret",
        }
    }

    /// True if other values than those that it names are accepted, too.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::String { open: true, .. } | Self::List { open: true, .. })
    }

    /// Where its values come from, if they are not its own.
    pub fn values(&self) -> Option<&Values> {
        match self {
            Self::String { values, .. } | Self::List { values, .. } => Some(values),
            Self::Integer { .. }
            | Self::Boolean {}
            | Self::Date { .. }
            | Self::File { .. }
            | Self::Secret { .. }
            | Self::Typed { .. } => None,
        }
    }

    /// As the secret of which path it arrives, if its value is typed.
    pub fn typed(&self) -> Option<&SecretPath> {
        match self {
            Self::Typed { path } => Some(path),
            _ => None,
        }
    }
}

/// The typed options among checked values, each with its path: what is given for them is the path, and nothing else.
pub fn typed<'a>(
    definitions: &'a [OptionDefinition],
    values: &Map<String, Value>,
) -> Vec<(&'a OptionName, &'a SecretPath)> {
    let given = |definition: &&OptionDefinition| values.contains_key(definition.name.as_str());
    let typed = |definition: &'a OptionDefinition| Some((&definition.name, definition.kind.typed()?));
    definitions.iter().filter(given).filter_map(typed).collect()
}

#[cfg(test)]
mod tests;
