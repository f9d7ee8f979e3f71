//! The file beside a note that shows it to be in a log, `c2sp.org/tlog-proof@v1`. The unsigned `extra` line is refused.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use remit_protocol::Digest;

use super::{
    checkpoint::{Checkpoint, hash},
    tree::{leaf_hash, verify_inclusion},
};
use crate::{Vkey, note::number};

const TYPE_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Most hashes in a proof: a tree has fewer than 2^64 leaves.
const MAX_HASHES: usize = 64;
/// Largest proof: the hashes, and a checkpoint with 32 signatures.
const MAX_PROOF: usize = 64 << 10;

/// Why a proof shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProof {
    /// Not a proof file.
    #[error("it is not a c2sp.org/tlog-proof@v1 file of index, hashes and checkpoint")]
    Form,
    /// The checkpoint's envelope.
    #[error("its checkpoint is not a good note: {0}")]
    Note(String),
    /// The checkpoint's text.
    #[error("its checkpoint is not an origin, a size and a root")]
    Checkpoint,
    /// Somebody else's log.
    #[error("its checkpoint is not signed by a log of the trust policy")]
    UnknownLog,
    /// The proof of another leaf or tree.
    #[error("it does not lead from these bytes to the checkpoint's root")]
    Inclusion,
}

/// Where a leaf is, under which head.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ProvenLeaf {
    /// Its place.
    pub index: u64,
    /// The head of the log.
    pub checkpoint: Checkpoint,
}

/// Writes a proof: the leaf's `index`, `hashes` from its sibling up, and the log's signed checkpoint.
pub fn proof_bytes(index: u64, hashes: &[Digest], checkpoint: &[u8]) -> Vec<u8> {
    let mut text = format!("{TYPE_LINE}\nindex {index}\n");
    for hash in hashes {
        STANDARD.encode_string(hash.as_bytes(), &mut text);
        text.push('\n');
    }
    text.push('\n');
    [text.as_bytes(), checkpoint].concat()
}

/// Verifies that `leaf`, a note's complete bytes, is in one of `logs`.
///
/// # Errors
/// An [`InvalidProof`].
pub fn verify_proof(proof: &[u8], leaf: &[u8], logs: &[Vkey]) -> Result<ProvenLeaf, InvalidProof> {
    if proof.len() > MAX_PROOF {
        return Err(InvalidProof::Form);
    }
    let text = std::str::from_utf8(proof).map_err(|_| InvalidProof::Form)?;
    let (head, checkpoint) = text.split_once("\n\n").ok_or(InvalidProof::Form)?;
    let mut lines = head.split('\n');
    if lines.next() != Some(TYPE_LINE) {
        return Err(InvalidProof::Form);
    }
    let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(number);
    let index = index.ok_or(InvalidProof::Form)?;
    let hashes: Option<Vec<Digest>> = lines.map(hash).take(MAX_HASHES + 1).collect();
    let hashes = hashes.filter(|hashes| hashes.len() <= MAX_HASHES).ok_or(InvalidProof::Form)?;
    let checkpoint = Checkpoint::verify(checkpoint.as_bytes(), logs)?;
    if verify_inclusion(&leaf_hash(leaf), index, checkpoint.size(), &hashes, &checkpoint.root()) {
        Ok(ProvenLeaf { index, checkpoint })
    } else {
        Err(InvalidProof::Inclusion)
    }
}
