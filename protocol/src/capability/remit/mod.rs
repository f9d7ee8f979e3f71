//! The one way to a remit: a grant that request and ceiling both cover.

mod ceiling;
mod remedy;
mod request;

use std::collections::BTreeMap;

use serde::Serialize;

use self::ceiling::Context;
pub use self::request::covered_by_request;
use super::{
    Ceiling, Denial, Grant, Requests, exec::ExecPermit, files::FilesPermit, http::HttpPermit,
    secrets::BoundSecret, ssh::SshPermit, tcp::TcpPermit,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{capability::Side, limits::LimitsPart};

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
