//! Ed25519 keys, public and private, in the text forms of the C2SP signed note.
//!
//! Only `verify_strict` is ever called, and a public key whose point is of low order, has a low-order component or is
//! not encoded canonically is refused when it is read: with such keys one signature fits many messages, or one owner
//! has several spellings of the same key.

#[cfg(test)]
mod edge;
#[cfg(test)]
mod vectors;

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use remit_protocol::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The algorithm byte of Ed25519 in key ids, verification keys and private keys.
const ED25519: u8 = 1;
/// Longest name of a key.
const MAX_NAME: usize = 128;

/// The name of a key: 1 to 128 printable ASCII characters without space and `+`, such as `acme.example/release-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// Parses a key name.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidKey> {
        let text = text.into();
        let fits = !text.is_empty() && text.len() <= MAX_NAME;
        if fits && text.bytes().all(|b| b.is_ascii_graphic() && b != b'+') {
            Ok(Self(text))
        } else {
            Err(InvalidKey::Name)
        }
    }

    /// A name that this room made up itself, out of characters that fit.
    pub(crate) fn fixed(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key may sign. Publishers and authors have different keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Component notes.
    Component,
    /// Job notes.
    Job,
    /// Run notes.
    Run,
    /// Reviewers' verdicts.
    Verdict,
    /// Approvals.
    Approve,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Component, Self::Job, Self::Run, Self::Verdict, Self::Approve];

    /// The kind as a trust policy writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Job => "job",
            Self::Run => "run",
            Self::Verdict => "verdict",
            Self::Approve => "approve",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The name.
    #[error("a key's name is 1 to 128 printable ASCII characters without space and '+'")]
    Name,
    /// The parts.
    #[error(
        "a verification key is written name+id+key: 8 lower-case hexadecimal digits, then standard base64"
    )]
    Form,
    /// The parts of a private key.
    #[error(
        "a private key is written PRIVATE+KEY+name+id+key: 8 lower-case hexadecimal digits, then standard base64"
    )]
    PrivateForm,
    /// Another algorithm.
    #[error("not an Ed25519 key: only algorithm 1 with 32 bytes is accepted")]
    Algorithm,
    /// The id belongs to another name or key.
    #[error(
        "the key's id does not belong to this name and key: the text was altered or put together by hand"
    )]
    Id,
    /// A point that must not be trusted.
    #[error("a weak key: its point is of low order, not of prime order, or not encoded canonically")]
    Weak,
}

/// The four bytes that name a key beside its name: a hint for finding it, never a proof.
pub type KeyId = [u8; 4];

fn key_id(name: &str, algorithm: u8, public: &[u8]) -> KeyId {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', algorithm]);
    hasher.update(public);
    let sum: [u8; 32] = hasher.finalize().into();
    [sum[0], sum[1], sum[2], sum[3]]
}

fn parse_id(text: &str) -> Option<KeyId> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != 8 || !text.bytes().all(lower) {
        return None;
    }
    u32::from_str_radix(text, 16).ok().map(u32::to_be_bytes)
}

/// Standard base64 with one spelling for each byte string.
pub(crate) fn strict_base64(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    (STANDARD.encode(&bytes) == text).then_some(bytes)
}

/// A public key without a name, safe to trust.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads 32 bytes; refuses weak keys and second spellings.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidKey> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| InvalidKey::Weak)?;
        // Every second spelling of a point is one of a point outside the prime-order group: a test goes through them all.
        let sound = !key.is_weak() && key.to_edwards().is_torsion_free();
        if sound { Ok(Self(key)) } else { Err(InvalidKey::Weak) }
    }

    /// Reads the standard base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes = strict_base64(text).ok_or(InvalidKey::Algorithm)?;
        Self::from_bytes(&bytes.try_into().map_err(|_| InvalidKey::Algorithm)?)
    }

    /// The standard base64 of the 32 bytes.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0.as_bytes())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// SHA-256 of the 32 bytes: how a key is pinned.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// This key under a name.
    pub fn named(self, name: KeyName) -> Vkey {
        let id = key_id(name.as_str(), ED25519, self.0.as_bytes());
        Vkey { name, id, public: self }
    }

    /// True if `signature` is this key's over `message`, by the strict rules.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_base64())
    }
}

/// A named public key, written `name+id+key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vkey {
    name: KeyName,
    id: KeyId,
    public: PublicKey,
}

impl Vkey {
    /// The key's name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.public.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id), STANDARD.encode(bytes))
    }
}

impl FromStr for Vkey {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let (name, rest) = text.split_once('+').ok_or(InvalidKey::Form)?;
        let (id, key) = rest.split_once('+').ok_or(InvalidKey::Form)?;
        let name = KeyName::new(name)?;
        let id = parse_id(id).ok_or(InvalidKey::Form)?;
        let bytes = strict_base64(key).ok_or(InvalidKey::Form)?;
        let [ED25519, public @ ..] = &bytes[..] else { return Err(InvalidKey::Algorithm) };
        let public: &[u8; 32] = public.try_into().map_err(|_| InvalidKey::Algorithm)?;
        let key = PublicKey::from_bytes(public)?.named(name);
        if key.id == id { Ok(key) } else { Err(InvalidKey::Id) }
    }
}

/// A named private key. It is wiped when dropped, and has neither `Debug`, `Clone` nor `Serialize`.
pub struct SigningKey {
    name: KeyName,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// The key of a 32-byte seed; the caller wipes its own copy.
    pub fn from_seed(name: KeyName, seed: &[u8; 32]) -> Self {
        Self { name, key: ed25519_dalek::SigningKey::from_bytes(seed) }
    }

    /// The key's name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    /// The public half with the name.
    pub fn vkey(&self) -> Vkey {
        self.public().named(self.name.clone())
    }

    /// The same key under another name, for as long as one signature takes.
    pub(crate) fn renamed(&self, name: KeyName) -> Self {
        Self::from_seed(name, self.key.as_bytes())
    }

    /// Signs bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// `PRIVATE+KEY+name+id+key`, as the note tools of Go write it. Keep it in a file that only its holder reads.
    pub fn to_private_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([ED25519; 33]);
        bytes[1..].copy_from_slice(self.key.as_bytes());
        let id = key_id(self.name.as_str(), ED25519, self.key.verifying_key().as_bytes());
        let mut text = Zeroizing::new(String::with_capacity(MAX_NAME + 80));
        text.push_str("PRIVATE+KEY+");
        text.push_str(self.name.as_str());
        text.push_str(&format!("+{:08x}+", u32::from_be_bytes(id)));
        STANDARD.encode_string(&bytes[..], &mut text);
        text
    }

    /// Reads what [`Self::to_private_text`] wrote; one trailing newline is allowed.
    pub fn from_private_text(text: &str) -> Result<Self, InvalidKey> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let rest = text.strip_prefix("PRIVATE+KEY+").ok_or(InvalidKey::PrivateForm)?;
        let (name, rest) = rest.split_once('+').ok_or(InvalidKey::PrivateForm)?;
        let (id, key) = rest.split_once('+').ok_or(InvalidKey::PrivateForm)?;
        let name = KeyName::new(name)?;
        let id = parse_id(id).ok_or(InvalidKey::PrivateForm)?;
        let bytes = Zeroizing::new(strict_base64(key).ok_or(InvalidKey::PrivateForm)?);
        let [ED25519, seed @ ..] = &bytes[..] else { return Err(InvalidKey::Algorithm) };
        let seed: &[u8; 32] = seed.try_into().map_err(|_| InvalidKey::Algorithm)?;
        let key = Self::from_seed(name, seed);
        if key.vkey().id == id { Ok(key) } else { Err(InvalidKey::Id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of C2SP signed-note.md.
    const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    fn name(text: &str) -> KeyName {
        KeyName::new(text).unwrap()
    }

    #[test]
    fn a_verification_key_has_one_text() {
        let key: Vkey = NEUMANN.parse().unwrap();
        assert_eq!(key.to_string(), NEUMANN);
        let own = SigningKey::from_seed(name("acme.example/release-1"), &[7; 32]);
        assert_eq!(own.vkey().to_string().parse(), Ok(own.vkey()));
    }

    #[test]
    fn altered_verification_keys_are_refused() {
        fn check(text: &str, expect: InvalidKey) {
            assert_eq!(text.parse::<Vkey>(), Err(expect), "{text}");
        }
        check(&NEUMANN.replace("Peter", "Piter"), InvalidKey::Id);
        check(&NEUMANN.replace("c74f20a3", "C74F20A3"), InvalidKey::Form);
        check(&NEUMANN.replace("c74f20a3", "c74f20a4"), InvalidKey::Id);
        check(&NEUMANN.replace("c74f20a3", "+74f20a3"), InvalidKey::Form);
        check(&NEUMANN.replace("ARpc", "BBpc"), InvalidKey::Algorithm);
        check(&NEUMANN[..NEUMANN.len() - 4], InvalidKey::Algorithm);
        check(&NEUMANN.replace("Peter", "Peter "), InvalidKey::Name);
        check("", InvalidKey::Form);
        // The identity point, and a second spelling of it.
        let weak = |bytes: [u8; 32]| PublicKey::from_bytes(&bytes);
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(weak(identity), Err(InvalidKey::Weak));
        let mut again = [0xff; 32];
        (again[0], again[31]) = (0xee, 0x7f);
        assert_eq!(weak(again), Err(InvalidKey::Weak));
    }

    /// p + y for each y that fits in 255 bits, with both signs: points that have a canonical spelling too, or none.
    #[test]
    fn a_key_has_one_spelling() {
        for y in 0..19_u8 {
            for sign in [0_u8, 0x80] {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (0xed + y, 0x7f | sign);
                assert_eq!(PublicKey::from_bytes(&bytes), Err(InvalidKey::Weak), "{y}");
            }
        }
    }

    #[test]
    fn a_private_key_reads_back() {
        let key = SigningKey::from_seed(name("acme.example/release-1"), &[7; 32]);
        let text = key.to_private_text();
        assert!(text.starts_with("PRIVATE+KEY+acme.example/release-1+"));
        let again = SigningKey::from_private_text(&format!("{}\n", text.as_str())).ok().unwrap();
        assert_eq!(again.vkey(), key.vkey());
        let renamed = text.replace("release-1", "release-2");
        assert_eq!(SigningKey::from_private_text(&renamed).err(), Some(InvalidKey::Id));
        assert_eq!(SigningKey::from_private_text(NEUMANN).err(), Some(InvalidKey::PrivateForm));
    }
}
