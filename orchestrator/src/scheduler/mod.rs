//! Who runs what, when: sessions of runners, matching, and the reconciler that needs no input.
//!
//! What has not ended is held in memory, as the pure core sees it; every decision is drafted there and recorded in the
//! store before anybody hears of it: *commit, then wake*. If recording fails, the memory of that execution is thrown away
//! and read back. One lock, held for microseconds and never while something waits; a place in the writer's queue is taken
//! before it, so that commits stand in the order of decisions.
//!
//! *Never here:* SQL, sockets, a clock of its own ([`Surroundings`] give time and randomness). *Invariants:* an attempt is
//! told to its runner until it says that it heard; why an execution waits is always answerable.

mod again;
mod assignment;
mod begin;
mod children;
mod clockwork;
mod command;
mod commit;
mod control;
mod family;
mod matching;
mod options;
mod projects;
mod reconcile;
mod report;
mod runner;
mod sealed;
mod selection;
mod session;
mod slow;
mod sources;
mod trigger;
mod waiting;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use remit_job::document::Document;
use remit_protocol::{
    AttemptId, Digest, ExecutionId, NodeName, ProjectName, RunnerId, SectionNumber, Timestamp,
    assignment::Kin,
    node::NodeSet,
    operator::{ProjectSettings, RunnerStatus},
    sealed::Sealed,
};
use tokio::sync::{Notify, watch};

use crate::{
    execution::Live,
    store::{Store, StoreError},
};

pub use command::CommandRun;
pub use control::ControlError;
pub use session::SessionError;
pub use trigger::{Drafted, Trigger, TriggerError, Triggered};
pub use waiting::{Reason, Waiting};

/// From when on a runner that is not heard of gets no new work.
pub const SUSPECT: Duration = Duration::from_secs(40);
/// How long after the lease's end its work is taken for lost.
pub const GRACE: Duration = Duration::from_secs(15);
/// How long a runner that is there may have a hand-out without beginning it: time to fetch and compile.
pub const BEGIN_WITHIN: Duration = Duration::from_secs(600);
/// How long a step may tidy up when it is cancelled.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// What the scheduler takes from outside instead of reaching for it.
pub trait Surroundings: Send + Sync + 'static {
    /// The wall clock: for records.
    fn now(&self) -> Timestamp;
    /// A clock that never jumps, from any beginning: for leases.
    fn elapsed(&self) -> Duration;
    /// Random bits: for ids.
    fn random(&self) -> u128;
}

/// The scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").finish_non_exhaustive()
    }
}

struct Inner {
    store: Arc<Store>,
    surroundings: Box<dyn Surroundings>,
    state: Mutex<State>,
    /// Something may be due.
    wake: Notify,
}

/// Everything that has not ended, and everybody who may run it.
#[derive(Default)]
struct State {
    live: HashMap<ExecutionId, Live>,
    /// What was typed for live executions, sealed.
    sealed: HashMap<ExecutionId, Vec<Sealed>>,
    /// The attempts of live executions.
    attempts: HashMap<AttemptId, ExecutionId>,
    runners: HashMap<RunnerId, runner::Known>,
    pools: matching::Pools,
    /// Sections that wait for their time.
    delayed: BTreeSet<(Timestamp, ExecutionId, SectionNumber)>,
    /// Executions that wait for their time or their turn.
    queued: BTreeSet<ExecutionId>,
    /// Sections whose child executions are to be seen to.
    families: BTreeSet<(ExecutionId, SectionNumber)>,
    /// What sections of live executions ran that have ended, as runners see it: read when one has to.
    kin: HashMap<ExecutionId, BTreeMap<SectionNumber, Vec<Kin>>>,
    /// Executions after which their job is to be tried again, and when.
    retries: BTreeMap<ExecutionId, Timestamp>,
    /// Executions whose memory was thrown away and could not be read back yet.
    broken: BTreeSet<ExecutionId>,
    watchers: HashMap<ExecutionId, watch::Sender<u64>>,
    sources_looked_at: Option<Timestamp>,
    /// Attempts whose assignment is too large to travel, with its bytes.
    oversized: BTreeMap<AttemptId, usize>,
    documents: HashMap<Digest, Arc<Document>>,
    settings: HashMap<ProjectName, Arc<ProjectSettings>>,
    /// How often settings were changed since the start.
    settings_changed: u64,
    /// How long such executions took, for those that are watched.
    averages: HashMap<ExecutionId, Option<Duration>>,
    /// Of which executions it was told that they take long, by entry of the job.
    told_slow: HashMap<ExecutionId, BTreeSet<u32>>,
    nodes: Option<(Vec<Digest>, Arc<NodeSet>)>,
}

/// How a runner is doing, as only the scheduler knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerLoad {
    /// Its status.
    pub status: RunnerStatus,
    /// When it was last heard of.
    pub seen: Option<Timestamp>,
    /// How many attempts it has.
    pub attempts: u32,
    /// How many of its slots are free.
    pub free: u32,
}

impl Scheduler {
    /// Reads back what has not ended. Sessions get a fresh time to live: nothing is lost by our own absence.
    pub async fn start(store: Arc<Store>, surroundings: impl Surroundings) -> Result<Self, StoreError> {
        let inner = Inner {
            store,
            surroundings: Box::new(surroundings),
            state: Mutex::new(State::default()),
            wake: Notify::new(),
        };
        let scheduler = Self { inner: Arc::new(inner) };
        scheduler.remember().await?;
        Ok(scheduler)
    }

    /// Follows an execution: the value changes after each commit. Subscribe, then read `Store::events_after`, then wait.
    pub fn watch(&self, execution: ExecutionId) -> watch::Receiver<u64> {
        let mut state = self.state();
        state.watchers.retain(|_, watcher| watcher.receiver_count() > 0);
        state.watchers.entry(execution).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave it half changed in a way that the store does not correct.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn now(&self) -> Timestamp {
        self.inner.surroundings.now()
    }

    fn elapsed(&self) -> Duration {
        self.inner.surroundings.elapsed()
    }

    fn new_attempt(&self) -> AttemptId {
        AttemptId::from_parts(self.now(), self.inner.surroundings.random())
    }
}

/// Names of a set's nodes, by index.
fn names(set: &NodeSet) -> Arc<[NodeName]> {
    set.nodes.iter().map(|node| node.name.clone()).collect()
}
