//! Why an execution waits: always answerable, in words that say what to do.

use std::fmt;

use remit_job::document::{Action, Step};
use remit_protocol::{
    ExecutionId, ProjectName, RunnerName, SectionNumber, Tag, Timestamp, operator::RunnerStatus,
};

use super::{Scheduler, State, matching::Requirement, runner::Known};
use crate::execution::{ExecutionState, Hold, Live, Section, SectionState};

/// Why something waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The execution.
    pub execution: ExecutionId,
    /// The section; none if the execution as a whole waits.
    pub section: Option<SectionNumber>,
    /// Since when, as far as is known.
    pub since: Option<Timestamp>,
    /// Why.
    pub reason: Reason,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its time has not come.
    NotBefore(Timestamp),
    /// Executions of the job go on, and there may be no more at once.
    Turn {
        /// So many go on,
        going: u32,
        /// and at most so many may.
        most: u32,
        /// Its place among those that wait, from 1.
        place: u32,
        /// From then on it does not wait any more.
        until: Option<Timestamp>,
    },
    /// After a loss it is tried again at this time.
    BackOff(Timestamp),
    /// A person has to decide.
    Person(Hold),
    /// So many people have to agree to this yet.
    Approval(String, u32),
    /// Executions that it began have not ended.
    Children,
    /// No runner carries these tags.
    NoRunner(Vec<Tag>),
    /// There is no local runner.
    NoLocalRunner,
    /// Runners would do, but none of them works for the project.
    NotAssigned(ProjectName, Vec<RunnerName>),
    /// Runners would do, but what was typed for it is sealed for none of them.
    NotSealed(Vec<RunnerName>),
    /// Each runner that would do has no free slot.
    Busy(Vec<RunnerName>),
    /// Runners would do, but none of them takes work.
    NoneTakesWork(Vec<(RunnerName, RunnerStatus, Option<Timestamp>)>),
    /// A runner was told and has not begun yet.
    ToBegin(RunnerName, Option<Timestamp>),
    /// A runner was told to stop and has not answered yet.
    ToStop(RunnerName, Option<Timestamp>),
    /// Nothing: it is about to be handed out.
    Nothing,
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().take(5).map(ToString::to_string).collect();
    let more = items.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn since(time: &Option<Timestamp>) -> String {
    time.map_or_else(
        || "never heard of".to_owned(),
        |time| format!("last heard of {}", time.to_seconds_text()),
    )
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBefore(time) => write!(f, "it is to begin at {}", time.to_seconds_text()),
            Self::Turn { going, most, place, until } => {
                write!(f, "place {place} in the job's queue: {going} of its executions go on, at most {most} may")?;
                until.map_or(Ok(()), |until| write!(f, "; it waits until {}", until.to_seconds_text()))
            }
            Self::BackOff(time) => write!(f, "it is tried again at {}", time.to_seconds_text()),
            Self::Person(Hold::Doubt) => {
                f.write_str("its runner was lost and it may have run: decide whether it is done, failed, or to be run again")
            }
            Self::Person(Hold::Approval) => f.write_str("it waits for an approval"),
            Self::Approval(question, missing) => {
                let people = if *missing == 1 { "an approval".to_owned() } else { format!("{missing} approvals") };
                write!(f, "it waits for {people}: {question}")
            }
            Self::Children => f.write_str("it waits for the executions that it began"),
            Self::NoRunner(tags) => {
                write!(f, "no runner carries the tags {}: add them to a runner, or create one", list(tags))
            }
            Self::NoLocalRunner => {
                f.write_str("the job names no runner tags, and there is no local runner: name tags, or make a runner local")
            }
            Self::NotAssigned(project, runners) => write!(
                f,
                "the runners that would do ({}) do not work for project {project}: add the project to one of them",
                list(runners)
            ),
            Self::NotSealed(runners) => write!(
                f,
                "what was typed for it is sealed for none of the runners that would do ({}): cancel it, and run it anew",
                list(runners)
            ),
            Self::Busy(runners) => write!(f, "all slots of {} are in use", list(runners)),
            Self::NoneTakesWork(runners) => {
                let each: Vec<String> = runners
                    .iter()
                    .map(|(name, status, seen)| match status {
                        RunnerStatus::Expected => format!("{name} has not enrolled yet"),
                        RunnerStatus::Disabled => format!("{name} is disabled"),
                        RunnerStatus::Draining => format!("{name} is about to stop"),
                        RunnerStatus::Locked => format!("{name} is locked, because two hosts use its identity"),
                        RunnerStatus::Suspect | RunnerStatus::Offline => format!("{name} is offline ({})", since(seen)),
                        RunnerStatus::Healthy => format!("{name} is there"),
                    })
                    .collect();
                f.write_str(&list(&each))
            }
            Self::ToBegin(runner, seen) => write!(f, "{runner} was told and has not begun yet ({})", since(seen)),
            Self::ToStop(runner, seen) => {
                write!(f, "cancelling: {runner} was told and has not answered yet ({})", since(seen))
            }
            Self::Nothing => f.write_str("it is about to be handed out"),
        }
    }
}

impl Scheduler {
    /// Why an execution waits, section by section; nothing if it does not, or has ended.
    pub fn why_waiting(&self, id: ExecutionId) -> Vec<Waiting> {
        let (now, elapsed) = (self.now(), self.elapsed());
        let state = self.state();
        state.live.get(&id).map_or_else(Vec::new, |live| state.explain(live, now, elapsed))
    }

    /// Everything that waits, of one project or of all, the oldest first; at most `limit` entries.
    pub fn queue(
        &self,
        project: Option<&ProjectName>,
        limit: usize,
    ) -> Vec<(Waiting, ProjectName, remit_protocol::JobName)> {
        let (now, elapsed) = (self.now(), self.elapsed());
        let state = self.state();
        let mut lives: Vec<&Live> = state
            .live
            .values()
            .filter(|live| project.is_none_or(|project| live.head.project == *project))
            .collect();
        lives.sort_unstable_by_key(|live| live.id);
        let all = lives.into_iter().flat_map(|live| {
            let waiting = state.explain(live, now, elapsed).into_iter();
            waiting.map(|waiting| (waiting, live.head.project.clone(), live.head.job.clone()))
        });
        all.take(limit).collect()
    }
}

impl State {
    fn explain(&self, live: &Live, now: Timestamp, elapsed: std::time::Duration) -> Vec<Waiting> {
        let whole =
            |reason| vec![Waiting { execution: live.id, section: None, since: Some(made(live)), reason }];
        if live.state == ExecutionState::Queued {
            return whole(match live.head.not_before {
                Some(time) if time > now => Reason::NotBefore(time),
                _ => {
                    let ahead = self.ahead(live.id, &live.head, now);
                    let (most, until) = (live.head.at_once.unwrap_or_default(), live.head.queued_until);
                    Reason::Turn { going: ahead.going, most, place: ahead.waiting + 1, until }
                }
            });
        }
        let explained = live.sections.iter().filter_map(|section| {
            let reason = self.explain_section(live, section, now, elapsed)?;
            let ended = section.attempt.as_ref().map(|attempt| attempt.ended.unwrap_or(attempt.leased));
            let since = ended.or_else(|| Some(made(live)));
            Some(Waiting { execution: live.id, section: Some(section.record.place.number), since, reason })
        });
        explained.collect()
    }

    fn explain_section(
        &self,
        live: &Live,
        section: &Section,
        now: Timestamp,
        elapsed: std::time::Duration,
    ) -> Option<Reason> {
        let with = section.open_attempt().and_then(|attempt| self.runners.get(&attempt.runner));
        match section.record.state {
            SectionState::Ready => Some(match section.record.not_before {
                Some(time) if time > now => Reason::BackOff(time),
                _ => self.explain_match(&Requirement::of(&live.head), elapsed),
            }),
            SectionState::Leased => with.map(|known| Reason::ToBegin(known.runner.name.clone(), known.seen)),
            SectionState::Started if live.stop.is_some() => {
                with.map(|known| Reason::ToStop(known.runner.name.clone(), known.seen))
            }
            SectionState::InDoubt => Some(Reason::Person(Hold::Doubt)),
            SectionState::Gated => Some(asked(live, section)),
            SectionState::Delegated => Some(Reason::Children),
            SectionState::Waiting | SectionState::Started | SectionState::Ended(_) => None,
        }
    }

    fn explain_match(&self, requirement: &Requirement, elapsed: std::time::Duration) -> Reason {
        let tagged: Vec<&Known> =
            self.runners.values().filter(|known| requirement.has_tags(&known.runner)).collect();
        if tagged.is_empty() {
            return match requirement.tags.is_empty() {
                true => Reason::NoLocalRunner,
                false => Reason::NoRunner(requirement.tags.iter().cloned().collect()),
            };
        }
        let names = |runners: &[&Known]| {
            let mut names: Vec<RunnerName> = runners.iter().map(|known| known.runner.name.clone()).collect();
            names.sort_unstable();
            names
        };
        let assigned: Vec<&Known> = tagged
            .iter()
            .copied()
            .filter(|known| known.runner.projects.includes(&requirement.project))
            .collect();
        if assigned.is_empty() {
            return Reason::NotAssigned(requirement.project.clone(), names(&tagged));
        }
        let able: Vec<&Known> =
            assigned.iter().copied().filter(|known| requirement.can_open(known.runner.id)).collect();
        if able.is_empty() {
            return Reason::NotSealed(names(&assigned));
        }
        let assigned = able;
        let healthy: Vec<&Known> =
            assigned.iter().copied().filter(|known| known.status(elapsed) == RunnerStatus::Healthy).collect();
        if healthy.is_empty() {
            let mut all: Vec<_> = assigned
                .iter()
                .map(|known| (known.runner.name.clone(), known.status(elapsed), known.seen))
                .collect();
            all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            return Reason::NoneTakesWork(all);
        }
        if healthy.iter().all(|known| known.load() >= known.runner.slots) {
            return Reason::Busy(names(&healthy));
        }
        Reason::Nothing
    }
}

/// What a gate waits for.
fn asked(live: &Live, section: &Section) -> Reason {
    let at = live.sections.iter().position(|own| own.record.place.number == section.record.place.number);
    let gate = at.and_then(|at| Some((at, live.step(at)?)));
    let Some((at, Step { action: Action::Gate(gate), .. })) = gate else {
        return Reason::Person(Hold::Approval);
    };
    let agreed = u32::try_from(section.approvals.len()).unwrap_or(u32::MAX);
    Reason::Approval(live.question(at), gate.needed.saturating_sub(agreed))
}

/// When an execution was made: its id says.
fn made(live: &Live) -> Timestamp {
    Timestamp::from_millis(u64::try_from(live.id.to_u128() >> 80).unwrap_or_default())
}
