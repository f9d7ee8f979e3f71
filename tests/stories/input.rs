//! Bad input gets a clear error with its place and what to do, never a panic.

use super::site;

#[test]
fn a_bad_job_names_the_line_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let check = |source: &str, wanted: &[&str]| {
        let file = folder.path().join("bad.yaml");
        std::fs::write(&file, source).unwrap();
        let said = stack.remit(&["job", "apply", &file.display().to_string()]).unwrap();
        assert_eq!(said.code, 3, "{source:.200}: {said:?}");
        for word in wanted {
            assert!(said.err.contains(word), "{source:.200}: wanted {word:?} in {}", said.err);
        }
    };
    check("job: x\nstepz: []\n", &["2:", "stepz", "steps"]);
    check("job: x\njob: y\nsteps: []\n", &["2:"]);
    check("job: [\n", &["1:"]);
    check("job: x\nsteps:\n  - { name: a, uses: remit/nothing@1 }\n", &["remit/nothing"]);
    check("job: x\nsteps:\n  - { name: a, uses: remit/transform@9 }\n", &["remit/transform@9"]);
    check("job: x\nsteps:\n  - { name: a, uses: remit/transform@1, with: { value: \"${1 +\" } }\n", &["3:"]);
    check("job: x\nsteps:\n  - { name: a, uses: remit/http-request@1, with: {} }\n", &["grant"]);
    let huge = format!("job: x\ndescription: \"{}\"\nsteps: []\n", "x".repeat(2 << 20));
    let file = folder.path().join("huge.yaml");
    std::fs::write(&file, huge).unwrap();
    assert_eq!(stack.remit(&["job", "apply", &file.display().to_string()]).unwrap().code, 3);
}

#[test]
fn a_ticket_is_good_once_and_a_wrong_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let host = folder.path().join("host");
    std::fs::create_dir_all(&host).unwrap();
    let config = format!(
        "[orchestrator]\nurl = {:?}\n\n[runner]\nstate = \"state\"\nslots = 1\ntrust = \"trust.toml\"\n\n[ceiling]\n",
        stack.url()
    );
    std::fs::write(host.join("runner.toml"), config).unwrap();
    std::fs::write(host.join("trust.toml"), "version = 1\n").unwrap();
    let enrol =
        |ticket: &str| stack.runner_program(&host, &["enrol", "--config", "runner.toml"], ticket).unwrap();
    assert_ne!(enrol("remitt1_nonsense").code, 0);
    assert_ne!(enrol("").code, 0);
    let issued = stack.json(&["runner", "create", "second", "--tag", "x", "--all-projects"]).unwrap();
    let ticket = issued["ticket"].as_str().unwrap();
    // One character changed: the checksum says so before anything is sent.
    let mut changed = ticket.to_owned().into_bytes();
    changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
    assert_ne!(enrol(&String::from_utf8(changed).unwrap()).code, 0);
    let first = enrol(ticket);
    assert_eq!(first.code, 0, "{first:?}");
    std::fs::remove_dir_all(host.join("state")).unwrap();
    let second = enrol(ticket);
    assert_ne!(second.code, 0, "{second:?}");
}

#[test]
fn a_bad_policy_is_shown_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let host = folder.path().join("host");
    std::fs::create_dir_all(&host).unwrap();
    let config = "[orchestrator]\nurl = \"https://localhost:1\"\n\n[runner]\nstate = \"state\"\nslotz = 3\ntrust = \"trust.toml\"\n\n\
                  [[ceiling.http]]\nhost = \"*.com\"\nmethods = [\"GET\"]\npaths = [\"/\"]\n";
    std::fs::write(host.join("runner.toml"), config).unwrap();
    std::fs::write(
        host.join("trust.toml"),
        "version = 1\n[[publisher]]\nnamespace = \"acme\"\nkeys = []\nthreshold = 1\n",
    )
    .unwrap();
    let checked = stack.runner_program(&host, &["check", "--config", "runner.toml"], "").unwrap();
    assert_ne!(checked.code, 0, "{checked:?}");
    let said = format!("{}{}", checked.out, checked.err);
    for wanted in ["runner.toml:6", "slotz", "slots", "*.com", "trust.toml:"] {
        assert!(said.contains(wanted), "wanted {wanted:?} in {said}");
    }
}
