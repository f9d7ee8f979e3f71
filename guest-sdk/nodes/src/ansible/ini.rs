//! Inventories in INI: sections of hosts, of variables (`[web:vars]`) and of groups (`[site:children]`).

use super::{hosts, inventory::Inventory};
use crate::Value;

enum Section {
    Hosts(String),
    Vars(String),
    Children(String),
}

/// Reads one.
pub(crate) fn parse(text: &str) -> Result<Inventory, String> {
    let mut inventory = Inventory::default();
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let placed = |why: String| format!("line {}: {why}", at + 1);
        if let Some(head) = line.strip_prefix('[') {
            // A comment may follow; a host that begins with a range is no section.
            if let Some(name) = head.split(" #").next().unwrap_or(head).trim_end().strip_suffix(']')
                && !name.contains([' ', '='])
            {
                section = self::section(name).map_err(placed)?;
                let (Section::Hosts(group) | Section::Vars(group) | Section::Children(group)) = &section;
                inventory.group(group);
                continue;
            }
        }
        match &section {
            Section::Hosts(group) => self::host(&mut inventory, group, line).map_err(placed)?,
            Section::Vars(group) => {
                let (name, value) = line
                    .split_once('=')
                    .ok_or_else(|| placed(format!("{line:?} sets no variable: write name=value")))?;
                let value = unquoted(value.trim());
                inventory.group(group).variables.insert(name.trim().to_owned(), Value::Scalar(value));
            }
            Section::Children(group) => {
                let child = line.split(" #").next().unwrap_or(line).trim().to_owned();
                inventory.group(&child);
                inventory.group(group).children.push(child);
            }
        }
    }
    Ok(inventory)
}

fn section(name: &str) -> Result<Section, String> {
    match name.rsplit_once(':') {
        None if name.is_empty() => Err("a section has no name".to_owned()),
        None => Ok(Section::Hosts(name.to_owned())),
        Some((group, "vars")) if !group.is_empty() => Ok(Section::Vars(group.to_owned())),
        Some((group, "children")) if !group.is_empty() => Ok(Section::Children(group.to_owned())),
        Some((group, "hosts")) if !group.is_empty() => Ok(Section::Hosts(group.to_owned())),
        Some(_) => Err(format!("[{name}] is no section: write [group], [group:vars] or [group:children]")),
    }
}

fn host(inventory: &mut Inventory, group: &str, line: &str) -> Result<(), String> {
    let mut words = words(line)?.into_iter();
    let Some(pattern) = words.next() else { return Ok(()) };
    let (pattern, port) = port(&pattern);
    let mut variables = Vec::new();
    if let Some(port) = port {
        variables.push(("ansible_port".to_owned(), Value::Scalar(port)));
    }
    for word in words {
        let (name, value) =
            word.split_once('=').ok_or_else(|| format!("{word:?} sets no variable: write name=value"))?;
        variables.push((name.to_owned(), Value::Scalar(value.to_owned())));
    }
    for name in hosts::expand(&pattern)? {
        inventory.add_host(group, &name, &variables);
    }
    Ok(())
}

/// `host:22` as host and port; a colon inside of brackets belongs to a range.
fn port(pattern: &str) -> (String, Option<String>) {
    match pattern.rsplit_once(':') {
        Some((host, port))
            if !port.is_empty()
                && port.bytes().all(|b| b.is_ascii_digit())
                && host.matches('[').count() == host.matches(']').count()
                && (!host.contains(':') || host.ends_with(']') || host.contains('[')) =>
        {
            (host.to_owned(), Some(port.to_owned()))
        }
        _ => (pattern.to_owned(), None),
    }
}

/// The words of a line, as a shell would part them: quotes go, `#` after a blank begins a comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let (mut word, mut open, mut quote) = (String::new(), false, None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(mark), c) if c == mark => quote = None,
            (Some('\''), c) => word.push(c),
            (_, '\\') => word.push(characters.next().unwrap_or('\\')),
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, open) = (Some(c), true),
            (None, '#') if word.is_empty() && !open => break,
            (None, c) if c.is_whitespace() => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                    open = false;
                }
            }
            (None, c) => word.push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

fn unquoted(text: &str) -> String {
    for mark in ['"', '\''] {
        if let Some(inside) = text.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark)) {
            return inside.to_owned();
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_as_a_shell_parts_them() {
        fn check(line: &str, expect: &[&str]) {
            assert_eq!(words(line).unwrap(), expect, "{line}");
        }
        check("web1 a=b", &["web1", "a=b"]);
        check("web1  a=\"b c\"  # comment", &["web1", "a=b c"]);
        check("web1 a='it''s' b=x#y", &["web1", "a=its", "b=x#y"]);
        check("a=\\ b ''", &["a= b", ""]);
        assert!(words("a='").is_err());
    }

    #[test]
    fn ports_are_told_from_ranges() {
        fn check(pattern: &str, host: &str, port: Option<&str>) {
            assert_eq!(self::port(pattern), (host.to_owned(), port.map(str::to_owned)), "{pattern}");
        }
        check("web1", "web1", None);
        check("web1:2222", "web1", Some("2222"));
        check("web[1:20]", "web[1:20]", None);
        check("web[1:20]:22", "web[1:20]", Some("22"));
        check("[2001:db8::1]:22", "[2001:db8::1]", Some("22"));
        check("2001:db8::1", "2001:db8::1", None);
    }
}
