//! The dispatcher: everything that can happen to the runner is one enum, met in one `select!`.
//!
//! [`core`] decides, this file does: it owns the connection's calls, the attempts' tasks, the journal and the signals.
//! *Must not know:* what a step is, how a component is verified. *Invariant:* what the orchestrator was told is numbered
//! and kept until it says that it has it; nothing begins that is not leased, granted and written down.

mod core;
mod link;
#[cfg(test)]
mod tests;
mod trail;

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use remit_protocol::{
    AttemptId, Session,
    assignment::Assignment,
    capability::{Ceiling, offer::offered},
    endpoint::{Poll, PollAnswer, ReportAnswer, SessionOpened},
};
use tokio::{
    sync::{
        mpsc::{self, UnboundedReceiver},
        watch,
    },
    task::JoinSet,
    time::Instant,
};

use self::core::{Action, Core, Happening, MAX_BACKLOG};
pub use self::{
    core::{Exit, Facts, Order, Said},
    link::HOLDS,
};
use crate::{
    attempt::{self, Gate, Mouth, Reins, Voice, Workshop},
    audit,
    orchestrator::{CallError, Client},
    report::journal::{self, CannotOpen, Journal, Progress},
    sandbox::Cancel,
    state::{State, StateError},
};

/// What is taken note of before anything is done, so that reports carry much at once.
const MAX_AT_ONCE: usize = 1024;

/// Why a runner cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CannotRun {
    /// Its journal.
    #[error(transparent)]
    Journal(#[from] CannotOpen),
    /// Its state directory.
    #[error(transparent)]
    State(#[from] StateError),
}

type Answering<T> = Pin<Box<dyn Future<Output = (Instant, Result<T, CallError>)> + Send>>;

/// A runner that runs.
pub struct Runner {
    core: Core,
    client: Arc<Client>,
    state: Arc<State>,
    workshop: Arc<Workshop>,
    journal: Journal,
    progress: UnboundedReceiver<Progress>,
    mouth: Mouth,
    said: UnboundedReceiver<(AttemptId, Said)>,
    gate: watch::Sender<Gate>,
    tasks: JoinSet<AttemptId>,
    held: HashMap<AttemptId, Held>,
    opening: Option<Answering<SessionOpened>>,
    polling: Option<Answering<PollAnswer>>,
    reporting: Option<Answering<ReportAnswer>>,
    keeping: Option<tokio::task::JoinHandle<Result<(), String>>>,
    /// The session that requests carry.
    session: watch::Sender<Option<Session>>,
    exit: Option<Exit>,
}

/// The dispatcher's end of an attempt's reins.
struct Held {
    begin: watch::Sender<bool>,
    durable: watch::Sender<u64>,
    cancel: Cancel,
    task: tokio::task::Id,
}

impl Runner {
    /// Reads the journal of an earlier process and takes its work up.
    ///
    /// # Errors
    /// [`CannotRun`].
    pub fn new(
        facts: Facts,
        state: Arc<State>,
        workshop: Arc<Workshop>,
        seed: u64,
    ) -> Result<Self, CannotRun> {
        let directory = state.journal();
        let left = journal::read(&directory)?;
        let core = Core::new(facts, state.session()?, &left, Instant::now(), seed);
        let (heard, progress) = mpsc::unbounded_channel();
        let journal = Journal::open(&directory, &core.snapshot(), heard)?;
        let (said, hear) = mpsc::unbounded_channel();
        let mouth = Mouth { said, queued: Arc::new(AtomicUsize::new(0)), clock: workshop.clock };
        Ok(Self {
            core,
            client: Arc::clone(&workshop.client),
            state,
            workshop,
            journal,
            progress,
            mouth,
            said: hear,
            gate: watch::Sender::new(Gate::default()),
            tasks: JoinSet::new(),
            held: HashMap::new(),
            opening: None,
            polling: None,
            reporting: None,
            keeping: None,
            session: watch::Sender::new(None),
            exit: None,
        })
    }

    /// Runs until it is told to stop: each message of `stop` is one wish. Nothing is lost when the future is dropped
    /// instead; the next process finds it in the journal.
    pub async fn run(mut self, mut stop: mpsc::Receiver<()>) -> Exit {
        let mut aside = JoinSet::new();
        let (client, sealed) = (Arc::clone(&self.client), self.workshop.audit.sealed());
        aside.spawn(trail::tell(client, sealed, self.session.subscribe()));
        loop {
            let now = Instant::now();
            self.act(now);
            if let Some(exit) = self.exit.take() {
                return exit;
            }
            self.open_gate();
            let happening = self.next(&mut stop).await;
            self.heard(happening);
        }
    }

    /// Waits for the next thing to happen.
    async fn next(&mut self, stop: &mut mpsc::Receiver<()>) -> Happening {
        let wake = OptionFuture::from(self.core.wake_at().map(tokio::time::sleep_until));
        tokio::select! {
            biased;
            Some(()) = stop.recv() => Happening::Stop,
            Some(progress) = self.progress.recv() => Happening::Journal(progress),
            Some((sent, answer)) = OptionFuture::from(self.opening.as_mut()) => {
                self.opening = None;
                Happening::Opened(sent, answer)
            }
            Some(kept) = OptionFuture::from(self.keeping.as_mut()) => {
                self.keeping = None;
                Happening::SessionKept(kept.unwrap_or_else(|error| Err(error.to_string())))
            }
            Some((sent, answer)) = OptionFuture::from(self.reporting.as_mut()) => {
                self.reporting = None;
                Happening::Reported(sent, answer)
            }
            Some((sent, answer)) = OptionFuture::from(self.polling.as_mut()) => {
                self.polling = None;
                Happening::Polled(sent, answer)
            }
            Some((attempt, said)) = self.said.recv() => self.said(attempt, said),
            Some(ended) = self.tasks.join_next_with_id() => self.task_ended(ended),
            Some(()) = wake => Happening::Time,
        }
    }

    /// Takes note of what happened, and of what the attempts said meanwhile.
    fn heard(&mut self, happening: Happening) {
        let now = Instant::now();
        self.core.on(happening, now);
        for _ in 0..MAX_AT_ONCE {
            let Ok((attempt, said)) = self.said.try_recv() else { break };
            let happening = self.said(attempt, said);
            self.core.on(happening, now);
        }
    }

    fn said(&self, attempt: AttemptId, said: Said) -> Happening {
        if let Said::Log(entry) = &said {
            let size = attempt::size(&entry.text, &entry.fields);
            let _ = self.mouth.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
                Some(queued.saturating_sub(size))
            });
        }
        Happening::Said(attempt, said)
    }

    /// A task that broke off did not say that it is over.
    fn task_ended(
        &mut self,
        ended: Result<(tokio::task::Id, AttemptId), tokio::task::JoinError>,
    ) -> Happening {
        let attempt = match ended {
            Ok((_, attempt)) => Some(attempt),
            Err(error) => {
                tracing::error!(%error, "an attempt's task broke off");
                self.held.iter().find(|(_, held)| held.task == error.id()).map(|(attempt, _)| *attempt)
            }
        };
        match attempt {
            Some(attempt) => {
                self.held.remove(&attempt);
                // Whatever it said before is heard before this.
                let _ = self.mouth.said.send((attempt, Said::Over));
                Happening::Time
            }
            None => Happening::Time,
        }
    }

    fn act(&mut self, now: Instant) {
        for action in self.core.actions(now) {
            match action {
                Action::Open(open) => {
                    let client = Arc::clone(&self.client);
                    self.opening = Some(Box::pin(async move { (Instant::now(), client.open(&open).await) }));
                }
                Action::KeepSession(session) => self.keep_session(session),
                Action::Poll(poll) => self.poll(poll),
                Action::DropPoll => self.polling = None,
                Action::Report(body) => self.report(body),
                Action::Start(assignment) => self.start(assignment),
                Action::Tell(attempt, order) => self.tell(attempt, order),
                Action::Append { frames, ticket, sync } => self.journal.append(frames, ticket, sync),
                Action::Rotate { snapshot, ticket } => self.journal.rotate(snapshot, ticket),
                Action::Exit(exit) => self.exit = self.exit.take().or(Some(exit)),
            }
        }
        if self.journal.wants_rotation(self.core.backlog()) {
            self.core.rotate();
            self.act(now);
        }
    }

    fn keep_session(&mut self, session: Session) {
        self.workshop.audit.note(audit::Event::Session { session });
        let (state, client) = (Arc::clone(&self.state), Arc::clone(&self.client));
        let opened = self.session.clone();
        self.keeping = Some(tokio::task::spawn_blocking(move || {
            state.keep_session(session).map_err(|error| error.to_string())?;
            client.use_session(session);
            opened.send_replace(Some(session));
            Ok(())
        }));
    }

    fn poll(&mut self, poll: Poll) {
        let client = Arc::clone(&self.client);
        self.polling = Some(Box::pin(async move {
            let sent = Instant::now();
            (sent, client.poll(&poll).await)
        }));
    }

    fn report(&mut self, body: Vec<u8>) {
        let client = Arc::clone(&self.client);
        self.reporting = Some(Box::pin(async move {
            let sent = Instant::now();
            (sent, client.report(Bytes::from(body)).await)
        }));
    }

    fn start(&mut self, assignment: Box<Assignment>) {
        let attempt = assignment.attempt;
        tracing::debug!(%attempt, job = %assignment.job, section = %assignment.section, "taking an attempt");
        let (begin, durable, cancel) = (watch::Sender::new(false), watch::Sender::new(0), Cancel::new());
        let reins = Reins {
            begin: begin.subscribe(),
            durable: durable.subscribe(),
            gate: self.gate.subscribe(),
            cancel: cancel.clone(),
        };
        let voice = Arc::new(Voice::new(attempt, self.mouth.clone()));
        let workshop = Arc::clone(&self.workshop);
        let task = self.tasks.spawn(async move {
            attempt::run(workshop, assignment, voice, reins).await;
            attempt
        });
        self.held.insert(attempt, Held { begin, durable, cancel, task: task.id() });
    }

    fn tell(&mut self, attempt: AttemptId, order: Order) {
        let Some(held) = self.held.get(&attempt) else { return };
        match order {
            Order::Begin => {
                held.begin.send_replace(true);
            }
            Order::Durable(event) => {
                held.durable.send_replace(event);
            }
            Order::Cancel(grace) => held.cancel.within(grace.duration()),
        }
    }

    fn open_gate(&self) {
        let full = self.core.backlog() > MAX_BACKLOG || self.journal.queued() > MAX_BACKLOG;
        let gate = Gate { until: self.core.may_begin_until(), full };
        self.gate.send_if_modified(|old| {
            let changed = *old != gate;
            *old = gate;
            changed
        });
    }
}

/// The features that this runner tells of: the capabilities by name, and what its ceiling offers of them.
pub fn features(ceiling: &Ceiling) -> BTreeSet<String> {
    let capabilities = remit_protocol::capability::CAPABILITIES.iter().map(|name| (*name).to_owned());
    capabilities.chain(offered(ceiling)).collect()
}
