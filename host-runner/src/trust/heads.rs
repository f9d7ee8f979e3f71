//! What this runner has seen of transparency logs: the newest head of each, and what did not agree with it.
//!
//! A proof shows that a note is in *a* history of the log; that it is the history which this runner saw before is shown by
//! a consistency proof between the proof's head and the remembered one, larger or smaller. Two heads that cannot be
//! brought together are kept as evidence, and from then on nothing that needs the log is believed, through restarts,
//! until a person has moved the evidence away. *Invariant:* the remembered head is on disk before anything is believed on
//! the strength of it, and never gets smaller.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use remit_protocol::{Digest, RefusalCode};
use remit_signing::{
    Refusal, Vkey,
    log::{Checkpoint, leaf_hash, verify_consistency},
    verify::{self, Published},
};
use serde::{Deserialize, Serialize};

use super::Belief;
use crate::{
    orchestrator::CallError,
    state::{StateError, make_private, read_private, write_private},
};

const HEADS: &str = "heads.json";
const FORK: &str = "fork";
/// Largest file of heads: a checkpoint for each log of the policy.
const MAX_FILE: u64 = 1 << 20;
/// Heads that were found to agree with the remembered one, and notes that were found in the log: as many are kept in mind.
const MOST: usize = 4096;

/// Where consistency proofs and proofs come from.
#[async_trait]
pub trait History: Send + Sync {
    /// The hashes that lead from the log's head of `older` leaves to that of `newer`.
    async fn consistency(&self, older: u64, newer: u64) -> Result<Vec<Digest>, CallError>;
    /// The proof of the note with this leaf hash, under the log's newest head.
    async fn proof(&self, leaf: Digest) -> Result<String, CallError>;
}

/// Why a proof's head is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotShown {
    /// The log does not show what it has to.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It could not be remembered.
    #[error("the head of the transparency log could not be remembered: {0}")]
    State(#[from] StateError),
}

/// The remembered heads.
pub struct Heads {
    /// Absent: nothing is kept, for an author's own machine.
    directory: Option<PathBuf>,
    forked: AtomicBool,
    memory: tokio::sync::Mutex<BTreeMap<String, Checkpoint>>,
    agreed: Mutex<HashMap<Agreed, u64>>,
}

/// What was verified in this process.
#[derive(PartialEq, Eq, Hash)]
enum Agreed {
    /// That a log's head is in the history which is remembered.
    Head { log: String, size: u64, root: Digest },
    /// That a note is in it.
    Leaf(Digest),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeads {
    v: u32,
    /// The newest checkpoint by the log's verification key.
    heads: BTreeMap<String, String>,
}

/// Where the evidence of a fork lies, if there is any in the state directory `state`.
pub fn evidence(state: &Path) -> Option<PathBuf> {
    Some(state.join("log").join(FORK)).filter(|directory| directory.exists())
}

impl Heads {
    /// Remembers nothing beyond this process.
    pub fn nowhere() -> Self {
        Self {
            directory: None,
            forked: AtomicBool::new(false),
            memory: tokio::sync::Mutex::default(),
            agreed: Mutex::default(),
        }
    }

    /// Remembers in the state directory `state`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(state: &Path) -> Result<Self, StateError> {
        let directory = state.join("log");
        make_private(&directory)?;
        let path = directory.join(HEADS);
        let damaged = |why: String| StateError::Damaged { path: path.clone(), why };
        let mut memory = BTreeMap::new();
        if let Some(bytes) = read_private(&path, MAX_FILE)? {
            let raw: RawHeads = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
            if raw.v != 1 {
                return Err(damaged(format!("its form is {}, and this version knows 1", raw.v)));
            }
            for (log, note) in raw.heads {
                let key: Vkey = log.parse().map_err(|error| damaged(format!("{error}")))?;
                let head = Checkpoint::verify(note.as_bytes(), &[key]);
                memory.insert(log, head.map_err(|error| damaged(error.to_string()))?);
            }
        }
        let forked = AtomicBool::new(evidence(state).is_some());
        let memory = tokio::sync::Mutex::new(memory);
        Ok(Self { directory: Some(directory), forked, memory, agreed: Mutex::default() })
    }

    /// Refuses if a log has shown two histories here and nobody has looked into it.
    ///
    /// # Errors
    /// `E_LOG_FORK`.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.forked.load(Ordering::Acquire) { Err(self.fork()) } else { Ok(()) }
    }

    fn fork(&self) -> Refusal {
        let place = self.directory.as_ref().map(|directory| directory.join(FORK).display().to_string());
        let place = place.unwrap_or_else(|| "nowhere: this runner keeps no state".to_owned());
        Refusal { code: RefusalCode::LogFork, detail: format!("The two checkpoints are in {place}.") }
    }

    fn knows(&self, what: &Agreed, edition: u64) -> bool {
        let agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        agreed.get(what) == Some(&edition)
    }

    fn learn(&self, what: Agreed, edition: u64) {
        let mut agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        if agreed.len() >= MOST {
            agreed.clear();
        }
        agreed.insert(what, edition);
    }

    /// Takes the head under which something was proven: it has to belong to the history that is remembered, and is
    /// remembered if it is larger. The first head of a log is taken as it is.
    ///
    /// # Errors
    /// `E_LOG_PROOF` if the log does not show how the two go together, `E_LOG_FORK` if they do not; or [`NotShown`].
    pub async fn admit(&self, shown: &Checkpoint, history: &dyn History) -> Result<(), NotShown> {
        self.check()?;
        let log = shown.log().to_string();
        let place = Agreed::Head { log: log.clone(), size: shown.size(), root: shown.root() };
        if self.knows(&place, 0) {
            return Ok(());
        }
        let mut memory = self.memory.lock().await;
        self.check()?;
        if let Some(known) = memory.get(&log).cloned() {
            self.compare(&known, shown, history).await?;
            if shown.size() > known.size() {
                self.remember(&mut memory, log, shown)?;
            }
        } else {
            self.remember(&mut memory, log, shown)?;
        }
        self.learn(place, 0);
        Ok(())
    }

    async fn compare(
        &self,
        known: &Checkpoint,
        shown: &Checkpoint,
        history: &dyn History,
    ) -> Result<(), NotShown> {
        let (older, newer) = if known.size() <= shown.size() { (known, shown) } else { (shown, known) };
        let agree = if older.size() == newer.size() {
            older.root() == newer.root()
        } else if older.size() == 0 {
            // The empty log is where every log begins.
            true
        } else {
            let hashes = match history.consistency(older.size(), newer.size()).await {
                Err(CallError::Refused { status: 404, problem }) => {
                    let detail = format!(
                        "The log does not show how its heads of {} and {} leaves go together: {}",
                        older.size(),
                        newer.size(),
                        problem.message
                    );
                    return Err(Refusal { code: RefusalCode::LogProof, detail }.into());
                }
                hashes => hashes?,
            };
            let (first, second) = (older.root(), newer.root());
            verify_consistency(older.size(), newer.size(), &hashes, &first, &second)
        };
        if agree {
            return Ok(());
        }
        self.forked.store(true, Ordering::Release);
        if let Err(error) = self.keep_evidence(known, shown) {
            tracing::error!(%error, remembered = known.note(), shown = shown.note(), "the evidence of a forked log is not on disk");
        }
        Err(self.fork().into())
    }

    /// Both checkpoints, in a directory that is there as a whole or not at all.
    fn keep_evidence(&self, known: &Checkpoint, shown: &Checkpoint) -> Result<(), StateError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let (fresh, kept) = (directory.join(".new-fork"), directory.join(FORK));
        let fault = |source| StateError::Io { path: kept.clone(), source };
        make_private(&fresh)?;
        write_private(&fresh.join("remembered.checkpoint"), known.note().as_bytes())?;
        write_private(&fresh.join("shown.checkpoint"), shown.note().as_bytes())?;
        fs::rename(&fresh, &kept).map_err(fault)?;
        fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(fault)
    }

    fn remember(
        &self,
        memory: &mut BTreeMap<String, Checkpoint>,
        log: String,
        head: &Checkpoint,
    ) -> Result<(), StateError> {
        let mut after = memory.clone();
        after.insert(log, head.clone());
        if let Some(directory) = &self.directory {
            let path = directory.join(HEADS);
            let heads = after.iter().map(|(log, head)| (log.clone(), head.note().to_owned())).collect();
            let bytes = serde_json::to_vec_pretty(&RawHeads { v: 1, heads })
                .map_err(|error| StateError::Damaged { path: path.clone(), why: error.to_string() })?;
            write_private(&path, &bytes)?;
        }
        *memory = after;
        Ok(())
    }

    /// Where the policy requires a log: the note has to be in it, in the history that is remembered. For notes that do not
    /// bring their proof along; it is asked for once.
    ///
    /// # Errors
    /// `E_LOG_PROOF`, `E_LOG_FORK`, or [`NotShown`].
    pub async fn require(&self, note: &[u8], belief: &Belief, history: &dyn History) -> Result<(), NotShown> {
        if !belief.policy.log().required {
            return Ok(());
        }
        self.check()?;
        let leaf = leaf_hash(note);
        if self.knows(&Agreed::Leaf(leaf), belief.edition) {
            return Ok(());
        }
        let proof = match history.proof(leaf).await {
            Err(CallError::Refused { status: 404, .. }) => None,
            proof => Some(proof?),
        };
        let published = Published { note, proof: proof.as_ref().map(String::as_bytes), verdicts: &[] };
        if let Some(proven) = verify::logged(&published, &belief.policy)? {
            self.admit(&proven.checkpoint, history).await?;
        }
        self.learn(Agreed::Leaf(leaf), belief.edition);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::endpoint::Problem;
    use remit_signing::{
        KeyName, SigningKey, TrustPolicy,
        log::{Tree, proof_bytes, sign_checkpoint},
    };

    use super::*;

    fn key(name: &str) -> SigningKey {
        SigningKey::from_seed(KeyName::new(name).unwrap(), Digest::of(name.as_bytes()).as_bytes())
    }

    /// A log that answers by its own tree, whatever it signed elsewhere.
    struct Log {
        key: SigningKey,
        tree: Tree,
        withholds: bool,
    }

    fn refused() -> CallError {
        let problem = Problem {
            code: "not-found".to_owned(),
            message: "There is none.".to_owned(),
            remedy: String::new(),
            faults: Vec::new(),
        };
        CallError::Refused { status: 404, problem: Box::new(problem) }
    }

    #[async_trait]
    impl History for Log {
        async fn consistency(&self, older: u64, newer: u64) -> Result<Vec<Digest>, CallError> {
            let proof = self.tree.prove_consistency(older, newer);
            proof.filter(|_| !self.withholds).ok_or_else(refused)
        }

        async fn proof(&self, leaf: Digest) -> Result<String, CallError> {
            let size = self.tree.size();
            let at = (0..size).find(|at| {
                let proof = self.tree.prove_inclusion(*at, size).unwrap();
                remit_signing::log::verify_inclusion(&leaf, *at, size, &proof, &self.tree.root())
            });
            let at = at.filter(|_| !self.withholds).ok_or_else(refused)?;
            let head = sign_checkpoint(&self.key, size, &self.tree.root()).unwrap();
            let proof = proof_bytes(at, &self.tree.prove_inclusion(at, size).unwrap(), &head);
            Ok(String::from_utf8(proof).unwrap())
        }
    }

    impl Log {
        fn new(notes: &[&str]) -> Self {
            let mut log = Self { key: key("log.example"), tree: Tree::default(), withholds: false };
            log.append(notes);
            log
        }

        fn append(&mut self, notes: &[&str]) {
            for note in notes {
                self.tree.append(leaf_hash(note.as_bytes()));
            }
        }

        fn head_at(&self, size: u64) -> Checkpoint {
            let note = sign_checkpoint(&self.key, size, &self.tree.root_of(size).unwrap()).unwrap();
            Checkpoint::verify(&note, &[self.key.vkey()]).unwrap()
        }

        fn head(&self) -> Checkpoint {
            self.head_at(self.tree.size())
        }
    }

    fn code(result: Result<(), NotShown>) -> Result<(), &'static str> {
        result.map_err(|error| match error {
            NotShown::Refused(refusal) => refusal.code.code(),
            other => panic!("{other}"),
        })
    }

    #[tokio::test]
    async fn a_log_that_grows_is_followed_through_restarts() {
        let state = tempfile::tempdir().unwrap();
        let mut log = Log::new(&["a", "b", "c"]);
        let heads = Heads::open(state.path()).unwrap();
        heads.admit(&log.head(), &log).await.unwrap();
        log.append(&["d", "e"]);
        heads.admit(&log.head(), &log).await.unwrap();
        // An older head of the same history is one of its heads still.
        heads.admit(&log.head_at(4), &log).await.unwrap();
        drop(heads);
        let heads = Heads::open(state.path()).unwrap();
        assert_eq!(heads.memory.lock().await.values().map(Checkpoint::size).collect::<Vec<_>>(), [5]);
        // What it knows already it does not ask for.
        log.withholds = true;
        heads.admit(&log.head(), &log).await.unwrap();
        let found = code(heads.admit(&log.head_at(3), &log).await);
        assert_eq!(found, Err("E_LOG_PROOF"));
        assert_eq!(evidence(state.path()), None);
    }

    async fn check_fork(before: &[&str], after: &[&str], expect: &'static str) {
        let state = tempfile::tempdir().unwrap();
        let heads = Heads::open(state.path()).unwrap();
        let (log, other) = (Log::new(before), Log::new(after));
        heads.admit(&log.head(), &log).await.unwrap();
        assert_eq!(code(heads.admit(&other.head(), &other).await), Err(expect), "{before:?} {after:?}");
        if expect == "E_LOG_FORK" {
            // From now on the true history does not help either, nor does a restart.
            assert_eq!(code(heads.admit(&log.head(), &log).await), Err("E_LOG_FORK"));
            let heads = Heads::open(state.path()).unwrap();
            assert_eq!(code(heads.admit(&log.head(), &log).await), Err("E_LOG_FORK"));
            let kept = evidence(state.path()).unwrap();
            let read = |name: &str| fs::read_to_string(kept.join(name)).unwrap();
            assert_eq!(read("remembered.checkpoint"), log.head().note());
            assert_eq!(read("shown.checkpoint"), other.head().note());
            // A person has looked into it.
            fs::rename(&kept, state.path().join("for-the-police")).unwrap();
            let heads = Heads::open(state.path()).unwrap();
            heads.admit(&log.head(), &log).await.unwrap();
        }
    }

    #[tokio::test]
    async fn two_histories_are_a_fork() {
        check_fork(&["a", "b"], &["a", "x"], "E_LOG_FORK").await;
        check_fork(&["a", "b"], &["a", "x", "c"], "E_LOG_FORK").await;
        check_fork(&["a", "b", "c"], &["x", "b", "c", "d", "e", "f", "g", "h"], "E_LOG_FORK").await;
        // A log that went back does not have the size that is remembered.
        check_fork(&["a", "b", "c"], &["a", "b"], "E_LOG_PROOF").await;
        check_fork(&["a", "b", "c"], &["x"], "E_LOG_PROOF").await;
    }

    #[tokio::test]
    async fn each_key_is_a_log_of_its_own() {
        let heads = Heads::nowhere();
        let one = Log::new(&["a", "b"]);
        let mut two = Log::new(&["x", "y"]);
        two.key = key("log.other");
        heads.admit(&one.head(), &one).await.unwrap();
        heads.admit(&two.head(), &two).await.unwrap();
    }

    fn belief(require: &str) -> Belief {
        let log = key("log.example").vkey();
        let text = format!("version = 1\n[log]\nrequire = \"{require}\"\nkeys = [\"{log}\"]");
        let policy = TrustPolicy::from_toml(&text).unwrap();
        let now = remit_protocol::Timestamp::from_millis(1_795_000_000_000);
        Belief { policy: std::sync::Arc::new(policy), now, edition: 0 }
    }

    #[tokio::test]
    async fn a_note_without_its_proof_is_asked_for_once() {
        let heads = Heads::nowhere();
        let mut log = Log::new(&["a", "b", "c"]);
        heads.require(b"b", &belief("required"), &log).await.unwrap();
        assert_eq!(code(heads.require(b"z", &belief("required"), &log).await), Err("E_LOG_PROOF"));
        log.withholds = true;
        heads.require(b"b", &belief("required"), &log).await.unwrap();
        assert_eq!(code(heads.require(b"c", &belief("required"), &log).await), Err("E_LOG_PROOF"));
        heads.require(b"c", &belief("off"), &log).await.unwrap();
        // Another policy is another question.
        let later = Belief { edition: 1, ..belief("required") };
        assert_eq!(code(heads.require(b"b", &later, &log).await), Err("E_LOG_PROOF"));
        // A proof of somebody else's log.
        let mut foreign = Log::new(&["d"]);
        foreign.key = key("log.other");
        assert_eq!(code(heads.require(b"d", &belief("required"), &foreign).await), Err("E_LOG_PROOF"));
    }

    #[test]
    fn a_damaged_memory_is_no_memory() {
        let state = tempfile::tempdir().unwrap();
        drop(Heads::open(state.path()).unwrap());
        let path = state.path().join("log").join(HEADS);
        let log = Log::new(&["a"]);
        let note = log.head().note().replace("\n1\n", "\n2\n");
        let raw = RawHeads { v: 1, heads: BTreeMap::from([(log.key.vkey().to_string(), note)]) };
        for bytes in [b"{}".to_vec(), serde_json::to_vec(&raw).unwrap()] {
            write_private(&path, &bytes).unwrap();
            assert!(matches!(Heads::open(state.path()), Err(StateError::Damaged { .. })));
        }
    }
}
