//! Webhooks and their deliveries.

use super::*;

#[tokio::test]
async fn a_delivery_of_a_webhook_is_taken_once() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let ops: remit_protocol::ProjectName = "ops".parse().unwrap();
        let (name, delivery): (remit_protocol::HookName, remit_protocol::DeliveryId) =
            ("push".parse().unwrap(), "d-1".parse().unwrap());
        let hook = Hook {
            project: ops.clone(),
            name: name.clone(),
            job: "a".parse().unwrap(),
            mapping: [("n".parse().unwrap(), operator::HookMapping::Payload("/n".to_owned()))].into(),
            secret: vec![1],
            previous: None,
            created: at(1),
            created_by: "ann".to_owned(),
            rotated: at(1),
        };
        store.create_hook(hook.clone()).await.unwrap();
        assert!(matches!(store.create_hook(hook.clone()).await, Err(StoreError::Conflict { .. })));
        assert_eq!(store.hooks(&ops).await.unwrap().remove(0), hook);
        store.rotate_hook(&ops, &name, vec![2], at(2), Some(at(9))).await.unwrap();
        let rotated =
            Hook { secret: vec![2], previous: Some((vec![1], at(9))), rotated: at(2), ..hook.clone() };
        assert_eq!(store.hook(&ops, &name).await.unwrap(), Some(rotated));
        store.rotate_hook(&ops, &name, vec![3], at(3), None).await.unwrap();
        let rotated = Hook { secret: vec![3], rotated: at(3), ..hook };
        assert_eq!(store.hook(&ops, &name).await.unwrap(), Some(rotated));

        let called = |number: u128, hook: &str| {
            let (name, delivery) = (hook.parse().unwrap(), "d-1".parse().unwrap());
            let origin = Origin::Webhook { name, delivery, sent: at(1) };
            NewExecution { head: Head { origin, ..head("a") }, ..new(execution(number), "a") }
        };
        assert_eq!(create(&store, called(1, "push")).await, Ok(Created::New));
        let again = create(&store, called(2, "push")).await;
        assert!(matches!(again, Err(StoreError::Conflict { what: "delivery", .. })), "{again:?}");
        assert_eq!(store.execution(execution(2)).await.unwrap(), None);
        assert_eq!(store.delivered(&ops, &name, &delivery).await.unwrap(), Some(execution(1)));
        // Another webhook counts for itself, and one that is made again remembers.
        assert_eq!(create(&store, called(3, "other")).await, Ok(Created::New));
        assert!(store.delete_hook(&ops, &name).await.unwrap());
        assert!(!store.delete_hook(&ops, &name).await.unwrap());
        assert!(create(&store, called(4, "push")).await.is_err());
        assert_eq!(store.forget_deliveries(at(1)).await.unwrap(), 0);
        assert_eq!(store.forget_deliveries(at(2)).await.unwrap(), 2);
        let gone = store.rotate_hook(&ops, &name, vec![3], at(3), None).await;
        assert!(matches!(gone, Err(StoreError::NotFound { .. })), "{gone:?}");
    })
    .await;
}
