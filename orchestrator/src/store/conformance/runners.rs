//! Runners, their tickets and sessions.

use super::*;

#[tokio::test]
async fn a_ticket_is_used_once_and_a_copied_runner_is_locked() {
    on_each(async |store| {
        let id = RunnerId::from_parts(at(0), 1);
        let runner = |id| NewRunner {
            id,
            name: "r".parse().unwrap(),
            local: false,
            tags: BTreeSet::from(["dmz".parse().unwrap()]),
            projects: Projects::All,
            description: Description::default(),
            at: at(0),
        };
        store.create_runner(runner(id)).await.unwrap();
        let taken = store.create_runner(runner(RunnerId::from_parts(at(0), 2))).await;
        assert!(matches!(taken, Err(StoreError::Conflict { .. })));
        let ticket = |number| NewTicket {
            id: TicketId::from_parts(at(0), number),
            runner: id,
            key: [7; 32],
            expires: at(100),
        };
        let enrol =
            |number, key, at| Enrolment { ticket: TicketId::from_parts(self::at(0), number), key, at };
        store.create_ticket(ticket(1)).await.unwrap();
        store.create_ticket(ticket(2)).await.unwrap();
        assert!(store.ticket(ticket(1).id).await.unwrap().is_none());
        assert_eq!(store.ticket(ticket(2).id).await.unwrap(), Some(ticket(2)));
        assert!(matches!(store.enrol(enrol(2, [1; 32], at(100))).await, Err(StoreError::Conflict { .. })));
        let enrolled = store.enrol(enrol(2, [1; 32], at(5))).await.unwrap();
        assert_eq!(store.enrol(enrol(2, [1; 32], at(6))).await.unwrap(), enrolled);
        assert!(matches!(store.enrol(enrol(2, [2; 32], at(6))).await, Err(StoreError::Conflict { .. })));

        let facts = SessionFacts {
            version: "1".to_owned(),
            hostname: "h".to_owned(),
            features: BTreeSet::new(),
            slots: 3,
            sealing: Some("a note".to_owned()),
            at: at(7),
        };
        let open = async |last| store.open_session(id, Session(last), facts.clone()).await.unwrap();
        assert_eq!(open(0).await, Opening::Opened(Session(1)));
        let notes = store.sealing_notes(vec![id, RunnerId::from_u128(77)]).await.unwrap();
        assert_eq!(notes, [(id, "a note".to_owned())].into());
        // The answer was lost: nobody has used session 1.
        assert_eq!(open(0).await, Opening::Opened(Session(2)));
        store.confirm_session(id, Session(2)).await.unwrap();
        assert_eq!(open(2).await, Opening::Opened(Session(3)));
        assert_eq!(open(1).await, Opening::Locked);
        assert_eq!(open(3).await, Opening::Locked);
        store.change_runner(id, RunnerChange { unlock: true, ..RunnerChange::default() }).await.unwrap();
        assert_eq!(open(9).await, Opening::Opened(Session(10)));
        let changed =
            RunnerChange { enabled: Some(false), tags: Some(BTreeSet::new()), ..RunnerChange::default() };
        let changed = store.change_runner(id, changed).await.unwrap();
        assert_eq!((changed.enabled, changed.tags.len(), changed.slots), (false, 0, 3));
        store.delete_runner(id).await.unwrap();
        assert!(store.runner(id).await.unwrap().is_none());
        assert!(matches!(store.delete_runner(id).await, Err(StoreError::NotFound { .. })));
    })
    .await;
}
