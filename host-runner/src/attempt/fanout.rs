//! A section of node steps: threads take units from the [`Schedule`] until there is none.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use remit_job::rollup;
use remit_protocol::{
    Outcome,
    assignment::{NodeWork, StartMode, Strategy},
    report::Event,
};
use tokio::{sync::Notify, task::JoinSet};

use super::{
    prepare::{ReadyNode, Section},
    schedule::{Next, Plan, Schedule, Unit},
    step::{self, Sight, Surroundings},
    voice::Reins,
};

/// Nodes that may be announced and not begun, where repeating them is harmless: enough to hide a round trip.
const WIDE_WINDOW: usize = 4096;
/// The same where they would be in doubt after a crash, for each thread.
const DOUBT_PER_THREAD: usize = 2;

struct Fanout {
    section: Section,
    around: Surroundings,
    shared: Mutex<Shared>,
    changed: Notify,
}

struct Shared {
    schedule: Schedule,
    /// Events that announced nodes, and up to which node.
    announced: VecDeque<(u64, usize)>,
    /// Nodes between two phases of step-first.
    paused: HashMap<usize, Sight>,
    outcome: Outcome,
}

/// Runs all nodes; gives what they came to together.
pub(super) async fn run(
    section: Section,
    work: &NodeWork,
    around: Surroundings,
    mut reins: Reins,
) -> Outcome {
    let threads = usize::try_from(work.threads).unwrap_or(1).clamp(1, section.nodes.len().max(1));
    let window = match section.assignment.start {
        StartMode::Fast => WIDE_WINDOW,
        StartMode::Guarded => threads.saturating_mul(DOUBT_PER_THREAD).max(16),
    };
    let schedule = Schedule::new(Plan {
        steps: section.steps.len(),
        nodes: section.nodes.len(),
        threads,
        keep_going: work.keep_going,
        strategy: work.strategy,
        window,
    });
    let shared =
        Shared { schedule, announced: VecDeque::new(), paused: HashMap::new(), outcome: Outcome::Skipped };
    let fanout = Arc::new(Fanout { section, around, shared: Mutex::new(shared), changed: Notify::new() });
    let mut workers = JoinSet::new();
    for _ in 0..threads {
        workers.spawn(Arc::clone(&fanout).work(reins.clone()));
    }
    let cancel = fanout.around.cancel.clone();
    let mut cancelled = false;
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                None => break,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::error!(%error, "a thread of a section broke off");
                    let mut shared = fanout.shared();
                    shared.outcome = rollup::step([shared.outcome, Outcome::HostFault]);
                    shared.schedule.ended(false);
                }
            },
            changed = reins.durable.changed() => {
                if changed.is_err() {
                    cancel.within(Duration::ZERO);
                }
                let durable = *reins.durable.borrow_and_update();
                fanout.confirm(durable);
            }
            () = cancel.cancelled(), if !cancelled => {
                cancelled = true;
                fanout.shared().schedule.cancel();
                fanout.changed.notify_waiters();
            }
        }
    }
    fanout.conclude(cancelled)
}

impl Fanout {
    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn confirm(&self, durable: u64) {
        let mut shared = self.shared();
        while let Some((event, end)) = shared.announced.front().copied()
            && event <= durable
        {
            shared.announced.pop_front();
            shared.schedule.confirm(end);
        }
        drop(shared);
        self.changed.notify_waiters();
    }

    async fn work(self: Arc<Self>, mut reins: Reins) {
        while reins.may_begin().await {
            match self.next() {
                Next::Run(unit) => self.unit(unit).await,
                Next::Done => return,
                Next::Wait => {
                    // Interest is registered before looking once more, so that no change falls in between.
                    let changed = self.changed.notified();
                    tokio::pin!(changed);
                    changed.as_mut().enable();
                    match self.next() {
                        Next::Run(unit) => self.unit(unit).await,
                        Next::Done => return,
                        Next::Wait => changed.await,
                    }
                }
            }
        }
    }

    fn next(&self) -> Next {
        let mut shared = self.shared();
        while let Some(range) = shared.schedule.announce() {
            let nodes = self.section.nodes[range.clone()].iter().map(|node| node.index).collect();
            let event = self.around.voice.event(Event::Dispatched { nodes });
            match self.section.assignment.start {
                StartMode::Fast => shared.schedule.confirm(range.end),
                StartMode::Guarded => shared.announced.push_back((event, range.end)),
            }
        }
        shared.schedule.next()
    }

    async fn unit(&self, unit: Unit) {
        let node = &self.section.nodes[unit.node];
        let paused = self.shared().paused.remove(&unit.node);
        let mut sight = paused.unwrap_or_else(|| Sight {
            earlier: self.section.earlier.clone(),
            scope: self.section.scope.with_node(&node.node),
            after_failure: false,
        });
        sight.after_failure = unit.after_failure;
        let outcome = if unit.together {
            self.together(node, sight).await
        } else {
            let mut outcome = Outcome::Skipped;
            for ready in &self.section.steps[unit.steps.clone()] {
                let done = step::run(&self.section, ready, Some(node), &mut sight, &self.around).await;
                outcome = rollup::step([outcome, done.outcome]);
            }
            let more =
                self.section.assignment.nodes.as_ref().map(|work| work.strategy) == Some(Strategy::StepFirst);
            if more && unit.steps.end < self.section.steps.len() {
                self.shared().paused.insert(unit.node, sight);
            }
            outcome
        };
        let mut shared = self.shared();
        shared.outcome = rollup::step([shared.outcome, outcome]);
        shared.schedule.ended(outcome.is_good());
        drop(shared);
        self.changed.notify_waiters();
    }

    /// All steps at once: none sees another.
    async fn together(&self, node: &ReadyNode, sight: Sight) -> Outcome {
        let runs = self.section.steps.iter().map(|ready| {
            let mut sight = Sight { earlier: sight.earlier.clone(), scope: sight.scope.clone(), ..sight };
            async move { step::run(&self.section, ready, Some(node), &mut sight, &self.around).await.outcome }
        });
        rollup::step(join_all(runs).await)
    }

    /// The outcome of the whole. Nodes of step-first that were cancelled between two steps get an end for each of the rest.
    fn conclude(&self, cancelled: bool) -> Outcome {
        let mut shared = self.shared();
        let now = (self.around.voice.clock())();
        let paused = std::mem::take(&mut shared.paused);
        for (node, sight) in paused {
            let done = sight.earlier.len() - self.section.earlier.len();
            for ready in self.section.steps.iter().skip(done) {
                let node = Some(self.section.nodes[node].index);
                let event = step::not_run(ready.index, node, Outcome::NotStarted, String::new(), now);
                self.around.voice.event(event);
            }
            shared.outcome = rollup::step([shared.outcome, Outcome::NotStarted]);
        }
        let begun = shared.schedule.begun();
        let rest = if begun < self.section.nodes.len() { Outcome::NotStarted } else { Outcome::Skipped };
        let stopped = if cancelled { Outcome::Cancelled } else { Outcome::Skipped };
        rollup::step([shared.outcome, rest, stopped])
    }
}
