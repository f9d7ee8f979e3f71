//! Triggers: from a job and what somebody asked for to an execution that is recorded and, if a runner is free, handed out
//! in the same commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use remit_job::{
    document::{Document, OnEmpty},
    expression::{ExecutionView, Scope},
    filter::NodeFilter,
    options, trigger,
};
use remit_protocol::{
    ExecutionId, IdempotencyKey, JobName, NodeName, OptionName, Origin, ProjectName, Revision, RunnerId,
    RunnerName, SourceName, Tag, Timestamp,
    assignment::OptionValues,
    digest::{self, Digest},
    endpoint::Fault,
    node::NodeSet,
    operator::{self, Again, ProjectSettings, RunnerStatus, SignedRun},
};
use remit_signing::{
    note::{NoteKind, UnverifiedNote},
    run::{Order, RunNote},
};
use serde_json::{Map, Value};

use super::{Scheduler, State, commit::Drafts, matching::Requirement, names};
use crate::{
    execution::{Change, Draft, Earlier, ExecutionState, Head, NodeSelection, Parent, Purpose, plan},
    nodes::{Results, enhance},
    store::{
        BlobError, Created, ExecutionFilter, MAX_PAGE, NewExecution, ResultFilter, Source, SourceKind, Store,
        StoreError, merge,
    },
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
        let drafted = self.draft(&trigger).await?;
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
        Ok(Drafted { id, head, document, nodes, runners, taken: None })
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
        let drafted = Drafted { id, head, document, nodes, runners: Vec::new(), taken: None };
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

    /// The nodes of a project by name: its sources, merged in their order.
    pub async fn project_nodes(&self, project: &ProjectName) -> Result<Arc<NodeSet>, StoreError> {
        let sources = self.store().sources(project).await?;
        let sets: Vec<(SourceKind, digest::Sized)> =
            sources.iter().filter_map(|source: &Source| Some((source.kind, source.nodes?))).collect();
        let digests: Vec<Digest> = sets.iter().map(|(_, set)| set.digest).collect();
        if let Some((known, nodes)) = &self.state().nodes
            && *known == digests
        {
            return Ok(Arc::clone(nodes));
        }
        let mut whole = NodeSet::default();
        for (kind, set) in sets {
            let part = self.node_set(set).await?;
            whole = match kind {
                SourceKind::Static | SourceKind::Component => merge([whole, part]),
                SourceKind::Job => enhance(whole, part),
            };
        }
        whole.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let nodes = Arc::new(whole);
        self.state().nodes = Some((digests, Arc::clone(&nodes)));
        Ok(nodes)
    }

    /// The settings of a project, as they are since they were last configured here.
    pub(super) async fn settings(&self, project: &ProjectName) -> Result<Arc<ProjectSettings>, StoreError> {
        let changes = {
            let state = self.state();
            if let Some(settings) = state.settings.get(project) {
                return Ok(Arc::clone(settings));
            }
            state.settings_changed
        };
        let found = self.store().project(project).await?.map(|project| project.settings);
        let settings = Arc::new(found.unwrap_or_default());
        let mut state = self.state();
        // What was configured while this was read is read the next time.
        if state.settings_changed == changes {
            state.settings.insert(project.clone(), Arc::clone(&settings));
        }
        Ok(settings)
    }

    /// The settings of a project have changed: they are read anew.
    pub fn project_changed(&self, project: &ProjectName) {
        let mut state = self.state();
        state.settings_changed += 1;
        state.settings.remove(project);
    }

    /// Counts only where there could be too many: most projects are far from it.
    pub(super) fn check_quota(&self, project: &ProjectName, most: u32) -> Result<(), TriggerError> {
        let state = self.state();
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        if state.live.len() < limit {
            return Ok(());
        }
        let open = state.live.values().filter(|live| live.head.project == *project).count();
        if open < limit { Ok(()) } else { Err(TriggerError::Quota(most)) }
    }

    /// Evaluates the job's own numbers and chooses the nodes; the chosen set becomes a blob.
    pub(super) async fn resolve(
        &self,
        id: ExecutionId,
        head: &mut Head,
        document: &Document,
        filter: Option<NodeFilter>,
        given: Option<Option<digest::Sized>>,
    ) -> Result<Arc<[NodeName]>, TriggerError> {
        let view = ExecutionView {
            id,
            job: head.job.clone(),
            revision: head.revision,
            started_by: head.started_by.clone(),
        };
        let scope = Scope::new(&head.project, &view, &head.options).with_variables(&head.variables);
        let resolved = trigger::resolve(document, &scope).map_err(TriggerError::Faults)?;
        head.timeout = resolved.timeout;
        let (Some(chosen), Some(nodes)) = (resolved.nodes, &document.nodes) else {
            if filter.is_some() {
                return Err(fault("filter", "the job has no node steps", "leave the filter out"));
            }
            return Ok(Arc::from([]));
        };
        let chosen = match filter {
            Some(filter) => chosen.with_filter(filter),
            None => chosen,
        };
        let (stored, set) = match given {
            Some(signed) => {
                let missing =
                    || fault("nodes", "the nodes that were signed are not known here", "sign it anew");
                let stored = signed.ok_or_else(missing)?;
                (stored, self.node_set(stored).await.map_err(|_| missing())?)
            }
            None => self.choose(&head.project, &chosen).await?,
        };
        let count = u32::try_from(set.nodes.len()).unwrap_or(u32::MAX);
        head.nodes = Some(NodeSelection {
            set: stored,
            count,
            threads: chosen.threads(count),
            keep_going: nodes.keep_going,
            strategy: document.strategy,
            tiers: trigger::tiers(nodes, &set.nodes),
            max_failures: nodes.max_failures,
            fail_if_empty: nodes.on_empty == OnEmpty::Fail,
            lanes: 0,
        });
        if head.run_note.is_some() && nodes.tiers.is_some() {
            let message = "a signed run is held to the order of its sections, and tiers are not in it";
            return Err(fault("nodes.tiers", message, "run it unsigned, or take `tiers` out of the job"));
        }
        self.spread(head, document);
        Ok(names(&set))
    }

    /// Splits the nodes over the runners that are there, where the job wants that. What a runner has to follow by itself
    /// stays in one piece: a signed run, and what a schedule of a signed job begins.
    pub(super) fn spread(&self, head: &mut Head, document: &Document) {
        let followed = head.run_note.is_some()
            || (head.note.is_some() && matches!(head.origin, Origin::Schedule { .. }));
        if followed || !document.nodes.as_ref().is_some_and(|nodes| nodes.spread) {
            return;
        }
        let there =
            self.could_run(head).iter().filter(|(.., status)| *status == RunnerStatus::Healthy).count();
        if let Some(nodes) = &mut head.nodes {
            nodes.lanes = u32::try_from(there).unwrap_or(u32::MAX);
        }
    }

    /// The nodes that a job chooses now; the set becomes a blob.
    async fn choose(
        &self,
        project: &ProjectName,
        chosen: &trigger::ResolvedNodes,
    ) -> Result<(digest::Sized, NodeSet), TriggerError> {
        let all = self.project_nodes(project).await?;
        let picked = chosen.select(&all.nodes);
        let of = |index: &u32| all.nodes.get(usize::try_from(*index).unwrap_or(usize::MAX)).cloned();
        let set = NodeSet { nodes: picked.iter().filter_map(of).collect() };
        set.check().map_err(|invalid| fault("nodes", invalid.to_string(), "narrow the filter"))?;
        let bytes = serde_json::to_vec(&set)
            .map_err(|error| StoreError::Unavailable(format!("writing the nodes: {error}")))?;
        let stored = self.store().blobs().put(bytes).await.map_err(unstored)?;
        Ok((stored, set))
    }

    /// Records an execution and everything that can be decided about it at once.
    pub(super) async fn begin(
        &self,
        drafted: Drafted,
        key: Option<(IdempotencyKey, Digest)>,
    ) -> Result<Triggered, TriggerError> {
        let (id, head) = (drafted.id, drafted.head.clone());
        let turn = self.store().turn().await?;
        let (creating, mut aftermath) = {
            let mut state = self.state();
            if state.live.contains_key(&id) {
                return Err(fault("signed", "there is an execution of this id", "sign it anew"));
            }
            let now = self.now();
            let draft = self.plan(&mut state, drafted)?;
            let mut drafts = Drafts::default();
            *drafts.of(id) = draft;
            let (mut commits, aftermath) = state.commits(drafts, now);
            let Some(commit) = commits.pop() else {
                return Err(StoreError::Unavailable("the execution is gone".to_owned()).into());
            };
            let new = NewExecution {
                id,
                head,
                at: now,
                key,
                changes: commit.changes,
                happenings: commit.happenings,
            };
            // Made is version 1: nothing has moved it on yet.
            if let Some(live) = state.live.get_mut(&id) {
                live.version = 1;
            }
            (Store::create_execution(turn, new), aftermath)
        };
        match creating.await {
            Ok(Created::New) => {
                let mut state = self.state();
                for mut done in aftermath.drain(..) {
                    done.version = 1;
                    state.tell(done);
                }
                Ok(Triggered { execution: id, new: true })
            }
            other => {
                self.state().drop_live(id);
                self.rerank_all();
                self.inner.wake.notify_one();
                match other? {
                    Created::Before(execution) => Ok(Triggered { execution, new: false }),
                    Created::New => Ok(Triggered { execution: id, new: true }),
                }
            }
        }
    }

    /// Puts a new execution into memory, lets it go if its turn has come, and hands out what can be.
    fn plan(&self, state: &mut State, drafted: Drafted) -> Result<Draft, TriggerError> {
        let Drafted { id, head, document, nodes, taken, .. } = drafted;
        let (now, elapsed) = (self.now(), self.elapsed());
        let places = plan::places(&document, head.nodes.as_ref());
        let (mut live, mut draft) = plan::start(id, head, document, nodes, places);
        let illegal = |illegal: crate::execution::transition::Illegal| {
            TriggerError::from(StoreError::Unavailable(illegal.to_string()))
        };
        if let Some(earlier) = taken {
            live.take_over(&earlier, &mut draft).map_err(illegal)?;
        }
        let ahead = state.ahead(id, &live.head, now);
        if live.head.parent.is_none()
            && let (Some(at_once), Some(most)) = (live.head.at_once, live.head.most_queued)
            && live.head.not_before.is_none_or(|time| time <= now)
            && ahead.going + ahead.waiting >= at_once.saturating_add(most)
        {
            return Err(TriggerError::NoRoom {
                job: live.head.job.clone(),
                going: ahead.going,
                waiting: ahead.waiting,
            });
        }
        if state.may_go(id, &live.head, now) {
            live.admit(now, &mut draft).map_err(illegal)?;
        } else {
            draft.changes.push(Change::Execution {
                state: ExecutionState::Queued,
                began: None,
                ended: None,
                stop: None,
            });
        }
        state.live.insert(id, live);
        state.absorb(id, &draft, now, elapsed);
        let mut drafts = Drafts::default();
        *drafts.of(id) = draft;
        state.dispatch(Some(id), &mut drafts, || self.new_attempt(), now, elapsed);
        Ok(drafts.take(id).unwrap_or_default())
    }
}

/// How many executions of the same job there are before one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    /// So many go on.
    pub(super) going: u32,
    /// So many wait for their turn and have waited for longer.
    pub(super) waiting: u32,
}

impl State {
    /// True if an execution's time has come, and its job's turn: nobody of the job is pushed aside by who came later.
    pub(super) fn may_go(&self, id: ExecutionId, head: &Head, now: Timestamp) -> bool {
        if head.not_before.is_some_and(|time| time > now) {
            return false;
        }
        let Some(most) = head.at_once else { return true };
        let ahead = self.ahead(id, head, now);
        ahead.going.saturating_add(ahead.waiting) < most
    }

    /// How many executions of the same job, or of the same source, go on, and how many wait that are older than `id`.
    pub(super) fn ahead(&self, id: ExecutionId, head: &Head, now: Timestamp) -> Ahead {
        let same = |other: &Head| {
            (&other.project, &other.job, &other.purpose) == (&head.project, &head.job, &head.purpose)
        };
        let mut ahead = Ahead::default();
        if head.at_once.is_none() {
            return ahead;
        }
        for live in self.live.values().filter(|live| same(&live.head)) {
            let due = live.head.not_before.is_none_or(|time| time <= now);
            match live.state {
                ExecutionState::Queued => ahead.waiting += u32::from(due && live.id < id),
                _ => ahead.going += 1,
            }
        }
        ahead
    }
}

/// What a job says of how many go on at once, for one execution of it.
pub(super) fn turns(head: &mut Head, document: &Document, now: Timestamp) {
    let Some(concurrency) = &document.concurrency else { return };
    head.at_once = Some(concurrency.limit);
    head.most_queued = Some(concurrency.queue());
    let from = head.not_before.map_or(now, |time| time.max(now));
    head.queued_until = concurrency.expires.map(|expires| from.plus(expires.duration()));
}

/// The variables of a project as expressions see them.
pub(super) fn variables(settings: &ProjectSettings) -> Map<String, Value> {
    settings.variables.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
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
