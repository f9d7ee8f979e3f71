//! What happens when something dies: nothing acknowledged is lost, nothing runs twice in silence.

use harness::wait_for;
use rustix::fs::{FlockOperation, flock};

use super::{apply, begin, ended, in_state, run, site};

const ONE: &str = "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n";

#[test]
fn a_runner_killed_in_a_pure_step_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: nap\nsteps:\n  - { name: nap, uses: remit/wait@1, with: { for: 2s }, timeout: 1m }\n",
    );
    let id = begin(&stack, &["nap"]);
    in_state(&stack, &id, "running");
    stack.runner_named("local").unwrap().kill().unwrap();
    stack.restart_runner("local").unwrap();
    let shown = ended(&stack, &id);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert!(shown["sections"][0]["epoch"].as_u64().unwrap() > 1, "{shown:#}");
}

#[test]
fn a_runner_killed_in_a_step_with_effects_leaves_the_decision_to_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("marks");
    std::fs::create_dir_all(&marks).unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"mktemp\"\npath = \"/usr/bin/mktemp\"\nargs = [\"-p\", {marks:?}]\n\n\
         [[ceiling.exec]]\nprogram = \"sleep\"\npath = \"/usr/bin/sleep\"\nargs = [\"{{int}}\"]\n"
    );
    let mut stack = site(folder.path(), &ceiling);
    apply(
        &stack,
        folder.path(),
        &format!(
            "job: effect\nsteps:\n  - name: mark\n    uses: remit/run-command@1\n    with: {{ program: mktemp, args: [\"-p\", {marks:?}] }}\n    \
             grant: {{ exec: [{{ program: mktemp }}] }}\n  - name: long\n    uses: remit/run-command@1\n    \
             with: {{ program: sleep, args: [\"60\"] }}\n    grant: {{ exec: [{{ program: sleep }}] }}\n    timeout: 2m\n"
        ),
    );
    let id = begin(&stack, &["effect"]);
    wait_for("the second step running", || {
        let shown = stack.json(&["execution", "show", &id])?;
        Ok((shown["sections"][1]["state"] == "running").then_some(()))
    })
    .unwrap();
    stack.runner_named("local").unwrap().kill().unwrap();
    stack.restart_runner("local").unwrap();
    let shown = in_state(&stack, &id, "held");
    let why = shown["summary"]["waiting"].as_str().unwrap_or_default().to_owned();
    assert!(!why.is_empty(), "{shown:#}");
    stack.json(&["execution", "decide", &id, "--section", "1", "failed"]).unwrap();
    let shown = ended(&stack, &id);
    assert_eq!(shown["summary"]["outcome"], "failed", "{shown:#}");
    assert_eq!(std::fs::read_dir(&marks).unwrap().count(), 1, "the first step ran once");
}

/// The ceiling and the job of a step with an effect: each run leaves a file in `marks`.
fn marking(marks: &std::path::Path) -> (String, String) {
    std::fs::create_dir_all(marks).unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"mktemp\"\npath = \"/usr/bin/mktemp\"\nargs = [\"-p\", {marks:?}]\n"
    );
    let job = format!(
        "job: effect\nsteps:\n  - name: mark\n    uses: remit/run-command@1\n    with: {{ program: mktemp, args: [\"-p\", {marks:?}] }}\n    \
         grant: {{ exec: [{{ program: mktemp }}] }}\n"
    );
    (ceiling, job)
}

#[test]
fn a_runner_killed_before_it_has_begun_has_run_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("marks");
    let (ceiling, job) = marking(&marks);
    let mut stack = site(folder.path(), &ceiling);
    apply(&stack, folder.path(), &job);
    stack.runner_named("local").unwrap().freeze().unwrap();
    let id = begin(&stack, &["effect"]);
    stack.runner_named("local").unwrap().kill().unwrap();
    assert_eq!(std::fs::read_dir(&marks).unwrap().count(), 0);
    stack.restart_runner("local").unwrap();
    let shown = ended(&stack, &id);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(std::fs::read_dir(&marks).unwrap().count(), 1, "it ran once");
}

#[test]
fn a_runner_killed_before_it_could_tell_tells_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (marks, lock) = (folder.path().join("marks"), folder.path().join("lock"));
    std::fs::create_dir_all(&marks).unwrap();
    let held = std::fs::File::create(&lock).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let arguments = format!("[{lock:?}, \"mktemp\", \"-p\", {marks:?}]");
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"flock\"\npath = \"/usr/bin/flock\"\nargs = {arguments}\n\
         env = {{ PATH = \"/usr/bin\" }}\n"
    );
    let mut stack = site(folder.path(), &ceiling);
    apply(
        &stack,
        folder.path(),
        &format!(
            "job: effect\nsteps:\n  - name: mark\n    uses: remit/run-command@1\n    \
             with: {{ program: flock, args: {arguments} }}\n    grant: {{ exec: [{{ program: flock }}] }}\n    timeout: 2m\n"
        ),
    );
    let id = begin(&stack, &["effect"]);
    wait_for("the step running", || {
        let shown = stack.json(&["execution", "show", &id])?;
        Ok((shown["sections"][0]["state"] == "running").then_some(()))
    })
    .unwrap();
    stack.freeze_orchestrator().unwrap();
    drop(held);
    let runner = stack.runner_named("local").unwrap();
    wait_for("the end in the journal", || Ok(runner.has_journalled("finished")?.then_some(()))).unwrap();
    runner.kill().unwrap();
    stack.thaw_orchestrator().unwrap();
    stack.restart_runner("local").unwrap();
    let shown = ended(&stack, &id);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(shown["sections"][0]["epoch"], 1, "it was not run again: {shown:#}");
    assert_eq!(std::fs::read_dir(&marks).unwrap().count(), 1, "it ran once");
}

#[test]
fn a_runner_killed_takes_its_programs_along() {
    let folder = tempfile::tempdir().unwrap();
    let ceiling =
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"sleep\"\npath = \"/usr/bin/sleep\"\nargs = [\"{int}\"]\n";
    let mut stack = site(folder.path(), ceiling);
    // A number that no other program on this machine sleeps for.
    let seconds = 80_000 + std::process::id() % 10_000;
    apply(
        &stack,
        folder.path(),
        &format!(
            "job: long\nsteps:\n  - name: long\n    uses: remit/run-command@1\n    \
             with: {{ program: sleep, args: [\"{seconds}\"] }}\n    grant: {{ exec: [{{ program: sleep }}] }}\n"
        ),
    );
    begin(&stack, &["long"]);
    let runs = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            line == format!("/usr/bin/sleep\0{seconds}\0").as_bytes()
        })
    };
    wait_for("the program running", || Ok(runs().then_some(()))).unwrap();
    stack.runner_named("local").unwrap().kill().unwrap();
    wait_for("the program being gone", || Ok((!runs()).then_some(()))).unwrap();
}

#[test]
fn an_orchestrator_killed_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), "[ceiling]\n");
    apply(&stack, folder.path(), ONE);
    apply(
        &stack,
        folder.path(),
        "job: nap\nsteps:\n  - { name: nap, uses: remit/wait@1, with: { for: 3s }, timeout: 1m }\n",
    );
    let done: Vec<_> = (0..5).map(|_| run(&stack, &["one"])).collect();
    let id = begin(&stack, &["nap"]);
    in_state(&stack, &id, "running");
    stack.kill_orchestrator().unwrap();
    stack.restart_orchestrator().unwrap();
    for before in done {
        let after = ended(&stack, before["summary"]["id"].as_str().unwrap());
        assert_eq!(after["summary"], before["summary"]);
    }
    let shown = ended(&stack, &id);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(shown["sections"][0]["epoch"], 1, "it was not run again: {shown:#}");
    let log = stack.remit(&["execution", "log", &id]).unwrap();
    assert_eq!(log.code, 0, "{log:?}");
}
