//! Calls of functions: each spends of the budget by what it reads and makes.

use std::borrow::Cow;

use remit_protocol::json::MAX_INTEGER;
use serde_json::{Number, Value};

use super::{Evaluation, value::kind};
use crate::{
    date::{self, DateFormat},
    expression::function::Function,
};

/// Largest compiled regular expression, in bytes.
const MAX_REGEX: usize = 256 << 10;

impl Evaluation<'_> {
    pub(super) fn call(&mut self, function: Function, arguments: &[Cow<'_, Value>]) -> Result<Value, String> {
        let values: Vec<&Value> = arguments.iter().map(Cow::as_ref).collect();
        let unfit = || {
            let kinds: Vec<_> = values.iter().map(|value| kind(value)).collect();
            format!("calls `{}` on {}", function.name(), kinds.join(" and "))
        };
        match (function, &values[..]) {
            (Function::Size, [value]) => size(value).map(Value::from).ok_or_else(unfit),
            (Function::Text, [value]) => {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    Value::Bool(value) => value.to_string(),
                    _ => return Err(unfit()),
                };
                self.make(8 + text.len())?;
                Ok(Value::String(text))
            }
            (Function::Int, [value]) => to_int(value).ok_or_else(unfit),
            (Function::Double, [value]) => to_double(value).ok_or_else(unfit),
            (Function::Bool, [Value::Bool(value)]) => Ok(Value::Bool(*value)),
            (Function::Bool, [Value::String(text)]) => match text.as_str() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(unfit()),
            },
            (Function::Join, [Value::Array(items), Value::String(between)]) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                let texts =
                    texts.ok_or_else(|| "joins a list that holds something else than texts".to_owned())?;
                self.make(8 + texts.iter().map(|text| text.len() + between.len()).sum::<usize>())?;
                Ok(Value::String(texts.join(between)))
            }
            (_, [Value::String(text), rest @ ..]) => {
                let rest: Option<Vec<&str>> = rest.iter().map(|value| value.as_str()).collect();
                self.text_call(function, text, &rest.ok_or_else(unfit)?).unwrap_or_else(|| Err(unfit()))
            }
            _ => Err(unfit()),
        }
    }

    /// The time of the trigger, moved by `shift`, in the form of `format`.
    fn date(&mut self, format: &str, shift: &str) -> Result<Value, String> {
        let now = self.scope.now().ok_or("asks for the date where there is no clock")?;
        let format = DateFormat::new(format).map_err(|invalid| format!("calls `date` wrongly: {invalid}"))?;
        let moved = date::shifted(now, shift).ok_or_else(|| {
            format!("calls `date` with {shift:?}; write how far to move, such as \"2d\" or \"-1h\"")
        })?;
        Ok(Value::String(format.write(moved)))
    }

    /// Functions of a text; `None` if there is none of this shape.
    fn text_call(&mut self, function: Function, text: &str, rest: &[&str]) -> Option<Result<Value, String>> {
        if let Err(why) = self.spend(text.len()) {
            return Some(Err(why));
        }
        Some(match (function, rest) {
            (Function::Contains, [part]) => Ok(Value::Bool(text.contains(part))),
            (Function::StartsWith, [part]) => Ok(Value::Bool(text.starts_with(part))),
            (Function::EndsWith, [part]) => Ok(Value::Bool(text.ends_with(part))),
            (Function::Matches, [pattern]) => self.matches(text, pattern).map(Value::Bool),
            (Function::LowerAscii, []) => {
                self.make(8 + text.len()).map(|()| text.to_ascii_lowercase().into())
            }
            (Function::UpperAscii, []) => {
                self.make(8 + text.len()).map(|()| text.to_ascii_uppercase().into())
            }
            (Function::Trim, []) => self.make(8 + text.len()).map(|()| text.trim().into()),
            (Function::Split, [separator]) => {
                let parts = if separator.is_empty() {
                    text.chars().count()
                } else {
                    text.matches(separator).count() + 1
                };
                self.make(8 + text.len() + 8 * parts).map(|()| match separator.is_empty() {
                    true => text.chars().map(|c| Value::from(c.to_string())).collect(),
                    false => text.split(separator).map(Value::from).collect(),
                })
            }
            (Function::Date, []) => self.date(text, "0s"),
            (Function::DateShifted, [shift]) => self.date(text, shift),
            (Function::Replace, [from, to]) => {
                let times = text.matches(from).count();
                self.make(8 + text.len() + times * to.len()).map(|()| text.replace(from, to).into())
            }
            _ => return None,
        })
    }

    fn matches(&mut self, text: &str, pattern: &str) -> Result<bool, String> {
        // In the worst case a search looks at each character once for every state that it can be in: a unit a character.
        self.spend(text.len().saturating_mul(64))?;
        if self.regex.as_ref().is_none_or(|(last, _)| last != pattern) {
            self.spend(MAX_REGEX / 16)?;
            let regex = regex::RegexBuilder::new(pattern)
                .size_limit(MAX_REGEX)
                .dfa_size_limit(MAX_REGEX)
                .nest_limit(32)
                .build()
                .map_err(|_| {
                    format!(
                        "has the pattern {:?}, which is not a regular expression or too large",
                        pattern.chars().take(80).collect::<String>()
                    )
                })?;
            self.regex = Some((pattern.to_owned(), regex));
        }
        Ok(self.regex.as_ref().is_some_and(|(_, regex)| regex.is_match(text)))
    }
}

fn size(value: &Value) -> Option<u64> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => return None,
    };
    u64::try_from(size).ok()
}

#[expect(clippy::cast_possible_truncation, reason = "only a double without a fraction inside ±2^53")]
fn to_int(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let double = number.as_f64()?.trunc();
            (double.abs() <= MAX_INTEGER as f64).then_some(double as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|number: &i64| number.unsigned_abs() <= MAX_INTEGER).map(Value::from)
}

fn to_double(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.and_then(Number::from_f64).map(Value::Number)
}
