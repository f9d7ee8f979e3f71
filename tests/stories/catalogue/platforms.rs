//! Steps that speak to a platform: Docker and Ansible for real, Kubernetes and WinRM in the form of their documents.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use harness::{Docker, IMAGE, Reply, wait_for};
use serde_json::{Value, json};

use super::{
    fails,
    live::{Server, elsewhere},
    succeeds,
};
use crate::{apply, begin, site};

#[test]
fn containers_are_run_and_entered() {
    let folder = tempfile::tempdir().unwrap();
    let Some(docker) = Docker::start(&folder.path().join("docker")).unwrap() else { return };
    docker
        .client(&["run", "--detach", "--network", "none", "--name", "web-1", IMAGE, "/bin/sleep", "1000"])
        .unwrap();
    // Nothing is said of arguments here: what the two components cannot say, nobody says through them.
    let both = docker.endpoint(
        &["remit/docker-run", "remit/docker-exec"],
        &["GET", "POST", "DELETE"],
        &["/version", "/v1.41", "/v1.44"],
    );
    let stack = site(folder.path(), &format!("[ceiling]\n\n{both}"));
    let job = format!(
        "job: contained\noptions:\n  v: {{ type: string, default: x }}\nsteps:\n  - name: ran\n    uses: remit/docker-run@2\n    with:\n      \
         image: {IMAGE}\n      command: [/bin/sh, -c, 'printf %s \"$VALUE\"; echo gone >&2']\n      env: {{ VALUE: \"${{options.v}}\" }}\n      \
         options: [\"--network=none\", \"--read-only\"]\n  - name: entered\n    \
         uses: remit/docker-exec@2\n    with: {{ container: web-1, command: [/bin/echo, \"${{options.v}}\"] }}\n"
    );
    let odd = "it's \"$HOME\"\n-x";
    let shown = succeeds(&stack, folder.path(), &job, &["--option", &format!("v={odd}")]);
    let output = |step: usize| shown["steps"][step]["run"]["output"].clone();
    assert_eq!((output(0)["stdout"].as_str(), output(0)["stderr"].as_str()), (Some(odd), Some("gone\n")));
    assert_eq!(output(1)["stdout"], format!("{odd}\n"));
    let left = || docker.client(&["ps", "--all", "--quiet"]).unwrap().lines().count();
    assert_eq!(left(), 1, "a container was left");
    let step = |name: &str, with: &str| {
        format!(
            "job: {name}\nsteps:\n  - name: ran\n    uses: remit/docker-run@2\n    with: {{ image: {IMAGE}, {with} }}\n"
        )
    };
    let ended = "command: [/bin/sh, -c, \"echo last; exit 3\"], options: [\"--network=none\"]";
    fails(&stack, folder.path(), &step("ended", ended), "ended with exit code 3");
    fails(
        &stack,
        folder.path(),
        &step("absent", "command: [/bin/nowhere], options: [\"--network=none\"]"),
        "ended with exit code 127",
    );
    fails(
        &stack,
        folder.path(),
        &step("wider", "options: [\"--privileged\"]"),
        "no words for what would give",
    );
    let unknown = step("unknown", "command: [x]").replace(IMAGE, "nowhere.invalid/image:1");
    fails(&stack, folder.path(), &unknown, "nowhere.invalid/image:1: the daemon refuses:");
    // One that is silent for longer than a request waits is read on, from where it was left.
    let slow = "command: [/bin/sh, -c, \"echo a; sleep 4; echo b; echo c; sleep 4; echo d\"], options: [\"--network=none\"]";
    let shown = succeeds(&stack, folder.path(), &step("slow", slow), &[]);
    assert_eq!(shown["steps"][0]["run"]["output"]["stdout"], "a\nb\nc\nd\n");
    // A cancelled run takes its container with it.
    apply(
        &stack,
        folder.path(),
        &step("endless", "command: [/bin/sleep, \"1000\"], options: [\"--network=none\"]"),
    );
    let id = begin(&stack, &["endless"]);
    wait_for("a second container", || Ok((left() == 2).then_some(()))).unwrap();
    stack.json(&["execution", "cancel", &id]).unwrap();
    crate::ended(&stack, &id);
    assert_eq!(left(), 1, "a cancelled run left its container");
}

#[test]
fn a_daemon_is_called_by_whom_its_owner_named_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let Some(docker) = Docker::start(&folder.path().join("docker")).unwrap() else { return };
    docker
        .client(&["run", "--detach", "--network", "none", "--name", "web-1", IMAGE, "/bin/sleep", "1000"])
        .unwrap();
    let paths = ["/version", "/v1.41/containers/*/exec", "/v1.41/exec/*"];
    let rule = docker.endpoint(&["remit/docker-exec"], &["GET", "POST"], &paths);
    let stack = site(folder.path(), &format!("[ceiling]\n\n{rule}"));
    // Of the versions that the component asks for, the job grants the one that the daemon speaks.
    let grant = "    grant:\n      http:\n        - { endpoint: docker, methods: [GET], paths: [/version, /v1.41/exec/*/json] }\n        \
                 - { endpoint: docker, methods: [POST], paths: [/v1.41/containers/*/exec, /v1.41/exec/*/start] }\n";
    let job = format!(
        "job: entered\nsteps:\n  - name: entered\n    uses: remit/docker-exec@2\n    with: {{ container: web-1, command: [/bin/echo, in] }}\n{grant}"
    );
    let shown = succeeds(&stack, folder.path(), &job, &[]);
    assert_eq!(shown["steps"][0]["run"]["output"]["stdout"], "in\n");
    // What is granted and not permitted is refused as a whole, before anything is run.
    let wider = job.replace(grant, "").replace("job: entered", "job: wider");
    fails(&stack, folder.path(), &wider, "endpoint = \"docker\"");
    let other = format!(
        "job: other\nsteps:\n  - name: ran\n    uses: remit/docker-run@2\n    with: {{ image: {IMAGE} }}\n"
    );
    fails(&stack, folder.path(), &other, "components = [\"remit/docker-run\"]");
    // Whoever calls what a job names does not call this host.
    let file = folder.path().join("trick.yaml");
    let trick = |place: &str| {
        format!(
            "job: trick\nsteps:\n  - name: one\n    uses: remit/http-request@1\n    with: {{ url: \"http://docker.endpoint.alt/version\" }}\n    \
             grant: {{ http: [{{ {place}, methods: [GET], paths: [/] }}] }}\n"
        )
    };
    for (place, says) in [
        ("endpoint: docker", "not among what remit/http-request requests"),
        ("scheme: http, host: docker.endpoint.alt", "no host of the network"),
        ("scheme: http, host: \"*.endpoint.alt\"", "no host of the network"),
    ] {
        std::fs::write(&file, trick(place)).unwrap();
        let refused = stack.remit(&["job", "apply", &file.display().to_string()]).unwrap();
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(refused.err.contains(says), "{refused:?}");
    }
}

#[test]
fn a_playbook_runs_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("written");
    std::fs::write(
        folder.path().join("site.yml"),
        "- hosts: all\n  connection: local\n  gather_facts: false\n  tasks:\n    - copy: { dest: \"{{ target }}\", content: \"{{ text }}\" }\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("hosts"), "here ansible_python_interpreter=/usr/bin/python3\n")
        .unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"ansible-playbook\"\npath = \"/usr/bin/ansible-playbook\"\n\
         args = [\"-i\", \"hosts\", \"--extra-vars\", \"{{data}}\", \"site.yml\"]\ncwd = {0:?}\n\
         env = {{ PATH = \"/usr/bin:/bin\", HOME = {0:?}, LC_ALL = \"C.UTF-8\" }}\n",
        folder.path()
    );
    let stack = site(folder.path(), &ceiling);
    let job = |name: &str, target: &str| {
        format!(
            "job: {name}\noptions:\n  v: {{ type: string, default: x }}\nsteps:\n  - name: play\n    uses: remit/ansible-playbook@1\n    with:\n      \
             playbook: site.yml\n      inventory: [hosts]\n      extra_vars: {{ target: {target:?}, text: \"${{options.v}}\" }}\n    \
             grant: {{ exec: [{{ program: ansible-playbook }}] }}\n"
        )
    };
    let odd = "it's \"$HOME\" a=b";
    let source = job("play", &target.display().to_string());
    let shown = succeeds(&stack, folder.path(), &source, &["--option", &format!("v={odd}")]);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), odd);
    let output = &shown["steps"][0]["run"]["output"];
    assert_eq!(
        (&output["changed"], &output["hosts"]["here"]["changed"]),
        (&json!(true), &json!(1)),
        "{shown:#}"
    );
    fails(
        &stack,
        folder.path(),
        &job("broken", "/proc/nowhere/file"),
        "site.yml: ended with exit code 2: a host failed",
    );
}

/// A cluster that has one Deployment and takes one Job; answers have the form of Kubernetes 1.33.
fn cluster(seen: &harness::Seen, asked: &AtomicU32, begun: &Mutex<bool>) -> Reply {
    let json = |value: Value| Reply::of("application/json", value.to_string());
    let missing = || {
        json(json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404}))
            .status(404)
    };
    if seen.authorization.as_deref() != Some("Bearer the-token-of-the-deployer") {
        let status = json!({"kind": "Status", "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401});
        return json(status).status(401);
    }
    let deployments = "/apis/apps/v1/namespaces/shop/deployments/web";
    let jobs = "/apis/batch/v1/namespaces/shop/jobs";
    let (method, path) = seen.line.split_once(' ').unwrap();
    match (method, path) {
        ("GET", "/apis/apps/v1") => {
            json(json!({"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment", "verbs": ["get", "patch"]},
            {"name": "deployments/scale", "singularName": "", "namespaced": true, "kind": "Scale", "verbs": ["get", "patch"]}]}))
        }
        ("PATCH", path) if path == deployments => {
            assert_eq!(seen.header("content-type"), Some("application/apply-patch+yaml"));
            json(serde_json::from_str(&seen.body).unwrap()).status(201)
        }
        ("GET", path) if path == deployments => {
            let ready = asked.fetch_add(1, Ordering::SeqCst).min(1) * 3;
            json(
                json!({"kind": "Deployment", "metadata": {"generation": 1}, "spec": {"replicas": 3}, "status": {
                "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": ready}}),
            )
        }
        ("GET", path) if path == format!("{deployments}/scale") => json(
            json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": 3}, "status": {"replicas": 3}}),
        ),
        ("PATCH", path) if path == format!("{deployments}/scale") => {
            assert_eq!(seen.header("content-type"), Some("application/merge-patch+json"));
            json(json!({"kind": "Scale", "spec": {"replicas": 5}, "status": {"replicas": 3}}))
        }
        ("POST", path) if path == jobs => {
            *begun.lock().unwrap() = true;
            json(json!({"kind": "Job"})).status(201)
        }
        ("GET", path) if path == format!("{jobs}/migrate") && *begun.lock().unwrap() => {
            json(json!({"kind": "Job", "status": {
            "succeeded": 1, "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]}}))
        }
        ("DELETE", path) if path == format!("{jobs}/migrate") => json(json!({"kind": "Job"})),
        ("GET", "/api/v1/namespaces/shop/pods") => json(json!({"kind": "PodList", "metadata": {}, "items": [
            {"metadata": {"name": "migrate-x2f9k", "creationTimestamp": "2026-11-21T08:00:00Z"}, "status": {"phase": "Succeeded"}}]})),
        ("GET", "/api/v1/namespaces/shop/pods/migrate-x2f9k/log") => {
            Reply::of("text/plain", "migrated 12 tables\n")
        }
        _ => missing(),
    }
}

const DEPLOYER: &str = "the-token-of-the-deployer";

fn fixture_cluster() -> impl Fn(&harness::Seen) -> Reply + Send + Sync + 'static {
    let (asked, begun) = (AtomicU32::new(0), Mutex::new(false));
    move |seen| cluster(seen, &asked, &begun)
}

/// In a live cluster the namespace is one that may be thrown away; the job stays there, so that its log can be shown.
fn changed_and_waited_for(folder: &Path, server: &Server) {
    let stack = server.stack(folder, "bearer");
    let (namespace, image) = (server.value("namespace", "shop"), server.value("image", "busybox:1.36"));
    let (url, host, port, keep) = (server.url(), &server.host, server.port, server.fixture.is_none());
    let with = |methods: &str| {
        format!(
            "    secrets: {{ token: keys/test/server }}\n    grant:\n      \
             http: [{{ host: {host}, port: {port}, methods: [{methods}], paths: [/], private: true }}]\n"
        )
    };
    let at = format!("url: {url:?}, namespace: {namespace}");
    let pod = format!("containers: [{{ name: main, image: {image:?}, command: [sleep, \"3600\"] }}]");
    let job = format!(
        "job: cluster\nsteps:\n  - name: applied\n    uses: remit/kubernetes-apply@1\n    with:\n      url: {url}\n      namespace: {namespace}\n      \
         wait: 2m\n      objects: [{{ apiVersion: apps/v1, kind: Deployment, metadata: {{ name: web }}, spec: {{ replicas: 3, \
         selector: {{ matchLabels: {{ app: web }} }}, template: {{ metadata: {{ labels: {{ app: web }} }}, spec: {{ {pod} }} }} }} }}]\n{}\
         \x20 - name: scaled\n    uses: remit/kubernetes-scale@1\n    with: {{ {at}, name: web, replicas: 5 }}\n{}\
         \x20 - name: ran\n    uses: remit/kubernetes-job@1\n    with: {{ {at}, name: migrate, keep: {keep}, spec: {{ template: {{ spec: {{ restartPolicy: Never, \
         containers: [{{ name: main, image: {image:?}, command: [echo, migrated 12 tables] }}] }} }} }} }}\n{}\
         \x20 - name: shown\n    uses: remit/kubernetes-logs@1\n    with: {{ {at}, labels: job-name=migrate }}\n{}",
        with("GET, PATCH"),
        with("GET, PATCH"),
        with("GET, POST, DELETE"),
        with("GET")
    );
    let shown = succeeds(&stack, folder, &job, &[]);
    let output = |step: usize| shown["steps"][step]["run"]["output"].clone();
    assert!(output(0)["objects"][0]["created"].is_boolean(), "{shown:#}");
    assert_eq!(output(1)["after"], 5);
    assert_eq!(output(2)["end"], "migrated 12 tables\n");
    assert_eq!(output(3)["pods"][0]["end"], "migrated 12 tables\n");
    if server.fixture.is_some() {
        assert_eq!(output(0)["objects"][0]["created"], true);
        assert_eq!(output(1), json!({ "before": 3, "after": 5 }));
    }
    server.kept_its_credential(&stack);
}

#[test]
fn a_cluster_is_changed_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of("REMIT_TEST_KUBERNETES", folder.path(), DEPLOYER, fixture_cluster());
    changed_and_waited_for(folder.path(), &server);
}

#[test]
fn a_live_cluster_is_changed_where_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let values = "namespace = \"shop\"\nimage = \"corp.example/busybox:1\"\n";
    let (server, service) = elsewhere(folder.path(), DEPLOYER, values, fixture_cluster());
    changed_and_waited_for(folder.path(), &server);
    let seen = service.seen();
    assert!(seen.iter().any(|seen| seen.body.contains("corp.example/busybox:1")));
    assert!(!seen.iter().any(|seen| seen.line.starts_with("DELETE ")), "the job of a live cluster stays");
}

/// A Windows machine whose answers have the form of MS-WSMV. What runs there writes the variable `NAME`.
#[derive(Default)]
struct Windows {
    received: AtomicU32,
    name: Mutex<String>,
}

impl Windows {
    fn answer(&self, seen: &harness::Seen) -> Reply {
        let envelope = |body: &str| {
            Reply::of(
                "application/soap+xml;charset=UTF-8",
                format!(
                    "<s:Envelope xml:lang=\"en-US\" xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
                     xmlns:rsp=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell\"><s:Header/><s:Body>{body}</s:Body></s:Envelope>"
                ),
            )
        };
        if !seen.authorization.as_deref().is_some_and(|value| value.starts_with("Basic ")) {
            return Reply::of("text/plain", "").status(401);
        }
        let action = between(&seen.body, "<a:Action", "</a:Action>").rsplit('/').next().unwrap_or_default();
        match action {
            "Create" => {
                let name = between(&seen.body, "<rsp:Variable Name=\"NAME\">", "</rsp:Variable>");
                let name = name.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
                *self.name.lock().unwrap() = name.replace("&amp;", "&");
                envelope("<rsp:Shell><rsp:ShellId>2F6D-77</rsp:ShellId></rsp:Shell>")
            }
            "Command" => envelope("<rsp:CommandResponse><rsp:CommandId>C0FF-EE</rsp:CommandId></rsp:CommandResponse>"),
            "Receive" if self.received.fetch_add(1, Ordering::SeqCst) == 0 => envelope(
                "<s:Fault><s:Reason><s:Text>timed out</s:Text></s:Reason><s:Detail><f:WSManFault xmlns:f=\"f\" Code=\"2150858793\"/></s:Detail></s:Fault>",
            )
            .status(500),
            "Receive" => envelope(&format!(
                "<rsp:ReceiveResponse><rsp:Stream Name=\"stdout\" CommandId=\"C0FF-EE\">{}</rsp:Stream>\
                 <rsp:CommandState CommandId=\"C0FF-EE\" State=\"http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Done\">\
                 <rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>",
                BASE64_STANDARD.encode(format!("{}\r\n", self.name.lock().unwrap()))
            )),
            _ => envelope(""),
        }
    }
}

fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    text.split(from).nth(1).and_then(|rest| rest.split(to).next()).unwrap_or_default()
}

const ADMIN: &str = "admin:a-password-of-windows";

fn fixture_windows() -> impl Fn(&harness::Seen) -> Reply + Send + Sync + 'static {
    let windows = Windows::default();
    move |seen| windows.answer(seen)
}

fn runs_powershell(folder: &Path, server: &Server) {
    let stack = server.stack(folder, "basic");
    let (host, port) = (&server.host, server.port);
    let job = format!(
        "job: windows\nsteps:\n  - name: one\n    uses: remit/winrm-command@1\n    \
         with: {{ host: {host}, port: {port}, script: \"Write-Output $env:NAME\", env: {{ NAME: \"a<b>&\\\"c\" }} }}\n    \
         secrets: {{ login: keys/test/server }}\n    \
         grant: {{ http: [{{ host: {host}, port: {port}, methods: [POST], paths: [/wsman], private: true }}] }}\n"
    );
    let shown = succeeds(&stack, folder, &job, &[]);
    assert_eq!(shown["steps"][0]["run"]["output"]["stdout"], "a<b>&\"c\r\n");
    if let Some(service) = &server.fixture {
        let bodies: Vec<_> = service.seen().into_iter().map(|seen| seen.body).collect();
        let escaped = "<rsp:Variable Name=\"NAME\">a&lt;b&gt;&amp;&quot;c</rsp:Variable>";
        assert!(bodies[0].contains(escaped), "{}", bodies[0]);
        assert!(bodies.last().unwrap().contains("transfer/Delete"));
    }
    server.kept_its_credential(&stack);
}

#[test]
fn a_windows_machine_runs_powershell() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of("REMIT_TEST_WINRM", folder.path(), ADMIN, fixture_windows());
    runs_powershell(folder.path(), &server);
}

#[test]
fn a_live_windows_machine_runs_it_where_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let (server, service) = elsewhere(folder.path(), ADMIN, "", fixture_windows());
    runs_powershell(folder.path(), &server);
    assert!(service.seen().last().unwrap().body.contains("transfer/Delete"));
}
