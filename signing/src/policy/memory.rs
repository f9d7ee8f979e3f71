//! What a runner remembers of its trust, so that taking a file back does not take back what was learnt.
//!
//! *Invariant:* the policy's version, the union of revocations, the newest version of each signed job and what reviewers
//! said against a component only grow; what of a signed run must not be begun twice is not. The caller keeps the memory
//! durably before it acts on what was accepted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use remit_protocol::{
    AttemptId, Digest, ExecutionId, RefusalCode, SectionNumber, StepIndex, Timestamp, assignment::ChildOf,
};
use serde::{Deserialize, Serialize};

use super::TrustPolicy;
use crate::{
    Refusal,
    run::Order,
    verify::{self, Signer, VerifiedJob, VerifiedRun},
};

/// Most signed jobs that are remembered.
const MAX_JOBS: usize = 100_000;
/// Most signed runs that are remembered at once.
const MAX_RUNS: usize = 100_000;
/// How long a run is remembered after its note has run out.
const RUN_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Most verdicts against components that are remembered: 4 MiB at most. A reviewer would have to give them all.
const MAX_AGAINST: usize = 1000;

/// The memory, as it is kept in the runner's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustMemory {
    policy: u64,
    /// Digests stand for the bytes of keys here: both are 32 bytes with one text form.
    keys: BTreeSet<Digest>,
    components: BTreeSet<Digest>,
    notes: BTreeSet<Digest>,
    jobs: BTreeMap<String, NewestJob>,
    /// Verdict notes against a component, by its digest: whole, so that the policy at hand judges them anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    against: BTreeMap<Digest, BTreeSet<String>>,
    /// Signed runs of which something began here, until their notes have long run out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    runs: BTreeMap<ExecutionId, KnownRun>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownRun {
    note: Digest,
    expires: Timestamp,
    /// The time of a schedule for which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    firing: Option<Firing>,
    /// The step of another run for which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    child_of: Option<ChildOf>,
    /// What must not be begun twice, and the attempt in which it was.
    begun: BTreeMap<SectionNumber, AttemptId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewestJob {
    version: u64,
    note: Digest,
}

/// A time of a schedule that an author signed with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firing {
    /// The execution that says that it is for this time.
    pub run: ExecutionId,
    /// `project/job`.
    pub job: String,
    /// The schedule.
    pub schedule: String,
    /// The time.
    pub due: Timestamp,
    /// The job's note.
    pub note: Digest,
}

/// Why a run may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Somebody signed it.
    Signed(VerifiedRun),
    /// The job's author signed a schedule, and this is one of its times.
    Scheduled(Firing),
    /// Somebody typed a secret for it, and nobody had to sign it.
    Typed(TypedRun),
    /// A step of another run wants it.
    Child(ChildRun),
}

/// A run that a step of another one wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildRun {
    /// The run.
    pub order: Order,
    /// Why the other one may begin.
    pub parent: Box<Wanted>,
    /// The step of the other one.
    pub step: StepIndex,
    /// For which item of the step's list.
    pub item: u32,
}

impl ChildRun {
    fn place(&self) -> ChildOf {
        ChildOf { execution: self.parent.id(), step: self.step, item: self.item }
    }

    /// What stands for this order, at this place of this family.
    fn identity(&self) -> Digest {
        let Self { order, parent, step, item } = self;
        let (order, parent) = (order.identity(), parent.identity());
        Digest::of(
            format!("remit/child/v1\norder {order}\nparent {parent}\nstep {step}\nitem {item}\n").as_bytes(),
        )
    }
}

/// A run for which a secret was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedRun {
    /// The run.
    pub order: Order,
    /// Until when the secrets can be opened.
    pub expires: Timestamp,
}

impl Wanted {
    /// How long after its time a run of a schedule may begin.
    pub const LATEST: Duration = Duration::from_secs(24 * 3600);

    /// The run's id.
    pub fn id(&self) -> ExecutionId {
        match self {
            Self::Signed(run) => run.note().order.run,
            Self::Scheduled(firing) => firing.run,
            Self::Typed(run) => run.order.run,
            Self::Child(run) => run.order.run,
        }
    }

    /// Whose signatures began it: nobody's for a schedule, or where nobody had to sign.
    pub fn signers(&self) -> BTreeSet<Signer> {
        match self {
            Self::Signed(run) => run.signers().clone(),
            Self::Child(run) => run.parent.signers(),
            Self::Scheduled(_) | Self::Typed(_) => BTreeSet::new(),
        }
    }

    fn identity(&self) -> Digest {
        match self {
            Self::Signed(run) => run.identity(),
            Self::Scheduled(firing) => firing.note,
            Self::Typed(run) => run.order.identity(),
            Self::Child(run) => run.identity(),
        }
    }

    fn expires(&self) -> Timestamp {
        match self {
            Self::Signed(run) => run.note().expires,
            Self::Scheduled(firing) => firing.due.plus(Self::LATEST),
            Self::Typed(run) => run.expires,
            Self::Child(run) => run.parent.expires(),
        }
    }

    fn firing(&self) -> Option<&Firing> {
        match self {
            Self::Signed(_) | Self::Typed(_) | Self::Child(_) => None,
            Self::Scheduled(firing) => Some(firing),
        }
    }

    fn child_of(&self) -> Option<ChildOf> {
        match self {
            Self::Signed(_) | Self::Typed(_) | Self::Scheduled(_) => None,
            Self::Child(run) => Some(run.place()),
        }
    }
}

impl TrustMemory {
    /// Takes note of a policy and gives it back with every revocation that was ever seen here.
    ///
    /// # Errors
    /// `E_ROLLBACK` if the policy is older than one that was seen before.
    pub fn admit(&mut self, mut policy: TrustPolicy) -> Result<TrustPolicy, Refusal> {
        if policy.version < self.policy {
            let detail = format!("The trust policy is version {}, seen was {}.", policy.version, self.policy);
            return Err(Refusal::new(RefusalCode::Rollback, detail));
        }
        self.policy = policy.version;
        let revoked = &mut policy.revoked;
        self.keys.extend(revoked.keys.iter().map(|key| Digest::from_bytes(*key)));
        self.components.extend(&revoked.components);
        self.notes.extend(&revoked.notes);
        revoked.keys.extend(self.keys.iter().map(|key| *key.as_bytes()));
        revoked.components.extend(&self.components);
        revoked.notes.extend(&self.notes);
        Ok(policy)
    }

    /// Takes note of what reviewers of `policy` say against components, so that nobody can withhold it later. What does
    /// not find room counts only while it is delivered.
    pub fn hear(&mut self, verdicts: &[String], policy: &TrustPolicy) {
        for (component, note) in verify::against(verdicts, policy) {
            if self.against.values().map(BTreeSet::len).sum::<usize>() < MAX_AGAINST {
                self.against.entry(component).or_default().insert(note.to_owned());
            }
        }
    }

    /// The verdicts against a component that were heard here.
    pub fn against(&self, component: &Digest) -> impl Iterator<Item = &String> {
        self.against.get(component).into_iter().flatten()
    }

    /// Takes note that a part of a run begins. What may be repeated freely (`once` is false) may begin again; anything else
    /// only in the attempt in which it began. A time of a schedule begins one run, and so does a step of a run that wants
    /// another one, for each item; the runs above a child are remembered with it.
    ///
    /// # Errors
    /// `E_RUN_FORK` if another order was accepted under the same id, `E_REPLAY` if this part, or this time of its schedule,
    /// or this step of its parent, was begun before.
    pub fn begin(
        &mut self,
        run: &Wanted,
        section: SectionNumber,
        attempt: AttemptId,
        once: bool,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        // A note that has run out is refused for that reason; beyond that, clocks differ by less than a day.
        self.runs.retain(|_, known| now.since(known.expires) < RUN_KEPT);
        let known = self.know(run)?;
        if !once {
            return Ok(());
        }
        let before = *known.begun.entry(section).or_insert(attempt);
        if before != attempt {
            let detail = format!("Section {section} of run {} was begun as attempt {before}.", run.id());
            return Err(Refusal::new(RefusalCode::Replay, detail));
        }
        Ok(())
    }

    /// The run that began here for this step of another run and this item.
    pub fn child_at(&self, place: &ChildOf) -> Option<ExecutionId> {
        self.runs.iter().find(|(_, known)| known.child_of.as_ref() == Some(place)).map(|(id, _)| *id)
    }

    /// What is known of a run, which from now on is this one.
    fn know(&mut self, run: &Wanted) -> Result<&mut KnownRun, Refusal> {
        if let Wanted::Child(child) = run {
            self.know(&child.parent)?;
        }
        let (id, note) = (run.id(), run.identity());
        if self.runs.len() >= MAX_RUNS && !self.runs.contains_key(&id) {
            let detail = format!("More than {MAX_RUNS} signed runs cannot be remembered.");
            return Err(Refusal::new(RefusalCode::Replay, detail));
        }
        self.nothing_else_began(run)?;
        let (expires, firing, child_of) = (run.expires(), run.firing().cloned(), run.child_of());
        let known = self.runs.entry(id).or_insert(KnownRun {
            note,
            expires,
            firing,
            child_of,
            begun: BTreeMap::new(),
        });
        if known.note != note {
            let detail = format!("Run {id} is known here by the note {}, and this is {note}.", known.note);
            return Err(Refusal::new(RefusalCode::RunFork, detail));
        }
        Ok(known)
    }

    /// Whether another run was begun for the same time of a schedule, or for the same step of another run.
    fn nothing_else_began(&self, run: &Wanted) -> Result<(), Refusal> {
        let replay = |detail: String| Err(Refusal::new(RefusalCode::Replay, detail));
        let others = || self.runs.iter().filter(|(id, _)| **id != run.id());
        if let Some(firing) = run.firing() {
            let time = |firing: &Firing| (firing.job.clone(), firing.schedule.clone(), firing.due);
            let same = |other: &KnownRun| other.firing.as_ref().map(time) == Some(time(firing));
            if let Some((other, _)) = others().find(|(_, known)| same(known)) {
                return replay(format!(
                    "The schedule {} began run {other} for {}.",
                    firing.schedule, firing.due
                ));
            }
        }
        if let Some(place) = run.child_of()
            && let Some((other, _)) = others().find(|(_, known)| known.child_of == Some(place))
        {
            let ChildOf { execution, step, item } = place;
            return replay(format!("Step {step} of run {execution} began run {other} for item {item}."));
        }
        Ok(())
    }

    /// Takes note of a signed job. The same note may be accepted any number of times.
    ///
    /// # Errors
    /// `E_ROLLBACK` if a newer version was accepted before, or another note with the same version.
    pub fn accept_job(&mut self, job: &VerifiedJob) -> Result<(), Refusal> {
        let name = job.note().name.to_string();
        let (version, note) = (job.note().version, job.identity());
        let rollback = |detail: String| Err(Refusal::new(RefusalCode::Rollback, detail));
        match self.jobs.get(&name) {
            Some(newest) if newest.version > version => {
                rollback(format!("{name} is at version {}; this is {version}.", newest.version))
            }
            Some(newest) if newest.version == version && newest.note != note => {
                rollback(format!("{name} has another note with version {version}."))
            }
            None if self.jobs.len() >= MAX_JOBS => {
                rollback(format!("More than {MAX_JOBS} signed jobs cannot be remembered."))
            }
            _ => {
                self.jobs.insert(name, NewestJob { version, note });
                Ok(())
            }
        }
    }
}
