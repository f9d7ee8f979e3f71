//! What the runner knows and decides, without sockets, disk or clock: something happens, and actions come out.

mod journal;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use remit_protocol::{
    AttemptId, PROTOCOL, RunnerId, Session, Span,
    assignment::{Assignment, StartMode},
    endpoint::{Command, Held, HeldState, OpenSession, Poll, PollAnswer, ReportAnswer, SessionOpened},
    report::{Event, LogEntry},
};
use tokio::time::Instant;

use super::link::Link;
use crate::{
    orchestrator::{CallError, Standing},
    report::{
        journal::Progress,
        outbox::{Last, Outbox},
        record::{Record, encode},
    },
};

/// Bytes that may be kept for an orchestrator that does not answer; beyond it, work waits.
pub(super) const MAX_BACKLOG: usize = 64 << 20;
/// How long a runner that is told to stop waits for the orchestrator to take its last reports.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// How long steps may tidy up when the runner is told to stop a second time.
const STOP_GRACE: Span = Span::from_secs(10);

/// What the runner is, as it introduces itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its id.
    pub runner: RunnerId,
    /// Its version.
    pub version: String,
    /// Its host's name.
    pub hostname: String,
    /// What it can do.
    pub features: BTreeSet<String>,
    /// Sandboxes at once.
    pub slots: u32,
    /// The note on the key to which secrets for it are sealed.
    pub sealing: Option<String>,
}

/// Everything that can happen to the runner.
pub(super) enum Happening {
    /// The answer to a session's opening.
    Opened(Instant, Result<SessionOpened, CallError>),
    /// The new session is on disk.
    SessionKept(Result<(), String>),
    /// The answer to a poll sent at this time.
    Polled(Instant, Result<PollAnswer, CallError>),
    /// The answer to a report sent at this time.
    Reported(Instant, Result<ReportAnswer, CallError>),
    /// An attempt says something.
    Said(AttemptId, Said),
    /// The journal got further.
    Journal(Progress),
    /// A time that was waited for has come.
    Time,
    /// Somebody wants the runner to stop.
    Stop,
}

/// What an attempt says.
#[derive(Debug)]
pub enum Said {
    /// Everything is prepared: may it begin?
    Ready,
    /// Something that changes the record.
    Event(Event),
    /// A line of a step's log.
    Log(LogEntry),
    /// Its task is over.
    Over,
}

/// What an attempt is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Begin.
    Begin,
    /// The orchestrator has everything up to this event.
    Durable(u64),
    /// Stop: tell the step, and interrupt it when this is over.
    Cancel(Span),
}

/// What the shell does.
#[derive(Debug)]
pub(super) enum Action {
    /// Open a session.
    Open(OpenSession),
    /// Keep a new session's number durably.
    KeepSession(Session),
    /// Park a poll.
    Poll(Poll),
    /// Drop the parked poll.
    DropPoll,
    /// Send a report: the request's body.
    Report(Vec<u8>),
    /// Start an attempt's task.
    Start(Box<Assignment>),
    /// Tell an attempt.
    Tell(AttemptId, Order),
    /// Append to the journal.
    Append { frames: Vec<u8>, ticket: u64, sync: bool },
    /// Begin a new journal file.
    Rotate { snapshot: Vec<u8>, ticket: u64 },
    /// End the program.
    Exit(Exit),
}

/// How the program ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was begun has ended.
    Drained,
    /// It cannot go on; why, and what to do.
    Fatal(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The task verifies and compiles, or ends without beginning.
    Preparing,
    /// The question is asked; it begins when it is granted, and what has to be on disk is there.
    Asking { granted: bool },
    /// It runs, or is over.
    Begun,
}

#[derive(Debug)]
struct Entry {
    outbox: Outbox,
    phase: Phase,
    start: StartMode,
    /// Its task is alive: it holds a slot.
    task: bool,
    /// It was begun by an earlier process.
    interrupted: bool,
    /// The journal's ticket of its beginning.
    begun: u64,
    /// The journal's ticket of its last event.
    last: u64,
    /// Log entries that were cut since the last mark.
    cut: u64,
    cut_at: Option<LogEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Closed,
    Opening,
    Keeping(Session),
    Open(Session),
}

/// The runner without its shell.
pub(super) struct Core {
    facts: Facts,
    last_session: Session,
    connection: Connection,
    pending: Option<SessionOpened>,
    link: Link,
    attempts: BTreeMap<AttemptId, Entry>,
    /// Attempts with something to send.
    dirty: BTreeSet<AttemptId>,
    /// Where the next report goes on, so that no attempt starves.
    turn: Option<AttemptId>,
    ack: u64,
    polling: bool,
    inventory: bool,
    reporting: bool,
    flush_at: Option<Instant>,
    backlog: usize,
    log_backlog: usize,
    frames: Vec<u8>,
    sync: bool,
    ticket: u64,
    durable: u64,
    journaled: u64,
    stops: u32,
    give_up: Option<Instant>,
    actions: Vec<Action>,
}

impl Core {
    /// A runner that had `last_session`, with what its journal still holds.
    pub(super) fn new(facts: Facts, last_session: Session, journal: &[u8], now: Instant, seed: u64) -> Self {
        let mut core = Self {
            facts,
            last_session,
            connection: Connection::Closed,
            pending: None,
            link: Link::new(now, seed),
            attempts: BTreeMap::new(),
            dirty: BTreeSet::new(),
            turn: None,
            ack: 0,
            polling: false,
            inventory: true,
            reporting: false,
            flush_at: None,
            backlog: 0,
            log_backlog: 0,
            frames: Vec::new(),
            sync: false,
            ticket: 0,
            durable: 0,
            journaled: 0,
            stops: 0,
            give_up: None,
            actions: Vec::new(),
        };
        core.restore(journal);
        core
    }

    /// Bytes that are kept for the orchestrator.
    pub(super) fn backlog(&self) -> usize {
        self.backlog
    }

    /// Until when something may begin.
    pub(super) fn may_begin_until(&self) -> Option<Instant> {
        self.link.may_begin_until()
    }

    /// Takes note of what happened and says what to do.
    pub(super) fn on(&mut self, happening: Happening, now: Instant) {
        match happening {
            Happening::Opened(sent, Ok(opened)) => self.opened(opened, sent, now),
            Happening::Opened(_, Err(error)) => {
                self.connection = Connection::Closed;
                self.call_failed(&error, now);
            }
            Happening::SessionKept(kept) => self.session_kept(kept, now),
            Happening::Polled(sent, answer) => self.polled(sent, answer, now),
            Happening::Reported(sent, answer) => self.reported(sent, answer, now),
            Happening::Said(attempt, said) => self.said(attempt, said, now),
            Happening::Journal(progress) => self.journal(progress, now),
            Happening::Time => {}
            Happening::Stop => self.stop(),
        }
    }

    /// What is to be done now, after everything at hand has been taken note of.
    pub(super) fn actions(&mut self, now: Instant) -> Vec<Action> {
        self.connect(now);
        self.park(now);
        self.report(now);
        self.write_journal();
        self.end(now);
        std::mem::take(&mut self.actions)
    }

    /// When [`Happening::Time`] is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let retry = (!self.polling || self.connection == Connection::Closed).then(|| self.link.not_before());
        let flush =
            if self.reporting { None } else { self.flush_at.map(|at| at.max(self.link.not_before())) };
        [retry, flush, self.give_up].into_iter().flatten().min()
    }

    fn session(&self) -> Option<Session> {
        match self.connection {
            Connection::Open(session) => Some(session),
            Connection::Closed | Connection::Opening | Connection::Keeping(_) => None,
        }
    }

    fn connect(&mut self, now: Instant) {
        if self.connection != Connection::Closed || now < self.link.not_before() {
            return;
        }
        self.connection = Connection::Opening;
        let facts = &self.facts;
        self.actions.push(Action::Open(OpenSession {
            runner: facts.runner,
            last: self.last_session,
            protocol: PROTOCOL,
            version: facts.version.clone(),
            hostname: facts.hostname.clone(),
            features: facts.features.clone(),
            slots: facts.slots,
            sealing: facts.sealing.clone(),
            attempts: self.held(),
        }));
    }

    fn held(&self) -> Vec<Held> {
        let held = |(attempt, entry): (&AttemptId, &Entry)| Held {
            attempt: *attempt,
            epoch: entry.outbox.epoch(),
            state: entry.state(),
        };
        self.attempts.iter().map(held).collect()
    }

    fn opened(&mut self, opened: SessionOpened, sent: Instant, now: Instant) {
        self.link.heard(sent, now);
        self.link.opened(opened.hold, opened.lease);
        self.connection = Connection::Keeping(opened.session);
        self.actions.push(Action::KeepSession(opened.session));
        self.pending = Some(opened);
    }

    fn session_kept(&mut self, kept: Result<(), String>, now: Instant) {
        let (Connection::Keeping(session), Some(opened)) = (self.connection, self.pending.take()) else {
            return;
        };
        if let Err(why) = kept {
            self.actions.push(Action::Exit(Exit::Fatal(format!("the new session could not be kept: {why}"))));
            return;
        }
        tracing::info!(%session, name = %opened.name, "connected to the orchestrator");
        self.last_session = session;
        self.connection = Connection::Open(session);
        self.ack = 0;
        self.inventory = true;
        for attempt in opened.forget {
            self.forget(attempt);
        }
        self.dirty = self.attempts.iter().filter(|(_, e)| !e.outbox.is_empty()).map(|(id, _)| *id).collect();
        self.flush_within(Duration::ZERO, now);
    }

    /// A call failed. Some failures cannot be helped by trying again.
    fn call_failed(&mut self, error: &CallError, now: Instant) {
        match error.standing() {
            Standing::Fatal => self.actions.push(Action::Exit(Exit::Fatal(error.to_string()))),
            Standing::NewSession => {
                self.connection = Connection::Closed;
                self.link.failed(now);
            }
            Standing::TryAgain => {
                self.link.failed(now);
                let failures = self.link.failures();
                // The first is often a restart of the other side, and the thousandth tells nothing new.
                if failures == 2 || failures.is_multiple_of(50) {
                    tracing::warn!(%error, failures, "the orchestrator does not answer; work goes on, reports are kept");
                }
            }
        }
    }

    fn park(&mut self, now: Instant) {
        let Some(session) = self.session() else { return };
        if self.polling || now < self.link.not_before() {
            return;
        }
        self.polling = true;
        let attempts = std::mem::take(&mut self.inventory).then(|| self.held());
        self.actions.push(Action::Poll(Poll {
            session,
            ack: self.ack,
            free: self.free(),
            draining: self.stops > 0,
            hold: self.link.hold(),
            attempts,
        }));
    }

    fn free(&self) -> u32 {
        let taken = self.attempts.values().filter(|entry| entry.task).count();
        if self.stops > 0 {
            0
        } else {
            self.facts.slots.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
        }
    }

    fn polled(&mut self, sent: Instant, answer: Result<PollAnswer, CallError>, now: Instant) {
        self.polling = false;
        let answer = match answer {
            Ok(answer) => answer,
            Err(CallError::Cut(_)) => return self.link.poll_cut(now.duration_since(sent), now),
            Err(error) => return self.call_failed(&error, now),
        };
        self.link.heard(sent, now);
        self.link.poll_answered(now);
        self.contacted(now);
        for (number, command) in (answer.first..).zip(answer.commands) {
            if number <= self.ack {
                continue;
            }
            self.ack = number;
            self.command(command);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Run(assignment) => self.run(assignment),
            Command::Cancel { attempt, epoch, grace } => {
                if self.attempts.get(&attempt).is_some_and(|entry| entry.outbox.epoch() == epoch) {
                    self.actions.push(Action::Tell(attempt, Order::Cancel(grace)));
                }
            }
            Command::Forget { attempt } => self.forget(attempt),
            Command::Drain => self.stops = self.stops.max(1),
        }
    }

    fn run(&mut self, assignment: Box<Assignment>) {
        let (attempt, epoch) = (assignment.attempt, assignment.epoch);
        if self.attempts.contains_key(&attempt) {
            return;
        }
        self.attempts.insert(attempt, Entry::new(Outbox::new(attempt, epoch), assignment.start));
        self.actions.push(Action::Start(assignment));
    }

    /// Another epoch is current, or the record is closed: whatever this one still does is of no use.
    fn forget(&mut self, attempt: AttemptId) {
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        entry.outbox = Outbox::restored(attempt, entry.outbox.epoch(), entry.outbox.last_event() + 1, 1);
        entry.interrupted = false;
        if entry.task {
            entry.phase = Phase::Begun;
            entry.superseded();
            self.actions.push(Action::Tell(attempt, Order::Cancel(Span::from_secs(0))));
        } else {
            self.remove(attempt);
        }
        self.dirty.remove(&attempt);
        self.count_backlog();
    }

    fn remove(&mut self, attempt: AttemptId) {
        if self.attempts.remove(&attempt).is_some() {
            self.dirty.remove(&attempt);
            encode(attempt, &Record::Gone, &mut self.frames);
        }
    }

    fn said(&mut self, attempt: AttemptId, said: Said, now: Instant) {
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        if entry.is_superseded() {
            if matches!(said, Said::Over) {
                self.remove(attempt);
            }
            return;
        }
        match said {
            Said::Ready => self.ready(attempt, now),
            Said::Event(event) => self.event(attempt, &event, now),
            Said::Log(entry) => self.log(attempt, &entry, now),
            Said::Over => self.over(attempt, now),
        }
    }

    fn ready(&mut self, attempt: AttemptId, now: Instant) {
        let ticket = self.ticket + 1;
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        entry.begun = ticket;
        let (first_event, first_entry) = (entry.outbox.last_event() + 1, entry.outbox.last_entry() + 1);
        let begun = Record::Begun { epoch: entry.outbox.epoch(), first_event, first_entry };
        encode(attempt, &begun, &mut self.frames);
        self.sync = true;
        entry.phase = Phase::Asking { granted: entry.start == StartMode::Fast };
        if entry.start == StartMode::Guarded {
            // Asking and writing it down go on at the same time; it begins after both.
            entry.outbox.ask_to_begin(ticket);
            self.dirty.insert(attempt);
            self.flush_at = Some(now);
        }
        self.begin_if_due(attempt, now);
    }

    fn begin_if_due(&mut self, attempt: AttemptId, now: Instant) {
        let leased = self.link.may_begin_until().is_some_and(|until| now < until);
        let durable = self.durable;
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        // What may be started fast may also be repeated: a power cut in this moment does no harm.
        let written = entry.start == StartMode::Fast || durable >= entry.begun;
        if leased && written && entry.phase == (Phase::Asking { granted: true }) {
            entry.phase = Phase::Begun;
            self.actions.push(Action::Tell(attempt, Order::Begin));
        }
    }

    /// The orchestrator was heard: attempts that waited for that begin.
    fn contacted(&mut self, now: Instant) {
        let waiting: Vec<AttemptId> = self
            .attempts
            .iter()
            .filter(|(_, entry)| entry.phase == Phase::Asking { granted: true })
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in waiting {
            self.begin_if_due(attempt, now);
        }
    }

    fn granted(&mut self, attempt: AttemptId, now: Instant) {
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        entry.outbox.begun();
        if let Phase::Asking { granted } = &mut entry.phase {
            *granted = true;
        }
        self.begin_if_due(attempt, now);
    }

    fn stop(&mut self) {
        self.stops += 1;
        if self.stops == 1 {
            tracing::info!("stopping: no new work is taken, what runs is ended and reported");
        } else {
            tracing::info!("stopping now: what runs is cancelled");
            let tell = |attempt: &AttemptId| Action::Tell(*attempt, Order::Cancel(STOP_GRACE));
            self.actions.extend(self.attempts.keys().map(tell));
        }
        // The parked poll still offers slots.
        if self.polling {
            self.polling = false;
            self.actions.push(Action::DropPoll);
        }
    }

    /// Ends the program when it was told to stop and everything is over; what the orchestrator did not take by then is in
    /// the journal.
    fn end(&mut self, now: Instant) {
        if self.stops == 0 || self.attempts.values().any(|entry| entry.task) {
            return;
        }
        let give_up = *self.give_up.get_or_insert(now + LAST_WORDS);
        if self.attempts.is_empty() || now >= give_up {
            self.actions.push(Action::Exit(Exit::Drained));
        }
    }
}

impl Entry {
    fn new(outbox: Outbox, start: StartMode) -> Self {
        Self {
            outbox,
            phase: Phase::Preparing,
            start,
            task: true,
            interrupted: false,
            begun: 0,
            last: 0,
            cut: 0,
            cut_at: None,
        }
    }

    fn restored(outbox: Outbox) -> Self {
        Self { phase: Phase::Begun, task: false, ..Self::new(outbox, StartMode::Guarded) }
    }

    fn state(&self) -> HeldState {
        match self.phase {
            _ if self.interrupted => HeldState::Interrupted,
            _ if self.outbox.finished() => HeldState::Finished,
            Phase::Preparing | Phase::Asking { .. } if self.start == StartMode::Guarded => HeldState::Leased,
            Phase::Preparing | Phase::Asking { .. } | Phase::Begun => HeldState::Running,
        }
    }

    /// The last event leaves only after it is on disk here, or where repeating the work would do no harm.
    fn last_word(&self, durable: u64) -> Last {
        if self.start == StartMode::Fast || durable >= self.last { Last::Sent } else { Last::Kept }
    }

    fn superseded(&mut self) {
        self.last = u64::MAX;
    }

    fn is_superseded(&self) -> bool {
        self.last == u64::MAX
    }
}
