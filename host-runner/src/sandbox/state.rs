//! What one store holds: the whole world of one run, made for it and dropped with it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use remit_protocol::{
    Digest, ExecutionId, Limits, ProjectName, SecretPath, Size, Span, StepName,
    capability::{Ceiling, Grant, Remit, Requests, Subject},
    report::Limit,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::{Engine, Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::{Account, Cancel, HostFault, Invocation, Prepared, limits::MemoryLimiter};
use crate::{
    broker::{Access, Answer, Call},
    capability::{
        Fault,
        context::{Progress, StepContext},
        files::Scratch,
        http::Http,
        log::{Line, LogSink, LogStream, Stdio, Words},
    },
    confine::Behind,
    report::redact::Redactor,
    secrets::{Resolve, SecretError, SecretValue},
};

/// What a component's last words take beside an output: a message and its fields.
const LAST_WORDS: u64 = 64 << 10;
/// Most random bytes of one call.
const MAX_RANDOM: u64 = 64 << 10;

/// The component's half of one run. What it may do is its broker's to decide; each file of `capability/` hands its calls on.
pub struct State {
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    limiter: MemoryLimiter,
    pub(crate) account: Arc<Account>,
    pub(crate) context: StepContext,
    pub(crate) log: Arc<dyn Words>,
    pub(crate) progress: Progress,
    pub(crate) scratch: Option<Scratch>,
    /// Made at the first request.
    pub(crate) http: Option<Http>,
    pub(crate) broker: Access,
    pub(crate) cancel: CancellationToken,
    pub(super) ending: Cancel,
    pub(super) begun: Instant,
    pub(crate) deadline: Instant,
    pub(super) tired: Option<Behind>,
    /// It has computed from somewhere up to a tick of the engine.
    pub(super) ticked: Arc<AtomicBool>,
}

/// What the component's half of a run is given.
pub(crate) struct Task {
    /// How long it may take.
    pub(crate) wall: Span,
    /// Where its scratch directory is made, if it has one.
    pub(crate) scratch: Option<PathBuf>,
    /// Which run it is.
    pub(crate) context: StepContext,
    /// Ends it early.
    pub(crate) cancel: Cancel,
    /// Where its thread goes when it has computed for [`LONG`](super::LONG).
    pub(crate) tired: Option<Behind>,
}

impl State {
    /// Asks the broker. What a call brings is counted here, where the component is.
    pub(crate) async fn ask(&mut self, call: Call) -> Result<Answer, Fault> {
        self.account.peak(Limit::Call, call.size()).map_err(|over| Fault::Halt(over.into()))?;
        self.broker.ask(call).await
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A fresh store for one run, which counts on `account`.
pub(super) fn store(
    engine: &Engine,
    task: Task,
    account: Arc<Account>,
    log: Arc<dyn Words>,
    broker: Access,
) -> Result<Store<State>, HostFault> {
    let limits = *account.allowed();
    let mut wasi = WasiCtxBuilder::new();
    wasi.allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(MAX_RANDOM)
        .stdout(LogStream::new(log.clone(), account.clone(), Stdio::Out))
        .stderr(LogStream::new(log.clone(), account.clone(), Stdio::Error));
    let scratch = task.scratch.map(|base| Scratch::open(&base, &mut wasi, account.clone())).transpose()?;
    let mut table = ResourceTable::new();
    let handles = usize::try_from(limits.handles).unwrap_or(usize::MAX);
    table.set_max_capacity(handles);
    let begun = Instant::now();
    let state = State {
        table,
        wasi: wasi.build(),
        limiter: MemoryLimiter(account.clone()),
        account,
        context: task.context,
        log,
        progress: Progress::default(),
        scratch,
        http: None,
        broker,
        cancel: task.cancel.asked().clone(),
        ending: task.cancel,
        begun,
        deadline: begun + task.wall.duration(),
        tired: task.tired,
        ticked: Arc::default(),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    // The answer of `run` is taken like a call, so that the engine's bound is the larger of both; what a call of ours brings is
    // counted to the byte.
    let most = limits.call.bytes().max(limits.output.bytes().saturating_add(LAST_WORDS));
    store.set_hostcall_fuel(usize::try_from(most).unwrap_or(usize::MAX));
    if let Err(error) = store.set_fuel(limits.fuel.units())
        && limits.fuel.is_counted()
    {
        return Err(HostFault(format!("its fuel cannot be counted: {error}")));
    }
    store.set_max_component_handles(handles);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        store.data().ticked.store(true, Ordering::Relaxed);
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    Ok(store)
}

/// What `describe` is run with: an empty remit, ten seconds, and a log that nobody reads.
pub(super) fn describing(prepared: &Prepared) -> Result<Invocation, HostFault> {
    let fault = |error: remit_protocol::InvalidId| HostFault(error.to_string());
    let project = ProjectName::new("describe").map_err(fault)?;
    let subject = Subject { component: prepared.name(), project: &project };
    let limits = Limits {
        wall: Span::from_secs(10),
        cpu: Span::from_secs(5),
        output: Size::from_mib(1),
        ..Limits::default()
    };
    let remit = Remit::compute(
        subject,
        &Requests::default(),
        limits,
        &Grant::default(),
        &BTreeMap::new(),
        &Ceiling::default(),
    )
    .map_err(|_| HostFault("the empty remit was refused".to_owned()))?;
    let context = StepContext {
        execution: ExecutionId::from_u128(0),
        step: StepName::new("describe").map_err(fault)?,
        node: None,
        try_number: 1,
        idempotency_key: String::new(),
    };
    Ok(Invocation {
        files: Arc::default(),
        remit: Arc::new(remit),
        secrets: Arc::new(NoSecrets),
        input: String::new(),
        context,
        log: Arc::new(Discard),
        cancel: Cancel::new(),
        redactor: Redactor::new(),
        timeout: None,
        realm: Digest::of(b"describe"),
        admitted: None,
    })
}

struct NoSecrets;

#[async_trait]
impl Resolve for NoSecrets {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        Err(SecretError::NoProvider { path: path.clone() })
    }
}

struct Discard;

impl LogSink for Discard {
    fn line(&self, _: Line) {}
    fn progress(&self, _: u64, _: u64) {}
}
