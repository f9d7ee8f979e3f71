//! Verdicts: taken in from reviewers whom the registry knows, about what is published, logged and shown beside it.

use remit_signing::verdict::{Opinion, Scope, VerdictNote};

use super::*;

const PLACE: &str = "/api/v1/components/acme/hello/1.0.0/verdicts";

/// A verdict about the component of these tests.
async fn verdict(service: &Service) -> VerdictNote {
    let shown = service.admin("GET", "/api/v1/components/acme/hello/1.0.0", Value::Null).await;
    let now = Timestamp::from_millis(service.hands.now().as_secs() * 1000);
    VerdictNote {
        name: "acme/hello".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        component: Sized::of(&wasm()),
        manifest: Sized::of(shown["manifest_json"].as_str().unwrap().as_bytes()),
        criteria: "safe-to-run".parse().unwrap(),
        scope: Scope::Full,
        opinion: Opinion::Pass,
        report: None,
        issued: now,
        expires: now.plus(Duration::from_secs(86_400)),
    }
}

async fn send(service: &Service, place: &str, says: &VerdictNote, by: &str) -> (StatusCode, Value) {
    let note = String::from_utf8(note::sign(&says.to_text(), &[&key(by)]).unwrap()).unwrap();
    let body = Body::from(json!({ "note": note }).to_string());
    service.call("POST", place, Some(&service.admin), body).await
}

#[tokio::test]
async fn a_reviewers_verdict_is_logged_and_shown() {
    let service = Service::furnished().await;
    let says = verdict(&service).await;
    for _ in 0..2 {
        let (status, view) = send(&service, PLACE, &says, "sec/ann").await;
        assert_eq!(status, StatusCode::CREATED, "{view}");
        assert_eq!((&view["pass"], &view["signers"][0]["holder"]), (&true.into(), &"ann".into()));
    }
    let fail = VerdictNote { opinion: Opinion::Fail, ..says.clone() };
    assert_eq!(send(&service, PLACE, &fail, "sec/ben").await.0, StatusCode::CREATED);
    let shown = service.admin("GET", "/api/v1/components/acme/hello/1.0.0", Value::Null).await;
    let passes: Vec<_> = shown["verdicts"].as_array().unwrap().iter().map(|view| &view["pass"]).collect();
    assert_eq!(passes, [false, true], "{shown:#}");
    for view in shown["verdicts"].as_array().unwrap() {
        let note = view["note"].as_str().unwrap();
        assert!(service.app.registry.log().proof(note.as_bytes()).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn what_is_no_verdict_about_this_is_not_taken() {
    let service = Service::furnished().await;
    let says = verdict(&service).await;
    let check = async |place: &str, says: &VerdictNote, by: &str, expect: &str| {
        let (status, answer) = send(&service, place, says, by).await;
        assert!(status.is_client_error() && answer.to_string().contains(expect), "{status} {answer}");
    };
    check(PLACE, &says, "stranger", "E_THRESHOLD").await;
    check(PLACE, &says, "acme/release", "E_SCOPE").await;
    let other = VerdictNote { manifest: Sized::of(b"{}"), ..says.clone() };
    check(PLACE, &other, "sec/ann", "E_DIGEST").await;
    let other = VerdictNote { version: "1.0.1".parse().unwrap(), ..says.clone() };
    check(PLACE, &other, "sec/ann", "E_DIGEST").await;
    check("/api/v1/components/acme/hello/1.0.1/verdicts", &other, "sec/ann", "not-found").await;
    service.hands.advance(Duration::from_secs(86_400));
    check(PLACE, &says, "sec/ann", "E_WINDOW").await;
    let shown = service.admin("GET", "/api/v1/components/acme/hello/1.0.0", Value::Null).await;
    assert_eq!(shown["verdicts"], Value::Null);
}

#[tokio::test]
async fn whoever_reviews_gets_the_bytes() {
    let service = Service::furnished().await;
    let request = Request::builder().uri("/api/v1/components/acme/hello/1.0.0/wasm");
    let request = request.header("authorization", format!("Bearer {}", service.admin));
    let (status, headers, bytes) = service.raw(request.body(Body::empty()).unwrap()).await;
    assert_eq!((status, &bytes[..]), (StatusCode::OK, &wasm()[..]));
    assert_eq!(headers["content-type"], "application/wasm");
}
