//! What an attacker does who owns the orchestrator, one row each, and what has to come of it: one file a subject.

mod component;
mod document;
mod log;
mod permission;
mod review;
mod signed;
mod typed;
mod wire;

use serde_json::Value;

use super::work::{Release, Work, id};

pub(crate) use self::{
    log::ROWS as LOGGED, review::ROWS as REVIEWED, signed::ROWS as SIGNED, typed::ROWS as TYPED, typed::typed,
};

/// What has to come of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Expect {
    /// The runner refuses with this code, and no sandbox was made.
    Refused(&'static str),
    /// It cannot have what it needs, and says so; no sandbox was made.
    Fault,
    /// It takes no notice, and goes on asking.
    Silence,
    /// It does the work: it is honest, or it is once the runner has broken off and asked again.
    Succeeds,
}

/// One misbehaviour.
pub(crate) type Row = (&'static str, fn(u32) -> Work, Expect);

/// Against a runner that wants no signed jobs, no log and no reviews.
pub(crate) fn open() -> Vec<Row> {
    let first: Row = ("honest work", pure, Expect::Succeeds);
    let last: Row = ("honest work after all that", pure, Expect::Succeeds);
    [&[first], component::ROWS, document::ROWS, permission::ROWS, wire::ROWS, &[last]].concat()
}

/// A pure step that succeeds.
pub(super) const PURE: &str = "    with: { value: 1 }\n";

pub(super) fn pure(number: u32) -> Work {
    Work::new(number, &Release::of("transform", number), PURE)
}

pub(super) fn document(number: u32, change: impl FnOnce(&mut Value)) -> Work {
    let mut work = pure(number);
    work.redocument(change);
    work
}

/// A call to `host` with this grant and these secrets.
pub(super) fn call(number: u32, host: &str, grant: &str, secrets: &str) -> Work {
    let step =
        format!("    with: {{ url: \"https://{host}/\" }}\n    grant: {{ http: [{grant}] }}\n{secrets}");
    Work::new(number, &Release::of("http-request", number), &step)
}

/// An id for a row: attempts of two phases do not meet.
pub(crate) fn number(phase: u32, row: usize) -> u32 {
    let number = phase * 1000 + 20 + u32::try_from(row).unwrap();
    assert!(!id(number).is_empty());
    number
}
