//! HTTP requests to the hosts that the step's remit names. Redirects are not followed.
//!
//! ```
//! use remit_sdk::{http, Context, Fail};
//!
//! fn health(service: String, _: &Context) -> Result<u16, Fail> {
//!     let url = http::url("https://control.example/v1/services")?.segment(service).segment("health");
//!     Ok(http::get(url).header("accept", "application/json").send()?.status())
//! }
//! # use remit_sdk::fake::{Answer, Fake};
//! # let fake = Fake::new().http("GET", "https://control.example/v1/services/web/health", Answer::status(204));
//! # assert_eq!(fake.run(|context| health("web".into(), context)).result.unwrap(), 204);
//! ```

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

mod url;

use crate::{Context, Refusal, host, run::parse};

pub use url::{Url, url};

/// Largest body of an answer unless [`Request::max_body`] says otherwise.
pub const MAX_BODY: usize = 4 << 20;

/// Why a request or its answer is of no use.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The address, a header or the body cannot be sent; the text says why.
    Url(String),
    /// The host did not do it: denied by the remit, over a limit, cancelled, or it did not work.
    Refused {
        /// Method and address, without the query.
        request: String,
        /// Why.
        refusal: Refusal,
    },
    /// The server answered with a status of 400 or more.
    Status {
        /// Method and address, without the query.
        request: String,
        /// The status.
        status: u16,
        /// The beginning of the body, as text.
        body: String,
    },
    /// The body of the answer is larger than the request allows.
    TooLarge {
        /// Method and address, without the query.
        request: String,
        /// The most bytes that it allows.
        max: usize,
    },
    /// The body of the answer is not what was expected.
    Body {
        /// Method and address, without the query.
        request: String,
        /// The status of the answer.
        status: u16,
        /// Why.
        why: String,
    },
}

impl Error {
    /// True if the step's remit does not allow the request.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { refusal: Refusal::Denied(_), .. })
    }

    /// The status of an answer of 400 or more.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(f, "the request cannot be sent: {why}"),
            Self::Refused { request, .. } => f.write_str(request),
            Self::Status { request, status, body } if body.is_empty() => {
                write!(f, "{request}: the server answered with status {status}")
            }
            Self::Status { request, status, body } => {
                write!(f, "{request}: the server answered with status {status}: {body}")
            }
            Self::TooLarge { request, max } => {
                write!(f, "{request}: the answer is larger than {max} bytes")
            }
            Self::Body { request, status, why } => {
                write!(f, "{request}: the answer (status {status}) does not fit: {why}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

/// A request of any method, not yet sent.
pub fn request(method: impl Into<String>, url: impl Into<Url>) -> Request {
    Request {
        method: method.into(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: None,
        max_body: MAX_BODY,
        invalid: None,
    }
}

macro_rules! methods {
    ($($name:ident $method:literal;)*) => {
        $(
            #[doc = concat!("A `", $method, "` request, not yet sent.")]
            pub fn $name(url: impl Into<Url>) -> Request {
                request($method, url)
            }
        )*
    };
}

methods! {
    get "GET";
    head "HEAD";
    post "POST";
    put "PUT";
    patch "PATCH";
    delete "DELETE";
}

/// A request, not yet sent.
#[derive(Debug, Clone)]
#[must_use = "it is sent by `send`"]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout: Option<Duration>,
    max_body: usize,
    invalid: Option<String>,
}

impl Request {
    /// Adds a header. A credential is not set here: bind a secret to the rule in `step.toml`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The body as JSON, with its content type.
    pub fn json(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.body = bytes,
            Err(error) => {
                self.invalid.get_or_insert(format!("its body is not JSON: {error}"));
            }
        }
        self.header("content-type", "application/json")
    }

    /// The body.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    /// Adds `Idempotency-Key`, the same in every try of this step on this node: a server that knows the header does the
    /// request once.
    pub fn idempotent(self, context: &Context) -> Self {
        let key = context.idempotency_key();
        self.header("idempotency-key", key)
    }

    /// The longest time to connect, until the first byte comes, and between bytes; the runner's own limits hold too.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The largest body of the answer, in bytes; [`MAX_BODY`] unless said here.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sends it and waits for the head of the answer. A status of 400 or more is no error yet:
    /// [`Response::error_for_status`] makes it one.
    pub fn send(self) -> Result<Response, Error> {
        self.url.check()?;
        if let Some(why) = self.invalid {
            return Err(Error::Url(why));
        }
        let request = format!("{} {}", self.method, self.url.place());
        let max_body = self.max_body;
        let answer =
            host::http(self).map_err(|refusal| Error::Refused { request: request.clone(), refusal })?;
        Ok(Response { request, status: answer.status, headers: answer.headers, body: answer.body, max_body })
    }
}

/// What the host gives back: the head, and the body to be read.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: host::Body,
}

/// An answer; its body is read when it is asked for.
#[derive(Debug)]
pub struct Response {
    request: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: host::Body,
    max_body: usize,
}

impl Response {
    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of this name, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All headers, in the order in which they came.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// This, or an error for a status of 400 or more, with the beginning of the body.
    pub fn error_for_status(mut self) -> Result<Self, Error> {
        if self.status < 400 {
            return Ok(self);
        }
        let start = self.body.read().ok().flatten().unwrap_or_default();
        let body = String::from_utf8_lossy(&start).trim().chars().take(300).collect();
        Err(Error::Status { request: self.request, status: self.status, body })
    }

    /// The next bytes of the body, as they come; none at the end. For bodies that are too large to be held.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.body.read().map_err(|refusal| Error::Refused { request: self.request.clone(), refusal })
    }

    /// The body.
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.chunk()? {
            if all.len() + bytes.len() > self.max_body {
                return Err(Error::TooLarge { request: self.request, max: self.max_body });
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// The body as UTF-8 text.
    pub fn text(self) -> Result<String, Error> {
        let (request, status) = (self.request.clone(), self.status);
        String::from_utf8(self.bytes()?).map_err(|_| Error::Body {
            request,
            status,
            why: "it is not UTF-8 text".to_owned(),
        })
    }

    /// The body as JSON of this type; the error says where in it something does not fit.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let (request, status) = (self.request.clone(), self.status);
        parse(&self.bytes()?).map_err(|why| Error::Body { request, status, why })
    }
}
