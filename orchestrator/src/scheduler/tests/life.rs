//! An execution from its trigger to its end, when nothing dies.

use super::*;

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
