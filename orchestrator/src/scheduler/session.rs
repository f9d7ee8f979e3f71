//! Sessions: a runner's process opens one, polls under it, and is told what to do.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use remit_protocol::{
    AttemptId, Outcome, PROTOCOL, RunnerId, Session, Span, Timestamp,
    assignment::StartMode,
    capability::offer::MAX_OFFERS,
    endpoint::{Command, HOLD, Held, HeldState, LEASE, OpenSession, Poll, PollAnswer, SessionOpened},
    limits::MAX_BODY,
};
use tokio::sync::Notify;

use super::{
    CANCEL_GRACE, Scheduler, State,
    commit::Drafts,
    family::Lacking,
    runner::{Known, Message},
    sealed::told_by,
};
use crate::{
    execution::{AttemptState, Draft, Live},
    store::{Opening, SessionFacts, StoreError},
};

/// Most features that a runner tells of: the capabilities, and what its ceiling offers.
const MAX_FEATURES: usize = MAX_OFFERS + 100;

/// Most commands of one answer.
const COMMANDS: usize = 64;
/// Largest assignment: an answer may not be larger than [`MAX_BODY`], and has a frame of its own.
pub(super) const MAX_ASSIGNMENT: usize = MAX_BODY - (16 << 10);

/// Why a runner's call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// There is no such runner.
    #[error("this runner is not known here; enrol it again with a new ticket")]
    Unknown,
    /// Another process of the same runner has opened a later session.
    #[error("another process of this runner has taken over; this one has to stop")]
    Superseded,
    /// Two hosts use its identity.
    #[error(
        "this runner's identity is used twice (a copy or a restored backup); enrol it again with a new ticket"
    )]
    Locked,
    /// It speaks a protocol that is not served.
    #[error(
        "this runner speaks protocol {0}, and {PROTOCOL} is served; install the version of the orchestrator"
    )]
    Protocol(u32),
    /// It says of itself what cannot be.
    #[error("{0}")]
    Invalid(&'static str),
    /// Nothing was recorded; ask again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Scheduler {
    /// A runner process begins; any earlier process of the runner is fenced off.
    pub async fn open_session(&self, open: OpenSession) -> Result<SessionOpened, SessionError> {
        let id = open.runner;
        if open.protocol < PROTOCOL {
            return Err(SessionError::Protocol(open.protocol));
        }
        if open.slots == 0 || open.slots > MAX_SLOTS {
            return Err(SessionError::Invalid("a runner has 1 to 10,000 slots"));
        }
        if !self.state().runners.contains_key(&id) {
            self.runner_changed(id).await?;
        }
        let key = self.state().runners.get(&id).and_then(|known| known.runner.key);
        let sealing = told_by(open.sealing, id, key)?;
        let facts = SessionFacts {
            version: open.version.chars().take(100).collect(),
            hostname: open.hostname.chars().take(255).collect(),
            features: open.features.into_iter().filter(|word| word.len() <= 300).take(MAX_FEATURES).collect(),
            slots: open.slots,
            sealing,
            at: self.now(),
        };
        let session = match self.store().open_session(id, open.last, facts.clone()).await {
            Ok(Opening::Opened(session)) => session,
            Ok(Opening::Locked) => {
                self.runner_changed(id).await?;
                return Err(SessionError::Locked);
            }
            Err(StoreError::NotFound { .. }) => return Err(SessionError::Unknown),
            Err(error) => return Err(error.into()),
        };
        let held = open.attempts;
        let forget = self
            .decide_and_record(|state, drafts| {
                let now = (self.now(), self.elapsed());
                state.take_over(id, session, &facts, now.1);
                state.compare(id, session, &held, drafts, now)
            })
            .await?;
        let state = self.state();
        let known = state.runners.get(&id).ok_or(SessionError::Unknown)?;
        Ok(SessionOpened {
            session,
            name: known.runner.name.clone(),
            tags: known.runner.tags.clone(),
            hold: HOLD,
            lease: LEASE,
            forget,
        })
    }

    /// Is there something for me? Held until there is, at most as long as the runner says.
    pub async fn poll(&self, runner: RunnerId, poll: Poll) -> Result<PollAnswer, SessionError> {
        let arrival = self.arrive(runner, &poll)?;
        if arrival.unconfirmed {
            self.store().confirm_session(runner, poll.session).await?;
        }
        if arrival.returned || poll.attempts.is_some() {
            let held = poll.attempts.unwrap_or_default();
            self.decide_and_record(|state, drafts| {
                state.take_back(runner, poll.session, self.now(), drafts);
                state.remind(runner, &held);
            })
            .await?;
        }
        if arrival.may_work {
            self.inner.wake.notify_one();
        }
        let hold = poll.hold.duration().min(HOLD.duration());
        let waiting = async {
            loop {
                // Registered before looking, so that nothing is missed in between.
                let mut woken = pin!(arrival.wake.notified());
                woken.as_mut().enable();
                if let Some(answer) = self.answer(runner, poll.session, arrival.number).await? {
                    return Ok(answer);
                }
                woken.await;
            }
        };
        if hold.is_zero() {
            let answer = self.answer(runner, poll.session, arrival.number).await?;
            return Ok(answer.unwrap_or_else(|| self.nothing(runner)));
        }
        match tokio::time::timeout(hold, waiting).await {
            Ok(answer) => answer,
            Err(_) => Ok(self.nothing(runner)),
        }
    }

    fn nothing(&self, runner: RunnerId) -> PollAnswer {
        let first = self.state().runners.get(&runner).and_then(|known| known.first).unwrap_or(1);
        PollAnswer { first, commands: Vec::new(), now: self.now() }
    }

    fn arrive(&self, runner: RunnerId, poll: &Poll) -> Result<Arrival, SessionError> {
        let (now, elapsed) = (self.now(), self.elapsed());
        let mut state = self.state();
        let known = state.hear_from(runner, poll.session, now, elapsed)?;
        let returned = known.1;
        let known = known.0;
        known.acknowledge(poll.ack);
        known.draining = poll.draining;
        known.polls += 1;
        // An older poll that is still parked makes way for this one.
        known.wake.notify_waiters();
        let unconfirmed = known.confirmed != poll.session;
        known.confirmed = poll.session;
        let arrival = Arrival {
            number: known.polls,
            wake: Arc::clone(&known.wake),
            unconfirmed,
            returned,
            may_work: false,
        };
        state.rerank(runner, elapsed);
        Ok(Arrival { may_work: state.has_matches(), ..arrival })
    }

    /// What there is to say to this poll, if anything.
    async fn answer(
        &self,
        runner: RunnerId,
        session: Session,
        number: u64,
    ) -> Result<Option<PollAnswer>, SessionError> {
        loop {
            match self.answer_from_memory(runner, session, number)? {
                Ok(answer) => return Ok(answer),
                Err(lacking) => self.read_kin(lacking).await?,
            }
        }
    }

    /// The same, as far as it is known without reading; or what has to be read first.
    fn answer_from_memory(
        &self,
        runner: RunnerId,
        session: Session,
        number: u64,
    ) -> Result<Result<Option<PollAnswer>, Vec<Lacking>>, SessionError> {
        let now = self.now();
        let mut state = self.state();
        let known = state.runners.get(&runner).ok_or(SessionError::Unknown)?;
        if known.deleted {
            return Err(SessionError::Unknown);
        }
        if known.runner.session != session {
            return Err(SessionError::Superseded);
        }
        let first = known.first.unwrap_or(1);
        if known.polls != number {
            return Ok(Ok(Some(PollAnswer { first, commands: Vec::new(), now })));
        }
        let messages: Vec<Message> = known.outbox.iter().take(COMMANDS).copied().collect();
        let mut commands = Vec::with_capacity(messages.len());
        let mut room = MAX_ASSIGNMENT;
        for message in messages {
            let command = match state.command(message, now) {
                Ok(command) => command,
                Err(lacking) => return Ok(Err(lacking)),
            };
            let bytes = serde_json::to_vec(&command).map_or(usize::MAX, |bytes| bytes.len());
            match (message, bytes) {
                (Message::Run(attempt, _), bytes) if bytes > MAX_ASSIGNMENT => {
                    // The message keeps its place and number; the reconciler ends the attempt.
                    state.oversized.insert(attempt, bytes);
                    self.inner.wake.notify_one();
                    commands.push(Command::Forget { attempt });
                }
                _ if bytes > room => break,
                _ => {
                    room -= bytes;
                    commands.push(command);
                }
            }
        }
        Ok(Ok((!commands.is_empty()).then_some(PollAnswer { first, commands, now })))
    }
}

/// Most slots of a runner.
const MAX_SLOTS: u32 = 10_000;

struct Arrival {
    number: u64,
    wake: Arc<Notify>,
    unconfirmed: bool,
    returned: bool,
    may_work: bool,
}

impl State {
    /// Notes a sign of life; true beside the runner if it was taken for lost.
    pub(super) fn hear_from(
        &mut self,
        runner: RunnerId,
        session: Session,
        now: Timestamp,
        elapsed: Duration,
    ) -> Result<(&mut Known, bool), SessionError> {
        let known = self.runners.get_mut(&runner).ok_or(SessionError::Unknown)?;
        if known.deleted {
            return Err(SessionError::Unknown);
        }
        if known.runner.locked.is_some() {
            return Err(SessionError::Locked);
        }
        if known.runner.session != session {
            return Err(SessionError::Superseded);
        }
        let returned = known.heard.is_none();
        known.heard = Some(elapsed);
        known.seen = Some(now);
        Ok((known, returned))
    }

    /// The runner's new process takes over.
    fn take_over(&mut self, id: RunnerId, session: Session, facts: &SessionFacts, elapsed: Duration) {
        let Some(known) = self.runners.get_mut(&id) else { return };
        known.runner.session = session;
        known.runner.version.clone_from(&facts.version);
        known.runner.hostname.clone_from(&facts.hostname);
        known.runner.features.clone_from(&facts.features);
        known.runner.slots = facts.slots;
        known.heard = Some(elapsed);
        known.seen = Some(facts.at);
        known.draining = false;
        known.outbox.clear();
        known.first = Some(1);
        known.owed.clear();
        // Polls of the earlier process are answered that they are superseded.
        known.polls += 1;
        known.wake.notify_waiters();
        self.rerank(id, elapsed);
    }

    /// Compares what we think a runner has with what its new process found in its journal. Gives what it should forget.
    fn compare(
        &mut self,
        id: RunnerId,
        session: Session,
        held: &[Held],
        drafts: &mut Drafts,
        (now, elapsed): (Timestamp, Duration),
    ) -> Vec<AttemptId> {
        let Some(known) = self.runners.get(&id) else { return Vec::new() };
        let mut states: BTreeMap<AttemptId, Option<&Held>> =
            known.attempts.iter().map(|attempt| (*attempt, None)).collect();
        states.extend(held.iter().map(|held| (held.attempt, Some(held))));
        let mut forget = Vec::new();
        for (attempt, held) in states {
            let kept = self.compare_one(attempt, session, held, drafts, now);
            if !kept && held.is_some() {
                forget.push(attempt);
            }
            if kept && let Some(known) = self.runners.get_mut(&id) {
                known.owed.insert(attempt, elapsed + LEASE.duration());
            }
        }
        forget
    }

    /// True if the attempt goes on under the new session: its end will be reported.
    fn compare_one(
        &mut self,
        attempt: AttemptId,
        session: Session,
        held: Option<&Held>,
        drafts: &mut Drafts,
        now: Timestamp,
    ) -> bool {
        let Some(id) = self.attempts.get(&attempt).copied() else { return false };
        let Some(live) = self.live.get_mut(&id) else { return false };
        let current = match held {
            Some(held) => live.current(attempt, held.epoch),
            None => live.section_of(attempt).filter(|at| live.sections[*at].open_attempt().is_some()),
        };
        let Some(at) = current else { return false };
        let state = live.sections[at].open_attempt().map(|attempt| attempt.state);
        let draft = drafts.of(id);
        let result = match (state, held.map(|held| held.state)) {
            // Not begun: somebody else may have it.
            (Some(AttemptState::Leased), _) => live.withdraw(at, now, draft).map(|()| false),
            (Some(AttemptState::Started), Some(HeldState::Leased)) => {
                live.void(at, now, draft).map(|()| false)
            }
            // Its journal does not know it: either it never arrived, or nothing of it runs any more.
            (Some(AttemptState::Started), None) => {
                let why = "its runner restarted and has no record of it";
                live.runner_gone(at, Outcome::Interrupted, why, now, draft).map(|()| false)
            }
            (
                Some(AttemptState::Started | AttemptState::Missing),
                Some(HeldState::Running | HeldState::Interrupted | HeldState::Finished),
            ) => live.adopt(at, session, now, draft).map(|()| true),
            (Some(AttemptState::Missing), Some(HeldState::Leased) | None)
            | (Some(AttemptState::Ended(_)) | None, _) => Ok(false),
        };
        result.unwrap_or_else(|illegal| {
            tracing::error!(%illegal, execution = %id, "a session could not be compared");
            false
        })
    }

    /// A runner that was taken for lost is back in the same session: what it was missed with, it has still.
    fn take_back(&mut self, runner: RunnerId, session: Session, now: Timestamp, drafts: &mut Drafts) {
        let Some(known) = self.runners.get(&runner) else { return };
        for attempt in known.missing.clone() {
            let Some(id) = self.attempts.get(&attempt).copied() else { continue };
            let Some(live) = self.live.get_mut(&id) else { continue };
            let Some(at) = live.section_of(attempt) else { continue };
            let mut draft = Draft::default();
            match live.adopt(at, session, now, &mut draft) {
                Ok(()) => *drafts.of(id) = draft,
                Err(illegal) => {
                    tracing::error!(%illegal, execution = %id, "an attempt could not be taken back");
                }
            }
        }
    }

    /// Tells a runner again what it does not have and should, and what it has and should not.
    fn remind(&mut self, runner: RunnerId, held: &[Held]) {
        let Some(known) = self.runners.get(&runner) else { return };
        let mut messages = Vec::new();
        for attempt in &known.attempts {
            let live = self.attempts.get(attempt).and_then(|id| self.live.get(id));
            let Some((live, at)) = live.and_then(|live| Some((live, live.section_of(*attempt)?))) else {
                continue;
            };
            let unheard = is_unheard(live, at) && !held.iter().any(|held| held.attempt == *attempt);
            if let Some(open) = live.sections[at].open_attempt().filter(|_| unheard) {
                messages.push(Message::Run(open.id, open.epoch));
            }
        }
        for held in held.iter().filter(|held| held.state != HeldState::Finished) {
            let live = self.attempts.get(&held.attempt).and_then(|id| self.live.get(id));
            if live.is_none_or(|live| live.current(held.attempt, held.epoch).is_none()) {
                messages.push(Message::Forget(held.attempt));
            }
        }
        if let Some(known) = self.runners.get_mut(&runner) {
            messages.into_iter().for_each(|message| known.tell(message));
        }
    }

    fn command(&self, message: Message, now: Timestamp) -> Result<Command, Vec<Lacking>> {
        Ok(match message {
            Message::Run(attempt, _) => {
                let made = self.assignment(attempt, now)?;
                made.map_or(Command::Forget { attempt }, |made| Command::Run(Box::new(made)))
            }
            Message::Cancel(attempt, epoch) => {
                let grace = u64::try_from(CANCEL_GRACE.as_millis()).unwrap_or(u64::MAX);
                Command::Cancel { attempt, epoch, grace: Span::from_millis(grace) }
            }
            Message::Forget(attempt) => Command::Forget { attempt },
        })
    }
}

/// True if nothing shows that the runner has heard of the attempt.
pub(super) fn is_unheard(live: &Live, at: usize) -> bool {
    live.sections[at].open_attempt().is_some_and(|attempt| match attempt.state {
        AttemptState::Leased => true,
        AttemptState::Started => live.start_mode(at) == StartMode::Fast && attempt.events == 0,
        AttemptState::Missing | AttemptState::Ended(_) => false,
    })
}
