//! Processes of their own for components: a *worker* runs one component under one remit, and a *supervisor* – the runner –
//! serves its calls over a socket that the worker was born with.
//!
//! A worker is the engine and nothing else: no secret, no network, no file but the scratch directories of its runs, no way
//! to start anything (see [`confine::worker`](crate::confine::worker)). [`process`] starts one through the launcher and
//! hears it; [`pool`] keeps them warm and lends them; [`attend`] is a run as the supervisor sees it, with its
//! [`Broker`](crate::broker) here; [`life`] is the worker's own side, and [`mod@line`] its way to the broker. [`exchange`]
//! is common to both.
//!
//! *Must not know:* attempts, jobs. *Invariant:* who a frame is from is the socket that it came by, never what it says; a
//! worker serves one component, project and remit from its birth to its end, so that whoever takes it over completely has
//! that remit and nothing else.

mod attend;
mod exchange;
mod life;
mod line;
mod pace;
mod pool;
mod process;

use std::{borrow::Cow, path::Path, sync::Arc};

use remit_protocol::{ExecutionId, Limits, RefusalCode, Span, StepName, node::Node, report::Level};
use serde::{Deserialize, Serialize};

pub(crate) use self::pool::{Recipe, Workers};
pub use self::{
    life::live,
    process::{Crew, NoWorker},
};
use crate::{
    capability::{context::StepContext, log::Stdio},
    confine::Confinement,
    sandbox::{Counted, Export, Invocation, Metering, Said},
};

/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Largest frame of a worker: an output of the largest kind, or a page of nodes.
const MAX_FROM_WORKER: usize = 48 << 20;
/// Largest frame to a worker: the input of a run.
const MAX_TO_WORKER: usize = 192 << 20;
/// What waits for a worker that does not read before it is given up.
const MAX_WAITING: usize = 256 << 20;

/// What a worker is born for.
#[derive(Serialize, Deserialize)]
struct Hello {
    /// The supervisor's version: both come from one program, unless that was replaced meanwhile.
    version: String,
    /// Runs at once.
    slots: u32,
    /// Whether its component's code counts its fuel.
    metering: Metering,
    /// Processors that it leaves to others once it has computed for long.
    reserved_processors: u16,
}

/// The beginning of the name of a directory in which a worker has the scratch directories of its runs.
pub(crate) const SCRATCH: &str = "worker-";

/// How a worker is started. What decides what it may do stands here and not in what it is told later, so that the launcher
/// can judge it.
pub(crate) fn arguments(confinement: Confinement, scratch: Option<&Path>) -> Vec<String> {
    let mut arguments = vec!["worker".to_owned(), format!("--confinement={}", confinement.as_str())];
    arguments.extend(scratch.map(|directory| format!("--scratch={}", directory.display())));
    arguments
}

/// Why a component does not load; without a code it is the host's fault.
#[derive(Serialize, Deserialize)]
struct Unloadable {
    code: Option<RefusalCode>,
    detail: String,
}

/// A worker's first word: it is confined and ready, or why not.
type Ready = Result<(), Unloadable>;

/// What a run is begun with, beside its input.
#[derive(Serialize, Deserialize)]
pub(crate) struct Begin<'a> {
    limits: Limits,
    wall: Span,
    scratch: bool,
    /// It is asked for its schemas, and not run.
    describes: bool,
    execution: ExecutionId,
    step: StepName,
    node: Option<Cow<'a, Node>>,
    try_number: u32,
    idempotency_key: String,
}

impl<'a> Begin<'a> {
    /// For a run of `invocation`, with a scratch directory or without; or for its schemas.
    pub(crate) fn of(invocation: &'a Invocation, scratch: bool, export: &Export) -> Self {
        let context = &invocation.context;
        Self {
            limits: *invocation.remit.limits(),
            wall: invocation.wall(),
            scratch,
            describes: matches!(export, Export::Describe),
            execution: context.execution,
            step: context.step.clone(),
            node: context.node.as_deref().map(Cow::Borrowed),
            try_number: context.try_number,
            idempotency_key: context.idempotency_key.clone(),
        }
    }

    fn context(self) -> StepContext {
        StepContext {
            execution: self.execution,
            step: self.step,
            node: self.node.map(|node| Arc::new(node.into_owned())),
            try_number: self.try_number,
            idempotency_key: self.idempotency_key,
        }
    }
}

/// How a run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stop {
    /// The component is asked to.
    Asked,
    /// At once.
    Cut,
}

/// How a run ended, as the worker tells it; a document travels as bytes.
#[derive(Serialize, Deserialize)]
struct Finish {
    said: Said,
    counted: Counted,
}

/// The head of a message for the log.
type Message = (Level, Vec<(String, String)>);
/// The head of bytes of standard output or error.
type Output = Stdio;
/// The head of a word of progress: how much of how much.
type Progress = (u64, u64);
