//! The verdict note, `remit/verdict/v1`: a reviewer stands for, or against, one release of a component.
//!
//! A *full* verdict is about the release as a whole. A *delta* is about what changed since another release, and is worth
//! as much as what stands behind that one: [`crate::verify`] follows the chain to a full verdict. Both name wasm *and*
//! manifest, since what a component may ask for is half of what was reviewed.

use std::{fmt, str::FromStr, time::Duration};

use remit_protocol::{ComponentName, ComponentVersion, Digest, Timestamp, digest::Sized};

use crate::{
    Refusal,
    component::{ComponentNote, check_validity},
    note::{Fields, NoteKind, TextWriter, UnverifiedNote},
};

/// Longest validity of a verdict note.
pub const MAX_VALIDITY: Duration = Duration::from_secs(400 * 86_400);
/// Largest verdict note in bytes, with its signatures.
pub const MAX_NOTE: usize = 4 << 10;
/// Most verdicts that are looked at for one release, those of its bases included.
pub const MAX_VERDICTS: usize = 48;

/// What was looked for, such as `safe-to-run`: 1 to 64 of `a-z 0-9 . -`. What it means is the reviewers' agreement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Criteria(String);

impl Criteria {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that names no criteria.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("criteria are 1 to 64 lower-case letters, digits, dots and hyphens, such as safe-to-run")]
pub struct InvalidCriteria;

impl FromStr for Criteria {
    type Err = InvalidCriteria;
    fn from_str(text: &str) -> Result<Self, InvalidCriteria> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        let sound = (1..=64).contains(&text.len()) && text.bytes().all(fits);
        if sound { Ok(Self(text.to_owned())) } else { Err(InvalidCriteria) }
    }
}

/// The exact bytes that a verdict is about, or begins from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reviewed {
    /// Digest of the wasm.
    pub component: Digest,
    /// Digest of `manifest.json`.
    pub manifest: Digest,
}

impl Reviewed {
    /// What a component note releases.
    pub fn of(release: &ComponentNote) -> Self {
        Self { component: release.component.digest, manifest: release.manifest.digest }
    }
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole release.
    Full,
    /// What is different from another one.
    Delta(Reviewed),
}

/// What the reviewer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// It meets the criteria.
    Pass,
    /// It does not: it must not run where this reviewer counts.
    Fail,
}

impl Opinion {
    /// The word in a note.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// What a verdict note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictNote {
    /// The component's name, for people and for the registry; the digests say what was reviewed.
    pub name: ComponentName,
    /// Its version.
    pub version: ComponentVersion,
    /// The exact bytes of the wasm.
    pub component: Sized,
    /// The exact bytes of the manifest.
    pub manifest: Sized,
    /// What was looked for.
    pub criteria: Criteria,
    /// How much was looked at.
    pub scope: Scope,
    /// What the reviewer came to.
    pub opinion: Opinion,
    /// The exact bytes of a report, kept elsewhere.
    pub report: Option<Sized>,
    /// When it was given, to the second.
    pub issued: Timestamp,
    /// First instant at which it does not count any more; at most 400 days later. A `fail` counts until it is revoked.
    pub expires: Timestamp,
}

impl VerdictNote {
    /// The bytes that it is about.
    pub fn subject(&self) -> Reviewed {
        Reviewed { component: self.component.digest, manifest: self.manifest.digest }
    }

    /// The text to sign.
    pub fn to_text(&self) -> String {
        let mut text = TextWriter::new(NoteKind::Verdict)
            .line("name", &self.name)
            .line("version", &self.version)
            .sized("component", &self.component)
            .sized("manifest", &self.manifest)
            .line("criteria", &self.criteria);
        text = match &self.scope {
            Scope::Full => text.line("scope", "full"),
            Scope::Delta(from) => {
                text.line("scope", format_args!("delta {} {}", from.component, from.manifest))
            }
        };
        text = text.line("opinion", self.opinion.as_str());
        if let Some(report) = &self.report {
            text = text.sized("report", report);
        }
        text.time("issued", self.issued).time("expires", self.expires).finish()
    }

    /// Reads the text of a note that is well formed; the signatures are [`crate::verify`]'s to judge.
    ///
    /// # Errors
    /// `E_SYNTAX`.
    pub fn parse(note: &UnverifiedNote) -> Result<Self, Refusal> {
        if note.kind() != NoteKind::Verdict {
            return Err(Refusal::syntax("This is not a verdict note."));
        }
        let mut fields = Fields::of(note);
        let parsed = Self {
            name: fields.parsed("name")?,
            version: fields.parsed("version")?,
            component: fields.sized("component")?,
            manifest: fields.sized("manifest")?,
            criteria: fields.parsed("criteria")?,
            scope: scope(fields.text("scope")?)?,
            opinion: opinion(fields.text("opinion")?)?,
            report: fields.optional_sized("report")?,
            issued: fields.time("issued")?,
            expires: fields.time("expires")?,
        };
        fields.finish()?;
        if parsed.scope == Scope::Delta(parsed.subject()) {
            return Err(Refusal::syntax("The verdict is about what changed since the same release."));
        }
        check_validity(parsed.issued, parsed.expires, MAX_VALIDITY)?;
        Ok(parsed)
    }
}

fn scope(text: &str) -> Result<Scope, Refusal> {
    let delta = |text: &str| {
        let (component, manifest) = text.strip_prefix("delta ")?.split_once(' ')?;
        let (component, manifest) = (component.parse().ok()?, manifest.parse().ok()?);
        Some(Scope::Delta(Reviewed { component, manifest }))
    };
    if text == "full" { Some(Scope::Full) } else { delta(text) }.ok_or_else(|| {
        Refusal::syntax(
            "The line 'scope' is neither 'full' nor 'delta' with the digests of wasm and manifest.",
        )
    })
}

fn opinion(text: &str) -> Result<Opinion, Refusal> {
    let all = [Opinion::Pass, Opinion::Fail];
    let found = all.into_iter().find(|opinion| opinion.as_str() == text);
    found.ok_or_else(|| Refusal::syntax("The line 'opinion' is neither 'pass' nor 'fail'."))
}
