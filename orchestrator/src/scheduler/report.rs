//! Reports: what runners say of their attempts; one commit for all of a report.

use std::collections::HashMap;

use futures_util::future::join_all;
use remit_protocol::{
    AttemptId, ExecutionId, LogLimit, RunnerId, digest,
    endpoint::{Report, ReportAnswer},
    report::{AttemptReply, AttemptReport, Event, Verdict},
};

use super::{Scheduler, SessionError, State, commit::Drafts};
use crate::{
    execution::{Change, Happening},
    store::{Appended, LogError, StoreError},
};

/// What a report needs to know before it is applied.
struct Prepared {
    report: AttemptReport,
    /// What became of its log entries.
    log: Appended,
    /// The nodes that a node source gave, counted, or why they are not acceptable.
    nodes: Option<Result<u32, String>>,
}

impl Scheduler {
    /// Takes in starts, events and log entries of any number of attempts. What is answered is durable.
    pub async fn report(&self, runner: RunnerId, report: Report) -> Result<ReportAnswer, SessionError> {
        {
            let (now, elapsed) = (self.now(), self.elapsed());
            let mut state = self.state();
            state.hear_from(runner, report.session, now, elapsed)?;
        }
        let order: Vec<AttemptId> = report.attempts.iter().map(|attempt| attempt.attempt).collect();
        let prepared = self.prepare(report.attempts).await?;
        let (mut replies, late) = self
            .decide_and_record(|state, drafts| {
                let mut replies = HashMap::new();
                let mut late = Vec::new();
                for one in prepared {
                    let attempt = one.report.attempt;
                    match self.take_in(state, drafts, runner, Box::new(one)) {
                        Ok(reply) => {
                            replies.insert(attempt, reply);
                        }
                        Err(one) => late.push(one),
                    }
                }
                (replies, late)
            })
            .await?;
        for one in late {
            let attempt = one.report.attempt;
            replies.insert(attempt, self.late(runner, *one).await?);
        }
        let unknown =
            |attempt| AttemptReply { attempt, events: 0, entries: 0, verdict: Some(Verdict::Superseded) };
        let attempts = order
            .into_iter()
            .map(|attempt| replies.get(&attempt).cloned().unwrap_or_else(|| unknown(attempt)))
            .collect();
        Ok(ReportAnswer { attempts })
    }

    /// Brings logs to disk and looks at nodes that were found.
    async fn prepare(&self, reports: Vec<AttemptReport>) -> Result<Vec<Prepared>, SessionError> {
        let prepared = join_all(reports.into_iter().map(async |mut report| {
            let log = self.keep_log(&mut report).await?;
            let found = report.events.iter().find_map(|event| match event {
                Event::Finished { nodes, .. } => *nodes,
                Event::Dispatched { .. } | Event::StepEnded(_) | Event::Progress { .. } => None,
            });
            let nodes = match found {
                Some(set) => Some(self.count_nodes(set).await),
                None => None,
            };
            Ok(Prepared { report, log, nodes })
        }));
        prepared.await.into_iter().collect()
    }

    async fn keep_log(&self, report: &mut AttemptReport) -> Result<Appended, SessionError> {
        if report.log.is_empty() && !finishes(report) {
            return Ok(Appended::default());
        }
        let Some(execution) = self.execution_of(report.attempt).await? else {
            return Ok(Appended::default());
        };
        let entries = std::mem::take(&mut report.log);
        if entries.is_empty() && expected_entries(report) == 0 {
            return Ok(Appended::default());
        }
        let limit = self.log_limit_of(execution).await?;
        let (attempt, first) = (report.attempt, report.first_entry);
        match self.store().logs().append(execution, limit, attempt, first, entries).await {
            Ok(appended) => Ok(appended),
            Err(LogError::Gap { durable, .. }) => Ok(Appended { durable, full: false }),
            Err(LogError::Full) => Err(StoreError::Full.into()),
            Err(LogError::Io(error)) => Err(StoreError::Unavailable(error.to_string()).into()),
        }
    }

    async fn execution_of(&self, attempt: AttemptId) -> Result<Option<ExecutionId>, StoreError> {
        let known = self.state().attempts.get(&attempt).copied();
        match known {
            Some(execution) => Ok(Some(execution)),
            None => self.store().execution_of(attempt).await,
        }
    }

    /// How much log an execution keeps. It counts for what comes after its end as well.
    async fn log_limit_of(&self, execution: ExecutionId) -> Result<Option<LogLimit>, StoreError> {
        let live = self.state().live.get(&execution).map(|live| live.head.log_limit);
        match live {
            Some(limit) => Ok(limit),
            None => Ok(self.store().execution(execution).await?.and_then(|record| record.head.log_limit)),
        }
    }

    async fn count_nodes(&self, set: digest::Sized) -> Result<u32, String> {
        let found = self.node_set(set).await.map_err(|error| error.to_string())?;
        u32::try_from(found.nodes.len()).map_err(|_| "too many nodes".to_owned())
    }

    /// Applies a report to a current attempt; gives it back if the attempt is not current.
    fn take_in(
        &self,
        state: &mut State,
        drafts: &mut Drafts,
        runner: RunnerId,
        mut one: Box<Prepared>,
    ) -> Result<AttemptReply, Box<Prepared>> {
        let now = self.now();
        let (attempt, epoch) = (one.report.attempt, one.report.epoch);
        let Some(id) = state.attempts.get(&attempt).copied() else { return Err(one) };
        let Some(live) = state.live.get_mut(&id) else { return Err(one) };
        let Some(at) = live.section_of(attempt) else { return Err(one) };
        let known = live.sections[at].attempt.as_ref();
        let Some(known) = known.filter(|known| known.runner == runner && known.epoch == epoch) else {
            return Err(one);
        };
        let entries = one.log.durable;
        if known.state.is_final() {
            let said = one.report.first_event.saturating_add(one.report.events.len() as u64);
            if said > known.events.saturating_add(1) || one.report.start.is_some() {
                return Err(one);
            }
            // Said again because the answer was lost. It is answered when what it stands on is recorded.
            let events = known.events;
            drafts.of(id);
            return Ok(AttemptReply { attempt, events, entries, verdict: None });
        }
        let draft = drafts.of(id);
        let events = std::mem::take(&mut one.report.events);
        let result = (|| {
            // Before what else it says: an execution whose last line was one too many has not ended well.
            if one.log.full {
                live.log_is_full(now, draft)?;
            }
            let started = match one.report.start {
                Some(nonce) => Some(live.may_begin(attempt, epoch, nonce, now, draft)?),
                None => None,
            };
            let heard = live.hear(at, one.report.first_event, events, entries, now, draft)?;
            Ok((started, heard))
        })();
        match result {
            Ok((started, heard)) => {
                judge_nodes(&mut draft.changes, one.nodes);
                Ok(AttemptReply {
                    attempt,
                    events: heard.events,
                    entries,
                    verdict: started.or(heard.verdict),
                })
            }
            Err(illegal) => {
                let illegal: crate::execution::transition::Illegal = illegal;
                tracing::error!(%illegal, execution = %id, %attempt, "a report does not fit; the execution is read again");
                drafts.take(id);
                state.drop_live(id);
                state.broken.insert(id);
                self.inner.wake.notify_one();
                Ok(AttemptReply { attempt, events: 0, entries, verdict: None })
            }
        }
    }

    /// A report of an attempt that does not count any more: what is new of it is kept as evidence.
    async fn late(&self, runner: RunnerId, one: Prepared) -> Result<AttemptReply, SessionError> {
        let attempt = one.report.attempt;
        let superseded = |events| AttemptReply {
            attempt,
            events,
            entries: one.log.durable,
            verdict: Some(Verdict::Superseded),
        };
        let Some(id) = self.execution_of(attempt).await? else { return Ok(superseded(0)) };
        let Some(record) = self.store().execution(id).await? else { return Ok(superseded(0)) };
        let Some(known) = record.attempts.iter().find(|known| known.id == attempt) else {
            return Ok(superseded(0));
        };
        let last = one.report.first_event.saturating_add(one.report.events.len() as u64).saturating_sub(1);
        if known.runner != runner || known.epoch != one.report.epoch {
            return Ok(superseded(last));
        }
        let new: Vec<(u64, Event)> = (one.report.first_event..)
            .zip(one.report.events)
            .filter(|(number, _)| *number > known.events)
            .collect();
        if new.is_empty() {
            let verdict = one.report.start.is_some().then_some(Verdict::Superseded);
            return Ok(AttemptReply { attempt, events: known.events, entries: one.log.durable, verdict });
        }
        let ran = |event: &Event| matches!(event, Event::StepEnded(ended) if ended.tries > 0);
        let doubled = new.iter().any(|(_, event)| ran(event)).then_some(Happening::Doubled { attempt });
        let changes = new
            .into_iter()
            .map(|(number, event)| Change::Evidence { attempt, number, event: Box::new(event) })
            .collect();
        self.keep_evidence(id, record.version, changes, doubled.into_iter().collect()).await?;
        Ok(superseded(last))
    }

    /// Evidence goes to a live execution through its memory, or else straight into the store.
    async fn keep_evidence(
        &self,
        id: ExecutionId,
        version: u64,
        changes: Vec<Change>,
        happenings: Vec<Happening>,
    ) -> Result<(), SessionError> {
        if self.state().live.contains_key(&id) {
            self.decide_and_record(|_, drafts| {
                let draft = drafts.of(id);
                draft.changes.extend(changes);
                draft.happenings.extend(happenings);
            })
            .await?;
            return Ok(());
        }
        self.store().record_evidence(id, version, self.now(), changes, happenings).await?;
        Ok(())
    }
}

fn finishes(report: &AttemptReport) -> bool {
    report.events.iter().any(|event| matches!(event, Event::Finished { .. }))
}

fn expected_entries(report: &AttemptReport) -> u64 {
    let last = report.events.iter().find_map(|event| match event {
        Event::Finished { log_entries, .. } => Some(*log_entries),
        Event::Dispatched { .. } | Event::StepEnded(_) | Event::Progress { .. } => None,
    });
    last.unwrap_or_default()
}

/// Puts the number of nodes, or what is wrong with them, where the core could not know it.
fn judge_nodes(changes: &mut [Change], nodes: Option<Result<u32, String>>) {
    for change in changes {
        if let (Change::SourceNodes { found, .. }, Some(counted)) = (change, &nodes)
            && let Ok((set, _)) = found
        {
            *found = counted.clone().map(|count| (*set, count));
        }
    }
}
