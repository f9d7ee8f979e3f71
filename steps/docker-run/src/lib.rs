#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;

use remit_sdk::{
    Context, Fail, JsonSchema, exec, log,
    output::{Conclude, Summary},
    step,
};
use serde::Deserialize;

/// An image and what its container gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The image, best by digest.
    #[schemars(length(min = 1))]
    pub image: String,
    /// The command and its arguments; left out: the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// More options of `docker run`, each one argument, such as `--network=none`.
    #[serde(default)]
    pub options: Vec<String>,
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

/// Runs the container.
#[step]
pub fn docker_run(input: Input, context: &Context) -> Result<Summary, Fail> {
    if input.image.is_empty() || input.image.starts_with('-') {
        return Err(Fail::new(format!("`image` is {:?}, which names no image", input.image)));
    }
    if let Some(odd) = input.options.iter().find(|option| !option.starts_with("--") || option.len() < 3) {
        return Err(Fail::new(format!(
            "{odd:?} in `options` is no long option: write --name=value, in one piece, so that it cannot be read as the image"
        )));
    }
    let name = container(context);
    // `--init` hands signals on, so that a container ends when its client is told to; `--rm` takes it away.
    let mut args: Vec<String> = ["run", "--rm", "--init", "--name", &name].map(str::to_owned).to_vec();
    if !input.stdin.is_empty() {
        args.push("--interactive".to_owned());
    }
    for (variable, value) in &input.env {
        if variable.is_empty() || variable.contains('=') {
            return Err(Fail::new(format!("{variable:?} in `env` is no name of a variable")));
        }
        args.push("--env".to_owned());
        args.push(format!("{variable}={value}"));
    }
    args.extend(input.options);
    args.push(input.image.clone());
    args.extend(input.command);
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    let ended = exec::command(&input.program).args(args).stdin(input.stdin).follow(conclude.keep());
    if let Ok(output) = &ended
        && output.exit == remit_sdk::output::Exit::Code(125)
    {
        log::warn!("the daemon did not run the container", image = input.image);
    }
    conclude.of(ended, &input.image)
}

/// The container's name: the same for each try, so that two never run beside one another.
fn container(context: &Context) -> String {
    let key = context.idempotency_key();
    let letters = key.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-');
    format!("remit-{}", letters.take(64).collect::<String>().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Fake, Program};
    use serde_json::{Value, json};

    use super::*;

    const NAME: &str = "remit-01jd0000000000000000000000-step";

    #[test]
    fn the_container_gets_what_the_input_says() {
        fn check(more: Value, rest: &[&str]) {
            let mut input = json!({"image": "alpine:3"});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let words = [&["docker", "run", "--rm", "--init", "--name", NAME], rest].concat();
            let run = Fake::new().exec(&words, Program::new().stdout("ok")).call(docker_run, &input);
            assert_eq!(run.result.unwrap()["stdout"], "ok");
        }
        check(json!({}), &["alpine:3"]);
        check(json!({"command": ["sh", "-c", "echo $A"]}), &["alpine:3", "sh", "-c", "echo $A"]);
        check(
            json!({"env": {"A": "b c\n"}, "options": ["--network=none"], "stdin": "x"}),
            &["--interactive", "--env", "A=b c\n", "--network=none", "alpine:3"],
        );
    }

    #[test]
    fn what_cannot_run_is_said() {
        fn check(input: Value, message: &str) {
            let found = Fake::new().call(docker_run, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        check(json!({"image": "--privileged"}), "names no image");
        check(json!({"image": ""}), "names no image");
        check(
            json!({"image": "a", "options": ["--network", "none"]}),
            "\"none\" in `options` is no long option",
        );
        check(json!({"image": "a", "options": ["-v/:/host"]}), "is no long option");
        check(json!({"image": "a", "env": {"A=B": "c"}}), "is no name of a variable");
        let words = ["docker", "run", "--rm", "--init", "--name", NAME, "a"];
        let run = Fake::new()
            .exec(&words, Program::new().stderr("Unable to find image").code(125))
            .call(docker_run, &json!({"image": "a"}));
        assert_eq!(run.messages(), ["Unable to find image", "the daemon did not run the container"]);
        assert!(run.result.unwrap_err().message().starts_with("a: ended with exit code 125"));
    }
}
