use std::fs;

use remit_protocol::{RunnerName, Session};
use remit_signing::{KeyName, trail};

use super::*;

fn noon() -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000)
}

fn key() -> SigningKey {
    SigningKey::from_seed(KeyName::new("runner/one").unwrap(), &[3; 32])
}

fn open(state: &Path) -> Result<(Audit, u64), StateError> {
    Audit::open(state, "runner/one".to_owned(), key(), noon)
}

fn session(number: u64) -> Event {
    Event::Session { session: Session(number) }
}

/// The kinds of the entries, if the trail is linked.
fn kinds(state: &Path) -> Vec<String> {
    let bytes = fs::read(state.join("audit/000001.jsonl")).unwrap();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut kinds = Vec::new();
    trail::verify(lines, |entry| kinds.push(entry.kind().to_owned())).unwrap();
    kinds
}

#[tokio::test]
async fn entries_are_linked_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, torn) = open(folder.path()).unwrap();
    let runner = RunnerName::new("one").unwrap();
    audit.durable(Event::Began { runner, version: "1", torn }).await.unwrap();
    assert_eq!(kinds(folder.path()), ["began"]);
    audit.note(session(1));
    drop(audit);
    let (audit, _) = open(folder.path()).unwrap();
    audit.durable(session(2)).await.unwrap();
    drop(audit);
    assert_eq!(kinds(folder.path()), ["began", "session", "stopped", "session", "stopped"]);
}

#[tokio::test]
async fn an_unfinished_line_is_cut_off_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let file = folder.path().join("audit/000001.jsonl");
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend(b"{\"seq\":2,\"at\"");
    fs::write(&file, bytes).unwrap();
    let (audit, torn) = open(folder.path()).unwrap();
    assert_eq!(torn, 13);
    drop(audit);
    assert_eq!(kinds(folder.path()), ["stopped", "stopped"]);
}

#[tokio::test]
async fn what_was_taken_out_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, _) = open(folder.path()).unwrap();
    audit.durable(session(1)).await.unwrap();
    audit.durable(session(2)).await.unwrap();
    drop(audit);
    let file = folder.path().join("audit/000001.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    for (changed, why) in [
        (lines[..2].join("\n") + "\n", "signed end"),
        (lines[1..].join("\n").replace("\"seq\":2", "\"seq\":1") + "\n", "line 1"),
        (whole.replace("\"session\":1", "\"session\":9"), "line 2"),
        (String::new(), "signed end"),
    ] {
        fs::write(&file, changed).unwrap();
        let error = open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
    fs::write(&file, whole).unwrap();
    drop(open(folder.path()).unwrap());
}

#[tokio::test]
async fn an_event_that_is_too_long_leaves_a_short_entry() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, _) = open(folder.path()).unwrap();
    let detail = "x".repeat(trail::MAX_ENTRY);
    let refused = Event::Refused {
        attempt: remit_protocol::AttemptId::from_u128(1),
        execution: remit_protocol::ExecutionId::from_u128(1),
        project: "ops".parse().unwrap(),
        job: "one".parse().unwrap(),
        code: Some(remit_protocol::RefusalCode::Ceiling),
        detail,
    };
    audit.durable(refused).await.unwrap();
    drop(audit);
    let text = fs::read_to_string(folder.path().join("audit/000001.jsonl")).unwrap();
    assert!(text.contains("E_CEILING") && text.contains("\"shortened\":true"), "{text}");
}
