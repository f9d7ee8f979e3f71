//! The sandbox with real components: what they may do works, and what they must not do ends as it should.

mod ends;
mod exec;
mod files;
mod limits;
mod source;
mod support;
