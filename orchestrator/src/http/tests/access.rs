//! Who may call what: each route of the router against each kind of caller.

use std::collections::BTreeSet;

use remit_protocol::operator::{Access, InstanceRole, ProjectRole, TokenText};

use super::*;
use crate::http::{auth::Need, routes};

/// A caller, and whether it meets a need of a route about the project `ops`.
struct Caller {
    name: &'static str,
    token: Option<String>,
    role: Option<Access>,
}

fn meets(caller: &Caller, need: Need) -> bool {
    let Some(access) = &caller.role else { return need == Need::Nothing };
    let project = |wanted: ProjectRole| match access {
        Access::Instance { role } => *role == InstanceRole::Admin,
        Access::Project { project, role } => project.as_str() == "ops" && *role >= wanted,
    };
    match need {
        Need::Nothing | Need::Token => true,
        // No token opens it: `hook` tries signatures.
        Need::Signature => false,
        Need::Project(wanted) | Need::Execution(wanted) => project(wanted),
        Need::Instance(wanted) => match access {
            Access::Instance { role } => *role == InstanceRole::Admin || *role == wanted,
            Access::Project { .. } => false,
        },
    }
}

async fn callers(service: &Service) -> Vec<Caller> {
    let mut callers = vec![Caller { name: "nobody", token: None, role: None }];
    let project = |project: &str, role| Access::Project { project: project.parse().unwrap(), role };
    for (name, access) in [
        ("viewer", project("ops", ProjectRole::Viewer)),
        ("operator", project("ops", ProjectRole::Operator)),
        ("editor", project("ops", ProjectRole::Editor)),
        ("project-admin", project("ops", ProjectRole::Admin)),
        ("stranger", project("other", ProjectRole::Admin)),
        ("publisher", Access::Instance { role: InstanceRole::Publisher }),
        ("metrics", Access::Instance { role: InstanceRole::Metrics }),
        ("admin", Access::Instance { role: InstanceRole::Admin }),
    ] {
        let token = Some(service.token(name, access.clone()).await);
        callers.push(Caller { name, token, role: Some(access) });
    }
    callers
}

/// The path with its places filled.
fn fill(path: &str, execution: ExecutionId) -> String {
    let execution = execution.to_string();
    let digest = Digest::of(b"").to_string();
    let mut filled = path.to_owned();
    for (place, value) in [
        ("project", "ops"),
        ("job", "nothing"),
        ("execution", &execution),
        ("step", "0"),
        ("artifact", "report.csv"),
        ("section", "0"),
        ("token", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("runner", "nobody"),
        ("source", "nothing"),
        ("schedule", "nothing"),
        ("hook", "nothing"),
        ("channel", "nothing"),
        ("digest", &digest),
        ("leaf", &digest),
        ("*tile", "0/000.p/1"),
        ("namespace", "acme"),
        ("name", "nothing"),
        ("version", "1.0.0"),
    ] {
        filled = filled.replace(&format!("{{{place}}}"), value);
    }
    assert!(!filled.contains('{'), "{filled}: a place that this test does not know");
    filled
}

#[tokio::test]
async fn every_route_does_for_each_caller_what_its_need_says() {
    let service = Service::furnished().await;
    let execution = service.trigger().await;
    let callers = callers(&service).await;
    for (method, path, need) in routes(Arc::clone(&service.app)).listed {
        // A stream does not end while its execution has not.
        if path == path::EXECUTION_EVENTS {
            continue;
        }
        for caller in &callers {
            let (status, answer) = service
                .call(&method, &fill(&path, execution), caller.token.as_deref(), Body::from("[]"))
                .await;
            let stopped = match (status, &answer["code"]) {
                (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => true,
                // To a stranger an execution is not there.
                (StatusCode::NOT_FOUND, code) => {
                    matches!(need, Need::Execution(_))
                        && code == "not-found"
                        && caller.name != "admin"
                        && answer["message"].as_str().is_some_and(|text| text.contains("execution"))
                }
                _ => false,
            };
            // Lists over all projects say that a caller without any project has nothing to see here.
            let nothing_to_see = need == Need::Token && matches!(caller.name, "publisher" | "metrics");
            if !nothing_to_see {
                assert_eq!(
                    stopped,
                    !meets(caller, need),
                    "{} {method} {path}: {status} {answer}",
                    caller.name
                );
            }
            if caller.token.is_none() && need != Need::Nothing {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_viewer_changes_nothing() {
    let service = Service::furnished().await;
    let execution = service.trigger().await;
    let viewer = service.in_project("viewer", "ops", ProjectRole::Viewer).await;
    let mut tried = 0;
    for (method, path, need) in routes(Arc::clone(&service.app)).listed {
        if method == "GET" {
            continue;
        }
        let (status, answer) =
            service.call(&method, &fill(&path, execution), Some(&viewer), Body::empty()).await;
        let expected = if need == Need::Signature { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        assert_eq!(status, expected, "{method} {path}: {answer}");
        tried += 1;
    }
    assert!(tried > 15, "{tried}");
}

#[tokio::test]
async fn the_openapi_document_names_every_route() {
    let service = Service::new().await;
    let document = service.admin("GET", path::OPENAPI, Value::Null).await;
    let listed: BTreeSet<(String, String)> =
        routes(Arc::clone(&service.app)).listed.into_iter().map(|(method, path, _)| (method, path)).collect();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        described.extend(item.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.clone())));
    }
    assert_eq!(listed, described);
    assert!(listed.len() > 40, "{}", listed.len());
    let mut called = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(called.insert(id.to_owned()), "{id} stands twice");
        }
    }
    assert!(called.contains("jobs.trigger"));
    // Every reference leads somewhere.
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn tokens_are_good_until_they_expire_or_are_revoked() {
    let service = Service::new().await;
    let whoami = |token: String| {
        let service = &service;
        async move {
            let (status, answer) = service.call("GET", path::WHOAMI, Some(&token), Body::empty()).await;
            (status.as_u16(), answer["message"].as_str().unwrap_or_default().to_owned())
        }
    };
    let made = json!({"name": "ci", "access": {"scope": "project", "project": "ops", "role": "viewer"}, "expires_in": "1h"});
    let made = service.admin("POST", path::TOKENS, made).await;
    let token = made["token"].as_str().unwrap().to_owned();
    assert_eq!(whoami(token.clone()).await.0, 200);
    service.hands.advance(Duration::from_secs(3601));
    let (status, message) = whoami(token.clone()).await;
    assert_eq!((status, message.contains("expired")), (401, true), "{message}");

    let made = json!({"name": "cd", "access": {"scope": "instance", "role": "publisher"}});
    let made = service.admin("POST", path::TOKENS, made).await;
    let token = made["token"].as_str().unwrap().to_owned();
    assert_eq!(whoami(token.clone()).await.0, 200);
    let id = made["view"]["id"].as_str().unwrap();
    service.admin("DELETE", &format!("/api/v1/tokens/{id}"), Value::Null).await;
    let (status, message) = whoami(token.clone()).await;
    assert_eq!((status, message.contains("revoked")), (401, true), "{message}");

    let mut typo = token.clone();
    typo.replace_range(40..41, if &token[40..41] == "a" { "b" } else { "a" });
    assert!(whoami(typo).await.1.contains("mistyped"));
    let known = TokenText::parse(&token).unwrap();
    let forged = TokenText::new(known.id(), &[7; 32]).reveal().to_owned();
    assert!(whoami(forged).await.1.contains("not known"));
    assert_eq!(whoami("secret".to_owned()).await.0, 401);
}
