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
