#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, Nodes, exec, node_source};
use remit_sdk_nodes::{
    Emitter, Value,
    ansible::{self, Inventory},
};
use serde::Deserialize;

/// Which inventories, and which program reads them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// As `ansible-inventory -i` takes them, one after the other.
    #[schemars(length(min = 1))]
    pub inventory: Vec<String>,
    /// The name that the runner's owner gave to `ansible-inventory`.
    #[serde(default = "program")]
    pub program: String,
    /// The variables that become attributes; left out: all but those that look like credentials.
    pub variables: Option<Vec<String>>,
}

fn program() -> String {
    "ansible-inventory".to_owned()
}

/// Largest output.
const MAX_TEXT: usize = 64 << 20;

/// Asks the program and emits the hosts.
#[node_source]
pub fn ansible_inventory_nodes(input: Input, nodes: &mut Nodes, context: &Context) -> Result<(), Fail> {
    let Input { inventory, program, variables } = input;
    if inventory.is_empty() {
        return Err(Fail::new("`inventory` is empty: name what ansible-inventory is to read"));
    }
    let arguments = inventory.iter().flat_map(|inventory| ["-i", inventory.as_str()]);
    let text = exec::command(&program).args(arguments).arg("--list").text(MAX_TEXT)?;
    let inside = |why: String| Fail::new(why).while_doing(&program);
    let list: Value = serde_json::from_str(&text).map_err(|error| inside(error.to_string()))?;
    let inventory = Inventory::of_list(&list).map_err(inside)?;
    ansible::emit(inventory, variables.as_deref(), &mut Emitter::new(nodes), &program, context)
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Fake, Program};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_program_is_asked() {
        fn check(program: Program, expect: Result<&[&str], &str>) {
            let words = ["ansible-inventory", "-i", "prod", "-i", "more", "--list"];
            let input = json!({"inventory": ["prod", "more"]});
            let run = Fake::new().exec(&words, program).discover(ansible_inventory_nodes, &input);
            let names: Vec<_> = run.nodes.iter().map(|node| node.name.as_str()).collect();
            let found = run.result.map(|()| names).map_err(|fail| fail.message().to_owned());
            assert_eq!(found.as_deref().map_err(String::as_str), expect);
        }
        let list = json!({"_meta": {"hostvars": {"web1": {"x": 1}}}, "web": {"hosts": ["web1"]}});
        check(Program::new().stdout(list.to_string()), Ok(&["web1"]));
        check(Program::new().stdout("[]"), Err("ansible-inventory: it printed no inventory"));
        check(
            Program::new().stdout("{"),
            Err("ansible-inventory: EOF while parsing an object at line 1 column 1"),
        );
        check(Program::new().stderr("ERROR!\n").code(5), Err("ansible-inventory: ended with exit code 5"));
        let found =
            Fake::new().discover(ansible_inventory_nodes, &json!({"inventory": []})).result.unwrap_err();
        assert!(found.message().contains("`inventory` is empty"), "{found}");
    }
}
