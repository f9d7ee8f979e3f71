//! Text, an empty line, signature lines: the form that typed notes and a log's checkpoints share.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use remit_protocol::{Digest, RefusalCode, limits::MAX_NOTE};

use super::{DASH, MAX_LINE, MAX_SIGNATURES};
use crate::{
    Refusal, SigningKey, Vkey,
    key::{KeyId, KeyName, strict_base64},
};

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

/// An envelope that is well formed, whatever its text is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Envelope {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
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
        check_text(text)?;
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
        Ok(Self { text: text.to_owned(), signatures })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The lines of the text.
    pub(crate) fn lines(&self) -> std::str::Split<'_, char> {
        self.text.strip_suffix('\n').unwrap_or(&self.text).split('\n')
    }

    pub(crate) fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    pub(crate) fn identity(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// The keys of `known` that have signed, each once, in the order of `known`. Lines of unknown keys are passed over.
    ///
    /// # Errors
    /// `E_SIG` if one line says that it is by a known key and is not: then the whole note was tampered with.
    pub(crate) fn signed_by<'k>(
        &self,
        known: impl IntoIterator<Item = &'k Vkey>,
    ) -> Result<Vec<&'k Vkey>, Refusal> {
        let mut signed: Vec<&Vkey> = Vec::new();
        for key in known {
            let mut lines = self.signatures.iter().filter(|line| line.claims(key)).peekable();
            let claimed = lines.peek().is_some();
            for line in lines {
                if !key.public().verifies(self.text.as_bytes(), &line.signature) {
                    return Err(Refusal::new(
                        RefusalCode::Signature,
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

fn check_text(text: &str) -> Result<(), Refusal> {
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
    Ok(())
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

/// Signs `text` with each of `keys`; the form is for the caller to check.
pub(super) fn seal<'l>(
    text: &str,
    lines: impl Iterator<Item = &'l SignatureLine>,
    keys: &[&SigningKey],
) -> String {
    let mut note = format!("{text}\n");
    for line in lines {
        let bytes = [&line.id[..], &line.signature].concat();
        note.push_str(&format!("{DASH}{} {}\n", line.name, STANDARD.encode(bytes)));
    }
    for key in keys {
        let vkey = key.vkey();
        let bytes = [&vkey.id()[..], &key.sign(text.as_bytes())].concat();
        note.push_str(&format!("{DASH}{} {}\n", vkey.name(), STANDARD.encode(bytes)));
    }
    note
}

/// Signs `text` as an envelope of any kind.
pub(crate) fn sign_any(text: &str, key: &SigningKey) -> Result<Vec<u8>, Refusal> {
    let note = seal(text, [].iter(), &[key]).into_bytes();
    Envelope::parse(&note)?;
    Ok(note)
}
