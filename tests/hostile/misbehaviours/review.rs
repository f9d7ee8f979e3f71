//! Against a runner whose owner wants a reviewer to stand for each component.

use remit_protocol::digest::Sized;
use remit_signing::{
    note,
    verdict::{Opinion, Reviewed, Scope, VerdictNote},
};

use super::{
    Expect::{Refused, Succeeds},
    PURE, Row,
};
use crate::work::{Release, Work, key};

/// Work whose release has this verdict, by the holder of this key.
fn reviewed(number: u32, by: &str, change: impl FnOnce(&mut VerdictNote)) -> Work {
    let release = Release::of("transform", number);
    let mut says = VerdictNote {
        name: release.says.name.clone(),
        version: release.says.version.clone(),
        component: release.says.component,
        manifest: release.says.manifest,
        criteria: "safe-to-run".parse().unwrap(),
        scope: Scope::Full,
        opinion: Opinion::Pass,
        report: None,
        issued: release.says.not_before,
        expires: release.says.expires,
    };
    change(&mut says);
    let mut work = Work::new(number, &release, PURE);
    let note = note::sign(&says.to_text(), &[&key(by)]).unwrap();
    work.bundle["verdicts"] = vec![String::from_utf8(note).unwrap()].into();
    work
}

/// The verdict of these rows, changed as text after it was signed.
fn altered(number: u32, old: &str, new: &str) -> Work {
    let mut work = reviewed(number, ANN, |_| {});
    let note = work.bundle["verdicts"][0].as_str().unwrap().replacen(old, new, 1);
    assert_ne!(note, work.bundle["verdicts"][0]);
    work.bundle["verdicts"] = vec![note].into();
    work
}

const ANN: &str = "sec.example/ann";

/// In this order: what was said against the bytes of the last ones is remembered.
pub(crate) const ROWS: &[Row] = &[
    ("a component that nobody has reviewed", super::pure, Refused("E_VERDICT")),
    (
        "a verdict by somebody whom nobody trusts",
        |n| reviewed(n, "attacker/key", |_| {}),
        Refused("E_VERDICT"),
    ),
    ("a verdict by the publisher", |n| reviewed(n, "acme.example/release", |_| {}), Refused("E_VERDICT")),
    ("a reviewed component", |n| reviewed(n, ANN, |_| {}), Succeeds),
    (
        "a verdict about other bytes",
        |n| reviewed(n, ANN, |says| says.component = Sized::of(b"other")),
        Refused("E_VERDICT"),
    ),
    (
        "a verdict about another manifest",
        |n| reviewed(n, ANN, |says| says.manifest = Sized::of(b"{}")),
        Refused("E_VERDICT"),
    ),
    (
        "a verdict by other criteria",
        |n| reviewed(n, ANN, |says| says.criteria = "pretty".parse().unwrap()),
        Refused("E_VERDICT"),
    ),
    (
        "a verdict that has run out",
        |n| reviewed(n, ANN, |says| says.expires = says.issued.plus(std::time::Duration::from_secs(1))),
        Refused("E_VERDICT"),
    ),
    (
        "a verdict about a change since nobody knows what",
        |n| {
            reviewed(n, ANN, |says| {
                let base = remit_protocol::Digest::of(b"base");
                says.scope = Scope::Delta(Reviewed { component: base, manifest: base });
            })
        },
        Refused("E_VERDICT"),
    ),
    (
        "a verdict that was altered",
        |n| altered(n, "criteria safe-to-run", "criteria safe-to-eat"),
        Refused("E_SIG"),
    ),
    (
        "a verdict of another form",
        |n| altered(n, "opinion pass", "opinion pass\nopinion pass"),
        Refused("E_SYNTAX"),
    ),
    (
        "more verdicts than anybody reads",
        |n| {
            let mut work = reviewed(n, ANN, |_| {});
            work.bundle["verdicts"] = vec![work.bundle["verdicts"][0].clone(); 49].into();
            work
        },
        Refused("E_SYNTAX"),
    ),
    ("a reviewed component after all that", |n| reviewed(n, ANN, |_| {}), Succeeds),
    (
        "a component that a reviewer stands against",
        |n| reviewed(n, ANN, |says| says.opinion = Opinion::Fail),
        Refused("E_VERDICT"),
    ),
    (
        "the same bytes, and what stands against them withheld",
        |n| reviewed(n, ANN, |_| {}),
        Refused("E_VERDICT"),
    ),
];
