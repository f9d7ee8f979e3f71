//! `[ceiling]` and its rules, and the trust profiles of `[[tls]]` that they name.

use std::{collections::BTreeMap, path::PathBuf};

use remit_protocol::{
    Limits,
    capability::{Ceiling, exec::ExecCeiling, http::HttpCeiling},
    limits::LimitsPart,
    nearest::nearest,
};
use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Reader, Value, table, value};

const LIMITS: &[&str] = Limits::NAMES;
const CEILING: &[&str] = &["http", "exec", "ssh", "tcp", "files", "secrets"];
const HTTP: &[&str] = &[
    "endpoint",
    "unix",
    "components",
    "projects",
    "scheme",
    "host",
    "port",
    "methods",
    "paths",
    "private",
    "via",
    "tls",
    "ca_file",
];
const TLS: &[&str] = &["name", "ca_file"];
const EXEC: &[&str] = &["program", "path", "args", "cwd", "env", "variables"];
const SSH: &[&str] = &["addresses", "port", "users", "known_hosts"];
const TCP: &[&str] = &["host", "port", "tls", "connect_only", "private", "trust", "ca_file"];
const FILES: &[&str] = &["name", "path", "mode"];
const SECRETS: &[&str] = &["path", "use", "hosts", "users", "programs", "components", "projects"];

impl Reader<'_> {
    pub(super) fn ceiling(&mut self, top: &DeTable<'_>) -> Ceiling {
        let place = "ceiling";
        let mut ceiling = Ceiling::default();
        let Some(found) = table(top, place) else { return ceiling };
        let Some(table) = self.section(found, place) else { return ceiling };
        self.known(table, place, &[LIMITS, CEILING].concat());
        ceiling.limits = self.limits(found, table);
        ceiling.http = self.entries(table, "http", HTTP);
        ceiling.exec = self.entries(table, "exec", EXEC);
        ceiling.ssh = self.entries(table, "ssh", SSH);
        ceiling.tcp = self.entries(table, "tcp", TCP);
        ceiling.files = self.entries(table, "files", FILES);
        ceiling.secrets = self.entries(table, "secrets", SECRETS);
        self.one_socket_each(table, &ceiling.http);
        let profiles = self.trust_profiles(top);
        self.named_profiles(table, ("http", "tls"), &profiles);
        self.named_profiles(table, ("tcp", "trust"), &profiles);
        for rule in &mut ceiling.http {
            let profile = rule.tls.as_ref().and_then(|name| profiles.get(name).cloned());
            rule.ca_file = rule.ca_file.take().or(profile).map(|path| self.directory.join(path));
        }
        for rule in &mut ceiling.tcp {
            let profile = rule.trust.as_ref().and_then(|name| profiles.get(name).cloned());
            rule.ca_file = rule.ca_file.take().or(profile).map(|path| self.directory.join(path));
        }
        for rule in &mut ceiling.ssh {
            rule.known_hosts = self.directory.join(&rule.known_hosts);
        }
        for rule in &mut ceiling.files {
            rule.path = self.directory.join(&rule.path);
        }
        for ExecCeiling { cwd, .. } in &mut ceiling.exec {
            *cwd = cwd.take().map(|path| self.directory.join(path));
        }
        ceiling
    }

    /// Each endpoint is one socket, however many rules name it.
    fn one_socket_each(&mut self, ceiling: &DeTable<'_>, rules: &[HttpCeiling]) {
        let mut sockets = BTreeMap::new();
        for rule in rules {
            let Some((name, endpoint)) = rule.scope.endpoint().zip(rule.endpoint.as_ref()) else { continue };
            let known = sockets.entry(name.clone()).or_insert(&endpoint.unix);
            if **known != endpoint.unix {
                let span = value(ceiling, "http").map_or(0..0, Spanned::span);
                let message = format!(
                    "the endpoint {name} is {} and {}: a name is one socket",
                    known.display(),
                    endpoint.unix.display()
                );
                self.fault(&span, "ceiling.http", &message, "give one of them another name");
            }
        }
    }

    /// `[[tls]]`: certificates under a name, for the rules of `http` that say `tls = "name"` and those of `tcp` that say
    /// `trust = "name"`.
    fn trust_profiles(&mut self, top: &DeTable<'_>) -> BTreeMap<String, PathBuf> {
        let mut profiles = BTreeMap::new();
        let Some(found) = value(top, "tls") else { return profiles };
        let Some(array) = found.get_ref().as_array() else {
            self.fault(&found.span(), "tls", "this is one table", "write it as [[tls]]");
            return profiles;
        };
        for (index, entry) in array.iter().enumerate() {
            let place = format!("tls[{index}]");
            let Some(table) = self.section(entry, &place) else { continue };
            self.known(table, &place, TLS);
            let name: Option<String> = self.required(entry, table, &place, "name", "\"corp\"");
            let file: Option<PathBuf> = self.required(entry, table, &place, "ca_file", "\"corp-ca.pem\"");
            let (Some(name), Some(file)) = (name, file) else { continue };
            if profiles.insert(name.clone(), file).is_some() {
                let message = format!("{name:?} stands here twice");
                self.fault(&entry.span(), &place, &message, "give each profile a name of its own");
            }
        }
        profiles
    }

    /// Each profile that a rule of `section` names by `key` is one.
    fn named_profiles(
        &mut self,
        ceiling: &DeTable<'_>,
        (section, key): (&str, &str),
        profiles: &BTreeMap<String, PathBuf>,
    ) {
        let rules = value(ceiling, section).and_then(|found| found.get_ref().as_array());
        for (index, rule) in rules.into_iter().flatten().enumerate() {
            let named = rule.get_ref().as_table().and_then(|table| value(table, key));
            let Some((found, name)) = named.and_then(|found| Some((found, found.get_ref().as_str()?))) else {
                continue;
            };
            if !profiles.contains_key(name) {
                let remedy = match nearest(name, profiles.keys().map(String::as_str)) {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => format!("add [[tls]] with name = {name:?} and its ca_file"),
                };
                let message = format!("there is no trust profile {name:?}");
                self.fault(&found.span(), &format!("ceiling.{section}[{index}].{key}"), &message, &remedy);
            }
        }
    }

    fn limits(&mut self, found: &Value<'_>, table: &DeTable<'_>) -> LimitsPart {
        let is_limit = |name: &str| LIMITS.contains(&name);
        let own: DeTable<'_> = table
            .iter()
            .filter(|(key, _)| is_limit(key.get_ref()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let own = Spanned::new(found.span(), DeValue::Table(own));
        let remedy = "write sizes as in \"256MiB\", times as in \"1h\", counts as whole numbers";
        let limits: LimitsPart = self.read(&own, "ceiling", remedy).unwrap_or_default();
        if let Some((name, wanted, most)) = limits.above_most() {
            let span = value(table, name).map_or(found.span(), Spanned::span);
            let message = format!("{name} = {wanted} is more than any step may have");
            self.fault(&span, &format!("ceiling.{name}"), &message, &format!("write at most {most}"));
        }
        limits
    }

    fn entries<T: DeserializeOwned>(&mut self, ceiling: &DeTable<'_>, name: &str, known: &[&str]) -> Vec<T> {
        let Some(found) = value(ceiling, name) else { return Vec::new() };
        let place = format!("ceiling.{name}");
        let Some(array) = found.get_ref().as_array() else {
            self.fault(&found.span(), &place, "this is one table", &format!("write it as [[{place}]]"));
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (index, entry) in array.iter().enumerate() {
            let place = format!("{place}[{index}]");
            if let Some(table) = self.section(entry, &place)
                && self.known(table, &place, known)
            {
                entries.extend(self.read::<T>(entry, &place, "correct this entry"));
            }
        }
        entries
    }
}
