//! What a new revision of a job allows that the old one did not: said in words, so that nobody accepts it unseen.

use std::collections::BTreeSet;

use remit_protocol::{
    SecretName, SecretPath,
    capability::{
        Grant,
        exec::{ArgPattern, ExecGrant, covers_all},
        files::FilesGrant,
        http::HttpGrant,
    },
    operator::Wider,
};

use crate::document::{ComponentAction, Document};

/// Each thing that a step of `new` may do and the step of the same name in `old` may not.
///
/// A step that is new, or that now runs another component, is compared with nothing.
pub fn widened(new: &Document, old: &Document) -> Vec<Wider> {
    let mut found = Vec::new();
    for step in &new.steps {
        let before: Vec<&ComponentAction> =
            old.step(&step.name).map(|(_, step)| step.components().collect()).unwrap_or_default();
        for component in step.components() {
            let before = before.iter().copied().find(|old| old.name == component.name);
            for permission in grown(component, before) {
                found.push(Wider { step: step.name.clone(), permission });
            }
        }
    }
    found
}

fn grown(new: &ComponentAction, old: Option<&ComponentAction>) -> Vec<String> {
    let nothing = Grant::default();
    let before = old.map_or(&nothing, |old| &old.grant);
    let mut found = Vec::new();
    for rule in &new.grant.http {
        if !before.http.iter().any(|other| http_covers(other, rule)) {
            let private = if rule.private { ", at private addresses," } else { "" };
            let secret = rule.secret.as_ref().map(|secret| format!(" with the secret {}", secret.name));
            found.push(format!("send {}{private}{}", rule.scope, secret.unwrap_or_default()));
        }
    }
    for rule in &new.grant.exec {
        if !before.exec.iter().any(|other| exec_covers(other, rule)) {
            let args = match &rule.args {
                None => " with any arguments that the runner's owner permits".to_owned(),
                Some(args) => args.iter().map(|arg| format!(" {arg}")).collect(),
            };
            let secret = rule.secret.as_ref().map(|secret| format!(", with the secret {}", secret.name));
            found.push(format!("start {}{args}{}", rule.program, secret.unwrap_or_default()));
        }
    }
    for rule in &new.grant.ssh {
        if !before.ssh.iter().any(|other| other.covers(rule)) {
            let secret = rule.secret.as_ref().map(|secret| format!(" with the secret {}", secret.name));
            found.push(format!("run commands on its node over ssh{}", secret.unwrap_or_default()));
        }
    }
    for rule in &new.grant.tcp {
        if !before.tcp.iter().any(|other| other.covers(rule)) {
            let private = if rule.private { ", at private addresses" } else { "" };
            let secret = rule.secret.as_ref().map(|secret| format!(" with the secret {}", secret.name));
            found.push(format!("connect by {}{private}{}", rule.scope, secret.unwrap_or_default()));
        }
    }
    for rule in new.grant.files.iter().filter(|rule| !before.files.contains(rule)) {
        found.push(match rule {
            FilesGrant::Scratch => "use a scratch directory".to_owned(),
            FilesGrant::Artifacts => "keep artifacts with the execution".to_owned(),
            FilesGrant::Named(name) => format!("read the files {name}"),
            FilesGrant::Option(name) => format!("read the file that is given for the option {name}"),
        });
    }
    for rule in new.grant.reveal.iter().filter(|rule| !before.reveal.contains(rule)) {
        found.push(format!("see the value of the secret {}", rule.name));
    }
    found.extend(secrets(new, old));
    found.extend(limits(new, old));
    found
}

fn http_covers(outer: &HttpGrant, inner: &HttpGrant) -> bool {
    outer.scope.covers(&inner.scope)
        && (outer.private || !inner.private)
        && (inner.secret.is_none() || inner.secret == outer.secret)
}

fn exec_covers(outer: &ExecGrant, inner: &ExecGrant) -> bool {
    let args = |outer: &Option<Vec<ArgPattern>>, inner: &Option<Vec<ArgPattern>>| match (outer, inner) {
        (None, _) => true,
        (Some(outer), Some(inner)) => covers_all(outer, inner),
        (Some(_), None) => false,
    };
    outer.program == inner.program
        && args(&outer.args, &inner.args)
        && (inner.secret.is_none() || inner.secret == outer.secret)
}

fn secrets(new: &ComponentAction, old: Option<&ComponentAction>) -> Vec<String> {
    let pairs = |component: &ComponentAction| -> BTreeSet<(SecretName, SecretPath)> {
        let each = component.secrets.iter();
        each.flat_map(|(name, paths)| paths.iter().map(|path| (name.clone(), path.clone()))).collect()
    };
    let before = old.map(pairs).unwrap_or_default();
    pairs(new).difference(&before).map(|(name, path)| format!("use {path} as its secret {name}")).collect()
}

fn limits(new: &ComponentAction, old: Option<&ComponentAction>) -> Vec<String> {
    // The limits of a step that is new are those of its component: nothing that the job gave.
    let Some(old) = old else { return Vec::new() };
    let grown = new.limits.above(&old.limits).into_iter();
    grown.map(|(name, now, before)| format!("use {name} up to {now}, before {before}")).collect()
}
