//! The transparency log: what is published is in it, and a runner that wants to see that takes nothing else.

use std::path::Path;

use harness::{Stack, builder_trust};

use super::{apply, run};

const ONE: &str = "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n";

/// A site whose runner requires proofs of the log that `key` is the key of.
fn site(folder: &Path, key: impl FnOnce(&Stack) -> String) -> Stack {
    let trust = builder_trust().unwrap();
    let mut stack = Stack::start(&folder.join("site"), &trust).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.publish_built_in().unwrap();
    let log = format!("\n[log]\nrequire = \"required\"\nkeys = [{:?}]\n", key(&stack));
    stack.runner("local", &[], "[ceiling]\n", &(trust + &log)).unwrap();
    stack
}

fn log_key(stack: &Stack) -> String {
    stack.json(&["log", "key"]).unwrap()["key"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_published_is_logged_watched_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), log_key);
    apply(&stack, folder.path(), ONE);
    let shown = run(&stack, &["one"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");

    // Whoever watches the builder's key sees each note once, served or mirrored.
    let builder = std::fs::read_to_string(harness::components().join("builder.vkey")).unwrap();
    let state = folder.path().join("head").display().to_string();
    let look = ["log", "monitor", "--key", builder.trim(), "--state", &state];
    let found = stack.json(&look).unwrap();
    let entries = found["entries"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["name"] == "remit/transform" && entry["forged"] == false));
    assert_eq!(found["size"], entries.len());
    let again = stack.remit(&look).unwrap();
    assert_eq!(again.code, 8, "{again:?}");
    let mirror = folder.path().join("mirror").display().to_string();
    stack.json(&["log", "mirror", &mirror]).unwrap();
    let key = log_key(&stack);
    let offline = ["log", "monitor", "--key", builder.trim(), "--directory", &mirror, "--log-key", &key];
    assert_eq!(stack.json(&offline).unwrap()["entries"], found["entries"]);
    // A bundle of which one byte is another.
    let bundle =
        std::fs::read_dir(folder.path().join("mirror/tile/entries")).unwrap().next().unwrap().unwrap();
    let partial = std::fs::read_dir(bundle.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&partial).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&partial, bytes).unwrap();
    let bad = stack.remit(&offline).unwrap();
    assert_eq!(bad.code, 4, "{bad:?}");
}

#[test]
fn a_proof_of_another_log_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), |stack| {
        let out = folder.path().join("other.key").display().to_string();
        let made = stack.json(&["key", "new", "log.other/log", "--out", &out]).unwrap();
        made["vkey"].as_str().unwrap().to_owned()
    });
    apply(&stack, folder.path(), ONE);
    let shown = run(&stack, &["one"]);
    assert_eq!(shown["summary"]["outcome"], "refused(E_LOG_PROOF)", "{shown:#}");
}

/// Two orchestrators with one log key, each with a history of its own: what a log shows to different people.
#[test]
fn a_forked_log_stops_the_runner_with_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = site(&folder.path().join("one"), log_key);
    apply(&one, folder.path(), ONE);
    let shown = run(&one, &["one"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");

    let trust =
        std::fs::read_to_string(one.runner_named("local").unwrap().folder.join("trust.toml")).unwrap();
    let mut two = Stack::start(&folder.path().join("two"), &builder_trust().unwrap()).unwrap();
    two.kill_orchestrator().unwrap();
    std::fs::copy(one.data().join("log.key"), two.data().join("log.key")).unwrap();
    two.restart_orchestrator().unwrap();
    two.json(&["project", "create", "demo"]).unwrap();
    let packages = std::fs::read_dir(harness::components()).unwrap().map(|entry| entry.unwrap().path());
    let mut packages: Vec<_> = packages.filter(|folder| folder.join("component.note").is_file()).collect();
    packages.reverse();
    for package in packages {
        two.json(&["step", "publish", &package.display().to_string()]).unwrap();
    }
    two.runner("local", &[], "[ceiling]\n", &trust).unwrap();
    apply(&two, folder.path(), ONE);
    let runner = two.runner_named("local").unwrap();
    runner.kill().unwrap();
    let state = runner.folder.join("state");
    let seen = one.runner_named("local").unwrap().folder.join("state/log/heads.json");
    std::fs::copy(seen, state.join("log/heads.json")).unwrap();
    two.restart_runner("local").unwrap();

    let shown = run(&two, &["one"]);
    assert_eq!(shown["summary"]["outcome"], "refused(E_LOG_FORK)", "{shown:#}");
    let read = |name: &str| std::fs::read_to_string(state.join("log/fork").join(name)).unwrap();
    let (remembered, shown) = (read("remembered.checkpoint"), read("shown.checkpoint"));
    assert_eq!(remembered.lines().take(2).collect::<Vec<_>>(), shown.lines().take(2).collect::<Vec<_>>());
    assert_ne!(remembered, shown);
    let folder = state.parent().unwrap();
    let doctor = two.runner_program(folder, &["doctor", "--quick", "--config", "runner.toml"], "").unwrap();
    assert!(doctor.out.contains("two histories were shown"), "{doctor:?}");
}
