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

#[test]
fn a_runner_that_wants_signed_jobs_runs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "require_signed = [\"job\"]\n\n[ceiling]\n");
    apply(
        &stack,
        folder.path(),
        "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n",
    );
    let shown = run(&stack, &["one"]);
    assert_eq!(shown["summary"]["outcome"], "refused(E_JOB_UNSIGNED)", "{shown:#}");
}

#[test]
fn a_secret_that_is_not_there_and_a_value_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.http]]\nhost = \"api.example\"\nport = 443\nmethods = [\"GET\"]\npaths = [\"/\"]\n\n\
         [[ceiling.secrets]]\npath = \"keys/none/token\"\nuse = \"bearer\"\nhosts = [\"api.example\"]\n\n\
         [[provider]]\nmount = \"keys/none\"\nkind = \"directory\"\npath = {:?}\n",
        folder.path()
    );
    let stack = site(folder.path(), &ceiling);
    apply(
        &stack,
        folder.path(),
        "job: secret\nsteps:\n  - name: call\n    uses: remit/http-request@1\n    with: { url: https://api.example/ }\n    \
         secrets: { token: keys/none/token }\n    grant:\n      http:\n        - { host: api.example, methods: [GET], paths: [/], \
         secret: { name: token, use: bearer } }\n",
    );
    let shown = run(&stack, &["secret"]);
    assert_eq!(shown["summary"]["outcome"], "refused(E_SECRET)", "{shown:#}");
    apply(
        &stack,
        folder.path(),
        "job: zero\noptions:\n  n: { type: integer, default: 0 }\nsteps:\n  - name: one\n    uses: remit/transform@1\n    \
         with: { value: \"${1 / options.n}\" }\n",
    );
    let shown = run(&stack, &["zero"]);
    assert_eq!(shown["summary"]["outcome"], "refused(E_PARAM)", "{shown:#}");
}

#[test]
fn what_a_runner_would_refuse_is_explained_beforehand() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = site(folder.path(), UNAME);
    let place = stack.runner_named("local").unwrap().folder.clone();
    let explain = |program: &str, trust: &str| {
        let file = folder.path().join("command.yaml");
        std::fs::write(&file, job(program, "[\"-s\"]")).unwrap();
        let [job, runner] = [&file, &place.join("runner.toml")].map(|path| path.display().to_string());
        stack
            .remit(&["--output", "json", "policy", "explain", &job, "--runner", &runner, "--trust", trust])
            .unwrap()
    };
    let trust = place.join("trust.toml").display().to_string();
    let allowed = explain("uname", &trust);
    assert_eq!(allowed.code, 0, "{allowed:?}");
    let denied = explain("id", &trust);
    assert_eq!(denied.code, 4, "{denied:?}");
    let shown: serde_json::Value = serde_json::from_str(denied.out.lines().next().unwrap()).unwrap();
    let denial = &shown["steps"][0]["denials"][0];
    assert_eq!(denial["side"], "ceiling");
    // The lines that it prints are all that is missing.
    let config = place.join("runner.toml");
    let lines = denial["allow"].as_str().unwrap().replace("path = \"/…/id\"", "path = \"/usr/bin/id\"");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n{lines}\n")).unwrap();
    let allowed = explain("id", &trust);
    assert_eq!(allowed.code, 0, "{lines}\n{allowed:?}");
    let nobody = folder.path().join("nobody.toml");
    std::fs::write(&nobody, "version = 1\n").unwrap();
    let denied = explain("id", &nobody.display().to_string());
    assert_eq!(denied.code, 4, "{denied:?}");
    assert!(denied.out.contains("\"side\":\"trust\"") && denied.out.contains("E_SCOPE"), "{denied:?}");
}
