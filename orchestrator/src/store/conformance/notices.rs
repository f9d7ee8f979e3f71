//! What is to be made known outside.

use super::*;

#[tokio::test]
async fn a_notice_waits_until_it_is_sent_or_given_up() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let ops: remit_protocol::ProjectName = "ops".parse().unwrap();
        let notice = |occasion, part: &str, entry| Notice {
            occasion,
            part: part.to_owned(),
            entry,
            target: Target::Channel("ops".parse().unwrap()),
        };
        let start = notice(Occasion::Start, "", 0);
        let mut first = new(execution(1), "a");
        first.changes.push(Change::Notice(start.clone()));
        assert_eq!(create(&store, first).await, Ok(Created::New));
        // The same again is the same; another part or entry is another.
        store.add_notice(execution(1), start, at(5)).await.unwrap();
        store.add_notice(execution(1), notice(Occasion::Retry, "0/2", 0), at(5)).await.unwrap();
        store.add_notice(execution(1), notice(Occasion::Retry, "0/3", 0), at(6)).await.unwrap();
        store.add_notice(execution(1), notice(Occasion::Retry, "0/3", 1), at(6)).await.unwrap();
        assert_eq!(store.notices(&ops, None, None, 10).await.unwrap().len(), 4);
        let due = store.notices_due(at(5), 10).await.unwrap();
        assert_eq!(due.iter().map(|one| (one.at, one.tries)).collect::<Vec<_>>(), [(at(1), 0), (at(5), 0)]);

        store.notice_tried(due[0].number, Tried::Again(at(50), "x".to_owned()), at(5)).await.unwrap();
        store.notice_tried(due[1].number, Tried::Sent, at(5)).await.unwrap();
        assert_eq!(store.notices_due(at(5), 10).await.unwrap(), []);
        let due = store.notices_due(at(50), 10).await.unwrap();
        assert_eq!((due.len(), due[2].tries, due[2].error.as_deref()), (3, 1, Some("x")));
        store.notice_tried(due[2].number, Tried::Failed("y".to_owned()), at(51)).await.unwrap();
        let failed = store.notices(&ops, Some(operator::NoticeState::Failed), None, 10).await.unwrap();
        assert_eq!((failed.len(), failed[0].tries, failed[0].error.as_deref()), (1, 2, Some("y")));
        // What waits is kept, however old.
        assert_eq!(store.forget_notices(at(51)).await.unwrap(), 1);
        assert_eq!(store.forget_notices(at(9999)).await.unwrap(), 1);
        assert_eq!(store.notices(&ops, None, None, 10).await.unwrap().len(), 2);
    })
    .await;
}
