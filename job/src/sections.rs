//! Sections: what is handed to a runner in one piece. One workflow step, or a run of consecutive node steps. A gate, a
//! halt and a job are sections, too, and no runner's.

use remit_protocol::{SectionNumber, StepIndex, assignment::StartMode, capability::Effect};

use crate::document::{Document, Per, Step};

/// A piece of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Its place in the plan, from 0.
    pub number: SectionNumber,
    /// Its first step.
    pub first: StepIndex,
    /// How many steps it has.
    pub steps: u32,
    /// Run once, or per node.
    pub per: Per,
    /// The highest retry class of its steps.
    pub effect: Effect,
}

impl Section {
    /// Whether a runner has to ask before it begins: only what may be run twice without harm may begin at the hand-out.
    pub fn start(&self) -> StartMode {
        match self.effect {
            Effect::Pure | Effect::Read => StartMode::Fast,
            Effect::Idempotent | Effect::Effect => StartMode::Guarded,
        }
    }

    /// Its steps.
    pub fn of<'a>(&self, document: &'a Document) -> &'a [Step] {
        let first = usize::try_from(self.first.0).unwrap_or(usize::MAX);
        let end = first.saturating_add(usize::try_from(self.steps).unwrap_or(usize::MAX));
        document.steps.get(first..end).unwrap_or_default()
    }
}

/// Whether consecutive steps are run as one piece: all of them on a node before the next.
pub fn together(steps: &[Step]) -> bool {
    steps.iter().all(|step| step.per == Per::Node && step.group.is_none())
}

/// The sections of a job, in order: every step is in exactly one.
pub fn plan(document: &Document) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (at, step) in (0_u32..).zip(&document.steps) {
        let place = usize::try_from(at).unwrap_or(usize::MAX);
        let neighbours = document.steps.get(place.saturating_sub(1)..=place).unwrap_or_default();
        match sections.last_mut() {
            Some(last) if place > 0 && together(neighbours) => {
                last.steps += 1;
                last.effect = last.effect.max(step.effect());
            }
            last => {
                let number = last.map_or(SectionNumber(0), |last| last.number.next());
                let section =
                    Section { number, first: StepIndex(at), steps: 1, per: step.per, effect: step.effect() };
                sections.push(section);
            }
        }
    }
    sections
}
