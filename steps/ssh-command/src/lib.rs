#![doc = include_str!("../README.md")]

use remit_sdk::{
    Context, Fail, JsonSchema,
    output::{Conclude, Summary},
    ssh, step,
};
use serde::Deserialize;

/// A command for the node and what it gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The program and its arguments; each arrives on the node as one argument.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
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

/// Runs the command on the node.
#[step]
pub fn ssh_command(input: Input, context: &Context) -> Result<Summary, Fail> {
    let Some(program) = input.argv.first().filter(|program| !program.is_empty()).cloned() else {
        return Err(Fail::new("`argv` names no program: write the program first, then its arguments"));
    };
    let node = context.target()?;
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    let ended = ssh::command(input.argv).stdin(input.stdin).follow(conclude.keep());
    conclude.of(ended, format_args!("{program} on {}", node.name))
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Node, Refusal,
        fake::{Fake, Program},
    };
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_command_runs_on_the_node() {
        let run = Fake::new()
            .node(Node::new("web1").attribute("hostname", "10.0.0.1"))
            .ssh(&["lb-drain", "web 1"], Program::new().stdout("drained\n").stderr("slow\n"))
            .call(ssh_command, &json!({"argv": ["lb-drain", "web 1"], "stdin": "y"}));
        assert_eq!(
            run.result.unwrap(),
            json!({"exit_code": 0, "signal": null, "stdout": "drained\n", "stderr": "slow\n", "truncated": false})
        );
        assert_eq!(
            run.log.iter().map(|entry| entry.message.as_str()).collect::<Vec<_>>(),
            ["drained", "slow"]
        );
        assert_eq!(run.stdin, [b"y"]);
    }

    #[test]
    fn how_it_ends_decides() {
        fn check(program: Program, more: Value, expect: Result<Value, &str>) {
            let mut input = json!({"argv": ["p"]});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let fake = Fake::new().node(Node::new("web1")).ssh(&["p"], program);
            let found = fake.call(ssh_command, &input).result;
            let found = found.map(|output| json!([output["exit_code"], output["signal"], output["stdout"]]));
            assert_eq!(found.map_err(|fail| fail.to_string()), expect.map_err(str::to_owned));
        }
        check(Program::new().code(3), json!({}), Err("p on web1: ended with exit code 3 (exit_code = 3)"));
        check(
            Program::new().signal("KILL"),
            json!({}),
            Err("p on web1: ended with signal KILL (signal = KILL)"),
        );
        check(Program::new().stdout("x").code(3), json!({"fail_on_exit": false}), Ok(json!([3, null, "x"])));
        check(Program::new(), json!({"capture": false}), Ok(json!([0, null, ""])));
        check(Program::new().stdout("x"), json!({"capture": false}), Ok(json!([0, null, ""])));
        check(Program::new().breaks(Refusal::Cancelled), json!({}), Err("cancelled"));
        check(
            Program::refused(Refusal::Failed("the host key is not known".into())),
            json!({}),
            Err("p on web1: the host key is not known"),
        );
    }

    #[test]
    fn what_cannot_run_is_said() {
        fn check(fake: Fake, input: Value, message: &str) {
            let found = fake.call(ssh_command, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        let node = || Fake::new().node(Node::new("web1"));
        check(node(), json!({"argv": []}), "names no program");
        check(node(), json!({"argv": [""]}), "names no program");
        check(node(), json!({"argv": "uptime"}), "at `argv`: invalid type: string");
        check(Fake::new(), json!({"argv": ["uptime"]}), "write `per: node` in the job");
    }
}
