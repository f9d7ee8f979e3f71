//! How runs end, and what a component learns of its run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use remit_protocol::{NodeName, Span, Tag, limits::LimitsPart, manifest::Kind, node::Node, report::Level};
use remit_runner::{sandbox::Metering, worker::NoWorker};
use serde_json::json;

use crate::support::{Bench, GRACE, Setup, verified};

#[tokio::test]
async fn an_output_comes_back() {
    let bench = Bench::pure(LimitsPart::default());
    assert_eq!(bench.output("nothing").await, json!(null));
    assert_eq!(bench.output(r#"echo {}"#).await, json!({}));
    let ended = bench.run("nothing").await;
    let usage = ended.usage.unwrap();
    assert!(usage.used.memory.bytes() > 0 && usage.used.output.bytes() == 4, "{usage:?}");
    assert!(ended.denials.is_empty() && ended.revealed.is_empty() && ended.nodes.is_none());
}

#[tokio::test]
async fn each_end_has_its_outcome() {
    let bench = Bench::pure(LimitsPart::default());
    let check = async |act: &str, outcome: &str, message: &str| {
        let ended = bench.run(act).await;
        assert_eq!(ended.outcome.to_string(), outcome, "{act}: {}", ended.message);
        assert!(ended.message.contains(message), "{act}: {}", ended.message);
        assert_eq!(ended.output.is_some(), outcome == "succeeded");
    };
    check("nothing", "succeeded", "").await;
    check("fail it is broken", "failed", "it is broken\nfield: value").await;
    check("say-cancelled", "failed", "nobody cancelled it").await;
    check("panic on purpose", "trapped", "unreachable").await;
    check("exit", "trapped", "instead of returning").await;
    check("recurse", "trapped", "wasm trap").await;
    check("echo not json", "failed", "not acceptable JSON").await;
    check("echo [1,2", "failed", "not acceptable JSON").await;
    assert!(bench.log.texts().iter().any(|line| line.contains("on purpose")), "{:?}", bench.log.texts());
}

#[tokio::test]
async fn text_that_leaves_is_neutralised() {
    let bench = Bench::pure(LimitsPart::default());
    bench.run("say ESC[2Jcleared ESC]52;c;eA==BELend").await;
    bench.run("print text").await;
    let ended = bench.run("fail ESC[31mred\u{202e}").await;
    assert!(!ended.message.contains('\u{202e}'), "{}", ended.message);
    let lines = bench.log.lines.lock().unwrap().clone();
    let shown: Vec<_> = lines.iter().map(|line| (line.level, line.text.as_str())).collect();
    let expect =
        [(Level::Warn, "cleared end"), (Level::Info, "out text"), (Level::Warn, "error without end")];
    assert_eq!(shown, expect);
}

#[tokio::test]
async fn a_component_knows_its_run_and_nothing_of_its_host() {
    let mut bench = Bench::pure(LimitsPart::default());
    assert_eq!(bench.output("environment").await, json!("[] []"));
    assert_eq!(bench.output("read-stdin").await, json!(""));
    bench.context.node = Some(Arc::new(Node {
        name: NodeName::new("web-1").unwrap(),
        tags: [Tag::new("linux").unwrap()].into(),
        attributes: BTreeMap::from([("rack".to_owned(), "r1".to_owned())]),
    }));
    bench.context.try_number = 3;
    let execution = bench.context.execution.to_string();
    let told = bench.output("context").await;
    let expect = format!(r#"{execution} test 3 key-1 Some("web-1 [\"linux\"] [(\"rack\", \"r1\")]") true"#);
    assert_eq!(told, json!(expect));
}

#[tokio::test]
async fn the_last_progress_arrives() {
    let bench = Bench::pure(LimitsPart::default());
    bench.run("progress 100").await;
    let progress = bench.log.progress.lock().unwrap().clone();
    assert_eq!(progress.first(), Some(&(1, 100)));
    assert_eq!(progress.last(), Some(&(100, 100)));
    assert!(progress.len() < 100);
}

#[tokio::test]
async fn time_runs_out_even_for_a_guest_that_only_waits() {
    let mut bench = Bench::pure(LimitsPart { wall: Some(Span::from_millis(30)), ..LimitsPart::default() });
    for act in ["sleep 3600000", "sleep-deaf 3600000"] {
        let (outcome, message) = bench.end(act).await;
        assert_eq!(outcome, "timed-out", "{act}: {message}");
        assert!(message.contains("30ms"), "{message}");
    }
    assert_eq!(bench.end("sleep 1").await.0, "succeeded");
    bench.timeout = Some(Span::from_millis(10));
    assert!(bench.end("sleep 3600000").await.1.contains("10ms"));
}

#[tokio::test]
async fn cancelling_is_heard_or_enforced() {
    let check = async |act: &str, message: &str| {
        let bench = Bench::pure(LimitsPart::default());
        bench.sandbox.warm(bench.prepared()).await.unwrap();
        let cancel = async {
            tokio::task::yield_now().await;
            bench.cancel.within(GRACE);
        };
        let (ended, ()) = tokio::join!(bench.run(act), cancel);
        assert_eq!(ended.outcome.to_string(), "cancelled", "{act}: {}", ended.message);
        assert!(ended.message.contains(message), "{act}: {}", ended.message);
    };
    check("sleep 3600000", "because it was cancelled").await;
    check("sleep-deaf 3600000", "did not end by itself").await;
    check("loop", "did not end by itself").await;
    let bench = Bench::pure(LimitsPart::default());
    bench.cancel.within(GRACE);
    let ended = bench.run("nothing").await;
    assert_eq!((ended.outcome.to_string().as_str(), ended.usage), ("cancelled", None));
}

#[tokio::test]
async fn a_guest_that_computes_gives_way_to_others() {
    let bench = Bench::pure(LimitsPart { cpu: Some(Span::from_millis(300)), ..LimitsPart::default() });
    let order = std::sync::Mutex::new(Vec::new());
    let run = async |act: &str| {
        let (outcome, _) = bench.end(act).await;
        order.lock().unwrap().push(outcome);
    };
    tokio::join!(run("loop"), run("nothing"));
    assert_eq!(*order.lock().unwrap(), ["succeeded", "over-limit(cpu)"]);
}

#[tokio::test]
async fn a_dropped_run_leaves_its_slot() {
    let bench = Bench::new(Setup { slots: 1, ..Setup::default() });
    for _ in 0..3 {
        let run = bench.run("sleep 3600000");
        assert!(tokio::time::timeout(Duration::from_millis(1), run).await.is_err());
    }
    assert_eq!(bench.end("nothing").await.0, "succeeded");
}

#[tokio::test]
async fn a_component_describes_itself() {
    let bench = Bench::pure(LimitsPart::default());
    let described = bench.sandbox.describe(bench.prepared()).await.unwrap();
    assert_eq!((described.input, described.output), (json!({"type": "string"}), json!({})));
}

#[tokio::test]
async fn an_import_without_permission_fails_before_any_guest_code() {
    let refused = async |guest: &str, requests: &str| {
        let bench = Bench::new(Setup { guest, requests, ..Setup::default() });
        let ended = bench.run("anything").await;
        assert!(ended.usage.is_none(), "no sandbox was made");
        assert!(bench.log.texts().is_empty());
        (ended.outcome.to_string(), ended.denials[0].remedy.clone())
    };
    let (outcome, remedy) = refused("scratch", r#"{"files":[{"scratch":true}]}"#).await;
    assert_eq!(
        (outcome.as_str(), remedy.as_str()),
        ("refused(E_GRANT)", "grant:\n  files: [{ scratch: true }]")
    );
    let (outcome, remedy) = refused("exec", r#"{"exec":[{"program":"granted"}]}"#).await;
    assert_eq!(
        (outcome.as_str(), remedy.as_str()),
        ("refused(E_GRANT)", "grant:\n  exec: [{ program: NAME }]")
    );
}

#[tokio::test]
async fn native_code_of_another_component_or_kind_does_not_load() {
    let bench = Bench::pure(LimitsPart::default());
    let other = verified("source", Kind::NodeSource, "{}", remit_protocol::Limits::default());
    let native = remit_runner::sandbox::compile(bench.component().bytes(), Metering::Off).unwrap();
    let error = match bench.sandbox.load(&native, &other) {
        Err(error) => error,
        Ok(prepared) => match bench.sandbox.warm(&prepared).await {
            Err(NoWorker::Unloadable(error)) => error,
            other => unreachable!("{other:?}"),
        },
    };
    assert!(["E_IMPORTS", "E_WORLD"].contains(&error.code.code()), "{error}");
}

#[test]
fn only_components_are_compiled() {
    fn check(bytes: &[u8]) {
        assert!(remit_runner::sandbox::compile(bytes, Metering::Off).is_err());
    }
    check(b"");
    check(b"(component)");
    check(b"\0asm\x01\0\0\0");
    let whole = crate::support::guest("pure");
    check(&whole[..whole.len() / 2]);
}
