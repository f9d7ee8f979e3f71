//! The broker's own side: hear what it is for, give everything else away, attend runs until the supervisor is gone.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::IpAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use remit_protocol::{
    Digest, RefusalCode,
    capability::{Ceiling, Remit, Subject},
    manifest::{Kind as ComponentKind, Manifest},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use zeroize::Zeroizing;

use super::{
    Admission, Begin, Charter, Hello, Load, MAX_FROM_BROKER, MAX_TO_BROKER, Ready, Refusal, Stop, Unloadable,
    VERSION,
    artifacts::{Handed, hand_over},
    living::{ended_frame, line_frame},
};
use crate::{
    capability::{
        context::StepContext,
        files::OptionFiles,
        log::{Line, LogSink},
    },
    config::Config,
    confine::{self, Part, Reach},
    dial::Dialer,
    frames::{Broken, Frame, Frames, Kind, Link, Unread, encode},
    launcher::{Launch, Launcher, Remote},
    report::redact::Redactor,
    sandbox::{Cancel, Ended, Invocation, Prepared, Sandbox, SandboxConfig, realm},
    secrets::{ProviderConfig, Providers, Resolve, WithTyped, know, providers::Surroundings},
    start,
    state::sealing::{self, Sealing},
    worker::{Crew, NoWorker},
};

/// How long a component that was asked to end may go on: the supervisor has it cut off long before.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Longest charter: the owner's file, and the largest secrets of its environment.
const MAX_CHARTER: u32 = 4 << 20;

/// The whole life of a broker, after [`confine::begin`]: `socket` leads to its supervisor, `line` to the launcher.
///
/// # Errors
/// The supervisor is no supervisor, or the kernel refuses something that nothing can do without.
pub fn live(socket: OwnedFd, line: OwnedFd, runtime: impl FnOnce() -> io::Result<Runtime>) -> io::Result<()> {
    let mut line = UnixStream::from(line);
    let mut charter = Charter::from_bytes(&chartered(&mut line)?)?;
    let mut socket = UnixStream::from(socket);
    let hello = greeted(&mut socket)?;
    let refuse = |mut socket: UnixStream, why: String| {
        let ready: Ready = Err(why);
        socket.write_all(&encode(Kind::Ready, 0, 0, &ready, &[]))
    };
    if hello.version != VERSION {
        return refuse(socket, format!("the program was replaced by version {VERSION}: restart the runner"));
    }
    let config = match settled(&charter) {
        Ok(config) => config,
        Err(why) => return refuse(socket, why),
    };
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let opened = Office::open(&config, &mut charter, line.into());
        drop(charter);
        match opened {
            Ok(office) => {
                let link = Arc::new(Link::new(socket, MAX_FROM_BROKER.saturating_mul(2))?);
                let ready: Ready = Ok(());
                link.send(&encode(Kind::Ready, 0, 0, &ready, &[]));
                // Among the runtime's own tasks: whatever happened would have to wake this thread otherwise.
                runtime.spawn(office.serve(link)).await.map_err(io::Error::other)?.map_err(io::Error::other)
            }
            Err(why) => refuse(socket, why),
        }
    });
    // What runs has nobody to tell any more; the launcher ends what was started.
    runtime.shutdown_background();
    served
}

/// What the launcher says first.
fn chartered(line: &mut UnixStream) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut length = [0; 4];
    line.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_CHARTER {
        return Err(io::Error::other("the broker's charter is too long"));
    }
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or_default()]);
    line.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The supervisor's first word. It says no more before it has an answer.
fn greeted(socket: &mut UnixStream) -> io::Result<Hello> {
    let mut frames = Frames::new(64 << 10);
    let mut piece = vec![0; 4 << 10];
    loop {
        if let Some(frame) = frames.next().map_err(io::Error::other)? {
            return frame.head().map_err(io::Error::other);
        }
        match socket.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => frames.buffer.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
}

/// Reads the owner's file and confines this process to what it names, while there is one thread.
fn settled(charter: &Charter) -> Result<Config, String> {
    let config = charter.config()?;
    let reach = Reach::of_broker(&config, charter.credentials());
    confine::confine(Part::Broker, &reach, config.runner.confinement, |lacking| {
        tracing::warn!(%lacking, "the owner lets the broker begin without confinement");
    })
    .map_err(|error| error.to_string())?;
    Ok(config)
}

/// Everything that a broker has.
struct Office {
    ceiling: Ceiling,
    sandbox: Sandbox,
    options: PathBuf,
    dialer: Arc<Dialer>,
    providers: Arc<Providers>,
    /// Opens what was typed, where the owner lets that arrive.
    sealing: Option<Arc<Sealing>>,
    components: HashMap<u32, Result<Arc<Prepared>, Unloadable>>,
    cases: HashMap<u32, Case>,
    admissions: HashMap<u32, Result<Arc<Granted>, Refusal>>,
    runs: HashMap<u32, Cancel>,
}

/// What the runs of one attempt share.
#[derive(Default)]
struct Case {
    redactor: Redactor,
    admissions: Vec<u32>,
}

/// What runs of a component are given.
struct Granted {
    remit: Arc<Remit>,
    secrets: Arc<dyn Resolve>,
    prepared: Arc<Prepared>,
    redactor: Redactor,
    realm: Digest,
}

/// What was done aside.
enum Done {
    Ran(u32, Box<Ended>, Vec<Handed>),
    Known { question: u32, admission: Box<Admission>, granted: Result<Arc<Granted>, Refusal> },
    Warmed(u32, Result<(), Unloadable>),
    Idle(u32),
}

/// Where the log of a run goes: to the supervisor, one frame a line.
struct Sink {
    link: Arc<Link>,
    run: u32,
}

impl LogSink for Sink {
    fn line(&self, line: Line) {
        self.link.send(&line_frame(self.run, line));
    }

    fn progress(&self, done: u64, total: u64) {
        self.link.send(&encode(Kind::Progress, self.run, 0, &(done, total), &[]));
    }
}

fn refusal(code: RefusalCode, detail: impl Into<String>) -> Refusal {
    Refusal { code, detail: detail.into() }
}

impl Office {
    /// Puts a broker together. Call it inside of a runtime.
    fn open(config: &Config, charter: &mut Charter, line: OwnedFd) -> Result<Self, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let orchestrator = &config.orchestrator;
        let dialer =
            start::dialer(&orchestrator.url, orchestrator.proxy.as_ref(), orchestrator.ca_file.as_ref())
                .map_err(|error| words(&error))?;
        let credentials = charter.credentials().map(ToOwned::to_owned);
        let surroundings = Surroundings {
            state: &config.runner.state,
            credentials: credentials.as_deref(),
            dialer: Arc::clone(&dialer),
        };
        let crew = Crew {
            program: charter.program().to_owned(),
            confinement: config.runner.confinement,
            reserved_processors: config.runner.reserved_processors,
        };
        let providers = Providers::open(&config.providers, &surroundings, |name| charter.take(name))
            .map_err(|error| words(&error))?;
        let typed = |provider: &ProviderConfig| matches!(provider, ProviderConfig::Sealed { .. });
        let sealing = match config.providers.iter().any(typed) {
            true => sealing::read(&config.runner.state).map_err(|error| words(&error))?,
            false => None,
        };
        let scratch = config.runner.state.join(crate::state::SCRATCH);
        let launch = Remote::new(Launcher::from(line), scratch.clone()).map_err(|error| words(&error))?;
        let launch: Arc<dyn Launch> = Arc::new(launch);
        providers.start_with(Arc::clone(&launch));
        let settings =
            SandboxConfig { slots: config.runner.slots, scratch, dialer: Arc::clone(&dialer), launch };
        Ok(Self {
            ceiling: config.ceiling.clone(),
            sandbox: Sandbox::with_workers(settings, crew).map_err(|error| words(&error))?,
            options: config.runner.state.join(crate::state::OPTIONS),
            dialer,
            providers: Arc::new(providers),
            sealing: sealing.map(Arc::new),
            components: HashMap::new(),
            cases: HashMap::new(),
            admissions: HashMap::new(),
            runs: HashMap::new(),
        })
    }

    /// Serves until the supervisor is gone.
    async fn serve(mut self, link: Arc<Link>) -> Result<(), Unread> {
        let mut frames = Frames::new(MAX_TO_BROKER);
        let mut tasks = JoinSet::new();
        let providers = Arc::clone(&self.providers);
        let mut kept = pin!(providers.keep());
        let mut flush = pin!(link.flush());
        // A service manager tells every process of a unit to end. The supervisor decides when runs end, and then this does.
        let mut told = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                flushed = &mut flush => return Ok(flushed?),
                frame = link.receive(&mut frames) => match frame? {
                    None => return Ok(()),
                    Some(frame) => self.hear(&frame, &link, &mut tasks)?,
                },
                Some(done) = tasks.join_next() => match done {
                    Ok(done) => self.tell(done, &link),
                    // Its run is given up by the supervisor when it is late.
                    Err(error) => tracing::error!(%error, "a run's task broke off"),
                },
                () = &mut kept => {}
                _ = told.recv() => {}
                _ = interrupted.recv() => {}
            }
        }
    }

    fn tell(&mut self, done: Done, link: &Link) {
        let answer = |question, answer: &Result<(), Unloadable>| {
            link.send(&encode(Kind::Answer, question, 0, answer, &[]));
        };
        match done {
            Done::Ran(run, ended, kept) => {
                self.runs.remove(&run);
                link.send(&ended_frame(run, &ended, &kept));
            }
            Done::Known { question, admission, granted } => {
                let said: Result<(), Refusal> = granted.as_ref().map(|_| ()).map_err(Clone::clone);
                self.keep(&admission, granted);
                link.send(&encode(Kind::Answer, question, 0, &said, &[]));
            }
            Done::Warmed(question, warmed) => answer(question, &warmed),
            Done::Idle(question) => answer(question, &Ok(())),
        }
    }

    fn hear(&mut self, frame: &Frame, link: &Arc<Link>, tasks: &mut JoinSet<Done>) -> Result<(), Broken> {
        match frame.kind {
            Kind::Begin => self.begin(frame, link, tasks)?,
            Kind::Stop => {
                if let Some(cancel) = self.runs.get(&frame.run) {
                    cancel.within(match frame.head()? {
                        Stop::Asked => PATIENCE,
                        Stop::Cut => Duration::ZERO,
                    });
                }
            }
            Kind::Load => {
                let loaded = self.load(frame)?;
                self.components.insert(frame.run, loaded);
            }
            Kind::Unload => drop(self.components.remove(&frame.run)),
            Kind::Warm => self.warm(frame, tasks)?,
            Kind::Admit => self.admit(frame, tasks)?,
            Kind::Forget => {
                let case = self.cases.remove(&frame.head()?).unwrap_or_default();
                case.admissions.iter().for_each(|number| drop(self.admissions.remove(number)));
            }
            Kind::Bar => {
                let addresses: Vec<(IpAddr, u16)> = frame.head()?;
                addresses.into_iter().for_each(|(address, port)| self.dialer.barred().add(address, port));
            }
            Kind::Idle => {
                let (sandbox, question) = (self.sandbox.clone(), frame.run);
                tasks.spawn(async move {
                    sandbox.idle().await;
                    Done::Idle(question)
                });
            }
            other => return Err(Broken(format!("{other:?} is not a supervisor's to say"))),
        }
        Ok(())
    }

    fn load(&self, frame: &Frame) -> Result<Result<Arc<Prepared>, Unloadable>, Broken> {
        let (metering, manifest): Load = frame.head()?;
        let manifest = Manifest::from_slice(manifest.as_bytes())
            .map_err(|error| Broken(format!("{:?}: {error}", frame.kind)))?;
        Ok(self
            .sandbox
            .keep(&frame.bytes, metering, &manifest)
            .map_err(|error| Unloadable { code: Some(error.code), detail: error.detail }))
    }

    fn component(&self, number: u32) -> Result<Arc<Prepared>, Unloadable> {
        let unknown = || Unloadable { code: None, detail: "the broker has no such component".to_owned() };
        self.components.get(&number).cloned().ok_or_else(unknown)?
    }

    fn warm(&self, frame: &Frame, tasks: &mut JoinSet<Done>) -> Result<(), Broken> {
        let component = self.component(frame.head()?);
        let (sandbox, question) = (self.sandbox.clone(), frame.run);
        tasks.spawn(async move {
            let warmed = match component {
                Ok(prepared) => sandbox.warm(&prepared).await.map_err(|error| match error {
                    NoWorker::Unloadable(error) => {
                        Unloadable { code: Some(error.code), detail: error.detail }
                    }
                    error @ NoWorker::Host(_) => Unloadable { code: None, detail: error.to_string() },
                }),
                Err(unloadable) => Err(unloadable),
            };
            Done::Warmed(question, warmed)
        });
        Ok(())
    }

    /// Computes the remit by the owner's ceiling, and has its secrets known to redaction before anything is run.
    fn admit(&mut self, frame: &Frame, tasks: &mut JoinSet<Done>) -> Result<(), Broken> {
        let admission: Box<Admission> = Box::new(frame.head()?);
        let case = self.cases.entry(admission.case).or_default();
        case.admissions.push(admission.number);
        let redactor = case.redactor.clone();
        let granted = self.granted(&admission, redactor);
        match granted {
            Ok(granted) if frame.run != 0 => {
                let question = frame.run;
                tasks.spawn(async move {
                    let known = know(&granted.remit, &*granted.secrets, &granted.redactor).await;
                    let granted =
                        known.map(|()| granted).map_err(|error| refusal(error.code(), format!("{error}.")));
                    Done::Known { question, admission, granted }
                });
            }
            // One that is granted here has no secrets, or its runs would not be redacted.
            Ok(granted) if !granted.remit.secrets().is_empty() => {
                return Err(Broken::new("an admission with secrets for which nobody waits"));
            }
            granted if frame.run == 0 => self.keep(&admission, granted),
            granted => {
                let question = frame.run;
                tasks.spawn(async move { Done::Known { question, admission, granted } });
            }
        }
        Ok(())
    }

    /// Keeps what came of an admission, unless its case is over.
    fn keep(&mut self, admission: &Admission, granted: Result<Arc<Granted>, Refusal>) {
        if self.cases.contains_key(&admission.case) {
            self.admissions.insert(admission.number, granted);
        }
    }

    fn granted(&self, admission: &Admission, redactor: Redactor) -> Result<Arc<Granted>, Refusal> {
        let prepared = self
            .component(admission.component)
            .map_err(|Unloadable { code, detail }| refusal(code.unwrap_or(RefusalCode::Compile), detail))?;
        let subject = Subject { component: prepared.name(), project: &admission.project };
        let (requests, asked) = prepared.asks();
        let remit =
            Remit::compute(subject, requests, asked, &admission.grant, &admission.secrets, &self.ceiling)
                .map_err(|denials| {
                    let lines: Vec<_> = denials.iter().map(ToString::to_string).collect();
                    refusal(RefusalCode::Ceiling, lines.join("\n"))
                })?;
        let digest = remit.digest();
        if digest != admission.remit {
            let detail = "the broker process comes to another remit than the supervisor; restart the runner";
            return Err(refusal(RefusalCode::Ceiling, detail));
        }
        let realm = realm(&admission.project, digest);
        let secrets: Arc<dyn Resolve> = match &admission.typed {
            None => Arc::clone(&self.providers) as Arc<dyn Resolve>,
            Some(typed) => {
                let providers = Arc::clone(&self.providers);
                let with =
                    WithTyped::new(providers, self.sealing.as_ref(), typed.clone(), crate::clock::system);
                Arc::new(with.map_err(|error| refusal(error.code, error.detail))?)
            }
        };
        Ok(Arc::new(Granted { remit: Arc::new(remit), secrets, prepared, redactor, realm }))
    }

    fn begin(&mut self, frame: &Frame, link: &Arc<Link>, tasks: &mut JoinSet<Done>) -> Result<(), Broken> {
        let begin: Begin<'_> = frame.head()?;
        let run = frame.run;
        let granted = match self.admissions.get(&begin.admission) {
            Some(Ok(granted)) => Arc::clone(granted),
            Some(Err(Refusal { code, detail })) => {
                let ended = Ended::refused(*code, detail.clone(), Vec::new());
                link.send(&ended_frame(run, &ended, &[]));
                return Ok(());
            }
            None => return Err(Broken::new("a run of what was not admitted")),
        };
        let cancel = Cancel::new();
        if self.runs.insert(run, cancel.clone()).is_some() {
            return Err(Broken::new("two runs of one number"));
        }
        let invocation = Invocation {
            remit: Arc::clone(&granted.remit),
            files: Arc::new(OptionFiles::lent(begin.files, &self.options)),
            secrets: Arc::clone(&granted.secrets),
            input: frame.text()?,
            context: StepContext {
                execution: begin.execution,
                step: begin.step,
                node: begin.node.map(|node| Arc::new(node.into_owned())),
                try_number: begin.try_number,
                idempotency_key: begin.idempotency_key,
            },
            log: Arc::new(Sink { link: Arc::clone(link), run }),
            cancel,
            redactor: granted.redactor.clone(),
            timeout: begin.timeout,
            realm: granted.realm,
            admitted: None,
        };
        let sandbox = self.sandbox.clone();
        tasks.spawn(async move {
            let mut ended = match granted.prepared.kind() {
                ComponentKind::Step => sandbox.run(&granted.prepared, invocation).await,
                ComponentKind::NodeSource => sandbox.discover(&granted.prepared, invocation).await,
            };
            let handed = hand_over(&mut ended);
            Done::Ran(run, Box::new(ended), handed)
        });
        Ok(())
    }
}
