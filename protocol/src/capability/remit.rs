//! The one way to a remit: a grant that request and ceiling both cover.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Ceiling, Denial, Grant, Requests, Side,
    exec::{self, ExecPermit},
    files::{FilesGrant, FilesPermit},
    http::{HttpCeiling, HttpPermit},
    secrets::{BoundSecret, HttpPlacement, SecretCeiling, SecretUse},
    ssh::{SshLogin, SshPermit, SshPlace},
    tcp::{self, TcpPermit},
};
use crate::{ComponentName, Digest, Limits, ProjectName, SecretName, SecretPath};

/// For whom a remit is computed: ceilings name components and projects.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The verified component's name.
    pub component: &'a ComponentName,
    /// The project of the execution.
    pub project: &'a ProjectName,
}

/// Exactly what one run of one step may do. Made before the sandbox exists; nothing can widen it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remit {
    http: Vec<HttpPermit>,
    exec: Vec<ExecPermit>,
    ssh: Option<SshPermit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tcp: Vec<TcpPermit>,
    files: FilesPermit,
    reveal: Vec<BoundSecret>,
    limits: Limits,
}

impl Remit {
    /// Computes the remit, or says everything that is lacking.
    ///
    /// `asked` are the manifest's limits and `secrets` the job's binding of names to paths. For SSH, `secrets` may bind
    /// a name to several paths: a node attribute chooses among them.
    pub fn compute(
        subject: Subject<'_>,
        requests: &Requests,
        asked: Limits,
        grant: &Grant,
        secrets: &BTreeMap<SecretName, Vec<SecretPath>>,
        ceiling: &Ceiling,
    ) -> Result<Self, Vec<Denial>> {
        let mut denials = covered_by_request(requests, grant).err().unwrap_or_default();
        let limits = asked.lowered(&grant.limits).least(ceiling.limits.or_most());
        let mut remit = Self {
            http: vec![],
            exec: vec![],
            ssh: None,
            tcp: vec![],
            files: FilesPermit::default(),
            reveal: vec![],
            limits,
        };
        let context = Context { subject, secrets, ceiling };
        context.http(grant, &mut remit, &mut denials);
        context.exec(grant, &mut remit, &mut denials);
        context.ssh(grant, &mut remit, &mut denials);
        context.tcp(grant, &mut remit, &mut denials);
        context.files(grant, &mut remit, &mut denials);
        context.reveal(grant, &mut remit, &mut denials);
        if denials.is_empty() { Ok(remit) } else { Err(denials) }
    }

    /// The rules for HTTP.
    pub fn http(&self) -> &[HttpPermit] {
        &self.http
    }

    /// The programs.
    pub fn exec(&self) -> &[ExecPermit] {
        &self.exec
    }

    /// SSH to the node, if given.
    pub fn ssh(&self) -> Option<&SshPermit> {
        self.ssh.as_ref()
    }

    /// TCP connections.
    pub fn tcp(&self) -> &[TcpPermit] {
        &self.tcp
    }

    /// Scratch directory and named paths.
    pub fn files(&self) -> &FilesPermit {
        &self.files
    }

    /// The secrets whose value the component may see.
    pub fn reveal(&self) -> &[BoundSecret] {
        &self.reveal
    }

    /// The limits: the least of manifest, grant and ceiling.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// True if it takes anything from outside of the sandbox. A scratch directory, artifacts and the files of options do not
    /// count: they are the run's own.
    pub fn reaches_out(&self) -> bool {
        // Each field by its name, so that a new capability is not forgotten: what it does is the broker's.
        let Self { http, exec, ssh, tcp, files, reveal, limits: _ } = self;
        !(http.is_empty()
            && exec.is_empty()
            && ssh.is_none()
            && tcp.is_empty()
            && files.named.is_empty()
            && reveal.is_empty())
    }

    /// Every secret that this remit can use: what redaction has to know.
    pub fn secrets(&self) -> Vec<&BoundSecret> {
        let http = self.http.iter().filter_map(|permit| permit.secret.as_ref());
        let exec = self.exec.iter().filter_map(|permit| permit.secret.as_ref().map(|(_, secret)| secret));
        let ssh = self.ssh.iter().flat_map(|permit| permit.secrets.iter().map(|login| &login.secret));
        let tcp = self.tcp.iter().filter_map(|permit| permit.secret.as_ref());
        let mut all: Vec<_> = http.chain(exec).chain(ssh).chain(tcp).chain(&self.reveal).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all.dedup_by(|a, b| a.path == b.path);
        all
    }

    /// Identifies the remit in every record.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Refuses what `grant` gives and the manifest does not ask for. Checked at save, and again by [`Remit::compute`].
pub fn covered_by_request(requests: &Requests, grant: &Grant) -> Result<(), Vec<Denial>> {
    let mut denials = Vec::new();
    let mut check = |covered: bool, permission: String, remedy: String| {
        if !covered {
            denials.push(Denial { permission, side: Side::Request, remedy });
        }
    };
    for given in &grant.http {
        let covered = requests.http.iter().any(|asked| asked.covers(given));
        check(covered, given.scope.to_string(), http_lines("[[http]]", given));
    }
    for given in &grant.exec {
        let covered = requests.exec.iter().any(|asked| asked.covers(given));
        check(covered, format!("exec {}", given.program), format!("[[exec]]\nprogram = {:?}", given.program));
    }
    for given in &grant.ssh {
        let covered = requests.ssh.iter().any(|asked| asked.covers(given));
        check(covered, "ssh to the node".to_owned(), "[[ssh]]\ntarget = \"node\"".to_owned());
    }
    for given in &grant.tcp {
        let covered = requests.tcp.iter().any(|asked| asked.covers(given));
        check(covered, given.scope.to_string(), tcp::lines("[[tcp]]", &given.scope));
    }
    for given in &grant.files {
        let covered = requests.files.iter().any(|asked| asked.covers(given));
        match given {
            FilesGrant::Scratch => {
                check(covered, "a scratch directory".into(), "[[files]]\nscratch = true".into());
            }
            FilesGrant::Artifacts => {
                check(covered, "artifacts".into(), "[[files]]\nartifacts = true".into());
            }
            FilesGrant::Option(name) => {
                check(
                    covered,
                    format!("the file of the option {name}"),
                    "[[files]]\npath = \"granted\"".into(),
                );
            }
            FilesGrant::Named(name) => {
                check(covered, format!("files {name}"), format!("[[files]]\nname = {name:?}"));
            }
        }
    }
    for given in &grant.reveal {
        let covered = requests.reveal.contains(given);
        check(covered, format!("reveal {}", given.name), format!("[[reveal]]\nname = \"{}\"", given.name));
    }
    if denials.is_empty() { Ok(()) } else { Err(denials) }
}

fn quoted<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

fn http_lines(header: &str, given: &super::http::HttpGrant) -> String {
    let scope = &given.scope;
    if let Some(name) = scope.endpoint() {
        return format!(
            "{header}\nendpoint = \"{name}\"\nmethods = [{}]\npaths = [{}]",
            quoted(scope.methods.iter().map(|method| method.as_str())),
            quoted(scope.paths.iter().map(|path| path.as_str())),
        );
    }
    format!(
        "{header}\n{}host = \"{}\"\nport = {}\nmethods = [{}]\npaths = [{}]",
        if scope.scheme == super::http::Scheme::Http { "scheme = \"http\"\n" } else { "" },
        scope.host,
        scope.port,
        quoted(scope.methods.iter().map(|method| method.as_str())),
        quoted(scope.paths.iter().map(|path| path.as_str())),
    )
}

struct Context<'a> {
    subject: Subject<'a>,
    secrets: &'a BTreeMap<SecretName, Vec<SecretPath>>,
    ceiling: &'a Ceiling,
}

impl Context<'_> {
    fn http(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.http {
            let Subject { component, project } = self.subject;
            let permits = |ceiling: &&HttpCeiling| ceiling.permits(&given.scope, component, project);
            let Some(ceiling) = self.ceiling.http.iter().find(permits) else {
                let lines = http_lines("[[ceiling.http]]", given);
                let remedy = match given.scope.endpoint() {
                    None => lines,
                    Some(name) => {
                        // Where the owner has it already stays on the host.
                        let known =
                            self.ceiling.http.iter().any(|rule| rule.scope.endpoint() == Some(name.clone()));
                        let unix = match known {
                            true => "unix = \"/…\"   # the socket of its other rules".to_owned(),
                            false => format!("unix = \"/run/{name}.sock\""),
                        };
                        format!("{lines}\n{unix}\ncomponents = [\"{component}\"]")
                    }
                };
                denials.push(Denial { permission: given.scope.to_string(), side: Side::Ceiling, remedy });
                continue;
            };
            let secret = match &given.secret {
                None => None,
                Some(wanted) => {
                    let host = given.scope.host.exact().unwrap_or_default();
                    let port = given.scope.port;
                    let placed = |rule: &SecretCeiling| {
                        rule.hosts.iter().any(|named| named.host == host && named.port == port)
                    };
                    let places = format!("hosts = [\"{host}:{port}\"]");
                    match self.one_secret(&wanted.name, wanted.placement.kind(), placed, &places, denials) {
                        Some(path) => Some(bound(&wanted.name, path, Some(wanted.placement.clone()))),
                        None => continue,
                    }
                }
            };
            remit.http.push(HttpPermit {
                scope: given.scope.clone(),
                unix: ceiling.endpoint.as_ref().map(|endpoint| endpoint.unix.clone()),
                private: if given.private { ceiling.private.clone() } else { Vec::new() },
                via: ceiling.via,
                ca_file: ceiling.ca_file.clone(),
                secret,
            });
        }
    }

    fn exec(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.exec {
            let fits = |args: &[exec::ArgPattern]| {
                given.args.as_ref().is_none_or(|wanted| exec::covers_all(args, wanted))
            };
            let ceilings: Vec<_> =
                self.ceiling.exec.iter().filter(|c| c.program == given.program && fits(&c.args)).collect();
            if ceilings.is_empty() {
                let args = given.args.iter().flatten();
                denials.push(Denial {
                    permission: format!("exec {}", given.program),
                    side: Side::Ceiling,
                    remedy: format!(
                        "[[ceiling.exec]]\nprogram = {:?}\npath = \"/usr/bin/{}\"\nargs = [{}]",
                        given.program,
                        given.program,
                        quoted(args)
                    ),
                });
                continue;
            }
            let secret = match &given.secret {
                None => None,
                Some(wanted) => {
                    let placed = |rule: &SecretCeiling| rule.programs.contains(&given.program);
                    let places = format!("programs = [\"{}\"]", given.program);
                    match self.one_secret(&wanted.name, wanted.given.usage(), placed, &places, denials) {
                        Some(path) => Some((wanted.given.clone(), bound(&wanted.name, path, None))),
                        None => continue,
                    }
                }
            };
            for ceiling in ceilings {
                remit.exec.push(ExecPermit {
                    program: given.program.clone(),
                    path: ceiling.path.clone(),
                    args: std::iter::once(ceiling.args.clone()).chain(given.args.clone()).collect(),
                    cwd: ceiling.cwd.clone(),
                    env: ceiling.env.clone(),
                    variables: ceiling.variables.clone(),
                    secret: secret.clone(),
                });
            }
        }
    }

    fn ssh(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.ssh {
            if self.ceiling.ssh.is_empty() {
                denials.push(Denial {
                    permission: "ssh to the node".to_owned(),
                    side: Side::Ceiling,
                    remedy: "[[ceiling.ssh]]\naddresses = [\"10.20.0.0/16\"]\nusers = [\"deploy\"]\nknown_hosts = \"known_hosts\""
                        .to_owned(),
                });
                continue;
            }
            let mut logins = Vec::new();
            if let Some(wanted) = &given.secret {
                let paths = self.paths(&wanted.name, denials);
                for path in paths {
                    let rules = self.rules(path, wanted.usage).collect::<Vec<_>>();
                    if rules.is_empty() {
                        denials.push(self.secret_denial(path, wanted.usage, "users = [\"deploy\"]"));
                        continue;
                    }
                    logins.push(SshLogin {
                        secret: bound(&wanted.name, path, None),
                        users: rules.into_iter().flat_map(|rule| rule.users.clone()).collect(),
                    });
                }
            }
            let places = self.ceiling.ssh.iter().map(|place| SshPlace {
                addresses: place.addresses.clone(),
                port: place.port,
                users: place.users.clone(),
                known_hosts: place.known_hosts.clone(),
            });
            remit.ssh = Some(SshPermit {
                places: places.collect(),
                usage: given.secret.as_ref().map(|secret| secret.usage),
                secrets: logins,
            });
        }
    }

    fn tcp(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.tcp {
            let Some(ceiling) = self.ceiling.tcp.iter().find(|ceiling| ceiling.scope.covers(&given.scope))
            else {
                denials.push(Denial {
                    permission: given.scope.to_string(),
                    side: Side::Ceiling,
                    remedy: tcp::lines("[[ceiling.tcp]]", &given.scope),
                });
                continue;
            };
            let secret = match &given.secret {
                None => None,
                Some(wanted) => {
                    let (host, port) = (given.scope.host.exact().unwrap_or_default(), given.scope.port);
                    let placed = |rule: &SecretCeiling| {
                        rule.hosts.iter().any(|named| named.host == host && named.port == port)
                    };
                    let places = format!("hosts = [\"{host}:{port}\"]");
                    match self.one_secret(&wanted.name, wanted.usage, placed, &places, denials) {
                        Some(path) => Some(bound(&wanted.name, path, None)),
                        None => continue,
                    }
                }
            };
            remit.tcp.push(TcpPermit {
                scope: given.scope.clone(),
                private: if given.private { ceiling.private.clone() } else { Vec::new() },
                ca_file: ceiling.ca_file.clone(),
                secret,
            });
        }
    }

    fn files(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.files {
            match given {
                FilesGrant::Scratch => remit.files.scratch = true,
                FilesGrant::Artifacts => remit.files.artifacts = true,
                // It is nothing of this host's: whoever runs the job gives it.
                FilesGrant::Option(name) => remit.files.options.push(name.clone()),
                FilesGrant::Named(name) => match self.ceiling.files.iter().find(|file| file.name == *name) {
                    Some(file) => remit.files.named.push((name.clone(), file.path.clone())),
                    None => denials.push(Denial {
                        permission: format!("files {name}"),
                        side: Side::Ceiling,
                        remedy: format!("[[ceiling.files]]\nname = {name:?}\npath = \"/…\"\nmode = \"ro\""),
                    }),
                },
            }
        }
    }

    fn reveal(&self, grant: &Grant, remit: &mut Remit, denials: &mut Vec<Denial>) {
        for given in &grant.reveal {
            if let Some(path) = self.one_secret(&given.name, SecretUse::Reveal, |_| true, "", denials) {
                remit.reveal.push(bound(&given.name, path, None));
            }
        }
    }

    /// The paths that the job binds `name` to; says so if there is none.
    fn paths(&self, name: &SecretName, denials: &mut Vec<Denial>) -> &[SecretPath] {
        let paths = self.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
        if paths.is_empty() {
            denials.push(Denial {
                permission: format!("the secret {name}"),
                side: Side::Grant,
                remedy: format!("secrets: {{ {name}: keys/… }}"),
            });
        }
        paths
    }

    /// The owner's rules for a secret used in this way by this component in this project.
    fn rules<'b>(
        &'b self,
        path: &'b SecretPath,
        usage: SecretUse,
    ) -> impl Iterator<Item = &'b SecretCeiling> {
        self.ceiling.secrets.iter().filter(move |rule| {
            rule.path == *path
                && rule.usage == usage
                && rule.components.as_ref().is_none_or(|named| named.contains(self.subject.component))
                && rule.projects.as_ref().is_none_or(|named| named.contains(self.subject.project))
        })
    }

    /// The one path that `name` is bound to, if the owner lets it be used so at the place that `placed` looks for.
    fn one_secret(
        &self,
        name: &SecretName,
        usage: SecretUse,
        placed: impl Fn(&SecretCeiling) -> bool,
        places: &str,
        denials: &mut Vec<Denial>,
    ) -> Option<&SecretPath> {
        let path = match self.paths(name, denials) {
            [] => return None,
            [path] => path,
            [_, ..] => {
                denials.push(Denial {
                    permission: format!("the secret {name}, bound to several paths"),
                    side: Side::Grant,
                    remedy: format!(
                        "secrets: {{ {name}: keys/… }}   # one path; only ssh chooses among several"
                    ),
                });
                return None;
            }
        };
        if self.rules(path, usage).any(placed) {
            return Some(path);
        }
        denials.push(self.secret_denial(path, usage, places));
        None
    }

    fn secret_denial(&self, path: &SecretPath, usage: SecretUse, places: &str) -> Denial {
        Denial {
            permission: format!("the secret {path} as {}", usage.as_str()),
            side: Side::Ceiling,
            remedy: format!(
                "[[ceiling.secrets]]\npath = \"{path}\"\nuse = \"{}\"\n{places}{}components = [\"{}\"]",
                usage.as_str(),
                if places.is_empty() { "" } else { "\n" },
                self.subject.component
            ),
        }
    }
}

fn bound(name: &SecretName, path: &SecretPath, placement: Option<HttpPlacement>) -> BoundSecret {
    BoundSecret { name: name.clone(), path: path.clone(), placement }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::limits::LimitsPart;

    fn compute(
        requests: serde_json::Value,
        grant: serde_json::Value,
        ceiling: Ceiling,
    ) -> Result<Remit, Vec<Denial>> {
        let secrets =
            BTreeMap::from([(SecretName::new("token").unwrap(), vec![SecretPath::new("keys/t").unwrap()])]);
        Remit::compute(
            Subject {
                component: &ComponentName::new("acme/x").unwrap(),
                project: &ProjectName::new("ops").unwrap(),
            },
            &serde_json::from_value(requests).unwrap(),
            Limits::default(),
            &serde_json::from_value(grant).unwrap(),
            &secrets,
            &ceiling,
        )
    }

    fn ceiling(http: serde_json::Value, secrets: serde_json::Value) -> Ceiling {
        Ceiling {
            http: serde_json::from_value(http).unwrap(),
            secrets: serde_json::from_value(secrets).unwrap(),
            ..Ceiling::default()
        }
    }

    #[test]
    fn each_side_can_refuse() {
        let rule = json!([{"host": "a.example", "methods": ["GET"], "paths": ["/v1"]}]);
        let wide = json!([{"host": "a.example", "methods": ["GET", "POST"], "paths": ["/"]}]);
        let side = |result: Result<Remit, Vec<Denial>>| result.err().map(|denials| denials[0].side);
        let request = json!({"http": rule});
        assert_eq!(
            side(compute(request.clone(), json!({"http": rule}), ceiling(wide.clone(), json!([])))),
            None
        );
        assert_eq!(
            side(compute(request.clone(), json!({"http": wide}), ceiling(wide, json!([])))),
            Some(Side::Request)
        );
        assert_eq!(side(compute(request, json!({"http": rule}), Ceiling::default())), Some(Side::Ceiling));
    }

    #[test]
    fn a_secret_goes_only_where_the_owner_named_it() {
        let rule = json!([{"host": "a.example", "methods": ["GET"], "paths": ["/"],
                           "secret": {"name": "token", "use": "bearer"}}]);
        let plain = json!([{"host": "a.example", "methods": ["GET"], "paths": ["/"]}]);
        let check = |secrets: serde_json::Value, expect: bool| {
            let found = compute(
                json!({"http": rule}),
                json!({"http": rule}),
                ceiling(plain.clone(), secrets.clone()),
            );
            assert_eq!(found.is_ok(), expect, "{secrets}: {found:?}");
        };
        check(json!([]), false);
        check(json!([{"path": "keys/t", "use": "bearer", "hosts": ["a.example"]}]), true);
        check(json!([{"path": "keys/t", "use": "bearer", "hosts": ["a.example:443"]}]), true);
        check(json!([{"path": "keys/t", "use": "bearer", "hosts": ["a.example:8443"]}]), false);
        check(json!([{"path": "keys/t", "use": "basic", "hosts": ["a.example"]}]), false);
        check(json!([{"path": "keys/t", "use": "bearer", "hosts": ["b.example"]}]), false);
        check(json!([{"path": "keys/u", "use": "bearer", "hosts": ["a.example"]}]), false);
        check(
            json!([{"path": "keys/t", "use": "bearer", "hosts": ["a.example"], "components": ["acme/y"]}]),
            false,
        );
        check(
            json!([{"path": "keys/t", "use": "bearer", "hosts": ["a.example"], "projects": ["ops"]}]),
            true,
        );
        check(
            json!([{"path": "keys/t", "use": "bearer", "hosts": ["a.example"], "projects": ["dev"]}]),
            false,
        );
    }

    #[test]
    fn an_endpoint_is_a_socket_of_the_owners_and_for_whom_he_named() {
        let rule = |paths: &[&str]| json!([{"endpoint": "docker", "methods": ["GET"], "paths": paths}]);
        let owner = |components: &[&str]| {
            json!([{"endpoint": "docker", "unix": "/run/docker.sock", "methods": ["GET", "POST"],
                    "paths": ["/v1.41/containers"], "components": components}])
        };
        let asked = json!({"http": rule(&["/v1.41/containers/json"])});
        let granted = compute(asked.clone(), asked.clone(), ceiling(owner(&["acme/x"]), json!([]))).unwrap();
        assert_eq!(granted.http()[0].unix.as_deref(), Some(std::path::Path::new("/run/docker.sock")));
        assert!(granted.reaches_out());
        let denied = |found: Result<Remit, Vec<Denial>>| found.unwrap_err().remove(0);
        let other = denied(compute(asked.clone(), asked.clone(), ceiling(owner(&["acme/y"]), json!([]))));
        assert_eq!(other.permission, "http GET http://docker.endpoint.alt:80/v1.41/containers/json");
        assert_eq!(
            other.remedy,
            "[[ceiling.http]]\nendpoint = \"docker\"\nmethods = [\"GET\"]\npaths = [\"/v1.41/containers/json\"]\n\
             unix = \"/…\"   # the socket of its other rules\ncomponents = [\"acme/x\"]"
        );
        let unknown = denied(compute(asked.clone(), asked.clone(), Ceiling::default()));
        assert!(
            unknown.remedy.ends_with("\nunix = \"/run/docker.sock\"\ncomponents = [\"acme/x\"]"),
            "{unknown}"
        );
        let wider = json!({"http": rule(&["/v1.41/images"])});
        assert_eq!(
            denied(compute(asked, wider.clone(), ceiling(owner(&["acme/x"]), json!([])))).side,
            Side::Request
        );
        assert_eq!(
            denied(compute(wider.clone(), wider, ceiling(owner(&["acme/x"]), json!([])))).side,
            Side::Ceiling
        );
        // A secret goes there only by the owner's word, too.
        let bound = json!({"http": [{"endpoint": "docker", "methods": ["GET"], "paths": ["/v1.41/containers"],
                                     "secret": {"name": "token", "use": "header", "header": "x-auth"}}]});
        let check = |secrets: serde_json::Value, expect: bool| {
            let found = compute(bound.clone(), bound.clone(), ceiling(owner(&["acme/x"]), secrets));
            assert_eq!(found.is_ok(), expect, "{found:?}");
        };
        check(json!([]), false);
        check(json!([{"path": "keys/t", "use": "header", "hosts": ["docker.endpoint.alt:80"]}]), true);
        check(json!([{"path": "keys/t", "use": "header", "hosts": ["podman.endpoint.alt:80"]}]), false);
    }

    #[test]
    fn a_password_is_proved_only_where_the_owner_named_it() {
        let rule = json!([{"host": "db.a.example", "port": 5432, "tls": "start",
                           "secret": {"name": "token", "use": "scram-sha-256"}}]);
        let check = |secrets: serde_json::Value, expect: bool| {
            let places = json!([{"host": "**.a.example", "port": 5432, "tls": "start"}]);
            let ceiling = Ceiling {
                tcp: serde_json::from_value(places).unwrap(),
                secrets: serde_json::from_value(secrets.clone()).unwrap(),
                ..Ceiling::default()
            };
            let found = compute(json!({"tcp": rule}), json!({"tcp": rule}), ceiling);
            assert_eq!(found.is_ok(), expect, "{secrets}: {found:?}");
            if let Ok(remit) = found {
                assert_eq!(remit.secrets().len(), 1);
            }
        };
        let at = |usage: &str, host: &str| json!([{"path": "keys/t", "use": usage, "hosts": [host]}]);
        check(json!([]), false);
        check(at("scram-sha-256", "db.a.example:5432"), true);
        check(at("scram-sha-256", "db.a.example"), false);
        check(at("scram-sha-256", "other.a.example:5432"), false);
        check(at("bearer", "db.a.example:5432"), false);
    }

    #[test]
    fn whatever_is_outside_of_the_sandbox_is_reached_by_a_broker() {
        let check = |grant: serde_json::Value, expect: bool| {
            let ceiling = Ceiling {
                exec: serde_json::from_value(json!([{"program": "ls", "path": "/bin/ls", "args": []}]))
                    .unwrap(),
                tcp: serde_json::from_value(json!([{"host": "a.example", "port": 25}])).unwrap(),
                files: serde_json::from_value(json!([{"name": "n", "path": "/n"}])).unwrap(),
                ssh: serde_json::from_value(
                    json!([{"addresses": ["10.0.0.0/8"], "users": ["u"], "known_hosts": "k"}]),
                )
                .unwrap(),
                secrets: serde_json::from_value(json!([{"path": "keys/t", "use": "reveal"}])).unwrap(),
                ..ceiling(json!([{"host": "a.example", "methods": ["GET"], "paths": ["/"]}]), json!([]))
            };
            let remit = compute(grant.clone(), grant.clone(), ceiling).unwrap();
            assert_eq!(remit.reaches_out(), expect, "{grant}");
        };
        check(json!({}), false);
        check(json!({"files": [{"scratch": true}, {"artifacts": true}]}), false);
        check(json!({"http": [{"host": "a.example", "methods": ["GET"], "paths": ["/"]}]}), true);
        check(json!({"exec": [{"program": "ls", "args": []}]}), true);
        check(json!({"ssh": [{"target": "node"}]}), true);
        check(json!({"tcp": [{"host": "a.example", "port": 25}]}), true);
        check(json!({"tcp": [{"host": "a.example", "port": 25, "connect_only": true}]}), true);
        check(json!({"files": [{"name": "n"}]}), true);
        check(json!({"reveal": [{"name": "token"}]}), true);
    }

    #[test]
    fn limits_are_the_least_of_three() {
        let grant = json!({"limits": {"memory": "16MiB"}});
        let limits = LimitsPart { wall: Some("5s".parse().unwrap()), ..LimitsPart::default() };
        let remit = compute(json!({}), grant, Ceiling { limits, ..Ceiling::default() }).unwrap();
        assert_eq!(remit.limits().memory.to_string(), "16MiB");
        assert_eq!(remit.limits().wall.to_string(), "5s");
        assert_eq!(remit.limits().log, Limits::default().log);
    }
}
