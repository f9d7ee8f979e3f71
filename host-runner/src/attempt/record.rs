//! What an attempt leaves in the owner's record.

use remit_protocol::{
    AttemptId, ExecutionId, JobName, Outcome, ProjectName, StepName,
    assignment::{Assignment, StartMode},
};

use super::prepare::{NotReady, ReadyComponent, ReadyNode, ReadyStep, Section};
use crate::{
    audit::{Accepted, AcceptedStep, Audit, CannotRecord, Event},
    sandbox::Ended,
};

/// Which attempt is spoken of.
pub(super) struct Of {
    attempt: AttemptId,
    execution: ExecutionId,
    project: ProjectName,
    job: JobName,
}

impl Of {
    pub(super) fn assignment(assignment: &Assignment) -> Self {
        Self {
            attempt: assignment.attempt,
            execution: assignment.execution,
            project: assignment.project.clone(),
            job: assignment.job.clone(),
        }
    }

    pub(super) fn ended(&self, outcome: Outcome) -> Event {
        Event::Ended { attempt: self.attempt, outcome }
    }

    pub(super) fn refused(&self, not: &NotReady) -> Event {
        let code = match not.outcome {
            Outcome::Refused(code) => Some(code),
            _ => None,
        };
        Event::Refused {
            attempt: self.attempt,
            execution: self.execution,
            project: self.project.clone(),
            job: self.job.clone(),
            code,
            detail: not.message.clone(),
        }
    }
}

/// Records a section that is accepted. What must not be run twice, and what uses a secret, waits until that is on disk.
pub(super) async fn accept(audit: &Audit, section: &Section) -> Result<(), CannotRecord> {
    let assignment = &section.assignment;
    for ready in section.steps.iter().flat_map(ReadyStep::components) {
        audit.remit(ready.remit_digest, &ready.remit);
    }
    let each = section.steps.iter().flat_map(|step| step.components().map(move |ready| (step, ready)));
    let steps: Vec<AcceptedStep> = each.map(|(step, ready)| accepted(&step.step.name, ready)).collect();
    let secret = steps.iter().any(|step| !step.secrets.is_empty());
    let accepted = Event::Accepted(Box::new(Accepted {
        attempt: assignment.attempt,
        epoch: assignment.epoch,
        execution: assignment.execution,
        project: assignment.project.clone(),
        job: assignment.job.clone(),
        revision: assignment.revision,
        document: assignment.document.digest,
        started_by: assignment.started_by.clone(),
        origin: assignment.origin.clone(),
        nodes: section.nodes.len(),
        steps,
    }));
    if secret || assignment.start == StartMode::Guarded {
        return audit.durable(accepted).await;
    }
    audit.check()?;
    audit.note(accepted);
    Ok(())
}

fn accepted(step: &StepName, ready: &ReadyComponent) -> AcceptedStep {
    let action = &ready.action;
    let mut secrets: Vec<_> = ready.remit.secrets().into_iter().map(|secret| secret.path.clone()).collect();
    secrets.sort();
    secrets.dedup();
    AcceptedStep {
        step: step.clone(),
        component: action.name.clone(),
        version: action.version.clone(),
        digest: action.digest,
        note: ready.loaded.note,
        signers: ready.loaded.signers.clone(),
        verdicts: ready.loaded.verdicts.clone(),
        exempt: ready.loaded.exempt.clone(),
        remit: ready.remit_digest,
        secrets,
        typed: ready.typed.clone(),
    }
}

/// Records what a run asked for in vain, and which values it has seen.
pub(super) fn run(
    audit: &Audit,
    attempt: AttemptId,
    ready: &ReadyStep,
    node: Option<&ReadyNode>,
    ended: &Ended,
) {
    let node = node.map(|node| node.node.name.to_string());
    if !ended.denials.is_empty() {
        let denials = ended.denials.clone();
        audit.note(Event::Denied { attempt, step: ready.step.name.clone(), node: node.clone(), denials });
    }
    if !ended.revealed.is_empty() {
        let secrets = ended.revealed.clone();
        audit.note(Event::Revealed { attempt, step: ready.step.name.clone(), node, secrets });
    }
}
