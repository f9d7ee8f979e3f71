//! An orchestrator in the hands of an attacker: it has the keys, speaks the runner's API and says what it likes.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use remit_protocol::{
    Digest, Timestamp,
    endpoint::{
        BLOBS, COMPONENTS, HELLO, LOG_CONSISTENCY, OpenSession, POLL, Poll, REPORT, Report, ReportAnswer,
        SESSION,
    },
    report::{AttemptReply, Event, Verdict},
};
use remit_signing::{
    KeyName, SigningKey,
    http::{Content, header, sign_answer},
    sealing::SealingNote,
};
use serde_json::{Value, json};

use super::log::Log;

/// What is done to the bytes of an answer on their way, or in place of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Twist {
    /// Nothing: the answer is signed as it should be.
    #[default]
    Honest,
    /// It is not signed.
    Unsigned,
    /// Another key has signed it.
    OtherKey,
    /// It is signed as the answer to another request.
    OtherRequest,
    /// A byte of the body is changed after signing.
    Altered,
    /// The status is another one than was signed.
    OtherStatus,
    /// The body never ends.
    Endless,
    /// It says that it has 2^60 bytes.
    Huge,
    /// It points elsewhere.
    Redirect,
    /// The JSON is changed as text before signing: what stands first is replaced by the second.
    Json(&'static str, &'static str),
    /// The body is this, rightly signed.
    Body(&'static str),
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fate {
    pub(crate) outcome: String,
    pub(crate) message: String,
    /// A sandbox was made for one of its steps.
    pub(crate) ran: bool,
}

#[derive(Default)]
struct State {
    session: u64,
    /// What is handed out next, and how the answer is twisted.
    work: VecDeque<(Value, Twist)>,
    /// Handed out and not acknowledged.
    given: Option<Value>,
    blobs: BTreeMap<String, Vec<u8>>,
    bundles: BTreeMap<String, Value>,
    /// How answers below this path are twisted, once each.
    twists: BTreeMap<&'static str, Twist>,
    fates: BTreeMap<String, Fate>,
    ran: BTreeMap<String, bool>,
    polls: u64,
    redirected: u64,
    /// The note on the runner's sealing key, as it told it.
    sealing: Option<String>,
    log: Option<Log>,
}

/// The server; it stops when this is dropped.
pub(crate) struct Orchestrator {
    state: Arc<Mutex<State>>,
    changed: Arc<tokio::sync::Notify>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Keys {
    answer: SigningKey,
    other: SigningKey,
}

impl Orchestrator {
    /// Takes over from the orchestrator whose directory is `data`, at its address.
    #[expect(clippy::disallowed_methods, reason = "the attacker's own listener")]
    pub(crate) fn take_over(data: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(data.join("answer.key"))?;
        let keys = Arc::new(Keys {
            answer: SigningKey::from_private_text(&text)?,
            other: SigningKey::from_seed(KeyName::new("attacker/key")?, &[66; 32]),
        });
        let issuer = rcgen::KeyPair::from_pem(&std::fs::read_to_string(data.join("ca.key"))?)?;
        let authority = std::fs::read_to_string(data.join("ca.pem"))?;
        // Of the authority's certificate only name and key enter the leaf.
        let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "Remit orchestrator authority");
        let issuer = rcgen::Issuer::new(parameters, issuer);
        let key = rcgen::KeyPair::generate()?;
        let leaf = rcgen::CertificateParams::new(vec![address.ip().to_string()])?.signed_by(&key, &issuer)?;
        let private =
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let root = rustls::pki_types::pem::PemObject::from_pem_slice(authority.as_bytes())
            .map_err(|error: rustls::pki_types::pem::Error| anyhow::anyhow!("{error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone(), root], private)?;
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address))?;
        let text = std::fs::read_to_string(data.join("log.key"))?;
        let log = Log::new(
            SigningKey::from_private_text(&text)?,
            SigningKey::from_seed(KeyName::new("attacker/log")?, &[67; 32]),
        );
        let state = Arc::new(Mutex::new(State { log: Some(log), ..State::default() }));
        let changed = Arc::new(tokio::sync::Notify::new());
        let (own_state, own_changed) = (state.clone(), changed.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, keys) = (acceptor.clone(), keys.clone());
                let (state, changed) = (own_state.clone(), own_changed.clone());
                tokio::task::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let (keys, state, changed) = (keys.clone(), state.clone(), changed.clone());
                        async move { Ok::<_, Infallible>(answer(request, &keys, &state, &changed).await) }
                    });
                    // A runner that has enough goes away.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { state, changed, runtime: Some(runtime) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Keeps bytes under a digest that need not be theirs.
    pub(crate) fn serve_blob(&self, digest: &str, bytes: Vec<u8>) {
        self.state().blobs.insert(digest.to_owned(), bytes);
    }

    /// Keeps a bundle for `namespace/name/version`.
    pub(crate) fn serve_bundle(&self, place: String, bundle: Value) {
        self.state().bundles.insert(place, bundle);
    }

    /// Twists the next answer below `path`.
    pub(crate) fn twist(&self, path: &'static str, twist: Twist) {
        self.state().twists.insert(path, twist);
    }

    /// Does something with the log.
    pub(crate) fn log<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        work(self.state().log.as_mut().unwrap())
    }

    /// Hands out work at the next poll.
    pub(crate) fn hand_out(&self, command: Value, twist: Twist) {
        self.state().work.push_back((command, twist));
        self.changed.notify_waiters();
    }

    /// What became of an attempt, once it has ended.
    pub(crate) fn fate(&self, attempt: &str) -> Option<Fate> {
        self.state().fates.get(attempt).cloned()
    }

    /// True if a sandbox was made for a step of the attempt.
    pub(crate) fn has_run(&self, attempt: &str) -> bool {
        self.state().ran.get(attempt).copied().unwrap_or_default()
    }

    /// To which key secrets for the runner are sealed, once it has told that.
    pub(crate) fn sealing(&self) -> SealingNote {
        let told =
            harness::wait_for("the runner's sealing key", || Ok(self.state().sealing.clone())).unwrap();
        SealingNote::read(told.as_bytes()).unwrap()
    }

    /// How many polls there were.
    pub(crate) fn polls(&self) -> u64 {
        self.state().polls
    }

    /// How often a redirection was followed.
    pub(crate) fn redirected(&self) -> u64 {
        self.state().redirected
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

#[expect(clippy::disallowed_methods, reason = "the attacker's clock")]
fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

async fn answer(
    request: Request<Incoming>,
    keys: &Keys,
    state: &Mutex<State>,
    changed: &tokio::sync::Notify,
) -> Answer {
    let path = request.uri().path().to_owned();
    let signature = request
        .headers()
        .get(header::SIGNATURE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("remit="))
        .unwrap_or_default()
        .to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut twist = {
        let mut state = state.lock().unwrap();
        let place = state.twists.keys().copied().find(|place| path.starts_with(place));
        place.and_then(|place| state.twists.remove(place)).unwrap_or_default()
    };
    let (status, kind, bytes) = match path.as_str() {
        HELLO => {
            (200, JSON, json!({ "remit": "orchestrator", "protocol": 1, "now": now() }).to_string().into())
        }
        SESSION => (200, JSON, session(&body, state)),
        POLL => {
            let (bytes, own) = poll(&body, state, changed).await;
            if own != Twist::Honest {
                twist = own;
            }
            (200, JSON, bytes)
        }
        REPORT => (200, JSON, report(&body, state)),
        "/elsewhere" => {
            state.lock().unwrap().redirected += 1;
            (200, JSON, b"{}".to_vec())
        }
        other => stored(other, &state.lock().unwrap()),
    };
    twisted(twist, keys, status, kind, bytes, &signature)
}

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

fn session(body: &[u8], state: &Mutex<State>) -> Vec<u8> {
    let open: OpenSession = serde_json::from_slice(body).unwrap();
    let mut state = state.lock().unwrap();
    state.session = open.last.0 + 1;
    state.sealing = open.sealing;
    state.given = None;
    let opened = json!({
        "session": state.session, "name": "local", "tags": [], "hold": "1s", "lease": "75s", "forget": [],
    });
    opened.to_string().into_bytes()
}

async fn poll(body: &[u8], state: &Mutex<State>, changed: &tokio::sync::Notify) -> (Vec<u8>, Twist) {
    let poll: Poll = serde_json::from_slice(body).unwrap();
    let waited = changed.notified();
    let empty = {
        let mut state = state.lock().unwrap();
        state.polls += 1;
        state.given = None;
        state.work.is_empty()
    };
    if empty {
        // The answer to a question that nothing is known about may as well wait.
        let _ = tokio::time::timeout(Duration::from_millis(500), waited).await;
    }
    let (commands, twist) = match state.lock().unwrap().work.pop_front() {
        Some((command, twist)) => (vec![command], twist),
        None => (Vec::new(), Twist::Honest),
    };
    let answer = json!({ "first": poll.ack + 1, "commands": commands, "now": now() });
    (answer.to_string().into_bytes(), twist)
}

fn report(body: &[u8], state: &Mutex<State>) -> Vec<u8> {
    let report: Report = serde_json::from_slice(body).unwrap();
    let mut state = state.lock().unwrap();
    let mut attempts = Vec::new();
    for said in report.attempts {
        let attempt = said.attempt.to_string();
        for event in &said.events {
            match event {
                Event::StepEnded(ended) if ended.tries > 0 => {
                    state.ran.insert(attempt.clone(), true);
                }
                Event::Finished { outcome, message, .. } => {
                    let ran = state.ran.get(&attempt).copied().unwrap_or_default();
                    let fate = Fate { outcome: outcome.to_string(), message: message.clone(), ran };
                    state.fates.insert(attempt.clone(), fate);
                }
                _ => {}
            }
        }
        attempts.push(AttemptReply {
            attempt: said.attempt,
            events: (said.first_event + said.events.len() as u64).saturating_sub(1),
            entries: (said.first_entry + said.log.len() as u64).saturating_sub(1),
            verdict: said.start.map(|_| Verdict::Begin),
        });
    }
    serde_json::to_vec(&ReportAnswer { attempts }).unwrap()
}

fn stored(path: &str, state: &State) -> (u16, &'static str, Vec<u8>) {
    if let Some(digest) = path.strip_prefix(BLOBS).and_then(|rest| rest.strip_prefix('/'))
        && let Some(bytes) = state.blobs.get(digest)
    {
        return (200, BYTES, bytes.clone());
    }
    if let Some(place) = path.strip_prefix(COMPONENTS).and_then(|rest| rest.strip_prefix('/'))
        && let Some(bundle) = state.bundles.get(place)
    {
        return (200, JSON, bundle.to_string().into_bytes());
    }
    if let Some((older, newer)) = path
        .strip_prefix(LOG_CONSISTENCY)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|rest| rest.split_once('/'))
        && let Some(log) = &state.log
        && let (Ok(older), Ok(newer)) = (older.parse(), newer.parse())
        && let Some(hashes) = log.consistency(older, newer)
    {
        return (200, JSON, json!({ "hashes": hashes }).to_string().into_bytes());
    }
    (404, JSON, json!({ "code": "not-found", "message": "There is no such thing." }).to_string().into_bytes())
}

fn full(bytes: Vec<u8>) -> BoxBody<Bytes, Infallible> {
    Full::new(Bytes::from(bytes)).boxed()
}

/// A body that sends `first` and then, for ever, more.
fn unending(first: Vec<u8>) -> BoxBody<Bytes, Infallible> {
    let more = stream::repeat(Bytes::from_static(&[b' '; 64 << 10]));
    let pieces = stream::iter([Bytes::from(first)]).chain(more);
    BodyExt::boxed(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))))
}

fn twisted(twist: Twist, keys: &Keys, status: u16, kind: &str, mut bytes: Vec<u8>, request: &str) -> Answer {
    match &twist {
        Twist::Json(old, new) => bytes = String::from_utf8(bytes).unwrap().replacen(old, new, 1).into_bytes(),
        Twist::Body(text) => bytes = text.as_bytes().to_vec(),
        _ => {}
    }
    let key = if twist == Twist::OtherKey { &keys.other } else { &keys.answer };
    let other = format!(":{}:", "A".repeat(86) + "==");
    let bound = if twist == Twist::OtherRequest { &other } else { request };
    let signed = sign_answer(key, status, &Content { content_type: kind, body: &bytes }, bound, now());
    let mut response = Response::builder().status(if twist == Twist::OtherStatus { 201 } else { status });
    response = response.header("content-type", kind);
    if let (Ok(signed), false) = (signed, twist == Twist::Unsigned) {
        for (name, value) in signed.headers {
            response = response.header(name, value);
        }
    }
    let body = match twist {
        Twist::Altered => {
            if let Some(byte) = bytes.iter_mut().rev().find(|byte| byte.is_ascii_digit()) {
                *byte = if *byte == b'1' { b'2' } else { b'1' };
            }
            full(bytes)
        }
        Twist::Endless => unending(bytes),
        Twist::Huge => {
            response = response.header("content-length", 1_u64 << 60);
            unending(bytes)
        }
        Twist::Redirect => {
            response = response.status(307).header("location", "/elsewhere");
            full(bytes)
        }
        _ => full(bytes),
    };
    response.body(body).unwrap()
}

/// The digest of bytes as the API writes it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}
