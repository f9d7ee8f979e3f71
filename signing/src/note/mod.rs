//! The envelope: a C2SP signed note (`c2sp.org/signed-note`) under a strict profile.
//!
//! `text, empty line, signature lines`. The text is printable ASCII and newlines, its first line names its kind, each
//! further line is `key SP value` in a fixed order ([`Fields`]). Split at the last empty line, so a second note behind
//! the first makes the first one's signatures part of the text, where their dash is refused. The *identity* of a note is the
//! SHA-256 of its text: anybody can add, drop or re-encode signature lines.

mod envelope;
mod fields;

use remit_protocol::Digest;

pub use envelope::SignatureLine;
pub(crate) use envelope::{Envelope, sign_any};
pub(crate) use fields::number;
pub use fields::{Fields, TextWriter};

use crate::{Refusal, SigningKey, Vkey};

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
    /// The keeper of an audit trail stands for its end.
    Trail,
    /// A reviewer stands for or against a release.
    Verdict,
    /// Somebody wants a run of a job.
    Run,
    /// Somebody agrees at a gate of a run.
    Approve,
    /// A runner stands for what a section of a run came to.
    Result,
    /// A runner stands for the key to which secrets for it are sealed.
    Sealing,
}

impl NoteKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Component,
        Self::Job,
        Self::Enrol,
        Self::Enrolled,
        Self::Trail,
        Self::Verdict,
        Self::Run,
        Self::Approve,
        Self::Result,
        Self::Sealing,
    ];

    /// The first line of such a note.
    pub fn type_line(self) -> &'static str {
        match self {
            Self::Component => "remit/component/v1",
            Self::Job => "remit/job/v1",
            Self::Enrol => "remit/enrol/v1",
            Self::Enrolled => "remit/enrolled/v1",
            Self::Trail => "remit/trail/v1",
            Self::Verdict => "remit/verdict/v1",
            Self::Run => "remit/run/v1",
            Self::Approve => "remit/approve/v1",
            Self::Result => "remit/result/v1",
            Self::Sealing => "remit/sealing/v1",
        }
    }
}

/// A note that is well formed; nobody has looked at its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedNote {
    envelope: Envelope,
    kind: NoteKind,
}

impl UnverifiedNote {
    /// Parses the bytes of a note.
    ///
    /// # Errors
    /// `E_SYNTAX` for whatever is not exactly the form above.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let envelope = Envelope::parse(bytes)?;
        let first = envelope.lines().next().unwrap_or_default();
        let kind = NoteKind::ALL.into_iter().find(|kind| kind.type_line() == first).ok_or_else(|| {
            Refusal::syntax(format_args!(
                "The first line, {:?}, is no kind of note that is known here.",
                clip(first)
            ))
        })?;
        Ok(Self { envelope, kind })
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
        self.envelope.text()
    }

    /// The kind that the first line names.
    pub fn kind(&self) -> NoteKind {
        self.kind
    }

    /// The signature lines, known or not.
    pub fn signatures(&self) -> &[SignatureLine] {
        self.envelope.signatures()
    }

    /// What the note is called everywhere: the digest of its text.
    pub fn identity(&self) -> Digest {
        self.envelope.identity()
    }

    /// The keys of `known` that have signed, each once, in the order of `known`. Lines of unknown keys are passed over.
    ///
    /// # Errors
    /// `E_SIG` if one line says that it is by a known key and is not: then the whole note was tampered with.
    pub fn signed_by<'k>(&self, known: impl IntoIterator<Item = &'k Vkey>) -> Result<Vec<&'k Vkey>, Refusal> {
        self.envelope.signed_by(known)
    }

    pub(crate) fn lines(&self) -> std::str::Split<'_, char> {
        self.envelope.lines()
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
    let note = envelope::seal(text, [].iter(), keys).into_bytes();
    UnverifiedNote::parse(&note)?;
    Ok(note)
}

/// Adds the signature of `key` to the bytes of a note; a line that says it is by the same key is replaced.
///
/// # Errors
/// `E_SYNTAX` if `note` is not well formed or is full.
pub fn add_signature(note: &[u8], key: &SigningKey) -> Result<Vec<u8>, Refusal> {
    let parsed = UnverifiedNote::parse(note)?;
    let own = key.vkey();
    let others = parsed.signatures().iter().filter(|line| !line.claims(&own));
    let note = envelope::seal(parsed.text(), others, &[key]).into_bytes();
    UnverifiedNote::parse(&note)?;
    Ok(note)
}
