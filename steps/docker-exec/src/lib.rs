#![doc = include_str!("../README.md")]

use remit_sdk::{
    Context, Fail, JsonSchema, exec,
    output::{Conclude, Summary},
    step,
};
use serde::Deserialize;

/// A command and the container that runs it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The container; left out: the one that the node stands for.
    pub container: Option<String>,
    /// The command and its arguments, each handed over as it is.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// The user, left out: the container's own.
    pub user: Option<String>,
    /// What it reads from standard input; left out: nothing.
    #[serde(default)]
    pub stdin: String,
    /// The name that the runner's owner gave to the Docker client.
    #[serde(default = "docker")]
    pub program: String,
    /// Whether any other end than exit code 0 fails the step.
    #[serde(default = "remit_sdk::output::yes")]
    pub fail_on_exit: bool,
    /// Whether the end of its output, 32 KiB of each stream, is part of the step's output.
    #[serde(default = "remit_sdk::output::yes")]
    pub capture: bool,
}

fn docker() -> String {
    "docker".to_owned()
}

/// Runs the command.
#[step]
pub fn docker_exec(input: Input, context: &Context) -> Result<Summary, Fail> {
    if input.command.first().is_none_or(String::is_empty) {
        return Err(Fail::new("`command` names no program: write the program first, then its arguments"));
    }
    let container = match input.container {
        Some(container) => container,
        None => context
            .node()
            .and_then(|node| node.get("docker:id").map(str::to_owned))
            .ok_or_else(|| Fail::new("write `container`, or run the step on nodes of remit/docker-nodes"))?,
    };
    if container.is_empty() || container.starts_with('-') {
        return Err(Fail::new(format!("{container:?} names no container")));
    }
    let mut args = vec!["exec".to_owned()];
    if !input.stdin.is_empty() {
        args.push("--interactive".to_owned());
    }
    if let Some(user) = input.user {
        args.push(format!("--user={user}"));
    }
    args.push(container.clone());
    args.extend(input.command);
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    let ended = exec::command(&input.program).args(args).stdin(input.stdin).follow(conclude.keep());
    conclude.of(ended, container)
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Node,
        fake::{Fake, Program},
    };
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_command_runs_in_the_container() {
        fn check(fake: Fake, more: Value, rest: &[&str]) {
            let mut input = json!({"command": ["cat", "a b"]});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let words = [&["docker", "exec"], rest].concat();
            let run = fake.exec(&words, Program::new().stdout("ok")).call(docker_exec, &input);
            assert_eq!(run.result.unwrap()["stdout"], "ok");
        }
        check(Fake::new(), json!({"container": "web"}), &["web", "cat", "a b"]);
        let node = Node::new("web").attribute("docker:id", "4c01");
        check(Fake::new().node(node), json!({}), &["4c01", "cat", "a b"]);
        check(
            Fake::new(),
            json!({"container": "web", "user": "app", "stdin": "x"}),
            &["--interactive", "--user=app", "web", "cat", "a b"],
        );
    }

    #[test]
    fn what_cannot_run_is_said() {
        fn check(input: Value, message: &str) {
            let found = Fake::new().call(docker_exec, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        check(json!({"command": []}), "names no program");
        check(json!({"command": ["id"]}), "write `container`");
        check(json!({"command": ["id"], "container": "--privileged"}), "names no container");
    }
}
