//! The beginning of an execution: recorded, let go if its turn has come, and handed out if a runner is free, in one commit.

use remit_job::document::Document;
use remit_protocol::{ExecutionId, IdempotencyKey, Timestamp, digest::Digest};

use super::{
    Scheduler, State,
    commit::Drafts,
    trigger::{Drafted, TriggerError, Triggered, fault},
};
use crate::{
    execution::{Change, Draft, ExecutionState, Head, plan},
    store::{Created, NewExecution, Store, StoreError},
};

impl Scheduler {
    /// Records an execution and everything that can be decided about it at once.
    pub(super) async fn begin(
        &self,
        drafted: Drafted,
        key: Option<(IdempotencyKey, Digest)>,
    ) -> Result<Triggered, TriggerError> {
        let (id, head, sealed) = (drafted.id, drafted.head.clone(), drafted.sealed.clone());
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
                sealed,
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
        let Drafted { id, head, document, nodes, sealed, taken, .. } = drafted;
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
        if !sealed.is_empty() {
            state.sealed.insert(id, sealed);
        }
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
