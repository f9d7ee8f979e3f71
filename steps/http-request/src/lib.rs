#![doc = include_str!("../README.md")]

use std::{collections::BTreeMap, time::Duration};

use remit_sdk::{Context, Fail, JsonSchema, http, log, step};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One HTTP request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The method.
    #[serde(default)]
    pub method: Method,
    /// The address, `https://` or `http://`. Characters that do not belong into an address are percent-encoded.
    pub url: String,
    /// Query parameters, added to those of the address.
    #[serde(default)]
    pub query: BTreeMap<String, Scalar>,
    /// Headers. A credential does not belong here: bind a secret to the rule in the step's grant.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body as JSON; sets the content type.
    #[serde(default, deserialize_with = "present")]
    pub json: Option<Value>,
    /// The body as text.
    pub body: Option<String>,
    /// The statuses that count as success; left out: every status below 400.
    #[serde(default)]
    pub expect: Vec<u16>,
    /// Longest wait for the connection and for each part of the answer, in seconds.
    #[serde(default = "thirty")]
    pub timeout_seconds: u32,
    /// Largest body of the answer, in bytes, at most 1 MiB.
    #[serde(default = "max_body")]
    pub max_body: u32,
}

/// The methods that can be granted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the methods of RFC 9110")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// A text, a number or a truth value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(missing_docs, reason = "JSON's scalars")]
pub enum Scalar {
    Text(String),
    Integer(i64),
    Number(f64),
    Truth(bool),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Truth(truth) => write!(f, "{truth}"),
        }
    }
}

/// The answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case; several of one name are joined with a comma.
    pub headers: BTreeMap<String, String>,
    /// The body, if its content type is JSON and it is JSON.
    pub json: Option<Value>,
    /// The body, if it is UTF-8 text and not JSON.
    pub body: Option<String>,
}

/// Most bytes of an answer that are taken: the output is kept, and has to be carried.
const MAX_BODY: u32 = 1 << 20;

fn max_body() -> u32 {
    256 << 10
}

fn thirty() -> u32 {
    30
}

/// `json: null` is a body of `null`; only an absent `json` is none.
fn present<'de, D: serde::Deserializer<'de>>(json: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(json).map(Some)
}

/// Sends the request.
#[step]
pub fn http_request(input: Input, context: &Context) -> Result<Output, Fail> {
    let request = prepare(&input, context)?;
    let response = request.send()?;
    let status = response.status();
    log::info!("the server answered", status = status);
    let expected = if input.expect.is_empty() { status < 400 } else { input.expect.contains(&status) };
    if !expected {
        let body = text_start(response);
        let fail = Fail::new(format!("the server answered with status {status}")).with("status", status);
        return Err(if body.is_empty() { fail } else { fail.with("body", body) });
    }
    let headers = joined(response.headers());
    let is_json = response.header("content-type").is_some_and(is_json);
    let bytes = response.bytes()?;
    let json = if is_json { serde_json::from_slice(&bytes).ok() } else { None };
    let body = if json.is_none() && !bytes.is_empty() { String::from_utf8(bytes).ok() } else { None };
    Ok(Output { status, headers, json, body })
}

fn prepare(input: &Input, context: &Context) -> Result<http::Request, Fail> {
    if input.json.is_some() && input.body.is_some() {
        return Err(Fail::new("the input holds both `json` and `body`: a request has one body"));
    }
    if input.max_body > MAX_BODY {
        return Err(Fail::new(format!("max_body is {}, at most {MAX_BODY} bytes are taken", input.max_body)));
    }
    let mut url = http::url(encoded(&input.url))?;
    for (name, value) in &input.query {
        url = url.query(name, value);
    }
    let mut request = http::request(input.method.as_str(), url)
        .timeout(Duration::from_secs(input.timeout_seconds.max(1).into()))
        .max_body(input.max_body as usize);
    for (name, value) in &input.headers {
        request = request.header(name, value);
    }
    let own_key = input.headers.keys().any(|name| name.eq_ignore_ascii_case("idempotency-key"));
    if !matches!(input.method, Method::Get | Method::Head | Method::Options) && !own_key {
        request = request.idempotent(context);
    }
    Ok(match (&input.json, &input.body) {
        (Some(json), _) => request.json(json),
        (None, Some(body)) => request.body(body.as_str()),
        (None, None) => request,
    })
}

/// Encodes spaces and what is not ASCII, which people paste; everything else is judged as it stands.
fn encoded(url: &str) -> String {
    let mut encoded = String::with_capacity(url.len());
    let mut buffer = [0; 4];
    for c in url.chars() {
        if c == ' ' || !c.is_ascii() {
            for byte in c.encode_utf8(&mut buffer).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        } else {
            encoded.push(c);
        }
    }
    encoded
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

fn joined(headers: &[(String, String)]) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        joined
            .entry(name.to_ascii_lowercase())
            .and_modify(|own| {
                own.push_str(", ");
                own.push_str(value);
            })
            .or_insert_with(|| value.clone());
    }
    joined
}

fn text_start(mut response: http::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < 2000 {
        match response.chunk() {
            Ok(Some(chunk)) => bytes.extend(chunk),
            Ok(None) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).trim().chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Refusal,
        fake::{Answer, Fake, Run},
    };
    use serde_json::json;

    use super::*;

    fn call(method: &str, url: &str, answer: Answer, input: &Value) -> Run<Result<Value, Fail>> {
        Fake::new().http(method, url, answer).call(http_request, input)
    }

    #[test]
    fn the_request_is_what_the_input_says() {
        let input = json!({
            "method": "POST",
            "url": "https://hooks.chat.example/services/ops room",
            "query": {"dry": true, "n": 2, "q": "a&b"},
            "headers": {"x-from": "remit"},
            "json": {"text": "done"},
        });
        let url = "https://hooks.chat.example/services/ops%20room?dry=true&n=2&q=a%26b";
        let run = call("POST", url, Answer::status(204), &input);
        assert_eq!(run.result.unwrap(), json!({"status": 204, "headers": {}, "json": null, "body": null}));
        let sent = &run.requests[0];
        assert_eq!(sent.json(), json!({"text": "done"}));
        assert_eq!(sent.header("content-type"), Some("application/json"));
        assert_eq!(sent.header("x-from"), Some("remit"));
        assert!(sent.header("idempotency-key").is_some());
    }

    #[test]
    fn the_answer_is_json_or_text_or_left_out() {
        fn check(answer: Answer, json: Value, body: Value) {
            let url = "https://a.example/";
            let output = call("GET", url, answer, &json!({"url": url})).result.unwrap();
            assert_eq!((&output["json"], &output["body"]), (&json, &body));
        }
        check(Answer::json(&json!({"up": true})), json!({"up": true}), Value::Null);
        let hal = |body: &str| {
            Answer::status(200).header("Content-Type", "application/hal+json; charset=utf-8").body(body)
        };
        check(hal("[1]"), json!([1]), Value::Null);
        check(hal("oops"), Value::Null, json!("oops"));
        check(Answer::status(200).body("plain"), Value::Null, json!("plain"));
        check(Answer::status(200).body([0xff, 0xfe]), Value::Null, Value::Null);
    }

    #[test]
    fn several_headers_of_a_name_are_joined() {
        let answer = Answer::status(200).header("Via", "a").header("via", "b");
        let run = call("GET", "https://a.example/", answer, &json!({"url": "https://a.example"}));
        assert_eq!(run.result.unwrap()["headers"], json!({"via": "a, b"}));
    }

    #[test]
    fn an_unexpected_status_is_a_failure() {
        fn check(status: u16, expect: Value, message: Option<&str>) {
            let answer = Answer::status(status).body("why not");
            let input = json!({"url": "https://a.example/", "expect": expect});
            let found =
                call("GET", "https://a.example/", answer, &input).result.map_err(|fail| fail.to_string());
            assert_eq!(found.err().as_deref(), message);
        }
        check(302, json!([]), None);
        check(404, json!([]), Some("the server answered with status 404 (status = 404, body = why not)"));
        check(404, json!([200, 404]), None);
        check(200, json!([201]), Some("the server answered with status 200 (status = 200, body = why not)"));
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        fn check(input: Value, message: &str) {
            let found = Fake::new().call(http_request, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        check(json!({"url": "hooks.example"}), "does not start with https://");
        check(json!({"url": "https://user:pw@a.example"}), "bind a secret to the rule");
        check(json!({"url": "https://a.example", "json": null, "body": ""}), "both `json` and `body`");
        check(json!({"url": "https://a.example", "method": "TRACE"}), "at `method`: unknown variant `TRACE`");
        check(json!({"url": "https://a.example", "jsno": 1}), "unknown field `jsno`");
        check(json!({"url": "https://a.example", "max_body": 2_000_000}), "at most 1048576 bytes");
    }

    #[test]
    fn a_denial_and_a_large_answer_are_told() {
        let input = json!({"url": "https://a.example/", "max_body": 4});
        let denied = Answer::refused(Refusal::Denied("http GET https://a.example/".into()));
        let found = call("GET", "https://a.example/", denied, &input).result.unwrap_err();
        assert!(found.message().contains("not allowed by this step's remit"), "{found}");
        let found =
            call("GET", "https://a.example/", Answer::status(200).body("12345"), &input).result.unwrap_err();
        assert_eq!(found.message(), "GET https://a.example/: the answer is larger than 4 bytes");
    }
}
