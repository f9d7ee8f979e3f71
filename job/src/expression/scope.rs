//! What an expression sees: `options`, `project`, `execution`, `steps`; `node` in node steps, `item` where a step is run for
//! each of a list, `error` in an error handler.

use std::{collections::BTreeMap, sync::Arc};

use remit_protocol::{
    ExecutionId, JobName, Outcome, ProjectName, Revision, StepName, Timestamp,
    assignment::{Assignment, NodesView, StepView},
    node::Node,
};
use serde_json::{Map, Value, json};

use super::Root;

/// What an expression sees of the execution: `execution.id`, `.job`, `.revision`, `.started_by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionView {
    /// The execution.
    pub id: ExecutionId,
    /// The job.
    pub job: JobName,
    /// The job's revision.
    pub revision: Revision,
    /// Who or what began it.
    pub started_by: String,
}

/// The values that expressions and templates are evaluated against. Cloning shares them. The default one is empty.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    project: Arc<Value>,
    execution: Arc<Value>,
    options: Arc<Value>,
    steps: BTreeMap<StepName, Arc<Value>>,
    node: Option<Arc<Value>>,
    now: Option<Timestamp>,
    item: Option<Arc<Value>>,
    error: Option<Arc<Value>>,
}

impl Scope {
    /// What is there when a job is triggered.
    pub fn new(project: &ProjectName, execution: &ExecutionView, options: &Map<String, Value>) -> Self {
        Self {
            project: Arc::new(json!({ "name": project.as_str() })),
            execution: Arc::new(json!({
                "id": execution.id.to_string(),
                "job": execution.job.as_str(),
                "revision": execution.revision,
                "started_by": execution.started_by,
            })),
            options: Arc::new(Value::Object(options.clone())),
            steps: BTreeMap::new(),
            node: None,
            now: None,
            item: None,
            error: None,
        }
    }

    /// What is there of a run of which only that is believed which somebody signed: neither the job's revision nor who began
    /// it, and no variables of the project. Whatever names those has no value.
    pub fn signed(
        project: &ProjectName,
        id: ExecutionId,
        job: &JobName,
        options: &Map<String, Value>,
    ) -> Self {
        Self {
            project: Arc::new(json!({ "name": project.as_str() })),
            execution: Arc::new(json!({ "id": id.to_string(), "job": job.as_str() })),
            options: Arc::new(Value::Object(options.clone())),
            ..Self::default()
        }
    }

    /// The id of the execution, as expressions see it.
    pub fn execution_id(&self) -> String {
        self.execution.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// This scope with the variables of the project, beside its name.
    #[must_use]
    pub fn with_variables(self, variables: &Map<String, Value>) -> Self {
        let mut project = match Arc::unwrap_or_clone(self.project) {
            Value::Object(project) => project,
            _ => Map::new(),
        };
        for (name, value) in variables {
            // The name is the project's own, whatever the variables say.
            project.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Self { project: Arc::new(Value::Object(project)), ..self }
    }

    /// This scope with a clock: `date(…)` says what time it is there. Only the defaults of options are evaluated so.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        Self { now: Some(now), ..self }
    }

    /// This scope with these option values.
    #[must_use]
    pub fn with_options(&self, options: &Map<String, Value>) -> Self {
        Self { options: Arc::new(Value::Object(options.clone())), ..self.clone() }
    }

    pub(super) fn now(&self) -> Option<Timestamp> {
        self.now
    }

    /// This scope with what earlier steps came to.
    #[must_use]
    pub fn with_steps(mut self, earlier: &BTreeMap<StepName, StepView>) -> Self {
        for (name, view) in earlier {
            self.set_step(name, view);
        }
        self
    }

    /// What a runner sees of an assignment before the job's first step.
    pub fn before_steps(assignment: &Assignment) -> Self {
        let execution = ExecutionView {
            id: assignment.execution,
            job: assignment.job.clone(),
            revision: assignment.revision,
            started_by: assignment.started_by.clone(),
        };
        let scope = Self::new(&assignment.project, &execution, &assignment.options);
        scope.with_variables(&assignment.variables)
    }

    /// Adds what a step came to, or replaces it. In a node's scope this is the node's own outcome and output.
    pub fn set_step(&mut self, name: &StepName, view: &StepView) {
        let mut fields = Map::new();
        fields.insert("outcome".to_owned(), view.outcome.kind().into());
        if let Some(outputs) = &view.outputs {
            fields.insert("outputs".to_owned(), outputs.clone());
        }
        if let Some(nodes) = &view.nodes {
            fields.insert("nodes".to_owned(), nodes_value(nodes));
        }
        self.steps.insert(name.clone(), Arc::new(Value::Object(fields)));
    }

    /// This scope as `node` sees it.
    #[must_use]
    pub fn with_node(&self, node: &Node) -> Self {
        let attributes: Map<_, _> =
            node.attributes.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let tags: Vec<Value> = node.tags.iter().map(|tag| tag.as_str().into()).collect();
        let node = json!({ "name": node.name.as_str(), "tags": tags, "attributes": attributes });
        Self { node: Some(Arc::new(node)), ..self.clone() }
    }

    /// This scope as one item of a list sees it.
    #[must_use]
    pub fn with_item(&self, item: Value) -> Self {
        Self { item: Some(Arc::new(item)), ..self.clone() }
    }

    /// This scope as the error handler of a step sees it that ended so.
    #[must_use]
    pub fn with_error(&self, outcome: Outcome, message: &str) -> Self {
        let error = json!({ "outcome": outcome.kind(), "message": message });
        Self { error: Some(Arc::new(error)), ..self.clone() }
    }

    /// The value of `root.field`, or why there is none.
    pub(super) fn get(&self, root: Root, field: &str) -> Result<&Value, String> {
        match root {
            Root::Options => self
                .options
                .get(field)
                .ok_or_else(|| format!("names the option `{field}`, which has no value")),
            Root::Project => self
                .project
                .get(field)
                .ok_or_else(|| format!("names `project.{field}`, and the project has no such variable")),
            Root::Execution => self
                .execution
                .get(field)
                .ok_or_else(|| format!("names `execution.{field}`, which does not exist")),
            Root::Clock => Err("names a clock".to_owned()),
            Root::Steps => {
                let step = StepName::new(field).ok().and_then(|name| self.steps.get(&name));
                step.map(Arc::as_ref)
                    .ok_or_else(|| format!("names the step `{field}`, which has not been run"))
            }
            Root::Node => {
                let node =
                    self.node.as_ref().ok_or_else(|| "names `node` where there is no node".to_owned())?;
                let own = match field {
                    "name" | "tags" | "attributes" => node.get(field),
                    attribute => node.get("attributes").and_then(|attributes| attributes.get(attribute)),
                };
                own.ok_or_else(|| format!("names the attribute `{field}`, which this node does not have"))
            }
            Root::Item => {
                self.item.as_deref().ok_or_else(|| "names `item` where there is no item".to_owned())
            }
            Root::Error => self
                .error
                .as_ref()
                .and_then(|error| error.get(field))
                .ok_or_else(|| "names `error` where nothing has failed".to_owned()),
        }
    }
}

fn nodes_value(nodes: &NodesView) -> Value {
    let names = |names: &[remit_protocol::NodeName]| -> Value {
        names.iter().map(|name| Value::from(name.as_str())).collect()
    };
    json!({ "succeeded": names(&nodes.succeeded), "failed": names(&nodes.failed) })
}
