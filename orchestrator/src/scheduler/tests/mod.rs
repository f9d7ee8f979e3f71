//! The failure cases of the runner protocol, with a clock that is moved by hand and runners in memory.

mod again;
mod clockwork;
mod dispatch;
mod flow;
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

#[tokio::test]
async fn a_job_runs_from_trigger_to_outcome() {
    let house = House::new(samples::steps(&["pure", "effect"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let first = runner.assigned(&house).await;
    assert_eq!((first.start, first.epoch), (StartMode::Fast, Epoch(1)));
    let reply = runner.finish(&house, &first, Outcome::Succeeded).await;
    assert_eq!((reply.events, reply.verdict), (2, None));
    let second = runner.assigned(&house).await;
    assert_eq!(second.start, StartMode::Guarded);
    assert_eq!(second.earlier.len(), 1);
    assert_eq!(runner.start(&house, &second, 7).await, Some(Verdict::Begin));
    let events = vec![ended(1, None, Outcome::Failed), finished(Outcome::Failed)];
    let report = AttemptReport { first_event: 1, events, ..about(&second) };
    runner.say(&house, report).await.unwrap();
    let record = house.ended(id, Outcome::Failed).await;
    assert_eq!(record.steps.len(), 2);
    assert!(house.scheduler.why_waiting(id).is_empty());
    let feed = house.store.events_after(id, 0).await.unwrap();
    assert_eq!(
        feed.iter().map(|entry| entry.number).collect::<Vec<_>>(),
        (1..=record.last_event).collect::<Vec<_>>()
    );
    assert_eq!(house.store.events_after(id, record.last_event - 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn f1_an_offer_is_repeated_until_it_is_acknowledged_and_withdrawn_when_its_lease_ends() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut one = house.runner("one").await;
    let id = house.trigger().await;
    let (first, again) = (one.peek(&house).await.unwrap(), one.peek(&house).await.unwrap());
    assert_eq!(first, again);
    assert_eq!(first.1.len(), 1);
    let lost = one.assigned(&house).await;
    house.later(89).await;
    assert_eq!(house.record(id).await.sections[0].state, SectionState::Leased);
    let mut two = house.runner("two").await;
    house.later(1).await;
    let offer = two.assigned(&house).await;
    assert_eq!(offer.epoch, Epoch(2));
    assert_eq!(two.start(&house, &offer, 1).await, Some(Verdict::Begin));
    assert_eq!(one.start(&house, &lost, 1).await, Some(Verdict::Superseded));
    two.finish(&house, &offer, Outcome::Succeeded).await;
    house.ended(id, Outcome::Succeeded).await;
}

#[tokio::test]
async fn f2_the_same_question_has_the_same_answer_and_another_has_none() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut runner = house.runner("one").await;
    house.trigger().await;
    let assignment = runner.assigned(&house).await;
    assert_eq!(runner.start(&house, &assignment, 5).await, Some(Verdict::Begin));
    assert_eq!(runner.start(&house, &assignment, 5).await, Some(Verdict::Begin));
    assert_eq!(runner.start(&house, &assignment, 6).await, Some(Verdict::Superseded));
    let wrong = Assignment { epoch: Epoch(9), ..assignment };
    assert_eq!(runner.start(&house, &wrong, 5).await, Some(Verdict::Superseded));
}

#[tokio::test]
async fn f3_f4_a_start_whose_runner_is_gone_is_held_and_never_silently_run_again() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.start(&house, &assignment, 1).await;
    house.later(91).await;
    house.expect(id, ExecutionState::Held).await;
    let mut other = house.runner("two").await;
    house.later(3600).await;
    assert!(other.poll(&house).await.is_empty());
    let waiting = house.scheduler.why_waiting(id);
    assert!(waiting[0].reason.to_string().contains("decide"), "{waiting:?}");
    let section = waiting[0].section.unwrap();
    house.scheduler.decide(id, section, Decision::Rerun, "ann").await.unwrap();
    let again = other.assigned(&house).await;
    assert_eq!(again.epoch, Epoch(2));
    other.start(&house, &again, 1).await;
    other.finish(&house, &again, Outcome::Succeeded).await;
    house.ended(id, Outcome::Succeeded).await;
}

#[tokio::test]
async fn f4_what_may_be_repeated_is_tried_again_later_up_to_a_bound() {
    let house = House::new(samples::steps(&["read"])).await;
    let id = house.trigger().await;
    for epoch in 1..=3 {
        let mut runner = house.runner(&format!("r{epoch}")).await;
        house.later(30).await;
        runner.poll(&house).await;
        let record = house.record(id).await;
        assert_eq!(record.sections[0].epoch, Epoch(epoch), "{record:#?}");
        house.later(91).await;
    }
    let record = house.ended(id, Outcome::Lost).await;
    assert_eq!(record.attempts.len(), 3);
}

#[tokio::test]
async fn f4_nodes_keep_their_results_and_only_those_in_flight_are_in_doubt() {
    let house = House::new(samples::node_step("effect")).await;
    house.nodes(5).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    assert_eq!(assignment.nodes.as_ref().unwrap().ranges, [(0, 5)]);
    runner.start(&house, &assignment, 1).await;
    let events = vec![
        Event::Dispatched { nodes: vec![NodeIndex(0), NodeIndex(1)] },
        ended(0, Some(0), Outcome::Succeeded),
    ];
    runner.say(&house, AttemptReport { first_event: 1, events, ..about(&assignment) }).await.unwrap();
    house.later(91).await;
    house.expect(id, ExecutionState::Held).await;
    let house = house.restart().await;
    house.later(91).await;
    let section = house.scheduler.why_waiting(id)[0].section.unwrap();
    house.scheduler.decide(id, section, Decision::Failed, "ann").await.unwrap();
    assert_eq!(house.results(id).await, [(Some(0), Outcome::Succeeded), (Some(1), Outcome::Failed)]);
    // With keep_going the nodes that nobody had begun are still run.
    let mut other = house.runner("two").await;
    let rest = other.assigned(&house).await;
    assert_eq!(rest.nodes.as_ref().unwrap().ranges, [(2, 5)]);
    other.start(&house, &rest, 1).await;
    let mut events: Vec<Event> = (2..5).map(|node| ended(0, Some(node), Outcome::Succeeded)).collect();
    events.push(finished(Outcome::Succeeded));
    other.say(&house, AttemptReport { first_event: 1, events, ..about(&rest) }).await.unwrap();
    house.ended(id, Outcome::Failed).await;
    assert_eq!(house.results(id).await.len(), 5);
}

#[tokio::test]
async fn f5_a_runner_that_restarts_reports_what_was_interrupted() {
    let house = House::new(samples::node_step("idempotent")).await;
    house.nodes(3).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.start(&house, &assignment, 1).await;
    let forget = runner.open(&house, vec![held(&assignment, HeldState::Interrupted)]).await.unwrap();
    assert!(forget.is_empty());
    let events = vec![
        Event::Dispatched { nodes: vec![NodeIndex(0), NodeIndex(1)] },
        ended(0, Some(0), Outcome::Succeeded),
        finished(Outcome::Interrupted),
    ];
    runner.say(&house, AttemptReport { first_event: 1, events, ..about(&assignment) }).await.unwrap();
    house.later(5).await;
    let rest = runner.assigned(&house).await;
    assert_eq!((rest.epoch, rest.nodes.as_ref().unwrap().ranges.as_slice()), (Epoch(2), &[(1, 3)][..]));
    assert_eq!(house.results(id).await, [(Some(0), Outcome::Succeeded)]);
}

#[tokio::test]
async fn f5_a_restarted_runner_that_owes_a_report_and_never_gives_it_is_not_waited_for() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.start(&house, &assignment, 1).await;
    runner.open(&house, vec![held(&assignment, HeldState::Finished)]).await.unwrap();
    for _ in 0..4 {
        house.later(20).await;
        runner.poll(&house).await;
    }
    house.expect(id, ExecutionState::Held).await;
}

#[tokio::test]
async fn f5_what_a_journal_does_not_know_was_not_begun() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut runner = house.runner("one").await;
    house.trigger().await;
    let assignment = runner.assigned(&house).await;
    let forget = runner.open(&house, vec![held(&assignment, HeldState::Leased)]).await.unwrap();
    assert_eq!(forget, [assignment.attempt]);
    let again = runner.assigned(&house).await;
    assert_eq!(again.epoch, Epoch(2));
    // The start was recorded, its answer lost: the journal says that it was not used.
    assert_eq!(runner.start(&house, &again, 1).await, Some(Verdict::Begin));
    runner.open(&house, vec![held(&again, HeldState::Leased)]).await.unwrap();
    assert_eq!(runner.assigned(&house).await.epoch, Epoch(3));
}

#[tokio::test]
async fn f6_a_runner_that_was_cut_off_comes_back_with_its_work() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.start(&house, &assignment, 1).await;
    house.later(600).await;
    house.expect(id, ExecutionState::Held).await;
    runner.poll(&house).await;
    house.expect(id, ExecutionState::Running).await;
    runner.finish(&house, &assignment, Outcome::Succeeded).await;
    house.ended(id, Outcome::Succeeded).await;
}

#[tokio::test]
async fn f6_a_late_report_counts_if_nobody_decided_otherwise() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.start(&house, &assignment, 1).await;
    house.later(600).await;
    let house = house.restart().await;
    runner.finish(&house, &assignment, Outcome::Succeeded).await;
    house.ended(id, Outcome::Succeeded).await;
}

#[tokio::test]
async fn f7_an_orchestrator_that_restarts_gives_runners_time_and_repeats_what_it_said() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    house.clock.steady.fetch_add(600_000, Ordering::SeqCst);
    let house = house.restart().await;
    house.later(60).await;
    let (_, commands) = runner.peek(&house).await.unwrap();
    assert_eq!(commands.len(), 1, "{commands:?}");
    let assignment = runner.assigned(&house).await;
    assert_eq!(runner.start(&house, &assignment, 1).await, Some(Verdict::Begin));
    let house = house.restart().await;
    assert_eq!(runner.start(&house, &assignment, 1).await, Some(Verdict::Begin));
    house.later(60).await;
    runner.finish(&house, &assignment, Outcome::Succeeded).await;
    house.ended(id, Outcome::Succeeded).await;
}

#[tokio::test]
async fn f8_a_log_is_taken_once_and_an_end_waits_for_it() {
    let house = House::new(samples::steps(&["pure"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    let events = || {
        vec![
            ended(0, None, Outcome::Succeeded),
            Event::Finished {
                outcome: Outcome::Succeeded,
                message: String::new(),
                log_entries: 3,
                nodes: None,
                result: None,
            },
        ]
    };
    let report = AttemptReport {
        first_event: 1,
        events: events(),
        first_entry: 1,
        log: vec![line("a"), line("b")],
        ..about(&assignment)
    };
    let reply = runner.say(&house, report).await.unwrap();
    assert_eq!((reply.events, reply.entries), (1, 2));
    house.expect(id, ExecutionState::Running).await;
    let house = house.restart().await;
    let report = AttemptReport {
        first_event: 1,
        events: events(),
        first_entry: 2,
        log: vec![line("b"), line("c")],
        ..about(&assignment)
    };
    let reply = runner.say(&house, report).await.unwrap();
    assert_eq!((reply.events, reply.entries), (2, 3));
    house.ended(id, Outcome::Succeeded).await;
    let page = house.store.logs().page(id, 1, 10, LogFilter::default()).await.unwrap();
    let texts: Vec<_> = page.entries.iter().map(|line| line.entry.text.as_str()).collect();
    assert_eq!(texts, ["a", "b", "c"]);
}

#[tokio::test]
async fn f9_an_end_that_is_reported_again_is_answered_alike() {
    let house = House::new(samples::steps(&["pure", "pure"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let first = runner.assigned(&house).await;
    let reply = runner.finish(&house, &first, Outcome::Succeeded).await;
    assert_eq!(runner.finish(&house, &first, Outcome::Succeeded).await, reply);
    let second = runner.assigned(&house).await;
    let events = vec![ended(1, None, Outcome::Succeeded), finished(Outcome::Succeeded)];
    let report = AttemptReport { first_event: 1, events, ..about(&second) };
    let reply = runner.say(&house, report.clone()).await.unwrap();
    let record = house.ended(id, Outcome::Succeeded).await;
    assert_eq!(runner.say(&house, report.clone()).await.unwrap(), reply);
    let house = house.restart().await;
    assert_eq!(runner.say(&house, report).await.unwrap(), reply);
    assert_eq!(house.record(id).await, record);
}

#[tokio::test]
async fn f10_what_a_superseded_runner_did_is_evidence() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut zombie = house.runner("one").await;
    let id = house.trigger().await;
    let old = zombie.assigned(&house).await;
    zombie.start(&house, &old, 1).await;
    house.later(91).await;
    let section = house.scheduler.why_waiting(id)[0].section.unwrap();
    house.scheduler.decide(id, section, Decision::Rerun, "ann").await.unwrap();
    let mut other = house.runner("two").await;
    let new = other.assigned(&house).await;
    other.start(&house, &new, 1).await;
    let reply = zombie.finish(&house, &old, Outcome::Failed).await;
    assert_eq!(reply.verdict, Some(Verdict::Superseded));
    other.finish(&house, &new, Outcome::Succeeded).await;
    house.ended(id, Outcome::Succeeded).await;
    let feed = house.store.events_after(id, 0).await.unwrap();
    let doubled = crate::execution::Happening::Doubled { attempt: old.attempt };
    assert!(feed.iter().any(|entry| entry.what == doubled), "{feed:#?}");
    // Also when it comes after the end.
    let reply = zombie.finish(&house, &old, Outcome::Failed).await;
    assert_eq!(reply.verdict, Some(Verdict::Superseded));
}

#[tokio::test]
async fn f11_a_jump_of_the_wall_clock_loses_nothing() {
    let house = House::new(samples::steps(&["effect"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.start(&house, &assignment, 1).await;
    house.clock.wall.fetch_add(3_600_000, Ordering::SeqCst);
    house.later(1).await;
    house.expect(id, ExecutionState::Running).await;
    house.clock.wall.fetch_sub(7_200_000, Ordering::SeqCst);
    house.later(1).await;
    runner.finish(&house, &assignment, Outcome::Succeeded).await;
    house.ended(id, Outcome::Succeeded).await;
}

#[tokio::test]
async fn a_cancelled_execution_ends_by_its_runners_word_or_by_force() {
    let house = House::new(samples::steps(&["effect", "pure"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.start(&house, &assignment, 1).await;
    house.scheduler.cancel(id, CancelMode::Ask, "ann").await.unwrap();
    house.expect(id, ExecutionState::Cancelling).await;
    assert!(
        matches!(runner.poll(&house).await[..], [Command::Cancel { attempt, .. }] if attempt == assignment.attempt)
    );
    runner.finish(&house, &assignment, Outcome::Cancelled).await;
    house.ended(id, Outcome::Cancelled).await;

    let id = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.start(&house, &assignment, 1).await;
    house.scheduler.cancel(id, CancelMode::Force, "ann").await.unwrap();
    house.ended(id, Outcome::Lost).await;
    assert!(matches!(house.scheduler.cancel(id, CancelMode::Ask, "ann").await, Err(ControlError::Ended(..))));
    assert!(matches!(runner.poll(&house).await[..], [Command::Forget { .. }]));
}

#[tokio::test]
async fn an_execution_that_was_not_begun_is_cancelled_at_once() {
    let house = House::new(samples::steps(&["effect"])).await;
    let id = house.trigger().await;
    assert_eq!(house.scheduler.why_waiting(id)[0].reason, Reason::NoLocalRunner);
    house.scheduler.cancel(id, CancelMode::Ask, "ann").await.unwrap();
    house.ended(id, Outcome::Cancelled).await;
}

#[tokio::test]
async fn a_second_process_of_a_runner_takes_over_and_a_copy_is_locked_out() {
    let house = House::new(samples::steps(&["pure"])).await;
    let mut runner = house.runner("one").await;
    let old = Fake { id: runner.id, session: runner.session, ack: 0 };
    runner.open(&house, vec![]).await.unwrap();
    assert_eq!(old.peek(&house).await, Err(SessionError::Superseded));
    // The answer got lost before the session was used: the runner comes with the one before.
    let mut again = Fake { id: runner.id, session: old.session, ack: 0 };
    again.open(&house, vec![]).await.unwrap();
    again.poll(&house).await;
    let mut copy = Fake { id: runner.id, session: old.session, ack: 0 };
    assert_eq!(copy.open(&house, vec![]).await, Err(SessionError::Locked));
    assert_eq!(again.peek(&house).await, Err(SessionError::Locked));
}

#[tokio::test]
async fn the_same_request_makes_the_same_execution() {
    let house = House::new(samples::steps(&["pure"])).await;
    let mut runner = house.runner("one").await;
    let trigger = Trigger { idempotency_key: Some("k".parse().unwrap()), ..sample() };
    let first = house.scheduler.trigger(trigger.clone()).await.unwrap();
    let again = house.scheduler.trigger(trigger.clone()).await.unwrap();
    assert_eq!((again.execution, again.new, first.new), (first.execution, false, true));
    assert_eq!(runner.poll(&house).await.len(), 1);
    assert_eq!(house.scheduler.runner_load(runner.id).unwrap().attempts, 1);
    let other = Trigger { revision: Some(remit_protocol::Revision(1)), ..trigger };
    assert!(house.scheduler.trigger(other).await.is_err());
}

#[tokio::test]
async fn a_parked_poll_is_answered_when_there_is_work() {
    let house = House::new(samples::steps(&["pure"])).await;
    let runner = house.runner("one").await;
    let poll = Poll {
        session: runner.session,
        ack: runner.ack,
        free: 4,
        draining: false,
        hold: Span::from_secs(25),
        attempts: None,
    };
    let parked = house.scheduler.poll(runner.id, poll);
    let (answer, _) = tokio::join!(parked, house.trigger());
    assert_eq!(answer.unwrap().commands.len(), 1);
}

#[tokio::test]
async fn work_goes_to_the_least_loaded_and_then_to_who_was_idle_for_longest() {
    let house = House::new(samples::steps(&["pure"])).await;
    let mut runners = vec![house.runner("one").await, house.runner("two").await];
    for _ in 0..8 {
        house.trigger().await;
    }
    let id = house.trigger().await;
    for runner in &mut runners {
        assert_eq!(runner.poll(&house).await.len(), 4);
    }
    let reason = house.scheduler.why_waiting(id).remove(0).reason;
    assert_eq!(reason.to_string(), "all slots of one, two are in use");
    house.later(50).await;
    let reason = house.scheduler.why_waiting(id).remove(0).reason;
    assert!(reason.to_string().starts_with("one is offline (last heard of 20"), "{reason}");
}

#[tokio::test]
async fn an_assignment_that_cannot_travel_is_refused() {
    let house = House::new(samples::steps(&["pure", "pure", "pure"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    for step in 0..2 {
        let assignment = runner.assigned(&house).await;
        let Event::StepEnded(mut end) = ended(step, None, Outcome::Succeeded) else { unreachable!() };
        end.output = Some(serde_json::Value::String("x".repeat(300 << 10)));
        let events = vec![Event::StepEnded(end), finished(Outcome::Succeeded)];
        runner.say(&house, AttemptReport { first_event: 1, events, ..about(&assignment) }).await.unwrap();
    }
    assert!(matches!(runner.poll(&house).await[..], [Command::Forget { .. }]));
    house.later(1).await;
    let record = house.ended(id, Outcome::Refused(remit_protocol::RefusalCode::Parameter)).await;
    assert!(record.attempts[2].message.contains("let earlier steps give less"), "{record:#?}");
}

#[tokio::test]
async fn the_work_of_a_deleted_runner_is_not_waited_for() {
    let house = House::new(samples::steps(&["read"])).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    runner.assigned(&house).await;
    house.store.delete_runner(runner.id).await.unwrap();
    house.scheduler.runner_changed(runner.id).await.unwrap();
    assert_eq!(runner.peek(&house).await, Err(SessionError::Unknown));
    house.later(1).await;
    house.later(1).await;
    assert_eq!(house.scheduler.runner_load(runner.id), None);
    let mut other = house.runner("two").await;
    house.later(10).await;
    assert_eq!(other.assigned(&house).await.epoch, Epoch(2));
    house.expect(id, ExecutionState::Running).await;
}
