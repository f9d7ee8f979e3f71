//! The rules of the house as tests: arrows between rooms, one technology in one room, equal capability lists.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the house fails")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file below `folder` with this ending, but for build output.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" && name != "node_modules" {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The path inside the repository, for messages and comparisons.
fn inside(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// The rooms' crates and which rooms each may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("job", &["remit-protocol"]),
    ("import", &["remit-job", "remit-protocol"]),
    ("signing", &["remit-protocol"]),
    ("guest-sdk", &["remit-sdk-macros"]),
    ("guest-sdk/kubernetes", &["remit-sdk"]),
    ("guest-sdk/macros", &[]),
    ("guest-sdk/nodes", &["remit-sdk"]),
    ("guest-sdk/sftp", &["remit-sdk"]),
    ("orchestrator", &["remit-job", "remit-protocol", "remit-signing"]),
    ("host-runner", &["remit-job", "remit-protocol", "remit-signing"]),
    ("fuzz", &["remit-job", "remit-protocol", "remit-signing"]),
    ("cli", &["remit-import", "remit-job", "remit-protocol", "remit-signing"]),
];

#[test]
fn arrows_between_rooms_run_down() {
    for (room, allowed) in ARROWS {
        let manifest: toml::Table =
            fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap().parse().unwrap();
        let own = manifest["dependencies"].as_table();
        let ours = own.into_iter().flat_map(|table| table.keys()).filter(|name| name.starts_with("remit"));
        for name in ours {
            assert!(allowed.contains(&name.as_str()), "{room} must not import {name}");
        }
    }
    for manifest in files(&root().join("steps"), "Cargo.toml") {
        let table: toml::Table = fs::read_to_string(&manifest).unwrap().parse().unwrap();
        for name in table["dependencies"].as_table().unwrap().keys() {
            assert!(
                !name.starts_with("remit") || name.starts_with("remit-sdk"),
                "{} imports {name}",
                inside(&manifest)
            );
        }
    }
}

#[test]
fn every_crate_takes_the_lint_table() {
    for manifest in files(&root(), "Cargo.toml") {
        let text = fs::read_to_string(&manifest).unwrap();
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            // A template with places to fill in is no manifest yet.
            Err(_) if inside(&manifest).contains("template") => continue,
            Err(error) => panic!("{}: {error}", inside(&manifest)),
        };
        if !table.contains_key("package") || inside(&manifest).contains("template") {
            continue;
        }
        let takes =
            table.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        // The SDK is also built outside of this workspace, so it carries its own table.
        let own = table.get("lints").is_some_and(|lints| lints.get("clippy").is_some());
        assert!(takes == Some(true) || own, "{} takes no lint table", inside(&manifest));
    }
}

#[test]
fn one_technology_lives_in_one_room() {
    let rooms: &[(&str, &[&str])] = &[
        ("rusqlite", &["orchestrator/src/store/"]),
        ("axum", &["orchestrator/src/http/"]),
        ("wasmtime", &["host-runner/src/sandbox/", "host-runner/src/capability/"]),
        ("russh", &["host-runner/src/capability/"]),
        ("reqwest", &["cli/src/", "orchestrator/src/courier/", "tests/", "xtask/src/"]),
        ("lettre", &["orchestrator/src/courier/"]),
        ("cel", &["job/src/expression"]),
    ];
    for file in files(&root(), ".rs") {
        let path = inside(&file);
        let text = fs::read_to_string(&file).unwrap();
        for (technology, homes) in rooms {
            let path_into = format!("{technology}::");
            let whole_word = |line: &str| {
                line.match_indices(&path_into).any(|(at, _)| {
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
                })
            };
            let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
            let used = code
                .into_iter()
                .any(|line| whole_word(line) || line.starts_with(&format!("use {technology}")));
            assert!(
                !used || path == "tests/tidy.rs" || homes.iter().any(|home| path.starts_with(home)),
                "{path} uses {technology}, which lives in {homes:?}"
            );
        }
    }
}

/// The names of files and folders in `folder` that stand for a capability.
fn names(folder: &str, not: &[&str]) -> BTreeSet<String> {
    fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().trim_end_matches(".rs").to_owned())
        .filter(|name| !not.contains(&name.as_str()))
        .collect()
}

#[test]
fn a_capability_has_one_name_in_four_places() {
    let expected: BTreeSet<String> =
        remit_protocol::capability::CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names("protocol/src/capability", &["mod", "imports", "offer", "remit"]), expected);
    assert!(names("host-runner/src/capability", &[]).is_superset(&expected), "host-runner/src/capability");
    let sdk = names("guest-sdk/src", &[]);
    let wit = names("wit", &[]);
    for name in &expected {
        let deep = names("guest-sdk/src/guest", &[]);
        assert!(sdk.contains(name) || deep.contains(name), "guest-sdk has no {name}");
        // HTTP is `wasi:http`, which is vendored.
        assert!(wit.contains(name) || name == "http", "wit has no {name}");
    }
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    for file in files(&root(), ".rs") {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let vague = ["util", "utils", "helper", "helpers", "common", "misc", "errors", "types"];
        assert!(!vague.contains(&stem.as_str()), "{}", inside(&file));
    }
}

#[test]
fn documents_name_files_that_exist() {
    for document in files(&root(), ".md") {
        let text = fs::read_to_string(&document).unwrap();
        if inside(&document).contains("template") {
            continue;
        }
        for part in text.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.contains(' ') {
                continue;
            }
            let target = document.parent().unwrap().join(path);
            assert!(target.exists(), "{} names {path}, which does not exist", inside(&document));
        }
    }
}

#[test]
fn every_hostile_guest_is_used() {
    let sources: String = ["tests/stories", "host-runner/src", "host-runner/tests"]
        .iter()
        .map(|folder| root().join(folder))
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| files(&folder, ".rs"))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for entry in fs::read_dir(root().join("tests/guests")).into_iter().flatten() {
        let entry = entry.unwrap();
        if !entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(sources.contains(&format!("\"{name}\"")), "no test uses tests/guests/{name}");
    }
}

#[test]
fn every_refusal_code_has_a_test() {
    let mut tests = String::new();
    for file in files(&root(), ".rs") {
        let text = fs::read_to_string(&file).unwrap();
        let path = inside(&file);
        if path == "tests/tidy.rs" {
            continue;
        }
        if path.contains("/tests/") || path.starts_with("tests/") || path.ends_with("/tests.rs") {
            tests.push_str(&text);
        } else if let Some(at) = text.find("#[cfg(test)]") {
            tests.push_str(&text[at..]);
        }
    }
    for code in remit_protocol::RefusalCode::ALL {
        let whole = |word: &str| {
            let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            tests.match_indices(word).any(|(at, _)| !goes_on(&tests[at + word.len()..]))
        };
        let tested = whole(&format!("RefusalCode::{code:?}")) || whole(code.code());
        assert!(tested, "no test expects {code}");
    }
}

/// The numbers of jobs that run jobs stand in the documents as they are in the code.
#[test]
fn documents_say_how_many_jobs_a_job_runs() {
    let limits = std::fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let kilobytes = format!("{}KiB", remit_job::children::MAX_OUTPUTS >> 10);
    for (line, number) in [
        ("jobs below one another", remit_job::children::MAX_DEPTH.to_string()),
        ("jobs that one step runs", remit_job::children::MAX_CHILDREN.to_string()),
        ("outputs of its jobs", kilobytes),
        ("executions of a family", remit_protocol::assignment::MAX_KIN.to_string()),
    ] {
        let row = limits.lines().find(|row| row.starts_with(&format!("| {line}")));
        assert!(row.is_some_and(|row| row.ends_with(&format!("| {number} |"))), "{line}: {number}, {row:?}");
    }
}
