//! How it is said: answers that are not what they should be.

use remit_protocol::endpoint::{BLOBS, COMPONENTS};

use super::{
    Expect::{Fault, Silence, Succeeds},
    Row, pure,
};
use crate::{orchestrator::Twist, work::Work};

/// Deeper than any reader of ours goes.
const DEEP: &str = {
    const BYTES: [u8; 10_000] = [b'['; 10_000];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

fn poll(number: u32, twist: Twist) -> Work {
    let mut work = pure(number);
    work.twist = twist;
    work
}

fn answer(number: u32, path: &'static str, twist: Twist) -> Work {
    let mut work = pure(number);
    work.answers.push((path, twist));
    work
}

pub(crate) const ROWS: &[Row] = &[
    ("an answer without a signature", |n| poll(n, Twist::Unsigned), Silence),
    ("an answer by another key", |n| poll(n, Twist::OtherKey), Silence),
    ("the answer to another request", |n| poll(n, Twist::OtherRequest), Silence),
    ("an answer that was altered", |n| poll(n, Twist::Altered), Silence),
    ("another status than was signed", |n| poll(n, Twist::OtherStatus), Silence),
    ("an answer without an end", |n| poll(n, Twist::Endless), Silence),
    ("an answer of 2^60 bytes", |n| poll(n, Twist::Huge), Silence),
    ("an answer that leads elsewhere", |n| poll(n, Twist::Redirect), Silence),
    ("a field that nobody knows", |n| poll(n, Twist::Json("\"epoch\":", "\"sudo\":1,\"epoch\":")), Silence),
    ("a key twice", |n| poll(n, Twist::Json("\"epoch\":1", "\"epoch\":1,\"epoch\":2")), Silence),
    (
        "a number of 23 digits",
        |n| poll(n, Twist::Json("\"epoch\":1", "\"epoch\":12345678901234567890123")),
        Silence,
    ),
    ("a command that nobody knows", |n| poll(n, Twist::Json("{\"run\":", "{\"sudo\":")), Silence),
    ("no JSON", |n| poll(n, Twist::Body("<html>login</html>")), Silence),
    ("JSON of ten thousand levels", |n| poll(n, Twist::Body(DEEP)), Silence),
    ("a bundle without a signature", |n| answer(n, COMPONENTS, Twist::Unsigned), Fault),
    ("a bundle by another key", |n| answer(n, COMPONENTS, Twist::OtherKey), Fault),
    ("a bundle without an end", |n| answer(n, COMPONENTS, Twist::Endless), Succeeds),
    ("a blob without a signature", |n| answer(n, BLOBS, Twist::Unsigned), Fault),
    ("a blob without an end", |n| answer(n, BLOBS, Twist::Endless), Succeeds),
    ("a blob of 2^60 bytes", |n| answer(n, BLOBS, Twist::Huge), Succeeds),
    ("a blob that leads elsewhere", |n| answer(n, BLOBS, Twist::Redirect), Fault),
];
