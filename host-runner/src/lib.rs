//! The runner: fetches work, verifies it, confines it to its remit, runs it.
//!
//! Read in this order: [`sandbox`] (one step in one store), [`capability`] (what a step may ask of its host),
//! [`secrets`] (where values come from), [`report`] (what leaves, and in which form).
//!
//! *Never here:* a listening socket, the orchestrator's code, a component that `remit_signing` did not verify.

pub mod capability;
pub mod dial;
pub mod report;
pub mod sandbox;
pub mod secrets;
