//! What an owner's ceiling says to what a component asks for, rule by rule, before any job grants it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ComponentName, Limits, ProjectName,
    capability::{
        Ceiling, Grant, Remit, Requests, Side, Subject,
        exec::ExecGrant,
        files::{FilesGrant, FilesRequest},
        http::{HttpCeiling, HttpGrant, HttpWish},
        secrets::{SecretCeiling, SecretUse},
        ssh::SshRequest,
        tcp::{TcpGrant, TcpMode, TcpWish},
    },
};

/// What the ceiling says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// A job may grant it here.
    Granted,
    /// It may not be had here.
    Refused,
    /// It names nothing literal: what a job grants decides.
    Open,
}

/// One request and the answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighed {
    /// The capability: `http`, `exec`, `ssh`, `files` or `reveal`.
    pub capability: String,
    /// The request, as the manifest has it.
    pub rule: String,
    /// The answer.
    pub answer: Answer,
    /// The lines that would permit it, where it is refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// All that a manifest asks for, held against a ceiling.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scales {
    /// Each request.
    pub requests: Vec<Weighed>,
    /// Rules of the ceiling that no request of this component reaches.
    pub unused: Vec<String>,
}

/// Holds what `component` requests against `ceiling`. Which path a job binds to a secret is not known here: it counts
/// whether the owner names any secret for that place.
pub fn weigh(component: &ComponentName, requests: &Requests, ceiling: &Ceiling) -> Scales {
    let scales = Pan { component, ceiling };
    let anywhere = |_: &SecretCeiling| true;
    let mut weighed = Vec::new();
    for asked in &requests.http {
        let literal = match &asked.scope {
            HttpWish::Open { .. } => None,
            HttpWish::Literal(scope) => {
                let http = HttpGrant { scope: scope.clone(), private: asked.private, secret: None };
                let placed = |rule: &SecretCeiling| {
                    let host = scope.host.exact().unwrap_or_default();
                    rule.hosts.iter().any(|named| named.host == host && named.port == scope.port)
                };
                let secret =
                    asked.secret.as_ref().map(|secret| (secret.placement.kind(), &placed as AtPlace<'_>));
                let grant = Grant { http: vec![http], ..Grant::default() };
                Some(scales.answer(&grant, secret))
            }
        };
        weighed.push(one("http", asked, literal));
    }
    for asked in &requests.exec {
        let literal = asked.program.as_ref().map(|program| {
            let exec = ExecGrant { program: program.clone(), args: asked.args.clone(), secret: None };
            let placed = |rule: &SecretCeiling| rule.programs.contains(program);
            let secret = asked.secret.as_ref().map(|secret| (secret.given.usage(), &placed as AtPlace<'_>));
            scales.answer(&Grant { exec: vec![exec], ..Grant::default() }, secret)
        });
        weighed.push(one("exec", asked, literal));
    }
    for asked in &requests.ssh {
        let grant = Grant { ssh: vec![SshRequest { secret: None, ..asked.clone() }], ..Grant::default() };
        let secret = asked.secret.as_ref().map(|secret| (secret.usage, &anywhere as AtPlace<'_>));
        weighed.push(one("ssh", asked, Some(scales.answer(&grant, secret))));
    }
    for asked in &requests.tcp {
        let literal = match &asked.scope {
            TcpWish::Open { .. } => None,
            TcpWish::Literal(scope) => {
                let tcp = TcpGrant { scope: scope.clone(), private: asked.private, secret: None };
                let placed = |rule: &SecretCeiling| {
                    let host = scope.host.exact().unwrap_or_default();
                    rule.hosts.iter().any(|named| named.host == host && named.port == scope.port)
                };
                let secret = asked.secret.as_ref().map(|secret| (secret.usage, &placed as AtPlace<'_>));
                Some(scales.answer(&Grant { tcp: vec![tcp], ..Grant::default() }, secret))
            }
        };
        weighed.push(one("tcp", asked, literal));
    }
    for asked in &requests.files {
        let literal = match asked {
            FilesRequest::Open => None,
            FilesRequest::Scratch => Some(FilesGrant::Scratch),
            FilesRequest::Artifacts => Some(FilesGrant::Artifacts),
            FilesRequest::Named(name) => Some(FilesGrant::Named(name.clone())),
        };
        let literal =
            literal.map(|given| scales.answer(&Grant { files: vec![given], ..Grant::default() }, None));
        weighed.push(one("files", asked, literal));
    }
    for asked in &requests.reveal {
        let secret = Some((SecretUse::Reveal, &anywhere as AtPlace<'_>));
        weighed.push(one("reveal", asked, Some(scales.answer(&Grant::default(), secret))));
    }
    Scales { requests: weighed, unused: unused(requests, ceiling) }
}

/// Whether an owner's rule for a secret is about the place in question.
type AtPlace<'a> = &'a dyn Fn(&SecretCeiling) -> bool;

fn one(capability: &str, rule: &impl Serialize, literal: Option<Result<(), String>>) -> Weighed {
    let (answer, remedy) = match literal {
        None => (Answer::Open, String::new()),
        Some(Ok(())) => (Answer::Granted, String::new()),
        Some(Err(remedy)) => (Answer::Refused, remedy),
    };
    let rule = serde_json::to_string(rule).unwrap_or_default();
    Weighed { capability: capability.to_owned(), rule, answer, remedy }
}

struct Pan<'a> {
    component: &'a ComponentName,
    ceiling: &'a Ceiling,
}

impl Pan<'_> {
    /// A project for which the owner permits what is granted at an endpoint: which one a job is of is not known here.
    fn project(&self, grant: &Grant) -> Option<&ProjectName> {
        let granted = |rule: &&HttpCeiling| grant.http.iter().any(|given| rule.scope.covers(&given.scope));
        let endpoints = self.ceiling.http.iter().filter(granted).filter_map(|rule| rule.endpoint.as_ref());
        let mut own = endpoints.filter(|endpoint| endpoint.components.contains(self.component));
        own.find_map(|endpoint| endpoint.projects.as_ref()?.first())
    }

    /// Whether the ceiling permits a grant, and a secret of this use at a place; else the lines that would.
    fn answer(&self, grant: &Grant, secret: Option<(SecretUse, AtPlace<'_>)>) -> Result<(), String> {
        let Ok(any) = ProjectName::new("any") else { return Ok(()) };
        let project = self.project(grant).unwrap_or(&any);
        let subject = Subject { component: self.component, project };
        // What the request and the job lack is not asked here.
        let requests = Requests::default();
        let computed =
            Remit::compute(subject, &requests, Limits::MOST, grant, &BTreeMap::new(), self.ceiling);
        let mut lines: Vec<String> = computed
            .err()
            .into_iter()
            .flatten()
            .filter(|denial| denial.side == Side::Ceiling)
            .map(|denial| denial.remedy)
            .collect();
        if let Some((usage, placed)) = secret {
            let own = |rule: &&SecretCeiling| {
                rule.usage == usage
                    && rule.components.as_ref().is_none_or(|names| names.contains(self.component))
            };
            if !self.ceiling.secrets.iter().filter(own).any(placed) {
                lines.push(format!("[[ceiling.secrets]]\npath = \"keys/…\"\nuse = \"{}\"", usage.as_str()));
            }
        }
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    }
}

/// The rules of the ceiling that no request reaches; an open request may reach all of its kind.
fn unused(requests: &Requests, ceiling: &Ceiling) -> Vec<String> {
    let mut unused = Vec::new();
    for rule in &ceiling.http {
        let reached = requests.http.iter().any(|asked| match &asked.scope {
            HttpWish::Open { .. } => rule.endpoint.is_none(),
            HttpWish::Literal(scope) => rule.scope.covers(scope),
        });
        if !reached {
            unused.push(rule.scope.to_string());
        }
    }
    for rule in &ceiling.exec {
        let reaches = |asked: &&crate::capability::exec::ExecRequest| {
            asked.program.as_ref().is_none_or(|program| *program == rule.program)
        };
        if !requests.exec.iter().any(|asked| reaches(&asked)) {
            unused.push(format!("exec {}", rule.program));
        }
    }
    if requests.ssh.is_empty() {
        unused.extend(ceiling.ssh.iter().map(|place| format!("ssh as {}", place.users.join(", "))));
    }
    for rule in &ceiling.tcp {
        let reached = requests.tcp.iter().any(|asked| match &asked.scope {
            TcpWish::Open { connect_only } => !connect_only || rule.scope.mode == TcpMode::Connect,
            TcpWish::Literal(scope) => rule.scope.covers(scope),
        });
        if !reached {
            unused.push(rule.scope.to_string());
        }
    }
    for rule in &ceiling.files {
        let reached = requests.files.iter().any(|asked| match asked {
            FilesRequest::Open => true,
            FilesRequest::Scratch | FilesRequest::Artifacts => false,
            FilesRequest::Named(name) => *name == rule.name,
        });
        if !reached {
            unused.push(format!("files {}", rule.name));
        }
    }
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling() -> Ceiling {
        let http = |text: &str| serde_json::from_str(text).unwrap();
        Ceiling {
            http: vec![
                http(r#"{"host":"api.example","methods":["GET","POST"],"paths":["/v1"]}"#),
                http(r#"{"host":"other.example","methods":["GET"],"paths":["/"]}"#),
            ],
            exec: vec![
                serde_json::from_str(r#"{"program":"uname","path":"/usr/bin/uname","args":["-s"]}"#).unwrap(),
            ],
            files: vec![serde_json::from_str(r#"{"name":"nodes","path":"/etc/nodes"}"#).unwrap()],
            secrets: vec![
                serde_json::from_str(r#"{"path":"keys/a/b","use":"bearer","hosts":["api.example"]}"#)
                    .unwrap(),
                serde_json::from_str(r#"{"path":"keys/a/c","use":"reveal","components":["acme/two"]}"#)
                    .unwrap(),
            ],
            ..Ceiling::default()
        }
    }

    fn check(requests: &str, expect: &[Answer], unused: &[&str]) {
        let requests: Requests = serde_json::from_str(requests).unwrap();
        let found = weigh(&"acme/one".parse().unwrap(), &requests, &ceiling());
        let answers: Vec<Answer> = found.requests.iter().map(|weighed| weighed.answer).collect();
        assert_eq!(answers, expect, "{found:#?}");
        assert_eq!(found.unused, unused);
        for weighed in &found.requests {
            assert_eq!(weighed.remedy.is_empty(), weighed.answer != Answer::Refused, "{weighed:?}");
        }
    }

    #[test]
    fn each_request_is_weighed_by_itself() {
        use Answer::{Granted, Open, Refused};
        const API: &str = "http GET,POST https://api.example:443/v1";
        const OTHER: &str = "http GET https://other.example:443/";
        check("{}", &[], &[API, OTHER, "exec uname", "files nodes"]);
        let get = r#"{"http":[{"host":"api.example","methods":["GET"],"paths":["/v1"]}]}"#;
        check(get, &[Granted], &[OTHER, "exec uname", "files nodes"]);
        let two = r#"{"http":[{"host":"api.example","methods":["DELETE"],"paths":["/v1"]},{"host":"other.example","methods":["GET"],"paths":["/x"]}]}"#;
        check(two, &[Refused, Granted], &[API, "exec uname", "files nodes"]);
        let open = r#"{"http":[{"host":"granted"}],"exec":[{"program":"granted"}],"files":[{"path":"granted"},{"scratch":true}]}"#;
        check(open, &[Open, Open, Open, Granted], &[]);
        let exec = r#"{"exec":[{"program":"uname","args":["-s"]},{"program":"uname","args":["-a"]},{"program":"id"}]}"#;
        check(exec, &[Granted, Refused, Refused], &[API, OTHER, "files nodes"]);
        check(r#"{"ssh":[{"target":"node"}]}"#, &[Refused], &[API, OTHER, "exec uname", "files nodes"]);
        let files = r#"{"files":[{"name":"nodes"},{"name":"none"}]}"#;
        check(files, &[Granted, Refused], &[API, OTHER, "exec uname"]);
    }

    #[test]
    fn an_endpoint_is_weighed_for_the_component_that_asks() {
        let rule = r#"{"endpoint":"docker","unix":"/run/docker.sock","methods":["GET"],"paths":["/"],
            "components":["acme/one"],"projects":["ops"]}"#;
        let ceiling = Ceiling { http: vec![serde_json::from_str(rule).unwrap()], ..Ceiling::default() };
        let asked = r#"{"http":[{"endpoint":"docker","methods":["GET"],"paths":["/info"]}]}"#;
        let open = r#"{"http":[{"host":"granted"}]}"#;
        let check = |component: &str, requests: &str, answer: Answer, unused: usize| {
            let found =
                weigh(&component.parse().unwrap(), &serde_json::from_str(requests).unwrap(), &ceiling);
            assert_eq!((found.requests[0].answer, found.unused.len()), (answer, unused), "{found:?}");
        };
        check("acme/one", asked, Answer::Granted, 0);
        check("acme/two", asked, Answer::Refused, 0);
        check("acme/one", open, Answer::Open, 1);
    }

    #[test]
    fn a_secret_needs_a_place_that_its_owner_named() {
        use Answer::{Granted, Refused};
        let rest = ["http GET https://other.example:443/", "exec uname", "files nodes"];
        let http = |host: &str, usage: &str| {
            format!(
                r#"{{"http":[{{"host":"{host}","methods":["GET"],"paths":["/v1"],"secret":{{"name":"t","use":"{usage}"}}}}]}}"#
            )
        };
        check(&http("api.example", "bearer"), &[Granted], &rest);
        check(&http("api.example", "basic"), &[Refused], &rest);
        let all = ["http GET,POST https://api.example:443/v1", "exec uname", "files nodes"];
        check(&http("other.example", "bearer"), &[Refused], &all);
        let reveal = r#"{"reveal":[{"name":"t"}]}"#;
        check(reveal, &[Refused], &[all[0], rest[0], "exec uname", "files nodes"]);
        let requests: Requests = serde_json::from_str(reveal).unwrap();
        let found = weigh(&"acme/two".parse().unwrap(), &requests, &ceiling());
        assert_eq!(found.requests[0].answer, Granted);
    }
}
