//! Artifacts: what is kept, what is not, and what is never in them.

use remit_protocol::{
    Size,
    capability::{Ceiling, secrets::SecretCeiling},
    limits::LimitsPart,
};
use remit_runner::{capability::files::Kept, sandbox::Ended};

use crate::support::{Bench, SECRET, Setup};

const BOTH: &str = r#"{"files":[{"artifacts":true}],"reveal":[{"name":"token"}]}"#;

fn bench(mebibytes: u64) -> Bench {
    let rule: SecretCeiling =
        serde_json::from_str(r#"{"path":"keys/test/token","use":"reveal","components":["test/artifacts"]}"#)
            .unwrap();
    let limits = LimitsPart { artifacts: Some(Size::from_mib(mebibytes)), ..LimitsPart::default() };
    let ceiling = Ceiling { secrets: vec![rule], ..Ceiling::default() };
    Bench::new(Setup { guest: "artifacts", requests: BOTH, grant: BOTH, ceiling, limits, ..Setup::default() })
}

/// Names and texts of what was kept.
fn kept(ended: Ended) -> Vec<(String, String)> {
    let read = |kept: Kept| {
        let text = std::fs::read_to_string(kept.spool.unwrap()).unwrap();
        assert_eq!(remit_protocol::digest::Sized::of(text.as_bytes()), kept.artifact.bytes);
        (kept.artifact.name.to_string(), text)
    };
    ended.artifacts.into_iter().map(read).collect()
}

#[tokio::test]
async fn what_is_kept_is_whole_and_holds_no_secret() {
    let bench = bench(4);
    let check = async |act: &str, outcome: &str, message: &str, expect: &[(&str, &str)]| {
        let ended = bench.run(act).await;
        assert_eq!(ended.outcome.to_string(), outcome, "{act}: {}", ended.message);
        assert!(ended.message.contains(message), "{act}: {}", ended.message);
        let expect: Vec<_> =
            expect.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(kept(ended), expect, "{act}");
    };
    check("keep report.csv a,b", "succeeded", "", &[("report.csv", "<a,b>")]).await;
    check("keep-and-fail", "failed", "as it was told", &[("report.txt", "<why>")]).await;
    check("unkept", "succeeded", "", &[]).await;
    check("secret-text", "succeeded", "", &[("secret.txt", "<[redacted:keys/test/token]>")]).await;
    check("secret-binary", "failed", "secret.bin holds the value of a secret", &[]).await;
    check("twice", "failed", "there is an artifact a", &[("a", "<1>")]).await;
    for name in ["../a", ".a", "a/b", "", "a\u{301}"] {
        check(&format!("keep {name} x"), "failed", "is not a name of an artifact", &[]).await;
    }
    assert!(bench.left_behind().is_empty(), "{:?}", bench.left_behind());
}

#[tokio::test]
async fn how_much_is_kept_is_limited() {
    let bench = bench(4);
    let check = async |act: &str, outcome: &str, count: usize| {
        let ended = bench.run(act).await;
        assert_eq!(ended.outcome.to_string(), outcome, "{act}: {}", ended.message);
        assert!(ended.usage.unwrap().used.artifacts <= Size::from_mib(4), "{act}");
        assert_eq!(ended.artifacts.len(), count, "{act}");
    };
    check("fill 4", "succeeded", 1).await;
    check("fill 5", "over-limit(artifacts)", 0).await;
    check("at-once 3", "failed", 0).await;
    check("many 16", "succeeded", 16).await;
    check("many 17", "failed", 16).await;
    // An honest host's own bindings never do this: the run is over.
    check("after-keep", "host-fault", 1).await;
}

#[tokio::test]
async fn without_a_grant_nothing_is_kept() {
    let bench = Bench::new(Setup { guest: "artifacts", requests: BOTH, ..Setup::default() });
    let (outcome, message) = bench.end("keep a x").await;
    assert_eq!(outcome, "refused(E_GRANT)");
    assert!(message.contains("files: [{ artifacts: true }]"), "{message}");
    assert!(!message.contains(SECRET));
}
