//! An assignment, made of what is known when it is sent.

use std::collections::HashSet;

use remit_job::expression::Root;
use remit_protocol::{
    AttemptId, Span, StepIndex, StepName, Timestamp,
    assignment::{Assignment, NodeWork},
    sealed::Sealed,
};

use super::{
    State,
    family::{Family, Lacking},
};
use crate::execution::{Live, Work};

impl State {
    /// The assignment of an open attempt; none if it does not count any more.
    ///
    /// # Errors
    /// What has to be read first.
    pub(super) fn assignment(
        &self,
        attempt: AttemptId,
        now: Timestamp,
    ) -> Result<Option<Assignment>, Vec<Lacking>> {
        let live = self.attempts.get(&attempt).and_then(|id| self.live.get(id));
        let Some((live, at)) = live.and_then(|live| Some((live, live.section_of(attempt)?))) else {
            return Ok(None);
        };
        let first = StepIndex(live.sections[at].record.place.steps().start);
        let family = self.family(live, first)?;
        let sealed = self.sealed.get(&live.id).map(Vec::as_slice).unwrap_or_default();
        Ok(assignment(live, sealed, family, attempt, now))
    }
}

/// The assignment of an open attempt. Of what was typed, it has what is sealed for its runner and used by its steps.
fn assignment(
    live: &Live,
    sealed: &[Sealed],
    (child_of, family): Family,
    attempt: AttemptId,
    now: Timestamp,
) -> Option<Assignment> {
    let at = live.section_of(attempt)?;
    let section = &live.sections[at];
    let record = section.open_attempt()?;
    let Work::Steps { first, count, effect, nodes } = &section.record.place.work else { return None };
    let read = steps_read(live, *first, *count);
    let nodes = nodes.as_ref().and(live.head.nodes.as_ref()).map(|selection| NodeWork {
        set: selection.set,
        ranges: record.ranges.clone(),
        threads: section.record.place.threads.unwrap_or(selection.threads),
        keep_going: selection.keep_going,
        strategy: selection.strategy,
    });
    let [begin, end] =
        [first.0, first.0.saturating_add(*count)].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
    let its = |one: &&Sealed| one.runner == record.runner && live.document.uses_secret(begin..end, &one.path);
    Some(Assignment {
        attempt,
        epoch: record.epoch,
        execution: live.id,
        project: live.head.project.clone(),
        job: live.head.job.clone(),
        revision: live.head.revision,
        document: live.head.document,
        job_note: live.head.note.clone(),
        section: record.section,
        first_step: *first,
        steps: *count,
        start: live.start_mode(at),
        effect: *effect,
        options: live.head.options.clone(),
        node_set: live.head.nodes.as_ref().map(|nodes| nodes.set),
        run_note: live.head.run_note.clone(),
        results: live.results_before(*first),
        approvals: live.approvals_before(*first),
        sealed: sealed.iter().filter(its).cloned().collect(),
        earlier: live.earlier(|name| read.contains(name)),
        nodes,
        time_left: live.deadline().map(|deadline| {
            Span::from_millis(u64::try_from(deadline.since(now).as_millis()).unwrap_or(u64::MAX))
        }),
        started_by: live.head.started_by.clone(),
        origin: live.head.origin.clone(),
        variables: live.head.variables.clone(),
        child_of,
        family,
    })
}

/// The steps of which the expressions of a section speak: only of these the lists of nodes are sent, which may be long.
fn steps_read(live: &Live, StepIndex(first): StepIndex, count: u32) -> HashSet<StepName> {
    let place = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
    let steps = live.document.steps.get(place(first)..place(first.saturating_add(count))).unwrap_or_default();
    let mut read = HashSet::new();
    for step in steps {
        let mut references: Vec<_> = step
            .components()
            .flat_map(|component| component.with.references())
            .map(|(_, reference)| reference)
            .collect();
        if let Some(expression) = step.when.expression() {
            references.extend(expression.references().iter().cloned());
        }
        references.extend(step.for_each.iter().flat_map(|items| items.references()).cloned());
        let steps = references.into_iter().filter(|reference| reference.root == Root::Steps);
        read.extend(steps.filter_map(|reference| reference.field.parse().ok()));
    }
    read
}
