//! A first look at a step's input, by the component's schema: missing and unknown names, and plain values of a wrong type.
//!
//! Only the top level and only what is certain before `${…}` is replaced; the component itself has the last word.

use remit_protocol::{endpoint::Fault, nearest::nearest};
use serde_json::Value;

use super::fault;

/// Checks `with` against the JSON Schema of the component's input.
pub(super) fn check(with: &Value, schema: &Value, place: &str, faults: &mut Vec<Fault>) {
    let (Some(given), Some(schema)) = (with.as_object(), schema.as_object()) else { return };
    let properties = schema.get("properties").and_then(Value::as_object);
    let names = || properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str));
    for required in
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        if !given.contains_key(required) {
            let message = format!("the input `{required}` is missing");
            faults.push(fault(place, message, format!("add `{required}: …` below `with`")));
        }
    }
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, value) in given {
        let place = format!("{place}.{name}");
        match properties.and_then(|properties| properties.get(name)) {
            Some(property) => {
                if let Some(wanted) = misfit(value, property) {
                    let message = format!("the input `{name}` is {}, not {wanted}", type_of(value));
                    faults.push(fault(place, message, format!("write {wanted}")));
                }
            }
            None if closed => {
                let remedy = match nearest(name, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the inputs are {}", names().collect::<Vec<_>>().join(", ")),
                };
                faults.push(fault(place, format!("there is no input `{name}`"), remedy));
            }
            None => {}
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The types that the schema names, if the value is of none of them.
fn misfit(value: &Value, property: &Value) -> Option<String> {
    if value.as_str().is_some_and(|text| text.contains("${")) {
        return None;
    }
    let types: Vec<&str> = match property.get("type")? {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let own = type_of(value);
    let fits = types.iter().any(|wanted| *wanted == own || (*wanted == "number" && own == "integer"));
    (!fits && !types.is_empty()).then(|| types.join(" or "))
}
