//! Commands that are run once: an execution of a document that is no job's.

use remit_job::document::Document;
use remit_protocol::{ExecutionId, IdempotencyKey, Origin, Revision, assignment::OptionValues};

use super::{
    Scheduler, TriggerError,
    projects::variables,
    trigger::{Drafted, Triggered, fault, unstored},
};
use crate::execution::{Head, Purpose};

/// A command that is to be run.
#[derive(Debug, Clone)]
pub struct CommandRun {
    /// What it comes to.
    pub document: Document,
    /// Who asks.
    pub started_by: String,
    /// The same key means the same execution.
    pub key: Option<IdempotencyKey>,
}

impl Scheduler {
    /// Makes an execution of a command. It is recorded when this returns.
    pub async fn command(&self, run: CommandRun) -> Result<Triggered, TriggerError> {
        let drafted = self.draft_command(&run).await?;
        let request = drafted.head.document.digest;
        self.begin(drafted, run.key.map(|key| (key, request))).await
    }

    /// What an execution of a command would be.
    pub async fn draft_command(&self, run: &CommandRun) -> Result<Drafted, TriggerError> {
        let project = run.document.project.clone();
        let settings = self.settings(&project).await?;
        self.check_quota(&project, settings.quotas.open_executions)?;
        let stored = self.store().blobs().put(run.document.to_vec()).await.map_err(unstored)?;
        let document = self.document(stored).await?;
        let id = ExecutionId::from_parts(self.now(), self.inner.surroundings.random());
        let mut head = Head {
            project,
            job: document.job.clone(),
            revision: Revision(0),
            document: stored,
            note: None,
            purpose: Purpose::Command,
            options: OptionValues::default(),
            files: Vec::new(),
            run_note: None,
            sealed: None,
            started_by: run.started_by.clone(),
            origin: Origin::Operator,
            variables: variables(&settings),
            tags: document.runner.tags.clone(),
            nodes: None,
            timeout: None,
            not_before: None,
            at_once: None,
            most_queued: None,
            queued_until: None,
            log_limit: None,
            retries: 0,
            parent: None,
            again: None,
        };
        let nodes = self.resolve(id, &mut head, &document, None, None).await?;
        if head.nodes.is_some() && nodes.is_empty() {
            let remedy = "see what there is: `remit nodes list --filter …`";
            return Err(fault("filter", "no node matches", remedy));
        }
        let runners = self.could_run(&head);
        Ok(Drafted { id, head, document, nodes, runners, sealed: Vec::new(), taken: None })
    }
}
