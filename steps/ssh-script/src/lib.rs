#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;

use remit_sdk::{
    Context, Fail, JsonSchema,
    interpreter::{self, Invoke},
    output::{Conclude, Summary},
    ssh, step,
};
use serde::Deserialize;

/// A script for the node and what it gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The script. Values do not belong into it: hand them over in `args` or `env`.
    #[schemars(length(min = 1))]
    pub script: String,
    /// The interpreter on the node, by name or path.
    #[serde(default = "remit_sdk::interpreter::sh")]
    pub interpreter: String,
    /// Its arguments, each of which arrives as it is.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How the interpreter is told to run a script that is an argument; left out: known for the usual ones.
    pub invoke: Option<Invoke>,
    /// What it reads from standard input; left out: nothing.
    #[serde(default)]
    pub stdin: String,
    /// The user as whom it runs, by a `sudo` that asks for no password; left out: the user who logs in.
    pub sudo: Option<String>,
    /// Whether any other end than exit code 0 fails the step.
    #[serde(default = "remit_sdk::output::yes")]
    pub fail_on_exit: bool,
    /// Whether the end of its output, 32 KiB of each stream, is part of the step's output.
    #[serde(default = "remit_sdk::output::yes")]
    pub capture: bool,
}

/// Runs the script on the node.
#[step]
pub fn ssh_script(input: Input, context: &Context) -> Result<Summary, Fail> {
    let node = context.target()?;
    let words = interpreter::words(&input.interpreter, input.script, input.args, input.invoke.as_ref())?;
    let command = interpreter::command(&input.interpreter, input.env, words)?;
    let argv: Vec<String> = match input.sudo {
        // Without a terminal a sudo that asks would wait for ever; `-n` lets it fail instead.
        Some(user) => {
            ["sudo", "-n", "-u", &user, "--"].map(str::to_owned).into_iter().chain(command).collect()
        }
        None => command,
    };
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    let ended = ssh::command(argv).stdin(input.stdin).follow(conclude.keep());
    conclude.of(ended, format_args!("{} on {}", input.interpreter, node.name))
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
    fn the_script_runs_on_the_node() {
        fn check(more: Value, argv: &[&str]) {
            let mut input = json!({"script": "S", "args": ["it's"], "stdin": "in"});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let fake = Fake::new().node(Node::new("web1")).ssh(argv, Program::new().stdout("done"));
            let run = fake.call(ssh_script, &input);
            assert_eq!(
                (run.result.unwrap()["stdout"].as_str(), run.stdin[0].as_slice()),
                (Some("done"), b"in".as_slice())
            );
        }
        check(json!({}), &["sh", "-c", "S", "script", "it's"]);
        check(json!({"interpreter": "python3"}), &["python3", "-c", "S", "it's"]);
        check(json!({"env": {"A": "x\ny"}}), &["env", "A=x\ny", "sh", "-c", "S", "script", "it's"]);
        check(
            json!({"sudo": "deploy", "env": {"A": ""}}),
            &["sudo", "-n", "-u", "deploy", "--", "env", "A=", "sh", "-c", "S", "script", "it's"],
        );
    }

    #[test]
    fn what_cannot_run_is_said() {
        fn check(fake: Fake, input: Value, message: &str) {
            let found = fake.call(ssh_script, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        let node = || Fake::new().node(Node::new("web1"));
        check(Fake::new(), json!({"script": "x"}), "write `per: node` in the job");
        check(node(), json!({"script": ""}), "`script` is empty");
        check(node(), json!({"script": "x", "interpreter": "tcc"}), "write it in `invoke`");
        check(
            node().ssh(&["sh", "-c", "x", "script"], Program::new().code(4).stderr("no")),
            json!({"script": "x"}),
            "sh on web1: ended with exit code 4",
        );
    }
}
