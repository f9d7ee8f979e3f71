//! Values of JSON as expressions take them: their size and kind, their members, their order, and arithmetic on numbers.
//!
//! Nothing here spends of the budget; whoever calls it does.

use std::{borrow::Cow, cmp::Ordering};

use remit_protocol::{json::MAX_INTEGER, limits::MAX_VALUE};
use serde_json::{Map, Number, Value};

use crate::expression::program::Operator;

pub(super) type Found<'a> = Result<Cow<'a, Value>, String>;

/// About how many bytes a value takes.
pub(crate) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => 8 + text.len(),
        Value::Array(items) => 8 + items.iter().map(weight).sum::<usize>(),
        Value::Object(members) => {
            8 + members.iter().map(|(key, value)| 8 + key.len() + weight(value)).sum::<usize>()
        }
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

pub(super) fn check_size(bytes: usize) -> Result<(), String> {
    if bytes > MAX_VALUE { Err(format!("makes a value larger than {MAX_VALUE} bytes")) } else { Ok(()) }
}

pub(super) fn owned<'a>(value: bool) -> Cow<'a, Value> {
    Cow::Owned(Value::Bool(value))
}

pub(super) fn member<'a>(value: Cow<'a, Value>, field: &str) -> Found<'a> {
    let missing = |members: &Map<String, Value>| {
        let names: Vec<_> = members.keys().take(10).map(String::as_str).collect();
        format!(
            "names the field `{field}`, which is not there; there is {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        )
    };
    match value {
        Cow::Borrowed(Value::Object(members)) => {
            members.get(field).map(Cow::Borrowed).ok_or_else(|| missing(members))
        }
        Cow::Owned(Value::Object(mut members)) => {
            members.remove(field).map(Cow::Owned).ok_or_else(|| missing(&members))
        }
        other => Err(format!("names the field `{field}` of {}", kind(&other))),
    }
}

pub(super) fn index<'a>(value: Cow<'a, Value>, key: &Value) -> Found<'a> {
    match (value.as_ref(), key) {
        (Value::Object(_), Value::String(field)) => member(value, field),
        (Value::Array(items), Value::Number(number)) => {
            let at = number.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < items.len());
            let at = at.ok_or_else(|| format!("takes the item {number} of a list of {}", items.len()))?;
            Ok(match value {
                Cow::Borrowed(Value::Array(items)) => Cow::Borrowed(&items[at]),
                other => match other.into_owned() {
                    Value::Array(mut items) => Cow::Owned(items.swap_remove(at)),
                    whole => Cow::Owned(whole),
                },
            })
        }
        (value, key) => Err(format!("takes an item of {} by {}", kind(value), kind(key))),
    }
}

pub(super) fn compare(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i64(), right.as_i64()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// Arithmetic on numbers; `None` if one is not a number. Integers stay integers and inside ±(2^53 - 1).
pub(super) fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Option<Result<Value, String>> {
    let (Value::Number(left), Value::Number(right)) = (left, right) else { return None };
    if let (Some(a), Some(b)) = (left.as_i64(), right.as_i64()) {
        if b == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
            return Some(Err("divides by zero".to_owned()));
        }
        let result = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Divide => a.checked_div(b),
            Operator::Remainder => a.checked_rem(b),
            _ => return None,
        };
        let inside = result.filter(|number| number.unsigned_abs() <= MAX_INTEGER);
        return Some(
            inside.map(Value::from).ok_or_else(|| "comes to an integer beyond ±(2^53 - 1)".to_owned()),
        );
    }
    let (a, b) = (left.as_f64()?, right.as_f64()?);
    let result = match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        _ => return None,
    };
    Some(
        Number::from_f64(result)
            .map(Value::Number)
            .ok_or_else(|| "comes to a number that is not finite".to_owned()),
    )
}
