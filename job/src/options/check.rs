//! What was given, against what the job asks.

use std::collections::BTreeMap;

use remit_protocol::{OptionName, endpoint::Fault, limits::MAX_VALUE, nearest::nearest};
use serde_json::{Map, Value};

use super::{OptionDefinition, OptionType, Outside, Values, accept::Refused};
use crate::expression::Scope;

fn fault(place: String, message: String, remedy: String) -> Fault {
    Fault { line: None, column: None, place, message, remedy }
}

impl OptionDefinition {
    fn refused(&self, what: &str, (message, remedy): Refused) -> Fault {
        let message = format!("{what} of {} {message}", self.name);
        fault(format!("options.{}", self.name), message, remedy)
    }

    /// Its own value, or that of its default, or none. `above` holds the options that stand above.
    fn settle(
        &self,
        given: Option<&Value>,
        above: &Map<String, Value>,
        outside: &Outside<'_>,
    ) -> Result<Option<Value>, Fault> {
        if let Some(value) = given {
            return match self.kind.accept(value, above, outside) {
                Ok(value) => Ok(Some(value)),
                Err(refused) => Err(self.refused("the value", refused)),
            };
        }
        let Some(default) = &self.default else {
            if !self.required {
                return Ok(None);
            }
            if self.kind.typed().is_some() {
                return Err(fault(
                    format!("options.{}", self.name),
                    format!("the secret {} has to be typed", self.name),
                    format!("run it with `--secret {}`", self.name),
                ));
            }
            return Err(fault(
                format!("options.{}", self.name),
                format!("the option {} has to have a value", self.name),
                format!("give it with `--option {}=…`{}", self.name, self.hint(above, outside)),
            ));
        };
        let default = default.render(&outside.scope.with_options(above)).map_err(|invalid| {
            let remedy = format!("give it with `--option {}=…`", self.name);
            self.refused("the default", (format!("comes to nothing: {}", invalid.message), remedy))
        })?;
        match self.kind.accept(&default, above, outside) {
            Ok(value) => Ok(Some(value)),
            Err(refused) => Err(self.refused("the default", refused)),
        }
    }

    /// What may be given, in a few words.
    fn hint(&self, above: &Map<String, Value>, outside: &Outside<'_>) -> String {
        let values = match &self.kind {
            OptionType::Integer { values, .. } => values.iter().map(ToString::to_string).collect(),
            OptionType::Secret { values } => values.iter().map(ToString::to_string).collect(),
            kind => match kind.values() {
                Some(values) => values.now(above, outside).unwrap_or_default(),
                None => Vec::new(),
            },
        };
        match (values.is_empty(), self.kind.rule()) {
            (false, _) => format!(": {}", super::accept::one_of(&values)),
            (true, rule) if rule.is_empty() => String::new(),
            (true, rule) => format!(": {rule}"),
        }
    }
}

/// Checks what was given against the definitions and adds the defaults. An option without value and default is absent
/// from the result.
pub fn check(
    definitions: &[OptionDefinition],
    given: &Map<String, Value>,
    outside: &Outside<'_>,
) -> Result<Map<String, Value>, Vec<Fault>> {
    let mut values = Map::new();
    let mut faults = unknown(definitions, given);
    for definition in definitions {
        match definition.settle(given.get(definition.name.as_str()), &values, outside) {
            Ok(Some(value)) => {
                values.insert(definition.name.as_str().to_owned(), value);
            }
            Ok(None) => {}
            Err(fault) => faults.push(fault),
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

/// What can be said to be wrong with `given` before the job is run, as by a schedule: values that depend on another option
/// or come from elsewhere are judged when it is.
pub fn check_ahead(definitions: &[OptionDefinition], given: &Map<String, Value>) -> Vec<Fault> {
    let (scope, outputs) = (Scope::default(), BTreeMap::new());
    let outside = Outside { scope: &scope, nodes: &[], outputs: &outputs };
    let own = |values: &Values| matches!(values, Values::Listed(_));
    let mut faults = unknown(definitions, given);
    for definition in definitions {
        let given = given.get(definition.name.as_str());
        if definition.kind.typed().is_some() {
            if given.is_some() || definition.required {
                faults.push(nobody_types(&definition.name));
            }
            continue;
        }
        match given {
            Some(value) if definition.kind.values().is_none_or(own) => {
                if let Err(refused) = definition.kind.accept(value, &Map::new(), &outside) {
                    faults.push(definition.refused("the value", refused));
                }
            }
            None if definition.required && definition.default.is_none() => faults.push(fault(
                format!("options.{}", definition.name),
                format!("the option {} has to have a value", definition.name),
                "give it one here".to_owned(),
            )),
            _ => {}
        }
    }
    faults
}

/// A typed secret where nobody is there to type it.
pub fn nobody_types(name: &OptionName) -> Fault {
    fault(
        format!("options.{name}"),
        format!("the secret {name} is typed by whoever runs the job, and here nobody is there to type it"),
        "give the option `values` of stored secrets in place of `typed`, or leave it out where it is not `required`"
            .to_owned(),
    )
}

fn unknown(definitions: &[OptionDefinition], given: &Map<String, Value>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for name in given.keys() {
        if definitions.iter().any(|definition| definition.name.as_str() == name) {
            continue;
        }
        let names = definitions.iter().map(|definition| definition.name.as_str());
        let remedy = match nearest(name, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if definitions.is_empty() => "this job has no options".to_owned(),
            None => format!("this job has the options {}", names.take(20).collect::<Vec<_>>().join(", ")),
        };
        let shown: String = name.chars().take(80).collect();
        faults.push(fault(format!("options.{shown}"), format!("the job has no option {shown:?}"), remedy));
    }
    faults
}

/// An option as it stands for somebody who is about to run the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Described<'a> {
    /// The definition.
    pub definition: &'a OptionDefinition,
    /// The values that may be given, or are proposed; none: any that fits the rule.
    pub values: Vec<String>,
    /// The value that it has: given, or by default.
    pub value: Option<Value>,
    /// What stands in the way.
    pub fault: Option<Fault>,
}

/// Describes the options of a job, where `given` has been chosen so far.
pub fn describe<'a>(
    definitions: &'a [OptionDefinition],
    given: &Map<String, Value>,
    outside: &Outside<'_>,
) -> (Vec<Described<'a>>, Vec<Fault>) {
    let mut above = Map::new();
    let mut described = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let (mut values, mut fault) = match &definition.kind {
            OptionType::Integer { values, .. } => (values.iter().map(ToString::to_string).collect(), None),
            OptionType::Secret { values } => (values.iter().map(ToString::to_string).collect(), None),
            kind => match kind.values().map(|values| values.now(&above, outside)) {
                Some(Ok(values)) => (values, None),
                Some(Err(why)) => (Vec::new(), Some(definition.refused("the value", why))),
                None => (Vec::new(), None),
            },
        };
        values.truncate(super::MAX_VALUES);
        let given = given.get(definition.name.as_str());
        let value = match definition.settle(given, &above, outside) {
            Ok(value) => value,
            // That a value is still to be given is no news here.
            Err(_) if given.is_none() && definition.default.is_none() => None,
            Err(why) => {
                fault = Some(why);
                None
            }
        };
        if let Some(value) = &value {
            above.insert(definition.name.as_str().to_owned(), value.clone());
        }
        described.push(Described { definition, values, value, fault });
    }
    (described, unknown(definitions, given))
}
