//! A script runs on a machine whose answers have the form of MS-WSMV; the same answers are served over HTTPS in the stories.

use remit_sdk::{
    Node,
    fake::{Answer as Reply, Fake, Run},
};
use serde_json::{Value, json};

use super::*;

const URL: &str = "https://win1.example:5986/wsman";

fn envelope(body: &str) -> Reply {
    Reply::status(200).body(format!(
        "<s:Envelope xml:lang=\"en-US\" xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:rsp=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell\"><s:Header/><s:Body>{body}</s:Body></s:Envelope>"
    ))
}

fn created() -> Reply {
    envelope("<rsp:Shell><rsp:ShellId>5D0A8E64</rsp:ShellId><rsp:Owner>me</rsp:Owner></rsp:Shell>")
}

fn started() -> Reply {
    envelope("<rsp:CommandResponse><rsp:CommandId>91B7</rsp:CommandId></rsp:CommandResponse>")
}

fn received(streams: &[(&str, &str)], code: Option<i64>) -> Reply {
    use base64::Engine as _;
    let mut body = "<rsp:ReceiveResponse>".to_owned();
    for (name, text) in streams {
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        body.push_str(&format!("<rsp:Stream Name=\"{name}\" CommandId=\"91B7\">{text}</rsp:Stream>"));
    }
    let state = if code.is_some() { "Done" } else { "Running" };
    let code = code.map_or_else(String::new, |code| format!("<rsp:ExitCode>{code}</rsp:ExitCode>"));
    body.push_str(&format!(
        "<rsp:CommandState CommandId=\"91B7\" State=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/{state}\">\
         {code}</rsp:CommandState></rsp:ReceiveResponse>"
    ));
    envelope(&body)
}

fn fault(code: &str, message: &str) -> Reply {
    let answer = envelope(&format!(
        "<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text xml:lang=\"\">short</s:Text></s:Reason><s:Detail>\
         <f:WSManFault xmlns:f=\"x\" Code=\"{code}\" Machine=\"win1\"><f:Message>{message}</f:Message></f:WSManFault></s:Detail></s:Fault>"
    ));
    // The answer's status is 500 then.
    answer.with_status(500)
}

fn call(answers: Vec<Reply>, more: Value) -> Run<Result<Value, Fail>> {
    let mut input = json!({"script": "Get-Date"});
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let fake = Fake::new().node(Node::new("win1").attribute("hostname", "win1.example"));
    answers.into_iter().fold(fake, |fake, answer| fake.http("POST", URL, answer)).call(winrm_command, &input)
}

#[test]
fn a_script_runs_and_its_output_is_streamed() {
    let run = call(
        vec![
            created(),
            started(),
            fault("2150858793", "timed out"),
            received(&[("stdout", "one\r\ntw"), ("stderr", "careful\r\n")], None),
            received(&[("stdout", "o\r\n")], Some(0)),
            envelope(""),
        ],
        json!({"env": {"A": "<it's> \"x\"\r\n& ${y}"}, "directory": "C:\\Temp"}),
    );
    assert_eq!(run.messages(), ["one", "careful", "two"]);
    assert_eq!(
        run.result.unwrap(),
        json!({"exit_code": 0, "signal": null, "stdout": "one\r\ntwo\r\n", "stderr": "careful\r\n", "truncated": false})
    );
    let bodies: Vec<_> =
        run.requests.iter().map(|sent| String::from_utf8(sent.body.clone()).unwrap()).collect();
    assert!(
        bodies[0].contains(
            "<rsp:Variable Name=\"A\">&lt;it's&gt; &quot;x&quot;&#13;&#10;&amp; ${y}</rsp:Variable>"
        )
    );
    assert!(bodies[0].contains("<rsp:Variable Name=\"REMIT_SCRIPT\">Get-Date</rsp:Variable>"));
    assert!(bodies[0].contains("<rsp:WorkingDirectory>C:\\Temp</rsp:WorkingDirectory>"));
    assert!(bodies[1].contains("-EncodedCommand JABQAHIA") && !bodies[1].contains("Get-Date"));
    assert!(bodies[3].contains("<w:Selector Name=\"ShellId\">5D0A8E64</w:Selector>"));
    assert!(bodies[5].contains("transfer/Delete"));
    // Each message has a number of its own.
    let ids: std::collections::BTreeSet<_> =
        bodies.iter().map(|body| body.split("uuid:").nth(1).unwrap()[..36].to_owned()).collect();
    assert_eq!(ids.len(), 6);
}

#[test]
fn how_it_ends_decides() {
    fn check(answers: Vec<Reply>, more: Value, expect: Result<Value, &str>) {
        let found = call(answers, more).result.map(|output| output["exit_code"].clone());
        assert_eq!(found.map_err(|fail| fail.to_string()), expect.map_err(str::to_owned));
    }
    let ends = |code: i64| {
        vec![created(), started(), received(&[("stderr", "no such service")], Some(code)), envelope("")]
    };
    check(
        ends(3),
        json!({}),
        Err("win1.example: ended with exit code 3 (exit_code = 3, stderr = no such service)"),
    );
    check(ends(3), json!({"fail_on_exit": false}), Ok(json!(3)));
    check(ends(3_221_225_786), json!({"fail_on_exit": false}), Ok(json!(-1)));
    check(
        vec![fault("5", "Access is denied.")],
        json!({}),
        Err("win1.example: the machine refuses: Access is denied. (code = 5)"),
    );
    check(
        vec![created(), started(), fault("2150858843", "The shell was not found."), envelope("")],
        json!({}),
        Err("win1.example: the machine refuses: The shell was not found. (code = 2150858843)"),
    );
    check(
        vec![Reply::status(401)],
        json!({}),
        Err(
            "win1.example: the machine refuses the login: is Basic authentication allowed there, over HTTPS, for this local user?",
        ),
    );
    check(
        vec![Reply::status(200).body("<html></html>")],
        json!({}),
        Err("win1.example: the machine does not answer as WinRM does: it is no SOAP envelope (status = 200)"),
    );
    check(vec![envelope("")], json!({}), Err("win1.example: the machine opened no shell"));
}

#[test]
fn what_cannot_run_is_said() {
    fn check(input: Value, message: &str) {
        let found = Fake::new().node(Node::new("a")).call(winrm_command, &input).result.unwrap_err();
        assert!(found.message().contains(message), "{found}");
    }
    check(json!({"script": " "}), "`script` is empty");
    check(json!({"script": "x".repeat(30_001)}), "at most 30000");
    check(json!({"script": "x"}), "no attribute `hostname`");
    check(json!({"script": "x", "env": {"a-b": "c"}}), "\"a-b\" in `env`");
    check(json!({"script": "x", "env": {"REMIT_SCRIPT": "c"}}), "in `env` is no name");
    check(json!({"script": "x", "host": "a/b@c"}), "\"a/b@c\" is no host name");
}
