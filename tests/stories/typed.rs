//! Secrets that somebody types: sealed by the command line to runners whose keys are pinned, used at a real service, and found
//! nowhere else.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use harness::{Authority, Ended, Reply, Service, Stack};
use serde_json::Value;

use crate::{apply, begin, ended, run, site};

const VALUE: &str = "correct horse battery staple";

/// A service, a runner whose owner lets what is typed go there, and a job that asks for it.
struct Typed {
    folder: tempfile::TempDir,
    service: Service,
    stack: Stack,
}

impl Typed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let authority = Authority::new().unwrap();
        authority.write(&ca).unwrap();
        // It tells the caller what it was given: redaction has something to find.
        let echo = |seen: &harness::Seen| {
            Reply::of("text/plain", format!("you said {}", seen.authorization.clone().unwrap_or_default()))
        };
        let service = Service::answering(&authority, "localhost", echo).unwrap();
        let port = service.port();
        let ceiling = format!(
            "[ceiling]\n\n[[ceiling.http]]\nhost = \"localhost\"\nport = {port}\nmethods = [\"GET\"]\npaths = [\"/\"]\n\
             private = [\"127.0.0.0/8\", \"::1/128\"]\nca_file = {ca:?}\n\n\
             [[ceiling.secrets]]\npath = \"keys/typed/token\"\nuse = \"bearer\"\nhosts = [\"localhost:{port}\"]\n\n\
             [[provider]]\nmount = \"keys/typed\"\nkind = \"sealed\"\n"
        );
        let stack = site(folder.path(), &ceiling);
        let job = format!(
            "job: call\noptions:\n  token: {{ type: secret, typed: keys/typed/token, required: true }}\n  \
             place: {{ type: string, default: usual }}\nsteps:\n  \
             - {{ name: before, uses: remit/transform@1, with: {{ value: \"${{options.place}}\" }} }}\n  \
             - name: get\n    uses: remit/http-request@1\n    with: {{ url: \"https://localhost:{port}/${{options.place}}\" }}\n    \
             secrets: {{ token: \"${{options.token}}\" }}\n    grant:\n      http: [{{ host: localhost, port: {port}, methods: [GET], \
             paths: [/], private: true, secret: {{ name: token, use: bearer }} }}]\n"
        );
        apply(&stack, folder.path(), &job);
        std::fs::write(folder.path().join("value"), format!("{VALUE}\n")).unwrap();
        Self { folder, service, stack }
    }

    fn runner(&self) -> PathBuf {
        self.folder.path().join("site/runners/local")
    }

    /// Who the runner is, as its owner sees it.
    fn identity(&self) -> Value {
        let shown = self.stack.runner_program(&self.runner(), &["identity", "--output", "json"], "").unwrap();
        shown.json().unwrap()
    }

    fn pin(&self) {
        let key = self.identity()["fingerprint"].as_str().unwrap().to_owned();
        self.stack.json(&["runner", "pin", "local", &key]).unwrap();
    }

    fn in_a_file(&self) -> String {
        format!("token=@{}", self.folder.path().join("value").display())
    }

    /// `remit` with the secret on standard input.
    fn with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self
            .stack
            .remit_command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ended::of(&child.wait_with_output().unwrap())
    }

    fn calls(&self) -> Vec<(String, Option<String>)> {
        self.service.seen().into_iter().map(|seen| (seen.line, seen.authorization)).collect()
    }

    /// The value is in no file of the orchestrator and of the runner, nor in a log of either.
    fn nothing_holds(&self, value: &str) {
        let mut found = self.stack.files_with(value.as_bytes()).unwrap();
        found.extend(holding(&self.runner(), value.as_bytes()));
        found.extend(holding(&self.stack.log_file(), value.as_bytes()));
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Every file at or below `place` that holds `needle`.
fn holding(place: &Path, needle: &[u8]) -> Vec<PathBuf> {
    if place.is_dir() {
        let entries = std::fs::read_dir(place).unwrap();
        return entries.flat_map(|entry| holding(&entry.unwrap().path(), needle)).collect();
    }
    // Sockets and what goes away meanwhile hold nothing.
    let bytes = std::fs::read(place).unwrap_or_default();
    let holds = bytes.windows(needle.len()).any(|window| window == needle);
    holds.then(|| place.to_owned()).into_iter().collect()
}

#[test]
fn what_is_typed_reaches_the_service_and_nobody_else() {
    let mut typed = Typed::new();
    let secret = typed.in_a_file();
    // Nobody has told this person which key is the runner's: nothing is read, sealed or sent.
    let refused = typed.stack.remit(&["job", "run", "call", "--secret", &secret]).unwrap();
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("remit runner pin local KEY"), "{refused:?}");
    typed.pin();
    let pins = typed.folder.path().join("site/pins.toml");
    assert_eq!(std::fs::metadata(&pins).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = typed.stack.json(&["runner", "pins"]).unwrap();
    assert_eq!((&shown[0]["runner"], shown.as_array().unwrap().len()), (&"local".into(), 1), "{shown}");

    let plan = typed.stack.json(&["job", "run", "call", "--dry-run", "--secret", "token"]).unwrap();
    assert_eq!(plan["typed"][0]["path"], "keys/typed/token", "{plan:#}");
    assert_eq!(plan["runners"][0]["name"], "local", "{plan:#}");

    let shown = run(&typed.stack, &["call", "--secret", &secret]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(typed.calls(), [("GET /usual".to_owned(), Some(format!("Bearer {VALUE}")))]);
    let said = shown["steps"][1]["run"]["output"]["text"].to_string() + &shown.to_string();
    assert!(said.contains("[redacted:keys/typed/token]") && !said.contains("horse"), "{shown:#}");
    assert_eq!(shown["sealed"]["runners"][0], "local", "{shown:#}");
    let id = shown["summary"]["id"].as_str().unwrap();
    let text = typed.stack.remit(&["execution", "show", id]).unwrap();
    assert!(text.out.contains("sealed to local, until"), "{text:?}");
    let (_, events) = typed.stack.get(&format!("/api/v1/executions/{id}/log")).unwrap();
    assert!(!events.contains("horse"), "{events}");

    // Again, by standard input, with other options.
    let arguments = ["job", "run", "call", "-o", "place=other", "--secret", "token=-", "-f"];
    let done = typed.with_input(&arguments, "another staple of horses");
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(typed.calls()[1].1.as_deref(), Some("Bearer another staple of horses"));

    // The owner's record names the path, and that it was typed.
    typed.stack.runner_named("local").unwrap().terminate().unwrap();
    let record = std::fs::read_to_string(typed.runner().join("state/audit/000001.jsonl")).unwrap();
    assert_eq!(record.matches("\"typed\":[\"keys/typed/token\"]").count(), 2, "{record}");
    for value in [VALUE, "another staple of horses"] {
        typed.nothing_holds(value);
    }

    // While it waits there is a ciphertext, also over a restart; then it is done, and gone.
    let id = begin(&typed.stack, &["call", "--secret", &secret]);
    let waiting = typed.stack.files_with(b"\"path\":\"keys/typed/token\",\"runner\"").unwrap();
    assert!(!waiting.is_empty());
    typed.nothing_holds(VALUE);
    typed.stack.kill_orchestrator().unwrap();
    typed.stack.restart_orchestrator().unwrap();
    typed.stack.restart_runner("local").unwrap();
    let shown = ended(&typed.stack, &id);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    typed.nothing_holds(VALUE);

    // It was for that run alone.
    let again = typed.stack.remit(&["execution", "rerun", &id]).unwrap();
    assert_ne!(again.code, 0);
    assert!(again.err.contains("remit job run call --secret token"), "{again:?}");
}

#[test]
fn a_secret_never_stands_on_a_command_line_and_goes_to_no_other_key() {
    let typed = Typed::new();
    typed.pin();
    let secret = typed.in_a_file();
    for arguments in [
        ["job", "run", "call", "--secret", "token=correct-horse"],
        ["job", "run", "call", "-o", "token=correct-horse"],
        ["job", "run", "call", "--text", "token=correct-horse"],
        ["job", "options", "call", "-o", "token=correct-horse"],
    ] {
        let refused = typed.stack.remit(&arguments).unwrap();
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.err.contains("--secret") && !refused.err.contains("correct-horse"), "{refused:?}");
    }
    typed.nothing_holds("correct-horse");
    for (arguments, words) in [
        (&["job", "run", "call"][..], "--secret token"),
        (&["job", "run", "call", "--secret", &secret, "--runner", "other"], "may go to: local"),
        (&["job", "run", "call", "--secret", &secret, "--secret-valid-for", "25h"], "at most 1d"),
        (&["job", "run", "call", "--secret", "token=-"], "fewer than 8 bytes"),
    ] {
        let refused = typed.stack.remit(arguments).unwrap();
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.err.contains(words), "{refused:?}");
    }

    // Another key than its owner told: whoever answers under the runner's name gets nothing.
    let made = typed.folder.path().join("other.key").display().to_string();
    let other = typed.stack.json(&["key", "new", "runner", "--out", &made]).unwrap();
    let other = other["vkey"].as_str().unwrap();
    let changed = typed.stack.remit(&["runner", "pin", "local", other]).unwrap();
    assert!(changed.code == 4 && changed.err.contains("--replace"), "{changed:?}");
    typed.stack.json(&["runner", "pin", "local", other, "--replace"]).unwrap();
    let refused = typed.stack.remit(&["job", "run", "call", "--secret", &secret]).unwrap();
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("has the identity key") && refused.err.contains("is pinned"), "{refused:?}");
    typed.stack.json(&["runner", "unpin", "local"]).unwrap();
    assert_eq!(typed.stack.remit(&["job", "run", "call", "--secret", &secret]).unwrap().code, 4);
    assert!(typed.calls().is_empty());

    // Nobody is there to type it.
    let scheduled = "job: nightly\noptions:\n  token: { type: secret, typed: keys/typed/token, required: true }\nsteps:\n  \
         - { name: get, uses: remit/http-request@1, with: { url: \"https://a.example/\" }, secrets: { token: \"${options.token}\" }, \
         grant: { http: [{ host: a.example, methods: [GET], paths: [/], secret: { name: token, use: bearer } }] } }\n\
         schedules:\n  - { name: nightly, cron: \"0 3 * * *\" }\n";
    let file = typed.folder.path().join("nightly.yaml");
    std::fs::write(&file, scheduled).unwrap();
    let refused = typed.stack.remit(&["job", "apply", &file.display().to_string()]).unwrap();
    assert!(refused.code != 0 && refused.err.contains("nobody is there to type it"), "{refused:?}");
    let hook = typed.stack.remit(&["hook", "create", "push", "--job", "call"]).unwrap();
    assert!(hook.code != 0 && hook.err.contains("nobody is there to type it"), "{hook:?}");
}
