#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, Nodes, files, node_source};
use remit_sdk_nodes::{
    Emitter,
    ansible::{self, Format},
};
use serde::Deserialize;

/// Where the inventory is, and how it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The name of a path in the runner's ceiling.
    pub file: String,
    /// The file below that name, if it is a directory.
    #[serde(default)]
    pub path: String,
    /// How it is written; left out: by the ending of the name, otherwise by how the text starts.
    pub format: Option<Format>,
    /// The variables that become attributes; left out: all but those that look like credentials.
    pub variables: Option<Vec<String>>,
}

/// Largest inventory.
const MAX_TEXT: usize = 64 << 20;

/// Reads the inventory and emits its hosts.
#[node_source]
pub fn ansible_nodes(input: Input, nodes: &mut Nodes, context: &Context) -> Result<(), Fail> {
    let Input { file, path, format, variables } = input;
    let place = if path.is_empty() { file.clone() } else { format!("{file}/{path}") };
    let inside = |fail: Fail| fail.while_doing(&place);
    let text = files::read_to_string(&file, &path, MAX_TEXT).map_err(|refusal| inside(refusal.into()))?;
    let inventory = ansible::parse(&text, &path, format).map_err(|why| inside(Fail::new(why)))?;
    ansible::emit(inventory, variables.as_deref(), &mut Emitter::new(nodes), &place, context)
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::Fake;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_inventory_of_a_file_becomes_nodes() {
        fn check(input: Value, expect: Result<&[&str], &str>) {
            let fake = Fake::new()
                .file("one", "", "[web]\nweb[1:2] ansible_host=10.0.0.1 x=1\n")
                .file("all", "hosts.yml", "all: {hosts: {db1: {}}}")
                .file("all", "broken", "[web:what]\n");
            let run = fake.discover(ansible_nodes, &input);
            let names: Vec<_> = run.nodes.iter().map(|node| node.name.as_str()).collect();
            let found = run.result.map(|()| names).map_err(|fail| fail.message().to_owned());
            match (&found, expect) {
                (Ok(names), Ok(expect)) => assert_eq!(names, expect, "{input}"),
                (Err(fail), Err(part)) => assert!(fail.contains(part), "{fail}"),
                _ => panic!("{input}: {found:?}"),
            }
        }
        check(json!({"file": "one"}), Ok(&["web1", "web2"]));
        check(json!({"file": "all", "path": "hosts.yml"}), Ok(&["db1"]));
        check(json!({"file": "all", "path": "broken"}), Err("all/broken: line 1: [web:what] is no section"));
        check(json!({"file": "one", "format": "yaml"}), Err("one: "));
        check(json!({"file": "other"}), Err("other: not allowed by this step's remit"));
    }
}
