//! What is to outlive the process: written to the journal, read back from it, and what waits until it is on disk.

use std::time::Duration;

use remit_protocol::{AttemptId, Outcome, Span, report::Event};
use tokio::time::Instant;

use super::{Action, Core, Entry, Order, Phase};
use crate::report::{
    journal::Progress,
    outbox::Outbox,
    record::{Record, decode},
};

impl Core {
    pub(super) fn restore(&mut self, journal: &[u8]) {
        for (attempt, record) in decode(journal) {
            match record {
                Record::Begun { epoch, first_event, first_entry } => {
                    let outbox = Outbox::restored(attempt, epoch, first_event, first_entry);
                    self.attempts.insert(attempt, Entry::restored(outbox));
                }
                Record::Gone => {
                    self.attempts.remove(&attempt);
                }
                Record::Event { .. } | Record::Entry { .. } => {
                    if let Some(entry) = self.attempts.get_mut(&attempt) {
                        entry.outbox.restore(&record);
                    }
                }
            }
        }
        for (attempt, entry) in &mut self.attempts {
            if !entry.outbox.finished() {
                entry.interrupted = true;
                let event = Event::Finished {
                    outcome: Outcome::Interrupted,
                    message: "The runner was restarted while this ran; nothing of it is running any more."
                        .into(),
                    log_entries: entry.outbox.last_entry(),
                    nodes: None,
                    result: None,
                };
                // The snapshot that follows writes it down.
                let _ = entry.outbox.event(&event, &mut Vec::new());
            }
            self.dirty.insert(*attempt);
        }
        self.count_backlog();
    }

    /// What is kept, as a new journal file begins with it.
    pub(in crate::runner) fn snapshot(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        for entry in
            self.attempts.values().filter(|entry| entry.phase != Phase::Preparing || entry.outbox.finished())
        {
            entry.outbox.snapshot(&mut frames);
        }
        frames
    }

    pub(super) fn journal(&mut self, progress: Progress, now: Instant) {
        match progress {
            Progress::Durable(ticket) => {
                self.durable = self.durable.max(ticket);
                let asking = |(_, entry): &(&AttemptId, &Entry)| matches!(entry.phase, Phase::Asking { .. });
                let asking: Vec<_> =
                    self.attempts.iter().filter(asking).map(|(attempt, _)| *attempt).collect();
                for attempt in asking {
                    self.begin_if_due(attempt, now);
                }
                if !self.dirty.is_empty() {
                    self.flush_within(Duration::ZERO, now);
                }
            }
            Progress::Failed(ticket, why) => self.journal_failed(ticket, &why, now),
        }
    }

    /// What is not on disk must not begin; what is over is reported all the same, the orchestrator keeps it.
    fn journal_failed(&mut self, ticket: u64, why: &str, now: Instant) {
        tracing::error!(why, "the journal cannot be written: no step begins that must not be run twice");
        let lost: Vec<AttemptId> = self
            .attempts
            .iter_mut()
            .filter_map(|(attempt, entry)| {
                entry.last = if entry.last <= ticket { 0 } else { entry.last };
                (matches!(entry.phase, Phase::Asking { .. }) && entry.begun <= ticket).then_some(*attempt)
            })
            .collect();
        for attempt in lost {
            let message = format!(
                "The runner's journal cannot be written: {why}. Make room on its state directory's disk."
            );
            let event = Event::Finished {
                outcome: Outcome::HostFault,
                message,
                log_entries: 0,
                nodes: None,
                result: None,
            };
            self.event(attempt, &event, now);
            if let Some(entry) = self.attempts.get_mut(&attempt) {
                entry.outbox.begun();
                entry.phase = Phase::Begun;
                entry.last = 0;
            }
            self.actions.push(Action::Tell(attempt, Order::Cancel(Span::from_secs(0))));
        }
    }

    pub(super) fn write_journal(&mut self) {
        let frames = std::mem::take(&mut self.frames);
        if frames.is_empty() {
            return;
        }
        self.ticket += 1;
        self.journaled += frames.len() as u64;
        let (ticket, sync) = (self.ticket, std::mem::take(&mut self.sync));
        self.actions.push(Action::Append { frames, ticket, sync });
    }

    /// The journal's file has grown large: a new one begins.
    pub(in crate::runner) fn rotate(&mut self) {
        self.write_journal();
        self.ticket += 1;
        self.actions.push(Action::Rotate { snapshot: self.snapshot(), ticket: self.ticket });
    }

    pub(super) fn count_backlog(&mut self) {
        self.backlog = self.attempts.values().map(|entry| entry.outbox.bytes()).sum();
        self.log_backlog = self.attempts.values().map(|entry| entry.outbox.log_bytes()).sum();
    }
}
