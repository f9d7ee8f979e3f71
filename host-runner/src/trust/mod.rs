//! Whom this runner believes: the owner's trust policy as it is now, and what was learnt that must not be unlearnt.
//!
//! The file is looked at before each section, so that a revocation holds without a restart. A file that cannot be used,
//! or an older one, is believed in no point: new work is refused until the owner has put it right. Before anything is
//! done on the strength of a newer policy, a newer signed job or a later time, the [`memory`] has it on disk.
//!
//! *Must not know:* components, attempts. *Invariant:* neither policy, revocations, signed jobs, what reviewers said against a
//! component nor time go back, whatever becomes of the files and the clock.

pub mod heads;
mod memory;

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use remit_protocol::{
    AttemptId, Digest, ExecutionId, RefusalCode, SectionNumber, Timestamp, assignment::ChildOf,
};
use remit_signing::{Refusal, TrustPolicy, VerifiedJob, policy::Wanted};

use self::memory::Memory;
use crate::{
    clock::Clock,
    start::{self, CannotStart},
    state::StateError,
};

/// How far the clock may fall behind the latest time that was seen here. Until then that time counts; beyond it the clock
/// is not believed at all.
const TOLERANCE: Duration = Duration::from_secs(24 * 3600);
/// After how long the latest time is written down again.
const TICK: Duration = Duration::from_secs(15 * 60);

/// The trust policy and the time, for one decision.
#[derive(Debug, Clone)]
pub struct Belief {
    /// Whose work is run.
    pub policy: Arc<TrustPolicy>,
    /// The time by which validity is judged: never before an earlier one.
    pub now: Timestamp,
    /// Another one since the last time: what was believed by the policy before has to be looked at again.
    pub edition: u64,
}

/// Why something is not believed.
#[derive(Debug, thiserror::Error)]
pub enum NotBelieved {
    /// By the policy, or because it would go back.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be remembered.
    #[error("what this runner believes could not be remembered: {0}")]
    State(#[from] StateError),
}

/// Whom this runner believes.
pub struct Trust {
    file: Option<PathBuf>,
    clock: Clock,
    held: Mutex<Held>,
}

struct Held {
    memory: Memory,
    policy: Result<Arc<TrustPolicy>, Refusal>,
    edition: u64,
    /// The file as it was when it was read.
    seen: Option<Stamp>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([i64; 4], [u64; 3]);

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let found = std::fs::metadata(file).ok()?;
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        Some(Self(times, [found.dev(), found.ino(), found.len()]))
    }
}

impl Trust {
    /// Believes by a policy that does not change, and remembers nothing: an author's own machine.
    pub fn fixed(policy: TrustPolicy, clock: Clock) -> Self {
        let held = Held { memory: Memory::nowhere(), policy: Ok(Arc::new(policy)), edition: 0, seen: None };
        Self { file: None, clock, held: Mutex::new(held) }
    }

    /// Believes by the policy in `file`, and remembers in the state directory `state`.
    ///
    /// # Errors
    /// The file cannot be used, or the memory is damaged. An older policy is no error here: everything is refused then.
    pub fn open(file: &Path, state: &Path, clock: Clock) -> Result<Self, CannotStart> {
        let memory = Memory::open(state)?;
        let seen = Stamp::of(file);
        let policy = start::trust(file)?;
        let mut held = Held { memory, policy: Err(unusable("It was not read yet.")), edition: 0, seen };
        held.take(policy)?;
        Ok(Self { file: Some(file.to_owned()), clock, held: Mutex::new(held) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy as its file says now, and the time.
    ///
    /// # Errors
    /// `E_POLICY` for a file that cannot be used, `E_ROLLBACK` for an older one, `E_CLOCK` for a clock that is far behind.
    pub fn belief(&self) -> Result<Belief, NotBelieved> {
        let mut held = self.held();
        if let Some(file) = &self.file {
            held.look(file)?;
        }
        let policy = held.policy.clone()?;
        let now = held.time((self.clock)())?;
        Ok(Belief { policy, now, edition: held.edition })
    }

    /// Takes note of what reviewers say against components, and gives all that was heard against the one of this digest.
    ///
    /// # Errors
    /// The memory cannot be written.
    pub fn hear(
        &self,
        verdicts: &[String],
        policy: &TrustPolicy,
        component: &Digest,
    ) -> Result<Vec<String>, NotBelieved> {
        self.held().memory.learn(|memory| {
            memory.hear(verdicts, policy);
            Ok(memory.against(component).cloned().collect())
        })
    }

    /// Takes note that a section of a signed run begins in this attempt; `once`: it must not begin in another one.
    ///
    /// # Errors
    /// `E_RUN_FORK`, `E_REPLAY`, or the memory cannot be written.
    pub fn begin(
        &self,
        run: &Wanted,
        section: SectionNumber,
        attempt: AttemptId,
        once: bool,
    ) -> Result<(), NotBelieved> {
        let mut held = self.held();
        let now = held.time((self.clock)())?;
        held.memory.learn(|memory| memory.begin(run, section, attempt, once, now))
    }

    /// The run that began here for this step of another run and this item.
    pub fn child_at(&self, place: &ChildOf) -> Option<ExecutionId> {
        self.held().memory.child_at(place)
    }

    /// Takes note of a signed job. The same note may be accepted any number of times.
    ///
    /// # Errors
    /// `E_ROLLBACK`, or the memory cannot be written.
    pub fn accept_job(&self, job: &VerifiedJob) -> Result<(), NotBelieved> {
        self.held().memory.learn(|memory| memory.accept_job(job))
    }
}

impl Held {
    /// Reads the file again if it has changed.
    fn look(&mut self, file: &Path) -> Result<(), StateError> {
        let stamp = Stamp::of(file);
        if stamp == self.seen && stamp.is_some() {
            return Ok(());
        }
        self.edition += 1;
        match start::trust(file) {
            Ok(policy) => self.take(policy)?,
            Err(error) => self.policy = Err(unusable(&error.to_string())),
        }
        match &self.policy {
            Ok(policy) => tracing::info!(version = policy.version(), "the trust policy was read again"),
            Err(refusal) => tracing::error!(%refusal, "the trust policy cannot be used: no new work begins"),
        }
        self.seen = stamp;
        Ok(())
    }

    /// Believes `policy`, unless it would go back.
    fn take(&mut self, policy: TrustPolicy) -> Result<(), StateError> {
        let admitted = self.memory.learn(|memory| memory.admit(policy));
        self.policy = match admitted {
            Ok(policy) => Ok(Arc::new(policy)),
            Err(NotBelieved::Refused(refusal)) => Err(refusal),
            Err(NotBelieved::State(error)) => return Err(error),
        };
        Ok(())
    }

    /// The time to go by where the clock says `local`.
    fn time(&mut self, local: Timestamp) -> Result<Timestamp, NotBelieved> {
        let latest = self.memory.latest();
        if latest.since(local) > TOLERANCE {
            let detail = format!("The clock says {local}, and this runner has seen {latest}.");
            return Err(Refusal::new(RefusalCode::Clock, detail).into());
        }
        if local.since(latest) >= TICK {
            self.memory.note_time(local)?;
        }
        Ok(local.max(latest))
    }
}

fn unusable(why: &str) -> Refusal {
    Refusal::new(RefusalCode::Policy, why)
}

#[cfg(test)]
mod tests;
