//! Requests, grants, ceilings and the remit that comes of them: what covers matches no less, and a remit holds nothing that
//! one of the three sides does not have.

use std::{collections::BTreeMap, fmt::Display};

use remit_protocol::{
    ComponentName, Limits, ProjectName, SecretName, SecretPath,
    capability::{
        Ceiling, Grant, Remit, Requests, Subject, covered_by_request,
        exec::{ArgPattern, ExecCeiling, covers_all, matches_all},
        files::FilesCeiling,
        http::{
            EndpointName, HttpCeiling, HttpScope, HttpTarget, HttpWish, Method, Scheme, check_host_name,
            check_path,
        },
        secrets::SecretCeiling,
        ssh::SshCeiling,
        tcp::{TcpCeiling, TcpMode, TcpScope, TcpWish},
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Broken, Target, Verdict, again};
use crate::mutate::Form;

pub(super) const TARGET: Target = Target {
    name: "grammar",
    form: Form::Json,
    words: &[
        "requests",
        "grant",
        "ceiling",
        "secrets",
        "targets",
        "vectors",
        "http",
        "exec",
        "ssh",
        "files",
        "reveal",
        "limits",
        "host",
        "port",
        "scheme",
        "https",
        "methods",
        "GET",
        "POST",
        "paths",
        "/",
        "/v1",
        "/v1/x",
        "/v1x",
        "private",
        "via",
        "proxy",
        "a.example",
        "b.a.example",
        "*.a.example",
        "**.a.example",
        "*.example",
        "granted",
        "secret",
        "name",
        "token",
        "use",
        "bearer",
        "basic",
        "header",
        "x-token",
        "user",
        "env",
        "TOKEN",
        "reveal",
        "hosts",
        "users",
        "programs",
        "a.example:443",
        "program",
        "ls",
        "path",
        "/usr/bin/ls",
        "args",
        "-l",
        "{int}",
        "{text}",
        "{text}*",
        "{enum a b}",
        "{path under srv}",
        "{path under srv/x}",
        "srv/x/y",
        "a",
        "7",
        "target",
        "node",
        "addresses",
        "10.0.0.0/8",
        "known_hosts",
        "scratch",
        "nodes",
        "keys/t",
        "keys/u",
        "components",
        "acme/x",
        "projects",
        "ops",
        "memory",
        "1MiB",
        "requests",
        "wall",
        "5s",
        "query",
        "tcp",
        "tls",
        "always",
        "start",
        "never",
        "connect_only",
        "scram-sha-256",
        "endpoint",
        "docker",
        "docker.endpoint.alt",
        "*.endpoint.alt",
        "unix",
        "/run/docker.sock",
        "/v1/*/x",
        "/*",
    ],
    seeds: || {
        let seeds: Vec<Vec<u8>> = SEEDS.iter().map(|text| text.as_bytes().to_vec()).collect();
        super::seeds(seeds, "grammar")
    },
    check,
};

const SEEDS: &[&str] = &[
    r#"{"requests":{"http":[{"endpoint":"docker","methods":["GET","POST"],"paths":["/v1/*/x","/info"],"secret":{"name":"token","use":"header","header":"x-token"}}]},"grant":{"http":[{"endpoint":"docker","methods":["GET"],"paths":["/v1/a/x"],"secret":{"name":"token","use":"header","header":"x-token"}}]},"ceiling":{"http":[{"endpoint":"docker","unix":"/run/docker.sock","methods":["GET","POST"],"paths":["/v1/*"],"components":["acme/x"],"projects":["ops"]}],"secrets":[{"path":"keys/t","use":"header","hosts":["docker.endpoint.alt:80"]}]},"secrets":{"token":["keys/t"]},"targets":[["GET","http","docker.endpoint.alt",80,"/v1/a/x"],["GET","http","docker.endpoint.alt",80,"/v1/a"]]}"#,
    r#"{"requests":{"http":[{"host":"a.example","methods":["GET","POST"],"paths":["/v1"],"secret":{"name":"token","use":"bearer"}},{"host":"*.a.example","methods":["GET"],"paths":["/"]}]},"grant":{"http":[{"host":"a.example","methods":["GET"],"paths":["/v1/x"],"secret":{"name":"token","use":"bearer"}},{"host":"b.a.example","methods":["GET"],"paths":["/v1"]}]},"ceiling":{"http":[{"host":"a.example","methods":["GET","POST"],"paths":["/"]},{"host":"**.a.example","methods":["GET"],"paths":["/v1","/v2"],"private":["10.0.0.0/8"]}],"secrets":[{"path":"keys/t","use":"bearer","hosts":["a.example"]}]},"secrets":{"token":["keys/t"]},"targets":[["GET","https","a.example",443,"/v1/x/y"],["GET","https","b.a.example",443,"/v1"],["POST","https","a.example",443,"/v1"]]}"#,
    r#"{"requests":{"exec":[{"program":"ls","args":["-l","{text}*"]},{"program":"granted"}],"files":[{"scratch":true},{"path":"granted"}],"ssh":[{"target":"node","secret":{"name":"token","use":"ssh-key"}}],"reveal":[{"name":"token"}]},"grant":{"exec":[{"program":"ls","args":["-l","{path under srv/x}"],"secret":{"name":"token","env":"TOKEN"}}],"files":[{"scratch":true},{"name":"nodes"}],"ssh":[{"target":"node","secret":{"name":"token","use":"ssh-key"}}],"reveal":[{"name":"token"}],"limits":{"memory":"1MiB"}},"ceiling":{"exec":[{"program":"ls","path":"/usr/bin/ls","args":["-l","{path under srv}"]},{"program":"ls","path":"/usr/bin/ls","args":["{enum -l -a}","{text}*"]}],"files":[{"name":"nodes","path":"/etc/nodes"}],"ssh":[{"addresses":["10.0.0.0/8"],"users":["deploy"],"known_hosts":"k"}],"secrets":[{"path":"keys/t","use":"env","programs":["ls"]},{"path":"keys/t","use":"ssh-key","users":["deploy"]},{"path":"keys/t","use":"reveal","components":["acme/x"]}],"limits":{"wall":"5s"}},"secrets":{"token":["keys/t"]},"vectors":[["ls","-l","srv/x/y"],["ls","-l"],["ls","-a","a","7"]]}"#,
    r#"{"requests":{"http":[{"host":"granted","methods":["GET"]}]},"grant":{"http":[{"host":"a.example","port":8443,"methods":["GET"],"paths":["/"],"private":true}]},"ceiling":{"http":[{"scheme":"http","host":"a.example","methods":["GET"],"paths":["/"]},{"host":"a.example","port":8443,"methods":["GET"],"paths":["/"],"via":"proxy"}]},"targets":[["GET","http","a.example",80,"/"],["GET","https","a.example",8443,"/x"]]}"#,
    r#"{"requests":{"tcp":[{"host":"a.example","port":443,"secret":{"name":"token","use":"scram-sha-256"}},{"host":"granted","connect_only":true},{"host":"*.a.example","port":80,"tls":"never"}]},"grant":{"tcp":[{"host":"a.example","port":443,"secret":{"name":"token","use":"scram-sha-256"}},{"host":"b.a.example","port":80,"connect_only":true}]},"ceiling":{"tcp":[{"host":"**.a.example","port":80,"tls":"never","private":["10.0.0.0/8"]},{"host":"a.example","port":443}],"secrets":[{"path":"keys/t","use":"scram-sha-256","hosts":["a.example"]}]},"secrets":{"token":["keys/t"]},"targets":[["GET","https","a.example",443,"/"],["GET","http","b.a.example",80,"/"]]}"#,
];

/// A part of the input, or the reader's complaint.
fn part<T: DeserializeOwned + Default>(input: &Value, name: &str, words: &mut String) -> T {
    match input.get(name).map(|part| serde_json::from_value(part.clone())) {
        None => T::default(),
        Some(Ok(part)) => part,
        Some(Err(error)) => {
            words.extend([name, ": ", &error.to_string(), " "]);
            T::default()
        }
    }
}

/// The entries of a list that can be read.
fn entries<T: DeserializeOwned>(input: &Value, name: &str, words: &mut String) -> Vec<T> {
    let list = input.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut read = Vec::new();
    for entry in list.iter().take(16) {
        match serde_json::from_value(entry.clone()) {
            Ok(entry) => read.push(entry),
            Err(error) => words.extend([name, ": ", &error.to_string(), " "]),
        }
    }
    read
}

fn target(entry: &Value) -> Option<HttpTarget> {
    let [method, scheme, host, port, path] = entry.as_array()?.as_slice() else { return None };
    let (host, path) = (host.as_str()?, path.as_str()?);
    check_host_name(host).ok()?;
    check_path(path).ok()?;
    Some(HttpTarget {
        scheme: serde_json::from_value::<Scheme>(scheme.clone()).ok()?,
        host: host.to_owned(),
        port: u16::try_from(port.as_u64()?).ok()?,
        method: Method::parse(method.as_str()?)?,
        path: path.to_owned(),
    })
}

fn check(input: &[u8]) -> Result<Verdict, Broken> {
    let Ok(input) = serde_json::from_slice::<Value>(input) else {
        return Ok(Verdict { accepted: false, words: "no JSON".to_owned() });
    };
    let mut words = String::new();
    let requests: Requests = part(&input, "requests", &mut words);
    let grant: Grant = part(&input, "grant", &mut words);
    again(&requests)?;
    again(&grant)?;
    let owner = input.get("ceiling").cloned().unwrap_or_default();
    let ceiling = Ceiling {
        http: entries::<HttpCeiling>(&owner, "http", &mut words),
        exec: entries::<ExecCeiling>(&owner, "exec", &mut words),
        ssh: entries::<SshCeiling>(&owner, "ssh", &mut words),
        tcp: entries::<TcpCeiling>(&owner, "tcp", &mut words),
        files: entries::<FilesCeiling>(&owner, "files", &mut words),
        secrets: entries::<SecretCeiling>(&owner, "secrets", &mut words),
        limits: part(&owner, "limits", &mut words),
    };
    let secrets: BTreeMap<SecretName, Vec<SecretPath>> = part(&input, "secrets", &mut words);
    let targets: Vec<HttpTarget> = input
        .get("targets")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(16)
        .filter_map(target)
        .collect();
    let vectors: Vec<Vec<String>> = entries(&input, "vectors", &mut words);
    scopes(&requests, &grant, &ceiling, &targets)?;
    connections(&requests, &grant, &ceiling, &targets)?;
    patterns(&requests, &grant, &ceiling, &vectors)?;
    let (Ok(component), Ok(project)) = (ComponentName::new("acme/x"), ProjectName::new("ops")) else {
        return Err(Broken("fixed names are none".to_owned()));
    };
    let subject = Subject { component: &component, project: &project };
    let covered = covered_by_request(&requests, &grant).is_ok();
    match Remit::compute(subject, &requests, Limits::default(), &grant, &secrets, &ceiling) {
        Ok(remit) => {
            Broken::unless(covered, || "a remit goes beyond its request".to_owned())?;
            held(&remit, &requests, &grant, &ceiling, &targets, &vectors)?;
            owned(&remit, &ceiling, subject)?;
            connected(&remit, &requests, &grant, &ceiling, &targets)?;
            placed(&remit, &ceiling, subject)?;
            let size = (remit.http().len().min(3), remit.exec().len().min(3), remit.secrets().len().min(3));
            Ok(Verdict { accepted: true, words: format!("{words} remit {}", letters(size)) })
        }
        Err(denials) => {
            Broken::unless(!denials.is_empty(), || "a remit is denied without a denial".to_owned())?;
            words.push_str(denials.first().map(|denial| denial.permission.as_str()).unwrap_or_default());
            Ok(Verdict { accepted: false, words })
        }
    }
}

/// Numbers in letters: digits do not tell answers apart.
fn letters((a, b, c): (usize, usize, usize)) -> String {
    [a, b, c].map(|number| ["none", "one", "two", "more"].get(number).copied().unwrap_or_default()).join(" ")
}

fn scopes(
    requests: &Requests,
    grant: &Grant,
    ceiling: &Ceiling,
    targets: &[HttpTarget],
) -> Result<(), Broken> {
    let asked = requests.http.iter().filter_map(|rule| match &rule.scope {
        HttpWish::Literal(scope) => Some(scope),
        HttpWish::Open { .. } => None,
    });
    let scopes: Vec<&HttpScope> = asked
        .chain(grant.http.iter().map(|rule| &rule.scope))
        .chain(ceiling.http.iter().map(|rule| &rule.scope))
        .collect();
    laws(&scopes, targets, HttpScope::covers, HttpScope::matches)
}

/// What holds for scopes of every kind: each covers itself, what covers another matches all that this one matches, and covering
/// goes on from one to the next.
fn laws<S: Display, T: Display>(
    scopes: &[&S],
    targets: &[T],
    covers: fn(&S, &S) -> bool,
    matches: fn(&S, &T) -> bool,
) -> Result<(), Broken> {
    for outer in scopes {
        Broken::unless(covers(outer, outer), || format!("{outer} does not cover itself"))?;
        for inner in scopes.iter().filter(|inner| covers(outer, inner)) {
            for target in targets.iter().filter(|target| matches(inner, target)) {
                Broken::unless(matches(outer, target), || {
                    format!("{outer} covers {inner} and does not match {target}")
                })?;
            }
            for third in scopes.iter().filter(|third| covers(inner, third)) {
                Broken::unless(covers(outer, third), || {
                    format!("{outer} covers {inner}, and not {third} below it")
                })?;
            }
        }
    }
    Ok(())
}

/// As [`scopes`], of connections: the places are those of the targets.
fn connections(
    requests: &Requests,
    grant: &Grant,
    ceiling: &Ceiling,
    targets: &[HttpTarget],
) -> Result<(), Broken> {
    let asked = requests.tcp.iter().filter_map(|rule| match &rule.scope {
        TcpWish::Literal(scope) => Some(scope),
        TcpWish::Open { .. } => None,
    });
    let scopes: Vec<&TcpScope> = asked
        .chain(grant.tcp.iter().map(|rule| &rule.scope))
        .chain(ceiling.tcp.iter().map(|rule| &rule.scope))
        .collect();
    laws(&scopes, targets, TcpScope::covers, |scope, place| scope.matches(&place.host, place.port))
}

/// Each connection that a remit permits, each of the three sides permits, used in that way.
fn connected(
    remit: &Remit,
    requests: &Requests,
    grant: &Grant,
    ceiling: &Ceiling,
    targets: &[HttpTarget],
) -> Result<(), Broken> {
    for permit in remit.tcp() {
        let mode = permit.scope.mode;
        let fits = |own: TcpMode| own == mode || mode == TcpMode::Connect;
        for HttpTarget { host, port, .. } in
            targets.iter().filter(|place| permit.scope.matches(&place.host, place.port))
        {
            let within = |scope: &TcpScope| scope.matches(host, *port) && fits(scope.mode);
            let asked = requests.tcp.iter().any(|rule| match &rule.scope {
                TcpWish::Literal(scope) => within(scope),
                TcpWish::Open { connect_only } => !connect_only || mode == TcpMode::Connect,
            });
            let given = grant.tcp.iter().any(|rule| within(&rule.scope));
            let ever = ceiling.tcp.iter().any(|rule| within(&rule.scope));
            Broken::unless(asked && given && ever, || {
                format!("{} at {host}:{port}: asked {asked}, given {given}, ever {ever}", permit.scope)
            })?;
        }
    }
    Ok(())
}

fn patterns(
    requests: &Requests,
    grant: &Grant,
    ceiling: &Ceiling,
    vectors: &[Vec<String>],
) -> Result<(), Broken> {
    let asked = requests.exec.iter().filter_map(|rule| rule.args.as_deref());
    let given = grant.exec.iter().filter_map(|rule| rule.args.as_deref());
    let lists: Vec<&[ArgPattern]> =
        asked.chain(given).chain(ceiling.exec.iter().map(|rule| rule.args.as_slice())).collect();
    for outer in &lists {
        Broken::unless(covers_all(outer, outer), || format!("{outer:?} does not cover itself"))?;
        for inner in lists.iter().filter(|inner| covers_all(outer, inner)) {
            for vector in vectors {
                let arguments = vector.get(1..).unwrap_or_default();
                if matches_all(inner, arguments) {
                    Broken::unless(matches_all(outer, arguments), || {
                        format!("{outer:?} covers {inner:?} and does not match {arguments:?}")
                    })?;
                }
            }
        }
    }
    Ok(())
}

/// What a remit permits, each of the three sides permits.
fn held(
    remit: &Remit,
    requests: &Requests,
    grant: &Grant,
    ceiling: &Ceiling,
    targets: &[HttpTarget],
    vectors: &[Vec<String>],
) -> Result<(), Broken> {
    for target in
        targets.iter().filter(|target| remit.http().iter().any(|permit| permit.scope.matches(target)))
    {
        let asked = requests.http.iter().any(|rule| match &rule.scope {
            HttpWish::Literal(scope) => scope.matches(target),
            HttpWish::Open { methods } => {
                EndpointName::of_host(&target.host).is_none()
                    && methods.as_ref().is_none_or(|methods| methods.contains(&target.method))
            }
        });
        let given = grant.http.iter().any(|rule| rule.scope.matches(target));
        let ever = ceiling.http.iter().any(|rule| rule.scope.matches(target));
        Broken::unless(asked && given && ever, || {
            format!("{target}: asked {asked}, given {given}, ever {ever}")
        })?;
    }
    for vector in vectors {
        let Some((program, arguments)) = vector.split_first() else { continue };
        if !remit.exec().iter().any(|permit| permit.matches(program, arguments)) {
            continue;
        }
        let fits = |patterns: Option<&[ArgPattern]>| patterns.is_none_or(|own| matches_all(own, arguments));
        let asked = requests.exec.iter().any(|rule| {
            rule.program.as_ref().is_none_or(|name| name == program) && fits(rule.args.as_deref())
        });
        let given = grant.exec.iter().any(|rule| rule.program == *program && fits(rule.args.as_deref()));
        let ever =
            ceiling.exec.iter().any(|rule| rule.program == *program && matches_all(&rule.args, arguments));
        Broken::unless(asked && given && ever, || {
            format!("{vector:?}: asked {asked}, given {given}, ever {ever}")
        })?;
    }
    let limits = remit.limits();
    let least = limits.least(Limits::default().lowered(&grant.limits)).least(ceiling.limits.or_most());
    Broken::unless(*limits == least, || "a limit is above one of its sides".to_owned())
}

/// A socket of the host is called where the owner named it, by a component that he named; nothing else is called an endpoint.
fn owned(remit: &Remit, ceiling: &Ceiling, subject: Subject<'_>) -> Result<(), Broken> {
    for permit in remit.http() {
        let named = ceiling.http.iter().any(|rule| {
            rule.endpoint.as_ref().is_some_and(|own| {
                Some(&own.unix) == permit.unix.as_ref() && own.serves(subject.component, subject.project)
            }) && rule.scope.covers(&permit.scope)
        });
        Broken::unless(permit.scope.endpoint().is_some() == permit.unix.is_some(), || {
            format!("{} is an endpoint without a socket, or the reverse", permit.scope)
        })?;
        Broken::unless(permit.unix.is_none() || named, || {
            format!("{} is called, and the owner did not name it so", permit.scope)
        })?;
    }
    Ok(())
}

/// Each secret goes to a place that the owner named for it.
fn placed(remit: &Remit, ceiling: &Ceiling, subject: Subject<'_>) -> Result<(), Broken> {
    let rules = |path: &SecretPath| {
        let path = path.clone();
        ceiling.secrets.iter().filter(move |rule| {
            rule.path == path
                && rule.components.as_ref().is_none_or(|named| named.contains(subject.component))
                && rule.projects.as_ref().is_none_or(|named| named.contains(subject.project))
        })
    };
    for permit in remit.http() {
        let Some(secret) = &permit.secret else { continue };
        let host = permit.scope.host.exact();
        let named = rules(&secret.path).any(|rule| {
            rule.hosts
                .iter()
                .any(|place| Some(place.host.as_str()) == host && place.port == permit.scope.port)
        });
        let kept = permit.scope.scheme == Scheme::Https || permit.unix.is_some();
        Broken::unless(named && kept, || {
            format!("{} goes to {} unnamed, or without TLS", secret.path, permit.scope)
        })?;
    }
    for permit in remit.tcp() {
        let Some(secret) = &permit.secret else { continue };
        let host = permit.scope.host.exact();
        let named = rules(&secret.path).any(|rule| {
            rule.usage.as_str() == "scram-sha-256"
                && rule
                    .hosts
                    .iter()
                    .any(|place| Some(place.host.as_str()) == host && place.port == permit.scope.port)
        });
        let proved = matches!(permit.scope.mode, TcpMode::Always | TcpMode::Start);
        Broken::unless(named && proved, || {
            format!("{} goes to {} unnamed, or without TLS", secret.path, permit.scope)
        })?;
    }
    for permit in remit.exec() {
        let Some((_, secret)) = &permit.secret else { continue };
        let named = rules(&secret.path).any(|rule| rule.programs.contains(&permit.program));
        Broken::unless(named, || format!("{} goes to the program {} unnamed", secret.path, permit.program))?;
    }
    for secret in remit.reveal() {
        let named = rules(&secret.path).any(|rule| rule.usage.as_str() == "reveal");
        Broken::unless(named, || format!("{} is revealed unnamed", secret.path))?;
    }
    for login in remit.ssh().into_iter().flat_map(|permit| &permit.secrets) {
        for user in &login.users {
            let named = rules(&login.secret.path).any(|rule| rule.users.contains(user));
            Broken::unless(named, || format!("{} logs in as {user} unnamed", login.secret.path))?;
        }
    }
    Ok(())
}
