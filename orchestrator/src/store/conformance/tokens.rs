//! API tokens.

use super::*;

#[tokio::test]
async fn tokens_end_and_are_taken_back() {
    on_each(async |store| {
        let id = TokenId::from_parts(at(0), 1);
        let new = NewToken {
            id,
            name: "t".parse().unwrap(),
            hash: [3; 32],
            access: Access::Instance { role: InstanceRole::Admin },
            expires: Some(at(10)),
            by: "ann".to_owned(),
            at: at(0),
        };
        store.create_token(new).await.unwrap();
        store.tokens_used(vec![(id, at(5)), (id, at(4))]).await.unwrap();
        let token = store.token(id).await.unwrap().unwrap();
        assert_eq!((token.hash, token.last_used), ([3; 32], Some(at(5))));
        assert!(token.is_valid(at(9)) && !token.is_valid(at(10)));
        store.revoke_token(id, at(6)).await.unwrap();
        store.revoke_token(id, at(7)).await.unwrap();
        let token = store.tokens().await.unwrap().remove(0);
        assert_eq!((token.revoked, token.is_valid(at(7))), (Some(at(6)), false));
    })
    .await;
}
