//! What is put into the outbox, and that it is put there once.

use remit_protocol::notice::Occasion;

use super::*;
use crate::store::StoredNotice;

/// A job of one step of this class that tells everything.
fn told(class: &str, over: &str) -> Document {
    samples::document(&format!(
        "job: sample\nnotify:\n  - {{ when: [start, success, failure, retry, slow], over: {over}, channel: ops }}\n  - {{ when: [failure], job: tell }}\n\
         steps:\n  - {{ name: s0, uses: test/{class}@1 }}\n"
    ))
}

async fn outbox(house: &House) -> Vec<StoredNotice> {
    let mut all = house.store.notices(&"ops".parse().unwrap(), None, None, 1000).await.unwrap();
    all.reverse();
    all
}

async fn occasions(house: &House) -> Vec<Occasion> {
    outbox(house).await.into_iter().map(|notice| notice.occasion).collect()
}

#[tokio::test]
async fn an_execution_is_told_from_start_to_success() {
    let house = House::new(told("pure", "150%")).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    // Made and waiting is nothing to tell; a hand-out that needs no word of the runner is a start.
    let assignment = runner.assigned(&house).await;
    runner.finish(&house, &assignment, Outcome::Succeeded).await;
    house.ended(id, Outcome::Succeeded).await;
    assert_eq!(occasions(&house).await, [Occasion::Start, Occasion::Success]);
    let house = house.restart().await;
    house.later(5).await;
    assert_eq!(occasions(&house).await, [Occasion::Start, Occasion::Success]);
    assert!(outbox(&house).await.iter().all(|notice| notice.execution == id && notice.tries == 0));
}

#[tokio::test]
async fn what_was_lost_is_told_as_a_retry_and_its_end_to_everybody() {
    let house = House::new(told("pure", "150%")).await;
    let mut runner = house.runner("one").await;
    let id = house.trigger().await;
    runner.assigned(&house).await;
    house.later(200).await;
    let mut other = house.runner("two").await;
    house.later(10).await;
    let again = other.assigned(&house).await;
    assert_eq!(again.epoch, Epoch(2));
    other.finish(&house, &again, Outcome::Failed).await;
    house.ended(id, Outcome::Failed).await;
    let expected = [Occasion::Start, Occasion::Retry, Occasion::Failure, Occasion::Failure];
    assert_eq!(occasions(&house).await, expected);
}

#[tokio::test]
async fn what_takes_long_is_told_once() {
    let house = House::new(told("pure", "\"+30s\"")).await;
    let mut runner = house.runner("one").await;
    let run = async |seconds: u64, runner: &mut Fake| {
        house.trigger().await;
        let assignment = runner.assigned(&house).await;
        // The runner is heard of all the while.
        for _ in 0..seconds / 10 {
            house.later(10).await;
            runner.poll(&house).await;
            house.scheduler.tell_slow().await.unwrap();
        }
        runner.finish(&house, &assignment, Outcome::Succeeded).await;
    };
    let slow = async || occasions(&house).await.into_iter().filter(|told| *told == Occasion::Slow).count();
    // Without an average nobody can tell.
    run(100, &mut runner).await;
    assert_eq!(slow().await, 0);
    run(120, &mut runner).await;
    assert_eq!(slow().await, 0);
    // More than 110 s and 30 s more.
    run(200, &mut runner).await;
    assert_eq!(slow().await, 1);
    let average = house.store.average(&"ops".parse().unwrap(), &"sample".parse().unwrap()).await.unwrap();
    assert_eq!(average, Some(Duration::from_secs(140)));
}

#[tokio::test]
async fn what_makes_an_execution_known_begins_no_third() {
    let house = House::new(told("pure", "10m")).await;
    let mut runner = house.runner("one").await;
    let first = house.trigger().await;
    let assignment = runner.assigned(&house).await;
    runner.finish(&house, &assignment, Outcome::Failed).await;
    house.ended(first, Outcome::Failed).await;
    let chained = Trigger {
        origin: remit_protocol::Origin::Notification { execution: first },
        ..Trigger::of("ops".parse().unwrap(), "sample".parse().unwrap(), BTreeMap::new(), "n".to_owned())
    };
    let second = house.scheduler.trigger(chained).await.unwrap().execution;
    let assignment = runner.assigned(&house).await;
    runner.finish(&house, &assignment, Outcome::Failed).await;
    let about_second: Vec<_> =
        outbox(&house).await.into_iter().filter(|notice| notice.execution == second).collect();
    assert_eq!(about_second.len(), 2, "{about_second:#?}");
    assert!(about_second.iter().all(|notice| matches!(notice.target, remit_job::notify::Target::Channel(_))));
}
