//! Matching: a section goes to a runner of its project that carries all tags and has a free slot; the least loaded
//! first, and of these who was idle for longest.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use remit_protocol::{AttemptId, ExecutionId, ProjectName, RunnerId, SectionNumber, Tag, Timestamp};

use super::{State, commit::Drafts};
use crate::{
    execution::{HandOut, Head, SectionState},
    store::Runner,
};

/// Pools that are kept although nothing waits in them.
const KEPT: usize = 256;

/// What a runner has to be for a section.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Requirement {
    pub(super) project: ProjectName,
    /// All of them; none: the local runner.
    pub(super) tags: BTreeSet<Tag>,
    /// One of these, for whom typed secrets are sealed; none: any.
    pub(super) among: BTreeSet<RunnerId>,
}

impl Requirement {
    pub(super) fn of(head: &Head) -> Self {
        let among = head.sealed.as_ref().map(|to| to.runners.keys().copied().collect());
        Self { project: head.project.clone(), tags: head.tags.clone(), among: among.unwrap_or_default() }
    }

    pub(super) fn has_tags(&self, runner: &Runner) -> bool {
        if self.tags.is_empty() { runner.local } else { self.tags.is_subset(&runner.tags) }
    }

    pub(super) fn fits(&self, runner: &Runner) -> bool {
        self.has_tags(runner) && runner.projects.includes(&self.project) && self.can_open(runner.id)
    }

    pub(super) fn can_open(&self, runner: RunnerId) -> bool {
        self.among.is_empty() || self.among.contains(&runner)
    }
}

/// Where a runner stands among those that may have work: the smallest is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Slots in use, in thousandths.
    pub(super) load: u64,
    /// Counts hand-outs.
    pub(super) used: u64,
}

#[derive(Debug, Default)]
struct Pool {
    available: BTreeSet<(Rank, RunnerId)>,
    ready: BTreeSet<(ExecutionId, SectionNumber)>,
}

/// One pool for each requirement that there is: who could, and what waits.
#[derive(Debug, Default)]
pub(super) struct Pools {
    pools: HashMap<Requirement, Pool>,
    hand_outs: u64,
}

impl Pools {
    /// Moves a runner from one rank to another in every pool that it belongs to.
    pub(super) fn place(&mut self, runner: &Runner, from: Option<Rank>, to: Option<Rank>) {
        for (requirement, pool) in &mut self.pools {
            if requirement.fits(runner) {
                if let Some(rank) = from {
                    pool.available.remove(&(rank, runner.id));
                }
                pool.available.extend(to.map(|rank| (rank, runner.id)));
            }
        }
    }
}

impl State {
    fn pool(&mut self, requirement: &Requirement) -> &mut Pool {
        if !self.pools.pools.contains_key(requirement) {
            if self.pools.pools.len() >= KEPT {
                self.pools.pools.retain(|_, pool| !pool.ready.is_empty());
            }
            let ranked = self.runners.values().filter(|known| requirement.fits(&known.runner));
            let available = ranked.filter_map(|known| Some((known.rank?, known.runner.id))).collect();
            let pool = Pool { available, ready: BTreeSet::new() };
            self.pools.pools.insert(requirement.clone(), pool);
        }
        self.pools.pools.entry(requirement.clone()).or_default()
    }

    /// Notes that a section waits for a runner, or does so no more.
    pub(super) fn note_ready(
        &mut self,
        id: ExecutionId,
        number: SectionNumber,
        waits: Option<Timestamp>,
        now: Timestamp,
    ) {
        let Some(live) = self.live.get(&id) else { return };
        let requirement = Requirement::of(&live.head);
        self.delayed.retain(|(_, execution, section)| (*execution, *section) != (id, number));
        let pool = self.pool(&requirement);
        match waits {
            Some(time) if time > now => {
                pool.ready.remove(&(id, number));
                self.delayed.insert((time, id, number));
            }
            Some(_) => {
                pool.ready.insert((id, number));
            }
            None => {
                pool.ready.remove(&(id, number));
            }
        }
    }

    /// Takes an execution out of its pool.
    pub(super) fn forget_ready(&mut self, id: ExecutionId, head: &Head) {
        self.delayed.retain(|(_, execution, _)| *execution != id);
        if let Some(pool) = self.pools.pools.get_mut(&Requirement::of(head)) {
            let own: Vec<_> =
                pool.ready.range((id, SectionNumber(0))..=(id, SectionNumber(u32::MAX))).copied().collect();
            for entry in own {
                pool.ready.remove(&entry);
            }
        }
    }

    /// Hands out what waits to whoever is free; what waits of one execution only, if one is given.
    pub(super) fn dispatch(
        &mut self,
        only: Option<ExecutionId>,
        drafts: &mut Drafts,
        mut new_attempt: impl FnMut() -> AttemptId,
        now: Timestamp,
        elapsed: Duration,
    ) {
        let busy: Vec<Requirement> = self
            .pools
            .pools
            .iter()
            .filter(|(_, pool)| !pool.ready.is_empty() && !pool.available.is_empty())
            .map(|(requirement, _)| requirement.clone())
            .collect();
        for requirement in busy {
            while let Some(pool) = self.pools.pools.get_mut(&requirement)
                && let (Some((id, number)), Some((_, runner))) =
                    (pool.ready.first().copied(), pool.available.first().copied())
                && only.is_none_or(|only| only == id)
            {
                pool.ready.remove(&(id, number));
                self.hand_out((id, number), runner, new_attempt(), drafts, (now, elapsed));
            }
        }
    }

    fn hand_out(
        &mut self,
        (id, number): (ExecutionId, SectionNumber),
        runner: RunnerId,
        attempt: AttemptId,
        drafts: &mut Drafts,
        (now, elapsed): (Timestamp, Duration),
    ) {
        let (Some(live), Some(known)) = (self.live.get_mut(&id), self.runners.get_mut(&runner)) else {
            return;
        };
        let Some(at) = live.sections.iter().position(|section| {
            section.record.place.number == number && section.record.state == SectionState::Ready
        }) else {
            return;
        };
        let to = HandOut { attempt, runner, session: known.runner.session };
        self.pools.hand_outs += 1;
        known.used = self.pools.hand_outs;
        let draft = drafts.of(id);
        if let Err(illegal) = live.hand_out(at, to, now, draft) {
            tracing::error!(%illegal, execution = %id, "a section could not be handed out");
            return;
        }
        known.attempts.insert(attempt);
        self.attempts.insert(attempt, id);
        self.rerank(runner, elapsed);
    }

    /// True if something waits that somebody who is free could do.
    pub(super) fn has_matches(&self) -> bool {
        self.pools.pools.values().any(|pool| !pool.ready.is_empty() && !pool.available.is_empty())
    }
}
