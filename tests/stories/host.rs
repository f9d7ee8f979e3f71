//! A host that is locked down: nothing listens, nothing is root, nothing can be written but the state; and the service
//! files say so to systemd.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use harness::{Host, Stack, builder_trust, wait_for};
use serde_json::Value;

use super::{apply, begin, run, site};

const ONE: &str = "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n";
/// The user `nobody` of every Linux.
const NOBODY: u32 = 65534;

/// A program starts with everything read-only but the folder named first, as nobody, without any privilege.
const LOCKED: &str = r#"
set -e
state=$1; program=$2; shift 2
mkdir -p "$state/bin"
mount --bind "$state" "$state"
mount --bind "$(dirname "$program")" "$state/bin"
cut -d ' ' -f 5 /proc/self/mountinfo | while read -r point; do
  case $point in "$state"*|/proc*|/dev*) ;; *) mount -o remount,bind,ro "$point" || true ;; esac
done
cd "$state"
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
  "$state/bin/$(basename "$program")" "$@"
"#;

#[expect(clippy::disallowed_methods, reason = "a story of other programs")]
fn program(name: &str, package: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic_missing(name, package, &error));
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

#[expect(clippy::panic, reason = "a test that cannot go on fails")]
fn panic_missing(name: &str, package: &str, error: &std::io::Error) -> ! {
    panic!("{name}: {error}: apt-get install {package}")
}

fn packaging(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(path).display().to_string()
}

/// The process and all below it.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(child) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let after = stat.rsplit(") ").next().unwrap_or_default();
            if after.split(' ').nth(1).and_then(|text| text.parse().ok()) == Some(parent) {
                found.push(child);
            }
        }
    }
    found
}

/// Sockets of a process that somebody could call: listening TCP, UDP without a peer, listening unix sockets.
fn callable(pid: u32) -> Vec<String> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let own: BTreeSet<String> = fs::read_dir(process.join("fd"))
        .unwrap()
        .filter_map(|entry| {
            let link = fs::read_link(entry.unwrap().path()).unwrap_or_default();
            let inode = link.to_string_lossy().strip_prefix("socket:[")?.trim_end_matches(']').to_owned();
            Some(inode)
        })
        .collect();
    let mut found = Vec::new();
    for (file, inode_at) in [("tcp", 9), ("tcp6", 9), ("udp", 9), ("udp6", 9), ("unix", 6)] {
        let table = fs::read_to_string(process.join("net").join(file)).unwrap_or_default();
        for line in table.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let callable = match file {
                "tcp" | "tcp6" => words[3] == "0A",
                "udp" | "udp6" => words[2].ends_with(":0000"),
                // The flag that `listen` sets.
                _ => u32::from_str_radix(words[3], 16).unwrap() & 0x1_0000 != 0,
            };
            if callable && own.contains(words[inode_at]) {
                found.push(format!("{file} {line}"));
            }
        }
    }
    found
}

fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().split_whitespace().next().unwrap().to_owned()
}

fn give_away(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give_away(&entry.unwrap().path(), user));
    }
}

#[test]
fn a_runner_works_as_nobody_on_a_read_only_host_and_can_be_called_by_nobody() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let trust = builder_trust().unwrap();
    let mut stack = Stack::start(&folder.path().join("site"), &trust).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.publish_built_in().unwrap();
    let ceiling = "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"touch\"\npath = \"/usr/bin/touch\"\nargs = [\"/usr/written\"]\n\n\
                   [[ceiling.exec]]\nprogram = \"id\"\npath = \"/usr/bin/id\"\nargs = [\"-u\"]\n";
    let home = stack.enrolled(&Host::default(), "local", &[], ceiling, &trust).unwrap();
    give_away(&home, NOBODY);
    let place = home.display().to_string();
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", LOCKED, "sh", &place];
    let host = Host { wrapper: words.map(str::to_owned).to_vec(), ..Host::default() };
    let runner = stack.start_enrolled(&host, "local", home).unwrap();
    let pid = runner.pid().unwrap();

    apply(&stack, folder.path(), ONE);
    let shown = run(&stack, &["one"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    let command = |name: &str, argument: &str| {
        format!(
            "job: {name}\nsteps:\n  - name: run\n    uses: remit/run-command@1\n    with: {{ program: {name}, args: [{argument:?}] }}\n    \
             grant: {{ exec: [{{ program: {name} }}] }}\n"
        )
    };
    apply(&stack, folder.path(), &command("id", "-u"));
    let shown = run(&stack, &["id"]);
    assert_eq!(shown["steps"][0]["run"]["output"]["stdout"], "65534\n", "{shown:#}");
    apply(&stack, folder.path(), &command("touch", "/usr/written"));
    let shown = run(&stack, &["touch"]);
    let said = shown["steps"][0]["run"].to_string();
    assert!(shown["summary"]["outcome"] == "failed" && said.contains("Read-only file system"), "{shown:#}");

    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|flag| flag == "ro"), "{root}");
    let family = family(pid);
    assert!(family.len() >= 2, "the runner and its launcher: {family:?}");
    for process in family {
        assert_eq!(status(process, "Uid"), NOBODY.to_string());
        assert_eq!(status(process, "NoNewPrivs"), "1");
        assert_eq!(status(process, "CapEff"), "0000000000000000");
        assert_eq!(callable(process), Vec::<String>::new(), "{process} can be called");
    }
    // The same look at a service that does listen.
    assert_eq!(callable(stack.orchestrator_pid().unwrap()).len(), 1);
}

/// What each unit leaves open, in the words of `systemd-analyze security`, each for a reason that the unit gives.
const OPEN: &[(&str, &[&str])] = &[
    (
        "remit-runner",
        &[
            "SystemCallFilter=~@resources",
            "RootDirectory=/RootImage=",
            "MemoryDenyWriteExecute=",
            "RestrictAddressFamilies=~AF_UNIX",
            "RestrictAddressFamilies=~AF_(INET|INET6)",
            "PrivateNetwork=",
            "DeviceAllow=",
            "IPAddressDeny=",
        ],
    ),
    (
        "remit-orchestrator",
        &[
            "RootDirectory=/RootImage=",
            "RestrictAddressFamilies=~AF_UNIX",
            "RestrictAddressFamilies=~AF_(INET|INET6)",
            "PrivateNetwork=",
            "DeviceAllow=",
            "IPAddressDeny=",
        ],
    ),
];

#[test]
fn systemd_finds_the_units_hardened() {
    for (name, open) in OPEN {
        let unit = packaging(&format!("systemd/{name}.service"));
        let arguments = ["security", "--offline=true", "--no-pager", "--threshold=12", &unit];
        let (code, said) = program("systemd-analyze", "systemd", &arguments);
        assert_eq!(code, 0, "{name}: {said}");
        let score = said.lines().find(|line| line.contains("Overall exposure")).unwrap();
        println!("{score}");
        let left: Vec<_> = said
            .lines()
            .filter_map(|line| line.strip_prefix('✗')?.split_whitespace().next().map(str::to_owned))
            .collect();
        assert_eq!(&left, open, "{name}");
        let (_, said) = program("systemd-analyze", "systemd", &["verify", &unit]);
        // The programs are not installed where the tests run.
        let faults: Vec<_> = said
            .lines()
            .filter(|line| line.contains("remit-") && !line.contains("is not executable"))
            .collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

/// The names in `SystemCallFilter=` of a unit, groups opened up.
fn allowed_calls(unit: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(unit).unwrap();
    let mut allowed = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (remove, names) = line.strip_prefix('~').map_or((false, line), |rest| (true, rest));
        for name in names.split_whitespace().flat_map(calls) {
            if remove {
                allowed.remove(&name)
            } else {
                allowed.insert(name)
            };
        }
    }
    allowed
}

fn calls(name: &str) -> Vec<String> {
    if !name.starts_with('@') {
        return vec![name.to_owned()];
    }
    let (code, said) = program("systemd-analyze", "systemd", &["syscall-filter", name]);
    assert_eq!(code, 0, "{said}");
    let lines = said.lines().map(str::trim).filter(|line| !line.starts_with('#') && *line != name);
    lines.filter(|line| !line.is_empty()).flat_map(calls).collect()
}

#[test]
fn the_units_filter_lets_the_runner_work() {
    let folder = tempfile::tempdir().unwrap();
    let trust = builder_trust().unwrap();
    let mut stack = Stack::start(&folder.path().join("site"), &trust).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.publish_built_in().unwrap();
    let trace = folder.path().join("trace").display().to_string();
    // With -D the runner is the process that was started, and the tracer stands beside it.
    let words = ["strace", "-D", "-f", "-qq", "--signal=none", "-o", &trace];
    let host = Host { wrapper: words.map(str::to_owned).to_vec(), ..Host::default() };
    let ceiling = "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"id\"\npath = \"/usr/bin/id\"\nargs = []\n";
    stack.runner_on(&host, "local", &[], ceiling, &trust).expect("apt-get install strace");
    apply(
        &stack,
        folder.path(),
        "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n  - name: run\n    \
         uses: remit/run-command@1\n    with: { program: id, args: [] }\n    grant: { exec: [{ program: id }] }\n",
    );
    let shown = run(&stack, &["one"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    let trace = PathBuf::from(trace);
    wait_for("the trace", || Ok(fs::metadata(&trace).is_ok_and(|file| file.len() > 0).then_some(())))
        .unwrap();
    let allowed = allowed_calls(&packaging("systemd/remit-runner.service"));
    let text = fs::read_to_string(&trace).unwrap();
    let refused: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.split_once('('))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !allowed.contains(name))
        // Where a worker is let into namespaces of its own it gives up what it is there. The unit lets it into none.
        .filter(|name| name != "capset")
        .collect();
    assert!(refused.is_empty(), "the unit's filter refuses {refused:?}");
    assert!(allowed.contains("openat") && !allowed.contains("mount"), "{allowed:?}");
}

/// What the restricted Pod Security Standard wants of a pod, and what we want beside it.
const POD: &[(&str, &str)] = &[
    ("/automountServiceAccountToken", "false"),
    ("/enableServiceLinks", "false"),
    ("/securityContext/runAsNonRoot", "true"),
    ("/securityContext/runAsUser", "65532"),
    ("/securityContext/seccompProfile/type", "\"RuntimeDefault\""),
    ("/hostNetwork", "null"),
    ("/hostPID", "null"),
    ("/hostIPC", "null"),
];

/// The same of each of its containers.
const CONTAINER: &[(&str, &str)] = &[
    ("/securityContext/allowPrivilegeEscalation", "false"),
    ("/securityContext/readOnlyRootFilesystem", "true"),
    ("/securityContext/capabilities/drop", "[\"ALL\"]"),
    ("/securityContext/capabilities/add", "null"),
    ("/securityContext/privileged", "null"),
    ("/ports", "null"),
];

/// Kinds of volume that the standard allows and that are used here: nothing of the node's.
const VOLUMES: &[&str] = &["configMap", "secret", "persistentVolumeClaim"];

fn holds(place: &Value, wanted: &[(&str, &str)], what: &str) {
    for (pointer, value) in wanted {
        let found = place.pointer(pointer).unwrap_or(&Value::Null);
        assert_eq!(found.to_string(), *value, "{what}{pointer}");
    }
}

#[test]
fn the_manifests_are_within_the_restricted_pod_security_standard() {
    let text = fs::read_to_string(packaging("kubernetes/runner.yaml")).unwrap();
    let objects: Vec<Value> =
        text.split("\n---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect();
    let of = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    for object in objects.iter().filter(|object| object["kind"] != "Namespace") {
        assert_eq!(object["metadata"]["namespace"], "remit-runner", "{object}");
    }
    assert_eq!(of("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    assert_eq!(of("ServiceAccount")["automountServiceAccountToken"], false);
    assert_eq!(of("NetworkPolicy")["spec"]["ingress"], serde_json::json!([]));
    let deployment = of("Deployment");
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
    let pod = &deployment["spec"]["template"]["spec"];
    holds(pod, POD, "pod");
    let volumes = pod["volumes"].as_array().unwrap();
    for volume in volumes {
        let kind = volume.as_object().unwrap().keys().find(|key| *key != "name").unwrap();
        assert!(VOLUMES.contains(&kind.as_str()), "{volume}");
    }
    for container in ["initContainers", "containers"].iter().flat_map(|list| pod[*list].as_array().unwrap()) {
        holds(container, CONTAINER, container["name"].as_str().unwrap());
        for mount in container["volumeMounts"].as_array().unwrap() {
            assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount}");
        }
        // The program takes the arguments: `--help` after them reads all of them first.
        let words = container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
        let runner = harness::programs().join("remit-runner").display().to_string();
        let words: Vec<_> = words.chain(["--help"]).collect();
        let (code, said) = program(&runner, "nothing: run `cargo xtask build`", &words);
        assert!(code == 0 && said.contains("Usage: remit-runner"), "{words:?}: {said}");
    }
    // The owner's file in it is one that the runner reads.
    let folder = tempfile::tempdir().unwrap();
    for file in ["runner.toml", "trust.toml"] {
        let text = of("ConfigMap")["data"][file].as_str().unwrap().replace("ORCHESTRATOR", "remit.example");
        fs::write(folder.path().join(file), text).unwrap();
    }
    let runner = harness::programs().join("remit-runner").display().to_string();
    let config = folder.path().join("runner.toml").display().to_string();
    let (_, said) = program(&runner, "nothing: run `cargo xtask build`", &["check", "--config", &config]);
    let faults: Vec<_> =
        said.lines().filter(|line| line.contains("unknown") || line.contains("missing")).collect();
    assert!(faults.is_empty(), "{said}");
}

#[test]
fn whoever_owns_a_host_can_attack_the_runner_on_it() {
    let runner = harness::programs().join("remit-runner").display().to_string();
    let guests = harness::programs().join("../guests").display().to_string();
    let conform = |suite: &str| {
        program(
            &runner,
            "nothing: run `cargo xtask build`",
            &["conformance", "--suite", suite, "--threat", "12", "--output", "json"],
        )
    };
    let (code, said) = conform(&guests);
    assert_eq!(code, 0, "{said}");
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&report["failed"], report["rows"][0]["passed"].as_bool()),
        (&Value::from(0), Some(true)),
        "{report:#}"
    );
    let (code, said) = conform("/nowhere");
    assert!(code == 1 && said.contains("cargo xtask guests"), "{said}");
}

/// How many connections the orchestrator has taken so far, the one that asks among them.
fn connections(stack: &Stack) -> u32 {
    let (status, text) = stack.get("/metrics").unwrap();
    assert_eq!(status, 200, "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("remit_connections_total "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_runner_keeps_its_connections() {
    let folder = tempfile::tempdir().unwrap();
    let stack = site(folder.path(), "[ceiling]\n");
    apply(&stack, folder.path(), ONE);
    run(&stack, &["one"]);
    let before = connections(&stack);
    let begun: Vec<_> = (0..30).map(|_| begin(&stack, &["one"])).collect();
    // Each call of `remit` opens one, and the second look at the counter.
    let mut by_others = u32::try_from(begun.len()).unwrap() + 1;
    for id in begun {
        wait_for("its end", || {
            by_others += 1;
            let shown = stack.json(&["execution", "show", &id])?;
            Ok((shown["summary"]["state"] == "ended").then_some(()))
        })
        .unwrap();
    }
    let by_runner = connections(&stack) - before - by_others;
    // At most as many as it has calls at once: one that is parked, those that report, and those beside them.
    assert!(by_runner <= 6, "{by_runner} new connections for 30 executions");
}
