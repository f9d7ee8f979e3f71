//! What a project's administrators decide: words, variables, filters, how long history is kept, how much there may be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Description, FilterName, OptionName, Size, endpoint::Fault};

/// Longest README, in bytes.
pub const MAX_README: usize = 64 << 10;
/// Most variables of a project.
pub const MAX_VARIABLES: usize = 200;
/// Largest sum of the values of all variables, in bytes of JSON: they travel with every assignment.
pub const MAX_VARIABLES_SIZE: usize = 32 << 10;
/// Most saved filters of a project.
pub const MAX_FILTERS: usize = 100;

/// The settings of a project. What is left out has its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProjectSettings {
    /// What it is for, in a few words.
    pub description: Description,
    /// For people, in Markdown.
    pub readme: String,
    /// What expressions of its jobs see as `project.NAME`. Never a secret: everybody who may see the project sees them.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub variables: BTreeMap<OptionName, Value>,
    /// The node filter that holds where nobody asks for another when nodes are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_filter: Option<String>,
    /// Node filters by name: wherever a filter is asked for, `@NAME` stands for one of these.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub filters: BTreeMap<FilterName, String>,
    /// How long executions are kept.
    pub history: History,
    /// How much there may be.
    pub quotas: Quotas,
}

/// How long executions that have ended are kept, with their logs. What does not end is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// So many days: 1 to 3650.
    pub days: u32,
    /// So many executions of each job stay however old they are: up to 1000.
    pub keep: u32,
    /// At most so many executions, the newest: 1 to 10,000,000.
    pub most: u32,
    /// At most so much log, of the newest executions.
    pub logs: Size,
    /// Artifacts stay so many days, and never longer than their execution; files for options as long after they were last
    /// given: 1 to 3650.
    pub artifacts: u32,
}

impl Default for History {
    fn default() -> Self {
        Self { days: 365, keep: 50, most: 1_000_000, logs: Size::from_bytes(50 << 30), artifacts: 90 }
    }
}

/// How much there may be of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Quotas {
    /// Jobs: up to 100,000.
    pub jobs: u32,
    /// Executions that have not ended: up to 100,000.
    pub open_executions: u32,
    /// Bytes of artifacts and of files for options; what stands in several counts once.
    pub artifacts: Size,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { jobs: 10_000, open_executions: 10_000, artifacts: Size::from_bytes(10 << 30) }
    }
}

impl ProjectSettings {
    /// Everything that is wrong with them, but for the filters, which are read elsewhere.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |place: &str, message: String, remedy: &str| {
            faults.push(Fault {
                line: None,
                column: None,
                place: place.to_owned(),
                message,
                remedy: remedy.to_owned(),
            });
        };
        if self.readme.len() > MAX_README {
            fault(
                "readme",
                format!("{} bytes, at most {MAX_README} are allowed", self.readme.len()),
                "shorten it",
            );
        }
        if self.variables.len() > MAX_VARIABLES {
            fault("variables", format!("more than {MAX_VARIABLES}"), "remove some");
        }
        if self.variables.keys().any(|name| name.as_str() == "name") {
            fault(
                "variables.name",
                "`project.name` is the project's own name".to_owned(),
                "choose another name",
            );
        }
        let size = serde_json::to_vec(&self.variables).map_or(usize::MAX, |bytes| bytes.len());
        if size > MAX_VARIABLES_SIZE {
            let message = format!("{size} bytes together, at most {MAX_VARIABLES_SIZE} are allowed");
            fault("variables", message, "keep large values in files or nodes");
        }
        if self.filters.len() > MAX_FILTERS {
            fault("filters", format!("more than {MAX_FILTERS}"), "remove some");
        }
        let mut within = |place: &str, value: u32, least: u32, most: u32| {
            if !(least..=most).contains(&value) {
                fault(place, format!("{value} is not between {least} and {most}"), "");
            }
        };
        within("history.days", self.history.days, 1, 3650);
        within("history.keep", self.history.keep, 0, 1000);
        within("history.artifacts", self.history.artifacts, 1, 3650);
        within("history.most", self.history.most, 1, 10_000_000);
        within("quotas.jobs", self.quotas.jobs, 0, 100_000);
        within("quotas.open_executions", self.quotas.open_executions, 0, 100_000);
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let settings: ProjectSettings = serde_json::from_value(json!({"history": {"days": 7}})).unwrap();
        assert_eq!(settings.history, History { days: 7, ..History::default() });
        assert_eq!(settings.quotas, Quotas::default());
        assert_eq!(settings.faults(), []);
        assert_eq!(ProjectSettings::default().faults(), []);
        let again: ProjectSettings =
            serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
    }

    #[test]
    fn what_is_too_much_is_named() {
        fn check(settings: Value, place: &str) {
            let settings: ProjectSettings = serde_json::from_value(settings).unwrap();
            let faults = settings.faults();
            assert_eq!(faults.iter().map(|fault| fault.place.as_str()).collect::<Vec<_>>(), [place]);
        }
        check(json!({"readme": "x".repeat(MAX_README + 1)}), "readme");
        check(json!({"variables": {"name": 1}}), "variables.name");
        check(json!({"variables": {"big": "x".repeat(MAX_VARIABLES_SIZE)}}), "variables");
        let many: BTreeMap<String, u32> = (0..201).map(|at| (format!("v{at}"), at)).collect();
        check(json!({"variables": many}), "variables");
        let many: BTreeMap<String, &str> = (0..101).map(|at| (format!("f{at}"), ".*")).collect();
        check(json!({"filters": many}), "filters");
        check(json!({"history": {"days": 0}}), "history.days");
        check(json!({"history": {"keep": 1001}}), "history.keep");
        check(json!({"history": {"most": 0}}), "history.most");
        check(json!({"history": {"artifacts": 0}}), "history.artifacts");
        check(json!({"quotas": {"jobs": 100_001}}), "quotas.jobs");
        check(json!({"quotas": {"open_executions": 100_001}}), "quotas.open_executions");
        for bad in [json!({"variables": {"A": 1}}), json!({"filters": {"a b": ".*"}}), json!({"color": 1})] {
            assert!(serde_json::from_value::<ProjectSettings>(bad.clone()).is_err(), "{bad}");
        }
    }
}
