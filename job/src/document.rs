//! The job document: a compiled job in strict JSON. Its bytes carry the digest that is signed, stored and run.
//!
//! Everything is explicit here: components by digest, grants in full, retry classes computed. A runner does not trust
//! the orchestrator, so [`Document::from_slice`] repeats every check that compile makes and that needs no component.

use std::collections::{BTreeMap, BTreeSet};

use remit_protocol::{
    ComponentName, ComponentVersion, Digest, JobName, Limits, OptionName, ProjectName, SecretName,
    SecretPath, Span, StepName, Tag,
    assignment::Strategy,
    capability::{Effect, Grant},
    endpoint::Fault,
    json,
    limits::MAX_JOB,
    manifest::{Kind, Manifest},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    check,
    expression::Expression,
    filter::{FilterTemplate, Rank},
    options::OptionDefinition,
    template::Template,
};

/// The form of the document that this version writes and reads.
pub const VERSION: u32 = 1;

/// A compiled job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The form of this document: [`VERSION`].
    pub v: u32,
    /// The project that the job belongs to.
    pub project: ProjectName,
    /// The job's name.
    pub job: JobName,
    /// Where lists show it: names joined by `/`; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// What it is for, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Which runners may run it.
    #[serde(default)]
    pub runner: RunnerSelection,
    /// What is asked when it is run, in the order in which it is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionDefinition>,
    /// On which nodes its node steps run; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// In which order node steps are run.
    #[serde(default)]
    pub strategy: Strategy,
    /// How long an execution may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

/// Which runners may run a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerSelection {
    /// The runner has to carry all of them; none: the local runner.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// Whoever runs the job may choose other tags.
    #[serde(default, rename = "override")]
    pub may_override: bool,
}

/// On which nodes the node steps run, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// The node filter; values may hold `${…}`.
    pub filter: FilterTemplate,
    /// How many nodes at once.
    pub threads: Threads,
    /// Go on with other nodes after one failed.
    pub keep_going: bool,
    /// In which order nodes are taken; absent: by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
}

/// A number of nodes: fixed, or an expression that is evaluated when the job is triggered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Threads {
    /// So many.
    Fixed(u32),
    /// What the expression comes to.
    Expression(Expression),
}

/// A span of time: fixed, or an expression that comes to its text when the job is triggered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Timeout {
    /// So long.
    Fixed(Span),
    /// A text such as `30m`, by expression.
    Expression(Expression),
}

impl TryFrom<String> for Timeout {
    type Error = String;
    /// A text that begins with a digit is a duration; anything else an expression.
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return text
                .parse()
                .map(Self::Fixed)
                .map_err(|e: remit_protocol::time::InvalidSpan| e.to_string());
        }
        Expression::new(&text).map(Self::Expression).map_err(|invalid| invalid.to_string())
    }
}

impl From<Timeout> for String {
    fn from(timeout: Timeout) -> Self {
        match timeout {
            Timeout::Fixed(span) => span.to_string(),
            Timeout::Expression(expression) => expression.into(),
        }
    }
}

/// One entry of a job: what every kind of step has, and the action that makes its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name, unique in the job.
    pub name: StepName,
    /// Once, or once per node.
    pub per: Per,
    /// When it is run at all.
    pub when: When,
    /// How long one run may take; per node in a node step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Whether it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What it does.
    pub action: Action,
}

/// How often a step is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// A workflow step.
    #[default]
    Once,
    /// A node step.
    Node,
}

/// The condition of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum When {
    /// No earlier step ended badly.
    #[default]
    OnSuccess,
    /// An earlier step ended badly.
    OnFailure,
    /// In any case.
    Always,
    /// The expression comes to true.
    Expression(Expression),
}

impl TryFrom<String> for When {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "on-success" => Ok(Self::OnSuccess),
            "on-failure" => Ok(Self::OnFailure),
            "always" => Ok(Self::Always),
            _ => Expression::new(&text).map(Self::Expression).map_err(|invalid| invalid.to_string()),
        }
    }
}

impl From<When> for String {
    fn from(when: When) -> Self {
        match when {
            When::OnSuccess => "on-success".to_owned(),
            When::OnFailure => "on-failure".to_owned(),
            When::Always => "always".to_owned(),
            When::Expression(expression) => expression.into(),
        }
    }
}

/// When a step is tried again. See [`crate::retry`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often it is run in all: 1 to [`Retry::MOST`].
    pub attempts: u32,
    /// After which outcomes.
    pub outcomes: BTreeSet<RetryOutcome>,
    /// How long to wait before the second try.
    pub delay: Span,
    /// By how much the wait grows each time: 1 to 10.
    pub backoff: f64,
}

impl Retry {
    /// Most tries of one step.
    pub const MOST: u32 = 100;
    /// Longest wait before a try.
    pub const LONGEST_DELAY: Span = Span::from_secs(3600);
}

/// An outcome after which a job may ask for another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOutcome {
    /// The step said that it failed.
    Failed,
    /// Its time ran out.
    TimedOut,
    /// The runner restarted while it ran.
    Interrupted,
    /// The runner has not been heard of. Not for the class `effect`.
    Lost,
}

/// What a step does. One variant a kind of step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Runs a component in a sandbox.
    Component(Box<ComponentAction>),
}

/// A component, its input, and exactly what it may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentAction {
    /// `namespace/name`.
    pub name: ComponentName,
    /// The version that `uses` selected when the job was saved.
    pub version: ComponentVersion,
    /// The component's own bytes.
    pub digest: Digest,
    /// What kind it is: in a job always a step.
    pub kind: Kind,
    /// Its input, a template.
    pub with: Template,
    /// Secrets by the step's name for them. Several paths: a node attribute chooses among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, Vec<SecretPath>>,
    /// The secrets of which the value of an option chooses the path, among those listed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chosen: BTreeMap<SecretName, OptionName>,
    /// What the step may do.
    pub grant: Grant,
    /// The retry class: what the author declared, raised by what the grant allows.
    pub effect: Effect,
    /// The manifest's limits, lowered by the grant's.
    pub limits: Limits,
}

impl ComponentAction {
    /// The secrets with the paths that `options` choose: never one that is not listed.
    pub fn secrets_for(
        &self,
        options: &Map<String, Value>,
    ) -> Result<BTreeMap<SecretName, Vec<SecretPath>>, String> {
        let mut secrets = self.secrets.clone();
        for (name, option) in &self.chosen {
            let listed = self.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
            let value = options.get(option.as_str()).and_then(Value::as_str).unwrap_or_default();
            let path = listed.iter().find(|path| path.as_str() == value).ok_or_else(|| {
                let shown: Vec<_> = listed.iter().map(SecretPath::as_str).collect();
                format!(
                    "the option {option} chooses {value:?} as the secret {name}, and the job lists {}",
                    shown.join(", ")
                )
            })?;
            secrets.insert(name.clone(), vec![path.clone()]);
        }
        Ok(secrets)
    }

    /// Checks what this says of the component against the component's own verified manifest. The runner calls it: class
    /// and limits of a document are the orchestrator's word until then.
    pub fn agrees_with(&self, manifest: &Manifest) -> Result<(), String> {
        let differs =
            |what: &str| Err(format!("the job document and the manifest of {} differ in {what}", self.name));
        if self.name != manifest.name {
            return differs("the name");
        }
        if self.version != manifest.version {
            return differs("the version");
        }
        if self.kind != manifest.kind {
            return differs("the kind");
        }
        if self.effect != self.grant.effect(manifest.effect) {
            return differs("the retry class");
        }
        if self.limits != manifest.limits.lowered(&self.grant.limits) {
            return differs("the limits");
        }
        Ok(())
    }
}

impl Step {
    /// The retry class of the step.
    pub fn effect(&self) -> Effect {
        match &self.action {
            Action::Component(component) => component.effect,
        }
    }
}

/// Bytes that are not an acceptable job document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job document is not acceptable: {}", first(.0))]
pub struct InvalidDocument(pub Vec<Fault>);

fn first(faults: &[Fault]) -> String {
    faults.first().map(|fault| format!("{}: {}", fault.place, fault.message)).unwrap_or_default()
}

impl Document {
    /// Parses and checks a document: strict JSON, and every rule that compile checks and that needs no component.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let document: Self = json::from_slice(bytes, MAX_JOB).map_err(|invalid| {
            InvalidDocument(vec![Fault {
                line: None,
                column: None,
                place: "document".to_owned(),
                message: invalid.to_string(),
                remedy: "apply the job again with a `remit` of the same version".to_owned(),
            }])
        })?;
        let faults = check::document(&document);
        if faults.is_empty() { Ok(document) } else { Err(InvalidDocument(faults)) }
    }

    /// True for the document of a node source: a single step, which discovers.
    pub fn is_discovery(&self) -> bool {
        let discovers = |step: &Step| match &step.action {
            Action::Component(component) => component.kind == Kind::NodeSource && step.per == Per::Once,
        };
        matches!(&self.steps[..], [step] if discovers(step))
            && self.options.is_empty()
            && self.nodes.is_none()
    }

    /// The bytes that are stored, signed and sent.
    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The step of this name and its place.
    pub fn step(&self, name: &StepName) -> Option<(usize, &Step)> {
        self.steps.iter().enumerate().find(|(_, step)| step.name == *name)
    }
}
