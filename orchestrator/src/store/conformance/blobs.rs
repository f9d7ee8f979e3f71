//! Which blobs are in use.

use super::*;

#[tokio::test]
async fn blobs_that_something_names_are_in_use() {
    on_each(|store| async move {
        project(&store, "ops").await;
        store.save_job(revision("a", "document of a job")).await.unwrap();
        create(&store, new(execution(1), "a")).await.unwrap();
        let used = store.blobs_in_use().await.unwrap();
        assert!(used.contains(&Digest::of(b"document of a job")) && used.contains(&Digest::of(b"document")));
        let stored = store.blobs().put(b"nobody's".to_vec()).await.unwrap();
        let kept = store.blobs().put(b"document".to_vec()).await.unwrap();
        let none = std::time::Duration::ZERO;
        assert_eq!(store.blobs().sweep(used.clone(), Timestamp::default(), none).await.unwrap(), 0);
        let later = at(1_000_000_000);
        assert_eq!(store.blobs().sweep(used, later, none).await.unwrap(), 1);
        assert!(!store.blobs().has(stored.digest).await.unwrap());
        assert!(store.blobs().has(kept.digest).await.unwrap());
    })
    .await;
}
