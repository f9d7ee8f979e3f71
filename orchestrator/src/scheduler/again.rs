//! Executions that go back to an earlier one: the job again on nodes that did not end well, or on from its first step
//! that did not.
//!
//! Either is an execution of its own, of the same revision with the same option values, under a new id: a signed run has
//! to be signed anew, and what is taken over was signed for another run, so that signed runs are never gone on with.

use std::{collections::BTreeSet, time::Duration};

use remit_job::{children::MAX_DEPTH, document::Document, trigger};
use remit_protocol::{
    ExecutionId, NodeIndex, Origin, Outcome, StepIndex, Timestamp, digest,
    node::NodeSet,
    operator::{Again, NodeFate, Repeat},
};

use super::{
    Scheduler, Trigger, TriggerError,
    begin::turns,
    names,
    projects::variables,
    sealed::typed_before,
    trigger::{Drafted, Triggered, fault, of_a_signed_run, unstored},
};
use crate::{
    execution::{Earlier, Head, NodeSelection, Purpose, Work},
    store::{Child, ExecutionRecord, StoreError},
};

/// How long a retry waits for room before it is given up.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What becomes of an item for which a section ran a job before.
pub(super) enum Item {
    /// It is run, in this way.
    Wanted(Box<Trigger>),
    /// What it came to counts.
    Taken(Child),
    /// It is left as it is: nothing of it is what was asked for.
    Left(Child),
}

impl Scheduler {
    /// What an execution that goes back to an earlier one would be.
    pub(super) async fn draft_again(
        &self,
        trigger: &Trigger,
        again: &Again,
    ) -> Result<Drafted, TriggerError> {
        let record = self.store().execution(again.execution).await?;
        let record = record.ok_or(TriggerError::NoExecution(again.execution))?;
        let earlier = again.execution;
        let Some(outcome) = record.state.outcome() else {
            let message = format!("execution {earlier} has not ended: it is {}", record.state);
            let remedy =
                "wait for its end, decide about what is held (`remit execution decide`), or cancel it";
            return Err(fault("execution", message, remedy));
        };
        if matches!(record.head.purpose, Purpose::Source(_)) {
            return Err(fault("execution", "it refreshed a node source", "`remit nodes refresh` does that"));
        }
        let document = self.document(record.head.document).await?;
        typed_before(&document, (earlier, &record.head.options))?;
        let settings = self.settings(&record.head.project).await?;
        if trigger.parent.is_none() {
            self.check_quota(&record.head.project, settings.quotas.open_executions)?;
        }
        let signed = trigger.signed.as_ref();
        let signed =
            signed.map(|signed| of_a_signed_run(signed, trigger, record.head.document)).transpose()?;
        if signed.as_ref().is_some_and(|(_, options)| *options != record.head.options) {
            return Err(fault("options", "they are not those of the earlier execution", "sign it anew"));
        }
        let id = match &signed {
            Some((order, _)) => order.run,
            None => ExecutionId::from_parts(self.now(), self.inner.surroundings.random()),
        };
        let tags = trigger.tags(&document, &record.head.tags)?;
        let mut head = Head {
            run_note: trigger.signed.as_ref().map(|signed| signed.note.clone()),
            sealed: None,
            started_by: trigger.started_by.clone(),
            origin: trigger.origin.clone(),
            variables: variables(&settings),
            tags,
            not_before: trigger.not_before,
            parent: trigger.parent,
            again: Some(again.clone()),
            retries: 0,
            ..record.head.clone()
        };
        turns(&mut head, &document, self.now());
        let before = self.earlier(&record).await?;
        let taken = match &again.how {
            Repeat::Resume => {
                may_resume(&record, &before, before.resume_point(&document).is_some())?;
                Some(before)
            }
            Repeat::Retry { attempt } => {
                head.retries = attempt.saturating_sub(1);
                let all = (0..head.nodes.as_ref().map_or(0, |nodes| nodes.count)).map(NodeIndex).collect();
                self.nodes_again(&record, all, &mut head).await?;
                None
            }
            Repeat::Rerun { nodes } => {
                let given = signed.as_ref().map(|(order, _)| order.nodes);
                self.choose_again((&record, &before, outcome), nodes, given, &mut head).await?;
                None
            }
        };
        self.spread(&mut head, &document);
        let nodes = match &head.nodes {
            Some(selection) => names(&self.node_set(selection.set).await?),
            None => std::sync::Arc::from([]),
        };
        let runners = self.could_run(&head);
        Ok(Drafted { id, head, document, nodes, runners, sealed: Vec::new(), taken })
    }

    /// Makes the executions by which jobs are tried again. What is due is kept in the store until the execution is made, in
    /// the same transaction: each is made once. It is made at once, and waits for its time where everybody sees it.
    pub(super) async fn see_to_retries(&self, now: Timestamp) -> Result<(), StoreError> {
        let due: Vec<(ExecutionId, Timestamp)> =
            self.state().retries.iter().map(|(id, due)| (*id, *due)).collect();
        for (id, due) in due {
            let Some(record) = self.store().execution(id).await? else {
                self.give_up_retry(id).await?;
                continue;
            };
            // What ended in memory and is not recorded yet is seen to in the next round.
            if !record.state.is_final() {
                continue;
            }
            let attempt = record.head.retries.saturating_add(2);
            let again = Again { execution: id, how: Repeat::Retry { attempt } };
            let trigger = Trigger {
                again: Some(again),
                origin: Origin::Retry { execution: id },
                not_before: Some(due).filter(|due| *due > now),
                ..Trigger::of(
                    record.head.project,
                    record.head.job,
                    Default::default(),
                    record.head.started_by,
                )
            };
            match self.trigger(trigger).await {
                Ok(Triggered { .. }) => {
                    self.state().retries.remove(&id);
                }
                Err(TriggerError::Store(error @ StoreError::Conflict { .. })) => {
                    tracing::warn!(%error, execution = %id, "it was tried again before");
                    self.give_up_retry(id).await?;
                }
                Err(TriggerError::Store(error)) => return Err(error),
                Err(error @ (TriggerError::Quota(_) | TriggerError::NoRoom { .. }))
                    if now.since(due) < PATIENCE =>
                {
                    tracing::debug!(%error, execution = %id, "there is no room for a retry yet");
                }
                Err(error) => {
                    tracing::warn!(%error, execution = %id, "the job could not be tried again");
                    self.give_up_retry(id).await?;
                }
            }
        }
        Ok(())
    }

    async fn give_up_retry(&self, id: ExecutionId) -> Result<(), StoreError> {
        self.store().forget_retry(id).await?;
        self.state().retries.remove(&id);
        Ok(())
    }

    /// What an execution came to, as one that goes back to it sees it.
    async fn earlier(&self, record: &ExecutionRecord) -> Result<Earlier, StoreError> {
        let results = self.store().outcomes(record.id).await?;
        Ok(Earlier { id: record.id, steps: record.steps.clone(), results })
    }

    /// Chooses the nodes of a rerun: those that ended so.
    async fn choose_again(
        &self,
        (record, before, outcome): (&ExecutionRecord, &Earlier, Outcome),
        wanted: &BTreeSet<NodeFate>,
        given: Option<Option<digest::Sized>>,
        head: &mut Head,
    ) -> Result<(), TriggerError> {
        let document = self.document(record.head.document).await?;
        let count = record.head.nodes.as_ref().map_or(0, |nodes| nodes.count);
        let fates = before.fates(&document, count);
        let chosen: Vec<NodeIndex> =
            fates.iter().filter(|(_, fate)| wanted.contains(fate)).map(|(node, _)| *node).collect();
        let below = self.below(record, wanted, 0).await?;
        let whole = record.head.nodes.is_none() && !has_jobs(record) && !outcome.is_good();
        if chosen.is_empty() && !below && !whole {
            return Err(nothing_to_rerun(record.id, outcome, wanted, &fates));
        }
        let Some(selection) = &record.head.nodes else { return Ok(()) };
        if let Some(signed) = given {
            let missing = || fault("nodes", "the nodes that were signed are not known here", "sign it anew");
            let stored = signed.ok_or_else(missing)?;
            let set = self.node_set(stored).await.map_err(|_| missing())?;
            select(head, &document, selection, (stored, &set));
            return Ok(());
        }
        self.nodes_again(record, chosen, head).await
    }

    /// Some of the nodes of an earlier execution, as they are known now. Nodes that are gone are left out, since whatever
    /// answers at their old address may be another one.
    async fn nodes_again(
        &self,
        record: &ExecutionRecord,
        chosen: Vec<NodeIndex>,
        head: &mut Head,
    ) -> Result<(), TriggerError> {
        let Some(selection) = &record.head.nodes else { return Ok(()) };
        let set = self.node_set(selection.set).await?;
        let known = self.project_nodes(&record.head.project).await?;
        let now = |index: &NodeIndex| {
            let name = &set.nodes.get(usize::try_from(index.0).ok()?)?.name;
            let at = known.nodes.binary_search_by(|node| node.name.cmp(name)).ok()?;
            known.nodes.get(at).cloned()
        };
        let set = NodeSet { nodes: chosen.iter().filter_map(now).collect() };
        if set.nodes.is_empty() && !chosen.is_empty() {
            let message = format!("the project does not have the {} nodes any more", chosen.len());
            return Err(fault("nodes", message, "refresh the node sources, or run the job on other nodes"));
        }
        let bytes = serde_json::to_vec(&set)
            .map_err(|error| StoreError::Unavailable(format!("writing the nodes: {error}")))?;
        let stored = self.store().blobs().put(bytes).await.map_err(unstored)?;
        let document = self.document(record.head.document).await?;
        select(head, &document, selection, (stored, &set));
        Ok(())
    }

    /// Whether a job that this one ran has something to be run again.
    async fn below(
        &self,
        record: &ExecutionRecord,
        wanted: &BTreeSet<NodeFate>,
        depth: usize,
    ) -> Result<bool, StoreError> {
        for section in record.sections.iter().filter(|one| matches!(one.place.work, Work::Jobs { .. })) {
            for child in self.store().children(record.id, section.place.number).await? {
                if Box::pin(self.concerns(&child, wanted, depth)).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether a child ended badly and has something to be run again.
    async fn concerns(
        &self,
        child: &Child,
        wanted: &BTreeSet<NodeFate>,
        depth: usize,
    ) -> Result<bool, StoreError> {
        if child.state.outcome().is_some_and(Outcome::is_good) || depth > MAX_DEPTH {
            return Ok(false);
        }
        let Some(record) = self.store().execution(child.id).await? else { return Ok(false) };
        let document = self.document(record.head.document).await?;
        let Some(selection) = &record.head.nodes else {
            return if has_jobs(&record) { self.below(&record, wanted, depth + 1).await } else { Ok(true) };
        };
        let before = self.earlier(&record).await?;
        if before.fates(&document, selection.count).values().any(|fate| wanted.contains(fate)) {
            return Ok(true);
        }
        self.below(&record, wanted, depth + 1).await
    }

    /// What becomes of the jobs that a step ran in the execution to which this one goes back. An item whose job or options
    /// are others by now is run as if it had never been.
    pub(super) async fn items_again(
        &self,
        again: &Again,
        step: StepIndex,
        wanted: Vec<Trigger>,
    ) -> Result<Vec<Item>, StoreError> {
        let record = self.store().execution(again.execution).await?;
        let section = record.and_then(|record| {
            let own =
                |place: &crate::execution::Place| matches!(place.work, Work::Jobs { step: at } if at == step);
            record.sections.iter().find(|section| own(&section.place)).map(|section| section.place.number)
        });
        let mut before = match section {
            Some(section) => self.store().children(again.execution, section).await?,
            None => Vec::new(),
        };
        let mut items = Vec::with_capacity(wanted.len());
        for (item, trigger) in (0_u32..).zip(wanted) {
            let same = |child: &Child| {
                let given = trigger.options.iter();
                child.item == item
                    && child.job == trigger.job
                    && given.into_iter().all(|(name, value)| child.options.get(name.as_str()) == Some(value))
            };
            let known = before.iter().position(same).map(|at| before.swap_remove(at));
            items.push(match known.filter(|_| !matches!(again.how, Repeat::Retry { .. })) {
                None => Item::Wanted(Box::new(trigger)),
                Some(child) if child.state.outcome().is_some_and(Outcome::is_good) => Item::Taken(child),
                Some(child) => match &again.how {
                    Repeat::Rerun { nodes } if !self.concerns(&child, nodes, 0).await? => Item::Left(child),
                    Repeat::Rerun { .. } | Repeat::Resume | Repeat::Retry { .. } => {
                        let again = Some(Again { execution: child.id, how: again.how.clone() });
                        Item::Wanted(Box::new(Trigger { again, ..trigger }))
                    }
                },
            });
        }
        Ok(items)
    }
}

/// Goes through other nodes, as it did through those before.
fn select(
    head: &mut Head,
    document: &Document,
    before: &NodeSelection,
    (stored, set): (digest::Sized, &NodeSet),
) {
    let count = u32::try_from(set.nodes.len()).unwrap_or(u32::MAX);
    let tiers = document.nodes.as_ref().map_or_else(Vec::new, |nodes| trigger::tiers(nodes, &set.nodes));
    head.nodes = Some(NodeSelection { set: stored, count, tiers, ..before.clone() });
}

fn has_jobs(record: &ExecutionRecord) -> bool {
    record.sections.iter().any(|section| matches!(section.place.work, Work::Jobs { .. }))
}

fn may_resume(record: &ExecutionRecord, before: &Earlier, has_point: bool) -> Result<(), TriggerError> {
    let id = before.id;
    if record.head.run_note.is_some() {
        let message = format!(
            "execution {id} was signed, and what its steps came to was signed for that run and counts in no other"
        );
        let remedy = format!("run it again from the beginning: `remit execution rerun {id} --sign KEY`");
        return Err(fault("execution", message, &remedy));
    }
    if has_point {
        return Ok(());
    }
    let remedy = "there is nothing to go on with: run the job";
    Err(fault("execution", format!("every step of execution {id} ended well"), remedy))
}

fn nothing_to_rerun(
    id: ExecutionId,
    outcome: Outcome,
    wanted: &BTreeSet<NodeFate>,
    fates: &std::collections::BTreeMap<NodeIndex, NodeFate>,
) -> TriggerError {
    let asked: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let message = format!("no node of execution {id}, which {outcome}, ended as {}", asked.join(" or "));
    let others: BTreeSet<NodeFate> = fates.values().copied().collect();
    let remedy = match others.is_empty() {
        true => "there is nothing to run again: run the job".to_owned(),
        false => {
            let others: Vec<String> = others.iter().map(|fate| format!("--nodes {fate}")).collect();
            format!("name what there is: {}", others.join(" "))
        }
    };
    fault("nodes", message, &remedy)
}
