#![doc = include_str!("../README.md")]

use remit_sdk::{
    Context, Fail, JsonSchema, exec,
    output::{Conclude, Summary},
    step,
};
use serde::Deserialize;

/// A program and what it gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The program by the name that the runner's owner gave it.
    pub program: String,
    /// Its arguments, each handed over as it is: there is no shell.
    #[serde(default)]
    pub args: Vec<String>,
    /// What it reads from standard input; left out: nothing.
    #[serde(default)]
    pub stdin: String,
    /// Whether any other end than exit code 0 fails the step.
    #[serde(default = "remit_sdk::output::yes")]
    pub fail_on_exit: bool,
    /// Whether the end of its output, 32 KiB of each stream, is part of the step's output.
    #[serde(default = "remit_sdk::output::yes")]
    pub capture: bool,
}

/// Runs the program.
#[step]
pub fn run_command(input: Input, _: &Context) -> Result<Summary, Fail> {
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    let ended = exec::command(&input.program).args(input.args).stdin(input.stdin).follow(conclude.keep());
    conclude.of(ended, &input.program)
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Refusal,
        fake::{Fake, Program},
        log::Level,
    };
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn output_is_streamed_and_kept() {
        let program = Program::new().stdout("one\ntwo\n").stderr("careful\n");
        let input = json!({"program": "deploy", "args": ["--all", "a b"], "stdin": "y\n"});
        let run = Fake::new().exec(&["deploy", "--all", "a b"], program).call(run_command, &input);
        assert_eq!(
            run.result.unwrap(),
            json!({"exit_code": 0, "signal": null, "stdout": "one\ntwo\n", "stderr": "careful\n", "truncated": false})
        );
        let lines: Vec<_> = run.log.iter().map(|entry| (entry.level, entry.message.as_str())).collect();
        assert_eq!(lines, [(Level::Info, "one"), (Level::Info, "two"), (Level::Warn, "careful")]);
        assert_eq!(run.stdin, [b"y\n"]);
    }

    #[test]
    fn how_it_ends_decides() {
        fn check(program: Program, input: Value, expect: Result<Value, &str>) {
            let mut whole = json!({"program": "p"});
            whole.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
            let found = Fake::new().exec(&["p"], program).call(run_command, &whole).result;
            let found = found.map(|output| json!([output["exit_code"], output["signal"], output["stdout"]]));
            assert_eq!(found.map_err(|fail| fail.to_string()), expect.map_err(str::to_owned));
        }
        check(Program::new().code(3), json!({}), Err("p: ended with exit code 3 (exit_code = 3)"));
        check(Program::new().signal("KILL"), json!({}), Err("p: ended with signal KILL (signal = KILL)"));
        check(Program::new().stdout("x").code(3), json!({"fail_on_exit": false}), Ok(json!([3, null, "x"])));
        check(Program::new().signal("TERM"), json!({"fail_on_exit": false}), Ok(json!([null, "TERM", ""])));
        check(Program::new(), json!({"capture": false}), Ok(json!([0, null, ""])));
        check(Program::new().stdout("x"), json!({"capture": false}), Ok(json!([0, null, ""])));
        check(Program::new().breaks(Refusal::Cancelled), json!({}), Err("cancelled"));
        check(
            Program::refused(Refusal::Denied("exec p".into())),
            json!({}),
            Err("p: not allowed by this step's remit: exec p"),
        );
    }

    #[test]
    fn the_end_of_a_long_output_is_kept() {
        let long = "x".repeat(40 << 10);
        let run = Fake::new()
            .exec(&["p"], Program::new().stdout(long).stdout("end"))
            .call(run_command, &json!({"program": "p"}));
        let output = run.result.unwrap();
        assert_eq!(output["truncated"], true);
        let stdout = output["stdout"].as_str().unwrap();
        assert_eq!((stdout.len(), stdout.ends_with("xend")), (32 << 10, true));
    }
}
