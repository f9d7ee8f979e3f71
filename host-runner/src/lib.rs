//! The runner: fetches work, verifies it, confines it to its remit, runs it.
//!
//! Read in this order: [`runner`] (the dispatcher: everything that can happen, in one place), [`attempt`] (one section's
//! life), [`component`] (from a digest to something that runs), [`sandbox`] (one step in one store), [`capability`] (what
//! a step may ask of its host), [`secrets`] (where values come from), [`report`] (what leaves, and in which form),
//! [`orchestrator`] (the client). [`start`] puts them together for the program.
//!
//! *Never here:* a listening socket (but for [`conformance`], while it runs), the orchestrator's code, a component that
//! `remit_signing` did not verify.

pub mod attempt;
pub mod audit;
pub mod broker;
pub mod capability;
pub mod check;
pub mod clock;
pub mod component;
pub mod config;
pub mod confine;
pub mod conformance;
pub mod dial;
pub mod doctor;
pub mod enrol;
pub mod explain;
mod frames;
pub mod launcher;
pub mod local;
pub mod measure;
pub mod orchestrator;
pub mod proposal;
pub mod report;
pub mod runner;
pub mod sandbox;
pub mod secrets;
pub mod start;
pub mod state;
pub mod trust;
pub mod worker;
