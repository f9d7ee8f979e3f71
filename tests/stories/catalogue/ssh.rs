//! Steps that work on a node over SSH, against a real OpenSSH server.

use std::path::{Path, PathBuf};

use harness::{Sshd, Stack};
use serde_json::json;

use super::succeeds;
use crate::{apply, run, site};

/// A server, a stack whose runner may log in there, and two nodes.
fn logged_in(folder: &Path, more: &str) -> (Sshd, Stack) {
    let sshd = Sshd::start(&folder.join("sshd")).unwrap();
    let secrets = folder.join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::copy(sshd.client_key(), secrets.join("key")).unwrap();
    std::fs::write(secrets.join("sudo"), "a-long-password-of-sudo").unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.ssh]]\naddresses = [\"127.0.0.0/8\"]\nport = {}\nusers = [\"root\"]\nknown_hosts = {:?}\n\n\
         [[ceiling.secrets]]\npath = \"keys/test/key\"\nuse = \"ssh-key\"\nusers = [\"root\"]\n\n\
         [[ceiling.secrets]]\npath = \"keys/test/sudo\"\nuse = \"reveal\"\ncomponents = [\"remit/ssh-sudo-script\"]\n\n\
         [[provider]]\nmount = \"keys/test\"\nkind = \"directory\"\npath = {secrets:?}\n\n{more}",
        sshd.port(),
        sshd.known_hosts()
    );
    let stack = site(folder, &ceiling);
    let place = format!("127.0.0.1:{}", sshd.port());
    // The second one is reached through the server itself, as its own bastion.
    let node = json!({
        "web1": { "hostname": place, "username": "root" },
        "web2": { "hostname": place, "username": "root", "bastion": format!("root@{place}") },
    });
    let file = folder.join("nodes.json");
    std::fs::write(&file, node.to_string()).unwrap();
    stack.json(&["nodes", "load", &file.display().to_string()]).unwrap();
    (sshd, stack)
}

/// A job of one node step, one node after the other.
fn job(name: &str, uses: &str, rest: &str) -> String {
    format!(
        "job: {name}\nnodes: {{ filter: \"name: web.\" }}\noptions:\n  v: {{ type: string, default: x }}\nsteps:\n  - name: one\n    \
         uses: remit/{uses}@1\n    per: node\n{rest}"
    )
}

#[test]
fn a_script_runs_on_the_node_with_values_as_they_were_typed() {
    let folder = tempfile::tempdir().unwrap();
    let (_sshd, stack) = logged_in(folder.path(), "");
    let out = folder.path().join("out");
    let odd = "it's \"$HOME\" `id` ${options.v}\n-rf \u{1f600}";
    let script = job(
        "script",
        "ssh-script",
        &format!(
            "    with:\n      args: [\"${{options.v}}\", {out:?}]\n      env: {{ VALUE: \"${{options.v}}\" }}\n      stdin: \"${{options.v}}\"\n\
             \x20     script: |\n        printf '%s|%s|' \"$1\" \"$VALUE\" > \"$2\"\n        cat >> \"$2\"\n\
             \x20   secrets: {{ key: keys/test/key }}\n"
        ),
    );
    succeeds(&stack, folder.path(), &script, &["--option", &format!("v={odd}")]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), format!("{odd}|{odd}|{odd}"));
}

#[test]
fn sudo_gets_its_password_and_the_script_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (_sshd, stack) = logged_in(folder.path(), "");
    assert!(Path::new("/usr/bin/sudo").is_file(), "apt-get install sudo");
    let out = folder.path().join("out");
    // Root is not asked: the password that sudo does not read is not left to the script.
    let script = job(
        "sudo",
        "ssh-sudo-script",
        &format!(
            "    with:\n      args: [{out:?}]\n      script: |\n        {{ id -u; echo \"read:$(cat)\"; }} > \"$1\"\n\
             \x20   secrets: {{ key: keys/test/key, sudo: keys/test/sudo }}\n"
        ),
    );
    succeeds(&stack, folder.path(), &script, &[]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "0\nread:\n");
    assert!(stack.files_with(b"a-long-password-of-sudo").unwrap().is_empty());
}

#[test]
fn files_are_written_and_copied_in_one_go() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = folder.path().join("artifacts");
    std::fs::create_dir_all(&artifacts).unwrap();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| (number * 31).to_le_bytes()[1]).collect();
    std::fs::write(artifacts.join("app.tar"), &bytes).unwrap();
    let more = format!("[[ceiling.files]]\nname = \"artifacts\"\npath = {artifacts:?}\n");
    let (_sshd, stack) = logged_in(folder.path(), &more);
    let target: PathBuf = folder.path().join("deep/er/app.tar");
    let copy = job(
        "copy",
        "copy-file",
        &format!(
            "    with: {{ file: artifacts, path: app.tar, to: {target:?}, make_folders: true, mode: \"0640\" }}\n    \
             secrets: {{ key: keys/test/key }}\n    grant: {{ ssh: [{{ target: node }}], files: [{{ name: artifacts }}] }}\n"
        ),
    );
    let shown = succeeds(&stack, folder.path(), &copy, &[]);
    assert!(std::fs::read(&target).unwrap() == bytes, "{shown:#}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&target).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o640);

    let write = job(
        "write",
        "write-file",
        &format!(
            "    with: {{ content: \"line\\n\", to: {target:?} }}\n    secrets: {{ key: keys/test/key }}\n"
        ),
    );
    succeeds(&stack, folder.path(), &write, &[]);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "line\n");
    let left: Vec<_> = std::fs::read_dir(target.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");

    let denied = job(
        "denied",
        "write-file",
        "    with: { content: x, to: /proc/nowhere/file }\n    secrets: { key: keys/test/key }\n",
    );
    apply(&stack, folder.path(), &denied);
    let shown = run(&stack, &["denied"]);
    let id = shown["summary"]["id"].as_str().unwrap();
    let nodes = stack.json(&["execution", "nodes", id, "--step", "0"]).unwrap();
    assert!(nodes.to_string().contains("/proc/nowhere/file on web1: making the file"), "{nodes:#}");
}

#[test]
fn a_file_that_is_given_when_the_job_is_run_arrives_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (_sshd, stack) = logged_in(folder.path(), "");
    let bytes: Vec<u8> = (0..700_000_u32).map(|number| (number * 31).to_le_bytes()[1]).collect();
    let given = folder.path().join("site of today.tar");
    std::fs::write(&given, &bytes).unwrap();
    let target = folder.path().join("site.tar");
    let step = |grant: &str| {
        format!(
            "job: give\nnodes: {{ filter: \"name: web1\" }}\noptions:\n  archive: {{ type: file, max_size: 1MiB }}\n  \
             note: {{ type: string, default: x }}\nsteps:\n  - name: one\n    uses: remit/copy-file@1\n    per: node\n    \
             with: {{ file: archive, to: {target:?} }}\n    secrets: {{ key: keys/test/key }}\n    \
             grant: {{ ssh: [{{ target: node }}], files: [{{ option: {grant} }}] }}\n  \
             - {{ name: told, uses: remit/transform@1, with: {{ value: \"${{options.archive.name}}: ${{options.archive.length}}\" }} }}\n"
        )
    };
    for (grant, expect) in [("other", "there is no option other"), ("note", "has the type string, not file")]
    {
        let file = folder.path().join("bad.yaml");
        std::fs::write(&file, step(grant)).unwrap();
        let refused = stack.remit(&["job", "apply", &file.display().to_string()]).unwrap();
        assert!(refused.code != 0 && refused.err.contains(expect), "{}", refused.err);
    }
    apply(&stack, folder.path(), &step("archive"));
    let option = format!("archive={}", given.display());
    let shown = run(&stack, &["give", "--option-file", &option]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert!(std::fs::read(&target).unwrap() == bytes);
    let told = &shown["steps"][1]["run"]["output"]["value"];
    assert_eq!(told, "site of today.tar: 700000");

    // A digest alone is no file, and a text is none either.
    let refused = stack.remit(&["job", "run", "give", "-o", "archive=site.tar"]).unwrap();
    assert!(refused.code != 0 && refused.err.contains("--option-file"), "{}", refused.err);
    std::fs::write(&given, vec![0; (1 << 20) + 1]).unwrap();
    let refused = stack.remit(&["job", "run", "give", "--option-file", &option]).unwrap();
    assert!(refused.code != 0 && refused.err.contains("at most 1MiB"), "{}", refused.err);
    let shown = run(&stack, &["give"]);
    let id = shown["summary"]["id"].as_str().unwrap();
    let nodes = stack.json(&["execution", "nodes", id, "--step", "0"]).unwrap();
    assert!(nodes.to_string().contains("the option archive has no file"), "{nodes:#}");
}
