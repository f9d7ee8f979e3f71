//! A refusal: one code of the closed list, and what was found here.

use std::fmt;

use remit_protocol::RefusalCode;

/// Why something is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code; it carries its meaning and its remedy.
    pub code: RefusalCode,
    /// What was found, in words; printable ASCII apart from quoted, escaped text.
    pub detail: String,
}

impl Refusal {
    /// A refusal with this code and what exactly is the matter.
    pub fn new(code: RefusalCode, detail: impl fmt::Display) -> Self {
        Self { code, detail: detail.to_string() }
    }

    pub(crate) fn syntax(detail: impl fmt::Display) -> Self {
        Self::new(RefusalCode::Syntax, detail)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {} {}", self.code, self.code.meaning(), self.detail, self.code.remedy())
    }
}

impl std::error::Error for Refusal {}
