//! What becomes of work whose runner is gone or that somebody stops, and what people decide about it.

use remit_job::{
    document::{Action, Approvers},
    retry,
};
use remit_protocol::{
    AttemptId, NodeIndex, Outcome, SectionNumber, Session, StepIndex, Timestamp,
    operator::{CancelMode, Decision},
    report::StepEnded,
};

use super::{
    live::{Draft, Live, Order, OrderKind},
    record::{Approval, Change, Happening},
    state::{
        AttemptEvent, AttemptState, ExecutionEvent, ExecutionState, Hold, NodeEvent, NodeState, SectionEvent,
        SectionState,
    },
    transition::{self, Illegal},
};

/// Why a decision cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecidable {
    /// There is no such section.
    #[error("the execution has no section {0}")]
    Unknown(SectionNumber),
    /// It waits for nobody.
    #[error("section {0} is {1}: it does not wait for a decision")]
    NotHeld(SectionNumber, SectionState),
    /// It is no gate.
    #[error("section {0} is no gate: decide with `remit execution decide`")]
    NoGate(SectionNumber),
    /// Who began the execution cannot agree to it.
    #[error("the gate wants somebody other than the one who began the execution (section {0})")]
    Own(SectionNumber),
    /// A gate waits for people's agreement.
    #[error(
        "section {0} is a gate: agree with `remit execution approve`, or refuse with `remit execution deny`"
    )]
    Gate(SectionNumber),
    /// The table forbids it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
}

/// What a person says at a gate.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The gate.
    pub section: SectionNumber,
    /// Yes or no.
    pub agrees: bool,
    /// Who.
    pub by: String,
    /// Their signed note.
    pub note: Option<String>,
    /// Why not, in their words.
    pub why: String,
}

impl Live {
    /// The hand-out was never begun, and its runner is gone or has not got it: the section waits for a runner again.
    pub fn withdraw(&mut self, at: usize, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        self.end_attempt(at, AttemptEvent::Withdraw, "it was never begun", now, draft)?;
        self.move_section(at, SectionEvent::Withdraw, "", draft)?;
        self.advance(now, draft)
    }

    /// The start was recorded, and the runner's journal says that it was never used: nothing was done.
    pub fn void(&mut self, at: usize, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        self.end_attempt(at, AttemptEvent::End(Outcome::NotStarted), "it was never begun", now, draft)?;
        self.reset_nodes(at);
        self.move_section(at, SectionEvent::Requeue, "", draft)?;
        self.settle_if_stopped(at, now, draft)?;
        self.advance(now, draft)
    }

    /// The attempt had begun, and its runner is gone (`lost`) or has restarted (`interrupted`).
    pub fn runner_gone(
        &mut self,
        at: usize,
        outcome: Outcome,
        message: &str,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        let losses = self.sections[at].record.losses.saturating_add(1);
        let next = match (self.stop, self.document_section(at)) {
            (None, Some(section)) => {
                let rules = section.of(&self.document).iter().map(|step| step.retry.as_ref());
                retry::across(outcome, losses, self.effect(at), rules)
            }
            _ => retry::Next::Stop,
        };
        let nothing_open = |live: &Self| {
            let nodes = live.sections[at].nodes.as_ref();
            nodes.is_some_and(|nodes| {
                nodes.in_state(NodeState::Pending).is_empty()
                    && nodes.in_state(NodeState::Dispatched).is_empty()
            })
        };
        self.sections[at].record.losses = losses;
        match next {
            _ if nothing_open(self) => {
                self.end_attempt(at, AttemptEvent::End(outcome), message, now, draft)?;
                let rolled_up = self.rolled_up(at, outcome);
                self.end_section(at, rolled_up, message, now, draft)?;
            }
            retry::Next::Again { after } => {
                self.end_attempt(at, AttemptEvent::End(outcome), message, now, draft)?;
                self.reset_nodes(at);
                self.sections[at].record.not_before = Some(now.plus(after.duration()));
                self.move_section(at, SectionEvent::Requeue, message, draft)?;
            }
            retry::Next::Hold => {
                // A lost runner may come back with the attempt; one that restarted has it no more.
                let event = match outcome {
                    Outcome::Lost => AttemptEvent::Miss,
                    _ => AttemptEvent::End(outcome),
                };
                self.end_attempt(at, event, message, now, draft)?;
                self.move_section(at, SectionEvent::Doubt, message, draft)?;
            }
            retry::Next::Stop => {
                self.end_attempt(at, AttemptEvent::End(outcome), message, now, draft)?;
                self.settle(at, outcome, message, now, draft);
                self.end_section(at, outcome, message, now, draft)?;
            }
        }
        self.advance(now, draft)
    }

    /// A runner that was missed speaks of its attempt: it has it still.
    pub(super) fn come_back(&mut self, at: usize, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        let missing = self.sections[at].attempt.as_ref().is_some_and(|a| a.state == AttemptState::Missing);
        if !missing {
            return Ok(());
        }
        let Some(attempt) = self.attempt_mut(at) else { return Ok(()) };
        attempt.state = transition::attempt(attempt.state, AttemptEvent::Adopt)?;
        draft.changes.push(Change::Attempt(attempt.clone()));
        self.move_section(at, SectionEvent::Adopt, "its runner is back", draft)?;
        self.advance(now, draft)
    }

    /// The runner opened another session, or came back, and has the attempt still: under `session` from now on.
    pub fn adopt(
        &mut self,
        at: usize,
        session: Session,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        self.come_back(at, now, draft)?;
        let Some(attempt) = self.attempt_mut(at) else { return Ok(()) };
        if attempt.session != session {
            attempt.session = session;
            draft.changes.push(Change::Attempt(attempt.clone()));
        }
        Ok(())
    }

    fn reset_nodes(&mut self, at: usize) {
        let Some(nodes) = self.sections[at].nodes.as_mut() else { return };
        for node in nodes.in_state(NodeState::Dispatched) {
            let _ = nodes.apply(node, NodeEvent::Reset);
        }
    }

    /// Records `outcome` for the nodes that were in flight: for all their open steps if it is good, or else for the first.
    fn settle(&mut self, at: usize, outcome: Outcome, message: &str, now: Timestamp, draft: &mut Draft) {
        let first = self.sections[at].record.place.steps().start;
        for NodeIndex(node) in self.in_flight(at) {
            loop {
                let open = self.sections[at].nodes.as_ref().and_then(|nodes| nodes.open_step(node));
                let Some(place) = open.and_then(|place| u32::try_from(place).ok()) else { break };
                let ended = StepEnded {
                    step: StepIndex(first.saturating_add(place)),
                    node: Some(NodeIndex(node)),
                    outcome,
                    tries: 1,
                    started: now,
                    ended: now,
                    output: None,
                    message: message.to_owned(),
                    usage: None,
                    remit: None,
                    artifacts: Vec::new(),
                };
                self.step_ended(at, Box::new(ended), draft);
                if !outcome.is_good() {
                    break;
                }
            }
        }
    }

    /// Decides about a section that waits for a person.
    pub fn decide(
        &mut self,
        number: SectionNumber,
        decision: Decision,
        by: &str,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Undecidable> {
        let at = self
            .sections
            .iter()
            .position(|section| section.record.place.number == number)
            .ok_or(Undecidable::Unknown(number))?;
        let state = self.sections[at].record.state;
        let hold = state.hold().ok_or(Undecidable::NotHeld(number, state))?;
        if hold == Hold::Approval {
            return Err(Undecidable::Gate(number));
        }
        draft.happenings.push(Happening::Decided { section: number, decision, by: by.to_owned() });
        if self.sections[at].open_attempt().is_some() {
            self.end_attempt(at, AttemptEvent::End(Outcome::Lost), "decided without it", now, draft)?;
            self.forget(at, draft);
        }
        let outcome = match decision {
            Decision::Done => Outcome::Succeeded,
            Decision::Failed => Outcome::Failed,
            Decision::Rerun => {
                self.reset_nodes(at);
                self.move_section(at, SectionEvent::Rerun, "", draft)?;
                return Ok(self.advance(now, draft)?);
            }
        };
        let message = format!("{by} decided that it {outcome}");
        let settled = !self.in_flight(at).is_empty();
        self.settle(at, outcome, &message, now, draft);
        let keep_going = settled && self.head.nodes.as_ref().is_some_and(|nodes| nodes.keep_going);
        let open = self.open_nodes(at).is_some_and(|ranges| !ranges.is_empty());
        if open && (outcome.is_good() || keep_going) {
            // What was in doubt is settled; the nodes that nobody has begun are still to be run.
            self.move_section(at, SectionEvent::Rerun, &message, draft)?;
        } else {
            let rolled_up = self.rolled_up(at, outcome);
            self.end_section(at, rolled_up, &message, now, draft)?;
        }
        Ok(self.advance(now, draft)?)
    }

    /// Hears a person's answer at a gate. The same person's second yes changes nothing; one no ends it.
    pub fn answer(&mut self, answer: Answer, now: Timestamp, draft: &mut Draft) -> Result<(), Undecidable> {
        let Answer { section: number, agrees, by, note, why } = answer;
        let at = self.sections.iter().position(|section| section.record.place.number == number);
        let at = at.ok_or(Undecidable::Unknown(number))?;
        let state = self.sections[at].record.state;
        let gate = match self.step(at).map(|step| &step.action) {
            Some(Action::Gate(gate)) if state == SectionState::Gated => gate.clone(),
            Some(Action::Gate(_)) => return Err(Undecidable::NotHeld(number, state)),
            _ => return Err(Undecidable::NoGate(number)),
        };
        if !agrees {
            let why = if why.is_empty() { why } else { format!(": {why}") };
            self.end_section(at, Outcome::Failed, &format!("{by} does not agree{why}"), now, draft)?;
            return Ok(self.advance(now, draft)?);
        }
        if gate.by == Approvers::Another && by == self.head.started_by {
            return Err(Undecidable::Own(number));
        }
        let approvals = &mut self.sections[at].approvals;
        if approvals.iter().any(|known| known.by == by) {
            return Ok(());
        }
        let approval = Approval { section: number, by: by.clone(), at: now, note };
        approvals.push(approval.clone());
        let names: Vec<&str> = approvals.iter().map(|known| known.by.as_str()).collect();
        let (names, agreed) = (names.join(", "), u32::try_from(approvals.len()).unwrap_or(u32::MAX));
        draft.changes.push(Change::Approved(approval));
        let missing = gate.needed.saturating_sub(agreed);
        draft.happenings.push(Happening::Approved { section: number, by, missing });
        if missing == 0 {
            self.end_section(at, Outcome::Succeeded, &format!("approved by {names}"), now, draft)?;
            self.advance(now, draft)?;
        }
        Ok(())
    }

    fn forget(&self, at: usize, draft: &mut Draft) {
        if let Some(attempt) = &self.sections[at].attempt {
            draft.orders.push(Order {
                runner: attempt.runner,
                attempt: attempt.id,
                epoch: attempt.epoch,
                what: OrderKind::Forget,
            });
        }
    }

    /// Stops the execution, because somebody wants it or its time is over (`why`). What has not begun never will; runners
    /// are told, and by force their word is not waited for.
    pub fn stop(
        &mut self,
        why: Outcome,
        mode: CancelMode,
        message: &str,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        if self.state.is_final() {
            return Ok(());
        }
        if self.state != ExecutionState::Cancelling {
            self.stop = Some(why);
            self.move_execution(ExecutionEvent::Cancel, now, draft)?;
        }
        for at in 0..self.sections.len() {
            match self.sections[at].record.state {
                SectionState::Ready | SectionState::Gated | SectionState::Delegated => {
                    self.end_section(at, Outcome::NotStarted, message, now, draft)?;
                }
                SectionState::Leased => {
                    self.end_attempt(at, AttemptEvent::Withdraw, message, now, draft)?;
                    self.forget(at, draft);
                    self.end_section(at, Outcome::NotStarted, message, now, draft)?;
                }
                SectionState::InDoubt => self.give_up(at, message, now, draft)?,
                SectionState::Started => match mode {
                    CancelMode::Ask => self.ask_to_cancel(at, draft),
                    CancelMode::Force => self.give_up(at, message, now, draft)?,
                },
                SectionState::Waiting | SectionState::Ended(_) => {}
            }
        }
        self.advance(now, draft)
    }

    /// Its log is full: it is stopped, if its job wants that.
    pub fn log_is_full(&mut self, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        let limit = self.head.log_limit.filter(|_| self.stop.is_none());
        match limit.and_then(|limit| Some((limit.halts_as()?, limit.most))) {
            Some((outcome, most)) => {
                let why = format!("there was more log than the job keeps: {most}");
                self.stop(outcome, CancelMode::Ask, &why, now, draft)
            }
            None => Ok(()),
        }
    }

    fn ask_to_cancel(&self, at: usize, draft: &mut Draft) {
        if let Some(attempt) = self.sections[at].open_attempt() {
            draft.orders.push(Order {
                runner: attempt.runner,
                attempt: attempt.id,
                epoch: attempt.epoch,
                what: OrderKind::Cancel,
            });
        }
    }

    /// Ends a section whose runner's word is not waited for any more: whether it ran to its end is not known.
    fn give_up(
        &mut self,
        at: usize,
        message: &str,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        if self.sections[at].open_attempt().is_some() {
            self.end_attempt(at, AttemptEvent::End(Outcome::Lost), message, now, draft)?;
            self.forget(at, draft);
        }
        self.settle(at, Outcome::Lost, message, now, draft);
        self.end_section(at, Outcome::Lost, message, now, draft)
    }

    fn settle_if_stopped(&mut self, at: usize, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        if self.stop.is_some() && self.sections[at].record.state == SectionState::Ready {
            self.end_section(at, Outcome::NotStarted, "", now, draft)?;
        }
        Ok(())
    }

    /// Attempts that are out, with their sections.
    pub fn out(&self) -> impl Iterator<Item = (usize, AttemptId)> + '_ {
        let open = |(at, section): (usize, &super::live::Section)| section.open_attempt().map(|a| (at, a.id));
        self.sections.iter().enumerate().filter_map(open)
    }
}
