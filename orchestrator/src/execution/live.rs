//! An execution that has not ended: what is known of it, and the drafts in which decisions about it are gathered.

use std::{collections::BTreeMap, sync::Arc};

use remit_job::{
    document::Document,
    expression::{ExecutionView, Scope},
    rollup,
};
use remit_protocol::{
    AttemptId, Epoch, ExecutionId, NodeIndex, NodeName, Outcome, RunnerId, SectionNumber, StepIndex,
    StepName, Timestamp, assignment::StepView, report::SignedResult,
};
use serde_json::Value;

use super::{
    record::{Approval, AttemptRecord, Change, Happening, Head, Place, ResultLine, SectionRecord, Work},
    state::{AttemptState, ExecutionEvent, ExecutionState, NodeEvent, NodeState, SectionEvent, SectionState},
    transition::{self, Illegal},
};

/// An execution that has not ended.
#[derive(Debug)]
pub struct Live {
    /// Its id.
    pub id: ExecutionId,
    /// What it is of.
    pub head: Arc<Head>,
    /// The job.
    pub document: Arc<Document>,
    /// Names of its nodes, by index; empty without nodes.
    pub names: Arc<[NodeName]>,
    /// Its state.
    pub state: ExecutionState,
    /// The version that is recorded or on its way to be.
    pub version: u64,
    /// When the first part of it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it is being stopped: `cancelled`, `timed-out`, or as its job's log limit says.
    pub stop: Option<Outcome>,
    /// Its sections, by number.
    pub sections: Vec<Section>,
    /// What its steps have come to, by index.
    pub(super) steps: BTreeMap<StepIndex, Concluded>,
}

/// A section of a live execution.
#[derive(Debug, Clone)]
pub struct Section {
    /// What is kept of it.
    pub record: SectionRecord,
    /// Its newest attempt.
    pub attempt: Option<AttemptRecord>,
    /// Its nodes, if its steps run once per node.
    pub(super) nodes: Option<NodeProgress>,
    /// Who has agreed, at a gate.
    pub approvals: Vec<Approval>,
    /// What runners signed about its attempts.
    results: Vec<SignedResult>,
    /// How its workflow step ended, and what it gave.
    pub(super) ended: Option<(Outcome, Option<Value>)>,
}

/// A step that has ended on all its nodes.
#[derive(Debug, Clone)]
pub(super) struct Concluded {
    pub(super) outcome: Outcome,
    pub(super) output: Option<Value>,
}

/// How far the nodes of a section are.
#[derive(Debug, Clone)]
pub(super) struct NodeProgress {
    ranges: Vec<(u32, u32)>,
    steps: usize,
    states: BTreeMap<u32, NodeState>,
    /// Outcomes by node and step of the section.
    cells: BTreeMap<(u32, usize), Outcome>,
}

impl NodeProgress {
    pub(super) fn new(ranges: Vec<(u32, u32)>, steps: usize) -> Self {
        Self { ranges, steps, states: BTreeMap::new(), cells: BTreeMap::new() }
    }

    fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(first, end)| *first..*end)
    }

    fn has(&self, node: u32) -> bool {
        self.ranges.iter().any(|(first, end)| (*first..*end).contains(&node))
    }

    /// The state of a node. Nodes that nobody spoke of are pending and take no memory.
    pub(super) fn state(&self, node: u32) -> NodeState {
        self.states.get(&node).copied().unwrap_or(NodeState::Pending)
    }

    pub(super) fn apply(&mut self, node: u32, event: NodeEvent) -> Result<(), Illegal> {
        let next = transition::node(self.state(node), event)?;
        self.states.insert(node, next);
        Ok(())
    }

    /// Records a step's end on a node; when it was the last step the node has ended.
    pub(super) fn end(&mut self, node: u32, step: usize, outcome: Outcome) -> bool {
        if !self.has(node) || step >= self.steps {
            return false;
        }
        self.cells.insert((node, step), outcome);
        if self.cells.range((node, 0)..=(node, usize::MAX)).count() == self.steps {
            let outcomes = self.cells.range((node, 0)..=(node, usize::MAX)).map(|(_, outcome)| *outcome);
            // A node that ended before and was reported anew by a later attempt has ended already.
            let _ = self.apply(node, NodeEvent::End(rollup::step(outcomes)));
        }
        true
    }

    /// The nodes in this state, ascending.
    pub(super) fn in_state(&self, wanted: NodeState) -> Vec<u32> {
        if wanted == NodeState::Pending {
            return self.all().filter(|node| self.state(*node) == NodeState::Pending).collect();
        }
        self.states.iter().filter(|(_, state)| **state == wanted).map(|(node, _)| *node).collect()
    }

    /// The first step of a node that has no outcome.
    pub(super) fn open_step(&self, node: u32) -> Option<usize> {
        (0..self.steps).find(|step| !self.cells.contains_key(&(node, *step)))
    }

    /// How many nodes there are, and how many of them have ended well.
    pub(super) fn ended_well(&self) -> (u32, u32) {
        let good = |state: &&NodeState| matches!(state, NodeState::Ended(outcome) if outcome.is_good());
        let well = self.states.values().filter(good).count();
        (u32::try_from(self.all().count()).unwrap_or(u32::MAX), u32::try_from(well).unwrap_or(u32::MAX))
    }

    /// Every outcome so far, and `not-started` if a node has none.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = Outcome> + '_ {
        let open = self.all().any(|node| !matches!(self.state(node), NodeState::Ended(_)));
        self.cells.values().copied().chain(open.then_some(Outcome::NotStarted))
    }

    /// The outcomes of a step, and how many nodes have none.
    fn of_step(&self, step: usize) -> (Vec<(u32, Outcome)>, usize) {
        let ended: Vec<_> = self
            .cells
            .iter()
            .filter(|((_, s), _)| *s == step)
            .map(|((node, _), outcome)| (*node, *outcome))
            .collect();
        let open = self.all().count().saturating_sub(ended.len());
        (ended, open)
    }
}

/// Nodes as ranges `[first, end)`, from ascending numbers.
pub(super) fn ranges(nodes: &[u32]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &node in nodes {
        match ranges.last_mut() {
            Some((_, end)) if *end == node => *end += 1,
            _ => ranges.push((node, node + 1)),
        }
    }
    ranges
}

/// What was decided about an execution, and is not recorded yet.
#[derive(Debug, Default)]
pub struct Draft {
    /// What changes.
    pub changes: Vec<Change>,
    /// What people are told.
    pub happenings: Vec<Happening>,
    /// What runners are told, once it is recorded.
    pub orders: Vec<Order>,
}

impl Draft {
    /// True if nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.happenings.is_empty() && self.orders.is_empty()
    }

    pub(super) fn result(&mut self, line: ResultLine) {
        match self.happenings.last_mut() {
            Some(Happening::Results { results }) => results.push(line),
            _ => self.happenings.push(Happening::Results { results: vec![line] }),
        }
    }
}

/// Something to tell a runner about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Whom.
    pub runner: RunnerId,
    /// About what.
    pub attempt: AttemptId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// What.
    pub what: OrderKind,
}

/// What a runner is told about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderKind {
    /// Run it.
    Run,
    /// Stop it, and say how it ended.
    Cancel,
    /// Stop it and forget it: it does not count any more.
    Forget,
    /// Nothing: it has ended, its slot is free.
    Release,
}

impl Live {
    /// True when nothing moves it any more.
    pub fn is_over(&self) -> bool {
        self.state.is_final()
    }

    /// The section with the attempt.
    pub fn section_of(&self, attempt: AttemptId) -> Option<usize> {
        self.sections.iter().position(|section| section.attempt.as_ref().is_some_and(|a| a.id == attempt))
    }

    /// Keeps what the runner of a section's newest attempt signed about its end.
    pub(super) fn keep_result(&mut self, at: usize, result: Option<SignedResult>) {
        let section = &mut self.sections[at];
        section.results.extend(result.clone());
        if let Some(attempt) = &mut section.attempt {
            attempt.result = result;
        }
    }

    /// A section by number.
    pub fn section(&self, number: SectionNumber) -> Option<&Section> {
        self.sections.iter().find(|section| section.record.place.number == number)
    }

    /// When the execution has to be over.
    pub fn deadline(&self) -> Option<Timestamp> {
        Some(self.began?.plus(self.head.timeout?.duration()))
    }

    pub(super) fn move_execution(
        &mut self,
        event: ExecutionEvent,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        self.state = transition::execution(self.state, event)?;
        if self.state.is_final() {
            self.ended = Some(now);
        }
        self.draft_execution(draft);
        draft.happenings.push(Happening::Execution { state: self.state });
        Ok(())
    }

    pub(super) fn draft_execution(&self, draft: &mut Draft) {
        draft.changes.push(Change::Execution {
            state: self.state,
            began: self.began,
            ended: self.ended,
            stop: self.stop,
        });
    }

    pub(super) fn move_section(
        &mut self,
        at: usize,
        event: SectionEvent,
        message: &str,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        let section = &mut self.sections[at];
        section.record.state = transition::section(section.record.state, event)?;
        let state = section.record.state;
        draft.changes.push(Change::Section(section.record.clone()));
        let with = section.attempt.as_ref().filter(|_| !matches!(state, SectionState::Ready));
        draft.happenings.push(Happening::Section {
            section: section.record.place.number,
            state,
            hold: state.hold(),
            attempt: with.map(|attempt| attempt.id),
            runner: with.map(|attempt| attempt.runner),
            message: message.to_owned(),
        });
        Ok(())
    }

    /// What an expression sees of the steps that have ended. Lists of nodes are given where `with_nodes` says so.
    pub fn earlier(&self, with_nodes: impl Fn(&StepName) -> bool) -> BTreeMap<StepName, StepView> {
        let mut views = BTreeMap::new();
        for (index, concluded) in &self.steps {
            let Some(step) = usize::try_from(index.0).ok().and_then(|at| self.document.steps.get(at)) else {
                continue;
            };
            let nodes = (with_nodes(&step.name)).then(|| self.nodes_view(*index)).flatten();
            let view = StepView { outcome: concluded.outcome, outputs: concluded.output.clone(), nodes };
            views.insert(step.name.clone(), view);
        }
        views
    }

    fn nodes_view(&self, index: StepIndex) -> Option<remit_protocol::assignment::NodesView> {
        let mut outcomes: Vec<(u32, Outcome)> = Vec::new();
        let mut any = false;
        for section in &self.sections {
            let (Some(nodes), steps) = (&section.nodes, section.record.place.steps()) else { continue };
            if steps.contains(&index.0) {
                any = true;
                let step = usize::try_from(index.0 - steps.start).unwrap_or_default();
                let (ended, _) = nodes.of_step(step);
                outcomes.extend(ended);
                let open = nodes.all().filter(|node| !nodes.cells.contains_key(&(*node, step)));
                outcomes.extend(open.map(|node| (node, Outcome::NotStarted)));
            }
        }
        outcomes.sort_unstable();
        let named = outcomes.into_iter().filter_map(|(node, outcome)| {
            let name = self.names.get(usize::try_from(node).ok()?)?;
            Some((name.clone(), outcome))
        });
        any.then(|| rollup::nodes_view(named))
    }

    /// What a condition sees now.
    pub fn scope(&self) -> Scope {
        let view = ExecutionView {
            id: self.id,
            job: self.head.job.clone(),
            revision: self.head.revision,
            started_by: self.head.started_by.clone(),
        };
        let scope = Scope::new(&self.head.project, &view, &self.head.options);
        let mut scope = scope.with_variables(&self.head.variables);
        for (name, step) in self.earlier(|_| true) {
            scope.set_step(&name, &step);
        }
        scope
    }

    /// The outcomes of the steps before `step`, as far as it sees them.
    pub(super) fn outcomes_before(&self, step: u32) -> Vec<Outcome> {
        let seen = self
            .steps
            .range(..StepIndex(step))
            .filter(|(other, _)| self.document.sees(StepIndex(step), **other));
        seen.map(|(_, concluded)| concluded.outcome).collect()
    }

    /// Records what the steps of a section came to, now that it has ended as `outcome`. Several sections may share a
    /// step, each with a part of its nodes: the step has ended when all of them have.
    pub(super) fn conclude_steps(&mut self, at: usize, outcome: Outcome, draft: &mut Draft) {
        let steps = self.sections[at].record.place.steps();
        for (step, index) in steps.clone().enumerate() {
            let sharing: Vec<&Section> = self
                .sections
                .iter()
                .filter(|section| section.record.place.steps().contains(&index))
                .collect();
            if sharing.iter().any(|section| !section.record.state.is_final()) {
                continue;
            }
            let mut outcomes = Vec::new();
            let mut output = None;
            for section in sharing {
                let ended = section.record.state.outcome().unwrap_or(outcome);
                match &section.nodes {
                    Some(nodes) => {
                        let (found, open) = nodes.of_step(step);
                        // A section that came to nothing at all came to that for every node.
                        let fill = if found.is_empty() { ended } else { Outcome::NotStarted };
                        outcomes.extend(found.into_iter().map(|(_, outcome)| outcome));
                        // Without any node it came to what the section did.
                        outcomes.extend((open > 0 || outcomes.is_empty()).then_some(fill));
                    }
                    None => {
                        let (own, given) = section.ended.clone().unwrap_or((ended, None));
                        outcomes.push(own);
                        output = given;
                    }
                }
            }
            let outcome = rollup::step(outcomes);
            self.steps.insert(StepIndex(index), Concluded { outcome, output });
            draft.changes.push(Change::StepConcluded { step: StepIndex(index), outcome });
            draft.happenings.push(Happening::Step { step: StepIndex(index), outcome });
        }
    }

    /// What runners signed about the sections before `step`, as far as it sees them, the oldest first.
    pub fn results_before(&self, step: StepIndex) -> Vec<SignedResult> {
        self.before(step).flat_map(|section| &section.results).cloned().collect()
    }

    /// The notes of who agreed at the gates before `step`.
    pub fn approvals_before(&self, step: StepIndex) -> Vec<String> {
        let approvals = self.before(step).flat_map(|section| &section.approvals);
        approvals.filter_map(|approval| approval.note.clone()).collect()
    }

    fn before(&self, step: StepIndex) -> impl Iterator<Item = &Section> {
        let first = |section: &Section| StepIndex(section.record.place.steps().start);
        self.sections.iter().filter(move |section| self.document.sees(step, first(section)))
    }

    /// The nodes that the next attempt at a section would run.
    pub fn open_nodes(&self, at: usize) -> Option<Vec<(u32, u32)>> {
        self.sections[at].nodes.as_ref().map(|nodes| ranges(&nodes.in_state(NodeState::Pending)))
    }

    /// The nodes that an attempt had begun and not ended.
    pub fn in_flight(&self, at: usize) -> Vec<NodeIndex> {
        let nodes = self.sections[at].nodes.as_ref();
        nodes.map_or_else(Vec::new, |nodes| {
            nodes.in_state(NodeState::Dispatched).into_iter().map(NodeIndex).collect()
        })
    }
}

impl Section {
    pub(super) fn planned(place: Place) -> Self {
        let nodes = match &place.work {
            Work::Steps { nodes: Some(ranges), count, .. } => {
                Some(NodeProgress::new(ranges.clone(), usize::try_from(*count).unwrap_or_default()))
            }
            Work::Steps { nodes: None, .. } | Work::Jobs { .. } | Work::Gate { .. } | Work::Halt { .. } => {
                None
            }
        };
        let record = SectionRecord {
            place,
            state: SectionState::Waiting,
            epoch: Epoch(0),
            losses: 0,
            not_before: None,
        };
        Self { record, attempt: None, nodes, approvals: Vec::new(), results: Vec::new(), ended: None }
    }

    /// The newest attempt while it counts and has not ended.
    pub fn open_attempt(&self) -> Option<&AttemptRecord> {
        self.attempt.as_ref().filter(|attempt| !attempt.state.is_final())
    }

    /// True if a runner has it, as far as is known.
    pub fn is_out(&self) -> bool {
        self.open_attempt().is_some_and(|attempt| attempt.state != AttemptState::Missing)
    }
}

/// What is read back of an execution after a restart.
#[derive(Debug)]
pub struct Remembered {
    /// Its id.
    pub id: ExecutionId,
    /// What it is of.
    pub head: Head,
    /// Its state.
    pub state: ExecutionState,
    /// Its version.
    pub version: u64,
    /// When it began.
    pub began: Option<Timestamp>,
    /// Why it is being stopped.
    pub stop: Option<Outcome>,
    /// Its sections.
    pub sections: Vec<SectionRecord>,
    /// Its attempts, the oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// What its steps came to.
    pub steps: BTreeMap<StepIndex, Outcome>,
    /// Who has agreed at its gates.
    pub approvals: Vec<Approval>,
    /// Every result: step, node, outcome, and a workflow step's output.
    pub results: Vec<(StepIndex, Option<NodeIndex>, Outcome, Option<Value>)>,
    /// Which nodes each attempt was about to begin.
    pub dispatched: Vec<(AttemptId, Vec<NodeIndex>)>,
}

impl Live {
    /// Puts an execution together again.
    pub fn remember(known: Remembered, document: Arc<Document>, names: Arc<[NodeName]>) -> Self {
        let mut sections: Vec<Section> = known
            .sections
            .into_iter()
            .map(|record| Section { record: record.clone(), ..Section::planned(record.place) })
            .collect();
        let mut outputs: BTreeMap<StepIndex, Value> = BTreeMap::new();
        for (step, node, outcome, output) in known.results {
            for section in sections.iter_mut().filter(|s| s.record.place.steps().contains(&step.0)) {
                let place = usize::try_from(step.0 - section.record.place.steps().start).unwrap_or_default();
                match (&mut section.nodes, node) {
                    (Some(nodes), Some(node)) => {
                        nodes.end(node.0, place, outcome);
                    }
                    (None, None) => section.ended = Some((outcome, output.clone())),
                    _ => {}
                }
            }
            if let Some(output) = output {
                outputs.insert(step, output);
            }
        }
        for approval in known.approvals {
            if let Some(section) = sections.iter_mut().find(|s| s.record.place.number == approval.section) {
                section.approvals.push(approval);
            }
        }
        for attempt in known.attempts {
            if let Some(section) = sections.iter_mut().find(|s| s.record.place.number == attempt.section) {
                section.results.extend(attempt.result.clone());
                section.attempt = Some(attempt);
            }
        }
        for section in &mut sections {
            let (Some(attempt), Some(nodes)) = (&section.attempt, &mut section.nodes) else { continue };
            // Dispatches of attempts that were followed by another one do not count any more.
            let current = known
                .dispatched
                .iter()
                .filter(|(id, _)| *id == attempt.id && section.record.epoch == attempt.epoch);
            let waits = matches!(section.record.state, SectionState::Ready);
            for node in current.flat_map(|(_, nodes)| nodes).filter(|_| !waits) {
                let _ = nodes.apply(node.0, NodeEvent::Dispatch);
            }
        }
        let steps = known
            .steps
            .into_iter()
            .map(|(step, outcome)| (step, Concluded { outcome, output: outputs.remove(&step) }))
            .collect();
        Self {
            id: known.id,
            head: Arc::new(known.head),
            document,
            names,
            state: known.state,
            version: known.version,
            began: known.began,
            ended: None,
            stop: known.stop,
            sections,
            steps,
        }
    }
}
