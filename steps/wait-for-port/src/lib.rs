#![doc = include_str!("../README.md")]

use std::time::Duration;

use remit_sdk::{Context, Fail, JsonSchema, Refusal, Span, log, step, tcp};
use serde::{Deserialize, Serialize};

/// What to wait for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The host's name.
    pub host: String,
    /// The port.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// How long between two tries.
    #[serde(default = "five_seconds")]
    pub every: Span,
    /// The longest wait.
    #[serde(default = "five_minutes")]
    pub at_most: Span,
}

/// How it went.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The time that was waited, in milliseconds.
    pub waited_ms: u64,
    /// How often it was tried.
    pub tries: u32,
}

fn five_minutes() -> Span {
    Span::seconds(300)
}

fn five_seconds() -> Span {
    Span::seconds(5)
}

/// Waits.
#[step]
pub fn wait_for_port(input: Input, context: &Context) -> Result<Output, Fail> {
    let Input { host, port, every, at_most: most } = input;
    let begun = context.remaining();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let waited = || millis(begun.saturating_sub(context.remaining()));
    let (mut tries, mut last) = (0, String::new());
    let found = context.poll(every, most, || {
        tries += 1;
        context.progress(waited().min(most.as_millis()), most.as_millis());
        match tcp::connect(&host, port) {
            Ok(_) => Ok(Some(())),
            Err(Refusal::Failed(why)) => {
                if why != last {
                    log::info!("not yet: {why}", tries = tries);
                    last = why;
                }
                Ok(None)
            }
            Err(other) => Err(other.into()),
        }
    })?;
    match found {
        Some(()) => {
            log::info!("{host}:{port} takes connections", tries = tries);
            Ok(Output { waited_ms: waited(), tries })
        }
        None => Err(Fail::new(format!("{host}:{port}: not within {most}: {last}")).with("tries", tries)),
    }
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::Fake;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_first_connection_ends_the_wait_and_a_denial_does_too() {
        fn check(fake: Fake, expect: Result<u32, &str>) {
            let input = json!({"host": "db.a.example", "port": 5432, "every": "10s", "at_most": "30s"});
            let found = fake.call(wait_for_port, &input).result;
            match (found, expect) {
                (Ok(output), Ok(tries)) => assert_eq!(output["tries"], Value::from(tries)),
                (Err(fail), Err(part)) => assert!(fail.message().contains(part), "{fail}"),
                (found, _) => panic!("{found:?}"),
            }
        }
        check(Fake::new().tcp("db.a.example", 5432, |_| Vec::new()), Ok(1));
        let refused = |refusal| Fake::new().no_tcp("db.a.example", 5432, refusal);
        check(
            refused(Refusal::Failed("connection refused".to_owned())),
            Err("not within 30s: connection refused"),
        );
        check(refused(Refusal::Denied("tcp db.a.example:5432".to_owned())), Err("tcp db.a.example:5432"));
    }
}
