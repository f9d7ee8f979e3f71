//! One step in one store: nothing is kept from one run to the next, and nothing is linked that the remit does not name.
//!
//! [`Sandbox::load`] turns native code into a [`Prepared`] component, [`Sandbox::run`] runs it once under a remit. A run ends
//! in exactly one [`Ended`], whatever the guest does.
//!
//! *Must not know:* jobs, attempts, the orchestrator, how a component was fetched.
//! *Invariant:* every run has a deadline, a bound on CPU time and memory and a way to be cancelled; a guest that computes
//! gives way every ten milliseconds; a fault of the host is never laid on the guest, nor the other way round.

mod cancel;
mod compile;
mod drive;
mod engine;
mod judge;
mod limits;
mod prepare;
mod state;

use std::{path::PathBuf, sync::Arc};

use remit_protocol::{
    Outcome, RefusalCode, SecretName, Span,
    capability::{Denial, Remit},
    manifest::Kind,
    node::NodeSet,
    report::Usage,
};
use remit_signing::VerifiedComponent;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::Engine;

pub use self::{
    cancel::Cancel,
    compile::{CompileError, NativeCode, compile},
    engine::EngineError,
    judge::HostFault,
    limits::{Account, OverLimit},
    prepare::Prepared,
    state::State,
};
use self::{judge::Finish, prepare::Export, state::Task};
use crate::{
    broker::Broker,
    capability::{Effects, context::StepContext, log::LogSink},
    dial::Dialer,
    launcher::Launch,
    report::redact::Redactor,
    secrets::Resolve,
};

/// How the sandbox is set up on this host.
#[derive(Clone)]
pub struct SandboxConfig {
    /// How many steps run at once; one more waits for its turn.
    pub slots: u32,
    /// Where scratch directories are made.
    pub scratch: PathBuf,
    /// Makes the connections of `http` and `ssh`.
    pub dialer: Arc<Dialer>,
    /// Starts the programs of `exec`.
    pub launch: Arc<dyn Launch>,
}

/// Engine, ticks and slots. Cheap to clone: clones share all of it.
#[derive(Clone)]
pub struct Sandbox {
    engine: Engine,
    slots: Arc<Semaphore>,
    config: Arc<SandboxConfig>,
    effects: Arc<Effects>,
}

/// What one run of a component is given.
pub struct Invocation {
    /// Exactly what it may do.
    pub remit: Arc<Remit>,
    /// Where the values of its secrets come from.
    pub secrets: Arc<dyn Resolve>,
    /// The input, a JSON document.
    pub input: String,
    /// Which run this is.
    pub context: StepContext,
    /// Where its log goes.
    pub log: Arc<dyn LogSink>,
    /// Ends it early.
    pub cancel: Cancel,
    /// Knows the secrets of the attempt.
    pub redactor: Redactor,
    /// Less time than the remit's `wall`, if the job gives less.
    pub timeout: Option<Span>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// The output document of a step that succeeded, redacted.
    pub output: Option<Value>,
    /// What a node source that succeeded found; not yet checked against a former set.
    pub nodes: Option<NodeSet>,
    /// Why, in words, redacted.
    pub message: String,
    /// What the component asked for and the remit did not allow.
    pub denials: Vec<Denial>,
    /// Secrets whose value the component has seen: the run is tainted.
    pub revealed: Vec<SecretName>,
    /// What it used; absent if no sandbox was made.
    pub usage: Option<Usage>,
}

impl Invocation {
    /// How long the run may take.
    fn wall(&self) -> Span {
        let most = self.remit.limits().wall;
        self.timeout.map_or(most, |timeout| timeout.min(most))
    }
}

impl Ended {
    fn refused(code: RefusalCode, message: String, denials: Vec<Denial>) -> Self {
        Self {
            outcome: Outcome::Refused(code),
            output: None,
            nodes: None,
            message,
            denials,
            revealed: Vec::new(),
            usage: None,
        }
    }
}

/// What a component says of itself when it is built.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// JSON Schema of its input.
    pub input: Value,
    /// JSON Schema of its output; null for a node source.
    pub output: Value,
}

/// A component that cannot be run here.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct LoadError {
    /// Which refusal it is.
    pub code: RefusalCode,
    /// Why, in words.
    pub detail: String,
}

/// A component that does not describe itself.
#[derive(Debug, thiserror::Error)]
#[error("the component does not describe itself: {0}")]
pub struct DescribeError(String);

impl Sandbox {
    /// Starts the engine and the thread of its ticks.
    ///
    /// # Errors
    /// The host has no memory or no thread for it.
    pub fn new(config: SandboxConfig) -> Result<Self, EngineError> {
        let slots = config.slots.max(1);
        let engine = engine::running(slots)?;
        engine::tick(&engine)?;
        let slots = Arc::new(Semaphore::new(usize::try_from(slots).unwrap_or(Semaphore::MAX_PERMITS)));
        let effects = Arc::new(Effects::local(config.launch.clone()));
        Ok(Self { engine, slots, config: Arc::new(config), effects })
    }

    /// Waits until nothing that steps have started is running any more: at the runner's end, after the last step.
    pub async fn idle(&self) {
        self.effects.exec.idle().await;
    }

    /// What native code depends on beside the component: version, settings and processor. Part of the cache's key.
    pub fn compatibility(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};

        let mut hasher = DefaultHasher::new();
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    /// Loads native code of a verified component and links what its manifest asks for.
    ///
    /// # Errors
    /// `E_COMPILE` for code of another engine, `E_IMPORTS` or `E_WORLD` for a component that is not what its manifest says,
    /// `E_UNSUPPORTED` for an interface that this runner does not have.
    pub fn load(
        &self,
        native: &NativeCode,
        component: &VerifiedComponent,
    ) -> Result<Arc<Prepared>, LoadError> {
        prepare::load(&self.engine, native, component.manifest()).map(Arc::new)
    }

    /// Runs a step once.
    pub async fn run(&self, prepared: &Prepared, invocation: Invocation) -> Ended {
        self.execute(prepared, invocation, Kind::Step).await
    }

    /// Runs a node source once.
    pub async fn discover(&self, prepared: &Prepared, invocation: Invocation) -> Ended {
        self.execute(prepared, invocation, Kind::NodeSource).await
    }

    async fn execute(&self, prepared: &Prepared, invocation: Invocation, kind: Kind) -> Ended {
        if prepared.kind() != kind {
            let detail = format!("the component is of kind {:?}, not {kind:?}", prepared.kind());
            return Ended::refused(RefusalCode::World, detail, Vec::new());
        }
        let lacking = prepared.lacking(&invocation.remit);
        if !lacking.is_empty() {
            let message = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            return Ended::refused(RefusalCode::Grant, message, lacking);
        }
        let Some(_slot) = self.slot(&invocation.cancel).await else { return judge::cancelled() };
        self.here(prepared, invocation, kind).await
    }

    /// Runs a component in this process, with its broker beside it.
    async fn here(&self, prepared: &Prepared, mut invocation: Invocation, kind: Kind) -> Ended {
        let input = std::mem::take(&mut invocation.input);
        match self.called(prepared, invocation, kind, Export::Main(input)).await {
            Ok((broker, finish, wall)) => judge::end(*broker, finish, wall),
            Err(fault) => judge::fault(&fault.0),
        }
    }

    async fn called(
        &self,
        prepared: &Prepared,
        invocation: Invocation,
        kind: Kind,
        export: Export,
    ) -> Result<(Box<Broker>, Finish, Span), HostFault> {
        let broker = Broker::new(&invocation, kind, self.config.clone(), self.effects.clone());
        let task = Task {
            wall: invocation.wall(),
            scratch: prepared.scratch(&invocation.remit).then(|| self.config.scratch.clone()),
            context: invocation.context,
            cancel: invocation.cancel,
        };
        let (account, log) = (broker.account.clone(), broker.log.clone());
        let mut store = state::store(&self.engine, task, account, log, Box::new(broker))?;
        let driven = drive::drive(&mut store, prepared, export).await;
        Ok(judge::finish(store, driven).await)
    }

    /// A slot, when it is this run's turn; none if it is cancelled before that.
    async fn slot(&self, cancel: &Cancel) -> Option<SemaphorePermit<'_>> {
        if cancel.is_cancelled() {
            return None;
        }
        if let Ok(slot) = self.slots.try_acquire() {
            return Some(slot);
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            // The semaphore is never closed.
            slot = self.slots.acquire() => slot.ok(),
        }
    }

    /// Asks a component for its schemas, with no capability and little time.
    ///
    /// # Errors
    /// It does not answer, or not with `{"input": SCHEMA, "output": SCHEMA}`.
    pub async fn describe(&self, prepared: &Prepared) -> Result<Description, DescribeError> {
        let _slot =
            self.slots.acquire().await.map_err(|_| DescribeError("the sandbox is shut down".into()))?;
        let invocation = state::describing(prepared).map_err(|fault| DescribeError(fault.0))?;
        let called = self.called(prepared, invocation, prepared.kind(), Export::Describe).await;
        let (broker, finish, _) = called.map_err(|fault| DescribeError(fault.0))?;
        judge::description(*broker, finish)
    }
}
