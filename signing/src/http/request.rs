//! A runner's request: signed, read, verified.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use remit_protocol::{Digest, RunnerId, Session, Timestamp};

use super::{
    Audience, HttpFault, MAX_AGE, MAX_SKEW, RequestParts,
    base::{base, content_digest, number, plain, sign, signature_bytes},
    header,
};
use crate::key::{PublicKey, SigningKey, strict_base64};

const COVERED: &str = "(\"@method\" \"@path\" \"@query\" \"content-digest\" \"content-type\" \
                       \"remit-audience\" \"remit-session\" \"remit-seq\")";
const TAIL: &str = ";alg=\"ed25519\";tag=\"remit-runner-v1\"";

/// The value of `Content-Digest` for `body`.
pub fn body_digest_header(body: &[u8]) -> String {
    content_digest(&Digest::of(body))
}

/// Signs the requests of one runner.
pub struct RequestSigner {
    key: SigningKey,
    runner: RunnerId,
    audience: Audience,
}

/// The headers to send with a request, beside its `Content-Type`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct SignedRequest {
    /// Name and value of each.
    pub headers: [(&'static str, String); 6],
    /// What the answer has to be bound to.
    pub signature: String,
}

struct Parameters {
    created: u64,
    expires: u64,
    nonce: [u8; 16],
    runner: RunnerId,
}

impl Parameters {
    /// The only text that stands for these values.
    fn to_text(&self) -> String {
        let Self { created, expires, nonce, runner } = self;
        let nonce = STANDARD.encode(nonce);
        format!("{COVERED};created={created};expires={expires};nonce=\"{nonce}\";keyid=\"{runner}\"{TAIL}")
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(COVERED)?.strip_prefix(";created=")?;
        let (created, rest) = rest.split_once(";expires=")?;
        let (expires, rest) = rest.split_once(";nonce=\"")?;
        let (nonce, rest) = rest.split_once("\";keyid=\"")?;
        let (runner, _) = rest.split_once('"')?;
        let parameters = Self {
            created: number(created)?,
            expires: number(expires)?,
            nonce: strict_base64(nonce)?.try_into().ok()?,
            runner: runner.parse().ok()?,
        };
        (parameters.to_text() == text).then_some(parameters)
    }
}

fn lines<'a>(
    parts: &RequestParts<'a>,
    query: &'a str,
    digest: &'a str,
    audience: &'a str,
    session: &'a str,
    sequence: &'a str,
) -> [(&'a str, &'a str); 8] {
    [
        ("\"@method\"", parts.method),
        ("\"@path\"", parts.path),
        ("\"@query\"", query),
        ("\"content-digest\"", digest),
        ("\"content-type\"", parts.content.content_type),
        ("\"remit-audience\"", audience),
        ("\"remit-session\"", session),
        ("\"remit-seq\"", sequence),
    ]
}

/// RFC 9421 §2.2.7: the query with its question mark, which stands there also without a query.
fn query_line(parts: &RequestParts<'_>) -> String {
    format!("?{}", parts.query.unwrap_or_default())
}

fn check_parts(parts: &RequestParts<'_>) -> Result<(), HttpFault> {
    plain("the path", parts.path)?;
    plain("the query", parts.query.unwrap_or_default())?;
    plain("the content type", parts.content.content_type)?;
    let sound = matches!(parts.method, "GET" | "POST") && parts.path.starts_with('/');
    if sound { Ok(()) } else { Err(HttpFault::Form("the request line")) }
}

impl RequestSigner {
    /// Signs with `key` for the runner `runner` toward `audience`.
    pub fn new(key: SigningKey, runner: RunnerId, audience: Audience) -> Self {
        Self { key, runner, audience }
    }

    /// The runner.
    pub fn runner(&self) -> RunnerId {
        self.runner
    }

    /// Signs a request. `sequence` rises inside the session and is used again only for the same bytes; `now` is the
    /// runner's clock, corrected by what it knows of the orchestrator's; `nonce` is random.
    ///
    /// # Errors
    /// [`HttpFault::Form`] for a part that cannot be signed.
    pub fn sign(
        &self,
        parts: &RequestParts<'_>,
        session: Session,
        sequence: u64,
        now: Timestamp,
        nonce: [u8; 16],
    ) -> Result<SignedRequest, HttpFault> {
        check_parts(parts)?;
        let created = now.as_secs();
        let parameters = Parameters { created, expires: created + MAX_AGE, nonce, runner: self.runner };
        let (digest, query) = (body_digest_header(parts.content.body), query_line(parts));
        let (session, sequence) = (session.to_string(), sequence.to_string());
        let parameters = parameters.to_text();
        let lines = lines(parts, &query, &digest, self.audience.as_str(), &session, &sequence);
        let signature = sign(&self.key, &base(&lines, &parameters));
        Ok(SignedRequest {
            headers: [
                (header::CONTENT_DIGEST, digest),
                (header::AUDIENCE, self.audience.to_string()),
                (header::SESSION, session),
                (header::SEQUENCE, sequence),
                (header::SIGNATURE_INPUT, format!("remit={parameters}")),
                (header::SIGNATURE, format!("remit={signature}")),
            ],
            signature,
        })
    }
}

/// The headers of a signed request, each there once.
#[derive(Debug, Clone, Copy)]
pub struct SignedHeaders<'a> {
    pub(super) digest: &'a str,
    pub(super) content_type: &'a str,
    audience: &'a str,
    session: &'a str,
    sequence: &'a str,
    input: &'a str,
    signature: &'a str,
}

/// Finds each of `names` exactly once among `headers`.
pub(super) fn pick<'a, const N: usize>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    names: [&'static str; N],
) -> Result<[&'a str; N], HttpFault> {
    let mut found: [Option<&'a [u8]>; N] = [None; N];
    for (name, value) in headers {
        let Some(at) = names.iter().position(|known| name.eq_ignore_ascii_case(known)) else { continue };
        if found[at].replace(value).is_some() {
            return Err(HttpFault::Header(names[at]));
        }
    }
    let mut texts = [""; N];
    for (at, value) in found.into_iter().enumerate() {
        let text = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
        texts[at] = text.filter(|text| plain("", text).is_ok()).ok_or(HttpFault::Header(names[at]))?;
    }
    Ok(texts)
}

impl<'a> SignedHeaders<'a> {
    /// Picks them out of all headers of a request.
    ///
    /// # Errors
    /// [`HttpFault::Header`] if one is missing or stands twice.
    pub fn collect(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, HttpFault> {
        let names = [
            header::CONTENT_DIGEST,
            header::CONTENT_TYPE,
            header::AUDIENCE,
            header::SESSION,
            header::SEQUENCE,
            header::SIGNATURE_INPUT,
            header::SIGNATURE,
        ];
        let [digest, content_type, audience, session, sequence, input, signature] = pick(headers, names)?;
        Ok(Self { digest, content_type, audience, session, sequence, input, signature })
    }
}

/// A request whose signature is of its form: enough to look up the runner's key, and for nothing else.
pub struct UnverifiedRequest<'a> {
    headers: SignedHeaders<'a>,
    parameters: Parameters,
    /// The only text that stands for the parameters.
    input: &'a str,
    session: Session,
    sequence: u64,
    signature: &'a str,
}

impl<'a> UnverifiedRequest<'a> {
    /// Reads the signature's headers.
    ///
    /// # Errors
    /// [`HttpFault::Form`].
    pub fn read(headers: SignedHeaders<'a>) -> Result<Self, HttpFault> {
        let input = headers.input.strip_prefix("remit=").ok_or(HttpFault::Form("Signature-Input"))?;
        let signature = headers.signature.strip_prefix("remit=");
        Ok(Self {
            parameters: Parameters::parse(input).ok_or(HttpFault::Form("Signature-Input"))?,
            input,
            signature: signature.ok_or(HttpFault::Form("Signature"))?,
            session: Session(number(headers.session).ok_or(HttpFault::Form("Remit-Session"))?),
            sequence: number(headers.sequence).ok_or(HttpFault::Form("Remit-Seq"))?,
            headers,
        })
    }

    /// The runner that the request says it is from.
    pub fn runner(&self) -> RunnerId {
        self.parameters.runner
    }

    /// What an answer is bound to, also that of a refusal.
    pub fn signature(&self) -> &'a str {
        self.signature
    }

    /// Verifies the request with the key of that runner.
    ///
    /// # Errors
    /// An [`HttpFault`]; [`HttpFault::Clock`] only after the signature was found good, so that its answer can be trusted to
    /// correct the runner's clock.
    pub fn verify(
        self,
        parts: &RequestParts<'_>,
        key: &PublicKey,
        audience: &Audience,
        now: Timestamp,
    ) -> Result<VerifiedRequest, HttpFault> {
        check_parts(parts)?;
        let Self { headers, parameters, input, session, sequence, signature } = self;
        if parts.content.content_type != headers.content_type {
            return Err(HttpFault::Header(header::CONTENT_TYPE));
        }
        if headers.audience != audience.as_str() {
            return Err(HttpFault::Audience);
        }
        let body = Digest::of(parts.content.body);
        let digest = content_digest(&body);
        if digest != headers.digest {
            return Err(HttpFault::BodyDigest);
        }
        let bytes = signature_bytes(signature).ok_or(HttpFault::Form("Signature"))?;
        let query = query_line(parts);
        let lines = lines(parts, &query, &digest, audience.as_str(), headers.session, headers.sequence);
        if !key.verifies(base(&lines, input).as_bytes(), &bytes) {
            return Err(HttpFault::Signature);
        }
        check_time(&parameters, now)?;
        Ok(VerifiedRequest {
            runner: parameters.runner,
            session,
            sequence,
            signature: signature.to_owned(),
            body,
        })
    }
}

fn check_time(parameters: &Parameters, now: Timestamp) -> Result<(), HttpFault> {
    let Parameters { created, expires, .. } = parameters;
    if expires <= created || expires - created > MAX_AGE {
        return Err(HttpFault::Form("the request's life"));
    }
    let now = now.as_secs();
    if *created > now + MAX_SKEW || expires + MAX_SKEW < now {
        let seconds = i64::try_from(*created).unwrap_or(i64::MAX) - i64::try_from(now).unwrap_or(i64::MAX);
        return Err(HttpFault::Clock { seconds });
    }
    Ok(())
}

/// A request that the runner made, for this orchestrator, just now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedRequest {
    runner: RunnerId,
    session: Session,
    sequence: u64,
    signature: String,
    body: Digest,
}

impl VerifiedRequest {
    /// The runner.
    pub fn runner(&self) -> RunnerId {
        self.runner
    }

    /// The session that the request names.
    pub fn session(&self) -> Session {
        self.session
    }

    /// The request's number in its session.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What the answer is bound to.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// The digest of the body: a repetition of a sequence number has the same one.
    pub fn body(&self) -> Digest {
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::Content, key::KeyName};

    /// A runner that gives its own requests a longer life signs them well, and is refused all the same.
    #[test]
    fn a_request_has_no_longer_life_than_a_minute() {
        fn check(life: u64, expect: Result<(), HttpFault>) {
            let key = SigningKey::from_seed(KeyName::new("runner").unwrap(), &[1; 32]);
            let now = Timestamp::from_millis(1_795_000_000_000);
            let (created, runner) = (now.as_secs(), RunnerId::from_parts(now, 1));
            let parameters = Parameters { created, expires: created + life, nonce: [0; 16], runner };
            let parts = RequestParts {
                method: "GET",
                path: "/",
                query: None,
                content: Content { content_type: "text/plain", body: b"" },
            };
            let digest = body_digest_header(b"");
            let text = parameters.to_text();
            let signature = sign(&key, &base(&lines(&parts, "?", &digest, "orchestrator", "1", "1"), &text));
            let (input, signature) = (format!("remit={text}"), format!("remit={signature}"));
            let headers = [
                (header::CONTENT_DIGEST, &digest[..]),
                (header::CONTENT_TYPE, "text/plain"),
                (header::AUDIENCE, "orchestrator"),
                (header::SESSION, "1"),
                (header::SEQUENCE, "1"),
                (header::SIGNATURE_INPUT, &input),
                (header::SIGNATURE, &signature),
            ];
            let headers = headers.map(|(name, value)| (name, value.as_bytes()));
            let request = UnverifiedRequest::read(SignedHeaders::collect(headers).unwrap()).unwrap();
            let audience = "orchestrator".parse().unwrap();
            let found = request.verify(&parts, &key.public(), &audience, now).map(|_| ());
            assert_eq!(found, expect, "{life}");
        }
        check(60, Ok(()));
        check(61, Err(HttpFault::Form("the request's life")));
        check(0, Err(HttpFault::Form("the request's life")));
    }
}
