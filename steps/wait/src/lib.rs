#![doc = include_str!("../README.md")]

use std::time::Duration;

use remit_sdk::{Context, Fail, JsonSchema, Span, log, step};
use serde::{Deserialize, Serialize};

mod moment;

/// How long to wait: one of `for` and `until`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A time such as `30s`, `5m`, `1h30m` or `250ms`.
    #[serde(rename = "for")]
    pub time: Option<Span>,
    /// A point in time after RFC 3339, such as `2026-11-21T22:00:00+01:00`; one that has passed ends the step at once.
    pub until: Option<String>,
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
    let (total, shown) = match (input.time, input.until) {
        (Some(time), None) => (time.as_millis(), time.to_string()),
        (None, Some(until)) => (until_then(&until, context)?, until),
        _ => return Err(Fail::new("write one of `for` and `until`: how long to wait")),
    };
    let left = u64::try_from(context.remaining().as_millis()).unwrap_or(u64::MAX);
    if total >= left {
        return Err(Fail::new(format!(
            "waiting for {shown} takes longer than this run may: raise the step's `timeout` in the job, and `wall` in its grant and in the runner's ceiling"
        ))
        .with("left_ms", left));
    }
    if input.reason.is_empty() {
        log::info!("waiting", time = shown);
    } else {
        log::info!("waiting", time = shown, reason = input.reason);
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

/// Milliseconds until a point in time.
fn until_then(until: &str, context: &Context) -> Result<u64, Fail> {
    let moment = moment::parse(until).ok_or_else(|| {
        Fail::new(format!("`until` is {until:?}: write a time such as 2026-11-21T22:00:00Z"))
    })?;
    let now = i64::try_from(context.now().as_millis()).unwrap_or(i64::MAX);
    Ok(u64::try_from(moment.saturating_sub(now)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::Fake;
    use serde_json::json;

    use super::*;

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
    fn a_point_in_time_is_waited_for() {
        fn check(until: &str, expect: Result<u64, &str>) {
            // 2026-11-21T07:00:00Z.
            let fake = Fake::new().wall(Duration::from_secs(3600)).began(Duration::from_secs(1_795_244_400));
            let run = fake.call(wait, &json!({"until": until}));
            let found = run.result.map(|output| output["waited_ms"].as_u64().unwrap());
            match (found, expect) {
                (Ok(waited), Ok(expect)) => {
                    assert_eq!((waited, run.slept), (expect, Duration::from_millis(expect)));
                }
                (Err(fail), Err(part)) => assert!(fail.message().contains(part), "{fail}"),
                (found, _) => panic!("{until}: {found:?}"),
            }
        }
        check("2026-11-21T07:00:30Z", Ok(30_000));
        check("2026-11-21T08:10:00+01:00", Ok(600_000));
        check("2020-01-01T00:00:00Z", Ok(0));
        check("2026-11-22T07:00:00Z", Err("raise the step's `timeout`"));
        check("tomorrow", Err("write a time such as"));
        let found = Fake::new().call(wait, &json!({})).result.unwrap_err();
        assert_eq!(found.message(), "write one of `for` and `until`: how long to wait");
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
