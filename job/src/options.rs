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
