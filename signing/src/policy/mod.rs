//! The trust policy: whose signatures count, for what, how many, and what is revoked.
//!
//! It belongs to the owner of a runner (or of a registry) and never arrives over the wire. [`TrustPolicy::from_toml`] is
//! the one way to it, and it refuses what would make a threshold mean less than it says: no key, threshold 0, more than
//! there are holders, one key under two names, a weak key. *Invariant:* thresholds count distinct holders; policy order
//! never matters.

mod memory;
mod read;
mod review;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU32,
};

use remit_protocol::{ComponentName, ComponentVersion, Digest, Namespace, ProjectName, Timestamp};

pub use memory::{ChildRun, Firing, TrustMemory, TypedRun, Wanted};
pub use review::{Exemption, Review};
pub use table::PolicyFault;

use crate::key::{KeyKind, KeyName, PublicKey, Vkey};

/// The person or machine that holds a key: what thresholds count. 1 to 64 printable characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(String);

impl Holder {
    fn new(text: &str) -> Option<Self> {
        let sound = !text.trim().is_empty()
            && text.len() <= 64
            && text.trim() == text
            && text.bytes().all(|b| matches!(b, b' '..=b'~'));
        sound.then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that the policy knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub vkey: Vkey,
    /// Who holds it.
    pub holder: Holder,
    /// What it may sign.
    pub kinds: BTreeSet<KeyKind>,
    /// First instant at which it counts.
    pub not_before: Option<Timestamp>,
    /// Last instant at which it counts.
    pub not_after: Option<Timestamp>,
}

impl TrustedKey {
    /// True if the key counts at `now`.
    pub fn valid_at(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|first| now >= first) && self.not_after.is_none_or(|last| now <= last)
    }
}

/// How many holders out of which keys have to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// Names of keys.
    pub keys: BTreeSet<KeyName>,
    /// Distinct holders needed; at most as many as hold `keys`.
    pub threshold: NonZeroU32,
}

/// Who may agree at gates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// Their keys, and how many distinct holders have to agree at least.
    pub quorum: Quorum,
    /// Holders who began the run do not count.
    pub another: bool,
}

/// Whether a proof of the transparency log has to come with a component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPolicy {
    /// True for `require = "required"`.
    pub required: bool,
    /// The logs whose checkpoints count.
    pub keys: Vec<Vkey>,
}

/// What is not believed any more, whoever signed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Keys, by their bytes.
    pub keys: BTreeSet<[u8; 32]>,
    /// Components, by digest.
    pub components: BTreeSet<Digest>,
    /// Notes, by the digest of their text.
    pub notes: BTreeSet<Digest>,
}

/// Whose work is run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicy {
    version: u64,
    keys: BTreeMap<KeyName, TrustedKey>,
    publishers: BTreeMap<Namespace, Quorum>,
    authors: BTreeMap<ProjectName, Quorum>,
    initiators: BTreeMap<ProjectName, Quorum>,
    approvers: BTreeMap<ProjectName, Approver>,
    peers: Vec<Vkey>,
    reviews: Vec<Review>,
    exemptions: Vec<Exemption>,
    log: LogPolicy,
    revoked: Revoked,
    minimum: BTreeMap<ComponentName, ComponentVersion>,
}

impl TrustPolicy {
    /// Reads `trust.toml`.
    ///
    /// # Errors
    /// Every mistake that was found, in the order of the file, each with its place and a remedy.
    pub fn from_toml(text: &str) -> Result<Self, Vec<PolicyFault>> {
        read::policy(text)
    }

    /// A policy that believes nobody.
    pub fn nobody() -> Self {
        Self {
            version: 0,
            keys: BTreeMap::new(),
            publishers: BTreeMap::new(),
            authors: BTreeMap::new(),
            initiators: BTreeMap::new(),
            approvers: BTreeMap::new(),
            peers: Vec::new(),
            reviews: Vec::new(),
            exemptions: Vec::new(),
            log: LogPolicy::default(),
            revoked: Revoked::default(),
            minimum: BTreeMap::new(),
        }
    }

    /// The policy's own version; it only rises.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The known keys, by name.
    pub fn keys(&self) -> impl Iterator<Item = &TrustedKey> {
        self.keys.values()
    }

    /// The known key of this name.
    pub fn key(&self, name: &KeyName) -> Option<&TrustedKey> {
        self.keys.get(name)
    }

    /// Who may sign components of a namespace.
    pub fn publisher(&self, namespace: &str) -> Option<&Quorum> {
        self.publishers.iter().find(|(own, _)| own.as_str() == namespace).map(|(_, quorum)| quorum)
    }

    /// The namespaces with a publisher.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.publishers.keys()
    }

    /// Who may sign jobs of a project.
    pub fn author(&self, project: &ProjectName) -> Option<&Quorum> {
        self.authors.get(project)
    }

    /// Who may begin runs of the jobs of a project.
    pub fn initiator(&self, project: &ProjectName) -> Option<&Quorum> {
        self.initiators.get(project)
    }

    /// Who may agree at the gates of a project's jobs.
    pub fn approver(&self, project: &ProjectName) -> Option<&Approver> {
        self.approvers.get(project)
    }

    /// The other runners whose results count.
    pub fn peers(&self) -> impl Iterator<Item = &Vkey> {
        self.peers.iter()
    }

    /// What reviewers have to stand for, of the components of a namespace.
    pub fn reviews_of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Review> {
        self.reviews.iter().filter(move |review| review.is_about(namespace))
    }

    /// What runs without its review: those that have run out as well.
    pub fn exemptions(&self) -> &[Exemption] {
        &self.exemptions
    }

    /// The same policy without what it asks of reviewers: for a registry, which takes in what is yet to be reviewed.
    #[must_use]
    pub fn before_review(mut self) -> Self {
        self.reviews.clear();
        self.exemptions.clear();
        self
    }

    /// What is asked of the transparency log.
    pub fn log(&self) -> &LogPolicy {
        &self.log
    }

    /// What is revoked.
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// The least version of a component that is accepted.
    pub fn minimum(&self, name: &ComponentName) -> Option<&ComponentVersion> {
        self.minimum.get(name)
    }

    /// True if `key` is revoked.
    pub fn revokes(&self, key: &PublicKey) -> bool {
        self.revoked.keys.contains(key.as_bytes())
    }
}

/// The lines of a trust policy that make `key` the only publisher of `namespace`: for the policy that comes with a
/// package, and for a person to paste.
pub fn publisher_lines(namespace: &Namespace, key: &Vkey, holder: &Holder) -> String {
    format!(
        "[[key]]\nvkey = \"{key}\"\nholder = \"{holder}\"\nkinds = [\"component\"]\n\n\
         [[publisher]]\nnamespace = \"{namespace}\"\nkeys = [\"{}\"]\nthreshold = 1\n",
        key.name()
    )
}

impl std::str::FromStr for Holder {
    type Err = InvalidHolder;
    fn from_str(text: &str) -> Result<Self, InvalidHolder> {
        Self::new(text).ok_or(InvalidHolder)
    }
}

/// A text that names no holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a holder is 1 to 64 printable ASCII characters, without spaces around them")]
pub struct InvalidHolder;
