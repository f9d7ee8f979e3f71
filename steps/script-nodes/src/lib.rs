#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, Nodes, exec, log, node_source};
use remit_sdk_nodes::{Emitter, Format};
use serde::Deserialize;

/// A program that prints a resource model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The program by the name that the runner's owner gave it.
    pub program: String,
    /// Its arguments, each handed over as it is.
    #[serde(default)]
    pub args: Vec<String>,
    /// What it reads from standard input; left out: nothing.
    #[serde(default)]
    pub stdin: String,
    /// How its output is written; left out: by how it starts.
    pub format: Option<Format>,
}

/// Largest output: 100,000 nodes of about half a kilobyte.
const MAX_OUTPUT: usize = 64 << 20;

/// Runs the program and emits the nodes that it prints.
#[node_source]
pub fn script_nodes(input: Input, nodes: &mut Nodes, _: &Context) -> Result<(), Fail> {
    let text = exec::command(&input.program).args(input.args).stdin(input.stdin).text(MAX_OUTPUT)?;
    if text.trim().is_empty() {
        return Err(Fail::new(format!(
            "{} printed nothing; a source without nodes prints {{}}",
            input.program
        )));
    }
    let mut emitter = Emitter::new(nodes);
    emitter.emit_all(&text, input.format, &input.program)?;
    log::info!("nodes were read", nodes = emitter.emitted());
    Ok(())
}

#[cfg(test)]
mod tests {
    use remit_sdk::{
        Refusal,
        fake::{Fake, Program},
    };
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_printed_becomes_nodes() {
        fn check(program: Program, more: Value, expect: Result<&[&str], &str>) {
            let mut input = json!({"program": "cmdb", "args": ["--site", "a b"]});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let run = Fake::new().exec(&["cmdb", "--site", "a b"], program).discover(script_nodes, &input);
            let names: Vec<_> = run.nodes.iter().map(|node| node.name.as_str()).collect();
            let found = run.result.map(|()| names).map_err(|fail| fail.message().to_owned());
            assert_eq!(found.as_deref().map_err(String::as_str), expect);
        }
        let prints = |text: &str| Program::new().stdout(text);
        check(prints("web1: {hostname: a}\ndb1: {}\n"), json!({}), Ok(&["web1", "db1"]));
        check(prints(r#"[{"nodename": "a"}]"#), json!({}), Ok(&["a"]));
        check(prints("<project><node name=\"x\"/></project>"), json!({"format": "xml"}), Ok(&["x"]));
        check(prints("{}"), json!({}), Ok(&[]));
        check(prints(" \n"), json!({}), Err("cmdb printed nothing; a source without nodes prints {}"));
        check(prints("{"), json!({}), Err("cmdb: EOF while parsing an object at line 1 column 1"));
        check(
            prints("a: {}").stderr("no connection\n").code(2),
            json!({}),
            Err("cmdb: ended with exit code 2"),
        );
        check(
            Program::new().stdout([0xff, b'a']),
            json!({}),
            Err("cmdb: what it wrote is not UTF-8 text: byte 0 does not fit"),
        );
        check(
            Program::refused(Refusal::Denied("exec cmdb".into())),
            json!({}),
            Err("cmdb: not allowed by this step's remit: exec cmdb"),
        );
    }

    #[test]
    fn twice_the_same_name_and_words_on_standard_error_are_logged() {
        let program = Program::new().stdout("a: {}\na: {rank: 2}\n").stderr("slow today\n");
        let run = Fake::new().exec(&["cmdb"], program).discover(script_nodes, &json!({"program": "cmdb"}));
        assert_eq!(
            run.messages(),
            ["slow today", "the node stands twice; the later one holds", "nodes were read"]
        );
        run.result.unwrap();
    }
}
