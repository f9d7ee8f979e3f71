//! Scratch and named files: what belongs to the step, and every way out of it.

use std::os::unix::fs::symlink;

use remit_protocol::{
    Size,
    capability::{Ceiling, files::FilesCeiling},
    limits::LimitsPart,
};
use serde_json::json;

use crate::support::{Bench, Setup};

const SCRATCH: &str = r#"{"files":[{"scratch":true}]}"#;

fn scratch(mebibytes: u64) -> Bench {
    let limits = LimitsPart { scratch: Some(Size::from_mib(mebibytes)), ..LimitsPart::default() };
    Bench::new(Setup { guest: "scratch", requests: SCRATCH, grant: SCRATCH, limits, ..Setup::default() })
}

#[tokio::test]
async fn scratch_is_fresh_its_own_and_gone_afterwards() {
    let bench = scratch(1);
    assert_eq!(bench.output("write-read hello").await, json!("hello"));
    assert_eq!(bench.output("list /scratch").await, json!(""));
    assert!(bench.left_behind().is_empty(), "{:?}", bench.left_behind());
}

#[tokio::test]
async fn the_quota_holds() {
    let bench = scratch(2);
    let check = async |act: &str, outcome: &str| {
        let ended = bench.run(act).await;
        assert_eq!(ended.outcome.to_string(), outcome, "{act}: {}", ended.message);
        let used = ended.usage.unwrap().used.scratch;
        assert!(used <= Size::from_mib(2), "{act}: {used}");
    };
    check("fill 1", "succeeded").await;
    check("fill 20", "over-limit(scratch)").await;
    check("fill-removed 20", "over-limit(scratch)").await;
    check("set-length 1000000", "succeeded").await;
    check("set-length 1000000000000", "over-limit(scratch)").await;
    check("many-files 100", "succeeded").await;
    check("many-files 5000", "over-limit(scratch)").await;
    check("rewrite 30", "succeeded").await;
}

fn named() -> (tempfile::TempDir, Bench) {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path().join("root");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(root.join("sub/a.txt"), "a".repeat(5000)).unwrap();
    std::fs::write(tree.path().join("one.yaml"), "one").unwrap();
    std::fs::write(tree.path().join("outside"), "outside").unwrap();
    symlink("../outside", root.join("link")).unwrap();
    let ceiling = |name: &str, path: &str| FilesCeiling {
        name: name.to_owned(),
        path: tree.path().join(path),
        mode: Default::default(),
    };
    let ceiling = Ceiling {
        files: vec![ceiling("dir", "root"), ceiling("one", "one.yaml"), ceiling("other", "outside")],
        ..Ceiling::default()
    };
    let bench = Bench::new(Setup {
        guest: "named",
        requests: r#"{"files":[{"path":"granted"}]}"#,
        grant: r#"{"files":[{"name":"dir"},{"name":"one"}]}"#,
        ceiling,
        ..Setup::default()
    });
    (tree, bench)
}

#[tokio::test]
async fn named_files_are_read() {
    let (_tree, bench) = named();
    assert_eq!(bench.output("entries dir").await, json!("sub/a.txt"));
    assert_eq!(bench.output("read dir sub/a.txt").await, json!("a".repeat(5000)));
    assert_eq!(bench.output("entries one").await, json!(""));
    assert_eq!(bench.output("read one").await, json!("one"));
    let ended = bench.run("read one").await;
    assert_eq!(ended.usage.unwrap().used.ingress, Size::from_bytes(3));
}

#[tokio::test]
async fn only_granted_names_and_nothing_outside_of_them() {
    let (_tree, bench) = named();
    let check = async |act: &str, message: &str| {
        let ended = bench.run(act).await;
        assert_eq!(ended.outcome.to_string(), "failed", "{act}");
        assert!(ended.message.contains(message), "{act}: {}", ended.message);
        ended.denials
    };
    assert!(check("read dir link", "denied").await.is_empty());
    check("read dir ../outside", "denied").await;
    check("read dir /etc/hostname", "denied").await;
    check("read dir absent", "failed").await;
    let denials = check("read other", "denied: files other").await;
    assert_eq!(denials[0].remedy, "grant:\n  files: [{ name: \"other\" }]");
}
