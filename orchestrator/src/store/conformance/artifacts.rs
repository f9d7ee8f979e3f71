//! Files that steps kept.

use super::*;

#[tokio::test]
async fn artifacts_are_what_the_attempt_brought_and_count_once() {
    on_each(|store| async move {
        project(&store, "ops").await;
        let id = execution(1);
        create(&store, new(id, "a")).await.unwrap();
        let (first, second) = (AttemptId::from_parts(at(1), 7), AttemptId::from_parts(at(1), 8));
        let quota = remit_protocol::Size::from_bytes(10);
        let bytes = |text: &str| digest::Sized::of(text.as_bytes());
        let brought = async |attempt, text: &str| {
            let upload = Upload { attempt, project: "ops".parse().unwrap(), bytes: bytes(text), at: at(1) };
            store.keep_upload(upload, quota).await.unwrap()
        };
        assert!(brought(first, "abcdef").await);
        assert!(!brought(first, "ghijkl").await, "more than the quota");
        assert!(brought(second, "abcdef").await, "the same bytes count once");
        assert!(brought(second, "ghij").await);
        let ops = "ops".parse().unwrap();
        assert_eq!(store.artifact_bytes(&ops).await, Ok(10));
        let ended = |attempt, node, artifacts: &[(&str, &str)]| {
            let Change::StepEnded { mut ended, .. } = result(attempt, node, Outcome::Failed) else {
                unreachable!()
            };
            let artifact = |(name, text): &(&str, &str)| Artifact {
                name: name.parse().unwrap(),
                form: ArtifactForm::Text,
                bytes: bytes(text),
            };
            ended.artifacts = artifacts.iter().map(artifact).collect();
            Change::StepEnded { attempt: Some(attempt), ended }
        };
        let changes = vec![
            ended(first, None, &[("a", "abcdef"), ("b", "ghij")]),
            ended(first, Some(3), &[("a", "abcdef")]),
        ];
        record(&store, id, 1, changes, vec![]).await.unwrap();
        let names = async |name: Option<&str>, after| {
            let found = store.artifacts(id, name.map(|name| name.parse().unwrap()), after, 10).await.unwrap();
            let place = |kept: &KeptArtifact| (kept.node.map(|node| node.0), kept.artifact.name.to_string());
            found.iter().map(place).collect::<Vec<_>>()
        };
        let (one, on_node) = ((None, "a".to_owned()), (Some(3), "a".to_owned()));
        assert_eq!(
            names(None, None).await,
            [one.clone(), on_node.clone()],
            "b was brought for another attempt"
        );
        let after: ArtifactPlace = (StepIndex(0), None, "a".parse().unwrap());
        assert_eq!(names(None, Some(after.clone())).await, std::slice::from_ref(&on_node));
        assert_eq!(names(Some("b"), None).await, []);
        assert!(store.artifact(id, after).await.unwrap().is_some());
        // A later attempt's result takes the place of an earlier one's, and so does what it kept.
        record(&store, id, 2, vec![ended(second, None, &[("b", "ghij")])], vec![]).await.unwrap();
        assert_eq!(names(None, None).await, [(None, "b".to_owned()), on_node]);
        assert!(store.blobs_in_use().await.unwrap().contains(&bytes("ghij").digest));
        assert_eq!(store.forget_artifacts(&ops, at(0)).await, Ok(0));
        assert_eq!(store.forget_artifacts(&ops, at(1_000)).await, Ok(2));
        assert_eq!(
            store.artifact_bytes(&ops).await,
            Ok(0),
            "no attempt is open that could name what it brought"
        );
    })
    .await;
}
