//! A component run by hand, for its author: the same verification, remit and sandbox as everywhere.
//!
//! There is no way around a signature, so the component is signed in memory with a key that lives for this run, and
//! verified against a policy that trusts that key alone.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use remit_protocol::{
    Digest, ExecutionId, InvalidId, Namespace, Outcome, ProjectName, RefusalCode, SecretName, SecretPath,
    Size, StepName,
    capability::{
        Ceiling, Denial, Grant, Remit, Requests, Subject,
        exec::ExecGrant,
        files::{FilesCeiling, FilesGrant, FilesRequest},
        http::{HttpCeiling, HttpGrant, HttpWish, Via},
        imports::Profile,
        tcp::{TcpCeiling, TcpGrant, TcpWish},
    },
    digest::Sized,
    json::InvalidJson,
    manifest::{Kind, Manifest},
    node::{Node, NodeSet},
    report::{Artifact, Usage},
};
use remit_signing::{
    KeyName, Refusal, SigningKey, TrustPolicy, VerifiedComponent,
    component::ComponentNote,
    note,
    policy::{InvalidHolder, publisher_lines},
    verify, wasm,
};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    attempt::{NotReady, idempotency_key},
    broker::Used,
    capability::{
        context::StepContext,
        log::{Line, LogSink},
    },
    clock,
    component::{Components, Loaded, NotLoaded, cache::Cache, compile::Compiler},
    config::Config,
    confine::Confinement,
    launcher::{self, Launch},
    proposal::{self, Seen},
    report::redact::Redactor,
    sandbox::{Cancel, DescribeError, Description, Ended, Invocation, Metering, Sandbox, SandboxConfig},
    secrets::{Providers, Resolve, know},
    start::{self, CannotStart, Environment},
    trust::{NotBelieved, Trust, heads::Heads},
    worker::Crew,
};

/// What is run, and under what.
pub struct Run {
    /// The component's bytes.
    pub component: Vec<u8>,
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// Its input.
    pub input: Value,
    /// What it is granted; absent: everything literal that it requests.
    pub grant: Option<Grant>,
    /// The owner's file; absent: a ceiling of just what the grant names, without any private address.
    pub config: Option<Config>,
    /// The node that it is run for.
    pub node: Option<Node>,
    /// Where its secrets are.
    pub secrets: BTreeMap<SecretName, Vec<SecretPath>>,
    /// Named files beside those of the owner's file.
    pub files: Vec<(String, PathBuf)>,
    /// The directory into which its artifacts are written; absent: they are only listed.
    pub artifacts: Option<PathBuf>,
}

/// How it ended.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How.
    pub outcome: Outcome,
    /// Why, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// A step's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// What a node source found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeSet>,
    /// What it kept for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// What the remit did not allow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<Denial>,
    /// Secrets whose value the component has seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revealed: Vec<SecretName>,
    /// What was used of what was allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// Why it was not run at all.
#[derive(Debug, thiserror::Error)]
pub enum CannotRun {
    /// The manifest.
    #[error("the manifest cannot be read")]
    Manifest(#[from] InvalidJson),
    /// Verification.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A name that no key has.
    #[error(transparent)]
    Key(#[from] remit_signing::key::InvalidKey),
    /// The policy made in memory is not one.
    #[error("the policy of this run cannot be made: {0}")]
    Policy(String),
    /// Compiling or loading.
    #[error(transparent)]
    Load(#[from] NotLoaded),
    /// Believing.
    #[error(transparent)]
    Trust(#[from] NotBelieved),
    /// The host.
    #[error(transparent)]
    Start(#[from] CannotStart),
    /// No room for what the run needs on disk.
    #[error("no temporary directory")]
    Disk(#[from] std::io::Error),
    /// The component does not describe itself.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// A fixed name is not one.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

/// In which process a component runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// This one.
    Here,
    /// A worker, as under a runner.
    Worker,
}

/// A loaded component, and where it runs.
struct Stage {
    sandbox: Sandbox,
    launch: Arc<dyn Launch>,
    loaded: Arc<Loaded>,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn set(
        component: Vec<u8>,
        manifest: &[u8],
        config: Option<&Config>,
        grant: Option<&Grant>,
        environment: &Environment,
        home: Home,
    ) -> Result<Self, CannotRun> {
        let (verified, policy) = sign_in_memory(component, manifest)?;
        let named = [config.map(|config| &config.ceiling.limits), grant.map(|grant| &grant.limits)];
        let metering = Metering::where_counted(
            verified.manifest().limits.fuel.is_counted()
                || named.into_iter().flatten().any(|limits| limits.fuel.is_some()),
        );
        let folder = tempfile::tempdir()?;
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch)?;
        let dialer = match config {
            Some(Config { orchestrator, .. }) => {
                start::dialer(&orchestrator.url, orchestrator.proxy.as_ref(), orchestrator.ca_file.as_ref())?
            }
            None => {
                // There is no orchestrator that steps would have to be kept from.
                let nowhere = "https://orchestrator.invalid".parse();
                start::dialer(&nowhere.map_err(|e| CannotRun::Policy(format!("{e}")))?, None, None)?
            }
        };
        let launch: Arc<dyn Launch> = Arc::new(launcher::Local::new(scratch.clone()));
        let sandbox = match home {
            Home::Here => start::sandbox(4, scratch, &dialer, &launch),
            Home::Worker => {
                // One step runs, and nobody beside it.
                let crew = Crew {
                    program: environment.program.clone(),
                    confinement: Confinement::Required,
                    reserved_processors: 0,
                };
                Sandbox::with_workers(
                    SandboxConfig { slots: 4, scratch, dialer, launch: launch.clone() },
                    crew,
                )
            }
        };
        let sandbox = sandbox.map_err(CannotStart::from)?;
        let cache =
            Cache::new(folder.path().to_owned(), Zeroizing::new(clock::random()), Size::from_mib(1024));
        let compiler = Compiler::new(environment.program.clone(), Arc::clone(&launch));
        let trust = Arc::new(Trust::fixed(policy, clock::system));
        let components =
            Components::new(Arc::clone(&trust), Heads::nowhere(), sandbox.clone(), cache, compiler);
        let loaded = components.load(verified, metering, &trust.belief()?).await?;
        Ok(Self { sandbox, launch, loaded, _folder: folder })
    }
}

fn sign_in_memory(
    component: Vec<u8>,
    manifest: &[u8],
) -> Result<(VerifiedComponent, TrustPolicy), CannotRun> {
    let parsed = Manifest::from_slice(manifest)?;
    let key = SigningKey::from_seed(KeyName::new("local/run")?, &Zeroizing::new(clock::random()));
    let now = clock::system();
    let note = ComponentNote {
        name: parsed.name.clone(),
        version: parsed.version.clone(),
        component: Sized::of(&component),
        manifest: Sized::of(manifest),
        source: None,
        not_before: remit_protocol::Timestamp::from_millis(now.as_secs() * 1000),
        expires: remit_protocol::Timestamp::from_millis((now.as_secs() + 86_400) * 1000),
    };
    let note = note::sign(&note.to_text(), &[&key])?;
    let namespace = Namespace::new(parsed.name.namespace())?;
    let holder = "local".parse().map_err(|e: InvalidHolder| CannotRun::Policy(e.to_string()))?;
    let lines = format!("version = 1\n{}", publisher_lines(&namespace, &key.vkey(), &holder));
    let policy = TrustPolicy::from_toml(&lines).map_err(|faults| {
        CannotRun::Policy(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    let verified = verify::component(&note, manifest, component, &policy, now)?;
    Ok((verified, policy))
}

/// Runs a component once, with secrets from `providers`.
///
/// # Errors
/// [`CannotRun`]. A refusal by the remit is a [`Report`].
pub async fn run(run: Run, providers: Providers, environment: &Environment) -> Result<Recorded, CannotRun> {
    let stage = Stage::set(
        run.component,
        &run.manifest,
        run.config.as_ref(),
        run.grant.as_ref(),
        environment,
        Home::Here,
    )
    .await?;
    let manifest = &stage.loaded.manifest;
    let grant = run.grant.unwrap_or_else(|| literal(&manifest.requests));
    let ceiling = ceiling(run.config.as_ref(), &grant, run.files);
    let subject = Subject { component: &manifest.name, project: &ProjectName::new("local")? };
    let remit = Remit::compute(subject, &manifest.requests, manifest.limits, &grant, &run.secrets, &ceiling);
    let remit = match remit {
        Ok(remit) => remit,
        Err(denials) => return Ok(Report::denied(denials).unrecorded()),
    };
    providers.start_with(Arc::clone(&stage.launch));
    let secrets: Arc<dyn Resolve> = Arc::new(providers);
    let redactor = Redactor::new();
    if let Err(error) = know(&remit, &*secrets, &redactor).await {
        let NotReady { outcome, message } = NotReady::refused(RefusalCode::Secret, format!("{error}."));
        return Ok(Report { message, ..Report::of(outcome) }.unrecorded());
    }
    let node = run.node.map(Arc::new);
    let mut invocation = Run::invocation(remit, secrets, run.input, node, redactor)?;
    let recorder = Arc::new(Recorder::default());
    invocation.log = recorder.clone();
    let ended = match manifest.kind {
        Kind::Step => stage.sandbox.run(&stage.loaded.prepared, invocation).await,
        Kind::NodeSource => stage.sandbox.discover(&stage.loaded.prepared, invocation).await,
    };
    keep(&ended, run.artifacts.as_deref())?;
    let report = Report::from(ended);
    let used = std::mem::take(&mut *recorder.0.lock().unwrap_or_else(PoisonError::into_inner));
    let seen = Seen {
        used: &used,
        revealed: &report.revealed,
        denials: &report.denials,
        usage: report.usage.as_ref(),
    };
    let proposal = proposal::step_toml(&manifest.requests, &seen);
    Ok(Recorded { report, proposal })
}

/// Writes what a run kept into `directory`.
fn keep(ended: &Ended, directory: Option<&Path>) -> std::io::Result<()> {
    let Some(directory) = directory else { return Ok(()) };
    for kept in &ended.artifacts {
        let Some(spool) = &kept.spool else { continue };
        std::fs::copy(spool, directory.join(kept.artifact.name.as_str()))?;
    }
    Ok(())
}

/// What a run came to, and the least that its author has to ask for.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// How it ended.
    #[serde(flatten)]
    pub report: Report,
    /// Sections for `step.toml`.
    pub proposal: String,
}

/// Lines on standard error, and what was used.
#[derive(Default)]
struct Recorder(Mutex<Vec<Used>>);

/// Most different uses that are kept.
const MAX_USES: usize = 4096;

impl LogSink for Recorder {
    fn line(&self, line: Line) {
        StandardError.line(line);
    }

    fn progress(&self, done: u64, total: u64) {
        StandardError.progress(done, total);
    }

    fn used(&self, used: Used) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MAX_USES && !all.contains(&used) {
            all.push(used);
        }
    }
}

impl Run {
    fn invocation(
        remit: Remit,
        secrets: Arc<dyn Resolve>,
        input: Value,
        node: Option<Arc<Node>>,
        redactor: Redactor,
    ) -> Result<Invocation, CannotRun> {
        let execution = ExecutionId::from_parts(clock::system(), u128::from_le_bytes(clock::random()));
        let name = node.as_deref().map(|node| node.name.as_str());
        Ok(Invocation {
            files: Arc::default(),
            remit: Arc::new(remit),
            secrets,
            input: input.to_string(),
            context: StepContext {
                execution,
                step: StepName::new("local")?,
                idempotency_key: idempotency_key(execution, "local", name),
                node,
                try_number: 1,
            },
            log: Arc::new(StandardError),
            cancel: Cancel::new(),
            redactor,
            timeout: None,
            realm: Digest::of(b"local"),
            admitted: None,
        })
    }
}

impl Report {
    fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            message: String::new(),
            output: None,
            nodes: None,
            artifacts: Vec::new(),
            denials: Vec::new(),
            revealed: Vec::new(),
            usage: None,
        }
    }

    /// Of a run that was never begun.
    fn unrecorded(self) -> Recorded {
        Recorded { report: self, proposal: String::new() }
    }

    fn denied(denials: Vec<Denial>) -> Self {
        let not = crate::attempt::denied(&denials);
        Self { message: not.message, denials, ..Self::of(not.outcome) }
    }
}

impl From<Ended> for Report {
    fn from(ended: Ended) -> Self {
        let Ended { outcome, output, nodes, artifacts, message, denials, revealed, usage, .. } = ended;
        let artifacts = artifacts.into_iter().map(|kept| kept.artifact).collect();
        Self { outcome, message, output, nodes, artifacts, denials, revealed, usage }
    }
}

/// Everything literal that is requested: open requests mean nothing until somebody fills them.
fn literal(requests: &Requests) -> Grant {
    let http = requests.http.iter().filter_map(|asked| match &asked.scope {
        HttpWish::Literal(scope) => {
            Some(HttpGrant { scope: scope.clone(), private: asked.private, secret: asked.secret.clone() })
        }
        HttpWish::Open { .. } => None,
    });
    let exec = requests.exec.iter().filter_map(|asked| {
        let program = asked.program.clone()?;
        Some(ExecGrant { program, args: asked.args.clone(), secret: asked.secret.clone() })
    });
    let files = requests.files.iter().filter_map(|asked| match asked {
        FilesRequest::Scratch => Some(FilesGrant::Scratch),
        FilesRequest::Artifacts => Some(FilesGrant::Artifacts),
        FilesRequest::Named(name) => Some(FilesGrant::Named(name.clone())),
        FilesRequest::Open => None,
    });
    let tcp = requests.tcp.iter().filter_map(|asked| match &asked.scope {
        TcpWish::Literal(scope) => {
            Some(TcpGrant { scope: scope.clone(), private: asked.private, secret: asked.secret.clone() })
        }
        TcpWish::Open { .. } => None,
    });
    Grant {
        http: http.collect(),
        exec: exec.collect(),
        ssh: requests.ssh.clone(),
        tcp: tcp.collect(),
        files: files.collect(),
        reveal: requests.reveal.clone(),
        limits: Default::default(),
    }
}

/// The owner's ceiling; without one, what the grant names of public hosts and the files that were named here.
fn ceiling(config: Option<&Config>, grant: &Grant, files: Vec<(String, PathBuf)>) -> Ceiling {
    let mut ceiling = match config {
        Some(config) => config.ceiling.clone(),
        None => {
            let rule = |given: &HttpGrant| HttpCeiling {
                scope: given.scope.clone(),
                endpoint: None,
                private: Vec::new(),
                via: Via::Direct,
                tls: None,
                ca_file: None,
            };
            let tcp = grant.tcp.iter().map(|given| TcpCeiling {
                scope: given.scope.clone(),
                private: Vec::new(),
                trust: None,
                ca_file: None,
            });
            // Where a daemon of this host listens, only an owner's file says.
            let http = grant.http.iter().filter(|given| given.scope.endpoint().is_none());
            Ceiling { http: http.map(rule).collect(), tcp: tcp.collect(), ..Ceiling::default() }
        }
    };
    let named = files.into_iter().map(|(name, path)| FilesCeiling { name, path, mode: Default::default() });
    ceiling.files.extend(named);
    ceiling
}

/// Lines on standard error, as a person reads them.
struct StandardError;

impl LogSink for StandardError {
    fn line(&self, line: Line) {
        let level = format!("{:?}", line.level).to_uppercase();
        let fields: String = line.fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        // A closed standard error is the reader's own wish.
        let _ = writeln!(std::io::stderr(), "{level:<5} {}{fields}", line.text);
    }

    fn progress(&self, done: u64, total: u64) {
        let _ = writeln!(std::io::stderr(), "{done} of {total}");
    }
}

/// Asks a component for its schemas. There is no manifest yet, so it is run under one that asks for whatever it imports
/// and is given nothing.
///
/// # Errors
/// [`CannotRun`].
pub async fn describe(
    component: Vec<u8>,
    kind: Kind,
    profile: Option<Profile>,
    environment: &Environment,
) -> Result<Description, CannotRun> {
    let refused = |detail: String| Refusal { code: remit_protocol::RefusalCode::Kind, detail };
    let mut imports = wasm::interfaces(&component).map_err(|e| refused(e.to_string()))?.import_names();
    imports.sort();
    imports.dedup();
    let manifest = json!({
        "v": 1, "name": "local/describe", "version": "0.0.0", "kind": kind, "description": "describes itself",
        "effect": "effect", "profile": profile, "imports": imports, "limits": remit_protocol::Limits::default(),
        "requests": {
            "http": [{"host": "granted"}], "exec": [{"program": "granted"}], "ssh": [{"target": "node"}],
            "tcp": [{"host": "granted"}],
            "files": [{"scratch": true}, {"artifacts": true}, {"path": "granted"}], "reveal": [{"name": "describe"}],
        },
        "input": true, "output": null,
    });
    let stage =
        Stage::set(component, manifest.to_string().as_bytes(), None, None, environment, Home::Here).await?;
    Ok(stage.sandbox.describe(&stage.loaded.prepared).await?)
}

/// How long a warm step takes: made, run and dropped again and again in one process.
#[derive(Debug, Serialize)]
pub struct WarmStep {
    /// How often.
    pub runs: u32,
    /// Microseconds of the middle run, from asking for it to its end.
    pub p50_us: f64,
    /// Microseconds of the 99th of a hundred.
    pub p99_us: f64,
    /// Microseconds for which the sandbox of the middle run was there.
    pub inside_us: f64,
}

/// Measures [`WarmStep`].
///
/// # Errors
/// [`CannotRun`], also when the step does not succeed.
pub async fn warm_step(
    run: Run,
    runs: u32,
    home: Home,
    environment: &Environment,
) -> Result<WarmStep, CannotRun> {
    let stage =
        Stage::set(run.component, &run.manifest, run.config.as_ref(), run.grant.as_ref(), environment, home)
            .await?;
    let manifest = &stage.loaded.manifest;
    let grant = run.grant.unwrap_or_else(|| literal(&manifest.requests));
    let ceiling = ceiling(run.config.as_ref(), &grant, run.files);
    let subject = Subject { component: &manifest.name, project: &ProjectName::new("local")? };
    let remit = Remit::compute(subject, &manifest.requests, manifest.limits, &grant, &run.secrets, &ceiling)
        .map_err(|denials| CannotRun::Policy(crate::attempt::denied(&denials).message))?;
    let secrets: Arc<dyn Resolve> = Arc::new(Providers::default());
    let (mut times, mut inside) = (Vec::new(), Vec::new());
    for round in 0..runs.saturating_add(WARM_UP) {
        let invocation =
            Run::invocation(remit.clone(), Arc::clone(&secrets), run.input.clone(), None, Redactor::new())?;
        let begun = tokio::time::Instant::now();
        let ended = stage.sandbox.run(&stage.loaded.prepared, invocation).await;
        if round >= WARM_UP {
            times.push(begun.elapsed());
            inside.push(ended.took);
        }
        if ended.outcome != Outcome::Succeeded {
            return Err(CannotRun::Policy(format!("the step ended as {}: {}", ended.outcome, ended.message)));
        }
    }
    times.sort_unstable();
    inside.sort_unstable();
    let at = |times: &[Duration], part: usize| {
        times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Ok(WarmStep { runs, p50_us: at(&times, 50), p99_us: at(&times, 99), inside_us: at(&inside, 50) })
}

/// Runs that are not measured: the first ones map memory that later ones find.
const WARM_UP: u32 = 50;

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// The file cannot be read, or is larger.
pub fn read_file(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(bytes)
}
