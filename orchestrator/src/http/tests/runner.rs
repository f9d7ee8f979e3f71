//! A runner that enrols, signs, works; and what is not believed.

use remit_protocol::{
    AttemptId, Epoch, Outcome, RunnerId, Session, Span, StepIndex, digest,
    endpoint::{
        self, ArtifactUpload, Command, Enrolled, OpenSession, Poll, PollAnswer, Report, ReportAnswer,
        SessionOpened, TrailHead, TrailKept, Wait, Waited,
    },
    report::{Artifact, ArtifactForm, AttemptReport, Event, Level, LogEntry, StepEnded},
};
use remit_signing::{
    enrol::EnrolRequest,
    http::{Content, RequestParts, RequestSigner, SignedRequest, read_answer},
    key::PublicKey,
    sealing::{SealingKey, SealingNote},
    ticket::Ticket,
    trail::{Head, TrailNote},
};

use super::*;

const JSON: &str = "application/json";

struct Runner<'s> {
    service: &'s Service,
    id: RunnerId,
    signer: RequestSigner,
    answer_key: PublicKey,
    session: Session,
    sequence: u64,
}

/// A request that was signed and may be sent more than once.
#[derive(Clone)]
struct Signed {
    method: &'static str,
    path: String,
    body: Vec<u8>,
    request: SignedRequest,
}

async fn enrol<'s>(service: &'s Service, ticket: &str, own: &str) -> Result<Runner<'s>, (u16, Value)> {
    let ticket = Ticket::parse(ticket).unwrap();
    let request =
        EnrolRequest::new(&ticket, &key(own), "host.example", [5; 16], service.hands.now()).unwrap();
    let note = String::from_utf8(request.note().to_vec()).unwrap();
    let (status, answer) =
        service.call("POST", endpoint::ENROL, None, Body::from(json!({"note": note}).to_string())).await;
    if !status.is_success() {
        return Err((status.as_u16(), answer));
    }
    let answer: Enrolled = serde_json::from_value(answer).unwrap();
    let enrolled = request.read_answer(answer.note.as_bytes()).unwrap();
    let signer = RequestSigner::new(key(own), enrolled.runner, enrolled.audience.clone());
    let (id, answer_key) = (enrolled.runner, enrolled.answer_key);
    Ok(Runner { service, id, signer, answer_key, session: enrolled.session, sequence: 0 })
}

async fn ticket(service: &Service) -> String {
    let new = json!({"name": "web-1", "projects": "all", "local": true});
    let made = service.admin("POST", path::RUNNERS, new).await;
    made["ticket"].as_str().unwrap().to_owned()
}

impl Runner<'_> {
    fn sign(&mut self, method: &'static str, path: &str, body: &impl serde::Serialize) -> Signed {
        let body = if method == "GET" { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        self.sign_bytes(method, path, body)
    }

    fn sign_bytes(&mut self, method: &'static str, path: &str, body: Vec<u8>) -> Signed {
        self.sequence += 1;
        let content = Content { content_type: JSON, body: &body };
        let parts = RequestParts { method, path, query: None, content };
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let now = self.service.hands.now();
        let request = self.signer.sign(&parts, self.session, self.sequence, now, nonce).unwrap();
        Signed { method, path: path.to_owned(), body, request }
    }

    async fn send(&self, signed: &Signed) -> (u16, Bytes) {
        let mut request =
            Request::builder().method(signed.method).uri(&signed.path).header("content-type", JSON);
        for (name, value) in &signed.request.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::from(signed.body.clone())).unwrap();
        let (status, headers, body) = self.service.raw(request).await;
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        read_answer(&self.answer_key, status.as_u16(), headers, &body, &signed.request.signature).unwrap();
        (status.as_u16(), body)
    }

    async fn refused(&self, signed: &Signed) -> String {
        let (status, body) = self.send(signed).await;
        assert!(status >= 400, "{status}");
        let problem: Value = serde_json::from_slice(&body).unwrap();
        problem["code"].as_str().unwrap().to_owned()
    }

    async fn ask<T: serde::de::DeserializeOwned>(&mut self, path: &str, body: &impl serde::Serialize) -> T {
        let signed = self.sign("POST", path, body);
        let (status, body) = self.send(&signed).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    fn opening(&self) -> OpenSession {
        OpenSession {
            runner: self.id,
            last: self.session,
            protocol: remit_protocol::PROTOCOL,
            version: "0.1.0".to_owned(),
            hostname: "host.example".to_owned(),
            features: Default::default(),
            slots: 4,
            sealing: None,
            attempts: Vec::new(),
        }
    }

    async fn open(&mut self) {
        let opened: SessionOpened = self.ask(endpoint::SESSION, &self.opening()).await;
        self.session = opened.session;
        self.sequence = 0;
    }

    fn poll(&self, hold: Span, ack: u64) -> Poll {
        Poll { session: self.session, ack, free: 4, draining: false, hold, attempts: None }
    }
}

#[tokio::test]
async fn a_job_runs_from_trigger_to_the_end_of_its_events() {
    let service = Service::furnished().await;
    let mut runner = enrol(&service, &ticket(&service).await, "runner").await.unwrap();
    runner.open().await;
    let _: PollAnswer = runner.ask(endpoint::POLL, &runner.poll(Span::default(), 0)).await;
    let waited: Waited = runner.ask(endpoint::WAIT, &Wait { hold: Span::from_millis(1) }).await;
    assert_eq!(waited.hold, Span::from_millis(1));
    let id = service.trigger().await;
    let answer: PollAnswer = runner.ask(endpoint::POLL, &runner.poll(Span::from_secs(5), 0)).await;
    let [Command::Run(work)] = &answer.commands[..] else { panic!("{answer:?}") };
    assert_eq!(work.execution, id);

    // What it was handed it may read; what it was not it may not.
    let get = |digest: Digest| format!("{}/{digest}", endpoint::BLOBS);
    let signed = runner.sign("GET", &get(work.document.digest), &());
    let (status, bytes) = runner.send(&signed).await;
    assert_eq!((status, work.document.is(&bytes)), (200, true));
    let other = service.app.store.blobs().put(b"other".to_vec()).await.unwrap();
    let signed = runner.sign("GET", &get(other.digest), &());
    assert_eq!(runner.refused(&signed).await, "not-found");
    let signed = runner.sign("GET", &format!("{}/acme/hello/1.0.0", endpoint::COMPONENTS), &());
    assert_eq!(runner.send(&signed).await.0, 200);

    let report = finished(&runner, work.attempt, work.epoch);
    let answered: ReportAnswer = runner.ask(endpoint::REPORT, &report).await;
    assert_eq!((answered.attempts[0].events, answered.attempts[0].entries), (2, 1), "{answered:?}");

    let shown = service.admin("GET", &format!("/api/v1/executions/{id}"), Value::Null).await;
    assert_eq!(shown["summary"]["outcome"], "succeeded", "{shown}");
    assert_eq!(shown["steps"][0]["run"]["output"]["greeting"], "hello");
    assert_eq!(shown["sections"][0]["runner"], "web-1");
    let log = service.admin("GET", &format!("/api/v1/executions/{id}/log"), Value::Null).await;
    assert_eq!((&log["lines"][0]["step_name"], &log["complete"]), (&json!("greet"), &json!(true)), "{log}");

    let request = Request::builder()
        .uri(format!("/api/v1/executions/{id}/events"))
        .header("authorization", format!("Bearer {}", service.admin))
        .body(Body::empty())
        .unwrap();
    let (_, headers, stream) = service.raw(request).await;
    assert_eq!(headers["cache-control"], "no-cache, no-transform");
    let text = String::from_utf8(stream.to_vec()).unwrap();
    for event in ["event: execution", "event: step-ended", "event: log", "event: end"] {
        assert!(text.contains(event), "{event}: {text}");
    }
    // Whoever comes back with the last id is told the end, and nothing twice.
    let last =
        text.lines().rfind(|line| line.starts_with("id: ")).unwrap().trim_start_matches("id: ").to_owned();
    let request = Request::builder()
        .uri(format!("/api/v1/executions/{id}/events"))
        .header("authorization", format!("Bearer {}", service.admin))
        .header("last-event-id", last)
        .body(Body::empty())
        .unwrap();
    let (_, _, stream) = service.raw(request).await;
    let text = String::from_utf8(stream.to_vec()).unwrap();
    assert_eq!(text.matches("event: ").count(), 1, "{text}");
}

#[tokio::test]
async fn an_artifact_is_there_when_all_of_it_was_brought_and_the_step_has_ended() {
    let service = Service::furnished().await;
    let settings = json!({"quotas": {"artifacts": "1MiB"}});
    service.admin("PUT", "/api/v1/projects/ops/settings", settings).await;
    let mut runner = enrol(&service, &ticket(&service).await, "runner").await.unwrap();
    runner.open().await;
    let id = service.trigger().await;
    let answer: PollAnswer = runner.ask(endpoint::POLL, &runner.poll(Span::from_secs(5), 0)).await;
    let [Command::Run(work)] = &answer.commands[..] else { panic!("{answer:?}") };
    let bytes: Vec<u8> = (0..600_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let whole = digest::Sized::of(&bytes);
    let place = |attempt: AttemptId, of: digest::Sized, offset: usize| {
        format!("{}/{attempt}/{}/{}/{offset}", endpoint::ARTIFACTS, of.digest, of.length)
    };
    let piece = |offset: usize| bytes[offset..bytes.len().min(offset + endpoint::MAX_PIECE)].to_vec();

    // Nothing of it is here, so it begins at the beginning; what is sent twice or too early is not taken twice.
    for (offset, have) in
        [(endpoint::MAX_PIECE, 0), (0, 262_144), (524_288, 262_144), (262_144, 524_288), (262_144, 524_288)]
    {
        let sent = runner.sign_bytes("POST", &place(work.attempt, whole, offset), piece(offset));
        let (status, body) = runner.send(&sent).await;
        let upload: ArtifactUpload = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, upload.have, upload.kept), (200, have, false), "{offset}");
    }
    let other = AttemptId::from_u128(7);
    let sent = runner.sign_bytes("POST", &place(other, whole, 0), piece(0));
    assert_eq!(runner.refused(&sent).await, "attempt-superseded");
    let large = digest::Sized { length: 2 << 20, ..whole };
    let sent = runner.sign_bytes("POST", &place(work.attempt, large, 0), piece(0));
    assert_eq!(runner.refused(&sent).await, "quota");
    let huge = digest::Sized { length: 2 << 30, ..whole };
    let sent = runner.sign_bytes("POST", &place(work.attempt, huge, 0), piece(0));
    assert_eq!(runner.refused(&sent).await, "too-large");
    let wrong = digest::Sized { digest: Digest::of(b"other"), length: 1 };
    let sent = runner.sign_bytes("POST", &place(work.attempt, wrong, 0), vec![b'x']);
    assert_eq!(runner.refused(&sent).await, "invalid");
    let listing = format!("/api/v1/executions/{id}/artifacts");
    assert_eq!(service.admin("GET", &listing, Value::Null).await["items"], json!([]));
    for _ in 0..2 {
        let sent = runner.sign_bytes("POST", &place(work.attempt, whole, 524_288), piece(524_288));
        let (_, body) = runner.send(&sent).await;
        assert!(serde_json::from_slice::<ArtifactUpload>(&body).unwrap().kept);
    }
    assert_eq!(service.admin("GET", &listing, Value::Null).await["items"], json!([]));

    // Bytes that somebody else brought are nobody's for their digest alone.
    let elsewhere = service.app.store.blobs().put(b"of another project".to_vec()).await.unwrap();
    let mut report = finished(&runner, work.attempt, work.epoch);
    let Event::StepEnded(ended) = &mut report.attempts[0].events[0] else { unreachable!() };
    let artifact =
        |name: &str, bytes| Artifact { name: name.parse().unwrap(), form: ArtifactForm::Binary, bytes };
    ended.artifacts = vec![artifact("a.bin", whole), artifact("stolen", elsewhere)];
    let _: ReportAnswer = runner.ask(endpoint::REPORT, &report).await;
    let shown = service.admin("GET", &listing, Value::Null).await;
    assert_eq!(shown["items"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["items"][0]["digest"], whole.digest.to_string());
    let request = Request::builder()
        .uri(format!("/api/v1/executions/{id}/steps/0/artifacts/a.bin"))
        .header("authorization", format!("Bearer {}", service.admin))
        .body(Body::empty())
        .unwrap();
    let (_, headers, body) = service.raw(request).await;
    assert_eq!(&body[..], bytes);
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["content-disposition"], "attachment; filename=\"a.bin\"");
    let sent = runner.sign_bytes("POST", &place(work.attempt, whole, 0), piece(0));
    assert_eq!(runner.refused(&sent).await, "attempt-superseded");
}

fn finished(runner: &Runner<'_>, attempt: AttemptId, epoch: Epoch) -> Report {
    let at = runner.service.hands.now();
    let ended = StepEnded {
        step: StepIndex(0),
        node: None,
        outcome: Outcome::Succeeded,
        tries: 1,
        started: at,
        ended: at,
        output: Some(json!({"greeting": "hello"})),
        message: String::new(),
        usage: None,
        remit: None,
        artifacts: Vec::new(),
    };
    let end = Event::Finished {
        outcome: Outcome::Succeeded,
        message: String::new(),
        log_entries: 1,
        nodes: None,
        result: None,
    };
    let entry = LogEntry {
        at,
        step: StepIndex(0),
        node: None,
        level: Level::Info,
        text: "hello".to_owned(),
        fields: Vec::new(),
    };
    Report {
        session: runner.session,
        attempts: vec![AttemptReport {
            attempt,
            epoch,
            start: None,
            first_event: 1,
            events: vec![Event::StepEnded(Box::new(ended)), end],
            first_entry: 1,
            log: vec![entry],
        }],
    }
}

#[tokio::test]
async fn a_ticket_enrols_one_key_and_not_for_ever() {
    let service = Service::new().await;
    let first = ticket(&service).await;
    let runner = enrol(&service, &first, "runner").await.unwrap();
    // The answer got lost: the same key asks again.
    assert_eq!(enrol(&service, &first, "runner").await.map(|again| again.id).ok(), Some(runner.id));
    let stolen = enrol(&service, &first, "thief").await.map(|_| ()).unwrap_err();
    assert!(stolen.1["message"].as_str().unwrap().contains("used"), "{stolen:?}");

    let second = service.admin("POST", "/api/v1/runners/web-1/ticket", Value::Null).await;
    let second = second["ticket"].as_str().unwrap();
    service.hands.advance(Duration::from_secs(3601));
    let late = enrol(&service, second, "runner-2").await.map(|_| ()).unwrap_err();
    assert!(late.1["message"].as_str().unwrap().contains("expired"), "{late:?}");

    let third = service.admin("POST", "/api/v1/runners/web-1/ticket", Value::Null).await;
    assert_ne!(third["ticket"].as_str(), Some(second));
    let void = enrol(&service, second, "runner-2").await.map(|_| ()).unwrap_err();
    assert_eq!((void.0, &void.1["code"]), (401, &json!("ticket-unknown")), "{void:?}");
}

#[tokio::test]
async fn a_request_counts_once_and_only_as_it_was_signed() {
    let service = Service::furnished().await;
    let mut runner = enrol(&service, &ticket(&service).await, "runner").await.unwrap();
    let opening = runner.sign("POST", endpoint::SESSION, &runner.opening());
    let (status, body) = runner.send(&opening).await;
    assert_eq!(status, 200);
    runner.session = serde_json::from_slice::<SessionOpened>(&body).unwrap().session;
    runner.sequence = 0;
    assert_eq!(runner.refused(&opening).await, "replayed");

    let poll = runner.sign("POST", endpoint::POLL, &runner.poll(Span::default(), 0));
    let first = runner.send(&poll).await;
    let again = runner.send(&poll).await;
    assert_eq!((first.0, &first.1), (200, &again.1));

    let check = async |alter: &dyn Fn(&mut Signed), code: &str| {
        let mut altered = poll.clone();
        alter(&mut altered);
        assert_eq!(runner.refused(&altered).await, code);
    };
    check(&|signed| signed.body.push(b' '), "body-digest").await;
    check(&|signed| signed.path = endpoint::REPORT.to_owned(), "signature").await;
    check(&|signed| signed.request.headers[3].1 = "9".to_owned(), "signature").await;
    check(&|signed| signed.request.headers[1].1 = "elsewhere.example".to_owned(), "audience").await;
}

#[tokio::test]
async fn clocks_sessions_and_strangers() {
    let service = Service::furnished().await;
    let mut runner = enrol(&service, &ticket(&service).await, "runner").await.unwrap();
    runner.open().await;
    let early = runner.sign("POST", endpoint::POLL, &runner.poll(Span::default(), 0));
    service.hands.advance(Duration::from_secs(3600));
    assert_eq!(runner.refused(&early).await, "clock");

    let mut older = runner.poll(Span::default(), 0);
    older.session = Session(99);
    let older = runner.sign("POST", endpoint::POLL, &older);
    assert_eq!(runner.refused(&older).await, "session-mismatch");

    let mut other = enrol(&service, &other_ticket(&service).await, "other").await.unwrap();
    other.id = runner.id;
    other.signer = RequestSigner::new(key("other"), runner.id, "remit.example".parse().unwrap());
    let forged = other.sign("POST", endpoint::POLL, &runner.poll(Span::default(), 0));
    assert_eq!(other.refused(&forged).await, "signature");

    service.admin("DELETE", "/api/v1/runners/web-1", Value::Null).await;
    let gone = runner.sign("POST", endpoint::POLL, &runner.poll(Span::default(), 0));
    assert_eq!(runner.refused(&gone).await, "runner-unknown");
}

async fn other_ticket(service: &Service) -> String {
    let made = service.admin("POST", path::RUNNERS, json!({"name": "web-2"})).await;
    made["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_route_for_runners_wants_a_signature() {
    let service = Service::new().await;
    let mut tried = 0;
    for path in crate::http::routes(Arc::clone(&service.app)).signed {
        if path == endpoint::HELLO || path == endpoint::ENROL {
            // The one says who is here, the other verifies a ticket.
            continue;
        }
        let path = path.replace("{digest}", &Digest::of(b"").to_string()).replace("{version}", "1.0.0");
        let path = path.replace("{older}", "1").replace("{newer}", "2");
        let path = path
            .replace("{attempt}", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
            .replace("{length}", "1")
            .replace("{offset}", "0");
        for method in ["GET", "POST"] {
            let (status, answer) = service.call(method, &path, Some(&service.admin), Body::from("{}")).await;
            let code = answer["code"].as_str().unwrap_or_default();
            assert!(
                matches!((status.as_u16(), code), (401, "unsigned") | (405, "no-method")),
                "{method} {path}: {answer}"
            );
            tried += u32::from(status == StatusCode::UNAUTHORIZED);
        }
    }
    assert_eq!(tried, 11);
}

#[tokio::test]
async fn of_a_runners_record_the_longest_signed_end_is_kept() {
    let service = Service::new().await;
    let mut runner = enrol(&service, &ticket(&service).await, "own").await.unwrap();
    runner.open().await;
    let end = |keeper: &str, entries: u64, by: &str| {
        let digest = Digest::of(format!("line {entries}").as_bytes());
        let at = Timestamp::from_millis(service.hands.now().as_secs() * 1000);
        let says = TrailNote { keeper: keeper.to_owned(), head: Head { entries, digest }, at };
        let note = note::sign(&says.to_text(), &[&key(by)]).unwrap();
        TrailHead { note: String::from_utf8(note).unwrap() }
    };
    let keeper = format!("runner/{}", runner.id);
    for bad in
        [end("runner/other", 5, "own"), end(&keeper, 5, "stranger"), TrailHead { note: "x".to_owned() }]
    {
        let sent = runner.sign("POST", endpoint::TRAIL, &bad);
        assert_eq!(runner.refused(&sent).await, "invalid");
    }
    for (entries, expect) in
        [(5, (5, true)), (5, (5, true)), (9, (9, true)), (7, (9, false)), (6, (9, false))]
    {
        let kept: TrailKept = runner.ask(endpoint::TRAIL, &end(&keeper, entries, "own")).await;
        assert_eq!((kept.entries, kept.fits), expect);
    }
    let shown = service.admin("GET", "/api/v1/runners/web-1/trail", Value::Null).await;
    let only = &shown["items"][0];
    assert_eq!((&only["entries"], &only["current"]), (&9.into(), &true.into()), "{shown:#}");
    assert!(only["against"].as_str().unwrap().contains("entries 7"), "{shown:#}");
    let lines = service.app.store.audit_lines(0, 100).await.unwrap().lines;
    let said = lines.iter().filter(|line| line.contains("runner.trail-against")).count();
    assert_eq!(said, 1, "once, not at each repetition");
}

#[tokio::test]
async fn a_sealing_key_is_told_by_the_runner_itself() {
    let service = Service::new().await;
    let mut runner = enrol(&service, &ticket(&service).await, "own").await.unwrap();
    let name = "web-1".parse().unwrap();
    let note = |by: &str, id: RunnerId| {
        let sealing = SealingKey::from_seed(&[9; 32]).public();
        let at = Timestamp::from_millis(service.hands.now().as_secs() * 1000);
        Some(String::from_utf8(SealingNote::sign(&key(by), (id, &name), &sealing, at).unwrap()).unwrap())
    };
    let other = RunnerId::from_u128(7);
    for bad in [note("stranger", runner.id), note("own", other), Some("a note".to_owned())] {
        let sent = runner.sign("POST", endpoint::SESSION, &OpenSession { sealing: bad, ..runner.opening() });
        assert_eq!(runner.refused(&sent).await, "invalid");
    }
    let own = note("own", runner.id);
    let opening = OpenSession { sealing: own.clone(), ..runner.opening() };
    let opened: SessionOpened = runner.ask(endpoint::SESSION, &opening).await;
    let notes = service.app.store.sealing_notes(vec![runner.id, other]).await.unwrap();
    assert_eq!(notes.get(&runner.id), own.as_ref());
    // A version that knows nothing of this tells none, and none is told of it.
    runner.session = opened.session;
    runner.sequence = 0;
    let _: SessionOpened = runner.ask(endpoint::SESSION, &runner.opening()).await;
    assert!(service.app.store.sealing_notes(vec![runner.id]).await.unwrap().is_empty());
}
