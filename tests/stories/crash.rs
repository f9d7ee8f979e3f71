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

/// With a process's number, how long no other program on this machine sleeps.
const SLEEP: u32 = 80_000;

/// True while a program sleeps so long.
fn sleeps(seconds: u32) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line == format!("/usr/bin/sleep\0{seconds}\0").as_bytes()
    })
}

#[test]
fn a_broker_killed_takes_its_runs_along_and_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("token"), "correct-horse-battery\n").unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"sleep\"\npath = \"/usr/bin/sleep\"\nargs = [\"{{int}}\"]\n\n\
         [[ceiling.exec]]\nprogram = \"printenv\"\npath = \"/usr/bin/printenv\"\nargs = [\"TOKEN\"]\n\n\
         [[ceiling.secrets]]\npath = \"keys/test/token\"\nuse = \"env\"\nprograms = [\"printenv\"]\n\n\
         [[provider]]\nmount = \"keys/test\"\nkind = \"directory\"\npath = {secrets:?}\n"
    );
    let mut stack = site(folder.path(), &ceiling);
    let command = |name: &str, argument: &str, more: &str| {
        format!(
            "  - name: run\n    uses: remit/run-command@1\n    with: {{ program: {name}, args: [{argument:?}] }}\n    \
             timeout: 2m\n{more}"
        )
    };
    let seconds = 2 * SLEEP + std::process::id() % 10_000;
    let sleep = "    grant: { exec: [{ program: sleep }] }\n";
    let print = "    secrets: { token: keys/test/token }\n    \
                 grant: { exec: [{ program: printenv, secret: { name: token, env: TOKEN } }] }\n";
    apply(
        &stack,
        folder.path(),
        &format!("job: long\nsteps:\n{}", command("sleep", &seconds.to_string(), sleep)),
    );
    apply(&stack, folder.path(), &format!("job: print\nsteps:\n{}", command("printenv", "TOKEN", print)));
    let nap = "job: nap\nsteps:\n  - { name: nap, uses: remit/wait@1, with: { for: 5s }, timeout: 1m }\n";
    apply(&stack, folder.path(), nap);
    let (long, nap) = (begin(&stack, &["long"]), begin(&stack, &["nap"]));
    in_state(&stack, &long, "running");
    in_state(&stack, &nap, "running");
    wait_for("the program running", || Ok(sleeps(seconds).then_some(()))).unwrap();
    let broker = stack.runner_named("local").unwrap().broker_pid().unwrap();
    rustix::process::kill_process(broker, rustix::process::Signal::KILL).unwrap();
    // What was with the broker has ended, and says why; what asks for nothing goes on.
    let shown = ended(&stack, &long);
    let said = shown["steps"][0]["run"].to_string();
    assert!(
        said.contains("the broker process of this runner is gone") && said.contains("SIGKILL"),
        "{shown:#}"
    );
    assert_eq!(shown["summary"]["outcome"], "host-fault", "{shown:#}");
    wait_for("the program gone", || Ok((!sleeps(seconds)).then_some(()))).unwrap();
    assert_eq!(ended(&stack, &nap)["summary"]["outcome"], "succeeded");
    // The next one has everything that the first one had, and is as careful.
    let shown = run(&stack, &["print"]);
    assert_eq!(shown["steps"][0]["run"]["output"]["stdout"], "[redacted:keys/test/token]\n", "{shown:#}");
    assert_ne!(stack.runner_named("local").unwrap().broker_pid().unwrap(), broker);
    assert!(stack.files_with(b"correct-horse-battery").unwrap().is_empty());
}

#[test]
fn a_runner_killed_takes_its_programs_along() {
    let folder = tempfile::tempdir().unwrap();
    let ceiling =
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"sleep\"\npath = \"/usr/bin/sleep\"\nargs = [\"{int}\"]\n";
    let mut stack = site(folder.path(), ceiling);
    let seconds = SLEEP + std::process::id() % 10_000;
    apply(
        &stack,
        folder.path(),
        &format!(
            "job: long\nsteps:\n  - name: long\n    uses: remit/run-command@1\n    \
             with: {{ program: sleep, args: [\"{seconds}\"] }}\n    grant: {{ exec: [{{ program: sleep }}] }}\n"
        ),
    );
    begin(&stack, &["long"]);
    wait_for("the program running", || Ok(sleeps(seconds).then_some(()))).unwrap();
    let broker = stack.runner_named("local").unwrap().broker_pid().unwrap();
    stack.runner_named("local").unwrap().kill().unwrap();
    wait_for("the program being gone", || Ok((!sleeps(seconds)).then_some(()))).unwrap();
    let broker = || rustix::process::test_kill_process(broker).is_ok();
    wait_for("the broker being gone", || Ok((!broker()).then_some(()))).unwrap();
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
