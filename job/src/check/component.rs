//! The component of a step: what it is given and what it may do.

use std::collections::BTreeMap;

use remit_protocol::{
    Limits, OptionName, SecretName, SecretPath,
    capability::{Grant, files::FilesGrant},
    manifest::Kind,
    nearest::nearest,
};

use super::{Check, MAX_RULES, reference::View};
use crate::{
    document::ComponentAction,
    options::{OptionDefinition, OptionType},
};

impl Check<'_> {
    pub(super) fn component(&mut self, place: &str, component: &ComponentAction, view: View) {
        if component.kind != Kind::Step && !self.document.is_discovery() {
            self.fault(
                format!("{place}.uses"),
                format!("{} is a node source, not a step", component.name),
                "use a step here",
            );
        }
        self.input(&format!("{place}.with"), &component.with, view);
        if component.effect != component.grant.effect(component.effect) {
            self.fault(
                format!("{place}.effect"),
                "the retry class is lower than what the grant allows",
                "compile the job again",
            );
        }
        if component.limits != component.limits.least(Limits::MOST).lowered(&component.grant.limits) {
            self.fault(
                format!("{place}.limits"),
                "the limits are above those of the grant, or above the most",
                "compile the job again",
            );
        }
        if let Some((name, wanted, most)) = component.grant.limits.above_most() {
            self.fault(
                format!("{place}.grant.limits.{name}"),
                format!("{wanted} is more than any step may have"),
                format!("write {most} or less"),
            );
        }
        self.rules(place, component);
        self.files(place, component);
        self.secrets(place, component);
    }

    /// A step reads only files that somebody gives.
    fn files(&mut self, place: &str, component: &ComponentAction) {
        for (at, rule) in component.grant.files.iter().enumerate() {
            let FilesGrant::Option(name) = rule else { continue };
            let place = format!("{place}.grant.files[{at}].option");
            match self.document.options.iter().find(|option| option.name == *name) {
                None => self.fault(place, format!("there is no option {name}"), "declare it: `type: file`"),
                Some(option) if !matches!(option.kind, OptionType::File { .. }) => {
                    let message =
                        format!("the option {name} has the type {}, not file", option.kind.as_str());
                    self.fault(place, message, "name an option of `type: file`");
                }
                Some(_) => {}
            }
        }
    }

    fn rules(&mut self, place: &str, component: &ComponentAction) {
        let grant = &component.grant;
        let counts = [
            ("grant.http", grant.http.len()),
            ("grant.exec", grant.exec.len()),
            ("grant.ssh", grant.ssh.len()),
            ("grant.tcp", grant.tcp.len()),
            ("grant.files", grant.files.len()),
            ("grant.reveal", grant.reveal.len()),
            ("secrets", component.secrets.len()),
        ];
        for (part, count) in counts {
            if count > MAX_RULES {
                self.fault(
                    format!("{place}.{part}"),
                    format!("{count} entries, at most {MAX_RULES} are allowed"),
                    "remove some",
                );
            }
        }
    }

    fn secrets(&mut self, place: &str, component: &ComponentAction) {
        let used = used_secrets(&component.grant);
        for (name, part) in &used {
            if !component.secrets.contains_key(name) {
                self.fault(
                    format!("{place}.{part}"),
                    format!("the rule uses the secret `{name}`, and the step binds none of that name"),
                    format!("add `secrets: {{ {name}: keys/… }}` to the step"),
                );
            }
        }
        for (name, option) in &component.chosen {
            let place = format!("{place}.secrets.{name}");
            let paths = component.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
            if let Err((message, remedy)) = self.chooses(option, paths) {
                self.fault(place, message, remedy);
            }
        }
        for (name, paths) in &component.secrets {
            let place = format!("{place}.secrets.{name}");
            let chosen = component.chosen.contains_key(name);
            if !used.contains_key(name) {
                let names = used.keys().map(|name| name.as_str());
                let remedy = match nearest(name.as_str(), names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "remove it, or name it in a rule of the grant".to_owned(),
                };
                self.fault(&place, format!("no rule of the step's grant uses the secret `{name}`"), remedy);
            }
            let several = component
                .grant
                .ssh
                .iter()
                .any(|rule| rule.secret.as_ref().is_some_and(|secret| secret.name == *name));
            if paths.is_empty() && chosen {
                // That its option does not fit has been said.
            } else if paths.is_empty() {
                self.fault(&place, "no path is given", "write a path such as keys/prod/token");
            } else if paths.len() > 1 && !several && !chosen {
                self.fault(
                    &place,
                    "several paths are given, but only ssh can choose among them",
                    "write one path",
                );
            } else if paths.len() > MAX_RULES || (1..paths.len()).any(|at| paths[..at].contains(&paths[at])) {
                self.fault(
                    &place,
                    format!("a path stands twice, or there are more than {MAX_RULES}"),
                    "list each path once",
                );
            }
        }
    }

    /// An option that chooses a secret: it is there, always has a value, and offers just the listed paths.
    fn chooses(&self, option: &OptionName, paths: &[SecretPath]) -> Result<(), (String, String)> {
        let known = |other: &&OptionDefinition| other.name == *option;
        let Some(definition) = self.document.options.iter().find(known) else {
            return Err((
                format!("`options.{option}` is not an option of this job"),
                format!("declare it: `options: {{ {option}: {{ type: secret, values: [keys/…] }} }}`"),
            ));
        };
        let values = match &definition.kind {
            OptionType::Secret { values } => values.as_slice(),
            OptionType::Typed { path } => std::slice::from_ref(path),
            _ => {
                return Err((
                    format!("the option `{option}` is of the type {}", definition.kind.as_str()),
                    "a secret's path can only be chosen by an option of the type `secret`".to_owned(),
                ));
            }
        };
        if values != paths {
            return Err((
                format!("the paths are not those of the option `{option}`"),
                "compile the job again".to_owned(),
            ));
        }
        if !definition.required && definition.default.is_none() {
            return Err((
                format!("the option `{option}` may be left out, and then there is no path"),
                match definition.kind.typed() {
                    Some(_) => "add `required: true` to the option".to_owned(),
                    None => "add `required: true` or a `default` to the option".to_owned(),
                },
            ));
        }
        Ok(())
    }
}

/// The secrets that a grant's rules use, each with the place of a rule that does.
fn used_secrets(grant: &Grant) -> BTreeMap<SecretName, String> {
    let http = grant.http.iter().enumerate();
    let http =
        http.filter_map(|(at, rule)| Some((rule.secret.as_ref()?.name.clone(), format!("grant.http[{at}]"))));
    let exec = grant.exec.iter().enumerate();
    let exec =
        exec.filter_map(|(at, rule)| Some((rule.secret.as_ref()?.name.clone(), format!("grant.exec[{at}]"))));
    let ssh = grant.ssh.iter().enumerate();
    let ssh =
        ssh.filter_map(|(at, rule)| Some((rule.secret.as_ref()?.name.clone(), format!("grant.ssh[{at}]"))));
    let tcp = grant.tcp.iter().enumerate();
    let tcp =
        tcp.filter_map(|(at, rule)| Some((rule.secret.as_ref()?.name.clone(), format!("grant.tcp[{at}]"))));
    let reveal = grant.reveal.iter().enumerate();
    let reveal = reveal.map(|(at, rule)| (rule.name.clone(), format!("grant.reveal[{at}]")));
    http.chain(exec).chain(ssh).chain(tcp).chain(reveal).collect()
}
