#![doc = include_str!("../README.md")]

use std::time::Duration;

use remit_sdk::{Context, Fail, JsonSchema, log, step};
use serde::{Deserialize, Serialize};

/// How long to wait.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A time such as `30s`, `5m`, `1h30m` or `250ms`.
    #[serde(rename = "for")]
    #[schemars(regex(pattern = r"^([0-9]+(ms|s|m|h|d))+$"))]
    pub time: String,
    /// What is being waited for, shown in the log.
    #[serde(default)]
    pub reason: String,
}

/// How long it took.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The time that was waited, in milliseconds.
    pub waited_ms: u64,
}

/// Progress is told about so many times at most, and once a second at most.
const PARTS: u64 = 100;
const SHORTEST_PART: u64 = 1000;

/// Waits.
#[step]
pub fn wait(input: Input, context: &Context) -> Result<Output, Fail> {
    let total = milliseconds(&input.time)?;
    let left = u64::try_from(context.remaining().as_millis()).unwrap_or(u64::MAX);
    if total >= left {
        return Err(Fail::new(format!(
            "waiting for {} takes longer than this run may: raise the step's `timeout` in the job, and `wall` in its grant and in the runner's ceiling",
            input.time
        ))
        .with("left_ms", left));
    }
    if input.reason.is_empty() {
        log::info!("waiting", time = input.time);
    } else {
        log::info!("waiting", time = input.time, reason = input.reason);
    }
    let part = total.div_ceil(PARTS).max(SHORTEST_PART);
    let mut waited = 0;
    while waited < total {
        let next = part.min(total - waited);
        context.sleep(Duration::from_millis(next))?;
        waited += next;
        context.progress(waited, total);
    }
    Ok(Output { waited_ms: waited })
}

/// The units, in the order in which they may stand.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

fn milliseconds(text: &str) -> Result<u64, Fail> {
    let invalid = || Fail::new(format!("`for` is {text:?}: write a time such as 30s, 5m, 1h30m or 250ms"));
    let mut rest = text;
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        // Units fall from left to right and none stands twice: taking them from one iterator sees to it.
        let (_, size) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let number: u64 = number.parse().map_err(|_| invalid())?;
        total = number.checked_mul(*size).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
        rest = after;
    }
    if total == 0 { Err(invalid()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::Fake;
    use serde_json::json;

    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        fn check(text: &str, expect: Option<u64>) {
            assert_eq!(milliseconds(text).ok(), expect, "{text:?}");
        }
        check("250ms", Some(250));
        check("30s", Some(30_000));
        check("1h30m", Some(5_400_000));
        check("1d1s5ms", Some(86_401_005));
        check("90", None);
        check("", None);
        check("0s", None);
        check("1m1h", None);
        check("1s1s", None);
        check("1.5s", None);
        check("-1s", None);
        check("99999999999999999999s", None);
        check("999999999999999d", None);
    }

    #[test]
    fn it_waits_and_tells_how_far_it_is() {
        fn check(time: &str, wall: u64, waited: u64, parts: usize) {
            let fake = Fake::new().wall(Duration::from_secs(wall));
            let run = fake.call(wait, &json!({"for": time, "reason": "caches to warm"}));
            assert_eq!(run.result.unwrap(), json!({"waited_ms": waited}));
            assert_eq!(run.slept, Duration::from_millis(waited));
            assert_eq!((run.progress.len(), run.progress.last()), (parts, Some(&(waited, waited))));
        }
        check("2500ms", 60, 2500, 3);
        check("1h", 7200, 3_600_000, 100);
    }

    #[test]
    fn a_cancel_ends_it_at_once() {
        let run = Fake::new().cancel_after(Duration::from_millis(1700)).call(wait, &json!({"for": "30s"}));
        assert!(run.result.unwrap_err().is_cancelled());
        assert_eq!(run.slept, Duration::from_millis(1700));
    }

    #[test]
    fn what_cannot_fit_is_refused_before_it_waits() {
        let run = Fake::new().call(wait, &json!({"for": "60s"}));
        assert!(run.result.unwrap_err().message().contains("raise the step's `timeout`"));
        assert_eq!(run.slept, Duration::ZERO);
    }
}
