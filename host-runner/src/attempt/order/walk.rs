//! The way through a job, from its first section to the one that was assigned, by what runners signed.

use std::collections::BTreeMap;

use remit_job::{
    condition,
    document::{Action, Document, Per},
    expression::Scope,
    rollup,
    sections::{self, Section},
};
use remit_protocol::{
    Outcome, RefusalCode, SectionNumber, StepName, Timestamp,
    assignment::{Assignment, NodesView, StepView},
    digest::Sized,
    json,
    report::SignedResult,
};
use remit_signing::{TrustPolicy, policy::Wanted, run::Order, verify};

use crate::{
    attempt::{Workshop, prepare::NotReady},
    trust::Belief,
};

/// Largest result of a section that is read.
const MAX_RESULT: usize = 16 << 20;

/// What sections came to: the steps of each, as believed runners signed them.
pub(super) type Results = BTreeMap<SectionNumber, BTreeMap<StepName, StepView>>;

/// The results that an assignment brings along, each verified.
///
/// # Errors
/// Whatever is wrong with one of them.
pub(super) fn results(
    workshop: &Workshop,
    assignment: &Assignment,
    order: &Order,
    belief: &Belief,
) -> Result<Results, NotReady> {
    let own = workshop.itself.key.vkey();
    let mut results = Results::new();
    for SignedResult { note, steps } in &assignment.results {
        let result = verify::result(note.as_bytes(), steps.as_bytes(), order, &own, &belief.policy)?;
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

/// The way through a job, up to the section that was assigned.
pub(super) struct Walk<'a> {
    /// The job.
    pub(super) document: &'a Document,
    /// The section that was assigned.
    pub(super) assignment: &'a Assignment,
    /// Where the owner wants signed runs: what was shown. Otherwise the assignment's word counts.
    pub(super) results: Option<Results>,
    /// Where the owner wants signed approvals.
    pub(super) gates: Option<Gates<'a>>,
}

impl Walk<'_> {
    /// What each step before the section came to, once the section has been shown to be due.
    ///
    /// # Errors
    /// `E_ORDER` or `E_GATE`.
    pub(super) fn to_the_section(&self) -> Result<BTreeMap<StepName, StepView>, NotReady> {
        let mut scope = Scope::before_steps(self.assignment);
        let mut earlier = BTreeMap::new();
        for section in sections::plan(self.document) {
            let own = section.first == self.assignment.first_step;
            if !own && !self.document.sees(self.assignment.first_step, section.first) {
                continue;
            }
            let due = self.is_due(&section, &earlier, &scope)?;
            if own {
                return if due { Ok(earlier) } else { Err(wrong(&section, self.document, "is not due")) };
            }
            for (name, view) in self.views(&section, due)? {
                scope.set_step(&name, &view);
                earlier.insert(name, view);
            }
        }
        Err(NotReady::refused(RefusalCode::Job, "The section does not fit the document."))
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

    /// What the steps of an earlier section came to.
    fn views(&self, section: &Section, due: bool) -> Result<Vec<(StepName, StepView)>, NotReady> {
        let steps = section.of(self.document);
        let all = |outcome: Outcome| {
            let nodes = (section.per == Per::Node).then(NodesView::default);
            let view = StepView { outcome, outputs: None, nodes };
            steps.iter().map(|step| (step.name.clone(), view.clone())).collect()
        };
        if !due {
            return Ok(all(Outcome::Skipped));
        }
        let Some(first) = steps.first() else { return Ok(Vec::new()) };
        match &first.action {
            Action::Halt(_) => Err(wrong(section, self.document, "ends the execution")),
            Action::Gate(gate) if let Some(gates) = &self.gates => {
                let notes = self.assignment.approvals.iter().map(String::as_bytes);
                let began = gates.run.map(Wanted::signers).unwrap_or_default();
                let at = (gates.order, first.name.as_str(), gate.needed);
                let notes: Vec<&[u8]> = notes.filter(|note| about(note, first.name.as_str())).collect();
                let _ = verify::approvals(notes, at, &began, gates.policy, gates.now)?;
                Ok(all(Outcome::Succeeded))
            }
            Action::Gate(_) => self.claimed(section),
            Action::Job(_) if self.results.is_some() => Err(wrong(
                section,
                self.document,
                "runs another job, whose outcome nobody signs; signed runs end with such a step",
            )),
            Action::Job(_) => self.claimed(section),
            Action::Component(_) => match &self.results {
                None => self.claimed(section),
                Some(results) => match results.get(&section.number) {
                    Some(views) => {
                        let of = |step: &remit_job::document::Step| {
                            views.get(&step.name).map(|view| (step.name.clone(), view.clone()))
                        };
                        let found: Option<Vec<_>> = steps.iter().map(of).collect();
                        found.ok_or_else(|| {
                            wrong(section, self.document, "has a result that leaves steps out")
                        })
                    }
                    None if section.per == Per::Node && self.assignment.node_set == Some(no_nodes()) => {
                        Ok(all(Outcome::Skipped))
                    }
                    None => Err(wrong(section, self.document, "has no result that a believed runner signed")),
                },
            },
        }
    }

    /// What the orchestrator says of a section.
    fn claimed(&self, section: &Section) -> Result<Vec<(StepName, StepView)>, NotReady> {
        let of = |step: &remit_job::document::Step| {
            let view = self.assignment.earlier.get(&step.name)?;
            Some((step.name.clone(), view.clone()))
        };
        let found: Option<Vec<_>> = section.of(self.document).iter().map(of).collect();
        found.ok_or_else(|| wrong(section, self.document, "has not ended"))
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

fn wrong(section: &Section, document: &Document, what: &str) -> NotReady {
    let name = section.of(document).first().map(|step| step.name.as_str()).unwrap_or_default();
    NotReady::refused(RefusalCode::Order, format!("Section {} (step {name}) {what}.", section.number))
}
