//! Jobs for tests: one component for each retry class.

use remit_job::{
    compile::{ResolvedComponent, compile},
    document::Document,
    source::JobSource,
};
use remit_protocol::{ComponentSelector, Digest, manifest::StepFile};
use serde_json::json;

fn component(selector: &ComponentSelector) -> Option<ResolvedComponent> {
    let name = selector.name().name();
    let effect = if name == "keyed" { "read" } else { name };
    let mut file = json!({
        "name": selector.name(), "version": "1.0.0", "kind": "step", "description": "d", "effect": effect,
    });
    if matches!(effect, "idempotent" | "effect") {
        file["http"] = json!([{"host": "api.example", "methods": ["POST"], "paths": ["/"]}]);
    }
    if name == "keyed" {
        file["http"] = json!([{
            "host": "api.example", "methods": ["GET"], "paths": ["/"], "secret": {"name": "token", "use": "bearer"},
        }]);
    }
    let file: StepFile = serde_json::from_value(file).unwrap();
    let manifest = file.into_manifest(vec![], json!({"type": "object"}), json!({}));
    Some(ResolvedComponent {
        version: manifest.version.clone(),
        digest: Digest::of(selector.name().as_str().as_bytes()),
        manifest,
    })
}

/// Compiles a job of the project `ops` whose steps use `test/pure@1`, `test/read@1`, `test/idempotent@1`, `test/effect@1`, or
/// `test/keyed@1`, which reads with the secret `token`.
pub(crate) fn document(yaml: &str) -> Document {
    let source = JobSource::parse(yaml).unwrap();
    compile(&source, &"ops".parse().unwrap(), &component).unwrap()
}

/// A job of workflow steps of these classes, named `s0`, `s1` …
pub(crate) fn steps(classes: &[&str]) -> Document {
    let mut yaml = "job: sample\nsteps:\n".to_owned();
    for (at, class) in classes.iter().enumerate() {
        yaml.push_str(&format!("  - name: s{at}\n    uses: test/{class}@1\n"));
    }
    document(&yaml)
}

/// A job of one node step of this class over all nodes.
pub(crate) fn node_step(class: &str) -> Document {
    document(&format!(
        "job: sample\nnodes:\n  filter: \".*\"\n  threads: 2\n  keep_going: true\nsteps:\n  - name: s0\n    uses: test/{class}@1\n    per: node\n"
    ))
}
