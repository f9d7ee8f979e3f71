//! What a runner is told to do: documents, sections and nodes.

use remit_protocol::digest::Sized;
use serde_json::{Value, json};

use super::{
    Expect::{Refused, Succeeds},
    Row, call, document, pure,
};
use crate::{
    orchestrator::digest,
    work::{Release, Work},
};

fn assignment(number: u32, change: impl FnOnce(&mut Value)) -> Work {
    let mut work = pure(number);
    change(&mut work.assignment);
    work
}

/// Another text of the document, rightly named by its digest.
fn document_text(number: u32, old: &str, new: &str) -> Work {
    let mut work = pure(number);
    let text = String::from_utf8(work.document.clone()).unwrap();
    assert!(text.contains(old), "{text}");
    let bytes = text.replacen(old, new, 1).into_bytes();
    work.assignment["document"] = serde_json::to_value(Sized::of(&bytes)).unwrap();
    work.blobs.insert(digest(&bytes), bytes);
    work
}

/// A pure step over three nodes.
fn nodes(number: u32, change: impl FnOnce(&mut Work, &mut Value)) -> Work {
    let mut work =
        Work::new(number, &Release::of("transform", number), "    per: node\n    with: { value: 1 }\n");
    let mut set = json!({ "nodes": [{ "name": "a" }, { "name": "b" }, { "name": "c" }] });
    work.assignment["nodes"] = json!({
        "set": null, "ranges": [[0, 3]], "threads": 1, "keep_going": false, "strategy": "node-first",
    });
    change(&mut work, &mut set);
    let bytes = set.to_string().into_bytes();
    if work.assignment["nodes"]["set"].is_null() {
        work.assignment["nodes"]["set"] = serde_json::to_value(Sized::of(&bytes)).unwrap();
    }
    work.blobs.insert(digest(&bytes), bytes);
    work
}

/// The name of so many bytes that nobody has.
fn sized(length: u64) -> Value {
    serde_json::to_value(Sized { digest: remit_protocol::Digest::of(b"none"), length }).unwrap()
}

pub(crate) const ROWS: &[Row] = &[
    (
        "other bytes than the document's digest",
        |n| {
            let mut work = pure(n);
            let named = digest(&work.document);
            let mut other = work.document.clone();
            *other.last_mut().unwrap() = b' ';
            work.blobs.insert(named, other);
            work
        },
        Refused("E_JOB"),
    ),
    (
        "a document of another project",
        |n| document(n, |document| document["project"] = "other".into()),
        Refused("E_JOB"),
    ),
    (
        "a document of another job",
        |n| document(n, |document| document["job"] = "other".into()),
        Refused("E_JOB"),
    ),
    (
        "a document with a field that nobody knows",
        |n| document(n, |document| document["sudo"] = true.into()),
        Refused("E_JOB"),
    ),
    (
        "a document with a key twice",
        |n| document_text(n, "\"job\":\"hostile\"", "\"job\":\"hostile\",\"job\":\"hostile\""),
        Refused("E_JOB"),
    ),
    (
        "a document with a number of 23 digits",
        |n| document_text(n, "{\"value\":1}", "{\"value\":12345678901234567890123}"),
        Refused("E_JOB"),
    ),
    ("a document with a byte order mark", |n| document_text(n, "{", "\u{feff}{"), Refused("E_JOB")),
    (
        "a document that is too large",
        |n| assignment(n, |assignment| assignment["document"] = sized(99_999_999)),
        Refused("E_JOB"),
    ),
    (
        "a section behind the document's end",
        |n| assignment(n, |assignment| assignment["first_step"] = 5.into()),
        Refused("E_JOB"),
    ),
    (
        "a section of more steps than there are",
        |n| assignment(n, |assignment| assignment["steps"] = 2.into()),
        Refused("E_JOB"),
    ),
    (
        "a section of no step",
        |n| assignment(n, |assignment| assignment["steps"] = 0.into()),
        Refused("E_JOB"),
    ),
    (
        "a retry class below the component's",
        |n| {
            let mut work =
                call(n, "localhost", "{ host: localhost, port: 1, methods: [POST], paths: [/] }", "");
            work.redocument(|document| document["steps"][0]["action"]["component"]["effect"] = "pure".into());
            work
        },
        Refused("E_JOB"),
    ),
    (
        "limits above the component's",
        |n| {
            document(n, |document| {
                document["steps"][0]["action"]["component"]["limits"]["memory"] = "512MiB".into();
            })
        },
        Refused("E_JOB"),
    ),
    (
        "another digest than the release's",
        |n| {
            document(n, |document| {
                document["steps"][0]["action"]["component"]["digest"] =
                    format!("sha256:{}", "1".repeat(64)).into();
            })
        },
        Refused("E_DIGEST"),
    ),
    (
        "nodes for a step that has none",
        |n| {
            let mut work = nodes(n, |_, _| {});
            let plain = pure(n);
            work.assignment["document"] = plain.assignment["document"].clone();
            work.blobs.extend(plain.blobs);
            work
        },
        Refused("E_JOB"),
    ),
    ("honest nodes", |n| nodes(n, |_, _| {}), Succeeds),
    (
        "other nodes than the set's digest",
        |n| {
            nodes(n, |work, set| {
                set["nodes"][2]["name"] = "not-seen-before".into();
                work.assignment["nodes"]["set"] =
                    serde_json::to_value(Sized::of(set.to_string().as_bytes())).unwrap();
                let named = digest(set.to_string().as_bytes());
                work.blobs.insert(named, set.to_string().replace("\"a\"", "\"x\"").into_bytes());
                *set = json!(null);
            })
        },
        Refused("E_NODES"),
    ),
    (
        "a range outside of the set",
        |n| nodes(n, |work, _| work.assignment["nodes"]["ranges"] = json!([[1, 9]])),
        Refused("E_NODES"),
    ),
    (
        "ranges that overlap",
        |n| nodes(n, |work, _| work.assignment["nodes"]["ranges"] = json!([[0, 2], [1, 3]])),
        Refused("E_NODES"),
    ),
    ("a node twice", |n| nodes(n, |_, set| set["nodes"][1]["name"] = "a".into()), Refused("E_NODES")),
    (
        "a node with an attribute of a megabyte",
        |n| nodes(n, |_, set| set["nodes"][0]["attributes"] = json!({ "x": "x".repeat(1 << 20) })),
        Refused("E_NODES"),
    ),
    (
        "a node whose name moves the cursor",
        |n| nodes(n, |_, set| set["nodes"][0]["name"] = "\u{1b}[2J".into()),
        Refused("E_NODES"),
    ),
    (
        "a set that is too large",
        |n| nodes(n, |work, _| work.assignment["nodes"]["set"] = sized(99_999_999_999)),
        Refused("E_NODES"),
    ),
];
