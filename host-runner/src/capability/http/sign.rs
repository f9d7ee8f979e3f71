//! Requests that are signed with a secret instead of carrying it. Pure: the time is an argument.
//!
//! AWS Signature Version 4 after *Signature Version 4 signing process* in AWS's documentation; checked against the facts of
//! its published test suite.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use remit_protocol::{Timestamp, capability::http::HttpTarget};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Bytes that are the runner's to keep: a signature, a derived key.
type Bytes = Zeroizing<Vec<u8>>;

fn mac(key: &[u8], parts: &[&[u8]]) -> Bytes {
    // A key of any length is a key.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Bytes::default() };
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// The value of a header that proves knowledge of `key` for `body`, sent at `time` if the rule says a time.
pub(super) fn hmac(key: &[u8], body: &[u8], time: Option<Timestamp>) -> Zeroizing<String> {
    let seconds = time.map(|time| format!("{}.", time.as_secs())).unwrap_or_default();
    let signature = mac(key, &[seconds.as_bytes(), body]);
    Zeroizing::new(format!("sha256={}", HEXLOWER.encode(&signature)))
}

/// The keys of AWS in a secret's value.
pub(super) struct Keys<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
    pub(super) session: Option<&'a str>,
}

impl<'a> Keys<'a> {
    /// `<access key id>:<secret access key>`, with `:<session token>` if there is one.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.splitn(3, ':');
        let (id, secret, session) = (parts.next()?, parts.next()?, parts.next());
        let good = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        (good(id)
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && good(secret)
            && session.is_none_or(good))
        .then_some(Self { id, secret, session })
    }
}

/// Where a signature of AWS holds.
pub(super) struct Place<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// Signs a request: adds the headers of the signature to `headers`, which hold the host already, and gives the query as it
/// has to be sent.
pub(super) fn aws(
    keys: &Keys<'_>,
    place: &Place<'_>,
    target: &HttpTarget,
    query: Option<&str>,
    headers: &mut HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Option<String>, header::InvalidHeaderValue> {
    let time: String = now.to_seconds_text().chars().filter(char::is_ascii_alphanumeric).collect();
    let content = HEXLOWER.encode(&Sha256::digest(body));
    headers.insert(DATE, HeaderValue::try_from(&time)?);
    // S3 wants to see it, and the other services do not expect it.
    if place.service == "s3" {
        headers.insert(CONTENT, HeaderValue::try_from(&content)?);
    }
    if let Some(session) = keys.session {
        let mut token = HeaderValue::try_from(session)?;
        token.set_sensitive(true);
        headers.insert(TOKEN, token);
    }
    let query = query.map(canonical_query).filter(|query| !query.is_empty());
    let signed = signed_headers(headers);
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines = signed.iter().fold(String::new(), |mut lines, (name, value)| {
        let _ = writeln!(lines, "{name}:{value}");
        lines
    });
    let path = if place.service == "s3" { target.path.clone() } else { encoded(&target.path, b"/") };
    let request = format!(
        "{}\n{path}\n{}\n{lines}\n{names}\n{content}",
        target.method.as_str(),
        query.as_deref().unwrap_or_default()
    );
    let date = time.get(..8).unwrap_or_default();
    let scope = format!("{date}/{}/{}/aws4_request", place.region, place.service);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        HEXLOWER.encode(&Sha256::digest(request.as_bytes()))
    );
    let mut key = Zeroizing::new([b"AWS4", keys.secret.as_bytes()].concat());
    for part in [date, place.region, place.service, "aws4_request"] {
        key = mac(&key, &[part.as_bytes()]);
    }
    let signature = HEXLOWER.encode(&mac(&key, &[to_sign.as_bytes()]));
    let mut value = HeaderValue::try_from(format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.id
    ))?;
    value.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, value);
    Ok(query)
}

/// What is signed of the headers: the host, the content's type and AWS's own. Middleboxes may change the others.
fn signed_headers(headers: &HeaderMap) -> Vec<(&str, String)> {
    let mut signed: Vec<(&str, String)> = headers
        .keys()
        .filter(|name| {
            [header::HOST, header::CONTENT_TYPE].contains(name) || name.as_str().starts_with("x-amz-")
        })
        .map(|name| {
            let values = headers.get_all(name).iter().map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                text.split_whitespace().collect::<Vec<_>>().join(" ")
            });
            (name.as_str(), values.collect::<Vec<_>>().join(","))
        })
        .collect();
    signed.sort();
    signed
}

/// Percent-encoded but for the unreserved characters of RFC 3986 and those in `keep`.
pub(super) fn encoded(text: &str, keep: &[u8]) -> String {
    encoded_bytes(text.as_bytes(), keep)
}

fn encoded_bytes(bytes: &[u8], keep: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || keep.contains(byte) {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Without percent-encoding; `+` is a space, as forms write it.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| data_encoding::HEXUPPER_PERMISSIVE.decode(two).ok());
        (rest, _) = match (first, hex) {
            (b'%', Some(byte)) => (after.get(2..).unwrap_or_default(), out.extend(byte)),
            (b'+', _) => (after, out.push(b' ')),
            (byte, _) => (after, out.push(*byte)),
        };
    }
    out
}

/// The parameters encoded in one way and sorted: what is signed is sent exactly so.
fn canonical_query(query: &str) -> String {
    let again = |text: &str| encoded_bytes(&decoded(text), b"");
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (again(name), again(value))
        })
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use remit_protocol::capability::http::{Method, Scheme};

    use super::*;

    fn target(method: Method, host: &str, path: &str) -> HttpTarget {
        HttpTarget { scheme: Scheme::Https, host: host.to_owned(), port: 443, method, path: path.to_owned() }
    }

    struct Case<'a> {
        secret: &'a str,
        place: Place<'a>,
        target: HttpTarget,
        query: Option<&'a str>,
        headers: &'a [(&'static str, &'static str)],
        body: &'a str,
        time: &'a str,
    }

    fn check(case: Case<'_>, names: &str, signature: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::try_from(case.target.host.as_str()).unwrap());
        for (name, value) in case.headers {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let keys = Keys::parse(case.secret.as_bytes()).unwrap();
        let now = case.time.parse().unwrap();
        let body = case.body.as_bytes();
        let query = aws(&keys, &case.place, &case.target, case.query, &mut headers, body, now).unwrap();
        let found = headers[header::AUTHORIZATION].to_str().unwrap();
        assert!(found.contains(&format!("SignedHeaders={names}, ")), "{found}");
        assert!(found.ends_with(&format!("Signature={signature}")), "{found}");
        query
    }

    fn suite<'a>(method: Method, query: Option<&'a str>) -> Case<'a> {
        Case {
            secret: "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            place: Place { region: "us-east-1", service: "service" },
            target: target(method, "example.amazonaws.com", "/"),
            query,
            headers: &[],
            body: "",
            time: "2015-08-30T12:36:00Z",
        }
    }

    /// Facts of AWS's test suite for Signature Version 4 (`get-vanilla`, `post-vanilla`,
    /// `get-vanilla-query-order-key-case`), of the signing example in the IAM documentation, and of the examples in the API
    /// reference of S3.
    #[test]
    fn signatures_are_those_that_aws_publishes() {
        check(
            suite(Method::Get, None),
            "host;x-amz-date",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        );
        check(
            suite(Method::Post, None),
            "host;x-amz-date",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        );
        let sent = check(
            suite(Method::Get, Some("Param2=value2&Param1=value1")),
            "host;x-amz-date",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        );
        assert_eq!(sent.as_deref(), Some("Param1=value1&Param2=value2"));
        check(
            Case {
                place: Place { region: "us-east-1", service: "iam" },
                target: target(Method::Get, "iam.amazonaws.com", "/"),
                headers: &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
                ..suite(Method::Get, Some("Action=ListUsers&Version=2010-05-08"))
            },
            "content-type;host;x-amz-date",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        );
        let s3 = |query: Option<&'static str>| Case {
            secret: "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            place: Place { region: "us-east-1", service: "s3" },
            target: target(Method::Get, "examplebucket.s3.amazonaws.com", "/"),
            time: "2013-05-24T00:00:00Z",
            ..suite(Method::Get, query)
        };
        check(
            s3(Some("lifecycle")),
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        );
        check(
            s3(Some("max-keys=2&prefix=J")),
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        );
    }

    #[test]
    fn a_query_is_signed_as_it_is_sent() {
        fn check(query: &str, expect: &str) {
            assert_eq!(canonical_query(query), expect);
        }
        check("b=2&a=1&a=0", "a=0&a=1&b=2");
        check("x", "x=");
        check("a=%c3%a9+%2B/", "a=%C3%A9%20%2B%2F");
        check("a=b=c", "a=b%3Dc");
        check("a=%zz&&", "a=%25zz");
    }

    #[test]
    fn keys_of_aws_have_two_or_three_parts() {
        fn check(value: &str, expect: Option<(&str, &str, Option<&str>)>) {
            let found = Keys::parse(value.as_bytes()).map(|keys| (keys.id, keys.secret, keys.session));
            assert_eq!(found, expect, "{value}");
        }
        check("AKID:secret", Some(("AKID", "secret", None)));
        check("AKID:secret:to:ken", Some(("AKID", "secret", Some("to:ken"))));
        check("AKID", None);
        check("AK/ID:secret", None);
        check("AKID:", None);
        check("AKID:sec ret", None);
        check("AKID:secret:", None);
    }

    /// The example of RFC 4231, test case 2.
    #[test]
    fn a_body_is_signed_with_or_without_its_time() {
        let found = hmac(b"Jefe", b"what do ya want for nothing?", None);
        assert_eq!(*found, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let timed = hmac(b"Jefe", b"body", Some(at(1_700_000_000)));
        assert_eq!(timed, hmac(b"Jefe", b"1700000000.body", None));
    }
}
