//! The only axum: the operator API for people and programs, the runner API, live events. Pages come to `web/` later.
//!
//! [`routes()`] is the list of what the service offers, each route with what it takes to call it. Handlers parse, ask the
//! rooms that know, and answer; they hold no state and decide nothing about work. *Invariants:* a route without a need
//! cannot be written down; only `error` words failures; nothing is read before its size is bounded.

mod auth;
mod error;
mod extract;
mod live;
mod metrics;
mod operator;
mod runner;
mod server;
mod upload;

use std::sync::{Arc, OnceLock};

use axum::{
    Router, middleware,
    routing::{MethodRouter, get, post},
};
use remit_protocol::{
    Timestamp, endpoint,
    operator::{InstanceRole, ProjectRole},
};
use remit_signing::{SigningKey, http::Audience};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use crate::{
    courier::Courier,
    nodes::Nodes,
    registry::Registry,
    scheduler::Scheduler,
    seal::Seal,
    store::{NewAudit, Store},
    trail::Trail,
};
pub(crate) use auth::issue;
use auth::{Need, Tokens, authorize};
use error::Failure;
pub(crate) use metrics::Metrics;
pub use server::Server;

/// Calls that are worked on at once; polls that wait and readers of events do not count.
const AT_ONCE: usize = 1024;
/// Answers that are held back at once because a `doctor` asked for it.
const WAITS: usize = 64;
/// Large bodies that are held in memory at once.
const UPLOADS: usize = 2;

/// What the clock says. An argument of the whole service, so that tests move it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How the orchestrator is called and proves that it answers.
pub struct Identity {
    /// Its address as runners and people reach it, without a slash at the end.
    pub url: String,
    /// What it calls itself towards runners.
    pub audience: Audience,
    /// Signs its answers to runners.
    pub answer_key: SigningKey,
    /// The digest of its own authority's certificate, if it has one.
    pub authority: Option<remit_protocol::Digest>,
}

/// What handlers work with.
pub struct Services {
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Registry,
    pub(crate) trail: Trail,
    pub(crate) nodes: Nodes,
    pub(crate) scheduler: Scheduler,
    pub(crate) identity: Identity,
    pub(crate) seal: Arc<Seal>,
    pub(crate) courier: Courier,
    pub(crate) tokens: Tokens,
    pub(crate) links: runner::Links,
    pub(crate) incoming: runner::Incoming,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) work: Arc<Semaphore>,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) waits: Arc<Semaphore>,
    pub(crate) openapi: OnceLock<String>,
    pub(crate) stop: CancellationToken,
    clock: Clock,
}

/// What every handler is given.
pub(crate) type App = Arc<Services>;

impl Services {
    /// Puts together what handlers work with.
    pub(crate) fn new(
        store: Arc<Store>,
        registry: Registry,
        trail: Trail,
        (scheduler, courier): (Scheduler, Courier),
        (identity, seal): (Identity, Arc<Seal>),
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        Self {
            nodes: Nodes::new(Arc::clone(&store)),
            store,
            registry,
            trail,
            scheduler,
            identity,
            seal,
            courier,
            tokens: Tokens::default(),
            links: runner::Links::default(),
            incoming: runner::Incoming::default(),
            metrics: Arc::default(),
            work: Arc::new(Semaphore::new(AT_ONCE)),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            waits: Arc::new(Semaphore::new(WAITS)),
            openapi: OnceLock::new(),
            stop,
            clock,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes).map_err(Failure::internal)?;
        Ok(bytes)
    }

    /// The random part of an id.
    pub(crate) fn random_bits(&self) -> Result<u128, Failure> {
        Ok(u128::from_be_bytes(self.random()?))
    }

    /// Records who did what.
    pub(crate) async fn audit(
        &self,
        who: impl std::fmt::Display,
        action: &str,
        target: impl std::fmt::Display,
    ) -> Result<(), Failure> {
        let entry = NewAudit {
            at: self.now(),
            who: who.to_string(),
            action: action.to_owned(),
            target: target.to_string(),
            detail: String::new(),
        };
        Ok(self.store.audit(entry).await?)
    }
}

/// Routes as they are written down: none without a need.
struct Table {
    app: App,
    router: OpenApiRouter<App>,
    #[cfg(test)]
    listed: Vec<(String, String, Need)>,
    #[cfg(test)]
    signed: Vec<String>,
}

impl Table {
    /// Adds routes of the operator API.
    fn route(mut self, need: Need, (schemas, paths, methods): UtoipaMethodRouter<App>) -> Self {
        #[cfg(test)]
        for (path, item) in &paths.paths {
            self.listed.extend(tests::methods(item).into_iter().map(|method| (method, path.clone(), need)));
        }
        let methods = self.guarded(need, methods);
        self.router = self.router.routes((schemas, paths, methods));
        self
    }

    /// Adds a route of the runner API: it verifies signatures itself, over the body, and is described by the protocol's
    /// `endpoint` and not by OpenAPI.
    fn runner(mut self, path: &str, methods: MethodRouter<App>) -> Self {
        #[cfg(test)]
        self.signed.push(path.to_owned());
        self.router = self.router.route(path, methods);
        self
    }

    fn guarded(&self, need: Need, methods: MethodRouter<App>) -> MethodRouter<App> {
        match need {
            // A signature is over the body, which only the handler reads.
            Need::Nothing | Need::Signature => methods,
            _ => methods.layer(middleware::from_fn_with_state((Arc::clone(&self.app), need), authorize)),
        }
    }
}

/// What the service offers.
#[rustfmt::skip]
fn routes(app: App) -> Table {
    use {InstanceRole as I, Need as N, ProjectRole as P, operator::{access, artifact, audit, channel, command, component, execution, file, hook, instance, job, log, node, project, schedule}};
    use operator::runner as runners;
    let router = OpenApiRouter::with_openapi(describe());
    Table { app, router, #[cfg(test)] listed: Vec::new(), #[cfg(test)] signed: Vec::new() }
        .route(N::Nothing,                 routes!(instance::version))
        .route(N::Nothing,                 routes!(instance::health))
        .route(N::Nothing,                 routes!(instance::openapi))
        .route(N::Instance(I::Metrics),    routes!(instance::metrics))
        .route(N::Token,                   routes!(instance::whoami))

        .route(N::Instance(I::Admin),      routes!(access::list))
        .route(N::Instance(I::Admin),      routes!(access::create))
        .route(N::Instance(I::Admin),      routes!(access::revoke))

        .route(N::Token,                   routes!(project::list))
        .route(N::Instance(I::Admin),      routes!(project::create))
        .route(N::Project(P::Viewer),      routes!(project::show))
        .route(N::Project(P::Viewer),      routes!(project::settings))
        .route(N::Project(P::Admin),       routes!(project::configure))

        .route(N::Instance(I::Admin),      routes!(runners::list))
        .route(N::Instance(I::Admin),      routes!(runners::create))
        .route(N::Instance(I::Admin),      routes!(runners::show))
        .route(N::Instance(I::Admin),      routes!(runners::edit))
        .route(N::Instance(I::Admin),      routes!(runners::enable))
        .route(N::Instance(I::Admin),      routes!(runners::disable))
        .route(N::Instance(I::Admin),      routes!(runners::delete))
        .route(N::Instance(I::Admin),      routes!(runners::ticket))
        .route(N::Instance(I::Admin),      routes!(runners::trail))

        .route(N::Instance(I::Admin),      routes!(audit::show))
        .route(N::Instance(I::Admin),      routes!(audit::lines))

        .route(N::Instance(I::Publisher),  routes!(component::upload))
        .route(N::Instance(I::Publisher),  routes!(component::publish))
        .route(N::Token,                   routes!(component::list))
        .route(N::Token,                   routes!(component::show))
        .route(N::Instance(I::Publisher),  routes!(component::yank))
        .route(N::Instance(I::Publisher),  routes!(component::unyank))
        .route(N::Token,                   routes!(component::wasm))
        .route(N::Instance(I::Publisher),  routes!(component::verdict))

        .route(N::Token,                   routes!(log::show))
        .route(N::Token,                   routes!(log::proof))
        .route(N::Token,                   routes!(log::checkpoint))
        .route(N::Token,                   routes!(log::tile))

        .route(N::Project(P::Editor),      routes!(job::apply))
        .route(N::Project(P::Viewer),      routes!(job::list))
        .route(N::Project(P::Viewer),      routes!(job::show))
        .route(N::Project(P::Editor),      routes!(job::delete))
        .route(N::Project(P::Operator),    routes!(job::plan))
        .route(N::Project(P::Operator),    routes!(job::trigger))
        .route(N::Project(P::Operator),    routes!(job::options))
        .route(N::Project(P::Operator),    routes!(file::keep))

        .route(N::Project(P::Editor),      routes!(command::run))
        .route(N::Project(P::Editor),      routes!(command::plan))

        .route(N::Project(P::Viewer),      routes!(schedule::list))
        .route(N::Project(P::Operator),    routes!(schedule::enable))
        .route(N::Project(P::Operator),    routes!(schedule::disable))

        .route(N::Project(P::Viewer),      routes!(hook::list))
        .route(N::Project(P::Editor),      routes!(hook::create))
        .route(N::Project(P::Editor),      routes!(hook::delete))
        .route(N::Project(P::Editor),      routes!(hook::rotate))
        .route(N::Signature,               routes!(hook::call))

        .route(N::Project(P::Viewer),      routes!(channel::list))
        .route(N::Instance(I::Admin),      routes!(channel::create))
        .route(N::Instance(I::Admin),      routes!(channel::delete))
        .route(N::Project(P::Editor),      routes!(channel::test))
        .route(N::Project(P::Viewer),      routes!(channel::notices))

        .route(N::Token,                   routes!(execution::list))
        .route(N::Execution(P::Viewer),    routes!(execution::show))
        .route(N::Execution(P::Viewer),    routes!(execution::nodes))
        .route(N::Execution(P::Viewer),    routes!(execution::log))
        .route(N::Execution(P::Viewer),    routes!(artifact::list))
        .route(N::Execution(P::Viewer),    routes!(artifact::bytes))
        .route(N::Execution(P::Viewer),    routes!(live::events))
        .route(N::Execution(P::Operator),  routes!(execution::cancel))
        .route(N::Execution(P::Operator),  routes!(execution::answer))
        .route(N::Execution(P::Operator),  routes!(execution::decide))
        .route(N::Execution(P::Operator),  routes!(execution::rerun))
        .route(N::Execution(P::Operator),  routes!(execution::rerun_plan))
        .route(N::Execution(P::Operator),  routes!(execution::resume))
        .route(N::Token,                   routes!(execution::queue))

        .route(N::Project(P::Viewer),      routes!(node::list))
        .route(N::Project(P::Editor),      routes!(node::load))
        .route(N::Project(P::Viewer),      routes!(node::sources))
        .route(N::Project(P::Admin),       routes!(node::create))
        .route(N::Project(P::Viewer),      routes!(node::given))
        .route(N::Project(P::Operator),    routes!(node::refresh))
        .route(N::Project(P::Admin),       routes!(node::delete))

        .runner(endpoint::HELLO,                      get(runner::hello))
        .runner(endpoint::ENROL,                      post(runner::enrol))
        .runner(endpoint::SESSION,                    post(runner::session))
        .runner(endpoint::POLL,                       post(runner::poll))
        .runner(endpoint::WAIT,                       post(runner::wait))
        .runner(endpoint::REPORT,                     post(runner::report))
        .runner(endpoint::TRAIL,                      post(runner::trail))
        .runner(endpoint::BLOBS,                      post(runner::upload))
        .runner(&format!("{}/{{attempt}}/{{digest}}/{{length}}/{{offset}}", endpoint::ARTIFACTS), post(runner::artifact))
        .runner(&by_digest(endpoint::BLOBS),              get(runner::blob))
        .runner(&by_digest(endpoint::LOG_PROOF),          get(runner::log_proof))
        .runner(&format!("{}/{{older}}/{{newer}}", endpoint::LOG_CONSISTENCY), get(runner::log_consistency))
        .runner(&format!("{}/{{namespace}}/{{name}}/{{version}}", endpoint::COMPONENTS), get(runner::component))
}

/// The address of one of the things below `path`.
fn by_digest(path: &str) -> String {
    format!("{path}/{{digest}}")
}

/// The head of the OpenAPI document.
fn describe() -> utoipa::openapi::OpenApi {
    let info = utoipa::openapi::InfoBuilder::new()
        .title("Remit orchestrator")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("The operator API. Send a token as `Authorization: Bearer remit_…`."))
        .build();
    utoipa::openapi::OpenApiBuilder::new().info(info).build()
}

/// Operations are called by noun and verb: `jobs.list`. The verb alone stands in several nouns.
fn name_operations(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let tag = operation.tags.as_ref().and_then(|tags| tags.first());
            operation.operation_id =
                tag.zip(operation.operation_id.as_ref()).map(|(tag, verb)| format!("{tag}.{verb}"));
        }
    }
}

/// The router of the whole service, and the OpenAPI document in place.
pub(crate) fn router(app: &App) -> Router {
    let (router, mut document) = routes(Arc::clone(app)).router.split_for_parts();
    name_operations(&mut document);
    let _ = app.openapi.set(document.to_json().unwrap_or_default());
    router
        .fallback(|| async { Failure::no_route() })
        .method_not_allowed_fallback(|| async { Failure::no_method() })
        .with_state(Arc::clone(app))
}

#[cfg(test)]
mod tests;
