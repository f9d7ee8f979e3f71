//! Webhooks: what opens them, what does not, and what of a payload goes anywhere.

use remit_signing::webhook::{ID, SIGNATURE, TIMESTAMP, WebhookSecret};

use super::*;

const CALL: &str = "/hooks/ops/deploy";
const JOB: &str = "job: deploy\noptions:\n  service: { type: string, values: [web, api], required: true }\n  count: { type: integer, default: 1 }\n\
                   steps:\n  - name: greet\n    uses: acme/hello@1\n";

struct Caller<'s> {
    service: &'s Service,
    secret: WebhookSecret,
}

impl Service {
    /// A service with the job `deploy` and its webhook.
    async fn with_hook() -> (Self, WebhookSecret) {
        let service = Self::furnished().await;
        service.admin("POST", "/api/v1/projects/ops/jobs", json!({"source": JOB})).await;
        let options = json!({"service": {"payload": "/service/name"}, "count": {"payload": "/n"}});
        let new = json!({"name": "deploy", "job": "deploy", "options": options});
        let made = service.admin("POST", "/api/v1/projects/ops/hooks", new).await;
        assert_eq!(made["hook"]["url"], format!("https://remit.example{CALL}"));
        let secret = WebhookSecret::parse(made["secret"].as_str().unwrap()).unwrap();
        (service, secret)
    }
}

impl Caller<'_> {
    async fn send(&self, path: &str, headers: &[(&str, String)], body: &[u8]) -> (u16, Value) {
        let mut request = Request::builder().method(Method::POST).uri(path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let (status, _, bytes) = self.service.raw(request.body(Body::from(body.to_vec())).unwrap()).await;
        (status.as_u16(), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    fn headers(&self, id: &str, sent: u64, body: &[u8]) -> [(&'static str, String); 3] {
        let signature = self.secret.sign(&id.parse().unwrap(), sent, body);
        [(ID, id.to_owned()), (TIMESTAMP, sent.to_string()), (SIGNATURE, signature)]
    }

    async fn call(&self, id: &str, body: &str) -> (u16, Value) {
        let sent = self.service.hands.now().as_secs();
        self.send(CALL, &self.headers(id, sent, body.as_bytes()), body.as_bytes()).await
    }
}

#[tokio::test]
async fn a_signed_call_runs_the_job_with_what_the_mapping_names() {
    let (service, secret) = Service::with_hook().await;
    let caller = Caller { service: &service, secret };
    let body = r#"{"service": {"name": "web"}, "n": 3, "filter": "name: .*", "options": {"count": 9}}"#;
    let (status, answer) = caller.call("d-1", body).await;
    assert_eq!(status, 201, "{answer}");
    let shown = format!("/api/v1/executions/{}", answer["execution"].as_str().unwrap());
    let shown = service.admin("GET", &shown, Value::Null).await;
    assert_eq!(shown["options"], json!({"service": "web", "count": 3}));
    assert_eq!(shown["summary"]["started_by"], "webhook:deploy");
    let origin = &shown["summary"]["origin"];
    assert_eq!((&origin["kind"], &origin["delivery"]), (&json!("webhook"), &json!("d-1")));
    // Values are judged as those of everybody else.
    let (status, answer) = caller.call("d-2", r#"{"service": {"name": "db"}}"#).await;
    assert_eq!((status, &answer["faults"][0]["place"]), (422, &json!("options.service")), "{answer}");
    // What was refused was not taken.
    assert_eq!(caller.call("d-2", r#"{"service": {"name": "api"}}"#).await.0, 201);
}

#[tokio::test]
async fn a_delivery_is_taken_once() {
    let (service, secret) = Service::with_hook().await;
    let caller = Caller { service: &service, secret };
    let body = r#"{"service": {"name": "web"}}"#;
    let sent = service.hands.now().as_secs();
    let headers = caller.headers("d-1", sent, body.as_bytes());
    let (status, first) = caller.send(CALL, &headers, body.as_bytes()).await;
    assert_eq!(status, 201);
    let (status, again) = caller.send(CALL, &headers, body.as_bytes()).await;
    assert_eq!(status, 409, "{again}");
    assert!(again["message"].as_str().unwrap().contains(first["execution"].as_str().unwrap()), "{again}");
    // Signed anew, the same delivery is still the same.
    service.hands.advance(Duration::from_secs(30));
    assert_eq!(caller.call("d-1", body).await.0, 409);
    // Two at once: one of them is taken.
    let (one, two) = tokio::join!(caller.call("d-2", body), caller.call("d-2", body));
    let mut both = [one.0, two.0];
    both.sort_unstable();
    assert_eq!(both, [201, 409]);
    let listed = service.admin("GET", "/api/v1/executions?job=deploy", Value::Null).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn nothing_but_a_recent_signature_of_the_secret_opens_a_webhook() {
    let (service, secret) = Service::with_hook().await;
    let caller = Caller { service: &service, secret };
    let body = br#"{"service": {"name": "web"}}"#;
    let now = service.hands.now().as_secs();
    let good = caller.headers("d", now, body);
    let other = Caller { service: &service, secret: WebhookSecret::from_random([1; 32]) };
    let mut refused = 0;
    let mut check = async |path: &str, headers: &[(&str, String)], body: &[u8], status: u16, part: &str| {
        let (found, answer) = caller.send(path, headers, body).await;
        assert_eq!(found, status, "{part}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(part), "{part}: {answer}");
        refused += 1;
    };
    let unknown = "no such webhook, or this call is not signed";
    check(CALL, &[], body, 401, "webhook-id is missing").await;
    check(CALL, &good[..2], body, 401, "webhook-signature is missing").await;
    check(CALL, &good, b"{}", 401, unknown).await;
    check(CALL, &other.headers("d", now, body), body, 401, unknown).await;
    check("/hooks/ops/nothing", &good, body, 401, unknown).await;
    check("/hooks/other/deploy", &good, body, 401, unknown).await;
    let moved = [good[0].clone(), (TIMESTAMP, (now + 1).to_string()), good[2].clone()];
    check(CALL, &moved, body, 401, unknown).await;
    let renamed = [(ID, "e".to_owned()), good[1].clone(), good[2].clone()];
    check(CALL, &renamed, body, 401, unknown).await;
    for sent in [now - 301, now + 301] {
        check(CALL, &caller.headers("d", sent, body), body, 401, "was signed at").await;
    }
    let dotted = [(ID, "a.b".to_owned()), good[1].clone(), good[2].clone()];
    check(CALL, &dotted, body, 400, "is not a delivery id").await;
    for odd in ["", "-1", "1e3", "+5", "soon", "99999999999999999999999"] {
        let odd = [good[0].clone(), (TIMESTAMP, odd.to_owned()), good[2].clone()];
        check(CALL, &odd, body, 400, "seconds since 1970").await;
    }
    for payload in [&b"[1]"[..], b"\"x\"", b"{", b"", b"{\"a\": 1, \"a\": 2}"] {
        check(CALL, &caller.headers("d", now, payload), payload, 400, "not what this call takes").await;
    }
    let large = vec![b' '; (256 << 10) + 1];
    check(CALL, &caller.headers("d", now, &large), &large, 413, "larger than 262144").await;
    assert_eq!(refused, 23);
    assert_eq!(caller.send(CALL, &good, body).await.0, 201);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_can_be_changed() {
    let (service, secret) = Service::with_hook().await;
    let old = Caller { service: &service, secret };
    let body = r#"{"service": {"name": "web"}}"#;
    let rotate = async |overlap: Value| {
        let made = service.admin("POST", "/api/v1/projects/ops/hooks/deploy/rotate", overlap).await;
        WebhookSecret::parse(made["secret"].as_str().unwrap()).unwrap()
    };
    let second = Caller { service: &service, secret: rotate(json!({"overlap": "1h"})).await };
    assert_eq!((old.call("a", body).await.0, second.call("b", body).await.0), (201, 201));
    service.hands.advance(Duration::from_secs(3600));
    assert_eq!((old.call("c", body).await.0, second.call("d", body).await.0), (401, 201));
    let third = Caller { service: &service, secret: rotate(json!({})).await };
    assert_eq!((second.call("e", body).await.0, third.call("f", body).await.0), (401, 201));
    let listed = service.admin("GET", "/api/v1/projects/ops/hooks", Value::Null).await;
    assert!(!listed.to_string().contains("whsec_"), "{listed}");
    let too_long = json!({"overlap": "8d"}).to_string();
    let admin = Some(service.admin.as_str());
    let refused =
        service.call("POST", "/api/v1/projects/ops/hooks/deploy/rotate", admin, Body::from(too_long)).await;
    assert_eq!(refused.0, StatusCode::BAD_REQUEST);
    service.admin("DELETE", "/api/v1/projects/ops/hooks/deploy", Value::Null).await;
    assert_eq!(third.call("g", body).await.0, 401);
}

#[tokio::test]
async fn a_webhook_that_could_not_work_is_not_made() {
    let (service, _) = Service::with_hook().await;
    let admin = Some(service.admin.as_str());
    for (new, status, part) in [
        (json!({"name": "x", "job": "nothing"}), 404, "no job nothing"),
        (json!({"name": "x", "job": "deploy", "options": {"color": {"value": 1}}}), 400, "no option color"),
        (
            json!({"name": "x", "job": "deploy", "options": {"count": {"payload": "$.n"}}}),
            400,
            "JSON pointer",
        ),
        (
            json!({"name": "x", "job": "deploy", "options": {"count": {"script": "x"}}}),
            400,
            "not what this call takes",
        ),
        (json!({"name": "X", "job": "deploy"}), 400, "not what this call takes"),
        (json!({"name": "deploy", "job": "deploy"}), 409, "the name is taken"),
    ] {
        let body = Body::from(new.to_string());
        let (found, answer) = service.call("POST", "/api/v1/projects/ops/hooks", admin, body).await;
        assert_eq!(found.as_u16(), status, "{new}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(part), "{new}: {answer}");
    }
}
