//! Options: what may be given, where it is refused, and how it arrives.

use serde_json::json;

use super::{apply, run, site};

#[test]
fn values_come_from_nodes_and_from_what_another_job_found() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let nodes = json!({ "web1": { "tags": ["prod"] }, "web2": { "tags": ["dev"] } });
    let file = folder.path().join("nodes.json");
    std::fs::write(&file, nodes.to_string()).unwrap();
    stack.json(&["nodes", "load", &file.display().to_string()]).unwrap();
    apply(
        &stack,
        folder.path(),
        "job: list_versions\nsteps:\n  - { name: get, uses: remit/transform@1, with: { value: { found: [v1, v2] } } }\n",
    );
    apply(
        &stack,
        folder.path(),
        r#"
job: deploy
options:
  env: { type: string, values: [dev, prod], required: true }
  host: { type: string, values: { nodes: "tags: ${options.env}" } }
  version: { type: string, values: { job: list_versions, step: get, at: /value/found, max_age: 1h } }
  parts: { type: list, default: [all] }
  day: { type: date, default: "${date('%Y-%m-%d')}", min: "2020-01-01" }
  note: { type: string, default: "" }
steps:
  - name: show
    uses: remit/transform@1
    with: { value: { parts: "${options.parts}", note: "${options.note}", day: "${options.day}" } }
"#,
    );
    // The job that finds the versions has not run: nothing is accepted, and it is said what to run.
    let refused = stack.remit(&["job", "run", "deploy", "-o", "env=prod", "-o", "version=v1"]).unwrap();
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("remit job run list_versions"), "{refused:?}");
    run(&stack, &["list_versions"]);
    let asked = stack.json(&["job", "options", "deploy", "-o", "env=prod"]).unwrap();
    let values: Vec<_> =
        asked["options"].as_array().unwrap().iter().map(|option| &option["values"]).collect();
    assert_eq!(values[1], &json!(["web1"]), "{asked:#}");
    assert_eq!(values[2], &json!(["v1", "v2"]), "{asked:#}");
    let refused = stack.remit(&["job", "run", "deploy", "-o", "env=prod", "-o", "host=web2"]).unwrap();
    assert!(refused.code == 3 && refused.err.contains("web1"), "{refused:?}");

    let note = folder.path().join("note.txt");
    std::fs::write(&note, "it's \"so\"\n${options.env} $(id)\n").unwrap();
    let note = format!("note=@{}", note.display());
    let given = [
        "deploy",
        "-o",
        "env=prod",
        "-o",
        "version=v2",
        "-o",
        "parts=a b",
        "--text",
        "parts=@c",
        "-o",
        &note,
    ];
    let shown = run(&stack, &given);
    let value = &shown["steps"][0]["run"]["output"]["value"];
    assert_eq!(value["parts"], json!(["a b", "@c"]), "{shown:#}");
    assert_eq!(value["note"], "it's \"so\"\n${options.env} $(id)\n");
    assert_eq!(value["day"].as_str().map(str::len), Some(10));
}

#[test]
fn a_secret_is_chosen_among_those_that_the_job_lists() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("short"), "0123456789").unwrap();
    std::fs::write(secrets.join("long"), "01234567890123456789").unwrap();
    let rule = |path: &str| {
        format!("[[ceiling.secrets]]\npath = \"keys/team/{path}\"\nuse = \"env\"\nprograms = [\"sh\"]\n\n")
    };
    // The owner lets both be used; the job says which may be chosen.
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"sh\"\npath = \"/bin/sh\"\nargs = [\"-s\"]\n\n{}{}\
         [[provider]]\nmount = \"keys/team\"\nkind = \"directory\"\npath = {secrets:?}\n",
        rule("short"),
        rule("long"),
    );
    let stack = site(folder.path(), &ceiling);
    apply(
        &stack,
        folder.path(),
        r#"
job: count
options:
  which: { type: secret, values: [keys/team/short, keys/team/long], default: keys/team/short }
steps:
  - name: length
    uses: remit/run-command@1
    with: { program: sh, args: ["-s"], stdin: "printf %s ${#TOKEN}" }
    secrets: { token: "${options.which}" }
    grant: { exec: [{ program: sh, args: ["-s"], secret: { name: token, env: TOKEN } }] }
"#
        .replace("${#", "$${#")
        .as_str(),
    );
    let length = |arguments: &[&str]| {
        let shown = run(&stack, &[&["count"], arguments].concat());
        assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
        shown["steps"][0]["run"]["output"]["stdout"].clone()
    };
    assert_eq!(length(&[]), "10");
    assert_eq!(length(&["-o", "which=keys/team/long"]), "20");
    let refused = stack.remit(&["job", "run", "count", "-o", "which=keys/team/lon"]).unwrap();
    assert!(refused.code == 3 && refused.err.contains("did you mean `keys/team/long`?"), "{refused:?}");
}
