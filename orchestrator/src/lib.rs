//! The orchestrator: holds jobs, decides what runs where, records what happened.
//!
//! Read in this order: [`execution`] (the pure state machine and planner), [`store`] (the only SQL, blobs and logs),
//! [`scheduler`] (sessions, matching, the reconciler), [`registry`] and [`nodes`] (components and nodes), [`courier`] (what is made
//! known outside), [`seal`] (its own secrets at rest), [`http`] (the only
//! axum), [`app`] (how it is put together from a [`config`]).
//!
//! *Never here:* wasmtime, a job's secret. *Invariant:* nothing is acknowledged that is not committed.

pub mod app;
pub mod config;
pub mod courier;
pub mod execution;
pub mod http;
pub mod nodes;
pub mod registry;
pub mod retention;
pub mod scheduler;
pub mod seal;
pub mod store;
pub mod tls;
pub mod trail;
