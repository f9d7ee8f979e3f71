//! Commands that are run once: on nodes over SSH, on a runner's host, and by whom.

use harness::Sshd;
use serde_json::json;

use super::site;

#[test]
fn a_command_runs_once_on_the_nodes_of_a_filter() {
    let folder = tempfile::tempdir().unwrap();
    let sshd = Sshd::start(&folder.path().join("sshd")).unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::copy(sshd.client_key(), secrets.join("deploy-key")).unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"uname\"\npath = \"/usr/bin/uname\"\nargs = [\"-s\"]\n\n\
         [[ceiling.ssh]]\naddresses = [\"127.0.0.0/8\"]\nport = {}\nusers = [\"root\"]\nknown_hosts = {:?}\n\n\
         [[ceiling.secrets]]\npath = \"keys/prod/deploy-key\"\nuse = \"ssh-key\"\nusers = [\"root\"]\n\n\
         [[provider]]\nmount = \"keys/prod\"\nkind = \"directory\"\npath = {secrets:?}\n",
        sshd.port(),
        sshd.known_hosts()
    );
    let stack = site(folder.path(), &ceiling);
    let address = format!("127.0.0.1:{}", sshd.port());
    let node = json!({ "hostname": address, "username": "root", "tags": ["web"] });
    let file = folder.path().join("nodes.json");
    std::fs::write(&file, json!({ "web1": node, "web2": node, "db1": { "hostname": "h" } }).to_string())
        .unwrap();
    stack.json(&["nodes", "load", &file.display().to_string()]).unwrap();
    let on_web = ["command", "run", "--filter", "tags: web", "--key", "keys/prod/deploy-key"];
    let dry = stack.json(&[&on_web[..], &["--dry-run", "--", "id"]].concat()).unwrap();
    assert_eq!(
        dry["steps"][0]["components"][0]["component"].as_str().unwrap().split('@').next(),
        Some("remit/ssh-command")
    );
    assert!(stack.json(&["execution", "list"]).unwrap()["items"].as_array().unwrap().is_empty());

    let said =
        stack.remit(&[&on_web[..], &["--", "echo", "it's ${node.name}; $HOME", "-x"]].concat()).unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    for node in ["web1", "web2"] {
        assert!(said.out.contains(&format!("@{node}  it's ${{node.name}}; $HOME -x")), "{said:?}");
    }
    let listed = stack.json(&["execution", "list"]).unwrap();
    let id = listed["items"][0]["id"].as_str().unwrap();
    let shown = stack.json(&["execution", "show", id]).unwrap();
    assert_eq!(shown["command"], "echo \"it's ${node.name}; $HOME\" -x");
    assert_eq!(shown["steps"][0]["counts"], json!({ "succeeded": 2 }), "{shown:#}");

    let failed = stack.remit(&[&on_web[..], &["--", "false"]].concat()).unwrap();
    assert_eq!(failed.code, 1, "{failed:?}");
    let none = ["command", "run", "--filter", "tags: none", "--key", "keys/prod/deploy-key", "--", "id"];
    let none = stack.remit(&none).unwrap();
    assert_eq!(none.code, 3, "{none:?}");
    assert!(none.err.contains("no node matches"), "{none:?}");

    let here = stack.remit(&["command", "run", "--on-runner", "--", "uname", "-s"]).unwrap();
    assert_eq!(here.code, 0, "{here:?}");
    assert!(here.out.contains("Linux"), "{here:?}");
    let refused = stack.remit(&["command", "run", "--on-runner", "--", "id"]).unwrap();
    assert_eq!(refused.code, 4, "the runner's owner has not named it: {refused:?}");

    // Who may run jobs may not run commands, and not again either.
    let made = stack.json(&["token", "create", "hands", "--role", "operator"]).unwrap();
    let mut operator = stack.remit_command();
    operator.env("REMIT_TOKEN", made["token"].as_str().unwrap());
    let denied = operator.args(["command", "run", "--on-runner", "--", "uname"]).output().unwrap();
    assert_eq!(denied.status.code(), Some(6), "{denied:?}");
    let failed = stack.json(&["execution", "list", "--outcome", "failed"]).unwrap();
    let failed = failed["items"][0]["id"].as_str().unwrap();
    let mut operator = stack.remit_command();
    operator.env("REMIT_TOKEN", made["token"].as_str().unwrap());
    let denied = operator.args(["execution", "rerun", failed]).output().unwrap();
    assert_eq!(denied.status.code(), Some(6), "{denied:?}");
    let audit = stack.remit(&["audit", "export"]).unwrap();
    assert!(audit.out.contains("command.run"), "{audit:?}");
}

#[test]
fn no_job_can_be_called_like_the_executions_of_commands() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let file = folder.path().join("job.yaml");
    std::fs::write(&file, "job: adhoc_command\nsteps:\n  - { name: a, halt: failed }\n").unwrap();
    let refused = stack.remit(&["job", "apply", &file.display().to_string()]).unwrap();
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("choose another name"), "{refused:?}");
}
