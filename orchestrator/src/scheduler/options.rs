//! What the options of a job depend on and is not in the job: the project's nodes, and what other jobs found.
//!
//! Nothing is fetched for an option. What is not in the record, or is too old, counts as not there, and then no value is
//! accepted.

use std::{collections::BTreeMap, sync::Arc};

use remit_job::{
    document::{Document, Per},
    expression::{ExecutionView, Scope},
    options::{self, OfJob, Outside, Values},
};
use remit_protocol::{
    ExecutionId, JobName, OptionName, ProjectName, Revision, StepIndex, digest,
    endpoint::Fault,
    node::NodeSet,
    operator::{JobOptions, OptionView},
};
use serde_json::{Map, Value};

use super::{Scheduler, TriggerError, projects::variables};
use crate::store::{ExecutionFilter, ResultFilter, StoreError};

/// What was gathered for the options of one job.
pub(super) struct Gathered {
    scope: Scope,
    nodes: Arc<NodeSet>,
    outputs: BTreeMap<OfJob, Result<Value, String>>,
}

impl Gathered {
    /// As the check of options takes it.
    pub(super) fn outside(&self) -> Outside<'_> {
        Outside { scope: &self.scope, nodes: &self.nodes.nodes, outputs: &self.outputs }
    }
}

impl Scheduler {
    /// Gathers what the options of a job depend on. `view` is the execution that they are for.
    pub(super) async fn gather(
        &self,
        project: &ProjectName,
        document: &Document,
        (view, variables): (&ExecutionView, &Map<String, Value>),
    ) -> Result<Gathered, StoreError> {
        let sources = || document.options.iter().filter_map(|option| option.kind.values());
        let nodes = match sources().any(|values| matches!(values, Values::Nodes(_))) {
            true => self.project_nodes(project).await?,
            false => Arc::default(),
        };
        let mut outputs = BTreeMap::new();
        for values in sources() {
            if let Values::Job(of) = values
                && !outputs.contains_key(of)
            {
                outputs.insert(of.clone(), self.last_output(project, of).await?);
            }
        }
        let scope = Scope::new(project, view, &Map::new()).with_variables(variables).at(self.now());
        Ok(Gathered { scope, nodes, outputs })
    }

    /// What a step returned in its job's newest execution that succeeded, or why that does not count.
    async fn last_output(
        &self,
        project: &ProjectName,
        of: &OfJob,
    ) -> Result<Result<Value, String>, StoreError> {
        let filter = ExecutionFilter {
            project: Some(project.clone()),
            job: Some(of.job.clone()),
            outcome: Some("succeeded".to_owned()),
            limit: 1,
            ..ExecutionFilter::default()
        };
        let Some(newest) = self.store().executions(filter).await?.into_iter().next() else {
            return Ok(Err("it has never succeeded".to_owned()));
        };
        if let (Some(most), Some(ended)) = (of.max_age, newest.ended)
            && self.now().since(ended) > most.duration()
        {
            let ended = ended.to_seconds_text();
            return Ok(Err(format!("it last succeeded at {ended}, and that counts for {most}")));
        }
        let Some(record) = self.store().execution(newest.id).await? else {
            return Ok(Err("its last execution was deleted".to_owned()));
        };
        let document = self.document(record.head.document).await?;
        let step = document.step(&of.step).filter(|(_, step)| step.per == Per::Once);
        let Some((index, _)) = step else {
            return Ok(Err(format!("it had no step {} that runs once", of.step)));
        };
        let step = StepIndex(u32::try_from(index).unwrap_or(u32::MAX));
        let filter =
            ResultFilter { step: Some(step), per_node: Some(false), limit: 1, ..ResultFilter::default() };
        let result = self.store().results(newest.id, filter).await?.into_iter().next();
        Ok(result
            .and_then(|result| result.ended.output)
            .ok_or_else(|| format!("its step {} returned nothing", of.step)))
    }

    /// The files among checked values; each has to be at hand.
    pub(super) async fn given_files(
        &self,
        project: &ProjectName,
        document: &Document,
        values: &Map<String, Value>,
    ) -> Result<Vec<digest::Sized>, TriggerError> {
        let mut found = Vec::new();
        for (name, file) in options::files(&document.options, values) {
            if !self.store().has_file(project, file.bytes()).await? {
                let message = format!("the file {:?} was not uploaded, or is not kept any more", file.name);
                return Err(TriggerError::Faults(vec![Fault {
                    line: None,
                    column: None,
                    place: format!("options.{name}"),
                    message,
                    remedy: "give it with `--option-file NAME=PATH`".to_owned(),
                }]));
            }
            found.push(file.bytes());
        }
        Ok(found)
    }

    /// The options of a job as they stand where `given` has been chosen so far.
    pub async fn options(
        &self,
        project: &ProjectName,
        job: &JobName,
        given: &BTreeMap<OptionName, Value>,
    ) -> Result<JobOptions, TriggerError> {
        let known = self.store().job(project, job, None::<Revision>).await?;
        let known = known.ok_or_else(|| TriggerError::NoJob(project.clone(), job.clone()))?;
        let document = self.document(known.document).await?;
        let view = ExecutionView {
            id: ExecutionId::from_parts(self.now(), self.inner.surroundings.random()),
            job: job.clone(),
            revision: known.revision,
            started_by: String::new(),
        };
        let settings = self.settings(project).await?;
        let variables = variables(&settings);
        let gathered = self.gather(project, &document, (&view, &variables)).await?;
        let given: Map<String, Value> =
            given.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let (described, faults) = options::describe(&document.options, &given, &gathered.outside());
        let options = described.into_iter().map(|one| OptionView {
            name: one.definition.name.clone(),
            kind: one.definition.kind.as_str().to_owned(),
            typed: one.definition.kind.typed().cloned(),
            description: one.definition.description.clone(),
            required: one.definition.required,
            rule: one.definition.kind.rule(),
            open: one.definition.kind.is_open(),
            values: one.values,
            value: one.value,
            fault: one.fault,
        });
        Ok(JobOptions { job: job.clone(), revision: known.revision, options: options.collect(), faults })
    }
}
