//! How a run ended: one outcome for whatever a guest, a bound or the host did.

use std::time::Duration;

use remit_protocol::{Limits, Outcome, Span, json, report::Limit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use wasmtime::{
    PoolConcurrencyLimitError, Store, Trap, WasmBacktrace,
    component::{ResourceTable, ResourceTableError},
};
use wasmtime_wasi::I32Exit;

use super::{
    Account, DescribeError, Description, Ended, OverLimit,
    drive::{Driven, Stop},
    prepare::{Answer, Ending},
    state::State,
};
use crate::broker::{Access, Broker};

/// Longest message of an end; a component's words beyond it are cut.
const MAX_MESSAGE: usize = 4 << 10;
/// Most functions named in the message of a trap.
const MAX_FRAMES: usize = 5;

/// The host could not do its part. Never the guest's fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostFault(pub String);

/// A run that the host could not begin.
pub(crate) fn fault(message: &str) -> Ended {
    never_begun(Outcome::HostFault, message)
}

/// A run that was cancelled before its turn.
pub(crate) fn cancelled() -> Ended {
    never_begun(Outcome::Cancelled, "it was cancelled before it began")
}

fn never_begun(outcome: Outcome, message: &str) -> Ended {
    Ended {
        outcome,
        output: None,
        nodes: None,
        artifacts: Vec::new(),
        message: message.to_owned(),
        denials: Vec::new(),
        revealed: Vec::new(),
        usage: None,
        took: Duration::ZERO,
    }
}

/// What a run's call came to.
#[derive(Serialize, Deserialize)]
pub(crate) enum Said {
    /// `run`: the output document.
    Output(#[serde(skip)] String),
    /// `discover`.
    Discovered,
    /// `describe`: the schemas.
    Described(#[serde(skip)] String),
    /// The component says that it failed.
    Failed { message: String, fields: Vec<(String, String)> },
    /// The component says that it was cancelled.
    Cancelled,
    /// The component broke off, by a trap or a breach of the component model.
    Trapped(String),
    /// A limit, a bound from outside or the host ended it.
    Stopped(Outcome, String),
}

impl Said {
    /// The document that it carries beside its words.
    pub(crate) fn document(&mut self) -> Option<&mut String> {
        match self {
            Self::Output(text) | Self::Described(text) => Some(text),
            _ => None,
        }
    }
}

/// Takes a store apart when its call is over. What is left is the way to the broker, how the call ended and how long it took.
pub(super) async fn finish(mut store: Store<State>, driven: Driven) -> (Access, Said, Span) {
    let left = store.get_fuel().ok();
    let state = store.data_mut();
    if let Some((done, total)) = state.progress.take() {
        state.log.progress(done, total);
    }
    state.account.set(Limit::Handles, most_at_once(&mut state.table));
    if let (fuel, Some(left)) = (state.account.allowed().fuel, left)
        && fuel.is_counted()
    {
        state.account.set(Limit::Fuel, fuel.units().saturating_sub(left));
    }
    let wall = Instant::now().saturating_duration_since(state.begun);
    let said = said(state, driven);
    let State { broker, scratch, table, account, begun, .. } = store.into_data();
    drop(table);
    account.set_took(Instant::now().saturating_duration_since(begun));
    if let Some(scratch) = scratch {
        scratch.remove().await;
    }
    (broker, said, span(wall))
}

/// How many resources a run had open at once. The table fills free places before it grows, so that its length is that number:
/// when it may not grow any more, as many fit in as are free.
fn most_at_once(table: &mut ResourceTable) -> u64 {
    let open = table.iter_mut().count();
    table.set_max_capacity(0);
    let free = std::iter::from_fn(|| table.push(()).ok()).count();
    u64::try_from(open + free).unwrap_or(u64::MAX)
}

/// How a run ended, by what its broker knows.
pub(super) fn end(mut broker: Broker, said: Said, wall: Span) -> Ended {
    let finished = broker.log.finish();
    let (mut outcome, mut message, output) = verdict(&broker, said);
    // After the verdict, which charges the output.
    let usage = broker.account.usage(wall);
    if let (Outcome::Succeeded, Err(OverLimit(limit))) = (outcome, finished) {
        (outcome, message) = (Outcome::OverLimit(limit), OverLimit(limit).to_string());
    }
    let succeeded = outcome == Outcome::Succeeded;
    let nodes = broker.found.take().filter(|_| succeeded).map(crate::capability::nodes::Found::into_set);
    let message = broker.log.presentable(&message);
    let message = message[..message.floor_char_boundary(MAX_MESSAGE)].to_owned();
    Ended {
        outcome,
        output: output.filter(|_| succeeded),
        nodes,
        artifacts: std::mem::take(&mut broker.artifacts),
        message,
        denials: broker.account.take_denials(),
        revealed: broker.account.take_revealed(),
        usage: Some(usage),
        took: broker.account.took(),
    }
}

/// What `describe` came to.
pub(super) fn description(broker: Broker, said: Said) -> Result<Description, DescribeError> {
    let most = usize::try_from(broker.account.allowed().output.bytes()).unwrap_or(usize::MAX);
    let text = match said {
        Said::Described(text) => text,
        other => return Err(DescribeError(verdict(&broker, other).1)),
    };
    let value = json::value_from_slice(text.as_bytes(), most)
        .map_err(|error| DescribeError(format!("its answer is not acceptable JSON: {error}")))?;
    match value {
        Value::Object(mut object) if object.len() == 2 => {
            match (object.remove("input"), object.remove("output")) {
                (Some(input), Some(output)) => Ok(Description { input, output }),
                _ => Err(DescribeError("its answer is not an object with `input` and `output`".to_owned())),
            }
        }
        _ => Err(DescribeError("its answer is not an object with `input` and `output`".to_owned())),
    }
}

/// What the component answered, or what ended its call.
fn said(state: &State, driven: Driven) -> Said {
    match driven {
        Ok(Ok(Answer::Output(text))) => Said::Output(text),
        Ok(Ok(Answer::Discovered)) => Said::Discovered,
        Ok(Ok(Answer::Described(text))) => Said::Described(text),
        Ok(Ok(Answer::Ended(Ending::Failed { message, fields }))) => Said::Failed { message, fields },
        Ok(Ok(Answer::Ended(Ending::Cancelled))) => Said::Cancelled,
        Ok(Err(error)) => broke_off(&state.account, &error),
        Err(stop) => {
            let (outcome, message) =
                stopped(state.account.allowed(), stop, state.deadline.duration_since(state.begun));
            Said::Stopped(outcome, message)
        }
    }
}

type Verdict = (Outcome, String, Option<Value>);

fn verdict(broker: &Broker, said: Said) -> Verdict {
    // A component that a limit has refused something may end in any way because of it.
    let over = |message: String, otherwise: Outcome, prefix: &str| match broker.account.first_over() {
        Some(limit) => (Outcome::OverLimit(limit), format!("{}: {message}", OverLimit(limit)), None),
        None => (otherwise, format!("{prefix}{message}"), None),
    };
    match said {
        Said::Discovered | Said::Described(_) => (Outcome::Succeeded, String::new(), None),
        Said::Output(text) => output(broker, &text),
        Said::Cancelled if broker.cancel.is_cancelled() => {
            (Outcome::Cancelled, "the step ended because it was cancelled".to_owned(), None)
        }
        Said::Cancelled => {
            (Outcome::Failed, "the step says that it was cancelled, and nobody cancelled it".to_owned(), None)
        }
        Said::Failed { message, fields } => {
            let details = fields.iter().map(|(name, value)| format!("\n{name}: {value}")).collect::<String>();
            over(format!("{message}{details}"), Outcome::Failed, "")
        }
        Said::Trapped(reason) => over(reason, Outcome::Trapped, "the component broke off: "),
        Said::Stopped(
            outcome @ (Outcome::OverLimit(_) | Outcome::TimedOut | Outcome::Cancelled | Outcome::HostFault),
            message,
        ) => (outcome, message, None),
        // No other end comes from outside of the component.
        Said::Stopped(_, message) => (Outcome::HostFault, message, None),
    }
}

fn output(broker: &Broker, text: &str) -> Verdict {
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if let Err(OverLimit(limit)) = broker.account.charge(Limit::Output, length) {
        let most = broker.account.allowed().output;
        let message = format!("the output has {length} bytes, its limit is {most}");
        return (Outcome::OverLimit(limit), message, None);
    }
    match json::value_from_slice(text.as_bytes(), text.len()) {
        Ok(mut value) => {
            broker.redactor.json(&mut value);
            (Outcome::Succeeded, String::new(), Some(value))
        }
        Err(error) => (Outcome::Failed, format!("the step's output is not acceptable JSON: {error}"), None),
    }
}

fn span(duration: Duration) -> Span {
    Span::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn stopped(allowed: &Limits, stop: Stop, wall: Duration) -> (Outcome, String) {
    match stop {
        Stop::Wall => (Outcome::TimedOut, format!("its time of {} ran out", span(wall))),
        Stop::Cpu => {
            let message = format!("it computed for longer than its limit of {}", allowed.cpu);
            (Outcome::OverLimit(Limit::Cpu), message)
        }
        Stop::Cancelled => {
            (Outcome::Cancelled, "it was cancelled and did not end by itself in time".to_owned())
        }
    }
}

/// Why a call gave an error instead of an answer. What is neither a limit nor the host's fault is the component's: a trap, or
/// a breach of the component model.
fn broke_off(account: &Account, error: &wasmtime::Error) -> Said {
    if let Some(OverLimit(limit)) = over_limit(error) {
        let _ = account.over(limit);
        if limit == Limit::Call {
            // The engine refused the call as a whole: nothing of it was counted.
            let _ = account.peak(limit, usize::MAX);
        }
        return Said::Stopped(Outcome::OverLimit(limit), OverLimit(limit).to_string());
    }
    if let Some(HostFault(message)) = error.downcast_ref() {
        return Said::Stopped(Outcome::HostFault, message.clone());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Said::Stopped(Outcome::HostFault, format!("no sandbox is free: {error}"));
    }
    Said::Trapped(match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(code)) => format!("it called exit({code}) instead of returning"),
        None => match error.downcast_ref::<Trap>() {
            Some(trap) => format!("{trap}{}", place(error)),
            None => format!("{}{}", error.root_cause(), place(error)),
        },
    })
}

/// The limit that an error speaks of. Two of the engine's limits have no type of their own; a test with a hostile component
/// keeps their words in step with the engine.
fn over_limit(error: &wasmtime::Error) -> Option<OverLimit> {
    if let Some(over) = error.downcast_ref::<OverLimit>() {
        return Some(*over);
    }
    if matches!(error.downcast_ref(), Some(Trap::OutOfFuel)) {
        return Some(OverLimit(Limit::Fuel));
    }
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return Some(OverLimit(Limit::Handles));
    }
    let words = error.root_cause().to_string();
    if words.contains("store handle limit exceeded") {
        return Some(OverLimit(Limit::Handles));
    }
    if words.contains("fuel allocated for hostcalls has been exhausted") {
        // Data on its way out of `run` has no frame of the guest under it; data of a host call has.
        let inside = error.downcast_ref::<WasmBacktrace>().is_some_and(|trace| !trace.frames().is_empty());
        return Some(OverLimit(if inside { Limit::Call } else { Limit::Output }));
    }
    None
}

/// The innermost functions, where the component has names.
fn place(error: &wasmtime::Error) -> String {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let names =
        trace.frames().iter().filter_map(|frame| frame.func_name()).take(MAX_FRAMES).collect::<Vec<_>>();
    if names.is_empty() { String::new() } else { format!(" (in {})", names.join(" < ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_count_as_many_as_were_open_at_once() {
        let mut table = ResourceTable::new();
        let first = table.push(1_u8).unwrap();
        let second = table.push(2_u8).unwrap();
        let third = table.push(3_u8).unwrap();
        for resource in [second, first, third] {
            table.delete(resource).unwrap();
        }
        table.push("one more").unwrap();
        assert_eq!(most_at_once(&mut table), 3);
        assert_eq!(most_at_once(&mut ResourceTable::new()), 0);
    }
}
