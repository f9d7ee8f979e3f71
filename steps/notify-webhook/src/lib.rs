#![doc = include_str!("../README.md")]

use std::{collections::BTreeMap, time::Duration};

use remit_sdk::{Context, Fail, JsonSchema, http, log, step};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A message and where it goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The webhook's address.
    pub url: String,
    /// The message.
    #[schemars(length(min = 1))]
    pub text: String,
    /// A title above the details.
    pub title: Option<String>,
    /// Details by name.
    #[serde(default)]
    pub fields: BTreeMap<String, Scalar>,
    /// How it went: the colour at the side.
    #[serde(default)]
    pub level: Level,
    /// The channel, where the webhook lets it be chosen.
    pub channel: Option<String>,
    /// Whether the chat may read mark-up, mentions and links in the texts.
    #[serde(default)]
    pub markup: bool,
}

/// How it went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "four levels")]
pub enum Level {
    #[default]
    Info,
    Good,
    Warning,
    Bad,
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

/// How it was taken.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The status of the answer.
    pub status: u16,
    /// The time stamp that names the message in the chat, where the answer gives one.
    pub message: Option<String>,
    /// How often it was sent: a chat that asks for patience gets it again.
    pub tries: u32,
}

/// A chat that is busy is asked so often.
const TRIES: u32 = 5;
/// The longest time that a chat may ask to wait between two tries.
const PATIENCE: u64 = 60;
/// Largest text and most fields that the chats take.
const MAX_TEXT: usize = 39_000;
const MAX_FIELDS: usize = 100;

/// Sends the message.
#[step]
pub fn notify_webhook(input: Input, context: &Context) -> Result<Output, Fail> {
    if input.text.trim().is_empty() {
        return Err(Fail::new("`text` is empty: a message says something"));
    }
    if input.text.len() > MAX_TEXT || input.fields.len() > MAX_FIELDS {
        return Err(Fail::new(format!(
            "a message has at most {MAX_TEXT} bytes of text and {MAX_FIELDS} fields"
        )));
    }
    let body = message(&input);
    for tries in 1..=TRIES {
        let answer = http::post(http::url(&input.url)?).json(&body).max_body(64 << 10).send()?;
        let status = answer.status();
        if status == 429 && tries < TRIES {
            let wait = answer.header("retry-after").and_then(|text| text.parse().ok()).unwrap_or(1_u64);
            if wait > PATIENCE {
                return Err(Fail::new(format!("the chat asks to wait for {wait} s")).with("status", status));
            }
            log::info!("the chat asks for patience", seconds = wait);
            context.sleep(Duration::from_secs(wait.max(1)))?;
            continue;
        }
        let text = String::from_utf8_lossy(&answer.bytes()?).into_owned();
        return judge(status, &text, tries);
    }
    Err(Fail::new("the chat stays busy"))
}

/// What Slack's incoming webhooks take, and the chats that are compatible with them.
fn message(input: &Input) -> Value {
    let shown = |text: &str| if input.markup { text.to_owned() } else { escaped(text) };
    let fields: Vec<Value> = input
        .fields
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Scalar::Text(text) => shown(text),
                Scalar::Integer(number) => number.to_string(),
                Scalar::Number(number) => number.to_string(),
                Scalar::Truth(truth) => truth.to_string(),
            };
            json!({"title": escaped(name), "value": value, "short": value.len() < 40})
        })
        .collect();
    let mut message = Map::new();
    message.insert("text".to_owned(), shown(&input.text).into());
    message.insert("mrkdwn".to_owned(), input.markup.into());
    if let Some(channel) = &input.channel {
        message.insert("channel".to_owned(), channel.as_str().into());
    }
    if !fields.is_empty() || input.title.is_some() || input.level != Level::Info {
        let color = match input.level {
            Level::Info => "#439fe0",
            Level::Good => "good",
            Level::Warning => "warning",
            Level::Bad => "danger",
        };
        let mut attachment = Map::new();
        attachment.insert("color".to_owned(), color.into());
        attachment.insert("fallback".to_owned(), shown(&input.text).into());
        if let Some(title) = &input.title {
            attachment.insert("title".to_owned(), shown(title).into());
        }
        attachment.insert("fields".to_owned(), fields.into());
        message.insert("attachments".to_owned(), json!([attachment]));
    }
    message.into()
}

/// The three characters that start mentions, links and entities there.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A webhook answers `ok`, an API method with `{"ok": true}` or, with status 200 too, `{"ok": false, "error": …}`.
fn judge(status: u16, text: &str, tries: u32) -> Result<Output, Fail> {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let refused = answer.get("ok") == Some(&Value::Bool(false));
    if status >= 300 || refused {
        let why = answer.get("error").and_then(Value::as_str).unwrap_or(text);
        let why: String = why.trim().chars().take(300).collect();
        return Err(Fail::new(format!("the chat did not take the message: status {status}: {why}"))
            .with("status", status));
    }
    let message = answer.get("ts").and_then(Value::as_str).map(str::to_owned);
    log::info!("the message was taken", status = status);
    Ok(Output { status, message, tries })
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Answer, Fake};

    use super::*;

    const URL: &str = "https://hooks.chat.example/services/ops";

    #[test]
    fn the_message_is_what_chats_take() {
        fn check(more: Value, expect: Value) {
            let mut input = json!({"url": URL, "text": "a <b> & *c*"});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let run =
                Fake::new().http("POST", URL, Answer::status(200).body("ok")).call(notify_webhook, &input);
            assert_eq!(run.result.unwrap(), json!({"status": 200, "message": null, "tries": 1}));
            assert_eq!(run.requests[0].json(), expect);
        }
        check(json!({}), json!({"text": "a &lt;b&gt; &amp; *c*", "mrkdwn": false}));
        check(
            json!({"markup": true, "text": "<!channel> *c*", "channel": "#ops"}),
            json!({"text": "<!channel> *c*", "mrkdwn": true, "channel": "#ops"}),
        );
        check(
            json!({"text": "t", "title": "Deploy", "level": "bad", "fields": {"hosts": 2, "who": "<@U1>", "up": false}}),
            json!({
                "text": "t", "mrkdwn": false,
                "attachments": [{"color": "danger", "fallback": "t", "title": "Deploy", "fields": [
                    {"title": "hosts", "value": "2", "short": true},
                    {"title": "up", "value": "false", "short": true},
                    {"title": "who", "value": "&lt;@U1&gt;", "short": true},
                ]}],
            }),
        );
    }

    #[test]
    fn the_answer_decides() {
        fn check(answers: Vec<Answer>, expect: Result<Value, &str>, slept: u64) {
            let fake = answers.into_iter().fold(Fake::new(), |fake, answer| fake.http("POST", URL, answer));
            let run = fake.call(notify_webhook, &json!({"url": URL, "text": "t"}));
            assert_eq!(run.result.map_err(|fail| fail.message().to_owned()), expect.map_err(str::to_owned));
            assert_eq!(run.slept.as_secs(), slept);
        }
        check(
            vec![Answer::json(&json!({"ok": true, "ts": "1.2"}))],
            Ok(json!({"status": 200, "message": "1.2", "tries": 1})),
            0,
        );
        check(
            vec![Answer::json(&json!({"ok": false, "error": "channel_not_found"}))],
            Err("the chat did not take the message: status 200: channel_not_found"),
            0,
        );
        check(
            vec![Answer::status(404).body("no_service")],
            Err("the chat did not take the message: status 404: no_service"),
            0,
        );
        let busy = || Answer::status(429).header("Retry-After", "3");
        check(vec![busy(), Answer::status(204)], Ok(json!({"status": 204, "message": null, "tries": 2})), 3);
        check(
            vec![busy(), busy(), busy(), busy(), busy()],
            Err("the chat did not take the message: status 429: "),
            12,
        );
        check(
            vec![Answer::status(429).header("retry-after", "900")],
            Err("the chat asks to wait for 900 s"),
            0,
        );
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        fn check(input: Value, message: &str) {
            let found = Fake::new().call(notify_webhook, &input).result.unwrap_err();
            assert!(found.message().contains(message), "{found}");
        }
        check(json!({"url": URL, "text": " "}), "`text` is empty");
        check(json!({"url": URL, "text": "x".repeat(40_000)}), "at most 39000 bytes");
        check(json!({"url": "hooks", "text": "x"}), "does not start with https://");
        check(json!({"url": URL, "text": "x", "level": "fine"}), "unknown variant `fine`");
    }
}
