//! Around every call of an enrolled runner: read, believe, count once, work, sign.

use std::{fs::File, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use remit_protocol::{Digest, RunnerId, limits::MAX_BODY};
use remit_signing::{
    http::{
        Content, HttpFault, MAX_SKEW, RequestParts, SignedHeaders, UnverifiedRequest, VerifiedRequest,
        sign_answer, sign_answer_of,
    },
    key::PublicKey,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::io::ReaderStream;

use super::link::{Given, Turn};
use crate::http::{
    App,
    error::Failure,
    extract::{self, content_length},
};

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// A believed call.
pub(super) struct Call {
    /// Whose.
    pub(super) request: VerifiedRequest,
    /// What it brings; drop it before waiting.
    body: Bytes,
    /// One of the calls that are worked on at once; drop it before waiting.
    _permit: OwnedSemaphorePermit,
    /// One of the large bodies that are in memory at once.
    _upload: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// Parses the body.
    pub(super) fn message<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        extract::parse(&self.body, self.body.len())
    }

    /// The body.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.body
    }
}

/// What a call is answered with.
pub(super) enum Answer {
    /// A message.
    Json(Bytes),
    /// Bytes that are known by their digest.
    Blob {
        /// Where they are.
        file: File,
        /// How many.
        length: u64,
        /// Their digest.
        digest: Digest,
    },
}

impl Answer {
    /// Writes a message down.
    pub(super) fn message<T: Serialize>(message: &T) -> Result<Self, Failure> {
        serde_json::to_vec(message).map(|bytes| Self::Json(bytes.into())).map_err(Failure::internal)
    }
}

/// How a call is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// By its number in its session.
    InSession,
    /// It opens a session.
    Opening,
}

/// Believes a request of at most `limit` bytes, lets `work` answer it, signs the answer.
pub(super) async fn signed<F>(
    app: App,
    request: Request,
    limit: usize,
    counting: Counting,
    work: impl FnOnce(App, Call) -> F,
) -> Response
where
    F: Future<Output = Result<Answer, Failure>>,
{
    app.metrics.runner_calls.add(1);
    let (call, bound) = match believe(&app, request, limit, counting).await {
        Ok(Believed::New(call)) => {
            let bound = call.request.clone();
            (call, bound)
        }
        Ok(Believed::Again(request, given)) => {
            return signed_bytes(&app, request.signature(), given.status, given.body);
        }
        Err(Disbelief { failure, signature }) => {
            app.metrics.runner_calls_refused.add(1);
            return match signature {
                // Bound to the request, so that a runner can rely on what it is told, its clock's error above all.
                Some(signature) => sign_failure(&app, &signature, failure).await,
                None => failure.into_response(),
            };
        }
    };
    match work(App::clone(&app), call).await {
        Ok(Answer::Json(body)) => {
            app.links.answered(&bound, Given { status: 200, body: body.clone() });
            signed_bytes(&app, bound.signature(), 200, body)
        }
        Ok(Answer::Blob { file, length, digest }) => {
            let key = &app.identity.answer_key;
            match sign_answer_of(key, 200, BYTES, digest, bound.signature(), app.now()) {
                Ok(signature) => {
                    let body = Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
                    let mut response = with_signature(200, BYTES, signature.headers, body);
                    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                    response
                }
                Err(fault) => Failure::internal(fault).into_response(),
            }
        }
        Err(failure) => sign_failure(&app, bound.signature(), failure).await,
    }
}

enum Believed {
    New(Call),
    Again(VerifiedRequest, Given),
}

/// Why a request is not believed, and what the answer can be bound to.
struct Disbelief {
    failure: Failure,
    signature: Option<String>,
}

impl From<Failure> for Disbelief {
    fn from(failure: Failure) -> Self {
        Self { failure, signature: None }
    }
}

async fn believe(
    app: &App,
    request: Request,
    limit: usize,
    counting: Counting,
) -> Result<Believed, Disbelief> {
    let (parts, body) = request.into_parts();
    let (runner, signature) = claim(&parts)?;
    let bound = |failure| Disbelief { failure, signature: Some(signature.clone()) };
    let key = key_of(app, runner).await.map_err(bound)?;
    let shed = || {
        app.metrics.shed.add(1);
        bound(Failure::overloaded())
    };
    // The signature covers the whole body, so all of it is in memory before it is believed.
    let upload = match limit > MAX_BODY {
        true => Some(Arc::clone(&app.uploads).try_acquire_owned().map_err(|_| shed())?),
        false => None,
    };
    let body = extract::read(body, content_length(&parts.headers), limit).await.map_err(bound)?;
    let request = verify(app, &parts, &body, &key).map_err(|fault| bound(disbelieved(&fault)))?;
    // What follows may wait for long, and the head pins a read buffer.
    drop(parts);
    let turn = match counting {
        Counting::InSession => app.links.take(&request),
        Counting::Opening => app.links.open(&request, app.now()),
    };
    match turn {
        Turn::Again(given) => Ok(Believed::Again(request, given)),
        Turn::Replayed => Err(bound(Failure::runner(
            "replayed",
            "This request came before.",
            "Send it again with a new number and signature.",
        ))),
        Turn::New => {
            let permit = Arc::clone(&app.work).try_acquire_owned().map_err(|_| shed())?;
            Ok(Believed::New(Call { request, body, _permit: permit, _upload: upload }))
        }
    }
}

fn headers(parts: &Parts) -> impl Iterator<Item = (&str, &[u8])> {
    parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// Who the request says it is from, and its signature.
fn claim(parts: &Parts) -> Result<(RunnerId, String), Disbelief> {
    let unverified = SignedHeaders::collect(headers(parts)).and_then(UnverifiedRequest::read);
    let unverified = unverified.map_err(|fault| disbelieved(&fault))?;
    Ok((unverified.runner(), unverified.signature().to_owned()))
}

fn verify(app: &App, parts: &Parts, body: &[u8], key: &PublicKey) -> Result<VerifiedRequest, HttpFault> {
    let signed = SignedHeaders::collect(headers(parts))?;
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let request = RequestParts {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        content: Content { content_type: content_type.unwrap_or_default(), body },
    };
    UnverifiedRequest::read(signed)?.verify(&request, key, &app.identity.audience, app.now())
}

async fn key_of(app: &App, runner: RunnerId) -> Result<PublicKey, Failure> {
    if let Some(key) = app.links.key(runner) {
        return Ok(key);
    }
    let unknown = || {
        Failure::runner(
            "runner-unknown",
            "This runner is not known here any more.",
            "Enrol it again with a new ticket.",
        )
    };
    let found = app.store.runner(runner).await?.ok_or_else(unknown)?;
    let key = PublicKey::from_bytes(&found.key.ok_or_else(unknown)?).map_err(Failure::internal)?;
    app.links.learn(runner, key);
    Ok(key)
}

fn disbelieved(fault: &HttpFault) -> Failure {
    let (code, remedy) = match fault {
        HttpFault::Header(_) | HttpFault::Form(_) => ("unsigned", "Update the runner.".to_owned()),
        HttpFault::BodyDigest => (
            "body-digest",
            "Exempt the orchestrator from whatever rewrites bodies between the two.".to_owned(),
        ),
        HttpFault::Audience => {
            ("audience", "Point the runner to the orchestrator that it was enrolled with.".to_owned())
        }
        HttpFault::Clock { .. } => {
            ("clock", format!("Correct the host's clock; {MAX_SKEW} s are tolerated."))
        }
        HttpFault::Signature => {
            ("signature", "If this runner was enrolled anew, let it use its new key.".to_owned())
        }
    };
    Failure::unsigned(code, format!("The request is not believed: {fault}."), remedy)
}

/// Signs the words of a failure.
async fn sign_failure(app: &App, request: &str, failure: Failure) -> Response {
    let status = failure.status();
    let (mut parts, body) = failure.into_response().into_parts();
    let Ok(body) = extract::read(body, None, usize::MAX).await else {
        return Failure::internal("a failure could not be read back").into_response();
    };
    let signed = signed_bytes(app, request, status.as_u16(), body);
    let (signed_parts, body) = signed.into_parts();
    parts.headers.extend(signed_parts.headers);
    parts.status = signed_parts.status;
    Response::from_parts(parts, body)
}

fn signed_bytes(app: &App, request: &str, status: u16, body: Bytes) -> Response {
    let content = Content { content_type: JSON, body: &body };
    match sign_answer(&app.identity.answer_key, status, &content, request, app.now()) {
        Ok(signature) => with_signature(status, JSON, signature.headers, Body::from(body)),
        // Only a request whose signature is of no form at all: there is nothing to bind an answer to.
        Err(_) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
        }
    }
}

fn with_signature(
    status: u16,
    content_type: &'static str,
    signature: [(&'static str, String); 3],
    body: Body,
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    for (name, value) in signature {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}
