//! Grants in full: what the author wrote, or what the component requests; never anything that it does not request.

use std::collections::BTreeMap;

use remit_protocol::{
    SecretName, SecretPath,
    capability::{
        Grant, Requests, covered_by_request,
        exec::{ExecGrant, ExecRequest},
        files::{FilesGrant, FilesRequest},
        http::{HttpGrant, HttpRequest, HttpWish},
        ssh::SshGrant,
        tcp::{TcpGrant, TcpRequest, TcpWish},
    },
    endpoint::Fault,
    manifest::Manifest,
    nearest::nearest,
};

use super::fault;
use crate::{
    document::Per,
    source::{ComponentSource, GrantSource, HttpRule},
};

/// The step's grant, with a fault for each rule that cannot be given.
pub(super) fn expand(
    step: &ComponentSource,
    per: Per,
    manifest: &Manifest,
    place: &str,
    faults: &mut Vec<Fault>,
) -> Grant {
    let mut expand = Expand { step, manifest, place, faults };
    let mut grant = match &step.grant {
        None => expand.requested(),
        Some(written) => expand.written(written),
    };
    grant.limits = step.limits;
    if !grant.ssh.is_empty() && per == Per::Once {
        let message =
            "the step may use ssh to the node that it is run for, but it is run once, without a node";
        expand.faults.push(fault(format!("{place}.per"), message, "add `per: node` to the step"));
    }
    grant
}

struct Expand<'a> {
    step: &'a ComponentSource,
    manifest: &'a Manifest,
    place: &'a str,
    faults: &'a mut Vec<Fault>,
}

impl Expand<'_> {
    fn requests(&self) -> &Requests {
        &self.manifest.requests
    }

    /// Everything literal that the component requests. What is open has to be filled by the author.
    fn requested(&mut self) -> Grant {
        let mut grant = Grant::default();
        let mut open = Vec::new();
        for request in &self.manifest.requests.http {
            match &request.scope {
                HttpWish::Literal(scope) => {
                    let (private, secret) = (request.private, request.secret.clone());
                    grant.http.push(HttpGrant { scope: scope.clone(), private, secret });
                }
                HttpWish::Open { .. } => open.push("which hosts it may call"),
            }
        }
        for request in &self.manifest.requests.exec {
            match &request.program {
                Some(program) => grant.exec.push(ExecGrant {
                    program: program.clone(),
                    args: request.args.clone(),
                    secret: request.secret.clone(),
                }),
                None => open.push("which programs it may start"),
            }
        }
        for request in &self.manifest.requests.files {
            match request {
                FilesRequest::Scratch => grant.files.push(FilesGrant::Scratch),
                FilesRequest::Artifacts => grant.files.push(FilesGrant::Artifacts),
                FilesRequest::Named(name) => grant.files.push(FilesGrant::Named(name.clone())),
                FilesRequest::Open => open.push("which files it may read"),
            }
        }
        for request in &self.manifest.requests.tcp {
            match &request.scope {
                TcpWish::Literal(scope) => {
                    let (private, secret) = (request.private, request.secret.clone());
                    grant.tcp.push(TcpGrant { scope: scope.clone(), private, secret });
                }
                TcpWish::Open { .. } => open.push("what it may connect to"),
            }
        }
        grant.ssh.clone_from(&self.manifest.requests.ssh);
        grant.reveal.clone_from(&self.manifest.requests.reveal);
        open.dedup();
        if !open.is_empty() {
            let message = format!(
                "{} leaves it to the job {}, and the step has no `grant`",
                self.manifest.name,
                open.join(" and ")
            );
            let remedy = format!("add to the step:\n{}", lines(self.requests(), &self.step.secrets));
            self.faults.push(fault(self.place, message, remedy));
        }
        grant
    }

    fn written(&mut self, written: &GrantSource) -> Grant {
        let mut grant = Grant::default();
        for (at, rule) in written.http.iter().enumerate() {
            let place = format!("{}.grant.http[{at}]", self.place);
            let given = match rule {
                HttpRule::Literal(given) => Some(self.with_http_secret(given.clone())),
                HttpRule::Named { .. } => self.named(rule, &place),
            };
            if let Some(given) = given {
                self.covered(&place, Grant { http: vec![given.clone()], ..Grant::default() });
                grant.http.push(given);
            }
        }
        for (at, given) in written.exec.iter().enumerate() {
            let given = self.with_exec_secret(given.clone());
            self.covered(
                &format!("{}.grant.exec[{at}]", self.place),
                Grant { exec: vec![given.clone()], ..Grant::default() },
            );
            grant.exec.push(given);
        }
        for (at, given) in written.ssh.iter().enumerate() {
            let given = self.with_ssh_secret(given.clone());
            self.covered(
                &format!("{}.grant.ssh[{at}]", self.place),
                Grant { ssh: vec![given.clone()], ..Grant::default() },
            );
            grant.ssh.push(given);
        }
        for (at, given) in written.tcp.iter().enumerate() {
            let given = self.with_tcp_secret(given.clone());
            self.covered(
                &format!("{}.grant.tcp[{at}]", self.place),
                Grant { tcp: vec![given.clone()], ..Grant::default() },
            );
            grant.tcp.push(given);
        }
        for (at, given) in written.files.iter().enumerate() {
            self.covered(
                &format!("{}.grant.files[{at}]", self.place),
                Grant { files: vec![given.clone()], ..Grant::default() },
            );
            grant.files.push(given.clone());
        }
        for (at, given) in written.reveal.iter().enumerate() {
            self.covered(
                &format!("{}.grant.reveal[{at}]", self.place),
                Grant { reveal: vec![given.clone()], ..Grant::default() },
            );
            grant.reveal.push(given.clone());
        }
        grant
    }

    /// Refuses one rule that the component does not request.
    fn covered(&mut self, place: &str, grant: Grant) {
        for denial in covered_by_request(self.requests(), &grant).err().unwrap_or_default() {
            let asked = asks_for(self.requests());
            self.faults.push(fault(
                place,
                format!(
                    "{} is not among what {} requests, so it cannot be given",
                    denial.permission, self.manifest.name
                ),
                format!("{asked}; or add to its step.toml and publish a new version:\n{}", denial.remedy),
            ));
        }
    }

    /// The request of this `id`, narrowed.
    fn named(&mut self, rule: &HttpRule, place: &str) -> Option<HttpGrant> {
        let HttpRule::Named { id, methods, paths } = rule else { return None };
        let requests = &self.manifest.requests.http;
        let ids = || requests.iter().filter_map(|request| request.id.as_deref());
        let Some(request) = requests.iter().find(|request| request.id.as_ref() == Some(id)) else {
            let remedy = match nearest(id, ids()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if ids().next().is_none() => {
                    "its requests have no ids: write the rule out, with host, methods and paths".to_owned()
                }
                None => format!("its requests are {}", ids().collect::<Vec<_>>().join(", ")),
            };
            self.faults.push(fault(
                format!("{place}.id"),
                format!("{} has no request with the id {id:?}", self.manifest.name),
                remedy,
            ));
            return None;
        };
        let HttpWish::Literal(scope) = &request.scope else {
            let message = format!("the request {id:?} of {} is open: it names no host", self.manifest.name);
            let remedy = "write the rule out: { host: api.example.com, methods: [GET], paths: [/v1] }";
            self.faults.push(fault(format!("{place}.id"), message, remedy));
            return None;
        };
        let mut scope = scope.clone();
        if let Some(methods) = methods {
            scope.methods.clone_from(methods);
        }
        if let Some(paths) = paths {
            scope.paths.clone_from(paths);
        }
        Some(HttpGrant { scope, private: request.private, secret: request.secret.clone() })
    }

    fn binds(&self, name: &SecretName) -> bool {
        self.step.secrets.contains_key(name)
    }

    /// How a secret is used is the component's to say: a rule that names none takes that of the request that covers it.
    /// Where the request is open, only if the job binds it: the same component is used with and without.
    fn with_http_secret(&self, mut given: HttpGrant) -> HttpGrant {
        if given.secret.is_none() {
            let covers = |request: &&HttpRequest| request.covers(&given);
            let secret = self.requests().http.iter().filter(covers).find_map(|request| {
                let secret = request.secret.as_ref()?;
                let literal = matches!(request.scope, HttpWish::Literal(_));
                // A wildcard or plain http carries no credential; the rule is then without.
                let possible = given.scope.takes_secret();
                ((literal || self.binds(&secret.name)) && possible).then_some(secret)
            });
            given.secret = secret.cloned();
        }
        given
    }

    fn with_exec_secret(&self, mut given: ExecGrant) -> ExecGrant {
        if given.secret.is_none() {
            let covers = |request: &&ExecRequest| request.covers(&given);
            let secret = self.requests().exec.iter().filter(covers).find_map(|request| {
                request.secret.as_ref().filter(|secret| request.program.is_some() || self.binds(&secret.name))
            });
            given.secret = secret.cloned();
        }
        given
    }

    /// As [`with_http_secret`](Self::with_http_secret).
    fn with_tcp_secret(&self, mut given: TcpGrant) -> TcpGrant {
        if given.secret.is_none() && given.scope.takes_secret() {
            let covers = |request: &&TcpRequest| request.covers(&given);
            let secret = self.requests().tcp.iter().filter(covers).find_map(|request| {
                let literal = matches!(request.scope, TcpWish::Literal(_));
                request.secret.as_ref().filter(|secret| literal || self.binds(&secret.name))
            });
            given.secret = secret.cloned();
        }
        given
    }

    fn with_ssh_secret(&self, mut given: SshGrant) -> SshGrant {
        if given.secret.is_none() {
            given.secret = self.requests().ssh.iter().find_map(|request| request.secret.clone());
        }
        given
    }
}

/// What a component requests, in a sentence.
fn asks_for(requests: &Requests) -> String {
    let http = requests.http.iter().map(|request| match &request.scope {
        HttpWish::Literal(scope) => scope.to_string(),
        HttpWish::Open { methods: None } => "http to hosts that the job names".to_owned(),
        HttpWish::Open { methods: Some(methods) } => {
            let methods: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
            format!("http {} to hosts that the job names", methods.join(","))
        }
    });
    let exec = requests.exec.iter().map(|request| match &request.program {
        Some(program) => format!("the program {program}"),
        None => "programs that the job names".to_owned(),
    });
    let ssh = requests.ssh.iter().map(|_| "ssh to the node".to_owned());
    let tcp = requests.tcp.iter().map(|request| match &request.scope {
        TcpWish::Literal(scope) => scope.to_string(),
        TcpWish::Open { connect_only: true } => {
            "looking whether somebody listens where the job names it".to_owned()
        }
        TcpWish::Open { .. } => "connections that the job names".to_owned(),
    });
    let files = requests.files.iter().map(|request| match request {
        FilesRequest::Scratch => "a scratch directory".to_owned(),
        FilesRequest::Artifacts => "artifacts".to_owned(),
        FilesRequest::Named(name) => format!("the files {name}"),
        FilesRequest::Open => "files that the job names".to_owned(),
    });
    let reveal = requests.reveal.iter().map(|reveal| format!("the value of the secret {}", reveal.name));
    let all: Vec<_> = http.chain(exec).chain(ssh).chain(tcp).chain(files).chain(reveal).collect();
    if all.is_empty() {
        "it requests nothing: remove the rule".to_owned()
    } else {
        format!("it requests {}", all.join("; "))
    }
}

/// A grant to paste: every request, with a place to fill where it is open.
fn lines(requests: &Requests, secrets: &BTreeMap<SecretName, Vec<SecretPath>>) -> String {
    let mut text = "grant:\n".to_owned();
    let mut section = |name: &str, rules: Vec<String>| {
        if !rules.is_empty() {
            text.push_str(&format!("  {name}:\n"));
            for rule in rules {
                text.push_str(&format!("    - {rule}\n"));
            }
        }
    };
    section("http", requests.http.iter().map(|request| http_line(request, secrets)).collect());
    let exec = requests.exec.iter().map(|request| match &request.program {
        Some(program) => format!("{{ program: {program} }}"),
        None => "{ program: NAME, args: [\"{text}*\"] }".to_owned(),
    });
    section("exec", exec.collect());
    section("ssh", requests.ssh.iter().map(|_| "{ target: node }".to_owned()).collect());
    let tcp = requests.tcp.iter().map(|request| match &request.scope {
        TcpWish::Literal(scope) => format!("{{ host: {}, port: {} }}", scope.host, scope.port),
        TcpWish::Open { connect_only: true } => "{ host: HOST, port: PORT, connect_only: true }".to_owned(),
        TcpWish::Open { .. } => "{ host: HOST, port: PORT }".to_owned(),
    });
    section("tcp", tcp.collect());
    let files = requests.files.iter().map(|request| match request {
        FilesRequest::Scratch => "{ scratch: true }".to_owned(),
        FilesRequest::Artifacts => "{ artifacts: true }".to_owned(),
        FilesRequest::Named(name) => format!("{{ name: {name} }}"),
        FilesRequest::Open => "{ name: NAME }".to_owned(),
    });
    section("files", files.collect());
    section("reveal", requests.reveal.iter().map(|reveal| format!("{{ name: {} }}", reveal.name)).collect());
    text.trim_end().to_owned()
}

fn http_line(request: &HttpRequest, secrets: &BTreeMap<SecretName, Vec<SecretPath>>) -> String {
    let join = |items: Vec<&str>| items.join(", ");
    match (&request.scope, &request.id) {
        (HttpWish::Literal(_), Some(id)) => format!("{{ id: {id} }}"),
        (HttpWish::Literal(scope), None) => {
            let methods = join(scope.methods.iter().map(|method| method.as_str()).collect());
            let paths = join(scope.paths.iter().map(|path| path.as_str()).collect());
            let place = match scope.endpoint() {
                Some(name) => format!("endpoint: {name}"),
                None => format!("host: {}", scope.host),
            };
            format!("{{ {place}, methods: [{methods}], paths: [{paths}] }}")
        }
        (HttpWish::Open { methods }, _) => {
            let methods = match methods {
                Some(methods) => join(methods.iter().map(|method| method.as_str()).collect()),
                None => "GET".to_owned(),
            };
            // An open request leaves the use of a secret to the job; one that is bound wants a place.
            let secret = match (&request.secret, secrets.keys().next()) {
                (None, Some(name)) => format!(", secret: {{ name: {name}, use: bearer }}"),
                _ => String::new(),
            };
            format!("{{ host: HOST, methods: [{methods}], paths: [/]{secret} }}")
        }
    }
}
