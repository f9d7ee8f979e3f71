//! Limits: what a component uses up ends it with the limit's name, and the host stays as it was.

use remit_protocol::{Size, limits::LimitsPart};

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
