//! The scheduler beside a clock that is moved by hand and runners in memory.

mod again;
mod clockwork;
mod dispatch;
mod fault;
mod flow;
mod life;
mod log;
mod notice;
mod sealed;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use remit_job::document::Document;
use remit_protocol::{
    AttemptId, Description, Epoch, NodeIndex, Outcome, Session, Span, StepIndex,
    assignment::{Assignment, StartMode},
    endpoint::{Command, Held, HeldState, OpenSession, Poll, Report},
    node::{Node, NodeSet},
    operator::{CancelMode, Decision, Projects},
    report::{AttemptReply, AttemptReport, Event, Level, LogEntry, StepEnded, Verdict},
};

use super::*;
use crate::{
    execution::{ExecutionState, SectionState, samples},
    store::{
        Enrolment, ExecutionRecord, LogFilter, NewRevision, NewRunner, NewTicket, Project, ResultFilter,
    },
};

/// A clock that is moved by hand.
#[derive(Default)]
struct Manual {
    wall: AtomicU64,
    steady: AtomicU64,
    random: AtomicU64,
}

impl Surroundings for Arc<Manual> {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.steady.load(Ordering::SeqCst))
    }
    fn random(&self) -> u128 {
        u128::from(self.random.fetch_add(1, Ordering::SeqCst))
    }
}

struct House {
    directory: tempfile::TempDir,
    clock: Arc<Manual>,
    store: Arc<Store>,
    scheduler: Scheduler,
}

struct Fake {
    id: RunnerId,
    session: Session,
    ack: u64,
}

impl House {
    async fn new(document: Document) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(Manual::default());
        clock.wall.store(1_795_000_000_000, Ordering::SeqCst);
        clock.steady.store(1_000_000, Ordering::SeqCst);
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let scheduler = Scheduler::start(Arc::clone(&store), Arc::clone(&clock)).await.unwrap();
        let house = Self { directory, clock, store, scheduler };
        let project = Project {
            name: "ops".parse().unwrap(),
            description: Description::default(),
            created: house.clock.now(),
            settings: Default::default(),
        };
        house.store.create_project(project).await.unwrap();
        house.job(&document).await;
        house
    }

    /// Saves a job.
    async fn job(&self, document: &Document) {
        let bytes = document.to_vec();
        let revision = NewRevision {
            project: "ops".parse().unwrap(),
            job: document.job.clone(),
            document: self.store.blobs().put(bytes).await.unwrap(),
            note: None,
            source: String::new(),
            group: String::new(),
            description: String::new(),
            schedules: document.schedules.clone(),
            by: "test".to_owned(),
            at: self.clock.now(),
        };
        self.store.save_job(revision).await.unwrap();
    }

    /// The orchestrator stops and begins anew on the same data.
    async fn restart(self) -> Self {
        let Self { directory, clock, store, scheduler } = self;
        drop(scheduler);
        drop(store);
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let scheduler = Scheduler::start(Arc::clone(&store), Arc::clone(&clock)).await.unwrap();
        Self { directory, clock, store, scheduler }
    }

    async fn later(&self, seconds: u64) {
        self.clock.wall.fetch_add(seconds * 1000, Ordering::SeqCst);
        self.clock.steady.fetch_add(seconds * 1000, Ordering::SeqCst);
        self.scheduler.reconcile().await.unwrap();
    }

    /// A runner that has enrolled and opened its first session.
    async fn runner(&self, name: &str) -> Fake {
        let id = RunnerId::from_parts(self.clock.now(), self.clock.random());
        let at = self.clock.now();
        let new = NewRunner {
            id,
            name: name.parse().unwrap(),
            local: true,
            tags: BTreeSet::new(),
            projects: Projects::All,
            description: Description::default(),
            at,
        };
        self.store.create_runner(new).await.unwrap();
        let ticket = remit_protocol::TicketId::from_parts(at, self.clock.random());
        let expires = at.plus(Duration::from_secs(3600));
        self.store.create_ticket(NewTicket { id: ticket, runner: id, key: [1; 32], expires }).await.unwrap();
        self.store.enrol(Enrolment { ticket, key: [2; 32], at }).await.unwrap();
        self.scheduler.runner_changed(id).await.unwrap();
        let mut fake = Fake { id, session: Session(0), ack: 0 };
        fake.open(self, vec![]).await.unwrap();
        fake.peek(self).await.unwrap();
        fake
    }

    async fn trigger(&self) -> ExecutionId {
        self.scheduler.trigger(sample()).await.unwrap().execution
    }

    async fn nodes(&self, count: u32) {
        let nodes = (0..count).map(|number| Node {
            name: format!("n{number:05}").parse().unwrap(),
            tags: BTreeSet::new(),
            attributes: BTreeMap::new(),
        });
        let set = NodeSet { nodes: nodes.collect() };
        let stored = self.store.blobs().put(serde_json::to_vec(&set).unwrap()).await.unwrap();
        let (project, name) = ("ops".parse().unwrap(), "loaded".parse().unwrap());
        self.store.load_nodes(&project, &name, stored, count, self.clock.now()).await.unwrap();
    }

    async fn record(&self, id: ExecutionId) -> ExecutionRecord {
        self.store.execution(id).await.unwrap().unwrap()
    }

    async fn expect(&self, id: ExecutionId, state: ExecutionState) -> ExecutionRecord {
        let record = self.record(id).await;
        assert_eq!(record.state, state, "{record:#?}");
        record
    }

    async fn ended(&self, id: ExecutionId, outcome: Outcome) -> ExecutionRecord {
        self.expect(id, ExecutionState::Ended(outcome)).await
    }

    async fn results(&self, id: ExecutionId) -> Vec<(Option<u32>, Outcome)> {
        let filter = ResultFilter { limit: 1000, ..ResultFilter::default() };
        let results = self.store.results(id, filter).await.unwrap();
        results.into_iter().map(|r| (r.ended.node.map(|node| node.0), r.ended.outcome)).collect()
    }
}

impl Fake {
    async fn open(&mut self, house: &House, attempts: Vec<Held>) -> Result<Vec<AttemptId>, SessionError> {
        let open = OpenSession {
            runner: self.id,
            last: self.session,
            protocol: 1,
            version: "0.1.0".to_owned(),
            hostname: "h".to_owned(),
            features: BTreeSet::new(),
            slots: 4,
            sealing: None,
            attempts,
        };
        let opened = house.scheduler.open_session(open).await?;
        self.session = opened.session;
        self.ack = 0;
        Ok(opened.forget)
    }

    /// Polls without acknowledging what comes.
    async fn peek(&self, house: &House) -> Result<(u64, Vec<Command>), SessionError> {
        let poll = Poll {
            session: self.session,
            ack: self.ack,
            free: 4,
            draining: false,
            hold: Span::from_millis(0),
            attempts: None,
        };
        let answer = house.scheduler.poll(self.id, poll).await?;
        Ok((answer.first, answer.commands))
    }

    async fn poll(&mut self, house: &House) -> Vec<Command> {
        let (first, commands) = self.peek(house).await.unwrap();
        if !commands.is_empty() {
            assert_eq!(first, self.ack + 1);
            self.ack += commands.len() as u64;
        }
        commands
    }

    /// Polls for the one assignment that there has to be.
    async fn assigned(&mut self, house: &House) -> Assignment {
        let mut commands = self.poll(house).await;
        match (commands.pop(), commands.is_empty()) {
            (Some(Command::Run(assignment)), true) => *assignment,
            other => panic!("expected one assignment, found {other:?}"),
        }
    }

    async fn say(&self, house: &House, report: AttemptReport) -> Result<AttemptReply, SessionError> {
        let report = Report { session: self.session, attempts: vec![report] };
        Ok(house.scheduler.report(self.id, report).await?.attempts.remove(0))
    }

    async fn start(&self, house: &House, assignment: &Assignment, nonce: u64) -> Option<Verdict> {
        let report = AttemptReport { start: Some(nonce), ..about(assignment) };
        self.say(house, report).await.unwrap().verdict
    }

    async fn finish(&self, house: &House, assignment: &Assignment, outcome: Outcome) -> AttemptReply {
        let events = vec![ended(0, None, outcome), finished(outcome)];
        self.say(house, AttemptReport { first_event: 1, events, ..about(assignment) }).await.unwrap()
    }
}

/// The job that every house has, as `test` runs it.
fn sample() -> Trigger {
    let (project, job) = ("ops".parse().unwrap(), "sample".parse().unwrap());
    Trigger::of(project, job, BTreeMap::new(), "test".to_owned())
}

fn about(assignment: &Assignment) -> AttemptReport {
    AttemptReport {
        attempt: assignment.attempt,
        epoch: assignment.epoch,
        start: None,
        first_event: 0,
        events: vec![],
        first_entry: 0,
        log: vec![],
    }
}

fn ended(step: u32, node: Option<u32>, outcome: Outcome) -> Event {
    Event::StepEnded(Box::new(StepEnded {
        step: StepIndex(step),
        node: node.map(NodeIndex),
        outcome,
        tries: 1,
        started: Timestamp::from_millis(1),
        ended: Timestamp::from_millis(2),
        output: None,
        message: String::new(),
        usage: None,
        remit: None,
        artifacts: Vec::new(),
    }))
}

fn finished(outcome: Outcome) -> Event {
    Event::Finished { outcome, message: String::new(), log_entries: 0, nodes: None, result: None }
}

fn line(text: &str) -> LogEntry {
    LogEntry {
        at: Timestamp::from_millis(1),
        step: StepIndex(0),
        node: None,
        level: Level::Info,
        text: text.to_owned(),
        fields: vec![],
    }
}

fn held(assignment: &Assignment, state: HeldState) -> Held {
    Held { attempt: assignment.attempt, epoch: assignment.epoch, state }
}
