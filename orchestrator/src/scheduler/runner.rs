//! A runner as the scheduler knows it: who it is, when it was heard of, what it has, what it is to be told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use remit_protocol::{
    AttemptId, Digest, Epoch, ProjectName, RunnerId, Session, Timestamp, endpoint::LEASE,
    operator::RunnerStatus,
};
use tokio::sync::Notify;

use super::{GRACE, RunnerLoad, SUSPECT, Scheduler, State, matching::Rank};
use crate::store::{Runner, StoreError};

/// Something that a runner is to be told, until it says that it heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Run(AttemptId, Epoch),
    Cancel(AttemptId, Epoch),
    Forget(AttemptId),
}

/// A runner.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) runner: Runner,
    /// When it was last heard of, on the clock that never jumps. None: not since its work was taken for lost.
    pub(super) heard: Option<Duration>,
    pub(super) seen: Option<Timestamp>,
    /// The newest `seen` that is recorded.
    pub(super) noted: Option<Timestamp>,
    pub(super) draining: bool,
    /// It was deleted, and stays only until its work is lost.
    pub(super) deleted: bool,
    /// The session that the store knows to be in use.
    pub(super) confirmed: Session,
    /// The number of the first message; unknown until the first poll after a restart of ours.
    pub(super) first: Option<u64>,
    pub(super) outbox: VecDeque<Message>,
    pub(super) wake: Arc<Notify>,
    /// Counts polls: an older one that is still parked makes way.
    pub(super) polls: u64,
    /// What it has, as far as is known.
    pub(super) attempts: BTreeSet<AttemptId>,
    /// What it had when it was last heard of, and may have still.
    pub(super) missing: BTreeSet<AttemptId>,
    /// What an earlier process of it began: until when the report of its end has to be there.
    pub(super) owed: BTreeMap<AttemptId, Duration>,
    /// Grows with each hand-out: who was idle for longest has the smallest.
    pub(super) used: u64,
    /// Under which rank it stands in the pools now.
    pub(super) rank: Option<Rank>,
}

impl Known {
    pub(super) fn new(runner: Runner) -> Self {
        Self {
            heard: None,
            seen: runner.seen,
            noted: runner.seen,
            draining: false,
            deleted: false,
            confirmed: Session(0),
            first: Some(1),
            outbox: VecDeque::new(),
            wake: Arc::new(Notify::new()),
            polls: 0,
            attempts: BTreeSet::new(),
            missing: BTreeSet::new(),
            owed: BTreeMap::new(),
            used: 0,
            rank: None,
            runner,
        }
    }

    pub(super) fn status(&self, elapsed: Duration) -> RunnerStatus {
        let silent = self.heard.map(|heard| elapsed.saturating_sub(heard));
        if self.runner.locked.is_some() {
            RunnerStatus::Locked
        } else if self.runner.enrolled.is_none() {
            RunnerStatus::Expected
        } else if !self.runner.enabled {
            RunnerStatus::Disabled
        } else {
            match silent {
                None => RunnerStatus::Offline,
                Some(silent) if silent >= LEASE.duration() => RunnerStatus::Offline,
                Some(silent) if silent >= SUSPECT => RunnerStatus::Suspect,
                Some(_) if self.draining => RunnerStatus::Draining,
                Some(_) => RunnerStatus::Healthy,
            }
        }
    }

    pub(super) fn load(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// The rank for new work, if it can have any.
    pub(super) fn rank_now(&self, elapsed: Duration) -> Option<Rank> {
        let (slots, load) = (self.runner.slots, self.load());
        let takes = self.status(elapsed) == RunnerStatus::Healthy && load < slots;
        takes.then(|| Rank { load: u64::from(load) * 1000 / u64::from(slots.max(1)), used: self.used })
    }

    /// True when its work is to be taken for lost.
    pub(super) fn is_lost(&self, elapsed: Duration) -> bool {
        self.heard.is_some_and(|heard| elapsed.saturating_sub(heard) >= LEASE.duration() + GRACE)
    }

    pub(super) fn let_go(&mut self, attempt: AttemptId) {
        self.attempts.remove(&attempt);
        self.missing.remove(&attempt);
        self.owed.remove(&attempt);
    }

    pub(super) fn tell(&mut self, message: Message) {
        if !self.outbox.contains(&message) {
            self.outbox.push_back(message);
        }
        self.wake.notify_waiters();
    }

    /// Drops what the runner has heard.
    pub(super) fn acknowledge(&mut self, heard: u64) {
        let next = heard.saturating_add(1);
        let first = *self.first.get_or_insert(next);
        for _ in first..next.min(first.saturating_add(self.outbox.len() as u64)) {
            self.outbox.pop_front();
        }
        self.first = Some(first.max(next));
    }
}

impl State {
    /// Puts a runner where its load and health say that it belongs.
    pub(super) fn rerank(&mut self, id: RunnerId, elapsed: Duration) {
        let Some(known) = self.runners.get_mut(&id) else { return };
        let rank = known.rank_now(elapsed);
        if rank != known.rank {
            self.pools.place(&known.runner, known.rank, rank);
            known.rank = rank;
        }
    }
}

impl Scheduler {
    /// Reads a runner again after somebody made, enrolled, changed or deleted it.
    pub async fn runner_changed(&self, id: RunnerId) -> Result<(), StoreError> {
        let found = self.store().runner(id).await?;
        let elapsed = self.elapsed();
        let mut state = self.state();
        if let Some(known) = state.runners.get(&id) {
            let (runner, rank) = (known.runner.clone(), known.rank);
            state.pools.place(&runner, rank, None);
        }
        match (found, state.runners.get_mut(&id)) {
            (Some(runner), Some(known)) => {
                known.rank = None;
                known.runner = runner;
            }
            (Some(runner), None) => {
                state.runners.insert(id, Known::new(runner));
            }
            (None, Some(known)) => {
                // Its work is lost with it; the reconciler says so.
                known.runner.enabled = false;
                known.deleted = true;
                known.heard = Some(Duration::ZERO);
                known.rank = None;
                if known.attempts.is_empty() {
                    state.runners.remove(&id);
                }
            }
            (None, None) => {}
        }
        state.rerank(id, elapsed);
        drop(state);
        self.inner.wake.notify_one();
        Ok(())
    }

    /// True if the runner has work that names these bytes: the document or the nodes of an execution, or of one of its family
    /// that the runner has to look at.
    pub fn may_read(&self, id: RunnerId, digest: Digest) -> bool {
        let state = self.state();
        let attempts = state.runners.get(&id).into_iter().flat_map(|known| &known.attempts);
        attempts.filter_map(|id| Some((*id, state.live.get(state.attempts.get(id)?)?))).any(|(id, live)| {
            live.head.document.digest == digest
                || live.head.nodes.as_ref().is_some_and(|nodes| nodes.set.digest == digest)
                || live.head.files.iter().any(|file| file.digest == digest)
                || state.names_kin(live, id, digest)
        })
    }

    /// The project of an attempt that this runner has and that has not ended: what it may bring artifacts for.
    pub fn keeps_for(&self, id: RunnerId, attempt: AttemptId) -> Option<ProjectName> {
        let state = self.state();
        let execution = *state.attempts.get(&attempt)?;
        let live = state.live.get(&execution)?;
        let known = live.sections[live.section_of(attempt)?].open_attempt()?;
        (known.runner == id).then(|| live.head.project.clone())
    }

    /// How a runner is doing.
    pub fn runner_load(&self, id: RunnerId) -> Option<RunnerLoad> {
        let elapsed = self.elapsed();
        let state = self.state();
        let known = state.runners.get(&id)?;
        Some(RunnerLoad {
            status: known.status(elapsed),
            seen: known.seen,
            attempts: known.load(),
            free: known.runner.slots.saturating_sub(known.load()),
        })
    }

    /// How many runners are in each state.
    pub fn runner_counts(&self) -> Vec<(RunnerStatus, u32)> {
        let elapsed = self.elapsed();
        let mut counts: Vec<(RunnerStatus, u32)> = Vec::new();
        for known in self.state().runners.values() {
            let status = known.status(elapsed);
            match counts.iter_mut().find(|(known, _)| *known == status) {
                Some((_, count)) => *count += 1,
                None => counts.push((status, 1)),
            }
        }
        counts
    }
}
