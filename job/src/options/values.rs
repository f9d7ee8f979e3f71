//! The values that an option takes: listed in the job, depending on another option, or found elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use remit_protocol::{JobName, OptionName, Span, StepName, node::Node};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::MAX_VALUES;
use crate::{expression::Scope, filter::FilterTemplate};

/// Values written out.
pub type Listed = Vec<String>;

/// Where the values of an option come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// They are listed; none: any value.
    Listed(Listed),
    /// Another option's value decides which list holds.
    By(ByOption),
    /// They are names or attributes of nodes.
    Nodes(OfNodes),
    /// They are what a step of another job found last.
    Job(OfJob),
}

/// A list for each value of another option.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByOption {
    /// The other option; it stands above.
    pub by: OptionName,
    /// The list for each of its values; none for a value that is not here.
    pub of: BTreeMap<String, Listed>,
}

/// The project's nodes, as their sources last found them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfNodes {
    /// Which nodes; values may hold `${options.x}` of options above.
    pub nodes: FilterTemplate,
    /// Which attribute; none: the name. A node without it adds no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
}

/// What a step of another job of the same project returned, in that job's newest execution that succeeded.
///
/// A runner ran the job within its remit: so nothing is ever fetched for an option by the orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfJob {
    /// The job.
    pub job: JobName,
    /// The step, one that runs once.
    pub step: StepName,
    /// Where in its output the list stands, as a JSON pointer; none: it is the output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// The output counts as long as it is not older; none: it always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
}

impl Default for Values {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// What is not in the job and decides about its options.
pub struct Outside<'a> {
    /// The project, the execution and the clock; no options yet.
    pub scope: &'a Scope,
    /// The project's nodes; may be empty if no option speaks of nodes.
    pub nodes: &'a [Node],
    /// What the steps of other jobs returned, or why there is nothing that counts.
    pub outputs: &'a BTreeMap<OfJob, Result<Value, String>>,
}

/// Why there are no values, and what to do.
pub(super) type NoValues = (String, String);

impl Values {
    /// True if any value may be given.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Listed(values) if values.is_empty())
    }

    /// All values that are there now; `given` holds the options above. An empty list is none.
    pub(super) fn now(
        &self,
        given: &Map<String, Value>,
        outside: &Outside<'_>,
    ) -> Result<Vec<String>, NoValues> {
        match self {
            Self::Listed(values) => Ok(values.clone()),
            Self::By(ByOption { by, of }) => {
                let Some(value) = given.get(by.as_str()) else {
                    let why = format!("depends on the option {by}, which has no value");
                    return Err((why, format!("give `{by}` a value as well")));
                };
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let none = || {
                    let message =
                        format!("cannot be given where {by} is {value:?}: there is no value for that");
                    (message, format!("leave it out, or choose another `{by}`"))
                };
                of.get(&value).filter(|values| !values.is_empty()).cloned().ok_or_else(none)
            }
            Self::Nodes(of) => of.now(given, outside),
            Self::Job(of) => of.now(outside),
        }
    }
}

impl OfNodes {
    fn now(&self, given: &Map<String, Value>, outside: &Outside<'_>) -> Result<Vec<String>, NoValues> {
        let scope = outside.scope.with_options(given);
        let filter = self.nodes.resolve(&scope).map_err(|invalid| {
            (
                format!("depends on nodes that cannot be chosen: {invalid}"),
                "give the options above it".to_owned(),
            )
        })?;
        let picked = filter.select(outside.nodes);
        let values: BTreeSet<&str> = picked
            .into_iter()
            .filter_map(|at| outside.nodes.get(usize::try_from(at).unwrap_or(usize::MAX)))
            .filter_map(|node| match &self.attribute {
                Some(attribute) => node.attribute(attribute),
                None => Some(node.name.as_str()),
            })
            .collect();
        if values.is_empty() {
            let message = format!("is taken from the nodes of `{}`, and there are none", self.nodes.as_str());
            return Err((message, "look at `remit nodes list`, or refresh the project's sources".to_owned()));
        }
        Ok(values.into_iter().map(str::to_owned).collect())
    }
}

impl OfJob {
    /// Nothing that cannot be read counts: an option whose values are not known takes none.
    fn now(&self, outside: &Outside<'_>) -> Result<Vec<String>, NoValues> {
        let Self { job, step, at, .. } = self;
        let run = || format!("run it: remit job run {job} --follow");
        let nothing = || format!("is taken from what the job {job} found");
        let output = match outside.outputs.get(self) {
            Some(Ok(output)) => output,
            Some(Err(why)) => return Err((format!("{}: {why}", nothing()), run())),
            None => return Err((format!("{}, which is not at hand", nothing()), run())),
        };
        let list = output.pointer(at).and_then(Value::as_array).ok_or_else(|| {
            let place = if at.is_empty() { "the output".to_owned() } else { format!("{at:?} in the output") };
            (
                format!("{}, but {place} of its step {step} is not a list", nothing()),
                format!("look at the output: remit execution list --job {job}"),
            )
        })?;
        // Such a list is of texts, or of maps with a `value` each.
        let text = |item: &Value| match item.get("value").unwrap_or(item) {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let values: Option<Vec<String>> = list.iter().take(MAX_VALUES + 1).map(text).collect();
        match values {
            Some(values) if values.is_empty() => Err((format!("{}, and it found nothing", nothing()), run())),
            Some(values) if values.len() > MAX_VALUES => Err((
                format!("{}, which is more than {MAX_VALUES} values", nothing()),
                "let it find fewer".to_owned(),
            )),
            Some(values) => Ok(values),
            None => Err((
                format!("{}, but an entry of the list is neither a text nor a number", nothing()),
                "let its step return a list of texts".to_owned(),
            )),
        }
    }
}
