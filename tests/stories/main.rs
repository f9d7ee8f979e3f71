//! Stories: the real programs, driven from outside as users drive them.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on fails")]

mod again;
mod artifact;
mod audit;
mod author;
mod catalogue;
mod command;
mod crash;
mod dispatch;
mod family;
mod flow;
mod host;
mod import;
mod input;
mod inspect;
mod languages;
mod limit;
mod log;
mod node;
mod operator;
mod option;
mod project;
mod proxy;
mod refusal;
mod review;
mod schedule;
mod secret;
mod signed;
mod trigger;
mod trust;
mod typed;

use std::path::Path;

use harness::{Stack, builder_trust, wait_for};
use serde_json::Value;

/// A stack with the built-in components and one local runner with this ceiling.
fn site(folder: &Path, ceiling: &str) -> Stack {
    let trust = builder_trust().unwrap();
    let mut stack = Stack::start(&folder.join("site"), &trust).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.publish_built_in().unwrap();
    stack.runner("local", &[], ceiling, &trust).unwrap();
    stack
}

/// Saves a job from its YAML.
fn apply(stack: &Stack, folder: &Path, source: &str) -> Value {
    let file = folder.join("job.yaml");
    std::fs::write(&file, source).unwrap();
    stack.json(&["job", "apply", &file.display().to_string(), "--accept-wider"]).unwrap()
}

/// Runs a job to its end; gives the execution as the API shows it.
fn run(stack: &Stack, arguments: &[&str]) -> Value {
    let id = begin(stack, arguments);
    ended(stack, &id)
}

/// Begins a job; gives the execution's id.
fn begin(stack: &Stack, arguments: &[&str]) -> String {
    let begun = stack.json(&[&["job", "run"], arguments].concat()).unwrap();
    begun["execution"].as_str().unwrap().to_owned()
}

/// The execution, once it has ended.
fn ended(stack: &Stack, id: &str) -> Value {
    in_state(stack, id, "ended")
}

/// The execution, once it is in this state.
fn in_state(stack: &Stack, id: &str, state: &str) -> Value {
    wait_for(&format!("execution {id} being {state}"), || {
        let shown = stack.json(&["execution", "show", id])?;
        Ok((shown["summary"]["state"] == state).then_some(shown))
    })
    .unwrap()
}
