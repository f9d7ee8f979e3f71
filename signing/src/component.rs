//! The component note, `remit/component/v1`: a publisher stands for one wasm together with one manifest.

use std::time::Duration;

use remit_protocol::{ComponentName, ComponentVersion, Digest, Timestamp, digest::Sized};

use crate::{
    Refusal,
    note::{Fields, NoteKind, TextWriter, UnverifiedNote},
};

/// Longest validity of a component note: it is signed again, without a rebuild, once a year.
pub const MAX_VALIDITY: Duration = Duration::from_secs(400 * 86_400);
/// Longest locator of a source.
const MAX_LOCATOR: usize = 512;

/// Where the source of a component is, and what it was: for auditors, never followed by a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Digest of the source archive.
    pub digest: Digest,
    /// Where it is found, such as `git+https://example.com/x@<commit>`: printable ASCII without spaces.
    pub locator: String,
}

/// What a component note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentNote {
    /// The component's name.
    pub name: ComponentName,
    /// Its version.
    pub version: ComponentVersion,
    /// The exact bytes of the wasm.
    pub component: Sized,
    /// The exact bytes of the manifest.
    pub manifest: Sized,
    /// Its source, if the publisher says it.
    pub source: Option<Source>,
    /// First instant at which the note is valid, to the second.
    pub not_before: Timestamp,
    /// First instant at which it is not valid any more; at most 400 days later.
    pub expires: Timestamp,
}

impl ComponentNote {
    /// The text to sign.
    pub fn to_text(&self) -> String {
        let mut text = TextWriter::new(NoteKind::Component)
            .line("name", &self.name)
            .line("version", &self.version)
            .sized("component", &self.component)
            .sized("manifest", &self.manifest);
        if let Some(source) = &self.source {
            text = text.line("source", format_args!("{} {}", source.digest, source.locator));
        }
        text.time("not-before", self.not_before).time("expires", self.expires).finish()
    }

    /// Reads the text of a note that is well formed; the signatures are [`crate::verify`]'s to judge.
    ///
    /// # Errors
    /// `E_SYNTAX`.
    pub fn parse(note: &UnverifiedNote) -> Result<Self, Refusal> {
        if note.kind() != NoteKind::Component {
            return Err(Refusal::syntax("This is not a component note."));
        }
        let mut fields = Fields::of(note);
        let parsed = Self {
            name: fields.parsed("name")?,
            version: fields.parsed("version")?,
            component: fields.sized("component")?,
            manifest: fields.sized("manifest")?,
            source: fields.optional("source")?.map(source).transpose()?,
            not_before: fields.time("not-before")?,
            expires: fields.time("expires")?,
        };
        fields.finish()?;
        check_validity(parsed.not_before, parsed.expires, MAX_VALIDITY)?;
        Ok(parsed)
    }
}

fn source(text: &str) -> Result<Source, Refusal> {
    let read = |text: &str| {
        let (digest, locator) = text.split_once(' ')?;
        let sound = !locator.is_empty() && locator.len() <= MAX_LOCATOR && !locator.contains(' ');
        let digest = digest.parse().ok()?;
        sound.then(|| Source { digest, locator: locator.to_owned() })
    };
    read(text).ok_or_else(|| Refusal::syntax("The line 'source' does not hold a digest and a locator."))
}

/// Refuses a validity that is empty or longer than `longest`.
pub(crate) fn check_validity(
    not_before: Timestamp,
    expires: Timestamp,
    longest: Duration,
) -> Result<(), Refusal> {
    if expires <= not_before || expires.since(not_before) > longest {
        let days = longest.as_secs() / 86_400;
        return Err(Refusal::syntax(format_args!(
            "The note's validity, {} to {}, is empty or longer than {days} days.",
            not_before.to_seconds_text(),
            expires.to_seconds_text()
        )));
    }
    Ok(())
}
