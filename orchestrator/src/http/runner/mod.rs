//! The runner API, `protocol::endpoint`: every call is verified before anything of it is used, every answer is signed.
//!
//! *Invariants:* a body is bounded before it is read; a request counts once (a byte-identical repetition gets the answer
//! of the first time); a runner gets only blobs of work that it was handed, and published components.

mod artifacts;
mod blobs;
mod enrol;
mod link;
mod signed;
mod work;

pub(crate) use artifacts::Incoming;
pub(super) use artifacts::artifact;
pub(super) use blobs::{blob, component, log_consistency, log_proof, upload};
pub(super) use enrol::{enrol, hello};
pub(crate) use link::Links;
pub(super) use work::{poll, report, session, trail, wait};
