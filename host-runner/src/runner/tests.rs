//! The dispatcher's core against scripted orchestrators, disks and clocks.

use std::time::Duration;

use remit_protocol::{
    AttemptId, Epoch, ExecutionId, JobName, Outcome, ProjectName, Revision, RunnerId, RunnerName,
    SectionNumber, Session, Span, StepIndex, Timestamp,
    assignment::{Assignment, StartMode},
    capability::Effect,
    digest::Sized,
    endpoint::{
        Command, HeldState, LEASE, OpenSession, Poll, PollAnswer, Problem, Report, ReportAnswer,
        SessionOpened,
    },
    report::{AttemptReply, Event, Level, LogEntry, Verdict},
};
use tokio::time::Instant;

use super::core::{Action, Core, Exit, Facts, Happening, Order, Said};
use crate::{orchestrator::CallError, report::journal::Progress};

/// A core, its clock, and everything that it wrote to its journal.
struct Bench {
    core: Core,
    now: Instant,
    journal: Vec<u8>,
    tickets: u64,
    session: u64,
}

impl Bench {
    fn new(journal: Vec<u8>) -> Self {
        let now = Instant::now();
        let facts = Facts {
            runner: RunnerId::from_u128(1),
            version: "0.1.0".to_owned(),
            hostname: "dmz-1".to_owned(),
            features: super::features(&Default::default()),
            slots: 4,
            sealing: Some("a note".to_owned()),
        };
        let core = Core::new(facts, Session(6), &journal, now, 7);
        let journal = core.snapshot();
        Self { core, now, journal, tickets: 0, session: 6 }
    }

    /// A core that is connected and has its poll parked.
    fn connected() -> Self {
        let mut bench = Self::new(Vec::new());
        bench.connect();
        bench
    }

    fn connect(&mut self) -> OpenSession {
        let Some(Action::Open(open)) = self.act().pop() else { panic!("no session is opened") };
        self.session += 1;
        let opened = SessionOpened {
            session: Session(self.session),
            name: RunnerName::new("dmz-1").unwrap(),
            tags: [].into(),
            hold: Span::from_secs(25),
            lease: LEASE,
            forget: vec![],
        };
        let acted = self.on(Happening::Opened(self.now, Ok(opened)));
        assert!(
            matches!(acted[..], [Action::KeepSession(session)] if session.0 == self.session),
            "{acted:?}"
        );
        self.on(Happening::SessionKept(Ok(())));
        open
    }

    fn act(&mut self) -> Vec<Action> {
        let actions = self.core.actions(self.now);
        for action in &actions {
            if let Action::Append { frames, ticket, .. } = action {
                self.journal.extend_from_slice(frames);
                self.tickets = *ticket;
            }
        }
        actions
    }

    fn on(&mut self, happening: Happening) -> Vec<Action> {
        self.core.on(happening, self.now);
        self.act()
    }

    fn later(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.on(Happening::Time)
    }

    fn polled(&mut self, first: u64, commands: Vec<Command>) -> Vec<Action> {
        let answer = PollAnswer { first, commands, now: Timestamp::from_millis(0) };
        self.on(Happening::Polled(self.now, Ok(answer)))
    }

    fn said(&mut self, said: Said) -> Vec<Action> {
        self.on(Happening::Said(attempt(), said))
    }

    fn replied(&mut self, events: u64, entries: u64, verdict: Option<Verdict>) -> Vec<Action> {
        let reply = AttemptReply { attempt: attempt(), events, entries, verdict };
        self.on(Happening::Reported(self.now, Ok(ReportAnswer { attempts: vec![reply] })))
    }

    fn durable(&mut self) -> Vec<Action> {
        self.on(Happening::Journal(Progress::Durable(self.tickets)))
    }
}

fn attempt() -> AttemptId {
    AttemptId::from_u128(77)
}

fn run(start: StartMode) -> Command {
    Command::Run(Box::new(Assignment {
        attempt: attempt(),
        epoch: Epoch(1),
        execution: ExecutionId::from_u128(3),
        project: ProjectName::new("ops").unwrap(),
        job: JobName::new("restart").unwrap(),
        revision: Revision(1),
        document: Sized::of(b"{}"),
        job_note: None,
        section: SectionNumber(0),
        first_step: StepIndex(0),
        steps: 1,
        start,
        effect: Effect::Pure,
        options: Default::default(),
        node_set: None,
        run_note: None,
        results: Vec::new(),
        approvals: Vec::new(),
        sealed: Vec::new(),
        earlier: [].into(),
        nodes: None,
        time_left: None,
        started_by: "test".to_owned(),
        origin: remit_protocol::Origin::Operator,
        variables: serde_json::Map::new(),
        child_of: None,
        family: Vec::new(),
    }))
}

fn finished() -> Said {
    Said::Event(Event::Finished {
        outcome: Outcome::Succeeded,
        message: String::new(),
        log_entries: 0,
        nodes: None,
        result: None,
    })
}

fn line(text: &str) -> Said {
    Said::Log(LogEntry {
        at: Timestamp::from_millis(0),
        step: StepIndex(0),
        node: None,
        level: Level::Info,
        text: text.to_owned(),
        fields: vec![],
    })
}

fn reports(actions: &[Action]) -> Vec<Report> {
    let bodies = actions.iter().filter_map(|action| match action {
        Action::Report(body) => Some(serde_json::from_slice(body).unwrap()),
        _ => None,
    });
    bodies.collect()
}

fn polls(actions: &[Action]) -> Vec<&Poll> {
    let polls = actions.iter().filter_map(|action| match action {
        Action::Poll(poll) => Some(poll),
        _ => None,
    });
    polls.collect()
}

fn begins(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Tell(_, Order::Begin)))
}

fn starts(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Start(_)))
}

fn cut() -> CallError {
    CallError::Cut("reset".to_owned())
}

#[test]
fn the_first_poll_tells_what_there_is_and_later_ones_do_not() {
    let mut bench = Bench::new(Vec::new());
    let Some(Action::Open(open)) = bench.act().pop() else { panic!("no session") };
    assert_eq!((open.last, open.slots), (Session(6), 4));
    assert_eq!(open.sealing.as_deref(), Some("a note"));
    let mut bench = Bench::new(Vec::new());
    bench.connect();
    let acted = bench.polled(1, vec![run(StartMode::Fast)]);
    assert!(starts(&acted));
    let [poll] = polls(&acted)[..] else { panic!("one poll at a time: {acted:?}") };
    assert_eq!((poll.session, poll.ack, poll.free, &poll.attempts), (Session(7), 1, 3, &None));
    assert!(!starts(&bench.polled(1, vec![run(StartMode::Fast)])), "a command that was repeated");
    let [poll] =
        polls(&bench.polled(2, vec![])).first().map(|poll| poll.ack).into_iter().collect::<Vec<_>>()[..]
    else {
        panic!("no poll")
    };
    assert_eq!(poll, 1);
}

#[test]
fn what_starts_fast_begins_and_ends_without_waiting_for_the_disk() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    let acted = bench.said(Said::Ready);
    assert!(begins(&acted));
    assert!(acted.iter().any(|action| matches!(action, Action::Append { sync: true, .. })));
    let reports = reports(&bench.said(finished()));
    assert!(matches!(reports[0].attempts[0].events[..], [Event::Finished { .. }]));
}

#[test]
fn what_is_guarded_begins_when_it_is_granted_and_written_down() {
    for granted_first in [true, false] {
        let mut bench = Bench::connected();
        bench.polled(1, vec![run(StartMode::Guarded)]);
        let acted = bench.said(Said::Ready);
        assert!(!begins(&acted));
        let asked = reports(&acted);
        assert!(asked[0].attempts[0].start.is_some());
        let (first, second) = if granted_first {
            (bench.replied(0, 0, Some(Verdict::Begin)), bench.durable())
        } else {
            (bench.durable(), bench.replied(0, 0, Some(Verdict::Begin)))
        };
        assert!(!begins(&first) && begins(&second), "{granted_first}");
        assert!(reports(&bench.said(finished())).is_empty(), "the end is not on disk yet");
        assert_eq!(reports(&bench.durable()).len(), 1);
    }
}

#[test]
fn a_question_without_an_answer_is_not_asked_in_a_loop() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Guarded)]);
    bench.said(Said::Ready);
    assert!(reports(&bench.replied(0, 0, None)).is_empty());
    assert_eq!(reports(&bench.later(Duration::from_secs(1))).len(), 1);
}

#[test]
fn what_is_reported_is_kept_until_it_is_durable_there() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    bench.said(Said::Ready);
    bench.said(line("one"));
    let first = reports(&bench.said(finished()));
    bench.on(Happening::Reported(bench.now, Err(cut())));
    let again = reports(&bench.later(Duration::from_secs(1)));
    assert_eq!(first, again);
    bench.said(Said::Over);
    bench.replied(0, 1, None);
    assert!(bench.core.backlog() > 0);
    bench.later(Duration::from_secs(1));
    bench.replied(1, 1, None);
    assert_eq!(bench.core.backlog(), 0);
    assert!(Bench::new(bench.journal).core.snapshot().is_empty(), "and then it is gone");
}

#[test]
fn after_a_restart_nothing_runs_twice() {
    fn check(script: &[fn() -> Said], expect: Option<(HeldState, Outcome)>) {
        let mut bench = Bench::connected();
        bench.polled(1, vec![run(StartMode::Fast)]);
        for said in script {
            bench.said(said());
        }
        let mut next = Bench::new(bench.journal);
        let open = next.connect();
        assert_eq!(open.attempts.first().map(|held| held.state), expect.map(|(state, _)| state));
        let Some((_, outcome)) = expect else { return };
        let sent = next.later(Duration::from_secs(1));
        assert!(!starts(&sent) && !starts(&next.polled(1, vec![run(StartMode::Fast)])));
        // Its report may have left as soon as the session was open.
        next.on(Happening::Reported(next.now, Err(cut())));
        let sent = [sent, next.later(Duration::from_secs(1))].concat_all();
        let last = reports(&sent).pop().and_then(|mut report| report.attempts.pop()?.events.pop());
        let Some(Event::Finished { outcome: found, log_entries, .. }) = last else {
            panic!("no end: {sent:?}")
        };
        assert_eq!(
            (found, log_entries),
            (outcome, script.len() as u64 - 1 - u64::from(outcome == Outcome::Succeeded))
        );
    }
    check(&[], None);
    check(&[|| Said::Ready], Some((HeldState::Interrupted, Outcome::Interrupted)));
    check(&[|| Said::Ready, || line("x")], Some((HeldState::Interrupted, Outcome::Interrupted)));
    check(&[|| Said::Ready, || line("x"), finished], Some((HeldState::Finished, Outcome::Succeeded)));
}

trait ConcatAll {
    fn concat_all(self) -> Vec<Action>;
}

impl ConcatAll for [Vec<Action>; 2] {
    fn concat_all(self) -> Vec<Action> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn a_second_restart_still_knows() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    bench.said(Said::Ready);
    let second = Bench::new(bench.journal);
    let mut third = Bench::new(second.journal);
    assert_eq!(third.connect().attempts[0].state, HeldState::Finished);
}

#[test]
fn nothing_begins_when_the_lease_may_be_over() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    bench.now += Duration::from_secs(66);
    assert!(!begins(&bench.said(Said::Ready)));
    assert!(begins(&bench.polled(2, vec![])), "it begins when the orchestrator was heard again");
}

#[test]
fn what_is_superseded_is_stopped_and_forgotten() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    bench.said(Said::Ready);
    bench.said(line("x"));
    let acted = bench.polled(2, vec![Command::Forget { attempt: attempt() }]);
    assert!(acted.iter().any(|action| matches!(action, Action::Tell(_, Order::Cancel(_)))));
    assert!(reports(&bench.said(finished())).is_empty());
    bench.said(Said::Over);
    assert_eq!(bench.core.backlog(), 0);
    assert!(Bench::new(bench.journal).core.snapshot().is_empty());
}

#[test]
fn a_cancel_of_another_epoch_is_not_ours() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    let cancel =
        |epoch| Command::Cancel { attempt: attempt(), epoch: Epoch(epoch), grace: Span::from_secs(5) };
    let told =
        |acted: &[Action]| acted.iter().any(|action| matches!(action, Action::Tell(_, Order::Cancel(_))));
    assert!(!told(&bench.polled(2, vec![cancel(2)])));
    assert!(told(&bench.polled(3, vec![cancel(1)])));
}

#[test]
fn a_disk_that_takes_nothing_ends_what_waits_for_it() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Guarded)]);
    bench.said(Said::Ready);
    let failed = Progress::Failed(bench.tickets, "no space left".to_owned());
    bench.on(Happening::Journal(failed));
    bench.on(Happening::Reported(bench.now, Err(cut())));
    let sent = reports(&bench.later(Duration::from_secs(1)));
    let Some(Event::Finished { outcome, message, .. }) = sent[0].attempts[0].events.last() else {
        panic!("{sent:?}")
    };
    assert_eq!(*outcome, Outcome::HostFault);
    assert!(message.contains("no space left"), "{message}");
}

#[test]
fn a_log_that_does_not_fit_is_cut_with_a_mark() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    bench.said(Said::Ready);
    let long = "x".repeat(1 << 20);
    for _ in 0..40 {
        bench.said(line(&long));
    }
    let before = bench.core.backlog();
    bench.said(finished());
    assert!(before < 40 << 20);
    let kept = String::from_utf8_lossy(&bench.journal).into_owned();
    assert!(kept.contains("entries are missing here: the runner's spool was full"), "no mark");
}

#[test]
fn a_task_that_breaks_off_is_the_hosts_fault() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    bench.said(Said::Ready);
    let sent = reports(&bench.said(Said::Over));
    assert!(matches!(sent[0].attempts[0].events[..], [Event::Finished { outcome: Outcome::HostFault, .. }]));
}

#[test]
fn a_runner_that_stops_ends_what_runs_first() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    bench.said(Said::Ready);
    let acted = bench.on(Happening::Stop);
    assert!(matches!(acted[0], Action::DropPoll));
    assert!(polls(&acted)[0].draining && polls(&acted)[0].free == 0);
    bench.said(finished());
    bench.said(Said::Over);
    assert!(!bench.act().iter().any(|action| matches!(action, Action::Exit(_))), "its report is on the way");
    let acted = bench.replied(1, 0, None);
    assert!(acted.iter().any(|action| matches!(action, Action::Exit(Exit::Drained))), "{acted:?}");
}

#[test]
fn a_runner_that_stops_does_not_wait_for_ever() {
    let mut bench = Bench::connected();
    bench.polled(1, vec![run(StartMode::Fast)]);
    bench.said(Said::Ready);
    bench.on(Happening::Stop);
    bench.said(finished());
    bench.said(Said::Over);
    let acted = bench.later(Duration::from_secs(31));
    assert!(acted.iter().any(|action| matches!(action, Action::Exit(Exit::Drained))));
    assert_eq!(
        Bench::new(bench.journal).connect().attempts[0].state,
        HeldState::Finished,
        "the next one tells it"
    );
}

#[test]
fn a_copied_runner_stops_and_says_why() {
    let mut bench = Bench::new(Vec::new());
    bench.act();
    let problem = Problem {
        code: "runner-locked".to_owned(),
        message: "This runner's identity is used twice.".to_owned(),
        remedy: "Enrol it again with a new ticket.".to_owned(),
        faults: vec![],
    };
    let refused = CallError::Refused { status: 409, problem: Box::new(problem) };
    let acted = bench.on(Happening::Opened(bench.now, Err(refused)));
    let Some(Action::Exit(Exit::Fatal(why))) = acted.first() else { panic!("{acted:?}") };
    assert!(why.contains("Enrol it again"), "{why}");
}

#[test]
fn an_orchestrator_that_is_away_is_tried_again() {
    let mut bench = Bench::new(Vec::new());
    bench.act();
    for _ in 0..20 {
        let acted = bench.on(Happening::Opened(bench.now, Err(cut())));
        assert!(acted.is_empty());
        let wake = bench.core.wake_at().unwrap();
        assert!(wake > bench.now && wake <= bench.now + Duration::from_secs(30));
        bench.now = wake;
        assert!(matches!(bench.on(Happening::Time)[..], [Action::Open(_)]));
    }
}
