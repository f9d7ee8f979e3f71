//! The job: what people write, what it is compiled to, and every pure decision about it.
//!
//! Read [`source`] (the author's YAML), [`compile`], [`document`] (what is signed and run), then what is evaluated when:
//! [`options`] with [`date`], [`trigger`] with [`filter`], [`sections`], [`condition`], [`template`] over [`expression`], [`retry`],
//! [`children`] and [`rollup`]. The same functions serve orchestrator, runner and command line, so that what was signed is what runs.
//!
//! *Never here:* IO, a clock, randomness. *Invariant:* a document that [`compile::compile`] or
//! [`document::Document::from_slice`] gave has passed every check that needs no component.

pub mod children;
pub mod compile;
pub mod condition;
pub mod date;
pub mod document;
pub mod expression;
pub mod filter;
pub mod notify;
pub mod options;
pub mod pattern;
pub mod retry;
pub mod rollup;
pub mod schedule;
pub mod sections;
pub mod source;
pub mod template;
pub mod trigger;
pub mod widened;

mod check;
mod yaml;
