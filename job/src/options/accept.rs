//! A value as its option's type has it.

use remit_protocol::{
    json::MAX_INTEGER,
    limits::{MAX_OPTION_FILE, MAX_VALUE, USUAL_OPTION_FILE},
    nearest::nearest,
};
use serde_json::{Map, Value};

use super::{MAX_VALUES, OptionType, Outside, Values, values::NoValues};
use crate::pattern::Pattern;

/// Why a value is not accepted, as the end of a sentence that begins with the option, and what to give instead.
pub(super) type Refused = NoValues;

fn refused<T>(message: impl Into<String>, remedy: impl Into<String>) -> Result<T, Refused> {
    Err((message.into(), remedy.into()))
}

pub(super) fn shown(text: &str) -> String {
    let mut shown = format!("{:?}", text.chars().take(60).collect::<String>());
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

/// `a, b or one of 7 more`.
pub(super) fn one_of<T: std::fmt::Display>(values: &[T]) -> String {
    let shown: Vec<_> = values.iter().take(20).map(T::to_string).collect();
    let more =
        if values.len() > 20 { format!(" or one of {} more", values.len() - 20) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn choose(text: &str, values: &[String]) -> Result<(), Refused> {
    if values.iter().any(|value| value == text) {
        return Ok(());
    }
    let near = nearest(text, values.iter().map(String::as_str));
    let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    refused(
        format!("{} is not one of the allowed values", shown(text)),
        format!("{near}give one of {}", one_of(values)),
    )
}

/// What holds for one text.
struct TextRule<'a> {
    values: Option<&'a [String]>,
    pattern: Option<&'a Pattern>,
}

impl TextRule<'_> {
    fn holds(&self, text: &str) -> Result<(), Refused> {
        if let Some(values) = self.values {
            choose(text, values)?;
        }
        match self.pattern {
            Some(pattern) if !pattern.matches(text) => refused(
                format!("{} does not fit its pattern", shown(text)),
                format!("give a text that fits {pattern}"),
            ),
            _ => Ok(()),
        }
    }
}

/// The values of which one has to be given, if there are such.
fn closed(
    values: &Values,
    open: bool,
    above: &Map<String, Value>,
    outside: &Outside<'_>,
) -> Result<Option<Vec<String>>, Refused> {
    if open || values.is_empty() { Ok(None) } else { values.now(above, outside).map(Some) }
}

impl OptionType {
    /// The value as this type has it, or why it is not acceptable with what to give instead. A text is converted, because
    /// a command line has only texts. `above` holds the options that stand above.
    pub(super) fn accept(
        &self,
        given: &Value,
        above: &Map<String, Value>,
        outside: &Outside<'_>,
    ) -> Result<Value, Refused> {
        match self {
            Self::String { values, open, pattern, min_length, max_length } => {
                let text = a_text(given)?;
                let values = closed(values, *open, above, outside)?;
                TextRule { values: values.as_deref(), pattern: pattern.as_ref() }.holds(text)?;
                length(text, *min_length, *max_length)?;
                Ok(given.clone())
            }
            Self::List { values, open, pattern, min_items, max_items } => {
                let items = items(given)?;
                let values = closed(values, *open, above, outside)?;
                let rule = TextRule { values: values.as_deref(), pattern: pattern.as_ref() };
                for item in &items {
                    rule.holds(a_text(item)?)?;
                }
                let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
                within(count, *min_items, *max_items, "values")?;
                Ok(Value::Array(items))
            }
            Self::Integer { values, min, max } => integer(given, values, *min, *max),
            Self::Boolean {} => match given {
                Value::Bool(_) => Ok(given.clone()),
                Value::String(text) if text == "true" => Ok(Value::Bool(true)),
                Value::String(text) if text == "false" => Ok(Value::Bool(false)),
                _ => refused("is neither true nor false", "give true or false"),
            },
            Self::Date { format, min, max } => {
                let text = a_text(given)?;
                let Some(date) = format.read(text) else {
                    return refused(
                        format!("{} is not a date of the form {format}", shown(text)),
                        format!(
                            "give it like {}",
                            format.write(remit_protocol::Timestamp::from_millis(1_790_000_000_000))
                        ),
                    );
                };
                let bound = |bound: &Option<String>| bound.as_deref().and_then(|bound| format.read(bound));
                match (bound(min), bound(max)) {
                    (Some(least), _) if date < least => refused(
                        format!("{text} is too early"),
                        format!("give {} or later", min.as_deref().unwrap_or_default()),
                    ),
                    (_, Some(most)) if date > most => refused(
                        format!("{text} is too late"),
                        format!("give {} or earlier", max.as_deref().unwrap_or_default()),
                    ),
                    _ => Ok(given.clone()),
                }
            }
            Self::File { max_size } => super::file::accept(given, *max_size),
            Self::Secret { values } => {
                let paths: Vec<String> = values.iter().map(ToString::to_string).collect();
                choose(a_text(given)?, &paths)?;
                Ok(given.clone())
            }
            // Whatever else stands here may be the secret itself: it is in no message.
            Self::Typed { path } if given.as_str() == Some(path.as_str()) => Ok(given.clone()),
            Self::Typed { .. } => refused(
                "is typed by whoever runs the job, and sealed before it leaves his machine",
                "run it with `remit job run JOB --secret OPTION`; if you have just given the secret in the clear, change it",
            ),
        }
    }

    /// The rule in words, for people who are about to give a value.
    pub fn rule(&self) -> String {
        let mut parts = Vec::new();
        let bounds = |min: Option<String>, max: Option<String>, unit: &str| match (min, max) {
            (Some(min), Some(max)) => Some(format!("{min} to {max}{unit}")),
            (Some(min), None) => Some(format!("{min} or more{unit}")),
            (None, Some(max)) => Some(format!("at most {max}{unit}")),
            (None, None) => None,
        };
        let number = |number: &Option<u32>| number.map(|number| number.to_string());
        match self {
            Self::String { pattern, min_length, max_length, .. } => {
                parts.extend(pattern.as_ref().map(|pattern| format!("fits {pattern}")));
                parts.extend(bounds(number(min_length), number(max_length), " characters"));
            }
            Self::List { pattern, min_items, max_items, .. } => {
                parts.extend(pattern.as_ref().map(|pattern| format!("each fits {pattern}")));
                parts.extend(bounds(number(min_items), number(max_items), " values"));
            }
            Self::Integer { min, max, .. } => {
                let number = |number: &Option<i64>| number.map(|number| number.to_string());
                parts.extend(bounds(number(min), number(max), ""));
            }
            Self::Date { format, min, max } => {
                parts.push(format.to_string());
                parts.extend(bounds(min.clone(), max.clone(), ""));
            }
            Self::Boolean {} => parts.push("true or false".to_owned()),
            Self::File { max_size } => {
                let most = max_size.unwrap_or(USUAL_OPTION_FILE).min(MAX_OPTION_FILE);
                parts.push(format!("a file of at most {most}"));
            }
            Self::Secret { .. } => parts.push("a secret's path".to_owned()),
            Self::Typed { path } => parts.push(format!("typed, with `--secret`: arrives as {path}")),
        }
        parts.join(", ")
    }
}

fn a_text(given: &Value) -> Result<&str, Refused> {
    match given {
        Value::String(text) if text.len() > MAX_VALUE => {
            refused(format!("is longer than {MAX_VALUE} bytes"), "give a shorter text")
        }
        Value::String(text) => Ok(text),
        Value::Array(_) => refused("takes one value, and several were given", "give it once"),
        _ => refused("is not a text", "give a text"),
    }
}

/// One text is a list of one: a command line that names the option once gives just that.
fn items(given: &Value) -> Result<Vec<Value>, Refused> {
    match given {
        Value::Array(items) if items.len() > MAX_VALUES => {
            refused(format!("has {} values, at most {MAX_VALUES} are allowed", items.len()), "give fewer")
        }
        Value::Array(items) => Ok(items.clone()),
        one => Ok(vec![one.clone()]),
    }
}

fn length(text: &str, min: Option<u32>, max: Option<u32>) -> Result<(), Refused> {
    within(u32::try_from(text.chars().count()).unwrap_or(u32::MAX), min, max, "characters")
}

fn within(count: u32, min: Option<u32>, max: Option<u32>, unit: &str) -> Result<(), Refused> {
    match (min, max) {
        (Some(min), _) if count < min => {
            refused(format!("has {count} {unit}, which is too few"), format!("give {min} {unit} or more"))
        }
        (_, Some(max)) if count > max => {
            refused(format!("has {count} {unit}, which is too many"), format!("give {max} {unit} or fewer"))
        }
        _ => Ok(()),
    }
}

fn integer(given: &Value, values: &[i64], min: Option<i64>, max: Option<i64>) -> Result<Value, Refused> {
    let number = match given {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let Some(number) = number.filter(|number: &i64| number.unsigned_abs() <= MAX_INTEGER) else {
        return refused("is not a whole number", "give a whole number");
    };
    if !values.is_empty() && !values.contains(&number) {
        let near = values.iter().min_by_key(|value| value.abs_diff(number)).copied().unwrap_or_default();
        return refused(
            format!("{number} is not one of the allowed values"),
            format!("the nearest is {near}; give one of {}", one_of(values)),
        );
    }
    if let Some(min) = min.filter(|min| number < *min) {
        return refused(format!("{number} is too small"), format!("give {min} or more"));
    }
    if let Some(max) = max.filter(|max| number > *max) {
        return refused(format!("{number} is too large"), format!("give {max} or less"));
    }
    Ok(Value::from(number))
}
