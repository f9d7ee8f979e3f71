//! What operators see and do: options, outputs, conditions, waiting, cancelling, roles.

use super::{apply, begin, ended, in_state, run, site};

#[test]
fn outputs_flow_and_conditions_decide() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        r#"
job: flow
options:
  name: { type: string, default: world }
  count: { type: integer, default: 2, min: 1, max: 5 }
steps:
  - name: first
    uses: remit/transform@1
    with: { value: { greeting: "Hello, ${options.name}!", twice: "${options.count * 2}" } }
  - name: second
    uses: remit/transform@1
    with: { value: "${steps.first.outputs.value}" }
  - name: never
    uses: remit/transform@1
    when: "options.count > 100"
    with: { value: 1 }
  - name: fails
    uses: remit/transform@1
    with: { value: {}, pick: { missing: /not/there } }
  - name: cleanup
    uses: remit/transform@1
    when: on-failure
    with: { value: "${steps.fails.outcome}" }
  - name: after
    uses: remit/transform@1
    with: { value: 1 }
"#,
    );
    // Quotes, newlines and a place to fill in arrive as they were typed.
    let typed = "O'Brien \"x\"\n${options.count}";
    let shown = run(&stack, &["flow", "--option", &format!("name={typed}"), "--option", "count=3"]);
    let step = |number: usize| &shown["steps"][number];
    assert_eq!(step(0)["run"]["output"]["value"]["greeting"], format!("Hello, {typed}!"), "{shown:#}");
    assert_eq!(step(0)["run"]["output"]["value"]["twice"], 6);
    assert_eq!(step(1)["run"]["output"]["value"]["twice"], 6);
    assert_eq!(step(2)["outcome"], "skipped");
    assert_eq!(step(3)["outcome"], "failed");
    assert_eq!(step(4)["outcome"], "succeeded");
    assert_eq!(step(4)["run"]["output"]["value"], "failed");
    assert_ne!(step(5)["outcome"], "succeeded");
    assert_eq!(shown["summary"]["outcome"], "failed");
    let refused = stack.remit(&["job", "run", "flow", "--option", "count=9"]).unwrap();
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("count"), "{refused:?}");
}

#[test]
fn what_waits_says_why_and_what_runs_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: elsewhere\nrunner: { tags: [mars] }\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n",
    );
    let id = begin(&stack, &["elsewhere"]);
    let shown = in_state(&stack, &id, "waiting");
    let why = shown["summary"]["waiting"].as_str().unwrap();
    assert!(why.contains("mars"), "{why}");
    stack.json(&["execution", "cancel", &id]).unwrap();
    assert_eq!(ended(&stack, &id)["summary"]["outcome"], "cancelled");
    apply(
        &stack,
        folder.path(),
        "job: long\nsteps:\n  - { name: nap, uses: remit/wait@1, with: { for: 10m }, timeout: 20m }\n",
    );
    let id = begin(&stack, &["long"]);
    in_state(&stack, &id, "running");
    stack.json(&["execution", "cancel", &id]).unwrap();
    let shown = ended(&stack, &id);
    assert_eq!(shown["summary"]["outcome"], "cancelled", "{shown:#}");
}

#[test]
fn a_token_does_what_its_role_says_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n",
    );
    let made = stack.json(&["token", "create", "eyes", "--role", "viewer"]).unwrap();
    let (token, id) =
        (made["token"].as_str().unwrap().to_owned(), made["view"]["id"].as_str().unwrap().to_owned());
    let as_viewer = |arguments: &[&str]| {
        let mut remit = stack.remit_command();
        remit.env("REMIT_TOKEN", &token).args(arguments).output().unwrap().status.code().unwrap()
    };
    assert_eq!(as_viewer(&["job", "list"]), 0);
    assert_eq!(as_viewer(&["job", "run", "one"]), 6);
    assert_eq!(as_viewer(&["token", "list"]), 6);
    assert_eq!(as_viewer(&["runner", "create", "x", "--all-projects"]), 6);
    stack.json(&["token", "revoke", &id]).unwrap();
    assert_eq!(as_viewer(&["job", "list"]), 6);
    // The token stands nowhere in what the orchestrator keeps.
    assert!(stack.files_with(token.as_bytes()).unwrap().is_empty());
}

#[test]
fn the_same_key_is_the_same_execution() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n",
    );
    let first = begin(&stack, &["one", "--idempotency-key", "monday"]);
    ended(&stack, &first);
    assert_eq!(begin(&stack, &["one", "--idempotency-key", "monday"]), first);
    assert_ne!(begin(&stack, &["one", "--idempotency-key", "tuesday"]), first);
}
