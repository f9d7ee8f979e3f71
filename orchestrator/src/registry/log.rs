//! The transparency log of this orchestrator: every note that it serves is in it, in the order in which they came.
//!
//! Whoever is about to serve a note calls [`Log::append`] first; the note is in the log, under a signed head, on disk, when
//! that comes back. Leaves are whole notes with their signatures: the same text under more signatures is another leaf,
//! since a proof is about the very bytes at hand. *Invariant:* nothing unlogged is served, and no two heads are signed for
//! one size.

use std::sync::Arc;

use remit_protocol::Digest;
use remit_signing::{
    SigningKey, Vkey,
    log::{Checkpoint, leaf_hash, proof_bytes, sign_checkpoint, tile},
};
use tokio::sync::Semaphore;

use crate::store::{Store, StoreError};

/// Bundles of leaves that are in memory at once: each has at most 16 MiB.
const BUNDLES: usize = 4;

/// The log.
pub struct Log {
    store: Arc<Store>,
    key: Arc<SigningKey>,
    bundles: Semaphore,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({})", self.key.name())
    }
}

impl Log {
    /// The log in `store`, whose heads `key` signs. What the store serves and the log does not have is appended, and a
    /// head that another key signed is signed anew.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(store: Arc<Store>, key: SigningKey) -> Result<Self, StoreError> {
        let log = Self { store, key: Arc::new(key), bundles: Semaphore::new(BUNDLES) };
        log.append_all(Vec::new()).await?;
        let signed = Checkpoint::verify(log.checkpoint().await?.as_bytes(), &[log.key()]);
        if signed.is_err() {
            log.store.sign_log_head(log.sign()).await?;
        }
        loop {
            let unlogged = log.store.unlogged_notes().await?;
            if unlogged.is_empty() {
                return Ok(log);
            }
            log.append_all(unlogged).await?;
        }
    }

    fn sign(&self) -> impl FnOnce(u64, &Digest) -> Result<String, StoreError> + Send + 'static {
        let key = Arc::clone(&self.key);
        move |size, root| {
            let failed = |error: &dyn std::fmt::Display| {
                StoreError::Unavailable(format!("the log's head cannot be signed: {error}"))
            };
            let note = sign_checkpoint(&key, size, root).map_err(|error| failed(&error))?;
            String::from_utf8(note).map_err(|error| failed(&error))
        }
    }

    /// The key whose signature stands under the log's heads; its name is the log's origin.
    pub fn key(&self) -> Vkey {
        self.key.vkey()
    }

    /// Appends a note, unless these very bytes are there, and gives its place. Calls at the same time share a transaction.
    ///
    /// # Errors
    /// The store's: then the note is not in the log, and must not be served.
    pub async fn append(&self, note: &[u8]) -> Result<u64, StoreError> {
        let places = self.append_all(vec![note.to_vec()]).await?;
        places.first().copied().ok_or_else(|| StoreError::Unavailable("the log took nothing".to_owned()))
    }

    /// Appends several notes under one head and gives the place of each.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append_all(&self, notes: Vec<Vec<u8>>) -> Result<Vec<u64>, StoreError> {
        self.store.append_notes(notes, self.sign()).await
    }

    /// The newest signed head.
    ///
    /// # Errors
    /// The store's.
    pub async fn checkpoint(&self) -> Result<String, StoreError> {
        let head = self.store.log_head().await?;
        head.map(|head| head.checkpoint).ok_or_else(|| StoreError::Damaged("the log has no head".to_owned()))
    }

    /// The proof that these very bytes are in the log, under its newest head; `None` if they are not.
    ///
    /// # Errors
    /// The store's.
    pub async fn proof(&self, note: &[u8]) -> Result<Option<String>, StoreError> {
        self.proof_of(leaf_hash(note)).await
    }

    /// As [`Log::proof`], by the leaf's hash.
    ///
    /// # Errors
    /// The store's.
    pub async fn proof_of(&self, leaf: Digest) -> Result<Option<String>, StoreError> {
        let Some(proof) = self.store.prove_leaf(leaf).await? else { return Ok(None) };
        let bytes = proof_bytes(proof.index, &proof.hashes, proof.head.checkpoint.as_bytes());
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The hashes that lead from the head of `older` leaves to that of `newer`; `None` if the log never had so many.
    ///
    /// # Errors
    /// The store's.
    pub async fn consistency(&self, older: u64, newer: u64) -> Result<Option<Vec<Digest>>, StoreError> {
        self.store.prove_consistency(older, newer).await
    }

    /// The bytes of one of the log's files; `None` if it has no such file now.
    ///
    /// # Errors
    /// The store's.
    pub async fn file(&self, file: tile::TileId) -> Result<Option<Vec<u8>>, StoreError> {
        let size = self.store.log_head().await?.map_or(0, |head| head.size);
        let whole = tile::TileId::of(file.kind(), file.index(), size);
        if whole.is_none_or(|whole| whole.width() < file.width()) {
            return Ok(None);
        }
        match file.kind() {
            tile::TileKind::Hashes(level) => {
                let mut hashes = self.store.log_tile(level, file.index()).await?.unwrap_or_default();
                hashes.truncate(usize::from(file.width()) * 32);
                Ok(Some(hashes))
            }
            tile::TileKind::Entries => {
                // A semaphore that nobody closes.
                let _turn = self
                    .bundles
                    .acquire()
                    .await
                    .map_err(|_| StoreError::Unavailable("closing".to_owned()))?;
                let first = file.index() * tile::TILE;
                let leaves = self.store.log_leaves(first, first + u64::from(file.width())).await?;
                Ok(tile::bundle(leaves.iter().map(Vec::as_slice)))
            }
        }
    }
}
