//! What an attacker does to jobs that run jobs: begins a child that no step wants, twice, too early or with other values, and
//! invents, changes or withholds what children came to.

use remit_protocol::{AttemptId, ExecutionId, SectionNumber, digest::Sized};
use remit_signing::{
    note,
    run::{ApproveNote, Order, ResultNote, RunNote},
};
use serde_json::{Value, json};

use super::{
    misbehaviours::{Expect, Row},
    orchestrator::digest,
    runs::{APPROVER, INITIATOR, PEER, order, soon, text},
    work::{Release, Work, document, id, job_note, key, today},
};
use Expect::{Refused, Succeeds};

const AUTHOR: &str = "acme.example/author";
/// An option that a child wants.
const WHAT: &str = "options: { what: { type: string, required: true } }\n";

/// One of the family of the assigned execution.
struct Relative {
    document: Vec<u8>,
    kin: Value,
}

impl Relative {
    /// A run of a job with these steps, which its author signed.
    fn new(run: u32, job: &str, version: u32, release: &Release, yaml: &str) -> Self {
        let document = document(&format!("job: {job}\n{yaml}"), release).to_vec();
        let kin = json!({
            "execution": id(run), "job": job, "document": Sized::of(&document), "options": "{}",
            "job_note": job_note(&document, AUTHOR, version.into(), job),
        });
        Self { document, kin }
    }

    fn order(&self) -> Order {
        Order {
            run: self.kin["execution"].as_str().unwrap().parse().unwrap(),
            job: format!("demo/{}", self.kin["job"].as_str().unwrap()).parse().unwrap(),
            definition: Sized::of(&self.document),
            options: Sized::of(self.kin["options"].as_str().unwrap().as_bytes()),
            nodes: self.kin.get("node_set").map(|set| serde_json::from_value(set.clone()).unwrap()),
        }
    }

    fn wanted(&mut self, by: &str, change: impl FnOnce(&mut RunNote)) {
        self.kin["run_note"] = run_note(self.order(), by, change);
    }

    /// What its first section came to, by a runner.
    fn result(&mut self, by: &str, steps: &Value, change: impl FnOnce(&mut ResultNote)) {
        self.kin["results"] = json!([result(self.order(), by, steps, change)]);
    }

    fn is_child(&mut self, of: u32, step: u32, item: u32) {
        self.kin["child_of"] = json!({ "execution": id(of), "step": step, "item": item });
    }
}

fn run_note(order: Order, by: &str, change: impl FnOnce(&mut RunNote)) -> Value {
    let mut says = RunNote { order, sealed: Vec::new(), runner: None, issued: today(), expires: soon() };
    change(&mut says);
    text(note::sign(&says.to_text(), &[&key(by)]).unwrap())
}

fn result(order: Order, by: &str, steps: &Value, change: impl FnOnce(&mut ResultNote)) -> Value {
    let steps = steps.to_string();
    let mut says = ResultNote {
        order,
        section: SectionNumber(0),
        attempt: AttemptId::from_u128(1),
        steps: Sized::of(steps.as_bytes()),
        at: today(),
    };
    change(&mut says);
    json!({ "note": text(note::sign(&says.to_text(), &[&key(by)]).unwrap()), "steps": steps })
}

fn ended(step: &str, outcome: &str) -> Value {
    json!({ step: { "outcome": outcome, "outputs": 1 } })
}

/// Hands out the family together with the work.
fn with(mut work: Work, family: Vec<Relative>) -> Work {
    for relative in &family {
        work.blobs.entry(digest(&relative.document)).or_insert_with(|| relative.document.clone());
    }
    let kin: Vec<Value> = family.into_iter().map(|relative| relative.kin).collect();
    work.assignment["family"] = kin.into();
    work
}

/// Which runs of which release a row is about.
#[derive(Clone, Copy)]
struct At {
    number: u32,
    /// The version of component and jobs: later rows have newer ones.
    version: u32,
    child: u32,
    parent: u32,
    item: u32,
}

/// A place of its own.
fn own(number: u32) -> At {
    At { number, version: number, child: number, parent: 700_000 + number, item: 0 }
}

/// A child of a signed run, for an item of the list of its second step, once the first has ended.
fn child_at(at: At, change: impl FnOnce(&mut Work, &mut Relative)) -> Work {
    let release = Release::of("transform", at.version);
    let mut work = Work::new(at.number, &release, &format!("    with: {{ value: 1 }}\n{WHAT}"));
    work.sign(AUTHOR, at.version.into());
    work.assignment["execution"] = id(at.child).into();
    let item = if at.item == 0 { "a" } else { "b" };
    work.assignment["options"] = json!({ "what": item }).to_string().into();
    work.assignment["child_of"] = json!({ "execution": id(at.parent), "step": 1, "item": at.item });
    work.assignment["origin"] = json!({ "kind": "parent", "execution": id(at.parent), "section": 1 });
    let mut parent = parent(at, &release);
    change(&mut work, &mut parent);
    with(work, vec![parent])
}

/// A signed run of a step, one that runs a job for each of two items, and one behind it; the first has ended.
fn parent(at: At, release: &Release) -> Relative {
    let uses = format!("acme/one@1.0.{}", at.version);
    let steps = format!(
        "steps:\n  - {{ name: find, uses: {uses}, with: {{ value: 1 }} }}\n\
         \x20 - {{ name: sites, job: hostile, for_each: \"['a', 'b']\", with: {{ what: \"${{item}}\" }} }}\n\
         \x20 - {{ name: then, uses: {uses}, with: {{ value: 1 }} }}\n"
    );
    let mut parent = Relative::new(at.parent, "parent", at.version, release, &steps);
    parent.wanted(INITIATOR, |_| {});
    parent.result(PEER, &ended("find", "succeeded"), |_| {});
    parent
}

fn child(number: u32, change: impl FnOnce(&mut Work, &mut Relative)) -> Work {
    child_at(own(number), change)
}

/// A child over two nodes: one that its initiator signed with the run above it, and one more that the step's filter chooses.
fn over_nodes(number: u32, change: impl FnOnce(&mut Value)) -> Work {
    let release = Release::of("transform", number);
    let mut work = Work::new(number, &release, "    per: node\n    with: { value: 1 }\n");
    work.sign(AUTHOR, number.into());
    let above = 700_000 + number;
    work.assignment["child_of"] = json!({ "execution": id(above), "step": 0, "item": 0 });
    let steps = format!(
        "nodes: {{ filter: \".*\" }}\nsteps:\n  - {{ name: sites, job: hostile, nodes: \"tags: web\" }}\n\
         \x20 - {{ name: each, uses: acme/one@1.0.{number}, per: node, with: {{ value: 1 }} }}\n"
    );
    let mut parent = Relative::new(above, "parent", number, &release, &steps);
    let signed = json!({ "nodes": [{ "name": "a", "tags": ["web"] }] }).to_string();
    parent.kin["node_set"] = serde_json::to_value(Sized::of(signed.as_bytes())).unwrap();
    parent.wanted(INITIATOR, |_| {});
    let mut set = json!({ "nodes": [{ "name": "a", "tags": ["web"] }, { "name": "b", "tags": ["web"] }] });
    change(&mut set);
    if !set.is_null() {
        let set = set.to_string();
        let named = serde_json::to_value(Sized::of(set.as_bytes())).unwrap();
        work.assignment["node_set"] = named.clone();
        work.assignment["nodes"] = json!({
            "set": named, "ranges": [[0, 2]], "threads": 1, "keep_going": false, "strategy": "node-first",
        });
        work.blobs.insert(digest(set.as_bytes()), set.into_bytes());
    }
    work.blobs.insert(digest(signed.as_bytes()), signed.into_bytes());
    with(work, vec![parent])
}

/// The step of a signed run behind one that has run a job for each of two items.
fn behind(number: u32, change: impl FnOnce(&mut Work, &mut Vec<Relative>)) -> Work {
    let release = Release::of("transform", number);
    let uses = format!("acme/one@1.0.{number}");
    let more = format!(
        "    with: {{ value: 1 }}\n\
         \x20 - {{ name: sites, job: leaf, for_each: \"['a', 'b']\", with: {{ what: \"${{item}}\" }} }}\n\
         \x20 - {{ name: two, uses: {uses}, with: {{ value: \"${{steps.sites.outputs}}\" }} }}\n\
         \x20 - {{ name: undo, uses: {uses}, with: {{ value: 1 }}, when: on-failure }}\n"
    );
    let mut work = Work::new(number, &release, &more);
    work.sign(AUTHOR, number.into());
    (work.assignment["section"], work.assignment["first_step"]) = (2.into(), 2.into());
    work.assignment["results"] = json!([result(order(&work), PEER, &ended("one", "succeeded"), |_| {})]);
    work.assignment["run_note"] = run_note(order(&work), INITIATOR, |_| {});
    let steps = format!("{WHAT}steps:\n  - {{ name: go, uses: {uses}, with: {{ value: 1 }} }}\n");
    let leaf = |(item, what): (u32, &str)| {
        let run = 800_000 + 2 * number + item;
        let mut leaf = Relative::new(run, "leaf", number, &release, &steps);
        leaf.kin["options"] = json!({ "what": what }).to_string().into();
        leaf.is_child(number, 1, item);
        leaf.result(PEER, &ended("go", "succeeded"), |_| {});
        leaf
    };
    let mut family: Vec<Relative> = [(0, "a"), (1, "b")].map(leaf).into();
    // The orchestrator's own word says that all went well, and changes nothing.
    work.assignment["earlier"] =
        json!({ "one": { "outcome": "succeeded" }, "sites": { "outcome": "succeeded" } });
    change(&mut work, &mut family);
    with(work, family)
}

/// The step behind two jobs, each with a gate at its end to which these have agreed.
fn gated(number: u32, by: &[&str]) -> Work {
    behind(number, |_, family| {
        for leaf in family {
            let mut document: Value = serde_json::from_slice(&leaf.document).unwrap();
            let ask = json!({ "question": "Go on?", "needed": 1, "by": "anyone" });
            document["steps"].as_array_mut().unwrap().push(json!({
                "name": "ask", "per": "once", "when": "on-success", "action": { "gate": ask },
            }));
            leaf.document = document.to_string().into_bytes();
            leaf.kin["document"] = serde_json::to_value(Sized::of(&leaf.document)).unwrap();
            leaf.kin["job_note"] = job_note(&leaf.document, AUTHOR, number.into(), "leaf").into();
            // Whatever the orchestrator says of the gate.
            leaf.kin["gates"] = json!({ "ask": { "outcome": "succeeded" } });
            leaf.result(PEER, &ended("go", "succeeded"), |_| {});
            let (order, step) = (leaf.order(), "ask".parse().unwrap());
            let says = ApproveNote { order, step, issued: today(), expires: soon() };
            let agreed = |by: &&str| text(note::sign(&says.to_text(), &[&key(by)]).unwrap());
            leaf.kin["approvals"] = by.iter().map(agreed).collect();
        }
    })
}

/// One parent for several rows, which are about the newest version of their jobs.
fn shared(number: u32, child: u32, item: u32) -> Work {
    child_at(At { number, version: 91_000, child, parent: 700_000, item }, |_, _| {})
}

/// The step of that parent behind the jobs, which are said to have been these runs.
fn behind_shared(number: u32, runs: [u32; 2]) -> Work {
    let at = At { number, version: 91_000, child: number, parent: 700_000, item: 0 };
    let release = Release::of("transform", at.version);
    let mut work = child_at(at, |_, _| {});
    let (document, note) = (work.document.clone(), work.assignment["job_note"].clone());
    let said = parent(at, &release);
    for field in ["execution", "job", "document", "options", "job_note", "run_note", "results"] {
        work.assignment[field] = said.kin[field].clone();
    }
    (work.assignment["section"], work.assignment["first_step"]) = (2.into(), 2.into());
    work.assignment.as_object_mut().unwrap().remove("child_of");
    work.assignment.as_object_mut().unwrap().remove("origin");
    let ran = |(item, run): (u32, u32)| {
        let options = json!({ "what": if item == 0 { "a" } else { "b" } }).to_string();
        let kin = json!({
            "execution": id(run), "job": "hostile", "document": Sized::of(&document), "options": options, "job_note": note,
        });
        let mut relative = Relative { document: document.clone(), kin };
        relative.is_child(at.parent, 1, item);
        relative.result(PEER, &ended("one", "succeeded"), |_| {});
        relative
    };
    with(work, (0..).zip(runs).map(ran).collect())
}

pub(crate) const FAMILIES: &[Row] = &[
    ("a child that a step of a signed run wants", |n| child(n, |_, _| {}), Succeeds),
    (
        "a child with other option values than the step gives",
        |n| child(n, |work, _| work.assignment["options"] = "{\"what\":\"c\"}".into()),
        Refused("E_RUN"),
    ),
    (
        "a child with the values of another item",
        |n| child(n, |work, _| work.assignment["options"] = "{\"what\":\"b\"}".into()),
        Refused("E_RUN"),
    ),
    (
        "a child for an item that is not in the list",
        |n| child(n, |work, _| work.assignment["child_of"]["item"] = 2.into()),
        Refused("E_RUN"),
    ),
    (
        "a child of a step that runs no job",
        |n| child(n, |work, _| work.assignment["child_of"]["step"] = 0.into()),
        Refused("E_RUN"),
    ),
    (
        "a child of another job than the step names",
        |n| {
            child(n, |_, parent| {
                let release = Release::of("transform", n);
                let steps = "steps:\n  - { name: sites, job: other, with: { what: a } }\n".to_owned();
                let first = format!("  - {{ name: find, uses: acme/one@1.0.{n}, with: {{ value: 1 }} }}\n");
                let steps = steps.replace("steps:\n", &format!("steps:\n{first}"));
                *parent = Relative::new(700_000 + n, "parent", n, &release, &steps);
                parent.wanted(INITIATOR, |_| {});
                parent.result(PEER, &ended("find", "succeeded"), |_| {});
            })
        },
        Refused("E_RUN"),
    ),
    (
        "a child before its parent is there",
        |n| child(n, |_, parent| parent.kin["results"] = json!([])),
        Refused("E_ORDER"),
    ),
    (
        "a child of a step that is due on success, after a failure",
        |n| child(n, |_, parent| parent.result(PEER, &ended("find", "failed"), |_| {})),
        Refused("E_ORDER"),
    ),
    (
        "a child after a step whose end nobody signed whom the owner believes",
        |n| child(n, |_, parent| parent.result("attacker/key", &ended("find", "succeeded"), |_| {})),
        Refused("E_THRESHOLD"),
    ),
    (
        "a child of a run that is not shown",
        |n| child(n, |work, _| work.assignment["child_of"]["execution"] = id(600_000).into()),
        Refused("E_RUN"),
    ),
    (
        "a child of a run that nobody signed",
        |n| child(n, |_, parent| parent.kin["run_note"] = Value::Null),
        Refused("E_RUN"),
    ),
    (
        "a child of a run by a key that nobody trusts",
        |n| child(n, |_, parent| parent.wanted("attacker/key", |_| {})),
        Refused("E_THRESHOLD"),
    ),
    (
        "a child of a run whose note is about another order",
        |n| {
            child(n, |_, parent| {
                parent.wanted(INITIATOR, |says| says.order.options = Sized::of(b"{\"a\":1}"));
            })
        },
        Refused("E_RUN"),
    ),
    (
        "a child of a run that is for another runner",
        |n| {
            child(n, |_, parent| {
                parent.wanted(INITIATOR, |says| says.runner = Some(remit_protocol::RunnerId::from_u128(1)));
            })
        },
        Refused("E_RUN"),
    ),
    (
        "a child of a run whose document has other bytes",
        |n| {
            child(n, |work, parent| {
                let named = digest(&parent.document);
                work.blobs.insert(named, work.document.clone());
            })
        },
        Refused("E_JOB"),
    ),
    (
        "a child of a run whose document its author did not sign",
        |n| {
            child(n, |_, parent| {
                let mut other: Value = serde_json::from_slice(&parent.document).unwrap();
                other["steps"][1]["for_each"] = "['a', 'b', 'c']".into();
                parent.document = other.to_string().into_bytes();
                parent.kin["document"] = serde_json::to_value(Sized::of(&parent.document)).unwrap();
                parent.wanted(INITIATOR, |_| {});
            })
        },
        Refused("E_LENGTH"),
    ),
    (
        "a child of a run of a job without a note",
        |n| child(n, |_, parent| parent.kin["job_note"] = Value::Null),
        Refused("E_JOB_UNSIGNED"),
    ),
    (
        "a child of a run that is its own child",
        |n| {
            child(n, |_, parent| {
                parent.kin["run_note"] = Value::Null;
                parent.is_child(700_000 + n, 1, 0);
            })
        },
        Refused("E_RUN"),
    ),
    ("a child over nodes that the step's filter chooses", |n| over_nodes(n, |_| {}), Succeeds),
    (
        "a child over a node that it does not choose",
        |n| over_nodes(n, |set| set["nodes"][1]["tags"] = json!(["db"])),
        Refused("E_NODES"),
    ),
    (
        "a child over a node that was signed with another address",
        |n| over_nodes(n, |set| set["nodes"][0]["attributes"] = json!({ "address": "203.0.113.9" })),
        Refused("E_NODES"),
    ),
    ("a child over no nodes at all", |n| over_nodes(n, |set| *set = Value::Null), Refused("E_NODES")),
    ("the step behind jobs that a run has run", |n| behind(n, |_, _| {}), Succeeds),
    (
        "the step behind jobs that are not shown",
        |n| behind(n, |_, family| family.clear()),
        Refused("E_ORDER"),
    ),
    ("the step behind one of two", |n| behind(n, |_, family| family.truncate(1)), Refused("E_ORDER")),
    (
        "the step behind a job that has no end",
        |n| behind(n, |_, family| family[1].kin["results"] = json!([])),
        Refused("E_ORDER"),
    ),
    (
        "the step behind a job whose end nobody signed whom the owner believes",
        |n| behind(n, |_, family| family[1].result("attacker/key", &ended("go", "succeeded"), |_| {})),
        Refused("E_THRESHOLD"),
    ),
    (
        "the step behind a job whose end is that of another run",
        |n| {
            behind(n, |_, family| {
                family[1].result(PEER, &ended("go", "succeeded"), |says| {
                    says.order.run = ExecutionId::from_u128(7);
                });
            })
        },
        Refused("E_ORDER"),
    ),
    (
        "the step behind a job that failed",
        |n| behind(n, |_, family| family[1].result(PEER, &ended("go", "failed"), |_| {})),
        Refused("E_ORDER"),
    ),
    (
        "the step on failure behind jobs that did not fail",
        |n| {
            behind(n, |work, _| {
                let more = result(order(work), PEER, &ended("two", "succeeded"), |says| {
                    says.section = SectionNumber(2);
                });
                work.assignment["results"].as_array_mut().unwrap().push(more);
                (work.assignment["section"], work.assignment["first_step"]) = (3.into(), 3.into());
            })
        },
        Refused("E_ORDER"),
    ),
    (
        "the step behind a job with other option values than the step gives",
        |n| {
            behind(n, |_, family| {
                family[1].kin["options"] = "{\"what\":\"c\"}".into();
                family[1].result(PEER, &ended("go", "succeeded"), |_| {});
            })
        },
        Refused("E_ORDER"),
    ),
    (
        "the step behind two runs for one item",
        |n| behind(n, |_, family| family[1].is_child(n, 1, 0)),
        Refused("E_ORDER"),
    ),
    (
        "a family without end",
        |n| {
            behind(n, |_, family| {
                for more in 0..500 {
                    let (document, mut kin) = (family[0].document.clone(), family[0].kin.clone());
                    kin["execution"] = id(900_000 + more).into();
                    family.push(Relative { document, kin });
                }
            })
        },
        Refused("E_ORDER"),
    ),
    ("the step behind jobs with gates that were opened", |n| gated(n, &[APPROVER]), Succeeds),
    ("the step behind jobs with gates at which nobody was asked", |n| gated(n, &[]), Refused("E_GATE")),
    (
        "the step behind jobs with gates that were opened by who began the run above",
        |n| gated(n, &[INITIATOR]),
        Refused("E_GATE"),
    ),
    ("a child under an id of its own", |n| shared(n, 81_000, 0), Succeeds),
    ("another run for the same item of the same step", |n| shared(n, 81_001, 0), Refused("E_REPLAY")),
    ("the next item under the same id", |n| shared(n, 81_000, 1), Refused("E_RUN_FORK")),
    ("the next item under an id of its own", |n| shared(n, 81_002, 1), Succeeds),
    ("the step behind the runs that began here", |n| behind_shared(n, [81_000, 81_002]), Succeeds),
    (
        "the step behind another run in the place of one that began here",
        |n| behind_shared(n, [81_001, 81_002]),
        Refused("E_ORDER"),
    ),
];
