//! How many executions of a job go on at once, who waits for their turn, and jobs that are tried again.

use remit_protocol::{
    Origin,
    operator::{Again, Repeat},
};

use super::*;

fn limited(concurrency: &str) -> Document {
    samples::document(&format!(
        "job: sample\nconcurrency: {concurrency}\nsteps:\n  - {{ name: go, uses: test/pure@1 }}\n"
    ))
}

impl House {
    fn why(&self, id: ExecutionId) -> String {
        self.scheduler.why_waiting(id).remove(0).reason.to_string()
    }

    /// Every execution, the oldest first.
    async fn all(&self) -> Vec<ExecutionId> {
        let filter = crate::store::ExecutionFilter { limit: 100, ..Default::default() };
        let found = self.store.executions(filter).await.unwrap();
        found.into_iter().rev().map(|one| one.id).collect()
    }

    /// Made one after the other, so that their ids say who came first.
    async fn next(&self) -> ExecutionId {
        self.clock.wall.fetch_add(1, Ordering::SeqCst);
        self.trigger().await
    }
}

#[tokio::test]
async fn who_waits_for_a_turn_gets_it_in_order_whatever_happens() {
    let house = House::new(limited("{ limit: 1, most_queued: 2 }")).await;
    let mut runner = house.runner("one").await;
    let first = house.next().await;
    let going = runner.assigned(&house).await;
    let (second, third) = (house.next().await, house.next().await);
    assert_eq!(house.why(third), "place 2 in the job's queue: 1 of its executions go on, at most 1 may");
    let more = house.scheduler.trigger(sample()).await;
    let room = TriggerError::NoRoom { job: "sample".parse().unwrap(), going: 1, waiting: 2 };
    assert_eq!(more, Err(room));
    runner.finish(&house, &going, Outcome::Succeeded).await;
    house.ended(first, Outcome::Succeeded).await;
    // The slot is free, and nobody who comes now is let in before those that wait.
    let fourth = house.next().await;
    house.expect(fourth, ExecutionState::Queued).await;
    let house = house.restart().await;
    runner.open(&house, vec![]).await.unwrap();
    for expect in [second, third, fourth] {
        house.scheduler.reconcile().await.unwrap();
        let next = runner.assigned(&house).await;
        assert_eq!(next.execution, expect);
        runner.finish(&house, &next, Outcome::Succeeded).await;
    }
}

#[tokio::test]
async fn who_has_waited_too_long_ends_and_the_rest_move_up() {
    let house = House::new(limited("{ limit: 1, expires: 1m }")).await;
    let mut runner = house.runner("one").await;
    house.next().await;
    let going = runner.assigned(&house).await;
    let second = house.next().await;
    assert!(house.why(second).contains("; it waits until 2026-"), "{}", house.why(second));
    house.clock.wall.fetch_add(30_000, Ordering::SeqCst);
    let third = house.trigger().await;
    house.clock.wall.fetch_add(30_000, Ordering::SeqCst);
    house.scheduler.reconcile().await.unwrap();
    let record = house.ended(second, Outcome::TimedOut).await;
    assert_eq!(record.began, None);
    assert!(house.why(third).starts_with("place 1"), "{}", house.why(third));
    let house = house.restart().await;
    runner.open(&house, vec![held(&going, HeldState::Running)]).await.unwrap();
    house.expect(third, ExecutionState::Queued).await;
}

#[tokio::test]
async fn a_job_that_lets_nobody_wait_refuses_one_more() {
    let house = House::new(limited("{ limit: 2, when_full: refuse }")).await;
    let mut runner = house.runner("one").await;
    let first = house.next().await;
    house.next().await;
    let refused = house.scheduler.trigger(sample()).await.unwrap_err();
    assert!(refused.to_string().contains("2 executions of the job sample go on and 0 wait"), "{refused}");
    assert_eq!(house.all().await.len(), 2, "nothing of it is kept");
    let Some(Command::Run(going)) = runner.poll(&house).await.into_iter().next() else { panic!() };
    assert_eq!(going.execution, first);
    runner.finish(&house, &going, Outcome::Succeeded).await;
    house.next().await;
    // What is asked for ahead finds room to wait.
    let later = Trigger { not_before: Some(house.clock.now().plus(Duration::from_secs(60))), ..sample() };
    let later = house.scheduler.trigger(later).await.unwrap().execution;
    house.later(61).await;
    assert!(house.why(later).starts_with("place 1"), "{}", house.why(later));
}

const TRIED: &str = "
job: sample
nodes: { filter: \".*\", keep_going: true }
retry: { attempts: 3, delay: 1m, backoff: 2, outcomes: [failed] }
steps:
  - { name: go, uses: test/pure@1, per: node }
";

#[tokio::test]
async fn a_job_is_tried_again_once_for_each_end_whatever_crashes() {
    let house = House::new(samples::document(TRIED)).await;
    house.nodes(2).await;
    let mut runner = house.runner("one").await;
    let mut tried = vec![house.next().await];
    for attempt in [2, 3] {
        let assignment = runner.assigned(&house).await;
        let events = vec![
            ended(0, Some(0), Outcome::Succeeded),
            ended(0, Some(1), Outcome::Failed),
            finished(Outcome::Failed),
        ];
        runner.say(&house, AttemptReport { first_event: 1, events, ..about(&assignment) }).await.unwrap();
        let before = *tried.last().unwrap();
        house.ended(before, Outcome::Failed).await;
        // Told of twice, made once: what is due is taken with the making.
        house.scheduler.reconcile().await.unwrap();
        house.scheduler.state().retries.insert(before, house.clock.now());
        house.scheduler.reconcile().await.unwrap();
        let all = house.all().await;
        assert_eq!(all.len(), tried.len() + 1, "{all:?}");
        let next = *all.iter().find(|id| !tried.contains(id)).unwrap();
        let record = house.expect(next, ExecutionState::Queued).await;
        let again = Again { execution: before, how: Repeat::Retry { attempt } };
        assert_eq!(record.head.again, Some(again));
        assert_eq!(record.head.origin, Origin::Retry { execution: before });
        assert_eq!(record.head.nodes.as_ref().map(|nodes| nodes.count), Some(2), "all of its nodes");
        assert!(house.why(next).starts_with("it is to begin at"), "{}", house.why(next));
        assert!(runner.poll(&house).await.is_empty());
        house.later(if attempt == 2 { 60 } else { 120 }).await;
        // The runner was silent for as long.
        runner.peek(&house).await.unwrap();
        house.scheduler.reconcile().await.unwrap();
        tried.push(next);
    }
    let assignment = runner.assigned(&house).await;
    let events = vec![ended(0, Some(0), Outcome::Failed), finished(Outcome::Failed)];
    runner.say(&house, AttemptReport { first_event: 1, events, ..about(&assignment) }).await.unwrap();
    house.later(10_000).await;
    assert_eq!(house.all().await.len(), 3, "three tries in all");
}

#[tokio::test]
async fn a_retry_survives_the_orchestrator() {
    let house = House::new(samples::document(TRIED)).await;
    house.nodes(1).await;
    let mut runner = house.runner("one").await;
    house.next().await;
    let assignment = runner.assigned(&house).await;
    let events = vec![ended(0, Some(0), Outcome::Failed), finished(Outcome::Failed)];
    runner.say(&house, AttemptReport { first_event: 1, events, ..about(&assignment) }).await.unwrap();
    // It stops between the end and the next one's making.
    let house = house.restart().await;
    assert_eq!(house.all().await.len(), 1);
    house.scheduler.reconcile().await.unwrap();
    assert_eq!(house.all().await.len(), 2);
    let house = house.restart().await;
    house.scheduler.reconcile().await.unwrap();
    assert_eq!(house.all().await.len(), 2);
}

#[tokio::test]
async fn what_is_not_listed_or_was_stopped_is_not_tried_again() {
    for outcome in [Outcome::TimedOut, Outcome::Succeeded, Outcome::Trapped] {
        let house = House::new(samples::document(TRIED)).await;
        house.nodes(1).await;
        let mut runner = house.runner("one").await;
        house.next().await;
        let assignment = runner.assigned(&house).await;
        let events = vec![ended(0, Some(0), outcome), finished(outcome)];
        runner.say(&house, AttemptReport { first_event: 1, events, ..about(&assignment) }).await.unwrap();
        house.scheduler.reconcile().await.unwrap();
        assert_eq!(house.all().await.len(), 1, "{outcome}");
    }
    let house = House::new(samples::document(TRIED)).await;
    house.nodes(2).await;
    let mut runner = house.runner("one").await;
    let id = house.next().await;
    let assignment = runner.assigned(&house).await;
    house.scheduler.cancel(id, CancelMode::Ask, "ann").await.unwrap();
    let events = vec![ended(0, Some(0), Outcome::Failed), finished(Outcome::Failed)];
    runner.say(&house, AttemptReport { first_event: 1, events, ..about(&assignment) }).await.unwrap();
    house.ended(id, Outcome::Failed).await;
    house.scheduler.reconcile().await.unwrap();
    assert_eq!(house.all().await.len(), 1);
}
