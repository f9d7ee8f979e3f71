//! What the attributes and the derive make of an author's code, natively.

use std::{collections::BTreeMap, time::Duration};

use remit_sdk::{
    Context, Fail, JsonSchema, Node, Nodes, Refusal,
    fake::{Answer, Fake, Program},
    http, log, node_source, ssh,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Which service.
#[derive(Deserialize, JsonSchema)]
struct Input {
    /// Its name.
    service: String,
    #[serde(default = "three")]
    polls: u32,
    #[serde(default)]
    labels: BTreeMap<String, Label>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Label {
    #[default]
    PlainText,
    Nested(Tree<u8>),
}

/// A type that holds itself, with a parameter.
#[derive(Debug, Deserialize, JsonSchema)]
struct Tree<T> {
    leaf: T,
    children: Vec<Tree<T>>,
}

fn three() -> u32 {
    3
}

#[derive(Serialize, JsonSchema)]
struct Output {
    polls: u32,
}

#[remit_sdk::step]
fn poll(input: Input, context: &Context) -> Result<Output, Fail> {
    for label in input.labels.values() {
        if let Label::Nested(tree) = label {
            log::debug!("label", leaf = tree.leaf, children = tree.children.len());
        }
    }
    let url = http::url("https://a.example/v1")?.segment(&input.service);
    for polls in 1..=input.polls {
        context.progress(polls, input.polls);
        let healthy: Value = http::get(&url).idempotent(context).send()?.error_for_status()?.json()?;
        if healthy == json!(true) {
            return Ok(Output { polls });
        }
        log::info!("poll {polls} was not healthy", service = input.service);
        context.sleep(Duration::from_millis(1500))?;
    }
    Err(Fail::new("it did not become healthy").with("service", input.service))
}

#[test]
fn a_step_runs_as_the_runner_runs_it() {
    let run = Fake::new()
        .http("GET", "https://a.example/v1/web", Answer::json(&json!(false)))
        .http("GET", "https://a.example/v1/web", Answer::json(&json!(true)))
        .call(poll, &json!({"service": "web", "labels": {"a": "plain-text", "b": {"nested": {"leaf": 1, "children": []}}}}));
    assert_eq!(run.result, Ok(json!({"polls": 2})));
    assert_eq!(run.messages(), ["label", "poll 1 was not healthy"]);
    assert_eq!(run.log[1].fields, [("service".to_owned(), "web".to_owned())]);
    assert_eq!(run.progress, [(1, 3), (2, 3)]);
    assert_eq!(run.slept, Duration::from_millis(1500));
    assert!(run.requests[0].header("Idempotency-Key").is_some());
    assert_eq!(run.requests[0].header("idempotency-key"), run.requests[1].header("idempotency-key"));
}

#[test]
fn each_way_to_end_is_told_apart() {
    fn check(answer: Answer, expect: &str) {
        let input = json!({"service": "web", "polls": 1});
        let run = Fake::new().http("GET", "https://a.example/v1/web", answer).call(poll, &input);
        assert_eq!(run.result.unwrap_err().to_string(), expect);
    }
    check(Answer::json(&json!(false)), "it did not become healthy (service = web)");
    check(
        Answer::status(503).body("busy\n"),
        // The fake gives a body in two pieces; the first is shown.
        "GET https://a.example/v1/web: the server answered with status 503: bu",
    );
    check(
        Answer::json(&json!(false)).body("<html>"),
        "GET https://a.example/v1/web: the answer (status 200) does not fit: expected value at line 1 column 1",
    );
    check(
        Answer::refused(Refusal::Denied("http GET https://a.example/v1/web".into())),
        "GET https://a.example/v1/web: not allowed by this step's remit: http GET https://a.example/v1/web",
    );
    check(Answer::refused(Refusal::Cancelled), "cancelled");
}

#[test]
fn a_cancel_ends_a_sleep_and_is_no_failure() {
    let run = Fake::new()
        .cancel_after(Duration::from_secs(1))
        .http("GET", "https://a.example/v1/web", Answer::json(&json!(false)))
        .call(poll, &json!({"service": "web"}));
    assert!(run.result.unwrap_err().is_cancelled());
    assert_eq!(run.slept, Duration::from_secs(1));
}

#[test]
fn the_description_holds_both_schemas() {
    let found: Value = serde_json::from_str(&remit_sdk::__private::describe_step(poll)).unwrap();
    assert_eq!(found["input"]["title"], "Input");
    assert_eq!(found["input"]["description"], "Which service.");
    assert_eq!(found["input"]["properties"]["service"]["description"], "Its name.");
    assert_eq!(found["input"]["properties"]["polls"]["default"], 3);
    assert_eq!(found["input"]["required"], json!(["service"]));
    assert_eq!(found["input"]["$defs"]["Label"]["oneOf"][0]["enum"], json!(["plain-text"]));
    assert_eq!(found["output"]["required"], json!(["polls"]));
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    count: usize,
}

#[node_source]
fn numbered(input: Count, nodes: &mut Nodes, _: &Context) -> Result<(), Fail> {
    for number in 0..input.count {
        nodes.emit(Node::new(format!("n{number}")).tag("all"))?;
    }
    Ok(())
}

#[test]
fn nodes_come_in_pages() {
    fn check(count: usize, pages: &[usize]) {
        let run = Fake::new().discover(numbered, &json!({"count": count}));
        run.result.unwrap();
        assert_eq!((run.nodes.len(), run.pages.as_slice()), (count, pages));
    }
    check(0, &[]);
    check(1, &[1]);
    check(1201, &[500, 500, 201]);
}

#[test]
fn large_nodes_make_small_pages() {
    let run = Fake::new().run(|_| ());
    assert!(run.nodes.is_empty());
    fn large(_: (), nodes: &mut Nodes, _: &Context) -> Result<(), Fail> {
        for name in ["a", "b", "c"] {
            nodes.emit(Node::new(name).attribute("text", "x".repeat(200 << 10)))?;
        }
        Ok(())
    }
    assert_eq!(Fake::new().discover(large, &Value::Null).pages, [1, 1, 1]);
}

#[test]
fn output_of_a_command_is_logged_line_by_line() {
    fn follow(_: (), _: &Context) -> Result<i32, Fail> {
        let output = ssh::command(["deploy"]).stdin("y\n").follow(8)?;
        assert_eq!(output.stdout.text(), "o\r\nthree");
        assert!(output.stdout.truncated());
        output.success()?;
        Ok(0)
    }
    let run = Fake::new()
        .node(Node::new("web1"))
        .ssh(&["deploy"], Program::new().stdout("one\ntw").stderr("oops\n").stdout("o\r\nthree").code(3))
        .run(|context| follow((), context));
    assert_eq!(run.messages(), ["one", "oops", "two", "three"]);
    assert_eq!(run.stdin, [b"y\n"]);
    assert_eq!(
        run.result,
        Err(Fail::new("ended with exit code 3").with("exit_code", 3).with("stderr", "oops"))
    );
}

#[test]
#[should_panic(expected = "prepared, and never asked for: GET https://a.example/")]
fn an_answer_that_nobody_asked_for_is_a_fault_of_the_test() {
    Fake::new().http("GET", "https://a.example/", Answer::status(200)).run(|_| ());
}

#[test]
#[should_panic(expected = "the step asked for what the test did not prepare: GET https://a.example/")]
fn a_request_that_was_not_prepared_is_a_fault_of_the_test() {
    let _ = Fake::new().run(|_| http::get("https://a.example").send().is_ok());
}

#[test]
fn the_scratch_directory_goes_with_the_run() {
    let run = Fake::new().run(|_| {
        let path = remit_sdk::files::scratch();
        std::fs::write(path.join("x"), "y").unwrap();
        assert_eq!(remit_sdk::files::scratch(), path);
        path
    });
    assert!(!run.result.exists());
}
