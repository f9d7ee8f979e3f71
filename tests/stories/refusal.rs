//! What is outside of a remit does not happen, and the refusal says what would allow it.

use super::{apply, run, site};

/// The owner lets steps start `uname`, with one argument only.
const UNAME: &str =
    "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"uname\"\npath = \"/usr/bin/uname\"\nargs = [\"-s\"]\n";

fn job(program: &str, args: &str) -> String {
    format!(
        "job: command\nsteps:\n  - name: run\n    uses: remit/run-command@1\n    with: {{ program: {program}, args: {args} }}\n    \
         grant: {{ exec: [{{ program: {program} }}] }}\n"
    )
}

#[test]
fn a_program_runs_with_the_arguments_that_the_owner_allows() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), UNAME);
    apply(&stack, folder.path(), &job("uname", "[\"-s\"]"));
    let shown = run(&stack, &["command"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(shown["steps"][0]["run"]["output"]["stdout"].as_str().unwrap().trim(), "Linux");
    apply(&stack, folder.path(), &job("uname", "[\"-a\"]"));
    let shown = run(&stack, &["command"]);
    assert_ne!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    apply(&stack, folder.path(), &job("id", "[]"));
    let shown = run(&stack, &["command"]);
    assert_eq!(shown["summary"]["outcome"], "refused(E_CEILING)", "{shown:#}");
    let message = shown["steps"][0]["run"]["message"].as_str().unwrap();
    assert!(message.contains("[[ceiling.exec]]") && message.contains("program = \"id\""), "{message}");
}

#[test]
fn a_wider_grant_wants_to_be_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), UNAME);
    apply(&stack, folder.path(), &job("uname", "[\"-s\"]"));
    let wider = "job: command\nsteps:\n  - name: run\n    uses: remit/run-command@1\n    with: { program: uname, args: [] }\n    \
                 grant: { exec: [{ program: uname }, { program: rm }] }\n";
    let file = folder.path().join("wider.yaml");
    std::fs::write(&file, wider).unwrap();
    let refused = stack.remit(&["job", "apply", &file.display().to_string()]).unwrap();
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.err.contains("rm"), "{refused:?}");
    let accepted = stack.remit(&["job", "apply", &file.display().to_string(), "--accept-wider"]).unwrap();
    assert_eq!(accepted.code, 0, "{accepted:?}");
}
