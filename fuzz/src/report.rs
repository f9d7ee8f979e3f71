//! What the runner reports, as far as it is fuzzed.

#[path = "../../host-runner/src/report/redact/mod.rs"]
pub mod redact;
