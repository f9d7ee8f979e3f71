//! An attempt from its hand-out to its end: what its runner says, applied once.

use remit_job::{rollup, sections};
use remit_protocol::{
    AttemptId, Epoch, NodeIndex, Outcome, RefusalCode, RunnerId, Session, Timestamp,
    assignment::StartMode,
    capability::Effect,
    report::{Event, StepEnded, Verdict},
};

use super::{
    live::{Draft, Live, Order, OrderKind},
    record::{AttemptRecord, Change, Happening, Purpose, ResultLine, Work},
    state::{AttemptEvent, AttemptState, NodeEvent, SectionEvent, SectionState},
    transition::{self, Illegal},
};

/// To whom a section goes.
#[derive(Debug, Clone, Copy)]
pub struct HandOut {
    /// The new attempt.
    pub attempt: AttemptId,
    /// Who runs it.
    pub runner: RunnerId,
    /// The runner's session.
    pub session: Session,
}

/// How far what a runner said has been taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The highest event number that was applied.
    pub events: u64,
    /// What it says about the attempt's right to go on.
    pub verdict: Option<Verdict>,
}

impl Live {
    /// Whether the hand-out of a section is its start.
    pub fn start_mode(&self, at: usize) -> StartMode {
        match self.effect(at) {
            Effect::Pure | Effect::Read => StartMode::Fast,
            Effect::Idempotent | Effect::Effect => StartMode::Guarded,
        }
    }

    /// The retry class of a section.
    pub fn effect(&self, at: usize) -> Effect {
        match &self.sections[at].record.place.work {
            Work::Steps { effect, .. } => *effect,
            Work::Jobs { .. } | Work::Gate { .. } | Work::Halt { .. } => Effect::Effect,
        }
    }

    /// The part of the document that a section is.
    pub(super) fn document_section(&self, at: usize) -> Option<sections::Section> {
        let first = self.sections[at].record.place.steps().start;
        sections::plan(&self.document).into_iter().find(|section| section.first.0 == first)
    }

    /// Hands a ready section to a runner, under the next epoch. For the classes that may be repeated freely this is the
    /// start as well: one commit less.
    pub fn hand_out(
        &mut self,
        at: usize,
        to: HandOut,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        let fast = self.start_mode(at) == StartMode::Fast;
        let ranges = self.open_nodes(at).unwrap_or_default();
        let record = &mut self.sections[at].record;
        let mut state = transition::section(record.state, SectionEvent::Lease)?;
        if fast {
            state = transition::section(state, SectionEvent::Begin)?;
        }
        record.state = state;
        record.epoch = record.epoch.next();
        record.not_before = None;
        let attempt = AttemptRecord {
            id: to.attempt,
            section: record.place.number,
            epoch: record.epoch,
            runner: to.runner,
            session: to.session,
            ranges,
            state: if fast { AttemptState::Started } else { AttemptState::Leased },
            nonce: None,
            events: 0,
            leased: now,
            began: fast.then_some(now),
            ended: None,
            message: String::new(),
            result: None,
        };
        draft.orders.push(Order {
            runner: to.runner,
            attempt: to.attempt,
            epoch: attempt.epoch,
            what: OrderKind::Run,
        });
        draft.changes.push(Change::Section(record.clone()));
        draft.changes.push(Change::HandedOut(attempt.clone()));
        draft.happenings.push(Happening::Section {
            section: attempt.section,
            state,
            hold: None,
            attempt: Some(to.attempt),
            runner: Some(to.runner),
            message: String::new(),
        });
        self.sections[at].attempt = Some(attempt);
        if fast {
            self.note_beginning(now, draft);
        }
        Ok(())
    }

    pub(super) fn note_beginning(&mut self, now: Timestamp, draft: &mut Draft) {
        if self.began.is_none() {
            self.began = Some(now);
            self.draft_execution(draft);
            draft.happenings.push(Happening::Execution { state: self.state });
        }
    }

    /// "May I begin?" Yes once in an epoch; the same question, known by its number, has the same answer.
    pub fn may_begin(
        &mut self,
        attempt: AttemptId,
        epoch: Epoch,
        nonce: u64,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<Verdict, Illegal> {
        let Some(at) = self.current(attempt, epoch) else { return Ok(Verdict::Superseded) };
        if self.stop.is_some() {
            return Ok(Verdict::Cancel);
        }
        let Some(record) = self.sections[at].attempt.as_mut() else { return Ok(Verdict::Superseded) };
        match (record.state, record.nonce) {
            (AttemptState::Leased, _) => {
                record.state = transition::attempt(record.state, AttemptEvent::Begin)?;
                record.nonce = Some(nonce);
                record.began = Some(now);
                draft.changes.push(Change::Attempt(record.clone()));
                self.move_section(at, SectionEvent::Begin, "", draft)?;
                self.note_beginning(now, draft);
                Ok(Verdict::Begin)
            }
            (AttemptState::Started, None) => {
                record.nonce = Some(nonce);
                draft.changes.push(Change::Attempt(record.clone()));
                Ok(Verdict::Begin)
            }
            (AttemptState::Started, Some(known)) if known == nonce => Ok(Verdict::Begin),
            (AttemptState::Started | AttemptState::Missing | AttemptState::Ended(_), _) => {
                Ok(Verdict::Superseded)
            }
        }
    }

    /// The section whose newest attempt this is, if it has not ended.
    pub fn current(&self, attempt: AttemptId, epoch: Epoch) -> Option<usize> {
        let at = self.section_of(attempt)?;
        let open = self.sections[at].open_attempt()?;
        (open.epoch == epoch).then_some(at)
    }

    /// Applies events of a current attempt, each number once. Stops before a gap, and before an end whose log is not
    /// all there: `entries` log entries are durable.
    pub fn hear(
        &mut self,
        at: usize,
        first: u64,
        events: Vec<Event>,
        entries: u64,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<Heard, Illegal> {
        let before = self.sections[at].attempt.as_ref().map_or(0, |attempt| attempt.events);
        let mut heard = before;
        for (number, event) in (first..).zip(events) {
            if number <= heard {
                continue;
            }
            let early = matches!(&event, Event::Finished { log_entries, .. } if *log_entries > entries);
            if number != heard + 1 || early || self.sections[at].open_attempt().is_none() {
                break;
            }
            self.come_back(at, now, draft)?;
            heard = number;
            if let Some(attempt) = self.attempt_mut(at) {
                attempt.events = number;
            }
            self.apply(at, number, event, now, draft)?;
        }
        let over = self.sections[at].open_attempt().is_none();
        if heard > before
            && !over
            && let Some(attempt) = &self.sections[at].attempt
        {
            draft.changes.push(Change::Attempt(attempt.clone()));
        }
        let verdict = (self.stop.is_some() && !over).then_some(Verdict::Cancel);
        Ok(Heard { events: heard, verdict })
    }

    fn apply(
        &mut self,
        at: usize,
        number: u64,
        event: Event,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        match event {
            Event::Dispatched { nodes } => {
                self.dispatched(at, number, nodes, draft);
                Ok(())
            }
            Event::StepEnded(ended) => {
                self.step_ended(at, ended, draft);
                Ok(())
            }
            Event::Progress { step, node, done, total } => {
                draft.happenings.push(Happening::Progress { step, node, done, total });
                Ok(())
            }
            Event::Finished { outcome, message, nodes, result, log_entries: _ } => {
                self.keep_result(at, result);
                if let Purpose::Source(name) = &self.head.purpose
                    && outcome == Outcome::Succeeded
                {
                    let found = nodes
                        .map(|set| (set, 0))
                        .ok_or_else(|| "the component ended without giving nodes".to_owned());
                    draft.changes.push(Change::SourceNodes { name: name.clone(), found });
                }
                self.finished(at, outcome, &message, now, draft)
            }
        }
    }

    fn dispatched(&mut self, at: usize, number: u64, nodes: Vec<NodeIndex>, draft: &mut Draft) {
        let section = &mut self.sections[at];
        let (Some(progress), Some(attempt)) = (&mut section.nodes, &section.attempt) else { return };
        // A runner that speaks of nodes that are not its own is not believed.
        let own =
            |node: &NodeIndex| attempt.ranges.iter().any(|(first, end)| (*first..*end).contains(&node.0));
        let nodes: Vec<NodeIndex> = nodes
            .into_iter()
            .filter(|node| own(node) && progress.apply(node.0, NodeEvent::Dispatch).is_ok())
            .collect();
        if !nodes.is_empty() {
            draft.changes.push(Change::Dispatched { attempt: attempt.id, number, nodes });
        }
    }

    pub(super) fn step_ended(&mut self, at: usize, ended: Box<StepEnded>, draft: &mut Draft) {
        let section = &mut self.sections[at];
        let steps = section.record.place.steps();
        if !steps.contains(&ended.step.0) {
            return;
        }
        let place = usize::try_from(ended.step.0 - steps.start).unwrap_or(usize::MAX);
        let taken = match (&mut section.nodes, ended.node) {
            (Some(nodes), Some(node)) => nodes.end(node.0, place, ended.outcome),
            (None, None) => {
                section.ended = Some((ended.outcome, ended.output.clone()));
                true
            }
            (Some(_), None) | (None, Some(_)) => false,
        };
        if taken {
            draft.result(ResultLine { step: ended.step, node: ended.node, outcome: ended.outcome });
            let attempt = section.attempt.as_ref().map(|attempt| attempt.id);
            draft.changes.push(Change::StepEnded { attempt, ended });
        }
    }

    fn finished(
        &mut self,
        at: usize,
        outcome: Outcome,
        message: &str,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        if matches!(outcome, Outcome::Interrupted | Outcome::Lost) {
            if !self.is_running(at) {
                return self.withdraw(at, now, draft);
            }
            return self.runner_gone(at, Outcome::Interrupted, message, now, draft);
        }
        self.end_attempt(at, AttemptEvent::End(outcome), message, now, draft)?;
        self.end_section(at, outcome, message, now, draft)?;
        self.advance(now, draft)
    }

    /// The section cannot be handed to any runner, for a reason that lies in the job.
    pub fn refuse(&mut self, at: usize, why: &str, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        self.finished(at, Outcome::Refused(RefusalCode::Parameter), why, now, draft)
    }

    /// Moves the newest attempt of a section to an end, and frees its slot.
    pub(super) fn end_attempt(
        &mut self,
        at: usize,
        event: AttemptEvent,
        message: &str,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        let Some(attempt) = self.attempt_mut(at) else { return Ok(()) };
        attempt.state = transition::attempt(attempt.state, event)?;
        if attempt.state.is_final() {
            attempt.ended = Some(now);
            message.clone_into(&mut attempt.message);
        }
        draft.changes.push(Change::Attempt(attempt.clone()));
        let (runner, id, epoch) = (attempt.runner, attempt.id, attempt.epoch);
        draft.orders.push(Order { runner, attempt: id, epoch, what: OrderKind::Release });
        Ok(())
    }

    /// What the nodes of a section have come to; for a section that ends without its runner's word.
    pub(super) fn rolled_up(&self, at: usize, otherwise: Outcome) -> Outcome {
        let section = &self.sections[at];
        match &section.nodes {
            Some(nodes) => rollup::step(nodes.outcomes()),
            None => section.ended.as_ref().map_or(otherwise, |(outcome, _)| *outcome),
        }
    }

    /// True while the newest attempt of a section has begun and its runner is there.
    pub fn is_running(&self, at: usize) -> bool {
        self.sections[at].record.state == SectionState::Started
    }
}
