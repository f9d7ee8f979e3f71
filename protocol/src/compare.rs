//! What another version of a component asks for, against the version that was audited.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    capability::{
        Requests,
        exec::{ExecRequest, covers_all},
        files::FilesRequest,
        http::{HttpRequest, HttpWish},
        imports::{ImportClass, classify},
    },
    manifest::Manifest,
};

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The new one asks for something that the old one did not.
    Wider,
    /// It asks for less, and for nothing else.
    Narrower,
    /// It asks for the same.
    Same,
    /// It cannot be told: what the two are does not compare.
    Opaque,
}

/// Two manifests, compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// What it comes to.
    pub verdict: Verdict,
    /// What only the new one asks for.
    pub wider: Vec<String>,
    /// What only the old one asks for.
    pub narrower: Vec<String>,
    /// Why the two do not compare.
    pub opaque: Vec<String>,
}

/// Compares what `new` asks for with what `old` asks for. A rule counts as asked for before only if one single rule of the
/// old version covers it: two old rules that cover it together are told as wider, which errs on the auditor's side.
pub fn compare(old: &Manifest, new: &Manifest) -> Comparison {
    let wider = beyond(new, old);
    let narrower = beyond(old, new);
    let mut opaque = Vec::new();
    if old.name != new.name {
        opaque.push(format!("the one is {}, the other {}", old.name, new.name));
    }
    if old.kind != new.kind {
        opaque.push("a step is compared with a node source".to_owned());
    }
    for manifest in [old, new] {
        let unknown = manifest.imports.iter().filter(|import| classify(import) == ImportClass::Unknown);
        opaque.extend(unknown.map(|import| format!("{} imports {import}", manifest.version)));
    }
    let verdict = match (opaque.is_empty(), wider.is_empty(), narrower.is_empty()) {
        (false, _, _) => Verdict::Opaque,
        (true, false, _) => Verdict::Wider,
        (true, true, false) => Verdict::Narrower,
        (true, true, true) => Verdict::Same,
    };
    Comparison { verdict, wider, narrower, opaque }
}

/// What `one` asks for and `other` does not.
fn beyond(one: &Manifest, other: &Manifest) -> Vec<String> {
    let mut found = requests(&one.requests, &other.requests);
    let classes = |manifest: &Manifest| -> BTreeSet<&'static str> {
        manifest.imports.iter().filter_map(|import| capability(classify(import))).collect()
    };
    found.extend(classes(one).difference(&classes(other)).map(|class| format!("import {class}")));
    found.extend(limits(one, other));
    if one.effect > other.effect {
        found.push(format!("effect {}, not {}", word(&one.effect), word(&other.effect)));
    }
    found
}

fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        other => other.map(|value| value.to_string()).unwrap_or_default(),
    }
}

fn capability(class: ImportClass) -> Option<&'static str> {
    Some(match class {
        ImportClass::Baseline | ImportClass::Unknown => return None,
        ImportClass::Http => "http",
        ImportClass::Exec => "exec",
        ImportClass::Ssh => "ssh",
        ImportClass::Tcp => "tcp",
        ImportClass::Scratch => "files: scratch",
        ImportClass::NamedFiles => "files: named",
        ImportClass::Artifacts => "files: artifacts",
        ImportClass::Reveal => "secrets: reveal",
    })
}

fn requests(one: &Requests, other: &Requests) -> Vec<String> {
    fn rules<R: Serialize>(
        name: &str,
        one: &[R],
        other: &[R],
        covers: impl Fn(&R, &R) -> bool,
    ) -> impl Iterator<Item = String> {
        let more = one.iter().filter(move |rule| !other.iter().any(|outer| covers(outer, rule)));
        more.map(move |rule| format!("{name} {}", word(rule))).collect::<Vec<_>>().into_iter()
    }
    let mut found = Vec::new();
    found.extend(rules("http", &one.http, &other.http, http));
    found.extend(rules("exec", &one.exec, &other.exec, exec));
    found.extend(rules("ssh", &one.ssh, &other.ssh, |outer, inner| outer.covers(inner)));
    found.extend(rules("tcp", &one.tcp, &other.tcp, |outer, inner| outer.includes(inner)));
    found.extend(rules("files", &one.files, &other.files, |outer, inner| {
        outer == inner || matches!((outer, inner), (FilesRequest::Open, FilesRequest::Named(_)))
    }));
    found.extend(rules("reveal", &one.reveal, &other.reveal, |outer, inner| outer == inner));
    found
}

fn http(outer: &HttpRequest, inner: &HttpRequest) -> bool {
    let scope = match (&outer.scope, &inner.scope) {
        (HttpWish::Open { methods: None }, _) => true,
        (HttpWish::Open { methods: Some(outer) }, HttpWish::Open { methods: Some(inner) }) => {
            inner.is_subset(outer)
        }
        (HttpWish::Open { methods: Some(outer) }, HttpWish::Literal(inner)) => inner.methods.is_subset(outer),
        (HttpWish::Literal(outer), HttpWish::Literal(inner)) => outer.covers(inner),
        _ => false,
    };
    scope && (outer.private || !inner.private) && (inner.secret.is_none() || outer.secret == inner.secret)
}

fn exec(outer: &ExecRequest, inner: &ExecRequest) -> bool {
    let program = outer.program.is_none() || outer.program == inner.program;
    let arguments = match (&outer.args, &inner.args) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => covers_all(outer, inner),
    };
    program && arguments && (inner.secret.is_none() || outer.secret == inner.secret)
}

/// The limits of `one` that are above those of `other`.
fn limits(one: &Manifest, other: &Manifest) -> Vec<String> {
    let above = one.limits.above(&other.limits).into_iter();
    above.map(|(name, value, before)| format!("limit {name} {value}, not {before}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A manifest with these requests and imports, changed by `change`.
    fn manifest(change: &Value) -> Manifest {
        let mut whole = json!({
            "v": 1, "name": "acme/one", "version": "1.0.0", "kind": "step", "description": "one", "effect": "effect",
            "imports": ["remit:step/log@0.1.0", "wasi:http/types@0.2.6"],
            "requests": {
                "http": [{ "host": "api.corp.example", "methods": ["GET", "POST"], "paths": ["/v1"] }],
                "exec": [{ "program": "uname", "args": ["-s"] }],
            },
            "limits": serde_json::to_value(crate::Limits::default()).unwrap(),
            "input": {}, "output": {},
        });
        for (name, value) in change.as_object().unwrap() {
            match (whole.get_mut(name).unwrap(), value) {
                (Value::Object(old), Value::Object(new)) => old.extend(new.clone()),
                (old, new) => *old = new.clone(),
            }
        }
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn every_side_of_a_manifest_counts() {
        fn check(change: Value, verdict: Verdict, part: &str) {
            let (old, new) = (manifest(&json!({})), manifest(&change));
            let found = compare(&old, &new);
            assert_eq!(found.verdict, verdict, "{change}: {found:?}");
            let said = match verdict {
                Verdict::Wider => &found.wider,
                Verdict::Narrower => &found.narrower,
                Verdict::Opaque => &found.opaque,
                Verdict::Same => return,
            };
            assert!(said.iter().any(|line| line.contains(part)), "{change}: {found:?}");
            // Seen from the other side, what is wider is narrower, or as opaque.
            let back = compare(&new, &old);
            match verdict {
                Verdict::Wider => assert_eq!(back.narrower, found.wider),
                Verdict::Narrower => assert_eq!(back.wider, found.narrower),
                Verdict::Opaque | Verdict::Same => assert_eq!(back.verdict, verdict),
            }
        }
        let http = |rule: Value| json!({ "requests": { "http": [rule] } });
        check(json!({}), Verdict::Same, "");
        check(json!({ "version": "1.0.1", "description": "other" }), Verdict::Same, "");
        let get = http(json!({ "host": "api.corp.example", "methods": ["GET"], "paths": ["/v1/a"] }));
        check(get, Verdict::Narrower, "http");
        let all = http(json!({ "host": "*.corp.example", "methods": ["GET", "POST"], "paths": ["/v1"] }));
        check(all, Verdict::Wider, "*.corp.example");
        check(http(json!({ "host": "granted" })), Verdict::Wider, "granted");
        let private = json!({ "host": "api.corp.example", "methods": ["GET", "POST"], "paths": ["/v1"], "private": true });
        check(http(private), Verdict::Wider, "private");
        check(json!({ "requests": { "exec": [{ "program": "uname" }] } }), Verdict::Wider, "uname");
        check(json!({ "requests": { "exec": [] } }), Verdict::Narrower, "uname");
        check(json!({ "requests": { "files": [{ "scratch": true }] } }), Verdict::Wider, "scratch");
        check(json!({ "requests": { "reveal": [{ "name": "key" }] } }), Verdict::Wider, "reveal");
        check(json!({ "limits": { "memory": "500MiB" } }), Verdict::Wider, "memory");
        check(json!({ "limits": { "memory": "1MiB" } }), Verdict::Narrower, "memory");
        check(json!({ "effect": "read" }), Verdict::Narrower, "effect");
        check(
            json!({ "imports": ["remit:secrets/reveal@0.1.0", "remit:step/log@0.1.0", "wasi:http/types@0.2.6"] }),
            Verdict::Wider,
            "reveal",
        );
        check(json!({ "imports": ["acme:own/thing@1.0.0"] }), Verdict::Opaque, "acme:own");
        check(json!({ "name": "acme/two" }), Verdict::Opaque, "acme/two");
        check(json!({ "kind": "node-source" }), Verdict::Opaque, "node source");
    }
}
