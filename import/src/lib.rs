//! Moving in: job files of Rundeck become jobs of Remit, with a report of each place where the meaning differs.
//!
//! [`jobs`] reads a whole file; [`Imported`] is a job file with its [`Notice`]s. What has no counterpart becomes a step
//! that fails when it is run, never a step that does less than it says. Values of options travel as arguments, never as
//! text of a command. Secrets do not travel: only the places where they stood are named.
//!
//! *Never here:* IO. *Invariant:* every job that is given out was read back by [`remit_job::source::JobSource::parse`].

mod access;
mod archive;
mod command;
mod condition;
mod date;
mod export;
mod file;
mod job;
mod log;
mod nodes;
mod notification;
mod option;
mod reference;
mod schedule;
mod step;
mod write;
mod xml;
mod yaml;

pub use access::{Access, Role, Subject, access};
pub use archive::{Archive, InvalidArchive, Source, archive};
pub use export::{Exported, JobFile, export};
pub use file::{Format, InvalidFile, MAX_FILE, jobs};
pub use job::{Imported, Kind, Notice};
pub use nodes::nodes;
