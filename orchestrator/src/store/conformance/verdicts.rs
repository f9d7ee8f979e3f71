//! Verdicts on components.

use super::*;

#[tokio::test]
async fn verdicts_come_with_what_they_began_from() {
    on_each(|store| async move {
        let wasm = |number: u8| Digest::of(&[number]);
        let verdict = |note: &str, component, since, pass| Verdict {
            component,
            since,
            pass,
            note: note.to_owned(),
            published: at(1),
            publisher: "ann".to_owned(),
        };
        for new in [
            verdict("full of 1", wasm(1), None, true),
            verdict("2 since 1", wasm(2), Some(wasm(1)), true),
            verdict("3 since 2", wasm(3), Some(wasm(2)), true),
            verdict("against 3", wasm(3), None, false),
            verdict("3 since 3", wasm(3), Some(wasm(3)), true),
            verdict("full of 9", wasm(9), None, true),
        ] {
            assert!(store.keep_verdict(new.clone()).await.unwrap());
            assert!(!store.keep_verdict(new).await.unwrap());
        }
        let behind = async |component, most| store.verdicts_behind(component, most).await.unwrap();
        let all = ["against 3", "3 since 3", "3 since 2", "2 since 1", "full of 1"];
        assert_eq!(behind(wasm(3), 48).await, all);
        assert_eq!(behind(wasm(3), 4).await, all[..4]);
        assert_eq!(behind(wasm(3), 1).await, all[..1]);
        assert_eq!(behind(wasm(2), 48).await, all[3..]);
        assert_eq!(behind(wasm(8), 48).await, [""; 0]);
        assert!(store.unlogged_notes().await.unwrap().contains(&b"full of 9".to_vec()));
    })
    .await;
}
