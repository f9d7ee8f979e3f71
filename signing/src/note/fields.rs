//! The lines of a note's text: written and read in one fixed order.

use remit_protocol::{Digest, Timestamp, digest::Sized};

use super::{NoteKind, UnverifiedNote, clip};
use crate::Refusal;

/// Writes the text of a note line by line.
#[derive(Debug)]
pub struct TextWriter(String);

impl TextWriter {
    /// Begins a text of `kind`.
    pub fn new(kind: NoteKind) -> Self {
        Self::headed(kind.type_line())
    }

    /// Begins a text that nobody signs, with a first line of its own.
    pub(crate) fn headed(first: &str) -> Self {
        Self(format!("{first}\n"))
    }

    /// Adds the line `key value`. What the strict form does not allow in a value is found when the note is signed.
    #[must_use]
    pub fn line(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.0.push_str(&format!("{key} {value}\n"));
        self
    }

    /// Adds the line `key sha256:… length`.
    #[must_use]
    pub fn sized(self, key: &str, value: &Sized) -> Self {
        self.line(key, format_args!("{} {}", value.digest, value.length))
    }

    /// Adds the line `key 2026-11-20T00:00:00Z`.
    #[must_use]
    pub fn time(self, key: &str, value: Timestamp) -> Self {
        self.line(key, value.to_seconds_text())
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

/// Reads the lines of a note in the order of its kind; what is left, missing or out of order is `E_SYNTAX`.
#[derive(Debug)]
pub struct Fields<'a> {
    lines: std::iter::Peekable<std::str::Split<'a, char>>,
}

impl<'a> Fields<'a> {
    /// The lines below the first.
    pub fn of(note: &'a UnverifiedNote) -> Self {
        let mut lines = note.lines().peekable();
        lines.next();
        Self { lines }
    }

    /// The value of the next line, which has to be `key`.
    pub fn text(&mut self, key: &str) -> Result<&'a str, Refusal> {
        let found = self.optional(key)?;
        let next = self.lines.peek().map_or_else(|| "nothing".to_owned(), |line| format!("{:?}", clip(line)));
        found.ok_or_else(|| {
            Refusal::syntax(format_args!("The line '{key} …' is due where the note has {next}."))
        })
    }

    /// The value of the next line if it is `key`.
    pub fn optional(&mut self, key: &str) -> Result<Option<&'a str>, Refusal> {
        let value = |line: &&'a str| line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' '));
        let Some(value) = self.lines.peek().and_then(value) else { return Ok(None) };
        self.lines.next();
        Ok(Some(value))
    }

    /// The value of the next line, parsed.
    pub fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, key: &str) -> Result<T, Refusal> {
        self.text(key)?.parse().map_err(|e| Refusal::syntax(format_args!("The line '{key}': {e}.")))
    }

    /// As [`Fields::parsed`], if the next line is `key`.
    pub fn optional_parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        key: &str,
    ) -> Result<Option<T>, Refusal> {
        let text = self.optional(key)?;
        let parsed = text.map(str::parse).transpose();
        parsed.map_err(|e| Refusal::syntax(format_args!("The line '{key}': {e}.")))
    }

    /// A decimal number of at most 18 digits in its one spelling.
    pub fn number(&mut self, key: &str) -> Result<u64, Refusal> {
        number(self.text(key)?)
            .ok_or_else(|| Refusal::syntax(format_args!("The line '{key}' does not hold a number.")))
    }

    /// `sha256:…` and a length.
    pub fn sized(&mut self, key: &str) -> Result<Sized, Refusal> {
        sized(key, self.text(key)?)
    }

    /// As [`Fields::sized`], if the next line is `key`.
    pub fn optional_sized(&mut self, key: &str) -> Result<Option<Sized>, Refusal> {
        self.optional(key)?.map(|text| sized(key, text)).transpose()
    }

    /// A time to the second, in UTC, in its one spelling.
    pub fn time(&mut self, key: &str) -> Result<Timestamp, Refusal> {
        let text = self.text(key)?;
        match text.parse::<Timestamp>() {
            Ok(time) if time.to_seconds_text() == text => Ok(time),
            _ => Err(Refusal::syntax(format_args!(
                "The line '{key}' does not hold a time such as 2026-11-20T00:00:00Z."
            ))),
        }
    }

    /// The end of the text.
    pub fn finish(mut self) -> Result<(), Refusal> {
        match self.lines.next() {
            None => Ok(()),
            Some(line) => Err(Refusal::syntax(format_args!(
                "The line {:?} has no place in this kind of note.",
                clip(line)
            ))),
        }
    }
}

fn sized(key: &str, text: &str) -> Result<Sized, Refusal> {
    let read = |text: &str| {
        let (digest, length) = text.split_once(' ')?;
        Some(Sized { digest: digest.parse::<Digest>().ok()?, length: number(length)? })
    };
    read(text).ok_or_else(|| {
        Refusal::syntax(format_args!(
            "The line '{key}' does not hold 'sha256:', 64 digits, a space and a length."
        ))
    })
}

/// A decimal number of at most 18 digits in its one spelling.
pub(crate) fn number(text: &str) -> Option<u64> {
    let canonical = !text.is_empty()
        && text.len() <= 18
        && text.bytes().all(|b| b.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}
