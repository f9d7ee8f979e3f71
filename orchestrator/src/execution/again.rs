//! An execution that goes back to an earlier one: on which nodes a job is run again, and what one that goes on takes over.
//!
//! What is taken over is a prefix of the job: everything before the first section that did not end well, what stood beside
//! it and succeeded, and the nodes that came through that section. Gates and halts never are: people are asked anew.

use std::collections::{BTreeMap, BTreeSet};

use remit_job::{
    document::{Document, Per},
    rollup,
    sections::{self, Section},
};
use remit_protocol::{ExecutionId, NodeIndex, Outcome, SectionNumber, StepIndex, operator::NodeFate};
use serde_json::Value;

use super::{
    live::{Draft, Live, ranges},
    record::{Change, Work},
    state::SectionEvent,
    transition::Illegal,
};

/// What an execution that has ended came to.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// Which.
    pub id: ExecutionId,
    /// What its steps came to.
    pub steps: BTreeMap<StepIndex, Outcome>,
    /// Every result: step, node, outcome, and a workflow step's output.
    pub results: Vec<(StepIndex, Option<NodeIndex>, Outcome, Option<Value>)>,
}

impl Earlier {
    /// How the nodes ended that did not come through: everything else went well on them.
    pub fn fates(&self, document: &Document, count: u32) -> BTreeMap<NodeIndex, NodeFate> {
        let steps =
            || (0_u32..).map(StepIndex).zip(&document.steps).filter(|(_, step)| step.per == Per::Node);
        let ended = self.cells();
        let mut fates = BTreeMap::new();
        for node in (0..count).map(NodeIndex) {
            let outcomes = steps().map(|(step, _)| match ended.get(&(node, step)) {
                Some(outcome) => *outcome,
                // Of a step that ended well as a whole, or was skipped, a node may have no result of its own.
                None => match self.steps.get(&step) {
                    Some(outcome) if outcome.is_good() => *outcome,
                    _ => Outcome::NotStarted,
                },
            });
            if let Some(fate) = fate(rollup::step(outcomes)) {
                fates.insert(node, fate);
            }
        }
        fates
    }

    fn cells(&self) -> BTreeMap<(NodeIndex, StepIndex), Outcome> {
        let of_nodes = self.results.iter();
        of_nodes.filter_map(|(step, node, outcome, _)| Some((((*node)?, *step), *outcome))).collect()
    }

    /// What a part of the job came to.
    fn outcome(&self, section: &Section) -> Outcome {
        rollup::step(
            steps_of(section).map(|step| self.steps.get(&step).copied().unwrap_or(Outcome::NotStarted)),
        )
    }

    /// The first section that did not end well: an execution that goes on begins there.
    pub fn resume_point(&self, document: &Document) -> Option<SectionNumber> {
        let plan = sections::plan(document);
        plan.iter().find(|section| !self.outcome(section).is_good()).map(|section| section.number)
    }
}

fn steps_of(section: &Section) -> impl Iterator<Item = StepIndex> + use<> {
    (section.first.0..section.first.0.saturating_add(section.steps)).map(StepIndex)
}

fn fate(outcome: Outcome) -> Option<NodeFate> {
    match outcome {
        Outcome::Succeeded | Outcome::Skipped => None,
        Outcome::Lost | Outcome::Interrupted => Some(NodeFate::Unknown),
        Outcome::NotStarted => Some(NodeFate::NotStarted),
        Outcome::Failed
        | Outcome::Refused(_)
        | Outcome::Trapped
        | Outcome::TimedOut
        | Outcome::OverLimit(_)
        | Outcome::Cancelled
        | Outcome::HostFault => Some(NodeFate::Failed),
    }
}

impl Live {
    /// Takes over what counts of an earlier execution of the same job over the same nodes. To be called before it is let
    /// go, on the draft of its making.
    pub fn take_over(&mut self, earlier: &Earlier, draft: &mut Draft) -> Result<(), Illegal> {
        let Some(point) = earlier.resume_point(&self.document) else { return Ok(()) };
        let plan = sections::plan(&self.document);
        let group = |section: &Section| section.of(&self.document).first().and_then(|step| step.group);
        let begins = plan.iter().find(|section| section.number == point).and_then(group);
        let mut whole: BTreeSet<usize> = BTreeSet::new();
        let mut partly: Vec<usize> = Vec::new();
        for section in &plan {
            let beside = begins.is_some() && group(section) == begins;
            let good = section.number < point || (beside && earlier.outcome(section) == Outcome::Succeeded);
            let own = (0..self.sections.len()).filter(|at| {
                let place = &self.sections[*at].record.place;
                let steps = place.steps();
                steps.start >= section.first.0
                    && steps.end <= section.first.0.saturating_add(section.steps)
                    && matches!(place.work, Work::Steps { .. } | Work::Jobs { .. })
            });
            match (good, section.per) {
                (true, _) => whole.extend(own),
                (false, Per::Node) if section.number == point || beside => partly.extend(own),
                (false, _) => {}
            }
        }
        self.bridge(&whole, draft);
        for at in partly {
            self.fill(at, earlier, draft);
        }
        for at in whole {
            self.fill(at, earlier, draft);
            let steps = self.sections[at].record.place.steps().map(StepIndex);
            let outcome =
                rollup::step(steps.map(|step| earlier.steps.get(&step).copied().unwrap_or(Outcome::Skipped)));
            let why = format!("taken over from execution {}", earlier.id);
            self.move_section(at, SectionEvent::End(outcome), &why, draft)?;
            self.conclude_steps(at, outcome, draft);
        }
        Ok(())
    }

    /// What comes after a section that is taken over comes after what that one would have waited for.
    fn bridge(&mut self, taken: &BTreeSet<usize>, draft: &mut Draft) {
        let after: BTreeMap<SectionNumber, Vec<SectionNumber>> = taken
            .iter()
            .map(|at| &self.sections[*at].record.place)
            .map(|place| (place.number, place.after.clone()))
            .collect();
        for section in &mut self.sections {
            let place = &mut section.record.place;
            let mut open: BTreeSet<SectionNumber> = BTreeSet::new();
            let mut seen: BTreeSet<SectionNumber> = BTreeSet::new();
            let mut rest = place.after.clone();
            while let Some(number) = rest.pop() {
                match after.get(&number) {
                    Some(before) if seen.insert(number) => rest.extend(before),
                    Some(_) => {}
                    None => {
                        open.insert(number);
                    }
                }
            }
            place.after = open.into_iter().collect();
            for change in &mut draft.changes {
                if let Change::Planned(planned) = change
                    && planned.place.number == place.number
                {
                    planned.place.after.clone_from(&place.after);
                }
            }
        }
    }

    /// Fills a section with what its steps came to: all of it for a workflow step, and the nodes that came through.
    fn fill(&mut self, at: usize, earlier: &Earlier, draft: &mut Draft) {
        let section = &mut self.sections[at];
        let steps = section.record.place.steps();
        let own = earlier.results.iter().filter(|(step, ..)| steps.contains(&step.0));
        let nodes = match (&mut section.nodes, &section.record.place.work) {
            (Some(progress), Work::Steps { nodes: Some(places), .. }) => {
                let count = usize::try_from(steps.end - steps.start).unwrap_or(usize::MAX);
                let inside = |node: u32| places.iter().any(|(first, end)| (*first..*end).contains(&node));
                let mut cells: BTreeMap<u32, Vec<(usize, Outcome)>> = BTreeMap::new();
                for (step, node, outcome, _) in own {
                    let Some(NodeIndex(node)) = *node else { continue };
                    let place = usize::try_from(step.0 - steps.start).unwrap_or(usize::MAX);
                    cells.entry(node).or_default().push((place, *outcome));
                }
                cells.retain(|node, cells| {
                    inside(*node)
                        && cells.len() == count
                        && cells.iter().all(|(_, outcome)| outcome.is_good())
                });
                for (node, cells) in &cells {
                    for (place, outcome) in cells {
                        progress.end(*node, *place, *outcome);
                    }
                }
                let through: Vec<u32> = cells.into_keys().collect();
                Some(ranges(&through))
            }
            _ => {
                let mut found = own.filter(|(_, node, ..)| node.is_none());
                let Some((_, _, outcome, output)) = found.next_back() else { return };
                section.ended = Some((*outcome, output.clone()));
                None
            }
        };
        if nodes.as_ref().is_none_or(|nodes| !nodes.is_empty()) {
            let steps = (StepIndex(steps.start), StepIndex(steps.end));
            draft.changes.push(Change::TakenOver { from: earlier.id, steps, nodes });
        }
    }
}
