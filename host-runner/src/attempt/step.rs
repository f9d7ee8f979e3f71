//! One step on one node, or without a node: its condition, its input, its tries.

use std::{sync::Arc, time::Duration};

use remit_job::{condition, expression::Scope, retry};
use remit_protocol::{
    Digest, ExecutionId, NodeIndex, Outcome, RefusalCode, Span, StepIndex, Timestamp,
    assignment::StepView,
    manifest::Kind,
    node::NodeSet,
    report::{Event, Level, Limit, StepEnded},
};
use tokio::time::Instant;

use super::{
    prepare::{ReadyNode, ReadyStep, Section},
    record,
    voice::{Sink, Voice},
};
use crate::{
    audit::Audit,
    capability::context::StepContext,
    sandbox::{Cancel, Ended, Invocation, Sandbox},
    secrets::Resolve,
};

/// Largest output that a report carries: an event must fit a request's body with what stands around it.
const MAX_OUTPUT: usize = 400 << 10;
/// Most denials whose lines stand in a message.
const MAX_DENIALS: usize = 8;

/// What a run needs beside the step itself.
pub(super) struct Surroundings {
    /// Where it runs.
    pub(super) sandbox: Sandbox,
    /// Where its secrets come from.
    pub(super) secrets: Arc<dyn Resolve>,
    /// Where its words go.
    pub(super) voice: Arc<Voice>,
    /// Where the owner reads what was denied and revealed.
    pub(super) audit: Arc<Audit>,
    /// Ends it.
    pub(super) cancel: Cancel,
    /// When the job's time is over.
    pub(super) deadline: Option<Instant>,
}

/// What has become of the steps of a section so far, as the next one sees it.
pub(super) struct Sight {
    /// Outcomes of all steps before.
    pub(super) earlier: Vec<Outcome>,
    /// What expressions see.
    pub(super) scope: Scope,
    /// The section has failed elsewhere: what runs on success is not begun.
    pub(super) after_failure: bool,
}

/// What came of a step.
pub(super) struct Done {
    /// How.
    pub(super) outcome: Outcome,
    /// Why, in words.
    pub(super) message: String,
    /// What a node source found.
    pub(super) nodes: Option<NodeSet>,
}

/// Runs a step, if its condition says so, and reports its end. `sight` then holds what it came to.
pub(super) async fn run(
    section: &Section,
    ready: &ReadyStep,
    node: Option<&ReadyNode>,
    sight: &mut Sight,
    around: &Surroundings,
) -> Done {
    let started = (around.voice.clock())();
    let (tries, ended) = tried(section, ready, node, sight, around).await;
    let Ended { outcome, output, nodes, message, usage, .. } = ended;
    let view = StepView { outcome, outputs: output.clone(), nodes: None };
    sight.earlier.push(outcome);
    sight.scope.set_step(&ready.step.name, &view);
    around.voice.event(Event::StepEnded(Box::new(StepEnded {
        step: ready.index,
        node: node.map(|node| node.index),
        outcome,
        tries,
        started,
        ended: (around.voice.clock())(),
        output,
        message: message.clone(),
        usage: usage.map(Box::new),
        remit: (tries > 0).then_some(ready.remit_digest),
    })));
    Done { outcome, message, nodes }
}

async fn tried(
    section: &Section,
    ready: &ReadyStep,
    node: Option<&ReadyNode>,
    sight: &Sight,
    around: &Surroundings,
) -> (u32, Ended) {
    if around.cancel.is_cancelled() {
        return (0, without_run(Outcome::NotStarted, String::new()));
    }
    let earlier = sight.earlier.iter().copied();
    let failed = sight.after_failure.then_some(Outcome::NotStarted);
    match condition::holds(&ready.step.when, earlier.chain(failed), &sight.scope) {
        Ok(true) => {}
        Ok(false) if sight.after_failure => return (0, without_run(Outcome::NotStarted, String::new())),
        Ok(false) => return (0, without_run(Outcome::Skipped, String::new())),
        Err(error) => return (0, refused(&format!("when: {error}"))),
    }
    let input = match ready.action().with.render(&sight.scope) {
        Ok(input) => input.to_string(),
        Err(error) => return (0, refused(&format!("with: {error}"))),
    };
    let mut tries = 0;
    loop {
        let Some(timeout) = time_for(ready, around.deadline) else {
            let message = "the job's time was over before this could begin".to_owned();
            return (tries, without_run(Outcome::TimedOut, message));
        };
        tries += 1;
        let ended = once(section, ready, node, input.clone(), tries, timeout, around).await;
        let Some(wait) = retry::inside(ended.outcome, tries, ready.step.retry.as_ref()) else {
            return (tries, ended);
        };
        let sink = Sink::new(Arc::clone(&around.voice), ready.index, node.map(|node| node.index));
        sink.write(
            Level::Warn,
            format!("try {tries} ended as {}; the next one begins in {wait}", ended.outcome),
            Vec::new(),
        );
        tokio::select! {
            () = tokio::time::sleep(wait.duration()) => {}
            () = around.cancel.cancelled() => return (tries, ended),
        }
    }
}

/// The step's own timeout, or what is left of the job's time, whichever is less; `None` when that is nothing.
fn time_for(ready: &ReadyStep, deadline: Option<Instant>) -> Option<Option<Span>> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left == Some(Duration::ZERO) {
        return None;
    }
    let left = left.map(|left| Span::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)));
    Some([ready.step.timeout, left].into_iter().flatten().min())
}

async fn once(
    section: &Section,
    ready: &ReadyStep,
    node: Option<&ReadyNode>,
    input: String,
    try_number: u32,
    timeout: Option<Span>,
    around: &Surroundings,
) -> Ended {
    let sink = Arc::new(Sink::new(Arc::clone(&around.voice), ready.index, node.map(|node| node.index)));
    let execution = section.assignment.execution;
    let name = node.map(|node| node.node.name.as_str());
    let invocation = Invocation {
        remit: Arc::clone(&ready.remit),
        secrets: Arc::clone(&around.secrets),
        input,
        context: StepContext {
            execution,
            step: ready.step.name.clone(),
            node: node.map(|node| Arc::clone(&node.node)),
            try_number,
            idempotency_key: idempotency_key(execution, ready.step.name.as_str(), name),
        },
        log: sink.clone(),
        cancel: around.cancel.clone(),
        redactor: section.redactor.clone(),
        timeout,
    };
    let prepared = &ready.loaded.prepared;
    let ended = match ready.loaded.manifest.kind {
        Kind::Step => around.sandbox.run(prepared, invocation).await,
        Kind::NodeSource => around.sandbox.discover(prepared, invocation).await,
    };
    record::run(&around.audit, section.assignment.attempt, ready, node, &ended);
    presentable(ended, &sink)
}

/// What the record keeps of an end: within the size of a report, and with what was refused on the way.
fn presentable(mut ended: Ended, sink: &Sink) -> Ended {
    for name in &ended.revealed {
        sink.write(
            Level::Warn,
            format!("the component was shown the value of the secret {name}"),
            Vec::new(),
        );
    }
    if !ended.outcome.is_good() {
        for denial in ended.denials.iter().take(MAX_DENIALS) {
            let line = denial.to_string();
            if !ended.message.contains(&line) {
                ended.message.push('\n');
                ended.message.push_str(&line);
            }
        }
    }
    let size = ended.output.as_ref().map_or(0, |output| output.to_string().len());
    if size > MAX_OUTPUT {
        ended.outcome = Outcome::OverLimit(Limit::Output);
        ended.output = None;
        ended.message = format!("the output has {size} bytes; a report carries at most {MAX_OUTPUT}");
    }
    ended
}

/// The same for every try of this step on this node in this execution, also in a later attempt, and for nothing else.
pub fn idempotency_key(execution: ExecutionId, step: &str, node: Option<&str>) -> String {
    let kind = if node.is_some() { "node" } else { "once" };
    Digest::of(format!("{execution}\n{step}\n{kind}\n{}", node.unwrap_or_default()).as_bytes()).to_hex()
}

fn refused(detail: &str) -> Ended {
    let code = RefusalCode::Parameter;
    without_run(Outcome::Refused(code), format!("{} {detail}. {}", code.meaning(), code.remedy()))
}

fn without_run(outcome: Outcome, message: String) -> Ended {
    Ended {
        outcome,
        output: None,
        nodes: None,
        message,
        denials: Vec::new(),
        revealed: Vec::new(),
        usage: None,
    }
}

/// The end of a step that was not run, or not reached.
pub(super) fn not_run(
    step: StepIndex,
    node: Option<NodeIndex>,
    outcome: Outcome,
    message: String,
    now: Timestamp,
) -> Event {
    Event::StepEnded(Box::new(StepEnded {
        step,
        node,
        outcome,
        tries: 0,
        started: now,
        ended: now,
        output: None,
        message,
        usage: None,
        remit: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_names_one_run() {
        let id = ExecutionId::from_u128;
        let key = idempotency_key(id(1), "drain", Some("web1"));
        assert_eq!(key, idempotency_key(id(1), "drain", Some("web1")));
        assert!(key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric()));
        for other in [
            idempotency_key(id(2), "drain", Some("web1")),
            idempotency_key(id(1), "restart", Some("web1")),
            idempotency_key(id(1), "drain", Some("web2")),
            idempotency_key(id(1), "drain", None),
            idempotency_key(id(1), "drain", Some("")),
        ] {
            assert_ne!(key, other);
        }
    }
}
