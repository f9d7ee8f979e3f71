//! What is wrong with an option before any value is given.

use std::collections::{BTreeMap, BTreeSet};

use remit_protocol::{endpoint::Fault, json::MAX_INTEGER, limits::MAX_OPTION_FILE};
use serde_json::{Map, Value};

use super::{MAX_VALUES, OptionDefinition, OptionType, Outside, Values, values::ByOption};
use crate::expression::{Reference, Root, Scope};

/// Finds faults at places below `options.<name>`.
struct Finder {
    place: String,
    faults: Vec<Fault>,
}

impl Finder {
    fn push(&mut self, part: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(Fault {
            line: None,
            column: None,
            place: format!("{}.{part}", self.place),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    fn listed(&mut self, part: &str, values: &[String]) {
        if values.len() > MAX_VALUES {
            let message = format!("{} values, at most {MAX_VALUES} are allowed", values.len());
            self.push(part, message, "use a `pattern` instead");
        }
        let mut seen = BTreeSet::new();
        if !values.iter().all(|value| seen.insert(value)) {
            self.push(part, "a value stands twice", "remove one of them");
        }
    }

    fn bounds<T: PartialOrd>(&mut self, part: &str, min: Option<T>, max: Option<T>) {
        if min.zip(max).is_some_and(|(min, max)| min > max) {
            self.push(part, "the least is above the most, so no value would be allowed", "swap the two");
        }
    }

    /// An option may look only at those above it.
    fn above(&mut self, part: &str, name: &str, above: &[OptionDefinition]) -> bool {
        let known = above.iter().any(|option| option.name.as_str() == name);
        if !known {
            let message = format!("`{name}` is not an option above this one");
            self.push(
                part,
                message,
                format!("declare `{name}` before it; an option can only depend on those above"),
            );
        }
        known
    }

    fn values(&mut self, values: &Values, above: &[OptionDefinition]) {
        match values {
            Values::Listed(values) => self.listed("values", values),
            Values::By(ByOption { by, of }) => {
                if of.is_empty() {
                    self.push(
                        "values.of",
                        "no value is listed",
                        format!("write a list for each value of `{by}`"),
                    );
                }
                let total: usize = of.values().map(Vec::len).sum();
                if of.len() > MAX_VALUES || total > 10 * MAX_VALUES {
                    let message = format!("{total} values in {} lists, which is too many", of.len());
                    self.push("values.of", message, "take the values from nodes or from a job");
                }
                for (value, list) in of {
                    self.listed(&format!("values.of.{value}"), list);
                }
                self.above("values.by", by.as_str(), above);
            }
            Values::Nodes(of) => {
                let references: Vec<Reference> = of.nodes.references().cloned().collect();
                self.references("values.nodes", &references, above);
            }
            Values::Job(of) => {
                if !of.at.is_empty() && !of.at.starts_with('/') {
                    self.push("values.at", "this is not a JSON pointer", "write it like `/body/items`");
                }
            }
        }
    }

    fn references(&mut self, part: &str, references: &[Reference], above: &[OptionDefinition]) {
        for reference in references {
            match reference.root {
                Root::Project | Root::Execution => {}
                Root::Options => {
                    self.above(part, &reference.field, above);
                }
                Root::Clock if part == "default" => {}
                Root::Steps | Root::Node | Root::Item | Root::Error | Root::Clock => {
                    let message =
                        format!("`{}.{}` is not there yet", reference.root.as_str(), reference.field);
                    self.push(
                        part,
                        message,
                        "use options above, `project`, `execution`, or in defaults `date(…)`",
                    );
                }
            }
        }
    }
}

impl OptionDefinition {
    /// Everything that is wrong with the definition itself; `above` are the options that stand above it.
    pub(crate) fn faults(&self, above: &[Self]) -> Vec<Fault> {
        let mut finder = Finder { place: format!("options.{}", self.name), faults: Vec::new() };
        match &self.kind {
            OptionType::String { values, open, min_length, max_length, .. } => {
                finder.values(values, above);
                finder.bounds("min_length", *min_length, *max_length);
                never_open(&mut finder, *open, values);
            }
            OptionType::List { values, open, min_items, max_items, .. } => {
                finder.values(values, above);
                finder.bounds("min_items", *min_items, *max_items);
                never_open(&mut finder, *open, values);
            }
            OptionType::Integer { values, min, max } => integer(&mut finder, values, *min, *max),
            OptionType::Boolean {} => {}
            OptionType::Date { format, min, max } => {
                let [least, most] = [("min", min), ("max", max)].map(|(part, bound)| {
                    let text = bound.as_ref()?;
                    let read = format.read(text);
                    if read.is_none() {
                        let message = format!("{text:?} is not a date of the form {format}");
                        finder.push(part, message, "write it in the option's own form");
                    }
                    read
                });
                finder.bounds("min", least, most);
            }
            OptionType::File { max_size } => {
                if max_size.is_some_and(|size| size > MAX_OPTION_FILE) {
                    finder.push("max_size", format!("a file has at most {MAX_OPTION_FILE}"), "write less");
                }
                if self.default.is_some() {
                    finder.push(
                        "default",
                        "a file has no default",
                        "remove it; without a file the option has no value",
                    );
                }
                return finder.faults;
            }
            OptionType::Typed { .. } => {
                if self.default.is_some() {
                    let remedy = "remove it: the value is typed when the job is run, and stands nowhere";
                    finder.push("default", "what is typed has no default", remedy);
                }
                return finder.faults;
            }
            OptionType::Secret { values } => {
                let paths: Vec<String> = values.iter().map(ToString::to_string).collect();
                finder.listed("values", &paths);
                if values.is_empty() {
                    finder.push("values", "no path is listed", "write `values: [keys/prod/a, keys/prod/b]`");
                }
            }
        }
        self.default_faults(&mut finder, above);
        finder.faults
    }

    fn default_faults(&self, finder: &mut Finder, above: &[Self]) {
        let Some(default) = &self.default else { return };
        let references: Vec<Reference> =
            default.references().into_iter().map(|(_, reference)| reference).collect();
        finder.references("default", &references, above);
        let fixed = match default.fixed() {
            None => return,
            Some(Err(invalid)) => return finder.push("default", invalid.to_string(), ""),
            Some(Ok(value)) => value,
        };
        // Whether it is among values that come from elsewhere shows only when the job is run.
        if self.kind.values().is_some_and(|values| !matches!(values, Values::Listed(_))) {
            return;
        }
        let outside = Outside { scope: &Scope::default(), nodes: &[], outputs: &BTreeMap::new() };
        match self.kind.accept(&fixed, &Map::new(), &outside) {
            Err((message, remedy)) => finder.push("default", format!("the default {message}"), remedy),
            // The document holds typed values; texts are converted only where a person gives them.
            Ok(typed) if typed != fixed => match (&fixed, &typed) {
                (Value::String(_), Value::Array(_)) => {
                    finder.push("default", "the default is one text", format!("write a list: {typed}"));
                }
                _ => {
                    finder.push("default", "the default is a text", format!("write {typed}, without quotes"));
                }
            },
            Ok(_) => {}
        }
    }
}

fn never_open(finder: &mut Finder, open: bool, values: &Values) {
    if open && values.is_empty() {
        finder.push("open", "there are no values that this could open", "list `values`, or remove it");
    }
}

fn integer(finder: &mut Finder, values: &[i64], min: Option<i64>, max: Option<i64>) {
    finder.bounds("min", min, max);
    let limits = [min, max].into_iter().flatten().chain(values.iter().copied());
    if limits.into_iter().any(|number| number.unsigned_abs() > MAX_INTEGER) {
        finder.push("type", "a number beyond ±(2^53 - 1)", "use smaller numbers, or a string");
    }
    if values.len() > MAX_VALUES {
        let message = format!("{} values, at most {MAX_VALUES} are allowed", values.len());
        finder.push("values", message, "use `min` and `max` instead");
    }
    let beyond = |value: &i64| min.is_some_and(|min| *value < min) || max.is_some_and(|max| *value > max);
    if values.iter().any(beyond) {
        finder.push(
            "values",
            "a value is outside `min` and `max`, so it could never be given",
            "widen them or remove it",
        );
    }
}
