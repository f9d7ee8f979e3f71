//! The sandbox with real components: what they may do works, and what they must not do ends as it should.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conformance;
mod ends;
mod exec;
mod files;
mod inert;
mod limits;
mod source;
mod support;
