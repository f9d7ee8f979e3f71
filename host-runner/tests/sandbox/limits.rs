//! Limits: what a component uses up ends it with the limit's name, and the host stays as it was.

use remit_protocol::{
    Limits, Outcome, Size,
    limits::{Fuel, LimitsPart},
    report::{Limit, Usage},
};

use crate::support::Bench;

async fn check(limits: LimitsPart, act: &str, outcome: &str) {
    let bench = Bench::pure(limits);
    let (found, message) = bench.end(act).await;
    assert_eq!(found, outcome, "{act}: {message}");
}

fn bytes(bytes: u64) -> Option<Size> {
    Some(Size::from_bytes(bytes))
}

#[tokio::test]
async fn memory_is_summed_and_ends_the_run() {
    let limits = LimitsPart { memory: Some(Size::from_mib(16)), ..LimitsPart::default() };
    check(limits, "memory 8", "succeeded").await;
    check(limits, "memory 32", "over-limit(memory)").await;
    let tiny = LimitsPart { memory: bytes(64 << 10), ..LimitsPart::default() };
    check(tiny, "nothing", "over-limit(memory)").await;
}

#[tokio::test]
async fn a_log_flood_is_cut_with_a_mark() {
    let limits = LimitsPart { log: bytes(10_000), ..LimitsPart::default() };
    for act in ["log 1000000", "log-bytes 20000", "print-flood x", "print-flood "] {
        let bench = Bench::pure(limits);
        let (outcome, message) = bench.end(act).await;
        assert_eq!(outcome, "over-limit(log)", "{act}: {message}");
        let texts = bench.log.texts();
        let bytes: usize = texts.iter().map(String::len).sum();
        assert!(bytes < 11_000 && texts.len() < 200, "{act}: {bytes} bytes in {} lines", texts.len());
        assert!(texts.last().unwrap().contains("the log is cut here"), "{act}");
    }
    check(limits, "log 100", "succeeded").await;
}

#[tokio::test]
async fn empty_writes_cost_nothing() {
    check(LimitsPart::default(), "print-nothing 10000", "succeeded").await;
}

#[tokio::test]
async fn an_output_is_bounded() {
    let limits = LimitsPart { output: bytes(1000), ..LimitsPart::default() };
    check(limits, "output 998", "succeeded").await;
    check(limits, "output 999", "over-limit(output)").await;
    check(limits, "output 9000000", "over-limit(output)").await;
}

async fn used(limits: LimitsPart, act: &str) -> (String, Usage) {
    let ended = Bench::pure(limits).run(act).await;
    (ended.outcome.to_string(), ended.usage.unwrap())
}

#[tokio::test]
async fn lines_are_counted_apart_from_their_bytes() {
    let limits = LimitsPart { lines: Some(10), ..LimitsPart::default() };
    let (outcome, usage) = used(limits, "log 10").await;
    assert_eq!((outcome.as_str(), usage.used.lines, usage.allowed.lines), ("succeeded", 10, 10));
    for act in ["log 11", "print-flood x"] {
        let bench = Bench::pure(limits);
        let ended = bench.run(act).await;
        assert_eq!(ended.outcome, Outcome::OverLimit(Limit::Lines), "{act}: {}", ended.message);
        let texts = bench.log.texts();
        assert_eq!((texts.len(), ended.usage.unwrap().used.lines), (11, 10), "{act}");
        assert!(texts[10].contains("its limit of 10 lines is used up"), "{texts:?}");
    }
}

#[tokio::test]
async fn what_one_call_brings_is_bounded() {
    let limits = LimitsPart { call: bytes(1000), ..LimitsPart::default() };
    let (outcome, usage) = used(limits, "huge-text 1000").await;
    assert_eq!((outcome.as_str(), usage.used.call), ("succeeded", Size::from_bytes(1000)));
    // Beyond the engine's own bound as well as below it.
    for act in ["huge-text 1001", "huge-text 300000", "huge-text 30000000"] {
        let (outcome, usage) = used(limits, act).await;
        assert_eq!(
            (outcome.as_str(), usage.used.call),
            ("over-limit(call)", Size::from_bytes(1000)),
            "{act}"
        );
    }
    // What a call may bring is no bound for what the step gives back.
    let (outcome, usage) = used(limits, "output 200000").await;
    assert_eq!((outcome.as_str(), usage.used.output), ("succeeded", Size::from_bytes(200_002)));
}

#[tokio::test]
async fn fuel_is_counted_where_it_is_named_and_the_same_each_time() {
    let with = |units| LimitsPart { fuel: Some(Fuel::new(units)), ..LimitsPart::default() };
    let bench = Bench::pure(with(1_000_000));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let ended = bench.run("echo {}").await;
        assert_eq!(ended.outcome, Outcome::Succeeded, "{}", ended.message);
        seen.push(ended.usage.unwrap().used.fuel.units());
    }
    assert!(seen[0] > 100 && seen.iter().all(|fuel| *fuel == seen[0]), "{seen:?}");
    // So much is enough, and half of it is not: the engine looks at loops and calls.
    assert_eq!(used(with(seen[0]), "echo {}").await.0, "succeeded");
    let half = Fuel::new(seen[0] / 2);
    let (outcome, usage) = used(with(half.units()), "echo {}").await;
    assert_eq!((outcome.as_str(), usage.used.fuel, usage.allowed.fuel), ("over-limit(fuel)", half, half));
    assert_eq!(used(with(50_000_000), "loop").await.0, "over-limit(fuel)");
    let (_, usage) = used(LimitsPart::default(), "echo {}").await;
    assert_eq!((usage.used.fuel, usage.allowed.fuel), (Fuel::UNCOUNTED, Fuel::UNCOUNTED));
}

#[tokio::test]
async fn resources_count_as_many_as_were_open_at_once() {
    let limits = LimitsPart { handles: Some(100), ..LimitsPart::default() };
    // The clock keeps two resources for each. None is open any more when the run ends.
    let (outcome, usage) = used(limits, "pollables 20").await;
    assert_eq!((outcome.as_str(), usage.used.handles), ("succeeded", 40));
    let (outcome, usage) = used(limits, "pollables 100000").await;
    assert_eq!((outcome.as_str(), usage.used.handles), ("over-limit(handles)", 100));
}

/// Every limit that the sandbox counts is in the result, with what was allowed.
#[tokio::test]
async fn each_limit_is_reported_as_used_of_allowed() {
    let asked = LimitsPart { fuel: Some(Fuel::new(1_000_000_000)), lines: Some(9), ..LimitsPart::default() };
    let (outcome, usage) = used(asked, "log 3").await;
    assert_eq!(outcome, "succeeded");
    let told: Vec<_> = usage.each().into_iter().map(|spent| spent.limit).collect();
    assert_eq!(told, Limits::NAMES);
    assert_eq!(usage.allowed, asked.or_default());
    let Limits { memory, fuel, log, lines, output, call, .. } = usage.used;
    assert!(memory > Size::from_mib(0) && fuel > Fuel::new(0) && log > Size::from_bytes(192), "{usage:?}");
    assert_eq!((lines, output, call), (3, Size::from_bytes(4), Size::from_bytes(4)));
}
