//! What dies, and what becomes of its work: each failure that the protocol of runners has an answer to.

use super::*;

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
