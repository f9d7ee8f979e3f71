//! The transparency log in the hands of an attacker who has its key.

use remit_protocol::Digest;
use remit_signing::{
    SigningKey,
    log::{Tree, leaf_hash, proof_bytes, sign_checkpoint},
};

/// What comes with a note to show that it is in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Shown {
    /// Nothing.
    #[default]
    Nothing,
    /// Its proof, under the newest head.
    Good,
    /// Its proof, of which a byte is another.
    Altered,
    /// The proof of something else.
    OtherNote,
    /// A proof of a log that nobody named.
    Foreign,
    /// A proof by another key that is called like the log's.
    Impostor,
    /// A proof under a head that was not shown before and is older than one that was.
    Older,
    /// As `Older`; how the two heads go together is not shown.
    OlderWithheld,
    /// A proof under a new head; how it goes together with the ones before is not shown.
    Withheld,
    /// A proof under a larger head of another history, signed by the log's key.
    Forked,
}

/// The log: what it shows, and what it hides.
pub(crate) struct Log {
    key: SigningKey,
    other: SigningKey,
    tree: Tree,
    /// Another history, once there is one: it is the one that is shown from then on.
    fork: Option<Tree>,
    withheld: bool,
}

impl Log {
    pub(crate) fn new(key: SigningKey, other: SigningKey) -> Self {
        Self { key, other, tree: Tree::default(), fork: None, withheld: false }
    }

    /// Puts a note into the log before anything is shown, behind something else; gives the size that it has then.
    pub(crate) fn early(&mut self, note: &[u8]) -> u64 {
        self.tree.append(leaf_hash(b"something else"));
        self.tree.append(leaf_hash(note)) + 1
    }

    /// What is shown for a note; `early` is the size that the log had when the note was put into it, if it was.
    pub(crate) fn show(&mut self, note: &[u8], shown: Shown, early: Option<u64>) -> Option<String> {
        self.withheld = matches!(shown, Shown::Withheld | Shown::OlderWithheld);
        let leaf = leaf_hash(note);
        let proof = match shown {
            Shown::Nothing => return None,
            Shown::Good | Shown::Withheld => append(&mut self.tree, leaf, &self.key),
            Shown::Altered => append(&mut self.tree, leaf, &self.key).replacen("index ", "index 1", 1),
            Shown::OtherNote => append(&mut self.tree, leaf_hash(b"another note"), &self.key),
            Shown::Foreign => append(&mut Tree::default(), leaf, &self.other),
            Shown::Impostor => {
                let seed = Digest::of(b"impostor");
                append(&mut self.tree, leaf, &SigningKey::from_seed(self.key.name().clone(), seed.as_bytes()))
            }
            Shown::Older | Shown::OlderWithheld => prove(&self.tree, early? - 1, early?, &self.key),
            Shown::Forked => {
                let mut fork = Tree::default();
                for number in 0..=self.tree.size() {
                    fork.append(leaf_hash(&number.to_be_bytes()));
                }
                let proof = append(&mut fork, leaf, &self.key);
                self.fork = Some(fork);
                proof
            }
        };
        Some(proof)
    }

    /// How two heads go together, by the history that is shown.
    pub(crate) fn consistency(&self, older: u64, newer: u64) -> Option<Vec<Digest>> {
        let tree = self.fork.as_ref().unwrap_or(&self.tree);
        tree.prove_consistency(older, newer).filter(|_| !self.withheld)
    }
}

fn append(tree: &mut Tree, leaf: Digest, key: &SigningKey) -> String {
    let at = tree.append(leaf);
    prove(tree, at, tree.size(), key)
}

/// The proof of the leaf `at` under the head of `size` leaves.
fn prove(tree: &Tree, at: u64, size: u64, key: &SigningKey) -> String {
    let head = sign_checkpoint(key, size, &tree.root_of(size).unwrap()).unwrap();
    String::from_utf8(proof_bytes(at, &tree.prove_inclusion(at, size).unwrap(), &head)).unwrap()
}
