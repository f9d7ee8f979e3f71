//! G1, G2, G5 over random histories: two runners, messages lost, doubled and reordered, crashes, leases that end.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use remit_protocol::{
    AttemptId, Epoch, ExecutionId, NodeIndex, NodeName, Outcome, Revision, RunnerId, SectionNumber, Session,
    StepIndex, Timestamp,
    assignment::Strategy as Order,
    digest,
    operator::{CancelMode, Decision},
    report::{Event, StepEnded, Verdict},
};

use super::{
    Change, Draft, ExecutionState, HandOut, Head, Live, NodeSelection, Purpose, SectionState, plan, samples,
    state::AttemptState,
};

/// Something that happens: to which of the attempts or sections is drawn from a number.
#[derive(Debug, Clone)]
enum Act {
    HandOut(u8),
    Start {
        attempt: usize,
        nonce: u64,
    },
    Dispatch {
        attempt: usize,
        node: u32,
    },
    EndNode {
        attempt: usize,
        node: u32,
        outcome: Outcome,
    },
    Finish {
        attempt: usize,
        outcome: Outcome,
    },
    /// The last message again.
    Double,
    Expire(usize),
    Void(usize),
    Adopt(usize),
    Decide {
        section: usize,
        decision: Decision,
    },
    Cancel(bool),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let outcome = proptest::sample::select(vec![
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::Cancelled,
        Outcome::Interrupted,
        Outcome::HostFault,
    ]);
    let decision = proptest::sample::select(vec![Decision::Done, Decision::Failed, Decision::Rerun]);
    prop_oneof![
        4 => (0u8..2).prop_map(Act::HandOut),
        4 => (0usize..6, 0u64..3).prop_map(|(attempt, nonce)| Act::Start { attempt, nonce }),
        3 => (0usize..6, 0u32..5).prop_map(|(attempt, node)| Act::Dispatch { attempt, node }),
        3 => (0usize..6, 0u32..5, outcome.clone())
            .prop_map(|(attempt, node, outcome)| Act::EndNode { attempt, node, outcome }),
        3 => (0usize..6, outcome).prop_map(|(attempt, outcome)| Act::Finish { attempt, outcome }),
        2 => Just(Act::Double),
        2 => (0usize..6).prop_map(Act::Expire),
        1 => (0usize..6).prop_map(Act::Void),
        1 => (0usize..6).prop_map(Act::Adopt),
        2 => (0usize..4, decision).prop_map(|(section, decision)| Act::Decide { section, decision }),
        1 => any::<bool>().prop_map(Act::Cancel),
        2 => (1u64..40).prop_map(Act::Wait),
    ]
}

/// A world: the live execution, what runners were handed, and what was recorded.
struct World {
    live: Live,
    now: Timestamp,
    made: u128,
    handed: Vec<(AttemptId, Epoch, u64)>,
    last: Option<(AttemptId, Epoch, u64, Event)>,
    begun: BTreeMap<(SectionNumber, Epoch), u32>,
    ends: u32,
    attempt_ends: BTreeMap<AttemptId, u32>,
    steps: BTreeMap<StepIndex, Outcome>,
    results: BTreeMap<(StepIndex, Option<NodeIndex>), Outcome>,
}

fn head(nodes: u32) -> Head {
    Head {
        project: "ops".parse().unwrap(),
        job: "sample".parse().unwrap(),
        revision: Revision(1),
        document: digest::Sized::of(b""),
        note: None,
        purpose: Purpose::Job,
        options: Default::default(),
        files: Vec::new(),
        run_note: None,
        sealed: None,
        started_by: "test".to_owned(),
        origin: remit_protocol::Origin::Operator,
        variables: serde_json::Map::new(),
        tags: std::collections::BTreeSet::new(),
        nodes: (nodes > 0).then(|| NodeSelection {
            set: digest::Sized::of(b""),
            count: nodes,
            threads: 2,
            keep_going: true,
            strategy: Order::NodeFirst,
            tiers: vec![],
            max_failures: None,
            fail_if_empty: false,
            lanes: 0,
        }),
        timeout: None,
        not_before: None,
        at_once: None,
        most_queued: None,
        queued_until: None,
        log_limit: None,
        retries: 0,
        parent: None,
        again: None,
    }
}

impl World {
    fn new(document: remit_job::document::Document, nodes: u32) -> Self {
        Self::after(document, nodes, None)
    }

    /// What it has come to, as a store would say.
    fn came_to(&self) -> super::Earlier {
        let steps = self.steps.clone();
        let results = self.results.iter().map(|((step, node), outcome)| (*step, *node, *outcome, None));
        super::Earlier { id: self.live.id, steps, results: results.collect() }
    }

    fn after(document: remit_job::document::Document, nodes: u32, earlier: Option<&super::Earlier>) -> Self {
        let now = Timestamp::from_millis(1_795_000_000_000);
        let names: Arc<[NodeName]> = (0..nodes).map(|n| format!("n{n}").parse().unwrap()).collect();
        let places = plan::places(&document, head(nodes).nodes.as_ref());
        let id = ExecutionId::from_parts(now, 0);
        let (mut live, mut draft) = plan::start(id, head(nodes), Arc::new(document), names, places);
        if let Some(earlier) = earlier {
            live.take_over(earlier, &mut draft).unwrap();
        }
        let mut world = Self {
            live,
            now,
            made: 0,
            handed: vec![],
            last: None,
            begun: BTreeMap::new(),
            ends: 0,
            attempt_ends: BTreeMap::new(),
            steps: BTreeMap::new(),
            results: BTreeMap::new(),
        };
        world.keep(draft);
        let mut draft = Draft::default();
        world.live.admit(now, &mut draft).unwrap();
        world.keep(draft);
        world
    }

    /// Looks at what would be recorded.
    fn keep(&mut self, draft: Draft) {
        for change in draft.changes {
            match change {
                Change::HandedOut(attempt) | Change::Attempt(attempt) => {
                    if attempt.state == AttemptState::Started
                        && attempt.began == Some(self.now)
                        && attempt.events == 0
                    {
                        self.begun.entry((attempt.section, attempt.epoch)).or_default();
                    }
                    if attempt.state.is_final() {
                        *self.attempt_ends.entry(attempt.id).or_default() += 1;
                    }
                }
                Change::Execution { state, .. } if state.is_final() => self.ends += 1,
                Change::StepConcluded { step, outcome } => {
                    self.steps.insert(step, outcome);
                }
                Change::StepEnded { ended, .. } => {
                    self.results.insert((ended.step, ended.node), ended.outcome);
                }
                _ => {}
            }
        }
    }

    fn attempt(&self, number: usize) -> Option<(AttemptId, Epoch)> {
        let (id, epoch, _) = self.handed.get(number % self.handed.len().max(1))?;
        Some((*id, *epoch))
    }

    fn say(&mut self, attempt: AttemptId, epoch: Epoch, number: u64, event: Event, draft: &mut Draft) {
        if let Some(at) = self.live.current(attempt, epoch) {
            let heard = self.live.hear(at, number, vec![event], 0, self.now, draft).unwrap();
            if let Some(known) = self.handed.iter_mut().find(|known| known.0 == attempt) {
                known.2 = heard.events;
            }
        }
    }

    fn speak(&mut self, attempt: usize, event: Event, draft: &mut Draft) {
        let Some((id, epoch)) = self.attempt(attempt) else { return };
        let number = self.handed.iter().find(|known| known.0 == id).map_or(1, |known| known.2 + 1);
        self.last = Some((id, epoch, number, event.clone()));
        self.say(id, epoch, number, event, draft);
    }

    fn run(&mut self, act: Act) {
        let mut draft = Draft::default();
        let now = self.now;
        match act {
            Act::HandOut(runner) => {
                let ready = self.live.sections.iter().position(|section| {
                    section.record.state == SectionState::Ready
                        && section.record.not_before.is_none_or(|time| time <= now)
                });
                if let Some(at) = ready {
                    self.made += 1;
                    let to = HandOut {
                        attempt: AttemptId::from_parts(now, self.made),
                        runner: RunnerId::from_parts(now, u128::from(runner)),
                        session: Session(1),
                    };
                    self.live.hand_out(at, to, now, &mut draft).unwrap();
                    self.handed.push((to.attempt, self.live.sections[at].record.epoch, 0));
                }
            }
            Act::Start { attempt, nonce } => {
                let Some((id, epoch)) = self.attempt(attempt) else { return };
                let begins = self.live.current(id, epoch).filter(|at| {
                    self.live.sections[*at].open_attempt().is_some_and(|a| a.state == AttemptState::Leased)
                });
                let verdict = self.live.may_begin(id, epoch, nonce, now, &mut draft).unwrap();
                if let (Some(at), Verdict::Begin) = (begins, verdict) {
                    let number = self.live.sections[at].record.place.number;
                    *self.begun.entry((number, epoch)).or_default() += 1;
                }
            }
            Act::Dispatch { attempt, node } => {
                self.speak(attempt, Event::Dispatched { nodes: vec![NodeIndex(node)] }, &mut draft);
            }
            Act::EndNode { attempt, node, outcome } => {
                let ended = StepEnded {
                    step: StepIndex(0),
                    node: self.live.head.nodes.is_some().then_some(NodeIndex(node)),
                    outcome,
                    tries: 1,
                    started: now,
                    ended: now,
                    output: None,
                    message: String::new(),
                    usage: None,
                    remit: None,
                    artifacts: Vec::new(),
                };
                self.speak(attempt, Event::StepEnded(Box::new(ended)), &mut draft);
            }
            Act::Finish { attempt, outcome } => {
                let event = Event::Finished {
                    outcome,
                    message: String::new(),
                    log_entries: 0,
                    nodes: None,
                    result: None,
                };
                self.speak(attempt, event, &mut draft);
            }
            Act::Double => {
                if let Some((id, epoch, number, event)) = self.last.clone() {
                    self.say(id, epoch, number, event, &mut draft);
                }
            }
            Act::Expire(attempt) => self.expire(attempt, &mut draft),
            Act::Void(attempt) => {
                let current = self.attempt(attempt).and_then(|(id, epoch)| self.live.current(id, epoch));
                if let Some(at) = current.filter(|at| self.live.is_running(*at)) {
                    self.live.void(at, now, &mut draft).unwrap();
                }
            }
            Act::Adopt(attempt) => {
                let current = self.attempt(attempt).and_then(|(id, epoch)| self.live.current(id, epoch));
                if let Some(at) = current {
                    self.live.adopt(at, Session(2), now, &mut draft).unwrap();
                }
            }
            Act::Decide { section, decision } => {
                let section = SectionNumber(u32::try_from(section).unwrap());
                let held = self.live.section(section).is_some_and(|s| s.record.state.hold().is_some());
                let decided = self.live.decide(section, decision, "ann", now, &mut draft);
                assert_eq!(decided.is_ok(), held, "{decided:?}");
            }
            Act::Cancel(force) => {
                let mode = if force { CancelMode::Force } else { CancelMode::Ask };
                self.live.stop(Outcome::Cancelled, mode, "", now, &mut draft).unwrap();
            }
            Act::Wait(seconds) => self.now = now.plus(std::time::Duration::from_secs(seconds)),
        }
        self.keep(draft);
        self.check();
    }

    fn expire(&mut self, attempt: usize, draft: &mut Draft) {
        let current = self.attempt(attempt).and_then(|(id, epoch)| self.live.current(id, epoch));
        let Some(at) = current else { return };
        match self.live.sections[at].open_attempt().map(|attempt| attempt.state) {
            Some(AttemptState::Leased) => self.live.withdraw(at, self.now, draft).unwrap(),
            Some(AttemptState::Started) => {
                self.live.runner_gone(at, Outcome::Lost, "", self.now, draft).unwrap();
            }
            _ => {}
        }
    }

    fn check(&self) {
        // G1.
        assert!(self.begun.values().all(|begun| *begun <= 1), "{:?}", self.begun);
        // G2.
        assert!(self.ends <= 1);
        assert_eq!(self.ends == 1, self.live.is_over());
        assert!(self.attempt_ends.values().all(|ends| *ends == 1), "{:?}", self.attempt_ends);
        // An attempt that counts belongs to a section that says so.
        for section in &self.live.sections {
            let open = section.open_attempt().map(|attempt| attempt.state);
            let fits = match section.record.state {
                SectionState::Leased => open == Some(AttemptState::Leased),
                SectionState::Started => open == Some(AttemptState::Started),
                SectionState::InDoubt => matches!(open, None | Some(AttemptState::Missing)),
                SectionState::Waiting
                | SectionState::Ready
                | SectionState::Delegated
                | SectionState::Gated
                | SectionState::Ended(_) => open.is_none(),
            };
            assert!(fits, "{:?} {open:?}", section.record.state);
        }
    }

    /// G5: without any word of a runner but its start, time and a person bring everything to an end; and a person alone
    /// can do so at any moment.
    fn comes_to_an_end(mut self, by_force: bool) {
        if by_force {
            self.run(Act::Cancel(true));
            assert!(self.live.is_over());
        }
        for round in 0..100 {
            if self.live.is_over() {
                return;
            }
            self.now = self.now.plus(std::time::Duration::from_secs(7200));
            self.run(Act::HandOut(0));
            for attempt in 0..self.handed.len() {
                self.run(Act::Start { attempt, nonce: 9 });
                self.run(Act::Expire(attempt));
            }
            for section in 0..self.live.sections.len() {
                let number = self.live.sections[section].record.place.number;
                if self.live.section(number).is_some_and(|s| s.record.state.hold().is_some()) {
                    let section = usize::try_from(number.0).unwrap();
                    self.run(Act::Decide { section, decision: Decision::Failed });
                }
            }
            assert!(round < 99, "it does not end");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn histories_of_workflow_steps_keep_the_guarantees(
        acts in proptest::collection::vec(act(), 0..60),
        by_force: bool,
    ) {
        let mut world = World::new(samples::steps(&["effect", "pure", "idempotent"]), 0);
        acts.into_iter().for_each(|act| world.run(act));
        world.comes_to_an_end(by_force);
    }

    #[test]
    fn histories_of_node_steps_keep_the_guarantees(
        acts in proptest::collection::vec(act(), 0..60),
        by_force: bool,
        class in proptest::sample::select(vec!["pure", "idempotent", "effect"]),
    ) {
        let mut world = World::new(samples::node_step(class), 5);
        acts.into_iter().for_each(|act| world.run(act));
        world.comes_to_an_end(by_force);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever an execution came to: one that goes on with it runs nothing again that is known to be done, takes nothing
    /// over that is not, keeps the guarantees, and ends well if all that it runs does.
    #[test]
    fn what_goes_on_runs_exactly_what_is_left(
        acts in proptest::collection::vec(act(), 0..60),
        class in proptest::sample::select(vec!["pure", "effect"]),
        more in proptest::collection::vec(act(), 0..30),
    ) {
        let document = samples::node_step(class);
        let mut world = World::new(document.clone(), 5);
        acts.into_iter().for_each(|act| world.run(act));
        world.run(Act::Cancel(true));
        let earlier = world.came_to();
        let left: Vec<NodeIndex> = earlier.fates(&document, 5).into_keys().collect();
        let mut next = World::after(document, 5, Some(&earlier));
        let open = next.live.open_nodes(0).unwrap_or_default();
        let open: Vec<NodeIndex> = open.into_iter().flat_map(|(a, b)| a..b).map(NodeIndex).collect();
        match earlier.resume_point(&next.live.document) {
            Some(_) => prop_assert_eq!(&open, &left),
            None => prop_assert!(left.is_empty()),
        }
        for node in (0..5).map(NodeIndex).filter(|node| !left.contains(node)) {
            let good = earlier.results.iter().any(|(_, on, outcome, _)| *on == Some(node) && outcome.is_good());
            prop_assert!(good || earlier.steps.values().all(|outcome| outcome.is_good()));
        }
        more.into_iter().for_each(|act| next.run(act));
        next.comes_to_an_end(false);
    }
}

proptest! {
    /// However nodes are split, each is run once in each section, tiers follow one another, and all that may run at one
    /// time never has more threads than the job.
    #[test]
    fn a_split_plan_covers_every_node_once(
        count in 0u32..3000,
        threads in 1u32..40,
        lanes in 0u32..80,
        ends in proptest::collection::btree_set(1u32..3000, 0..20),
    ) {
        let document = samples::document(
            "job: sample\nnodes: { filter: \".*\" }\nsteps:\n  - { name: a, uses: test/pure@1, per: node }\n  - { name: b, uses: test/pure@1 }\n  - { name: c, uses: test/pure@1, per: node }\n",
        );
        let mut tiers: Vec<u32> = ends.into_iter().filter(|end| *end < count).collect();
        if !tiers.is_empty() {
            tiers.push(count);
        }
        let chosen = head(1).nodes.map(|nodes| NodeSelection { count, threads, lanes, tiers: tiers.clone(), ..nodes });
        let places = plan::places(&document, chosen.as_ref());
        prop_assert!(places.len() <= 2 * 600 + 1, "{}", places.len());
        let number = |at: usize| SectionNumber(u32::try_from(at).unwrap());
        for (at, place) in places.iter().enumerate() {
            prop_assert_eq!(place.number, number(at));
            prop_assert!(place.after.iter().all(|before| *before < place.number));
        }
        for step in [0, 2] {
            let parts: Vec<_> = places.iter().filter(|place| place.steps().start == step).collect();
            let ranges: Vec<(u32, u32)> = parts
                .iter()
                .flat_map(|place| match &place.work {
                    super::Work::Steps { nodes: Some(ranges), .. } => ranges.clone(),
                    other => panic!("{other:?}"),
                })
                .collect();
            let mut next = 0;
            for (first, end) in &ranges {
                prop_assert_eq!(*first, next);
                next = *end;
            }
            prop_assert_eq!(next, count);
            for (place, (first, end)) in parts.iter().zip(&ranges) {
                let tier = tiers.iter().position(|last| first < last).unwrap_or(0);
                prop_assert_eq!(usize::try_from(place.tier).unwrap(), tier);
                prop_assert!(tiers.is_empty() || *end <= tiers[tier]);
            }
            // Parts that wait for nobody of their own tier begin at the same time, one a lane.
            for tier in 0..=tiers.len() {
                let own: Vec<_> = parts.iter().filter(|place| usize::try_from(place.tier).unwrap() == tier).collect();
                let numbers: Vec<SectionNumber> = own.iter().map(|place| place.number).collect();
                let first = own.iter().filter(|place| !place.after.iter().any(|before| numbers.contains(before)));
                let at_once: u32 = first.map(|place| place.threads.unwrap_or(threads)).sum();
                prop_assert!(at_once <= threads, "{at_once} of {threads}");
                for before in own.iter().filter(|place| place.tier > 0).flat_map(|place| &place.after) {
                    let before = &places[usize::try_from(before.0).unwrap()];
                    prop_assert!(numbers.contains(&before.number) || usize::try_from(before.tier).unwrap() + 1 == tier);
                }
                // A lane is a row: nobody is followed by two of the same tier.
                for place in &own {
                    let behind = own.iter().filter(|other| other.after.contains(&place.number)).count();
                    prop_assert!(behind <= 1);
                }
            }
        }
    }
}

#[test]
fn an_execution_of_nothing_has_succeeded() {
    let world = World::new(samples::node_step("effect"), 0);
    assert_eq!(world.live.state, ExecutionState::Ended(Outcome::Succeeded));
}
