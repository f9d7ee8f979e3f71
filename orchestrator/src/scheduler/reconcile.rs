//! The reconciler: without input, it looks for what is due and does it. Waking it too often costs little; it also looks by
//! itself every second.

use std::{collections::HashMap, time::Duration};

use remit_protocol::{
    AttemptId, ExecutionId, JobName, Origin, Outcome, ProjectName, RunnerId, Session, Timestamp,
    operator::CancelMode,
};

use super::{
    BEGIN_WITHIN, Scheduler, State,
    commit::Drafts,
    runner::{Known, Message},
    session::MAX_ASSIGNMENT,
    trigger::TriggerError,
};
use crate::{
    execution::{AttemptState, ExecutionState, Head, Live, SectionState, transition::Illegal},
    store::{SourceKind, StoreError},
};

/// How often it looks by itself.
const ROUND: Duration = Duration::from_secs(1);
/// How often "last heard of" is recorded.
const NOTE_EVERY: Duration = Duration::from_secs(60);

impl Scheduler {
    /// Reads back everything that has not ended.
    pub(super) async fn remember(&self) -> Result<(), StoreError> {
        let runners = self.store().runners().await?;
        let elapsed = self.elapsed();
        {
            let mut state = self.state();
            for runner in runners {
                let mut known = Known::new(runner);
                if known.runner.session != Session(0) {
                    known.heard = Some(elapsed);
                    known.first = None;
                }
                state.runners.insert(known.runner.id, known);
            }
        }
        for id in self.store().open_executions().await? {
            self.load(id).await?;
        }
        let retries = self.store().retries().await?;
        self.state().retries.extend(retries);
        self.rerank_all();
        Ok(())
    }

    /// Goes round until the task is dropped.
    pub async fn run(&self) {
        tokio::join!(self.reconcile_for_ever(), self.watch_the_clock());
    }

    async fn reconcile_for_ever(&self) {
        loop {
            let _ = tokio::time::timeout(ROUND, self.inner.wake.notified()).await;
            if let Err(error) = self.reconcile().await {
                tracing::error!(%error, "what is due could not be recorded; it is tried again");
            }
        }
    }

    /// Looks once for everything that is due, and does it.
    pub async fn reconcile(&self) -> Result<(), StoreError> {
        let broken = std::mem::take(&mut self.state().broken);
        for id in broken {
            self.read_back(&[id]).await;
        }
        let (now, elapsed) = (self.now(), self.elapsed());
        self.decide_and_record(|state, drafts| {
            state.expire(drafts, now, elapsed);
            state.let_go_queued(drafts, now);
            state.end_overdue(drafts, now);
            state.close_gates(drafts, now);
            state.wake_delayed(now);
        })
        .await?;
        self.see_to_children().await?;
        self.see_to_retries(now).await?;
        self.note_seen(now).await?;
        self.refresh_due(now).await
    }

    async fn note_seen(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut seen = Vec::new();
        {
            let mut state = self.state();
            for (id, known) in &mut state.runners {
                let due = known.seen.filter(|seen| {
                    known.noted.is_none_or(|noted| seen.since(noted) >= NOTE_EVERY)
                        || (known.noted != known.seen && now.since(*seen) >= NOTE_EVERY)
                });
                if let Some(time) = due {
                    known.noted = Some(time);
                    seen.push((*id, time));
                }
            }
        }
        if seen.is_empty() { Ok(()) } else { self.store().runners_seen(seen).await }
    }

    /// Asks node sources anew whose time has come.
    async fn refresh_due(&self, now: Timestamp) -> Result<(), StoreError> {
        {
            let mut state = self.state();
            if state.sources_looked_at.is_some_and(|last| now.since(last) < Duration::from_secs(10)) {
                return Ok(());
            }
            state.sources_looked_at = Some(now);
        }
        for source in self.store().sources_with_interval().await? {
            let Some(every) = source.every.filter(|_| source.kind != SourceKind::Static) else { continue };
            let busy = source.execution.is_some_and(|id| self.state().live.contains_key(&id));
            // A refresh that failed is tried again when its time comes, not at once.
            let last = source
                .execution
                .map(|id| Timestamp::from_millis(u64::try_from(id.to_u128() >> 80).unwrap_or(0)));
            // Taking a job's results costs nothing when there are no newer ones.
            let last = last.filter(|_| source.kind == SourceKind::Component);
            let due = last.is_none_or(|last| now.since(last) >= every.duration());
            if due
                && !busy
                && let Err(error) =
                    self.refresh_source(&source.project, &source.name, ("schedule", Origin::Interval)).await
                && !matches!(error, TriggerError::NoResults(_))
            {
                tracing::warn!(%error, project = %source.project, source = %source.name, "a node source could not be asked");
            }
        }
        Ok(())
    }
}

impl State {
    /// What runners that are gone had is withdrawn or lost; what was handed out and never begun is withdrawn.
    fn expire(&mut self, drafts: &mut Drafts, now: Timestamp, elapsed: Duration) {
        let ids: Vec<RunnerId> = self.runners.keys().copied().collect();
        for id in ids {
            let Some(known) = self.runners.get_mut(&id) else { continue };
            if known.is_lost(elapsed) {
                known.heard = None;
                let lost: Vec<AttemptId> = known.attempts.iter().copied().collect();
                for attempt in lost {
                    self.lose(attempt, Outcome::Lost, "its runner has not been heard of", drafts, now);
                }
            } else {
                let owed: Vec<AttemptId> =
                    known.owed.iter().filter(|(_, until)| **until <= elapsed).map(|(id, _)| *id).collect();
                known.owed.retain(|_, until| *until > elapsed);
                for attempt in owed {
                    let why = "its runner restarted and did not report its end";
                    self.lose(attempt, Outcome::Interrupted, why, drafts, now);
                }
            }
            self.rerank(id, elapsed);
            if self.runners.get(&id).is_some_and(|known| known.deleted && known.attempts.is_empty()) {
                self.runners.remove(&id);
            }
        }
        for (attempt, bytes) in std::mem::take(&mut self.oversized) {
            self.refuse_oversized(attempt, bytes, drafts, now);
        }
        let idle: Vec<AttemptId> = self.leased_too_long(now);
        for attempt in idle {
            self.lose(attempt, Outcome::Lost, "its runner did not begin it in time", drafts, now);
        }
    }

    fn leased_too_long(&self, now: Timestamp) -> Vec<AttemptId> {
        let held = self.runners.values().flat_map(|known| &known.attempts);
        held.filter(|id| {
            let live = self.attempts.get(id).and_then(|execution| self.live.get(execution));
            let attempt = live.and_then(|live| live.sections[live.section_of(**id)?].open_attempt());
            attempt.is_some_and(|a| a.state == AttemptState::Leased && now.since(a.leased) >= BEGIN_WITHIN)
        })
        .copied()
        .collect()
    }

    /// The runner of an attempt is gone.
    fn lose(&mut self, attempt: AttemptId, outcome: Outcome, why: &str, drafts: &mut Drafts, now: Timestamp) {
        let Some(id) = self.attempts.get(&attempt).copied() else { return };
        let Some(live) = self.live.get_mut(&id) else { return };
        let Some(at) = live.section_of(attempt) else { return };
        let Some(open) = live.sections[at].open_attempt().cloned() else { return };
        let draft = drafts.of(id);
        let result = match open.state {
            AttemptState::Leased => live.withdraw(at, now, draft),
            AttemptState::Started => live.runner_gone(at, outcome, why, now, draft),
            AttemptState::Missing | AttemptState::Ended(_) => Ok(()),
        };
        if let Err(illegal) = result {
            return self.mend(id, drafts, &illegal);
        }
        let over = live.sections[at].open_attempt().is_none_or(|now| now.id != attempt);
        if over && let Some(known) = self.runners.get_mut(&open.runner) {
            // Should it come back, it is to stop.
            known.tell(Message::Forget(attempt));
        }
    }

    /// An assignment that no runner could receive is refused here.
    fn refuse_oversized(&mut self, attempt: AttemptId, bytes: usize, drafts: &mut Drafts, now: Timestamp) {
        let Some(id) = self.attempts.get(&attempt).copied() else { return };
        let Some(live) = self.live.get_mut(&id) else { return };
        let Some(at) = live.section_of(attempt).filter(|at| live.sections[*at].is_out()) else { return };
        let why = format!(
            "options and outputs of earlier steps take {bytes} bytes, and at most {MAX_ASSIGNMENT} travel to a runner: \
             let earlier steps give less"
        );
        if let Err(illegal) = live.refuse(at, &why, now, drafts.of(id)) {
            self.mend(id, drafts, &illegal);
        }
    }

    /// What was drafted does not fit: the execution is read back.
    pub(super) fn mend(&mut self, id: ExecutionId, drafts: &mut Drafts, illegal: &Illegal) {
        tracing::error!(%illegal, execution = %id, "a decision does not fit; the execution is read again");
        drafts.take(id);
        self.drop_live(id);
        self.broken.insert(id);
    }

    /// Lets queued executions go whose time and turn have come, the oldest first.
    fn let_go_queued(&mut self, drafts: &mut Drafts, now: Timestamp) {
        // How many go on, of the jobs that have a limit: counted once, not once for each that waits.
        let mut going: HashMap<(ProjectName, JobName, String), u32> = HashMap::new();
        let key = |head: &Head| (head.project.clone(), head.job.clone(), format!("{:?}", head.purpose));
        for live in self.queued.iter().filter_map(|id| self.live.get(id)) {
            if live.head.at_once.is_some() {
                going.insert(key(&live.head), 0);
            }
        }
        if !going.is_empty() {
            for live in self.live.values().filter(|live| live.state != ExecutionState::Queued) {
                if let Some(count) = going.get_mut(&key(&live.head)) {
                    *count += 1;
                }
            }
        }
        for id in self.queued.clone() {
            let Some(live) = self.live.get_mut(&id).filter(|live| live.state == ExecutionState::Queued)
            else {
                continue;
            };
            if live.head.queued_until.is_some_and(|until| until <= now) {
                let why = "its turn did not come in time";
                if let Err(illegal) = live.stop(Outcome::TimedOut, CancelMode::Ask, why, now, drafts.of(id)) {
                    self.mend(id, drafts, &illegal);
                }
                continue;
            }
            if live.head.not_before.is_some_and(|time| time > now) {
                continue;
            }
            if let (Some(most), Some(count)) = (live.head.at_once, going.get_mut(&key(&live.head))) {
                if *count >= most {
                    continue;
                }
                *count += 1;
            }
            if let Err(illegal) = live.admit(now, drafts.of(id)) {
                self.mend(id, drafts, &illegal);
            }
        }
    }

    /// Stops executions whose time is over.
    fn end_overdue(&mut self, drafts: &mut Drafts, now: Timestamp) {
        let overdue: Vec<ExecutionId> = self
            .live
            .values()
            .filter(|live| live.stop.is_none() && live.deadline().is_some_and(|deadline| deadline <= now))
            .map(|live| live.id)
            .collect();
        for id in overdue {
            let Some(live) = self.live.get_mut(&id) else { continue };
            let why = "the job's time is over";
            if let Err(illegal) = live.stop(Outcome::TimedOut, CancelMode::Ask, why, now, drafts.of(id)) {
                self.mend(id, drafts, &illegal);
            }
        }
    }

    /// Gates close whose time is over.
    fn close_gates(&mut self, drafts: &mut Drafts, now: Timestamp) {
        let over = |live: &&Live| {
            live.sections.iter().any(|section| {
                let record = &section.record;
                record.state == SectionState::Gated && record.not_before.is_some_and(|until| until <= now)
            })
        };
        let ids: Vec<ExecutionId> = self.live.values().filter(over).map(|live| live.id).collect();
        for id in ids {
            let Some(live) = self.live.get_mut(&id) else { continue };
            if let Err(illegal) = live.close_gates(now, drafts.of(id)) {
                self.mend(id, drafts, &illegal);
            }
        }
    }

    /// Sections whose wait is over wait for a runner.
    fn wake_delayed(&mut self, now: Timestamp) {
        while let Some((time, id, number)) = self.delayed.first().copied().filter(|(time, ..)| *time <= now) {
            self.delayed.remove(&(time, id, number));
            self.note_ready(id, number, Some(time), now);
        }
    }
}
