//! The log limit of a job, over several runners and restarts.

use remit_protocol::report::Limit;

use super::*;
use crate::store::LogLine;

/// Two steps side by side and one behind them; together they may write three lines.
fn talkative(at_limit: &str) -> Document {
    samples::document(&format!(
        "
job: sample
log_limit: {{ lines: 3, {at_limit} }}
steps:
  - parallel:
      - {{ name: a, uses: test/pure@1 }}
      - {{ name: b, uses: test/pure@1 }}
  - {{ name: after, uses: test/pure@1 }}
"
    ))
}

/// Two runners with one of the two steps each.
async fn two_at_work(house: &House) -> [(Fake, Assignment); 2] {
    let mut one = house.runner("one").await;
    let mut two = house.runner("two").await;
    house.trigger().await;
    let (first, second) = (one.assigned(house).await, two.assigned(house).await);
    [(one, first), (two, second)]
}

fn says(assignment: &Assignment, first_entry: u64, texts: &[&str]) -> AttemptReport {
    let log = texts.iter().map(|text| line(text)).collect();
    AttemptReport { first_entry, log, ..about(assignment) }
}

async fn log_of(house: &House, id: ExecutionId) -> Vec<String> {
    let page = house.store.logs().page(id, 1, 100, LogFilter::default()).await.unwrap();
    let text = |line: LogLine| line.cut.map_or(line.entry.text, |_| "|".to_owned());
    page.entries.into_iter().map(text).collect()
}

#[tokio::test]
async fn a_log_that_two_runners_fill_stops_both() {
    for (outcome, expect) in [
        ("over-limit", Outcome::OverLimit(Limit::Log)),
        ("failed", Outcome::Failed),
        ("cancelled", Outcome::Cancelled),
    ] {
        let house = House::new(talkative(&format!("outcome: {outcome}"))).await;
        let [(mut one, first), (mut two, second)] = two_at_work(&house).await;
        let reply = one.say(&house, says(&first, 1, &["a", "b"])).await.unwrap();
        assert_eq!((reply.entries, reply.verdict), (2, None));
        let reply = two.say(&house, says(&second, 1, &["c", "d", "e"])).await.unwrap();
        assert_eq!((reply.entries, reply.verdict), (3, Some(Verdict::Cancel)));
        house.expect(first.execution, ExecutionState::Cancelling).await;
        let told = one.poll(&house).await;
        assert!(
            matches!(&told[..], [Command::Cancel { attempt, .. }] if *attempt == first.attempt),
            "{told:?}"
        );
        // What is said after a restart is not kept either, and it still is a full log.
        let house = house.restart().await;
        for (runner, held) in [(&mut one, &first), (&mut two, &second)] {
            runner.open(&house, vec![super::held(held, HeldState::Running)]).await.unwrap();
        }
        let reply = one.say(&house, says(&first, 3, &["f"])).await.unwrap();
        assert_eq!((reply.entries, reply.verdict), (3, Some(Verdict::Cancel)));
        one.finish_step(&house, &first, Outcome::Cancelled).await;
        two.finish_step(&house, &second, Outcome::Cancelled).await;
        let record = house.ended(first.execution, expect).await;
        assert_eq!(record.sections[2].state, SectionState::Ended(Outcome::NotStarted));
        assert_eq!(log_of(&house, first.execution).await, ["a", "b", "c", "|"]);
    }
}

#[tokio::test]
async fn a_last_line_that_is_one_too_many_counts() {
    for outcome in ["over-limit", "cancelled"] {
        let yaml = format!(
            "job: sample\nlog_limit: {{ lines: 1, outcome: {outcome} }}\nsteps:\n  - {{ name: a, uses: test/pure@1 }}\n"
        );
        let house = House::new(samples::document(&yaml)).await;
        let mut runner = house.runner("one").await;
        let id = house.trigger().await;
        let assignment = runner.assigned(&house).await;
        let end = Event::Finished {
            outcome: Outcome::Succeeded,
            message: String::new(),
            log_entries: 2,
            nodes: None,
            result: None,
        };
        let events = vec![ended(0, None, Outcome::Succeeded), end];
        let report = AttemptReport { first_event: 1, events, ..says(&assignment, 1, &["a", "b"]) };
        let reply = runner.say(&house, report).await.unwrap();
        assert_eq!((reply.events, reply.entries), (2, 2));
        let record = house.record(id).await;
        assert_eq!(record.state.outcome().unwrap().kind(), outcome);
    }
}

#[tokio::test]
async fn a_log_that_is_truncated_stops_nothing() {
    let house = House::new(talkative("at_limit: truncate")).await;
    let [(mut one, first), (two, second)] = two_at_work(&house).await;
    let reply = one.say(&house, says(&first, 1, &["a", "b", "c", "d"])).await.unwrap();
    assert_eq!((reply.entries, reply.verdict), (4, None));
    let reply = two.say(&house, says(&second, 1, &["e"])).await.unwrap();
    assert_eq!((reply.entries, reply.verdict), (1, None));
    one.finish_step(&house, &first, Outcome::Succeeded).await;
    two.finish_step(&house, &second, Outcome::Succeeded).await;
    let last = one.assigned(&house).await;
    one.finish_step(&house, &last, Outcome::Succeeded).await;
    house.ended(first.execution, Outcome::Succeeded).await;
    // Too late for the execution, and still too much.
    two.say(&house, says(&second, 2, &["f"])).await.unwrap();
    assert_eq!(log_of(&house, first.execution).await, ["a", "b", "c", "|"]);
}
