//! Jobs as their authors write them, compiled: the components and the example that the tests share.

mod document;
mod example;
mod flow;
mod grant;
mod mistake;
mod option;
mod shape;
mod typed;

use remit_protocol::manifest::StepFile;
use serde_json::{Value, json};

use super::*;

const EXAMPLE: &str = include_str!("../example.yaml");

/// The components of the example, and some that the bad jobs use.
fn component(selector: &ComponentSelector) -> Option<ResolvedComponent> {
    let object = json!({"type": "object"});
    let (file, input) = match selector.name().as_str() {
        "remit/ssh-command" => (
            json!({"name": "remit/ssh-command", "version": "1.2.0", "kind": "step", "description": "d", "effect": "effect",
                   "limits": {"wall": "1h"}, "ssh": [{"target": "node", "secret": {"name": "key", "use": "ssh-key"}}]}),
            json!({"type": "object", "required": ["argv"], "additionalProperties": false,
                   "properties": {"argv": {"type": "array"}, "sudo": {"type": ["boolean", "null"]}}}),
        ),
        "acme/restart-service" => (
            json!({"name": "acme/restart-service", "version": "1.4.2", "kind": "step", "description": "d", "effect": "idempotent",
                   "limits": {"memory": "32MiB", "wall": "2m"},
                   "http": [{"id": "control", "host": "control.corp.example", "methods": ["GET", "POST"], "paths": ["/v1/services"],
                             "private": true, "secret": {"name": "token", "use": "bearer"}}]}),
            json!({"type": "object", "required": ["service"],
                   "properties": {"service": {"type": "string"}, "polls": {"type": "integer"}}}),
        ),
        "remit/http-request" => (
            json!({"name": "remit/http-request", "version": "1.0.3", "kind": "step", "description": "d", "effect": "effect",
                   "http": [{"host": "granted", "private": true}]}),
            object,
        ),
        "remit/run-command" => (
            json!({"name": "remit/run-command", "version": "1.0.0", "kind": "step", "description": "d", "effect": "effect",
                   "exec": [{"program": "granted"}], "files": [{"path": "granted"}, {"scratch": true}], "reveal": [{"name": "word"}]}),
            object,
        ),
        "remit/transform" => (
            json!({"name": "remit/transform", "version": "1.0.0", "kind": "step", "description": "d", "effect": "pure"}),
            object,
        ),
        "remit/file-nodes" => (
            json!({"name": "remit/file-nodes", "version": "1.0.0", "kind": "node-source", "description": "d", "effect": "read",
                   "files": [{"name": "inventory"}]}),
            object,
        ),
        _ => return None,
    };
    let file: StepFile = serde_json::from_value(file).unwrap();
    let manifest = file.into_manifest(vec![], input, json!({}));
    selector.selects(&manifest.version).then(|| ResolvedComponent {
        version: manifest.version.clone(),
        digest: Digest::of(selector.name().as_str().as_bytes()),
        manifest,
    })
}

fn compiled(text: &str) -> Result<Document, Vec<Fault>> {
    compile(&JobSource::parse(text)?, &"ops".parse().unwrap(), &component)
}

fn action(document: &Document, at: usize) -> &ComponentAction {
    document.steps[at].components().next().unwrap()
}

/// Changes the one place where `from` stands in the example.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(EXAMPLE.matches(from).count(), 1, "{from:?} has to stand once in the example");
    EXAMPLE.replacen(from, to, 1)
}
