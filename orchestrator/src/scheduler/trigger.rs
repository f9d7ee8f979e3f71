//! Triggers: from a job and what somebody asked for to an execution that is recorded and, if a runner is free, handed out
//! in the same commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use remit_job::{document::Document, expression::ExecutionView, filter::NodeFilter, options};
use remit_protocol::{
    ExecutionId, IdempotencyKey, JobName, NodeName, OptionName, Origin, ProjectName, Revision, RunnerId,
    RunnerName, SourceName, Tag, Timestamp,
    assignment::OptionValues,
    digest::{self, Digest},
    endpoint::Fault,
    operator::{Again, RunnerStatus, SignedRun},
    sealed::{Sealed, SealedRun},
};
use remit_signing::{
    note::{NoteKind, UnverifiedNote},
    run::{Order, RunNote},
};
use serde_json::{Map, Value};

use super::{
    Scheduler,
    begin::turns,
    matching::Requirement,
    projects::variables,
    sealed::{self, of_a_sealed_run},
};
use crate::{
    execution::{Earlier, Head, Parent, Purpose},
    store::{BlobError, StoreError},
};

/// A job that is to be run.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// The project.
    pub project: ProjectName,
    /// The job.
    pub job: JobName,
    /// Which revision; none: the newest.
    pub revision: Option<Revision>,
    /// Option values; what is left out has its default.
    pub options: BTreeMap<OptionName, Value>,
    /// A node filter instead of the job's.
    pub filter: Option<String>,
    /// Runner tags instead of the job's, if it allows that.
    pub runner_tags: Option<BTreeSet<Tag>>,
    /// The same key in the same job means the same execution.
    pub idempotency_key: Option<IdempotencyKey>,
    /// These nodes instead of the job's.
    pub nodes: Option<NodeFilter>,
    /// Who or what asks.
    pub started_by: String,
    /// Through which kind of trigger.
    pub origin: Origin,
    /// Not before this time.
    pub not_before: Option<Timestamp>,
    /// For what another execution begins it.
    pub parent: Option<Parent>,
    /// The run as somebody signed it: its id, option values and nodes are then these.
    pub signed: Option<SignedRun>,
    /// What was typed for it, sealed for an execution of this id, with these option values and nodes.
    pub sealed: Option<SealedRun>,
    /// The earlier execution to which it goes back: revision, options and nodes are then its.
    pub again: Option<Again>,
}

impl Trigger {
    /// The newest revision of a job, now, on its own nodes and runners.
    pub fn of(
        project: ProjectName,
        job: JobName,
        options: BTreeMap<OptionName, Value>,
        started_by: String,
    ) -> Self {
        Self {
            project,
            job,
            revision: None,
            options,
            filter: None,
            runner_tags: None,
            idempotency_key: None,
            nodes: None,
            started_by,
            origin: Origin::Operator,
            not_before: None,
            parent: None,
            signed: None,
            sealed: None,
            again: None,
        }
    }

    /// The runner tags that are asked for, if the job allows that; `usual` otherwise.
    pub(super) fn tags(
        &self,
        document: &Document,
        usual: &BTreeSet<Tag>,
    ) -> Result<BTreeSet<Tag>, TriggerError> {
        match &self.runner_tags {
            // A job that runs this one was saved by somebody who may change this one, too.
            Some(tags) if tags != usual && !document.runner.may_override && self.parent.is_none() => {
                let remedy = "leave the tags out, or let the job's editor set `runner.override: true`";
                Err(fault("runner_tags", "the job does not allow other runner tags", remedy))
            }
            Some(tags) => Ok(tags.clone()),
            None => Ok(usual.clone()),
        }
    }
}

/// An execution as it would be.
pub struct Drafted {
    /// Its id.
    pub id: ExecutionId,
    /// What it is of.
    pub head: Head,
    /// The job.
    pub document: Arc<Document>,
    /// Names of its nodes, by index.
    pub nodes: Arc<[NodeName]>,
    /// The runners that carry its tags and work for its project.
    pub runners: Vec<(RunnerId, RunnerName, RunnerStatus)>,
    /// What was typed for it, sealed.
    pub(super) sealed: Vec<Sealed>,
    /// What it takes over from an earlier execution.
    pub(super) taken: Option<Earlier>,
}

/// The execution of a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Triggered {
    /// Its id.
    pub execution: ExecutionId,
    /// False if the same request made it before.
    pub new: bool,
}

/// Why a job was not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// There is no such job or revision.
    #[error("project {0} has no job {1}, or not this revision of it")]
    NoJob(ProjectName, JobName),
    /// There is no such execution.
    #[error("there is no execution {0}")]
    NoExecution(ExecutionId),
    /// There is no such node source, or it is not one that can be asked.
    #[error("project {0} has no node source {1} that a component feeds")]
    NoSource(ProjectName, SourceName),
    /// So many executions of the project have not ended, and there may be no more.
    #[error("{0} executions of the project have not ended, and it may have no more")]
    Quota(u32),
    /// So many executions of the job go on and wait, and it lets no more wait.
    #[error("{going} executions of the job {job} go on and {waiting} wait, and it takes no more")]
    NoRoom {
        /// The job.
        job: JobName,
        /// So many go on.
        going: u32,
        /// So many wait.
        waiting: u32,
    },
    /// The job has not been run to an end yet.
    #[error("the job {0} has no results yet: run it")]
    NoResults(JobName),
    /// Values are not acceptable.
    #[error("{}", first(.0))]
    Faults(Vec<Fault>),
    /// Nothing was recorded; ask again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn first(faults: &[Fault]) -> String {
    faults.first().map(|fault| format!("{}: {}", fault.place, fault.message)).unwrap_or_default()
}

pub(super) fn fault(place: &str, message: impl Into<String>, remedy: &str) -> TriggerError {
    TriggerError::Faults(vec![Fault {
        line: None,
        column: None,
        place: place.to_owned(),
        message: message.into(),
        remedy: remedy.to_owned(),
    }])
}

impl Scheduler {
    /// Makes an execution of a job. It is recorded when this returns; if a runner is free it has been handed out as well.
    pub async fn trigger(&self, trigger: Trigger) -> Result<Triggered, TriggerError> {
        if let Some(signed) = &trigger.signed
            && let Some(known) = self.store().execution(run_note(signed)?.order.run).await?
        {
            return match known.head.run_note.as_ref() == Some(&signed.note) {
                true => Ok(Triggered { execution: known.id, new: false }),
                false => Err(fault("signed", "there is an execution of this id", "sign it anew")),
            };
        }
        if let (None, Some(sealed)) = (&trigger.signed, &trigger.sealed)
            && let Some(begun) = self.begun_with(&trigger, sealed).await?
        {
            return Ok(begun);
        }
        let drafted = self.draft(&trigger).await?;
        sealed::nothing_is_missing(&drafted.document, &drafted.head)?;
        let key = trigger.idempotency_key.clone().map(|key| (key, request_digest(&trigger)));
        self.begin(drafted, key).await
    }

    /// What an execution of a job would be: nothing is recorded but its node set, which a signature may name.
    pub async fn draft(&self, trigger: &Trigger) -> Result<Drafted, TriggerError> {
        if let Some(again) = &trigger.again {
            return self.draft_again(trigger, again).await;
        }
        let job = self.store().job(&trigger.project, &trigger.job, trigger.revision).await?;
        let job = job.ok_or_else(|| TriggerError::NoJob(trigger.project.clone(), trigger.job.clone()))?;
        let document = self.document(job.document).await?;
        let settings = self.settings(&trigger.project).await?;
        // What belongs to an execution that was let in is let in as well.
        if trigger.parent.is_none() {
            self.check_quota(&trigger.project, settings.quotas.open_executions)?;
        }
        let variables = variables(&settings);
        let given: Map<String, Value> =
            trigger.options.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let signed = trigger
            .signed
            .as_ref()
            .map(|signed| of_a_signed_run(signed, trigger, job.document))
            .transpose()?;
        let sealed = trigger.sealed.as_ref();
        let sealed = sealed.map(|sealed| of_a_sealed_run(sealed, trigger, job.document)).transpose()?;
        if let (Some((order, _)), Some((other, _))) = (&signed, &sealed)
            && order != other
        {
            return Err(fault(
                "sealed",
                "what was sealed is for another run than was signed",
                "sign it anew",
            ));
        }
        // What was signed, or bound into a seal, is what it is.
        let signed = signed.or(sealed);
        let id = match &signed {
            Some((order, _)) => order.run,
            None => ExecutionId::from_parts(self.now(), self.inner.surroundings.random()),
        };
        let view = ExecutionView {
            id,
            job: trigger.job.clone(),
            revision: job.revision,
            started_by: trigger.started_by.clone(),
        };
        let gathered = self.gather(&trigger.project, &document, (&view, &variables)).await?;
        let options = options::check(&document.options, &given, &gathered.outside());
        let options = options.map_err(TriggerError::Faults)?;
        let options = match &signed {
            Some((_, values)) if **values == options => values.clone(),
            Some(_) => return Err(fault("options", "they are not what was signed", "sign it anew")),
            None => OptionValues::from(options),
        };
        let sealed = self.sealed_for(trigger, (&document, &options))?;
        let files = self.given_files(&trigger.project, &document, &options).await?;
        let size = options.text().len();
        if size > OptionValues::MOST {
            let most = OptionValues::MOST;
            let message = format!("the values take {size} bytes together, at most {most} travel to a runner");
            return Err(fault("options", message, "pass large inputs as files or through a step"));
        }
        let tags = trigger.tags(&document, &document.runner.tags)?;
        let mut head = Head {
            project: trigger.project.clone(),
            job: trigger.job.clone(),
            revision: job.revision,
            document: job.document,
            note: job.note,
            purpose: Purpose::Job,
            options,
            files,
            run_note: trigger.signed.as_ref().map(|signed| signed.note.clone()),
            sealed,
            started_by: trigger.started_by.clone(),
            origin: trigger.origin.clone(),
            variables,
            tags,
            nodes: None,
            timeout: None,
            not_before: trigger.not_before,
            at_once: None,
            most_queued: None,
            queued_until: None,
            log_limit: document.log_limit,
            retries: 0,
            parent: trigger.parent,
            again: None,
        };
        let filter = match (&trigger.filter, &trigger.nodes) {
            (Some(text), _) => {
                let parsed = NodeFilter::parse(text);
                Some(parsed.map_err(|invalid| fault("filter", invalid.to_string(), ""))?)
            }
            (None, nodes) => nodes.clone(),
        };
        let given = signed.as_ref().map(|(order, _)| order.nodes);
        turns(&mut head, &document, self.now());
        let nodes = self.resolve(id, &mut head, &document, filter, given).await?;
        let runners = self.could_run(&head);
        let sealed = trigger.sealed.as_ref().map(|sealed| sealed.values.clone()).unwrap_or_default();
        Ok(Drafted { id, head, document, nodes, runners, sealed, taken: None })
    }

    pub(super) fn could_run(&self, head: &Head) -> Vec<(RunnerId, RunnerName, RunnerStatus)> {
        let (state, elapsed) = (self.state(), self.elapsed());
        let requirement = Requirement::of(head);
        let fits = state.runners.values().filter(|known| requirement.fits(&known.runner));
        let mut runners: Vec<_> =
            fits.map(|known| (known.runner.id, known.runner.name.clone(), known.status(elapsed))).collect();
        runners.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        runners
    }
}

pub(super) fn unstored(error: BlobError) -> TriggerError {
    match error {
        BlobError::Full => StoreError::Full.into(),
        other => StoreError::Unavailable(other.to_string()).into(),
    }
}

fn run_note(signed: &SignedRun) -> Result<RunNote, TriggerError> {
    let parsed = UnverifiedNote::parse_as(NoteKind::Run, signed.note.as_bytes());
    let note = parsed.and_then(|note| RunNote::parse(&note));
    note.map_err(|refusal| fault("signed", refusal.to_string(), "sign it with `remit job run --sign`"))
}

/// What was signed, if it is about this job as it is now. Whether the signature is good is for runners to say.
pub(super) fn of_a_signed_run(
    signed: &SignedRun,
    trigger: &Trigger,
    document: digest::Sized,
) -> Result<(Order, OptionValues), TriggerError> {
    let wrong = |what: &str| Err(fault("signed", what, "sign it anew"));
    let order = run_note(signed)?.order;
    if (&order.job.project, &order.job.job) != (&trigger.project, &trigger.job) {
        return wrong("the note is about another job");
    }
    if order.definition != document {
        return wrong("the job has changed since it was signed");
    }
    let options = OptionValues::try_from(signed.options.clone())
        .map_err(|error| fault("options", error.to_string(), "sign it anew"))?;
    if options.sized() != order.options {
        return wrong("the option values are not what was signed");
    }
    Ok((order, options))
}

/// What makes two requests the same: everything but the key and who asks.
fn request_digest(trigger: &Trigger) -> Digest {
    let asked =
        (&trigger.revision, &trigger.options, &trigger.filter, &trigger.runner_tags, &trigger.not_before);
    if let Some(again) = &trigger.again {
        return Digest::of(&serde_json::to_vec(&(asked, again)).unwrap_or_default());
    }
    Digest::of(&serde_json::to_vec(&asked).unwrap_or_default())
}
