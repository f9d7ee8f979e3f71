//! A filter in a job: its values may hold `${…}`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InvalidFilter, NodeFilter, pairs};
use crate::{
    expression::{Reference, Scope},
    template::Text,
};

/// A filter with `${…}` in its values, parsed once. Equal if its source is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilterTemplate {
    source: String,
    pairs: Vec<(String, Text, u32)>,
}

impl FilterTemplate {
    /// Parses a filter of a job; what does not depend on options is checked in full.
    pub fn new(source: &str) -> Result<Self, InvalidFilter> {
        let mut parsed = Vec::new();
        for pair in pairs::pairs(source)? {
            let invalid = |message| InvalidFilter { column: pair.column, message };
            let text = Text::parse(&pair.value).map_err(invalid)?;
            if let Some(literal) = text.literal() {
                NodeFilter::build(std::iter::once((pair.key.clone(), literal.to_owned(), pair.column)))?;
            }
            parsed.push((pair.key, text, pair.column));
        }
        Ok(Self { source: source.to_owned(), pairs: parsed })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// What its expressions name.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.pairs
            .iter()
            .flat_map(|(_, text, _)| text.expressions())
            .flat_map(|expression| expression.references())
    }

    /// The filter with every `${…}` replaced. What is put in stays inside its value: it can be a pattern or a list, but
    /// never another key.
    pub fn resolve(&self, scope: &Scope) -> Result<NodeFilter, InvalidFilter> {
        let mut pairs = Vec::with_capacity(self.pairs.len());
        for (key, text, column) in &self.pairs {
            let value =
                text.render_text(scope).map_err(|message| InvalidFilter { column: *column, message })?;
            pairs.push((key.clone(), value, *column));
        }
        NodeFilter::build(pairs.into_iter())
    }
}

impl PartialEq for FilterTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for FilterTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl TryFrom<String> for FilterTemplate {
    type Error = InvalidFilter;
    fn try_from(source: String) -> Result<Self, InvalidFilter> {
        Self::new(&source)
    }
}

impl From<FilterTemplate> for String {
    fn from(filter: FilterTemplate) -> Self {
        filter.source
    }
}
