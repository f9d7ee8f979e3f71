//! The transparency log as a verifier sees it: what is published cannot be shown to one and hidden from another.
//!
//! Leaves are the complete bytes of notes. The tree is RFC 6962's, the log's signed head is a `c2sp.org/tlog-checkpoint`,
//! and a `c2sp.org/tlog-proof@v1` file travels with each note, so that whoever runs it asks nobody. [`tile`] is how a
//! registry keeps and serves it, [`Tree`] the same in memory. *Invariant:* a proof is good only for the exact bytes
//! that are at hand, under a checkpoint signed by a log that the policy names.

mod checkpoint;
mod leaf;
mod proof;
pub mod tile;
mod tree;

pub use checkpoint::{Checkpoint, sign_checkpoint};
pub use leaf::{Leaf, SignedBy};
pub use proof::{InvalidProof, ProvenLeaf, proof_bytes, verify_proof};
pub use tree::{Tree, leaf_hash, verify_consistency, verify_inclusion};
