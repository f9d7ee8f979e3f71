//! What leaves the runner about its work.

pub mod journal;
pub mod outbox;
pub mod record;
pub mod redact;
