//! Every message as it stands on the wire: what is in `tests/wire/` is read, and written again the same.
//!
//! A file here is never edited once it was released: a new form gets a new file beside the old one.

#![expect(clippy::panic, reason = "a message that cannot be read fails its test")]

use remit_protocol::{capability, endpoint, json, manifest, node};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Reads the file as `T` and writes it again.
fn check<T: Serialize + DeserializeOwned>(name: &str) {
    let file = format!("{}/tests/wire/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let message: T = json::from_slice(&bytes, 1 << 20).unwrap_or_else(|error| panic!("{name}: {error}"));
    let read: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let written = serde_json::to_value(&message).unwrap_or_default();
    assert_eq!(written, read, "{name}");
}

#[test]
fn messages_keep_their_form() {
    check::<endpoint::Hello>("hello");
    check::<endpoint::Enrol>("enrol");
    check::<endpoint::OpenSession>("open_session");
    check::<endpoint::OpenSession>("open_session_sealing");
    check::<endpoint::SessionOpened>("session_opened");
    check::<endpoint::Poll>("poll");
    check::<endpoint::PollAnswer>("poll_answer");
    check::<endpoint::PollAnswer>("poll_answer_sealed");
    check::<endpoint::PollAnswer>("poll_answer_family");
    check::<endpoint::Report>("report");
    check::<endpoint::ReportAnswer>("report_answer");
    check::<endpoint::ComponentBundle>("component_bundle");
    check::<endpoint::ComponentBundle>("component_bundle_reviewed");
    check::<endpoint::TrailHead>("trail_head");
    check::<endpoint::TrailKept>("trail_kept");
    check::<endpoint::Problem>("problem");
    check::<manifest::Manifest>("manifest");
    check::<capability::Grant>("grant");
    check::<node::NodeSet>("node_set");
}

#[test]
fn every_file_is_checked() {
    let own = include_str!("wire.rs");
    let folder = format!("{}/tests/wire", env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".json").to_owned();
        assert!(own.contains(&format!("(\"{name}\")")), "{name}.json is checked by no line");
    }
}

#[test]
fn unknown_members_are_refused() {
    let known = r#"{"session":1,"ack":0,"free":1,"draining":false,"hold":"25s"}"#;
    assert!(json::from_slice::<endpoint::Poll>(known.as_bytes(), 1000).is_ok());
    for bad in [
        r#"{"session":1,"ack":0,"free":1,"draining":false,"hold":"25s","x":1}"#,
        r#"{"session":1,"session":2,"ack":0,"free":1,"draining":false,"hold":"25s"}"#,
        r#"{"session":-1,"ack":0,"free":1,"draining":false,"hold":"25s"}"#,
        r#"{"session":1,"ack":0,"free":1,"draining":false,"hold":"25"}"#,
    ] {
        assert!(json::from_slice::<endpoint::Poll>(bad.as_bytes(), 1000).is_err(), "{bad}");
    }
}
