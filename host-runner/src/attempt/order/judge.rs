//! Why an execution may begin, and what the jobs that it runs came to: the same question asked of each of its family.
//!
//! *Invariant:* a child is believed to be wanted only by a step of a run that is believed itself, once that step is due by
//! what runners signed; and it is believed to have ended only by what runners signed about it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use remit_job::{
    children::{self, MAX_DEPTH},
    document::{Action, Step},
    expression::Scope,
    options,
    sections::Section,
};
use remit_protocol::{
    ExecutionId, Origin, RefusalCode,
    assignment::{ChildOf, StepView},
    node::Node,
};
use remit_signing::policy::{ChildRun, Wanted};
use serde_json::Map;

use super::{
    family::{Family, Member},
    nodes_fit, scheduled, signed,
    walk::{Gates, Walk, results, wrong},
};
use crate::{
    attempt::{Workshop, prepare::NotReady},
    config::SignedKind,
    trust::Belief,
};

/// Judges the executions of one family.
pub(super) struct Judge<'a> {
    workshop: &'a Workshop,
    belief: &'a Belief,
    /// Which came along, beside the assigned one.
    family: BTreeMap<ExecutionId, Member<'a>>,
    /// For which place which of them is.
    children: BTreeMap<ChildOf, ExecutionId>,
    /// The nodes that the initiator signed with the run that began the family.
    signed_nodes: BTreeMap<&'a str, &'a Arc<Node>>,
}

impl<'a> Judge<'a> {
    /// A judge of the assigned execution and its family.
    ///
    /// # Errors
    /// `E_ORDER` if two of them are said to be the same.
    pub(super) fn new(
        workshop: &'a Workshop,
        belief: &'a Belief,
        family: &'a Family,
        assigned: &Member<'a>,
    ) -> Result<Self, NotReady> {
        let mut judge = Self {
            workshop,
            belief,
            family: BTreeMap::new(),
            children: BTreeMap::new(),
            signed_nodes: BTreeMap::new(),
        };
        let twice =
            |id: ExecutionId| NotReady::refused(RefusalCode::Order, format!("Run {id} is shown twice."));
        for member in family.members(&assigned.order.job.project) {
            let id = member.order.run;
            if id == assigned.order.run {
                return Err(twice(id));
            }
            if let Some(place) = member.child_of
                && judge.children.insert(place, id).is_some()
            {
                let detail = format!("Two runs are shown for one step of run {}.", place.execution);
                return Err(NotReady::refused(RefusalCode::Order, detail));
            }
            match judge.family.entry(id) {
                Entry::Vacant(free) => _ = free.insert(member),
                Entry::Occupied(_) => return Err(twice(id)),
            }
        }
        judge.signed_nodes = judge.nodes_of_root(assigned);
        Ok(judge)
    }

    /// The nodes of the run that began the family, where somebody signed it.
    fn nodes_of_root(&self, assigned: &Member<'a>) -> BTreeMap<&'a str, &'a Arc<Node>> {
        let mut root = assigned;
        for _ in 0..MAX_DEPTH {
            match root.child_of.filter(|_| root.run_note.is_none()) {
                Some(place) => match self.family.get(&place.execution) {
                    Some(parent) => root = parent,
                    None => break,
                },
                None => break,
            }
        }
        let nodes = root.nodes.filter(|_| root.run_note.is_some()).unwrap_or_default();
        nodes.iter().map(|node| (node.name.as_str(), node)).collect()
    }

    fn wants(&self, kind: SignedKind) -> bool {
        self.workshop.require_signed.contains(&kind)
    }

    /// Why a run may begin, `depth` runs above the assigned one.
    ///
    /// # Errors
    /// `E_RUN`, or whatever is wrong with a note or on the way to the step that wants it.
    pub(super) fn why(&self, member: &Member<'a>, depth: usize) -> Result<Wanted, NotReady> {
        match (member.run_note, member.origin, member.child_of) {
            (None, Origin::Schedule { name, due }, _) => {
                let firing = scheduled((name, *due), self.wants(SignedKind::Job), member, self.belief)?;
                if depth > 0 {
                    nodes_fit(member.document, &member.scope, None, member.nodes.unwrap_or_default())?;
                }
                Ok(Wanted::Scheduled(firing))
            }
            (None, _, Some(place)) => self.child(member, place, depth).map(Wanted::Child),
            (None, _, None) => Err(NotReady::refused(RefusalCode::RunUnsigned, "There is no note at all.")),
            (Some(note), ..) => signed(note, self.workshop, &member.order, self.belief).map(Wanted::Signed),
        }
    }

    /// A run that a step of another one wants.
    fn child(&self, member: &Member<'a>, place: ChildOf, depth: usize) -> Result<ChildRun, NotReady> {
        let wrong = |detail: String| NotReady::refused(RefusalCode::RunUnsigned, detail);
        let above = place.execution;
        if !self.wants(SignedKind::Job) {
            return Err(wrong(
                "Another run began it, which counts only where jobs have to be signed, too.".to_owned(),
            ));
        }
        if depth >= MAX_DEPTH {
            return Err(wrong(format!("Jobs run jobs more than {MAX_DEPTH} deep.")));
        }
        let parent = self.family.get(&above);
        let parent =
            parent.ok_or_else(|| wrong(format!("Run {above} is said to want it, and is not shown.")))?;
        let of_parent = |not: NotReady| not.of_run(above);
        let by = self.why(parent, depth + 1).map_err(of_parent)?;
        let way = |by| self.walk(parent, Some(by), depth + 1)?.to_the_section(place.step);
        let (_, scope) = way(&by).map_err(of_parent)?;
        let at = usize::try_from(place.step.0).unwrap_or(usize::MAX);
        let step = parent.document.steps.get(at);
        let step = step.ok_or_else(|| wrong(format!("Run {above} has no step {}.", place.step)))?;
        let mut wanted = children::wanted(step, &scope)
            .map_err(|why| wrong(format!("Step {} of run {above}: {why}.", step.name)))?;
        let item = usize::try_from(place.item).unwrap_or(usize::MAX);
        if item >= wanted.len() {
            return Err(wrong(format!("Step {} of run {above} does not want it.", step.name)));
        }
        self.fits(member, step, wanted.swap_remove(item), RefusalCode::RunUnsigned)?;
        Ok(ChildRun { order: member.order.clone(), parent: Box::new(by), step: place.step, item: place.item })
    }

    /// Whether a run is exactly what a step wants.
    fn fits(
        &self,
        child: &Member<'a>,
        step: &Step,
        wanted: children::Wanted,
        code: RefusalCode,
    ) -> Result<(), NotReady> {
        let wrong = |detail: String| Err(NotReady::refused(code, detail));
        let job = &child.order.job.job;
        if !matches!(&step.action, Action::Job(action) if action.job == *job) {
            return wrong(format!("Step {} does not run the job {job}.", step.name));
        }
        let (project, outputs) = (&child.order.job.project, BTreeMap::new());
        let scope = Scope::signed(project, child.order.run, job, &Map::new());
        let outside = options::Outside { scope: &scope, nodes: &[], outputs: &outputs };
        match options::check(&child.document.options, &wanted.with, &outside) {
            Ok(values) if values == **child.options => {}
            Ok(_) => return wrong(format!("Step {} gives the job {job} other option values.", step.name)),
            Err(faults) => {
                let first = faults.first().map(|fault| fault.message.as_str()).unwrap_or_default();
                return wrong(format!(
                    "What step {} gives the job {job} leaves options to be filled in that nobody signed ({first}): name \
                     their values in its `with`.",
                    step.name
                ));
            }
        }
        self.nodes_fit(child, wanted)
    }

    /// Nodes of a child are such as the signed filter chooses; those that the initiator signed are the same here.
    fn nodes_fit(&self, child: &Member<'a>, wanted: children::Wanted) -> Result<(), NotReady> {
        let bad = |detail: String| Err(NotReady::refused(RefusalCode::Nodes, detail));
        if child.document.nodes.is_some() != child.nodes.is_some() {
            return bad("The job speaks of nodes and the run has none, or the other way round.".to_owned());
        }
        let nodes = child.nodes.unwrap_or_default();
        let other = |node: &&Arc<Node>| {
            self.signed_nodes.get(node.name.as_str()).is_some_and(|signed| signed.as_ref() != node.as_ref())
        };
        if let Some(node) = nodes.iter().find(other) {
            return bad(format!("The node {} is not as it was signed with the run.", node.name));
        }
        nodes_fit(child.document, &child.scope, wanted.nodes, nodes)
    }

    /// The way through a run, wherever in the family it stands; `run` is why the assigned one may begin, where that has to
    /// be shown.
    ///
    /// # Errors
    /// Whatever is wrong with a result.
    pub(super) fn walk<'s>(
        &'s self,
        member: &'s Member<'a>,
        run: Option<&'s Wanted>,
        depth: usize,
    ) -> Result<Walk<'s>, NotReady> {
        let results = run.map(|_| results(self.workshop, member, self.belief)).transpose()?;
        let (policy, now) = (&self.belief.policy, self.belief.now);
        let gates =
            self.wants(SignedKind::Approve).then_some(Gates { order: &member.order, run, policy, now });
        let jobs = move |section: &Section, step: &Step, scope: &Scope| {
            self.came_to(member, (section, step), scope, run, depth)
        };
        Ok(Walk {
            document: member.document,
            before: member.scope.clone(),
            said: member.said,
            approvals: member.approvals,
            nodes: member.order.nodes,
            results,
            gates,
            jobs: Box::new(jobs),
        })
    }

    /// What the jobs came to that a step ran, every one of them walked to its end.
    fn came_to(
        &self,
        member: &Member<'a>,
        (section, step): (&Section, &Step),
        scope: &Scope,
        run: Option<&Wanted>,
        depth: usize,
    ) -> Result<StepView, NotReady> {
        let wrong = |what: &str| wrong(section, member.document, &format!("runs another job, {what}"));
        if !self.wants(SignedKind::Job) {
            return Err(wrong("which counts only where jobs have to be signed, too"));
        }
        if depth >= 2 * MAX_DEPTH {
            return Err(wrong("and jobs run jobs too deep"));
        }
        let wanted =
            children::wanted(step, scope).map_err(|why| wrong(&format!("and cannot say how: {why}")))?;
        let mut ended = Vec::with_capacity(wanted.len());
        for (item, wanted) in (0_u32..).zip(wanted) {
            let place = ChildOf { execution: member.order.run, step: section.first, item };
            let child = self.children.get(&place).and_then(|id| self.family.get(id));
            let child = child.ok_or_else(|| wrong(&format!("and item {item} of it is not shown")))?;
            // What began here for this place is the one that counts, whatever else was begun elsewhere.
            if let Some(own) = self.workshop.trust.child_at(&place).filter(|own| *own != child.order.run) {
                return Err(wrong(&format!("and item {item} of it was begun here as run {own}")));
            }
            let of_child = |not: NotReady| not.of_run(child.order.run);
            self.fits(child, step, wanted, RefusalCode::Order).map_err(of_child)?;
            let walk = self.walk(child, run, depth + 1).map_err(of_child)?;
            ended.push(walk.to_the_end().map_err(of_child)?);
        }
        let (outcome, outputs) = children::came_to(ended, step);
        Ok(StepView { outcome, outputs, nodes: None })
    }
}
