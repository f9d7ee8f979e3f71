use std::collections::BTreeMap;

use proptest::prelude::*;
use remit_protocol::{endpoint::Fault, limits::MAX_VALUE, node::Node};
use serde_json::{Map, Value, json};

use super::*;
use crate::expression::Scope;

/// Checks with these nodes and outputs, at a fixed time.
fn check_with(
    definitions: &[OptionDefinition],
    given: &Value,
    nodes: &[Node],
    outputs: &BTreeMap<OfJob, Result<Value, String>>,
) -> Result<Value, Vec<Fault>> {
    let scope = Scope::default().at("2026-03-04T05:06:07Z".parse().unwrap());
    let outside = Outside { scope: &scope, nodes, outputs };
    super::check(definitions, given.as_object().unwrap(), &outside).map(Value::Object)
}

fn check(definitions: &[OptionDefinition], given: &Value) -> Result<Value, Vec<Fault>> {
    check_with(definitions, given, &[], &BTreeMap::new())
}

fn definitions() -> Vec<OptionDefinition> {
    serde_json::from_value(json!([
        {"name": "service", "required": true, "type": {"string": {"values": ["web", "api"]}}},
        {"name": "batch", "default": 5, "type": {"integer": {"min": 1, "max": 50}}},
        {"name": "level", "type": {"integer": {"values": [1, 2, 4]}}},
        {"name": "host", "type": {"string": {"pattern": "[a-z]+[0-9]*"}}},
        {"name": "force", "type": {"boolean": {}}},
        {"name": "note", "type": {"string": {}}},
    ]))
    .unwrap()
}

#[test]
fn values_are_checked_and_typed() {
    fn ok(given: Value, expect: Value) {
        let found = check(&definitions(), &given);
        assert_eq!(found, Ok(expect), "{given}");
    }
    ok(json!({"service": "web"}), json!({"service": "web", "batch": 5}));
    ok(
        json!({"service": "web", "batch": "7", "force": "true"}),
        json!({"service": "web", "batch": 7, "force": true}),
    );
    ok(
        json!({"service": "web", "batch": 50, "level": 4, "force": false}),
        json!({"service": "web", "batch": 50, "level": 4, "force": false}),
    );
    ok(
        json!({"service": "web", "host": "web1", "note": ""}),
        json!({"service": "web", "batch": 5, "host": "web1", "note": ""}),
    );
}

#[test]
fn wrong_values_are_faults_with_a_remedy() {
    fn bad(given: Value, place: &str, part: &str) {
        let mut given = given.as_object().unwrap().clone();
        if place != "options.service" {
            given.insert("service".to_owned(), json!("web"));
        }
        let faults = check(&definitions(), &Value::Object(given.clone())).expect_err(place);
        let found = &faults[0];
        let text = format!("{} {}", found.message, found.remedy);
        assert!(faults.len() == 1 && found.place == place && text.contains(part), "{given:?}: {faults:?}");
    }
    bad(json!({}), "options.service", "--option service=");
    bad(json!({"service": "db"}), "options.service", "give one of web, api");
    bad(json!({"service": 1}), "options.service", "not a text");
    bad(json!({"service": null}), "options.service", "not a text");
    bad(json!({"servce": "web"}), "options.servce", "did you mean `service`?");
    bad(json!({"colour": "red"}), "options.colour", "service, batch");
    bad(json!({"batch": 0}), "options.batch", "give 1 or more");
    bad(json!({"batch": "51"}), "options.batch", "give 50 or less");
    bad(json!({"batch": 1.5}), "options.batch", "whole number");
    bad(json!({"batch": "five"}), "options.batch", "whole number");
    bad(json!({"batch": "9007199254740992"}), "options.batch", "whole number");
    bad(json!({"level": 3}), "options.level", "give one of 1, 2, 4");
    bad(json!({"host": "web1; rm"}), "options.host", "fits [a-z]+[0-9]*");
    bad(json!({"host": "web1\n"}), "options.host", "fits");
    bad(json!({"force": "yes"}), "options.force", "give true or false");
    bad(json!({"note": "x".repeat(MAX_VALUE + 1)}), "options.note", "longer than");
    bad(json!({"note": "x".repeat(MAX_VALUE)}), "options", "together");
}

#[test]
fn all_faults_are_reported_at_once() {
    let given = json!({"service": "db", "batch": 0, "nosuch": 1});
    assert_eq!(check(&definitions(), &given).unwrap_err().len(), 3);
}

proptest! {
    /// What is accepted is accepted again as it is: a runner that checks once more sees the same values.
    #[test]
    fn checking_twice_changes_nothing(service in "web|api|x", batch in -5i64..60, note in "\\PC{0,20}", force in "true|false|no") {
        let given = json!({"service": service, "batch": batch.to_string(), "note": note, "force": force});
        if let Ok(once) = check(&definitions(), &given) {
            prop_assert_eq!(check(&definitions(), &once), Ok(once));
        }
    }
}

/// One option after `env`, by its type.
fn one(kind: Value, default: Value) -> Vec<OptionDefinition> {
    let mut option = json!({"name": "x", "type": kind});
    if !default.is_null() {
        option["default"] = default;
    }
    serde_json::from_value(json!([{"name": "env", "type": {"string": {}}}, option])).unwrap()
}

#[test]
fn values_are_taken_as_they_are_typed() {
    for text in ["it's \"quoted\"", "two\nlines", "${options.env}", "$${x}", "$(id)", "", " a ", "\u{7}"] {
        let given = json!({"x": text});
        assert_eq!(check(&one(json!({"string": {}}), json!(null)), &given), Ok(given));
        let given = json!({"x": [text, text]});
        assert_eq!(check(&one(json!({"list": {}}), json!(null)), &given), Ok(given));
    }
}

#[test]
fn every_type_has_its_rule() {
    fn ok(kind: Value, value: Value, expect: Value) {
        let found = check(&one(kind, json!(null)), &json!({"x": value}));
        assert_eq!(found, Ok(json!({"x": expect})));
    }
    fn bad(kind: Value, value: Value, part: &str) {
        let faults = check(&one(kind, json!(null)), &json!({"x": value})).expect_err(part);
        let text = format!("{} {}", faults[0].message, faults[0].remedy);
        assert!(text.starts_with("the value of x ") && text.contains(part), "{text}");
    }
    let length = json!({"string": {"min_length": 2, "max_length": 3}});
    ok(length.clone(), json!("äö"), json!("äö"));
    bad(length.clone(), json!("a"), "give 2 characters or more");
    bad(length, json!("abcd"), "give 3 characters or fewer");
    bad(json!({"string": {"values": ["staging", "prod"]}}), json!("stagign"), "did you mean `staging`?");
    bad(json!({"string": {}}), json!(["a", "b"]), "takes one value");
    ok(json!({"string": {"values": ["a"], "open": true}}), json!("b"), json!("b"));
    bad(json!({"integer": {"values": [1, 10]}}), json!(8), "the nearest is 10");
    let list = json!({"list": {"values": ["a", "b"], "min_items": 1, "max_items": 2}});
    ok(list.clone(), json!("a"), json!(["a"]));
    ok(list.clone(), json!(["b", "a"]), json!(["b", "a"]));
    bad(list.clone(), json!(["a", "c"]), "\"c\" is not one of the allowed values");
    bad(list.clone(), json!([]), "give 1 values or more");
    bad(list.clone(), json!(["a", "a", "a"]), "give 2 values or fewer");
    bad(list, json!([1]), "is not a text");
    bad(json!({"list": {"pattern": "[a-z]+"}}), json!(["a", "B"]), "fits [a-z]+");
    let date = json!({"date": {"format": "%d.%m.%Y", "min": "01.01.2026", "max": "31.12.2026"}});
    ok(date.clone(), json!("29.03.2026"), json!("29.03.2026"));
    bad(date.clone(), json!("30.02.2026"), "of the form %d.%m.%Y");
    bad(date.clone(), json!("31.12.2025"), "give 01.01.2026 or later");
    bad(date, json!("01.01.2027"), "give 31.12.2026 or earlier");
    let secret = json!({"secret": {"values": ["keys/a/one", "keys/a/two"]}});
    ok(secret.clone(), json!("keys/a/two"), json!("keys/a/two"));
    bad(secret, json!("keys/a/tow"), "did you mean `keys/a/two`?");
}

#[test]
fn defaults_are_computed() {
    fn check_default(kind: Value, default: Value, expect: Value) {
        let found = check(&one(kind, default), &json!({"env": "prod"}));
        assert_eq!(found.map(|found| found["x"].clone()), Ok(expect));
    }
    check_default(json!({"date": {}}), json!("${date('%Y-%m-%d', '-1d')}"), json!("2026-03-03"));
    check_default(
        json!({"string": {}}),
        json!("b-${date('%Y%m%d')}-${options.env}"),
        json!("b-20260304-prod"),
    );
    check_default(json!({"string": {}}), json!("$${HOME}"), json!("${HOME}"));
    check_default(json!({"list": {}}), json!(["a", "${options.env}"]), json!(["a", "prod"]));
    let faults = check(&one(json!({"string": {}}), json!("${options.env}")), &json!({})).unwrap_err();
    assert!(faults[0].message.contains("the default of x comes to nothing"), "{faults:?}");
    let out = one(json!({"integer": {"max": 3}}), json!("${size(options.env)}"));
    assert!(check(&out, &json!({"env": "long"})).unwrap_err()[0].remedy.contains("give 3 or less"));
}

#[test]
fn values_depend_on_options_above() {
    let by = one(
        json!({"string": {"values": {"by": "env", "of": {"dev": ["a"], "prod": ["b", "c"]}}}}),
        json!(null),
    );
    assert!(check(&by, &json!({"env": "prod", "x": "c"})).is_ok());
    assert_eq!(check(&by, &json!({})), Ok(json!({})));
    fn bad(definitions: &[OptionDefinition], given: Value, part: &str) {
        let faults = check(definitions, &given).expect_err(part);
        assert!(format!("{} {}", faults[0].message, faults[0].remedy).contains(part), "{faults:?}");
    }
    bad(&by, json!({"env": "dev", "x": "c"}), "give one of a");
    bad(&by, json!({"env": "test", "x": "c"}), "env is \"test\"");
    bad(&by, json!({"x": "c"}), "give `env` a value");
}

#[test]
fn values_of_nodes_are_those_of_now() {
    let nodes: Vec<Node> = serde_json::from_value(json!([
        {"name": "web1", "tags": ["prod"], "attributes": {"rack": "a"}},
        {"name": "web2", "tags": ["dev"], "attributes": {"rack": "b"}},
        {"name": "web3", "tags": ["prod"], "attributes": {}},
    ]))
    .unwrap();
    let of = |values: Value| one(json!({"string": {"values": values}}), json!(null));
    let found = |definitions: &[OptionDefinition], x: &str| {
        check_with(definitions, &json!({"env": "prod", "x": x}), &nodes, &BTreeMap::new())
    };
    let names = of(json!({"nodes": "tags: ${options.env}"}));
    assert!(found(&names, "web3").is_ok());
    assert!(found(&names, "web2").unwrap_err()[0].remedy.contains("give one of web1, web3"));
    assert!(found(&of(json!({"nodes": ".*", "attribute": "rack"})), "b").is_ok());
    let none = found(&of(json!({"nodes": "tags: nosuch"})), "web1").unwrap_err();
    assert!(none[0].message.contains("there are none"), "{none:?}");
}

#[test]
fn values_of_a_job_are_accepted_only_when_they_are_at_hand() {
    let definitions =
        one(json!({"string": {"values": {"job": "list", "step": "get", "at": "/json"}}}), json!(null));
    let Some(Values::Job(of)) = definitions[1].kind.values() else { panic!("another kind of values") };
    let found = |outputs: &[(OfJob, Result<Value, String>)]| {
        let outputs = outputs.iter().cloned().collect();
        check_with(&definitions, &json!({"x": "v2"}), &[], &outputs)
    };
    let output = |list: Value| vec![(of.clone(), Ok(json!({"json": list})))];
    assert!(found(&output(json!(["v1", "v2"]))).is_ok());
    assert!(found(&output(json!([{"name": "two", "value": "v2"}]))).is_ok());
    for (outputs, part) in [
        (output(json!(["v1"])), "give one of v1"),
        (output(json!([])), "found nothing"),
        (output(json!({"a": 1})), "is not a list"),
        (output(json!([[]])), "neither a text nor a number"),
        (output(json!(vec!["a"; 1001])), "more than 1000"),
        (vec![(of.clone(), Err("it has never succeeded".to_owned()))], "never succeeded"),
        (Vec::new(), "not at hand"),
    ] {
        let faults = found(&outputs).expect_err(part);
        assert!(format!("{} {}", faults[0].message, faults[0].remedy).contains(part), "{faults:?}");
    }
}

#[test]
fn a_definition_that_cannot_hold_is_a_fault() {
    fn check(kind: Value, default: Value, place: &str, part: &str) {
        let definitions = one(kind, default);
        let faults = definitions[1].faults(&definitions[..1]);
        let found = faults.first().unwrap_or_else(|| panic!("{part}: no fault"));
        assert_eq!(found.place, place);
        assert!(format!("{} {}", found.message, found.remedy).contains(part), "{faults:?}");
    }
    let none = || json!(null);
    check(json!({"string": {"min_length": 3, "max_length": 2}}), none(), "options.x.min_length", "swap");
    check(json!({"string": {"open": true}}), none(), "options.x.open", "values");
    check(json!({"string": {"values": ["a", "a"]}}), none(), "options.x.values", "twice");
    check(
        json!({"string": {"values": {"by": "y", "of": {"a": []}}}}),
        none(),
        "options.x.values.by",
        "above",
    );
    check(json!({"string": {"values": {"by": "env", "of": {}}}}), none(), "options.x.values.of", "no value");
    check(
        json!({"string": {"values": {"nodes": "${steps.a.outcome}"}}}),
        none(),
        "options.x.values.nodes",
        "not there yet",
    );
    check(
        json!({"string": {"values": {"nodes": "${options.x}"}}}),
        none(),
        "options.x.values.nodes",
        "above",
    );
    check(
        json!({"string": {"values": {"job": "j", "step": "s", "at": "a"}}}),
        none(),
        "options.x.values.at",
        "/body",
    );
    check(json!({"list": {}}), json!("a"), "options.x.default", "write a list");
    check(json!({"integer": {}}), json!("3"), "options.x.default", "without quotes");
    check(json!({"string": {}}), json!("${node.name}"), "options.x.default", "not there yet");
    check(json!({"date": {"min": "soon"}}), none(), "options.x.min", "%Y-%m-%d");
    check(json!({"date": {"min": "2026-02-01", "max": "2026-01-01"}}), none(), "options.x.min", "swap");
    check(json!({"secret": {"values": []}}), none(), "options.x.values", "no path");
}

#[test]
fn what_may_be_given_is_described() {
    let definitions = one(
        json!({"string": {"values": {"by": "env", "of": {"prod": ["b", "c"]}}}}),
        json!("${options.env == 'prod' ? 'b' : 'a'}"),
    );
    let scope = Scope::default();
    let outside = Outside { scope: &scope, nodes: &[], outputs: &BTreeMap::new() };
    let given = json!({"env": "prod", "nosuch": 1});
    let (described, faults) = describe(&definitions, given.as_object().unwrap(), &outside);
    assert_eq!(
        (described[1].values.join(" "), described[1].value.clone()),
        ("b c".to_owned(), Some(json!("b")))
    );
    assert_eq!(faults.len(), 1);
    let (described, _) = describe(&definitions, &Map::new(), &outside);
    assert!(described[0].fault.is_none() && described[1].fault.is_some());
}
