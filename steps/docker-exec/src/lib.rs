#![doc = include_str!("../README.md")]

use std::time::Duration;

use remit_sdk::{
    Context, Fail, JsonSchema, Refusal, Span, http, log,
    output::{Conclude, Exit, Lines, Summary},
    step,
};
use remit_sdk_docker::{Demux, Engine, Source, send};
use serde::Deserialize;
use serde_json::json;

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
    /// Whether any other end than exit code 0 fails the step.
    #[serde(default = "remit_sdk::output::yes")]
    pub fail_on_exit: bool,
    /// Whether the end of its output, 32 KiB of each stream, is part of the step's output.
    #[serde(default = "remit_sdk::output::yes")]
    pub capture: bool,
}

/// How long it may write nothing until its output is not listened to any more: the most that a request may wait.
const SILENCE: Duration = Duration::from_secs(600);
/// How often is looked whether it has ended, once it is not listened to, and for how long: the manifest's own limit.
const LOOK: (&str, &str) = ("2s", "1h");

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ran {
    running: bool,
    exit_code: Option<i32>,
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
    let engine = Engine::agree()?;
    let mut wanted = json!({"AttachStdout": true, "AttachStderr": true, "Tty": false, "Privileged": false, "Cmd": input.command});
    if let Some(user) = input.user {
        wanted["User"] = user.into();
    }
    let made = http::post(engine.at(&["containers", &container, "exec"])).json(&wanted);
    let Made { id } = send(made)?.json()?;
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    let mut lines = Lines::new(conclude.keep());
    follow(&engine, &id, &mut lines)?;
    let (every, at_most): (Span, Span) = (LOOK.0.parse()?, LOOK.1.parse()?);
    let ended = context.poll(every, at_most, || {
        let Ran { running, exit_code } = send(http::get(engine.at(&["exec", &id, "json"])))?.json()?;
        Ok(exit_code.filter(|_| !running))
    })?;
    let code = ended.ok_or_else(|| Fail::new(format!("{container}: the command has not ended in time")))?;
    conclude.judge(lines.finish(Exit::Code(code)), container)
}

/// Starts it and reads what it writes to the end, or until it has been silent for too long.
fn follow(engine: &Engine, id: &str, lines: &mut Lines) -> Result<(), Fail> {
    let start = http::post(engine.at(&["exec", id, "start"]))
        .json(&json!({"Detach": false, "Tty": false}))
        .timeout(SILENCE);
    let mut answer = send(start)?;
    let mut demux = Demux::new();
    loop {
        let bytes = match answer.chunk() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(()),
            Err(http::Error::Refused { refusal: Refusal::Failed(why), .. }) => {
                log::warn!("the command is not listened to any more; its end is waited for: {why}");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        demux.push(
            &bytes,
            |_, _| true,
            |source, piece| match source {
                Source::Output => lines.stdout(piece),
                Source::Error => lines.stderr(piece),
            },
        )?;
    }
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Node,
        fake::{Answer, Fake},
    };
    use remit_sdk_docker::ENDPOINT;
    use serde_json::Value;

    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0][..], &length, text.as_bytes()].concat()
    }

    /// A daemon that runs one command in a container, and whose command ends after it was asked for that so often.
    fn daemon(fake: Fake, container: &str, asked: usize, code: i32) -> Fake {
        let at = |rest: &str| format!("{ENDPOINT}/v1.44/{rest}");
        let version = json!({"ApiVersion": "1.47", "MinAPIVersion": "1.24"});
        let output = [frame(1, "out\n"), frame(2, "err\n"), frame(1, "end")].concat();
        let fake = fake
            .http("GET", &format!("{ENDPOINT}/version"), Answer::json(&version))
            .http("POST", &at(&format!("containers/{container}/exec")), Answer::json(&json!({"Id": "e1"})))
            .http("POST", &at("exec/e1/start"), Answer::status(200).body(output));
        let running = (0..asked).fold(fake, |fake, _| {
            fake.http("GET", &at("exec/e1/json"), Answer::json(&json!({"Running": true, "ExitCode": null})))
        });
        running.http("GET", &at("exec/e1/json"), Answer::json(&json!({"Running": false, "ExitCode": code})))
    }

    #[test]
    fn the_command_runs_in_the_container() {
        let run = daemon(Fake::new(), "web", 2, 0)
            .call(docker_exec, &json!({"container": "web", "command": ["cat", "a b"], "user": "app"}));
        assert_eq!(run.messages(), ["out", "err", "end"]);
        let output = run.result.unwrap();
        assert_eq!((&output["stdout"], &output["stderr"]), (&json!("out\nend"), &json!("err\n")));
        let node = Node::new("web").attribute("docker:id", "4c01");
        let run = daemon(Fake::new().node(node), "4c01", 0, 3).call(docker_exec, &json!({"command": ["id"]}));
        let found = run.result.unwrap_err();
        assert_eq!(found.message(), "4c01: ended with exit code 3");
        let quiet = json!({"container": "web", "command": ["id"], "fail_on_exit": false, "capture": false});
        let output = daemon(Fake::new(), "web", 0, 3).call(docker_exec, &quiet).result.unwrap();
        assert_eq!((&output["exit_code"], &output["stdout"]), (&json!(3), &json!("")));
    }

    #[test]
    fn what_cannot_run_is_said() {
        fn check(fake: Fake, input: Value, message: &str) {
            let found = fake.call(docker_exec, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        check(Fake::new(), json!({"command": []}), "names no program");
        check(Fake::new(), json!({"command": ["id"]}), "write `container`");
        let version = json!({"ApiVersion": "1.44", "MinAPIVersion": "1.24"});
        let agreed = || Fake::new().http("GET", &format!("{ENDPOINT}/version"), Answer::json(&version));
        check(
            agreed(),
            json!({"command": ["id"], "container": "../images"}),
            "cannot be a segment of a path",
        );
        let missing = Answer::status(404).body(json!({"message": "No such container: web"}).to_string());
        check(
            agreed().http("POST", &format!("{ENDPOINT}/v1.44/containers/web/exec"), missing),
            json!({"command": ["id"], "container": "web"}),
            "the daemon refuses: No such container: web",
        );
        let refused = Answer::refused(Refusal::Failed("the server refused the connection".into()));
        check(
            Fake::new().http("GET", &format!("{ENDPOINT}/version"), refused),
            json!({"command": ["id"], "container": "web"}),
            "the server refused the connection",
        );
    }
}
