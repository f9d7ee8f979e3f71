//! Components.

use super::*;

#[tokio::test]
async fn a_components_version_is_never_moved() {
    on_each(async |store| {
        let component = |version: &str, bytes: &str, note: &str| Component {
            name: "a/b".parse().unwrap(),
            version: version.parse().unwrap(),
            digest: Digest::of(bytes.as_bytes()),
            length: 1,
            kind: Kind::Step,
            manifest: "{}".to_owned(),
            note: note.to_owned(),
            published: at(1),
            publisher: "ann".to_owned(),
            yanked: None,
        };
        let publish =
            async |version, bytes, note| store.publish_component(component(version, bytes, note)).await;
        assert_eq!(publish("1.0.0", "x", "n").await, Ok(Published::New));
        assert_eq!(publish("1.0.0", "x", "n").await, Ok(Published::Same));
        assert_eq!(publish("1.0.0", "x", "n2").await, Ok(Published::Resigned));
        assert!(matches!(publish("1.0.0", "y", "n").await, Err(StoreError::Conflict { .. })));
        publish("1.10.0", "z", "n").await.unwrap();
        publish("1.9.0", "y", "n").await.unwrap();
        publish("2.0.0-rc.1", "w", "n").await.unwrap();
        let select = async |text: &str| {
            let found = store.select_component(&ComponentSelector::new(text).unwrap()).await.unwrap();
            found.map(|component| component.version.to_string())
        };
        assert_eq!(select("a/b@1").await.as_deref(), Some("1.10.0"));
        assert_eq!(select("a/b@2").await, None);
        let (name, version) = ("a/b".parse().unwrap(), "1.10.0".parse().unwrap());
        store.yank_component(&name, &version, Some(at(2))).await.unwrap();
        assert_eq!(select("a/b@1").await.as_deref(), Some("1.9.0"));
        assert_eq!(select("a/b@1.10.0").await.as_deref(), Some("1.10.0"));
        let found = store.component_by_digest(Digest::of(b"x")).await.unwrap().unwrap();
        assert_eq!(found.note, "n2");
        assert_eq!(store.components().await.unwrap().len(), 4);
    })
    .await;
}
