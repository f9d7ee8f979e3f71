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
use serde_json::Value;
use tokio::time::Instant;

use super::{
    artifacts,
    prepare::{ReadyComponent, ReadyNode, ReadyStep, Section},
    record,
    voice::{Sink, Voice},
};
use crate::{
    audit::Audit,
    capability::context::StepContext,
    orchestrator::Client,
    report::redact::Redactor,
    sandbox::{Cancel, Ended, Invocation, Sandbox},
    secrets::Resolve,
};

/// Largest output that a report carries: an event must fit a request's body with what stands around it.
const MAX_OUTPUT: usize = 400 << 10;
/// Most items of a list for each of which a step is run.
const MAX_ITEMS: usize = 1000;
/// Most denials whose lines stand in a message.
const MAX_DENIALS: usize = 8;

/// What a run needs beside the step itself.
pub(super) struct Surroundings {
    /// Where it runs.
    pub(super) sandbox: Sandbox,
    /// Where secrets of runs come from that have none.
    pub(super) secrets: Arc<dyn Resolve>,
    /// Where what it keeps goes.
    pub(super) client: Arc<Client>,
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
    let Ended { outcome, output, nodes, artifacts, message, usage, .. } = ended;
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
        remit: (tries > 0).then_some(ready.own.remit_digest),
        artifacts: artifacts.into_iter().map(|kept| kept.artifact).collect(),
    })));
    Done { outcome, message, nodes }
}

/// One run of a component: of which step, on which node, for which item.
struct Run<'a> {
    section: &'a Section,
    ready: &'a ReadyStep,
    component: &'a ReadyComponent,
    node: Option<&'a ReadyNode>,
    /// What tells it from the step's other runs: the step's name, and what stands behind it.
    label: String,
    scope: &'a Scope,
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
    let label = ready.step.name.to_string();
    let one = Run { section, ready, component: &ready.own, node, label, scope: &sight.scope };
    match &ready.step.for_each {
        None => handled(one, around).await,
        Some(items) => match items.evaluate(&sight.scope) {
            Ok(Value::Array(items)) if items.len() <= MAX_ITEMS => each(one, items, around).await,
            Ok(Value::Array(items)) => {
                (0, refused(&format!("for_each: {} items, at most {MAX_ITEMS} are run", items.len())))
            }
            Ok(_) => (0, refused("for_each: this is no list")),
            Err(error) => (0, refused(&format!("for_each: {error}"))),
        },
    }
}

/// Runs a step for one item after the other, up to the first that fails; its output is the list of theirs.
async fn each(run: Run<'_>, items: Vec<Value>, around: &Surroundings) -> (u32, Ended) {
    let (mut tries, mut outputs) = (0, Vec::with_capacity(items.len()));
    let mut last = without_run(Outcome::Succeeded, String::new());
    for (at, item) in items.into_iter().enumerate() {
        let scope = run.scope.with_item(item);
        let label = format!("{}[{at}]", run.label);
        let (more, mut ended) = handled(Run { label, scope: &scope, ..run }, around).await;
        tries += more;
        artifacts::number(&mut ended, at);
        artifacts::join(&mut ended, std::mem::take(&mut last.artifacts));
        last = ended;
        if !last.outcome.is_good() {
            last.message = format!("item {at}: {}", last.message);
            return (tries, last);
        }
        outputs.push(last.output.take().unwrap_or(Value::Null));
    }
    last.output = Some(Value::Array(outputs));
    (tries, within_a_report(last))
}

/// Runs a component and, when it has failed, the step's error handler.
async fn handled(run: Run<'_>, around: &Surroundings) -> (u32, Ended) {
    let (tries, ended) = repeated(&run, around).await;
    let Some((handler, recover)) = &run.ready.on_error else { return (tries, ended) };
    if ended.outcome.is_good() || tries == 0 || around.cancel.is_cancelled() {
        return (tries, ended);
    }
    let scope = run.scope.with_error(ended.outcome, &ended.message);
    let label = format!("{}.on_error", run.label);
    let (_, mut handling) = repeated(&Run { component: handler, label, scope: &scope, ..run }, around).await;
    let mut ended = after_handler(ended, &handling, *recover);
    artifacts::join(&mut ended, std::mem::take(&mut handling.artifacts));
    (tries, ended)
}

/// What a failed step has come to after its error handler.
fn after_handler(failed: Ended, handling: &Ended, recover: bool) -> Ended {
    let first = failed.message.lines().next().unwrap_or_default();
    let handled = handling.outcome.is_good();
    if handled && recover {
        let message = format!("recovered by its error handler from {}: {first}", failed.outcome);
        return Ended { outcome: Outcome::Succeeded, output: None, message, ..failed };
    }
    let message = if handled {
        format!("{}\nIts error handler has run.", failed.message)
    } else {
        format!("{}\nIts error handler ended as {}: {}", failed.message, handling.outcome, handling.message)
    };
    Ended { message, ..failed }
}

async fn repeated(run: &Run<'_>, around: &Surroundings) -> (u32, Ended) {
    let input = match run.component.action.with.render(run.scope) {
        Ok(input) => input.to_string(),
        Err(error) => return (0, refused(&format!("with: {error}"))),
    };
    let own = std::ptr::eq(run.component, &run.ready.own);
    let rule = run.ready.step.retry.as_ref().filter(|_| own);
    let limit = run.ready.step.timeout.filter(|_| own);
    let mut tries = 0;
    loop {
        let Some(timeout) = time_for(limit, around.deadline) else {
            let message = "the job's time was over before this could begin".to_owned();
            return (tries, without_run(Outcome::TimedOut, message));
        };
        tries += 1;
        let mut ended = once(run, input.clone(), tries, timeout, around).await;
        let Some(wait) = retry::inside(ended.outcome, tries, rule) else {
            artifacts::bring(&mut ended, run.section.assignment.attempt, around).await;
            return (tries, ended);
        };
        let sink = run.sink(around);
        sink.write(
            Level::Warn,
            format!("try {tries} ended as {}; the next one begins in {wait}", ended.outcome),
            Vec::new(),
        );
        tokio::select! {
            () = tokio::time::sleep(wait.duration()) => {}
            () = around.cancel.cancelled() => {
                ended.artifacts.clear();
                return (tries, ended);
            }
        }
    }
}

impl Run<'_> {
    fn sink(&self, around: &Surroundings) -> Sink {
        Sink::new(Arc::clone(&around.voice), self.ready.index, self.node.map(|node| node.index))
    }
}

/// A run's own timeout, or what is left of the job's time, whichever is less; `None` when that is nothing.
fn time_for(own: Option<Span>, deadline: Option<Instant>) -> Option<Option<Span>> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left == Some(Duration::ZERO) {
        return None;
    }
    let left = left.map(|left| Span::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)));
    Some([own, left].into_iter().flatten().min())
}

async fn once(
    run: &Run<'_>,
    input: String,
    try_number: u32,
    timeout: Option<Span>,
    around: &Surroundings,
) -> Ended {
    // An error handler's lines are its own.
    let own = std::ptr::eq(run.component, &run.ready.own);
    let sink = run.sink(around);
    let sink = Arc::new(if own { sink.wanting(&run.ready.step.log) } else { sink });
    let execution = run.section.assignment.execution;
    let name = run.node.map(|node| node.node.name.as_str());
    let component = run.component;
    let invocation = Invocation {
        remit: Arc::clone(&component.remit),
        secrets: Arc::clone(&around.secrets),
        files: Arc::clone(&run.section.files),
        input,
        context: StepContext {
            execution,
            step: run.ready.step.name.clone(),
            node: run.node.map(|node| Arc::clone(&node.node)),
            try_number,
            idempotency_key: idempotency_key(execution, &run.label, name),
        },
        log: sink.clone(),
        cancel: around.cancel.clone(),
        redactor: Redactor::new(),
        timeout,
        realm: component.realm,
        admitted: component.admitted.clone(),
    };
    let prepared = &component.loaded.prepared;
    let mut ended = match component.loaded.manifest.kind {
        Kind::Step => around.sandbox.run(prepared, invocation).await,
        Kind::NodeSource => around.sandbox.discover(prepared, invocation).await,
    };
    sink.conclude();
    ended.output = sink.with_values(ended.output);
    ended.message = sink.masked(ended.message);
    record::run(&around.audit, run.section.assignment.attempt, run.ready, run.node, &ended);
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
    within_a_report(ended)
}

fn within_a_report(mut ended: Ended) -> Ended {
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
        artifacts: Vec::new(),
        message,
        denials: Vec::new(),
        revealed: Vec::new(),
        usage: None,
        took: Duration::ZERO,
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
        artifacts: Vec::new(),
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
