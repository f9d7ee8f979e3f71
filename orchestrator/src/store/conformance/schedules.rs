//! Schedules and the times that were taken.

use super::*;

fn schedule(name: &str, cron: &str) -> Schedule {
    serde_json::from_value(json!({"name": name, "cron": cron})).unwrap()
}

#[tokio::test]
async fn a_time_of_a_schedule_is_taken_once_and_only_forward() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let hourly = NewRevision { schedules: vec![schedule("hourly", "0 * * * *")], ..revision("a", "1") };
        store.save_job(hourly.clone()).await.unwrap();
        let ops = "ops".parse().unwrap();
        let stored = store.schedules(&ops, None).await.unwrap().remove(0);
        // Made at 11:06:41.
        assert_eq!(stored.next.unwrap().to_seconds_text(), "2026-11-18T12:00:00Z");
        assert_eq!((stored.done, stored.enabled, stored.execution), (at(1), true, None));
        assert_eq!(store.schedules_due(at(3199)).await.unwrap(), []);
        assert_eq!(store.schedules_due(at(3200)).await.unwrap().remove(0), stored);

        let fired = |number: u128, due: Timestamp| {
            let origin = Origin::Schedule { name: "hourly".parse().unwrap(), due };
            NewExecution { head: Head { origin, ..head("a") }, ..new(execution(number), "a") }
        };
        assert_eq!(create(&store, fired(1, at(3200))).await, Ok(Created::New));
        for (number, due) in [(2, at(3200)), (3, at(100))] {
            let again = create(&store, fired(number, due)).await;
            assert!(matches!(again, Err(StoreError::Conflict { what: "schedule", .. })), "{again:?}");
            assert_eq!(store.execution(execution(number)).await.unwrap(), None);
        }
        let stored = store.schedules(&ops, Some(&"a".parse().unwrap())).await.unwrap().remove(0);
        assert_eq!((stored.done, stored.execution), (at(3200), Some(execution(1))));
        assert_eq!(stored.next, Some(at(6800)));
        let listed = store.executions(ExecutionFilter { limit: 10, ..Default::default() }).await.unwrap();
        let origin = Origin::Schedule { name: "hourly".parse().unwrap(), due: at(3200) };
        assert_eq!(listed[0].origin, origin);

        // What is left out moves it on, and never back.
        let key = stored.key();
        store.pass_schedule(key.clone(), at(6800), Some("no such option".to_owned())).await.unwrap();
        store.pass_schedule(key.clone(), at(50), None).await.unwrap();
        let stored = store.schedules(&ops, None).await.unwrap().remove(0);
        assert_eq!((stored.done, stored.error.as_deref()), (at(6800), Some("no such option")));

        // The same times go on where they were; other times begin when they are saved.
        let again = NewRevision { source: "2".to_owned(), at: at(9000), ..hourly.clone() };
        store.save_job(again).await.unwrap();
        assert_eq!(store.schedules(&ops, None).await.unwrap()[0].done, at(6800));
        let other = vec![schedule("hourly", "30 * * * *"), schedule("second", "0 0 * * *")];
        let other = NewRevision { source: "3".to_owned(), at: at(9000), schedules: other, ..hourly.clone() };
        store.save_job(other).await.unwrap();
        let both = store.schedules(&ops, None).await.unwrap();
        assert_eq!(both.iter().map(|one| one.done).collect::<Vec<_>>(), [at(9000), at(9000)]);

        // Paused: nothing is due, and what came meanwhile is left out.
        assert!(store.enable_schedule(key.clone(), false, at(9001)).await.unwrap());
        assert!(!store.enable_schedule(key.clone(), false, at(9002)).await.unwrap());
        assert_eq!(store.schedules_due(at(20_000)).await.unwrap(), []);
        let off = create(&store, fired(4, at(19_000))).await;
        assert!(matches!(off, Err(StoreError::Conflict { .. })), "{off:?}");
        assert!(store.enable_schedule(key.clone(), true, at(20_000)).await.unwrap());
        assert_eq!(store.schedules(&ops, None).await.unwrap()[0].done, at(20_000));

        // They go with their job.
        store.delete_job(&ops, &"a".parse().unwrap()).await.unwrap();
        assert_eq!(store.schedules(&ops, None).await.unwrap(), []);
        let gone = store.enable_schedule(key, true, at(1)).await;
        assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
        let gone = create(&store, fired(5, at(30_000))).await;
        assert!(matches!(gone, Err(StoreError::Conflict { .. })), "{gone:?}");
    })
    .await;
}
