//! `step record`: from what a run really used to the least that its author has to ask for. Pure.
//!
//! A proposal is text for a person to read: what a run did not do is not in it, and another input may do more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use remit_protocol::{
    Limits, SecretName, Size, Span,
    capability::{
        Denial, Requests,
        exec::ArgPattern,
        files::FilesRequest,
        http::{EndpointName, HttpRequest, HttpTarget, HttpWish, Method, PathPrefix, Scheme},
        tcp::{TcpMode, TcpRequest, TcpScope, TcpWish},
    },
    json::MAX_INTEGER,
    report::Usage,
};

use crate::broker::Used;

/// Most paths of one rule that are named one by one; beyond that, what they share is.
const MAX_PATHS: usize = 6;

/// What a run came to, as far as a proposal needs it.
pub struct Seen<'a> {
    /// What was used.
    pub used: &'a [Used],
    /// Secrets that the component was shown.
    pub revealed: &'a [SecretName],
    /// What was denied.
    pub denials: &'a [Denial],
    /// How much was used, if a sandbox was made.
    pub usage: Option<&'a Usage>,
}

/// The sections of a `step.toml` that would have sufficed for a run under `requests`.
pub fn step_toml(requests: &Requests, seen: &Seen<'_>) -> String {
    let mut text = String::from("# What this run used. Another input may use more.\n");
    if let Some(usage) = seen.usage {
        limits(&mut text, &usage.used);
    }
    http(&mut text, &requests.http, seen.used);
    exec(&mut text, requests, seen.used);
    if seen.used.contains(&Used::Command) {
        for rule in requests.ssh.iter().take(1) {
            text.push_str("\n[[ssh]]\ntarget = \"node\"\n");
            if let Some(secret) = &rule.secret {
                let _ = writeln!(
                    text,
                    "secret = {{ name = \"{}\", use = \"{}\" }}",
                    secret.name,
                    secret.usage.as_str()
                );
            }
        }
    }
    tcp(&mut text, requests, seen.used);
    files(&mut text, requests, seen.used);
    for name in requests.reveal.iter().map(|rule| &rule.name).filter(|name| seen.revealed.contains(name)) {
        let _ = write!(text, "\n[[reveal]]\nname = \"{name}\"\n");
    }
    for denial in seen.denials {
        let _ = write!(
            text,
            "\n# Denied: {}. It would take, in {}:\n",
            line(&denial.permission),
            denial.side.place()
        );
        for remedy in denial.remedy.lines() {
            let _ = writeln!(text, "#   {remedy}");
        }
    }
    text
}

fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| toml::Value::from(item.as_ref()).to_string()).collect::<Vec<_>>().join(", ")
}

/// Twice what was used, in round numbers: a limit that a run just met would end the next one.
fn limits(text: &mut String, used: &Limits) {
    let size = |used: Size, least: u64| {
        let twice = used.bytes().saturating_mul(2).max(least).next_power_of_two();
        Size::from_bytes(twice)
    };
    let span =
        |used: Span| Span::from_secs((used.as_millis().saturating_mul(4) / 1000).max(4).next_power_of_two());
    let count = |used: u32| used.saturating_mul(2).next_power_of_two();
    let most = Limits::MOST;
    let _ = writeln!(text, "[limits]\nmemory = \"{}\"", size(used.memory, 1 << 20).min(most.memory));
    let _ = writeln!(
        text,
        "wall = \"{}\"\ncpu = \"{}\"",
        span(used.wall).min(most.wall),
        span(used.cpu).min(most.cpu)
    );
    let _ = writeln!(text, "log = \"{}\"", size(used.log, 16 << 10).min(most.log));
    let _ = writeln!(text, "output = \"{}\"", size(used.output, 4 << 10).min(most.output));
    for (name, used, least, most) in [
        ("lines", used.lines, 1024, most.lines),
        ("requests", used.requests, 1, most.requests),
        ("processes", used.processes, 1, most.processes),
        ("handles", used.handles, 16, most.handles),
    ] {
        if used > 0 {
            let _ = writeln!(text, "{name} = {}", count(used).max(least).min(most));
        }
    }
    if used.fuel.is_counted() {
        let _ = writeln!(text, "fuel = {}", used.fuel.units().saturating_mul(2).min(MAX_INTEGER));
    }
    for (name, used, most) in [
        ("call", used.call, most.call),
        ("egress", used.egress, most.egress),
        ("ingress", used.ingress, most.ingress),
        ("scratch", used.scratch, most.scratch),
        ("artifacts", used.artifacts, most.artifacts),
    ] {
        if used.bytes() > 0 {
            let _ = writeln!(text, "{name} = \"{}\"", size(used, 4 << 10).min(most));
        }
    }
}

/// The place of a rule: scheme, host and port.
type Place = (Scheme, String, u16);
/// What was used at a place.
type Uses<'a> = (BTreeSet<Method>, BTreeSet<&'a str>);

fn http(text: &mut String, asked: &[HttpRequest], used: &[Used]) {
    let targets = used.iter().filter_map(|used| match used {
        Used::Request(target) => Some(target),
        _ => None,
    });
    let mut open = BTreeSet::new();
    // By the request that covers them, so that what it says of secrets and private addresses stays.
    let mut literal: BTreeMap<(usize, Place), Uses<'_>> = BTreeMap::new();
    for target in targets {
        match asked.iter().position(|rule| literally(rule, target)) {
            Some(rule) => {
                let place = (target.scheme, target.host.clone(), target.port);
                let (methods, paths) = literal.entry((rule, place)).or_default();
                methods.insert(target.method);
                let own = asked.get(rule).and_then(|rule| pattern(rule, &target.path));
                paths.insert(own.unwrap_or(&target.path));
            }
            None => drop(open.insert(target.method)),
        }
    }
    for ((rule, (scheme, host, port)), (methods, paths)) in literal {
        let methods = quoted(methods.into_iter().map(Method::as_str));
        text.push_str("\n[[http]]\n");
        let place = match EndpointName::of_host(&host) {
            Some(name) => format!("endpoint = \"{name}\""),
            None if scheme == Scheme::Http => format!("scheme = \"http\"\nhost = \"{host}\"\nport = {port}"),
            None => format!("host = \"{host}\"\nport = {port}"),
        };
        let _ = writeln!(text, "{place}\nmethods = [{methods}]\npaths = [{}]", quoted(shared(&paths)));
        if let Some(rule) = asked.get(rule) {
            if rule.private {
                text.push_str("private = true\n");
            }
            if let Some(Ok(secret)) = rule.secret.as_ref().map(toml::Value::try_from) {
                let _ = writeln!(text, "secret = {secret}");
            }
        }
    }
    if !open.is_empty() {
        let methods = quoted(open.into_iter().map(Method::as_str));
        let _ = write!(text, "\n[[http]]\nhost = \"granted\"\nmethods = [{methods}]\n");
    }
}

fn literally(rule: &HttpRequest, target: &HttpTarget) -> bool {
    matches!(&rule.scope, HttpWish::Literal(scope) if scope.matches(target))
}

/// The author's own pattern for a path, where it has a segment for any: the one that was met says too little.
fn pattern<'r>(rule: &'r HttpRequest, path: &str) -> Option<&'r str> {
    let HttpWish::Literal(scope) = &rule.scope else { return None };
    let own = scope.paths.iter().find(|own| own.has_wildcard() && own.matches(path));
    own.map(PathPrefix::as_str)
}

/// The paths, or where there are many, the segments that they begin with.
fn shared(paths: &BTreeSet<&str>) -> Vec<String> {
    for depth in (1..8).rev() {
        let cut = paths.iter().map(|path| {
            let segments = path.trim_end_matches('/').split('/').skip(1).take(depth);
            segments.fold(String::new(), |cut, segment| format!("{cut}/{segment}"))
        });
        let cut: BTreeSet<String> =
            cut.map(|cut| if cut.is_empty() { "/".to_owned() } else { cut }).collect();
        if cut.len() <= MAX_PATHS {
            return cut.into_iter().collect();
        }
    }
    vec!["/".to_owned()]
}

fn exec(text: &mut String, requests: &Requests, used: &[Used]) {
    let mut open = false;
    let mut vectors: BTreeMap<(usize, &str), BTreeSet<&[String]>> = BTreeMap::new();
    for (program, arguments) in used.iter().filter_map(|used| match used {
        Used::Program { program, arguments } => Some((program.as_str(), arguments.as_slice())),
        _ => None,
    }) {
        match requests.exec.iter().position(|rule| rule.program.as_deref() == Some(program)) {
            Some(rule) => drop(vectors.entry((rule, program)).or_default().insert(arguments)),
            None => open = true,
        }
    }
    for ((rule, program), vectors) in vectors {
        let secret = requests.exec.get(rule).and_then(|rule| rule.secret.as_ref());
        let own = requests.exec.get(rule).and_then(|rule| rule.args.as_deref());
        for arguments in patterns(own, &vectors) {
            let _ = write!(text, "\n[[exec]]\nprogram = \"{program}\"\nargs = [{}]\n", quoted(arguments));
            if let Some(secret) = secret {
                let _ = writeln!(
                    text,
                    "secret = {{ name = \"{}\", {} = \"{}\" }}",
                    secret.name,
                    secret.given.usage().as_str(),
                    secret.given.variable()
                );
            }
        }
    }
    if open {
        text.push_str("\n[[exec]]\nprogram = \"granted\"\n");
    }
}

/// Literal arguments, as many rules as there are vectors; where there are many, the author's own patterns.
fn patterns(own: Option<&[ArgPattern]>, vectors: &BTreeSet<&[String]>) -> Vec<Vec<String>> {
    let literal = |argument: &String| !argument.contains(['{', '}']);
    match own {
        Some(own)
            if vectors.len() > MAX_PATHS || !vectors.iter().all(|vector| vector.iter().all(literal)) =>
        {
            vec![own.iter().map(ToString::to_string).collect()]
        }
        _ => vectors.iter().take(MAX_PATHS).map(|vector| vector.to_vec()).collect(),
    }
}

/// What a rule of `tcp` says that only looks whether somebody listens.
const CONNECT_ONLY: &str = "connect_only = true\n";

fn tcp(text: &mut String, requests: &Requests, used: &[Used]) {
    let scopes: BTreeSet<_> = used
        .iter()
        .filter_map(|used| match used {
            Used::Connection(scope) => Some(scope),
            _ => None,
        })
        .collect();
    let secret = |asked: Option<&TcpRequest>| {
        let secret = asked.and_then(|asked| asked.secret.as_ref());
        secret.map_or_else(String::new, |secret| {
            format!("secret = {{ name = \"{}\", use = \"{}\" }}\n", secret.name, secret.usage.as_str())
        })
    };
    let literal = |asked: &TcpRequest, scope: &TcpScope| matches!(&asked.scope, TcpWish::Literal(own) if own.covers(scope));
    let mut open = BTreeSet::new();
    for scope in scopes {
        let Some(asked) = requests.tcp.iter().find(|asked| literal(asked, scope)) else {
            open.insert(scope.mode);
            continue;
        };
        let private = if asked.private { "private = true\n" } else { "" };
        let mode = match scope.mode {
            TcpMode::Connect => CONNECT_ONLY,
            TcpMode::Always => "",
            TcpMode::Start => "tls = \"start\"\n",
            TcpMode::Never => "tls = \"never\"\n",
        };
        let (host, port, secret) = (&scope.host, scope.port, secret(Some(asked)));
        let _ = write!(text, "\n[[tcp]]\nhost = \"{host}\"\nport = {port}\n{mode}{private}{secret}");
    }
    // Which places they are, the job says.
    if open.is_empty() {
        return;
    }
    if open.iter().all(|mode| *mode == TcpMode::Connect) {
        let _ = write!(text, "\n[[tcp]]\nhost = \"granted\"\n{CONNECT_ONLY}");
    } else {
        let asked = requests.tcp.iter().find(|asked| {
            matches!(asked.scope, TcpWish::Open { connect_only: false }) && asked.secret.is_some()
        });
        let _ = write!(text, "\n[[tcp]]\nhost = \"granted\"\n{}", secret(asked));
    }
}

fn files(text: &mut String, requests: &Requests, used: &[Used]) {
    // What the component imports has to be asked for, whether a run writes into it or not.
    if requests.files.contains(&FilesRequest::Scratch) {
        text.push_str("\n[[files]]\nscratch = true\n");
    }
    if requests.files.contains(&FilesRequest::Artifacts) {
        text.push_str("\n[[files]]\nartifacts = true\n");
    }
    let names: BTreeSet<&str> = used
        .iter()
        .filter_map(|used| match used {
            Used::Entry(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let named = |name: &str| requests.files.contains(&FilesRequest::Named(name.to_owned()));
    for name in names.iter().filter(|name| named(name)) {
        let _ = write!(text, "\n[[files]]\nname = \"{name}\"\n");
    }
    if names.iter().any(|name| !named(name)) {
        text.push_str("\n[[files]]\npath = \"granted\"\n");
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::{capability::Side, manifest::StepFile};

    use super::*;

    fn request(method: &str, host: &str, path: &str) -> Used {
        Used::Request(HttpTarget {
            scheme: Scheme::Https,
            host: host.to_owned(),
            port: 443,
            method: Method::parse(method).unwrap(),
            path: path.to_owned(),
        })
    }

    fn program(name: &str, arguments: &[&str]) -> Used {
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        Used::Program { program: name.to_owned(), arguments }
    }

    /// The proposal has to be a `step.toml` that covers what was used, and is covered by what was asked.
    fn proposed(requests: &str, used: &[Used]) -> (Requests, String) {
        let requests: Requests = serde_json::from_str(requests).unwrap();
        let seen = Seen { used, revealed: &[], denials: &[], usage: None };
        let text = step_toml(&requests, &seen);
        let head = "name = \"acme/x\"\nversion = \"1.0.0\"\nkind = \"step\"\ndescription = \"x\"\neffect = \"effect\"\n";
        let file: StepFile =
            toml::from_str(&format!("{head}{text}")).unwrap_or_else(|error| panic!("{text}: {error}"));
        let manifest = file.into_manifest(vec![], serde_json::Value::Null, serde_json::Value::Null);
        (manifest.requests, text)
    }

    #[test]
    fn a_proposal_is_what_was_used_and_no_more() {
        let requests = r#"{"http":[{"host":"**.a.example","methods":["GET","POST","DELETE"],"paths":["/"],"private":true},
            {"host":"api.b.example","methods":["GET","POST"],"paths":["/"],"secret":{"name":"token","use":"bearer"}},
            {"host":"granted"}],"exec":[{"program":"ls"},{"program":"id","secret":{"name":"token","env":"TOKEN"}}],
            "files":[{"scratch":true},{"name":"nodes"},{"name":"unused"}],"reveal":[{"name":"token"}]}"#;
        let used = [
            request("GET", "x.a.example", "/v1/things/1"),
            request("GET", "x.a.example", "/v1/things/2"),
            request("POST", "api.b.example", "/v2"),
            request("GET", "other.example", "/"),
            program("ls", &["-l", "/srv"]),
            Used::Entry("nodes".to_owned()),
        ];
        let (found, text) = proposed(requests, &used);
        let expect = r#"{"http":[{"host":"x.a.example","port":443,"methods":["GET"],"paths":["/v1/things/1","/v1/things/2"],"private":true},
            {"host":"api.b.example","port":443,"methods":["POST"],"paths":["/v2"],"secret":{"name":"token","use":"bearer"}},
            {"host":"granted","methods":["GET"]}],"exec":[{"program":"ls","args":["-l","/srv"]}],
            "files":[{"scratch":true},{"name":"nodes"}]}"#;
        assert_eq!(found, serde_json::from_str::<Requests>(expect).unwrap(), "{text}");
    }

    #[test]
    fn connections_are_proposed_as_they_were_used() {
        fn check(requests: &str, used: &[(&str, u16, TcpMode)], expect: &str) {
            let used: Vec<_> = used
                .iter()
                .map(|(host, port, mode)| TcpScope { host: host.parse().unwrap(), port: *port, mode: *mode })
                .map(Used::Connection)
                .collect();
            let (found, text) = proposed(requests, &used);
            assert_eq!(found, serde_json::from_str::<Requests>(expect).unwrap(), "{text}");
        }
        let open = r#"{"tcp":[{"host":"granted","connect_only":true},{"host":"granted","secret":{"name":"password","use":"scram-sha-256"}}]}"#;
        check(
            open,
            &[("a.example", 25, TcpMode::Connect)],
            r#"{"tcp":[{"host":"granted","connect_only":true}]}"#,
        );
        check(
            open,
            &[("a.example", 25, TcpMode::Connect), ("b.example", 5432, TcpMode::Start)],
            r#"{"tcp":[{"host":"granted","secret":{"name":"password","use":"scram-sha-256"}}]}"#,
        );
        let literal = r#"{"tcp":[{"host":"**.corp.example","port":25,"tls":"start","private":true},{"host":"b.example","port":80,"tls":"never"}]}"#;
        check(
            literal,
            &[("a.corp.example", 25, TcpMode::Start)],
            r#"{"tcp":[{"host":"a.corp.example","port":25,"tls":"start","private":true}]}"#,
        );
    }

    #[test]
    fn many_paths_become_what_they_share() {
        let requests = r#"{"http":[{"host":"a.example","methods":["GET"],"paths":["/"]}]}"#;
        let used: Vec<Used> =
            (0..50).map(|n| request("GET", "a.example", &format!("/v1/things/{n}/x"))).collect();
        let (found, text) = proposed(requests, &used);
        let HttpWish::Literal(scope) = &found.http[0].scope else { panic!("{text}") };
        assert_eq!(scope.paths.iter().map(|path| path.as_str()).collect::<Vec<_>>(), ["/v1/things"]);
        for used in &used {
            let Used::Request(target) = used else { continue };
            assert!(scope.matches(target), "{target}");
        }
    }

    #[test]
    fn limits_leave_room_and_denials_are_told() {
        let used = Limits {
            memory: Size::from_mib(3),
            requests: 3,
            wall: Span::from_secs(2),
            lines: 70_000,
            handles: 7,
            ..Limits::nothing()
        };
        let usage = Usage { used, allowed: Limits::default() };
        let denial = Denial {
            permission: "http GET https://b.example:443/".to_owned(),
            side: Side::Request,
            remedy: "[[http]]\nhost = \"b.example\"".to_owned(),
        };
        let seen = Seen { used: &[], revealed: &[], denials: &[denial], usage: Some(&usage) };
        let text = step_toml(&Requests::default(), &seen);
        for part in [
            "memory = \"8MiB\"",
            "requests = 8",
            "wall = \"8s\"",
            "lines = 262144",
            "handles = 16",
            "# Denied: http GET https://b.example:443/.",
            "#   [[http]]",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("egress"), "{text}");
    }
}
