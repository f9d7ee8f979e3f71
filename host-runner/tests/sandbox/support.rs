//! Benches of the conformance suite, with the guests of `tests/guests`: what cannot go on fails the test.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
    sync::LazyLock,
    time::Duration,
};

<<<<<<< HEAD
use remit_protocol::{Limits, limits::LimitsPart, manifest::Kind};
use remit_runner::conformance::bench::{self, Suite};
use remit_signing::VerifiedComponent;

pub(crate) use remit_runner::conformance::bench::SECRET;
=======
use async_trait::async_trait;
use remit_protocol::{
    ComponentName, ComponentVersion, ExecutionId, Limits, Namespace, ProjectName, SecretName, SecretPath,
    Span, StepName, Timestamp,
    capability::{Ceiling, Effect, Grant, Remit, Requests, Subject, imports::Profile},
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
>>>>>>> fc3c9ba (capability: profiles of other languages; a step in Python or JavaScript, from an empty folder to a component)

/// How long a cancelled guest may go on in these tests.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

/// The guests, compiled once in this process for all tests.
pub(crate) static SUITE: LazyLock<Suite> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../guests");
    Suite::new(&folder, Path::new(env!("CARGO_BIN_EXE_remit-runner")))
});

/// The bytes of a guest.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    SUITE.guest(name).unwrap()
}

/// A guest as a verified component that requests `requests` (JSON).
pub(crate) fn verified(name: &str, kind: Kind, requests: &str, limits: Limits) -> VerifiedComponent {
<<<<<<< HEAD
    SUITE.verified(name, kind, requests, limits).unwrap()
=======
    verified_under(name, kind, None, requests, limits)
}

/// The same, under a profile.
pub(crate) fn verified_under(
    name: &str,
    kind: Kind,
    profile: Option<Profile>,
    requests: &str,
    limits: Limits,
) -> VerifiedComponent {
    let bytes = guest(name);
    let manifest = Manifest {
        v: 1,
        name: ComponentName::new(format!("test/{name}")).unwrap(),
        version: ComponentVersion::new("1.0.0").unwrap(),
        kind,
        description: "A guest.".to_owned(),
        effect: Effect::Pure,
        profile,
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
>>>>>>> fc3c9ba (capability: profiles of other languages; a step in Python or JavaScript, from an empty folder to a component)
}

/// What a bench is made of: JSON for requests and grant.
pub(crate) struct Setup<'a> {
    pub(crate) guest: &'a str,
    pub(crate) kind: Kind,
    pub(crate) profile: Option<Profile>,
    pub(crate) requests: &'a str,
    pub(crate) grant: &'a str,
    pub(crate) ceiling: remit_protocol::capability::Ceiling,
    pub(crate) limits: LimitsPart,
    pub(crate) slots: u32,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            guest: "pure",
            kind: Kind::Step,
            profile: None,
            requests: "{}",
            grant: "{}",
            ceiling: Default::default(),
            limits: LimitsPart::default(),
            slots: 4,
        }
    }
}

/// A sandbox with one component in it, and all that a run needs.
pub(crate) struct Bench(bench::Bench);

impl Deref for Bench {
    type Target = bench::Bench;
    fn deref(&self) -> &bench::Bench {
        &self.0
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut bench::Bench {
        &mut self.0
    }
}

impl Bench {
    pub(crate) fn new(setup: Setup<'_>) -> Self {
<<<<<<< HEAD
        let setup = bench::Setup {
            guest: setup.guest.to_owned(),
            kind: setup.kind,
            requests: setup.requests.to_owned(),
            grant: setup.grant.to_owned(),
            ceiling: setup.ceiling,
            limits: setup.limits,
            slots: setup.slots,
            ..bench::Setup::default()
        };
        Self(bench::Bench::load(&SUITE, setup).unwrap())
=======
        Self::load(setup).unwrap()
    }

    pub(crate) fn load(setup: Setup<'_>) -> Result<Self, LoadError> {
        let scratch = tempfile::tempdir().unwrap();
        let sandbox = sandbox(setup.slots, scratch.path());
        let component = verified_under(
            setup.guest,
            setup.kind,
            setup.profile,
            setup.requests,
            setup.limits.or_default(),
        );
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
>>>>>>> fc3c9ba (capability: profiles of other languages; a step in Python or JavaScript, from an empty folder to a component)
    }

    pub(crate) fn pure(limits: LimitsPart) -> Self {
        Self::new(Setup { limits, ..Setup::default() })
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
}
