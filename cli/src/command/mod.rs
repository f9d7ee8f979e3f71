//! One file a noun.

pub(crate) mod adhoc;
pub(crate) mod again;
mod artifact;
pub(crate) mod audit;
pub(crate) mod channel;
pub(crate) mod component;
pub(crate) mod execution;
pub(crate) mod export;
mod gate;
pub(crate) mod hook;
pub(crate) mod import;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod login;
pub(crate) mod nodes;
pub(crate) mod note;
pub(crate) mod policy;
pub(crate) mod project;
pub(crate) mod runner;
pub(crate) mod schedule;
pub(crate) mod step;
pub(crate) mod token;
pub(crate) mod up;
