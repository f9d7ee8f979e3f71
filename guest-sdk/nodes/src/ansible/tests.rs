//! Inventories and the nodes that come of them.

use remit_sdk::{
    Nodes,
    fake::{Fake, Run},
};
use serde_json::{Value as Json, json};

use super::*;

const INI: &str = "
# before any section
jump.example ansible_host=10.0.0.1

[web]
web[01:02].example:2222 ansible_user=deploy rack='a 1'   # two of them
web01.example note=\"first\"

[db]
db1 ansible_host=fd00::5 ansible_port=22 ansible_password=hunter2hunter2

[site:children]
web
db

[site:vars]
env=prod
rack=site

[web:vars]
rack = group
tier=front
[all:vars]
env=none
dns='10.0.0.53'
";

const YAML: &str = "
all:
  vars: {env: none, dns: 10.0.0.53}
  hosts:
    jump.example: {ansible_host: 10.0.0.1}
  children:
    site:
      vars: {env: prod, rack: site}
      children:
        web:
          vars: {rack: group, tier: front}
          hosts:
            'web[01:02].example': {ansible_port: 2222, ansible_user: deploy, rack: a 1}
            web01.example: {note: first}
        db:
          hosts:
            db1: {ansible_host: 'fd00::5', ansible_port: 22, ansible_password: hunter2hunter2}
";

/// A source over a text, as the static one is.
#[derive(Deserialize)]
struct Input {
    text: String,
    name: String,
    wanted: Option<Vec<String>>,
}

fn source(input: Input, nodes: &mut Nodes, context: &Context) -> Result<(), Fail> {
    let inventory = parse(&input.text, &input.name, None).map_err(Fail::new)?;
    emit(inventory, input.wanted.as_deref(), &mut Emitter::new(nodes), &input.name, context)
}

fn of_file(text: &str, name: &str) -> Run<Result<(), Fail>> {
    Fake::new().discover(source, &json!({"text": text, "name": name}))
}

fn expected() -> Vec<Node> {
    let base = |name: &str| Node::new(name).attribute("dns", "10.0.0.53");
    let web = |name: &str| {
        base(name)
            .tag("site")
            .tag("web")
            .attribute("hostname", format!("{name}:2222"))
            .attribute("username", "deploy")
            .attribute("ansible_user", "deploy")
            .attribute("ansible_port", "2222")
            .attribute("env", "prod")
            .attribute("rack", "a 1")
            .attribute("tier", "front")
    };
    vec![
        base("jump.example")
            .attribute("hostname", "10.0.0.1")
            .attribute("ansible_host", "10.0.0.1")
            .attribute("env", "none"),
        web("web01.example").attribute("note", "first"),
        web("web02.example"),
        base("db1")
            .tag("site")
            .tag("db")
            .attribute("hostname", "[fd00::5]:22")
            .attribute("ansible_host", "fd00::5")
            .attribute("ansible_port", "22")
            .attribute("env", "prod")
            .attribute("rack", "site"),
    ]
}

#[test]
fn static_inventories_are_read() {
    for (text, name) in [(INI, "hosts"), (INI, "hosts.ini"), (YAML, "hosts.yml"), (YAML, "hosts")] {
        let run = of_file(text, name);
        run.result.unwrap();
        assert_eq!(run.nodes, expected(), "{name}");
        let messages: Vec<_> = run.log.iter().map(|entry| entry.message.as_str()).collect();
        assert_eq!(messages, ["the variable looks like a credential and is left out", "nodes were read"]);
    }
}

#[test]
fn what_the_program_prints_is_read() {
    fn source(list: Json, nodes: &mut Nodes, context: &Context) -> Result<(), Fail> {
        let list: Value = serde_json::from_value(list)?;
        let inventory = Inventory::of_list(&list).map_err(Fail::new)?;
        emit(inventory, None, &mut Emitter::new(nodes), "list", context)
    }
    let list = json!({
        "_meta": {"hostvars": {
            "web1": {"ansible_host": "10.0.0.5", "ports": [80, 443], "vault": {"__ansible_vault": "$ANSIBLE_VAULT;1.1"}},
            "alone": {}
        }},
        "all": {"children": ["ungrouped", "web"]},
        "web": {"hosts": ["web1", "web2"]},
        "ungrouped": {"hosts": ["alone"]}
    });
    let run = Fake::new().discover(source, &list);
    run.result.unwrap();
    let names: Vec<_> = run.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["alone", "web1", "web2"]);
    let first = &run.nodes[1];
    assert_eq!((first.get("hostname"), first.get("ports")), (Some("10.0.0.5"), Some("[\"80\",\"443\"]")));
    assert_eq!((first.get("vault"), first.tags.len()), (None, 1));
    let found = Fake::new().discover(source, &json!([])).result.unwrap_err();
    assert_eq!(found.message(), "it printed no inventory");
}

#[test]
fn only_the_wanted_variables_become_attributes() {
    let input =
        json!({"text": "a x=1 y=2 api_token=abcdefgh\n", "name": "hosts", "wanted": ["x", "api_token"]});
    let run = Fake::new().discover(source, &input);
    run.result.unwrap();
    let names: Vec<_> = run.nodes[0].attributes.keys().map(String::as_str).collect();
    assert_eq!(names, ["api_token", "hostname", "x"]);
}

#[test]
fn what_is_no_inventory_is_said_with_its_place() {
    fn check(text: &str, name: &str, expect: &str) {
        let found = of_file(text, name).result.unwrap_err();
        assert!(found.message().contains(expect), "{text:?}: {found}");
    }
    check("[web\n", "h", "a '[' is not closed");
    check("[web:hosts:x]\n", "h", "line 1: [web:hosts:x] is no section");
    check("a\n[web:vars]\nx\n", "h", "line 3: \"x\" sets no variable");
    check("a b\n", "h", "line 1: \"b\" sets no variable");
    check("a b='c\n", "h", "line 1: a quote is not closed");
    check("w[1:200000]\n", "h", "no range");
    check("[a:children]\nb\n[b:children]\na\n", "h", "in a circle");
    check("all: [a]\n", "h.yml", "the group \"all\" is not a map");
    check("all: {hosts: [a]}\n", "h.yml", "the group \"all\" holds \"hosts\"");
    check("- a\n", "h.yml", "it is no inventory");
    check("all: {hosts: {a: 1}}\n", "h.yml", "the host \"a\" is not a map");
}

#[test]
fn many_hosts_fit() {
    let run = of_file("[web]\nn[1:100000] ansible_user=deploy\n[web:vars]\nrack=a\n", "hosts");
    run.result.unwrap();
    assert_eq!(run.nodes.len(), 100_000);
    assert_eq!(run.nodes[99_999].get("rack"), Some("a"));
}
