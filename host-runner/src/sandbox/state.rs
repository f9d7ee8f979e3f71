//! What one store holds: the whole world of one run, made for it and dropped with it.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use remit_protocol::{
    ExecutionId, Limits, ProjectName, SecretPath, Size, Span, StepName,
    capability::{Ceiling, Grant, Remit, Requests, Subject},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::{Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::{
    Account, Cancel, HostFault, Invocation, Prepared, Sandbox, SandboxConfig, limits::MemoryLimiter,
};
use crate::{
    capability::{
        Class, Effects,
        context::{Progress, StepContext},
        files::Scratch,
        http::Http,
        log::{Line, Log, LogSink, LogStream, Stdio},
        nodes::Found,
    },
    report::redact::Redactor,
    secrets::{Resolve, SecretError, SecretValue},
};

/// What one call from the guest may make the host allocate, at least.
const CALL_BYTES: usize = 8 << 20;
/// Most random bytes of one call.
const MAX_RANDOM: u64 = 64 << 10;

/// The world of one run. Capabilities are fields; each file of `capability/` implements its interface for it.
pub struct State {
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    limiter: MemoryLimiter,
    pub(crate) account: Arc<Account>,
    pub(crate) remit: Arc<Remit>,
    pub(crate) secrets: Arc<dyn Resolve>,
    pub(crate) redactor: Redactor,
    pub(crate) context: StepContext,
    pub(crate) log: Arc<Log>,
    pub(crate) progress: Progress,
    pub(crate) found: Option<Found>,
    pub(crate) scratch: Option<Scratch>,
    /// Made at the first request.
    pub(crate) http: Option<Http>,
    pub(crate) config: Arc<SandboxConfig>,
    pub(crate) effects: Arc<Effects>,
    pub(crate) cancel: CancellationToken,
    pub(super) ending: Cancel,
    pub(crate) begun: Instant,
    pub(crate) deadline: Instant,
    pub(super) input: String,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A fresh store for one run.
pub(super) fn store(
    sandbox: &Sandbox,
    prepared: &Prepared,
    invocation: Invocation,
) -> Result<Store<State>, HostFault> {
    let limits = *invocation.remit.limits();
    let account = Arc::new(Account::new(limits));
    let log = Arc::new(Log::new(invocation.log, invocation.redactor.clone(), account.clone()));
    let mut wasi = WasiCtxBuilder::new();
    wasi.allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(MAX_RANDOM)
        .stdout(LogStream::new(log.clone(), Stdio::Out))
        .stderr(LogStream::new(log.clone(), Stdio::Error));
    let scratch = if prepared.uses(Class::Scratch) && invocation.remit.files().scratch {
        Some(Scratch::open(&sandbox.config.scratch, &mut wasi, account.clone())?)
    } else {
        None
    };
    let mut table = ResourceTable::new();
    let handles = usize::try_from(limits.handles).unwrap_or(usize::MAX);
    table.set_max_capacity(handles);
    let begun = Instant::now();
    let wall = invocation.timeout.map_or(limits.wall, |timeout| timeout.min(limits.wall));
    let state = State {
        table,
        wasi: wasi.build(),
        limiter: MemoryLimiter(account.clone()),
        account,
        remit: invocation.remit,
        secrets: invocation.secrets,
        redactor: invocation.redactor,
        context: invocation.context,
        log,
        progress: Progress::default(),
        found: (prepared.kind() == remit_protocol::manifest::Kind::NodeSource).then(Found::default),
        scratch,
        http: None,
        config: sandbox.config.clone(),
        effects: sandbox.effects.clone(),
        cancel: invocation.cancel.asked().clone(),
        ending: invocation.cancel,
        begun,
        deadline: begun + wall.duration(),
        input: invocation.input,
    };
    let mut store = Store::new(&sandbox.engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(
        CALL_BYTES.max(usize::try_from(limits.output.bytes()).unwrap_or(CALL_BYTES) + CALL_BYTES),
    );
    store.set_max_component_handles(handles);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
    Ok(store)
}

/// A store for `describe`: an empty remit, ten seconds, and a log that nobody reads.
pub(super) fn describing(sandbox: &Sandbox, prepared: &Prepared) -> Result<Store<State>, HostFault> {
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
    let invocation = Invocation {
        remit: Arc::new(remit),
        secrets: Arc::new(NoSecrets),
        input: String::new(),
        context,
        log: Arc::new(Discard),
        cancel: Cancel::new(),
        redactor: Redactor::new(),
        timeout: None,
    };
    store(sandbox, prepared, invocation)
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
