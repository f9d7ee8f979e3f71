//! The sandbox with real components: what they may do works, and what they must not do ends as it should.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// Components run in this process; `tests/workers` has them in processes of their own.
const WORKERS: bool = false;

mod artifacts;
mod conformance;
mod ends;
mod exec;
mod files;
mod inert;
mod limits;
mod source;
mod support;
