//! Records of executions as people see them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use remit_job::document::{Action, Document, Per, Step};
use remit_protocol::{
    ExecutionId, Outcome, RunnerId, RunnerName, StepIndex,
    capability::Effect,
    node::NodeSet,
    operator::{
        ChildView, ExecutionSummary, ExecutionView, SealedView, SectionState, SectionView, StepKind,
        StepResult, StepRun,
    },
    report::StepEnded,
};

use crate::{
    execution::{self, AttemptRecord, SectionRecord, Work},
    http::{App, error::Failure},
    store::{self, ExecutionRecord, ResultFilter},
};

/// An execution with what is needed to speak of its steps and nodes by name.
pub(in crate::http) struct Known {
    pub(in crate::http) record: ExecutionRecord,
    pub(in crate::http) document: Arc<Document>,
    pub(in crate::http) nodes: Option<Arc<NodeSet>>,
}

impl Known {
    /// Reads an execution, its document and its nodes.
    pub(in crate::http) async fn read(app: &App, id: ExecutionId) -> Result<Self, Failure> {
        let record = app.store.execution(id).await?;
        let record = record.ok_or_else(|| Failure::not_found("execution", id))?;
        let document = app.scheduler.document(record.head.document).await?;
        let nodes = match &record.head.nodes {
            Some(selection) => Some(app.nodes.set(selection.set).await?),
            None => None,
        };
        Ok(Self { record, document, nodes })
    }

    /// The step at `index`.
    pub(in crate::http) fn step(&self, index: StepIndex) -> Option<&Step> {
        self.document.steps.get(usize::try_from(index.0).unwrap_or(usize::MAX))
    }

    /// The outcome, once it has ended.
    pub(in crate::http) fn outcome(&self) -> Option<Outcome> {
        self.record.state.outcome()
    }

    /// State, outcome and times.
    pub(in crate::http) fn summary(&self, app: &App) -> ExecutionSummary {
        let record = &self.record;
        let head = &record.head;
        summary(
            app,
            &store::ExecutionSummary {
                id: record.id,
                project: head.project.clone(),
                job: head.job.clone(),
                revision: head.revision,
                purpose: head.purpose.clone(),
                state: record.state,
                started_by: head.started_by.clone(),
                origin: head.origin.clone(),
                created: record.created,
                began: record.began,
                ended: record.ended,
            },
        )
    }

    /// A section as it stands.
    pub(in crate::http) fn section(&self, app: &App, section: &SectionRecord, names: &Names) -> SectionView {
        let newest = self.record.attempts.iter().rev().find(|one| one.section == section.place.number);
        let (effect, steps) = match &section.place.work {
            Work::Steps { effect, .. } => (*effect, section.place.steps()),
            Work::Jobs { .. } | Work::Gate { .. } | Work::Halt { .. } => {
                (Effect::Effect, section.place.steps())
            }
        };
        let told = |attempt: &AttemptRecord| Some(attempt.message.clone()).filter(|text| !text.is_empty());
        let waiting = || {
            let reasons = app.scheduler.why_waiting(self.record.id);
            let own = reasons.into_iter().find(|one| one.section == Some(section.place.number));
            own.map(|one| one.reason.to_string())
        };
        let state = shown(section.state);
        let reason = match state {
            SectionState::Ready | SectionState::Held => waiting().or_else(|| newest.and_then(told)),
            SectionState::Ended => newest.and_then(told).or_else(|| {
                let stopped = section.place.tier > 0 && section.state.outcome() == Some(Outcome::NotStarted);
                stopped.then(|| "too many nodes of the tiers before it did not end well".to_owned())
            }),
            SectionState::Waiting | SectionState::Leased | SectionState::Running => None,
        };
        let approvals = self.record.approvals.iter().filter(|one| one.section == section.place.number);
        SectionView {
            number: section.place.number,
            first_step: StepIndex(steps.start),
            steps: steps.end.saturating_sub(steps.start),
            effect,
            state,
            outcome: section.state.outcome(),
            reason,
            attempt: newest.map(|attempt| attempt.id),
            epoch: newest.map(|attempt| attempt.epoch),
            runner: newest.and_then(|attempt| names.get(&attempt.runner).cloned()),
            nodes: match &section.place.work {
                Work::Steps { nodes: Some(ranges), .. } => {
                    Some(ranges.iter().map(|(first, end)| end.saturating_sub(*first)).sum())
                }
                _ => None,
            },
            tier: section.place.tier,
            approved_by: approvals.map(|approval| approval.by.clone()).collect(),
        }
    }
}

/// A section's state as people see it.
pub(in crate::http) fn shown(state: execution::SectionState) -> SectionState {
    match state {
        execution::SectionState::Waiting => SectionState::Waiting,
        execution::SectionState::Ready => SectionState::Ready,
        execution::SectionState::Leased => SectionState::Leased,
        execution::SectionState::Started | execution::SectionState::Delegated => SectionState::Running,
        execution::SectionState::InDoubt | execution::SectionState::Gated => SectionState::Held,
        execution::SectionState::Ended(_) => SectionState::Ended,
    }
}

/// State, outcome and times of an execution in a list.
pub(in crate::http) fn summary(app: &App, of: &store::ExecutionSummary) -> ExecutionSummary {
    let open = !of.state.is_final();
    ExecutionSummary {
        id: of.id,
        project: of.project.clone(),
        job: of.job.clone(),
        revision: of.revision,
        state: of.shown(),
        outcome: of.state.outcome(),
        started_by: of.started_by.clone(),
        origin: of.origin.clone(),
        created: of.created,
        started: of.began,
        ended: of.ended,
        waiting: if open {
            app.scheduler.why_waiting(of.id).into_iter().next().map(|one| one.reason.to_string())
        } else {
            None
        },
    }
}

/// Runners by id.
pub(in crate::http) type Names = HashMap<RunnerId, RunnerName>;

/// The names of the runners that have or had attempts; those that were deleted are absent.
pub(in crate::http) async fn names(app: &App, record: &ExecutionRecord) -> Result<Names, Failure> {
    let mut names = Names::new();
    for attempt in &record.attempts {
        if !names.contains_key(&attempt.runner)
            && let Some(runner) = app.store.runner(attempt.runner).await?
        {
            names.insert(attempt.runner, runner.name);
        }
    }
    Ok(names)
}

/// How the nodes ended of which a step that ended as a whole has no result: nobody began them.
pub(super) fn unreported(step: Outcome) -> Outcome {
    if step == Outcome::Skipped { step } else { Outcome::NotStarted }
}

pub(in crate::http) fn does(step: &Step) -> StepKind {
    match &step.action {
        Action::Component(component) => {
            StepKind::Component { name: component.name.clone(), version: component.version.clone() }
        }
        Action::Gate(gate) => StepKind::Gate { needed: gate.needed },
        Action::Halt(_) => StepKind::Halt,
        Action::Job(job) => StepKind::Job { name: job.job.clone() },
    }
}

/// The whole view.
pub(super) async fn view(app: &App, known: &Known) -> Result<ExecutionView, Failure> {
    let record = &known.record;
    let names = names(app, record).await?;
    let counts = app.store.result_counts(record.id).await?;
    let wanted = ResultFilter { per_node: Some(false), limit: store::MAX_PAGE, ..ResultFilter::default() };
    let mut runs: HashMap<StepIndex, StepEnded> = HashMap::new();
    for result in app.store.results(record.id, wanted).await? {
        runs.insert(result.ended.step, result.ended);
    }
    let nodes = record.head.nodes.as_ref().map_or(0, |selection| selection.count);
    let steps = (0_u32..).zip(&known.document.steps).map(|(index, step)| {
        let index = StepIndex(index);
        let per_node = step.per == Per::Node;
        let mut by_kind: BTreeMap<String, u32> = BTreeMap::new();
        if per_node {
            for (outcome, count) in counts.get(&index).into_iter().flatten() {
                *by_kind.entry(outcome.kind().to_owned()).or_default() += count;
            }
        }
        let ended: u32 = by_kind.values().sum();
        let outcome = record.steps.get(&index).copied();
        let mut open = nodes.saturating_sub(ended);
        if let (true, Some(rest)) = (per_node && open > 0, outcome.map(unreported)) {
            *by_kind.entry(rest.kind().to_owned()).or_default() += std::mem::take(&mut open);
        }
        StepResult {
            index,
            name: step.name.clone(),
            does: does(step),
            per_node,
            outcome,
            open: per_node.then_some(open),
            counts: by_kind,
            run: runs.remove(&index).map(run),
        }
    });
    let mut children = Vec::new();
    for section in record.sections.iter().filter(|section| matches!(section.place.work, Work::Jobs { .. })) {
        let section = section.place.number;
        for child in app.store.children(record.id, section).await? {
            let state = store::ExecutionSummary::state_of(child.state, child.began);
            let outcome = child.state.outcome();
            children.push(ChildView { section, item: child.item, execution: child.id, state, outcome });
        }
    }
    Ok(ExecutionView {
        children,
        command: (record.head.purpose == execution::Purpose::Command)
            .then(|| known.document.description.clone()),
        waited_until: record.head.queued_until.filter(|_| record.began.is_none() && record.ended.is_some()),
        log_limit: record.head.log_limit,
        again: record.head.again.clone(),
        summary: known.summary(app),
        document: record.head.document.digest,
        definition: record.head.document,
        options: (*record.head.options).clone(),
        options_text: record.head.options.text().to_owned(),
        node_set: record.head.nodes.as_ref().map(|nodes| nodes.set),
        run_note: record.head.run_note.clone(),
        sealed: record
            .head
            .sealed
            .as_ref()
            .map(|to| SealedView { runners: to.runners.values().cloned().collect(), until: to.until }),
        nodes,
        sections: record.sections.iter().map(|section| known.section(app, section, &names)).collect(),
        steps: steps.collect(),
    })
}

/// A run that ended.
pub(super) fn run(ended: StepEnded) -> StepRun {
    StepRun {
        tries: ended.tries,
        started: ended.started,
        ended: ended.ended,
        output: ended.output,
        message: ended.message,
        usage: ended.usage,
        remit: ended.remit,
    }
}
