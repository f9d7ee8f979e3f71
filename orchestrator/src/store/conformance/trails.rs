//! The ends of runners' records.

use super::*;

#[tokio::test]
async fn of_a_runners_record_the_longest_end_stays() {
    on_each(|store| async move {
        use remit_signing::trail::Head;
        let runner = RunnerId::from_u128(1);
        let end = |entries, text: &str, key: u8| TrailHead {
            key: [key; 32],
            head: Head { entries, digest: Digest::of(text.as_bytes()) },
            note: format!("{entries} {text}"),
            at: at(entries),
            against: None,
        };
        let keep = async |head: TrailHead| store.keep_trail(runner, head).await.unwrap();
        assert_eq!(keep(end(5, "a", 1)).await, Kept::Newest);
        assert_eq!(keep(end(5, "a", 1)).await, Kept::Same);
        assert_eq!(keep(end(7, "b", 1)).await, Kept::Newest);
        assert_eq!(keep(end(6, "c", 1)).await, Kept::Against { entries: 7, first: true });
        assert_eq!(keep(end(7, "d", 1)).await, Kept::Against { entries: 7, first: false });
        assert_eq!(keep(end(8, "e", 1)).await, Kept::Newest);
        assert_eq!(keep(end(2, "f", 2)).await, Kept::Newest);
        let found = store.trails(runner).await.unwrap();
        let shown: Vec<_> =
            found.iter().map(|head| (head.key[0], head.head.entries, head.against.clone())).collect();
        assert_eq!(shown, [(1, 8, Some("6 c".to_owned())), (2, 2, None)]);
        assert!(store.trails(RunnerId::from_u128(2)).await.unwrap().is_empty());
    })
    .await;
}
