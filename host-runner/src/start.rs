//! From a parsed `runner.toml` to a runner that can run: what the programs of this crate put together alike.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use remit_protocol::endpoint::Fault;
use remit_signing::{TrustPolicy, http::RequestSigner};
use zeroize::Zeroizing;

use crate::{
    attempt::{Itself, Recent, Workshop},
    audit::{self, Audit},
    broker::apart::{Keeper, NoBroker, Plan},
    clock,
    component::{Components, cache::Cache, compile::Compiler},
    config::{Config, OrchestratorUrl, ProxyUrl},
    dial::{
        Dialer,
        address::Barred,
        proxy::{Proxy, ProxyError},
        resolve,
        tls::{TlsError, Trust},
    },
    launcher::{Launch, Launcher, Remote},
    orchestrator::{Caller, Client, NoRoad, Road},
    runner::{CannotRun, Facts, Runner, features},
    sandbox::{EngineError, Sandbox, SandboxConfig},
    secrets::{
        Providers,
        providers::{ProvidersError, Surroundings},
    },
    state::{State, StateError, make_empty, sealing},
    trust::{self, heads::Heads},
    worker::Crew,
};

/// Job documents and node sets that are kept in memory.
const RECENT_DOCUMENTS: usize = 64;
const RECENT_NODE_SETS: usize = 8;

/// What a program reads from its environment, once, before it has threads.
#[derive(Clone)]
pub struct Environment {
    /// systemd's `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
    /// Reads a variable and removes it.
    pub take: fn(&str) -> Option<Zeroizing<Vec<u8>>>,
    /// This program.
    pub program: PathBuf,
}

/// Why a runner does not start.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// Its state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its trust policy cannot be read.
    #[error("{}: {source}", path.display())]
    TrustFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Its trust policy has mistakes.
    #[error("{} has {} mistakes, the first in line {}: {}; see `remit-runner check`", path.display(), .faults.len(), first_line(.faults), first_words(.faults))]
    Trust {
        /// The file.
        path: PathBuf,
        /// The mistakes.
        faults: Vec<Fault>,
    },
    /// Its secrets providers.
    #[error(transparent)]
    Providers(#[from] ProvidersError),
    /// Its broker.
    #[error(transparent)]
    Broker(#[from] NoBroker),
    /// Its way to the orchestrator.
    #[error(transparent)]
    Road(#[from] NoRoad),
    /// Its proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Its trusted certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its launcher.
    #[error("the launcher process cannot be used: {0}")]
    Launcher(std::io::Error),
    /// Its engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its journal.
    #[error(transparent)]
    Run(#[from] CannotRun),
}

fn first_line(faults: &[Fault]) -> u32 {
    faults.first().and_then(|fault| fault.line).unwrap_or_default()
}

fn first_words(faults: &[Fault]) -> &str {
    faults.first().map(|fault| fault.message.as_str()).unwrap_or_default()
}

/// What makes connections for the runner itself and for its steps.
///
/// # Errors
/// The proxy's address or the certificates cannot be used.
pub fn dialer(
    url: &OrchestratorUrl,
    proxy: Option<&ProxyUrl>,
    ca_file: Option<&PathBuf>,
) -> Result<Arc<Dialer>, CannotStart> {
    let proxy = proxy.map(|proxy| Proxy::parse(proxy.as_str())).transpose()?;
    let extra: Vec<PathBuf> = ca_file.into_iter().cloned().collect();
    let barred = Barred::new(url.host(), url.port());
    Ok(Arc::new(Dialer::new(Arc::new(resolve::System), proxy, Trust::platform(&extra)?, barred)))
}

/// The sandbox of an author's machine: steps run in this process, below `scratch`, and `launch` starts their programs.
///
/// # Errors
/// The engine does not start.
pub fn sandbox(
    slots: u32,
    scratch: PathBuf,
    dialer: &Arc<Dialer>,
    launch: &Arc<dyn Launch>,
) -> Result<Sandbox, EngineError> {
    Sandbox::new(SandboxConfig { slots, scratch, dialer: Arc::clone(dialer), launch: Arc::clone(launch) })
}

/// The trust policy in a file.
///
/// # Errors
/// [`CannotStart::TrustFile`] or [`CannotStart::Trust`].
pub fn trust(path: &Path) -> Result<TrustPolicy, CannotStart> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| CannotStart::TrustFile { path: path.to_owned(), source })?;
    TrustPolicy::from_toml(&text).map_err(|faults| CannotStart::Trust {
        path: path.to_owned(),
        faults: faults.iter().map(fault).collect(),
    })
}

/// A mistake of a trust policy in the words of the protocol.
pub fn fault(fault: &remit_signing::policy::PolicyFault) -> Fault {
    Fault {
        line: Some(fault.line),
        column: Some(fault.column),
        place: "trust.toml".to_owned(),
        message: fault.what.clone(),
        remedy: fault.remedy.clone(),
    }
}

/// Opens the secrets providers. Call it while the program has one thread: variables are taken out of the environment.
///
/// # Errors
/// [`CannotStart::Providers`], or there is no way out for those that are called.
pub fn providers(config: &Config, environment: &Environment) -> Result<Providers, CannotStart> {
    let orchestrator = &config.orchestrator;
    let surroundings = Surroundings {
        state: &config.runner.state,
        credentials: environment.credentials.as_deref(),
        dialer: dialer(&orchestrator.url, orchestrator.proxy.as_ref(), orchestrator.ca_file.as_ref())?,
    };
    Ok(Providers::open(&config.providers, &surroundings, environment.take)?)
}

/// Puts a runner together: this process is its supervisor. `arguments` are those of the broker.
///
/// # Errors
/// [`CannotStart`].
pub async fn runner(
    config: &Config,
    environment: &Environment,
    launcher: Launcher,
    arguments: Vec<String>,
) -> Result<Runner, CannotStart> {
    let state = Arc::new(State::open(&config.runner.state)?);
    let identity = state.identity()?;
    let orchestrator = &config.orchestrator;
    let dialer = dialer(&orchestrator.url, orchestrator.proxy.as_ref(), orchestrator.ca_file.as_ref())?;
    let road =
        Road::new(orchestrator.url.clone(), Arc::clone(&dialer), identity.ca, orchestrator.ca_file.as_ref())?;
    let itself = Itself { runner: identity.runner, key: state.identity()?.key };
    let signer = RequestSigner::new(identity.key, identity.runner, identity.audience);
    let client = Client::new(Caller::new(road), signer, identity.answer_key, clock::system, clock::random);
    let (scratch, workers) = (state.scratch(), state.workers());
    make_empty(&scratch)?;
    make_empty(&workers)?;
    let options = state.options();
    make_empty(&options)?;
    let launch: Arc<dyn Launch> =
        Arc::new(Remote::new(launcher, workers.clone()).map_err(CannotStart::Launcher)?);
    let plan = Plan {
        program: environment.program.clone(),
        arguments,
        launch: Arc::clone(&launch),
        scratch,
        dialer: Arc::clone(&dialer),
    };
    let broker = Arc::new(Keeper::start(plan).await?);
    let crew = Crew {
        program: environment.program.clone(),
        confinement: config.runner.confinement,
        reserved_processors: config.runner.reserved_processors,
    };
    let settings = SandboxConfig {
        slots: config.runner.slots,
        scratch: workers,
        dialer: Arc::clone(&dialer),
        launch: Arc::clone(&launch),
    };
    let sandbox = Sandbox::with_workers(settings, crew)?.with_broker(Arc::clone(&broker));
    let cache = Cache::new(state.cache(), state.cache_key(clock::random)?, config.runner.cache);
    let compiler = Compiler::new(environment.program.clone(), launch);
    let keeper = format!("runner/{}", identity.runner);
    let (audit, torn) = Audit::open(state.path(), keeper, state.identity()?.key, clock::system)?;
    audit.note(audit::Event::Began {
        runner: identity.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        torn,
    });
    let trust = Arc::new(trust::Trust::open(&config.runner.trust, state.path(), clock::system)?);
    let workshop = Workshop {
        client: Arc::new(client),
        components: Components::new(
            Arc::clone(&trust),
            Heads::open(state.path())?,
            sandbox.clone(),
            cache,
            compiler,
        ),
        trust,
        audit: Arc::new(audit),
        itself,
        sandbox,
        ceiling: config.ceiling.clone(),
        broker,
        options,
        require_signed: config.runner.require_signed.clone(),
        clock: clock::system,
        documents: Recent::new(RECENT_DOCUMENTS),
        node_sets: Recent::new(RECENT_NODE_SETS),
    };
    let facts = Facts {
        runner: identity.runner,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname(),
        features: features(&config.ceiling),
        slots: config.runner.slots,
        sealing: sealing::note(state.path())?,
    };
    let seed = u64::from_le_bytes(clock::random());
    Ok(Runner::new(facts, state, Arc::new(workshop), seed)?)
}

/// The host's name, for people.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
