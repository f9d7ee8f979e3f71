//! Requests and answers: each covered item counts, and nothing that was heard can be said again to another effect.

use remit_protocol::{RunnerId, Session, Timestamp};
use remit_signing::http::{
    Audience, Content, HttpFault, RequestParts, RequestSigner, SignedHeaders, UnverifiedRequest, read_answer,
    sign_answer,
};

use crate::support::{key, now};

const JSON: &str = "application/json";

fn runner() -> RunnerId {
    RunnerId::from_parts(now(), 9)
}

fn audience() -> Audience {
    "remit.corp.example".parse().unwrap()
}

/// A request as it is seen on the way: everything can be changed.
#[derive(Clone)]
struct Sent {
    method: String,
    path: String,
    query: Option<String>,
    body: Vec<u8>,
    headers: Vec<(String, String)>,
    signature: String,
}

impl Sent {
    fn new(sequence: u64) -> Self {
        let parts = RequestParts {
            method: "POST",
            path: "/r/v1/poll",
            query: Some("hold=25s"),
            content: Content { content_type: JSON, body: b"{\"free\":4}" },
        };
        let signer = RequestSigner::new(key("runner"), runner(), audience());
        let signed = signer.sign(&parts, Session(12), sequence, now(), [3; 16]).unwrap();
        let mut headers: Vec<_> =
            signed.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        headers.push(("Content-Type".to_owned(), JSON.to_owned()));
        headers.push(("Host".to_owned(), "proxy.example".to_owned()));
        Self {
            method: "POST".to_owned(),
            path: "/r/v1/poll".to_owned(),
            query: Some("hold=25s".to_owned()),
            body: b"{\"free\":4}".to_vec(),
            headers,
            signature: signed.signature,
        }
    }

    fn header(&mut self, name: &str) -> &mut String {
        &mut self.headers.iter_mut().find(|(own, _)| own.eq_ignore_ascii_case(name)).unwrap().1
    }

    fn verify_at(&self, now: Timestamp) -> Result<(RunnerId, Session, u64), HttpFault> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let request = UnverifiedRequest::read(SignedHeaders::collect(headers)?)?;
        let content_type = self.headers.iter().find(|(name, _)| name == "Content-Type");
        let parts = RequestParts {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            content: Content { content_type: content_type.map_or("", |(_, v)| v.as_str()), body: &self.body },
        };
        let verified = request.verify(&parts, &key("runner").public(), &audience(), now)?;
        assert_eq!(verified.signature(), self.signature);
        Ok((verified.runner(), verified.session(), verified.sequence()))
    }

    fn verify(&self) -> Result<(RunnerId, Session, u64), HttpFault> {
        self.verify_at(now())
    }
}

#[test]
fn a_request_arrives_as_it_was_sent() {
    assert_eq!(Sent::new(345).verify(), Ok((runner(), Session(12), 345)));
}

#[test]
fn every_covered_item_counts() {
    fn check(change: impl FnOnce(&mut Sent), expect: HttpFault) {
        let mut sent = Sent::new(345);
        change(&mut sent);
        assert_eq!(sent.verify(), Err(expect));
    }
    check(|s| s.method = "GET".to_owned(), HttpFault::Signature);
    check(|s| s.method = "post".to_owned(), HttpFault::Form("the request line"));
    check(|s| s.path.push('x'), HttpFault::Signature);
    check(|s| s.path.push('\n'), HttpFault::Form("the path"));
    check(|s| s.query = None, HttpFault::Signature);
    check(|s| s.body.push(b' '), HttpFault::BodyDigest);
    check(|s| s.header("content-type").push('+'), HttpFault::Signature);
    check(|s| *s.header("remit-session") = "13".to_owned(), HttpFault::Signature);
    check(|s| *s.header("remit-session") = "012".to_owned(), HttpFault::Form("Remit-Session"));
    check(|s| *s.header("remit-seq") = "346".to_owned(), HttpFault::Signature);
    check(|s| *s.header("remit-audience") = "other.example".to_owned(), HttpFault::Audience);
    check(|s| s.header("signature").push(' '), HttpFault::Header("signature"));
    check(|s| *s.header("signature") = "remit=::".to_owned(), HttpFault::Form("Signature"));
    let input = |from: &'static str, to: &'static str| {
        move |sent: &mut Sent| {
            let input = sent.header("signature-input");
            let other = input.replace(from, to);
            assert_ne!(*input, other, "{from}");
            *input = other;
        }
    };
    let form = || HttpFault::Form("Signature-Input");
    check(input("alg=\"ed25519\"", "alg=\"hmac-sha256\""), form());
    check(input("\"@query\" ", ""), form());
    check(input("\"@method\" \"@path\"", "\"@path\" \"@method\""), form());
    check(input("remit-runner-v1", "remit-orchestrator-v1"), form());
    check(input("remit=", "sig1="), form());
    check(input(";created=", ";created=0"), form());
    check(input("nonce=\"AwMD", "nonce=\"BwMD"), HttpFault::Signature);
    check(|s| s.headers.retain(|(name, _)| name != "remit-seq"), HttpFault::Header("remit-seq"));
    // A header that stands twice is refused, whatever its spelling.
    let again = |s: &mut Sent| {
        let value = s.header("remit-seq").clone();
        s.headers.push(("Remit-Seq".to_owned(), value));
    };
    check(again, HttpFault::Header("remit-seq"));
    // The body and its digest changed together, so that only the signature can tell.
    let both = |s: &mut Sent| {
        s.body = b"{\"free\":5}".to_vec();
        *s.header("content-digest") = remit_signing::http::body_digest_header(&s.body);
    };
    check(both, HttpFault::Signature);
}

#[test]
fn what_the_caller_says_of_a_request_is_what_its_headers_say() {
    let sent = Sent::new(1);
    let mut headers: Vec<_> = sent.headers.iter().map(|(name, v)| (name.as_str(), v.as_bytes())).collect();
    let at = headers.iter().position(|(name, _)| *name == "Content-Type").unwrap();
    headers[at].1 = b"text/plain";
    let request = UnverifiedRequest::read(SignedHeaders::collect(headers).unwrap()).unwrap();
    let parts = RequestParts {
        method: &sent.method,
        path: &sent.path,
        query: sent.query.as_deref(),
        content: Content { content_type: JSON, body: &sent.body },
    };
    let found = request.verify(&parts, &key("runner").public(), &audience(), now());
    assert_eq!(found, Err(HttpFault::Header("content-type")));
}

#[test]
fn a_request_lives_for_a_minute() {
    let sent = Sent::new(1);
    let shifted = |seconds: i64| {
        let millis = i64::try_from(now().as_millis()).unwrap() + 1000 * seconds;
        sent.verify_at(Timestamp::from_millis(u64::try_from(millis).unwrap())).map(|_| ())
    };
    assert_eq!(shifted(-30), Ok(()));
    assert_eq!(shifted(-31), Err(HttpFault::Clock { seconds: 31 }));
    assert_eq!(shifted(90), Ok(()));
    assert_eq!(shifted(91), Err(HttpFault::Clock { seconds: -91 }));
    assert_eq!(shifted(3600), Err(HttpFault::Clock { seconds: -3600 }));
}

#[test]
fn an_answer_is_bound_to_its_request() {
    let answer_key = key("answer");
    let (first, second) = (Sent::new(1), Sent::new(2));
    let body = b"{\"commands\":[]}";
    let content = Content { content_type: JSON, body };
    let signed = sign_answer(&answer_key, 200, &content, &first.signature, now()).unwrap();
    let mut headers: Vec<(&str, &[u8])> =
        signed.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    headers.push(("content-type", JSON.as_bytes()));
    let read = |status: u16, body: &[u8], request: &str| {
        read_answer(&answer_key.public(), status, headers.clone(), body, request)
    };
    assert_eq!(read(200, body, &first.signature), Ok(now()));
    assert_eq!(read(200, body, &second.signature), Err(HttpFault::Signature));
    assert_eq!(read(403, body, &first.signature), Err(HttpFault::Signature));
    assert_eq!(read(200, b"{}", &first.signature), Err(HttpFault::BodyDigest));
    let stranger = read_answer(&key("thief").public(), 200, headers.clone(), body, &first.signature);
    assert_eq!(stranger, Err(HttpFault::Signature));
    // A request's signature is none of an answer, though the bytes be the runner's own.
    assert!(sign_answer(&answer_key, 200, &content, "remit=:x:", now()).is_err());
}
