//! Strict YAML 1.2 to a tree that knows where everything stands.
//!
//! One document, the core schema, texts as keys, no duplicate keys, no tags, no directives. Aliases count as what they
//! stand for, so a bomb ends at [`MAX_VALUES`]. Depth is bounded by the parser's own limits.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};
use remit_protocol::{
    endpoint::Fault,
    json::{MAX_DEPTH, MAX_INTEGER},
    limits::MAX_JOB,
};
use serde_json::{Map, Number, Value};

/// Most values in one file, aliases counted as what they stand for.
const MAX_VALUES: usize = 100_000;

/// Where something stands: line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Tree,
}

#[derive(Debug, Clone)]
pub(crate) enum Tree {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Member>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) mark: Mark,
    pub(crate) node: Node,
}

impl Mark {
    fn of(span: &Span) -> Self {
        Self::new(span.start.line(), span.start.col())
    }

    fn new(line: usize, column: usize) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(line).max(1), column: number(column).saturating_add(1) }
    }

    /// A fault here.
    pub(crate) fn fault(self, place: &str, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault {
            line: Some(self.line),
            column: Some(self.column),
            place: place.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

impl Node {
    /// What it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Tree::Scalar(Value::Null) => "nothing",
            Tree::Scalar(Value::Bool(_)) => "true or false",
            Tree::Scalar(Value::Number(_)) => "a number",
            Tree::Scalar(_) => "a text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a map",
        }
    }

    /// As JSON, without places.
    pub(crate) fn to_value(&self) -> Value {
        match &self.value {
            Tree::Scalar(value) => value.clone(),
            Tree::List(items) => items.iter().map(Self::to_value).collect(),
            Tree::Map(members) => {
                let members = members.iter().map(|member| (member.key.clone(), member.node.to_value()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }

    fn count(&self) -> usize {
        match &self.value {
            Tree::Scalar(_) => 1,
            Tree::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Tree::Map(members) => 1 + members.iter().map(|member| member.node.count()).sum::<usize>(),
        }
    }

    fn depth(&self) -> usize {
        match &self.value {
            Tree::Scalar(_) => 0,
            Tree::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Tree::Map(members) => 1 + members.iter().map(|member| member.node.depth()).max().unwrap_or(0),
        }
    }
}

/// Parses one document. Syntax has one fault, the first; duplicate keys and unusable scalars are collected.
pub(crate) fn parse(text: &str) -> Result<Node, Vec<Fault>> {
    let start = Mark { line: 1, column: 1 };
    if text.len() > MAX_JOB {
        let message = format!("{} bytes of YAML, at most {MAX_JOB} are allowed", text.len());
        return Err(vec![start.fault("file", message, "split the job into several")]);
    }
    let options = granit_parser::options! {
        strict_indentation: true,
        disallow_directives: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder =
        Builder { open: Vec::new(), root: None, anchors: HashMap::new(), values: 0, faults: Vec::new() };
    for next in Parser::new_from_str_with_options(text, options) {
        let step = match next {
            Ok((event, span)) => builder.event(event, &span),
            Err(error) => {
                let mark = Mark::new(error.marker().line(), error.marker().col());
                Err(mark.fault("file", format!("this is not YAML: {}", error.info()), remedy_of(text, mark)))
            }
        };
        if let Err(fault) = step {
            builder.faults.push(fault);
            return Err(builder.faults);
        }
    }
    match builder.root {
        Some(root) if builder.faults.is_empty() => Ok(root),
        Some(_) => Err(builder.faults),
        None => Err(vec![start.fault("file", "the file is empty", "write at least `job:` and `steps:`")]),
    }
}

/// The mistakes that people make most often, by what stands on the line.
fn remedy_of(text: &str, mark: Mark) -> String {
    let line = text.lines().nth(usize::try_from(mark.line).unwrap_or(1) - 1).unwrap_or_default();
    if line.trim_start().starts_with('\t') || line.starts_with('\t') {
        "indent with spaces, not with tabs".to_owned()
    } else if line.contains(": ") && line.matches(": ").count() > 1 {
        "put the text in quotes: it holds a colon and a space".to_owned()
    } else {
        "check indentation, quotes and brackets on this line and the one before".to_owned()
    }
}

enum Open {
    List { mark: Mark, anchor: usize, items: Vec<Node> },
    Map { mark: Mark, anchor: usize, members: Vec<Member>, key: Option<(String, Mark)> },
}

struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    values: usize,
    faults: Vec<Fault>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        let mark = Mark::of(span);
        if event.tag().is_some() {
            let mark = span.tag_start().map_or(mark, |start| Mark::new(start.line(), start.col()));
            return Err(mark.fault(
                "file",
                "tags such as `!!str` are not used here",
                "remove it; put a text in quotes",
            ));
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(mark.fault("file", "there is a second document in the file", "write one job a file"))
            }
            Event::Scalar(text, style, anchor, _) => {
                let value = self.scalar(&text, style, mark);
                self.close(Node { mark, value: Tree::Scalar(value) }, anchor, Some((&text, style)))
            }
            Event::SequenceStart(_, anchor, _) => {
                self.opened(mark, Open::List { mark, anchor, items: Vec::new() })
            }
            Event::MappingStart(_, anchor, _) => {
                self.opened(mark, Open::Map { mark, anchor, members: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { mark, anchor, items }) => {
                    self.close(Node { mark, value: Tree::List(items) }, anchor, None)
                }
                Some(Open::Map { mark, anchor, members, .. }) => {
                    self.close(Node { mark, value: Tree::Map(members) }, anchor, None)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(mark.fault(
                        "file",
                        "this alias stands inside what it names",
                        "write the value out",
                    ));
                };
                if self.open.len() + node.depth() > MAX_DEPTH {
                    return Err(mark.fault(
                        "file",
                        format!("nested deeper than {MAX_DEPTH}"),
                        "write it flatter",
                    ));
                }
                self.values += node.count();
                self.bounded(mark)?;
                let node = node.clone();
                self.close(node, 0, None)
            }
            _ => Ok(()),
        }
    }

    fn bounded(&self, mark: Mark) -> Result<(), Fault> {
        if self.values <= MAX_VALUES {
            return Ok(());
        }
        Err(mark.fault(
            "file",
            format!("more than {MAX_VALUES} values, aliases counted"),
            "split the job into several",
        ))
    }

    fn opened(&mut self, mark: Mark, open: Open) -> Result<(), Fault> {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err(mark.fault("file", "a list or a map stands as a key", "write a text as the key"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(mark.fault("file", format!("nested deeper than {MAX_DEPTH}"), "write it flatter"));
        }
        self.open.push(open);
        Ok(())
    }

    /// A node is complete: it becomes a key, a value, an item or the root.
    fn close(&mut self, node: Node, anchor: usize, scalar: Option<(&str, ScalarStyle)>) -> Result<(), Fault> {
        self.values += 1;
        self.bounded(node.mark)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { members, key, .. }) => match key.take() {
                Some((text, mark)) => members.push(Member { key: text, mark, node }),
                None => {
                    let Tree::Scalar(Value::String(text)) = &node.value else {
                        let shown =
                            scalar.map(|(text, _)| text.to_owned()).unwrap_or_else(|| node.kind().to_owned());
                        let remedy = format!("put it in quotes: \"{shown}\"");
                        return Err(node.mark.fault(
                            "file",
                            format!("the key {shown} is not a text"),
                            remedy,
                        ));
                    };
                    if let Some(first) = members.iter().find(|member| member.key == *text) {
                        let message =
                            format!("the key `{text}` stands twice; first in line {}", first.mark.line);
                        self.faults.push(node.mark.fault(text, message, "remove one of them"));
                    }
                    *key = Some((text.clone(), node.mark));
                }
            },
        }
        Ok(())
    }

    /// A scalar by the core schema: only plain ones are anything else than texts.
    fn scalar(&mut self, text: &str, style: ScalarStyle, mark: Mark) -> Value {
        if style != ScalarStyle::Plain {
            return Value::String(text.to_owned());
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
            "true" | "True" | "TRUE" => return Value::Bool(true),
            "false" | "False" | "FALSE" => return Value::Bool(false),
            _ => {}
        }
        match number(text) {
            Some(Ok(number)) => Value::Number(number),
            Some(Err(message)) => {
                let remedy = format!("put it in quotes if it is a text: \"{text}\"");
                self.faults.push(mark.fault("file", message, remedy));
                Value::Null
            }
            None => Value::String(text.to_owned()),
        }
    }
}

/// The number that a plain scalar stands for, if it stands for one.
fn number(text: &str) -> Option<Result<Number, String>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let beyond = || format!("{text} is beyond ±(2^53 - 1), which not every program keeps exactly");
    let bounded = |number: i64| {
        if number.unsigned_abs() <= MAX_INTEGER { Ok(Number::from(number)) } else { Err(beyond()) }
    };
    if let Some(hex) =
        text.strip_prefix("0x").filter(|hex| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Some(i64::from_str_radix(hex, 16).map_err(|_| beyond()).and_then(bounded));
    }
    if let Some(octal) = text
        .strip_prefix("0o")
        .filter(|octal| !octal.is_empty() && octal.bytes().all(|b| (b'0'..=b'7').contains(&b)))
    {
        return Some(i64::from_str_radix(octal, 8).map_err(|_| beyond()).and_then(bounded));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Err(format!("{text} is not a finite number")));
    }
    if digits(unsigned) {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return Some(Err(format!("{text} begins with a zero: some programs read it as an octal number")));
        }
        return Some(
            text.strip_prefix('+').unwrap_or(text).parse::<i64>().map_err(|_| beyond()).and_then(bounded),
        );
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let float = (digits(whole) || whole.is_empty())
        && (digits(fraction) || fraction.is_empty())
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(digits)
        && (mantissa.contains('.') || exponent.is_some());
    if !float {
        return None;
    }
    let parsed = text.parse::<f64>().ok().and_then(Number::from_f64);
    Some(parsed.ok_or_else(|| format!("{text} is not a finite number")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_core_schema_and_nothing_else() {
        fn check(text: &str, expect: Value) {
            assert_eq!(parse(text).map(|node| node.to_value()), Ok(expect), "{text:?}");
        }
        check(
            "a: 1\nb: [x, \"1\", 1.5, true, null, ~]\n",
            json!({"a": 1, "b": ["x", "1", 1.5, true, null, null]}),
        );
        check("a: yes\nb: on\nc: no\n", json!({"a": "yes", "b": "on", "c": "no"}));
        check(
            "a: 0x1F\nb: 0o17\nc: -5\nd: +5\ne: 1e3\nf: .5\n",
            json!({"a": 31, "b": 15, "c": -5, "d": 5, "e": 1000.0, "f": 0.5}),
        );
        check(
            "a: 1:30\nb: 2026-11-20\nc: 1.4.2\nd: 1_000\n",
            json!({"a": "1:30", "b": "2026-11-20", "c": "1.4.2", "d": "1_000"}),
        );
        check("a: |\n  x\n  y\nb: >-\n  x\n  y\n", json!({"a": "x\ny\n", "b": "x y"}));
        check("a: &x [1, 2]\nb: *x\n", json!({"a": [1, 2], "b": [1, 2]}));
        check("---\na: 1\n...\n", json!({"a": 1}));
        check("\u{feff}a: 1\n", json!({"a": 1}));
    }

    #[test]
    fn mistakes_have_line_and_column() {
        fn check(text: &str, line: u32, column: u32, part: &str) {
            let faults = parse(text).map(|node| node.to_value()).unwrap_err();
            let first = &faults[0];
            assert_eq!((first.line, first.column), (Some(line), Some(column)), "{text:?}: {first:?}");
            assert!(first.message.contains(part), "{text:?}: {first:?}");
        }
        check("", 1, 1, "empty");
        check("# nothing\n", 1, 1, "empty");
        check("a: 1\na: 2\n", 2, 1, "stands twice");
        check("a:\n  b: 1\n  'b': 2\n", 3, 3, "stands twice");
        check("a: {b: 1, b: 2}\n", 1, 11, "stands twice");
        check("1: a\n", 1, 1, "not a text");
        check("true: a\n", 1, 1, "not a text");
        check("[a]: b\n", 1, 1, "as a key");
        check("a: !!str 1\n", 1, 4, "tags");
        check("a: 1\n---\nb: 2\n", 2, 1, "second document");
        check("%YAML 1.1\n---\na: 1\n", 1, 1, "not YAML");
        check("a: 0123\n", 1, 4, "begins with a zero");
        check("a: 9007199254740992\n", 1, 4, "beyond");
        check("a: .inf\n", 1, 4, "finite");
        check("a: 1e999\n", 1, 4, "finite");
        check("a: *x\n", 1, 4, "not YAML");
        check("a: &x [*x]\n", 1, 8, "inside what it names");
        check("a: [1, 2\nb: 3\n", 2, 1, "not YAML");
        check("a:\n\tb: 1\n", 2, 2, "not YAML");
        check(&format!("{}1", "- ".repeat(40)), 1, 65, "");
        check(&format!("a: {}", "[".repeat(40)), 1, 36, "limit");
        check(&format!("a: '{}'", "x".repeat(1 << 20)), 1, 1, "at most");
    }

    #[test]
    fn an_alias_bomb_ends_early() {
        let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (one, other) in "abcdefgh".chars().zip("bcdefghi".chars()) {
            text.push_str(&format!("{other}: &{other} [{}]\n", vec![format!("*{one}"); 10].join(", ")));
        }
        let faults = parse(&text).map(|node| node.count()).unwrap_err();
        assert!(faults[0].message.contains("100000 values"), "{faults:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\\n\\t]{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_text_of_tokens_panics(tokens in proptest::collection::vec(proptest::sample::select(vec![
            "a", ": ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "&x ", "*x", "!!str ", "|", ">", "'", "\"", "#", "---\n", "? ", "...", "%", "1", "\t",
        ]), 0..40)) {
            let _ = parse(&tokens.concat());
        }
    }
}
