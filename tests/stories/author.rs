//! An author's way: a new step, built, run here, signed, published, run by a runner that trusts the key.

use std::path::Path;

use harness::{Authority, Ended, Service, Stack, builder_trust, trust_lines};

use super::{apply, run};

fn expect(stack: &Stack, folder: &Path, arguments: &[&str], code: i32) -> Ended {
    let mut remit = stack.remit_command();
    let output = remit.args(arguments).current_dir(folder).output().unwrap();
    let ended = Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
    ended
}

#[test]
fn a_new_step_goes_from_an_empty_folder_to_a_runner() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let builder = builder_trust().unwrap();
    let bare = Stack::start(&here.join("bare"), &builder).unwrap();
    expect(&bare, here, &["key", "new", "my.example/release", "--out", "my.key"], 0);
    let vkey = std::fs::read_to_string(here.join("my.vkey")).unwrap();
    drop(bare);
    let trust = format!("{builder}\n{}", trust_lines("my", vkey.trim(), "me").unwrap());
    let mut stack = Stack::start(&here.join("site"), &trust).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.runner("local", &[], "[ceiling]\n", &trust).unwrap();
    expect(&stack, here, &["step", "new", "hello"], 0);
    let step = here.join("hello");
    expect(&stack, &step, &["step", "test"], 0);
    expect(&stack, &step, &["step", "build"], 0);
    let ran = expect(&stack, &step, &["step", "run", "--input", r#"{"name": "Ada"}"#], 0);
    assert!(ran.out.contains("Hello, Ada!"), "{ran:?}");
    let wrong = expect(&stack, &step, &["step", "run", "--input", r#"{"nom": "Ada"}"#], 1);
    assert!(wrong.out.contains("name") || wrong.err.contains("name"), "{wrong:?}");
    let proposed = expect(&stack, &step, &["step", "record", "--input", r#"{"name": "Ada"}"#], 0);
    assert!(proposed.out.contains("[limits]") && !proposed.out.contains("[[http]]"), "{proposed:?}");
    // Unsigned: neither published nor called verified.
    expect(&stack, &step, &["step", "publish"], 3);
    std::fs::write(here.join("trust.toml"), &trust).unwrap();
    expect(&stack, &step, &["step", "inspect", "--trust", "../trust.toml"], 4);
    expect(&stack, &step, &["step", "sign", "--key", "../my.key"], 0);
    let shown = expect(&stack, &step, &["step", "inspect", "--trust", "../trust.toml"], 0);
    assert!(shown.out.contains("signer   me"), "{shown:?}");
    let note = ["note", "check", "dist/component.note", "--kind", "component", "--trust", "../trust.toml"];
    expect(&stack, &step, &note, 0);
    expect(&stack, &step, &["step", "publish"], 0);
    apply(&stack, here, "job: hi\nsteps:\n  - { name: hi, uses: my/hello@0.1, with: { name: Grace } }\n");
    let shown = run(&stack, &["hi"]);
    assert_eq!(shown["steps"][0]["run"]["output"]["greeting"], "Hello, Grace!", "{shown:#}");
}

#[test]
fn what_a_run_used_is_proposed_to_its_author() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let stack = Stack::start(&here.join("site"), &builder_trust().unwrap()).unwrap();
    let (authority, ca) = (Authority::new().unwrap(), here.join("ca.pem"));
    authority.write(&ca).unwrap();
    let service = Service::start(&authority, "localhost").unwrap();
    let port = service.port();
    let config = format!(
        "[orchestrator]\nurl = \"https://orchestrator.invalid\"\n[runner]\nstate = \"state\"\ntrust = \"trust.toml\"\n\
         [ceiling]\n[[ceiling.http]]\nhost = \"localhost\"\nport = {port}\nmethods = [\"GET\", \"POST\"]\npaths = [\"/\"]\n\
         private = [\"127.0.0.0/8\", \"::1/128\"]\nca_file = {ca:?}\n"
    );
    std::fs::write(here.join("runner.toml"), config).unwrap();
    let grant = format!(
        r#"{{"http":[{{"host":"localhost","port":{port},"methods":["GET","POST"],"paths":["/"],"private":true}}]}}"#
    );
    let step = harness::components().join("http-request");
    let record = |path: &str, code: i32| {
        let input = format!(r#"{{"url":"https://localhost:{port}{path}"}}"#);
        let arguments = ["step", "record", ".", "--ceiling"];
        let ceiling = here.join("runner.toml");
        let ceiling = ceiling.to_str().unwrap();
        expect(
            &stack,
            &step,
            &[&arguments[..], &[ceiling, "--grant", &grant, "--input", &input]].concat(),
            code,
        )
        .out
    };
    let proposed = record("/v1/things", 0);
    // What it asks for is open, so the proposal stays open, and knows the method; what was not used is not in it.
    assert!(proposed.contains("[[http]]\nhost = \"granted\"\nmethods = [\"GET\"]\n"), "{proposed}");
    assert!(proposed.contains("[limits]\nmemory = ") && proposed.contains("requests = 2"), "{proposed}");
    assert!(!proposed.contains("reveal") && !proposed.contains("Denied"), "{proposed}");
    assert_eq!(service.connections(), 1);
}
