//! The job of the documents, from its file to what it gives, selects and does.

use remit_protocol::{
    Outcome, SectionNumber, StepIndex,
    assignment::{NodesView, StartMode, StepView},
    capability::Effect,
    node::Node,
};

use super::*;
use crate::{condition, options, sections, trigger};

#[test]
fn the_example_compiles_to_explicit_grants() {
    let document = compiled(EXAMPLE).unwrap();
    let drain = action(&document, 0);
    assert_eq!(drain.version.to_string(), "1.2.0");
    assert_eq!(
        serde_json::to_value(&drain.grant).unwrap(),
        json!({"ssh": [{"target": "node", "secret": {"name": "key", "use": "ssh-key"}}]})
    );
    assert_eq!(drain.effect, Effect::Effect);
    let restart = action(&document, 1);
    assert_eq!(
        serde_json::to_value(&restart.grant).unwrap(),
        json!({"http": [{"host": "control.corp.example", "port": 443, "methods": ["GET", "POST"], "paths": ["/v1/services"],
                         "private": true, "secret": {"name": "token", "use": "bearer"}}]})
    );
    assert_eq!(restart.effect, Effect::Idempotent);
    assert_eq!(restart.limits.memory.to_string(), "32MiB");
    let report = action(&document, 2);
    assert_eq!(
        serde_json::to_value(&report.grant).unwrap(),
        json!({"http": [{"host": "hooks.chat.example", "port": 443, "methods": ["POST"], "paths": ["/services"]}]})
    );
    assert_eq!(
        restart.agrees_with(&component(&"acme/restart-service@1.4".parse().unwrap()).unwrap().manifest),
        Ok(())
    );
    assert!(
        restart.agrees_with(&component(&"remit/http-request@1".parse().unwrap()).unwrap().manifest).is_err()
    );
}

#[test]
fn a_filter_covers_no_more_nodes_than_the_limit() {
    fn check(limit: &str, nodes: &[Node], expect: bool) {
        let document = compiled(&changed("  threads:", &format!("{limit}  threads:"))).unwrap();
        let resolved = trigger::resolve(&document, &scope(&json!({"service": "api", "batch": 7}))).unwrap();
        assert_eq!(resolved.nodes.unwrap().covers(nodes), expect, "{limit:?} {nodes:?}");
    }
    let web = |name: &str| node(name, "a", &["web", "linux"]);
    let (two, other) = ([web("web1"), web("web2")], [node("db1", "a", &["db", "linux"])]);
    check("", &two, true);
    check("", &other, false);
    check("  limit: 2\n", &two, true);
    check("  limit: 1\n", &two, false);
    check("  limit: 1\n", &two[..1], true);
    // Of how many it is a part, nobody signed.
    check("  limit: \"10%\"\n", &two, true);
}

fn scope(options: &Value) -> crate::expression::Scope {
    let execution = crate::expression::ExecutionView {
        id: remit_protocol::ExecutionId::from_u128(1),
        job: "restart_web".parse().unwrap(),
        revision: remit_protocol::Revision(1),
        started_by: "ada".to_owned(),
    };
    crate::expression::Scope::new(&"ops".parse().unwrap(), &execution, options.as_object().unwrap())
}

fn node(name: &str, rack: &str, tags: &[&str]) -> Node {
    Node {
        name: name.parse().unwrap(),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        attributes: [("rack".to_owned(), rack.to_owned())].into(),
    }
}

#[test]
fn the_example_is_evaluated_as_its_author_means() {
    let document = compiled(EXAMPLE).unwrap();
    let given = json!({"service": "api", "batch": "7"});
    let (empty, outputs) = (crate::expression::Scope::default(), std::collections::BTreeMap::new());
    let around = options::Outside { scope: &empty, nodes: &[], outputs: &outputs };
    let values = options::check(&document.options, given.as_object().unwrap(), &around);
    let values = Value::Object(values.unwrap());
    assert_eq!(values, json!({"service": "api", "batch": 7}));
    let mut scope = scope(&values);

    let resolved = trigger::resolve(&document, &scope).unwrap();
    let nodes = resolved.nodes.unwrap();
    assert_eq!((nodes.threads(100), resolved.timeout.map(|t| t.to_string())), (7, Some("30m".to_owned())));
    let all = [
        node("web2", "b", &["web", "linux"]),
        node("canary1", "a", &["web", "linux"]),
        node("web1", "a", &["web", "linux"]),
        node("db1", "a", &["db", "linux"]),
    ];
    assert_eq!(nodes.select(&all), [2, 0]);

    let on_node = scope.with_node(&all[0]);
    assert_eq!(action(&document, 0).with.render(&on_node), Ok(json!({"argv": ["sudo", "lb-drain", "web2"]})));

    let when = &document.steps[1].when;
    let drained = |outcome| {
        let mut scope = on_node.clone();
        scope.set_step(&"drain".parse().unwrap(), &StepView { outcome, outputs: None, nodes: None });
        condition::holds(when, [outcome], &scope)
    };
    assert_eq!(drained(Outcome::Succeeded), Ok(true));
    assert_eq!(drained(Outcome::Failed), Ok(false));

    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let view = NodesView { succeeded: names(&["web1"]), failed: names(&["web2", "web3"]) };
    scope.set_step(
        &"restart".parse().unwrap(),
        &StepView { outcome: Outcome::Failed, outputs: None, nodes: Some(view) },
    );
    let input = action(&document, 2).with.render(&scope).unwrap();
    assert_eq!(input["json"]["text"], json!("api: 1 restarted, 2 failed"));
    assert_eq!(condition::holds(&document.steps[2].when, [Outcome::Failed], &scope), Ok(true));
}

#[test]
fn the_example_has_two_sections() {
    let document = compiled(EXAMPLE).unwrap();
    let plan = sections::plan(&document);
    let shape: Vec<_> = plan.iter().map(|s| (s.number, s.first, s.steps, s.effect, s.start())).collect();
    assert_eq!(
        shape,
        [
            (SectionNumber(0), StepIndex(0), 2, Effect::Effect, StartMode::Guarded),
            (SectionNumber(1), StepIndex(2), 1, Effect::Effect, StartMode::Guarded),
        ]
    );
    assert_eq!(plan[0].of(&document).len(), 2);
}
