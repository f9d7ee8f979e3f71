//! Projects: variables, saved filters, quotas; as a folder, out of one and into another; components that are taken back.

use std::{collections::BTreeMap, fs, path::Path};

use super::{apply, run, site};

const SETTINGS: &str = r#"
description = "The web tier."
readme = "Ask ada.\n"
default_filter = "tags: web"

[variables]
region = "eu-1"
batch = 3

[filters]
db = "tags: db"

[history]
days = 30

[quotas]
jobs = 3
"#;

const NODES: &str = "a1:\n  tags: web\na2:\n  tags: web\nd1:\n  tags: db\n";

const JOB: &str = r#"
job: show
nodes: { filter: ".*", threads: "project.batch" }
steps:
  - { name: where, uses: remit/transform@1, with: { value: "${project.name} in ${project.region}" } }
  - { name: each, uses: remit/transform@1, per: node, with: { value: "${project.region}/${node.name}" } }
"#;

/// Every file of a folder, by its place in it.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let place = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(place, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn variables_filters_and_quotas_are_what_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    stack.json(&["project", "configure", &file("settings.toml", SETTINGS)]).unwrap();
    stack.json(&["nodes", "load", &file("nodes.yaml", NODES)]).unwrap();
    apply(&stack, folder.path(), JOB);
    let shown = run(&stack, &["show"]);
    assert_eq!(shown["steps"][0]["run"]["output"]["value"], "demo in eu-1", "{shown:#}");
    assert_eq!(
        (&shown["nodes"], &shown["summary"]["outcome"]),
        (&3.into(), &"succeeded".into()),
        "{shown:#}"
    );
    let total = |arguments: &[&str]| {
        let listed = stack.json(&[&["nodes", "list"], arguments].concat()).unwrap();
        listed["items"].as_array().unwrap().len()
    };
    assert_eq!((total(&[]), total(&["--filter", ".*"]), total(&["--filter", "@db"])), (2, 3, 1));
    assert_eq!(run(&stack, &["show", "--filter", "@db"])["nodes"], 1);
    let unknown = stack.remit(&["job", "run", "show", "--filter", "@web"]).unwrap();
    assert_eq!(unknown.code, 3, "{unknown:?}");
    assert!(unknown.err.contains("no saved filter @web") && unknown.err.contains("@db"), "{unknown:?}");

    // A variable that is gone is told when the job is run.
    stack.json(&["project", "configure", &file("settings.toml", "[quotas]\njobs = 1\n")]).unwrap();
    let missing = stack.remit(&["job", "run", "show"]).unwrap();
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.err.contains("project.batch"), "{missing:?}");
    let over =
        stack.remit(&["job", "apply", &file("two.yaml", &JOB.replace("job: show", "job: two"))]).unwrap();
    assert_eq!(over.code, 3, "{over:?}");
    assert!(over.err.contains("1 jobs"), "{over:?}");
    let bad =
        file("settings.toml", "[filters]\nweb = \"tags: (\"\n[variables]\nname = 1\n[history]\ndays = 0\n");
    let bad = stack.remit(&["project", "configure", &bad]).unwrap();
    assert_eq!(bad.code, 3, "{bad:?}");
    assert!(["variables.name", "history.days"].iter().all(|place| bad.err.contains(place)), "{bad:?}");
    let typo = stack.remit(&["project", "configure", &file("settings.toml", "qotas = 1\n")]).unwrap();
    assert_eq!(typo.code, 3, "{typo:?}");
    // A person without the role reads them and changes nothing.
    let made = stack.json(&["token", "create", "eyes", "--role", "editor"]).unwrap();
    let mut remit = stack.remit_command();
    let settings = file("settings.toml", SETTINGS);
    let output =
        remit.env("REMIT_TOKEN", made["token"].as_str().unwrap()).args(["project", "configure", &settings]);
    assert_eq!(output.output().unwrap().status.code(), Some(6));
}

#[test]
fn a_project_goes_into_a_folder_and_comes_out_of_it_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    stack.json(&["project", "configure", &file("settings.toml", SETTINGS)]).unwrap();
    stack.json(&["nodes", "load", &file("nodes.yaml", NODES)]).unwrap();
    // `a_caller` comes before what it calls, and is tried again once that is there.
    apply(
        &stack,
        folder.path(),
        "job: callee\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n",
    );
    apply(&stack, folder.path(), "job: a_caller\nsteps:\n  - { name: call, job: callee }\n");
    apply(&stack, folder.path(), JOB);
    let hook = stack.json(&["hook", "create", "push", "--job", "callee"]).unwrap();
    stack.json(&["channel", "create", "ops", "--webhook", "https://hooks.example/"]).unwrap();
    let into = |name: &str| folder.path().join(name).display().to_string();
    let done = stack.json(&["project", "export", &into("first")]).unwrap();
    assert_eq!(
        (&done["jobs"], &done["hooks"], &done["nodes"]),
        (&3.into(), &1.into(), &true.into()),
        "{done:#}"
    );
    let again = stack.remit(&["project", "export", &into("first")]).unwrap();
    assert_eq!(again.code, 3, "{again:?}");

    let copy = ["--project", "copy"];
    let done = stack.json(&[&copy[..], &["project", "import", &into("first")]].concat()).unwrap();
    assert_eq!(done["jobs"], 3, "{done:#}");
    let secret = done["secrets"]["hook push"].as_str().unwrap();
    assert_ne!(secret, hook["secret"].as_str().unwrap());
    // Once more: nothing is made twice.
    let done = stack.json(&[&copy[..], &["project", "import", &into("first")]].concat()).unwrap();
    assert!(done.get("secrets").is_none(), "{done:#}");
    stack.json(&[&copy[..], &["project", "export", &into("second")]].concat()).unwrap();
    let (mut first, mut second) = (files(Path::new(&into("first"))), files(Path::new(&into("second"))));
    let heads = (first.remove("project.json").unwrap(), second.remove("project.json").unwrap());
    assert!(heads.0.contains("\"demo\"") && heads.1.contains("\"copy\""), "{heads:?}");
    assert_eq!(first, second);
    assert!(first.contains_key("jobs/a_caller.yaml") && first.contains_key("nodes.json"), "{first:?}");
    assert!(!first.values().any(|text| text.contains("whsec_")));

    // What cannot be brought about is told, and the rest is there.
    fs::write(folder.path().join("first/jobs/bad.yaml"), "job: bad\nsteps: []\n").unwrap();
    let partly = stack.remit(&["--project", "third", "project", "import", &into("first")]).unwrap();
    assert_eq!(partly.code, 3, "{partly:?}");
    assert!(partly.err.contains("bad.yaml"), "{partly:?}");
    let listed = stack.json(&["--project", "third", "job", "list"]).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
}

#[test]
fn a_component_that_is_taken_back_is_selected_no_more_and_runs_where_it_ran() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let job = |name: &str, version: &str| {
        format!(
            "job: {name}\nsteps:\n  - {{ name: one, uses: remit/transform@{version}, with: {{ value: 1 }} }}\n"
        )
    };
    apply(&stack, folder.path(), &job("old", "1"));
    let listed = stack.json(&["component", "list"]).unwrap();
    let transform =
        listed["items"].as_array().unwrap().iter().find(|one| one["name"] == "remit/transform").unwrap();
    let version = transform["version"].as_str().unwrap();
    let component = format!("remit/transform@{version}");
    stack.json(&["component", "yank", &component]).unwrap();
    let file = folder.path().join("new.yaml");
    fs::write(&file, job("new", "1")).unwrap();
    let refused = stack.remit(&["job", "apply", &file.display().to_string()]).unwrap();
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("there is no component"), "{refused:?}");
    assert_eq!(run(&stack, &["old"])["summary"]["outcome"], "succeeded");
    apply(&stack, folder.path(), &job("exact", version));
    stack.json(&["component", "yank", &component, "--undo"]).unwrap();
    apply(&stack, folder.path(), &job("new", "1"));
}
