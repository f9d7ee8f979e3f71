//! What a signed run is held to: who wanted it, what came before, and who agreed on the way.
//!
//! The orchestrator says what earlier steps came to; where the owner wants signed runs, nothing of that is believed. The
//! results that runners signed are put together again, every condition before this section is evaluated anew, and the
//! section is accepted only where it is really due. *Invariant:* no outcome that decides over a step comes from a word that
//! nobody signed.

mod family;
mod judge;
mod result;
#[cfg(test)]
mod tests;
mod walk;

use std::{collections::BTreeMap, sync::Arc};

use remit_job::{
    document::Document, expression::Scope, filter::NodeFilter, options, schedule::ON_TIME, trigger,
};
use remit_protocol::{RefusalCode, ScheduleName, Timestamp, assignment::Assignment, node::Node};
use remit_signing::{
    JobPath,
    note::UnverifiedNote,
    policy::{Firing, Wanted},
    run::Order,
    verify::{self, VerifiedRun},
};

pub(super) use self::{family::Family, result::Signer};
use self::{family::Member, judge::Judge};
use super::prepare::NotReady;
use crate::{attempt::Workshop, config::SignedKind, trust::Belief};

/// What an assignment says it is a part of.
pub(super) fn of(assignment: &Assignment) -> Order {
    Order {
        run: assignment.execution,
        job: JobPath { project: assignment.project.clone(), job: assignment.job.clone() },
        definition: assignment.document,
        options: assignment.options.sized(),
        nodes: assignment.node_set,
    }
}

/// What expressions see before the job's first step: where runs have to be signed, nothing that nobody signed.
pub(super) fn before_steps(workshop: &Workshop, assignment: &Assignment, document: &Document) -> Scope {
    if workshop.require_signed.contains(&SignedKind::Run) && !document.is_discovery() {
        Scope::signed(&assignment.project, assignment.execution, &assignment.job, &assignment.options)
    } else {
        Scope::before_steps(assignment)
    }
}

/// Checks what the owner wants to see signed about a run. What earlier steps came to is then what runners signed.
///
/// # Errors
/// `E_RUN`, `E_ORDER`, `E_GATE`, or whatever is wrong with a note.
pub(super) fn check(
    workshop: &Workshop,
    assignment: &mut Assignment,
    (document, before): (&Document, &Scope),
    family: &Family,
    belief: &Belief,
) -> Result<Option<Wanted>, NotReady> {
    let required = |kind| workshop.require_signed.contains(&kind);
    let (runs, gates) = (required(SignedKind::Run), required(SignedKind::Approve));
    if !runs && !gates || document.is_discovery() {
        return Ok(None);
    }
    if assignment.nodes.as_ref().is_some_and(|work| Some(work.set) != assignment.node_set) {
        return Err(NotReady::refused(RefusalCode::Nodes, "The section has other nodes than the run."));
    }
    let (run, earlier) = {
        let member = Member::assigned(assignment, (document, before), family);
        let judge = Judge::new(workshop, belief, family, &member)?;
        let run = runs.then(|| judge.why(&member, 0)).transpose()?;
        let (earlier, _) = judge.walk(&member, run.as_ref(), 0)?.to_the_section(assignment.first_step)?;
        (run, earlier)
    };
    if runs {
        assignment.earlier = earlier;
    }
    Ok(run)
}

/// Somebody who wanted this run.
fn signed(note: &str, workshop: &Workshop, order: &Order, belief: &Belief) -> Result<VerifiedRun, NotReady> {
    let run = verify::run(note.as_bytes(), &belief.policy, belief.now)?;
    let says = run.note();
    if says.order != *order {
        let detail = format!("The note is about {}.", difference(&says.order, order));
        return Err(NotReady::refused(RefusalCode::RunUnsigned, detail));
    }
    if says.runner.is_some_and(|runner| runner != workshop.itself.runner) {
        return Err(NotReady::refused(RefusalCode::RunUnsigned, "The note is for another runner."));
    }
    Ok(run)
}

/// A run that a schedule of the signed job began: within what the author signed, at one of its times, and not long ago.
fn scheduled(
    (name, due): (&ScheduleName, Timestamp),
    job_is_signed: bool,
    member: &Member<'_>,
    belief: &Belief,
) -> Result<Firing, NotReady> {
    let wrong =
        |what: &str| Err(NotReady::refused(RefusalCode::RunUnsigned, format!("The schedule {name} {what}.")));
    let (true, Some(note)) = (job_is_signed, member.job_note) else {
        return wrong("counts only where jobs have to be signed, too");
    };
    let Some(schedule) = member.document.schedules.iter().find(|schedule| schedule.name == *name) else {
        return wrong("is not in the signed job");
    };
    if !schedule.fires_at(due) {
        return wrong(&format!("has no time {due}"));
    }
    if due.since(belief.now) > ON_TIME || belief.now.since(due) >= Wanted::LATEST {
        return wrong(&format!("was due at {due}, and it is {}", belief.now));
    }
    let given: serde_json::Map<String, serde_json::Value> =
        schedule.options.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    let outputs = BTreeMap::new();
    let outside = options::Outside { scope: &member.scope, nodes: &[], outputs: &outputs };
    match options::check(&member.document.options, &given, &outside) {
        Ok(values) if values == **member.options => {}
        Ok(_) => return wrong("has other option values in the signed job"),
        // Defaults that depend on the clock or on nodes are the orchestrator's word.
        Err(_) => return wrong("leaves options to be filled in that nobody signed: name their values in it"),
    }
    let note = UnverifiedNote::parse(note.as_bytes())?;
    Ok(Firing {
        run: member.order.run,
        job: member.order.job.to_string(),
        schedule: name.to_string(),
        due,
        note: note.identity(),
    })
}

/// Nodes that nobody signed are at least such as the signed job's filter chooses, or the one that stands in its place.
pub(super) fn nodes_fit(
    document: &Document,
    scope: &Scope,
    instead: Option<NodeFilter>,
    nodes: &[Arc<Node>],
) -> Result<(), NotReady> {
    if nodes.is_empty() {
        return Ok(());
    }
    let bad = |detail: String| NotReady::refused(RefusalCode::Nodes, detail);
    let resolved = trigger::resolve(document, scope).map_err(|faults| {
        let first = faults.first().map(|fault| fault.message.clone()).unwrap_or_default();
        bad(format!("The job's filter cannot be evaluated: {first}."))
    })?;
    let chosen = resolved.nodes.map(|chosen| match instead {
        Some(filter) => chosen.with_filter(filter),
        None => chosen,
    });
    let given: Vec<Node> = nodes.iter().map(|node| node.as_ref().clone()).collect();
    if chosen.is_some_and(|chosen| chosen.covers(&given)) {
        Ok(())
    } else {
        Err(bad("The signed job's filter chooses other nodes.".to_owned()))
    }
}

/// In what two orders differ, in words.
fn difference(signed: &Order, assigned: &Order) -> &'static str {
    match () {
        () if signed.job != assigned.job => "another job",
        () if signed.run != assigned.run => "another run",
        () if signed.definition != assigned.definition => "another version of the job",
        () if signed.options != assigned.options => "other option values",
        () => "other nodes",
    }
}
