//! What orchestrator and runner say to one another.

use remit_protocol::{capability::Grant, endpoint, json, node::NodeSet};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Broken, Target, Verdict, files};
use crate::mutate::Form;

pub(super) const TARGET: Target = Target {
    name: "message",
    form: Form::Json,
    words: &[
        "session",
        "ack",
        "events",
        "attempt",
        "epoch",
        "number",
        "outcome",
        "succeeded",
        "failed",
        "refused(E_SIG)",
        "over-limit(memory)",
        "hold",
        "25s",
        "free",
        "draining",
        "nodes",
        "name",
        "tags",
        "attributes",
        "digest",
        "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "length",
        "first_step",
        "steps",
        "job",
        "2026-11-20T09:30:00Z",
        "2026-11-20T09:30:00.123Z",
        "usage",
        "used",
        "allowed",
        "denials",
        "side",
        "ceiling",
    ],
    seeds: || super::seeds(files("protocol/tests/wire", ".json"), "message"),
    check,
};

const LIMIT: usize = 1 << 20;

/// Reads the input as one message. What is read is written so that it is read again the same.
fn read<T: Serialize + DeserializeOwned>(input: &[u8]) -> Result<Result<(), String>, Broken> {
    let message: T = match json::from_slice(input, LIMIT) {
        Ok(message) => message,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let write =
        |message: &T| serde_json::to_value(message).map_err(|e| Broken(format!("it cannot be written: {e}")));
    let written = write(&message)?;
    let bytes = serde_json::to_vec(&written).unwrap_or_default();
    match json::from_slice::<T>(&bytes, LIMIT) {
        Ok(again) => Broken::unless(write(&again)? == written, || {
            format!("it reads otherwise what it wrote: {written}")
        })?,
        Err(error) => return Err(Broken(format!("it does not read what it wrote: {error}: {written}"))),
    }
    Ok(Ok(()))
}

type Reader = fn(&[u8]) -> Result<Result<(), String>, Broken>;

const MESSAGES: [(&str, Reader); 12] = [
    ("hello", read::<endpoint::Hello>),
    ("enrol", read::<endpoint::Enrol>),
    ("open session", read::<endpoint::OpenSession>),
    ("session opened", read::<endpoint::SessionOpened>),
    ("poll", read::<endpoint::Poll>),
    ("poll answer", read::<endpoint::PollAnswer>),
    ("report", read::<endpoint::Report>),
    ("report answer", read::<endpoint::ReportAnswer>),
    ("component bundle", read::<endpoint::ComponentBundle>),
    ("problem", read::<endpoint::Problem>),
    ("grant", read::<Grant>),
    ("node set", read::<NodeSet>),
];

fn check(input: &[u8]) -> Result<Verdict, Broken> {
    strict(input)?;
    let mut words = String::new();
    let mut accepted = false;
    for (name, read) in MESSAGES {
        match read(input).map_err(|Broken(why)| Broken(format!("{name}: {why}")))? {
            Ok(()) => {
                accepted = true;
                words.push_str(name);
            }
            // One message's complaint is enough to tell inputs apart.
            Err(error) if words.is_empty() => words = error,
            Err(_) => {}
        }
    }
    Ok(Verdict { accepted, words })
}

/// Strict JSON has one reading, which is serde_json's too.
fn strict(input: &[u8]) -> Result<(), Broken> {
    let Ok(value) = json::value_from_slice(input, LIMIT) else { return Ok(()) };
    let other: Value =
        serde_json::from_slice(input).map_err(|error| Broken(format!("others do not read it: {error}")))?;
    Broken::unless(same(&value, &other), || format!("others read {other}"))
}

/// Equal but for the last digit of a fraction, which serde_json reads with less care.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| same(one, other)))
        }
        (Value::Number(one), Value::Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(a), Some(b)) => {
                one == other || one.is_f64() && other.is_f64() && (a - b).abs() <= a.abs() * 1e-15
            }
            _ => false,
        },
        (one, other) => one == other,
    }
}
