//! How the orchestrator is put together: rooms, keys, the service, and the few tasks that keep it in order.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use remit_protocol::{
    Timestamp, TokenName,
    operator::{Access, InstanceRole},
};
use remit_signing::{SigningKey, http::Audience, key::KeyName};
use serde::Serialize;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use crate::{
    config::{Config, Keep},
    courier::Courier,
    http::{self, Clock, Server, Services},
    registry::{self, Log, Registry},
    retention,
    scheduler::{Scheduler, Surroundings},
    seal::Seal,
    store::{Paths, Store},
    tls,
    trail::Trail,
};

/// How often uses of tokens are recorded.
const MINUTE: Duration = Duration::from_secs(60);
/// How often what is old is removed.
const DAY: Duration = Duration::from_secs(86_400);
/// How often the certificate is made or read anew.
const RENEWAL: Duration = Duration::from_secs(3600);
/// How often the end of the record goes into the transparency log, while there is news.
const SEALING: Duration = Duration::from_secs(3600);

/// What is printed, as one line of JSON, once the orchestrator answers.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    /// Where it is reached.
    pub url: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The certificate of its own authority, if it has one.
    pub ca: Option<PathBuf>,
    /// Where the first administrator's token was put, unless it was printed.
    pub token_file: Option<PathBuf>,
    /// The first administrator's token, if it was made just now and was to be printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Where the token goes that the first start makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstToken {
    /// Into a file that only the owner reads.
    File,
    /// Into the ready line.
    Print,
}

/// The operating system's clock.
pub fn system_clock() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "the orchestrator's clock is read here and nowhere else")]
    Arc::new(|| Timestamp::from_system(std::time::SystemTime::now()))
}

/// What the scheduler takes from outside.
struct System {
    clock: Clock,
    begun: std::time::Instant,
}

impl System {
    fn new(clock: Clock) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the orchestrator's clocks are read here and nowhere else"
        )]
        let begun = std::time::Instant::now();
        Self { clock, begun }
    }
}

impl Surroundings for System {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    fn random(&self) -> u128 {
        let mut bytes = [0; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            // Ids have to differ, not to be secret.
            tracing::error!(%error, "the operating system gives no randomness");
            return self.begun.elapsed().as_nanos();
        }
        u128::from_be_bytes(bytes)
    }
}

/// An orchestrator that listens and has not begun to answer.
pub struct App {
    services: Arc<Services>,
    server: Server,
    identity: Arc<tls::Identity>,
    connections: u32,
    keep: Keep,
    ready: Ready,
}

impl App {
    /// Opens the store, makes what a first start makes, and listens.
    ///
    /// # Errors
    /// Whatever stands in the way, with its place.
    pub async fn start(
        config: Config,
        first: FirstToken,
        clock: Clock,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let state = config.state.clone();
        std::fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
        // Whoever reads the ready line may stand elsewhere.
        let state = state.canonicalize().with_context(|| state.display().to_string())?;
        let trust = registry::trust(&config.trust)?;
        if trust.namespaces().next().is_none() {
            tracing::warn!(file = %config.trust.display(), "the trust policy names no publisher: nothing can be published");
        }
        let paths = Paths { database: config.database, blobs: config.blobs, logs: config.logs };
        let store = tokio::task::spawn_blocking(move || Store::open_at(&paths)).await??;
        let store = Arc::new(store);

        let server = Server::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen at {}", config.listen))?;
        let listen = server.address()?;
        let url = config.url.unwrap_or_else(|| format!("https://{listen}"));
        let now = clock();
        let names = tls::names(&url, listen.ip());
        let identity = Arc::new(tls::Identity::load(&config.certificate, &state, names, now)?);
        let proof = http::Identity {
            audience: audience(&state, &url)?,
            answer_key: answer_key(&state)?,
            authority: identity.authority(),
            url: url.clone(),
        };
        let log_key = log_key(&state, &proof.audience)?;
        let log = Log::open(Arc::clone(&store), log_key).await?;
        let registry = Registry::new(Arc::clone(&store), config.trust, log);
        let audit_key =
            own_key(&state.join("audit.key"), KeyName::new(format!("{}/audit", proof.audience))?)?;
        let trail = Trail::new(Arc::clone(&store), proof.audience.as_str(), audit_key);
        let scheduler = Scheduler::start(Arc::clone(&store), System::new(Arc::clone(&clock))).await?;
        let seal = Arc::new(Seal::load(&state)?);
        let rooms = (Arc::clone(&store), scheduler.clone());
        let courier = Courier::new(&config.notify, &url, Arc::clone(&seal), rooms, Arc::clone(&clock))?;
        let services =
            Services::new(store, registry, trail, (scheduler, courier), (proof, seal), clock, stop);
        let services = Arc::new(services);
        let mut ready = Ready { url, listen, ca: identity.authority_file(), token_file: None, token: None };
        first_token(&services, &state, first, &mut ready).await?;
        let (connections, keep) = (config.connections, config.keep);
        Ok(Self { services, server, identity, connections, keep, ready })
    }

    /// What to tell whoever started it.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Answers until it is told to stop, then comes to an end in order.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub async fn serve(self) -> anyhow::Result<()> {
        let Self { services, server, identity, connections, keep, .. } = self;
        let config = identity.server_config()?;
        let router = http::router(&services);
        let tasks = TaskTracker::new();
        let (scheduler, ending) = (services.scheduler.clone(), services.stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = scheduler.run() => {}
                () = ending.cancelled() => {}
            }
        });
        let (courier, ending) = (services.courier.clone(), services.stop.clone());
        tasks.spawn(async move { courier.run(&ending).await });
        tasks.spawn(keep_in_order(Arc::clone(&services), identity));
        tasks.spawn(sweep(Arc::clone(&services), keep));
        tasks.close();
        let metrics = Arc::clone(&services.metrics);
        server.serve(config, connections, router, metrics, services.stop.clone()).await;
        services.stop.cancel();
        tasks.wait().await;
        Ok(())
    }
}

/// Removes old logs once a day, until the end.
async fn sweep(services: Arc<Services>, keep: Keep) {
    let mut day = tokio::time::interval(DAY);
    loop {
        tokio::select! {
            _ = day.tick() => {}
            () = services.stop.cancelled() => return,
        }
        let swept = tokio::select! {
            swept = retention::sweep(&services.store, keep, services.now()) => swept,
            () = services.stop.cancelled() => return,
        };
        match swept {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "old logs were removed"),
            Err(error) => tracing::warn!(%error, "old logs could not be removed"),
        }
    }
}

/// Records uses of tokens and renews the certificate, until the end.
async fn keep_in_order(services: Arc<Services>, identity: Arc<tls::Identity>) {
    let mut minute = tokio::time::interval(MINUTE);
    let mut renewal = tokio::time::interval(RENEWAL);
    renewal.reset();
    let mut sealing = tokio::time::interval(SEALING);
    sealing.reset();
    loop {
        let stopping = tokio::select! {
            _ = minute.tick() => false,
            _ = renewal.tick() => {
                if let Err(error) = identity.renew(services.now()) {
                    tracing::error!(%error, "the certificate could not be renewed");
                }
                continue;
            }
            _ = sealing.tick() => {
                seal(&services).await;
                continue;
            }
            () = services.stop.cancelled() => true,
        };
        let used = services.tokens.take_used();
        if !used.is_empty()
            && let Err(error) = services.store.tokens_used(used).await
        {
            tracing::warn!(%error, "the uses of tokens could not be recorded");
        }
        if stopping {
            seal(&services).await;
            return;
        }
    }
}

/// Puts the signed end of the record into the transparency log.
async fn seal(services: &Services) {
    if let Err(error) = services.trail.log(services.registry.log(), services.now()).await {
        tracing::warn!(%error, "the end of the record is not in the transparency log yet");
    }
}

/// What the orchestrator calls itself towards runners: chosen once, since runners pin it.
fn audience(state: &Path, url: &str) -> anyhow::Result<Audience> {
    let file = state.join("audience");
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(text.trim().parse().with_context(|| file.display().to_string())?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            let host = url.trim_start_matches("https://").to_lowercase();
            let loopback = host.starts_with("127.") || host.starts_with("localhost") || host.starts_with('[');
            // An address of this machine names nothing, and its port may be another at the next start.
            let text =
                if loopback { format!("remit-{}", data_encoding::HEXLOWER.encode(&random)) } else { host };
            let audience = text.parse().context("the orchestrator's address cannot be its name")?;
            tls::write_private(&file, text.as_bytes())?;
            Ok(audience)
        }
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// The key that signs answers: made once, since runners pin it.
fn answer_key(state: &Path) -> anyhow::Result<SigningKey> {
    own_key(&state.join("answer.key"), KeyName::new("orchestrator/answer")?)
}

/// The key that signs the transparency log's heads: made once, since trust policies name it. The log's origin is its name.
fn log_key(state: &Path, audience: &Audience) -> anyhow::Result<SigningKey> {
    own_key(&state.join("log.key"), KeyName::new(format!("{audience}/log"))?)
}

/// The key in a file that only the owner reads; made under this name where there is none.
fn own_key(file: &Path, name: KeyName) -> anyhow::Result<SigningKey> {
    match std::fs::read_to_string(file).map(Zeroizing::new) {
        Ok(text) => SigningKey::from_private_text(&text).with_context(|| file.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut seed[..]).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            let key = SigningKey::from_seed(name, &seed);
            tls::write_private(file, key.to_private_text().as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// Makes the first administrator's token, where there is no token at all.
async fn first_token(
    services: &Services,
    state: &Path,
    first: FirstToken,
    ready: &mut Ready,
) -> anyhow::Result<()> {
    let file = state.join("admin.token");
    if !services.store.tokens().await?.is_empty() {
        ready.token_file = file.exists().then_some(file);
        return Ok(());
    }
    let name = TokenName::new("first-admin")?;
    let access = Access::Instance { role: InstanceRole::Admin };
    let created = http::issue(services, name, access, None, "first start")
        .await
        .map_err(|failure| anyhow::anyhow!("the first token could not be made: {failure:?}"))?;
    match first {
        FirstToken::Print => ready.token = Some(created.token.reveal().to_owned()),
        FirstToken::File => {
            tls::write_private(&file, format!("{}\n", created.token.reveal()).as_bytes())?;
            ready.token_file = Some(file);
        }
    }
    Ok(())
}
