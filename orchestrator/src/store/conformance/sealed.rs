//! Sealed values: there while their execution is, and gone with its end.

use remit_protocol::sealed::{Sealed, SealedBytes};

use super::*;

fn sealed(option: &str) -> Sealed {
    Sealed {
        option: option.parse().unwrap(),
        path: "keys/typed/db".parse().unwrap(),
        runner: RunnerId::from_u128(5),
        issued: at(0),
        expires: at(100),
        value: SealedBytes::new(vec![7; 60]).unwrap(),
    }
}

#[tokio::test]
async fn what_was_typed_is_forgotten_when_its_execution_ends() {
    on_each(async |store| {
        let values = vec![sealed("b"), sealed("a")];
        let typed = |number| NewExecution { sealed: values.clone(), ..new(execution(number), "a") };
        for number in [1, 2] {
            create(&store, typed(number)).await.unwrap();
            assert_eq!(store.sealed(execution(number)).await.unwrap(), values);
        }
        let commit = |number, version, state, ended| Commit {
            execution: execution(number),
            version,
            at: at(3),
            changes: vec![moved(state, Some(at(2)), ended)],
            happenings: Vec::new(),
        };
        let record = async |commit| {
            let results = Store::record(store.turn().await.unwrap(), vec![commit]).await.unwrap();
            assert!(results.into_iter().all(|result| result.is_ok()));
        };
        record(commit(1, 1, ExecutionState::Running, None)).await;
        assert_eq!(store.sealed(execution(1)).await.unwrap(), values);
        record(commit(1, 2, ExecutionState::Ended(Outcome::Failed), Some(at(3)))).await;
        assert!(store.sealed(execution(1)).await.unwrap().is_empty());
        assert_eq!(store.sealed(execution(2)).await.unwrap(), values);
        // What is over from its beginning keeps none.
        let changes = vec![moved(ExecutionState::Ended(Outcome::Succeeded), None, Some(at(1)))];
        create(&store, NewExecution { changes, ..typed(3) }).await.unwrap();
        assert!(store.sealed(execution(3)).await.unwrap().is_empty());
    })
    .await;
}
