//! From the text of a `runner.toml` to a [`Config`], or to every mistake in it.
//!
//! Here are the file as a whole, `[orchestrator]` and `[runner]`, and what every section is read with: a [`Reader`] notes what
//! is wrong and reads on.

mod ceiling;
mod provider;

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use remit_protocol::{Size, endpoint::Fault, nearest::nearest, position::position};
use serde::de::{DeserializeOwned, IntoDeserializer as _};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Config, DEFAULT_CACHE, DEFAULT_RESERVED, DEFAULT_SLOTS, MAX_SLOTS, Orchestrator, Runner};

const TOP: &[&str] = &["orchestrator", "runner", "ceiling", "tls", "provider"];
const ORCHESTRATOR: &[&str] = &["url", "proxy", "ca_file"];
const RUNNER: &[&str] =
    &["state", "slots", "trust", "require_signed", "cache", "confinement", "reserved_processors"];

pub(super) fn config(text: &str, directory: &Path) -> Result<Config, Vec<Fault>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, directory, faults: Vec::new() };
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        reader.fault(&span, "runner.toml", error.message(), "correct the TOML");
    }
    if !reader.faults.is_empty() {
        return Err(reader.finish());
    }
    let top = document.get_ref();
    reader.known(top, "runner.toml", TOP);
    let orchestrator = reader.orchestrator(table(top, "orchestrator"));
    let runner = reader.runner(table(top, "runner"));
    let ceiling = reader.ceiling(top);
    let providers = reader.providers(top);
    match (orchestrator, runner, reader.faults.is_empty()) {
        (Some(orchestrator), Some(runner), true) => Ok(Config { orchestrator, runner, ceiling, providers }),
        _ => Err(reader.finish()),
    }
}

/// A fault at a byte range of `text`, with line and column from 1.
pub fn fault_at(text: &str, at: &Range<usize>, place: &str, message: &str, remedy: &str) -> Fault {
    let (line, column) = position(text, at.start);
    Fault {
        line: Some(line),
        column: Some(column),
        place: place.to_owned(),
        message: message.to_owned(),
        remedy: remedy.to_owned(),
    }
}

type Value<'i> = Spanned<DeValue<'i>>;

fn value<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<&'a Value<'i>> {
    table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
}

fn table<'a, 'i>(top: &'a DeTable<'i>, name: &str) -> Option<&'a Value<'i>> {
    value(top, name)
}

struct Reader<'t> {
    text: &'t str,
    directory: &'t Path,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn finish(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| (fault.line, fault.column));
        self.faults
    }

    fn fault(&mut self, at: &Range<usize>, place: &str, message: &str, remedy: &str) {
        self.faults.push(fault_at(self.text, at, place, message, remedy));
    }

    /// Notes each member that is not `known`; true if there is none.
    fn known(&mut self, table: &DeTable<'_>, place: &str, known: &[&str]) -> bool {
        let mut clean = true;
        for (key, _) in table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            clean = false;
            let remedy = match nearest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("remove it; known here are: {}", known.join(", ")),
            };
            let shown: String = name.chars().take(80).collect();
            self.fault(&key.span(), place, &format!("unknown key {shown:?}"), &remedy);
        }
        clean
    }

    /// The members of a section that has to be a table.
    fn section<'a, 'i>(&mut self, found: &'a Value<'i>, place: &str) -> Option<&'a DeTable<'i>> {
        let table = found.get_ref().as_table();
        if table.is_none() {
            self.fault(&found.span(), place, "this is not a table", &format!("write it as {place}"));
        }
        table
    }

    fn read<T: DeserializeOwned>(&mut self, found: &Value<'_>, place: &str, remedy: &str) -> Option<T> {
        match T::deserialize(found.clone().into_deserializer()) {
            Ok(value) => Some(value),
            Err(error) => {
                let span = error.span().unwrap_or_else(|| found.span());
                self.fault(&span, place, error.message(), remedy);
                None
            }
        }
    }

    fn optional<T: DeserializeOwned>(
        &mut self,
        table: &DeTable<'_>,
        place: &str,
        name: &str,
        example: &str,
    ) -> Option<T> {
        let found = value(table, name)?;
        self.read(found, &format!("{place}.{name}"), &format!("write it as in {name} = {example}"))
    }

    fn required<T: DeserializeOwned>(
        &mut self,
        section: &Value<'_>,
        table: &DeTable<'_>,
        place: &str,
        name: &str,
        example: &str,
    ) -> Option<T> {
        if value(table, name).is_none() {
            self.fault(
                &section.span(),
                place,
                &format!("`{name}` is missing"),
                &format!("add {name} = {example}"),
            );
        }
        self.optional(table, place, name, example)
    }

    fn missing_section<T>(&mut self, name: &str, example: &str) -> Option<T> {
        self.fault(&(0..0), name, "the section is missing", &format!("add [{name}] with {example}"));
        None
    }

    fn path(&self, path: PathBuf) -> PathBuf {
        self.directory.join(path)
    }

    fn orchestrator(&mut self, found: Option<&Value<'_>>) -> Option<Orchestrator> {
        let place = "orchestrator";
        let Some(found) = found else {
            return self.missing_section(place, "url = \"https://remit.corp.example\"");
        };
        let table = self.section(found, place)?;
        self.known(table, place, ORCHESTRATOR);
        let url = self.required(found, table, place, "url", "\"https://remit.corp.example\"");
        let proxy = self.optional(table, place, "proxy", "\"http://proxy.corp.example:3128\"");
        let ca_file: Option<PathBuf> = self.optional(table, place, "ca_file", "\"corp-ca.pem\"");
        Some(Orchestrator { url: url?, proxy, ca_file: ca_file.map(|path| self.path(path)) })
    }

    fn runner(&mut self, found: Option<&Value<'_>>) -> Option<Runner> {
        let place = "runner";
        let Some(found) = found else {
            return self
                .missing_section(place, "state = \"/var/lib/remit-runner\" and trust = \"trust.toml\"");
        };
        let table = self.section(found, place)?;
        self.known(table, place, RUNNER);
        let state: Option<PathBuf> = self.required(found, table, place, "state", "\"/var/lib/remit-runner\"");
        let trust: Option<PathBuf> = self.required(found, table, place, "trust", "\"trust.toml\"");
        let slots = self.optional(table, place, "slots", "64").unwrap_or(DEFAULT_SLOTS);
        if !(1..=MAX_SLOTS).contains(&slots) {
            let span = value(table, "slots").map_or(found.span(), Spanned::span);
            let message = format!("{slots} sandboxes at once are not possible");
            self.fault(&span, "runner.slots", &message, &format!("write 1 to {MAX_SLOTS}"));
        }
        let require_signed = self.optional(table, place, "require_signed", "[\"job\"]").unwrap_or_default();
        let cache = self.optional::<Size>(table, place, "cache", "\"1GiB\"").unwrap_or(DEFAULT_CACHE);
        let confinement = self.optional(table, place, "confinement", "\"required\"").unwrap_or_default();
        let reserved_processors =
            self.optional(table, place, "reserved_processors", "1").unwrap_or(DEFAULT_RESERVED);
        let (state, trust) = (self.path(state?), self.path(trust?));
        Some(Runner { state, slots, trust, require_signed, cache, confinement, reserved_processors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
[orchestrator]
url = "https://remit.corp.example"
proxy = "http://me:secret-word@proxy.corp.example:3128"
ca_file = "corp-ca.pem"

[runner]
state = "state"
slots = 8
trust = "trust.toml"
require_signed = ["job"]

[ceiling]
memory = "256MiB"
wall = "1h"

[[ceiling.http]]
host = "control.corp.example"
port = 443
methods = ["GET", "POST"]
paths = ["/v1"]
private = ["10.30.0.0/16"]

[[ceiling.ssh]]
addresses = ["10.20.0.0/16"]
users = ["deploy"]
known_hosts = "known_hosts"

[[ceiling.exec]]
program = "ansible-playbook"
path = "/usr/bin/ansible-playbook"
args = ["-i", "{enum inventories/prod inventories/staging}"]
cwd = "/srv/automation"
env = { ANSIBLE_NOCOLOR = "1" }

[[ceiling.files]]
name = "inventory"
path = "nodes.yaml"
mode = "ro"

[[ceiling.secrets]]
path = "keys/prod/control-token"
use = "bearer"
hosts = ["control.corp.example"]

[[provider]]
mount = "keys/local"
kind = "store"
"#;

    #[test]
    fn a_sound_file_is_read_whole() {
        let config = Config::parse(SOUND, Path::new("/etc/remit")).unwrap();
        assert_eq!(config.orchestrator.url.to_string(), "https://remit.corp.example");
        assert_eq!(config.orchestrator.url.port(), 443);
        assert_eq!(format!("{:?}", config.orchestrator.proxy), "Some(http://proxy.corp.example:3128)");
        assert_eq!(config.runner.state, Path::new("/etc/remit/state"));
        assert_eq!(config.runner.reserved_processors, 1);
        let none = SOUND.replace("slots = 8", "reserved_processors = 0");
        assert_eq!(Config::parse(&none, Path::new("/")).unwrap().runner.reserved_processors, 0);
        assert_eq!(config.ceiling.files[0].path, Path::new("/etc/remit/nodes.yaml"));
        assert_eq!(config.ceiling.ssh[0].known_hosts, Path::new("/etc/remit/known_hosts"));
        assert_eq!(config.ceiling.limits.memory, Some(Size::from_mib(256)));
        assert_eq!(config.providers.len(), 1);
    }

    #[test]
    fn a_rule_trusts_what_its_profile_names() {
        let profile = "[[tls]]\nname = \"corp\"\nca_file = \"corp.pem\"\n\n[ceiling]";
        let text = SOUND.replace("port = 443", "port = 443\ntls = \"corp\"").replace("[ceiling]", profile);
        let config = Config::parse(&text, Path::new("/etc/remit")).unwrap();
        assert_eq!(config.ceiling.http[0].ca_file.as_deref(), Some(Path::new("/etc/remit/corp.pem")));
        let without = Config::parse(SOUND, Path::new("/etc/remit")).unwrap();
        assert_eq!(without.ceiling.http[0].ca_file, None);
    }

    /// What is wrong with the sound file after `from` became `to`: `line: place: message; remedy` of each fault.
    fn faults(from: &str, to: &str) -> Vec<String> {
        assert!(SOUND.contains(from), "{from}");
        let text = SOUND.replacen(from, to, 1);
        let faults = Config::parse(&text, Path::new("/")).err().unwrap_or_default();
        let line = |fault: &Fault| fault.line.unwrap_or_default();
        faults.iter().map(|f| format!("{}: {}: {}; {}", line(f), f.place, f.message, f.remedy)).collect()
    }

    #[test]
    fn each_mistake_has_its_line_and_remedy() {
        fn check(from: &str, to: &str, expect: &[&str]) {
            let found = faults(from, to);
            assert_eq!(found.len(), expect.len(), "{to}: {found:#?}");
            for (found, expect) in found.iter().zip(expect) {
                assert!(found.starts_with(expect), "{to}: {found:#?} should begin with {expect:?}");
            }
        }
        check("slots = 8", "slots = 8", &[]);
        check("slots = 8", "slot = 8", &["9: runner: unknown key \"slot\"; did you mean `slots`?"]);
        check(
            "slots = 8",
            "slots = 0",
            &["9: runner.slots: 0 sandboxes at once are not possible; write 1 to 1000"],
        );
        check("slots = 8", "slots = \"8\"", &["9: runner.slots: invalid type: string"]);
        check(
            "slots = 8",
            "reserved_processors = -1",
            &["9: runner.reserved_processors: invalid value: integer `-1`, expected u16; write it as in"],
        );
        check(
            "[runner]",
            "[runer]",
            &[
                "1: runner: the section is missing",
                "7: runner.toml: unknown key \"runer\"; did you mean `runner`?",
            ],
        );
        check(
            "https://remit",
            "http://remit",
            &["3: orchestrator.url: \"http://remit.corp.example\" is not an orchestrator's address"],
        );
        check("proxy.corp.example:3128", "proxy", &["4: orchestrator.proxy: not a proxy's address"]);
        check("trust = \"trust.toml\"", "", &["7: runner: `trust` is missing; add trust = \"trust.toml\""]);
        check("[\"job\"]", "[\"jobs\"]", &["11: runner.require_signed: unknown variant `jobs`"]);
        check("256MiB", "256MB", &["14: ceiling: not a size"]);
        check(
            "256MiB",
            "9GiB",
            &["14: ceiling.memory: memory = 9GiB is more than any step may have; write at most 512MiB"],
        );
        check(
            "methods = [\"GET\"",
            "metods = [\"GET\"",
            &["20: ceiling.http[0]: unknown key \"metods\"; did you mean `methods`?"],
        );
        check("host = \"control.corp.example\"", "host = \"*\"", &["17: ceiling.http[0]: "]);
        check(
            "port = 443",
            "port = 443\ntls = \"corp\"",
            &[
                "20: ceiling.http[0].tls: there is no trust profile \"corp\"; add [[tls]] with name = \"corp\"",
            ],
        );
        check(
            "port = 443",
            "port = 443\ntls = \"corp\"\nca_file = \"a.pem\"",
            &["17: ceiling.http[0]: the rule for control.corp.example names certificates twice", "20: "],
        );
        check(
            "port = 443",
            "port = 80\nscheme = \"http\"\nca_file = \"a.pem\"",
            &["17: ceiling.http[0]: the rule for control.corp.example is plain http"],
        );
        check(
            "[orchestrator]",
            "[[ceiling.tcp]]\nhost = \"a.example\"\nport = 25\ntrust = \"corp\"\n\n[orchestrator]",
            &[
                "5: ceiling.tcp[0].trust: there is no trust profile \"corp\"; add [[tls]] with name = \"corp\"",
            ],
        );
        let profile = "[[tls]]\nname = \"corp\"\nca_file = \"corp.pem\"\n\n";
        check("[ceiling]", &format!("{profile}[ceiling]"), &[]);
        check(
            "[ceiling]",
            &format!("{profile}{profile}[ceiling]"),
            &["17: tls[1]: \"corp\" stands here twice"],
        );
        check("[ceiling]", "[[tls]]\nname = \"corp\"\n\n[ceiling]", &["13: tls[0]: `ca_file` is missing"]);
        check("[ceiling]", "[tls]\nname = \"corp\"\n\n[ceiling]", &["13: tls: this is one table"]);
        check(
            "[[ceiling.files]]",
            "[ceiling.files]",
            &["36: ceiling.files: this is one table; write it as [[ceiling.files]]"],
        );
        check("use = \"bearer\"", "use = \"ssh-key\"", &["41: ceiling.secrets[0]: "]);
        check(
            "kind = \"store\"",
            "kind = \"vault\"",
            &["46: provider[0]: missing field `address`; correct this entry"],
        );
        check(
            "kind = \"store\"",
            "kind = \"vault\"\naddress = \"https://v.example\"\nauth = { method = \"token\", token_file = \"t\" }",
            &[],
        );
        check(
            "kind = \"store\"",
            "kind = \"program\"\npath = \"give\"\ntimeout = \"2m\"",
            &["50: provider[0].timeout: this is longer than it may be; write at most 1m"],
        );
        check(
            "kind = \"store\"",
            "kind = \"program\"\npath = \"give\"\narguments = []",
            &["50: provider[0]: unknown key \"arguments\"; "],
        );
        check(
            "kind = \"store\"",
            "kind = \"stor\"",
            &["48: provider[0].kind: there is no provider of kind \"stor\"; did you mean \"store\"?"],
        );
        check("kind = \"store\"", "kind = \"sealed\"", &[]);
        check(
            "kind = \"store\"",
            "kind = \"sealed\"\npath = \"x\"",
            &["49: provider[0]: unknown key \"path\"; "],
        );
        check("kind = \"store\"", "kind = \"store\"\nkind = \"store\"", &["49: runner.toml: duplicate key"]);
        check(
            "slots = 8\ntrust = \"trust.toml\"",
            "slot = 8\ntrust = 1",
            &["9: runner: unknown key", "10: runner.trust: invalid type"],
        );
    }

    #[test]
    fn addresses_are_origins() {
        fn check(text: &str, expect: Option<&str>) {
            let found = text.parse::<super::super::OrchestratorUrl>().ok().map(|url| url.to_string());
            assert_eq!(found.as_deref(), expect, "{text}");
        }
        check("https://A.example/", Some("https://a.example"));
        check("https://a.example:8443", Some("https://a.example:8443"));
        check("https://[::1]:8443", Some("https://[::1]:8443"));
        check("https://a.example/x", None);
        check("https://u@a.example", None);
        check("https://a.example:99999", None);
        check("http://a.example", None);
        check("https://", None);
    }
}
