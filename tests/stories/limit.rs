//! What a run used stands beside what it was allowed, wherever a run is shown, and the record says which limit ended it.

use serde_json::{Value, json};

use super::{apply, run, site};

/// The owner lets steps start `seq`, counts fuel and gives few lines.
const CEILING: &str = "[ceiling]\nfuel = 2000000000\nlines = 50\n\n[[ceiling.exec]]\nprogram = \"seq\"\npath = \"/usr/bin/seq\"\nargs = [\"{int}\"]\n";

fn job(count: u32, limits: &str) -> String {
    format!(
        "job: count\nsteps:\n  - name: run\n    uses: remit/run-command@1\n    with: {{ program: seq, args: [\"{count}\"] }}\n    \
         grant: {{ exec: [{{ program: seq }}] }}\n    limits: {limits}\n"
    )
}

/// The same step on each node.
const EACH: &str = "  - name: each\n    uses: remit/run-command@1\n    per: node\n    with: { program: seq, args: [\"3\"] }\n    \
                    grant: { exec: [{ program: seq }] }\nnodes: { filter: \".*\" }\n";

#[test]
fn what_a_run_used_stands_beside_what_it_was_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), CEILING);
    let nodes = folder.path().join("nodes.json");
    std::fs::write(&nodes, json!({"one": {"hostname": "h"}, "two": {"hostname": "h"}}).to_string()).unwrap();
    stack.json(&["nodes", "load", &nodes.display().to_string()]).unwrap();
    apply(&stack, folder.path(), &format!("{}{EACH}", job(3, "{ memory: 4MiB, egress: 1MiB }")));
    let shown = run(&stack, &["count"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    let usage = &shown["steps"][0]["run"]["usage"];
    let (used, allowed) = (&usage["used"], &usage["allowed"]);
    let of = |name: &str| (used[name].clone(), allowed[name].clone());
    assert_eq!(of("processes"), (json!(1), json!(1)), "{usage:#}");
    // The least of manifest, job and ceiling.
    assert_eq!((&allowed["memory"], &allowed["lines"]), (&json!("4MiB"), &json!(50)), "{usage:#}");
    assert_eq!(of("ingress").0, json!("6B"), "{usage:#}");
    let names = |limits: &Value| limits.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(used), names(allowed));
    // The owner has it counted, though neither author nor job said so.
    assert!(used["fuel"].as_u64().unwrap() > 1000 && allowed["fuel"] == 2_000_000_000_u64, "{usage:#}");
    let id = shown["summary"]["id"].as_str().unwrap();
    let text = stack.remit(&["execution", "show", id]).unwrap().out;
    assert!(text.contains("used: memory ") && text.contains("processes 1 of 1"), "{text}");
    let nodes = stack.remit(&["execution", "nodes", id, "--step", "1"]).unwrap().out;
    assert!(nodes.contains("NEAREST LIMIT") && nodes.contains("two"), "{nodes}");
    let nodes = stack.remit(&["execution", "nodes", id, "--step", "1", "--usage"]).unwrap().out;
    let line = |name: &str| nodes.lines().find(|line| line.starts_with("one ") && line.contains(name));
    assert!(
        line("processes").unwrap().split_whitespace().eq(["one", "processes", "1", "1", "100%"]),
        "{nodes}"
    );
    for limit in ["memory", "wall", "fuel", "lines", "call", "handles", "scratch"] {
        assert!(line(limit).is_some(), "{limit}: {nodes}");
    }
}

#[test]
fn the_record_says_which_limit_ended_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), CEILING);
    for (count, limits, outcome) in [
        (40, "{ lines: 10 }", "over-limit(lines)"),
        (1000, "{ lines: 1000 }", "over-limit(lines)"),
        (1000, "{ log: 2KiB }", "over-limit(log)"),
        (10, "{ fuel: 10 }", "over-limit(fuel)"),
        (10, "{ call: 1B }", "over-limit(call)"),
        (10, "{ processes: 0 }", "over-limit(processes)"),
    ] {
        apply(&stack, folder.path(), &job(count, limits));
        let shown = run(&stack, &["count"]);
        assert_eq!(shown["steps"][0]["outcome"], outcome, "{limits}: {shown:#}");
        let usage = &shown["steps"][0]["run"]["usage"];
        let name = outcome.trim_start_matches("over-limit(").trim_end_matches(')');
        assert!(!usage["allowed"][name].is_null() && !usage["used"][name].is_null(), "{limits}: {usage:#}");
    }
    let file = folder.path().join("more.yaml");
    std::fs::write(&file, job(1, "{ lines: 20000000 }")).unwrap();
    let refused = stack.remit(&["job", "apply", &file.display().to_string()]).unwrap();
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("write 10000000 or less"), "{refused:?}");
}
