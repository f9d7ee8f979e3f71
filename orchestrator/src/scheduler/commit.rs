//! Commit, then wake: drafts are taken into memory, recorded in the order in which they were made, and only then told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use remit_job::document::Document;
use remit_protocol::{
    ExecutionId, NodeName, Timestamp, digest, json,
    limits::{MAX_JOB, MAX_NODE_SET},
    node::NodeSet,
};

use super::{Scheduler, State, names, runner::Message};
use crate::{
    execution::{
        AttemptRecord, AttemptState, Change, Draft, ExecutionState, Live, Order, OrderKind, Remembered,
        SectionState, Work, notice,
    },
    store::{Commit, Store, StoreError},
};

/// Most documents that are kept parsed.
const DOCUMENTS: usize = 256;

/// Drafts about several executions.
#[derive(Debug, Default)]
pub(super) struct Drafts(BTreeMap<ExecutionId, Draft>);

impl Drafts {
    /// The draft about one execution; asked for without need, it makes sure that what is known is recorded.
    pub(super) fn of(&mut self, id: ExecutionId) -> &mut Draft {
        self.0.entry(id).or_default()
    }

    pub(super) fn take(&mut self, id: ExecutionId) -> Option<Draft> {
        self.0.remove(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if a job is to be tried again.
    fn try_again(&self) -> bool {
        self.0.values().any(|draft| draft.changes.iter().any(|change| matches!(change, Change::Retry(_))))
    }

    pub(super) fn ids(&self) -> Vec<ExecutionId> {
        self.0.keys().copied().collect()
    }
}

/// What is done once a commit is on disk.
#[derive(Debug)]
pub(super) struct Aftermath {
    pub(super) id: ExecutionId,
    pub(super) orders: Vec<Order>,
    pub(super) version: u64,
}

impl State {
    /// Takes what was drafted into the indexes: what waits, who has what.
    pub(super) fn absorb(&mut self, id: ExecutionId, draft: &Draft, now: Timestamp, elapsed: Duration) {
        for change in &draft.changes {
            match change {
                Change::Planned(section) | Change::Section(section) => {
                    let waits =
                        (section.state == SectionState::Ready).then_some(section.not_before.unwrap_or(now));
                    self.note_ready(id, section.place.number, waits, now);
                    let ended = section.state.is_final() || section.state == SectionState::Delegated;
                    if ended && matches!(section.place.work, Work::Jobs { .. }) {
                        self.families.insert((id, section.place.number));
                    }
                }
                Change::HandedOut(attempt) | Change::Attempt(attempt) => {
                    self.note_attempt(id, attempt, elapsed);
                }
                Change::Execution { state, .. } => {
                    if *state == ExecutionState::Queued {
                        self.queued.insert(id);
                    } else {
                        self.queued.remove(&id);
                    }
                }
                Change::Retry(due) => {
                    self.retries.insert(id, *due);
                }
                Change::Approved(_)
                | Change::Dispatched { .. }
                | Change::StepEnded { .. }
                | Change::TakenOver { .. }
                | Change::StepConcluded { .. }
                | Change::SourceNodes { .. }
                | Change::Notice(_)
                | Change::Evidence { .. } => {}
            }
        }
    }

    fn note_attempt(&mut self, id: ExecutionId, attempt: &AttemptRecord, elapsed: Duration) {
        self.attempts.insert(attempt.id, id);
        let Some(known) = self.runners.get_mut(&attempt.runner) else { return };
        match attempt.state {
            AttemptState::Leased | AttemptState::Started => {
                known.attempts.insert(attempt.id);
                known.missing.remove(&attempt.id);
            }
            AttemptState::Missing => {
                known.attempts.remove(&attempt.id);
                known.missing.insert(attempt.id);
            }
            AttemptState::Ended(_) => known.let_go(attempt.id),
        }
        self.rerank(attempt.runner, elapsed);
    }

    /// Makes commits of drafts and counts the versions on.
    pub(super) fn commits(&mut self, drafts: Drafts, now: Timestamp) -> (Vec<Commit>, Vec<Aftermath>) {
        let mut commits = Vec::new();
        let mut aftermath = Vec::new();
        for (id, mut draft) in drafts.0 {
            let Some(live) = self.live.get_mut(&id) else { continue };
            let version = live.version;
            let notices = notice::notices(live, &draft.changes);
            draft.changes.extend(notices.into_iter().map(Change::Notice));
            if !(draft.changes.is_empty() && draft.happenings.is_empty()) {
                live.version += 1;
            }
            aftermath.push(Aftermath { id, orders: draft.orders, version: live.version });
            commits.push(Commit {
                execution: id,
                version,
                at: now,
                changes: draft.changes,
                happenings: draft.happenings,
            });
        }
        (commits, aftermath)
    }

    /// Tells runners and followers what is recorded; lets go of an execution that has ended.
    pub(super) fn tell(&mut self, done: Aftermath) {
        for order in done.orders {
            let Some(known) = self.runners.get_mut(&order.runner) else { continue };
            match order.what {
                OrderKind::Run => known.tell(Message::Run(order.attempt, order.epoch)),
                OrderKind::Cancel => known.tell(Message::Cancel(order.attempt, order.epoch)),
                OrderKind::Forget => known.tell(Message::Forget(order.attempt)),
                OrderKind::Release => {}
            }
        }
        if self.live.get(&done.id).is_some_and(|live| live.is_over() && live.version == done.version) {
            let parent = self.live.get(&done.id).and_then(|live| live.head.parent);
            self.families.extend(parent.map(|parent| (parent.execution, parent.section)));
            self.drop_live(done.id);
        }
        if let Some(watcher) = self.watchers.get(&done.id) {
            watcher.send_replace(done.version);
        }
    }

    /// Lets go of all that is known of an execution.
    pub(super) fn drop_live(&mut self, id: ExecutionId) {
        let Some(live) = self.live.remove(&id) else { return };
        self.sealed.remove(&id);
        self.kin.remove(&id);
        self.queued.remove(&id);
        self.forget_ready(id, &live.head);
        for section in &live.sections {
            if let Some(attempt) = &section.attempt {
                self.attempts.remove(&attempt.id);
                if let Some(known) = self.runners.get_mut(&attempt.runner) {
                    known.let_go(attempt.id);
                }
            }
        }
        // Attempts that were followed by another one.
        if live.sections.iter().any(|section| section.record.epoch.0 > 1) {
            self.attempts.retain(|_, execution| *execution != id);
        }
    }
}

impl Scheduler {
    /// Drafts with `decide` and records it; what was drafted is told when it is on disk.
    pub(super) async fn decide_and_record<T>(
        &self,
        decide: impl FnOnce(&mut State, &mut Drafts) -> T,
    ) -> Result<T, StoreError> {
        let turn = self.store().turn().await?;
        let tried_again;
        let (decided, ids, recorded) = {
            let mut state = self.state();
            let mut drafts = Drafts::default();
            let decided = decide(&mut state, &mut drafts);
            let (now, elapsed) = (self.now(), self.elapsed());
            for id in drafts.ids() {
                let draft = std::mem::take(drafts.of(id));
                state.absorb(id, &draft, now, elapsed);
                *drafts.of(id) = draft;
            }
            state.dispatch(None, &mut drafts, || self.new_attempt(), now, elapsed);
            if drafts.is_empty() {
                return Ok(decided);
            }
            tried_again = drafts.try_again();
            let (commits, aftermath) = state.commits(drafts, now);
            let ids: Vec<ExecutionId> = aftermath.iter().map(|done| done.id).collect();
            (decided, ids, (Store::record(turn, commits), aftermath))
        };
        let (recording, aftermath) = recorded;
        let results = match recording.await {
            Ok(results) => results,
            Err(error) => {
                self.read_back(&ids).await;
                return Err(error);
            }
        };
        let mut failed: Vec<(ExecutionId, StoreError)> = Vec::new();
        {
            let mut state = self.state();
            for (done, result) in aftermath.into_iter().zip(results) {
                match result {
                    Ok(()) => state.tell(done),
                    Err(error) => failed.push((done.id, error)),
                }
            }
        }
        if tried_again || !self.state().families.is_empty() {
            self.inner.wake.notify_one();
        }
        match failed.first().cloned() {
            Some((_, error)) => {
                self.read_back(&failed.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await;
                Err(error)
            }
            None => Ok(decided),
        }
    }

    /// What was decided about these was not recorded: forget it and read back what is.
    pub(super) async fn read_back(&self, ids: &[ExecutionId]) {
        for id in ids {
            {
                let mut state = self.state();
                state.drop_live(*id);
            }
            if let Err(error) = self.load(*id).await {
                tracing::error!(%error, execution = %id, "an execution could not be read back; it will be tried again");
                self.state().broken.insert(*id);
            }
        }
        self.rerank_all();
        self.inner.wake.notify_one();
    }

    pub(super) fn rerank_all(&self) {
        let elapsed = self.elapsed();
        let mut state = self.state();
        let ids: Vec<_> = state.runners.keys().copied().collect();
        for id in ids {
            state.rerank(id, elapsed);
        }
    }

    /// Reads an execution from the store into memory, unless it has ended.
    pub(super) async fn load(&self, id: ExecutionId) -> Result<(), StoreError> {
        let Some(record) = self.store().execution(id).await? else { return Ok(()) };
        if record.state.is_final() {
            return Ok(());
        }
        let results = self.store().outcomes(id).await?;
        let sealed = match &record.head.sealed {
            Some(_) => self.store().sealed(id).await?,
            None => Vec::new(),
        };
        let dispatched = self.store().dispatched(id).await?;
        let document = self.document(record.head.document).await?;
        let names = self.node_names(record.head.nodes.as_ref().map(|nodes| nodes.set)).await?;
        let attempts = record.attempts.clone();
        let known = Remembered {
            id,
            head: record.head,
            state: record.state,
            version: record.version,
            began: record.began,
            stop: record.stop,
            sections: record.sections,
            attempts: record.attempts,
            approvals: record.approvals,
            steps: record.steps,
            results,
            dispatched,
        };
        let live = Live::remember(known, document, names);
        let (now, elapsed) = (self.now(), self.elapsed());
        let mut state = self.state();
        let mut seen = Draft::default();
        seen.changes.push(Change::Execution {
            state: live.state,
            began: live.began,
            ended: live.ended,
            stop: live.stop,
        });
        seen.changes.extend(live.sections.iter().map(|section| Change::Section(section.record.clone())));
        seen.changes.extend(attempts.into_iter().map(Change::Attempt));
        let out: Vec<_> = live
            .out()
            .filter_map(|(at, _)| {
                let attempt = live.sections[at].open_attempt()?.clone();
                Some((attempt, live.sections[at].record.state, live.stop.is_some(), live.start_mode(at)))
            })
            .collect();
        state.live.insert(id, live);
        if !sealed.is_empty() {
            state.sealed.insert(id, sealed);
        }
        state.absorb(id, &seen, now, elapsed);
        // Whether these were ever told is not known: they are told again, and who knows them passes them over.
        for (attempt, section, stopping, mode) in out {
            let Some(known) = state.runners.get_mut(&attempt.runner) else { continue };
            let unheard = section == SectionState::Leased
                || (section == SectionState::Started
                    && mode == remit_protocol::assignment::StartMode::Fast
                    && attempt.events == 0);
            if unheard {
                known.tell(Message::Run(attempt.id, attempt.epoch));
            }
            if stopping {
                known.tell(Message::Cancel(attempt.id, attempt.epoch));
            }
        }
        Ok(())
    }

    /// A job document, parsed; the newest are kept.
    pub async fn document(&self, which: digest::Sized) -> Result<Arc<Document>, StoreError> {
        if let Some(document) = self.state().documents.get(&which.digest) {
            return Ok(Arc::clone(document));
        }
        let bytes = self.blob(which, MAX_JOB as u64).await?;
        let document = Document::from_slice(&bytes)
            .map_err(|error| StoreError::Damaged(format!("job document {}: {error}", which.digest)))?;
        let document = Arc::new(document);
        let mut state = self.state();
        if state.documents.len() >= DOCUMENTS {
            state.documents.clear();
        }
        state.documents.insert(which.digest, Arc::clone(&document));
        Ok(document)
    }

    /// Names of the nodes of a set.
    async fn node_names(&self, set: Option<digest::Sized>) -> Result<Arc<[NodeName]>, StoreError> {
        match set {
            Some(set) => Ok(names(&self.node_set(set).await?)),
            None => Ok(Arc::from([])),
        }
    }

    /// A node set, read, parsed and checked.
    pub async fn node_set(&self, which: digest::Sized) -> Result<NodeSet, StoreError> {
        let bytes = self.blob(which, MAX_NODE_SET).await?;
        let damaged = |why: String| StoreError::Damaged(format!("node set {}: {why}", which.digest));
        let limit = usize::try_from(MAX_NODE_SET).unwrap_or(usize::MAX);
        let set: NodeSet = json::from_slice(&bytes, limit).map_err(|error| damaged(error.to_string()))?;
        set.check().map_err(|error| damaged(error.to_string()))?;
        Ok(set)
    }

    async fn blob(&self, which: digest::Sized, limit: u64) -> Result<Vec<u8>, StoreError> {
        let damaged = |why: &str| StoreError::Damaged(format!("blob {}: {why}", which.digest));
        match self.store().blobs().get(which.digest, limit).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(damaged("it is not there")),
            Err(error) => Err(damaged(&error.to_string())),
        }
    }
}
