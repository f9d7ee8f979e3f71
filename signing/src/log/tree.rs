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
        (size <= self.size()).then(|| root(size, &mut |height, index| self.node(height, index)))?
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        self.root_of(self.size()).unwrap_or_else(|| Digest::of(b""))
    }

    /// Shows that the leaf at `index` is among the first `size`; `None` if there is no such leaf.
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        (size <= self.size())
            .then(|| inclusion(index, size, &mut |height, index| self.node(height, index)))?
    }

    /// Shows that the first `older` leaves are where the first `newer` ones begin; `None` where nothing can be shown.
    pub fn prove_consistency(&self, older: u64, newer: u64) -> Option<Vec<Digest>> {
        (newer <= self.size())
            .then(|| consistency(older, newer, &mut |height, index| self.node(height, index)))?
    }

    fn node(&self, height: u32, index: u64) -> Option<Digest> {
        let index = usize::try_from(index).ok()?;
        self.levels.get(height as usize)?.get(index).copied()
    }
}

/// Gives the root of the complete subtree at a height and place: where the hashes are kept is the caller's affair.
pub(super) type Node<'a> = dyn FnMut(u32, u64) -> Option<Digest> + 'a;

/// The root over the first `size` leaves.
pub(super) fn root(size: u64, node: &mut Node<'_>) -> Option<Digest> {
    if size == 0 { Some(Digest::of(b"")) } else { subtree(0, size, node) }
}

/// The hashes from the sibling of the leaf at `index` up, among the first `size`.
pub(super) fn inclusion(index: u64, size: u64, node: &mut Node<'_>) -> Option<Vec<Digest>> {
    if index >= size {
        return None;
    }
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(subtree(middle, end, node)?);
            end = middle;
        } else {
            proof.push(subtree(start, middle, node)?);
            start = middle;
        }
    }
    proof.reverse();
    Some(proof)
}

/// The hashes that lead from the root over `older` leaves to the one over `newer`.
pub(super) fn consistency(older: u64, newer: u64, node: &mut Node<'_>) -> Option<Vec<Digest>> {
    if older == 0 || older > newer {
        return None;
    }
    let (mut start, mut end) = (0, newer);
    let mut proof = Vec::new();
    while end != older {
        let middle = start + split(end - start);
        if older <= middle {
            proof.push(subtree(middle, end, node)?);
            end = middle;
        } else {
            proof.push(subtree(start, middle, node)?);
            start = middle;
        }
    }
    // The verifier knows the older root itself where it is one complete subtree from the first leaf on.
    if start != 0 {
        proof.push(subtree(start, end, node)?);
    }
    proof.reverse();
    Some(proof)
}

/// The root of the leaves `start .. end`, where `start` is a multiple of a power of two that is not below the length.
fn subtree(start: u64, end: u64, node: &mut Node<'_>) -> Option<Digest> {
    let length = end - start;
    if length.is_power_of_two() {
        let height = length.trailing_zeros();
        return node(height, start >> height);
    }
    let middle = start + split(length);
    Some(node_hash(&subtree(start, middle, node)?, &subtree(middle, end, node)?))
}

/// The root over hashes whose number is a power of two; `None` for any other.
pub(super) fn fold(hashes: &[Digest]) -> Option<Digest> {
    match hashes {
        [hash] => Some(*hash),
        _ if !hashes.len().is_power_of_two() => None,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            Some(node_hash(&fold(left)?, &fold(right)?))
        }
    }
}

/// The largest power of two below `length`, which is at least 2.
fn split(length: u64) -> u64 {
    1 << (u64::BITS - 1 - (length - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definitions of RFC 6962 §2.1, each by its own recursion over the leaves themselves: slow, and sharing nothing
    /// with what is tested.
    mod defined {
        use super::Digest;

        fn halves<T>(leaves: &[T]) -> (&[T], &[T]) {
            let mut power = 1;
            while power * 2 < leaves.len() {
                power *= 2;
            }
            leaves.split_at(power)
        }

        /// MTH(D\[n\]).
        pub(super) fn root(leaves: &[Vec<u8>]) -> Digest {
            match leaves {
                [] => Digest::of(&[]),
                [leaf] => Digest::of(&[&[0][..], leaf].concat()),
                _ => {
                    let (left, right) = halves(leaves);
                    let (left, right) = (root(left), root(right));
                    Digest::of(&[&[1][..], left.as_bytes(), right.as_bytes()].concat())
                }
            }
        }

        /// PATH(m, D\[n\]).
        pub(super) fn path(index: usize, leaves: &[Vec<u8>]) -> Vec<Digest> {
            if leaves.len() == 1 {
                return Vec::new();
            }
            let (left, right) = halves(leaves);
            let (mut path, other) = if index < left.len() {
                (path(index, left), right)
            } else {
                (path(index - left.len(), right), left)
            };
            path.push(root(other));
            path
        }

        /// SUBPROOF(m, D\[n\], b), where b is `known`: whether the verifier has the root of the first m leaves.
        pub(super) fn subproof(older: usize, leaves: &[Vec<u8>], known: bool) -> Vec<Digest> {
            if older == leaves.len() {
                return if known { Vec::new() } else { vec![root(leaves)] };
            }
            let (left, right) = halves(leaves);
            let (mut proof, other) = if older <= left.len() {
                (subproof(older, left, known), right)
            } else {
                (subproof(older - left.len(), right, false), left)
            };
            proof.push(root(other));
            proof
        }
    }

    /// The numbers below `size` as leaves.
    fn numbers(size: usize) -> Vec<Vec<u8>> {
        (0..size).map(|number| number.to_be_bytes().to_vec()).collect()
    }

    fn tree(leaves: &[Vec<u8>]) -> Tree {
        let mut tree = Tree::default();
        for (index, leaf) in leaves.iter().enumerate() {
            assert_eq!(tree.append(leaf_hash(leaf)), index as u64);
        }
        tree
    }

    /// Each digest that differs from `digest` in one bit.
    fn neighbours(digest: Digest) -> impl Iterator<Item = Digest> {
        (0..256).map(move |bit| {
            let mut bytes = *digest.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Digest::from_bytes(bytes)
        })
    }

    /// Each proof that differs from `proof` in one bit, lacks one hash, or has one more.
    fn changed(proof: &[Digest]) -> Vec<Vec<Digest>> {
        let mut all = Vec::new();
        for (at, hash) in proof.iter().enumerate() {
            for other in neighbours(*hash) {
                let mut proof = proof.to_vec();
                proof[at] = other;
                all.push(proof);
            }
            let mut proof = proof.to_vec();
            proof.remove(at);
            all.push(proof);
        }
        for at in 0..=proof.len() {
            let mut proof = proof.to_vec();
            proof.insert(at, Digest::of(b"one more"));
            all.push(proof);
        }
        all
    }

    /// Roots over the first letters of the alphabet, computed outside this program.
    #[test]
    fn known_roots_are_found() {
        let check = |size: u64, expect: &str| {
            let letters: Vec<Vec<u8>> = (b'a'..=b'g').map(|letter| vec![letter]).collect();
            assert_eq!(tree(&letters).root_of(size).unwrap().to_hex(), expect, "{size}");
            assert_eq!(tree(&letters[..size as usize]).root().to_hex(), expect, "{size}");
            assert_eq!(defined::root(&letters[..size as usize]).to_hex(), expect, "{size}");
        };
        // SHA-256 of nothing, as RFC 6962 says.
        check(0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        check(1, "022a6979e6dab7aa5ae4c3e5e45f7e977112a7e63593820dbec1ec738a24f93c");
        check(2, "b137985ff484fb600db93107c77b0365c80d78f5b429ded0fd97361d077999eb");
        check(3, "36642e73c2540ab121e3a6bf9545b0a24982cd830eb13d3cd19de3ce6c021ec1");
        check(4, "33376a3bd63e9993708a84ddfe6c28ae58b83505dd1fed711bd924ec5a6239f0");
        check(5, "fe14a5426fbd70c0fa73f52342afed0da0bd23c4838662ccf6b88a3070ead97b");
        check(6, "e069fc12e231ccfd4516bf1617945fb3ccd5cc8910d92d6265289f088f777fdd");
        check(7, "4ae191939f548d9934740b88dea2c5cb89bb8870fc4505cd79dec6bbfaaee9cb");
        // A leaf without a byte is not nothing.
        let expect = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(leaf_hash(b"").to_hex(), expect);
    }

    #[test]
    fn roots_and_proofs_are_as_defined() {
        let leaves = numbers(70);
        let whole = tree(&leaves);
        for size in 0..=70 {
            let part = &leaves[..size];
            let at = size as u64;
            assert_eq!(tree(part).root(), defined::root(part));
            assert_eq!(whole.root_of(at), Some(defined::root(part)));
            for index in 0..size {
                let expect = defined::path(index, part);
                assert_eq!(whole.prove_inclusion(index as u64, at), Some(expect), "{index} of {size}");
            }
            for older in 1..=size {
                let expect = defined::subproof(older, part, true);
                assert_eq!(whole.prove_consistency(older as u64, at), Some(expect), "{older} in {size}");
            }
            assert_eq!(whole.prove_inclusion(at, at), None);
            assert_eq!(whole.prove_consistency(0, at), None);
            assert_eq!(whole.prove_consistency(at + 1, at), None);
        }
        assert_eq!(whole.root_of(71), None);
        assert_eq!(whole.prove_inclusion(0, 71), None);
        assert_eq!(whole.prove_consistency(1, 71), None);
    }

    /// A proof is good for its own leaf in its own place, and for no other leaf or place.
    #[test]
    fn members_are_proven_and_others_not() {
        let leaves = numbers(26);
        let tree = tree(&leaves);
        for size in 1..=25 {
            let root = tree.root_of(size).unwrap();
            for index in 0..size {
                let proof = tree.prove_inclusion(index, size).unwrap();
                for (number, leaf) in (0..).zip(&leaves) {
                    for place in 0..=size {
                        let verifies = verify_inclusion(&leaf_hash(leaf), place, size, &proof, &root);
                        assert_eq!(
                            verifies,
                            number == index && place == index,
                            "{number} at {place} of {size}"
                        );
                    }
                }
            }
        }
    }

    /// The size is not among what is changed: it is bound to the root by the checkpoint's signature, not by the proof.
    #[test]
    fn an_inclusion_proof_with_one_change_is_none() {
        let leaves = numbers(17);
        let tree = tree(&leaves);
        for size in [1, 2, 3, 4, 5, 7, 8, 11, 16, 17] {
            let root = tree.root_of(size).unwrap();
            for (index, leaf) in (0..size).zip(&leaves) {
                let leaf = leaf_hash(leaf);
                let proof = tree.prove_inclusion(index, size).unwrap();
                let verifies = |leaf: &Digest, index, proof: &[Digest], root: &Digest| {
                    verify_inclusion(leaf, index, size, proof, root)
                };
                assert!(verifies(&leaf, index, &proof, &root));
                assert!(neighbours(leaf).all(|leaf| !verifies(&leaf, index, &proof, &root)));
                assert!(neighbours(root).all(|root| !verifies(&leaf, index, &proof, &root)));
                assert!((0..u64::BITS).all(|bit| !verifies(&leaf, index ^ (1 << bit), &proof, &root)));
                assert!(changed(&proof).iter().all(|proof| !verifies(&leaf, index, proof, &root)));
            }
        }
    }

    #[test]
    fn a_consistency_proof_with_one_change_is_none() {
        let tree = tree(&numbers(17));
        for newer in [1, 2, 3, 4, 5, 7, 8, 11, 16, 17] {
            for older in 1..=newer {
                let (first, second) = (tree.root_of(older).unwrap(), tree.root_of(newer).unwrap());
                let proof = tree.prove_consistency(older, newer).unwrap();
                let verifies = |proof: &[Digest], first: &Digest, second: &Digest| {
                    verify_consistency(older, newer, proof, first, second)
                };
                assert!(verifies(&proof, &first, &second));
                assert!(neighbours(first).all(|first| !verifies(&proof, &first, &second)));
                assert!(neighbours(second).all(|second| !verifies(&proof, &first, &second)));
                assert!(changed(&proof).iter().all(|proof| !verifies(proof, &first, &second)));
                // Backwards, and from the empty tree, nothing is shown.
                assert_eq!(verify_consistency(newer, older, &proof, &second, &first), older == newer);
                assert!(!verify_consistency(0, newer, &proof, &Digest::of(b""), &second));
            }
        }
    }

    /// Leaves of which many are equal, so that a wrong leaf is often the right one elsewhere.
    fn history() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec((0_u8..3).prop_map(|letter| vec![letter]), 1..150)
    }

    proptest! {
        #[test]
        fn a_proof_verifies_if_and_only_if_the_leaf_is_there(
            leaves in history(), at in any::<prop::sample::Index>(), letter in 0_u8..3
        ) {
            let (tree, index) = (tree(&leaves), at.index(leaves.len()));
            let (place, size) = (index as u64, leaves.len() as u64);
            let proof = tree.prove_inclusion(place, size).unwrap();
            let verifies = verify_inclusion(&leaf_hash(&[letter]), place, size, &proof, &tree.root());
            prop_assert_eq!(verifies, leaves[index] == [letter]);
        }

        /// Whichever of the two trees makes the proof.
        #[test]
        fn consistency_verifies_if_and_only_if_the_older_is_a_prefix(
            newer in history(), at in any::<prop::sample::Index>(),
            change in prop::option::of((any::<prop::sample::Index>(), 0_u8..3))
        ) {
            let length = at.index(newer.len()) + 1;
            let mut other = newer.clone();
            if let Some((at, letter)) = change {
                other[at.index(length)] = vec![letter];
            }
            let prefix = other[..length] == newer[..length];
            let (own, fork) = (tree(&newer), tree(&other));
            let (older, size) = (length as u64, newer.len() as u64);
            let first = fork.root_of(older).unwrap();
            for prover in [&own, &fork] {
                let proof = prover.prove_consistency(older, size).unwrap();
                prop_assert_eq!(verify_consistency(older, size, &proof, &first, &own.root()), prefix);
            }
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
