//! Against a runner that wants signed jobs.

use super::{
    Expect::{Refused, Succeeds},
    Row, document, pure,
};
use crate::work::{Work, job_note};

fn signed(number: u32, by: &str, version: u64) -> Work {
    let mut work = pure(number);
    work.sign(by, version);
    work
}

pub(crate) const ROWS: &[Row] = &[
    ("a job without a note", pure, Refused("E_JOB_UNSIGNED")),
    ("a job by a key that nobody trusts", |n| signed(n, "attacker/key", 5), Refused("E_THRESHOLD")),
    ("a job by a publisher's key", |n| signed(n, "acme.example/release", 5), Refused("E_SCOPE")),
    ("a signed job", |n| signed(n, "acme.example/author", 5), Succeeds),
    (
        "a signed job that was widened",
        |n| {
            let mut work = signed(n, "acme.example/author", 6);
            let note = work.assignment["job_note"].clone();
            work.redocument(|document| {
                document["steps"][0]["action"]["component"]["with"]["value"] = 2.into();
            });
            work.assignment["job_note"] = note;
            work
        },
        Refused("E_DIGEST"),
    ),
    (
        "a step taken out of a signed job",
        |n| {
            let mut work = signed(n, "acme.example/author", 6);
            let note = work.assignment["job_note"].clone();
            work.redocument(|document| document["steps"][0]["name"] = "other".into());
            work.assignment["job_note"] = note;
            work
        },
        Refused("E_LENGTH"),
    ),
    (
        "the note of another job",
        |n| {
            let mut work = pure(n);
            work.assignment["job_note"] = job_note(&work.document, "acme.example/author", 6, "other").into();
            work
        },
        Refused("E_JOB_UNSIGNED"),
    ),
    ("an older version", |n| signed(n, "acme.example/author", 4), Refused("E_ROLLBACK")),
    (
        "another job under the same version",
        |n| {
            let mut work = document(n, |document| {
                document["steps"][0]["action"]["component"]["with"]["value"] = 3.into();
            });
            work.sign("acme.example/author", 5);
            work
        },
        Refused("E_ROLLBACK"),
    ),
    ("a newer version", |n| signed(n, "acme.example/author", 6), Succeeds),
    (
        "a component note in the place of a job note",
        |n| {
            let mut work = pure(n);
            work.assignment["job_note"] = work.bundle["note"].clone();
            work
        },
        Refused("E_SYNTAX"),
    ),
];
