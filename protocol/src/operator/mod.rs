//! The operator API under `/api/v1`: what the CLI, the web pages and other programs say to the orchestrator.
//!
//! JSON both ways, a bearer token in `Authorization`; a failed call is answered with [`crate::endpoint::Problem`].
//! One file a noun; [`path`] holds every address. *Invariant:* requests refuse unknown members, answers tolerate them,
//! so that an older client reads a newer orchestrator.

mod access;
mod audit;
mod channel;
mod component;
mod execution;
mod hook;
mod job;
mod log;
mod node;
pub mod path;
mod project;
mod runner;
mod schedule;
mod settings;
mod token;

use serde::{Deserialize, Serialize};

pub use access::*;
pub use audit::*;
pub use channel::*;
pub use component::*;
pub use execution::*;
pub use hook::*;
pub use job::*;
pub use log::*;
pub use node::*;
pub use project::*;
pub use runner::*;
pub use schedule::*;
pub use settings::*;
pub use token::*;

/// A part of a list, and where the next part begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Send this as `after` for the next part; absent: this was the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct Part {
    /// `next` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many entries at most, up to [`MAX_PAGE`]; absent: [`PAGE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Entries of a page that nobody asked otherwise for.
pub const PAGE: u32 = 100;
/// Most entries of a page.
pub const MAX_PAGE: u32 = 1000;
/// Most log entries of one answer.
pub const MAX_LOG_PAGE: u32 = 10_000;

impl Part {
    /// The number of entries to answer with.
    pub fn entries(&self) -> u32 {
        entries(self.limit)
    }
}

fn entries(limit: Option<u32>) -> u32 {
    limit.unwrap_or(PAGE).clamp(1, MAX_PAGE)
}

/// The answer of [`path::VERSION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Version {
    /// `remit-orchestrator`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// Newest runner protocol that it serves.
    pub protocol: u32,
}

/// The answer of [`path::HEALTH`]: it is given only while the store answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`.
    pub status: String,
}

/// Text that is shown to its receiver once and kept nowhere: a ticket, a token. It never appears in debug output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct ShownOnce(String);

impl ShownOnce {
    /// Wraps `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that shows or sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ShownOnce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[shown once]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_once_is_not_printed_by_accident() {
        let shown = ShownOnce::new("remit_secret".to_owned());
        assert_eq!(format!("{shown:?}"), "[shown once]");
        assert_eq!(serde_json::to_string(&shown).unwrap(), "\"remit_secret\"");
    }

    #[test]
    fn a_page_has_a_size() {
        assert_eq!(Part::default().entries(), PAGE);
        assert_eq!(Part { limit: Some(0), after: None }.entries(), 1);
        assert_eq!(Part { limit: Some(u32::MAX), after: None }.entries(), MAX_PAGE);
    }
}
