#![doc = include_str!("../README.md")]

use std::time::Duration;

use remit_sdk::{
    Context, Fail, JsonSchema, Span,
    http::{self, Error},
    log, step,
};
use serde::{Deserialize, Serialize};

/// What to wait for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A service that answers.
    pub http: Http,
    /// How long between two tries.
    #[serde(default = "five_seconds")]
    pub every: Span,
    /// The longest wait.
    #[serde(default = "five_minutes")]
    pub at_most: Span,
}

/// An address and the answer that ends the wait.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The address, which is asked with GET.
    pub url: String,
    /// The statuses that end the wait; left out: every status from 200 to 299.
    #[serde(default)]
    pub status: Vec<u16>,
    /// A text that the answer's first 64 KiB have to hold.
    pub contains: Option<String>,
}

/// How it went.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The time that was waited, in milliseconds.
    pub waited_ms: u64,
    /// How often the service was asked.
    pub tries: u32,
    /// The status of the last answer.
    pub status: u16,
}

/// The longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of an answer in which a text is looked for.
const LOOKED_AT: usize = 64 << 10;

fn five_minutes() -> Span {
    Span::seconds(300)
}

fn five_seconds() -> Span {
    Span::seconds(5)
}

/// What one try came to.
enum Try {
    Good(u16),
    NotYet(String),
}

/// Waits.
#[step]
pub fn wait_for(input: Input, context: &Context) -> Result<Output, Fail> {
    let Input { http: wanted, every, at_most: most } = input;
    let begun = context.remaining();
    let waited = || u64::try_from(begun.saturating_sub(context.remaining()).as_millis()).unwrap_or(u64::MAX);
    let mut tries = 0;
    let mut last = String::new();
    let found = context.poll(every, most, || {
        tries += 1;
        context.progress(waited().min(most.as_millis()), most.as_millis());
        match ask(&wanted)? {
            Try::Good(status) => Ok(Some(status)),
            Try::NotYet(why) => {
                if why != last {
                    log::info!("not yet: {why}", tries = tries);
                    last = why;
                }
                Ok(None)
            }
        }
    })?;
    let Some(status) = found else {
        return Err(Fail::new(format!("{}: not within {most}: {last}", wanted.url)).with("tries", tries));
    };
    log::info!("the service answers", tries = tries, status = status);
    Ok(Output { waited_ms: waited(), tries, status })
}

/// One try. What no later try would change is an error.
fn ask(wanted: &Http) -> Result<Try, Fail> {
    let mut answer = match http::get(http::url(&wanted.url)?).timeout(ANSWER).send() {
        Ok(answer) => answer,
        Err(error @ Error::Refused { refusal: remit_sdk::Refusal::Failed(_), .. }) => {
            return Ok(Try::NotYet(Fail::from(error).message().to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let status = answer.status();
    let expected =
        if wanted.status.is_empty() { (200..300).contains(&status) } else { wanted.status.contains(&status) };
    if !expected {
        return Ok(Try::NotYet(format!("the server answers with status {status}")));
    }
    let Some(text) = &wanted.contains else { return Ok(Try::Good(status)) };
    let mut body = Vec::new();
    while body.len() < LOOKED_AT {
        match answer.chunk() {
            Ok(Some(bytes)) => body.extend(bytes),
            Ok(None) => break,
            Err(error @ Error::Refused { refusal: remit_sdk::Refusal::Failed(_), .. }) => {
                return Ok(Try::NotYet(Fail::from(error).message().to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    body.truncate(LOOKED_AT);
    let found = text.is_empty() || body.windows(text.len()).any(|part| part == text.as_bytes());
    Ok(if found { Try::Good(status) } else { Try::NotYet(format!("the answer does not hold {text:?}")) })
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Refusal,
        fake::{Answer, Fake},
    };
    use serde_json::{Value, json};

    use super::*;

    const URL: &str = "https://a.example/health";

    fn answers(answers: Vec<Answer>) -> Fake {
        let fake = Fake::new().wall(Duration::from_secs(3600));
        answers.into_iter().fold(fake, |fake, answer| fake.http("GET", URL, answer))
    }

    #[test]
    fn a_service_is_asked_until_it_answers_as_wanted() {
        fn check(given: Vec<Answer>, more: Value, expect: Result<Value, &str>) {
            let mut http = json!({"url": URL});
            http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let input = json!({"http": http, "every": "10s", "at_most": "30s"});
            let found = answers(given).call(wait_for, &input).result;
            assert_eq!(found.map_err(|fail| fail.to_string()), expect.map_err(str::to_owned));
        }
        let good = |waited: u32, tries: u32, status: u16| {
            Ok(json!({"waited_ms": waited, "tries": tries, "status": status}))
        };
        check(vec![Answer::status(204)], json!({}), good(0, 1, 204));
        let down = || Answer::refused(Refusal::Failed("the server refused the connection".into()));
        check(vec![down(), Answer::status(503), Answer::status(200)], json!({}), good(20_000, 3, 200));
        check(
            vec![Answer::status(200).body("starting"), Answer::status(200).body("it is ready")],
            json!({"contains": "ready"}),
            good(10_000, 2, 200),
        );
        check(vec![Answer::status(404)], json!({"status": [404]}), good(0, 1, 404));
        check(
            vec![down(), down(), down(), down()],
            json!({}),
            Err(
                "https://a.example/health: not within 30s: GET https://a.example/health: the server refused the connection (tries = 4)",
            ),
        );
        check(
            vec![Answer::refused(Refusal::Denied("this request".into()))],
            json!({}),
            Err("GET https://a.example/health: not allowed by this step's remit: this request"),
        );
    }

    #[test]
    fn what_cannot_be_asked_is_said_and_a_cancel_ends_it() {
        fn check(input: Value, message: &str) {
            let found = Fake::new().call(wait_for, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        check(json!({}), "missing field `http`");
        check(json!({"http": {"url": "a.example"}}), "does not start with https://");
        check(json!({"http": {"url": URL}, "every": "soon"}), "\"soon\" is not a time");
        let fake = answers(vec![Answer::status(500)]).cancel_after(Duration::from_secs(2));
        let found = fake.call(wait_for, &json!({"http": {"url": URL}})).result.unwrap_err();
        assert!(found.is_cancelled());
    }
}
