//! Secrets of a Vault and of a program, at a runner that is confined: used, rotated, tried by hand.

use std::os::unix::fs::PermissionsExt as _;

use harness::{Authority, Service};

use crate::{apply, run, site};

#[test]
fn a_vault_and_a_program_give_what_is_there_now() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, token) = (folder.path().join("ca.pem"), folder.path().join("token"));
    let authority = Authority::new().unwrap();
    authority.write(&ca).unwrap();
    // One service plays the Vault and what the secrets are for.
    let service = Service::start(&authority, "localhost").unwrap();
    std::fs::write(&token, "hvs.of-the-owner\n").unwrap();
    let give = folder.path().join("give");
    std::fs::write(&give, "#!/bin/sh\nexec /bin/cat \"${0%/*}/$REMIT_SECRET_NAME\"\n").unwrap();
    std::fs::set_permissions(&give, std::fs::Permissions::from_mode(0o700)).unwrap();
    let port = service.port();
    let rule = |path: &str| {
        format!("[[ceiling.secrets]]\npath = {path:?}\nuse = \"bearer\"\nhosts = [\"localhost:{port}\"]\n\n")
    };
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.http]]\nhost = \"localhost\"\nport = {port}\nmethods = [\"GET\"]\npaths = [\"/\"]\n\
         private = [\"127.0.0.0/8\", \"::1/128\"]\nca_file = {ca:?}\n\n{}{}\
         [[provider]]\nmount = \"keys/vault\"\nkind = \"vault\"\naddress = \"https://localhost:{port}\"\nca_file = {ca:?}\n\
         auth = {{ method = \"token\", token_file = {token:?} }}\n\n\
         [[provider]]\nmount = \"keys/program\"\nkind = \"program\"\npath = {give:?}\n",
        rule("keys/vault/token"),
        rule("keys/program/value"),
    );
    let stack = site(folder.path(), &ceiling);
    let step = |name: &str, path: &str| {
        format!(
            "  - name: {name}\n    uses: remit/http-request@1\n    with: {{ url: \"https://localhost:{port}/{name}\" }}\n    \
             secrets: {{ token: {path} }}\n    grant:\n      http: [{{ host: localhost, port: {port}, methods: [GET], \
             paths: [/], private: true, secret: {{ name: token, use: bearer }} }}]\n"
        )
    };
    let job = format!(
        "job: call\nsteps:\n{}{}",
        step("vault", "keys/vault/token"),
        step("program", "keys/program/value")
    );
    apply(&stack, folder.path(), &job);
    for number in ["first", "second"] {
        let of = |place: &str| format!("the {number} value of {place}");
        service.answer(
            "/v1/secret/data/vault/token",
            serde_json::json!({"data": {"data": {"value": of("vault")}, "metadata": {"version": 1}}}),
        );
        std::fs::write(folder.path().join("value"), of("program")).unwrap();
        let shown = run(&stack, &["call"]);
        assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
        for place in ["vault", "program"] {
            let line = format!("GET /{place}");
            let seen = service.seen().into_iter().rev().find(|seen| seen.line == line).unwrap();
            assert_eq!(seen.authorization, Some(format!("Bearer {}", of(place))));
            assert!(stack.files_with(of(place).as_bytes()).unwrap().is_empty());
        }
    }
    let runner = folder.path().join("site/runners/local");
    let test = |path: &str| {
        let ended = stack.runner_program(&runner, &["secret", "test", path, "--output", "json"], "").unwrap();
        assert!(!ended.out.contains("second value"));
        let found = ended.json().unwrap();
        assert_eq!(ended.code == 0, found["found"] == true, "{found}");
        found
    };
    let found = test("keys/vault/token");
    assert_eq!((&found["found"], &found["provider"]["kind"]), (&true.into(), &"vault".into()), "{found}");
    assert_eq!(found["uses"][0], format!("bearer at localhost:{port}"));
    assert_eq!(test("keys/program/value")["found"], true);
    let absent = test("keys/program/absent");
    assert!(absent["error"].as_str().unwrap().contains("exit code 1"), "{absent}");
}

#[test]
fn a_program_gets_a_secret_as_a_file_and_only_where_the_owner_says_so() {
    const VALUE: &str = "the value of the file";
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("token"), VALUE).unwrap();
    let ceiling = |usage: &str| {
        format!(
            "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"show\"\npath = \"/bin/sh\"\n\
             args = [\"-c\", \"cat $TOKEN_FILE; stat -L -c %a $TOKEN_FILE\"]\n\n\
             [[ceiling.secrets]]\npath = \"keys/files/token\"\nuse = \"{usage}\"\nprograms = [\"show\"]\n\n\
             [[provider]]\nmount = \"keys/files\"\nkind = \"directory\"\npath = {secrets:?}\n"
        )
    };
    let job = "job: show\nsteps:\n  - name: show\n    uses: remit/run-command@1\n    \
               with: { program: show, args: [\"-c\", \"cat $TOKEN_FILE; stat -L -c %a $TOKEN_FILE\"] }\n    \
               secrets: { token: keys/files/token }\n    \
               grant: { exec: [{ program: show, secret: { name: token, file: TOKEN_FILE } }] }\n";
    for (usage, outcome) in [("file", "succeeded"), ("env", "refused(E_CEILING)")] {
        let here = folder.path().join(usage);
        std::fs::create_dir(&here).unwrap();
        let stack = site(&here, &ceiling(usage));
        apply(&stack, &here, job);
        let shown = run(&stack, &["show"]);
        assert_eq!(shown["summary"]["outcome"], outcome, "{shown:#}");
        let run = &shown["steps"][0]["run"];
        if usage == "file" {
            assert_eq!(run["output"]["stdout"], "[redacted:keys/files/token]400\n", "{shown:#}");
        } else {
            let message = run["message"].as_str().unwrap();
            assert!(
                message.contains("use = \"file\"") && message.contains("programs = [\"show\"]"),
                "{message}"
            );
        }
        // Neither in a file of the orchestrator's nor of the runner's.
        let found = stack.files_with(VALUE.as_bytes()).unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
}
