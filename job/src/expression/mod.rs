//! Expressions: CEL, bounded before it is parsed and while it is evaluated.
//!
//! The grammar is the `cel` crate's; the evaluation is ours, because that crate's has no budget: `[0]` doubled by a few
//! chained macros takes gigabytes there. Here a source has at most 1 KiB and nests at most 16 deep ([`scan`], before
//! parsing), no macro stands inside a macro ([`program`]), and every evaluation spends from a fixed budget and makes no
//! value above 1 MiB ([`evaluate`]). Strings, numbers, lists and maps are those of JSON; there are no bytes, no unsigned
//! integers, no messages, no timestamps.
//!
//! *Invariant:* what an expression can see is named in its text: `options.x`, `steps.x`, never a computed name.

mod evaluate;
mod function;
mod program;
mod scan;
mod scope;

pub(crate) use evaluate::weight;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use program::{Reference, Root};
pub use scope::{ExecutionView, Scope};

/// A parsed expression. Cheap to clone; equal if its text is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    source: Arc<str>,
    program: Arc<program::Program>,
}

/// Why a text is not an acceptable expression, or why it came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expression `{}` {why}{}", shown(.text), at(.column))]
pub struct InvalidExpression {
    /// The expression.
    pub text: String,
    /// What is wrong, as the end of a sentence that begins with "the expression".
    pub why: String,
    /// Where in it, in characters from 1, if that is known.
    pub column: Option<u32>,
}

fn shown(source: &str) -> String {
    let mut text: String = source.chars().take(80).collect();
    if text.len() < source.len() {
        text.push('…');
    }
    text
}

fn at(column: &Option<u32>) -> String {
    column.map(|column| format!(" (at its character {column})")).unwrap_or_default()
}

impl Expression {
    /// Parses an expression and checks everything about it that needs no values.
    pub fn new(source: &str) -> Result<Self, InvalidExpression> {
        let program = scan::check(source).and_then(|()| program::Program::parse(source)).map_err(|flaw| {
            InvalidExpression { text: source.to_owned(), why: flaw.why, column: flaw.column }
        })?;
        Ok(Self { source: source.into(), program: Arc::new(program) })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// True if it is the same behind `… && ` as alone: nothing in it binds weaker outside of brackets.
    pub fn is_operand_of_and(&self) -> bool {
        let behind = program::Program::parse(&format!("true && {}", self.source));
        behind.is_ok_and(|program| matches!(program.node, program::Term::And(..)))
    }

    /// The options, steps and node fields that it names.
    pub fn references(&self) -> &[Reference] {
        &self.program.references
    }

    /// What it comes to in `scope`.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, InvalidExpression> {
        evaluate::evaluate(&self.program, scope).map_err(|why| InvalidExpression {
            text: self.source.to_string(),
            why,
            column: None,
        })
    }
}

/// A flaw of a source, before the source is added to it.
#[derive(Debug)]
struct Flaw {
    why: String,
    column: Option<u32>,
}

impl Flaw {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), column: None }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl TryFrom<String> for Expression {
    type Error = InvalidExpression;
    fn try_from(source: String) -> Result<Self, InvalidExpression> {
        Self::new(&source)
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.source.to_string()
    }
}

#[cfg(test)]
pub(crate) mod tests;
