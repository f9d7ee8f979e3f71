//! What an attacker does to a run that somebody signed: begins another one, leaves steps out, repeats them, invents what
//! came before, opens gates.

use remit_protocol::{AttemptId, ExecutionId, SectionNumber, Timestamp, digest::Sized, sealed::Sealed};
use remit_signing::{
    SigningKey, note,
    run::{ApproveNote, Order, ResultNote, RunNote},
};
use serde_json::{Value, json};

use super::{
    misbehaviours::{Expect, Row, typed},
    work::{Release, Work, id, key, today},
};
use Expect::{Refused, Succeeds};

pub(crate) const INITIATOR: &str = "acme.example/initiator";
pub(crate) const APPROVER: &str = "acme.example/approver";
/// Another runner, whose results the owner believes.
pub(crate) const PEER: &str = "runner";

/// What the owner adds to the policy: who begins runs, who agrees, whose results count.
pub(crate) fn trust() -> String {
    let key_of = |name: &str, holder: &str, kinds: &str| {
        format!("[[key]]\nvkey = \"{}\"\nholder = \"{holder}\"\nkinds = [{kinds}]\n\n", key(name).vkey())
    };
    let keys =
        [key_of(INITIATOR, "ivy", "\"run\", \"approve\""), key_of(APPROVER, "otto", "\"approve\"")].concat();
    format!(
        "{keys}[[initiator]]\nprojects = [\"demo\"]\nkeys = [\"{INITIATOR}\"]\nthreshold = 1\n\n\
         [[approver]]\nprojects = [\"demo\"]\nkeys = [\"{APPROVER}\", \"{INITIATOR}\"]\nthreshold = 1\n\n\
         [[peer]]\nvkey = \"{}\"\n\n",
        key(PEER).vkey()
    )
}

const PURE: &str = "    with: { value: 1 }\n";
/// A step that must not be run twice.
const EFFECT: &str = "    with: { program: uname, args: [\"-s\"] }\n    grant: { exec: [{ program: uname, args: [\"-s\"] }] }\n";

/// A job of a step, a gate, a step that sees what the first one gave, and one that is run on failure.
fn gated(number: u32) -> Work {
    let release = Release::of("transform", number);
    let uses = format!("acme/one@1.0.{number}");
    let more = format!(
        "{PURE}  - {{ name: ask, approve: \"Go on?\" }}\n\
         \x20 - {{ name: two, uses: {uses}, with: {{ value: \"${{steps.one.outputs}}\" }} }}\n\
         \x20 - {{ name: tidy, uses: {uses}, with: {{ value: 1 }}, when: on-failure }}\n"
    );
    signed(Work::new(number, &release, &more), number)
}

fn single(number: u32) -> Work {
    signed(Work::new(number, &Release::of("transform", number), PURE), number)
}

/// With the author's and the initiator's notes.
fn signed(mut work: Work, version: u32) -> Work {
    work.sign("acme.example/author", version.into());
    want(&mut work, INITIATOR, |_| {});
    work
}

pub(crate) fn order(work: &Work) -> Order {
    Order {
        run: work.assignment["execution"].as_str().unwrap().parse().unwrap(),
        job: "demo/hostile".parse().unwrap(),
        definition: Sized::of(&work.document),
        options: Sized::of(work.assignment["options"].as_str().unwrap_or("{}").as_bytes()),
        nodes: None,
    }
}

pub(crate) fn text(bytes: Vec<u8>) -> Value {
    String::from_utf8(bytes).unwrap().into()
}

pub(crate) fn soon() -> Timestamp {
    today().plus(std::time::Duration::from_secs(3600))
}

/// Puts a note on the run, after a change.
fn want(work: &mut Work, by: &str, change: impl FnOnce(&mut RunNote)) {
    let mut says =
        RunNote { order: order(work), sealed: Vec::new(), runner: None, issued: today(), expires: soon() };
    change(&mut says);
    work.assignment["run_note"] = text(note::sign(&says.to_text(), &[&key(by)]).unwrap());
}

fn wanted(number: u32, by: &str, change: impl FnOnce(&mut RunNote)) -> Work {
    let mut work = single(number);
    want(&mut work, by, change);
    work
}

/// Hands out the section with this number, which is one step.
fn section(work: &mut Work, number: u32) {
    work.assignment["section"] = number.into();
    work.assignment["first_step"] = number.into();
}

/// What the first step came to, by a runner.
fn result(
    work: &mut Work,
    by: &SigningKey,
    outcome: &str,
    change: impl FnOnce(&mut ResultNote, &mut String),
) {
    let mut steps = json!({ "one": { "outcome": outcome, "outputs": 1 } }).to_string();
    let mut says = ResultNote {
        order: order(work),
        section: SectionNumber(0),
        attempt: AttemptId::from_u128(1),
        steps: Sized::of(steps.as_bytes()),
        at: today(),
    };
    change(&mut says, &mut steps);
    let note = text(note::sign(&says.to_text(), &[by]).unwrap());
    work.assignment["results"] = json!([{ "note": note, "steps": steps }]);
    work.assignment["earlier"] = json!({
        "one": { "outcome": outcome, "outputs": 1 }, "ask": { "outcome": "succeeded" },
    });
}

fn approve(work: &mut Work, by: &str, change: impl FnOnce(&mut ApproveNote)) {
    let mut says =
        ApproveNote { order: order(work), step: "ask".parse().unwrap(), issued: today(), expires: soon() };
    change(&mut says);
    work.assignment["approvals"] = json!([text(note::sign(&says.to_text(), &[&key(by)]).unwrap())]);
}

/// The step behind the gate, with everything that it needs; `change` takes some of it away.
fn behind(number: u32, change: impl FnOnce(&mut Work)) -> Work {
    let mut work = gated(number);
    section(&mut work, 2);
    result(&mut work, &key(PEER), "succeeded", |_, _| {});
    approve(&mut work, APPROVER, |_| {});
    change(&mut work);
    work
}

/// A run under an id that several rows share; it is the newest version of its job then.
fn shared(number: u32, run: u32, release: &Release, step: &str, change: impl FnOnce(&mut RunNote)) -> Work {
    let mut work = Work::new(number, release, step);
    work.assignment["execution"] = id(run).into();
    work.sign("acme.example/author", run.into());
    want(&mut work, INITIATOR, change);
    work
}

/// A release that two rows have in common, so that they run the very same job.
fn common(component: &str) -> Release {
    Release::of(component, 90_000)
}

fn once(number: u32) -> Work {
    let mut work = shared(number, 80_001, &common("run-command"), EFFECT, |_| {});
    work.assignment["start"] = "guarded".into();
    work
}

/// A run with a typed secret, which its initiator has signed with it or not.
fn typed_and_signed(number: u32, both: bool) -> Work {
    let sign: fn(&mut Work) = match both {
        true => |work| {
            let sealed: Sealed = serde_json::from_value(work.assignment["sealed"][0].clone()).unwrap();
            want(work, INITIATOR, |says| says.sealed = vec![sealed.value.sized()]);
        },
        false => |work| want(work, INITIATOR, |_| {}),
    };
    let mut work = typed(number, |_| {}, sign);
    work.sign("acme.example/author", number.into());
    work
}

/// A run that says that a schedule of the signed job began it.
fn scheduled(number: u32, name: &str, due: Timestamp, change: impl FnOnce(&mut Work)) -> Work {
    let step = format!("{PURE}schedules:\n  - {{ name: minutely, cron: \"* * * * *\" }}\n");
    let mut work = Work::new(number, &Release::of("transform", number), &step);
    let origin = remit_protocol::Origin::Schedule { name: name.parse().unwrap(), due };
    work.assignment["origin"] = serde_json::to_value(origin).unwrap();
    change(&mut work);
    work.sign("acme.example/author", number.into());
    work
}

/// The last full minute of so many hours ago.
fn minute(hours: u64) -> Timestamp {
    Timestamp::from_millis((today().as_secs() - hours * 3600) / 60 * 60_000)
}

pub(crate) const RUNS: &[Row] = &[
    ("a run that somebody wants", single, Succeeds),
    (
        "a run that nobody signed",
        |n| {
            let mut work = single(n);
            work.assignment.as_object_mut().unwrap().remove("run_note");
            work
        },
        Refused("E_RUN"),
    ),
    ("a run by a key that nobody trusts", |n| wanted(n, "attacker/key", |_| {}), Refused("E_THRESHOLD")),
    ("a run by an approver", |n| wanted(n, APPROVER, |_| {}), Refused("E_SCOPE")),
    ("a run by an author", |n| wanted(n, "acme.example/author", |_| {}), Refused("E_SCOPE")),
    (
        "the note of another run",
        |n| wanted(n, INITIATOR, |says| says.order.run = ExecutionId::from_u128(7)),
        Refused("E_RUN"),
    ),
    (
        "the note of another job",
        |n| wanted(n, INITIATOR, |says| says.order.job = "demo/other".parse().unwrap()),
        Refused("E_RUN"),
    ),
    (
        "the note of another version of the job",
        |n| wanted(n, INITIATOR, |says| says.order.definition = Sized::of(b"other")),
        Refused("E_RUN"),
    ),
    (
        "other option values than were signed",
        |n| {
            let mut work = single(n);
            work.assignment["options"] = "{\"all\":true}".into();
            work
        },
        Refused("E_RUN"),
    ),
    (
        "the same values in another text",
        |n| {
            let mut work = single(n);
            work.assignment["options"] = "{ }".into();
            work
        },
        Refused("E_RUN"),
    ),
    (
        "nodes that were not signed",
        |n| {
            let mut work = single(n);
            work.assignment["node_set"] = serde_json::to_value(Sized::of(b"{\"nodes\":[]}")).unwrap();
            work
        },
        Refused("E_RUN"),
    ),
    (
        "a note that has run out",
        |n| {
            wanted(n, INITIATOR, |says| {
                says.issued = Timestamp::from_millis((today().as_secs() - 7200) * 1000);
                says.expires = today();
            })
        },
        Refused("E_WINDOW"),
    ),
    (
        "a note for another runner",
        |n| wanted(n, INITIATOR, |says| says.runner = Some(remit_protocol::RunnerId::from_u128(1))),
        Refused("E_RUN"),
    ),
    ("the step behind a gate that was opened", |n| behind(n, |_| {}), Succeeds),
    (
        "the step behind it, without what came before",
        |n| behind(n, |work| work.assignment["results"] = json!([])),
        Refused("E_ORDER"),
    ),
    (
        "what came before, by a runner that nobody knows",
        |n| behind(n, |work| result(work, &key("attacker/key"), "succeeded", |_, _| {})),
        Refused("E_THRESHOLD"),
    ),
    (
        "what came before in another run",
        |n| {
            behind(n, |work| {
                result(work, &key(PEER), "succeeded", |says, _| says.order.run = ExecutionId::from_u128(7));
            })
        },
        Refused("E_ORDER"),
    ),
    (
        "what another section came to",
        |n| {
            behind(n, |work| result(work, &key(PEER), "succeeded", |says, _| says.section = SectionNumber(1)))
        },
        Refused("E_ORDER"),
    ),
    (
        "an output that was changed",
        |n| {
            behind(n, |work| {
                result(work, &key(PEER), "succeeded", |_, steps| *steps = steps.replace(":1", ":2"));
            })
        },
        Refused("E_DIGEST"),
    ),
    (
        "a step that is due on success, after a failure",
        |n| behind(n, |work| result(work, &key(PEER), "failed", |_, _| {})),
        Refused("E_ORDER"),
    ),
    (
        "a step that is due on failure, after a success",
        |n| behind(n, |work| section(work, 3)),
        Refused("E_ORDER"),
    ),
    (
        "a step that is due on failure, after a failure that was invented",
        |n| {
            behind(n, |work| {
                section(work, 3);
                work.assignment["earlier"]["one"]["outcome"] = "failed".into();
            })
        },
        Refused("E_ORDER"),
    ),
    ("a gate as if it were a step", |n| behind(n, |work| section(work, 1)), Refused("E_JOB")),
    (
        "a gate at which nobody was asked",
        |n| behind(n, |work| work.assignment["approvals"] = json!([])),
        Refused("E_GATE"),
    ),
    (
        "an approval by the one who began the run",
        |n| behind(n, |work| approve(work, INITIATOR, |_| {})),
        Refused("E_GATE"),
    ),
    (
        "an approval by a key that nobody trusts",
        |n| behind(n, |work| approve(work, "attacker/key", |_| {})),
        Refused("E_GATE"),
    ),
    (
        "an approval of another run",
        |n| behind(n, |work| approve(work, APPROVER, |says| says.order.run = ExecutionId::from_u128(7))),
        Refused("E_GATE"),
    ),
    (
        "an approval of other option values",
        |n| behind(n, |work| approve(work, APPROVER, |says| says.order.options = Sized::of(b"{\"a\":1}"))),
        Refused("E_GATE"),
    ),
    (
        "an approval at another gate",
        |n| behind(n, |work| approve(work, APPROVER, |says| says.step = "other".parse().unwrap())),
        Refused("E_GATE"),
    ),
    (
        "an approval that has run out",
        |n| {
            behind(n, |work| {
                approve(work, APPROVER, |says| {
                    says.issued = Timestamp::from_millis((today().as_secs() - 7200) * 1000);
                    says.expires = today();
                });
            })
        },
        Refused("E_WINDOW"),
    ),
    (
        "a run note in the place of an approval",
        |n| {
            behind(n, |work| {
                let note =
                    work.assignment["run_note"].as_str().unwrap().replace("issued", "step ask\nissued");
                work.assignment["approvals"] = json!([note]);
            })
        },
        Refused("E_SYNTAX"),
    ),
    (
        "a time of a schedule that the author signed",
        |n| scheduled(n, "minutely", minute(0), |_| {}),
        Succeeds,
    ),
    ("another run for the same time", |n| scheduled(n, "minutely", minute(0), |_| {}), Refused("E_REPLAY")),
    (
        "a schedule that the job does not have",
        |n| scheduled(n, "hourly", minute(1), |_| {}),
        Refused("E_RUN"),
    ),
    (
        "no time of the schedule",
        |n| scheduled(n, "minutely", minute(1).plus(std::time::Duration::from_secs(1)), |_| {}),
        Refused("E_RUN"),
    ),
    ("a time of yesterday", |n| scheduled(n, "minutely", minute(24), |_| {}), Refused("E_RUN")),
    (
        "a time to come",
        |n| scheduled(n, "minutely", minute(0).plus(std::time::Duration::from_secs(600)), |_| {}),
        Refused("E_RUN"),
    ),
    (
        "options that the schedule does not give",
        |n| {
            scheduled(n, "minutely", minute(1), |work| {
                work.assignment["options"] = "{\"all\":true}".into();
            })
        },
        Refused("E_RUN"),
    ),
    (
        "a condition on who is said to have begun the run",
        |n| {
            let step = format!("{PURE}    when: \"execution.started_by == 'attacker'\"\n");
            signed(Work::new(n, &Release::of("transform", n), &step), n)
        },
        Refused("E_ORDER"),
    ),
    ("a typed secret that the initiator signed with the run", |n| typed_and_signed(n, true), Succeeds),
    ("a typed secret that he did not", |n| typed_and_signed(n, false), Refused("E_SEALED")),
    ("a run under an id of its own", |n| shared(n, 80_000, &common("transform"), PURE, |_| {}), Succeeds),
    (
        "another order under the same id",
        |n| {
            shared(n, 80_000, &common("transform"), PURE, |says| {
                says.expires = says.expires.plus(std::time::Duration::from_secs(1));
            })
        },
        Refused("E_RUN_FORK"),
    ),
    (
        "the same run again, where that does no harm",
        |n| shared(n, 80_000, &common("transform"), PURE, |_| {}),
        Succeeds,
    ),
    ("a step that must not be run twice", once, Succeeds),
    ("the same step again", once, Refused("E_REPLAY")),
];
