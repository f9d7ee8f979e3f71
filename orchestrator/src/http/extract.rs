//! What a request brings: body, query and path, parsed into the protocol's types or refused with a reason.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{Response, header, request::Parts},
    response::IntoResponse,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use remit_protocol::json;
use serde::{Serialize, de::DeserializeOwned};

use super::error::Failure;

/// How long a body of a call may take to come, and a second more for each MiB that it may have.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Largest JSON body where a route says nothing else: a job file of 1 MiB, escaped.
const MAX_JSON: usize = 2 << 20;

/// Reads a whole body of at most `limit` bytes. What says that it is longer is refused before it is read.
pub(crate) async fn read(body: Body, length: Option<u64>, limit: usize) -> Result<Bytes, Failure> {
    if length.is_some_and(|length| length > limit as u64) {
        return Err(Failure::too_large(limit as u64));
    }
    let time = BODY_TIME + Duration::from_secs((limit >> 20) as u64);
    match tokio::time::timeout(time, Limited::new(body, limit).collect()).await {
        Err(_) => Err(Failure::too_slow()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::too_large(limit as u64)),
        Ok(Err(_)) => Err(Failure::invalid("The body broke off.", "Send it again.")),
    }
}

/// What `Content-Length` says, if anything.
pub(crate) fn content_length(headers: &axum::http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A JSON body under the strict rules. An empty body stands for an empty object.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Failure;
    async fn from_request(request: Request, _state: &S) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let bytes = read(body, content_length(&parts.headers), MAX_JSON).await?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        parse(&bytes, MAX_JSON).map(Self)
    }
}

/// Parses a JSON body under the strict rules.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, Failure> {
    json::from_slice(bytes, limit).map_err(|error| {
        Failure::invalid(
            format!("The body is not what this call takes: {error}."),
            "GET /api/v1/openapi.json describes it.",
        )
    })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response<Body> {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => Failure::internal(error).into_response(),
        }
    }
}

/// The query.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Failure::invalid(
                format!("The query is not what this call takes: {}.", inner(&rejection)),
                "GET /api/v1/openapi.json describes it.",
            )),
        }
    }
}

/// The places of the path.
#[derive(Debug)]
pub(crate) struct Place<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Place<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(places)) => Ok(Self(places)),
            Err(rejection) => {
                Err(Failure::invalid(format!("The address is not usable: {}.", inner(&rejection)), ""))
            }
        }
    }
}

/// The reason at the bottom of an error.
fn inner(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string().trim_end_matches('.').to_owned()
}
