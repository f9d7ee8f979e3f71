#![doc = include_str!("../README.md")]

pub mod exec;
pub mod files;
pub mod http;
pub mod interpreter;
pub mod log;
pub mod output;
pub mod secrets;
pub mod ssh;
pub mod tcp;

mod context;
mod fail;
mod node;
mod refusal;
mod run;
mod span;

#[cfg(not(target_arch = "wasm32"))]
pub mod fake;
#[cfg(target_arch = "wasm32")]
mod guest;

#[cfg(not(target_arch = "wasm32"))]
use fake::host;
#[cfg(target_arch = "wasm32")]
use guest as host;

pub use context::Context;
pub use fail::Fail;
pub use node::{Node, Nodes};
pub use refusal::Refusal;
pub use remit_sdk_macros::{JsonSchema, node_source, step};
pub use schema::*;
pub use schemars;
pub use span::{InvalidSpan, Span};

/// The trait alone: its derive macro is ours, so that a step's crate needs no dependency on `schemars`.
mod schema {
    pub use schemars::JsonSchema;
}

/// What the attributes' expansion calls. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_arch = "wasm32")]
    pub use crate::guest::{
        End, discover, export_node_source, export_step, node_source_world, run, step_world,
    };
    pub use crate::run::{describe_node_source, describe_step};
}
