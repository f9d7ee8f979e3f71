//! Templates: JSON values in whose texts `${expr}` is replaced, once.
//!
//! A text that is only `${expr}` becomes the expression's value with its type; in a longer text, values are written out:
//! texts as they are, numbers and booleans in their JSON form. `$${` is a literal `${`. Null, lists and maps inside a
//! longer text, and an unclosed `${`, are errors. What was put in is never looked at again.

use std::fmt;

use remit_protocol::{endpoint::Fault, limits::MAX_VALUE};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::expression::{Expression, InvalidExpression, Reference, Scope};

/// A value with `${…}` in its texts, parsed once. Equal if its source is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Template {
    source: Value,
    parts: Part,
}

/// Why a template cannot be parsed or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct InvalidTemplate {
    /// The place inside the template, such as `json.text` or `argv[2]`; empty for the whole.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

impl InvalidTemplate {
    /// As a fault at `prefix`, the template's own place.
    pub fn into_fault(self, prefix: &str) -> Fault {
        let place = match (self.place.as_str(), prefix) {
            ("", prefix) => prefix.to_owned(),
            (inner, _) if inner.starts_with('[') => format!("{prefix}{inner}"),
            (inner, prefix) => format!("{prefix}.{inner}"),
        };
        Fault { line: None, column: None, place, message: self.message, remedy: String::new() }
    }
}

#[derive(Debug, Clone)]
enum Part {
    Plain(Value),
    Text(Text),
    List(Vec<Part>),
    Map(Vec<(String, Part)>),
}

/// A text with `${…}`, parsed once.
#[derive(Debug, Clone)]
pub(crate) struct Text(Vec<Piece<Expression>>);

/// A part of a text with `${…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<E> {
    /// What stands for itself.
    Literal(String),
    /// What stands between `${` and `}`.
    Expression(E),
}

/// A text in its pieces: there is at least one, and no two literals follow one another.
///
/// # Errors
/// The place of a `${` that is not closed.
pub fn pieces(text: &str) -> Result<Vec<Piece<&str>>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            literal.push_str(before);
            literal.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        literal.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = closing(inside).ok_or_else(|| {
            format!(
                "`${{` at character {} is not closed; a literal `${{` is written `$${{`",
                text.len() - rest.len() + at + 1
            )
        })?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Expression(&inside[..end]));
        rest = &inside[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

impl Text {
    /// Parses a text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parse = |piece| match piece {
            Piece::Literal(literal) => Ok(Piece::Literal(literal)),
            Piece::Expression(text) => Expression::new(text).map(Piece::Expression),
        };
        let pieces: Result<Vec<_>, InvalidExpression> = pieces(text)?.into_iter().map(parse).collect();
        pieces.map(Self).map_err(|invalid| invalid.to_string())
    }

    /// The expressions in it.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Expression(expression) => Some(expression),
            Piece::Literal(_) => None,
        })
    }

    /// The text itself, if there is no expression in it.
    pub(crate) fn literal(&self) -> Option<&str> {
        match &self.0[..] {
            [Piece::Literal(literal)] => Some(literal),
            _ => None,
        }
    }

    /// The value: with its type if the text is only one expression.
    pub(crate) fn render(&self, scope: &Scope) -> Result<Value, String> {
        if let [Piece::Expression(expression)] = &self.0[..] {
            let value = expression.evaluate(scope).map_err(|invalid| invalid.to_string())?;
            return if value.is_null() { Err(nothing(expression)) } else { Ok(value) };
        }
        self.render_text(scope).map(Value::String)
    }

    /// The text, even if it is only one expression.
    pub(crate) fn render_text(&self, scope: &Scope) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Expression(expression) => {
                    match expression
                        .evaluate(scope)
                        .map_err(|invalid: InvalidExpression| invalid.to_string())?
                    {
                        Value::String(value) => text.push_str(&value),
                        value @ (Value::Number(_) | Value::Bool(_)) => text.push_str(&value.to_string()),
                        Value::Null => return Err(nothing(expression)),
                        Value::Array(_) | Value::Object(_) => {
                            return Err(format!(
                                "`${{{expression}}}` is a list or a map inside a text; use `.join(\", \")`, or let it stand alone"
                            ));
                        }
                    }
                }
            }
            if text.len() > MAX_VALUE {
                return Err(format!("the text becomes longer than {MAX_VALUE} bytes"));
            }
        }
        Ok(text)
    }
}

fn nothing(expression: &Expression) -> String {
    format!("`${{{expression}}}` is null; give it a value, such as `${{x == null ? '' : x}}`")
}

/// Where the `}` is that closes an expression: not one inside quotes or inside the expression's own braces.
pub(crate) fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if let Some(open) = quote {
            if escaped {
                escaped = false;
            } else if character == '\\' {
                escaped = true;
            } else if character == open {
                quote = None;
            }
            continue;
        }
        match character {
            '"' | '\'' => quote = Some(character),
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

impl Template {
    /// Parses a template.
    pub fn new(source: Value) -> Result<Self, InvalidTemplate> {
        let parts = parse(&source, &mut Vec::new())?;
        Ok(Self { source, parts })
    }

    /// The value as it was written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// The value with every `${…}` replaced.
    pub fn render(&self, scope: &Scope) -> Result<Value, InvalidTemplate> {
        let mut left = MAX_VALUE;
        render_part(&self.parts, scope, &mut Vec::new(), &mut left)
    }

    /// What it always comes to, if it names nothing.
    pub fn fixed(&self) -> Option<Result<Value, InvalidTemplate>> {
        self.references().is_empty().then(|| self.render(&Scope::default()))
    }

    /// What its expressions name, each with its place inside the template.
    pub fn references(&self) -> Vec<(String, Reference)> {
        let mut found = Vec::new();
        collect(&self.parts, &mut Vec::new(), &mut found);
        found
    }
}

/// Parses and renders a value at once.
pub fn render(source: &Value, scope: &Scope) -> Result<Value, InvalidTemplate> {
    Template::new(source.clone())?.render(scope)
}

fn invalid(path: &[String], message: String) -> InvalidTemplate {
    let place = path.concat();
    InvalidTemplate { place: place.strip_prefix('.').unwrap_or(&place).to_owned(), message }
}

fn parse(value: &Value, path: &mut Vec<String>) -> Result<Part, InvalidTemplate> {
    match value {
        Value::String(text) if text.contains("${") => {
            Text::parse(text).map(Part::Text).map_err(|message| invalid(path, message))
        }
        Value::Array(items) => {
            let mut parts = Vec::with_capacity(items.len());
            for (at, item) in items.iter().enumerate() {
                path.push(format!("[{at}]"));
                parts.push(parse(item, path)?);
                path.pop();
            }
            Ok(if parts.iter().all(|part| matches!(part, Part::Plain(_))) {
                Part::Plain(value.clone())
            } else {
                Part::List(parts)
            })
        }
        Value::Object(members) => {
            let mut parts = Vec::with_capacity(members.len());
            for (key, member) in members {
                path.push(format!(".{key}"));
                parts.push((key.clone(), parse(member, path)?));
                path.pop();
            }
            Ok(if parts.iter().all(|(_, part)| matches!(part, Part::Plain(_))) {
                Part::Plain(value.clone())
            } else {
                Part::Map(parts)
            })
        }
        plain => Ok(Part::Plain(plain.clone())),
    }
}

fn render_part(
    part: &Part,
    scope: &Scope,
    path: &mut Vec<String>,
    left: &mut usize,
) -> Result<Value, InvalidTemplate> {
    match part {
        Part::Plain(value) => Ok(value.clone()),
        Part::Text(text) => {
            let value = text.render(scope).map_err(|message| invalid(path, message))?;
            *left = left
                .checked_sub(crate::expression::weight(&value))
                .ok_or_else(|| invalid(path, format!("the input becomes larger than {MAX_VALUE} bytes")))?;
            Ok(value)
        }
        Part::List(parts) => {
            let mut items = Vec::with_capacity(parts.len());
            for (at, part) in parts.iter().enumerate() {
                path.push(format!("[{at}]"));
                items.push(render_part(part, scope, path, left)?);
                path.pop();
            }
            Ok(Value::Array(items))
        }
        Part::Map(parts) => {
            let mut members = Map::new();
            for (key, part) in parts {
                path.push(format!(".{key}"));
                members.insert(key.clone(), render_part(part, scope, path, left)?);
                path.pop();
            }
            Ok(Value::Object(members))
        }
    }
}

fn collect(part: &Part, path: &mut Vec<String>, found: &mut Vec<(String, Reference)>) {
    match part {
        Part::Plain(_) => {}
        Part::Text(text) => {
            for expression in text.expressions() {
                let place = invalid(path, String::new()).place;
                found.extend(
                    expression.references().iter().map(|reference| (place.clone(), reference.clone())),
                );
            }
        }
        Part::List(parts) => {
            for (at, part) in parts.iter().enumerate() {
                path.push(format!("[{at}]"));
                collect(part, path, found);
                path.pop();
            }
        }
        Part::Map(parts) => {
            for (key, part) in parts {
                path.push(format!(".{key}"));
                collect(part, path, found);
                path.pop();
            }
        }
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl TryFrom<Value> for Template {
    type Error = InvalidTemplate;
    fn try_from(source: Value) -> Result<Self, InvalidTemplate> {
        Self::new(source)
    }
}

impl From<Template> for Value {
    fn from(template: Template) -> Self {
        template.source
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::expression::tests::scope;

    #[test]
    fn texts_are_replaced_once() {
        fn check(source: Value, expect: Value) {
            let scope = scope(
                json!({"s": "web", "n": 5, "f": 1.5, "b": true, "l": [1, "x"], "m": {"k": 1}, "t": "a ${options.s} $${b}"}),
            );
            assert_eq!(render(&source, &scope), Ok(expect), "{source}");
        }
        check(json!("plain"), json!("plain"));
        check(json!({"a": [1, null, true, "x"]}), json!({"a": [1, null, true, "x"]}));
        check(json!("${options.s}"), json!("web"));
        check(json!("${options.n}"), json!(5));
        check(json!("${options.l}"), json!([1, "x"]));
        check(json!("${options.m}"), json!({"k": 1}));
        check(json!(" ${options.n}"), json!(" 5"));
        check(json!("${options.s}-${options.n}/${options.f}/${options.b}"), json!("web-5/1.5/true"));
        check(json!("$${options.s}"), json!("${options.s}"));
        check(json!("$$${options.s}"), json!("$${options.s}"));
        check(json!("$ $x {y} $"), json!("$ $x {y} $"));
        check(json!("${options.t}"), json!("a ${options.s} $${b}"));
        check(json!("<${options.t}>"), json!("<a ${options.s} $${b}>"));
        check(json!("${'}' + \"}\" + {'a': '}'}['a']}"), json!("}}}"));
        check(json!("${options.l.map(x, string(x)).join('+')}"), json!("1+x"));
        check(json!({"${options.s}": ["${options.n}"]}), json!({"${options.s}": [5]}));
    }

    #[test]
    fn mistakes_have_their_place() {
        fn check(source: Value, place: &str, part: &str) {
            let scope = scope(json!({"l": [1], "m": {}}));
            let found = render(&source, &scope).unwrap_err();
            assert!(found.place == place && found.message.contains(part), "{source}: {found:?}");
        }
        check(json!("${"), "", "not closed");
        check(json!({"a": ["x", "y ${1"]}), "a[1]", "`${` at character 3");
        check(json!({"a": {"b": "${}"}}), "a.b", "is empty");
        check(json!({"a": {"b": "${1 +}"}}), "a.b", "cannot be read");
        check(json!(["${null}"]), "[0]", "is null");
        check(json!(["x${null}"]), "[0]", "is null");
        check(json!(["x${options.l}"]), "[0]", ".join(");
        check(json!(["x${options.m}"]), "[0]", "list or a map");
        check(json!(["${options.nosuch}"]), "[0]", "has no value");
        check(json!(["${node.name}"]), "[0]", "no node");
    }

    #[test]
    fn an_input_cannot_grow_beyond_its_bound() {
        let large = scope(json!({"large": "x".repeat(900 << 10)}));
        let two = json!(["${options.large}", "${options.large}"]);
        assert!(render(&two, &large).unwrap_err().message.contains("larger than"));
        let text = json!("${options.large}${options.large}");
        assert!(render(&text, &large).unwrap_err().message.contains("longer than"));
    }

    proptest! {
        /// What somebody typed arrives as it was typed, in one place, whatever it looks like.
        #[test]
        fn a_value_arrives_as_it_was_typed(value in "(\\PC|[\n\t\"'${}\\\\])*", before in "[a-z ]{0,5}", after in "[a-z ]{0,5}") {
            let scope = scope(json!({"v": value}));
            let template = json!({"argv": ["${options.v}", format!("{before}${{options.v}}{after}")]});
            let rendered = render(&template, &scope);
            prop_assert_eq!(rendered, Ok(json!({"argv": [value, format!("{before}{value}{after}")]})));
        }

        #[test]
        fn no_text_panics(text in "[a-z${}'\"\\\\. ]{0,40}") {
            let _ = render(&json!({"a": [text]}), &scope(json!({})));
        }
    }
}
