//! How a step ends when it does not succeed.

use std::{error::Error, fmt};

use crate::Refusal;

/// Why a step failed: one sentence and details by name; or that it was cancelled.
///
/// Any error becomes one by `?`. An error that came about because the run was cancelled ends the step as cancelled.
///
/// ```
/// use remit_sdk::Fail;
///
/// fn port(text: &str) -> Result<u16, Fail> {
///     let port: u16 = text.parse()?;
///     if port == 0 { Err(Fail::new("port 0 cannot be used").with("text", text)) } else { Ok(port) }
/// }
/// assert_eq!(port("0").unwrap_err().message(), "port 0 cannot be used");
/// assert_eq!(port("x").unwrap_err().message(), "invalid digit found in string");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fail {
    message: String,
    fields: Vec<(String, String)>,
    cancelled: bool,
}

impl Fail {
    /// Failed, for this reason: one sentence for a person.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), fields: Vec::new(), cancelled: false }
    }

    /// The step stopped because it was told to.
    pub fn cancelled() -> Self {
        Self { message: "cancelled".to_owned(), fields: Vec::new(), cancelled: true }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.fields.push((name.into(), value.to_string()));
        self
    }

    /// Puts what was being done before the message: `reading the inventory: …`.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> Self {
        if !self.cancelled {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details, in the order in which they were added.
    pub fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    /// True if the step stopped because it was told to.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (at, (name, value)) in self.fields.iter().enumerate() {
            write!(f, "{}{name} = {value}", if at == 0 { " (" } else { ", " })?;
        }
        if self.fields.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl<E: Error + 'static> From<E> for Fail {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut next: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = next {
            if error.downcast_ref::<Refusal>() == Some(&Refusal::Cancelled) {
                return Self::cancelled();
            }
            next = error.source();
            if let Some(cause) = next {
                message.push_str(": ");
                message.push_str(&cause.to_string());
            }
        }
        Self::new(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(Refusal);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_brings_its_causes_and_a_cancel_stays_a_cancel() {
        fn check(refusal: Refusal, expect: Fail) {
            assert_eq!(Fail::from(Outer(refusal)), expect);
        }
        check(Refusal::Failed("inner".into()), Fail::new("outer: inner"));
        check(Refusal::Cancelled, Fail::cancelled());
        assert_eq!(Fail::from(Refusal::Cancelled), Fail::cancelled());
    }

    #[test]
    fn details_are_shown() {
        fn check(fail: Fail, expect: &str) {
            assert_eq!(fail.to_string(), expect);
        }
        check(Fail::new("no"), "no");
        check(Fail::new("no").with("a", 1).with("b", "x"), "no (a = 1, b = x)");
        check(Fail::new("no").while_doing("reading"), "reading: no");
        check(Fail::cancelled().while_doing("reading"), "cancelled");
    }
}
