//! Node sources.

use super::*;

#[tokio::test]
async fn sources_stand_in_their_order_and_keep_what_they_gave() {
    on_each(async |store| {
        let (ops, loaded) = ("ops".parse().unwrap(), "loaded".parse().unwrap());
        let source = |name: &str| NewSource {
            project: "ops".parse().unwrap(),
            name: name.parse().unwrap(),
            kind: SourceKind::Component,
            config: json!({"uses": "a/b@1"}),
            document: Some(digest::Sized::of(b"d")),
            every: None,
        };
        store.save_source(source("b")).await.unwrap();
        store.save_source(source("a")).await.unwrap();
        store.load_nodes(&ops, &loaded, digest::Sized::of(b"n"), 3, at(1)).await.unwrap();
        store.save_source(source("b")).await.unwrap();
        let names = async || {
            let all = store.sources(&ops).await.unwrap();
            all.iter().map(|source| source.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names().await, ["loaded", "b", "a"]);
        let wrong = store.load_nodes(&ops, &"a".parse().unwrap(), digest::Sized::of(b"n"), 3, at(1)).await;
        assert!(matches!(wrong, Err(StoreError::Conflict { .. })));

        // A refresh counts if it is the newest of its source.
        let refresh = |number| NewExecution {
            head: Head { purpose: Purpose::Source("a".parse().unwrap()), ..head("discover") },
            ..new(execution(number), "discover")
        };
        create(&store, refresh(1)).await.unwrap();
        create(&store, refresh(2)).await.unwrap();
        let gave = |bytes: &[u8], count| Change::SourceNodes {
            name: "a".parse().unwrap(),
            found: Ok((digest::Sized::of(bytes), count)),
        };
        record(&store, execution(2), 1, vec![gave(b"new", 2)], vec![]).await.unwrap();
        record(&store, execution(1), 1, vec![gave(b"old", 1)], vec![]).await.unwrap();
        let failed = Change::SourceNodes { name: "a".parse().unwrap(), found: Err("why".to_owned()) };
        record(&store, execution(2), 2, vec![failed], vec![]).await.unwrap();
        let found = store.sources(&ops).await.unwrap().remove(2);
        assert_eq!((found.nodes, found.count), (Some(digest::Sized::of(b"new")), 2));
        assert_eq!((found.error.as_deref(), found.execution), (Some("why"), Some(execution(2))));
        let listed = ExecutionFilter { limit: 9, ..ExecutionFilter::default() };
        assert!(store.executions(listed.clone()).await.unwrap().is_empty());
        assert_eq!(store.executions(ExecutionFilter { sources: true, ..listed }).await.unwrap().len(), 2);
        assert!(store.delete_source(&ops, &loaded).await.unwrap());
    })
    .await;
}
