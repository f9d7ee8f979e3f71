//! Files that steps keep: listed and downloaded by people; nothing half there, whatever breaks on the way.

use harness::{Faults, Host, Middlebox, Stack, builder_trust, wait_for};
use remit_protocol::Digest;

use super::{apply, begin, ended, run, site};

/// An orchestrator with the built-in components, and no runner.
fn bare(folder: &std::path::Path) -> Stack {
    let stack = Stack::start(&folder.join("site"), &builder_trust().unwrap()).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.publish_built_in().unwrap();
    stack
}

#[test]
fn what_steps_keep_is_downloaded_by_name_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let file = folder.path().join("nodes.json");
    let nodes = serde_json::json!({ "web1": { "hostname": "10.0.0.1" }, "web2": { "hostname": "10.0.0.2" } });
    std::fs::write(&file, nodes.to_string()).unwrap();
    stack.json(&["nodes", "load", &file.display().to_string()]).unwrap();
    let job = "job: report\nnodes: { filter: \".*\" }\nsteps:\n\
               \x20 - { name: each, uses: remit/keep-artifact@1, per: node, with: { name: node.txt, content: \"I am ${node.name}\" } }\n\
               \x20 - name: all\n    uses: remit/keep-artifact@1\n    with: { name: all.json, content: { ok: \"${steps.each.nodes.succeeded}\" } }\n\
               \x20 - name: items\n    for_each: \"['a', 'b']\"\n    uses: remit/keep-artifact@1\n    \
               with: { name: item.txt, content: \"${item}\" }\n";
    apply(&stack, folder.path(), job);
    let shown = run(&stack, &["report"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    let id = shown["summary"]["id"].as_str().unwrap();
    let listed = stack.json(&["execution", "artifacts", id]).unwrap();
    let names: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["node.txt", "node.txt", "all.json", "0.item.txt", "1.item.txt"], "{listed:#}");

    let to = folder.path().join("all.json");
    let text = to.display().to_string();
    let got = stack.json(&["execution", "artifact", "get", id, "all.json", "-o", &text]).unwrap();
    let bytes = std::fs::read(&to).unwrap();
    assert_eq!(got["digest"], Digest::of(&bytes).to_string());
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value, serde_json::json!({ "ok": ["web1", "web2"] }));
    let ambiguous = stack.remit(&["execution", "artifact", "get", id, "node.txt", "-o", "-"]).unwrap();
    assert_ne!(ambiguous.code, 0);
    assert!(ambiguous.err.contains("--step each --node web1"), "{}", ambiguous.err);
    let one =
        stack.remit(&["execution", "artifact", "get", id, "node.txt", "--node", "web2", "-o", "-"]).unwrap();
    assert_eq!((one.code, one.out.as_str()), (0, "I am web2"), "{}", one.err);
    let none = stack.remit(&["execution", "artifact", "get", id, "none.txt", "-o", "-"]).unwrap();
    assert_ne!(none.code, 0);
    assert!(none.err.contains("remit execution artifacts"), "{}", none.err);

    // No more than the project may have, and the step says so.
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, "[quotas]\nartifacts = \"100B\"\n").unwrap();
    stack.json(&["project", "configure", &settings.display().to_string()]).unwrap();
    let job = format!(
        "job: large\nsteps:\n  - {{ name: one, uses: remit/keep-artifact@1, with: {{ name: a, content: \"{}\" }} }}\n",
        "x".repeat(200)
    );
    apply(&stack, folder.path(), &job);
    let shown = run(&stack, &["large"]);
    assert_eq!(shown["summary"]["outcome"], "over-limit(artifacts)", "{shown:#}");
    let message = shown["steps"][0]["run"]["message"].as_str().unwrap();
    assert!(message.contains("100B of artifacts"), "{message}");
}

/// A job that keeps about 900 kB.
fn large() -> String {
    let text = "0123456789".repeat(90_000);
    format!(
        "job: large\nsteps:\n  - {{ name: one, uses: remit/keep-artifact@1, with: {{ name: big.txt, content: \"x{text}\" }} }}\n"
    )
}

#[test]
fn an_upload_that_breaks_off_goes_on_and_one_of_a_dead_runner_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = bare(folder.path());
    let middlebox = Middlebox::before(stack.url(), Faults::default()).unwrap();
    let host = Host { url: Some(middlebox.url()), ..Host::default() };
    stack.runner_on(&host, "local", &[], "[ceiling]\n", &builder_trust().unwrap()).unwrap();
    apply(&stack, folder.path(), &large());
    let listed = |stack: &Stack, id: &str| {
        let page = stack.json(&["execution", "artifacts", id]).unwrap();
        page["items"].as_array().unwrap().len()
    };

    // Connections that were kept are as they were made: the runner makes new ones.
    middlebox.becomes(Faults { resets_up: (2, 300_000), ..Faults::default() });
    stack.runner_named("local").unwrap().kill().unwrap();
    stack.restart_runner("local").unwrap();
    let id = begin(&stack, &["large"]);
    let shown = ended(&stack, &id);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!((middlebox.reset(), listed(&stack, &id)), (2, 1));

    // From here on no piece arrives, not over connections that were kept either: the runner dies while it tries.
    middlebox.becomes(Faults { resets_up: (u32::MAX, 100_000), ..Faults::default() });
    stack.runner_named("local").unwrap().kill().unwrap();
    stack.restart_runner("local").unwrap();
    let before = middlebox.reset();
    let id = begin(&stack, &["large"]);
    wait_for("an upload that was cut", || Ok((middlebox.reset() > before + 1).then_some(()))).unwrap();
    assert_eq!(listed(&stack, &id), 0);
    stack.runner_named("local").unwrap().kill().unwrap();
    middlebox.becomes(Faults::default());
    stack.restart_runner("local").unwrap();
    let shown = ended(&stack, &id);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert!(shown["sections"][0]["epoch"].as_u64().unwrap() > 1, "{shown:#}");
    let listed = stack.json(&["execution", "artifacts", &id]).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed:#}");
    let got = stack.remit(&["execution", "artifact", "get", &id, "big.txt", "-o", "-"]).unwrap();
    assert_eq!(got.out.len(), 900_001, "{}", got.err);
}
