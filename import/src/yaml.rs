//! YAML 1.1 as Rundeck reads it, as JSON values: `yes` is true, `010` is 8, `22:30` is 1350, `<<` merges, the last of two
//! equal keys holds.
//!
//! Tags other than those of the core types are refused, so nothing is made by a name in the file. An alias counts as what
//! it stands for, so a bomb ends at [`MAX_VALUES`].

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use crate::file::InvalidFile;

/// Most values in one file, aliases counted as what they stand for.
const MAX_VALUES: usize = 2_000_000;
/// Deepest nesting, as in Rundeck's own reader.
const MAX_DEPTH: usize = 50;

/// A value and how large it is: values in all, and levels.
#[derive(Clone)]
struct Sized {
    value: Value,
    count: usize,
    depth: usize,
}

enum Open {
    List {
        anchor: usize,
        items: Vec<Value>,
        count: usize,
        depth: usize,
    },
    Map {
        anchor: usize,
        map: Map<String, Value>,
        merged: Vec<Value>,
        key: Option<Key>,
        count: usize,
        depth: usize,
    },
}

enum Key {
    Text(String),
    Merge,
}

struct Builder {
    open: Vec<Open>,
    /// Every document so far.
    roots: Vec<Value>,
    most: usize,
    anchors: HashMap<usize, Sized>,
    values: usize,
}

/// Reads one document; `None` if there is none.
pub(crate) fn parse(text: &str) -> Result<Option<Value>, InvalidFile> {
    documents(text, 1).map(|mut roots| roots.pop())
}

/// Reads at most so many documents.
pub(crate) fn documents(text: &str, most: usize) -> Result<Vec<Value>, InvalidFile> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder =
        Builder { open: Vec::new(), roots: Vec::new(), most, anchors: HashMap::new(), values: 0 };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let (line, column) = (error.marker().line(), error.marker().col() + 1);
            InvalidFile::at(line, column, format!("this is not YAML: {}", error.info()))
        })?;
        builder.event(event).map_err(|why| InvalidFile::at(span.start.line(), span.start.col() + 1, why))?;
    }
    Ok(builder.roots)
}

impl Builder {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        let text_tag = match event.tag() {
            None => false,
            Some(tag) => core_tag(&tag.to_string())?,
        };
        match event {
            Event::DocumentStart(..) if self.roots.len() >= self.most => Err(match self.most {
                1 => "there is a second document; a job file is one list".to_owned(),
                most => format!("there are more than {most} documents"),
            }),
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain && !text_tag;
                let merge = plain && &*text == "<<";
                let value = if plain { scalar(&text) } else { Value::String(text.into_owned()) };
                self.close(Sized { value, count: 1, depth: 0 }, anchor, merge)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.opened(Open::List { anchor, items: Vec::new(), count: 1, depth: 0 })
            }
            Event::MappingStart(_, anchor, _) => self.opened(Open::Map {
                anchor,
                map: Map::new(),
                merged: Vec::new(),
                key: None,
                count: 1,
                depth: 0,
            }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { anchor, items, count, depth }) => {
                    self.close(Sized { value: Value::Array(items), count, depth: depth + 1 }, anchor, false)
                }
                Some(Open::Map { anchor, mut map, merged, count, depth, .. }) => {
                    merge(&mut map, merged)?;
                    self.close(Sized { value: Value::Object(map), count, depth: depth + 1 }, anchor, false)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).ok_or("this alias stands inside what it names")?;
                if self.open.len() + known.depth > MAX_DEPTH {
                    return Err(format!("nested deeper than {MAX_DEPTH}"));
                }
                // Counted before it is copied, so that a bomb costs nothing.
                self.bounded(known.count)?;
                let known = known.clone();
                self.values += known.count - 1;
                self.close(known, 0, false)
            }
            _ => Ok(()),
        }
    }

    fn bounded(&self, more: usize) -> Result<(), String> {
        if self.values + more <= MAX_VALUES {
            return Ok(());
        }
        Err(format!("more than {MAX_VALUES} values, aliases counted as what they stand for"))
    }

    fn opened(&mut self, open: Open) -> Result<(), String> {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err("a list or a map stands as a key".to_owned());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self, node: Sized, anchor: usize, is_merge: bool) -> Result<(), String> {
        self.bounded(1)?;
        self.values += 1;
        if anchor != 0 {
            // A copy for the alias is paid for like the alias itself.
            self.bounded(node.count)?;
            self.values += node.count;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.roots.push(node.value),
            Some(Open::List { items, count, depth, .. }) => {
                *count += node.count;
                *depth = (*depth).max(node.depth);
                items.push(node.value);
            }
            Some(Open::Map { map, merged, key, count, depth, .. }) => {
                *count += node.count;
                *depth = (*depth).max(node.depth);
                match key.take() {
                    None if is_merge => *key = Some(Key::Merge),
                    None if node.value.is_array() || node.value.is_object() => {
                        return Err("a list or a map stands as a key".to_owned());
                    }
                    None => *key = Some(Key::Text(text(&node.value))),
                    Some(Key::Merge) => merged.push(node.value),
                    Some(Key::Text(key)) => {
                        map.insert(key, node.value);
                    }
                }
            }
        }
        Ok(())
    }
}

/// True for `!!str`; false for another core type, which the plain reading gives as well.
fn core_tag(tag: &str) -> Result<bool, String> {
    let name = tag.rsplit([':', '!']).next().unwrap_or_default();
    match name {
        "str" => Ok(true),
        "int" | "float" | "bool" | "null" | "map" | "seq" | "timestamp" => Ok(false),
        _ => Err(format!("the tag {tag:?} is refused: nothing is made by a name in a file; remove it")),
    }
}

/// What is merged never replaces what stands in the map itself; of several the first holds.
fn merge(map: &mut Map<String, Value>, merged: Vec<Value>) -> Result<(), String> {
    for value in merged {
        let maps = match value {
            Value::Array(maps) => maps,
            other => vec![other],
        };
        for other in maps {
            let Value::Object(other) = other else {
                return Err("`<<` merges maps only".to_owned());
            };
            for (key, value) in other {
                map.entry(key).or_insert(value);
            }
        }
    }
    Ok(())
}

/// A plain scalar by the types of YAML 1.1.
fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if let Some(number) = integer(text) {
        return Value::from(number);
    }
    let float =
        text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+'));
    match text.parse::<f64>() {
        Ok(number) if float && number.is_finite() => Value::from(number),
        _ => Value::String(text.to_owned()),
    }
}

fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if digits.contains(':') {
        let mut total: i64 = 0;
        for (at, part) in digits.split(':').enumerate() {
            let number: i64 = part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()))?;
            if at > 0 && (number > 59 || part.len() > 2) || at == 0 && part.len() > 1 && part.starts_with('0')
            {
                return None;
            }
            total = total.checked_mul(60)?.checked_add(number)?;
        }
        return total.checked_mul(sign);
    }
    let digits = digits.replace('_', "");
    let number = if let Some(hex) = digits.strip_prefix("0x") {
        i64::from_str_radix(hex, 16).ok()?
    } else if let Some(binary) = digits.strip_prefix("0b") {
        i64::from_str_radix(binary, 2).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(&digits, 8).ok()?
    } else if digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse().ok()?
    } else {
        return None;
    };
    number.checked_mul(sign)
}

/// A scalar as Rundeck writes it into a field of text; empty for nothing.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Groovy's idea of true: the text `"false"` is true.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_have_the_types_of_version_1_1() {
        fn check(text: &str, expect: Value) {
            assert_eq!(parse(&format!("[{text}]")).unwrap().unwrap(), json!([expect]), "{text}");
        }
        check("no", json!(false));
        check("'no'", json!("no"));
        check("Off", json!(false));
        check("010", json!(8));
        check("0o10", json!("0o10"));
        check("08", json!("08"));
        check("22:30", json!(1350));
        check("22:75", json!("22:75"));
        check("1_000", json!(1000));
        check("0x1F", json!(31));
        check("1.5", json!(1.5));
        check("2024-01-02", json!("2024-01-02"));
        check("10.0.0.5", json!("10.0.0.5"));
        check("!!str 010", json!("010"));
        check("~", json!(null));
    }

    #[test]
    fn maps_merge_and_the_last_key_holds() {
        let text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\na: 4\n1: yes\n";
        assert_eq!(parse(text).unwrap().unwrap(), json!({"a": 4, "b": {"x": 1, "y": 3}, "1": true}));
    }

    #[test]
    fn hostile_files_are_refused_with_their_place() {
        fn check(text: &str, part: &str) {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{text:.80}: {error}");
            assert!(error.line >= 1);
        }
        check("- !!javax.script.ScriptEngineManager [x]", "is refused");
        check("- !evil x", "is refused");
        check("a: &x [*x]", "inside what it names");
        check("a: 1\n---\nb: 2", "second document");
        check(&"- ".repeat(80), "");
        check(&"[".repeat(80), "");
        check("[a]: b", "as a key");
        let mut bomb = "- &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..48 {
            bomb.push_str(&format!("- &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", ")));
        }
        check(&bomb, "aliases counted");
    }
}
