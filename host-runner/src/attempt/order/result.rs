//! What a section came to, as this runner signs it.

use std::collections::BTreeMap;

use remit_job::rollup;
use remit_protocol::{
    AttemptId, NodeName, Outcome, RefusalCode, SectionNumber, StepName, Timestamp, assignment::StepView,
    digest::Sized, report::SignedResult,
};
use remit_signing::{
    Refusal, SigningKey, note,
    run::{Order, ResultNote},
};

use crate::attempt::voice::End;

/// What the runner signs about the end of a section.
pub(in crate::attempt) struct Signer<'a> {
    /// With this key.
    pub(in crate::attempt) key: &'a SigningKey,
    /// Of this run.
    pub(in crate::attempt) order: Order,
    /// Of this section.
    pub(in crate::attempt) section: SectionNumber,
    /// In this attempt.
    pub(in crate::attempt) attempt: AttemptId,
}

impl Signer<'_> {
    /// Signs what the steps came to. Nodes are those of the attempt; one without an end was not started.
    pub(in crate::attempt) fn sign(
        self,
        steps: &[StepName],
        nodes: &[(u32, NodeName)],
        ends: Vec<End>,
        at: Timestamp,
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

fn per_node<'e>(nodes: &[(u32, NodeName)], ends: impl Iterator<Item = &'e End>) -> StepView {
    let ended: BTreeMap<u32, Outcome> = ends.filter_map(|end| Some((end.node?.0, end.outcome))).collect();
    let outcome = |index: &u32| ended.get(index).copied().unwrap_or(Outcome::NotStarted);
    let all = nodes.iter().map(|(index, name)| (name.clone(), outcome(index)));
    StepView {
        outcome: rollup::step(nodes.iter().map(|(index, _)| outcome(index))),
        outputs: None,
        nodes: Some(rollup::nodes_view(all)),
    }
}
