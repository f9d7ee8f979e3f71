//! The orchestrator's answer, bound to the request that it answers.

use remit_protocol::{Digest, Timestamp};

use super::{
    Content, HttpFault,
    base::{base, content_digest, number, plain, sign, signature_bytes},
    header,
    request::pick,
};
use crate::key::{PublicKey, SigningKey};

const COVERED: &str = "(\"@status\" \"content-digest\" \"content-type\" \"signature\";req;key=\"remit\")";
const TAIL: &str = ";keyid=\"orchestrator\";alg=\"ed25519\";tag=\"remit-orchestrator-v1\"";

/// The headers to send with an answer, beside its `Content-Type`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct SignedAnswer {
    /// Name and value of each.
    pub headers: [(&'static str, String); 3],
}

fn parameters(created: u64) -> String {
    format!("{COVERED};created={created}{TAIL}")
}

fn signed_text(status: u16, content_type: &str, digest: &str, request: &str, created: u64) -> String {
    let status = status.to_string();
    base(
        &[
            ("\"@status\"", &status),
            ("\"content-digest\"", digest),
            ("\"content-type\"", content_type),
            ("\"signature\";req;key=\"remit\"", request),
        ],
        &parameters(created),
    )
}

/// Signs an answer. `request` is the signature of the request, as the request's `Signature` header has it behind `remit=`.
///
/// # Errors
/// [`HttpFault::Form`] for a content type that cannot be signed, or a `request` that is no signature.
pub fn sign_answer(
    key: &SigningKey,
    status: u16,
    content: &Content<'_>,
    request: &str,
    now: Timestamp,
) -> Result<SignedAnswer, HttpFault> {
    sign_answer_of(key, status, content.content_type, Digest::of(content.body), request, now)
}

/// Signs an answer whose body is not at hand but known by its digest: a blob that is streamed.
///
/// # Errors
/// As [`sign_answer`].
pub fn sign_answer_of(
    key: &SigningKey,
    status: u16,
    content_type: &str,
    body: Digest,
    request: &str,
    now: Timestamp,
) -> Result<SignedAnswer, HttpFault> {
    plain("the content type", content_type)?;
    signature_bytes(request).ok_or(HttpFault::Form("the request's signature"))?;
    let (digest, created) = (content_digest(&body), now.as_secs());
    let signature = sign(key, &signed_text(status, content_type, &digest, request, created));
    Ok(SignedAnswer {
        headers: [
            (header::CONTENT_DIGEST, digest),
            (header::SIGNATURE_INPUT, format!("remit={}", parameters(created))),
            (header::SIGNATURE, format!("remit={signature}")),
        ],
    })
}

/// Verifies an answer to the request with the signature `request`; gives the orchestrator's clock when it answered.
///
/// # Errors
/// An [`HttpFault`]: then nothing of the answer may be used, its status included.
pub fn read_answer<'a>(
    key: &PublicKey,
    status: u16,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: &[u8],
    request: &str,
) -> Result<Timestamp, HttpFault> {
    let names = [header::CONTENT_DIGEST, header::CONTENT_TYPE, header::SIGNATURE_INPUT, header::SIGNATURE];
    let [digest, content_type, input, signature] = pick(headers, names)?;
    if content_digest(&Digest::of(body)) != digest {
        return Err(HttpFault::BodyDigest);
    }
    let created = || {
        let rest = input.strip_prefix("remit=")?.strip_prefix(COVERED)?.strip_prefix(";created=")?;
        number(rest.strip_suffix(TAIL)?)
    };
    let created = created().ok_or(HttpFault::Form("Signature-Input"))?;
    let bytes = signature.strip_prefix("remit=").and_then(signature_bytes);
    let bytes = bytes.ok_or(HttpFault::Form("Signature"))?;
    let text = signed_text(status, content_type, digest, request, created);
    if !key.verifies(text.as_bytes(), &bytes) {
        return Err(HttpFault::Signature);
    }
    Ok(Timestamp::from_millis(created.saturating_mul(1000)))
}
