//! Nodes in tiers, split over runners, and none at all.

use remit_protocol::operator::{Again, NodeFate, Repeat};

use super::*;

fn over(nodes: &str) -> Document {
    samples::document(&format!(
        "job: sample\nnodes: {{ filter: \".*\", {nodes} }}\nsteps:\n  - {{ name: go, uses: test/pure@1, per: node }}\n"
    ))
}

impl Fake {
    async fn all(&mut self, house: &House) -> Vec<Assignment> {
        let commands = self.poll(house).await.into_iter();
        commands
            .map(|command| match command {
                Command::Run(run) => *run,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Ends every node of an assignment well, but for these.
    async fn runs(&self, house: &House, assignment: &Assignment, bad: &[u32]) {
        let nodes = assignment.nodes.as_ref().unwrap().ranges.iter().flat_map(|(a, b)| *a..*b);
        let outcome = |node: &u32| if bad.contains(node) { Outcome::Failed } else { Outcome::Succeeded };
        let mut events: Vec<Event> = nodes.map(|node| ended(0, Some(node), outcome(&node))).collect();
        let any = events.iter().any(|event| matches!(event, Event::StepEnded(end) if !end.outcome.is_good()));
        events.push(finished(if any { Outcome::Failed } else { Outcome::Succeeded }));
        self.say(house, AttemptReport { first_event: 1, events, ..about(assignment) }).await.unwrap();
    }
}

fn ranges(assignment: &Assignment) -> &[(u32, u32)] {
    &assignment.nodes.as_ref().unwrap().ranges
}

#[tokio::test]
async fn a_tier_begins_when_the_one_before_ended_well_enough() {
    let house = House::new(over("keep_going: true, tiers: [1, \"20%\", rest], max_failures: \"20%\"")).await;
    house.nodes(20).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    for (expect, bad) in [((0, 1), &[][..]), ((1, 5), &[2]), ((5, 20), &[])] {
        let assignment = runner.assigned(&house).await;
        assert_eq!(ranges(&assignment), [expect]);
        runner.runs(&house, &assignment, bad).await;
    }
    house.ended(id, Outcome::Failed).await;
    let stopped = house.trigger().await;
    let first = runner.assigned(&house).await;
    runner.runs(&house, &first, &[0]).await;
    let record = house.ended(stopped, Outcome::Failed).await;
    let states: Vec<_> = record.sections.iter().map(|section| section.state.outcome()).collect();
    assert_eq!(states, [Some(Outcome::Failed), Some(Outcome::NotStarted), Some(Outcome::NotStarted)]);
    // What was not begun can be: in tiers of its own.
    let how = Repeat::Rerun { nodes: [NodeFate::NotStarted].into() };
    let again = Trigger { again: Some(Again { execution: stopped, how }), ..sample() };
    house.scheduler.trigger(again).await.unwrap();
    assert_eq!(ranges(&runner.assigned(&house).await), [(0, 1)]);
}

#[tokio::test]
async fn tiers_are_gone_on_with_where_they_stopped() {
    let house = House::new(over("keep_going: true, tiers: [2, rest]")).await;
    house.nodes(6).await;
    let mut runner = house.runner("one").await;
    let first = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.runs(&house, &assignment, &[1]).await;
    house.ended(first, Outcome::Failed).await;
    let again = Trigger { again: Some(Again { execution: first, how: Repeat::Resume }), ..sample() };
    let second = house.scheduler.trigger(again).await.unwrap().execution;
    let house = house.restart().await;
    runner.open(&house, vec![]).await.unwrap();
    house.later(6).await;
    for expect in [(1, 2), (2, 6)] {
        let assignment = runner.assigned(&house).await;
        assert_eq!(ranges(&assignment), [expect]);
        runner.runs(&house, &assignment, &[]).await;
    }
    house.ended(second, Outcome::Succeeded).await;
    assert_eq!(house.results(second).await.len(), 6);
}

#[tokio::test]
async fn a_fan_out_is_split_over_the_runners_that_are_there() {
    let house = House::new(over("keep_going: true, threads: 5, spread: true")).await;
    house.nodes(400).await;
    let (mut one, mut two) = (house.runner("one").await, house.runner("two").await);
    let id = house.trigger().await;
    let (left, right) = (one.all(&house).await, two.all(&house).await);
    assert_eq!((left.len(), right.len()), (1, 1));
    let threads = |assignment: &Assignment| assignment.nodes.as_ref().unwrap().threads;
    assert_eq!(threads(&left[0]) + threads(&right[0]), 5);
    // One is ready early and takes what comes next, up to the last; the other one has its chunk still.
    let mut mine = left;
    let mut seen = 0;
    while let Some(assignment) = mine.pop() {
        one.runs(&house, &assignment, &[]).await;
        seen += 1;
        let idle = two.all(&house).await;
        mine.extend(one.all(&house).await);
        for assignment in idle {
            two.runs(&house, &assignment, &[]).await;
        }
    }
    assert!(seen > 2, "{seen}");
    house.expect(id, ExecutionState::Running).await;
    two.runs(&house, &right[0], &[right[0].nodes.as_ref().unwrap().ranges[0].0]).await;
    loop {
        let more = [one.all(&house).await, two.all(&house).await];
        if more.iter().all(Vec::is_empty) {
            break;
        }
        for (runner, assignments) in [&one, &two].into_iter().zip(more) {
            for assignment in assignments {
                runner.runs(&house, &assignment, &[]).await;
            }
        }
    }
    house.ended(id, Outcome::Failed).await;
    let results = house.store.result_counts(id).await.unwrap().remove(&StepIndex(0)).unwrap();
    assert_eq!((results[&Outcome::Succeeded], results[&Outcome::Failed]), (399, 1));
}

#[tokio::test]
async fn without_nodes_the_job_says_what_becomes_of_it() {
    for (says, outcome) in [("succeed", Outcome::Succeeded), ("fail", Outcome::Failed)] {
        let house = House::new(over(&format!("on_empty: {says}"))).await;
        let id = house.trigger().await;
        house.ended(id, outcome).await;
    }
}

#[tokio::test]
async fn what_is_chosen_by_chance_is_another_each_time_and_of_the_size_asked_for() {
    let house = House::new(over("limit: \"10%\", threads: \"50%\", rank: { order: random }")).await;
    house.nodes(100).await;
    let mut chosen = Vec::new();
    for _ in 0..3 {
        let id = house.trigger().await;
        let nodes = house.record(id).await.head.nodes.unwrap();
        assert_eq!((nodes.count, nodes.threads), (10, 5));
        chosen.push(nodes.set);
    }
    assert!(chosen[0] != chosen[1] || chosen[1] != chosen[2], "{chosen:?}");
}
