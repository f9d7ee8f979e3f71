//! Projects and jobs.

use super::*;

#[tokio::test]
async fn projects_and_jobs() {
    on_each(async |store| {
        assert!(matches!(store.save_job(revision("a", "1")).await, Err(StoreError::NotFound { .. })));
        project(&store, "ops").await;
        let again = Project {
            name: "ops".parse().unwrap(),
            description: Description::default(),
            created: at(9),
            settings: Default::default(),
        };
        assert!(matches!(store.create_project(again).await, Err(StoreError::Conflict { .. })));
        assert_eq!(store.projects().await.unwrap().len(), 1);
        let first = store.save_job(revision("a", "1")).await.unwrap();
        assert_eq!(first, Saved { revision: Revision(1), new: true });
        assert_eq!(
            store.save_job(revision("a", "1")).await.unwrap(),
            Saved { revision: Revision(1), new: false }
        );
        assert_eq!(store.save_job(revision("a", "2")).await.unwrap().revision, Revision(2));
        let (ops, a) = ("ops".parse().unwrap(), "a".parse().unwrap());
        let newest = store.job(&ops, &a, None).await.unwrap().unwrap();
        assert_eq!((newest.revision, newest.source.as_str()), (Revision(2), "2"));
        assert_eq!(store.job(&ops, &a, Some(Revision(1))).await.unwrap().unwrap().source, "1");
        assert!(store.job(&ops, &a, Some(Revision(3))).await.unwrap().is_none());
        // A job that was deleted and comes back goes on counting; its old revisions stay readable.
        assert!(store.delete_job(&ops, &a).await.unwrap());
        assert!(!store.delete_job(&ops, &a).await.unwrap());
        assert!(store.jobs(&ops, None, 10).await.unwrap().is_empty());
        assert!(store.job(&ops, &a, Some(Revision(2))).await.unwrap().is_some());
        assert_eq!(store.save_job(revision("a", "2")).await.unwrap().revision, Revision(3));
    })
    .await;
}

#[tokio::test]
async fn jobs_come_in_pages_by_name() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let ops: remit_protocol::ProjectName = "ops".parse().unwrap();
        for name in ["c", "a", "b", "b_2"] {
            store.save_job(revision(name, name)).await.unwrap();
        }
        let names = async |after: Option<&str>, limit| {
            let after = after.map(|after| after.parse().unwrap());
            let page = store.jobs(&ops, after, limit).await.unwrap();
            page.into_iter().map(|job| job.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(None, 10).await, ["a", "b", "b_2", "c"]);
        assert_eq!(names(None, 2).await, ["a", "b"]);
        assert_eq!(names(Some("b"), 2).await, ["b_2", "c"]);
        assert_eq!(names(Some("c"), 2).await, [""; 0]);
        assert_eq!(store.count_jobs(&ops).await, Ok(4));
    })
    .await;
}
