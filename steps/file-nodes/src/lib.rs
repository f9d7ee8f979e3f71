#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, Nodes, files, log, node_source};
use remit_sdk_nodes::{Emitter, Format};
use serde::Deserialize;

/// Which files, and how they are written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The name of a path in the runner's ceiling: a file, or a directory whose files are read in the order of their names.
    pub file: String,
    /// Only this file of the directory.
    pub path: Option<String>,
    /// How the files are written; left out: by the ending of each name.
    pub format: Option<Format>,
}

/// Largest file: 100,000 nodes of about half a kilobyte.
const MAX_FILE: usize = 64 << 20;

/// Reads the files and emits their nodes.
#[node_source]
pub fn file_nodes(input: Input, nodes: &mut Nodes, context: &Context) -> Result<(), Fail> {
    let paths = match &input.path {
        Some(path) => vec![path.clone()],
        None => {
            files::entries(&input.file).map_err(|refusal| Fail::from(refusal).while_doing(&input.file))?
        }
    };
    // A directory may hold other files too; a file that was named has to be one of ours.
    let named = input.path.is_some() || paths == [""];
    let mut emitter = Emitter::new(nodes);
    let mut read = 0_u64;
    let total = paths.len();
    for (done, path) in paths.iter().enumerate() {
        context.check_cancelled()?;
        let format = input.format.or_else(|| Format::of(path));
        if format.is_none() && !named {
            log::debug!("not a resource model, left out", path = path);
            continue;
        }
        let place = if path.is_empty() { input.file.clone() } else { format!("{}/{path}", input.file) };
        let text = files::read_to_string(&input.file, path, MAX_FILE)?;
        // A path of the ceiling shows its name, not its ending: what the text starts with decides then.
        emitter.emit_all(&text, format, &place)?;
        read += 1;
        context.progress(done + 1, total);
    }
    if read == 0 {
        return Err(Fail::new(format!("{} holds no resource model (.yaml, .yml, .json, .xml)", input.file)));
    }
    log::info!("nodes were read", files = read, nodes = emitter.emitted());
    Ok(())
}

#[cfg(test)]
mod tests {
    use remit_sdk::{Node, fake::Fake};
    use serde_json::{Value, json};

    use super::*;

    const YAML: &str = "web1:\n  hostname: 10.0.0.1\n  tags: [web]\n";

    fn names(nodes: &[Node]) -> Vec<&str> {
        nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn files_are_found_by_name() {
        fn check(input: Value, expect: Result<&[&str], &str>) {
            let fake = Fake::new()
                .file("one", "", YAML)
                .file("all", "a.yaml", YAML)
                .file("all", "b.json", r#"{"db1": {}}"#)
                .file("all", "c.XML", "<project><node name=\"x1\"/></project>")
                .file("all", "README", "text")
                .file("none", "README", "text");
            let run = fake.discover(file_nodes, &input);
            match (run.result, expect) {
                (Ok(()), Ok(expect)) => assert_eq!(names(&run.nodes), expect, "{input}"),
                (Err(fail), Err(expect)) => assert_eq!(fail.to_string(), expect),
                (found, _) => panic!("{input}: {found:?}"),
            }
        }
        check(json!({"file": "one"}), Ok(&["web1"]));
        check(json!({"file": "all"}), Ok(&["web1", "db1", "x1"]));
        check(json!({"file": "all", "path": "b.json"}), Ok(&["db1"]));
        check(json!({"file": "none"}), Err("none holds no resource model (.yaml, .yml, .json, .xml)"));
        check(json!({"file": "all", "path": "d.yaml"}), Err("\"d.yaml\": no such file"));
        check(json!({"file": "other"}), Err("other: not allowed by this step's remit: files other"));
        check(json!({"file": "one", "format": "json"}), Err("one: expected value at line 1 column 1"));
    }

    #[test]
    fn a_name_that_stands_twice_is_told() {
        let fake = Fake::new().file("all", "a.yaml", YAML).file("all", "b.yaml", YAML);
        let run = fake.discover(file_nodes, &json!({"file": "all"}));
        assert_eq!(run.messages(), ["the node stands twice; the later one holds", "nodes were read"]);
    }

    #[test]
    fn a_hundred_thousand_nodes_fit() {
        let mut text = String::new();
        for number in 0..100_000 {
            text.push_str(&format!(
                "n{number}:\n  hostname: h{number}.example\n  tags: web,linux\n  rank: {number}\n"
            ));
        }
        let run = Fake::new().file("many", "", text).discover(file_nodes, &json!({"file": "many"}));
        run.result.unwrap();
        assert_eq!(run.nodes.len(), 100_000);
        assert_eq!(run.nodes[99_999].get("rank"), Some("99999"));
        assert!(run.pages.iter().all(|page| *page <= 500));
    }
}
