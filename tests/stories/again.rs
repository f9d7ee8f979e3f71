//! Executions that go back to an earlier one, that wait for their turn, and that the job tries again.

use std::fs;

use serde_json::json;

use super::{apply, begin, ended, in_state, run, site};

const JOB: &str = r#"
job: roll
nodes: { filter: ".*", keep_going: true }
steps:
  - { name: first, uses: remit/transform@1, with: { value: { build: 7 }, pick: { build: /build } } }
  - name: each
    uses: remit/transform@1
    per: node
    with:
      value: "${node.ok == 'yes' || project.ok == 'yes' ? {'a': node.name} : {}}"
      pick: { a: /a }
  - { name: last, uses: remit/transform@1, with: { value: "${steps.first.outputs.build} on ${size(steps.each.nodes.succeeded)}" } }
"#;

#[test]
fn a_rerun_takes_what_failed_and_a_resume_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let nodes = |bad: &str| {
        let nodes: serde_json::Map<_, _> = (0..4)
            .map(|number| format!("n{number}"))
            .map(|name| {
                (name.clone(), json!({ "hostname": "h", "ok": if name == bad { "no" } else { "yes" } }))
            })
            .collect();
        let file = folder.path().join("nodes.json");
        fs::write(&file, serde_json::Value::Object(nodes).to_string()).unwrap();
        stack.json(&["nodes", "load", &file.display().to_string()]).unwrap();
    };
    nodes("n2");
    let settings = |ok: &str| {
        let file = folder.path().join("settings.toml");
        fs::write(&file, format!("[variables]\nok = {ok:?}\n")).unwrap();
        stack.json(&["project", "configure", &file.display().to_string()]).unwrap();
    };
    settings("no");
    apply(&stack, folder.path(), JOB);
    let first = run(&stack, &["roll"]);
    assert_eq!(first["summary"]["outcome"], "failed", "{first:#}");
    let id = first["summary"]["id"].as_str().unwrap();
    let plan = stack.json(&["execution", "rerun", id, "--dry-run"]).unwrap();
    let text = plan["nodes"]["text"].as_str().unwrap();
    assert!(text.contains("\"n2\"") && !text.contains("\"n1\""), "{text}");
    let none = stack.remit(&["execution", "rerun", id, "--nodes", "unknown"]).unwrap();
    assert_eq!(none.code, 3, "{none:?}");
    assert!(none.err.contains("--nodes failed"), "{none:?}");
    // The node is in order by now: a rerun knows it as it is.
    nodes("none");
    let begun = stack.json(&["execution", "rerun", id]).unwrap();
    let again = ended(&stack, begun["execution"].as_str().unwrap());
    assert_eq!(
        (&again["summary"]["outcome"], &again["nodes"]),
        (&json!("succeeded"), &json!(1)),
        "{again:#}"
    );
    assert_eq!(again["again"]["execution"], id);
    assert_eq!(again["steps"][2]["run"]["output"]["value"], "7 on 1");
    // One that goes on keeps the nodes of then, and asks the project anew.
    settings("yes");
    let resumed = stack.remit(&["execution", "resume", id, "-f"]).unwrap();
    assert_eq!(resumed.code, 0, "{resumed:?}");
    let listed = stack.json(&["execution", "list", "--job", "roll"]).unwrap();
    let newest = listed["items"][0]["id"].as_str().unwrap();
    let whole = ended(&stack, newest);
    assert_eq!(
        (&whole["nodes"], &whole["steps"][1]["counts"]["succeeded"]),
        (&json!(4), &json!(4)),
        "{whole:#}"
    );
    assert_eq!(whole["steps"][2]["run"]["output"]["value"], "7 on 4");
    let log = stack.remit(&["execution", "show", newest]).unwrap().out;
    assert!(log.contains(&format!("continues execution {id}")), "{log}");
    let nothing = stack.remit(&["execution", "resume", newest]).unwrap();
    assert_eq!(nothing.code, 3, "{nothing:?}");
}

#[test]
fn executions_wait_for_their_turn_and_are_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: one\nconcurrency: { limit: 1, most_queued: 1 }\nsteps:\n  - { name: ask, approve: \"Go on?\" }\n",
    );
    let first = begin(&stack, &["one"]);
    in_state(&stack, &first, "held");
    let second = begin(&stack, &["one"]);
    let listed = stack.remit(&["execution", "list"]).unwrap().out;
    assert!(
        listed.contains("place 1 in the job's queue: 1 of its executions go on, at most 1 may"),
        "{listed}"
    );
    let full = stack.remit(&["job", "run", "one"]).unwrap();
    assert_ne!(full.code, 0);
    assert!(full.err.contains("it takes no more") && full.err.contains("concurrency"), "{full:?}");
    stack.kill_orchestrator().unwrap();
    stack.restart_orchestrator().unwrap();
    stack.json(&["execution", "approve", &first]).unwrap();
    assert_eq!(ended(&stack, &first)["summary"]["outcome"], "succeeded");
    in_state(&stack, &second, "held");
    stack.json(&["execution", "deny", &second]).unwrap();
    ended(&stack, &second);
}

#[test]
fn a_job_is_tried_again_as_another_execution() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: shaky\nretry: { attempts: 2 }\nsteps:\n  - { name: no, uses: remit/transform@1, with: { value: {}, pick: { a: /a } } }\n",
    );
    let first = run(&stack, &["shaky"]);
    assert_eq!(first["summary"]["outcome"], "failed", "{first:#}");
    let newest = harness::wait_for("the second try", || {
        let listed = stack.json(&["execution", "list", "--job", "shaky"])?;
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        Ok((items.len() == 2).then(|| items[0].clone()))
    })
    .unwrap();
    assert_eq!(newest["origin"]["kind"], "retry");
    let second = ended(&stack, newest["id"].as_str().unwrap());
    assert_eq!(second["again"]["how"]["retry"]["attempt"], 2, "{second:#}");
}
