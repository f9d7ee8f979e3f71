//! The transparency log.

use super::*;

#[tokio::test]
async fn a_log_only_grows() {
    on_each(async |store| {
        let sign = |size: u64, root: &Digest| Ok(format!("{size} {root}"));
        let note = |number: u32| number.to_be_bytes().to_vec();
        assert_eq!(store.log_head().await.unwrap(), None);
        let append = async |notes| store.append_notes(notes, sign).await.unwrap();
        assert!(append(vec![]).await.is_empty());
        let empty = store.log_head().await.unwrap().unwrap();
        assert_eq!((empty.size, empty.root), (0, Digest::of(b"")));
        assert_eq!(append((0..300).map(note).collect()).await, (0..300).collect::<Vec<_>>());
        // What is there stays where it is, also twice in one batch.
        assert_eq!(append(vec![note(7), note(300), note(300), note(299)]).await, [7, 300, 300, 299]);
        let head = store.log_head().await.unwrap().unwrap();
        assert_eq!((head.size, &head.checkpoint), (301, &format!("301 {}", head.root)));
        let found = store.log_leaves(256, 300).await.unwrap();
        assert_eq!(found, (256..300).map(note).collect::<Vec<_>>());
        assert_eq!(store.log_tile(0, 1).await.unwrap().unwrap().len(), 45 * 32);
        assert_eq!(store.log_tile(1, 0).await.unwrap().unwrap().len(), 32);
        assert_eq!(store.log_tile(1, 1).await.unwrap(), None);
        let hash = remit_signing::log::leaf_hash(&note(5));
        let proof = store.prove_leaf(hash).await.unwrap().unwrap();
        assert_eq!((proof.index, proof.head.size), (5, 301));
        let verifies = remit_signing::log::verify_inclusion(&hash, 5, 301, &proof.hashes, &head.root);
        assert!(verifies);
        assert_eq!(store.prove_leaf(Digest::of(b"none")).await.unwrap(), None);
        assert!(store.prove_consistency(299, 301).await.unwrap().is_some());
        assert!(store.prove_consistency(299, 302).await.unwrap().is_none());
        assert!(store.prove_consistency(0, 301).await.unwrap().is_none());
        assert!(store.append_notes(vec![vec![0; 65_536]], sign).await.is_err());
        // A head that cannot be signed leaves nothing behind.
        let failing = |_: u64, _: &Digest| Err(StoreError::Full);
        assert_eq!(store.append_notes(vec![note(400)], failing).await, Err(StoreError::Full));
        assert_eq!(store.log_head().await.unwrap(), Some(head));
    })
    .await;
}
