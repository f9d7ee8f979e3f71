//! The envelope: a C2SP signed note (`c2sp.org/signed-note`) under a strict profile.
//!
//! `text, empty line, signature lines`. The text is printable ASCII and newlines, its first line names its kind, each
//! further line is `key SP value` in a fixed order ([`Fields`]). Split at the last empty line, so a second note behind
//! the first makes the first one's signatures part of the text, where their dash is refused. The *identity* of a note is the
//! SHA-256 of its text: anybody can add, drop or re-encode signature lines.

mod fields;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use remit_protocol::{Digest, limits::MAX_NOTE};

pub use fields::{Fields, TextWriter};

use crate::{
    Refusal, SigningKey, Vkey,
    key::{KeyId, KeyName, strict_base64},
};

/// Most signature lines on a note.
pub const MAX_SIGNATURES: usize = 32;
/// Longest line of a note in bytes.
pub const MAX_LINE: usize = 4096;
/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// The kinds of notes, by their first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// A publisher releases a component.
    Component,
    /// An author stands for a job document.
    Job,
    /// A runner asks to be enrolled.
    Enrol,
    /// An orchestrator has enrolled a runner.
    Enrolled,
}

impl NoteKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Component, Self::Job, Self::Enrol, Self::Enrolled];

    /// The first line of such a note.
    pub fn type_line(self) -> &'static str {
        match self {
            Self::Component => "remit/component/v1",
            Self::Job => "remit/job/v1",
            Self::Enrol => "remit/enrol/v1",
            Self::Enrolled => "remit/enrolled/v1",
        }
    }
}

/// One signature line: by whom it says it is, and the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    name: KeyName,
    id: KeyId,
    signature: Vec<u8>,
}

impl SignatureLine {
    /// The name that stands in the line.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// True if the line says that it is by `key`.
    pub fn claims(&self, key: &Vkey) -> bool {
        self.name == *key.name() && self.id == key.id()
    }
}

/// A note that is well formed; nobody has looked at its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedNote {
    text: String,
    kind: NoteKind,
    signatures: Vec<SignatureLine>,
}

impl UnverifiedNote {
    /// Parses the bytes of a note.
    ///
    /// # Errors
    /// `E_SYNTAX` for whatever is not exactly the form above.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_NOTE {
            return Err(Refusal::syntax(format_args!(
                "The note has {} bytes; at most {MAX_NOTE} are allowed.",
                bytes.len()
            )));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| Refusal::syntax("The note is not text."))?;
        let split = whole.rfind("\n\n").ok_or_else(|| {
            Refusal::syntax("The note has no empty line between its text and its signatures.")
        })?;
        let (text, lines) = (&whole[..=split], &whole[split + 2..]);
        let kind = check_text(text)?;
        let lines = lines
            .strip_suffix('\n')
            .ok_or_else(|| Refusal::syntax("The note does not end with a signature line and a newline."))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(Refusal::syntax(format_args!(
                    "The note has more than {MAX_SIGNATURES} signatures."
                )));
            }
            signatures.push(signature_line(line)?);
        }
        Ok(Self { text: text.to_owned(), kind, signatures })
    }

    /// Parses the bytes of a note that has to be of `kind`.
    pub fn parse_as(kind: NoteKind, bytes: &[u8]) -> Result<Self, Refusal> {
        let note = Self::parse(bytes)?;
        if note.kind != kind {
            let (found, wanted) = (note.kind.type_line(), kind.type_line());
            return Err(Refusal::syntax(format_args!(
                "This is a {found} note where a {wanted} note is due."
            )));
        }
        Ok(note)
    }

    /// The signed text, with the newline at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The kind that the first line names.
    pub fn kind(&self) -> NoteKind {
        self.kind
    }

    /// The signature lines, known or not.
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// What the note is called everywhere: the digest of its text.
    pub fn identity(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// The keys of `known` that have signed, each once, in the order of `known`. Lines of unknown keys are passed over.
    ///
    /// # Errors
    /// `E_SIG` if one line says that it is by a known key and is not: then the whole note was tampered with.
    pub fn signed_by<'k>(&self, known: impl IntoIterator<Item = &'k Vkey>) -> Result<Vec<&'k Vkey>, Refusal> {
        let mut signed: Vec<&Vkey> = Vec::new();
        for key in known {
            let mut lines = self.signatures.iter().filter(|line| line.claims(key)).peekable();
            let claimed = lines.peek().is_some();
            for line in lines {
                if !key.public().verifies(self.text.as_bytes(), &line.signature) {
                    return Err(Refusal::new(
                        remit_protocol::RefusalCode::Signature,
                        format_args!("The signature of {} does not fit the text.", key.name()),
                    ));
                }
            }
            if claimed && !signed.iter().any(|other| other.public() == key.public()) {
                signed.push(key);
            }
        }
        Ok(signed)
    }
}

fn check_text(text: &str) -> Result<NoteKind, Refusal> {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    for (number, line) in (1..).zip(lines.split('\n')) {
        let wrong = |what: &str| Err(Refusal::syntax(format_args!("Line {number} of the note {what}.")));
        if let Some(found) = line.chars().find(|c| !matches!(c, ' '..='~')) {
            return wrong(&format!("holds U+{:04X}; only printable ASCII may stand there", u32::from(found)));
        }
        if line.is_empty() {
            return wrong("is empty");
        }
        if line.len() > MAX_LINE {
            return wrong("is too long");
        }
        if line.starts_with(' ') || line.ends_with(' ') || line.contains("  ") {
            return wrong("has a space too many");
        }
    }
    let first = lines.split('\n').next().unwrap_or_default();
    NoteKind::ALL.into_iter().find(|kind| kind.type_line() == first).ok_or_else(|| {
        Refusal::syntax(format_args!(
            "The first line, {:?}, is no kind of note that is known here.",
            clip(first)
        ))
    })
}

fn signature_line(line: &str) -> Result<SignatureLine, Refusal> {
    let wrong = || {
        Refusal::syntax(
            "A signature line is not an em dash, a space, a key's name, a space and canonical base64.",
        )
    };
    if line.len() > MAX_LINE {
        return Err(wrong());
    }
    let (name, signature) =
        line.strip_prefix(DASH).and_then(|rest| rest.split_once(' ')).ok_or_else(wrong)?;
    let name = KeyName::new(name).map_err(|_| wrong())?;
    let bytes = strict_base64(signature).ok_or_else(wrong)?;
    match bytes.split_first_chunk::<4>() {
        Some((id, signature)) if !signature.is_empty() => {
            Ok(SignatureLine { name, id: *id, signature: signature.to_vec() })
        }
        _ => Err(wrong()),
    }
}

/// At most 80 characters of foreign text, for a message.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Signs `text` with each of `keys` and gives the note's bytes.
///
/// # Errors
/// `E_SYNTAX` if the text is not one that [`UnverifiedNote::parse`] takes, or there is no key, or too many.
pub fn sign(text: &str, keys: &[&SigningKey]) -> Result<Vec<u8>, Refusal> {
    let mut note = format!("{text}\n");
    for key in keys {
        note.push_str(&line(text, key));
    }
    UnverifiedNote::parse(note.as_bytes())?;
    Ok(note.into_bytes())
}

/// Adds the signature of `key` to the bytes of a note; a line that says it is by the same key is replaced.
///
/// # Errors
/// `E_SYNTAX` if `note` is not well formed or is full.
pub fn add_signature(note: &[u8], key: &SigningKey) -> Result<Vec<u8>, Refusal> {
    let parsed = UnverifiedNote::parse(note)?;
    let own = key.vkey();
    let mut out = format!("{}\n", parsed.text);
    for other in parsed.signatures.iter().filter(|line| !line.claims(&own)) {
        let mut bytes = other.id.to_vec();
        bytes.extend_from_slice(&other.signature);
        out.push_str(&format!("{DASH}{} {}\n", other.name, STANDARD.encode(bytes)));
    }
    out.push_str(&line(&parsed.text, key));
    UnverifiedNote::parse(out.as_bytes())?;
    Ok(out.into_bytes())
}

fn line(text: &str, key: &SigningKey) -> String {
    let vkey = key.vkey();
    let mut bytes = vkey.id().to_vec();
    bytes.extend_from_slice(&key.sign(text.as_bytes()));
    format!("{DASH}{} {}\n", vkey.name(), STANDARD.encode(bytes))
}
