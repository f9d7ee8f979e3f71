//! What a component may ask of its host: one file a capability, with the same name as in `wit/`, in
//! `remit_protocol::capability` and in the guest SDK.
//!
//! Each file has two halves: the guest's face (bindings, checks against the remit, limits, redaction) and the effect
//! behind one small async trait with owned arguments, so that it can move into another process.

pub mod exec;
pub mod files;
pub mod http;
pub mod secrets;
pub mod ssh;
