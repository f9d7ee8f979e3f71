//! The way through a job, from its first section to the one that was assigned, by what runners signed.

use std::collections::BTreeMap;

use remit_job::{
    condition,
    document::{Action, Document, HaltOutcome, OnEmpty, Per, Step},
    expression::Scope,
    rollup,
    sections::{self, Section},
};
use remit_protocol::{
    Outcome, RefusalCode, SectionNumber, StepIndex, StepName, Timestamp,
    assignment::{NodesView, StepView},
    digest::Sized,
    json,
    report::SignedResult,
};
use remit_signing::{TrustPolicy, policy::Wanted, run::Order, verify};
use serde_json::{Map, Value};

use super::family::Member;
use crate::{
    attempt::{Workshop, prepare::NotReady},
    trust::Belief,
};

/// Largest result of a section that is read.
const MAX_RESULT: usize = 16 << 20;

/// What sections came to: the steps of each, as believed runners signed them.
pub(super) type Results = BTreeMap<SectionNumber, BTreeMap<StepName, StepView>>;

/// The results that came along with an execution, each verified.
///
/// # Errors
/// Whatever is wrong with one of them.
pub(super) fn results(
    workshop: &Workshop,
    member: &Member<'_>,
    belief: &Belief,
) -> Result<Results, NotReady> {
    let own = workshop.itself.key.vkey();
    let mut results = Results::new();
    for SignedResult { note, steps } in member.results {
        let result = verify::result(note.as_bytes(), steps.as_bytes(), &member.order, &own, &belief.policy)?;
        let views: BTreeMap<StepName, StepView> = json::from_slice(result.steps(), MAX_RESULT)
            .map_err(|error| NotReady::refused(RefusalCode::Order, format!("A result: {error}.")))?;
        let known = results.entry(result.note().section).or_default();
        for (name, view) in views {
            let joined = match known.remove(&name) {
                Some(before) => join(before, view),
                None => view,
            };
            known.insert(name, joined);
        }
    }
    Ok(results)
}

/// A section that was run in several attempts: each with a part of its nodes, the later one counts where both speak.
fn join(before: StepView, after: StepView) -> StepView {
    let (Some(mut nodes), Some(more)) = (before.nodes, &after.nodes) else { return after };
    nodes.failed.retain(|name| !more.succeeded.contains(name) && !more.failed.contains(name));
    nodes.succeeded.retain(|name| !more.failed.contains(name) && !more.succeeded.contains(name));
    nodes.succeeded.extend(more.succeeded.iter().cloned());
    nodes.failed.extend(more.failed.iter().cloned());
    let outcome =
        if nodes.failed.is_empty() { after.outcome } else { rollup::step([before.outcome, after.outcome]) };
    StepView { outcome, outputs: None, nodes: Some(nodes) }
}

/// How gates are judged.
pub(super) struct Gates<'a> {
    /// What approvals have to be about.
    pub(super) order: &'a Order,
    /// Who wanted the run.
    pub(super) run: Option<&'a Wanted>,
    /// Whom the owner believes.
    pub(super) policy: &'a TrustPolicy,
    /// The time.
    pub(super) now: Timestamp,
}

/// What the jobs came to that a step ran, in this scope.
pub(super) type Jobs<'a> = Box<dyn Fn(&Section, &Step, &Scope) -> Result<StepView, NotReady> + 'a>;

/// The way through a job, up to one of its sections or to its end.
pub(super) struct Walk<'a> {
    /// The job.
    pub(super) document: &'a Document,
    /// What expressions see before the first step.
    pub(super) before: Scope,
    /// What the orchestrator says of its steps.
    pub(super) said: &'a BTreeMap<StepName, StepView>,
    /// The notes of who agreed at its gates.
    pub(super) approvals: &'a [String],
    /// Its node set.
    pub(super) nodes: Option<Sized>,
    /// Where the owner wants signed runs: what was shown. Otherwise the orchestrator's word counts.
    pub(super) results: Option<Results>,
    /// Where the owner wants signed approvals.
    pub(super) gates: Option<Gates<'a>>,
    /// Asked about steps that run jobs, where the owner wants signed runs.
    pub(super) jobs: Jobs<'a>,
}

impl Walk<'_> {
    /// What each step before the section came to that begins with this step, once the section has been shown to be due;
    /// and what expressions see there.
    ///
    /// # Errors
    /// `E_ORDER` or `E_GATE`.
    pub(super) fn to_the_section(
        &self,
        first: StepIndex,
    ) -> Result<(BTreeMap<StepName, StepView>, Scope), NotReady> {
        let mut scope = self.before.clone();
        let mut earlier = BTreeMap::new();
        for section in sections::plan(self.document) {
            let own = section.first == first;
            if !own && !self.document.sees(first, section.first) {
                continue;
            }
            let due = self.is_due(&section, &earlier, &scope)?;
            if own {
                return match due {
                    true => Ok((earlier, scope)),
                    false => Err(wrong(&section, self.document, "is not due")),
                };
            }
            for (name, view) in self.views(&section, due, &scope)? {
                scope.set_step(&name, &view);
                earlier.insert(name, view);
            }
        }
        Err(NotReady::refused(RefusalCode::Job, "The section does not fit the document."))
    }

    /// What the whole job came to, and what its workflow steps gave, by name.
    ///
    /// # Errors
    /// `E_ORDER` or `E_GATE` where something was due and is not shown to have ended.
    pub(super) fn to_the_end(&self) -> Result<(Outcome, Map<String, Value>), NotReady> {
        let mut scope = self.before.clone();
        let mut earlier = BTreeMap::new();
        let mut given = Map::new();
        let mut halted = false;
        for section in sections::plan(self.document) {
            let due = !halted && self.is_due(&section, &earlier, &scope)?;
            let halt = section.of(self.document).first().filter(|_| due).and_then(halts_as);
            let views = match halt {
                Some(outcome) => Self::all(&section, self.document, outcome),
                None => self.views(&section, due, &scope)?,
            };
            halted |= halt.is_some();
            for (name, view) in views {
                scope.set_step(&name, &view);
                if let Some(outputs) = view.outputs.clone().filter(|_| section.per == Per::Once) {
                    given.insert(name.to_string(), outputs);
                }
                earlier.insert(name, view);
            }
        }
        Ok((rollup::execution(earlier.values().map(|view| view.outcome)), given))
    }

    fn is_due(
        &self,
        section: &Section,
        earlier: &BTreeMap<StepName, StepView>,
        scope: &Scope,
    ) -> Result<bool, NotReady> {
        let steps = (0_u32..).map(remit_protocol::StepIndex).zip(&self.document.steps);
        let seen = steps.filter(|(index, _)| self.document.sees(section.first, *index));
        let outcomes: Vec<Outcome> =
            seen.filter_map(|(_, step)| earlier.get(&step.name)).map(|view| view.outcome).collect();
        condition::any_holds(self.document, section, &outcomes, scope)
            .map_err(|error| wrong(section, self.document, &format!("has a condition that fails: {error}")))
    }

    /// Every step of a section came to the same.
    fn all(section: &Section, document: &Document, outcome: Outcome) -> Vec<(StepName, StepView)> {
        let nodes = (section.per == Per::Node).then(NodesView::default);
        let view = StepView { outcome, outputs: None, nodes };
        section.of(document).iter().map(|step| (step.name.clone(), view.clone())).collect()
    }

    /// What the steps of an earlier section came to.
    fn views(
        &self,
        section: &Section,
        due: bool,
        scope: &Scope,
    ) -> Result<Vec<(StepName, StepView)>, NotReady> {
        let all = |outcome: Outcome| Self::all(section, self.document, outcome);
        if !due {
            return Ok(all(Outcome::Skipped));
        }
        let Some(first) = section.of(self.document).first() else { return Ok(Vec::new()) };
        match &first.action {
            Action::Halt(_) => Err(wrong(section, self.document, "ends the execution")),
            Action::Gate(gate) if let Some(gates) = &self.gates => {
                let notes = self.approvals.iter().map(String::as_bytes);
                let began = gates.run.map(Wanted::signers).unwrap_or_default();
                let at = (gates.order, first.name.as_str(), gate.needed);
                let notes: Vec<&[u8]> = notes.filter(|note| about(note, first.name.as_str())).collect();
                let _ = verify::approvals(notes, at, &began, gates.policy, gates.now)?;
                Ok(all(Outcome::Succeeded))
            }
            Action::Gate(_) => self.claimed(section),
            Action::Job(_) if self.results.is_some() => {
                Ok(vec![(first.name.clone(), (self.jobs)(section, first, scope)?)])
            }
            Action::Job(_) => self.claimed(section),
            Action::Component(_) => match &self.results {
                None => self.claimed(section),
                Some(results) => self.shown(section, results),
            },
        }
    }

    /// What runners signed about a section.
    fn shown(&self, section: &Section, results: &Results) -> Result<Vec<(StepName, StepView)>, NotReady> {
        let steps = section.of(self.document);
        match results.get(&section.number) {
            Some(views) => {
                let of = |step: &Step| views.get(&step.name).map(|view| (step.name.clone(), view.clone()));
                let found: Option<Vec<_>> = steps.iter().map(of).collect();
                found.ok_or_else(|| wrong(section, self.document, "has a result that leaves steps out"))
            }
            None if section.per == Per::Node && self.nodes == Some(no_nodes()) => {
                let fails = self.document.nodes.as_ref().is_some_and(|nodes| nodes.on_empty == OnEmpty::Fail);
                let outcome = if fails { Outcome::Failed } else { Outcome::Skipped };
                Ok(Self::all(section, self.document, outcome))
            }
            None => Err(wrong(section, self.document, "has no result that a believed runner signed")),
        }
    }

    /// What the orchestrator says of a section.
    fn claimed(&self, section: &Section) -> Result<Vec<(StepName, StepView)>, NotReady> {
        let of = |step: &Step| {
            let view = self.said.get(&step.name)?;
            Some((step.name.clone(), view.clone()))
        };
        let found: Option<Vec<_>> = section.of(self.document).iter().map(of).collect();
        found.ok_or_else(|| wrong(section, self.document, "has not ended"))
    }
}

/// How a step ends the whole execution, if that is what it does.
fn halts_as(step: &Step) -> Option<Outcome> {
    match &step.action {
        Action::Halt(halt) => Some(match halt.outcome {
            HaltOutcome::Succeeded => Outcome::Succeeded,
            HaltOutcome::Failed => Outcome::Failed,
        }),
        Action::Component(_) | Action::Gate(_) | Action::Job(_) => None,
    }
}

/// Whether an approval says that it is about this gate; those for others are judged there.
fn about(note: &[u8], step: &str) -> bool {
    let line = format!("\nstep {step}\n");
    note.windows(line.len()).any(|window| window == line.as_bytes())
}

fn no_nodes() -> Sized {
    Sized::of(br#"{"nodes":[]}"#)
}

/// The refusal of what is said of a section.
pub(super) fn wrong(section: &Section, document: &Document, what: &str) -> NotReady {
    let name = section.of(document).first().map(|step| step.name.as_str()).unwrap_or_default();
    NotReady::refused(RefusalCode::Order, format!("Section {} (step {name}) {what}.", section.number))
}
