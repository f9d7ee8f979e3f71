//! What one attempt still has to say: numbered without a gap, kept until the orchestrator has made it durable.

use std::collections::VecDeque;

use remit_protocol::{
    AttemptId, Epoch,
    report::{Event, LogEntry},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::record::{Record, encode};

/// Numbered items, the first of which is the next that the orchestrator does not have.
#[derive(Debug, Default)]
struct Numbered {
    /// The number of the first item, or of the next one if there is none.
    first: u64,
    items: VecDeque<Box<RawValue>>,
    bytes: usize,
}

impl Numbered {
    fn starting_at(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    fn push(&mut self, json: Box<RawValue>) -> u64 {
        let number = self.next();
        self.bytes += json.get().len();
        self.items.push_back(json);
        number
    }

    fn forget_through(&mut self, durable: u64) {
        while self.first <= durable {
            let Some(item) = self.items.pop_front() else { break };
            self.bytes -= item.get().len();
            self.first += 1;
        }
    }

    /// The items from the front that fit into `budget`, which shrinks.
    fn front(&self, budget: &mut usize) -> Vec<&RawValue> {
        let fits = self.items.iter().take_while(|item| {
            let size = item.get().len() + 1;
            let fits = size <= *budget;
            if fits {
                *budget -= size;
            }
            fits
        });
        fits.map(Box::as_ref).collect()
    }
}

/// What one attempt still has to say.
#[derive(Debug)]
pub struct Outbox {
    attempt: AttemptId,
    epoch: Epoch,
    events: Numbered,
    entries: Numbered,
    /// A question that waits for its answer: "may I begin?".
    start: Option<u64>,
    finished: bool,
}

/// An [`remit_protocol::report::AttemptReport`] whose parts are in JSON already.
#[derive(Debug, Serialize)]
pub struct AttemptPart<'a> {
    attempt: AttemptId,
    epoch: Epoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<u64>,
    first_event: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<&'a RawValue>,
    first_entry: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    log: Vec<&'a RawValue>,
}

/// Whether the last event of an attempt may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It may.
    Sent,
    /// It is not on disk here yet.
    Kept,
}

/// A numbered item that cannot be written as JSON; no type of the protocol is one.
#[derive(Debug, thiserror::Error)]
#[error("an event or a log entry cannot be written as JSON: {0}")]
pub struct NotJson(#[from] serde_json::Error);

impl Outbox {
    /// An attempt that has said nothing yet.
    pub fn new(attempt: AttemptId, epoch: Epoch) -> Self {
        Self::restored(attempt, epoch, 1, 1)
    }

    /// An attempt out of the journal, whose next numbers are these.
    pub fn restored(attempt: AttemptId, epoch: Epoch, first_event: u64, first_entry: u64) -> Self {
        Self {
            attempt,
            epoch,
            events: Numbered::starting_at(first_event),
            entries: Numbered::starting_at(first_entry),
            start: None,
            finished: false,
        }
    }

    /// Under which epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// True once the last event is in.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// True if there is nothing that the orchestrator does not have.
    pub fn is_empty(&self) -> bool {
        self.start.is_none() && self.events.items.is_empty() && self.entries.items.is_empty()
    }

    /// Bytes of events and log entries that are kept.
    pub fn bytes(&self) -> usize {
        self.events.bytes + self.entries.bytes
    }

    /// Bytes of log entries that are kept.
    pub fn log_bytes(&self) -> usize {
        self.entries.bytes
    }

    /// The number of the last log entry: how many there are in all.
    pub fn last_entry(&self) -> u64 {
        self.entries.next() - 1
    }

    /// The number of the last event.
    pub fn last_event(&self) -> u64 {
        self.events.next() - 1
    }

    /// Asks whether the attempt may begin; `nonce` makes the question repeatable.
    pub fn ask_to_begin(&mut self, nonce: u64) {
        self.start = Some(nonce);
    }

    /// The question was answered.
    pub fn begun(&mut self) {
        self.start = None;
    }

    /// Numbers an event and writes its frame to `journal`.
    ///
    /// # Errors
    /// [`NotJson`].
    pub fn event(&mut self, event: &Event, journal: &mut Vec<u8>) -> Result<u64, NotJson> {
        let last = matches!(event, Event::Finished { .. });
        let json = serde_json::value::to_raw_value(event)?;
        encode(self.attempt, &Record::Event { number: self.events.next(), last, json: json.get() }, journal);
        self.finished |= last;
        Ok(self.events.push(json))
    }

    /// Numbers a log entry and writes its frame to `journal`.
    ///
    /// # Errors
    /// [`NotJson`].
    pub fn entry(&mut self, entry: &LogEntry, journal: &mut Vec<u8>) -> Result<u64, NotJson> {
        let json = serde_json::value::to_raw_value(entry)?;
        encode(self.attempt, &Record::Entry { number: self.entries.next(), json: json.get() }, journal);
        Ok(self.entries.push(json))
    }

    /// Takes an item back out of the journal. A number that is not the next one is not taken: the rest is lost.
    pub fn restore(&mut self, record: &Record<'_>) {
        let (numbered, number, json) = match record {
            Record::Event { number, json, .. } => (&mut self.events, number, json),
            Record::Entry { number, json } => (&mut self.entries, number, json),
            Record::Begun { .. } | Record::Gone => return,
        };
        if let Ok(json) = RawValue::from_string((*json).to_owned())
            && *number == numbered.next()
        {
            numbered.push(json);
            self.finished |= matches!(record, Record::Event { last: true, .. });
        }
    }

    /// Everything up to these numbers is durable at the orchestrator.
    pub fn durable(&mut self, events: u64, entries: u64) {
        self.events.forget_through(events);
        self.entries.forget_through(entries);
    }

    /// What to send of this attempt, in at most `budget` bytes of items; nothing if there is nothing or no room.
    ///
    /// Log entries go before the last event: the orchestrator is told how many there are, and must not wait for them.
    /// With [`Last::Kept`], the last event stays behind.
    pub fn part(&self, budget: &mut usize, last: Last) -> Option<AttemptPart<'_>> {
        // Room for the numbers and names around the items.
        const ENVELOPE: usize = 200;
        let mut room = budget.checked_sub(ENVELOPE)?;
        let log = self.entries.front(&mut room);
        let all_logged = log.len() == self.entries.items.len();
        let mut events = self.events.front(&mut room);
        let keep = last == Last::Kept || !all_logged;
        if self.finished && keep && events.len() == self.events.items.len() {
            events.pop();
        }
        if self.start.is_none() && log.is_empty() && events.is_empty() {
            return None;
        }
        *budget = room;
        Some(AttemptPart {
            attempt: self.attempt,
            epoch: self.epoch,
            start: self.start,
            first_event: self.events.first,
            events,
            first_entry: self.entries.first,
            log,
        })
    }

    /// Writes everything that is kept to `journal`, as a new file begins with it.
    pub fn snapshot(&self, journal: &mut Vec<u8>) {
        let begun = Record::Begun {
            epoch: self.epoch,
            first_event: self.events.first,
            first_entry: self.entries.first,
        };
        encode(self.attempt, &begun, journal);
        let last = self.finished.then(|| self.last_event());
        for (number, item) in (self.events.first..).zip(&self.events.items) {
            let last = last == Some(number);
            encode(self.attempt, &Record::Event { number, last, json: item.get() }, journal);
        }
        for (number, item) in (self.entries.first..).zip(&self.entries.items) {
            encode(self.attempt, &Record::Entry { number, json: item.get() }, journal);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use remit_protocol::{NodeIndex, Outcome, StepIndex, Timestamp, report::Level};

    use super::{super::record::decode, *};

    fn id() -> AttemptId {
        AttemptId::from_u128(7)
    }

    fn entry(text: &str) -> LogEntry {
        LogEntry {
            at: Timestamp::from_millis(0),
            step: StepIndex(0),
            node: None,
            level: Level::Info,
            text: text.to_owned(),
            fields: vec![],
        }
    }

    fn filled(events: u32, entries: u32) -> Outbox {
        let mut outbox = Outbox::new(id(), Epoch(1));
        let mut journal = Vec::new();
        for node in 0..events {
            outbox.event(&Event::Dispatched { nodes: vec![NodeIndex(node)] }, &mut journal).unwrap();
        }
        for number in 0..entries {
            outbox.entry(&entry(&number.to_string()), &mut journal).unwrap();
        }
        outbox
    }

    fn finish(outbox: &mut Outbox) {
        let log_entries = outbox.last_entry();
        let event = Event::Finished {
            outcome: Outcome::Succeeded,
            message: String::new(),
            log_entries,
            nodes: None,
            result: None,
        };
        outbox.event(&event, &mut Vec::new()).unwrap();
    }

    #[test]
    fn a_part_is_what_the_protocol_reads() {
        let mut outbox = filled(2, 3);
        outbox.ask_to_begin(5);
        let part = outbox.part(&mut 10_000, Last::Sent).unwrap();
        let report: remit_protocol::report::AttemptReport =
            serde_json::from_str(&serde_json::to_string(&part).unwrap()).unwrap();
        assert_eq!((report.start, report.first_event, report.events.len()), (Some(5), 1, 2));
        assert_eq!((report.first_entry, report.log.len()), (1, 3));
    }

    #[test]
    fn the_last_event_waits_for_the_log() {
        let mut outbox = filled(0, 50);
        finish(&mut outbox);
        let mut budget = 1000;
        let part = outbox.part(&mut budget, Last::Sent).unwrap();
        assert!(part.events.is_empty() && !part.log.is_empty() && part.log.len() < 50);
        outbox.durable(0, 50);
        assert!(outbox.part(&mut 1000, Last::Kept).is_none());
        assert_eq!(outbox.part(&mut 1000, Last::Sent).unwrap().events.len(), 1);
        outbox.durable(1, 50);
        assert!(outbox.is_empty() && outbox.finished());
    }

    proptest! {
        #[test]
        fn whatever_is_acknowledged_nothing_is_lost_or_renumbered(
            acks in prop::collection::vec((0u64..30, 0u64..30), 0..6), budget in 0usize..3000
        ) {
            let mut outbox = filled(20, 20);
            let (mut events, mut entries) = (0, 0);
            for (event, entry) in acks {
                outbox.durable(event, entry);
                (events, entries) = (events.max(event.min(20)), entries.max(entry.min(20)));
                let mut left = budget;
                if let Some(part) = outbox.part(&mut left, Last::Sent) {
                    prop_assert_eq!(part.first_event, events + 1);
                    prop_assert_eq!(part.first_entry, entries + 1);
                    prop_assert!(serde_json::to_vec(&part).unwrap().len() <= budget);
                }
                prop_assert_eq!((outbox.last_event(), outbox.last_entry()), (20, 20));
            }
        }

        #[test]
        fn a_snapshot_restores_the_same(ack in (0u64..30, 0u64..30), ended in any::<bool>()) {
            let mut outbox = filled(20, 20);
            if ended {
                finish(&mut outbox);
            }
            outbox.durable(ack.0.min(20), ack.1);
            let mut bytes = Vec::new();
            outbox.snapshot(&mut bytes);
            let mut records = decode(&bytes);
            let Some((_, Record::Begun { epoch, first_event, first_entry })) = records.next() else {
                panic!("a snapshot opens with `begun`");
            };
            let mut restored = Outbox::restored(id(), epoch, first_event, first_entry);
            records.for_each(|(_, record)| restored.restore(&record));
            let text = |outbox: &Outbox| serde_json::to_string(&outbox.part(&mut 100_000, Last::Sent)).unwrap();
            prop_assert_eq!(text(&restored), text(&outbox));
            prop_assert_eq!(restored.finished(), outbox.finished());
        }
    }
}
