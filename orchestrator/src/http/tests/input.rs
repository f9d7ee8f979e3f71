//! Bad input, and what it gets.

use remit_protocol::limits::MAX_COMPONENT;

use super::*;

#[tokio::test]
async fn malformed_bodies_are_refused_with_a_reason() {
    let service = Service::new().await;
    let check = async |body: &str, status: u16, words: &str| {
        let (found, answer) =
            service.call("POST", path::PROJECTS, Some(&service.admin), Body::from(body.to_owned())).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!((found.as_u16(), message.contains(words)), (status, true), "{body:.60}: {answer}");
    };
    check("", 400, "missing field `name`").await;
    check("{", 400, "EOF").await;
    check("[]", 400, "").await;
    check(r#"{"name":"a","name":"b"}"#, 400, "twice").await;
    check(r#"{"name":"a","nam":"b"}"#, 400, "unknown field").await;
    check(r#"{"name":"UPPER"}"#, 400, "not a project name").await;
    check(&format!("{{\"name\":{}1{}}}", "[".repeat(64), "]".repeat(64)), 400, "nested").await;
    check(r#"{"name":"a","description":"x\u0000"}"#, 400, "not a description").await;
    check(&format!(r#"{{"name":"{}"}}"#, "a".repeat(3 << 20)), 413, "larger").await;
}

#[tokio::test]
async fn what_says_that_it_is_too_large_is_not_read() {
    let service = Service::new().await;
    let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::convert::Infallible>>());
    let request = Request::builder()
        .method("PUT")
        .uri(format!("/api/v1/blobs/{}", Digest::of(b"")))
        .header("authorization", format!("Bearer {}", service.admin))
        .header("content-length", MAX_COMPONENT + 1)
        .body(never)
        .unwrap();
    let (status, _, _) = service.raw(request).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_blob_is_what_its_address_says() {
    let service = Service::new().await;
    let path = format!("/api/v1/blobs/{}", Digest::of(b"one thing"));
    let (status, answer) =
        service.call("PUT", &path, Some(&service.admin), Body::from("another thing")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["message"].as_str().unwrap().contains("hash to"), "{answer}");
}

#[tokio::test]
async fn a_job_file_is_answered_with_lines() {
    let service = Service::furnished().await;
    let apply = json!({"source": "job: x\nsteps:\n  - name: a\n    uses: acme/nothing@1\n  - nam: b\n"});
    let (status, answer) = service
        .call("POST", "/api/v1/projects/ops/jobs", Some(&service.admin), Body::from(apply.to_string()))
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert_eq!(answer["faults"][0]["line"], 5, "{answer}");
    let apply = json!({"source": "job: x\nsteps:\n  - name: a\n    uses: acme/nothing@1\n"});
    let (_, answer) = service
        .call("POST", "/api/v1/projects/ops/jobs", Some(&service.admin), Body::from(apply.to_string()))
        .await;
    assert_eq!(answer["faults"][0]["line"], 4, "{answer}");
}

#[tokio::test]
async fn a_job_that_may_do_more_wants_a_word() {
    let service = Service::furnished().await;
    let apply = |source: &str, accept: bool| json!({"source": source, "accept_wider": accept});
    let same = service.admin("POST", "/api/v1/projects/ops/jobs", apply(JOB, false)).await;
    assert_eq!((&same["change"], &same["revision"]), (&json!("unchanged"), &json!(1)));
    // Less memory first, so that the default is more than before.
    let narrow = format!("{JOB}    limits: {{ memory: 8MiB }}\n");
    let less = service.admin("POST", "/api/v1/projects/ops/jobs", apply(&narrow, false)).await;
    assert_eq!((&less["change"], &less["revision"]), (&json!("updated"), &json!(2)));
    let wide = Body::from(apply(JOB, false).to_string());
    let (status, answer) =
        service.call("POST", "/api/v1/projects/ops/jobs", Some(&service.admin), wide).await;
    assert_eq!((status, &answer["code"]), (StatusCode::CONFLICT, &json!("wider-grant")));
    assert_eq!(answer["faults"][0]["place"], "steps.greet.grant", "{answer}");
    let accepted = service.admin("POST", "/api/v1/projects/ops/jobs", apply(JOB, true)).await;
    assert_eq!(accepted["wider"][0]["step"], "greet", "{accepted}");
}

#[tokio::test]
async fn a_version_never_moves_and_unknown_signers_are_refused() {
    let service = Service::furnished().await;
    // The same again is nothing new.
    service.publish().await;
    let view = service.admin("GET", "/api/v1/components/acme/hello/1.0.0", Value::Null).await;
    assert_eq!(view["signers"][0]["holder"], "alice");
    assert_eq!(view["threshold"], 1);
    let publish = |note: &str, manifest: &str, digest: &Value| {
        Body::from(json!({"note": note, "manifest": manifest, "component": digest}).to_string())
    };
    let digest = &view["summary"]["digest"];
    let altered = view["note"].as_str().unwrap().replace("1.0.0", "1.0.1");
    let body = publish(&altered, &view["manifest"].to_string(), digest);
    let (status, answer) = service.call("POST", path::COMPONENTS, Some(&service.admin), body).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer["code"].as_str().unwrap().starts_with("E_"), "{answer}");
    let absent = json!(Digest::of(b"absent"));
    let body = publish(view["note"].as_str().unwrap(), "{}", &absent);
    let (status, _) = service.call("POST", path::COMPONENTS, Some(&service.admin), body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn nodes_are_loaded_whole_and_filtered() {
    let service = Service::furnished().await;
    let nodes = json!({"nodes": [
        {"name": "web2", "tags": ["web"]}, {"name": "web1", "tags": ["web"]}, {"name": "db1", "tags": ["db"]},
    ]});
    let loaded = service.admin("PUT", "/api/v1/projects/ops/nodes", nodes).await;
    assert_eq!((&loaded["nodes"], &loaded["status"]), (&json!(3), &json!("fresh")));
    let page =
        service.admin("GET", "/api/v1/projects/ops/nodes?filter=tags%3A%20web&limit=1", Value::Null).await;
    assert_eq!((&page["items"][0]["name"], &page["total"]), (&json!("web1"), &json!(2)));
    let next = page["next"].as_str().unwrap();
    let rest = format!("/api/v1/projects/ops/nodes?filter=tags%3A%20web&limit=1&after={next}");
    let rest = service.admin("GET", &rest, Value::Null).await;
    assert_eq!((&rest["items"][0]["name"], &rest["next"]), (&json!("web2"), &Value::Null));
    let twice = json!({"nodes": [{"name": "a"}, {"name": "a"}]}).to_string();
    for (path, body) in [("/api/v1/projects/ops/nodes", twice.as_str()), ("/api/v1/projects/ops/nodes", "{}")]
    {
        let (status, _) = service.call("PUT", path, Some(&service.admin), Body::from(body.to_owned())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    let (status, answer) = service
        .call("GET", "/api/v1/projects/ops/nodes?filter=name:%20(", Some(&service.admin), Body::empty())
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
}

#[tokio::test]
async fn old_logs_go_but_for_the_newest_of_a_job() {
    let service = Service::furnished().await;
    let store = &service.app.store;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = service.trigger().await;
        service.admin("POST", &format!("/api/v1/executions/{id}/cancel"), json!({"mode": "force"})).await;
        let entry = remit_protocol::report::LogEntry {
            at: service.hands.now(),
            step: remit_protocol::StepIndex(0),
            node: None,
            level: remit_protocol::report::Level::Info,
            text: "x".to_owned(),
            fields: Vec::new(),
        };
        let attempt = remit_protocol::AttemptId::from_parts(service.hands.now(), 1);
        store.logs().append(id, None, attempt, 1, vec![entry]).await.unwrap();
        ids.push(id);
        service.hands.advance(Duration::from_secs(1));
    }
    let keep = crate::config::Keep { days: 1, at_least: 1 };
    let sweep = async || crate::retention::sweep(store, keep, service.hands.now()).await.unwrap();
    assert_eq!(sweep().await, 0);
    service.hands.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(sweep().await, 2);
    assert_eq!(sweep().await, 0);
    let page = store.logs().page(ids[2], 1, 10, Default::default()).await.unwrap();
    assert_eq!(page.entries.len(), 1);
}
