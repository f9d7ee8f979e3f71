//! Components of `tests/guests`, signed in memory and loaded, and one way to run them.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use remit_protocol::{
    ComponentName, ComponentVersion, ExecutionId, Limits, Namespace, ProjectName, SecretName, SecretPath,
    Span, StepName, Timestamp,
    capability::{Ceiling, Effect, Grant, Remit, Requests, Subject},
    digest::Sized,
    limits::LimitsPart,
    manifest::{Kind, Manifest},
};
use remit_runner::{
    capability::{
        context::StepContext,
        log::{Line, LogSink},
    },
    dial::{self, Dialer},
    launcher::{Launcher, Remote},
    report::redact::Redactor,
    sandbox::{Cancel, Ended, Invocation, LoadError, NativeCode, Prepared, Sandbox, SandboxConfig, compile},
    secrets::{Resolve, SecretError, SecretValue},
};
use remit_signing::{
    KeyName, SigningKey, TrustPolicy, VerifiedComponent, component::ComponentNote, note, policy, verify, wasm,
};

/// How long a cancelled guest may go on in these tests.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

/// The bytes of a guest.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("../guests/{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; build the guests with `cargo xtask guests`", path.display())
    })
}

/// Native code, compiled once in this process for all tests.
fn native(name: &str) -> Arc<NativeCode> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Arc<NativeCode>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap();
    let code = compiled.entry(name.to_owned()).or_insert_with(|| Arc::new(compile(&guest(name)).unwrap()));
    code.clone()
}

/// A guest as a verified component that requests `requests` (JSON).
pub(crate) fn verified(name: &str, kind: Kind, requests: &str, limits: Limits) -> VerifiedComponent {
    let bytes = guest(name);
    let manifest = Manifest {
        v: 1,
        name: ComponentName::new(format!("test/{name}")).unwrap(),
        version: ComponentVersion::new("1.0.0").unwrap(),
        kind,
        description: "A guest.".to_owned(),
        effect: Effect::Pure,
        imports: wasm::interfaces(&bytes).unwrap().import_names(),
        requests: serde_json::from_str::<Requests>(requests).unwrap(),
        limits,
        input: serde_json::json!({}),
        output: if kind == Kind::Step { serde_json::json!({}) } else { serde_json::Value::Null },
    };
    let text = manifest.to_vec();
    let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
    let note = ComponentNote {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        component: Sized::of(&bytes),
        manifest: Sized::of(&text),
        source: None,
        not_before: now,
        expires: now.plus(Duration::from_secs(86_400)),
    };
    let key = SigningKey::from_seed(KeyName::new("test/builder").unwrap(), &[7; 32]);
    let lines =
        policy::publisher_lines(&Namespace::new("test").unwrap(), &key.vkey(), &"builder".parse().unwrap());
    let policy = TrustPolicy::from_toml(&format!("version = 1\n\n{lines}")).unwrap();
    let note = note::sign(&note.to_text(), &[&key]).unwrap();
    verify::component(&note, &text, bytes, &policy, now).unwrap()
}

/// Lines and progress of a run.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) lines: Mutex<Vec<Line>>,
    pub(crate) progress: Mutex<Vec<(u64, u64)>>,
    pub(crate) said: tokio::sync::Notify,
}

impl Recorded {
    pub(crate) fn texts(&self) -> Vec<String> {
        self.lines.lock().unwrap().iter().map(|line| line.text.clone()).collect()
    }
}

impl LogSink for Recorded {
    fn line(&self, line: Line) {
        self.lines.lock().unwrap().push(line);
        self.said.notify_one();
    }

    fn progress(&self, done: u64, total: u64) {
        self.progress.lock().unwrap().push((done, total));
    }
}

struct OneSecret;

/// The value of every secret in these tests.
pub(crate) const SECRET: &str = "correct-horse-battery";

#[async_trait]
impl Resolve for OneSecret {
    async fn resolve(&self, _: &SecretPath) -> Result<SecretValue, SecretError> {
        Ok(SecretValue::new(SECRET.as_bytes().to_vec()).unwrap())
    }
}

/// A sandbox with one component in it, and all that a run needs.
pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) scratch: tempfile::TempDir,
    pub(crate) log: Arc<Recorded>,
    pub(crate) cancel: Cancel,
    pub(crate) context: StepContext,
    pub(crate) timeout: Option<Span>,
    component: VerifiedComponent,
    prepared: Arc<Prepared>,
    remit: Arc<Remit>,
}

/// What a bench is made of: JSON for requests and grant.
pub(crate) struct Setup<'a> {
    pub(crate) guest: &'a str,
    pub(crate) kind: Kind,
    pub(crate) requests: &'a str,
    pub(crate) grant: &'a str,
    pub(crate) ceiling: Ceiling,
    pub(crate) limits: LimitsPart,
    pub(crate) slots: u32,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            guest: "pure",
            kind: Kind::Step,
            requests: "{}",
            grant: "{}",
            ceiling: Ceiling::default(),
            limits: LimitsPart::default(),
            slots: 4,
        }
    }
}

fn sandbox(slots: u32, scratch: &Path) -> Sandbox {
    let lookup = Arc::new(dial::resolve::Fixed(HashMap::new()));
    let barred = dial::address::Barred::new("orchestrator.example", 443);
    let dialer = Arc::new(Dialer::new(lookup, None, dial::tls::Trust::untrusting(), barred));
    // The product's own form: programs are started by another process.
    let launcher = Launcher::start(Path::new(env!("CARGO_BIN_EXE_remit-runner"))).unwrap();
    let launch = Arc::new(Remote::new(launcher, scratch.to_owned()).unwrap());
    Sandbox::new(SandboxConfig { slots, scratch: scratch.to_owned(), dialer, launch }).unwrap()
}

impl Bench {
    pub(crate) fn new(setup: Setup<'_>) -> Self {
        Self::load(setup).unwrap()
    }

    pub(crate) fn load(setup: Setup<'_>) -> Result<Self, LoadError> {
        let scratch = tempfile::tempdir().unwrap();
        let sandbox = sandbox(setup.slots, scratch.path());
        let component = verified(setup.guest, setup.kind, setup.requests, setup.limits.or_default());
        let prepared = sandbox.load(&native(setup.guest), &component)?;
        let secrets = BTreeMap::from([(
            SecretName::new("token").unwrap(),
            vec![SecretPath::new("keys/test/token").unwrap()],
        )]);
        let remit = Remit::compute(
            Subject { component: &component.manifest().name, project: &ProjectName::new("ops").unwrap() },
            &component.manifest().requests,
            component.manifest().limits,
            &serde_json::from_str::<Grant>(setup.grant).unwrap(),
            &secrets,
            &setup.ceiling,
        )
        .unwrap();
        Ok(Self {
            sandbox,
            scratch,
            log: Arc::default(),
            cancel: Cancel::new(),
            context: StepContext {
                execution: ExecutionId::from_u128(1),
                step: StepName::new("test").unwrap(),
                node: None,
                try_number: 1,
                idempotency_key: "key-1".to_owned(),
            },
            timeout: None,
            component,
            prepared,
            remit: Arc::new(remit),
        })
    }

    pub(crate) fn pure(limits: LimitsPart) -> Self {
        Self::new(Setup { limits, ..Setup::default() })
    }

    /// Runs `act`, which the guest reads as a JSON string.
    pub(crate) async fn run(&self, act: &str) -> Ended {
        let invocation = Invocation {
            remit: self.remit.clone(),
            secrets: Arc::new(OneSecret),
            input: serde_json::to_string(act).unwrap(),
            context: self.context.clone(),
            log: self.log.clone(),
            cancel: self.cancel.clone(),
            redactor: Redactor::new(),
            timeout: self.timeout,
        };
        match self.prepared.kind() {
            Kind::Step => self.sandbox.run(&self.prepared, invocation).await,
            Kind::NodeSource => self.sandbox.discover(&self.prepared, invocation).await,
        }
    }

    /// The outcome in one word or two, and the message.
    pub(crate) async fn end(&self, act: &str) -> (String, String) {
        let ended = self.run(act).await;
        (ended.outcome.to_string(), ended.message)
    }

    /// The output of a run that succeeds.
    pub(crate) async fn output(&self, act: &str) -> serde_json::Value {
        let ended = self.run(act).await;
        assert_eq!(ended.outcome.to_string(), "succeeded", "{act}: {}", ended.message);
        ended.output.unwrap()
    }

    pub(crate) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    pub(crate) fn component(&self) -> &VerifiedComponent {
        &self.component
    }

    /// Names of what is left in the scratch base.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.scratch.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}
