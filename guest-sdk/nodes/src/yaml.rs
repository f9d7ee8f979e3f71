//! Resource models in YAML: a map of names to entries, or a list of entries with `nodename`; several documents.

use remit_sdk::Node;
use serde_saphyr::{Options, options::DuplicateKeyPolicy};

use crate::entry::{self, Value};

/// What a file may cost, whatever its aliases say: the file itself is at most 64 MiB, so these bound what is made of it.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 20_000_000,
            max_nodes: 10_000_000,
            max_total_scalar_bytes: 64 << 20,
            max_depth: 32,
            max_documents: 10_000,
            max_aliases: 10_000,
            max_anchors: 10_000,
            max_merge_keys: 100_000,
            max_recorded_anchor_events: 200_000,
            max_recorded_anchor_bytes: 16 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 200_000,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        with_snippet: false,
    }
}

/// The documents of a YAML text, as they stand.
///
/// # Errors
/// The parser's, with line and column; and a text that grows beyond its budget when it is read.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| error.to_string())
}

/// The nodes of a text, in its order.
pub(crate) fn nodes(text: &str) -> Result<Vec<Node>, String> {
    let mut nodes = Vec::new();
    for document in documents(text)? {
        match document {
            // A document that is a single text holds no nodes, as an empty one does.
            Value::Null | Value::Scalar(_) => {}
            Value::Map(entries) => {
                for (name, entry) in entries {
                    let Value::Map(entry) = entry else {
                        return Err(format!("the entry of {name:?} is not a map of attributes"));
                    };
                    nodes.push(entry::node(name, entry, compound)?);
                }
            }
            Value::List(entries) => {
                for (at, entry) in entries.into_iter().enumerate() {
                    let Value::Map(entry) = entry else {
                        return Err(format!("entry {} of the list is not a map of attributes", at + 1));
                    };
                    let name = entry::scalar(&entry, "nodename").map(str::to_owned);
                    let name = name.ok_or_else(|| format!("entry {} of the list has no nodename", at + 1))?;
                    nodes.push(entry::node(name, entry, compound)?);
                }
            }
        }
    }
    Ok(nodes)
}

/// Lists and maps as the text that Rundeck shows for them: `[a, b]`, `{k=v}`.
#[expect(clippy::unnecessary_wraps, reason = "JSON leaves them out")]
fn compound(value: &Value) -> Option<String> {
    Some(shown(value))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Scalar(text) => text.clone(),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let pairs: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_lists_and_several_documents_are_read() {
        let text = "
web1:                       # map form
  nodename: ignored
  hostname: deploy@10.0.0.5:2222
  tags: [web, linux, '']
  osFamily: unix
  rank: 5
  up: yes
  ratio: 0.5
  note: ~
  ports: [80, 443]
  labels: {a: 1, b: x}
  attributes: {dropped: 1}
  name: reserved
  'healthcheck:status': OK
---
just a text
---
- nodename: db1             # list form
  hostname: 10.0.0.9
  tags: ' db, ,linux '
";
        let nodes = nodes(text).unwrap();
        let web1 = Node::new("web1")
            .tag("web")
            .tag("linux")
            .attribute("hostname", "deploy@10.0.0.5:2222")
            .attribute("osFamily", "unix")
            .attribute("rank", "5")
            .attribute("up", "true")
            .attribute("ratio", "0.5")
            .attribute("ports", "[80, 443]")
            .attribute("labels", "{a=1, b=x}")
            .attribute("healthcheck:status", "OK");
        let db1 = Node::new("db1").tag("db").tag("linux").attribute("hostname", "10.0.0.9");
        assert_eq!(nodes, [web1, db1]);
    }

    #[test]
    fn names_are_texts_and_a_later_one_replaces() {
        let found = nodes("123: {rack: a}\n123: {rack: b}\n").unwrap();
        let last = found.last().unwrap();
        assert_eq!((last.name.as_str(), last.get("rank"), last.get("rack")), ("123", None, Some("b")));
    }

    #[test]
    fn what_is_no_resource_model_is_refused() {
        fn check(text: &str, expect: &str) {
            let found = nodes(text).unwrap_err();
            assert!(found.contains(expect), "{text:?}: {found}");
        }
        check("web1:\n", "the entry of \"web1\" is not a map of attributes");
        check("web1: text\n", "the entry of \"web1\" is not a map of attributes");
        check("- hostname: x\n", "entry 1 of the list has no nodename");
        check("- {nodename: a}\n- text\n", "entry 2 of the list is not a map of attributes");
        check("- {nodename: ''}\n", "an entry has an empty name");
        check("web1: {a: [}\n", "line 1");
        check("a: {x: *nothing}\n", "line 1");
    }

    #[test]
    fn aliases_and_merge_keys_work_and_bombs_do_not() {
        let text = "defaults: &d {username: deploy}\nweb1: {<<: *d, rack: a}\n";
        let found = nodes(text).unwrap();
        assert_eq!(found[1].get("username"), Some("deploy"));

        let mut bomb = "a0: &a0 {x: lol}\n".to_owned();
        for level in 1..30 {
            let before = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} {{x: [{}]}}\n", [before.as_str(); 9].join(", ")));
        }
        assert!(nodes(&bomb).is_err());
        let deep = format!("a: {{x: {}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(nodes(&deep).is_err());
    }

    #[test]
    fn tags_of_other_languages_make_nothing() {
        // The Java tag is only a mark: nothing is made by its name.
        let found = nodes("a: !!javax.script.ScriptEngineManager {x: 1}\n");
        assert!(found.is_err() || found.unwrap()[0].get("x") == Some("1"));
    }
}
