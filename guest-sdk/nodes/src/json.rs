//! Resource models in JSON: an object of names to entries, or an array of entries with `nodename`.

use remit_sdk::{Node, log};

use crate::entry::{self, Value};

/// The nodes of a text, in its order.
pub(crate) fn nodes(text: &str) -> Result<Vec<Node>, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut nodes = Vec::new();
    match document {
        Value::Map(entries) => {
            for (key, entry) in entries {
                let Value::Map(entry) = entry else {
                    log::warn!("the entry is not an object, left out", node = key);
                    continue;
                };
                // The other way round than in YAML: an inner `nodename` replaces the key.
                let name = entry::scalar(&entry, "nodename").map_or(key, str::to_owned);
                nodes.push(entry::node(name, entry, |_| None)?);
            }
        }
        Value::List(entries) => {
            for (at, entry) in entries.into_iter().enumerate() {
                let Value::Map(entry) = entry else {
                    log::warn!("the entry is not an object, left out", entry = at + 1);
                    continue;
                };
                let Some(name) = entry::scalar(&entry, "nodename").map(str::to_owned) else {
                    log::warn!("the entry has no nodename, left out", entry = at + 1);
                    continue;
                };
                nodes.push(entry::node(name, entry, |_| None)?);
            }
        }
        Value::Null | Value::Scalar(_) => {
            return Err("it is neither an object of nodes nor an array of them".to_owned());
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::Fake;

    use super::*;

    fn check(text: &str, expect: Result<Vec<Node>, &str>, logged: usize) {
        let run = Fake::new().run(|_| nodes(text));
        assert_eq!(run.result, expect.map_err(str::to_owned), "{text}");
        assert_eq!(run.log.len(), logged, "{text}");
    }

    #[test]
    fn objects_and_arrays_are_read() {
        let web1 =
            || Node::new("web1").tag("web").tag("linux").attribute("rank", "5").attribute("up", "true");
        check(
            r#"{"web1": {"tags": "web, linux", "rank": 5, "up": true, "none": null, "list": [1], "map": {"a": 1}}}"#,
            Ok(vec![web1()]),
            0,
        );
        check(
            r#"[{"nodename": "web1", "tags": ["web", "linux"], "rank": 5, "up": true}]"#,
            Ok(vec![web1()]),
            0,
        );
        check(r#"{"key": {"nodename": "inner", "tags": " "}}"#, Ok(vec![Node::new("inner")]), 0);
        check("[]", Ok(vec![]), 0);
    }

    #[test]
    fn what_is_left_out_is_logged() {
        check(r#"[{"hostname": "x"}, 5, {"nodename": "a"}]"#, Ok(vec![Node::new("a")]), 2);
        check(r#"{"a": 5, "b": {}}"#, Ok(vec![Node::new("b")]), 1);
    }

    #[test]
    fn what_is_no_resource_model_is_refused() {
        check("5", Err("it is neither an object of nodes nor an array of them"), 0);
        check("{\"a\": {}", Err("EOF while parsing an object at line 1 column 8"), 0);
        check("{\"\": {}}", Err("an entry has an empty name"), 0);
        assert!(nodes(&format!("{{\"a\": {}{}}}", "[".repeat(5000), "]".repeat(5000))).is_err());
    }
}
