//! Node steps: SSH to a real server, threads, keep-going, per-node outcomes.

use harness::Sshd;
use serde_json::json;

use super::{apply, run, site};

#[test]
fn a_command_runs_on_nodes_over_ssh() {
    let folder = tempfile::tempdir().unwrap();
    let sshd = Sshd::start(&folder.path().join("sshd")).unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::copy(sshd.client_key(), secrets.join("deploy-key")).unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.ssh]]\naddresses = [\"127.0.0.0/8\"]\nport = {}\nusers = [\"root\"]\nknown_hosts = {:?}\n\n\
         [[ceiling.secrets]]\npath = \"keys/prod/deploy-key\"\nuse = \"ssh-key\"\nusers = [\"root\"]\n\n\
         [[provider]]\nmount = \"keys/prod\"\nkind = \"directory\"\npath = {secrets:?}\n",
        sshd.port(),
        sshd.known_hosts()
    );
    let stack = site(folder.path(), &ceiling);
    let mut nodes = serde_json::Map::new();
    for number in 0..6 {
        // The last one names a user that the owner does not let steps log in as.
        let user = if number == 5 { "nobody" } else { "root" };
        let address = format!("127.0.0.1:{}", sshd.port());
        nodes.insert(
            format!("web{number}"),
            json!({ "hostname": address, "username": user, "tags": ["web"] }),
        );
    }
    let file = folder.path().join("nodes.json");
    std::fs::write(&file, serde_json::Value::Object(nodes).to_string()).unwrap();
    stack.json(&["nodes", "load", &file.display().to_string()]).unwrap();
    apply(
        &stack,
        folder.path(),
        r#"
job: remote
nodes: { filter: "tags: web", threads: 3, keep_going: true }
steps:
  - name: say
    uses: remit/ssh-command@1
    per: node
    with: { argv: [echo, "it's ${node.name}; $HOME"] }
    secrets: { key: keys/prod/deploy-key }
    timeout: 1m
  - name: report
    uses: remit/transform@1
    when: always
    with: { value: { ok: "${size(steps.say.nodes.succeeded)}", bad: "${steps.say.nodes.failed}" } }
"#,
    );
    let shown = run(&stack, &["remote"]);
    assert_eq!(shown["steps"][0]["counts"]["succeeded"], 5, "{shown:#}");
    assert_eq!(shown["steps"][1]["run"]["output"]["value"], json!({ "ok": 5, "bad": ["web5"] }));
    assert_ne!(shown["summary"]["outcome"], "succeeded");
    let id = shown["summary"]["id"].as_str().unwrap();
    let log = stack.remit(&["execution", "log", id]).unwrap().out;
    // One argument, quoted by the host: nothing of it is the remote shell's to read.
    assert!(log.contains("it's web1; $HOME"), "{log}");
}

#[test]
fn without_keep_going_the_rest_is_not_started() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let nodes: serde_json::Map<_, _> =
        (0..20).map(|number| (format!("n{number:02}"), json!({ "hostname": "h", "rack": number }))).collect();
    let file = folder.path().join("nodes.json");
    std::fs::write(&file, serde_json::Value::Object(nodes).to_string()).unwrap();
    stack.json(&["nodes", "load", &file.display().to_string()]).unwrap();
    let source = |keep_going: bool, strategy: &str| {
        format!(
            "job: pick\nnodes: {{ filter: \".*\", keep_going: {keep_going}, rank: {{ by: rack, order: ascending }} }}\nstrategy: {strategy}\n\
             steps:\n  - name: one\n    uses: remit/transform@1\n    per: node\n    with:\n      \
             value: \"${{node.name == 'n03' ? {{}} : {{'a': 1}}}}\"\n      pick: {{ a: /a }}\n"
        )
    };
    apply(&stack, folder.path(), &source(false, "node-first"));
    let shown = run(&stack, &["pick"]);
    assert_eq!(
        shown["steps"][0]["counts"],
        json!({ "succeeded": 3, "failed": 1, "not-started": 16 }),
        "{shown:#}"
    );
    for strategy in ["node-first", "step-first", "parallel"] {
        apply(&stack, folder.path(), &source(true, strategy));
        let shown = run(&stack, &["pick"]);
        assert_eq!(
            shown["steps"][0]["counts"],
            json!({ "succeeded": 19, "failed": 1 }),
            "{strategy}: {shown:#}"
        );
    }
}
