#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;

use remit_sdk::{
    Context, Fail, JsonSchema, exec,
    interpreter::{self, Invoke},
    output::{Conclude, Summary},
    step,
};
use serde::Deserialize;

/// A script, what runs it, and what it gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The interpreter by the name that the runner's owner gave it, such as `bash` or `python3`.
    pub interpreter: String,
    /// The script. Values do not belong into it: hand them over in `args` or `env`.
    #[schemars(length(min = 1))]
    pub script: String,
    /// Its arguments, each handed over as it is.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables; the owner says which names may be set.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What it reads from standard input; left out: nothing.
    #[serde(default)]
    pub stdin: String,
    /// How the interpreter is told to run a script that is an argument; left out: known for the usual ones.
    pub invoke: Option<Invoke>,
    /// Whether any other end than exit code 0 fails the step.
    #[serde(default = "remit_sdk::output::yes")]
    pub fail_on_exit: bool,
    /// Whether the end of its output, 32 KiB of each stream, is part of the step's output.
    #[serde(default = "remit_sdk::output::yes")]
    pub capture: bool,
}

/// Runs the script.
#[step]
pub fn script(input: Input, _: &Context) -> Result<Summary, Fail> {
    let words = interpreter::words(&input.interpreter, input.script, input.args, input.invoke.as_ref())?;
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    let mut command = exec::command(&input.interpreter).args(words);
    for (name, value) in input.env {
        command = command.variable(name, value);
    }
    conclude.of(command.stdin(input.stdin).follow(conclude.keep()), &input.interpreter)
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Refusal,
        fake::{Fake, Program},
    };
    use serde_json::{Value, json};

    use super::*;

    /// A value that any place which pastes would take apart.
    const ODD: &str = "it's \"$HOME\" `id` ${x}\n-rf ../..";

    #[test]
    fn values_arrive_as_they_are() {
        let input = json!({
            "interpreter": "bash", "script": "printf %s \"$1\"", "args": [ODD, ""], "env": {"REMIT_A": ODD}, "stdin": "in",
        });
        let run = Fake::new()
            .exec(&["bash", "-c", "printf %s \"$1\"", "script", ODD, ""], Program::new().stdout(ODD))
            .call(script, &input);
        assert_eq!(run.result.unwrap()["stdout"], ODD);
        assert_eq!(run.variables, [[("REMIT_A".to_owned(), ODD.to_owned())]]);
        assert_eq!(run.stdin, [b"in"]);
    }

    #[test]
    fn each_interpreter_is_told_in_its_own_way() {
        fn check(interpreter: &str, more: Value, words: &[&str]) {
            let mut input = json!({"interpreter": interpreter, "script": "S", "args": ["a"]});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Fake::new().exec(words, Program::new()).call(script, &input).result.unwrap();
        }
        check("sh", json!({}), &["sh", "-c", "S", "script", "a"]);
        check("python3.11", json!({}), &["python3.11", "-c", "S", "a"]);
        check("perl", json!({}), &["perl", "-e", "S", "--", "a"]);
        check("node", json!({}), &["node", "-e", "S", "--", "a"]);
        check("pwsh", json!({"invoke": {"before": ["-Command"]}}), &["pwsh", "-Command", "S", "a"]);
    }

    #[test]
    fn what_cannot_run_is_said() {
        fn check(fake: Fake, input: Value, message: &str) {
            let found = fake.call(script, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        check(Fake::new(), json!({"interpreter": "sh", "script": " \n"}), "`script` is empty");
        check(Fake::new(), json!({"interpreter": "tcc", "script": "x"}), "write it in `invoke`");
        check(Fake::new(), json!({"interpreter": "sh", "script": "x".repeat(100_000)}), "at most 98304");
        let program = Program::refused(Refusal::Denied("exec sh with the variable \"PATH\"".into()));
        check(
            Fake::new().exec(&["sh", "-c", "x", "script"], program),
            json!({"interpreter": "sh", "script": "x", "env": {"PATH": "/tmp"}}),
            "sh: not allowed by this step's remit: exec sh with the variable \"PATH\"",
        );
        check(
            Fake::new().exec(&["sh", "-c", "x", "script"], Program::new().code(2).stderr("sh: x: not found")),
            json!({"interpreter": "sh", "script": "x"}),
            "sh: ended with exit code 2",
        );
    }
}
