//! A leaf as whoever watches a log reads it: of whatever kind it is, and whether one key signed it.

use remit_protocol::Digest;

use super::tree::leaf_hash;
use crate::{Vkey, note::Envelope};

/// Whether a key stands under a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedBy {
    /// No line says so.
    No,
    /// It has signed.
    Yes,
    /// A line says so, and its signature is wrong: somebody pretends.
    Forged,
}

/// What a leaf says of itself. Only the signature of the key that was asked about is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The hash by which the log lists it.
    pub hash: Digest,
    /// The digest of the note's text: what it is called everywhere.
    pub identity: Digest,
    /// The first line, such as `remit/component/v1`.
    pub kind: String,
    /// The value of the line `name`, where there is one.
    pub name: Option<String>,
    /// The value of the line `version`, where there is one.
    pub version: Option<String>,
    /// Whether the key signed it.
    pub signed: SignedBy,
}

impl Leaf {
    /// Reads a leaf and looks for the signature of `key`; `None` if it is no note at all.
    pub fn read(leaf: &[u8], key: &Vkey) -> Option<Self> {
        let note = Envelope::parse(leaf).ok()?;
        let value = |name: &str| {
            let mut lines = note.lines().skip(1);
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned)
        };
        let signed = match note.signed_by([key]) {
            Ok(signed) if signed.is_empty() => SignedBy::No,
            Ok(_) => SignedBy::Yes,
            Err(_) => SignedBy::Forged,
        };
        Some(Self {
            hash: leaf_hash(leaf),
            identity: note.identity(),
            kind: note.lines().next().unwrap_or_default().to_owned(),
            name: value("name"),
            version: value("version"),
            signed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyName, SigningKey, note::sign_any};

    fn key(name: &str) -> SigningKey {
        SigningKey::from_seed(KeyName::new(name).unwrap(), Digest::of(name.as_bytes()).as_bytes())
    }

    #[test]
    fn a_leaf_of_any_kind_is_read() {
        let text = "remit/later/v9\nname acme/x\nversion 1.2.3\n";
        let note = sign_any(text, &key("acme/one")).unwrap();
        let read = |bytes: &[u8], name: &str| Leaf::read(bytes, &key(name).vkey()).unwrap();
        let leaf = read(&note, "acme/one");
        assert_eq!((leaf.kind.as_str(), leaf.signed), ("remit/later/v9", SignedBy::Yes));
        assert_eq!((leaf.name.as_deref(), leaf.version.as_deref()), (Some("acme/x"), Some("1.2.3")));
        assert_eq!((leaf.hash, leaf.identity), (leaf_hash(&note), Digest::of(text.as_bytes())));
        assert_eq!(read(&note, "acme/two").signed, SignedBy::No);
        let other = String::from_utf8(note).unwrap().replace("1.2.3", "1.2.4");
        assert_eq!(read(other.as_bytes(), "acme/one").signed, SignedBy::Forged);
        assert_eq!(Leaf::read(b"nothing", &key("acme/one").vkey()), None);
    }
}
