//! Locked-down networks: real proxies, one of which opens TLS, and middleboxes that are slow or cut. Work gets done all the
//! same, and `doctor` names each obstacle.

use std::{path::Path, time::Duration};

use harness::{
    Authority, Faults, Host, Middlebox, Plan, Service, Squid, Stack, builder_trust, components, trust_lines,
    wait_for,
};
use serde_json::Value;

use super::{apply, begin, ended, run};

const ONE: &str = "job: one\nsteps:\n  - { name: one, uses: remit/transform@1, with: { value: 1 } }\n";

/// An orchestrator with the built-in components, and no runner.
fn bare(folder: &Path) -> Stack {
    let stack = Stack::start(&folder.join("site"), &builder_trust().unwrap()).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.publish_built_in().unwrap();
    stack
}

fn port(url: &str) -> u16 {
    url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap()
}

fn by_proxy(url: &str) -> Host {
    Host { way: format!("proxy = {url:?}"), ..Host::default() }
}

/// What `doctor` finds, as JSON; with changed files if the caller changed them.
fn doctor(stack: &Stack, host: &Host, folder: &Path, more: &[&str]) -> (i32, Vec<Value>) {
    let arguments = [&["doctor", "--config", "runner.toml", "--output", "json"], more].concat();
    let ended = stack.runner_program_on(host, folder, &arguments, "").unwrap();
    (ended.code, ended.json().unwrap().as_array().unwrap().clone())
}

/// The one finding about `what`.
fn finding<'f>(findings: &'f [Value], what: &str) -> &'f Value {
    let found = findings.iter().find(|finding| finding["what"] == what);
    assert!(found.is_some(), "nothing about {what}: {findings:#?}");
    found.unwrap()
}

#[test]
fn the_orchestrator_is_reached_through_a_proxy_with_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let squid = Squid::start(&Plan { credentials: true, ..Plan::default() }).unwrap();
    let mut stack = bare(folder.path());
    let host = by_proxy(&squid.url_with_credentials());
    stack.runner_on(&host, "local", &[], "[ceiling]\n", &builder_trust().unwrap()).unwrap();
    apply(&stack, folder.path(), ONE);
    assert_eq!(run(&stack, &["one"])["summary"]["outcome"], "succeeded");
    // The proxy writes a line when a tunnel ends: with the runner, the parked poll's does.
    stack.runner_named("local").unwrap().kill().unwrap();
    let tunnel = format!("CONNECT {} edge", stack.url().trim_start_matches("https://"));
    wait_for("the proxy's record of the tunnels", || Ok(squid.access_log().contains(&tunnel).then_some(())))
        .unwrap();
}

#[test]
fn a_step_calls_through_the_proxy_where_the_owner_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    let ca = folder.path().join("ca.pem");
    authority.write(&ca).unwrap();
    // This name has no address but in the proxy's own table.
    let service = Service::start(&authority, "api.inside.example").unwrap();
    let squid =
        Squid::start(&Plan { credentials: true, names: &["api.inside.example"], ..Plan::default() }).unwrap();
    let mut stack = bare(folder.path());
    let rule = |via: &str| {
        format!(
            "[ceiling]\n\n[[ceiling.http]]\nhost = \"api.inside.example\"\nport = {}\nmethods = [\"GET\"]\npaths = [\"/v1\"]\n\
             ca_file = {ca:?}\n{via}",
            service.port()
        )
    };
    let host = by_proxy(&squid.url_with_credentials());
    let trust = builder_trust().unwrap();
    stack.runner_on(&host, "proxied", &["proxied"], &rule("via = \"proxy\"\n"), &trust).unwrap();
    stack.runner_on(&host, "direct", &["direct"], &rule(""), &trust).unwrap();
    let job = |tag: &str| {
        format!(
            "job: {tag}\nrunner: {{ tags: [{tag}] }}\nsteps:\n  - name: call\n    uses: remit/http-request@1\n    \
             with: {{ url: \"https://api.inside.example:{0}/v1/x\" }}\n    grant:\n      \
             http: [{{ host: api.inside.example, port: {0}, methods: [GET], paths: [/v1] }}]\n",
            service.port()
        )
    };
    apply(&stack, folder.path(), &job("direct"));
    let shown = run(&stack, &["direct"]);
    assert_eq!(
        (shown["summary"]["outcome"].as_str(), service.connections()),
        (Some("failed"), 0),
        "{shown:#}"
    );
    apply(&stack, folder.path(), &job("proxied"));
    let shown = run(&stack, &["proxied"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(service.seen()[0].line, "GET /v1/x");
    let tunnel = format!("CONNECT api.inside.example:{} edge", service.port());
    wait_for("the proxy's record of the call", || Ok(squid.access_log().contains(&tunnel).then_some(())))
        .unwrap();
}

#[test]
fn inspected_tls_is_no_obstacle_since_requests_and_answers_are_signed() {
    let folder = tempfile::tempdir().unwrap();
    let inspector = Authority::new().unwrap();
    let inspector_ca = folder.path().join("inspector.pem");
    inspector.write(&inspector_ca).unwrap();
    let mut stack = bare(folder.path());
    let orchestrator_ca = stack.ca().to_owned();
    let inspect = Some((&inspector, orchestrator_ca.as_path()));
    // Squid writes certificates for names only: an address would stand in them as a name.
    let names = &["localhost"];
    let squid = Squid::start(&Plan { inspect, names, ..Plan::default() }).unwrap();
    let trust = builder_trust().unwrap();
    let host = Host {
        url: Some(stack.url().replace("127.0.0.1", "localhost")),
        way: format!("proxy = {:?}\nca_file = {inspector_ca:?}", squid.url()),
        ..Host::default()
    };
    stack.runner_on(&host, "local", &[], "[ceiling]\n", &trust).unwrap();
    apply(&stack, folder.path(), ONE);
    let shown = run(&stack, &["one"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    // The proxy reads every call in the clear: here is what it wrote down.
    wait_for("the proxy's record", || {
        Ok(squid.access_log().contains("POST https://localhost").then_some(()))
    })
    .unwrap();
    let runner = stack.runner_named("local").unwrap().folder.clone();
    let (code, findings) = doctor(&stack, &host, &runner, &["--quick"]);
    assert_eq!(
        (code, &finding(&findings, "signed request")["severity"]),
        (0, &"good".into()),
        "{findings:#?}"
    );

    // Without its authority's certificate, the ticket's pin alone decides, and it is not the orchestrator that answers.
    let config = std::fs::read_to_string(runner.join("runner.toml")).unwrap();
    let without: Vec<_> = config.lines().filter(|line| !line.starts_with("ca_file")).collect();
    std::fs::write(runner.join("runner.toml"), without.join("\n")).unwrap();
    let (code, findings) = doctor(&stack, &host, &runner, &["--quick"]);
    let found = finding(&findings, "connection");
    assert_eq!((code, &found["severity"]), (1, &"bad".into()), "{findings:#?}");
    assert!(found["remedy"].as_str().unwrap().contains("ca_file"), "{found:#}");

    // A proxy that takes the signatures off answers is believed in nothing.
    let strips = &["Signature"];
    let stripping = Squid::start(&Plan { inspect, names, strips, ..Plan::default() }).unwrap();
    std::fs::write(runner.join("runner.toml"), config.replace(&squid.url(), &stripping.url())).unwrap();
    let (code, findings) = doctor(&stack, &host, &runner, &["--quick"]);
    let found = finding(&findings, "signed request");
    assert_eq!((code, &found["severity"]), (1, &"bad".into()), "{findings:#?}");
    assert!(found["remedy"].as_str().unwrap().contains("rewrites"), "{found:#}");
}

#[test]
fn a_steps_calls_are_inspected_only_where_a_rule_names_the_inspector() {
    let folder = tempfile::tempdir().unwrap();
    let write = |authority: &Authority, name: &str| {
        let path = folder.path().join(name);
        authority.write(&path).unwrap();
        path
    };
    let (inspector, origin) = (Authority::new().unwrap(), Authority::new().unwrap());
    let (inspector_ca, origin_ca) = (write(&inspector, "inspector.pem"), write(&origin, "origin.pem"));
    let service = Service::start(&origin, "api.inside.example").unwrap();
    let mut stack = bare(folder.path());
    let believed = folder.path().join("believed.pem");
    let all: Vec<_> = [stack.ca(), &origin_ca].map(|file| std::fs::read_to_string(file).unwrap()).into();
    std::fs::write(&believed, all.concat()).unwrap();
    let squid = Squid::start(&Plan {
        inspect: Some((&inspector, believed.as_path())),
        names: &["localhost", "api.inside.example"],
        ..Plan::default()
    })
    .unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("token"), "a-very-secret-token").unwrap();
    let host = Host {
        url: Some(stack.url().replace("127.0.0.1", "localhost")),
        way: format!("proxy = {:?}\nca_file = {inspector_ca:?}", squid.url()),
        ..Host::default()
    };
    let trust = builder_trust().unwrap();
    for (tag, certificates, outcome) in
        [("origin", &origin_ca, "failed"), ("inspector", &inspector_ca, "succeeded")]
    {
        let ceiling = format!(
            "[[tls]]\nname = \"believed\"\nca_file = {certificates:?}\n\n\
             [ceiling]\n\n[[ceiling.http]]\nhost = \"api.inside.example\"\nport = {0}\nmethods = [\"GET\"]\npaths = [\"/v1\"]\n\
             via = \"proxy\"\ntls = \"believed\"\n\n[[ceiling.secrets]]\npath = \"keys/prod/token\"\nuse = \"bearer\"\n\
             hosts = [\"api.inside.example:{0}\"]\n\n[[provider]]\nmount = \"keys/prod\"\nkind = \"directory\"\npath = {secrets:?}\n",
            service.port()
        );
        stack.runner_on(&host, tag, &[tag], &ceiling, &trust).unwrap();
        let job = format!(
            "job: {tag}\nrunner: {{ tags: [{tag}] }}\nsteps:\n  - name: call\n    uses: remit/http-request@1\n    \
             with: {{ url: \"https://api.inside.example:{0}/v1/x\" }}\n    secrets: {{ token: keys/prod/token }}\n    grant:\n      \
             http: [{{ host: api.inside.example, port: {0}, methods: [GET], paths: [/v1], secret: {{ name: token, use: bearer }} }}]\n",
            service.port()
        );
        apply(&stack, folder.path(), &job);
        let shown = run(&stack, &[tag]);
        assert_eq!(shown["summary"]["outcome"], outcome, "{shown:#}");
        if outcome == "failed" {
            // Nothing was said before the name was proved, the credential least of all; the owner reads what to write.
            assert!(service.seen().is_empty() && shown.to_string().contains("[[tls]]"), "{shown:#}");
        }
    }
    assert_eq!(service.seen()[0].authorization.as_deref(), Some("Bearer a-very-secret-token"));
}

#[test]
fn doctor_names_each_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let stack = bare(folder.path());
    let own = port(stack.url());
    let strict = Squid::start(&Plan { credentials: true, closed: Some(own), ..Plan::default() }).unwrap();
    let asking = Squid::start(&Plan { credentials: true, ..Plan::default() }).unwrap();
    let authority = Authority::new().unwrap();
    let other = Service::start(&authority, "127.0.0.1").unwrap();
    let host = Host::default();
    let runner = stack.enrolled(&host, "local", &[], "[ceiling]\n", &builder_trust().unwrap()).unwrap();
    let check = |url: &str, way: &str, what: &str, found_part: &str, remedy_part: &str| {
        let config = format!(
            "[orchestrator]\nurl = {url:?}\n{way}\n\n[runner]\nstate = \"state\"\nslots = 16\ntrust = \"trust.toml\"\n\n[ceiling]\n"
        );
        std::fs::write(runner.join("runner.toml"), config).unwrap();
        let (code, findings) = doctor(&stack, &host, &runner, &["--quick"]);
        let found = finding(&findings, what);
        let good = remedy_part.is_empty();
        assert_eq!(
            (code, found["severity"] == "good"),
            (i32::from(!good), good),
            "{url} {way}: {findings:#?}"
        );
        assert!(found["found"].as_str().unwrap().contains(found_part), "{url} {way}: {found:#}");
        assert!(found["remedy"].as_str().unwrap_or_default().contains(remedy_part), "{url} {way}: {found:#}");
    };
    let url = stack.url();
    let proxy = |url: &str| format!("proxy = {url:?}");
    check(url, "", "signed request", "believed", "");
    check(url, &proxy(&asking.url_with_credentials()), "signed request", "believed", "");
    check(url, &proxy(&asking.url()), "connection", "holds none", "user:password@");
    let wrong = asking.url().replace("//", "//edge:wrong@");
    check(url, &proxy(&wrong), "connection", "refuses the ones", "user:password@");
    check(url, &proxy(&strict.url_with_credentials()), "connection", "answers 403", "allow CONNECT");
    check(url, "proxy = \"http://127.0.0.1:1\"", "connection", "no connection", "the proxy does not answer");
    let no_proxy = format!("http://127.0.0.1:{}", other.port());
    check(url, &proxy(&no_proxy), "connection", "does not answer as a proxy", "no HTTP proxy");
    check("https://no-such-name.invalid", "", "connection", "could not be resolved", "correct DNS");
    check("https://127.0.0.1:1", "", "connection", "no connection", "firewall");
    check(&format!("https://127.0.0.1:{}", other.port()), "", "connection", "certificate", "ca_file");
    let squid = asking.url().replace("http:", "https:");
    check(&squid, "", "connection", "no TLS", "speaks no TLS");
    let ca = runner.join("other.pem");
    authority.write(&ca).unwrap();
    let believed = format!("ca_file = {ca:?}");
    check(
        &format!("https://127.0.0.1:{}", other.port()),
        &believed,
        "orchestrator",
        "no Remit orchestrator",
        "exempt it there",
    );
    check(url, "ca_file = \"absent.pem\"", "configuration", "absent.pem", "remit-runner check");
}

#[test]
fn a_middlebox_that_cuts_long_polls_gets_shorter_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut stack = bare(folder.path());
    let faults = Faults { cuts_silence: Some(Duration::from_secs(7)), ..Faults::default() };
    let middlebox = Middlebox::before(stack.url(), faults).unwrap();
    let host = Host { url: Some(middlebox.url()), ..Host::default() };
    stack.runner_on(&host, "local", &[], "[ceiling]\n", &builder_trust().unwrap()).unwrap();
    apply(&stack, folder.path(), ONE);
    let runner = stack.runner_named("local").unwrap();
    let folder_of_runner = runner.folder.clone();
    wait_for("the runner holding polls of five seconds", || {
        let log = runner.log();
        Ok((log.contains("hold=12s") && log.contains("hold=5s")).then_some(()))
    })
    .unwrap();
    assert!(middlebox.cut() >= 2);
    let shown = run(&stack, &["one"]);
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    assert_eq!(shown["sections"][0]["epoch"], 1, "{shown:#}");
    let (code, findings) = doctor(&stack, &host, &folder_of_runner, &[]);
    let found = finding(&findings, "held request");
    assert_eq!((code, &found["severity"]), (0, &"warning".into()), "{findings:#?}");
    assert!(found["found"].as_str().unwrap().contains("5s come through"), "{found:#}");
    assert!(found["remedy"].as_str().unwrap().contains("above 30 s"), "{found:#}");
    // While doctor looked, nothing of the running runner was disturbed.
    assert_eq!(run(&stack, &["one"])["summary"]["outcome"], "succeeded");
}

#[test]
fn slow_ways_and_connections_that_break_in_the_middle_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("marks");
    std::fs::create_dir_all(&marks).unwrap();
    let ceiling = format!(
        "[ceiling]\n\n[[ceiling.exec]]\nprogram = \"mktemp\"\npath = \"/usr/bin/mktemp\"\nargs = [\"-p\", {marks:?}]\n"
    );
    let mut stack = bare(folder.path());
    let middlebox = Middlebox::before(stack.url(), Faults::default()).unwrap();
    let host = Host { url: Some(middlebox.url()), ..Host::default() };
    stack.runner_on(&host, "local", &[], &ceiling, &builder_trust().unwrap()).unwrap();
    let job = format!(
        "job: mark\nsteps:\n  - name: mark\n    uses: remit/run-command@1\n    with: {{ program: mktemp, args: [\"-p\", {marks:?}] }}\n    \
         grant: {{ exec: [{{ program: mktemp }}] }}\n"
    );
    apply(&stack, folder.path(), &job);
    // The first answers of some size bring the component: three times they break off half-way.
    middlebox.becomes(Faults { delay: Duration::from_millis(40), resets: (3, 30_000), ..Faults::default() });
    stack.runner_named("local").unwrap().kill().unwrap();
    stack.restart_runner("local").unwrap();
    let begun: Vec<_> = (0..8).map(|_| begin(&stack, &["mark"])).collect();
    for id in &begun {
        let shown = ended(&stack, id);
        assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown:#}");
    }
    assert_eq!(middlebox.reset(), 3);
    assert_eq!(std::fs::read_dir(&marks).unwrap().count(), begun.len(), "each ran once");
}

/// `remit/transform`, signed for half an hour by a key of its own; gives the policy that believes that key.
fn published_for_half_an_hour(folder: &Path) -> (Stack, String) {
    let package = folder.join("transform");
    std::fs::create_dir_all(&package).unwrap();
    for file in ["component.wasm", "manifest.json"] {
        std::fs::copy(components().join("transform").join(file), package.join(file)).unwrap();
    }
    let stack = Stack::start(&folder.join("keys"), "version = 1\n").unwrap();
    let remit = |arguments: &[&str]| {
        let output = stack.remit_command().args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    remit(&["key", "new", "short.example/key", "--out", "short.key"]);
    remit(&["step", "sign", "transform", "--key", "short.key", "--valid-for", "30m"]);
    let vkey = std::fs::read_to_string(folder.join("short.vkey")).unwrap();
    let trust = format!("version = 1\n\n{}", trust_lines("remit", vkey.trim(), "short").unwrap());
    let stack = Stack::start(&folder.join("site"), &trust).unwrap();
    stack.json(&["project", "create", "demo"]).unwrap();
    stack.json(&["step", "publish", &package.display().to_string()]).unwrap();
    (stack, trust)
}

/// A host whose clock is an hour ahead. The library is named by itself: the program `faketime` would stand between the test
/// and the runner.
fn an_hour_ahead() -> Host {
    let places = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library =
        places.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|file| file.is_file());
    assert!(library.is_some(), "libfaketime is missing: apt-get install faketime");
    let preload = format!("LD_PRELOAD={}", library.unwrap().display());
    let wrapper = ["env", &preload, "FAKETIME=+1h", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
    Host { wrapper: wrapper.map(str::to_owned).to_vec(), ..Host::default() }
}

#[test]
fn a_wrong_clock_is_corrected_for_requests_and_not_for_notes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut stack, trust) = published_for_half_an_hour(folder.path());
    let ahead = an_hour_ahead();
    // What is asked of the orchestrator works under a clock that is an hour ahead: the runner gets healthy.
    stack.runner_on(&ahead, "ahead", &["ahead"], "[ceiling]\n", &trust).unwrap();
    stack.runner_on(&Host::default(), "right", &["right"], "[ceiling]\n", &trust).unwrap();
    for (tag, outcome) in [("right", "succeeded"), ("ahead", "refused(E_WINDOW)")] {
        let job = format!(
            "job: {tag}\nrunner: {{ tags: [{tag}] }}\nsteps:\n  - {{ name: one, uses: remit/transform@1, with: {{ value: 1 }} }}\n"
        );
        apply(&stack, folder.path(), &job);
        let shown = run(&stack, &[tag]);
        assert_eq!(shown["summary"]["outcome"], outcome, "{shown:#}");
    }
    let runner = stack.runner_named("ahead").unwrap().folder.clone();
    let (code, findings) = doctor(&stack, &ahead, &runner, &["--quick"]);
    assert_eq!(code, 0, "{findings:#?}");
    let clock = finding(&findings, "clock");
    let apart: u32 = clock["found"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((3590..3610).contains(&apart), "{clock:#}");
    assert!(clock["remedy"].as_str().unwrap().contains("NTP"), "{clock:#}");
    assert_eq!(finding(&findings, "signed request")["severity"], "good");
}
