//! The document of a node source: one step, which discovers.

use std::collections::BTreeMap;

use remit_protocol::{
    InvalidId, JobName, ProjectName, StepName, capability::covered_by_request, endpoint::Fault,
    limits::LimitsPart, manifest::Kind, operator::NewSource,
};
use serde_json::Value;

use super::{ResolvedComponent, fault, grant, input, reread};
use crate::{
    document::{Action, ComponentAction, Document, Per, RunnerSelection, Step, VERSION, When},
    source::ComponentSource,
    template::Template,
};

/// Compiles a node source into the document that its runner is handed, or says everything that is wrong with it.
pub fn discovery(
    project: &ProjectName,
    source: &NewSource,
    component: &ResolvedComponent,
) -> Result<Document, Vec<Fault>> {
    let manifest = &component.manifest;
    let mut faults = Vec::new();
    let Some(uses) = source.uses.clone() else {
        return Err(vec![fault("uses", "it names no component", "name one of kind node-source")]);
    };
    if manifest.kind != Kind::NodeSource {
        let message = format!("{uses} is a step, not a node source");
        return Err(vec![fault("uses", message, "use a component of kind node-source")]);
    }
    let with = Template::new(Value::Object(source.with.clone()))
        .map_err(|invalid| vec![invalid.into_fault("with")])?;
    input::check(with.source(), &manifest.input, "with", &mut faults);
    let secrets: BTreeMap<_, _> =
        source.secrets.iter().map(|(name, path)| (name.clone(), vec![path.clone()])).collect();
    let named = |error: InvalidId| vec![fault("name", error.to_string(), "choose a shorter name")];
    let name = StepName::new("discover").map_err(named)?;
    let grant = match &source.grant {
        Some(given) => {
            for denial in covered_by_request(&manifest.requests, given).err().unwrap_or_default() {
                faults.push(fault(
                    "grant",
                    denial.to_string(),
                    "leave out what the component does not request",
                ));
            }
            given.clone()
        }
        None => {
            let step = ComponentSource {
                uses,
                with: with.clone(),
                secrets: secrets.clone(),
                chosen: BTreeMap::new(),
                grant: None,
                limits: LimitsPart::default(),
            };
            grant::expand(&step, Per::Once, manifest, "source", &mut faults)
        }
    };
    // Characters that a source's name may have and a job's may not.
    let job: String = source.name.as_str().replace(['-', '.'], "_");
    let action = ComponentAction {
        name: manifest.name.clone(),
        version: component.version.clone(),
        digest: component.digest,
        kind: manifest.kind,
        with,
        secrets,
        chosen: BTreeMap::new(),
        effect: grant.effect(manifest.effect),
        limits: manifest.limits.lowered(&grant.limits),
        grant,
    };
    let document = Document {
        v: VERSION,
        project: project.clone(),
        job: JobName::new(format!("source_{job}")).map_err(named)?,
        group: String::new(),
        description: manifest.description.clone(),
        runner: RunnerSelection { tags: source.runner_tags.clone(), may_override: false },
        options: Vec::new(),
        nodes: None,
        strategy: Default::default(),
        timeout: None,
        concurrency: None,
        log_limit: None,
        retry: None,
        schedules: Vec::new(),
        notify: Vec::new(),
        steps: vec![Step {
            name,
            per: Per::Once,
            when: When::OnSuccess,
            timeout: None,
            retry: None,
            group: None,
            for_each: None,
            log: Default::default(),
            on_error: None,
            action: Action::Component(Box::new(action)),
        }],
    };
    if faults.is_empty() {
        faults.extend(reread(&document));
    }
    if faults.is_empty() { Ok(document) } else { Err(faults) }
}
