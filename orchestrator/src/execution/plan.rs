//! What an execution consists of, and what of it is due.

use std::sync::Arc;

use remit_job::{
    condition,
    document::{Action, Document, HaltOutcome, Per, Step},
    expression::Scope,
    retry, rollup, sections,
    template::Template,
};
use remit_protocol::{
    ExecutionId, LogLimit, NodeName, Outcome, RefusalCode, SectionNumber, StepIndex, Timestamp,
    report::StepEnded,
};
use serde_json::Value;

use super::{
    live::{Draft, Live, Section},
    record::{AttemptRecord, Change, Head, NodeSelection, Place, Purpose, ResultLine, Work},
    state::{ExecutionEvent, ExecutionState, SectionEvent, SectionState},
    transition::Illegal,
};

/// Most parts into which the nodes of a section are split.
const MOST_PARTS: u32 = 512;
/// Most chunks of a lane: the more there are, the better a slow runner is made up for.
const CHUNKS: u32 = 8;
/// A chunk has at least so many nodes for each of its threads.
const NODES_PER_THREAD: u32 = 4;

/// The plan of a job: its sections one after the other, those of a group side by side. Where nodes are not split, the
/// numbers are those of the document's own sections.
pub fn places(document: &Document, nodes: Option<&NodeSelection>) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let mut before: Vec<SectionNumber> = Vec::new();
    let mut stage: Vec<SectionNumber> = Vec::new();
    let mut group = None;
    for section in sections::plan(document) {
        let Some(step) = section.of(document).first() else { continue };
        if step.group.is_none() || step.group != group {
            before = std::mem::take(&mut stage);
            group = step.group;
        }
        let steps =
            |nodes| Work::Steps { first: section.first, count: section.steps, effect: section.effect, nodes };
        let work = match &step.action {
            Action::Component(_) if section.per == Per::Node => {
                stage.extend(split(&mut places, |ranges| steps(Some(ranges)), &before, nodes));
                continue;
            }
            Action::Component(_) => steps(None),
            Action::Gate(_) => Work::Gate { step: section.first },
            Action::Halt(_) => Work::Halt { step: section.first },
            Action::Job(_) => Work::Jobs { step: section.first },
        };
        stage.push(put(&mut places, before.clone(), work, (0, None)));
    }
    places
}

fn put(
    places: &mut Vec<Place>,
    after: Vec<SectionNumber>,
    work: Work,
    (tier, threads): (u32, Option<u32>),
) -> SectionNumber {
    let number = SectionNumber(u32::try_from(places.len()).unwrap_or(u32::MAX));
    places.push(Place { number, after, work, tier, threads });
    number
}

/// The parts of a section of node steps: tiers one after the other, and in a tier a lane for each runner, whose chunks
/// follow one another. Whoever is free takes the next chunk, and the threads of all lanes together are those of the job.
/// Gives the last parts, which the next section waits for.
fn split(
    places: &mut Vec<Place>,
    work: impl Fn(Vec<(u32, u32)>) -> Work,
    before: &[SectionNumber],
    nodes: Option<&NodeSelection>,
) -> Vec<SectionNumber> {
    let Some(nodes) = nodes else { return vec![put(places, before.to_vec(), work(vec![(0, 0)]), (0, None))] };
    let ends = if nodes.tiers.is_empty() { vec![nodes.count] } else { nodes.tiers.clone() };
    let tiers = u32::try_from(ends.len()).unwrap_or(u32::MAX).max(1);
    let most = nodes.threads.min(MOST_PARTS / tiers).max(1);
    let lanes = nodes.lanes.clamp(1, most);
    let chunks = (MOST_PARTS / tiers.saturating_mul(lanes)).clamp(1, CHUNKS);
    let (mut after, mut first) = (before.to_vec(), 0);
    for (tier, end) in (0..).zip(ends) {
        let size = end.saturating_sub(first);
        let lanes = lanes.min(size).max(1);
        if lanes == 1 {
            after = vec![put(places, after, work(vec![(first, end)]), (tier, None))];
        } else {
            let wide =
                nodes.threads.div_ceil(lanes).saturating_mul(NODES_PER_THREAD).min(size.div_ceil(lanes));
            let chunk = size.div_ceil(lanes.saturating_mul(chunks)).max(wide).max(1);
            let mut last: Vec<Vec<SectionNumber>> = Vec::new();
            for (at, begin) in
                (0_usize..).zip((first..end).step_by(usize::try_from(chunk).unwrap_or(usize::MAX)))
            {
                let lane = at % usize::try_from(lanes).unwrap_or(1);
                let more = u32::try_from(lane).unwrap_or(u32::MAX) < nodes.threads % lanes;
                let threads = nodes.threads / lanes + u32::from(more);
                let earlier = last.get(lane).cloned().unwrap_or_else(|| after.clone());
                let range = (begin, begin.saturating_add(chunk).min(end));
                let number = put(places, earlier, work(vec![range]), (tier, Some(threads)));
                match last.get_mut(lane) {
                    Some(own) => *own = vec![number],
                    None => last.push(vec![number]),
                }
            }
            after = last.concat();
        }
        first = end;
    }
    after
}

/// Makes an execution over these sections. It is queued; [`Live::admit`] lets it go.
pub fn start(
    id: ExecutionId,
    head: Head,
    document: Arc<Document>,
    names: Arc<[NodeName]>,
    places: Vec<Place>,
) -> (Live, Draft) {
    let mut draft = Draft::default();
    let live = Live {
        id,
        head: Arc::new(head),
        document,
        names,
        state: ExecutionState::Queued,
        version: 1,
        began: None,
        ended: None,
        stop: None,
        sections: places.into_iter().map(Section::planned).collect(),
        steps: std::collections::BTreeMap::new(),
    };
    draft.changes.extend(live.sections.iter().map(|section| Change::Planned(section.record.clone())));
    (live, draft)
}

impl Live {
    /// Lets a queued execution go: its time and its turn have come.
    pub fn admit(&mut self, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        self.move_execution(ExecutionEvent::Admit, now, draft)?;
        self.advance(now, draft)
    }

    /// Makes due what is due, skips what is to be skipped, and ends the execution when nothing is left.
    pub fn advance(&mut self, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        if self.state.is_final() || self.state == ExecutionState::Queued {
            return Ok(());
        }
        // Each round ends at least one section, so there are not more rounds than sections.
        for _ in 0..=self.sections.len() {
            let due: Vec<usize> = (0..self.sections.len()).filter(|at| self.is_due(*at)).collect();
            let mut ended = false;
            for at in due {
                self.make_due(at, now, draft)?;
                ended |= self.sections[at].record.state.is_final();
            }
            if !ended {
                break;
            }
        }
        if self.sections.iter().all(|section| section.record.state.is_final()) {
            return self.conclude(now, draft);
        }
        let waits_for_person = |section: &Section| section.record.state.hold().is_some();
        let stuck = self.sections.iter().all(|section| {
            waits_for_person(section)
                || matches!(section.record.state, SectionState::Waiting | SectionState::Ended(_))
        }) && self.sections.iter().any(waits_for_person);
        match (self.state, stuck) {
            (ExecutionState::Running, true) => self.move_execution(ExecutionEvent::Hold, now, draft),
            (ExecutionState::Held, false) => self.move_execution(ExecutionEvent::Resume, now, draft),
            _ => Ok(()),
        }
    }

    fn is_due(&self, at: usize) -> bool {
        let record = &self.sections[at].record;
        record.state == SectionState::Waiting
            && record
                .place
                .after
                .iter()
                .all(|number| self.section(*number).is_none_or(|section| section.record.state.is_final()))
    }

    fn make_due(&mut self, at: usize, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        if self.stop.is_some() {
            return self.end_section(at, Outcome::NotStarted, "", now, draft);
        }
        if self.halted() {
            return self.end_section(at, Outcome::Skipped, "the execution was halted before", now, draft);
        }
        let place = self.sections[at].record.place.clone();
        let runs = match self.holds(&place) {
            Ok(runs) => runs,
            Err(why) => {
                let refused = Outcome::Refused(RefusalCode::Parameter);
                return self.end_section(at, refused, &why, now, draft);
            }
        };
        if self.open_nodes(at).is_some_and(|open| open.is_empty()) && self.has_nodes(at) {
            // All of them were taken over from an earlier execution.
            let outcome = self.rolled_up(at, Outcome::Skipped);
            return self.end_section(at, outcome, "", now, draft);
        }
        let empty = matches!(&place.work, Work::Steps { nodes: Some(_), .. }) && !self.has_nodes(at);
        let fails = empty && self.head.nodes.as_ref().is_some_and(|nodes| nodes.fail_if_empty);
        if !runs || empty {
            let why = if empty { "no node matches" } else { "" };
            let outcome = if runs && fails { Outcome::Failed } else { Outcome::Skipped };
            return self.end_section(at, outcome, why, now, draft);
        }
        if let Some(why) = self.stopped_between(&place) {
            return self.end_section(at, Outcome::NotStarted, &why, now, draft);
        }
        match place.work {
            Work::Steps { .. } => self.move_section(at, SectionEvent::Due, "", draft),
            Work::Jobs { .. } => {
                self.move_section(at, SectionEvent::Delegate, "", draft)?;
                self.note_beginning(now, draft);
                Ok(())
            }
            Work::Gate { .. } => {
                let timeout = self.step(at).and_then(|step| step.timeout);
                self.sections[at].record.not_before = timeout.map(|timeout| now.plus(timeout.duration()));
                self.move_section(at, SectionEvent::Gate, &self.question(at), draft)
            }
            Work::Halt { .. } => self.halt(at, now, draft),
        }
    }

    /// Why a tier is not begun: of the nodes before it too many did not end well.
    fn stopped_between(&self, place: &Place) -> Option<String> {
        if place.tier == 0 {
            return None;
        }
        let steps = place.steps();
        let earlier = self.sections.iter().filter(|section| {
            section.record.place.tier < place.tier && section.record.place.steps() == steps
        });
        let (mut all, mut bad) = (0_u32, 0_u32);
        for nodes in earlier.filter_map(|section| section.nodes.as_ref()) {
            let (those, good) = nodes.ended_well();
            all = all.saturating_add(those);
            bad = bad.saturating_add(those.saturating_sub(good));
        }
        let share = self.head.nodes.as_ref().and_then(|nodes| nodes.max_failures);
        let allowed = share.map_or(0, |share| share.allowed(all));
        (bad > allowed).then(|| {
            format!("it was stopped between tiers: {bad} of {all} nodes did not end well, and at most {allowed} may not")
        })
    }

    fn has_nodes(&self, at: usize) -> bool {
        matches!(&self.sections[at].record.place.work, Work::Steps { nodes: Some(ranges), .. } if ranges.iter().any(|(a, b)| a < b))
    }

    /// The step of a section that is one step.
    pub fn step(&self, at: usize) -> Option<&Step> {
        let first = self.sections[at].record.place.steps().start;
        self.document.steps.get(usize::try_from(first).ok()?)
    }

    /// What people are asked at a gate.
    pub fn question(&self, at: usize) -> String {
        match self.step(at).map(|step| &step.action) {
            Some(Action::Gate(gate)) => written(&gate.question, &self.scope()),
            _ => String::new(),
        }
    }

    fn halt(&mut self, at: usize, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        let Some(Action::Halt(halt)) = self.step(at).map(|step| &step.action) else {
            return self.end_section(at, Outcome::HostFault, "the plan does not fit the job", now, draft);
        };
        let outcome = match halt.outcome {
            HaltOutcome::Succeeded => Outcome::Succeeded,
            HaltOutcome::Failed => Outcome::Failed,
        };
        let message = written(&halt.message, &self.scope());
        self.end_section(at, outcome, &message, now, draft)
    }

    /// True once a halt was reached: what has not begun is skipped.
    fn halted(&self) -> bool {
        let reached = |section: &Section| {
            matches!(section.record.place.work, Work::Halt { .. })
                && matches!(section.record.state, SectionState::Ended(Outcome::Succeeded | Outcome::Failed))
        };
        self.sections.iter().any(reached)
    }

    /// Whether any step of a place is run, as its conditions say.
    fn holds(&self, place: &Place) -> Result<bool, String> {
        let steps = place.steps();
        let section =
            sections::plan(&self.document).into_iter().find(|section| section.first.0 == steps.start);
        let Some(section) = section else { return Ok(true) };
        let earlier = self.outcomes_before(steps.start);
        condition::any_holds(&self.document, &section, &earlier, &self.scope())
            .map_err(|error| error.to_string())
    }

    /// Ends a section, and says of each of its steps what it came to.
    pub(super) fn end_section(
        &mut self,
        at: usize,
        outcome: Outcome,
        message: &str,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        self.move_section(at, SectionEvent::End(outcome), message, draft)?;
        self.fill_result(at, outcome, message, now, draft);
        self.conclude_steps(at, outcome, draft);
        Ok(())
    }

    /// A workflow step that was begun or refused and of which no end was reported has ended as its section did.
    fn fill_result(&mut self, at: usize, outcome: Outcome, message: &str, now: Timestamp, draft: &mut Draft) {
        let section = &mut self.sections[at];
        let idle = matches!(outcome, Outcome::Skipped | Outcome::NotStarted);
        let steps = section.record.place.steps();
        if section.nodes.is_some() || section.ended.is_some() || (idle && section.attempt.is_none()) {
            return;
        }
        let attempt = section.attempt.as_ref();
        section.ended = Some((outcome, None));
        let ended = StepEnded {
            step: StepIndex(steps.start),
            node: None,
            outcome,
            tries: u32::from(attempt.is_some_and(|attempt| attempt.began.is_some())),
            started: attempt.and_then(|attempt| attempt.began).unwrap_or(now),
            ended: now,
            output: None,
            message: message.to_owned(),
            usage: None,
            remit: None,
            artifacts: Vec::new(),
        };
        draft.result(ResultLine { step: ended.step, node: None, outcome });
        draft
            .changes
            .push(Change::StepEnded { attempt: attempt.map(|attempt| attempt.id), ended: Box::new(ended) });
    }

    fn conclude(&mut self, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        let mut outcomes: Vec<Outcome> = self.steps.values().map(|concluded| concluded.outcome).collect();
        let cut_short = outcomes.iter().any(|o| matches!(o, Outcome::NotStarted | Outcome::Cancelled));
        let by_its_log = self.stop.is_some() && self.stop == self.head.log_limit.and_then(LogLimit::halts_as);
        outcomes.extend(self.stop.filter(|_| cut_short || by_its_log));
        let outcome = rollup::execution(outcomes);
        if let Purpose::Source(name) = &self.head.purpose
            && outcome != Outcome::Succeeded
        {
            let attempts = self.sections.iter().filter_map(|section| section.attempt.as_ref());
            let why: Vec<&str> =
                attempts.map(|attempt| attempt.message.as_str()).filter(|m| !m.is_empty()).collect();
            let found = Err(format!("{outcome}: {}", why.join("; ")));
            draft.changes.push(Change::SourceNodes { name: name.clone(), found });
        }
        draft.changes.extend(self.retry_at(outcome, now).map(Change::Retry));
        self.move_execution(ExecutionEvent::Conclude(outcome), now, draft)
    }

    /// When the job is tried again after this outcome, if its author wants that. What somebody stopped is not, nor what
    /// another execution waits for; and a signature is about one run.
    fn retry_at(&self, outcome: Outcome, now: Timestamp) -> Option<Timestamp> {
        let rule = self.document.retry.as_ref()?;
        let own =
            self.head.parent.is_none() && self.head.run_note.is_none() && self.head.purpose == Purpose::Job;
        let wait = retry::whole(outcome, self.head.retries.saturating_add(1), rule)?;
        (own && self.stop != Some(Outcome::Cancelled)).then(|| now.plus(wait.duration()))
    }

    /// The child executions of a section have ended, all together as `outcome`, and have given `outputs`.
    pub fn children_ended(
        &mut self,
        number: SectionNumber,
        (outcome, outputs): (Outcome, Option<Value>),
        message: &str,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Result<(), Illegal> {
        let Some(at) = self.sections.iter().position(|s| s.record.place.number == number) else {
            return Ok(());
        };
        if self.sections[at].record.state == SectionState::Delegated {
            let step = StepIndex(self.sections[at].record.place.steps().start);
            let ended = StepEnded {
                step,
                node: None,
                outcome,
                tries: 1,
                started: self.began.unwrap_or(now),
                ended: now,
                output: outputs,
                message: message.to_owned(),
                usage: None,
                remit: None,
                artifacts: Vec::new(),
            };
            self.step_ended(at, Box::new(ended), draft);
            self.end_section(at, outcome, message, now, draft)?;
            self.advance(now, draft)?;
        }
        Ok(())
    }

    /// Closes the gates whose time is over.
    pub fn close_gates(&mut self, now: Timestamp, draft: &mut Draft) -> Result<(), Illegal> {
        for at in 0..self.sections.len() {
            let record = &self.sections[at].record;
            let over = record.not_before.is_some_and(|until| until <= now);
            if record.state == SectionState::Gated && over {
                self.end_section(at, Outcome::TimedOut, "nobody has agreed in time", now, draft)?;
                self.advance(now, draft)?;
            }
        }
        Ok(())
    }

    pub(super) fn attempt_mut(&mut self, at: usize) -> Option<&mut AttemptRecord> {
        self.sections[at].attempt.as_mut()
    }
}

/// A text of the job, or why it cannot be written.
fn written(text: &Template, scope: &Scope) -> String {
    match text.render(scope) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => format!("(this text cannot be written: {error})"),
    }
}
