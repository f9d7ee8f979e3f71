//! From an input to one that nobody wrote: by the structure that it has, or against it.

use serde_json::{Map, Value};

use crate::random::Random;

/// The structure of a target's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Any bytes.
    Bytes,
    /// A line of text.
    Text,
    /// Lines that mean something each: notes, TOML, YAML.
    Lines,
    /// JSON.
    Json,
}

/// Longest input that is made.
const MAX_INPUT: usize = 64 << 10;
/// What breaks readers of text.
const TEXTS: &[&str] = &[
    "",
    "0",
    "-1",
    "1e308",
    "9007199254740993",
    "99999999999999999999999",
    "NaN",
    "null",
    "true",
    "..",
    ".",
    "/",
    "//",
    "%2e",
    "%00",
    "\u{0}",
    "\n",
    "\r\n",
    "\t",
    "\u{c}",
    "\u{feff}",
    "\u{202e}",
    "\u{200b}",
    "é",
    "ß",
    "К",
    "\u{1b}[31m",
    "${x}",
    "$${",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\\",
    ":",
    ",",
    "@",
    "*",
    "**",
    "-",
    "--",
    "#",
    "?",
    "&",
    ";",
    "=",
    "{int}",
    "{text}*",
    "granted",
    "18446744073709551615",
    "-9223372036854775808",
    "2026-02-30T25:61:61Z",
    "1h",
    "64MiB",
];
const NUMBERS: &[i64] =
    &[0, 1, -1, 2, 7, 8, 255, 256, 65_535, 65_536, i64::MAX, i64::MIN, 9_007_199_254_740_992];

/// Makes inputs of one target.
pub struct Mutator<'a> {
    /// The target's structure.
    pub form: Form,
    /// Words that mean something to the target.
    pub words: &'a [&'a str],
}

impl Mutator<'_> {
    /// A changed `input`; `other` is one to take parts of.
    pub fn mutate(&self, random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut made = input.to_vec();
        for _ in 0..=random.below(4) {
            made = match self.form {
                Form::Json if !random.once_in(6) => self.json(random, &made, other),
                Form::Lines if !random.once_in(3) => self.lines(random, &made, other),
                _ => self.bytes(random, made, other),
            };
        }
        made.truncate(MAX_INPUT);
        made
    }

    fn word(&self, random: &mut Random) -> String {
        let own = !self.words.is_empty() && !random.once_in(3);
        let word = random.one(if own { self.words } else { TEXTS }).copied().unwrap_or_default();
        match random.below(24) {
            0 => word.repeat(1 + random.below(300)),
            1 => word.to_uppercase(),
            _ => word.to_owned(),
        }
    }

    fn bytes(&self, random: &mut Random, mut input: Vec<u8>, other: &[u8]) -> Vec<u8> {
        let at = random.below(input.len() + 1);
        let end = (at + 1 + random.below(16)).min(input.len());
        match random.below(9) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.byte();
                }
            }
            2 => drop(input.drain(at.min(end)..end)),
            3 => {
                let piece = input.get(at..end).unwrap_or_default().to_vec();
                let into = random.below(input.len() + 1);
                input.splice(into..into, piece);
            }
            4 => input.truncate(at),
            5 => {
                let from = random.below(other.len());
                let to = (from + random.below(64)).min(other.len());
                input.splice(at..at, other.get(from..to).unwrap_or_default().iter().copied());
            }
            6 => {
                let byte = random.byte();
                input.insert(at, byte);
            }
            _ => {
                let word = self.word(random);
                input.splice(at..end.max(at).min(input.len()), word.into_bytes());
            }
        }
        input
    }

    fn lines(&self, random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
        let split = |bytes: &[u8]| {
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let (mut lines, others) = (split(input), split(other));
        let (at, to) = (random.below(lines.len()), random.below(lines.len()));
        match random.below(6) {
            0 if !lines.is_empty() => drop(lines.remove(at)),
            1 if !lines.is_empty() => lines.swap(at, to),
            2 if !lines.is_empty() => lines.insert(to, lines[at].clone()),
            3 => lines.insert(at, random.one(&others).cloned().unwrap_or_default()),
            4 if !lines.is_empty() => lines[at] = self.bytes(random, lines[at].clone(), other),
            _ => {
                if let Some(line) = lines.get_mut(at) {
                    *line = self.words_changed(random, line);
                }
            }
        }
        lines.concat()
    }

    /// One word of a line replaced, doubled or taken out.
    fn words_changed(&self, random: &mut Random, line: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(line).into_owned();
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let at = random.below(words.len());
        match random.below(3) {
            0 => drop(words.remove(at)),
            1 => words.insert(at, words[at].clone()),
            _ => words[at] = self.word(random),
        }
        words.join(" ").into_bytes()
    }

    fn json(&self, random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
        let Ok(mut value) = serde_json::from_slice::<Value>(input) else {
            return self.bytes(random, input.to_vec(), other);
        };
        let part = serde_json::from_slice::<Value>(other).ok().map(|other| self.part(random, &other));
        let depth = random.below(8);
        self.change(random, &mut value, part.as_ref(), depth);
        let mut made = serde_json::to_vec(&value).unwrap_or_default();
        // What a writer would never write: a member twice.
        if random.once_in(20) {
            let text = String::from_utf8_lossy(&made).into_owned();
            made = text.replacen("\":", "\":0,\"v\":", 1).into_bytes();
        }
        made
    }

    /// Some part of a value.
    fn part(&self, random: &mut Random, value: &Value) -> Value {
        let inner: Vec<&Value> = match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(members) => members.values().collect(),
            _ => Vec::new(),
        };
        match random.one(&inner) {
            Some(inner) if !random.once_in(4) => self.part(random, inner),
            _ => value.clone(),
        }
    }

    fn change(&self, random: &mut Random, value: &mut Value, part: Option<&Value>, depth: usize) {
        if depth > 0 {
            let inner: Option<&mut Value> = match value {
                Value::Array(items) => {
                    let at = random.below(items.len());
                    items.get_mut(at)
                }
                Value::Object(members) => {
                    let at = random.below(members.len());
                    members.values_mut().nth(at)
                }
                _ => None,
            };
            if let Some(inner) = inner {
                return self.change(random, inner, part, depth - 1);
            }
        }
        if let Some(part) = part.filter(|_| random.once_in(5)) {
            *value = part.clone();
            return;
        }
        match value {
            Value::Array(items) => self.change_items(random, items, part),
            Value::Object(members) => self.change_members(random, members, part),
            Value::String(text) => *text = self.changed(random, text),
            Value::Number(_) if !random.once_in(3) => *value = (*random.one(NUMBERS).unwrap_or(&0)).into(),
            Value::Bool(flag) if !random.once_in(3) => *flag = !*flag,
            other => {
                *other = match random.below(5) {
                    0 => Value::Null,
                    1 => Value::Bool(true),
                    2 => (*random.one(NUMBERS).unwrap_or(&0)).into(),
                    3 => Value::Array(vec![other.clone()]),
                    _ => Value::String(self.word(random)),
                }
            }
        }
    }

    fn changed(&self, random: &mut Random, text: &str) -> String {
        if random.once_in(2) {
            return self.word(random);
        }
        let word = self.word(random);
        let bytes = self.bytes(random, text.as_bytes().to_vec(), word.as_bytes());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn change_items(&self, random: &mut Random, items: &mut Vec<Value>, part: Option<&Value>) {
        let at = random.below(items.len());
        match random.below(4) {
            0 if !items.is_empty() => drop(items.remove(at)),
            1 if !items.is_empty() => items.insert(at, items[at].clone()),
            2 => items.push(part.cloned().unwrap_or_default()),
            _ => items.push(Value::String(self.word(random))),
        }
    }

    fn change_members(&self, random: &mut Random, members: &mut Map<String, Value>, part: Option<&Value>) {
        let at = random.below(members.len());
        let name = members.keys().nth(at).cloned().unwrap_or_default();
        match random.below(4) {
            0 => drop(members.remove(&name)),
            1 => {
                let value = members.remove(&name).unwrap_or_default();
                members.insert(self.word(random), value);
            }
            2 => drop(members.insert(self.word(random), part.cloned().unwrap_or_default())),
            _ => drop(members.insert(name, part.cloned().unwrap_or_default())),
        }
    }
}
