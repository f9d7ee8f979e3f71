//! How a failed call is answered. The only place that does so: words from inside are logged here and never leave.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use remit_job::filter::InvalidFilter;
use remit_protocol::{
    RefusalCode,
    endpoint::{Fault, Problem},
};

use crate::{
    nodes::NodesError,
    registry::PublishError,
    scheduler::{ControlError, SessionError, TriggerError},
    store::{BlobError, LogError, StoreError},
};

/// Why a call failed: a status and a problem in words for the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    problem: Box<Problem>,
}

impl Failure {
    fn new(status: StatusCode, code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let problem = Problem {
            code: code.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
            faults: Vec::new(),
        };
        Self { status, problem: Box::new(problem) }
    }

    /// The input is not what it should be.
    pub(crate) fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message, remedy)
    }

    /// The input has mistakes at places that can be named.
    pub(crate) fn faults(message: impl Into<String>, faults: Vec<Fault>) -> Self {
        let mut failure = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "faults", message, "");
        failure.problem.faults = faults;
        failure
    }

    /// Steps of a job may do more than before, and nobody said that this is meant.
    pub(crate) fn wider(faults: Vec<Fault>) -> Self {
        let mut failure = Self::new(
            StatusCode::CONFLICT,
            "wider-grant",
            "Steps of this job may do more than in the newest revision.",
            "Read the list; if that is meant, apply it again with --accept-wider.",
        );
        failure.problem.faults = faults;
        failure
    }

    /// The registry's trust policy, or the component itself, does not allow it.
    pub(crate) fn refused(code: RefusalCode, detail: &str) -> Self {
        let message = format!("{} {detail}", code.meaning());
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code.code(), message.trim(), code.remedy())
    }

    /// A node filter that cannot be read.
    pub(crate) fn filter(error: &InvalidFilter) -> Self {
        let fault = Fault {
            line: None,
            column: Some(error.column),
            place: "filter".to_owned(),
            message: error.message.clone(),
            remedy: String::new(),
        };
        Self::faults("The node filter cannot be read.", vec![fault])
    }

    /// No token, or one that is not good.
    pub(crate) fn unauthenticated(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message, remedy)
    }

    /// The token is good, but not for this.
    pub(crate) fn denied(needed: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "denied",
            format!("This token may not do that; it takes {needed}."),
            "Ask an administrator for a token with that role: `remit token create`.",
        )
    }

    /// There is no such thing.
    pub(crate) fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("There is no {what} {name}."), "")
    }

    /// It is there already, or stands so that this is not possible.
    pub(crate) fn conflict(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message, remedy)
    }

    /// Somebody else has this runner's identity, or had it.
    pub(crate) fn runner(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message, remedy)
    }

    /// A runner's request is not believed.
    pub(crate) fn unsigned(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message, remedy)
    }

    /// More bytes than are taken here.
    pub(crate) fn too_large(limit: u64) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("The body is larger than {limit} bytes."),
            "Send less at once.",
        )
    }

    /// The body did not come in time.
    pub(crate) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The body did not come in time.", "Try again.")
    }

    /// Too much is going on.
    pub(crate) fn overloaded() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "The orchestrator has more to do than it can take on.",
            "Try again in a moment.",
        )
    }

    /// The project has as much as it may have.
    pub(crate) fn quota(of: &str) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "quota",
            format!("The project may have {of}, and has them."),
            "Delete or wait for some, or let an administrator raise the quota: `remit project configure`.",
        )
    }

    /// The orchestrator is about to stop.
    pub(crate) fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "The orchestrator is about to stop.",
            "Try again in a moment.",
        )
    }

    /// The orchestrator's own fault. `cause` is logged, not sent.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a call failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The orchestrator could not do this.",
            "Its log says why.",
        )
    }

    /// Bytes that were not stored or not found.
    pub(crate) fn blob(error: BlobError) -> Self {
        match error {
            BlobError::TooLarge { limit } => Self::too_large(limit),
            BlobError::Mismatch { expected, found } => Self::invalid(
                format!("The bytes hash to {found}, not to {expected}."),
                "Send them again; if it persists, something on the way alters them.",
            ),
            BlobError::Full => Self::full(),
            BlobError::Io(error) => Self::internal(error),
        }
    }

    fn full() -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk-full",
            "The orchestrator's disk is full; nothing was recorded.",
            "Free some space there and try again.",
        )
    }

    /// No route.
    pub(crate) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-route",
            "There is nothing at this address.",
            "GET /api/v1/openapi.json lists what there is.",
        )
    }

    /// A route, but not with this method.
    pub(crate) fn no_method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "no-method",
            "This address does not take this method.",
            "GET /api/v1/openapi.json lists what there is.",
        )
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what, name } => Self::not_found(what, name),
            StoreError::Conflict { what, name, why } => {
                Self::conflict(format!("The {what} {name}: {why}."), "")
            }
            StoreError::Full => Self::full(),
            error @ (StoreError::Damaged(_) | StoreError::Unavailable(_)) => {
                tracing::error!(%error, "the store failed");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store",
                    "The orchestrator's store did not answer.",
                    "Try again; if it persists, its log says why.",
                )
            }
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full => Self::full(),
            error @ (LogError::Gap { .. } | LogError::Io(_)) => Self::internal(error),
        }
    }
}

impl From<NodesError> for Failure {
    fn from(error: NodesError) -> Self {
        match error {
            NodesError::Invalid(error) => Self::invalid(
                format!("The nodes are not acceptable: {error}."),
                "Correct them and load them again.",
            ),
            NodesError::Filter(error) => Self::filter(&error),
            NodesError::Store(error) => error.into(),
            NodesError::Blob(error) => Self::blob(error),
            error @ NodesError::Unreadable(_) => Self::internal(error),
        }
    }
}

impl From<TriggerError> for Failure {
    fn from(error: TriggerError) -> Self {
        match error {
            TriggerError::NoJob(_, job) => Self::not_found("job", job),
            TriggerError::NoExecution(id) => Self::not_found("execution", id),
            error @ TriggerError::NoRoom { .. } => Self::conflict(
                sentence(&error.to_string()),
                "Wait for one of them to end, cancel one, or change `concurrency` in the job file.",
            ),
            TriggerError::NoResults(job) => Self::not_found("ended execution of job", job),
            TriggerError::NoSource(_, source) => Self::not_found("node source that can be asked", source),
            TriggerError::Quota(quota) => Self::quota(&format!("{quota} executions that have not ended")),
            TriggerError::Faults(faults) => Self::faults("The job was not run.", faults),
            TriggerError::Store(error) => error.into(),
        }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Unknown(id) => Self::not_found("execution", id),
            ControlError::Store(error) => error.into(),
            error @ ControlError::Ended(..) => Self::conflict(sentence(&error.to_string()), ""),
            ControlError::Undecidable(error) => Self::conflict(sentence(&error.to_string()), ""),
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        let told = |code| {
            let (message, remedy) = message.split_once("; ").unwrap_or((&message, ""));
            Self::runner(code, sentence(message), sentence(remedy))
        };
        match error {
            SessionError::Unknown => told("runner-unknown"),
            SessionError::Superseded => told("session-superseded"),
            SessionError::Locked => told("runner-locked"),
            SessionError::Protocol(_) => told("unsupported-protocol"),
            SessionError::Invalid(_) => Self::invalid(sentence(&message), ""),
            SessionError::Store(error) => error.into(),
        }
    }
}

/// With a capital letter and a full stop, if there is anything.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str().trim_end_matches('.')),
        None => String::new(),
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Refused(refusal) => Self::refused(refusal.code, &refusal.detail),
            PublishError::NoBytes => Self::invalid(
                "The component's bytes are not here.",
                "Put them to /api/v1/blobs/<digest> first.",
            ),
            PublishError::Store(error) => error.into(),
            PublishError::Blob(error) => Self::blob(error),
            error @ (PublishError::Trust(_) | PublishError::Broke) => Self::internal(error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
