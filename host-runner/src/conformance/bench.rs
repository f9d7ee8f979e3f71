//! One guest in the runner's own sandbox: signed in memory, verified, loaded, given a remit, run.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use remit_protocol::{
    ComponentName, ComponentVersion, Digest, ExecutionId, Limits, Namespace, ProjectName, SecretName,
    SecretPath, Size, Span, StepName, Timestamp,
    capability::{Ceiling, Effect, Grant, Remit, Requests, Subject, imports::Profile},
    digest::Sized,
    limits::{LimitsPart, MAX_COMPONENT},
    manifest::{Kind, Manifest},
};
use remit_signing::{
    KeyName, SigningKey, TrustPolicy, VerifiedComponent, component::ComponentNote, note, policy, verify, wasm,
};

use zeroize::Zeroizing;

use crate::{
    capability::{
        context::StepContext,
        log::{Line, LogSink},
    },
    component::cache::Cache,
    config::DEFAULT_RESERVED,
    confine::Confinement,
    dial::{Dialer, address::Barred, resolve::Lookup, tls::Trust},
    launcher::{Catalogue, Client, Launcher, Remote},
    local::read_file,
    report::redact::Redactor,
    sandbox::{Cancel, Ended, Invocation, Metering, NativeCode, Prepared, Sandbox, SandboxConfig, compile},
    secrets::{Resolve, SecretError, SecretValue},
    worker::Crew,
};

/// The value of every secret on a bench: if it is seen where it does not belong, something leaks.
pub const SECRET: &str = "correct-horse-battery";

/// Where guests come from: a folder of `NAME.wasm`. Native code is made once for each.
pub struct Suite {
    pub(super) folder: PathBuf,
    pub(super) program: PathBuf,
    workers: bool,
    /// Nothing else goes on in this process: its memory tells of the guests.
    pub(super) alone: bool,
    native: Mutex<HashMap<(String, Metering), Arc<NativeCode>>>,
}

impl Suite {
    /// The guests in `folder`, each run in a worker process, as a runner does; `program`, a `remit-runner`, is the worker and
    /// starts what guests start.
    pub fn new(folder: &Path, program: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            program: program.to_owned(),
            workers: true,
            alone: false,
            native: Mutex::default(),
        }
    }

    /// The same, with the guests in this process, as an author's own machine runs them.
    #[must_use]
    pub fn in_this_process(mut self) -> Self {
        self.workers = false;
        self
    }

    /// The same, in a process in which nothing else goes on: how its memory grows is looked at as well.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// The bytes of a guest.
    ///
    /// # Errors
    /// It is not there.
    pub fn guest(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.folder.join(format!("{name}.wasm"));
        read_file(&file, MAX_COMPONENT)
            .with_context(|| format!("{}: build the guests with `cargo xtask guests`", file.display()))
    }

    /// Its native code, which counts its fuel or does not.
    ///
    /// # Errors
    /// It is not there, or cannot be compiled.
    pub fn native(&self, name: &str, metering: Metering) -> Result<Arc<NativeCode>> {
        let mut compiled = self.native.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = (name.to_owned(), metering);
        if let Some(code) = compiled.get(&wanted) {
            return Ok(Arc::clone(code));
        }
        let code = Arc::new(compile(&self.guest(name)?, metering)?);
        compiled.insert(wanted, Arc::clone(&code));
        Ok(code)
    }

    /// A guest as a verified component that requests `requests` (JSON).
    ///
    /// # Errors
    /// It is not there, or not acceptable: what it imports has to be accounted for by what it requests.
    pub fn verified(
        &self,
        name: &str,
        kind: Kind,
        requests: &str,
        limits: Limits,
    ) -> Result<VerifiedComponent> {
        self.tampered(name, kind, None, requests, limits, None)
    }

    /// The same, under the profile of a language.
    ///
    /// # Errors
    /// As in [`Suite::verified`]; what the profile lists is accounted for too.
    pub fn verified_under(
        &self,
        name: &str,
        kind: Kind,
        profile: Option<Profile>,
        requests: &str,
        limits: Limits,
    ) -> Result<VerifiedComponent> {
        self.tampered(name, kind, profile, requests, limits, None)
    }

    /// As [`verified`](Self::verified), after somebody was at it.
    ///
    /// # Errors
    /// Whatever the runner says to that.
    fn tampered(
        &self,
        name: &str,
        kind: Kind,
        profile: Option<Profile>,
        requests: &str,
        limits: Limits,
        tampering: Option<Tampering>,
    ) -> Result<VerifiedComponent> {
        let mut packed = self.packed(name, kind, profile, requests, limits, tampering)?;
        match tampering {
            Some(Tampering::Bytes) => flip(&mut packed.bytes),
            Some(Tampering::Manifest) => flip(&mut packed.manifest),
            Some(Tampering::Note) => flip(&mut packed.note),
            _ => {}
        }
        let late = Duration::from_secs(2 * 86_400);
        let now = if tampering == Some(Tampering::Time) { noon().plus(late) } else { noon() };
        Ok(verify::component(&packed.note, &packed.manifest, packed.bytes, &packed.policy, now)?)
    }

    /// A guest as it is published: signed by the bench's builder, or by a stranger.
    pub(super) fn packed(
        &self,
        name: &str,
        kind: Kind,
        profile: Option<Profile>,
        requests: &str,
        limits: Limits,
        tampering: Option<Tampering>,
    ) -> Result<Packed> {
        let bytes = self.guest(name)?;
        let manifest = Manifest {
            v: 1,
            name: ComponentName::new(format!("test/{name}"))?,
            version: ComponentVersion::new("1.0.0")?,
            kind,
            description: "A guest.".to_owned(),
            effect: Effect::Pure,
            profile,
            toolchain: None,
            imports: wasm::interfaces(&bytes)?.import_names(),
            requests: serde_json::from_str::<Requests>(requests)?,
            limits,
            input: serde_json::json!({}),
            output: if kind == Kind::Step { serde_json::json!({}) } else { serde_json::Value::Null },
        };
        let text = manifest.to_vec();
        let now = noon();
        let note = ComponentNote {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            component: Sized::of(&bytes),
            manifest: Sized::of(&text),
            source: None,
            not_before: now,
            expires: now.plus(Duration::from_secs(86_400)),
        };
        let key = SigningKey::from_seed(KeyName::new("test/builder")?, &[7; 32]);
        let lines = policy::publisher_lines(&Namespace::new("test")?, &key.vkey(), &"builder".parse()?);
        // A key of the same name that the policy does not know.
        let stranger = SigningKey::from_seed(KeyName::new("test/builder")?, &[8; 32]);
        let policy = TrustPolicy::from_toml(&format!("version = 1\n\n{lines}"))
            .map_err(|faults| anyhow::anyhow!("the policy of the bench: {faults:?}"))?;
        let signer = if tampering == Some(Tampering::Stranger) { &stranger } else { &key };
        let note = note::sign(&note.to_text(), &[signer])?;
        Ok(Packed { bytes, manifest: text, note, policy })
    }

    /// Native code of a guest as it comes out of this host's cache after somebody was at it there.
    fn cached(&self, name: &str, damage: Damage) -> Result<NativeCode> {
        let folder = tempfile::tempdir()?;
        let cache =
            |key: u8| Cache::new(folder.path().to_owned(), Zeroizing::new([key; 32]), Size::from_mib(1024));
        let engine = Digest::of(b"engine");
        let key = Cache::key(Digest::of(&self.guest(name)?), engine);
        let metering = if damage == Damage::OtherEngine { Metering::On } else { Metering::Off };
        let code = self.native(name, metering)?;
        let owner = if damage == Damage::Forged { 2 } else { 1 };
        let entry = if damage == Damage::Swapped { Cache::key(Digest::of(b"another"), engine) } else { key };
        cache(owner).put(entry, code.as_bytes())?;
        let file = std::fs::read_dir(folder.path())?.next().context("the cache keeps nothing")??.path();
        match damage {
            Damage::None | Damage::Forged | Damage::OtherEngine => {}
            Damage::Flipped => {
                let mut bytes = std::fs::read(&file)?;
                flip(&mut bytes);
                std::fs::write(&file, bytes)?;
            }
            Damage::Cut => {
                File::options().write(true).open(&file)?.set_len(std::fs::metadata(&file)?.len() / 2)?;
            }
            Damage::Swapped => {
                std::fs::rename(&file, folder.path().join(format!("{}.native", key.to_hex())))?;
            }
            Damage::Linked => {
                let elsewhere = folder.path().join("elsewhere");
                std::fs::rename(&file, &elsewhere)?;
                std::os::unix::fs::symlink(&elsewhere, &file)?;
            }
            Damage::Late => {}
        }
        let taken = cache(1).get(key, SystemTime::UNIX_EPOCH);
        if damage == Damage::Late {
            // What was checked is held: nobody looks at the file again.
            std::fs::write(&file, b"another code")?;
        }
        let code = taken.context("the cache does not take its entry: the component is compiled anew")?;
        Ok(NativeCode::from_checked(code, Metering::Off))
    }
}

/// When all of this is signed and run.
pub(super) fn noon() -> Timestamp {
    Timestamp::from_millis(1_795_219_200_000)
}

/// A signed guest, and the policy that believes its signer.
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Vec<u8>,
    pub(super) note: Vec<u8>,
    pub(super) policy: TrustPolicy,
}

/// What somebody did to an entry of the cache of native code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    None,
    /// Wrote it with a key of their own.
    Forged,
    /// Changed a bit in the middle.
    Flipped,
    /// Cut half of it off.
    Cut,
    /// Put another component's entry into its place.
    Swapped,
    /// Put a link into its place.
    Linked,
    /// Wrote code of another engine, with this host's own key.
    OtherEngine,
    /// Replaced it after it was checked.
    Late,
}

/// What somebody did between the signing and the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tampering {
    /// One bit of the component.
    Bytes,
    /// One bit of its manifest.
    Manifest,
    /// One bit of the note's text.
    Note,
    /// Another key signed, under the same name.
    Stranger,
    /// It is offered after its time.
    Time,
    /// Its native code comes out of a cache.
    Cache(Damage),
}

/// Changes one bit in the middle.
fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}

/// A resolver that gives the next of its answers each time, and counts how often it was asked.
#[derive(Debug, Default)]
pub struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: AtomicU32,
}

impl Names {
    /// Each name with its answers; the last one stays.
    pub fn new(answers: HashMap<String, Vec<Vec<IpAddr>>>) -> Self {
        Self { answers: Mutex::new(answers), asked: AtomicU32::new(0) }
    }

    /// How many questions came.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Lookup for Names {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let list = answers.get_mut(host).ok_or(std::io::ErrorKind::NotFound)?;
        if list.len() > 1 {
            return Ok(list.remove(0));
        }
        list.first().cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

/// Lines and progress of a run.
#[derive(Default)]
pub struct Recorded {
    /// What it logged.
    pub lines: Mutex<Vec<Line>>,
    /// Its steps of progress.
    pub progress: Mutex<Vec<(u64, u64)>>,
    /// Told of each line.
    pub said: tokio::sync::Notify,
    /// Lines are not kept: whoever floods is not to be held up by whoever remembers.
    pub forgets: AtomicBool,
}

impl Recorded {
    /// The lines' texts.
    pub fn texts(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| line.text.clone()).collect()
    }
}

impl LogSink for Recorded {
    fn line(&self, line: Line) {
        if self.forgets.load(Ordering::Relaxed) {
            return;
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        self.said.notify_one();
    }

    fn progress(&self, done: u64, total: u64) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).push((done, total));
    }
}

struct OneSecret;

#[async_trait]
impl Resolve for OneSecret {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        SecretValue::new(SECRET.as_bytes().to_vec()).map_err(|why| SecretError::Invalid {
            path: path.clone(),
            place: "the bench".to_owned(),
            why,
        })
    }
}

/// What a bench is made of: requests and grant in JSON.
#[derive(Clone)]
pub struct Setup {
    /// Which guest.
    pub guest: String,
    /// What it is.
    pub kind: Kind,
    /// The profile of its language.
    pub profile: Option<Profile>,
    /// What it asks for.
    pub requests: String,
    /// What it is given. The secret `token` is bound to `keys/test/token`.
    pub grant: String,
    /// What the owner permits.
    pub ceiling: Ceiling,
    /// Its limits.
    pub limits: LimitsPart,
    /// Sandboxes at once.
    pub slots: u32,
    /// The names that exist, each with its answers.
    pub names: HashMap<String, Vec<Vec<IpAddr>>>,
    /// Where the runner's orchestrator is.
    pub orchestrator: (String, u16),
    /// What somebody did to the component before it arrived.
    pub tampering: Option<Tampering>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            guest: "pure".to_owned(),
            kind: Kind::Step,
            profile: None,
            requests: "{}".to_owned(),
            grant: "{}".to_owned(),
            ceiling: Ceiling::default(),
            limits: LimitsPart::default(),
            slots: 4,
            names: HashMap::new(),
            orchestrator: ("orchestrator.example".to_owned(), 443),
            tampering: None,
        }
    }
}

/// A sandbox with one component in it, and all that a run needs.
pub struct Bench {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Where its scratch directories are made.
    pub scratch: tempfile::TempDir,
    /// What runs say.
    pub log: Arc<Recorded>,
    /// Cancels runs.
    pub cancel: Cancel,
    /// What runs are told of themselves.
    pub context: StepContext,
    /// How long the job lets a run take.
    pub timeout: Option<Span>,
    /// The resolver.
    pub names: Arc<Names>,
    component: VerifiedComponent,
    prepared: Arc<Prepared>,
    remit: Arc<Remit>,
}

impl Bench {
    /// Verifies, loads and gives a remit.
    ///
    /// # Errors
    /// The first of these that is refused.
    pub fn load(suite: &Suite, setup: Setup) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let names = Arc::new(Names::new(setup.names.clone()));
        let barred = Barred::new(&setup.orchestrator.0, setup.orchestrator.1);
        let dialer = Arc::new(Dialer::new(names.clone(), None, Trust::untrusting(), barred));
        // The product's own form: programs are started by another process.
        let catalogue = Catalogue::new(&suite.program, scratch.path(), Confinement::WherePossible);
        let catalogue = catalogue.with_ceiling(&setup.ceiling);
        let launcher = Launcher::start(&suite.program, &catalogue, Client::Broker, &[])?;
        let launch = Arc::new(Remote::new(launcher, scratch.path().to_owned())?);
        let place = scratch.path().to_owned();
        let config = SandboxConfig { slots: setup.slots, scratch: place, dialer, launch };
        let crew = Crew {
            program: suite.program.clone(),
            confinement: Confinement::WherePossible,
            reserved_processors: DEFAULT_RESERVED,
        };
        let sandbox =
            if suite.workers { Sandbox::with_workers(config, crew)? } else { Sandbox::new(config)? };
        Self::on(suite, setup, sandbox, scratch, names)
    }

    /// Another component in the same sandbox, with the same names around it.
    ///
    /// # Errors
    /// As in [`Bench::load`].
    pub fn beside(&self, suite: &Suite, setup: Setup) -> Result<Self> {
        Self::on(suite, setup, self.sandbox.clone(), tempfile::tempdir()?, self.names.clone())
    }

    fn on(
        suite: &Suite,
        setup: Setup,
        sandbox: Sandbox,
        scratch: tempfile::TempDir,
        names: Arc<Names>,
    ) -> Result<Self> {
        let limits = setup.limits.or_default();
        let Setup { kind, profile, tampering, .. } = setup;
        let component = suite.tampered(&setup.guest, kind, profile, &setup.requests, limits, tampering)?;
        let bound = BTreeMap::from([(SecretName::new("token")?, vec![SecretPath::new("keys/test/token")?])]);
        let remit = Remit::compute(
            Subject { component: &component.manifest().name, project: &ProjectName::new("ops")? },
            &component.manifest().requests,
            component.manifest().limits,
            &serde_json::from_str::<Grant>(&setup.grant)?,
            &bound,
            &setup.ceiling,
        )
        .map_err(|denials| anyhow::anyhow!("{denials:?}"))?;
        let metering = Metering::where_counted(remit.limits().fuel.is_counted());
        let prepared = match tampering {
            Some(Tampering::Cache(damage)) => {
                sandbox.load(&suite.cached(&setup.guest, damage)?, &component)?
            }
            _ => sandbox.load(&*suite.native(&setup.guest, metering)?, &component)?,
        };
        let context = StepContext {
            execution: ExecutionId::from_u128(1),
            step: StepName::new("test")?,
            node: None,
            try_number: 1,
            idempotency_key: "key-1".to_owned(),
        };
        Ok(Self {
            sandbox,
            scratch,
            log: Arc::default(),
            cancel: Cancel::new(),
            context,
            timeout: None,
            names,
            component,
            prepared,
            remit: Arc::new(remit),
        })
    }

    /// Runs `act`, which the guest reads as a JSON string.
    pub async fn run(&self, act: &str) -> Ended {
        let invocation = Invocation {
            files: Arc::default(),
            remit: self.remit.clone(),
            secrets: Arc::new(OneSecret),
            input: serde_json::Value::from(act).to_string(),
            context: self.context.clone(),
            log: self.log.clone(),
            cancel: self.cancel.clone(),
            redactor: Redactor::new(),
            timeout: self.timeout,
            realm: Digest::of(b"bench"),
            admitted: None,
        };
        match self.prepared.kind() {
            Kind::Step => self.sandbox.run(&self.prepared, invocation).await,
            Kind::NodeSource => self.sandbox.discover(&self.prepared, invocation).await,
        }
    }

    /// The loaded component.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The verified component.
    pub fn component(&self) -> &VerifiedComponent {
        &self.component
    }

    /// Names of what is left where scratch directories are made.
    pub fn left_behind(&self) -> Vec<String> {
        let below = |path: &Path| {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))
        };
        // A worker's own directory stays for as long as the worker does.
        let (workers, others): (Vec<_>, Vec<_>) =
            below(self.scratch.path()).partition(|(_, name)| name.starts_with("worker-"));
        let inside = workers.iter().flat_map(|(path, _)| below(path));
        others.into_iter().chain(inside).map(|(_, name)| name).collect()
    }
}
