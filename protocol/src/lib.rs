//! The words that cross a process boundary of Remit.
//!
//! Read in this order: [`ids`] and [`digest`] (what things are called), [`capability`] and [`limits`] (what a step may
//! do), [`manifest`] (what a component says of itself), [`node`], [`assignment`] (what a runner is handed), [`report`]
//! (what it answers), [`endpoint`] (how both travel), [`operator`] (the API for people).
//!
//! *Never here:* IO, a clock, SQL, axum, wasmtime. *Invariant:* every field of a message is a parsed type; what cannot
//! be true cannot be parsed.

pub mod assignment;
pub mod capability;
pub mod compare;
pub mod digest;
pub mod endpoint;
pub mod ids;
pub mod json;
pub mod limits;
pub mod log_limit;
pub mod manifest;
pub mod nearest;
pub mod node;
pub mod notice;
pub mod operator;
pub mod origin;
pub mod position;
pub mod refusal;
pub mod report;
pub mod sealed;
pub mod time;
pub mod weigh;

#[cfg(feature = "openapi")]
mod schema;

pub use digest::Digest;
pub use ids::*;
pub use limits::{Limits, Size};
pub use log_limit::LogLimit;
pub use origin::Origin;
pub use refusal::RefusalCode;
pub use report::Outcome;
pub use time::{Span, Timestamp};

/// The version of the runner protocol. Both sides say theirs; an orchestrator serves this one and the one before.
pub const PROTOCOL: u32 = 1;
