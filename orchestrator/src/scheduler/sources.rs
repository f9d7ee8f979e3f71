//! Node sources: asked anew by an execution of their own, or fed by what a job has found out.

use std::sync::Arc;

use remit_protocol::{
    ExecutionId, JobName, Origin, ProjectName, Revision, SourceName, assignment::OptionValues, node::NodeSet,
    operator,
};
use serde_json::{Map, Value};

use super::{
    Scheduler,
    trigger::{Drafted, TriggerError},
};
use crate::{
    execution::{Head, Purpose},
    nodes::Results,
    store::{ExecutionFilter, MAX_PAGE, ResultFilter, Source, SourceKind, StoreError},
};

impl Scheduler {
    /// Asks a node source anew: an execution like any other, of the source's own document.
    pub async fn refresh_source(
        &self,
        project: &ProjectName,
        name: &SourceName,
        (by, origin): (&str, Origin),
    ) -> Result<ExecutionId, TriggerError> {
        let sources = self.store().sources(project).await?;
        let source = sources.into_iter().find(|source| source.name == *name);
        if let Some(source) = source.as_ref().filter(|source| source.kind == SourceKind::Job) {
            return self.take_results(source).await;
        }
        let document = source.and_then(|source| source.document);
        let which = document.ok_or_else(|| TriggerError::NoSource(project.clone(), name.clone()))?;
        let document = self.document(which).await?;
        let id = ExecutionId::from_parts(self.now(), self.inner.surroundings.random());
        let head = Head {
            project: project.clone(),
            job: document.job.clone(),
            revision: Revision(0),
            document: which,
            note: None,
            purpose: Purpose::Source(name.clone()),
            options: OptionValues::default(),
            files: Vec::new(),
            run_note: None,
            sealed: None,
            started_by: by.to_owned(),
            origin,
            variables: Map::new(),
            tags: document.runner.tags.clone(),
            nodes: None,
            timeout: None,
            not_before: None,
            at_once: Some(1),
            most_queued: None,
            queued_until: None,
            log_limit: None,
            retries: 0,
            parent: None,
            again: None,
        };
        let nodes = Arc::from([]);
        let drafted =
            Drafted { id, head, document, nodes, runners: Vec::new(), sealed: Vec::new(), taken: None };
        Ok(self.begin(drafted, None).await?.execution)
    }

    /// Takes what the newest execution of a source's job has found out about its nodes; what was taken already stays.
    async fn take_results(&self, source: &Source) -> Result<ExecutionId, TriggerError> {
        let job = source.config.get("job").and_then(Value::as_str).and_then(|job| JobName::new(job).ok());
        let job = job.ok_or_else(|| TriggerError::NoSource(source.project.clone(), source.name.clone()))?;
        let filter = ExecutionFilter {
            project: Some(source.project.clone()),
            job: Some(job.clone()),
            state: Some(operator::ExecutionState::Ended),
            limit: 1,
            ..ExecutionFilter::default()
        };
        let newest = self.store().executions(filter).await?.into_iter().next();
        let newest = newest.ok_or_else(|| TriggerError::NoResults(job.clone()))?.id;
        if source.execution == Some(newest) && source.nodes.is_some() {
            return Ok(newest);
        }
        let record = self.store().execution(newest).await?.ok_or(TriggerError::NoResults(job))?;
        let nodes = match &record.head.nodes {
            Some(nodes) => self.node_set(nodes.set).await?,
            None => NodeSet::default(),
        };
        let document = self.document(record.head.document).await?;
        let mut results = Results::new(source.name.clone(), nodes);
        let mut after = None;
        loop {
            let filter =
                ResultFilter { per_node: Some(true), after, limit: MAX_PAGE, ..ResultFilter::default() };
            let page = self.store().results(newest, filter).await?;
            for result in &page {
                let step = usize::try_from(result.ended.step.0).ok().and_then(|at| document.steps.get(at));
                results.take(step.map_or("", |step| step.name.as_str()), &result.ended);
            }
            let Some(last) = page.last().filter(|_| page.len() >= MAX_PAGE as usize) else { break };
            after = Some((last.ended.node, last.ended.step));
        }
        let set = results.into_set();
        let count = u32::try_from(set.nodes.len()).unwrap_or(u32::MAX);
        let bytes = serde_json::to_vec(&set).map_err(|error| StoreError::Damaged(error.to_string()))?;
        let stored = self
            .store()
            .blobs()
            .put(bytes)
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.store().take_results(source, newest, (stored, count), self.now()).await?;
        Ok(newest)
    }
}
