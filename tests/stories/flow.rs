//! More than one step after the other: gates, groups, lists, error handlers, jobs that run jobs; and a run that people sign.

use std::path::Path;

use serde_json::Value;

use super::{begin, run, site};

const CEILING: &str =
    "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"uname\"\npath = \"/usr/bin/uname\"\nargs = [\"-s\"]\n";

fn apply(stack: &harness::Stack, folder: &Path, yaml: &str) -> harness::Ended {
    let file = folder.join("job.yaml");
    std::fs::write(&file, yaml).unwrap();
    stack.remit(&["job", "apply", &file.display().to_string()]).unwrap()
}

fn show(stack: &harness::Stack, id: &str) -> Value {
    stack.json(&["execution", "show", id]).unwrap()
}

fn wait(stack: &harness::Stack, id: &str, state: &str) -> Value {
    harness::wait_for(&format!("{id} to be {state}"), || {
        let shown = show(stack, id);
        Ok((shown["summary"]["state"] == state).then_some(shown))
    })
    .unwrap()
}

#[test]
fn lists_groups_and_error_handlers_run_as_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), CEILING);
    let applied = apply(
        &stack,
        folder.path(),
        r#"
job: flow
options: { sites: { type: string, default: "a,b" } }
steps:
  - parallel:
      - { name: each, uses: remit/transform@1, for_each: "options.sites.split(',')", with: { value: "site ${item}" } }
      - { name: other, uses: remit/transform@1, with: { value: 2 } }
  - name: broken
    uses: remit/run-command@1
    with: { program: uname, args: ["-z"] }
    grant: { exec: [{ program: uname }] }
    on_error:
      uses: remit/transform@1
      with: { value: "${error.outcome}" }
      recover: true
  - { name: done, halt: succeeded, message: "${steps.each.outputs.size()} sites", when: "steps.broken.outcome == 'succeeded'" }
  - { name: never, uses: remit/transform@1, with: { value: 1 }, when: always }
"#,
    );
    assert_eq!(applied.code, 0, "{applied:?}");
    let shown = run(&stack, &["flow"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    let step = |at: usize| &shown["steps"][at];
    let values: Vec<&Value> =
        step(0)["run"]["output"].as_array().unwrap().iter().map(|output| &output["value"]).collect();
    assert_eq!(values, ["site a", "site b"]);
    let message = step(2)["run"]["message"].as_str().unwrap();
    assert!(message.starts_with("recovered by its error handler from"), "{message}");
    assert_eq!((&step(3)["run"]["message"], &step(4)["outcome"]), (&"2 sites".into(), &"skipped".into()));
}

#[test]
fn a_job_runs_a_job_at_each_site_and_never_itself() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), CEILING);
    let missing = apply(&stack, folder.path(), "job: all\nsteps:\n  - { name: sites, job: one }\n");
    assert!(missing.code == 3 && missing.err.contains("apply that job first"), "{missing:?}");
    let one = "job: one\noptions: { site: { type: string, required: true } }\nsteps:\n  - { name: go, uses: remit/transform@1, with: { value: \"${options.site}\" } }\n";
    assert_eq!(apply(&stack, folder.path(), one).code, 0);
    let all = "job: all\nsteps:\n  - { name: sites, job: one, for_each: \"['north', 'south']\", with: { site: \"${item}\" } }\n  \
               - { name: both, uses: remit/transform@1, with: { value: \"${steps.sites.outputs.map(s, s.go.value).join('+')}\" } }\n";
    let applied = apply(&stack, folder.path(), all);
    assert_eq!(applied.code, 0, "{applied:?}");
    let shown = run(&stack, &["all"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(shown["steps"][1]["run"]["output"]["value"], "north+south");
    assert_eq!(shown["children"].as_array().unwrap().len(), 2);
    // A circle is found when it is closed.
    let circle = "job: one\nsteps:\n  - { name: back, job: all }\n";
    let refused = apply(&stack, folder.path(), circle);
    assert!(refused.code == 3 && refused.err.contains("one runs all runs one"), "{refused:?}");
}

#[test]
fn people_open_a_gate_or_close_it() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), CEILING);
    let gated = "job: gated\nsteps:\n  - { name: ask, approve: \"Restart ${execution.job}?\" }\n  - { name: go, uses: remit/transform@1, with: { value: 1 } }\n";
    assert_eq!(apply(&stack, folder.path(), gated).code, 0);
    let id = begin(&stack, &["gated"]);
    let held = wait(&stack, &id, "held");
    assert_eq!(held["summary"]["waiting"], "it waits for an approval: Restart gated?");
    stack.json(&["execution", "approve", &id]).unwrap();
    assert_eq!(wait(&stack, &id, "ended")["summary"]["outcome"], "succeeded");
    let late = stack.remit(&["execution", "approve", &id]).unwrap();
    assert!(late.code == 3 && late.err.contains("waits at no such gate"), "{late:?}");
    let id = begin(&stack, &["gated"]);
    wait(&stack, &id, "held");
    stack.json(&["execution", "deny", &id, "--why", "not on a Friday"]).unwrap();
    let shown = wait(&stack, &id, "ended");
    assert_eq!(shown["summary"]["outcome"], "failed");
    assert!(shown["steps"][0]["run"]["message"].as_str().unwrap().contains("not on a Friday"), "{shown:#}");
}

#[test]
fn a_run_that_people_sign_goes_through_and_one_that_nobody_signs_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), &format!("require_signed = [\"run\", \"approve\"]\n\n{CEILING}"));
    let key = |name: &str| folder.path().join(name).display().to_string();
    let mut lines = String::new();
    for (name, kinds) in [("ivy", "\"run\", \"approve\""), ("otto", "\"approve\"")] {
        let made = stack.json(&["key", "new", &format!("ops.example/{name}"), "--out", &key(name)]).unwrap();
        lines += &format!("\n[[key]]\nvkey = {}\nholder = \"{name}\"\nkinds = [{kinds}]\n", made["vkey"]);
    }
    lines += "\n[[initiator]]\nprojects = [\"demo\"]\nkeys = [\"ops.example/ivy\"]\nthreshold = 1\n\
              \n[[approver]]\nprojects = [\"demo\"]\nkeys = [\"ops.example/ivy\", \"ops.example/otto\"]\nthreshold = 1\n";
    let trust = stack.runner_named("local").unwrap().folder.join("trust.toml");
    let policy = std::fs::read_to_string(&trust).unwrap().replace("version = 1", "version = 2") + &lines;
    std::fs::write(&trust, policy).unwrap();
    let job = "job: gated\noptions: { what: { type: string, default: web } }\nsteps:\n  \
               - { name: first, uses: remit/transform@1, with: { value: \"${options.what}\" } }\n  \
               - { name: ask, approve: Go on? }\n  \
               - { name: then, uses: remit/transform@1, with: { value: \"${steps.first.outputs.value}\" } }\n";
    assert_eq!(apply(&stack, folder.path(), job).code, 0);

    let unsigned = run(&stack, &["gated"]);
    assert_eq!(unsigned["summary"]["outcome"], "refused(E_RUN)");

    let dry = stack.remit(&["job", "run", "gated", "--dry-run"]).unwrap();
    assert!(dry.code == 0 && dry.out.contains("remit/transform@") && dry.out.contains("sha256:"), "{dry:?}");

    let id = begin(&stack, &["gated", "-o", "what=\"${x}\"", "--sign", &key("ivy")]);
    wait(&stack, &id, "held");
    // Who began it does not open its gate, whatever the orchestrator thinks of it.
    let closed = begin(&stack, &["gated", "--sign", &key("ivy")]);
    wait(&stack, &closed, "held");
    stack.json(&["execution", "approve", &closed, "--sign", &key("ivy")]).unwrap();
    assert_eq!(wait(&stack, &closed, "ended")["summary"]["outcome"], "refused(E_GATE)");

    stack.json(&["execution", "approve", &id, "--sign", &key("otto")]).unwrap();
    let shown = wait(&stack, &id, "ended");
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(shown["steps"][2]["run"]["output"]["value"], "\"${x}\"");
}

#[test]
fn a_job_says_how_much_log_it_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let ceiling = "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"printf\"\npath = \"/usr/bin/printf\"\nargs = [\"{text}*\"]\n";
    let stack = site(folder.path(), ceiling);
    let job = |name: &str, limit: &str| {
        format!(
            r#"
job: {name}
log_limit: {{ {limit} }}
steps:
  - name: talk
    uses: remit/run-command@1
    with: {{ program: printf, args: ['%s\n', one, two, three, four, five] }}
    grant: {{ exec: [{{ program: printf }}] }}
  - {{ name: after, uses: remit/transform@1, with: {{ value: done }} }}
"#
        )
    };
    for (name, limit, outcome, after) in [
        ("cut", "lines: 3, at_limit: truncate", "succeeded", "succeeded"),
        ("stopped", "lines: 3", "over-limit(log)", "not-started"),
        ("small", "bytes: 1KiB", "succeeded", "succeeded"),
    ] {
        apply(&stack, folder.path(), &job(name, limit));
        let id = begin(&stack, &[name]);
        let shown = wait(&stack, &id, "ended");
        assert_eq!(shown["summary"]["outcome"], outcome, "{shown:#}");
        assert_eq!(shown["steps"][1]["outcome"], after, "{shown:#}");
        let log = stack.remit(&["--output", "json", "execution", "log", &id]).unwrap().out;
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let cuts = lines.iter().filter(|line| line["cut"] == true).count();
        assert_eq!((cuts, lines.len()), if name == "small" { (0, 5) } else { (1, 4) }, "{log}");
        let text = stack.remit(&["execution", "show", &id]).unwrap().out;
        assert!(text.contains("log: at most "), "{text}");
    }
    let bad = folder.path().join("bad.yaml");
    std::fs::write(&bad, job("bad", "lines: 3, bytes: 1MiB")).unwrap();
    let refused = stack.remit(&["job", "apply", &bad.display().to_string()]).unwrap();
    assert!(refused.code != 0 && refused.err.contains("write one of them"), "{refused:?}");
}

#[test]
fn values_are_read_from_what_a_tool_prints_and_masked_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let ceiling = "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"printf\"\npath = \"/usr/bin/printf\"\nargs = [\"{text}*\"]\n";
    let stack = site(folder.path(), ceiling);
    apply(
        &stack,
        folder.path(),
        r#"
job: printed
steps:
  - name: build
    uses: remit/run-command@1
    with: { program: printf, args: ['%s\n', 'version: 1.2', 'DATA url=http://x/?a=b', 'login password=hunter22 ok', 'DATA pass=password=hunter22', more, more] }
    grant: { exec: [{ program: printf }] }
    log:
      outputs:
        - { pattern: "^version: (\\S+)$", name: version }
        - { pattern: "^DATA (\\S+?)=(.*)$" }
      mask: ["password=(\\S+)"]
      keep: 4
  - name: after
    uses: remit/transform@1
    with: { value: "${steps.build.outputs.log.version} at ${steps.build.outputs.log.url}, ${steps.build.outputs.log.pass}" }
"#,
    );
    let shown = run(&stack, &["printed"]);
    assert_eq!(
        shown["steps"][1]["run"]["output"]["value"], "1.2 at http://x/?a=b, password=***",
        "{shown:#}"
    );
    let output = &shown["steps"][0]["run"]["output"];
    assert_eq!(output["exit_code"], 0, "the component's own output stays");
    assert!(output["stdout"].as_str().unwrap().contains("login password=*** ok"), "{output}");
    let id = shown["summary"]["id"].as_str().unwrap();
    let log = stack.remit(&["execution", "log", id]).unwrap().out;
    assert!(log.contains("login password=*** ok") && !log.contains("hunter22"), "{log}");
    assert!(log.contains("2 more lines were not kept") && !log.contains("  build  more"), "{log}");
}
