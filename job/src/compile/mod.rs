//! From a job file to the job document: components by digest, grants in full, retry classes computed, everything checked.

mod discovery;
mod grant;
mod input;

use remit_protocol::{
    ComponentSelector, ComponentVersion, Digest, ProjectName, Span,
    endpoint::Fault,
    limits::MAX_JOB,
    manifest::{Kind, Manifest},
};

pub use discovery::discovery;

use crate::{
    check,
    document::{Action, ComponentAction, Document, OnError, Per, Step, VERSION},
    source::{ComponentSource, Does, JobSource, StepSource},
};

/// The component that a selector stands for now.
#[derive(Debug, Clone)]
pub struct ResolvedComponent {
    /// Its version.
    pub version: ComponentVersion,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Manifest,
}

/// Compiles a job, or says everything that is wrong with it, in the file's order.
///
/// `components` gives the newest component that a selector selects, of those that the caller trusts.
pub fn compile(
    source: &JobSource,
    project: &ProjectName,
    components: &dyn Fn(&ComponentSelector) -> Option<ResolvedComponent>,
) -> Result<Document, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut steps = Vec::with_capacity(source.steps.len());
    for step in &source.steps {
        steps.extend(compile_step(step, components, &mut faults));
    }
    let complete = steps.len() == source.steps.len();
    let document = Document {
        v: VERSION,
        project: project.clone(),
        job: source.job.clone(),
        group: source.group.clone(),
        description: source.description.clone(),
        runner: source.runner.clone(),
        options: source.options.clone(),
        nodes: source.nodes.clone(),
        strategy: source.strategy,
        timeout: source.timeout.clone(),
        concurrency: source.concurrency.clone(),
        log_limit: source.log_limit,
        retry: source.retry.clone(),
        schedules: source.schedules.clone(),
        notify: source.notify.clone(),
        steps,
    };
    // A step that could not be compiled is missing: what others say about it would be called wrong.
    if complete {
        faults.extend(check::document(&document));
    }
    if faults.is_empty() {
        faults.extend(reread(&document));
    }
    for fault in &mut faults {
        source.locate(fault);
    }
    faults.sort_by_key(|fault| (fault.line, fault.column));
    if faults.is_empty() { Ok(document) } else { Err(faults) }
}

fn fault(place: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault { line: None, column: None, place: place.into(), message: message.into(), remedy: remedy.into() }
}

/// What will be signed is what the document's own reader accepts: not larger, not deeper, the same when it is read.
fn reread(document: &Document) -> Vec<Fault> {
    let bytes = document.to_vec();
    if bytes.len() > MAX_JOB {
        let message = format!("the compiled job has {} bytes, at most {MAX_JOB} are allowed", bytes.len());
        return vec![fault("steps", message, "split the job into several")];
    }
    match Document::from_slice(&bytes) {
        Ok(again) if again == *document => Vec::new(),
        Ok(_) => vec![fault(
            "steps",
            "the compiled job reads differently than it was written",
            "report this as a bug",
        )],
        Err(invalid) => invalid.0,
    }
}

fn compile_step(
    source: &StepSource,
    components: &dyn Fn(&ComponentSelector) -> Option<ResolvedComponent>,
    faults: &mut Vec<Fault>,
) -> Option<Step> {
    let mut component = |place: String, own: &ComponentSource| {
        // The time of a step is its component's; a handler has its own.
        let timeout = source.timeout.filter(|_| matches!(source.does, Does::Component(_)));
        compile_component(own, source.per, timeout, &place, components, faults)
    };
    let place = format!("steps.{}", source.name);
    let action = match &source.does {
        Does::Component(own) => {
            component(place.clone(), own).map(|action| Action::Component(Box::new(action)))
        }
        Does::Gate(gate) => Some(Action::Gate(gate.clone())),
        Does::Halt(halt) => Some(Action::Halt(halt.clone())),
        Does::Job(job) => Some(Action::Job(job.clone())),
    };
    let on_error = match &source.on_error {
        None => None,
        Some((own, recover)) => {
            let run = Box::new(component(format!("{place}.on_error"), own)?);
            Some(OnError { recover: *recover, run })
        }
    };
    Some(Step {
        name: source.name.clone(),
        per: source.per,
        when: source.when.clone(),
        timeout: source.timeout,
        retry: source.retry.clone(),
        group: source.group,
        for_each: source.for_each.clone(),
        log: source.log.clone(),
        on_error,
        action: action?,
    })
}

fn compile_component(
    source: &ComponentSource,
    per: Per,
    timeout: Option<Span>,
    place: &str,
    components: &dyn Fn(&ComponentSelector) -> Option<ResolvedComponent>,
    faults: &mut Vec<Fault>,
) -> Option<ComponentAction> {
    let selected = |component: &ResolvedComponent| {
        component.manifest.name == *source.uses.name()
            && component.manifest.version == component.version
            && source.uses.selects(&component.version)
    };
    let Some(component) = components(&source.uses).filter(selected) else {
        faults.push(fault(
            format!("{place}.uses"),
            format!("there is no component {}", source.uses),
            "check name and version (`remit component list`), or publish it with `remit step publish`",
        ));
        return None;
    };
    let manifest = &component.manifest;
    if manifest.kind != Kind::Step {
        faults.push(fault(
            format!("{place}.uses"),
            format!("{} is a node source, not a step", source.uses),
            "use a step here",
        ));
        return None;
    }
    let before = faults.len();
    let grant = grant::expand(source, per, manifest, place, faults);
    input::check(source.with.source(), &manifest.input, &format!("{place}.with"), faults);
    let limits = manifest.limits.lowered(&grant.limits);
    if let Some(timeout) = timeout.filter(|timeout| *timeout > limits.wall) {
        faults.push(fault(
            format!("{place}.timeout"),
            format!("{timeout} is longer than {}, which is all that {} may take", limits.wall, source.uses),
            format!("write {} or less", limits.wall),
        ));
    }
    if faults.len() > before {
        return None;
    }
    Some(ComponentAction {
        name: manifest.name.clone(),
        version: component.version,
        digest: component.digest,
        kind: manifest.kind,
        with: source.with.clone(),
        secrets: source.secrets.clone(),
        chosen: source.chosen.clone(),
        effect: grant.effect(manifest.effect),
        limits,
        grant,
    })
}

#[cfg(test)]
mod tests;
