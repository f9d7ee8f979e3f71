//! Answers at gates.

use std::path::PathBuf;

use clap::Args;
use remit_protocol::{
    ExecutionId, Span, StepName, Timestamp,
    digest::Sized,
    operator::{Answer, ExecutionSummary, ExecutionView, SectionState, SectionView, StepKind, path},
};
use remit_signing::{
    JobPath, note,
    run::{ApproveNote, MAX_VALIDITY, Order},
};

use super::{execution::standing, key, note as note_command};
use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    output::{Output, harmless, note as say},
};

/// Whether an approval is signed.
#[derive(Args)]
pub(crate) struct Signing {
    /// Sign the approval with this private key: what runners believe whose owner wants to see approvals signed.
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// How long the signature is good, at most 24 hours: nothing behind the gate begins later.
    #[arg(long, default_value = "1h", requires = "sign")]
    valid_for: Span,
}

/// Agrees at the gate `step`, or at the only one that waits.
pub(super) async fn approve(
    connection: &Connection,
    id: ExecutionId,
    step: Option<StepName>,
    signing: Signing,
    output: Output,
) -> Result<()> {
    let view: ExecutionView = connection.get(&path::fill(path::EXECUTION, &[&id])).await?;
    let (section, step) = open(&view, step.as_ref())?;
    let note = signing.sign(&view, section, step)?;
    tell(connection, id, section, Answer { agrees: true, note, why: String::new() }, output).await
}

/// Refuses at the gate `step`, or at the only one that waits.
pub(super) async fn deny(
    connection: &Connection,
    id: ExecutionId,
    step: Option<StepName>,
    why: String,
    output: Output,
) -> Result<()> {
    let view: ExecutionView = connection.get(&path::fill(path::EXECUTION, &[&id])).await?;
    let (section, _) = open(&view, step.as_ref())?;
    tell(connection, id, section, Answer { agrees: false, note: None, why }, output).await
}

async fn tell(
    connection: &Connection,
    id: ExecutionId,
    section: &SectionView,
    answer: Answer,
    output: Output,
) -> Result<()> {
    let address = path::fill(path::EXECUTION_ANSWER, &[&id, &section.number]);
    let summary: ExecutionSummary = connection.post(&address, &answer).await?;
    output.print(&summary, |summary| format!("execution {id}: {}", standing(summary)));
    Ok(())
}

impl Signing {
    /// The approval of exactly this run: its job document, option values and nodes.
    fn sign(&self, view: &ExecutionView, section: &SectionView, step: &StepName) -> Result<Option<String>> {
        let Some(file) = &self.sign else { return Ok(None) };
        if self.valid_for.duration() > MAX_VALIDITY {
            return Err(Failure::input("an approval is valid for at most 24 hours"));
        }
        let key = key::load(file)?;
        let summary = &view.summary;
        say(&format!(
            "{}\nrun {} of {}/{}, document {}\noptions {}\nnodes {}",
            harmless(section.reason.as_deref().unwrap_or_default()),
            summary.id,
            summary.project,
            summary.job,
            view.definition.digest,
            harmless(&view.options_text),
            view.node_set.map_or_else(|| "none".to_owned(), |set| format!("{} ({})", view.nodes, set.digest)),
        ));
        let second = Timestamp::from_millis(note_command::now().as_secs() * 1000);
        let says = ApproveNote {
            order: Order {
                run: summary.id,
                job: JobPath { project: summary.project.clone(), job: summary.job.clone() },
                definition: view.definition,
                options: Sized::of(view.options_text.as_bytes()),
                nodes: view.node_set,
            },
            step: step.clone(),
            issued: second,
            expires: second.plus(self.valid_for.duration()),
        };
        let signed =
            note::sign(&says.to_text(), &[&key]).map_err(|refusal| note_command::refused(&refusal))?;
        String::from_utf8(signed).map(Some).map_err(|error| Failure::input(error.to_string()))
    }
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
