//! Signed requests and answers between runner and orchestrator: one fixed profile of RFC 9421 with RFC 9530's digest.
//!
//! There is no general parser: the verifier scans five values out of `Signature-Input`, rebuilds the only string that
//! is legal with them, and compares bytes. The body's digest is computed from the body that came, always. An answer covers
//! the signature of its request, so a middlebox cannot play back an old one. Values are plain texts and bytes; which HTTP
//! library carries them is not known here.
//!
//! *Invariant:* nothing of a request is handed on before [`UnverifiedRequest::verify`] has believed all of it.

mod answer;
mod base;
mod request;
mod window;

use std::fmt;

pub use answer::{SignedAnswer, read_answer, sign_answer, sign_answer_of};
pub use request::{
    RequestSigner, SignedHeaders, SignedRequest, UnverifiedRequest, VerifiedRequest, body_digest_header,
};
pub use window::SequenceWindow;

/// Names of the headers that carry a signature, in lower case.
pub mod header {
    /// RFC 9530: the digest of the body.
    pub const CONTENT_DIGEST: &str = "content-digest";
    /// The body's type; every signed request and answer has one.
    pub const CONTENT_TYPE: &str = "content-type";
    /// Whom the request is for.
    pub const AUDIENCE: &str = "remit-audience";
    /// The runner's session.
    pub const SESSION: &str = "remit-session";
    /// The request's number in its session.
    pub const SEQUENCE: &str = "remit-seq";
    /// RFC 9421.
    pub const SIGNATURE_INPUT: &str = "signature-input";
    /// RFC 9421.
    pub const SIGNATURE: &str = "signature";
}

/// What an orchestrator calls itself towards its runners; pinned at enrolment, since proxies rewrite `Host`.
/// 1 to 253 lower-case letters, digits, `.`, `-` and `:`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Audience(String);

/// A text that is no audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an audience is 1 to 253 lower-case letters, digits, '.', '-' and ':'")]
pub struct InvalidAudience;

impl Audience {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Audience {
    type Err = InvalidAudience;
    fn from_str(text: &str) -> Result<Self, InvalidAudience> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':');
        let sound = !text.is_empty() && text.len() <= 253 && text.bytes().all(good);
        if sound { Ok(Self(text.to_owned())) } else { Err(InvalidAudience) }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request's or answer's body with the type that is said of it.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The value of `Content-Type`; also where the body is empty.
    pub content_type: &'a str,
    /// The bytes.
    pub body: &'a [u8],
}

/// What is signed of a request beside its headers.
#[derive(Debug, Clone, Copy)]
pub struct RequestParts<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The path as it stands in the request line, without the query.
    pub path: &'a str,
    /// The query without `?`, if there is one.
    pub query: Option<&'a str>,
    /// The body.
    pub content: Content<'a>,
}

/// Why a signed request or answer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    /// A header that has to be there once.
    #[error("the header {0} is missing, stands twice, or is not plain text")]
    Header(&'static str),
    /// A value that is not of its form.
    #[error("{0} is not of the form that is signed here")]
    Form(&'static str),
    /// The body was changed.
    #[error("the body is not the one that was signed: something between the two rewrote it")]
    BodyDigest,
    /// For somebody else.
    #[error("the request is for another orchestrator than this one")]
    Audience,
    /// Too old, or from the future.
    #[error("the request's time is {seconds} s off this clock; at most {MAX_SKEW} s are allowed")]
    Clock {
        /// By how much the sender's clock is ahead (positive) or behind.
        seconds: i64,
    },
    /// Everything is of its form, and the signature does not fit.
    #[error("the signature does not fit: the request was changed on its way, or another key signed it")]
    Signature,
}

/// Longest life of a request in seconds.
pub const MAX_AGE: u64 = 60;
/// How far the two clocks may be apart, in seconds.
pub const MAX_SKEW: u64 = 30;
