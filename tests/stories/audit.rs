//! The record of a runner: whole, and seen to be changed when it was.

use harness::wait_for;
use remit_signing::{
    SigningKey, note,
    trail::{self, TrailNote},
};

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

#[test]
fn a_record_that_is_cut_off_does_not_reach_the_end_that_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), "[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n",
    );
    assert_eq!(run(&stack, &["one"])["summary"]["outcome"], "succeeded");
    // At its end a runner signs its record; the next process sends that.
    stack.runner_named("local").unwrap().terminate().unwrap();
    stack.restart_runner("local").unwrap();
    let head = folder.path().join("head.note").display().to_string();
    let show = ["runner", "trail", "local", "--out", &head, "--output", "json"];
    let shown = wait_for("the signed end", || {
        let shown = stack.remit(&show)?;
        Ok(if shown.code == 0 { Some(shown.json()?) } else { None })
    })
    .unwrap();
    let entries = shown["items"][0]["entries"].as_u64().unwrap();
    assert!(entries >= 4 && shown["items"][0]["current"] == true, "{shown:#}");

    stack.runner_named("local").unwrap().terminate().unwrap();
    let place = stack.runner_named("local").unwrap().folder.clone();
    let config = place.join("runner.toml").display().to_string();
    let key = stack.runner_program(&place, &["audit", "key", "--config", &config], "").unwrap();
    let exported = stack.runner_program(&place, &["audit", "export", "--config", &config], "").unwrap();
    let file = folder.path().join("trail").display().to_string();
    let verify = |head: &[&str]| {
        let given = ["audit", "verify", &file, "--output", "json"];
        stack.remit(&[&given, head].concat()).unwrap()
    };
    let reaches = ["--key", key.out.trim(), "--head", &head];
    std::fs::write(&file, &exported.out).unwrap();
    let whole = verify(&reaches);
    assert_eq!((whole.code, whole.json().unwrap()["elsewhere"]["entries"].as_u64()), (0, Some(entries)));

    // Its owner cuts off the end of what happened, and signs that with the runner's own key.
    let identity = std::fs::read_to_string(place.join("state/identity.json")).unwrap();
    let identity: serde_json::Value = serde_json::from_str(&identity).unwrap();
    let own = identity
        .as_object()
        .unwrap()
        .values()
        .find_map(|value| value.as_str().filter(|v| v.starts_with("PRIVATE+KEY+")));
    let own = SigningKey::from_private_text(own.unwrap()).unwrap();
    let lines: Vec<&str> = exported.out.lines().take(usize::try_from(entries).unwrap() - 1).collect();
    let linked = trail::verify(lines.iter().map(|line| line.as_bytes()), |_| {}).unwrap().unwrap();
    let text = exported.out.lines().find_map(|line| line.strip_prefix("keeper ")).unwrap();
    let at = "2026-11-21T00:00:00Z".parse().unwrap();
    let says = TrailNote { keeper: text.to_owned(), head: linked.head, at };
    let note = String::from_utf8(note::sign(&says.to_text(), &[&own]).unwrap()).unwrap();
    std::fs::write(&file, format!("{}\n\n{note}", lines.join("\n"))).unwrap();
    assert_eq!(verify(&["--key", key.out.trim()]).code, 0);
    let cut = verify(&reaches);
    assert!(cut.code == 4 && cut.out.contains("entries were signed"), "{cut:?}");
}

#[test]
fn who_did_what_at_the_orchestrator_is_checked_offline() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let file = folder.path().join("record").display().to_string();
    let exported = stack.json(&["audit", "export", "--out", &file]).unwrap();
    let key = stack.json(&["audit", "key"]).unwrap()["key"].as_str().unwrap().to_owned();
    let verify = || stack.remit(&["audit", "verify", &file, "--key", &key, "--output", "json"]).unwrap();
    let found = verify();
    assert_eq!(found.code, 0, "{found:?}");
    let shown = found.json().unwrap();
    assert_eq!((&shown["last"], &shown["whole"]), (&exported["entries"], &true.into()));
    assert!(shown["keeper"].as_str().unwrap().starts_with("orchestrator/"), "{shown:#}");
    for kind in ["component.publish", "project.create", "runner.create", "runner.enrol"] {
        assert!(shown["events"][kind].as_u64() > Some(0), "{kind}: {shown:#}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    for changed in [
        text.replacen("runner.enrol", "runner.delete", 1),
        text.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| line).collect(),
        text.replacen("\"who\":\"first-admin\"", "\"who\":\"nobody\"", 1),
    ] {
        assert_ne!(changed, text);
        std::fs::write(&file, changed).unwrap();
        assert_eq!(verify().code, 4);
    }
}
