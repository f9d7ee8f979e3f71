//! Answers at gates.

use remit_protocol::{
    ExecutionId, StepName,
    operator::{Answer, ExecutionSummary, ExecutionView, SectionState, SectionView, StepKind, path},
};

use super::execution::standing;
use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    output::Output,
};

/// Answers at the gate `step`, or at the only one that waits.
pub(super) async fn answer(
    connection: &Connection,
    id: ExecutionId,
    step: Option<StepName>,
    answer: Answer,
    output: Output,
) -> Result<()> {
    let view: ExecutionView = connection.get(&path::fill(path::EXECUTION, &[&id])).await?;
    let (section, _) = open(&view, step.as_ref())?;
    let address = path::fill(path::EXECUTION_ANSWER, &[&id, &section.number]);
    let summary: ExecutionSummary = connection.post(&address, &answer).await?;
    output.print(&summary, |summary| format!("execution {id}: {}", standing(summary)));
    Ok(())
}

/// The gate of this name, or the only one at which the execution waits.
fn open<'a>(view: &'a ExecutionView, wanted: Option<&StepName>) -> Result<(&'a SectionView, &'a StepName)> {
    let gates: Vec<_> = view
        .sections
        .iter()
        .filter(|section| section.state == SectionState::Held)
        .filter_map(|section| {
            let step = view.steps.iter().find(|step| step.index == section.first_step)?;
            matches!(step.does, StepKind::Gate { .. }).then_some((section, &step.name))
        })
        .filter(|(_, name)| wanted.is_none_or(|wanted| wanted == *name))
        .collect();
    let names: Vec<&str> = gates.iter().map(|(_, name)| name.as_str()).collect();
    match &gates[..] {
        [one] => Ok(*one),
        [] => Err(Failure::new(
            Code::Input,
            format!("execution {} waits at no such gate", view.summary.id),
            "remit execution show says what it waits for",
        )),
        _ => Err(Failure::new(
            Code::Input,
            format!("execution {} waits at several gates: {}", view.summary.id, names.join(", ")),
            "name one with --step",
        )),
    }
}
