use std::{fs::OpenOptions, io::Write as _};

use remit_protocol::{
    Timestamp,
    log_limit::{AtLimit, LogMost},
    report::Level,
};

use super::*;

fn entry(number: u64) -> LogEntry {
    LogEntry {
        at: Timestamp::from_millis(number),
        step: StepIndex(u32::try_from(number % 2).unwrap()),
        node: Some(NodeIndex(u32::try_from(number % 3).unwrap())),
        level: Level::Info,
        text: format!("line {number}"),
        fields: Vec::new(),
    }
}

fn entries(numbers: std::ops::RangeInclusive<u64>) -> Vec<LogEntry> {
    numbers.map(entry).collect()
}

fn log(number: u128) -> ExecutionId {
    ExecutionId::from_parts(Timestamp::from_millis(1), number)
}

fn attempt(number: u128) -> AttemptId {
    AttemptId::from_parts(Timestamp::from_millis(1), number)
}

async fn numbers(logs: &Logs, from: u64, limit: usize, filter: LogFilter) -> Vec<u64> {
    let page = logs.page(log(1), from, limit, filter).await.unwrap();
    page.entries
        .into_iter()
        .map(|line| {
            assert_eq!(line.entry, entry(line.number));
            line.number
        })
        .collect()
}

#[tokio::test]
async fn entries_are_numbered_and_kept_once() {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::open(directory.path()).unwrap();
    let a = attempt(1);
    assert_eq!(logs.append(log(1), None, a, 1, entries(1..=3)).await.unwrap().durable, 3);
    assert_eq!(logs.append(log(1), None, a, 2, entries(2..=5)).await.unwrap().durable, 5);
    assert_eq!(logs.append(log(1), None, a, 1, entries(1..=2)).await.unwrap().durable, 5);
    let gap = logs.append(log(1), None, a, 7, entries(7..=7)).await;
    assert!(matches!(gap, Err(LogError::Gap { durable: 5, found: 7 })));
    assert_eq!(logs.append(log(1), None, attempt(2), 1, entries(6..=6)).await.unwrap().durable, 1);
    assert_eq!(numbers(&logs, 0, 10, LogFilter::default()).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(&logs, 4, 10, LogFilter::default()).await, [4, 5, 6]);
    assert_eq!(numbers(&logs, 2, 2, LogFilter::default()).await, [2, 3]);
    let filter = LogFilter { step: Some(StepIndex(1)), ..LogFilter::default() };
    assert_eq!(numbers(&logs, 1, 10, filter).await, [1, 3, 5]);
    let filter = LogFilter { node: Some(NodeIndex(0)), ..LogFilter::default() };
    assert_eq!(numbers(&logs, 1, 10, filter).await, [3, 6]);
    let filter = LogFilter { attempt: Some(attempt(2)), ..LogFilter::default() };
    assert_eq!(numbers(&logs, 1, 10, filter).await, [6]);
    assert_eq!(logs.page(log(2), 1, 9, LogFilter::default()).await.unwrap().next, 1);
}

#[tokio::test]
async fn a_log_goes_on_after_a_restart_and_a_torn_end_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), log(1));
    for torn in [&b""[..], b"0123", b"00000000 {\"at\"", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n"] {
        let logs = Logs::open(directory.path()).unwrap();
        logs.append(log(1), None, attempt(1), 1, entries(1..=300)).await.unwrap();
        drop(logs);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
        let index = &torn[..torn.len().min(3)];
        OpenOptions::new().append(true).open(index_of(&path)).unwrap().write_all(index).unwrap();
        let logs = Logs::open(directory.path()).unwrap();
        assert_eq!(
            logs.append(log(1), None, attempt(1), 301, entries(301..=302)).await.unwrap().durable,
            302
        );
        assert_eq!(numbers(&logs, 299, 10, LogFilter::default()).await, [299, 300, 301, 302]);
        assert!(logs.remove(log(1)).await.unwrap());
    }
}

#[tokio::test]
async fn many_logs_are_synced_together() {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::open(directory.path()).unwrap();
    let appends = (1..=600).map(|number| logs.append(log(number), None, attempt(1), 1, entries(1..=1)));
    for written in futures_util::future::join_all(appends).await {
        assert_eq!(written.unwrap(), Appended { durable: 1, full: false });
    }
    assert_eq!(logs.append(log(1), None, attempt(1), 2, entries(2..=2)).await.unwrap().durable, 2);
}

/// The texts of a log, a cut as `|`.
async fn texts(logs: &Logs, filter: LogFilter) -> Vec<String> {
    let page = logs.page(log(1), 1, 100, filter).await.unwrap();
    let text = |line: LogLine| line.cut.map_or(line.entry.text, |_| "|".to_owned());
    page.entries.into_iter().map(text).collect()
}

#[tokio::test]
async fn a_full_log_keeps_its_limit_over_attempts_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let limit = Some(LogLimit { most: LogMost::Lines(4), at_limit: AtLimit::Truncate });
    let logs = Logs::open(directory.path()).unwrap();
    let took = async |logs: &Logs, by, numbers: std::ops::RangeInclusive<u64>| {
        let first = *numbers.start();
        let taken = logs.append(log(1), limit, attempt(by), first, entries(numbers)).await.unwrap();
        (taken.durable, taken.full)
    };
    assert_eq!(took(&logs, 1, 1..=3).await, (3, false));
    assert_eq!(took(&logs, 2, 1..=3).await, (3, true));
    let kept = ["line 1", "line 2", "line 3", "line 1", "|"];
    assert_eq!(texts(&logs, LogFilter::default()).await, kept);
    // A runner whose answer was lost says it again; one whose answer came goes on, and the end is taken without a line.
    assert_eq!(took(&logs, 2, 2..=9).await, (9, true));
    drop(logs);
    let logs = Logs::open(directory.path()).unwrap();
    assert_eq!(took(&logs, 2, 10..=12).await, (12, true));
    assert_eq!(took(&logs, 1, 2..=7).await, (7, true));
    let end = logs.append(log(1), limit, attempt(2), 13, Vec::new()).await.unwrap();
    assert_eq!(end, Appended { durable: 12, full: true });
    assert_eq!(texts(&logs, LogFilter::default()).await, kept);
    // Whoever looks at a part of it is told as well.
    let of_attempt = LogFilter { attempt: Some(attempt(1)), ..LogFilter::default() };
    assert_eq!(texts(&logs, of_attempt).await, ["line 1", "line 2", "line 3", "|"]);
}

#[tokio::test]
async fn a_node_that_says_too_much_leaves_room_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let limit = Some(LogLimit { most: LogMost::LinesPerNode(2), at_limit: AtLimit::Truncate });
    let of =
        |node: u32, text: &str| LogEntry { node: Some(NodeIndex(node)), text: text.to_owned(), ..entry(1) };
    let logs = Logs::open(directory.path()).unwrap();
    let first = vec![of(0, "a"), of(0, "b"), of(1, "c"), of(0, "d"), of(0, "e")];
    let took = logs.append(log(1), limit, attempt(1), 1, first).await.unwrap();
    assert_eq!(took, Appended { durable: 5, full: true });
    drop(logs);
    let logs = Logs::open(directory.path()).unwrap();
    let next = vec![of(0, "f"), of(1, "g"), of(1, "h")];
    assert_eq!(logs.append(log(1), limit, attempt(1), 6, next).await.unwrap().durable, 8);
    assert_eq!(texts(&logs, LogFilter::default()).await, ["a", "b", "c", "|", "g", "|"]);
    let of_node = LogFilter { node: Some(NodeIndex(1)), step: Some(StepIndex(7)), ..LogFilter::default() };
    assert_eq!(texts(&logs, of_node).await, ["|"]);
}

#[tokio::test]
async fn a_log_without_a_limit_keeps_its_gaps_to_itself() {
    let directory = tempfile::tempdir().unwrap();
    let limit = Some(LogLimit { most: LogMost::Lines(9), at_limit: AtLimit::Truncate });
    let logs = Logs::open(directory.path()).unwrap();
    for limit in [None, limit] {
        let gap = logs.append(log(1), limit, attempt(1), 2, entries(2..=2)).await;
        assert!(matches!(gap, Err(LogError::Gap { durable: 0, found: 2 })), "{limit:?}");
    }
}
