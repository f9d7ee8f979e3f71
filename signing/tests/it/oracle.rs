//! The tree against one that somebody else wrote: the same roots, the same proofs, each accepted by the other.

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, digest, mem_backed_tree::MemoryBackedTree};
use remit_protocol::Digest;
use remit_signing::log::{Tree, leaf_hash, verify_consistency, verify_inclusion};
use sha2::Sha256;

/// Sizes up to which everything is compared: past two whole levels of a tile's eighth.
const MOST: u64 = 70;

fn leaf(number: u64) -> Vec<u8> {
    format!("note {number}\n").into_bytes()
}

fn hashes(bytes: &[u8]) -> Vec<Digest> {
    bytes.chunks(32).map(|hash| Digest::from_bytes(hash.try_into().unwrap())).collect()
}

fn output(digest: &Digest) -> digest::Output<Sha256> {
    (*digest.as_bytes()).into()
}

/// Their tree and ours over so many leaves.
fn trees(size: u64) -> (MemoryBackedTree<Sha256, Vec<u8>>, Tree) {
    let (mut theirs, mut ours) = (MemoryBackedTree::new(), Tree::default());
    for number in 0..size {
        theirs.push(leaf(number));
        ours.append(leaf_hash(&leaf(number)));
    }
    (theirs, ours)
}

#[test]
fn roots_and_inclusion_proofs_are_the_same() {
    for size in 1..=MOST {
        let (theirs, ours) = trees(size);
        let (root, own) = (theirs.root(), ours.root());
        assert_eq!(root.as_bytes()[..], own.as_bytes()[..], "root of {size}");
        for at in 0..size {
            let proof = theirs.prove_inclusion(usize::try_from(at).unwrap());
            let mine = ours.prove_inclusion(at, size).unwrap();
            assert_eq!(hashes(proof.as_bytes()), mine, "{at} of {size}");
            assert!(verify_inclusion(&leaf_hash(&leaf(at)), at, size, &hashes(proof.as_bytes()), &own));
            let mine: Vec<_> = mine.iter().map(output).collect();
            let mine = InclusionProof::<Sha256>::from_digests(mine.iter());
            assert!(root.verify_inclusion(&leaf(at), at, &mine).is_ok(), "{at} of {size}");
            assert!(root.verify_inclusion(&leaf(at + 1), at, &mine).is_err(), "{at} of {size}");
        }
    }
}

#[test]
fn consistency_proofs_are_the_same() {
    let (_, whole) = trees(MOST);
    for newer in 1..=MOST {
        let (theirs, ours) = trees(newer);
        for older in 1..newer {
            let proof = theirs.prove_consistency(usize::try_from(newer - older).unwrap());
            let mine = ours.prove_consistency(older, newer).unwrap();
            assert_eq!(hashes(proof.as_bytes()), mine, "{older} to {newer}");
            let (first, second) = (whole.root_of(older).unwrap(), ours.root());
            assert!(verify_consistency(older, newer, &hashes(proof.as_bytes()), &first, &second));
            let mine: Vec<_> = mine.iter().map(output).collect();
            let mine = ConsistencyProof::<Sha256>::from_digests(mine.iter());
            let (old, new) = (RootHash::new(output(&first), older), theirs.root());
            assert!(new.verify_consistency(&old, &mine).is_ok(), "{older} to {newer}");
            let other = RootHash::new(output(&second), older);
            assert!(new.verify_consistency(&other, &mine).is_err(), "{older} to {newer}");
            assert!(!verify_consistency(older, newer, &hashes(proof.as_bytes()), &second, &second));
        }
    }
}
