//! Records of who did what: this orchestrator's own, and the signed ends of its runners'.
//!
//! The own record is in the store, line by line ([`Store::audit`]); a key of its own signs its end whenever somebody asks,
//! and once an hour the signed end goes into the transparency log, so that the record cannot be cut off unseen later. Runners
//! send the ends that they have signed of theirs. *Must not know:* what the entries mean. *Invariant:* of a runner's record
//! the longest end that was seen stays, and one that does not fit to it is evidence beside it.

use std::sync::Arc;

use remit_protocol::{RunnerId, Timestamp};
use remit_signing::{Refusal, SigningKey, Vkey, key::PublicKey, note, trail::TrailNote};

use crate::{
    registry::Log,
    store::{Kept, Store, StoreError, TrailHead},
};

/// The record, and the key that signs its end.
pub struct Trail {
    store: Arc<Store>,
    keeper: String,
    key: SigningKey,
    /// How many entries the end had that is in the transparency log.
    logged: tokio::sync::Mutex<u64>,
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trail({})", self.keeper)
    }
}

/// Why a runner's signed end is not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// It is not one of this runner.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is about another record.
    #[error("it is the end of the record of {0:?}")]
    Other(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Trail {
    /// The record in `store` of the orchestrator that calls itself `name`.
    pub fn new(store: Arc<Store>, name: &str, key: SigningKey) -> Self {
        let keeper = format!("orchestrator/{name}");
        Self { store, keeper, key, logged: tokio::sync::Mutex::default() }
    }

    /// Whose record it is, as its signed end says.
    pub fn keeper(&self) -> &str {
        &self.keeper
    }

    /// The key that signs its end.
    pub fn key(&self) -> Vkey {
        self.key.vkey()
    }

    /// Its end, signed now, and how many entries it has.
    ///
    /// # Errors
    /// The store's.
    pub async fn head(&self, now: Timestamp) -> Result<(u64, String), StoreError> {
        let head = self.store.audit_head().await?;
        let at = Timestamp::from_millis(now.as_secs() * 1000);
        let says = TrailNote { keeper: self.keeper.clone(), head, at };
        let failed = |error: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("the end of the record cannot be signed: {error}"))
        };
        let note = note::sign(&says.to_text(), &[&self.key]).map_err(|error| failed(&error))?;
        Ok((head.entries, String::from_utf8(note).map_err(|error| failed(&error))?))
    }

    /// Puts the signed end into the transparency log, if the record is longer than the last time.
    ///
    /// # Errors
    /// The store's.
    pub async fn log(&self, log: &Log, now: Timestamp) -> Result<(), StoreError> {
        let mut logged = self.logged.lock().await;
        let (entries, note) = self.head(now).await?;
        if entries > *logged {
            log.append(note.as_bytes()).await?;
            *logged = entries;
        }
        Ok(())
    }

    /// Keeps the end that a runner has signed of its own record, by its key; gives how many entries the longest one has.
    ///
    /// # Errors
    /// [`NotKept`].
    pub async fn keep(
        &self,
        runner: RunnerId,
        key: &PublicKey,
        note: String,
        now: Timestamp,
    ) -> Result<(Kept, u64), NotKept> {
        let says = TrailNote::verify(note.as_bytes(), key)?;
        if says.keeper != format!("runner/{runner}") {
            return Err(NotKept::Other(says.keeper));
        }
        let own = says.head.entries;
        let head = TrailHead { key: *key.as_bytes(), head: says.head, note, at: now, against: None };
        let kept = self.store.keep_trail(runner, head).await?;
        let longest = if let Kept::Against { entries, .. } = kept { entries } else { own };
        Ok((kept, longest))
    }
}
