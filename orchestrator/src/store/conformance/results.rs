//! What steps came to, node by node.

use super::*;

#[tokio::test]
async fn results_of_many_nodes_come_in_pages() {
    on_each(async |store| {
        let id = execution(1);
        create(&store, new(id, "a")).await.unwrap();
        let attempt = AttemptId::from_parts(at(1), 1);
        let outcome = |node: u32| if node.is_multiple_of(100) { Outcome::Failed } else { Outcome::Succeeded };
        let changes = (0..10_000).map(|node| result(attempt, Some(node), outcome(node))).collect();
        record(&store, id, 1, changes, vec![]).await.unwrap();
        record(&store, id, 2, vec![result(attempt, Some(7), Outcome::Trapped)], vec![]).await.unwrap();
        let counts = &store.result_counts(id).await.unwrap()[&StepIndex(0)];
        assert_eq!(counts[&Outcome::Succeeded], 9899);
        assert_eq!((counts[&Outcome::Failed], counts[&Outcome::Trapped]), (100, 1));
        let failed =
            ResultFilter { outcome: Some("failed".to_owned()), limit: 60, ..ResultFilter::default() };
        let page = store.results(id, failed.clone()).await.unwrap();
        let last = page.last().map(|result| (result.ended.node, result.ended.step)).unwrap();
        assert_eq!((page.len(), last), (60, (Some(NodeIndex(5900)), StepIndex(0))));
        let rest = store.results(id, ResultFilter { after: Some(last), ..failed }).await.unwrap();
        assert_eq!((rest.len(), rest[0].ended.node), (40, Some(NodeIndex(6000))));
        assert_eq!(store.outcomes(id).await.unwrap().len(), 10_000);
    })
    .await;
}
