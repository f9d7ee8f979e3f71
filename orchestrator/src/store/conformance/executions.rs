//! Executions: their moves, their lists, their end.

use super::*;

#[tokio::test]
async fn an_execution_moves_by_versions_and_tells_in_order() {
    on_each(async |store| {
        let id = execution(1);
        create(&store, new(id, "a")).await.unwrap();
        let handed = AttemptRecord {
            id: AttemptId::from_parts(at(1), 1),
            section: SectionNumber(0),
            epoch: Epoch(1),
            runner: RunnerId::from_parts(at(1), 2),
            session: Session(4),
            ranges: vec![(0, 3)],
            state: AttemptState::Leased,
            nonce: None,
            events: 0,
            leased: at(1),
            began: None,
            ended: None,
            message: String::new(),
            result: None,
        };
        let leased = SectionRecord { epoch: Epoch(1), ..section(SectionState::Leased) };
        let changes = vec![Change::Section(leased.clone()), Change::HandedOut(handed.clone())];
        record(&store, id, 1, changes.clone(), vec![]).await.unwrap();
        // What was decided on an older version is refused whole.
        let stale = record(&store, id, 1, changes, vec![]).await;
        assert!(matches!(stale, Err(StoreError::Conflict { .. })));
        assert!(record(&store, id, 2, vec![], vec![]).await.is_ok());
        assert!(record(&store, id, 3, vec![], vec![]).await.is_err());
        let begun = AttemptRecord {
            state: AttemptState::Started,
            nonce: Some(u64::MAX),
            began: Some(at(2)),
            ..handed
        };
        let changes = vec![
            Change::Attempt(begun.clone()),
            Change::Dispatched { attempt: begun.id, number: 1, nodes: vec![NodeIndex(2)] },
            result(begun.id, None, Outcome::Succeeded),
            Change::StepConcluded { step: StepIndex(0), outcome: Outcome::Succeeded },
            moved(ExecutionState::Ended(Outcome::Succeeded), Some(at(2)), Some(at(3))),
        ];
        let ended = told(ExecutionState::Ended(Outcome::Succeeded));
        assert_eq!(store.open_executions().await.unwrap(), [id]);
        record(&store, id, 2, changes, vec![told(ExecutionState::Running), ended.clone()]).await.unwrap();
        assert!(store.open_executions().await.unwrap().is_empty());
        let found = store.execution(id).await.unwrap().unwrap();
        assert_eq!((found.version, found.last_event), (3, 3));
        assert_eq!((found.sections, found.attempts), (vec![leased], vec![begun.clone()]));
        assert_eq!(found.steps[&StepIndex(0)], Outcome::Succeeded);
        assert_eq!((found.began, found.ended), (Some(at(2)), Some(at(3))));
        let feed = store.events_after(id, 2).await.unwrap();
        assert_eq!(feed, [FeedEntry { number: 3, at: at(2), what: ended }]);
        assert_eq!(store.dispatched(id).await.unwrap(), [(begun.id, vec![NodeIndex(2)])]);
        assert_eq!(store.execution_of(begun.id).await.unwrap(), Some(id));
        let results = store.results(id, ResultFilter { limit: 9, ..ResultFilter::default() }).await.unwrap();
        assert_eq!(results[0].ended.output, Some(json!({"a": [1, null]})));
    })
    .await;
}

#[tokio::test]
async fn the_same_key_makes_the_same_execution() {
    on_each(async |store| {
        let keyed = |number, job: &str, request: &[u8]| NewExecution {
            key: Some(("k".parse().unwrap(), Digest::of(request))),
            ..new(execution(number), job)
        };
        assert_eq!(create(&store, keyed(1, "a", b"x")).await, Ok(Created::New));
        assert_eq!(create(&store, keyed(2, "a", b"x")).await, Ok(Created::Before(execution(1))));
        assert!(matches!(create(&store, keyed(3, "a", b"y")).await, Err(StoreError::Conflict { .. })));
        assert_eq!(create(&store, keyed(4, "b", b"y")).await, Ok(Created::New));
        assert!(store.execution(execution(2)).await.unwrap().is_none());
        assert_eq!(store.forget_keys(execution(4)).await, Ok(1));
        assert_eq!(create(&store, keyed(5, "a", b"y")).await, Ok(Created::New));
        assert_eq!(create(&store, keyed(6, "b", b"y")).await, Ok(Created::Before(execution(4))));
    })
    .await;
}

#[tokio::test]
async fn executions_are_listed_in_pages_by_what_is_asked() {
    on_each(async |store| {
        for number in 1..=6 {
            create(&store, new(execution(number), if number % 2 == 0 { "even" } else { "odd" }))
                .await
                .unwrap();
        }
        let refused = Outcome::Refused(remit_protocol::RefusalCode::Signature);
        for (number, outcome) in [(1, Outcome::Failed), (2, refused)] {
            let end = moved(ExecutionState::Ended(outcome), Some(at(2)), Some(at(3)));
            record(&store, execution(number), 1, vec![end], vec![]).await.unwrap();
        }
        let list = async |filter: ExecutionFilter| {
            let found = store.executions(filter).await.unwrap();
            found.into_iter().map(|summary| summary.id).collect::<Vec<_>>()
        };
        let all = ExecutionFilter { limit: 100, ..ExecutionFilter::default() };
        let ids = |numbers: &[u128]| numbers.iter().map(|number| execution(*number)).collect::<Vec<_>>();
        assert_eq!(list(all.clone()).await, ids(&[6, 5, 4, 3, 2, 1]));
        assert_eq!(list(ExecutionFilter { limit: 2, ..all.clone() }).await, ids(&[6, 5]));
        assert_eq!(list(ExecutionFilter { before: Some(execution(3)), ..all.clone() }).await, ids(&[2, 1]));
        assert_eq!(
            list(ExecutionFilter { job: Some("odd".parse().unwrap()), ..all.clone() }).await,
            ids(&[5, 3, 1])
        );
        let outcome = |text: &str| ExecutionFilter { outcome: Some(text.to_owned()), ..all.clone() };
        assert_eq!(list(outcome("refused")).await, ids(&[2]));
        assert_eq!(list(outcome("failed")).await, ids(&[1]));
        assert!(list(outcome("%")).await.is_empty());
        let state = |state| ExecutionFilter { state: Some(state), ..all.clone() };
        assert_eq!(list(state(operator::ExecutionState::Ended)).await, ids(&[2, 1]));
        assert_eq!(list(state(operator::ExecutionState::Waiting)).await.len(), 4);
        let elsewhere = ExecutionFilter { project: Some("other".parse().unwrap()), ..all };
        assert!(list(elsewhere).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_has_ended_can_be_forgotten_wholly_and_what_has_not_stays() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let (over, open) = (execution(1), execution(2));
        let key = ("k".parse().unwrap(), Digest::of(b"request"));
        create(&store, NewExecution { key: Some(key.clone()), ..new(over, "a") }).await.unwrap();
        create(&store, new(open, "a")).await.unwrap();
        let attempt = AttemptId::from_parts(at(1), 7);
        let ended = ExecutionState::Ended(Outcome::Succeeded);
        let changes = vec![
            result(attempt, None, Outcome::Succeeded),
            Change::StepConcluded { step: StepIndex(0), outcome: Outcome::Succeeded },
            moved(ended, Some(at(1)), Some(at(2))),
        ];
        record(&store, over, 1, changes, vec![told(ended)]).await.unwrap();
        assert_eq!(store.forget_executions(vec![over, open, execution(9)]).await, Ok(vec![over]));
        assert_eq!(store.execution(over).await.unwrap(), None);
        assert_eq!(store.events_after(over, 0).await.unwrap(), []);
        let all = ResultFilter { limit: 10, ..ResultFilter::default() };
        assert_eq!(store.results(over, all).await.unwrap(), []);
        assert!(store.execution(open).await.unwrap().is_some());
        // The same request is still the same: it does not run again.
        let again = create(&store, NewExecution { key: Some(key), ..new(execution(3), "a") }).await;
        assert_eq!(again, Ok(Created::Before(over)));
    })
    .await;
}
