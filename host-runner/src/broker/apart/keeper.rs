//! The supervisor's side: a broker is there, another one when that has ended, and runs are given to it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use remit_protocol::{
    Digest, ProjectName, RefusalCode, SecretName, SecretPath,
    capability::{Grant, Remit},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Admission, Begin, Load, Refusal, Stop, Unloadable,
    living::{self, Living, Started},
};
use crate::{
    dial::Dialer,
    frames::{Kind, encode},
    launcher::Launch,
    sandbox::{Cancel, Ended, Invocation, LoadError, Metering, cancelled, fault},
    secrets::TypedSecrets,
    state,
    worker::NoWorker,
};

/// How long a run waits for a broker that is being started.
const PATIENCE: Duration = Duration::from_secs(30);
/// Brokers that may end in so long a time before the next one waits.
const DEATHS: usize = 5;
const MINUTE: Duration = Duration::from_secs(60);
/// How long is waited after a broker that did not begin.
const AGAIN: Duration = Duration::from_secs(5);
/// How much later than it should a broker may say that a run ended; then it is ended itself. Its workers are late before.
const LATE: Duration = Duration::from_secs(20);

/// How brokers are started.
pub struct Plan {
    /// The `remit-runner` that is started.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Starts it.
    pub launch: Arc<dyn Launch>,
    /// Where steps have their directories: a broker that ended leaves its own behind.
    pub scratch: PathBuf,
    /// Knows where the orchestrator is.
    pub dialer: Arc<Dialer>,
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
#[error("the broker process does not begin: {0}")]
pub struct NoBroker(#[source] io::Error);

/// The broker process of a runner. It ends when this is dropped.
pub struct Keeper {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    plan: Plan,
    living: watch::Sender<Option<Arc<Living>>>,
    components: AtomicU32,
    cases: AtomicU32,
    admissions: AtomicU32,
}

/// A component that brokers can be given.
pub(crate) struct Component {
    number: u32,
    /// Native code, in memory that cannot be changed any more.
    code: OwnedFd,
    metering: Metering,
    manifest: Vec<u8>,
    home: Weak<Shared>,
}

impl Drop for Component {
    fn drop(&mut self) {
        if let Some(shared) = self.home.upgrade()
            && let Some(living) = shared.living.borrow().as_ref()
        {
            living.unload(self.number);
        }
    }
}

/// What shares the secrets that redaction looks for: an attempt. Its broker forgets them when it is dropped.
pub struct Case {
    number: u32,
    shared: Arc<Shared>,
}

impl Drop for Case {
    fn drop(&mut self) {
        if let Some(living) = self.shared.living.borrow().as_ref() {
            living.link.send(&encode(Kind::Forget, 0, 0, &self.number, &[]));
        }
    }
}

/// What runs of a component are given in a case, as a broker knows it.
#[derive(Clone)]
pub struct Admitted(Arc<Inner>);

struct Inner {
    component: Arc<Component>,
    admission: Admission,
    /// It uses secrets, so that it takes time and can fail.
    waits: bool,
    /// The broker that knows it.
    at: tokio::sync::Mutex<Weak<Living>>,
    /// Lives at least as long.
    _case: Arc<Case>,
}

/// Why something was not admitted, or no longer is.
enum NotAdmitted {
    Refused(Refusal),
    Gone(String),
}

impl Keeper {
    /// Starts a broker, and keeps one there from then on. Call it inside of a runtime.
    ///
    /// # Errors
    /// The first one does not begin.
    pub async fn start(plan: Plan) -> Result<Self, NoBroker> {
        let first = living::start(&plan).await.map_err(NoBroker)?;
        let shared = Arc::new(Shared {
            plan,
            living: watch::Sender::new(Some(Arc::clone(&first.living))),
            components: AtomicU32::new(1),
            cases: AtomicU32::new(1),
            admissions: AtomicU32::new(1),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(keep(Arc::clone(&shared), first));
        tasks.spawn(bar(Arc::clone(&shared)));
        Ok(Self { shared, _tasks: tasks })
    }

    /// A component whose native code is in `code`, sealed memory.
    pub(crate) fn component(&self, code: OwnedFd, metering: Metering, manifest: Vec<u8>) -> Component {
        let number = self.shared.components.fetch_add(1, Ordering::Relaxed);
        Component { number, code, metering, manifest, home: Arc::downgrade(&self.shared) }
    }

    /// A new case.
    pub fn case(&self) -> Arc<Case> {
        let number = self.shared.cases.fetch_add(1, Ordering::Relaxed);
        Arc::new(Case { number, shared: Arc::clone(&self.shared) })
    }

    /// Has a worker of the broker load a component.
    pub(crate) async fn warm(&self, component: &Component) -> Result<(), NoWorker> {
        let host = |why: String| NoWorker::Host(io::Error::other(why));
        let living = self.shared.living(&Cancel::new()).await.map_err(host)?;
        component.at(&living)?;
        let answer = living.ask(|number| encode(Kind::Warm, number, 0, &component.number, &[])).await;
        let answer = answer.map_err(|gone| host(told(&gone)))?;
        match answer.head::<Result<(), Unloadable>>().map_err(io::Error::other)? {
            Ok(()) => Ok(()),
            Err(Unloadable { code: Some(code), detail }) => {
                Err(NoWorker::Unloadable(LoadError { code, detail }))
            }
            Err(Unloadable { code: None, detail }) => Err(host(detail)),
        }
    }

    /// Has the broker run what was admitted, once.
    pub(crate) async fn run(&self, admitted: &Admitted, invocation: Invocation) -> Ended {
        let (cancel, wall) = (invocation.cancel.clone(), invocation.wall());
        let living = match self.shared.living(&cancel).await {
            Ok(living) => living,
            Err(_) if cancel.is_cancelled() => return cancelled(),
            Err(why) => return fault(&why),
        };
        match admitted.0.at(&living).await {
            Ok(()) => {}
            Err(NotAdmitted::Refused(Refusal { code, detail })) => {
                return Ended::refused(code, detail, Vec::new());
            }
            Err(NotAdmitted::Gone(gone)) => return fault(&told(&gone)),
        }
        self.shared.bar(&living);
        let (mut place, mut ended) = living.run(Arc::clone(&invocation.log));
        living.link.send(&begin(place.number, admitted, &invocation));
        let mut last = Instant::now() + wall.duration() + LATE;
        let number = place.number;
        let tell = |stop: Stop| {
            living.link.send(&encode(Kind::Stop, number, 0, &stop, &[]));
            Some(stop)
        };
        let mut said = None;
        loop {
            tokio::select! {
                biased;
                ended = &mut ended => {
                    place.answered = true;
                    return match ended {
                        Ok(ended) => ended,
                        Err(_) => fault(&told(&living.obituary().await)),
                    };
                }
                () = cancel.cancelled(), if said.is_none() => said = tell(Stop::Asked),
                () = cancel.over(), if said == Some(Stop::Asked) => {
                    said = tell(Stop::Cut);
                    last = last.min(Instant::now() + LATE);
                }
                () = sleep_until(last) => {
                    living.kill("it did not end a run in time");
                    // Its end is told in a moment.
                    last += MINUTE;
                }
            }
        }
    }

    /// Waits until nothing that steps have started is running any more.
    pub(crate) async fn idle(&self) {
        let living = self.shared.living.borrow().clone();
        if let Some(living) = living {
            let _ = living.ask(|number| encode(Kind::Idle, number, 0, &(), &[])).await;
        }
    }
}

impl Case {
    /// Admits runs of a component with this grant and these secrets, some of which were typed, for which the supervisor has
    /// computed `remit`. Secrets that cannot be had are told now.
    ///
    /// # Errors
    /// The broker's refusal, or there is no broker: the host's fault, without a code.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        component: &Arc<Component>,
        project: &ProjectName,
        (grant, secrets): (&Grant, &BTreeMap<SecretName, Vec<SecretPath>>),
        typed: Option<TypedSecrets>,
        (remit, digest): (&Remit, Digest),
    ) -> Result<Admitted, (Option<RefusalCode>, String)> {
        let admission = Admission {
            number: self.shared.admissions.fetch_add(1, Ordering::Relaxed),
            case: self.number,
            component: component.number,
            project: project.clone(),
            grant: grant.clone(),
            secrets: secrets.clone(),
            remit: digest,
            typed,
        };
        let admitted = Admitted(Arc::new(Inner {
            component: Arc::clone(component),
            admission,
            waits: !remit.secrets().is_empty(),
            at: tokio::sync::Mutex::new(Weak::new()),
            _case: Arc::clone(self),
        }));
        let living = self.shared.living(&Cancel::new()).await.map_err(|why| (None, why))?;
        admitted.0.at(&living).await.map_err(|not| match not {
            NotAdmitted::Refused(Refusal { code, detail }) => (Some(code), detail),
            NotAdmitted::Gone(gone) => (None, told(&gone)),
        })?;
        Ok(admitted)
    }
}

impl Inner {
    /// Sees to it that the broker knows it: one that was started meanwhile does not.
    async fn at(&self, living: &Arc<Living>) -> Result<(), NotAdmitted> {
        let mut at = self.at.lock().await;
        if at.upgrade().is_some_and(|known| Arc::ptr_eq(&known, living)) {
            return Ok(());
        }
        self.component.at(living).map_err(|error| NotAdmitted::Gone(error.to_string()))?;
        let frame = |number| encode(Kind::Admit, number, 0, &self.admission, &[]);
        if self.waits {
            let answer = living.ask(frame).await.map_err(NotAdmitted::Gone)?;
            let answer: Result<(), Refusal> =
                answer.head().map_err(|broken| NotAdmitted::Gone(broken.to_string()))?;
            answer.map_err(NotAdmitted::Refused)?;
        } else {
            // Nobody waits: a run of what is refused is refused.
            living.link.send(&frame(0));
        }
        *at = Arc::downgrade(living);
        Ok(())
    }
}

impl Component {
    /// Sees to it that the broker has it.
    fn at(&self, living: &Living) -> io::Result<()> {
        living.load(self.number, || {
            let code = File::from(self.code.try_clone()?);
            let mut native = vec![0; usize::try_from(code.metadata()?.len()).unwrap_or(usize::MAX)];
            code.read_exact_at(&mut native, 0)?;
            let head: Load = (self.metering, String::from_utf8_lossy(&self.manifest).into_owned());
            Ok(encode(Kind::Load, self.number, 0, &head, &native))
        })
    }
}

fn begin(number: u32, admitted: &Admitted, invocation: &Invocation) -> Vec<u8> {
    let context = &invocation.context;
    let begin = Begin {
        admission: admitted.0.admission.number,
        execution: context.execution,
        step: context.step.clone(),
        node: context.node.as_deref().map(Cow::Borrowed),
        try_number: context.try_number,
        idempotency_key: context.idempotency_key.clone(),
        timeout: invocation.timeout,
        files: invocation.files.names(),
    };
    encode(Kind::Begin, number, 0, &begin, invocation.input.as_bytes())
}

fn told(gone: &str) -> String {
    format!("the broker process of this runner is gone, and another one is started: {gone}")
}

impl Shared {
    /// The broker that lives now, or that is started in a moment.
    async fn living(&self, cancel: &Cancel) -> Result<Arc<Living>, String> {
        if let Some(living) = self.living.borrow().clone() {
            return Ok(living);
        }
        let mut watching = self.living.subscribe();
        tokio::select! {
            biased;
            // This holds the sender, so that there is no end of changes.
            found = watching.wait_for(Option::is_some) => {
                let found = found.ok().and_then(|living| living.clone());
                found.ok_or_else(|| "there is no broker process any more".to_owned())
            }
            () = cancel.cancelled() => Err("it was cancelled before there was a broker process".to_owned()),
            () = sleep(PATIENCE) => {
                Err("there is no broker process; the runner's own log says why".to_owned())
            }
        }
    }

    /// Tells a broker where the orchestrator is.
    fn bar(&self, living: &Living) {
        let barred = self.plan.dialer.barred();
        living.bar(|| barred.addresses(), barred.count());
    }
}

/// Tells the broker of each address at which the orchestrator is found, when it is.
async fn bar(shared: Arc<Shared>) {
    let mut found = shared.plan.dialer.barred().changes();
    let mut living = shared.living.subscribe();
    loop {
        if let Some(living) = living.borrow_and_update().as_ref() {
            shared.bar(living);
        }
        tokio::select! {
            changed = found.changed() => if changed.is_err() { return },
            changed = living.changed() => if changed.is_err() { return },
        }
    }
}

/// Hears one broker after the other.
async fn keep(shared: Arc<Shared>, first: Started) {
    let mut deaths = VecDeque::new();
    let mut started = first;
    loop {
        let living = Arc::clone(&started.living);
        let gone = started.attend().await;
        shared.living.send_replace(None);
        drop(living);
        tracing::error!(gone, "the broker process has ended; its runs have failed, and it is started again");
        deaths.push_back(Instant::now());
        if deaths.len() > DEATHS {
            deaths.pop_front();
        }
        if deaths.len() == DEATHS
            && let Some(oldest) = deaths.front()
        {
            sleep_until(*oldest + MINUTE).await;
        }
        started = loop {
            match again(&shared.plan).await {
                Ok(started) => break started,
                Err(error) => {
                    tracing::error!(%error, "no broker process; steps that ask for anything wait or fail");
                    sleep(AGAIN).await;
                }
            }
        };
        shared.living.send_replace(Some(Arc::clone(&started.living)));
    }
}

/// Starts the next one, where the last one may have left something.
async fn again(plan: &Plan) -> Result<Started, NoBroker> {
    let scratch = plan.scratch.clone();
    let emptied = tokio::task::spawn_blocking(move || state::make_empty(&scratch)).await;
    emptied.map_err(io::Error::other).and_then(|done| done.map_err(io::Error::other)).map_err(NoBroker)?;
    living::start(plan).await.map_err(NoBroker)
}
