#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;

use remit_sdk::{Context, Fail, JsonSchema, step};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod template;

/// A value and what to make of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What to start from.
    #[serde(default)]
    pub value: Value,
    /// What holds where `value` says nothing: `value` is merged over it.
    #[serde(default)]
    pub defaults: Value,
    /// Values that are merged over `value`, one after the other, by RFC 7396: objects key by key, null removes a key, anything
    /// else replaces.
    #[serde(default)]
    pub merge: Vec<Value>,
    /// Results that are taken out of the merged value.
    #[serde(default)]
    pub pick: BTreeMap<String, Pick>,
    /// Results that are texts: `{name}` stands for a picked result, `{/json/pointer}` for a part of the merged value, `{{` and
    /// `}}` for braces.
    #[serde(default)]
    pub text: BTreeMap<String, String>,
}

/// Where a result comes from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum Pick {
    /// A JSON pointer (RFC 6901), such as `/hosts/0/name`; it has to lead to something.
    Pointer(String),
    /// A JSON pointer and what holds when it leads to nothing.
    WithDefault {
        /// The JSON pointer.
        pointer: String,
        /// What holds when it leads to nothing.
        default: Value,
    },
}

/// The results by name; without `pick` and `text` there is one, `value`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Output(pub Map<String, Value>);

/// Builds the results.
#[step]
pub fn transform(input: Input, _: &Context) -> Result<Output, Fail> {
    let mut value = input.defaults;
    if value.is_null() {
        value = input.value;
    } else if !input.value.is_null() {
        merge(&mut value, input.value);
    }
    for patch in input.merge {
        merge(&mut value, patch);
    }
    let mut results = Map::new();
    if input.pick.is_empty() && input.text.is_empty() {
        results.insert("value".to_owned(), value);
        return Ok(Output(results));
    }
    for (name, pick) in input.pick {
        let picked = self::pick(&value, &pick).map_err(|fail| fail.while_doing(format!("pick.{name}")))?;
        results.insert(name, picked);
    }
    let mut texts = Map::new();
    for (name, template) in &input.text {
        if results.contains_key(name) {
            return Err(Fail::new(format!("`pick` and `text` both make the result {name:?}")));
        }
        let text = template::fill(template, &value, &results)
            .map_err(|why| Fail::new(format!("text.{name}: {why}")))?;
        texts.insert(name.clone(), text.into());
    }
    results.append(&mut texts);
    Ok(Output(results))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(own) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            own.remove(&key);
        } else {
            merge(own.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn pick(value: &Value, pick: &Pick) -> Result<Value, Fail> {
    let (pointer, default) = match pick {
        Pick::Pointer(pointer) => (pointer, None),
        Pick::WithDefault { pointer, default } => (pointer, Some(default)),
    };
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(Fail::new(format!("{pointer:?} is not a JSON pointer: it starts with '/', or is empty")));
    }
    match (value.pointer(pointer), default) {
        (Some(found), _) => Ok(found.clone()),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => Err(Fail::new(format!(
            "{pointer:?} leads to nothing; where that may be, write {{ pointer: {pointer}, default: … }}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::Fake;
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "a table of literals")]
    fn check(input: Value, expect: Result<Value, &str>) {
        let found = Fake::new().call(transform, &input).result;
        assert_eq!(found.map_err(|fail| fail.to_string()), expect.map_err(str::to_owned), "{input}");
    }

    #[test]
    fn values_are_merged() {
        check(json!({"value": {"a": 1}}), Ok(json!({"value": {"a": 1}})));
        check(json!({}), Ok(json!({"value": null})));
        check(
            json!({"defaults": {"a": 1, "b": {"c": 2, "d": 3}}, "value": {"b": {"c": 4}}}),
            Ok(json!({"value": {"a": 1, "b": {"c": 4, "d": 3}}})),
        );
        check(
            json!({"value": {"a": 1, "b": 2}, "merge": [{"b": null}, {"c": [1]}, {"c": [2]}]}),
            Ok(json!({"value": {"a": 1, "c": [2]}})),
        );
        check(
            json!({"value": [1], "merge": [{"a": {"b": null, "c": 1}}]}),
            Ok(json!({"value": {"a": {"c": 1}}})),
        );
        check(json!({"value": {"a": 1}, "merge": ["x"]}), Ok(json!({"value": "x"})));
    }

    #[test]
    fn results_are_picked() {
        let value = json!({"hosts": [{"name": "web1"}, {"name": "web2"}], "a/b": {"~": 1}, "none": null});
        let with = |pick: Value| json!({"value": value, "pick": pick});
        check(
            with(json!({"first": "/hosts/0/name", "odd": "/a~1b/~0"})),
            Ok(json!({"first": "web1", "odd": 1})),
        );
        check(with(json!({"all": "/hosts", "n": "/none"})), Ok(json!({"all": value["hosts"], "n": null})));
        check(with(json!({"port": {"pointer": "/port", "default": 22}})), Ok(json!({"port": 22})));
        check(
            with(json!({"port": "/port"})),
            Err(
                "pick.port: \"/port\" leads to nothing; where that may be, write { pointer: /port, default: … }",
            ),
        );
        check(
            with(json!({"port": "port"})),
            Err("pick.port: \"port\" is not a JSON pointer: it starts with '/', or is empty"),
        );
    }

    #[test]
    fn texts_are_filled() {
        let value = json!({"name": "web1", "port": 443, "up": true, "tags": ["a"], "half": 0.5});
        let with = |text: &str| json!({"value": value, "pick": {"host": "/name"}, "text": {"t": text}});
        let made = |text: &str| Ok(json!({"host": "web1", "t": text}));
        check(with("{host}:{/port} {/up} {/half}"), made("web1:443 true 0.5"));
        check(with("{{{host}}}"), made("{web1}"));
        check(with("{/tags}"), made("[\"a\"]"));
        check(with("{/tagz}"), Err("text.t: \"/tagz\" leads to nothing"));
        check(with("{hosts}"), Err("text.t: no result of `pick` is called \"hosts\""));
        check(with("{host"), Err("text.t: a '{' is not closed; for the character itself write '{{'"));
        check(with("a } b"), Err("text.t: a '}' stands alone; for the character itself write '}}'"));
        // What is put in is not read again.
        check(
            json!({"value": "{x}", "text": {"t": "{}"}}),
            Err(
                "text.t: {} names nothing: write {name} for a result of `pick`, or {/pointer} for a part of the value",
            ),
        );
        check(json!({"value": {"v": "{x}"}, "text": {"t": "{/v}"}}), Ok(json!({"t": "{x}"})));
    }

    #[test]
    fn a_name_stands_for_one_result() {
        check(
            json!({"value": {"a": 1}, "pick": {"x": "/a"}, "text": {"x": "{/a}"}}),
            Err("`pick` and `text` both make the result \"x\""),
        );
        check(
            json!({"values": 1}),
            Err(
                "the input does not fit: at `values`: unknown field `values`, expected one of `value`, `defaults`, `merge`, `pick`, `text` at line 1 column 9",
            ),
        );
    }
}
