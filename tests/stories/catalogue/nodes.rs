//! Node sources: what a runner finds becomes the project's nodes.

use std::path::Path;

use harness::{Docker, IMAGE, Reply, Seen, Stack};
use serde_json::{Value, json};

use super::live::{Server, elsewhere};
use crate::{apply, run, site};

/// Saves a source and asks it; gives what the command said.
fn source(stack: &Stack, folder: &Path, name: &str, lines: &str) -> harness::Ended {
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, format!("name = {name:?}\n{lines}")).unwrap();
    stack.json(&["nodes", "source", "apply", &file.display().to_string()]).unwrap();
    stack.remit(&["--output", "json", "nodes", "source", "refresh", name]).unwrap()
}

/// The project's nodes by a filter.
fn nodes(stack: &Stack, filter: &str) -> Vec<Value> {
    let page = stack.json(&["nodes", "list", "--filter", filter]).unwrap();
    page["items"].as_array().unwrap().clone()
}

fn names(stack: &Stack, filter: &str) -> Vec<String> {
    nodes(stack, filter).iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_program_and_an_ansible_inventory_are_sources_that_merge_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let inventories = folder.path().join("inventories");
    std::fs::create_dir_all(inventories.join("group_vars")).unwrap();
    std::fs::write(
        inventories.join("hosts.ini"),
        "[web]\nweb[1:3] ansible_host=10.0.0.9\n\n[web:vars]\nrack=a\n",
    )
    .unwrap();
    std::fs::write(
        inventories.join("group_vars/web.yml"),
        "tier: front\nrack: b\ndb_password: hunter2hunter2\n",
    )
    .unwrap();
    let export = folder.path().join("export");
    std::fs::write(&export, "web1: { tags: cmdb, rack: z }\nold: { tags: cmdb }\n").unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"cmdb\"\npath = \"/bin/cat\"\nargs = [{export:?}]\n\n\
         [[ceiling.exec]]\nprogram = \"ansible-inventory\"\npath = \"/usr/bin/ansible-inventory\"\nargs = [\"-i\", \"hosts.ini\", \"--list\"]\n\
         cwd = {inventories:?}\nenv = {{ PATH = \"/usr/bin:/bin\", HOME = {0:?}, LC_ALL = \"C.UTF-8\" }}\n\n\
         [[ceiling.files]]\nname = \"inventories\"\npath = {inventories:?}\n\n\
         [[ceiling.exec]]\nprogram = \"hangs\"\npath = \"/bin/sleep\"\nargs = [\"1000\"]\n",
        folder.path()
    );
    let stack = site(folder.path(), &ceiling);
    let found = source(
        &stack,
        folder.path(),
        "cmdb",
        &format!(
            "uses = \"remit/script-nodes@1\"\nwith = {{ program = \"cmdb\", args = [{export:?}], format = \"yaml\" }}\n\
             grant = {{ exec = [{{ program = \"cmdb\" }}] }}\n"
        ),
    );
    assert_eq!(found.code, 0, "{found:?}");
    assert_eq!(names(&stack, ".*"), ["old", "web1"]);

    // Static: what stands in the file. Dynamic: what Ansible makes of it, with its group_vars.
    let fixed = source(
        &stack,
        folder.path(),
        "fixed",
        "uses = \"remit/ansible-nodes@1\"\nwith = { file = \"inventories\", path = \"hosts.ini\" }\n\
         grant = { files = [{ name = \"inventories\" }] }\n",
    );
    assert_eq!(fixed.code, 0, "{fixed:?}");
    assert_eq!(names(&stack, "tags: web"), ["web1", "web2", "web3"]);
    let web1 = nodes(&stack, "name: web1").remove(0);
    assert_eq!((&web1["attributes"]["rack"], &web1["tags"]), (&json!("a"), &json!(["cmdb", "web"])));

    let asked = source(
        &stack,
        folder.path(),
        "asked",
        "uses = \"remit/ansible-inventory-nodes@1\"\nwith = { inventory = [\"hosts.ini\"] }\n\
         grant = { exec = [{ program = \"ansible-inventory\" }] }\n",
    );
    assert_eq!(asked.code, 0, "{asked:?}\napt-get install ansible-core");
    let web1 = nodes(&stack, "name: web1").remove(0);
    assert_eq!(web1["attributes"]["rack"], "b");
    assert_eq!(web1["attributes"]["tier"], "front");
    assert_eq!(web1["attributes"]["hostname"], "10.0.0.9");
    assert_eq!(web1["attributes"]["db_password"], Value::Null);
    assert!(stack.files_with(b"hunter2hunter2").unwrap().is_empty());

    // What its runner lacks is told when a source is saved.
    let file = folder.path().join("lacks.toml");
    std::fs::write(
        &file,
        "name = \"lacks\"\nuses = \"remit/script-nodes@1\"\nwith = { program = \"nowhere\" }\n\
         grant = { exec = [{ program = \"nowhere\" }] }\n",
    )
    .unwrap();
    let saved = stack.json(&["nodes", "source", "apply", &file.display().to_string()]).unwrap();
    let told = "The ceiling of runner local lacks the program nowhere ([[ceiling.exec]]).";
    assert_eq!(saved["missing"], json!([told]), "{saved:#}");
    stack.json(&["nodes", "source", "delete", "lacks"]).unwrap();

    // One that hangs is ended, and says so; what the others gave stays.
    let hangs = source(
        &stack,
        folder.path(),
        "hangs",
        "uses = \"remit/script-nodes@1\"\nwith = { program = \"hangs\", args = [\"1000\"] }\n\n[grant]\n\
         exec = [{ program = \"hangs\" }]\nlimits = { wall = \"1s\" }\n",
    );
    assert_ne!(hangs.code, 0, "{hangs:?}");
    let listed = stack.json(&["nodes", "source", "list"]).unwrap();
    let last = listed["items"].as_array().unwrap().last().unwrap();
    assert_eq!(last["status"], "failed", "{listed:#}");
    assert!(last["error"].as_str().unwrap().contains("timed-out"), "{last:#}");
    assert_eq!(names(&stack, ".*").len(), 4);
}

#[test]
fn containers_of_a_real_daemon_are_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(docker) = Docker::start(&folder.path().join("docker")).unwrap() else { return };
    docker
        .client(&[
            "run",
            "--detach",
            "--network",
            "none",
            "--name",
            "web-1",
            "--label",
            "tier=front",
            "--env",
            "PASSWORD=hunter2hunter2",
            IMAGE,
            "/bin/sleep",
            "1000",
        ])
        .unwrap();
    let nodes_only = docker.endpoint(
        &["remit/docker-nodes"],
        &["GET"],
        &["/version", "/v1.41/containers/json", "/v1.44/containers/json"],
    );
    let stack = site(folder.path(), &format!("[ceiling]\n\n{nodes_only}"));
    let lines = "uses = \"remit/docker-nodes@2\"\nwith = { filters = [\"label=tier\", \"status=running\"], tags_label = \"tier\" }\n";
    let found = source(&stack, folder.path(), "containers", lines);
    assert_eq!(found.code, 0, "{found:?}");
    let web = nodes(&stack, "tags: front+running").remove(0);
    assert_eq!((&web["name"], &web["attributes"]["docker:image"]), (&json!("web-1"), &json!(IMAGE)));
    assert_eq!(web["attributes"]["docker:state"], "running");
    assert!(stack.files_with(b"hunter2hunter2").unwrap().is_empty());

    // A daemon that does not take a filter says so; the nodes of the last good run stay.
    let odd = lines.replace("label=tier", "shape=round");
    let found = source(&stack, folder.path(), "containers", &odd);
    assert_ne!(found.code, 0, "{found:?}");
    assert_eq!(names(&stack, "tags: docker"), ["web-1"]);
}

#[test]
fn an_endpoint_that_no_runner_has_is_told_when_a_source_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let file = folder.path().join("containers.toml");
    std::fs::write(&file, "name = \"containers\"\nuses = \"remit/docker-nodes@2\"\n").unwrap();
    let saved = stack.json(&["nodes", "source", "apply", &file.display().to_string()]).unwrap();
    let told = "The ceiling of runner local lacks the endpoint docker ([[ceiling.http]] with endpoint = \"docker\").";
    assert_eq!(saved["missing"], json!([told]), "{saved:#}");
    // So it is when a job is saved, and when it is only checked.
    let job = folder.path().join("job.yaml");
    let text =
        "job: contained\nsteps:\n  - name: ran\n    uses: remit/docker-run@2\n    with: { image: a }\n";
    std::fs::write(&job, text).unwrap();
    for check in [&["--check"][..], &[]] {
        let place = job.display().to_string();
        let words = [&["job", "apply", place.as_str()], check].concat();
        let saved = stack.json(&words).unwrap();
        assert_eq!(saved["missing"], json!([format!("Step ran: {told}")]), "{saved:#}");
    }
    // And what happens then is a refusal with the lines that the owner would write.
    let asked = stack.remit(&["--output", "json", "nodes", "source", "refresh", "containers"]).unwrap();
    assert_ne!(asked.code, 0, "{asked:?}");
    let listed = stack.json(&["nodes", "source", "list"]).unwrap();
    let error = listed["items"][0]["error"].as_str().unwrap();
    assert!(
        error.contains("endpoint = \"docker\"") && error.contains("components = [\"remit/docker-nodes\"]"),
        "{error}"
    );
}

/// A list of nodes in the form of the Kubernetes core API, version 1: <https://kubernetes.io/docs/reference/kubernetes-api/>.
const CLUSTER: &str = include_str!("fixtures/kubernetes-nodes.json");
/// A list of machines in the form of the vSphere Automation API 8:
/// <https://developer.broadcom.com/xapis/vsphere-automation-api/latest/>.
const MACHINES: &str = include_str!("fixtures/vsphere-vm.json");
const IDENTITY: &str = include_str!("fixtures/vsphere-identity.json");

const READER: &str = "the-token-of-the-reader";

fn cluster(seen: &Seen) -> Reply {
    let json = |body: &str| Reply::of("application/json", body);
    let bearer = seen.authorization.as_deref() == Some("Bearer the-token-of-the-reader");
    match (seen.line.as_str(), seen.query.as_str()) {
        ("GET /api/v1/nodes", "limit=250") if bearer => json(CLUSTER),
        ("GET /api/v1/nodes", _) if !bearer => json(
            "{\"kind\":\"Status\",\"message\":\"Unauthorized\",\"reason\":\"Unauthorized\",\"code\":401}",
        )
        .status(401),
        _ => json("{}").status(404),
    }
}

fn a_clusters_machines(folder: &Path, server: &Server) {
    let stack = server.stack(folder, "bearer");
    let found = source(
        &stack,
        folder,
        "cluster",
        &format!(
            "uses = \"remit/kubernetes-nodes@1\"\nwith = {{ url = {:?} }}\nsecrets = {{ token = \"keys/test/server\" }}\n[grant]\nhttp = [{}]\n",
            server.url(),
            server.rule("\"GET\"", "/api/v1", ", secret = { name = \"token\", use = \"bearer\" }")
        ),
    );
    assert_eq!(found.code, 0, "{found:?}");
    let machines = nodes(&stack, "tags: kubernetes");
    assert!(!machines.is_empty());
    for machine in &machines {
        assert!(machine["attributes"]["kubernetes:ready"].is_string(), "{machine:#}");
    }
    if server.fixture.is_some() {
        assert_eq!(names(&stack, "tags: kubernetes"), ["control-plane-1", "worker-1"]);
        assert_eq!(names(&stack, "kubernetes:ready: True"), ["control-plane-1"]);
    }
    server.kept_its_credential(&stack);
}

#[test]
fn machines_of_a_cluster_are_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of("REMIT_TEST_KUBERNETES", folder.path(), READER, cluster);
    a_clusters_machines(folder.path(), &server);
}

#[test]
fn machines_of_a_live_cluster_are_asked_for_where_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let (server, service) = elsewhere(folder.path(), READER, "", cluster);
    a_clusters_machines(folder.path(), &server);
    assert!(service.seen().iter().all(|seen| seen.line == "GET /api/v1/nodes"));
    assert!(!service.seen().is_empty());
}

const LOGIN: &str = "reader@vsphere.local:a-long-password";

fn vcenter(seen: &Seen) -> Reply {
    let json = |body: &str| Reply::of("application/json", body);
    let basic = seen.authorization.as_deref().is_some_and(|value| value.starts_with("Basic "));
    let session = seen.header("vmware-api-session-id") == Some("b00db39f9e7d");
    match (seen.line.as_str(), seen.query.as_str()) {
        ("POST /api/session", _) if basic => json("\"b00db39f9e7d\"").status(201),
        ("GET /api/vcenter/vm", "power_states=POWERED_ON") if session => json(MACHINES),
        ("GET /api/vcenter/vm/vm-1021/guest/identity", _) if session => json(IDENTITY),
        ("GET /api/vcenter/vm/vm-1022/guest/identity", _) if session => json("{}").status(503),
        ("DELETE /api/session", _) if session => Reply::of("", "").status(204),
        _ => json("{}").status(404),
    }
}

fn virtual_machines(folder: &Path, server: &Server) {
    let stack = server.stack(folder, "basic");
    let found = source(
        &stack,
        folder,
        "vcenter",
        &format!(
            "uses = \"remit/vsphere-nodes@1\"\nwith = {{ url = {:?}, power = [\"POWERED_ON\"] }}\n\
             secrets = {{ login = \"keys/test/server\" }}\n[grant]\nhttp = [{}, {}, {}]\n",
            server.url(),
            server.rule("\"POST\"", "/api/session", ", secret = { name = \"login\", use = \"basic\" }"),
            server.rule("\"DELETE\"", "/api/session", ""),
            server.rule("\"GET\"", "/api/vcenter/vm", "")
        ),
    );
    assert_eq!(found.code, 0, "{found:?}");
    assert!(!nodes(&stack, "tags: vsphere").is_empty());
    if let Some(service) = &server.fixture {
        assert_eq!(names(&stack, "tags: vsphere"), ["app-01", "legacy (no tools)"]);
        assert_eq!(nodes(&stack, "name: app-01")[0]["attributes"]["hostname"], "10.20.4.17");
        assert_eq!(service.seen().last().unwrap().line, "DELETE /api/session");
    }
    server.kept_its_credential(&stack);
}

#[test]
fn virtual_machines_are_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of("REMIT_TEST_VSPHERE", folder.path(), LOGIN, vcenter);
    virtual_machines(folder.path(), &server);
}

#[test]
fn a_live_vcenter_is_asked_where_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let (server, service) = elsewhere(folder.path(), LOGIN, "", vcenter);
    virtual_machines(folder.path(), &server);
    assert_eq!(service.seen().last().unwrap().line, "DELETE /api/session");
}

#[test]
fn a_job_that_looks_after_nodes_gives_them_attributes() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    let loaded: serde_json::Map<_, _> =
        (0..4).map(|number| (format!("n{number}"), json!({ "hostname": "h", "rack": number }))).collect();
    let file = folder.path().join("nodes.json");
    std::fs::write(&file, Value::Object(loaded).to_string()).unwrap();
    stack.json(&["nodes", "load", &file.display().to_string()]).unwrap();
    apply(
        &stack,
        folder.path(),
        "job: check\nnodes: { filter: \"name: n[0-2]\", keep_going: true }\nsteps:\n  - name: ping\n    uses: remit/transform@1\n    per: node\n    \
         with:\n      value: \"${node.name == 'n1' ? {} : {'a': 1}}\"\n      pick: { a: /a }\n  - name: attributes\n    \
         uses: remit/set-output@1\n    per: node\n    with: { values: { kernel: \"6.1-${node.name}\", tags: [seen] } }\n",
    );
    let file = folder.path().join("health.toml");
    std::fs::write(&file, "name = \"health\"\njob = \"check\"\n").unwrap();
    let saved = stack.json(&["nodes", "source", "apply", &file.display().to_string()]).unwrap();
    assert_eq!((&saved["status"], &saved["job"]), (&json!("new"), &json!("check")), "{saved:#}");
    let none = stack.remit(&["nodes", "source", "refresh", "health"]).unwrap();
    assert!(none.code != 0 && none.err.contains("check"), "{none:?}");

    let shown = run(&stack, &["check"]);
    assert_eq!(shown["summary"]["outcome"], "failed", "{shown:#}");
    let fresh = stack.json(&["nodes", "source", "refresh", "health"]).unwrap();
    assert_eq!((&fresh["status"], &fresh["nodes"]), (&json!("fresh"), &json!(3)), "{fresh:#}");
    assert_eq!(names(&stack, "health:status: healthy"), ["n0", "n2"]);
    assert_eq!(names(&stack, "health:status: unhealthy"), ["n1"]);
    assert_eq!(names(&stack, "tags: seen"), ["n0", "n2"]);
    assert_eq!(names(&stack, "name: n.* !health:status: unhealthy"), ["n0", "n2", "n3"]);
    let first = nodes(&stack, "name: n0").remove(0);
    assert_eq!(first["attributes"]["kernel"], "6.1-n0");
    let sick = nodes(&stack, "name: n1").remove(0);
    assert!(sick["attributes"]["health:why"].as_str().unwrap().contains("leads to nothing"), "{sick:#}");
    assert_eq!(nodes(&stack, "name: n3")[0]["attributes"]["health:status"], Value::Null);
}
