//! Texts with places: `{name}`, `{/pointer}`, `{{`, `}}`. What is put in is not read again.

use serde_json::{Map, Value};

/// Fills the places of `template`: names from `results`, pointers from `value`.
pub(crate) fn fill(template: &str, value: &Value, results: &Map<String, Value>) -> Result<String, String> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else if let Some(inside) = from.strip_prefix('{') {
            let (place, after) =
                inside.split_once('}').ok_or("a '{' is not closed; for the character itself write '{{'")?;
            push(&mut text, find(place, value, results)?);
            rest = after;
        } else {
            return Err("a '}' stands alone; for the character itself write '}}'".to_owned());
        }
    }
    text.push_str(rest);
    Ok(text)
}

fn find<'a>(place: &str, value: &'a Value, results: &'a Map<String, Value>) -> Result<&'a Value, String> {
    if place.is_empty() {
        return Err(
            "{} names nothing: write {name} for a result of `pick`, or {/pointer} for a part of the value"
                .to_owned(),
        );
    }
    if place.starts_with('/') {
        return value.pointer(place).ok_or_else(|| format!("{place:?} leads to nothing"));
    }
    results.get(place).ok_or_else(|| format!("no result of `pick` is called {place:?}"))
}

fn push(text: &mut String, value: &Value) {
    match value {
        Value::String(own) => text.push_str(own),
        other => text.push_str(&other.to_string()),
    }
}
