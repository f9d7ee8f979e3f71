//! How a run ended: one outcome for whatever a guest, a bound or the host did.

use std::time::Duration;

use remit_protocol::{Limits, Outcome, Span, json, report::Limit};
use serde_json::Value;
use tokio::time::Instant;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace, component::ResourceTableError};
use wasmtime_wasi::I32Exit;

use super::{
    Account, DescribeError, Description, Ended, OverLimit,
    drive::{Driven, Stop},
    prepare::{Answer, Ending},
    state::State,
};

/// Longest message of an end; a component's words beyond it are cut.
const MAX_MESSAGE: usize = 4 << 10;
/// Most functions named in the message of a trap.
const MAX_FRAMES: usize = 5;

/// The host could not do its part. Never the guest's fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostFault(pub String);

/// A run that the host could not begin.
pub(super) fn fault(message: &str) -> Ended {
    never_begun(Outcome::HostFault, message)
}

/// A run that was cancelled before its turn.
pub(super) fn cancelled() -> Ended {
    never_begun(Outcome::Cancelled, "it was cancelled before it began")
}

fn never_begun(outcome: Outcome, message: &str) -> Ended {
    Ended {
        outcome,
        output: None,
        nodes: None,
        message: message.to_owned(),
        denials: Vec::new(),
        revealed: Vec::new(),
        usage: None,
    }
}

/// Takes a store apart when its call is over.
pub(super) async fn end(mut store: Store<State>, driven: Driven) -> Ended {
    let (wall, finished) = close(&mut store);
    let state = store.data_mut();
    let (mut outcome, mut message, output) = verdict(state, driven);
    // After the verdict, which charges the output.
    let usage = state.account.usage(wall);
    if let (Outcome::Succeeded, Err(OverLimit(limit))) = (outcome, finished) {
        (outcome, message) = (Outcome::OverLimit(limit), OverLimit(limit).to_string());
    }
    let succeeded = outcome == Outcome::Succeeded;
    let nodes = state.found.take().filter(|_| succeeded).map(crate::capability::nodes::Found::into_set);
    let message = state.log.presentable(&message);
    let message = message[..message.floor_char_boundary(MAX_MESSAGE)].to_owned();
    let ended = Ended {
        outcome,
        output: output.filter(|_| succeeded),
        nodes,
        message,
        denials: state.account.take_denials(),
        revealed: state.account.take_revealed(),
        usage: Some(usage),
    };
    let scratch = state.scratch.take();
    drop(store);
    if let Some(scratch) = scratch {
        scratch.remove().await;
    }
    ended
}

/// What `describe` came to.
pub(super) async fn description(
    mut store: Store<State>,
    driven: Driven,
) -> Result<Description, DescribeError> {
    let most = usize::try_from(store.data().account.allowed().output.bytes()).unwrap_or(usize::MAX);
    let text = match driven {
        Ok(Ok(Answer::Described(text))) => text,
        other => return Err(DescribeError(verdict(store.data_mut(), other).1)),
    };
    drop(store);
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

/// Flushes what was held back and counts what is still open; gives the time that the run took.
fn close(store: &mut Store<State>) -> (Span, Result<(), OverLimit>) {
    let state = store.data_mut();
    let finished = state.log.finish();
    if let Some((done, total)) = state.progress.take() {
        state.log.progress(done, total);
    }
    let open = u64::try_from(state.table.iter_mut().count()).unwrap_or(u64::MAX);
    state.account.set(Limit::Handles, open);
    let wall = Instant::now().saturating_duration_since(state.begun);
    let wall = Span::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
    (wall, finished)
}

type Verdict = (Outcome, String, Option<Value>);

fn verdict(state: &State, driven: Driven) -> Verdict {
    let allowed = state.account.allowed();
    let answer = match driven {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            let (outcome, message) = broke_off(&state.account, &error);
            return (outcome, message, None);
        }
        Err(stop) => {
            let (outcome, message) = stopped(allowed, stop, state.deadline.duration_since(state.begun));
            return (outcome, message, None);
        }
    };
    match answer {
        Answer::Discovered | Answer::Described(_) => (Outcome::Succeeded, String::new(), None),
        Answer::Output(text) => output(state, &text),
        Answer::Ended(Ending::Cancelled) if state.cancel.is_cancelled() => {
            (Outcome::Cancelled, "the step ended because it was cancelled".to_owned(), None)
        }
        Answer::Ended(Ending::Cancelled) => {
            (Outcome::Failed, "the step says that it was cancelled, and nobody cancelled it".to_owned(), None)
        }
        Answer::Ended(Ending::Failed { message, fields }) => {
            let details = fields.iter().map(|(name, value)| format!("\n{name}: {value}")).collect::<String>();
            let message = format!("{message}{details}");
            match state.account.first_over() {
                Some(limit) => (Outcome::OverLimit(limit), format!("{}: {message}", OverLimit(limit)), None),
                None => (Outcome::Failed, message, None),
            }
        }
    }
}

fn output(state: &State, text: &str) -> Verdict {
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if let Err(OverLimit(limit)) = state.account.charge(Limit::Output, length) {
        let most = state.account.allowed().output;
        let message = format!("the output has {length} bytes, its limit is {most}");
        return (Outcome::OverLimit(limit), message, None);
    }
    match json::value_from_slice(text.as_bytes(), text.len()) {
        Ok(mut value) => {
            state.redactor.json(&mut value);
            (Outcome::Succeeded, String::new(), Some(value))
        }
        Err(error) => (Outcome::Failed, format!("the step's output is not acceptable JSON: {error}"), None),
    }
}

fn stopped(allowed: &Limits, stop: Stop, wall: Duration) -> (Outcome, String) {
    let span =
        |duration: Duration| Span::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
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
fn broke_off(account: &Account, error: &wasmtime::Error) -> (Outcome, String) {
    if let Some(OverLimit(limit)) = over_limit(error) {
        let _ = account.over(limit);
        return (Outcome::OverLimit(limit), OverLimit(limit).to_string());
    }
    if let Some(HostFault(message)) = error.downcast_ref() {
        return (Outcome::HostFault, message.clone());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return (Outcome::HostFault, format!("no sandbox is free: {error}"));
    }
    let reason = match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(code)) => format!("it called exit({code}) instead of returning"),
        None => match error.downcast_ref::<Trap>() {
            Some(trap) => format!("{trap}{}", place(error)),
            None => format!("{}{}", error.root_cause(), place(error)),
        },
    };
    match account.first_over() {
        Some(limit) => (Outcome::OverLimit(limit), format!("{}: {reason}", OverLimit(limit))),
        None => (Outcome::Trapped, format!("the component broke off: {reason}")),
    }
}

/// The limit that an error speaks of. Two of the engine's limits have no type of their own; a test with a hostile component
/// keeps their words in step with the engine.
fn over_limit(error: &wasmtime::Error) -> Option<OverLimit> {
    if let Some(over) = error.downcast_ref::<OverLimit>() {
        return Some(*over);
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
        return Some(OverLimit(if inside { Limit::Memory } else { Limit::Output }));
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
