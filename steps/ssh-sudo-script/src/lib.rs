#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;

use remit_sdk::{
    Context, Fail, JsonSchema,
    interpreter::{self, Invoke},
    output::{Conclude, Summary},
    secrets, ssh, step,
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
    /// The user as whom it runs.
    #[serde(default = "root")]
    pub user: String,
    /// Whether any other end than exit code 0 fails the step.
    #[serde(default = "remit_sdk::output::yes")]
    pub fail_on_exit: bool,
    /// Whether the end of its output, 32 KiB of each stream, is part of the step's output.
    #[serde(default = "remit_sdk::output::yes")]
    pub capture: bool,
}

fn root() -> String {
    "root".to_owned()
}

/// Reads the password from standard input, asks for it even if it was given lately, and says nothing itself.
const SUDO: [&str; 6] = ["sudo", "-k", "-S", "-p", "", "-u"];
/// What sudo starts: the script's own standard input is empty, so that a sudo that did not ask leaves it no password to read.
const EMPTY: [&str; 5] = ["--", "sh", "-c", "exec \"$@\" </dev/null", "sh"];

/// Runs the script on the node.
#[step]
pub fn ssh_sudo_script(input: Input, context: &Context) -> Result<Summary, Fail> {
    let node = context.target()?;
    let words = interpreter::words(&input.interpreter, input.script, input.args, input.invoke.as_ref())?;
    let command = interpreter::command(&input.interpreter, input.env, words)?;
    let argv =
        SUDO.iter().copied().chain([input.user.as_str()]).chain(EMPTY).map(str::to_owned).chain(command);
    let argv: Vec<String> = argv.collect();
    let password = secrets::reveal("sudo")
        .map_err(|refusal| Fail::from(refusal).while_doing("the password for sudo"))?;
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    let stdin = format!("{}\n", password.expose());
    let ended = ssh::command(argv).stdin(stdin).follow(conclude.keep());
    conclude.of(ended, format_args!("{} as {} on {}", input.interpreter, input.user, node.name))
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
    fn the_password_goes_to_sudo_and_nowhere_else() {
        let argv = [
            "sudo",
            "-k",
            "-S",
            "-p",
            "",
            "-u",
            "deploy",
            "--",
            "sh",
            "-c",
            "exec \"$@\" </dev/null",
            "sh",
            "env",
            "A=b",
            "bash",
            "-c",
            "S",
            "script",
            "it's",
        ];
        let input = json!({"script": "S", "interpreter": "bash", "args": ["it's"], "env": {"A": "b"}, "user": "deploy"});
        let run = Fake::new()
            .node(Node::new("web1"))
            .secret("sudo", "a-long-password")
            .ssh(&argv, Program::new().stdout("done"))
            .call(ssh_sudo_script, &input);
        assert_eq!(run.result.unwrap()["stdout"], "done");
        assert_eq!(run.stdin, [b"a-long-password\n"]);
    }

    #[test]
    fn what_cannot_run_is_said() {
        fn check(fake: Fake, input: Value, message: &str) {
            let found = fake.call(ssh_sudo_script, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        let node = || Fake::new().node(Node::new("web1"));
        check(Fake::new(), json!({"script": "x"}), "write `per: node` in the job");
        check(node(), json!({"script": "x"}), "the password for sudo: not allowed");
        check(node(), json!({"script": ""}), "`script` is empty");
    }
}
