//! Names and identifiers: one type each, parsed in the constructor, so that a wrong one cannot travel.
//!
//! Names are what people write; ids are made by the orchestrator. Both are plain text on the wire.

mod component;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::component::{
    ComponentName, ComponentPin, ComponentSelector, ComponentVersion, VersionSelector,
};

/// Why a text is not a name or an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {rule}")]
pub struct InvalidId {
    /// What was expected, in words ("step name").
    pub kind: &'static str,
    /// The rule that a value of this kind follows.
    pub rule: &'static str,
    /// What was found, cut to 80 characters.
    pub text: String,
}

impl InvalidId {
    fn new(kind: &'static str, rule: &'static str, text: &str) -> Self {
        Self { kind, rule, text: text.chars().take(80).collect() }
    }
}

/// Declares a text newtype with one check, and everything that callers expect of it.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Parses a ", $kind, ": `", $rule, "`.")]
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(InvalidId::new($kind, $rule, &text)) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

/// `[a-z][a-z0-9_]*`, at most 64 bytes: names that appear in expressions.
fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 64
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most 63 bytes: a DNS-like label.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// `[a-z0-9]([a-z0-9._-]*[a-z0-9])?`, at most 63 bytes.
fn is_slug(text: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| edge(b) || matches!(b, b'-' | b'_' | b'.'))
        && text.bytes().next().is_some_and(edge)
        && text.bytes().next_back().is_some_and(edge)
}

fn is_file_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    text.len() <= 128 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(inner)
}

text_id!(
    /// The name of a project.
    ProjectName, "project name", "lower-case letters, digits and inner '-', at most 63", is_label
);
text_id!(
    /// The name of a job inside its project.
    JobName, "job name", "[a-z][a-z0-9_]*, at most 64", is_identifier
);
text_id!(
    /// The name of a step inside its job.
    StepName, "step name", "[a-z][a-z0-9_]*, at most 64", is_identifier
);
text_id!(
    /// The name of an option of a job.
    OptionName, "option name", "[a-z][a-z0-9_]*, at most 64", is_identifier
);
text_id!(
    /// The name by which a step knows one of its secrets (`token`), never the secret's path.
    SecretName, "secret name", "[a-z][a-z0-9_]*, at most 64", is_identifier
);
text_id!(
    /// The name of a runner.
    RunnerName, "runner name", "lower-case letters, digits and inner '-', '_', '.', at most 63", is_slug
);
text_id!(
    /// A tag of a runner or of a node.
    Tag, "tag", "1 to 64 printable characters without comma, space, '+', quotes or control characters",
    |t| !t.is_empty() && t.len() <= 64
        && t.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, ',' | '+' | '"' | '\''))
);
text_id!(
    /// The name of a node, as its source gives it.
    NodeName, "node name", "1 to 255 characters without control characters, not only spaces",
    |t| !t.trim().is_empty() && t.len() <= 255 && !t.chars().any(char::is_control)
);
text_id!(
    /// Where a secret is found at the runner: `keys/` and one or more segments. Only this name ever travels.
    SecretPath, "secret path", "'keys/' and segments of letters, digits, '.', '_', '-', at most 255",
    |t| t.len() <= 255 && t.strip_prefix("keys/").is_some_and(|rest| rest.split('/').all(|segment| {
        !segment.is_empty() && segment != "." && segment != ".."
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    }))
);
text_id!(
    /// A namespace of components: what a publisher may sign.
    Namespace, "namespace", "lower-case letters, digits and inner '-', at most 63", is_label
);

text_id!(
    /// The name of a node source in its project.
    SourceName, "source name", "lower-case letters, digits and inner '-', '_', '.', at most 63", is_slug
);
text_id!(
    /// The name of a schedule in its job.
    ScheduleName, "schedule name", "[a-z][a-z0-9_]*, at most 64", is_identifier
);
text_id!(
    /// The name of a webhook in its project.
    HookName, "webhook name", "lower-case letters, digits and inner '-', '_', '.', at most 63", is_slug
);
text_id!(
    /// What the sender of a webhook calls one delivery of it. It has no dot, since a dot follows it where it is signed.
    DeliveryId, "delivery id", "1 to 128 letters, digits, '_', '-'",
    |t| !t.is_empty() && t.len() <= 128
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
);
text_id!(
    /// The name of a channel, over which executions are made known, in its project.
    ChannelName, "channel name", "lower-case letters, digits and inner '-', '_', '.', at most 63", is_slug
);
text_id!(
    /// The name of an artifact: a plain file name on every system.
    ArtifactName, "name of an artifact", "1 to 128 letters, digits, '.', '_', '-'; a letter or digit first", is_file_name
);
text_id!(
    /// The name of a saved node filter in its project.
    FilterName, "filter name", "[a-z][a-z0-9_]*, at most 64", is_identifier
);
text_id!(
    /// The name of an API token, for people.
    TokenName, "token name", "lower-case letters, digits and inner '-', '_', '.', at most 63", is_slug
);
text_id!(
    /// A key that makes a repeated trigger the same trigger.
    IdempotencyKey, "idempotency key", "1 to 128 visible ASCII characters",
    |t| !t.is_empty() && t.len() <= 128 && t.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// A few words for people; may be empty.
    #[derive(Default)]
    Description, "description", "at most 1000 bytes without control characters but line breaks",
    |t| t.len() <= 1000 && !t.chars().any(|c| c.is_control() && c != '\n')
);

/// Declares an id that the orchestrator makes: a ULID, whose time and randomness the caller gives.
macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
        pub struct $name(ulid::Ulid);

        impl $name {
            /// Makes an id from the time and 80 random bits (higher bits are ignored). Ids sort by time.
            pub fn from_parts(now: crate::Timestamp, random: u128) -> Self {
                Self(ulid::Ulid::from_parts(now.as_millis(), random))
            }

            /// The id as a number, for stores.
            pub fn to_u128(self) -> u128 {
                self.0.0
            }

            /// The id from a number that [`Self::to_u128`] gave.
            pub fn from_u128(number: u128) -> Self {
                Self(ulid::Ulid(number))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match ulid::Ulid::from_string(text) {
                    // Only the canonical spelling, so that one id has one text.
                    Ok(id) if id.to_string() == text => Ok(Self(id)),
                    _ => Err(InvalidId::new($kind, "26 characters of upper-case Crockford base 32", text)),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

ulid_id!(
    /// One run of a job revision.
    ExecutionId, "execution id"
);
ulid_id!(
    /// One hand-out of one section to one runner.
    AttemptId, "attempt id"
);
ulid_id!(
    /// A runner, from its creation to its deletion; the name may be used again, the id never.
    RunnerId, "runner id"
);
ulid_id!(
    /// A one-use enrolment ticket.
    TicketId, "ticket id"
);
ulid_id!(
    /// An API token, without its secret part.
    TokenId, "token id"
);

/// Declares a number with a meaning.
macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = $inner))]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// The fencing number of an attempt: each new attempt at a section has a higher one.
    Epoch(u32)
);
number_id!(
    /// A runner's session counter, kept durably on both sides. Unequal counters mean a cloned or restored runner.
    Session(u64)
);
number_id!(
    /// The place of a section in the plan of its execution.
    SectionNumber(u32)
);
number_id!(
    /// The place of a step in its job document.
    StepIndex(u32)
);
number_id!(
    /// The place of a node in its execution's node set.
    NodeIndex(u32)
);
number_id!(
    /// A revision of a job; saving a changed job makes the next one.
    Revision(u32)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_accept_what_their_rule_says() {
        fn check<T: FromStr>(text: &str, expect: bool) {
            assert_eq!(text.parse::<T>().is_ok(), expect, "{text:?}");
        }
        check::<StepName>("restart_2", true);
        check::<StepName>("2restart", false);
        check::<StepName>("restart-web", false);
        check::<StepName>("", false);
        check::<ProjectName>("ops-web", true);
        check::<ProjectName>("-ops", false);
        check::<SecretPath>("keys/prod/api-token", true);
        check::<SecretPath>("keys/prod/../x", false);
        check::<SecretPath>("keys/", false);
        check::<SecretPath>("prod/x", false);
        check::<ComponentName>("acme/restart-service", true);
        check::<ComponentName>("acme", false);
        check::<ComponentName>("acme/x/y", false);
        check::<ComponentVersion>("1.4.2", true);
        check::<ComponentVersion>("1.4.2+build", false);
        check::<ComponentVersion>("1.4", false);
        check::<NodeName>(" ", false);
        check::<NodeName>("web 1", true);
        check::<NodeName>("web\u{1b}[31m", false);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = ExecutionId::from_parts(crate::Timestamp::from_millis(1_795_000_000_000), 7);
        assert_eq!(id.to_string().parse::<ExecutionId>(), Ok(id));
        assert!(id.to_string().to_lowercase().parse::<ExecutionId>().is_err());
        assert_eq!(ExecutionId::from_u128(id.to_u128()), id);
    }
}
