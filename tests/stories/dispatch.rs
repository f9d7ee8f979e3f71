//! Fan-outs in tiers and over several runners.

use std::{collections::BTreeSet, fs};

use harness::builder_trust;
use serde_json::{Value, json};

use super::{apply, run, site};

fn nodes(stack: &harness::Stack, folder: &std::path::Path, count: usize) {
    let nodes: serde_json::Map<_, _> = (0..count)
        .map(|number| (format!("n{number:03}"), json!({ "hostname": "h", "rack": number / 10 })))
        .collect();
    let file = folder.join("nodes.json");
    fs::write(&file, Value::Object(nodes).to_string()).unwrap();
    stack.json(&["nodes", "load", &file.display().to_string()]).unwrap();
}

#[test]
fn a_fan_out_goes_in_tiers_and_over_all_runners() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), "[ceiling]\n");
    let trust = builder_trust().unwrap();
    stack.runner("left", &["pair"], "[ceiling]\n", &trust).unwrap();
    stack.runner("right", &["pair"], "[ceiling]\n", &trust).unwrap();
    nodes(&stack, folder.path(), 100);
    let job = |more: &str, bad: &str| {
        format!(
            "job: fan\nrunner: {{ tags: [pair] }}\nnodes: {{ filter: \".*\", threads: 8, keep_going: true, {more} }}\nsteps:\n  - name: one\n    uses: remit/transform@1\n    per: node\n    with:\n      value: \"${{node.name == '{bad}' ? {{}} : {{'a': 1}}}}\"\n      pick: {{ a: /a }}\n"
        )
    };
    apply(&stack, folder.path(), &job("spread: true, tiers: [1, \"10%\", rest]", "none"));
    let plan = stack.json(&["job", "run", "fan", "--dry-run"]).unwrap();
    assert_eq!((&plan["nodes"]["tiers"], &plan["nodes"]["split_over"]), (&json!([1, 10, 89]), &json!(2)));
    let shown = run(&stack, &["fan"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(shown["steps"][0]["counts"], json!({ "succeeded": 100 }));
    let parts = shown["sections"].as_array().unwrap();
    let runners: BTreeSet<&str> = parts.iter().filter_map(|part| part["runner"].as_str()).collect();
    assert_eq!(runners, BTreeSet::from(["left", "right"]), "{shown:#}");
    assert_eq!(parts.iter().map(|part| part["nodes"].as_u64().unwrap()).sum::<u64>(), 100);

    // A canary that dies keeps the rest from being begun.
    apply(&stack, folder.path(), &job("spread: true, tiers: [1, \"10%\", rest]", "n003"));
    let stopped = run(&stack, &["fan"]);
    assert_eq!(stopped["summary"]["outcome"], "failed", "{stopped:#}");
    assert_eq!(stopped["steps"][0]["counts"], json!({ "succeeded": 10, "failed": 1, "not-started": 89 }));
    let id = stopped["summary"]["id"].as_str().unwrap();
    let text = stack.remit(&["execution", "show", id]).unwrap().out;
    assert!(text.contains("too many nodes of the tiers before it did not end well"), "{text}");

    apply(&stack, folder.path(), &job("tiers: rank, rank: { by: rack }, limit: \"25%\"", "none"));
    let plan = stack.json(&["job", "run", "fan", "--dry-run"]).unwrap();
    assert_eq!(plan["nodes"]["tiers"], json!([10, 10, 5]));
}
