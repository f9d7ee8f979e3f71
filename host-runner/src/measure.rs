//! How fast the runner's own rules are: what `cargo xtask bench` asks of the optimised program.

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use http::{HeaderMap, Method, Uri};
use remit_protocol::{
    ComponentName, InvalidId, Limits, ProjectName, SecretPath,
    capability::{Ceiling, Grant, Remit, Requests, Subject},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    attempt::denied,
    capability::http::{decide, target},
    report::redact::Redactor,
    secrets::{InvalidSecret, SecretValue},
};

/// Rules of the remit that requests are judged by, and secrets that are looked for.
const RULES: usize = 20;
const SECRETS: usize = 100;
/// How often is judged, and how much text is searched.
const JUDGED: u32 = 200_000;
const TEXT: usize = 64 << 20;
/// A piece of the text, as a stream brings it.
const PIECE: usize = 16 << 10;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Rules {
    /// Microseconds to read a request's address and headers and to find the rule that permits it.
    pub decision_us: f64,
    /// Megabytes a second through redaction that looks for a hundred secrets.
    pub redaction_mb_s: f64,
    /// Megabytes a second of copying the same text.
    pub copy_mb_s: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum NotMeasured {
    /// A fixed name is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A fixed rule is none.
    #[error(transparent)]
    Rule(#[from] serde_json::Error),
    /// A fixed remit is refused, or a fixed request is.
    #[error("{0}")]
    Refused(String),
    /// A made value is no secret.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
}

/// Measures [`Rules`].
///
/// # Errors
/// What is measured is not what it should be.
pub fn rules() -> Result<Rules, NotMeasured> {
    let (redaction_mb_s, copy_mb_s) = redaction()?;
    Ok(Rules { decision_us: decision()?, redaction_mb_s, copy_mb_s })
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn seconds(work: impl FnOnce() -> Result<(), NotMeasured>) -> Result<f64, NotMeasured> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn decision() -> Result<f64, NotMeasured> {
    let rule = |at: usize| {
        let host = if at.is_multiple_of(4) { format!("**.c{at}.example") } else { format!("h{at}.example") };
        json!({"host": host, "methods": ["GET", "POST"], "paths": ["/v1", "/v2/things"]})
    };
    let rules: Vec<_> = (0..RULES).map(rule).collect();
    let requests: Requests = serde_json::from_value(json!({"http": [{"host": "granted"}]}))?;
    let grant: Grant = serde_json::from_value(json!({"http": rules}))?;
    let ceiling = Ceiling { http: serde_json::from_value(json!(rules))?, ..Ceiling::default() };
    let (component, project) = (ComponentName::new("bench/x")?, ProjectName::new("bench")?);
    let subject = Subject { component: &component, project: &project };
    let remit = Remit::compute(subject, &requests, Limits::default(), &grant, &BTreeMap::new(), &ceiling)
        .map_err(|denials| NotMeasured::Refused(denied(&denials).message))?;
    let uri: Uri = Uri::from_static("https://h19.example/v2/things/17/parts?page=2");
    let mut headers = HeaderMap::new();
    for name in ["accept", "user-agent", "content-type", "x-request-id"] {
        headers.insert(name, http::HeaderValue::from_static("application/json"));
    }
    let refused = |error: &dyn std::fmt::Display| NotMeasured::Refused(error.to_string());
    let took = seconds(|| {
        for _ in 0..JUDGED {
            let target = target::target(&Method::GET, black_box(&uri)).map_err(|error| refused(&error))?;
            decide::headers(black_box(&headers)).map_err(|error| refused(&error))?;
            let (_, permit) = decide::decide(remit.http(), &target).map_err(|denial| refused(&denial))?;
            decide::own_credentials(permit, &headers, uri.query()).map_err(|denial| refused(&denial))?;
        }
        Ok(())
    })?;
    Ok(took * 1e6 / f64::from(JUDGED))
}

fn redaction() -> Result<(f64, f64), NotMeasured> {
    let redactor = Redactor::new();
    let mut secrets = Vec::new();
    for at in 0..SECRETS {
        let value = format!("{:x}-secret-{at}-{}", at * 7_919 + 12_345, "x".repeat(at % 40));
        secrets.push((SecretPath::new(format!("keys/bench/{at}"))?, SecretValue::new(value.into_bytes())?));
    }
    redactor.add(secrets.iter().map(|(path, value)| (path, value)));
    // Lines as programs write them.
    let mut text = Vec::with_capacity(TEXT);
    for number in 0_u64.. {
        if text.len() >= TEXT {
            break;
        }
        let line = format!(
            "{number:08} level=info host=web-{} path=/v1/things/{number} took={}ms status=200 ok\n",
            number % 97,
            number % 311
        );
        text.extend_from_slice(line.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len() + PIECE);
    let copied = seconds(|| {
        text.chunks(PIECE).for_each(|piece| out.extend_from_slice(black_box(piece)));
        Ok(())
    })?;
    out.clear();
    let redacted = seconds(|| {
        let mut stream = redactor.stream();
        text.chunks(PIECE).for_each(|piece| stream.push(black_box(piece), &mut out));
        stream.finish(&mut out);
        Ok(())
    })?;
    if out != text {
        return Err(NotMeasured::Refused("a text without secrets came out changed".to_owned()));
    }
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let megabytes = text.len() as f64 / 1e6;
    Ok((megabytes / redacted, megabytes / copied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_one_that_permits() {
        assert!(decision().unwrap() > 0.0);
    }
}
