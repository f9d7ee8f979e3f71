//! The whole service without sockets: every route, real store and scheduler, a runner that signs.

mod access;
mod audit;
mod hook;
mod input;
mod log;
mod runner;
mod verdict;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Method, Request, StatusCode},
};
use http_body_util::BodyExt as _;
use remit_protocol::{
    Digest, ExecutionId, Timestamp, TokenName,
    digest::Sized,
    operator::{Access, InstanceRole, ProjectRole, path},
};
use remit_signing::{SigningKey, component::ComponentNote, key::KeyName, note, policy::publisher_lines};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use utoipa::openapi::path::PathItem;

use super::{App, Identity, Services, issue, router};
use crate::{
    registry::{Log, Registry},
    scheduler::{Scheduler, Surroundings},
    store::Store,
    trail::Trail,
};

/// The methods of a path, in capitals.
pub(super) fn methods(item: &PathItem) -> Vec<String> {
    [
        ("GET", &item.get),
        ("PUT", &item.put),
        ("POST", &item.post),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
    ]
    .into_iter()
    .filter(|(_, operation)| operation.is_some())
    .map(|(method, _)| method.to_owned())
    .collect()
}

const JOB: &str = "job: hello\nsteps:\n  - name: greet\n    uses: acme/hello@1\n";

fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(KeyName::new(name).unwrap(), Digest::of(name.as_bytes()).as_bytes())
}

/// A clock that tests move.
#[derive(Clone)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Surroundings for Hands {
    fn now(&self) -> Timestamp {
        Hands::now(self)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn random(&self) -> u128 {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).unwrap();
        u128::from_be_bytes(bytes)
    }
}

struct Service {
    app: App,
    router: Router,
    hands: Hands,
    admin: String,
    _tasks: JoinSet<()>,
    _directory: tempfile::TempDir,
}

impl Service {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let publisher = key("acme/release");
        let namespace = "acme".parse().unwrap();
        let lines = publisher_lines(&namespace, &publisher.vkey(), &"alice".parse().unwrap());
        let trust = directory.path().join("trust.toml");
        let reviewers: String = ["ann", "ben"]
            .map(|name| {
                let vkey = key(&format!("sec/{name}")).vkey();
                format!("\n[[key]]\nvkey = \"{vkey}\"\nholder = \"{name}\"\nkinds = [\"verdict\"]\n")
            })
            .concat();
        std::fs::write(&trust, format!("version = 1\n\n{lines}{reviewers}")).unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let hands = Hands(Arc::new(AtomicU64::new(1_795_000_000_000)));
        let scheduler = Scheduler::start(Arc::clone(&store), hands.clone()).await.unwrap();
        let identity = Identity {
            url: "https://remit.example".to_owned(),
            audience: "remit.example".parse().unwrap(),
            answer_key: key("orchestrator/answer"),
            authority: None,
        };
        let clock = {
            let hands = hands.clone();
            Arc::new(move || hands.now())
        };
        let log = Log::open(Arc::clone(&store), key("remit.example/log")).await.unwrap();
        let registry = Registry::new(Arc::clone(&store), trust, log);
        let trail = Trail::new(Arc::clone(&store), "remit.example", key("remit.example/audit"));
        let stop = CancellationToken::new();
        let seal = Arc::new(crate::seal::Seal::new(&[7; 32]));
        let rooms = (Arc::clone(&store), scheduler.clone());
        let config = crate::config::Notify::default();
        let courier =
            crate::courier::Courier::new(&config, &identity.url, Arc::clone(&seal), rooms, clock.clone());
        let scheduling = (scheduler.clone(), courier.unwrap());
        let app = Services::new(store, registry, trail, scheduling, (identity, seal), clock, stop);
        let app = Arc::new(app);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { scheduler.run().await });
        let router = router(&app);
        let mut service =
            Self { app, router, hands, admin: String::new(), _tasks: tasks, _directory: directory };
        service.admin = service.token("root", Access::Instance { role: InstanceRole::Admin }).await;
        service
    }

    /// A service with the project `ops` and the published component `acme/hello`, and the job `hello` that runs it.
    async fn furnished() -> Self {
        let service = Self::new().await;
        service.admin("POST", path::PROJECTS, json!({"name": "ops"})).await;
        service.publish().await;
        service.admin("POST", "/api/v1/projects/ops/jobs", json!({"source": JOB})).await;
        service
    }

    async fn token(&self, name: &str, access: Access) -> String {
        let name = TokenName::new(name).unwrap();
        let made = issue(&self.app, name, access, None, "test").await.unwrap();
        made.token.reveal().to_owned()
    }

    async fn in_project(&self, name: &str, project: &str, role: ProjectRole) -> String {
        let project = project.parse().unwrap();
        self.token(name, Access::Project { project, role }).await
    }

    async fn raw(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, Bytes) {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    }

    async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Body) -> (StatusCode, Value) {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let (status, _, bytes) = self.raw(request.body(body).unwrap()).await;
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// A call of the administrator, which succeeds.
    async fn admin(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let (status, answer) = self.call(method, path, Some(&self.admin), body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// Publishes `acme/hello@1.0.0`.
    async fn publish(&self) {
        let wasm = wasm();
        let limits = remit_protocol::Limits::default();
        let manifest = json!({
            "v": 1, "name": "acme/hello", "version": "1.0.0", "kind": "step", "description": "Says hello.",
            "effect": "pure", "imports": [], "requests": {}, "limits": limits, "input": {}, "output": {}
        })
        .to_string();
        let note = ComponentNote {
            name: "acme/hello".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            component: Sized::of(&wasm),
            manifest: Sized::of(manifest.as_bytes()),
            source: None,
            not_before: Timestamp::from_millis(self.hands.now().as_secs() * 1000),
            expires: Timestamp::from_millis(self.hands.now().as_secs() * 1000)
                .plus(Duration::from_secs(86_400)),
        };
        let signed = note::sign(&note.to_text(), &[&key("acme/release")]).unwrap();
        let digest = Digest::of(&wasm);
        let stored =
            self.call("PUT", &format!("/api/v1/blobs/{digest}"), Some(&self.admin), Body::from(wasm)).await;
        assert_eq!(stored.0, StatusCode::OK, "{}", stored.1);
        let note = String::from_utf8(signed).unwrap();
        let publish = json!({"note": note, "manifest": manifest, "component": digest});
        self.admin("POST", path::COMPONENTS, publish).await;
    }

    /// Runs the job `hello`.
    async fn trigger(&self) -> ExecutionId {
        let made = self.admin("POST", "/api/v1/projects/ops/jobs/hello/executions", json!({})).await;
        made["execution"].as_str().unwrap().parse().unwrap()
    }
}

/// A component that imports nothing and exports what a step has to. Nothing is behind the name: only structure is read.
fn wasm() -> Vec<u8> {
    let name = b"remit:step/main@0.1.0";
    let mut section = vec![1, 0, u8::try_from(name.len()).unwrap()];
    section.extend_from_slice(name);
    section.extend_from_slice(&[5, 0, 0]);
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.extend([11, u8::try_from(section.len()).unwrap()]);
    bytes.extend(section);
    bytes
}
