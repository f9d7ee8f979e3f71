//! Options: what a job asks when it is run, and the check of what was given.
//!
//! [`OptionType`] has a variant for each type, so that later types (date, secret, file) are variants and not new fields.

use remit_protocol::{OptionName, endpoint::Fault, json::MAX_INTEGER, limits::MAX_VALUE};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{nearest::nearest, pattern::Pattern};

/// Most options of a job.
pub const MAX_OPTIONS: usize = 200;
/// Most values that an option lists.
pub const MAX_VALUES: usize = 1000;

/// One option of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionDefinition {
    /// Its name.
    pub name: OptionName,
    /// What it is for, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// It has to have a value.
    #[serde(default)]
    pub required: bool,
    /// Its value when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Which values it takes.
    #[serde(rename = "type")]
    pub kind: OptionType,
}

/// Which values an option takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OptionType {
    /// A text.
    String {
        /// One of these, if any are listed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        values: Vec<String>,
        /// The whole text fits this regular expression.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pattern: Option<Pattern>,
    },
    /// A whole number inside ±(2^53 - 1).
    Integer {
        /// One of these, if any are listed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        values: Vec<i64>,
        /// The least.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<i64>,
        /// The most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<i64>,
    },
    /// True or false.
    Boolean {},
}

impl OptionType {
    /// The word in job files.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::String { .. } => "string",
            Self::Integer { .. } => "integer",
            Self::Boolean {} => "boolean",
        }
    }

    /// The value as this type has it, or why it is not acceptable with what to give instead. A text is converted, because
    /// a command line has only texts.
    fn accept(&self, given: &Value) -> Result<Value, (String, String)> {
        match self {
            Self::String { values, pattern } => {
                let Value::String(text) = given else {
                    return Err(("is not a text".to_owned(), "give a text".to_owned()));
                };
                if text.len() > MAX_VALUE {
                    return Err((
                        format!("is longer than {MAX_VALUE} bytes"),
                        "give a shorter text".to_owned(),
                    ));
                }
                if !values.is_empty() && !values.contains(text) {
                    return Err((
                        format!("{} is not one of the allowed values", shown(text)),
                        one_of(values),
                    ));
                }
                match pattern {
                    Some(pattern) if !pattern.matches(text) => Err((
                        format!("{} does not fit its pattern", shown(text)),
                        format!("give a text that fits {pattern}"),
                    )),
                    _ => Ok(given.clone()),
                }
            }
            Self::Integer { values, min, max } => {
                let number = match given {
                    Value::Number(number) => number.as_i64(),
                    Value::String(text) => text.parse().ok(),
                    _ => None,
                };
                let number = number
                    .filter(|number: &i64| number.unsigned_abs() <= MAX_INTEGER)
                    .ok_or_else(|| ("is not a whole number".to_owned(), "give a whole number".to_owned()))?;
                if !values.is_empty() && !values.contains(&number) {
                    return Err((format!("{number} is not one of the allowed values"), one_of(values)));
                }
                if let Some(min) = min.filter(|min| number < *min) {
                    return Err((format!("{number} is too small"), format!("give {min} or more")));
                }
                if let Some(max) = max.filter(|max| number > *max) {
                    return Err((format!("{number} is too large"), format!("give {max} or less")));
                }
                Ok(Value::from(number))
            }
            Self::Boolean {} => match given {
                Value::Bool(_) => Ok(given.clone()),
                Value::String(text) if text == "true" => Ok(Value::Bool(true)),
                Value::String(text) if text == "false" => Ok(Value::Bool(false)),
                _ => Err(("is neither true nor false".to_owned(), "give true or false".to_owned())),
            },
        }
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

fn one_of<T: std::fmt::Display>(values: &[T]) -> String {
    let shown: Vec<_> = values.iter().take(20).map(T::to_string).collect();
    let more =
        if values.len() > 20 { format!(" or one of {} more", values.len() - 20) } else { String::new() };
    format!("give one of {}{more}", shown.join(", "))
}

fn fault(place: String, message: String, remedy: String) -> Fault {
    Fault { line: None, column: None, place, message, remedy }
}

impl OptionDefinition {
    /// The value as the option's type has it, or the fault at `options.<name>`.
    pub fn accept(&self, given: &Value) -> Result<Value, Fault> {
        self.kind.accept(given).map_err(|(message, remedy)| {
            fault(format!("options.{}", self.name), format!("the value of {} {message}", self.name), remedy)
        })
    }

    /// Everything that is wrong with the definition itself, at places below `options.<name>`.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let place = format!("options.{}", self.name);
        let mut faults = Vec::new();
        let mut push = |part: &str, message: &str, remedy: &str| {
            faults.push(fault(format!("{place}.{part}"), message.to_owned(), remedy.to_owned()));
        };
        match &self.kind {
            OptionType::String { values, .. } => {
                if values.len() > MAX_VALUES {
                    push(
                        "values",
                        &format!("{} values, at most {MAX_VALUES} are allowed", values.len()),
                        "use a `pattern` instead",
                    );
                }
                if (1..values.len()).any(|at| values[..at].contains(&values[at])) {
                    push("values", "a value stands twice", "remove one of them");
                }
            }
            OptionType::Integer { values, min, max } => {
                if min.zip(*max).is_some_and(|(min, max)| min > max) {
                    push(
                        "min",
                        "the least is above the most, so no value would be allowed",
                        "swap `min` and `max`",
                    );
                }
                let limits = [*min, *max].into_iter().flatten().chain(values.iter().copied());
                if limits.into_iter().any(|number| number.unsigned_abs() > MAX_INTEGER) {
                    push("type", "a number beyond ±(2^53 - 1)", "use smaller numbers, or a string");
                }
                if values.len() > MAX_VALUES {
                    push(
                        "values",
                        &format!("{} values, at most {MAX_VALUES} are allowed", values.len()),
                        "use `min` and `max` instead",
                    );
                }
                let outside =
                    |value: &i64| min.is_some_and(|min| *value < min) || max.is_some_and(|max| *value > max);
                if values.iter().any(outside) {
                    push(
                        "values",
                        "a value is outside `min` and `max`, so it could never be given",
                        "widen them or remove it",
                    );
                }
            }
            OptionType::Boolean {} => {}
        }
        if let Some(default) = &self.default {
            match self.kind.accept(default) {
                Err((message, remedy)) => push("default", &format!("the default {message}"), &remedy),
                // The document holds typed values; texts are converted only where a person gives them.
                Ok(typed) if typed != *default => {
                    push("default", "the default is a text", &format!("write {typed}, without quotes"));
                }
                Ok(_) => {}
            }
        }
        faults
    }
}

/// Checks what was given against the definitions and adds the defaults. An option without value and default is absent
/// from the result.
pub fn check(
    definitions: &[OptionDefinition],
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<Fault>> {
    let mut values = Map::new();
    let mut faults = Vec::new();
    for name in given.keys() {
        if !definitions.iter().any(|definition| definition.name.as_str() == name) {
            let names = definitions.iter().map(|definition| definition.name.as_str());
            let remedy = match nearest(name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None if definitions.is_empty() => "this job has no options".to_owned(),
                None => {
                    let names: Vec<_> =
                        definitions.iter().take(20).map(|definition| definition.name.as_str()).collect();
                    format!("this job has the options {}", names.join(", "))
                }
            };
            let shown: String = name.chars().take(80).collect();
            faults.push(fault(
                format!("options.{shown}"),
                format!("the job has no option {shown:?}"),
                remedy,
            ));
        }
    }
    for definition in definitions {
        match given.get(definition.name.as_str()).or(definition.default.as_ref()) {
            Some(value) => match definition.accept(value) {
                Ok(value) => {
                    values.insert(definition.name.as_str().to_owned(), value);
                }
                Err(fault) => faults.push(fault),
            },
            None if definition.required => faults.push(fault(
                format!("options.{}", definition.name),
                format!("the option {} has to have a value", definition.name),
                format!("give it with `--option {}=…`", definition.name),
            )),
            None => {}
        }
    }
    let total: usize = values.values().map(crate::expression::weight).sum();
    if total > MAX_VALUE {
        faults.push(fault(
            "options".to_owned(),
            format!("the values take {total} bytes together, at most {MAX_VALUE} are allowed"),
            "pass large inputs as files or through a step".to_owned(),
        ));
    }
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn definitions() -> Vec<OptionDefinition> {
        serde_json::from_value(json!([
            {"name": "service", "required": true, "type": {"string": {"values": ["web", "api"]}}},
            {"name": "batch", "default": 5, "type": {"integer": {"min": 1, "max": 50}}},
            {"name": "level", "type": {"integer": {"values": [1, 2, 4]}}},
            {"name": "host", "type": {"string": {"pattern": "[a-z]+[0-9]*"}}},
            {"name": "force", "type": {"boolean": {}}},
            {"name": "note", "type": {"string": {}}},
        ]))
        .unwrap()
    }

    #[test]
    fn values_are_checked_and_typed() {
        fn ok(given: Value, expect: Value) {
            let found = check(&definitions(), given.as_object().unwrap()).map(Value::Object);
            assert_eq!(found, Ok(expect), "{given}");
        }
        ok(json!({"service": "web"}), json!({"service": "web", "batch": 5}));
        ok(
            json!({"service": "web", "batch": "7", "force": "true"}),
            json!({"service": "web", "batch": 7, "force": true}),
        );
        ok(
            json!({"service": "web", "batch": 50, "level": 4, "force": false}),
            json!({"service": "web", "batch": 50, "level": 4, "force": false}),
        );
        ok(
            json!({"service": "web", "host": "web1", "note": ""}),
            json!({"service": "web", "batch": 5, "host": "web1", "note": ""}),
        );
    }

    #[test]
    fn wrong_values_are_faults_with_a_remedy() {
        fn bad(given: Value, place: &str, part: &str) {
            let mut given = given.as_object().unwrap().clone();
            if place != "options.service" {
                given.insert("service".to_owned(), json!("web"));
            }
            let faults = check(&definitions(), &given).expect_err(place);
            let found = &faults[0];
            let text = format!("{} {}", found.message, found.remedy);
            assert!(
                faults.len() == 1 && found.place == place && text.contains(part),
                "{given:?}: {faults:?}"
            );
        }
        bad(json!({}), "options.service", "--option service=");
        bad(json!({"service": "db"}), "options.service", "give one of web, api");
        bad(json!({"service": 1}), "options.service", "not a text");
        bad(json!({"service": null}), "options.service", "not a text");
        bad(json!({"servce": "web"}), "options.servce", "did you mean `service`?");
        bad(json!({"colour": "red"}), "options.colour", "service, batch");
        bad(json!({"batch": 0}), "options.batch", "give 1 or more");
        bad(json!({"batch": "51"}), "options.batch", "give 50 or less");
        bad(json!({"batch": 1.5}), "options.batch", "whole number");
        bad(json!({"batch": "five"}), "options.batch", "whole number");
        bad(json!({"batch": "9007199254740992"}), "options.batch", "whole number");
        bad(json!({"level": 3}), "options.level", "give one of 1, 2, 4");
        bad(json!({"host": "web1; rm"}), "options.host", "fits [a-z]+[0-9]*");
        bad(json!({"host": "web1\n"}), "options.host", "fits");
        bad(json!({"force": "yes"}), "options.force", "give true or false");
        bad(json!({"note": "x".repeat(MAX_VALUE + 1)}), "options.note", "longer than");
        bad(json!({"note": "x".repeat(MAX_VALUE)}), "options", "together");
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let given = json!({"service": "db", "batch": 0, "nosuch": 1});
        assert_eq!(check(&definitions(), given.as_object().unwrap()).unwrap_err().len(), 3);
    }

    proptest! {
        /// What is accepted is accepted again as it is: a runner that checks once more sees the same values.
        #[test]
        fn checking_twice_changes_nothing(service in "web|api|x", batch in -5i64..60, note in "\\PC{0,20}", force in "true|false|no") {
            let given = json!({"service": service, "batch": batch.to_string(), "note": note, "force": force});
            if let Ok(once) = check(&definitions(), given.as_object().unwrap()) {
                prop_assert_eq!(check(&definitions(), &once), Ok(once));
            }
        }
    }
}
