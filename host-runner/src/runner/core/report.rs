//! What attempts say: numbered, kept, and sent on in reports until the orchestrator has it.

use std::time::Duration;

use remit_protocol::{
    AttemptId, Outcome, Session,
    endpoint::ReportAnswer,
    limits::MAX_BODY,
    report::{Event, LogEntry, Verdict},
};
use serde::Serialize;
use tokio::time::Instant;

use super::{Action, Core, Order, Phase, STOP_GRACE};
use crate::{
    orchestrator::CallError,
    report::{
        outbox::AttemptPart,
        record::{Record, encode},
    },
};

/// Room of a report for what stands around the attempts' parts.
const REPORT_ROOM: usize = MAX_BODY - 1024;
/// How long something that nobody waits for may wait for company: a report costs both sides a signature and its verification,
/// and people do not see so short a time.
const COALESCE: Duration = Duration::from_millis(50);
/// Bytes of log among them; beyond it, entries are cut, with a mark.
const MAX_LOG_BACKLOG: usize = 32 << 20;
/// How long the runner waits with a report after one that moved nothing.
const NO_PROGRESS: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct WireReport<'a> {
    session: Session,
    attempts: Vec<AttemptPart<'a>>,
}

impl Core {
    pub(super) fn event(&mut self, attempt: AttemptId, event: &Event, now: Instant) {
        let urgent = matches!(event, Event::Finished { .. } | Event::Dispatched { .. });
        if matches!(event, Event::Finished { .. }) {
            self.mark_cut(attempt);
        }
        let ticket = self.ticket + 1;
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        let event = match event {
            Event::Finished { outcome, message, nodes, result, .. } => &Event::Finished {
                outcome: *outcome,
                message: message.clone(),
                log_entries: entry.outbox.last_entry(),
                nodes: *nodes,
                result: result.clone(),
            },
            other => other,
        };
        if entry.phase == Phase::Preparing && matches!(event, Event::Finished { .. }) {
            // It ends without having begun: the journal opens it so that the report survives.
            let (first_event, first_entry) = (entry.outbox.last_event() + 1, entry.outbox.last_entry() + 1);
            let begun = Record::Begun { epoch: entry.outbox.epoch(), first_event, first_entry };
            encode(attempt, &begun, &mut self.frames);
        }
        let before = entry.outbox.bytes();
        match entry.outbox.event(event, &mut self.frames) {
            Ok(_) => self.backlog += entry.outbox.bytes() - before,
            Err(error) => tracing::error!(%attempt, %error, "an event is lost"),
        }
        if entry.outbox.finished() {
            entry.last = ticket;
            self.sync = true;
        }
        self.dirty.insert(attempt);
        self.flush_within(if urgent { Duration::ZERO } else { COALESCE }, now);
    }

    pub(super) fn log(&mut self, attempt: AttemptId, line: &LogEntry, now: Instant) {
        let full = self.log_backlog > MAX_LOG_BACKLOG;
        if !full {
            self.mark_cut(attempt);
        }
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        if full {
            entry.cut += 1;
            entry.cut_at = Some(line.clone());
            return;
        }
        self.push_entry(attempt, line);
        self.flush_within(COALESCE, now);
    }

    /// Says in the log how many entries are missing at this place.
    fn mark_cut(&mut self, attempt: AttemptId) {
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        if let (cut @ 1.., Some(mut mark)) = (std::mem::take(&mut entry.cut), entry.cut_at.take()) {
            mark.text = format!("{cut} entries are missing here: the runner's spool was full");
            mark.fields.clear();
            self.push_entry(attempt, &mark);
        }
    }

    fn push_entry(&mut self, attempt: AttemptId, line: &LogEntry) {
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        let before = entry.outbox.bytes();
        match entry.outbox.entry(line, &mut self.frames) {
            Ok(_) => {
                let more = entry.outbox.bytes() - before;
                self.backlog += more;
                self.log_backlog += more;
                self.dirty.insert(attempt);
            }
            Err(error) => tracing::error!(%attempt, %error, "a log entry is lost"),
        }
    }

    /// The task is over: its slot is free. One that broke off without a last word gets one.
    pub(super) fn over(&mut self, attempt: AttemptId, now: Instant) {
        let Some(entry) = self.attempts.get_mut(&attempt) else { return };
        entry.task = false;
        if !entry.outbox.finished() {
            let event = Event::Finished {
                outcome: Outcome::HostFault,
                message: "The runner's own task broke off; its log on that host says more.".to_owned(),
                log_entries: 0,
                nodes: None,
                result: None,
            };
            self.event(attempt, &event, now);
        }
        self.settle(attempt);
    }

    pub(super) fn flush_within(&mut self, patience: Duration, now: Instant) {
        let at = now + patience;
        self.flush_at = Some(self.flush_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn report(&mut self, now: Instant) {
        let Some(session) = self.session() else { return };
        let due = self.flush_at.is_some_and(|at| at <= now);
        if self.reporting || !due || now < self.link.not_before() {
            return;
        }
        self.flush_at = None;
        let mut budget = REPORT_ROOM;
        let mut attempts = Vec::new();
        let turn = self.turn.unwrap_or(AttemptId::from_u128(0));
        let order = self.dirty.range(turn..).chain(self.dirty.range(..turn));
        let mut last = None;
        for attempt in order {
            let Some(entry) = self.attempts.get(attempt) else { continue };
            if let Some(part) = entry.outbox.part(&mut budget, entry.last_word(self.durable)) {
                attempts.push(part);
                last = Some(*attempt);
            }
            if budget < 1024 {
                break;
            }
        }
        if budget < REPORT_ROOM / 2 {
            // There is much to say: what comes next has company enough.
            self.flush_at = Some(now);
        }
        if attempts.is_empty() {
            return;
        }
        match serde_json::to_vec(&WireReport { session, attempts }) {
            Ok(body) => {
                self.turn = last;
                self.reporting = true;
                self.actions.push(Action::Report(body));
            }
            Err(error) => tracing::error!(%error, "a report cannot be written"),
        }
    }

    pub(super) fn reported(&mut self, sent: Instant, answer: Result<ReportAnswer, CallError>, now: Instant) {
        self.reporting = false;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.flush_within(COALESCE, now);
                return self.call_failed(&error, now);
            }
        };
        self.link.heard(sent, now);
        let mut progress = false;
        for reply in answer.attempts {
            let attempt = reply.attempt;
            let Some(entry) = self.attempts.get_mut(&attempt) else { continue };
            let (before, logs) = (entry.outbox.bytes(), entry.outbox.log_bytes());
            entry.outbox.durable(reply.events, reply.entries);
            progress |= matches!(reply.verdict, Some(Verdict::Begin | Verdict::Superseded));
            progress |= entry.outbox.bytes() < before;
            self.backlog -= before - entry.outbox.bytes();
            self.log_backlog -= logs - entry.outbox.log_bytes();
            if entry.task && reply.events > 0 {
                self.actions.push(Action::Tell(attempt, Order::Durable(reply.events)));
            }
            match reply.verdict {
                Some(Verdict::Begin) => self.granted(attempt, now),
                Some(Verdict::Cancel) => self.actions.push(Action::Tell(attempt, Order::Cancel(STOP_GRACE))),
                Some(Verdict::Superseded) => self.forget(attempt),
                None => {}
            }
            self.settle(attempt);
        }
        self.contacted(now);
        if !self.dirty.is_empty() {
            self.flush_within(if progress { COALESCE } else { NO_PROGRESS }, now);
        }
    }

    /// Forgets an attempt that is over and wholly reported.
    pub(super) fn settle(&mut self, attempt: AttemptId) {
        let Some(entry) = self.attempts.get(&attempt) else { return };
        if !entry.outbox.is_empty() {
            return;
        }
        self.dirty.remove(&attempt);
        if entry.outbox.finished() && !entry.task {
            self.remove(attempt);
        }
    }
}
