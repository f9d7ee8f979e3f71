//! A step of a job document: what every kind of step has, and the action that makes its kind.

use std::collections::{BTreeMap, BTreeSet};

use remit_protocol::{
    ComponentName, ComponentVersion, Digest, JobName, Limits, OptionName, SecretName, SecretPath, Span,
    StepName, Tag,
    capability::{Effect, Grant},
    manifest::{Kind, Manifest},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::StepLog;
use crate::{expression::Expression, filter::FilterTemplate, template::Template};

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
    /// Neighbours with the same number run side by side, and none of them sees another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Once for each item of this list, one after the other, as `item`; its output is the list of outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<Expression>,
    /// What becomes of the lines that it writes.
    #[serde(default, skip_serializing_if = "StepLog::is_empty")]
    pub log: StepLog,
    /// What is done when it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
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
    /// The expression comes to true, whatever came before.
    Expression(Expression),
    /// No earlier step ended badly, and the expression comes to true: `on-success && …`.
    OnSuccessIf(Expression),
    /// An earlier step ended badly, and the expression comes to true: `on-failure && …`.
    OnFailureIf(Expression),
}

impl When {
    /// The expression in it.
    pub fn expression(&self) -> Option<&Expression> {
        match self {
            Self::OnSuccess | Self::OnFailure | Self::Always => None,
            Self::Expression(own) | Self::OnSuccessIf(own) | Self::OnFailureIf(own) => Some(own),
        }
    }
}

impl TryFrom<String> for When {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        // Neither word could begin an expression: there is no value `on`.
        let parts = text.split_once("&&").map(|(word, rest)| (word.trim_end(), rest.trim_start()));
        let expression = |text: &str| Expression::new(text).map_err(|invalid| invalid.to_string());
        let both = |word: &str, rest: &str| {
            let expression = expression(rest)?;
            if expression.is_operand_of_and() {
                Ok(expression)
            } else {
                Err(format!("`{word} && …` has `||` or `? :` without brackets: write `{word} && ({rest})`"))
            }
        };
        match parts {
            Some((word @ "on-success", rest)) => return both(word, rest).map(Self::OnSuccessIf),
            Some((word @ "on-failure", rest)) => return both(word, rest).map(Self::OnFailureIf),
            _ => {}
        }
        match text.as_str() {
            "on-success" => Ok(Self::OnSuccess),
            "on-failure" => Ok(Self::OnFailure),
            "always" => Ok(Self::Always),
            _ => expression(&text).map(Self::Expression),
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
            When::OnSuccessIf(expression) => format!("on-success && {}", expression.as_str()),
            When::OnFailureIf(expression) => format!("on-failure && {}", expression.as_str()),
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
    /// Waits until people have agreed.
    Gate(Gate),
    /// Ends the execution.
    Halt(Halt),
    /// Runs another job of the project.
    Job(Box<JobAction>),
}

/// A step at which people are asked. A `no` ends it as `failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// What they are asked: a text, which may hold `${…}`.
    pub question: Template,
    /// How many different people have to agree: 1 to [`Gate::MOST`].
    pub needed: u32,
    /// Who may.
    pub by: Approvers,
}

impl Gate {
    /// Most people that a gate may want.
    pub const MOST: u32 = 10;
}

/// Who may agree at a gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approvers {
    /// Whoever may run the job.
    #[default]
    Anyone,
    /// Not the one who began the execution.
    Another,
}

/// A step that ends the execution: what comes after it is not begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halt {
    /// How the step, and with it the execution, ends.
    pub outcome: HaltOutcome,
    /// Why: a text, which may hold `${…}`.
    pub message: Template,
}

/// How a job may end an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HaltOutcome {
    /// All that was to be done is done.
    Succeeded,
    /// It cannot go on.
    Failed,
}

/// Another job of the same project, run as an execution of its own. Its newest revision at that time counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobAction {
    /// Which job.
    pub job: JobName,
    /// Values of its options, a template.
    pub with: Template,
    /// Other runners than it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeSet<Tag>>,
    /// Other nodes than it says itself; may hold `${…}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<FilterTemplate>,
}

/// What is done when a step has failed: a component that sees `error.outcome` and `error.message`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnError {
    /// When it succeeds, the step counts as succeeded, without outputs.
    #[serde(default)]
    pub recover: bool,
    /// The component.
    pub run: Box<ComponentAction>,
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
    /// The components that it may run: its own, and that of its error handler.
    pub fn components(&self) -> impl Iterator<Item = &ComponentAction> {
        let own = match &self.action {
            Action::Component(component) => Some(component.as_ref()),
            Action::Gate(_) | Action::Halt(_) | Action::Job(_) => None,
        };
        own.into_iter().chain(self.on_error.as_ref().map(|handler| handler.run.as_ref()))
    }

    /// The retry class of the step.
    pub fn effect(&self) -> Effect {
        match &self.action {
            Action::Component(_) => {
                self.components().map(|component| component.effect).max().unwrap_or(Effect::Effect)
            }
            Action::Gate(_) | Action::Halt(_) => Effect::Pure,
            Action::Job(_) => Effect::Effect,
        }
    }
}
