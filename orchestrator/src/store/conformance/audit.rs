//! The record of who did what.

use super::*;

#[tokio::test]
async fn what_people_did_is_kept_in_order() {
    on_each(async |store| {
        for (second, action) in [(1, "job.save"), (2, "job.run"), (3, "runner.create")] {
            let new = NewAudit {
                at: at(second),
                who: "ann".to_owned(),
                action: action.to_owned(),
                target: "t".to_owned(),
                detail: String::new(),
            };
            store.audit(new).await.unwrap();
        }
        let jobs = AuditFilter { action: Some("job.".to_owned()), limit: 1, ..AuditFilter::default() };
        let newest = store.audit_entries(jobs.clone()).await.unwrap().remove(0);
        assert_eq!(newest.entry.action, "job.run");
        let rest = store.audit_entries(AuditFilter { before: Some(newest.number), ..jobs }).await.unwrap();
        assert_eq!(rest[0].entry.action, "job.save");
    })
    .await;
}

#[tokio::test]
async fn the_record_is_linked_and_what_is_too_long_is_shortened() {
    on_each(|store| async move {
        use remit_signing::trail;
        let entry = |action: &str, detail: &str| NewAudit {
            at: at(1),
            who: "ann".to_owned(),
            action: action.to_owned(),
            target: "x".to_owned(),
            detail: detail.to_owned(),
        };
        assert_eq!(store.audit_head().await.unwrap(), trail::Head::origin());
        for (action, detail) in [("a", ""), ("b", &*"long".repeat(10_000)), ("c", "more")] {
            store.audit(entry(action, detail)).await.unwrap();
        }
        let found = store.audit_lines(0, 10).await.unwrap();
        let mut kinds = Vec::new();
        let linked = trail::verify(found.lines.iter().map(String::as_bytes), |entry| {
            kinds.push((
                entry.kind().to_owned(),
                entry.event["who"].clone(),
                entry.event.get("detail").cloned(),
            ));
        });
        assert_eq!(linked.unwrap().unwrap().head, store.audit_head().await.unwrap());
        let said = |kind: &str, detail: Option<&str>| (kind.to_owned(), "ann".into(), detail.map(Into::into));
        assert_eq!(kinds, [said("a", None), said("b", Some("shortened")), said("c", Some("more"))]);
        let part = store.audit_lines(1, 1).await.unwrap();
        assert_eq!((&part.lines[..], part.last), (&found.lines[1..2], Some(2)));
        let end = store.audit_lines(3, 1).await.unwrap();
        assert_eq!((end.lines.len(), end.last), (0, None));
    })
    .await;
}
