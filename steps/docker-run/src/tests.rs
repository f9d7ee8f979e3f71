//! The step against a fake daemon: what it is asked for, and in which order.

use remit_sdk::fake::{Answer, Fake};
use remit_sdk_docker::ENDPOINT;

use super::*;

const NAME: &str = "remit-01jd0000000000000000000000-step";

fn at(rest: &str) -> String {
    format!("{ENDPOINT}/v1.41/{rest}")
}

fn agreed() -> Fake {
    let version = json!({"ApiVersion": "1.41", "MinAPIVersion": "1.12"});
    Fake::new().http("GET", &format!("{ENDPOINT}/version"), Answer::json(&version))
}

fn refused(status: u16, message: &str) -> Answer {
    Answer::status(status).body(json!({"message": message}).to_string())
}

fn made(fake: Fake, answer: Answer) -> Fake {
    fake.http("POST", &at(&format!("containers/create?name={NAME}")), answer)
}

fn removed(fake: Fake) -> Fake {
    fake.http("DELETE", &at(&format!("containers/{NAME}?force=true&v=true")), Answer::status(204))
}

fn frame(stream: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[stream, 0, 0, 0][..], &length, text.as_bytes()].concat()
}

const LOGS: &str = "logs?follow=true&stdout=true&stderr=true&timestamps=true";

/// Where the rest of a stream is read, from a part of the first second of the day on.
fn rest_of(stream: &str, part: &str) -> String {
    at(&format!("containers/{NAME}/logs?{stream}=true&timestamps=true&since=1795219200.{part}"))
}

/// It runs, writes, and ends with a code; what it wrote last to its output is not in the log as it was followed.
fn runs(fake: Fake, code: i32) -> Fake {
    let log = [frame(1, "2026-11-21T00:00:00.1Z ok\n"), frame(2, "2026-11-21T00:00:00.3Z err\n")];
    let rest = [log[0].clone(), frame(1, "2026-11-21T00:00:00.2Z end")];
    let fake = fake
        .http("POST", &at(&format!("containers/{NAME}/start")), Answer::status(204))
        .http("GET", &at(&format!("containers/{NAME}/{LOGS}")), Answer::status(200).body(log.concat()))
        .http("POST", &at(&format!("containers/{NAME}/wait")), Answer::json(&json!({"StatusCode": code})))
        .http("GET", &rest_of("stdout", "100000000"), Answer::status(200).body(rest.concat()))
        .http("GET", &rest_of("stderr", "300000000"), Answer::status(200).body(log[1].clone()));
    removed(fake)
}

fn done() -> Answer {
    Answer::json(&json!({"Id": "4c01", "Warnings": []})).with_status(201)
}

#[test]
fn the_container_gets_what_the_input_says() {
    let input = json!({"image": "alpine:3", "command": ["sh", "-c", "echo $A"], "env": {"A": "b c\n"},
        "options": ["--network=none", "--user=app"]});
    let run = runs(made(agreed(), done()), 0).call(docker_run, &input);
    let output = run.result.unwrap();
    assert_eq!((&output["stdout"], &output["stderr"]), (&json!("ok\nend"), &json!("err\n")));
    let asked: Value = serde_json::from_slice(&run.requests[1].body).unwrap();
    let expect = json!({"Image": "alpine:3", "Cmd": ["sh", "-c", "echo $A"], "Env": ["A=b c\n"], "Tty": false, "OpenStdin": false,
        "User": "app", "HostConfig": {"Init": true, "NetworkMode": "none"}});
    assert_eq!(asked, expect);
}

#[test]
fn an_end_is_judged_and_the_container_is_taken_away() {
    let run = runs(made(agreed(), done()), 3).call(docker_run, &json!({"image": "a"}));
    assert_eq!(run.result.unwrap_err().message(), "a: ended with exit code 3");
    let input = json!({"image": "a", "fail_on_exit": false, "capture": false});
    let output = runs(made(agreed(), done()), 3).call(docker_run, &input).result.unwrap();
    assert_eq!((&output["exit_code"], &output["stdout"]), (&json!(3), &json!("")));
    let start = refused(400, "exec: \"nowhere\": not found");
    let fake = made(agreed(), done()).http("POST", &at(&format!("containers/{NAME}/start")), start);
    let run = removed(fake).call(docker_run, &json!({"image": "a", "command": ["nowhere"]}));
    assert_eq!(run.result.unwrap_err().message(), "a: the daemon refuses: exec: \"nowhere\": not found");
    assert_eq!(run.requests.last().unwrap().method, "DELETE");
}

#[test]
fn what_is_in_the_way_is_cleared_and_what_is_missing_is_fetched() {
    let fake = made(agreed(), refused(409, "Conflict. The container name is already in use"));
    let fake = made(removed(fake), refused(404, "No such image: corp.example:5000/app"));
    let fetched = Answer::status(200).body("{\"status\":\"Pulling\"}\n{\"status\":\"done\"}\n");
    let fake =
        fake.http("POST", &at("images/create?fromImage=corp.example%3A5000%2Fapp&tag=latest"), fetched);
    let run = runs(made(fake, done()), 0).call(docker_run, &json!({"image": "corp.example:5000/app"}));
    assert_eq!(run.result.unwrap()["exit_code"], 0);
    let none = made(agreed(), refused(404, "No such image: a:1"));
    let failed =
        "{\"status\":\"Pulling\"}\n{\"errorDetail\":{\"message\":\"x\"},\"error\":\"manifest unknown\"}\n";
    let none = none.http("POST", &at("images/create?fromImage=a&tag=1"), Answer::status(200).body(failed));
    let found = none.call(docker_run, &json!({"image": "a:1"})).result.unwrap_err();
    assert_eq!(found.message(), "a:1: the daemon refuses: manifest unknown");
}

#[test]
fn an_image_has_a_name_and_a_tag() {
    fn check(image: &str, expect: (&str, &str)) {
        assert_eq!(tagged(image), expect);
    }
    check("alpine", ("alpine", ":latest"));
    check("alpine:3", ("alpine", ":3"));
    check("corp.example:5000/a/b", ("corp.example:5000/a/b", ":latest"));
    check("corp.example:5000/a/b:1", ("corp.example:5000/a/b", ":1"));
    check("a/b@sha256:12", ("a/b", "@sha256:12"));
}

#[test]
fn what_cannot_run_is_said() {
    fn check(input: Value, message: &str) {
        let found = Fake::new().call(docker_run, &input).result.unwrap_err();
        assert!(found.message().contains(message), "{found}");
    }
    check(json!({"image": "--privileged"}), "names no image");
    check(json!({"image": ""}), "names no image");
    check(json!({"image": "a", "options": ["--privileged"]}), "no words for what would give");
    check(json!({"image": "a", "env": {"A=B": "c"}}), "is no name of a variable");
}

#[test]
fn a_log_is_read_on_where_it_was_left() {
    type Parts<'a> = &'a [(u8, &'a str)];
    let read = |before: Read, parts: Parts<'_>| {
        let log: Vec<u8> = parts.iter().flat_map(|(stream, text)| frame(*stream, text)).collect();
        let since = if before.latest.is_empty() { "" } else { "&since=1795219200.200000000" };
        let url = at(&format!("containers/web/{LOGS}{since}"));
        let run = agreed().http("GET", &url, Answer::status(200).body(log)).run(|context| {
            let engine = Engine::agree()?;
            let container = Container { engine: &engine, name: "web".to_owned(), context };
            let (mut read, mut lines) = (before, Lines::new(100));
            assert!(container.log(Part::Followed, &mut read, &mut lines)?);
            let output = lines.finish(Exit::Code(0));
            Ok::<_, Fail>((read, output.stdout.text(), output.stderr.text()))
        });
        run.result.unwrap()
    };
    let last = |time: &str, same: usize| Last { time: time.to_owned(), same };
    let (second, third) = ("2026-11-21T00:00:00.2Z", "2026-11-21T00:00:00.3Z");
    let first =
        [(1, "2026-11-21T00:00:00.2Z a"), (2, "2026-11-21T00:00:00.2Z e"), (1, "2026-11-21T00:00:00.2Z b")];
    let (begun, output, error) = read(Read::default(), &first);
    assert_eq!(begun, Read { output: last(second, 2), error: last(second, 1), latest: second.to_owned() });
    assert_eq!((output.as_str(), error.as_str()), ("ab", "e"));
    // The daemon gives again what came with the time that it is asked for.
    let more = [&first[..], &[(1, "2026-11-21T00:00:00.2Z c"), (1, "2026-11-21T00:00:00.3Z d")]].concat();
    let (read_on, output, error) = read(begun, &more);
    assert_eq!(read_on, Read { output: last(third, 1), error: last(second, 1), latest: third.to_owned() });
    assert_eq!((output.as_str(), error.as_str()), ("cd", ""));
}
