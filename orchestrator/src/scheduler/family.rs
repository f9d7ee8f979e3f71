//! What a runner sees of a family of executions: where runs are signed, it asks why a child is wanted and what the jobs before
//! a section came to, and believes neither from us. Nobody else pays for it.
//!
//! Executions above a section are live; those below it have ended, and are read from the store once for each step that ran
//! them, for as long as that step's execution lives.

use std::collections::BTreeMap;

use remit_job::{
    children::MAX_DEPTH,
    document::{Action, Document},
};
use remit_protocol::{
    AttemptId, Digest, ExecutionId, Origin, SectionNumber, StepIndex, StepName,
    assignment::{ChildOf, Kin, MAX_KIN, StepView},
    digest::Sized,
};

use super::{Scheduler, State};
use crate::{
    execution::{Head, Live, Work},
    store::{ExecutionRecord, StoreError},
};

/// A section whose children have to be read first, and its step.
pub(super) type Lacking = (ExecutionId, SectionNumber, StepIndex);

/// What an assignment says of its family: for what the execution is, and its kin.
pub(super) type Family = (Option<ChildOf>, Vec<Kin>);

impl State {
    /// Whether somebody signed this execution, or what began its family.
    pub(super) fn is_signed(&self, head: &Head) -> bool {
        self.root(head).run_note.is_some()
    }

    /// Whether runners may hold this execution to an order that somebody signed: as a run, or as a job with its schedule.
    pub(super) fn is_followed(&self, head: &Head) -> bool {
        let root = self.root(head);
        root.run_note.is_some() || (root.note.is_some() && matches!(root.origin, Origin::Schedule { .. }))
    }

    /// What began the family.
    fn root<'a>(&'a self, head: &'a Head) -> &'a Head {
        let above = |head: &&'a Head| Some(self.live.get(&head.parent?.execution)?.head.as_ref());
        std::iter::successors(Some(head), above).take(MAX_DEPTH + 1).last().unwrap_or(head)
    }

    /// The family of a section that begins with this step.
    ///
    /// # Errors
    /// What of it has to be read first.
    pub(super) fn family(&self, live: &Live, first: StepIndex) -> Result<Family, Vec<Lacking>> {
        if !self.is_followed(&live.head) {
            return Ok((None, Vec::new()));
        }
        let (mut kin, mut lacking) = (Vec::new(), Vec::new());
        for (at, (one, step)) in self.line(live, first).into_iter().enumerate() {
            if at > 0 {
                kin.push(of_live(one, step, self.place(&one.head).map(|(place, _)| place)));
            }
            for (number, jobs) in ran_before(one, step) {
                match self.kin.get(&one.id).and_then(|known| known.get(&number)) {
                    Some(known) => kin.extend(known.iter().cloned()),
                    None => lacking.push((one.id, number, jobs)),
                }
            }
        }
        // One more than a runner looks at, so that it says that they are too many.
        kin.truncate(MAX_KIN + 1);
        match lacking.is_empty() {
            true => Ok((self.place(&live.head).map(|(place, _)| place), kin)),
            false => Err(lacking),
        }
    }

    /// For what an execution is, and the one above it.
    fn place(&self, head: &Head) -> Option<(ChildOf, &Live)> {
        let parent = head.parent?;
        let above = self.live.get(&parent.execution)?;
        let step = StepIndex(above.section(parent.section)?.record.place.steps().start);
        Some((ChildOf { execution: above.id, step, item: parent.item }, above))
    }

    /// An execution at this step, and each one above it at the step that wants the one below.
    fn line<'a>(&'a self, live: &'a Live, first: StepIndex) -> Vec<(&'a Live, StepIndex)> {
        let above = |(at, _): &(&'a Live, StepIndex)| {
            let (place, above) = self.place(&at.head)?;
            Some((above, place.step))
        };
        std::iter::successors(Some((live, first)), above).take(MAX_DEPTH + 1).collect()
    }

    /// Whether these bytes are a document or the nodes of the family of an attempt's section, as it was told to its runner.
    pub(super) fn names_kin(&self, live: &Live, attempt: AttemptId, digest: Digest) -> bool {
        let Some(at) = live.section_of(attempt).filter(|_| self.is_followed(&live.head)) else {
            return false;
        };
        let first = StepIndex(live.sections[at].record.place.steps().start);
        let is = |document: Sized, nodes: Option<Sized>| {
            document.digest == digest || nodes.is_some_and(|nodes| nodes.digest == digest)
        };
        self.line(live, first).into_iter().any(|(one, step)| {
            let known = self.kin.get(&one.id);
            let below = ran_before(one, step).filter_map(|(number, _)| known?.get(&number)).flatten();
            is(one.head.document, one.head.nodes.as_ref().map(|nodes| nodes.set))
                || below.into_iter().any(|kin| is(kin.document, kin.node_set))
        })
    }
}

/// The sections that run jobs before this step, and their steps.
fn ran_before(live: &Live, step: StepIndex) -> impl Iterator<Item = (SectionNumber, StepIndex)> {
    let places = live.sections.iter().map(|section| &section.record.place);
    places.filter_map(move |place| match place.work {
        Work::Jobs { step: jobs } if live.document.sees(step, jobs) => Some((place.number, jobs)),
        Work::Jobs { .. } | Work::Steps { .. } | Work::Gate { .. } | Work::Halt { .. } => None,
    })
}

impl Scheduler {
    /// Reads what was lacking, and keeps it while its execution lives.
    pub(super) async fn read_kin(&self, lacking: Vec<Lacking>) -> Result<(), StoreError> {
        for (id, number, step) in lacking {
            let mut kin = Vec::new();
            self.read_below((id, number, step), 0, &mut kin).await?;
            let mut state = self.state();
            if state.live.contains_key(&id) {
                state.kin.entry(id).or_default().insert(number, kin);
            }
        }
        Ok(())
    }

    /// The children of a section, which have ended, and all that they ran.
    async fn read_below(
        &self,
        (id, number, step): Lacking,
        depth: usize,
        kin: &mut Vec<Kin>,
    ) -> Result<(), StoreError> {
        for child in self.store().children(id, number).await? {
            let Some(record) = self.store().execution(child.id).await? else { continue };
            let document = self.document(record.head.document).await?;
            for place in record.sections.iter().map(|section| &section.place) {
                if let Work::Jobs { step } = place.work
                    && depth < MAX_DEPTH
                {
                    Box::pin(self.read_below((record.id, place.number, step), depth + 1, kin)).await?;
                }
            }
            let place = ChildOf { execution: id, step, item: child.item };
            kin.push(of_record(record, &document, place));
            if kin.len() > MAX_KIN {
                break;
            }
        }
        Ok(())
    }
}

/// A live execution, as one below this step of it sees it.
fn of_live(live: &Live, step: StepIndex, child_of: Option<ChildOf>) -> Kin {
    let mut gates = live.earlier(|_| false);
    gates.retain(|name, _| is_gate(&live.document, name));
    Kin {
        results: live.results_before(step),
        approvals: live.approvals_before(step),
        gates,
        ..of_head(live.id, &live.head, child_of)
    }
}

/// An execution that has ended.
fn of_record(record: ExecutionRecord, document: &Document, place: ChildOf) -> Kin {
    let steps = (0_u32..).map(StepIndex).zip(&document.steps);
    let gates: BTreeMap<StepName, StepView> = steps
        .filter(|(_, step)| matches!(step.action, Action::Gate(_)))
        .filter_map(|(index, step)| {
            let outcome = *record.steps.get(&index)?;
            Some((step.name.clone(), StepView { outcome, outputs: None, nodes: None }))
        })
        .collect();
    Kin {
        results: record.attempts.into_iter().filter_map(|attempt| attempt.result).collect(),
        approvals: record.approvals.into_iter().filter_map(|approval| approval.note).collect(),
        gates,
        ..of_head(record.id, &record.head, Some(place))
    }
}

fn of_head(execution: ExecutionId, head: &Head, child_of: Option<ChildOf>) -> Kin {
    Kin {
        execution,
        job: head.job.clone(),
        document: head.document,
        job_note: head.note.clone(),
        options: head.options.clone(),
        node_set: head.nodes.as_ref().map(|nodes| nodes.set),
        run_note: head.run_note.clone(),
        results: Vec::new(),
        approvals: Vec::new(),
        gates: BTreeMap::new(),
        origin: head.origin.clone(),
        child_of,
    }
}

fn is_gate(document: &Document, name: &StepName) -> bool {
    document.step(name).is_some_and(|(_, step)| matches!(step.action, Action::Gate(_)))
}
