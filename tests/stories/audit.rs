//! The record of a runner: whole, and seen to be changed when it was.

use harness::wait_for;

use super::{apply, run, site};

#[test]
fn a_record_says_what_was_done_and_cannot_be_changed_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let ceiling =
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"uname\"\npath = \"/usr/bin/uname\"\nargs = [\"-s\"]\n";
    let mut stack = site(folder.path(), ceiling);
    let command = |program: &str| {
        format!(
            "job: command\nsteps:\n  - name: run\n    uses: remit/run-command@1\n    with: {{ program: {program}, args: [\"-s\"] }}\n    \
             grant: {{ exec: [{{ program: {program}, args: [\"-s\"] }}] }}\n"
        )
    };
    for (program, outcome) in [("uname", "succeeded"), ("id", "refused(E_CEILING)")] {
        apply(&stack, folder.path(), &command(program));
        assert_eq!(run(&stack, &["command"])["summary"]["outcome"], outcome);
    }
    let runner = stack.runner_named("local").unwrap();
    let state = runner.folder.join("state/audit");
    // A crash loses nothing that was waited for, and the next start goes on behind it.
    runner.kill().unwrap();
    stack.restart_runner("local").unwrap();
    stack.wait_healthy("local").unwrap();
    assert_eq!(run(&stack, &["command"])["summary"]["outcome"], "refused(E_CEILING)");

    let place = stack.runner_named("local").unwrap().folder.clone();
    let config = place.join("runner.toml").display().to_string();
    stack.runner_named("local").unwrap().terminate().unwrap();
    let key = stack.runner_program(&place, &["audit", "key", "--config", &config], "").unwrap();
    let exported = stack.runner_program(&place, &["audit", "export", "--config", &config], "").unwrap();
    let file = folder.path().join("trail");
    std::fs::write(&file, &exported.out).unwrap();
    let verify = |path: &std::path::Path| {
        stack
            .remit(&[
                "audit",
                "verify",
                &path.display().to_string(),
                "--key",
                key.out.trim(),
                "--output",
                "json",
            ])
            .unwrap()
    };
    for path in [&file, &state] {
        let found = verify(path);
        assert_eq!(found.code, 0, "{found:?}");
        let shown = found.json().unwrap();
        let events = &shown["events"];
        assert_eq!(
            (&events["accepted"], &events["refused"], &events["ended"]),
            (&1.into(), &2.into(), &1.into())
        );
        assert_eq!(events["session"], 2);
        assert_eq!(shown["signed"]["entries"], shown["last"]);
    }
    let text = exported.out;
    for expected in ["E_CEILING", "remit/run-command", "\"signers\":[\"builder", "\"program\":\"uname\""] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
    for changed in [
        text.replace("E_CEILING", "E_SCOPE"),
        text.replacen("\"outcome\":\"succeeded\"", "\"outcome\":\"cancelled\"", 1),
        text.lines().skip(1).collect::<Vec<_>>().join("\n").replace("\"seq\":2", "\"seq\":1"),
        text.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 3).map(|(_, line)| line).collect(),
    ] {
        assert_ne!(changed, text);
        std::fs::write(&file, changed).unwrap();
        let found = verify(&file);
        assert_eq!(found.code, 4, "{found:?}");
    }
    std::fs::write(&file, "").unwrap();
    assert_eq!(stack.remit(&["audit", "verify", &file.display().to_string()]).unwrap().code, 8);
    // Whoever cuts off the end of the runner's own record keeps it from beginning again.
    let part = state.join("000001.jsonl");
    let whole = std::fs::read_to_string(&part).unwrap();
    let cut: String = whole.split_inclusive('\n').take(3).collect();
    std::fs::write(&part, cut).unwrap();
    stack.restart_runner("local").unwrap();
    let runner = stack.runner_named("local").unwrap();
    wait_for("the runner's refusal", || Ok(runner.log().contains("signed end").then_some(()))).unwrap();
}
