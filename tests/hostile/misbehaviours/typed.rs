//! What an attacker does with a secret that somebody typed: carries it elsewhere, keeps it, changes it, seals his own.

use std::time::Duration;

use remit_protocol::{ExecutionId, RunnerId, Timestamp, digest::Sized};
use remit_signing::sealing::SealingKey;
use serde_json::{Value, json};

use super::{
    Expect::{Refused, Succeeds},
    Row,
};
use crate::work::{Release, Seal, Work, id, today};

/// A step that is given what is typed, and must not be run twice.
const STEP: &str = "    with: { program: uname, args: [\"-s\"] }\n    secrets: { token: \"${options.password}\" }\n    \
     grant: { exec: [{ program: uname, args: [\"-s\"], secret: { name: token, env: TOKEN } }] }\n";
const OPTION: &str = "options:\n  password: { type: secret, typed: keys/typed/db, required: true }\n";

/// The work as it was meant, sealed as it was not, and changed on its way.
pub(crate) fn typed(number: u32, change: fn(&mut Seal), after: fn(&mut Work)) -> Work {
    of(&Release::of("run-command", number), number, change, after)
}

fn of(release: &Release, number: u32, change: fn(&mut Seal), after: fn(&mut Work)) -> Work {
    let mut work = Work::new(number, release, &format!("{STEP}{OPTION}"));
    work.assignment["options"] = "{\"password\":\"keys/typed/db\"}".into();
    work.assignment["start"] = "guarded".into();
    work.seals = Some((change, after));
    work
}

fn nothing(_: &mut Work) {}

fn honestly(_: &mut Seal) {}

/// The one sealed value of the work.
fn sealed(work: &mut Work) -> &mut Value {
    &mut work.assignment["sealed"][0]
}

fn hours_ago(hours: u64) -> Timestamp {
    Timestamp::from_millis((today().as_secs() - hours * 3600) * 1000)
}

/// A run under an id that several rows share, of a release that they have in common.
fn shared(number: u32, change: fn(&mut Seal)) -> Work {
    let mut work = of(&Release::of("run-command", 90_001), number, change, nothing);
    work.assignment["execution"] = id(80_010).into();
    work
}

/// What is typed would arrive where the owner has stored a secret.
fn at_a_stored_path(number: u32) -> Work {
    let step = "    with: { url: \"https://api.example/v1\" }\n    secrets: { token: \"${options.password}\" }\n    \
         grant: { http: [{ host: api.example, methods: [GET], paths: [/v1], secret: { name: token, use: bearer } }] }\n\
         options:\n  password: { type: secret, typed: keys/prod/token, required: true }\n";
    let mut work = Work::new(number, &Release::of("http-request", number), step);
    work.assignment["options"] = "{\"password\":\"keys/prod/token\"}".into();
    work.seals = Some((|seal| seal.path = "keys/prod/token".parse().unwrap(), nothing));
    work
}

/// Two steps, of which the first does not use what is typed, and is handed out.
fn to_another_step(number: u32) -> Work {
    let release = Release::of("run-command", number);
    let plain = "    with: { program: uname, args: [\"-s\"] }\n    grant: { exec: [{ program: uname, args: [\"-s\"] }] }\n";
    let second = format!("  - name: two\n    uses: acme/one@1.0.{number}\n{STEP}{OPTION}");
    let mut work = Work::new(number, &release, &format!("{plain}{second}"));
    work.assignment["options"] = "{\"password\":\"keys/typed/db\"}".into();
    work.seals = Some((honestly, nothing));
    work
}

pub(crate) const ROWS: &[Row] = &[
    ("what was typed, where it was meant for", |n| typed(n, honestly, nothing), Succeeds),
    (
        "in another run",
        |n| typed(n, |seal| seal.order.run = ExecutionId::from_u128(7), nothing),
        Refused("E_SEALED"),
    ),
    (
        "in another job",
        |n| typed(n, |seal| seal.order.job = "demo/other".parse().unwrap(), nothing),
        Refused("E_SEALED"),
    ),
    (
        "in another project",
        |n| typed(n, |seal| seal.order.job = "other/hostile".parse().unwrap(), nothing),
        Refused("E_SEALED"),
    ),
    (
        "in a job that was changed since",
        |n| {
            typed(n, honestly, |work| {
                work.redocument(|document| document["description"] = "another".into());
            })
        },
        Refused("E_SEALED"),
    ),
    (
        "with other option values",
        |n| {
            let mut work = typed(n, honestly, |work| {
                work.assignment["options"] = "{ \"password\":\"keys/typed/db\"}".into();
            });
            work.assignment["options"] = "{\"password\":\"keys/typed/db\"}".into();
            work
        },
        Refused("E_SEALED"),
    ),
    (
        "with nodes that were not meant",
        |n| {
            typed(n, honestly, |work| {
                work.assignment["node_set"] = serde_json::to_value(Sized::of(b"{\"nodes\":[]}")).unwrap();
            })
        },
        Refused("E_SEALED"),
    ),
    (
        "for another option",
        |n| {
            typed(
                n,
                |seal| seal.option = "other".parse().unwrap(),
                |work| sealed(work)["option"] = "password".into(),
            )
        },
        Refused("E_SEALED"),
    ),
    (
        "for an option that the job does not have",
        |n| typed(n, |seal| seal.option = "other".parse().unwrap(), nothing),
        Refused("E_SEALED"),
    ),
    (
        "at another path",
        |n| {
            typed(
                n,
                |seal| seal.path = "keys/typed/other".parse().unwrap(),
                |work| sealed(work)["path"] = "keys/typed/db".into(),
            )
        },
        Refused("E_SEALED"),
    ),
    (
        "at a path that the job does not type",
        |n| typed(n, |seal| seal.path = "keys/prod/token".parse().unwrap(), nothing),
        Refused("E_SEALED"),
    ),
    ("at a path where the owner has stored another", at_a_stored_path, Refused("E_SECRET")),
    ("with a step that does not use it", to_another_step, Refused("E_SEALED")),
    (
        "for another runner",
        |n| typed(n, |seal| seal.runner = RunnerId::from_u128(1), nothing),
        Refused("E_SEALED"),
    ),
    (
        "for another runner, under this one's name",
        |n| typed(n, |seal| seal.key = SealingKey::from_seed(&[1; 32]).public(), nothing),
        Refused("E_SEALED"),
    ),
    ("taken out", |n| typed(n, honestly, |work| work.assignment["sealed"] = json!([])), Refused("E_SECRET")),
    (
        "after its time",
        |n| typed(n, |seal| (seal.issued, seal.expires) = (hours_ago(2), hours_ago(1)), nothing),
        Refused("E_SEALED"),
    ),
    (
        "after its time, which is made longer",
        |n| {
            typed(
                n,
                |seal| (seal.issued, seal.expires) = (hours_ago(2), hours_ago(1)),
                |work| {
                    let later = today().plus(Duration::from_secs(3600));
                    sealed(work)["expires"] = serde_json::to_value(later).unwrap();
                },
            )
        },
        Refused("E_SEALED"),
    ),
    (
        "for longer than a day",
        |n| {
            typed(n, honestly, |work| {
                let later = today().plus(Duration::from_secs(90_000));
                sealed(work)["expires"] = serde_json::to_value(later).unwrap();
            })
        },
        Refused("E_SEALED"),
    ),
    (
        "changed by a letter",
        |n| {
            typed(n, honestly, |work| {
                let text = sealed(work)["value"].as_str().unwrap().to_owned();
                let first = if text.starts_with('A') { "B" } else { "A" };
                sealed(work)["value"] = format!("{first}{}", &text[1..]).into();
            })
        },
        Refused("E_SEALED"),
    ),
    (
        "twice",
        |n| {
            typed(n, honestly, |work| {
                let one = sealed(work).clone();
                work.assignment["sealed"] = json!([one, one]);
            })
        },
        Refused("E_SEALED"),
    ),
    ("a step that must not be run twice, with what was typed", |n| shared(n, honestly), Succeeds),
    ("the same step again, with the same", |n| shared(n, honestly), Refused("E_REPLAY")),
    ("and honest work after that", |n| typed(n, honestly, nothing), Succeeds),
];
