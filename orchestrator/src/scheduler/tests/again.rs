//! Executions that go back to an earlier one.

use remit_protocol::{
    RefusalCode, SectionNumber,
    operator::{Again, NodeFate, Repeat},
};
use serde_json::json;

use super::*;

fn back(to: ExecutionId, how: Repeat) -> Trigger {
    Trigger { again: Some(Again { execution: to, how }), ..sample() }
}

fn on(fates: &[NodeFate]) -> Repeat {
    Repeat::Rerun { nodes: fates.iter().copied().collect() }
}

fn faults(result: Result<Triggered, TriggerError>) -> String {
    match result {
        Err(error @ TriggerError::Faults(_)) => error.to_string(),
        other => panic!("expected a fault, found {other:?}"),
    }
}

impl House {
    async fn names_of(&self, id: ExecutionId) -> Vec<String> {
        let nodes = self.record(id).await.head.nodes.unwrap();
        let set = self.scheduler.node_set(nodes.set).await.unwrap();
        set.nodes.iter().map(|node| node.name.to_string()).collect()
    }

    async fn results_of(&self, id: ExecutionId) -> Vec<(u32, Option<u32>, Outcome)> {
        let filter = ResultFilter { limit: 1000, ..ResultFilter::default() };
        let results = self.store.results(id, filter).await.unwrap().into_iter();
        results.map(|r| (r.ended.step.0, r.ended.node.map(|node| node.0), r.ended.outcome)).collect()
    }
}

impl Fake {
    /// Ends an assignment of node steps: each node of its ranges comes to what `outcomes` says of it.
    async fn ends(&self, house: &House, assignment: &Assignment, outcomes: &[(u32, u32, Outcome)]) {
        let mut events: Vec<Event> =
            outcomes.iter().map(|(step, node, outcome)| ended(*step, Some(*node), *outcome)).collect();
        let all = outcomes.iter().map(|(.., outcome)| *outcome);
        events.push(finished(remit_job::rollup::step(all)));
        self.say(house, AttemptReport { first_event: 1, events, ..about(assignment) }).await.unwrap();
    }

    async fn ends_step(
        &self,
        house: &House,
        assignment: &Assignment,
        outcome: Outcome,
        output: serde_json::Value,
    ) {
        let Event::StepEnded(mut end) = ended(assignment.first_step.0, None, outcome) else { unreachable!() };
        end.output = Some(output);
        let events = vec![Event::StepEnded(end), finished(outcome)];
        self.say(house, AttemptReport { first_event: 1, events, ..about(assignment) }).await.unwrap();
    }
}

#[tokio::test]
async fn a_rerun_takes_the_nodes_that_ended_as_asked() {
    let house = House::new(samples::node_step("pure")).await;
    house.nodes(5).await;
    let mut runner = house.runner("one").await;
    let first = house.trigger().await;
    let still = faults(house.scheduler.trigger(back(first, on(&[NodeFate::Failed]))).await);
    assert!(still.contains("has not ended: it is running"), "{still}");
    let assignment = runner.assigned(&house).await;
    use Outcome::*;
    runner
        .ends(&house, &assignment, &[(0, 0, Succeeded), (0, 1, Failed), (0, 2, Lost), (0, 3, TimedOut)])
        .await;
    house.ended(first, Failed).await;
    for (fates, expect) in [
        (&[NodeFate::Failed][..], &["n00001", "n00003"][..]),
        (&[NodeFate::Unknown], &["n00002"]),
        (&[NodeFate::NotStarted], &["n00004"]),
        (&NodeFate::USUAL, &["n00001", "n00003", "n00004"]),
    ] {
        let again = house.scheduler.trigger(back(first, on(fates))).await.unwrap().execution;
        assert_eq!(house.names_of(again).await, expect, "{fates:?}");
        let record = house.record(again).await;
        assert_eq!(record.head.again, Some(Again { execution: first, how: on(fates) }));
        let assignment = runner.assigned(&house).await;
        let count = u32::try_from(expect.len()).unwrap();
        assert_eq!(assignment.nodes.as_ref().unwrap().ranges, [(0, count)]);
        let done: Vec<_> = (0..count).map(|node| (0, node, Succeeded)).collect();
        runner.ends(&house, &assignment, &done).await;
        house.ended(again, Succeeded).await;
        let nothing = faults(house.scheduler.trigger(back(again, on(fates))).await);
        assert!(nothing.contains("no node of execution"), "{nothing}");
    }
}

#[tokio::test]
async fn a_rerun_knows_nodes_as_they_are_now_and_leaves_out_those_that_are_gone() {
    let house = House::new(samples::node_step("pure")).await;
    house.nodes(3).await;
    let mut runner = house.runner("one").await;
    let first = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    let bad: Vec<_> = (0..3).map(|node| (0, node, Outcome::Failed)).collect();
    runner.ends(&house, &assignment, &bad).await;
    house.nodes(2).await;
    let again = house.scheduler.trigger(back(first, on(&NodeFate::USUAL))).await.unwrap().execution;
    assert_eq!(house.names_of(again).await, ["n00000", "n00001"]);
    house.nodes(0).await;
    let gone = faults(house.scheduler.trigger(back(first, on(&NodeFate::USUAL))).await);
    assert!(gone.contains("does not have the 3 nodes any more"), "{gone}");
}

const LONG: &str = "
job: sample
nodes: { filter: \".*\", threads: 2, keep_going: true }
steps:
  - { name: fetch, uses: test/pure@1 }
  - { name: ask, approve: { question: \"Go on?\" } }
  - { name: drain, uses: test/pure@1, per: node }
  - { name: deploy, uses: test/pure@1, per: node }
  - { name: check, uses: test/pure@1, when: \"steps.fetch.outputs.build == 7\" }
  - { name: repair, uses: test/pure@1, when: on-failure }
";

#[tokio::test]
async fn an_execution_goes_on_from_the_first_step_that_did_not_end_well() {
    let house = House::new(samples::document(LONG)).await;
    house.nodes(3).await;
    let mut runner = house.runner("one").await;
    let first = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.ends_step(&house, &assignment, Outcome::Succeeded, json!({"build": 7})).await;
    let yes = |section| crate::execution::Answer {
        section: SectionNumber(section),
        agrees: true,
        by: "ann".to_owned(),
        note: None,
        why: String::new(),
    };
    house.scheduler.at_gate(first, yes(1)).await.unwrap();
    let assignment = runner.assigned(&house).await;
    use Outcome::*;
    let through = |node| [(2, node, Succeeded), (3, node, Succeeded)];
    let stuck = [(2, 1, Succeeded), (3, 1, Failed)];
    runner.ends(&house, &assignment, &[through(0), stuck, through(2)].concat()).await;
    let check = runner.assigned(&house).await;
    runner.ends_step(&house, &check, Succeeded, json!({})).await;
    let repair = runner.assigned(&house).await;
    runner.ends_step(&house, &repair, Succeeded, json!({})).await;
    house.ended(first, Failed).await;

    let second = house.scheduler.trigger(back(first, Repeat::Resume)).await.unwrap().execution;
    // People are asked anew, and nothing behind the gate is begun before.
    house.expect(second, ExecutionState::Held).await;
    assert!(runner.poll(&house).await.is_empty());
    let house = house.restart().await;
    runner.open(&house, vec![]).await.unwrap();
    house.scheduler.at_gate(second, yes(1)).await.unwrap();
    let assignment = runner.assigned(&house).await;
    assert_eq!((assignment.execution, assignment.first_step), (second, StepIndex(2)));
    assert_eq!(assignment.nodes.as_ref().unwrap().ranges, [(1, 2)]);
    assert_eq!(assignment.earlier[&"fetch".parse().unwrap()].outputs, Some(json!({"build": 7})));
    runner.ends(&house, &assignment, &through(1)).await;
    let check = runner.assigned(&house).await;
    assert_eq!(check.first_step, StepIndex(4), "its condition saw what was taken over");
    assert_eq!(check.earlier[&"fetch".parse().unwrap()].outputs, Some(json!({"build": 7})));
    runner.ends_step(&house, &check, Succeeded, json!({})).await;
    house.ended(second, Succeeded).await;
    let all = house.results_of(second).await;
    assert!(all.contains(&(2, Some(0), Succeeded)) && all.contains(&(3, Some(2), Succeeded)), "{all:?}");
    let nothing = faults(house.scheduler.trigger(back(second, Repeat::Resume)).await);
    assert!(nothing.contains("every step of execution"), "{nothing}");
}

#[tokio::test]
async fn what_stood_beside_the_step_that_failed_is_taken_over() {
    let yaml = "
job: sample
steps:
  - parallel:
      - { name: a, uses: test/pure@1 }
      - { name: b, uses: test/pure@1 }
  - { name: after, uses: test/pure@1 }
";
    let house = House::new(samples::document(yaml)).await;
    let mut runner = house.runner("one").await;
    let first = house.trigger().await;
    for command in runner.poll(&house).await {
        let Command::Run(assignment) = command else { panic!("{command:?}") };
        let good = assignment.first_step == StepIndex(1);
        let outcome = if good { Outcome::Succeeded } else { Outcome::Failed };
        runner.ends_step(&house, &assignment, outcome, json!({})).await;
    }
    house.ended(first, Outcome::Failed).await;
    let second = house.scheduler.trigger(back(first, Repeat::Resume)).await.unwrap().execution;
    let only = runner.assigned(&house).await;
    assert_eq!(only.first_step, StepIndex(0));
    runner.ends_step(&house, &only, Outcome::Succeeded, json!({})).await;
    let after = runner.assigned(&house).await;
    runner.ends_step(&house, &after, Outcome::Succeeded, json!({})).await;
    house.ended(second, Outcome::Succeeded).await;
}

#[tokio::test]
async fn a_signed_run_is_not_gone_on_with() {
    let house = House::new(samples::steps(&["pure"])).await;
    let mut runner = house.runner("one").await;
    let drafted = house.scheduler.draft(&sample()).await.unwrap();
    let mut head = drafted.head.clone();
    head.run_note = Some("a note".to_owned());
    let first = house.scheduler.begin(trigger::Drafted { head, ..drafted }, None).await.unwrap().execution;
    let assignment = runner.assigned(&house).await;
    runner.finish(&house, &assignment, Outcome::Failed).await;
    let why = faults(house.scheduler.trigger(back(first, Repeat::Resume)).await);
    assert!(why.contains("was signed for that run"), "{why}");
    let again = house.scheduler.trigger(back(first, on(&NodeFate::USUAL))).await.unwrap().execution;
    assert_eq!(house.record(again).await.head.run_note, None, "the earlier signature is about another run");
}

fn parent() -> Document {
    samples::document(
        "job: sample\nsteps:\n  - { name: sites, job: child, with: { site: \"${item}\" }, for_each: \"['a', 'b', 'c']\" }\n",
    )
}

fn child() -> Document {
    samples::document(
        "job: child\noptions: { site: { type: string, required: true } }\nnodes: { filter: \".*\", threads: 2, keep_going: true }\nsteps:\n  - { name: go, uses: test/pure@1, per: node }\n",
    )
}

impl House {
    async fn below(&self, id: ExecutionId) -> Vec<crate::store::Child> {
        self.store.children(id, SectionNumber(0)).await.unwrap()
    }
}

/// Three sites over two nodes: `a` succeeds, on `b` a node fails, on `c` one is lost.
async fn three_sites() -> (House, Fake, ExecutionId) {
    let house = House::new(child()).await;
    house.job(&parent()).await;
    house.nodes(2).await;
    let mut runner = house.runner("one").await;
    let first = house.trigger().await;
    house.scheduler.reconcile().await.unwrap();
    for command in runner.poll(&house).await {
        let Command::Run(assignment) = command else { panic!("{command:?}") };
        let second = match assignment.options["site"].as_str().unwrap() {
            "a" => Outcome::Succeeded,
            "b" => Outcome::Failed,
            _ => Outcome::Lost,
        };
        runner.ends(&house, &assignment, &[(0, 0, Outcome::Succeeded), (0, 1, second)]).await;
    }
    house.scheduler.reconcile().await.unwrap();
    house.ended(first, Outcome::Failed).await;
    (house, runner, first)
}

#[tokio::test]
async fn a_rerun_goes_down_into_the_jobs_that_a_job_ran() {
    let (house, mut runner, first) = three_sites().await;
    let again = house.scheduler.trigger(back(first, on(&[NodeFate::Failed]))).await.unwrap().execution;
    let house = house.restart().await;
    runner.open(&house, vec![]).await.unwrap();
    house.scheduler.reconcile().await.unwrap();
    let below = house.below(again).await;
    assert_eq!(below.iter().map(|child| child.item).collect::<Vec<_>>(), [1], "only where a node failed");
    assert_eq!(house.names_of(below[0].id).await, ["n00001"]);
    let assignment = runner.assigned(&house).await;
    runner.ends(&house, &assignment, &[(0, 0, Outcome::Succeeded)]).await;
    house.scheduler.reconcile().await.unwrap();
    house.ended(again, Outcome::Succeeded).await;
    let nothing = faults(house.scheduler.trigger(back(first, on(&[NodeFate::NotStarted]))).await);
    assert!(nothing.contains("ended as not-started"), "{nothing}");
}

#[tokio::test]
async fn a_job_that_runs_jobs_is_gone_on_with_where_they_failed() {
    let (house, mut runner, first) = three_sites().await;
    let again = house.scheduler.trigger(back(first, Repeat::Resume)).await.unwrap().execution;
    house.scheduler.reconcile().await.unwrap();
    let below = house.below(again).await;
    assert_eq!(below.iter().map(|child| child.item).collect::<Vec<_>>(), [1, 2]);
    for command in runner.poll(&house).await {
        let Command::Run(assignment) = command else { panic!("{command:?}") };
        assert_eq!(assignment.nodes.as_ref().unwrap().ranges, [(1, 2)], "node 0 was taken over");
        runner.ends(&house, &assignment, &[(0, 1, Outcome::Succeeded)]).await;
    }
    house.scheduler.reconcile().await.unwrap();
    house.ended(again, Outcome::Succeeded).await;
    for child in house.below(again).await {
        house.ended(child.id, Outcome::Succeeded).await;
        assert_eq!(house.results(child.id).await.len(), 2);
    }
}

#[tokio::test]
async fn what_goes_back_to_nothing_is_refused() {
    let house = House::new(samples::steps(&["pure"])).await;
    let nowhere = ExecutionId::from_u128(7);
    let missing = house.scheduler.trigger(back(nowhere, Repeat::Resume)).await;
    assert_eq!(missing, Err(TriggerError::NoExecution(nowhere)));
    let key = Some("k".parse().unwrap());
    let mut runner = house.runner("one").await;
    let first = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.finish(&house, &assignment, Outcome::Refused(RefusalCode::Ceiling)).await;
    let asked = Trigger { idempotency_key: key, ..back(first, Repeat::Resume) };
    let one = house.scheduler.trigger(asked.clone()).await.unwrap();
    assert_eq!(house.scheduler.trigger(asked.clone()).await.unwrap(), Triggered { new: false, ..one });
    let other = Trigger { again: back(first, on(&NodeFate::USUAL)).again, ..asked };
    assert!(matches!(house.scheduler.trigger(other).await, Err(TriggerError::Store(_))));
}
