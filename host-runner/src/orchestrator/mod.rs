//! The orchestrator as the runner sees it: signed requests out, signed answers in. The only room that dials it.
//!
//! A call that fails says whether trying again helps. *Must not know:* attempts, the journal, what the answers mean.
//! *Invariant:* nothing of an answer is used before its signature is believed, its status included.

mod road;

use std::{
    io,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use remit_protocol::{
    AttemptId, ComponentPin, Digest, Session, Span, Timestamp,
    digest::Sized,
    endpoint::{
        self, ArtifactUpload, ComponentBundle, Enrol, Enrolled, Hello, LogConsistency, LogProof, OpenSession,
        Poll, PollAnswer, Problem, ReportAnswer, SessionOpened, TrailHead, TrailKept, Wait, Waited,
    },
    json,
    limits::{MAX_BODY, MAX_MANIFEST, MAX_NOTE},
};
use remit_signing::{
    http::{Content, HttpFault, RequestParts, RequestSigner, read_answer},
    key::PublicKey,
    verdict,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    task::JoinSet,
    time::Instant,
};

pub use road::{NoRoad, Road};

use crate::clock::Clock;

const JSON: &str = "application/json";
/// Longest time for an answer that is not parked.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pauses between the tries of a call on which an attempt waits: about half a minute in all.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(16);
/// Largest answer to a poll: assignments carry notes, options and outputs of earlier steps.
const MAX_POLL_ANSWER: usize = 64 << 20;
/// A kept connection that fails sooner than this was closed before the call.
const STALE: Duration = Duration::from_secs(1);
/// Connections that are kept for the next call.
const MAX_IDLE: usize = 4;

/// Why a call did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error(transparent)]
    Road(#[from] NoRoad),
    /// The connection ended before the answer, or something on the way answered instead.
    #[error("the connection to the orchestrator was cut: {0}")]
    Cut(String),
    /// The orchestrator says no.
    #[error("the orchestrator refused ({status}): {}{}", .problem.message, remedy(.problem))]
    Refused {
        /// HTTP's number.
        status: u16,
        /// Its words.
        problem: Box<Problem>,
    },
    /// The answer is not the orchestrator's.
    #[error("an answer is not believed: {0}; is there a middlebox that rewrites it?")]
    NotBelieved(HttpFault),
    /// The answer is the orchestrator's, and makes no sense.
    #[error("the orchestrator's answer cannot be read: {0}; are the versions compatible?")]
    Unreadable(String),
}

/// At most `most` bytes of `file` from `offset` on.
async fn read_at(file: &mut tokio::fs::File, offset: u64, most: usize) -> io::Result<Bytes> {
    file.seek(io::SeekFrom::Start(offset)).await?;
    let mut piece = Vec::with_capacity(most);
    file.take(most as u64).read_to_end(&mut piece).await?;
    Ok(piece.into())
}

fn remedy(problem: &Problem) -> String {
    if problem.remedy.is_empty() { String::new() } else { format!(" {}", problem.remedy) }
}

/// What a failed call means for the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Try again later.
    TryAgain,
    /// This session is over, another one may be opened.
    NewSession,
    /// This runner cannot go on.
    Fatal,
}

impl CallError {
    /// What it means for the runner.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Refused { problem, .. } => match problem.code.as_str() {
                "session-unknown" => Standing::NewSession,
                "session-superseded"
                | "session-mismatch"
                | "runner-locked"
                | "runner-unknown"
                | "unsupported-protocol" => Standing::Fatal,
                _ => Standing::TryAgain,
            },
            Self::Road(_) | Self::Cut(_) | Self::NotBelieved(_) | Self::Unreadable(_) => Standing::TryAgain,
        }
    }
}

type Connection = SendRequest<Full<Bytes>>;

/// Calls without an identity: what a runner can ask before it is enrolled.
pub struct Caller {
    road: Road,
    idle: Mutex<Vec<Connection>>,
    /// Drives the connections; ends with the caller.
    drivers: Mutex<JoinSet<()>>,
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
}

struct Call<'a> {
    method: Method,
    path: &'a str,
    body: Bytes,
    headers: &'a [(&'static str, String)],
    limit: usize,
    patience: Duration,
}

impl Caller {
    /// Calls over `road`.
    pub fn new(road: Road) -> Self {
        Self { road, idle: Mutex::default(), drivers: Mutex::default() }
    }

    /// The way.
    pub fn road(&self) -> &Road {
        &self.road
    }

    /// Asks who is there, without any signature.
    ///
    /// # Errors
    /// [`CallError::Cut`] with what answered, if it is not an orchestrator.
    pub async fn hello(&self) -> Result<Hello, CallError> {
        let answer = self.plain(Method::GET, endpoint::HELLO, Bytes::new()).await?;
        let hello: Option<Hello> = serde_json::from_slice(&answer.body).ok();
        hello.filter(|hello| hello.remit == "orchestrator").ok_or_else(|| {
            let status = answer.status.as_u16();
            CallError::Cut(format!("something that is no Remit orchestrator answered (HTTP {status})"))
        })
    }

    /// Introduces a new runner.
    ///
    /// # Errors
    /// [`CallError`]; the answer's note is not verified yet.
    pub async fn enrol(&self, enrol: &Enrol) -> Result<Enrolled, CallError> {
        let answer = self.plain(Method::POST, endpoint::ENROL, to_json(enrol)?).await?;
        if !answer.status.is_success() {
            return Err(refused(&answer));
        }
        from_json(&answer.body, MAX_BODY)
    }

    async fn plain(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, CallError> {
        let headers = [("content-type", JSON.to_owned())];
        let call = Call { method, path, body, headers: &headers, limit: MAX_BODY, patience: PATIENCE };
        let mut connection = self.connect().await?;
        self.call(&mut connection, &call).await
    }

    async fn call(&self, connection: &mut Connection, call: &Call<'_>) -> Result<Answer, CallError> {
        let answer = tokio::time::timeout(call.patience, self.send(connection, call)).await;
        answer.map_err(|_| CallError::Cut("no answer in time".to_owned()))?
    }

    fn idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|connection| !connection.is_closed())
    }

    /// Keeps a connection whose answer was read to its end. Whether it takes a next call at once is not asked: its task may
    /// only be about to find that out, and a new one costs a handshake.
    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !connection.is_closed() && idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let stream = self.road.connect().await?;
        let cut = |error: hyper::Error| CallError::Cut(error.to_string());
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(cut)?;
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        while drivers.try_join_next().is_some() {}
        drivers.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the orchestrator ended");
            }
        });
        Ok(sender)
    }

    async fn send(&self, connection: &mut Connection, call: &Call<'_>) -> Result<Answer, CallError> {
        let cut = |error: hyper::Error| CallError::Cut(error.to_string());
        let url = self.road.url();
        let host = match url.port() {
            443 => url.host().to_owned(),
            port => format!("{}:{port}", url.host()),
        };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.path)
            .header(header::HOST, host)
            .header(header::CACHE_CONTROL, "no-store, no-transform")
            .header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in call.headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(call.body.clone()))
            .map_err(|error| CallError::Unreadable(error.to_string()))?;
        connection.ready().await.map_err(cut)?;
        let (head, body) = connection.send_request(request).await.map_err(cut)?.into_parts();
        let body = Limited::new(body, call.limit).collect().await;
        let body = body.map_err(|error| CallError::Cut(error.to_string()))?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

fn refused(answer: &Answer) -> CallError {
    let status = answer.status.as_u16();
    match serde_json::from_slice::<Problem>(&answer.body) {
        Ok(problem) => CallError::Refused { status, problem: Box::new(problem) },
        Err(_) => {
            CallError::Cut(format!("something on the way answered HTTP {status} without words of Remit's"))
        }
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<Bytes, CallError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| CallError::Unreadable(error.to_string()))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CallError> {
    json::from_slice(bytes, limit).map_err(|error| CallError::Unreadable(error.to_string()))
}

/// The orchestrator, for an enrolled runner.
pub struct Client {
    caller: Caller,
    signer: RequestSigner,
    answer_key: PublicKey,
    clock: Clock,
    random: fn() -> [u8; 16],
    session: AtomicU64,
    sequence: AtomicU64,
    /// How far the orchestrator's clock is ahead of ours, in milliseconds: for request signatures only.
    ahead: AtomicI64,
}

impl Client {
    /// Signs with `signer` and believes `answer_key`.
    pub fn new(
        caller: Caller,
        signer: RequestSigner,
        answer_key: PublicKey,
        clock: Clock,
        random: fn() -> [u8; 16],
    ) -> Self {
        let (session, sequence, ahead) = (AtomicU64::new(0), AtomicU64::new(0), AtomicI64::new(0));
        Self { caller, signer, answer_key, clock, random, session, sequence, ahead }
    }

    /// Requests carry this session from now on, numbered from 1.
    pub fn use_session(&self, session: Session) {
        self.session.store(session.0, Ordering::Relaxed);
        self.sequence.store(0, Ordering::Relaxed);
    }

    /// Opens a session. The orchestrator's clock is asked first, so that ours may be wrong.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn open(&self, open: &OpenSession) -> Result<SessionOpened, CallError> {
        self.tell_time(self.caller.hello().await?.now);
        self.use_session(open.last);
        // A session that never was has no numbers: the time makes this one new.
        self.sequence.store((self.clock)().as_millis(), Ordering::Relaxed);
        self.post(endpoint::SESSION, to_json(open)?, MAX_BODY, PATIENCE).await
    }

    /// Parks a poll.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn poll(&self, poll: &Poll) -> Result<PollAnswer, CallError> {
        let patience = poll.hold.duration() + Duration::from_secs(15);
        let answer: PollAnswer = self.post(endpoint::POLL, to_json(poll)?, MAX_POLL_ANSWER, patience).await?;
        self.tell_time(answer.now);
        Ok(answer)
    }

    /// Asks for an answer that is held back for `hold`, outside of any session: a running runner is not disturbed.
    ///
    /// # Errors
    /// [`CallError`]: what lies between may not let a silent call live for so long.
    pub async fn wait(&self, hold: Span) -> Result<Waited, CallError> {
        // Without a session there are no numbers either: the time makes this call new.
        self.sequence.store((self.clock)().as_millis(), Ordering::Relaxed);
        let patience = hold.duration() + Duration::from_secs(15);
        self.post(endpoint::WAIT, to_json(&Wait { hold })?, MAX_BODY, patience).await
    }

    /// Takes the orchestrator's time for the signatures of requests.
    pub fn tell_time(&self, theirs: Timestamp) {
        let ours = (self.clock)();
        let signed = |time: Timestamp| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.ahead.store(signed(theirs) - signed(ours), Ordering::Relaxed);
    }

    /// Sends a report that is in JSON already.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn report(&self, report: Bytes) -> Result<ReportAnswer, CallError> {
        self.post(endpoint::REPORT, report, MAX_BODY, PATIENCE).await
    }

    /// Sends the signed end of the owner's record.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn trail(&self, head: &TrailHead) -> Result<TrailKept, CallError> {
        self.post(endpoint::TRAIL, to_json(head)?, MAX_BODY, PATIENCE).await
    }

    /// What belongs to a component beside its bytes.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn component(&self, pin: &ComponentPin) -> Result<ComponentBundle, CallError> {
        let (name, version) = (&pin.name, &pin.version);
        let path = format!("{}/{}/{}/{version}", endpoint::COMPONENTS, name.namespace(), name.name());
        // Manifest, note, proof and verdicts, with room for their quotes in JSON.
        let limit = 2 * (MAX_MANIFEST + 2 * MAX_NOTE + verdict::MAX_VERDICTS * verdict::MAX_NOTE);
        let answer = self.patiently(Method::GET, &path, Bytes::new(), limit, PATIENCE).await?;
        from_json(&answer, limit)
    }

    /// The proof that the note with this leaf hash is in the orchestrator's transparency log.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn log_proof(&self, leaf: Digest) -> Result<LogProof, CallError> {
        let path = format!("{}/{leaf}", endpoint::LOG_PROOF);
        let answer = self.patiently(Method::GET, &path, Bytes::new(), MAX_BODY, PATIENCE).await?;
        from_json(&answer, MAX_BODY)
    }

    /// The proof that one head of that log is where another one begins.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn log_consistency(&self, older: u64, newer: u64) -> Result<LogConsistency, CallError> {
        let path = format!("{}/{older}/{newer}", endpoint::LOG_CONSISTENCY);
        let answer = self.patiently(Method::GET, &path, Bytes::new(), MAX_BODY, PATIENCE).await?;
        from_json(&answer, MAX_BODY)
    }

    /// The bytes of a blob, which are as long as it says and not longer. Whether they are the right ones is the caller's to
    /// compute.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn blob(&self, blob: Sized) -> Result<Bytes, CallError> {
        let path = format!("{}/{}", endpoint::BLOBS, blob.digest);
        let limit = usize::try_from(blob.length).unwrap_or(usize::MAX).max(MAX_BODY);
        // A megabyte in ten seconds is the slowest line that is waited for.
        let patience = PATIENCE + Duration::from_secs(blob.length / (100 << 10));
        self.patiently(Method::GET, &path, Bytes::new(), limit, patience).await
    }

    /// Keeps bytes at the orchestrator.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn upload(&self, bytes: Bytes) -> Result<Sized, CallError> {
        let blob = Sized::of(&bytes);
        let patience = PATIENCE + Duration::from_secs(blob.length / (100 << 10));
        self.patiently(Method::POST, endpoint::BLOBS, bytes, MAX_BODY, patience).await?;
        Ok(blob)
    }

    /// Brings the bytes of an artifact, in pieces; after an outage it goes on where the orchestrator has stopped.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn bring(&self, attempt: AttemptId, bytes: Sized, spool: &Path) -> Result<(), CallError> {
        let unreadable = |error: io::Error| CallError::Unreadable(format!("an artifact's file: {error}"));
        let mut file = tokio::fs::File::open(spool).await.map_err(unreadable)?;
        let mut have = 0;
        // Every piece counts once; beyond that something goes round in circles.
        let mut turns = 2 * (bytes.length / endpoint::MAX_PIECE as u64) + 16;
        loop {
            let piece = read_at(&mut file, have, endpoint::MAX_PIECE).await.map_err(unreadable)?;
            let path = format!("{}/{attempt}/{}/{}/{have}", endpoint::ARTIFACTS, bytes.digest, bytes.length);
            let answer = self.patiently(Method::POST, &path, piece, MAX_BODY, PATIENCE).await?;
            let upload: ArtifactUpload = from_json(&answer, MAX_BODY)?;
            if upload.kept {
                return Ok(());
            }
            turns = turns.saturating_sub(1);
            if upload.have > bytes.length || turns == 0 {
                return Err(CallError::Unreadable(format!(
                    "it has {} bytes of {}",
                    upload.have, bytes.length
                )));
            }
            have = upload.have;
        }
    }

    /// A call on which an attempt waits: what a short outage broke is tried again, and a refusal is not.
    async fn patiently(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: usize,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.signed(method.clone(), path, body.clone(), limit, patience).await {
                Err(CallError::Road(_) | CallError::Cut(_)) if pause <= LAST_PAUSE => {}
                // It has more to do than it can take on.
                Err(CallError::Refused { status: 503, .. }) if pause <= LAST_PAUSE => {}
                answer => return answer,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
        limit: usize,
        patience: Duration,
    ) -> Result<T, CallError> {
        let answer = self.signed(Method::POST, path, body, limit, patience).await?;
        serde_json::from_slice(&answer).map_err(|error| CallError::Unreadable(error.to_string()))
    }

    async fn signed(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: usize,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        if let Some(mut idle) = self.caller.idle() {
            let begun = Instant::now();
            let answer =
                self.sign_and_send(&mut idle, method.clone(), path, body.clone(), limit, patience).await;
            match answer {
                // The other side had just closed what we kept. Every call may be repeated.
                Err(CallError::Cut(_)) if begun.elapsed() < STALE => {}
                answer => return self.done(idle, answer),
            }
        }
        let mut fresh = self.caller.connect().await?;
        let answer = self.sign_and_send(&mut fresh, method, path, body, limit, patience).await;
        self.done(fresh, answer)
    }

    /// An answer, and what becomes of its connection: one on which a call was cut may still be waiting for its end.
    fn done(&self, connection: Connection, answer: Result<Bytes, CallError>) -> Result<Bytes, CallError> {
        if !matches!(answer, Err(CallError::Cut(_))) {
            self.caller.keep(connection);
        }
        answer
    }

    async fn sign_and_send(
        &self,
        connection: &mut Connection,
        method: Method,
        path: &str,
        body: Bytes,
        limit: usize,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let parts = RequestParts {
            method: method.as_str(),
            path,
            query: None,
            content: Content { content_type: JSON, body: &body },
        };
        let session = Session(self.session.load(Ordering::Relaxed));
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let signed = self.signer.sign(&parts, session, sequence, self.their_time(), (self.random)());
        let signed = signed.map_err(CallError::NotBelieved)?;
        let mut headers = vec![("content-type", JSON.to_owned())];
        headers.extend(signed.headers);
        let call = Call { method, path, body, headers: &headers, limit, patience };
        let answer = self.caller.call(connection, &call).await?;
        self.believe(&answer, &signed.signature)?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(refused(&answer)) }
    }

    fn believe(&self, answer: &Answer, request: &str) -> Result<(), CallError> {
        let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let status = answer.status.as_u16();
        match read_answer(&self.answer_key, status, headers, &answer.body, request) {
            Ok(_) => Ok(()),
            // Proxies and load balancers answer for an orchestrator that is not there.
            Err(_) if matches!(status, 407 | 408 | 429 | 502..=504) => {
                Err(CallError::Cut(format!("something on the way answered HTTP {status}")))
            }
            Err(fault) => Err(CallError::NotBelieved(fault)),
        }
    }

    fn their_time(&self) -> Timestamp {
        let ours = (self.clock)();
        let ahead = Duration::from_millis(self.ahead.load(Ordering::Relaxed).unsigned_abs());
        if self.ahead.load(Ordering::Relaxed) >= 0 {
            ours.plus(ahead)
        } else {
            Timestamp::from_millis(
                ours.as_millis().saturating_sub(u64::try_from(ahead.as_millis()).unwrap_or(0)),
            )
        }
    }
}
