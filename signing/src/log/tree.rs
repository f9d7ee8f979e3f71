//! The Merkle tree of RFC 6962 §2.1: hashes, proofs, and their verification by RFC 9162 §2.1.3 and §2.1.4.

use remit_protocol::Digest;
use sha2::{Digest as _, Sha256};

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(leaf);
    Digest::from_hasher(hasher)
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    Digest::from_hasher(hasher)
}

/// True if `proof` shows that the leaf with hash `leaf` has the place `index` in the tree of `size` leaves with `root`.
#[must_use]
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, proof: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut own, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if own & 1 == 1 || own == last {
            hash = node_hash(sibling, &hash);
            while own & 1 == 0 && own != 0 {
                (own, last) = (own >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (own, last) = (own >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// True if `proof` shows that the tree of `newer` leaves begins with the tree of `older` leaves. Nothing is ever shown
/// about the empty tree.
#[must_use]
pub fn verify_consistency(
    older: u64,
    newer: u64,
    proof: &[Digest],
    older_root: &Digest,
    newer_root: &Digest,
) -> bool {
    if older == 0 || older > newer {
        return false;
    }
    if older == newer {
        return proof.is_empty() && older_root == newer_root;
    }
    let (first, rest) = if older.is_power_of_two() {
        (older_root, proof)
    } else {
        let Some((first, rest)) = proof.split_first() else { return false };
        (first, rest)
    };
    let shift = (older - 1).trailing_ones();
    let (mut own, mut last) = ((older - 1) >> shift, (newer - 1) >> shift);
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if own & 1 == 1 || own == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while own & 1 == 0 && own != 0 {
                (own, last) = (own >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (own, last) = (own >> 1, last >> 1);
    }
    last == 0 && old_hash == *older_root && new_hash == *newer_root
}

/// A tree that leaves are appended to. It keeps the hash of every complete subtree: about 64 bytes a leaf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// `levels[h][i]` is the root of the leaves `i << h .. (i + 1) << h`.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, Vec::len) as u64
    }

    /// Appends a leaf by its hash and gives its place.
    pub fn append(&mut self, leaf: Digest) -> u64 {
        let index = self.size();
        let mut hash = leaf;
        let mut height = 0;
        loop {
            if self.levels.len() == height {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[height];
            level.push(hash);
            let [.., left, right] = &level[..] else { break };
            if level.len() % 2 == 1 {
                break;
            }
            hash = node_hash(left, right);
            height += 1;
        }
        index
    }

    /// The root over the first `size` leaves; `None` if there are fewer.
    pub fn root_of(&self, size: u64) -> Option<Digest> {
        match size {
            0 => Some(Digest::of(b"")),
            _ if size > self.size() => None,
            _ => self.subtree(0, size),
        }
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        self.root_of(self.size()).unwrap_or_else(|| Digest::of(b""))
    }

    /// Shows that the leaf at `index` is among the first `size`; `None` if there is no such leaf.
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        if index >= size || size > self.size() {
            return None;
        }
        let (mut start, mut end) = (0, size);
        let mut proof = Vec::new();
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                proof.push(self.subtree(middle, end)?);
                end = middle;
            } else {
                proof.push(self.subtree(start, middle)?);
                start = middle;
            }
        }
        proof.reverse();
        Some(proof)
    }

    /// Shows that the first `older` leaves are where the first `newer` ones begin; `None` where nothing can be shown.
    pub fn prove_consistency(&self, older: u64, newer: u64) -> Option<Vec<Digest>> {
        if older == 0 || older > newer || newer > self.size() {
            return None;
        }
        let (mut start, mut end) = (0, newer);
        let mut proof = Vec::new();
        while end != older {
            let middle = start + split(end - start);
            if older <= middle {
                proof.push(self.subtree(middle, end)?);
                end = middle;
            } else {
                proof.push(self.subtree(start, middle)?);
                start = middle;
            }
        }
        // The verifier knows the older root itself where it is one complete subtree from the first leaf on.
        if start != 0 {
            proof.push(self.subtree(start, end)?);
        }
        proof.reverse();
        Some(proof)
    }

    /// The root of the leaves `start .. end`, where `start` is a multiple of a power of two that is not below the length.
    fn subtree(&self, start: u64, end: u64) -> Option<Digest> {
        let length = end - start;
        if length.is_power_of_two() {
            let height = length.trailing_zeros();
            let index = usize::try_from(start >> height).ok()?;
            return self.levels.get(height as usize)?.get(index).copied();
        }
        let middle = start + split(length);
        Some(node_hash(&self.subtree(start, middle)?, &self.subtree(middle, end)?))
    }
}

/// The largest power of two below `length`, which is at least 2.
fn split(length: u64) -> u64 {
    1 << (u64::BITS - 1 - (length - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// A hash of the vectors; where they use a text that is no hash, one that is as different.
    fn hash(value: &Value) -> Digest {
        let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
        <[u8; 32]>::try_from(&bytes[..])
            .map_or_else(|_| Digest::of(&[b"not a hash: ", &bytes[..]].concat()), Digest::from_bytes)
    }

    fn hashes(value: &Value) -> Vec<Digest> {
        value.as_array().map(|items| items.iter().map(hash).collect()).unwrap_or_default()
    }

    /// Checks each of the 98 cases of a file; `verify` says whether it accepts.
    fn check(file: &str, verify: impl Fn(&Value) -> bool) {
        let cases: Vec<Value> = serde_json::from_str(file).unwrap();
        assert_eq!(cases.len(), 98);
        for case in cases {
            assert_eq!(verify(&case), case["wantErr"] == Value::Bool(false), "{}", case["file"]);
        }
    }

    #[test]
    fn published_inclusion_proofs_are_agreed_with() {
        check(include_str!("../../tests/vectors/merkle/inclusion.json"), |case| {
            // What is no hash cannot be asked about here; the vectors want it refused.
            let sound = |name: &str| case[name].as_str().unwrap().len() == 44;
            let number = |name: &str| case[name].as_u64().unwrap();
            let (index, size) = (number("leafIdx"), number("treeSize"));
            sound("root")
                && sound("leafHash")
                && verify_inclusion(
                    &hash(&case["leafHash"]),
                    index,
                    size,
                    &hashes(&case["proof"]),
                    &hash(&case["root"]),
                )
        });
    }

    #[test]
    fn published_consistency_proofs_are_agreed_with() {
        check(include_str!("../../tests/vectors/merkle/consistency.json"), |case| {
            let number = |name: &str| case[name].as_u64().unwrap();
            let (older, newer) = (number("size1"), number("size2"));
            let (first, second) = (hash(&case["root1"]), hash(&case["root2"]));
            verify_consistency(older, newer, &hashes(&case["proof"]), &first, &second)
        });
    }

    fn tree(size: u64) -> Tree {
        let mut tree = Tree::default();
        for number in 0..size {
            assert_eq!(tree.append(leaf_hash(&number.to_be_bytes())), number);
        }
        tree
    }

    /// The definition of RFC 6962, word for word.
    fn defined_root(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::of(b""),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                node_hash(&defined_root(left), &defined_root(right))
            }
        }
    }

    #[test]
    fn roots_are_as_defined() {
        let whole = tree(70);
        let leaves: Vec<Digest> = (0..70_u64).map(|number| leaf_hash(&number.to_be_bytes())).collect();
        for size in 0..=70 {
            let expect = defined_root(&leaves[..size as usize]);
            assert_eq!(tree(size).root(), expect);
            assert_eq!(whole.root_of(size), Some(expect));
        }
        assert_eq!(whole.root_of(71), None);
    }

    #[test]
    fn members_are_proven_and_others_not() {
        let tree = tree(40);
        for size in 1..=40 {
            let root = tree.root_of(size).unwrap();
            for index in 0..size {
                let leaf = leaf_hash(&index.to_be_bytes());
                let proof = tree.prove_inclusion(index, size).unwrap();
                assert!(verify_inclusion(&leaf, index, size, &proof, &root), "{index} of {size}");
                let other = leaf_hash(&(index + 1).to_be_bytes());
                assert!(!verify_inclusion(&other, index, size, &proof, &root));
                assert!(!verify_inclusion(&leaf, index + 1, size, &proof, &root));
            }
            assert_eq!(tree.prove_inclusion(size, size), None);
        }
    }

    #[test]
    fn a_tree_that_grew_is_proven_and_one_that_changed_not() {
        let (own, mut forked) = (tree(40), tree(20));
        for _ in 20..40 {
            forked.append(leaf_hash(b"another history"));
        }
        for newer in 1..=40 {
            for older in 1..=newer {
                let (first, second) = (own.root_of(older).unwrap(), own.root_of(newer).unwrap());
                let proof = own.prove_consistency(older, newer).unwrap();
                assert!(verify_consistency(older, newer, &proof, &first, &second), "{older} in {newer}");
                if older > 20 && older < newer {
                    let fork = forked.root_of(older).unwrap();
                    assert!(!verify_consistency(older, newer, &proof, &fork, &second));
                    let proof = forked.prove_consistency(older, newer).unwrap();
                    assert!(!verify_consistency(older, newer, &proof, &first, &second));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_proof_with_a_changed_bit_is_none(
            size in 1_u64..200, at in any::<prop::sample::Index>(), bit in 0_usize..256, hash in any::<prop::sample::Index>()
        ) {
            let tree = tree(size);
            let index = at.index(size as usize) as u64;
            let mut proof = tree.prove_inclusion(index, size).unwrap();
            prop_assume!(!proof.is_empty());
            let hash = hash.index(proof.len());
            let mut bytes = *proof[hash].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            proof[hash] = Digest::from_bytes(bytes);
            let leaf = leaf_hash(&index.to_be_bytes());
            prop_assert!(!verify_inclusion(&leaf, index, size, &proof, &tree.root()));
        }

        #[test]
        fn no_numbers_make_it_panic(index: u64, size: u64, length in 0_usize..70) {
            let hash = Digest::of(b"x");
            let proof = vec![hash; length];
            prop_assert!(!verify_inclusion(&hash, index, size, &proof, &Digest::of(b"y")));
            prop_assert!(!verify_consistency(index, size, &proof, &hash, &Digest::of(b"y")));
        }
    }
}
