//! What leaves the runner about its work.

pub mod redact;
