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
mod stage;
mod state;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use remit_protocol::{
    Digest, Outcome, ProjectName, RefusalCode, SecretName, Span,
    capability::{Denial, Remit},
    manifest::{Kind, Manifest},
    node::NodeSet,
    report::Usage,
};
use remit_signing::VerifiedComponent;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use wasmtime::Engine;

pub use self::{
    cancel::Cancel,
    compile::{CompileError, NativeCode, compile},
    engine::{EngineError, Metering},
    judge::HostFault,
    limits::{Account, OverLimit},
    prepare::Prepared,
    state::State,
};
pub(crate) use self::{
    drive::LONG,
    judge::{Said, cancelled, fault},
    limits::Counted,
    prepare::Export,
    stage::{Running, Stage},
    state::Task,
};
use self::{engine::Ticks, prepare::Form};
use crate::{
    broker::{
        Access, Broker,
        apart::{Admitted, Keeper},
    },
    capability::{
        Effects,
        context::StepContext,
        files::{Kept, OptionFiles},
        log::LogSink,
    },
    dial::Dialer,
    launcher::Launch,
    report::redact::Redactor,
    secrets::Resolve,
    worker::{Begin, Crew, NoWorker, Workers},
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

/// Where components run, and slots. Cheap to clone: clones share all of it.
#[derive(Clone)]
pub struct Sandbox {
    place: Place,
    /// Without fuel and with it.
    compatibility: [u64; 2],
    slots: Arc<Semaphore>,
    config: Arc<SandboxConfig>,
    effects: Arc<Effects>,
    /// Runs what was admitted.
    keeper: Option<Arc<Keeper>>,
}

/// Where components run.
#[derive(Clone)]
enum Place {
    /// In this process: for an author's own machine, and tests.
    Here(Arc<Here>),
    /// In processes of their own.
    Workers(Workers),
}

/// The engines of this process.
struct Here {
    slots: u32,
    plain: Floor,
    /// Made when the first component comes whose fuel is counted.
    metered: Mutex<Option<Arc<Floor>>>,
}

/// An engine, and what interrupts that which runs on it.
struct Floor {
    engine: Engine,
    ticks: Ticks,
}

impl Floor {
    fn lay(slots: u32, metering: Metering) -> Result<Self, EngineError> {
        let engine = engine::running(slots, metering)?;
        Ok(Self { ticks: Ticks::start(&engine)?, engine })
    }
}

impl Here {
    /// The floor for components that count their fuel.
    fn metered(&self) -> Result<Arc<Floor>, EngineError> {
        let mut metered = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(floor) = &*metered {
            return Ok(floor.clone());
        }
        let floor = Arc::new(Floor::lay(self.slots, Metering::On)?);
        Ok(metered.insert(floor).clone())
    }
}

/// What one run of a component is given.
pub struct Invocation {
    /// Exactly what it may do.
    pub remit: Arc<Remit>,
    /// Where the values of its secrets come from.
    pub secrets: Arc<dyn Resolve>,
    /// The files of the job's options.
    pub files: Arc<OptionFiles>,
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
    /// Runs of the same realm may share a worker process, at once and one after the other: what takes one over has no
    /// more than the others have. See [`realm`].
    pub realm: Digest,
    /// The same remit as the broker process knows it, where that is to run it; secrets and redactor are there as well.
    pub admitted: Option<Admitted>,
}

/// The realm of runs under one remit in one project.
pub fn realm(project: &ProjectName, remit: Digest) -> Digest {
    Digest::of(format!("{project}\n{remit}").as_bytes())
}

/// How a run ended. As it travels, output and artifacts stand beside it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// The output document of a step that succeeded, redacted.
    #[serde(skip)]
    pub output: Option<Value>,
    /// What a node source that succeeded found; not yet checked against a former set.
    pub nodes: Option<NodeSet>,
    /// What it kept for people, however it ended.
    #[serde(skip)]
    pub artifacts: Vec<Kept>,
    /// Why, in words, redacted.
    pub message: String,
    /// What the component asked for and the remit did not allow.
    pub denials: Vec<Denial>,
    /// Secrets whose value the component has seen: the run is tainted.
    pub revealed: Vec<SecretName>,
    /// What it used; absent if no sandbox was made.
    pub usage: Option<Usage>,
    /// How long the sandbox was there, as the process tells in which it was: to measure, not to believe.
    pub took: Duration,
}

impl Invocation {
    /// How long the run may take.
    pub(crate) fn wall(&self) -> Span {
        let most = self.remit.limits().wall;
        self.timeout.map_or(most, |timeout| timeout.min(most))
    }
}

impl Ended {
    pub(crate) fn refused(code: RefusalCode, message: String, denials: Vec<Denial>) -> Self {
        Self {
            outcome: Outcome::Refused(code),
            output: None,
            nodes: None,
            artifacts: Vec::new(),
            message,
            denials,
            revealed: Vec::new(),
            usage: None,
            took: Duration::ZERO,
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
    /// Runs components in this process: starts the engine and the thread of its ticks.
    ///
    /// # Errors
    /// The host has no memory or no thread for it.
    pub fn new(config: SandboxConfig) -> Result<Self, EngineError> {
        let slots = config.slots.max(1);
        let plain = Floor::lay(slots, Metering::Off)?;
        Self::at(Place::Here(Arc::new(Here { slots, plain, metered: Mutex::default() })), config)
    }

    /// Runs components in processes of `crew`. Call it inside of a runtime.
    ///
    /// # Errors
    /// There is no engine that could be asked which native code its workers take.
    pub fn with_workers(config: SandboxConfig, crew: Crew) -> Result<Self, EngineError> {
        let workers = Workers::new(crew, config.launch.clone(), config.scratch.clone(), config.slots.max(1));
        Self::at(Place::Workers(workers), config)
    }

    fn at(place: Place, config: SandboxConfig) -> Result<Self, EngineError> {
        let compatible = |metering| Ok(engine::compatibility(&engine::idle(metering)?));
        let compatibility = [compatible(Metering::Off)?, compatible(Metering::On)?];
        let slots = usize::try_from(config.slots.max(1)).unwrap_or(Semaphore::MAX_PERMITS);
        let effects = Arc::new(Effects::local(config.launch.clone()));
        Ok(Self {
            place,
            compatibility,
            slots: Arc::new(Semaphore::new(slots)),
            config: Arc::new(config),
            effects,
            keeper: None,
        })
    }

    /// The same, in a supervisor: what was admitted is run by the broker process, and the workers here have the rest.
    #[must_use]
    pub fn with_broker(self, keeper: Arc<Keeper>) -> Self {
        Self { keeper: Some(keeper), ..self }
    }

    /// Waits until nothing that steps have started is running any more: at the runner's end, after the last step.
    pub async fn idle(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.idle().await;
        }
        self.effects.exec.idle().await;
    }

    /// What native code depends on beside the component: version, settings and processor. Part of the cache's key.
    pub fn compatibility(&self, metering: Metering) -> u64 {
        let [plain, metered] = self.compatibility;
        if metering == Metering::On { metered } else { plain }
    }

    /// Loads native code of a verified component and links what its manifest asks for; or keeps it ready for workers to do
    /// so, see [`warm`](Self::warm).
    ///
    /// # Errors
    /// `E_COMPILE` for code of another engine, `E_IMPORTS` or `E_WORLD` for a component that is not what its manifest says,
    /// `E_UNSUPPORTED` for an interface that this runner does not have.
    pub fn load(
        &self,
        native: &NativeCode,
        component: &VerifiedComponent,
    ) -> Result<Arc<Prepared>, LoadError> {
        let manifest = component.manifest();
        let form = match &self.place {
            Place::Here(here) if native.metering() == Metering::Off => {
                Form::Here(prepare::load(&here.plain.engine, native.as_bytes(), manifest)?)
            }
            Place::Here(here) => {
                let floor = here
                    .metered()
                    .map_err(|error| LoadError { code: RefusalCode::Compile, detail: error.to_string() })?;
                Form::Here(prepare::load(&floor.engine, native.as_bytes(), manifest)?)
            }
            Place::Workers(_) => return self.keep(native.as_bytes(), native.metering(), manifest),
        };
        Prepared::new(manifest, form, None).map(Arc::new)
    }

    /// Keeps native code ready for workers to load. Nothing is loaded here, and who gives it has verified it.
    ///
    /// # Errors
    /// As [`load`](Self::load); and where components are run in this process.
    pub(crate) fn keep(
        &self,
        native: &[u8],
        metering: Metering,
        manifest: &Manifest,
    ) -> Result<Arc<Prepared>, LoadError> {
        let refuse = |error: std::io::Error| LoadError {
            code: RefusalCode::Compile,
            detail: format!("no memory for it: {error}"),
        };
        let Place::Workers(workers) = &self.place else {
            return Err(refuse(std::io::Error::other("there are no workers here")));
        };
        let recipe = workers.recipe(native, metering, manifest).map_err(refuse)?;
        let apart = match &self.keeper {
            Some(keeper) => {
                Some(keeper.component(recipe.code().map_err(refuse)?, metering, manifest.to_vec()))
            }
            None => None,
        };
        Prepared::new(manifest, Form::Away(recipe), apart.map(Arc::new)).map(Arc::new)
    }

    /// Has a worker load the component, so that the first run finds it there. Nothing to do where it is loaded here.
    ///
    /// # Errors
    /// As [`load`](Self::load), and where there can be no worker.
    pub async fn warm(&self, prepared: &Prepared) -> Result<(), NoWorker> {
        if let (Some(keeper), Some(component)) = (&self.keeper, prepared.apart())
            && prepared.wants_anything()
        {
            return keeper.warm(component).await;
        }
        match (&self.place, &prepared.form) {
            (Place::Workers(workers), Form::Away(recipe)) => {
                workers.warm(recipe, prepared.wants_scratch()).await
            }
            _ => Ok(()),
        }
    }

    /// Runs a step once.
    pub async fn run(&self, prepared: &Prepared, invocation: Invocation) -> Ended {
        self.execute(prepared, invocation, Kind::Step).await
    }

    /// Runs a node source once.
    pub async fn discover(&self, prepared: &Prepared, invocation: Invocation) -> Ended {
        self.execute(prepared, invocation, Kind::NodeSource).await
    }

    async fn execute(&self, prepared: &Prepared, mut invocation: Invocation, kind: Kind) -> Ended {
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
        if let (Some(keeper), Some(admitted)) = (&self.keeper, invocation.admitted.clone()) {
            return keeper.run(&admitted, invocation).await;
        }
        let input = std::mem::take(&mut invocation.input);
        match self.called(prepared, invocation, Export::Main(input)).await {
            Ok((broker, said, wall)) => judge::end(broker, said, wall),
            Err(ended) => ended,
        }
    }

    /// Calls a function of a component, with its broker beside it in this process.
    async fn here(
        &self,
        prepared: &Prepared,
        invocation: Invocation,
        export: Export,
    ) -> Result<(Broker, Said, Span), Ended> {
        let (Place::Here(here), Form::Here(linked)) = (&self.place, &prepared.form) else {
            return Err(judge::fault("the component was loaded for another sandbox"));
        };
        let metered = if Engine::same(linked.engine(), &here.plain.engine) {
            None
        } else {
            Some(here.metered().map_err(|error| judge::fault(&error.to_string()))?)
        };
        let Floor { engine, ticks } = metered.as_deref().unwrap_or(&here.plain);
        let broker = self.broker(prepared, &invocation);
        let task = Task {
            wall: invocation.wall(),
            scratch: prepared.scratch(&invocation.remit).then(|| self.config.scratch.clone()),
            context: invocation.context,
            cancel: invocation.cancel,
            // Other work is on this thread.
            tired: None,
        };
        let (account, log) = (broker.account.clone(), broker.log.clone());
        let _ticking = ticks.ticking();
        let mut store = state::store(engine, task, account, log, Access::Here(Box::new(broker)))
            .map_err(|fault| judge::fault(&fault.0))?;
        let driven = drive::drive(&mut store, linked, export).await;
        match judge::finish(store, driven).await {
            (Access::Here(broker), said, wall) => Ok((*broker, said, wall)),
            (Access::There(_), ..) => Err(judge::fault("its broker is elsewhere")),
        }
    }

    /// Calls a function of a component in a worker, with its broker here.
    async fn away(
        &self,
        workers: &Workers,
        prepared: &Prepared,
        invocation: Invocation,
        export: Export,
    ) -> Result<(Broker, Said, Span), Ended> {
        let Form::Away(recipe) = &prepared.form else {
            return Err(judge::fault("the component was loaded for another sandbox"));
        };
        let lease = tokio::select! {
            biased;
            lease = workers.lease(recipe, prepared.wants_scratch(), invocation.realm) => lease,
            () = invocation.cancel.cancelled() => return Err(judge::cancelled()),
        };
        let lease = lease.map_err(|error| match error {
            NoWorker::Unloadable(error) => Ended::refused(error.code, error.detail, Vec::new()),
            error @ NoWorker::Host(_) => judge::fault(&error.to_string()),
        })?;
        let broker = self.broker(prepared, &invocation);
        let begin = Begin::of(&invocation, prepared.scratch(&invocation.remit), &export);
        let input = if let Export::Main(input) = &export { input.as_str() } else { "" };
        let begun = Instant::now();
        let (broker, said) = lease.attend(broker, begin, input, invocation.wall(), &invocation.cancel).await;
        let wall = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok((broker, said, Span::from_millis(wall)))
    }

    async fn called(
        &self,
        prepared: &Prepared,
        invocation: Invocation,
        export: Export,
    ) -> Result<(Broker, Said, Span), Ended> {
        match &self.place {
            Place::Here(_) => self.here(prepared, invocation, export).await,
            Place::Workers(workers) => self.away(workers, prepared, invocation, export).await,
        }
    }

    fn broker(&self, prepared: &Prepared, invocation: &Invocation) -> Broker {
        Broker::new(invocation, prepared.kind(), self.config.clone(), self.effects.clone())
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
        match self.called(prepared, invocation, Export::Describe).await {
            Ok((broker, said, _)) => judge::description(broker, said),
            Err(ended) => Err(DescribeError(ended.message)),
        }
    }
}
