//! Schedules over restarts, pauses and jobs that cannot be run.

use remit_protocol::Origin;

use super::*;
use crate::store::ExecutionFilter;

/// A job with one schedule, of these lines, and an option that it needs.
fn job(schedule: &str) -> Document {
    samples::document(&format!(
        "job: sample\noptions: {{ n: {{ type: integer, default: 1 }} }}\nschedules:\n  - {{ name: hourly, cron: \"0 * * * *\", {schedule} }}\n\
         steps:\n  - name: s0\n    uses: test/pure@1\n"
    ))
}

/// When the executions of the project were due, the oldest first. House begins at 11:06:40.
async fn fired(house: &House) -> Vec<String> {
    let filter = ExecutionFilter { limit: 1000, ..ExecutionFilter::default() };
    let all = house.store.executions(filter).await.unwrap();
    let due = all.iter().rev().map(|one| match &one.origin {
        Origin::Schedule { name, due } => {
            assert_eq!((name.as_str(), one.started_by.as_str()), ("hourly", "schedule:hourly"));
            due.to_seconds_text()[11..16].to_owned()
        }
        other => panic!("{other:?}"),
    });
    due.collect()
}

impl House {
    async fn tick(&self, seconds: u64) {
        self.later(seconds).await;
        self.scheduler.fire_due().await.unwrap();
    }
}

#[tokio::test]
async fn a_time_is_run_once_however_often_the_orchestrator_restarts() {
    let mut house = House::new(job("options: { n: 7 }")).await;
    house.tick(3199).await;
    assert_eq!(fired(&house).await, Vec::<String>::new());
    house.tick(1).await;
    assert_eq!(fired(&house).await, ["12:00"]);
    for _ in 0..3 {
        house = house.restart().await;
        house.tick(5).await;
    }
    // Two that look at the same time, one of them behind: the store decides.
    let (one, two) = (house.scheduler.clone(), house.scheduler.clone());
    house.later(3600 - 15).await;
    let (first, second) = tokio::join!(one.fire_due(), two.fire_due());
    first.and(second).unwrap();
    assert_eq!(fired(&house).await, ["12:00", "13:00"]);
    // The clock goes back: what was run is not run again.
    house.clock.wall.fetch_sub(7200 * 1000, Ordering::SeqCst);
    house.tick(1).await;
    assert_eq!(fired(&house).await, ["12:00", "13:00"]);
    let id = house.store.executions(ExecutionFilter { limit: 1, ..Default::default() }).await.unwrap()[0].id;
    assert_eq!(
        serde_json::Value::Object((*house.record(id).await.head.options).clone()),
        serde_json::json!({"n": 7})
    );
}

#[tokio::test]
async fn what_was_missed_follows_the_policy() {
    async fn check(policy: &str, expect: &[&str]) {
        let house = House::new(job(policy)).await.restart().await;
        // Down from 11:06:40 to 15:30.
        house.tick(4 * 3600 + 1400).await;
        house.tick(1).await;
        assert_eq!(fired(&house).await, expect, "{policy}");
    }
    check("missed: skip", &[]).await;
    check("missed: once", &["15:00"]).await;
    check("missed: all, most: 3", &["13:00", "14:00", "15:00"]).await;
    check("missed: all", &["12:00", "13:00", "14:00", "15:00"]).await;
}

#[tokio::test]
async fn a_pause_is_not_made_up_for() {
    let house = House::new(job("missed: all")).await;
    let key = house.store.schedules(&"ops".parse().unwrap(), None).await.unwrap()[0].key();
    house.store.enable_schedule(key.clone(), false, house.clock.now()).await.unwrap();
    house.tick(5 * 3600).await;
    house.store.enable_schedule(key, true, house.clock.now()).await.unwrap();
    house.tick(1).await;
    assert_eq!(fired(&house).await, Vec::<String>::new());
    house.tick(3600).await;
    assert_eq!(fired(&house).await, ["17:00"]);
}

#[tokio::test]
async fn a_time_at_which_the_job_cannot_be_run_is_told_and_not_tried_for_ever() {
    // The filter of the job cannot be resolved: the option that it speaks of holds what no filter can.
    let text = "job: sample\noptions: { n: { type: integer, default: 0 } }\nnodes: { filter: \".*\", threads: options.n }\n\
                schedules:\n  - { name: hourly, cron: \"0 * * * *\" }\nsteps:\n  - { name: s0, uses: test/pure@1, per: node }\n";
    let house = House::new(samples::document(text)).await;
    house.tick(3200).await;
    let stored = house.store.schedules(&"ops".parse().unwrap(), None).await.unwrap().remove(0);
    assert_eq!(fired(&house).await, Vec::<String>::new());
    assert!(stored.error.as_deref().unwrap().contains("nodes.threads"), "{stored:?}");
    assert_eq!(stored.next.unwrap().to_seconds_text(), "2026-11-18T13:00:00Z");
}
