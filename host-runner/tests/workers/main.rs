//! The tests of the sandbox once more, with each component in a worker process; and what only such a process can do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// Components run in processes of their own.
const WORKERS: bool = true;

#[path = "../sandbox/artifacts.rs"]
mod artifacts;
#[path = "../sandbox/conformance.rs"]
mod conformance;
#[path = "../sandbox/ends.rs"]
mod ends;
#[path = "../sandbox/exec.rs"]
mod exec;
#[path = "../sandbox/files.rs"]
mod files;
#[path = "../sandbox/inert.rs"]
mod inert;
#[path = "../sandbox/limits.rs"]
mod limits;
mod priority;
#[path = "../sandbox/source.rs"]
mod source;
#[path = "../sandbox/support.rs"]
mod support;
