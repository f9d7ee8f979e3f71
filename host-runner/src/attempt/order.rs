//! What a signed run is held to: who wanted it, what came before, and who agreed on the way.
//!
//! The orchestrator says what earlier steps came to; where the owner wants signed runs, nothing of that is believed. The
//! results that runners signed are put together again, every condition before this section is evaluated anew, and the
//! section is accepted only where it is really due. *Invariant:* no outcome that decides over a step comes from a word that
//! nobody signed.

use std::collections::BTreeMap;

use remit_job::{
    condition,
    document::{Action, Document, Per},
    expression::Scope,
    options, rollup,
    schedule::ON_TIME,
    sections::{self, Section},
    trigger,
};
use remit_protocol::{
    Origin, Outcome, RefusalCode, ScheduleName, SectionNumber, StepName, Timestamp,
    assignment::{Assignment, NodesView, StepView},
    digest::Sized,
    json,
    node::Node,
    report::SignedResult,
};
use remit_signing::{
    JobPath, Refusal, SigningKey,
    note::{self, UnverifiedNote},
    policy::{Firing, Wanted},
    run::{Order, ResultNote},
    verify::{self, VerifiedRun},
};

use super::{
    prepare::{NotReady, ReadyNode},
    voice::End,
};
use crate::{attempt::Workshop, config::SignedKind, trust::Belief};

/// Largest result of a section that is read.
const MAX_RESULT: usize = 16 << 20;

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

/// Checks what the owner wants to see signed about a run. What earlier steps came to is then what runners signed.
///
/// # Errors
/// `E_RUN`, `E_ORDER`, `E_GATE`, or whatever is wrong with a note.
pub(super) fn check(
    workshop: &Workshop,
    assignment: &mut Assignment,
    document: &Document,
    belief: &Belief,
) -> Result<Option<Wanted>, NotReady> {
    let required = |kind| workshop.require_signed.contains(&kind);
    let (runs, gates) = (required(SignedKind::Run), required(SignedKind::Approve));
    if !runs && !gates || document.is_discovery() {
        return Ok(None);
    }
    let order = of(assignment);
    if assignment.nodes.as_ref().is_some_and(|work| Some(work.set) != order.nodes) {
        return Err(NotReady::refused(RefusalCode::Nodes, "The section has other nodes than the run."));
    }
    let run = match (&assignment.run_note, &assignment.origin) {
        _ if !runs => None,
        (None, Origin::Schedule { name, due }) => {
            let signed = required(SignedKind::Job);
            Some(Wanted::Scheduled(scheduled((name, *due), signed, assignment, document, belief)?))
        }
        (note, _) => Some(Wanted::Signed(signed(note.as_deref(), workshop, &order, belief)?)),
    };
    let results = match &run {
        Some(_) => Some(results(workshop, assignment, &order, belief)?),
        None => None,
    };
    let gates = gates.then_some(Gates { order: &order, run: run.as_ref(), belief });
    let walk = Walk { document, assignment, results, gates };
    let earlier = walk.to_the_section()?;
    if runs {
        assignment.earlier = earlier;
    }
    Ok(run)
}

/// Who wanted this run.
fn signed(
    note: Option<&str>,
    workshop: &Workshop,
    order: &Order,
    belief: &Belief,
) -> Result<VerifiedRun, NotReady> {
    let Some(note) = note else {
        return Err(NotReady::refused(RefusalCode::RunUnsigned, "There is no note at all."));
    };
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
    assignment: &Assignment,
    document: &Document,
    belief: &Belief,
) -> Result<Firing, NotReady> {
    let wrong =
        |what: &str| Err(NotReady::refused(RefusalCode::RunUnsigned, format!("The schedule {name} {what}.")));
    let (true, Some(note)) = (job_is_signed, &assignment.job_note) else {
        return wrong("counts only where jobs have to be signed, too");
    };
    let Some(schedule) = document.schedules.iter().find(|schedule| schedule.name == *name) else {
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
    let (scope, outputs) = (Scope::before_steps(assignment), BTreeMap::new());
    let outside = options::Outside { scope: &scope, nodes: &[], outputs: &outputs };
    match options::check(&document.options, &given, &outside) {
        Ok(values) if values == *assignment.options => {}
        Ok(_) => return wrong("has other option values in the signed job"),
        // Defaults that depend on the clock or on nodes are the orchestrator's word.
        Err(_) => return wrong("leaves options to be filled in that nobody signed: name their values in it"),
    }
    let note = UnverifiedNote::parse(note.as_bytes())?;
    Ok(Firing {
        run: assignment.execution,
        job: format!("{}/{}", assignment.project, assignment.job),
        schedule: name.to_string(),
        due,
        note: note.identity(),
    })
}

/// Nodes that nobody signed are at least such as the signed job's filter chooses.
pub(super) fn nodes_fit(
    assignment: &Assignment,
    document: &Document,
    nodes: &[ReadyNode],
) -> Result<(), NotReady> {
    if nodes.is_empty() {
        return Ok(());
    }
    let bad = |detail: String| NotReady::refused(RefusalCode::Nodes, detail);
    let resolved = trigger::resolve(document, &Scope::before_steps(assignment)).map_err(|faults| {
        let first = faults.first().map(|fault| fault.message.clone()).unwrap_or_default();
        bad(format!("The job's filter cannot be evaluated: {first}."))
    })?;
    let given: Vec<Node> = nodes.iter().map(|ready| ready.node.as_ref().clone()).collect();
    if resolved.nodes.is_some_and(|chosen| chosen.covers(&given)) {
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

/// What sections came to: the steps of each, as believed runners signed them.
type Results = BTreeMap<SectionNumber, BTreeMap<StepName, StepView>>;

fn results(
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
struct Gates<'a> {
    order: &'a Order,
    run: Option<&'a Wanted>,
    belief: &'a Belief,
}

/// The way through a job, up to the section that was assigned.
struct Walk<'a> {
    document: &'a Document,
    assignment: &'a Assignment,
    /// Where the owner wants signed runs: what was shown. Otherwise the assignment's word counts.
    results: Option<Results>,
    /// Where the owner wants signed approvals.
    gates: Option<Gates<'a>>,
}

impl Walk<'_> {
    /// What each step before the section came to, once the section has been shown to be due.
    fn to_the_section(&self) -> Result<BTreeMap<StepName, StepView>, NotReady> {
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
                let (policy, now) = (&gates.belief.policy, gates.belief.now);
                let at = (gates.order, first.name.as_str(), gate.needed);
                let notes: Vec<&[u8]> = notes.filter(|note| about(note, first.name.as_str())).collect();
                let _ = verify::approvals(notes, at, &began, policy, now)?;
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

/// What the runner signs about the end of a section.
pub(super) struct Signer<'a> {
    /// With this key.
    pub(super) key: &'a SigningKey,
    /// Of this run.
    pub(super) order: Order,
    /// Of this section.
    pub(super) section: SectionNumber,
    /// In this attempt.
    pub(super) attempt: remit_protocol::AttemptId,
}

impl Signer<'_> {
    /// Signs what the steps came to. Nodes are those of the attempt; one without an end was not started.
    pub(super) fn sign(
        self,
        steps: &[StepName],
        nodes: &[(u32, remit_protocol::NodeName)],
        ends: Vec<End>,
        at: remit_protocol::Timestamp,
    ) -> Result<SignedResult, Refusal> {
        let views: BTreeMap<&StepName, StepView> = steps
            .iter()
            .enumerate()
            .map(|(place, name)| {
                let own = ends.iter().filter(|end| end.place == place);
                (name, if nodes.is_empty() { once(own) } else { per_node(nodes, own) })
            })
            .collect();
        let steps =
            serde_json::to_string(&views).map_err(|error| Refusal::new(RefusalCode::Syntax, error))?;
        let note = ResultNote {
            order: self.order,
            section: self.section,
            attempt: self.attempt,
            steps: Sized::of(steps.as_bytes()),
            at,
        };
        let note = note::sign(&note.to_text(), &[self.key])?;
        let note = String::from_utf8(note).map_err(|error| Refusal::new(RefusalCode::Syntax, error))?;
        Ok(SignedResult { note, steps })
    }
}

fn once<'e>(ends: impl Iterator<Item = &'e End>) -> StepView {
    match ends.last() {
        Some(end) => StepView { outcome: end.outcome, outputs: end.output.clone(), nodes: None },
        None => StepView { outcome: Outcome::NotStarted, outputs: None, nodes: None },
    }
}

fn per_node<'e>(nodes: &[(u32, remit_protocol::NodeName)], ends: impl Iterator<Item = &'e End>) -> StepView {
    let ended: BTreeMap<u32, Outcome> = ends.filter_map(|end| Some((end.node?.0, end.outcome))).collect();
    let outcome = |index: &u32| ended.get(index).copied().unwrap_or(Outcome::NotStarted);
    let all = nodes.iter().map(|(index, name)| (name.clone(), outcome(index)));
    StepView {
        outcome: rollup::step(nodes.iter().map(|(index, _)| outcome(index))),
        outputs: None,
        nodes: Some(rollup::nodes_view(all)),
    }
}
