//! `project.properties`: the settings of a project, in the format of Java's properties.

use std::collections::BTreeMap;

use super::Source;
use crate::job::{Kind, Notice, identifier};

/// Most sources; their numbers have no gap.
const MAX_SOURCES: usize = 1000;

/// The settings by name.
pub(super) fn read(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        // A backslash at the end goes on in the next line.
        while (line.len() - line.trim_end_matches('\\').len()) % 2 == 1 {
            line.pop();
            line.push_str(lines.next().unwrap_or_default().trim_start());
        }
        let (key, value) = pair(&line);
        found.insert(key, value);
    }
    found
}

/// Key and value; the first `=`, `:` or blank that no backslash precedes stands between them.
fn pair(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && (matches!(c, '=' | ':') || c.is_whitespace());
        escaped = !escaped && *c == '\\';
        ends
    });
    let Some((end, _)) = end else { return (unescaped(line), String::new()) };
    let value = line[end..].trim_start();
    let value = value.strip_prefix(['=', ':']).unwrap_or(value).trim_start();
    (unescaped(&line[..end]), unescaped(value))
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

fn notice(kind: Kind, place: impl Into<String>, message: impl Into<String>) -> Notice {
    Notice { kind, place: place.into(), message: message.into() }
}

/// The node sources that have a counterpart, in their order.
pub(super) fn sources(settings: &BTreeMap<String, String>, notices: &mut Vec<Notice>) -> Vec<Source> {
    let mut found = Vec::new();
    for number in 1..=MAX_SOURCES {
        let place = format!("resources.source.{number}");
        let Some(kind) = settings.get(&format!("{place}.type")) else { break };
        let config = |key: &str| settings.get(&format!("{place}.config.{key}"));
        let source = match (kind.as_str(), config("file"), config("directory")) {
            ("file", Some(file), _) => Some(file),
            ("directory", _, Some(directory)) => Some(directory),
            _ => None,
        };
        let Some(path) = source else {
            let message = match kind.as_str() {
                "local" => "the server itself is no node here; a step without nodes runs on a runner's host",
                _ => "there is no source of this kind: see `remit component list --kind node-source`",
            };
            notices.push(notice(Kind::Lost, &place, format!("the source {kind:?}: {message}")));
            continue;
        };
        let name = identifier(&format!("rundeck_{number}"));
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let ceiling = format!("[[ceiling.files]]\nname = \"{name}\"\npath = {}", quoted(path));
        let text = format!(
            "# The owner of the runner that reads it names the path in runner.toml:\n#\n# {}\n\nname = \"{name}\"\n\
             uses = \"remit/file-nodes@1\"\nwith = {{ file = \"{name}\" }}\ngrant = {{ files = [{{ name = \"{name}\" }}] }}\n",
            ceiling.replace('\n', "\n# ")
        );
        let message = format!(
            "is the source `{name}`: the file has to be on the runner's host, where its owner names it"
        );
        notices.push(notice(Kind::Differs, &place, message));
        found.push(Source { name, text });
    }
    found
}

/// What else the settings say: told by name, since values may be secrets.
pub(super) fn settings(settings: &BTreeMap<String, String>, notices: &mut Vec<Notice>) {
    for name in settings.keys() {
        let message = match name.as_str() {
            "project.name" | "project.description" | "project.label" => continue,
            _ if name.starts_with("resources.source.") => continue,
            _ if name.starts_with("project.globals.") => {
                "a variable of the project: set it in the project's settings"
            }
            _ if name.starts_with("project.ssh") || name.starts_with("service.") => {
                "how nodes are reached is written in the job's steps"
            }
            _ if name.starts_with("project.plugin.") || name.starts_with("framework.") => {
                "settings of a plugin"
            }
            _ => "not imported",
        };
        notices.push(notice(Kind::Lost, name, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "# no\n! no\na=1\n b : 2\nc 3\nd\\ e=x\\\n   y\nf=\\u0041\\n\ng\nh=a\\\\\ni==\n";
        let found = read(text);
        let expect = [
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("d e", "xy"),
            ("f", "A\n"),
            ("g", ""),
            ("h", "a\\"),
            ("i", "="),
        ];
        let expect: BTreeMap<String, String> =
            expect.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn a_gap_ends_the_sources() {
        let settings = read(
            "resources.source.1.type=file\nresources.source.1.config.file=/a\"b\nresources.source.3.type=file\nresources.source.3.config.file=/c\n",
        );
        let mut notices = Vec::new();
        let found = sources(&settings, &mut notices);
        assert_eq!(found.len(), 1);
        assert!(found[0].text.contains(r#"path = "/a\"b""#), "{}", found[0].text);
    }
}
