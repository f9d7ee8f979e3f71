//! What a runner remembers of its trust, so that taking a file back does not take back what was learnt.
//!
//! *Invariant:* the policy's version, the union of revocations, the newest version of each signed job and what reviewers
//! said against a component only grow. The caller keeps the memory durably before it acts on what was accepted.

use std::collections::{BTreeMap, BTreeSet};

use remit_protocol::{Digest, RefusalCode};
use serde::{Deserialize, Serialize};

use super::TrustPolicy;
use crate::{
    Refusal,
    verify::{self, VerifiedJob},
};

/// Most signed jobs that are remembered.
const MAX_JOBS: usize = 100_000;
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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewestJob {
    version: u64,
    note: Digest,
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
