//! Node sources: pages come together to one set, or to none.

use remit_protocol::manifest::Kind;

use crate::support::{Bench, Setup};

fn bench() -> Bench {
    Bench::new(Setup { guest: "source", kind: Kind::NodeSource, ..Setup::default() })
}

#[tokio::test]
async fn pages_come_together() {
    let ended = bench().run("pages 3 1000").await;
    assert_eq!(ended.outcome.to_string(), "succeeded", "{}", ended.message);
    let nodes = ended.nodes.unwrap();
    assert!(nodes.check().is_ok());
    assert_eq!(nodes.nodes.len(), 3000);
    assert_eq!(nodes.nodes[1000].name.as_str(), "n1-0");
    assert_eq!(nodes.nodes[0].attribute("rack"), Some("r1"));
}

#[tokio::test]
async fn what_is_not_acceptable_is_said_to_the_source() {
    let check = async |act: &str, message: &str| {
        let ended = bench().run(act).await;
        assert_eq!(ended.outcome.to_string(), "failed");
        assert!(ended.message.contains(message), "{}", ended.message);
        assert!(ended.nodes.is_none());
    };
    check("pages 1 1001", "over limit: a page has at most 1,000 nodes").await;
    check("pages 101 1000", "over limit: a node set has at most 100,000 nodes").await;
    check("bad", "failed: node").await;
}

#[tokio::test]
async fn a_source_describes_itself() {
    let bench = bench();
    let described = bench.sandbox.describe(bench.prepared()).await.unwrap();
    assert_eq!(described.output, serde_json::Value::Null);
}
