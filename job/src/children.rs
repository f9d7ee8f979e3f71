//! Jobs that run jobs: which executions a step wants, and what it sees of them once they have ended.

use remit_protocol::Outcome;
use serde_json::{Map, Value};

use crate::{
    document::{Action, Step},
    expression::Scope,
    filter::NodeFilter,
    rollup,
};

/// Most jobs that one step runs.
pub const MAX_CHILDREN: usize = 100;
/// How deep jobs may run jobs.
pub const MAX_DEPTH: usize = 8;
/// Largest outputs of children that a step sees, in bytes of JSON.
pub const MAX_OUTPUTS: usize = 256 << 10;

/// An execution that a step wants.
#[derive(Debug)]
pub struct Wanted {
    /// Option values, as `with` gives them.
    pub with: Map<String, Value>,
    /// Other nodes than the job says itself.
    pub nodes: Option<NodeFilter>,
}

/// The executions that a step wants, in the order of its list; none if it runs no job.
///
/// # Errors
/// What cannot be evaluated, in words.
pub fn wanted(step: &Step, scope: &Scope) -> Result<Vec<Wanted>, String> {
    let Action::Job(job) = &step.action else { return Ok(Vec::new()) };
    let one = |scope: &Scope| {
        let with = job.with.render(scope).map_err(|error| format!("with: {error}"))?;
        let Value::Object(with) = with else { return Err("with: this is no map".to_owned()) };
        let nodes = job.nodes.as_ref().map(|filter| filter.resolve(scope));
        let nodes = nodes.transpose().map_err(|error| format!("nodes: {error}"))?;
        Ok(Wanted { with, nodes })
    };
    let Some(items) = &step.for_each else { return Ok(vec![one(scope)?]) };
    let items = items.evaluate(scope).map_err(|error| format!("for_each: {error}"))?;
    let Value::Array(items) = items else { return Err("for_each: this is no list".to_owned()) };
    if items.len() > MAX_CHILDREN {
        return Err(format!("for_each: {} items, at most {MAX_CHILDREN} jobs are run", items.len()));
    }
    items.into_iter().map(|item| one(&scope.with_item(item))).collect()
}

/// What a step comes to whose children came to these outcomes and gave these outputs of their workflow steps, by name.
pub fn came_to(children: Vec<(Outcome, Map<String, Value>)>, step: &Step) -> (Outcome, Option<Value>) {
    let (outcomes, given): (Vec<Outcome>, Vec<Map<String, Value>>) = children.into_iter().unzip();
    (rollup::step(outcomes), outputs(given, step.for_each.is_some()))
}

/// What a step's expressions see of its children: a list of outputs where the step is run for each of a list. Of no child
/// at all nothing is seen, and neither is what is larger than [`MAX_OUTPUTS`].
pub fn outputs(given: Vec<Map<String, Value>>, many: bool) -> Option<Value> {
    let mut given = given.into_iter().map(Value::Object);
    let outputs = match many {
        true => Some(Value::Array(given.collect())).filter(|all| *all != Value::Array(Vec::new())),
        false => given.next(),
    };
    outputs.filter(|outputs| outputs.to_string().len() <= MAX_OUTPUTS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expression::tests::scope;

    fn step(action: &Value, for_each: Option<&str>) -> Step {
        let mut step =
            json!({ "name": "one", "per": "once", "when": "on-success", "action": { "job": action } });
        if let Some(items) = for_each {
            step["for_each"] = items.into();
        }
        serde_json::from_value(step).unwrap()
    }

    #[test]
    fn a_step_wants_one_execution_for_each_item() {
        fn check(with: &Value, for_each: Option<&str>, expect: Result<&Value, &str>) {
            let step = step(&json!({ "job": "other", "with": with }), for_each);
            let many: Vec<u32> = (0..101).collect();
            let scope = scope(json!({ "to": ["a", "b"], "none": [], "many": many, "word": "x" }));
            match (wanted(&step, &scope), expect) {
                (Ok(found), Ok(expect)) => {
                    let found: Vec<Value> = found.into_iter().map(|one| Value::Object(one.with)).collect();
                    assert_eq!(Value::Array(found), *expect, "{with} {for_each:?}");
                }
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (found, _) => panic!("{with} {for_each:?}: {found:?}"),
            }
        }
        check(&json!({}), None, Ok(&json!([{}])));
        check(&json!({ "w": "${options.word}" }), None, Ok(&json!([{ "w": "x" }])));
        let items = json!([{ "w": "a" }, { "w": "b" }]);
        check(&json!({ "w": "${item}" }), Some("options.to"), Ok(&items));
        check(&json!({}), Some("options.none"), Ok(&json!([])));
        check(&json!({}), Some("options.many"), Err("101 items"));
        check(&json!({}), Some("options.word"), Err("no list"));
        check(&json!({ "w": "${options.absent}" }), None, Err("with"));
    }

    #[test]
    fn outputs_are_a_list_where_there_is_a_list() {
        fn check(given: &[Value], many: bool, expect: Option<Value>) {
            let given = given.iter().map(|given| given.as_object().unwrap().clone()).collect();
            assert_eq!(outputs(given, many), expect);
        }
        check(&[json!({ "a": 1 })], false, Some(json!({ "a": 1 })));
        check(&[json!({ "a": 1 }), json!({})], true, Some(json!([{ "a": 1 }, {}])));
        check(&[], true, None);
        check(&[], false, None);
        check(&[json!({ "a": "x".repeat(MAX_OUTPUTS) })], false, None);
    }

    #[test]
    fn what_children_came_to_is_rolled_up() {
        fn check(outcomes: &[Outcome], expect: Outcome) {
            let children = outcomes.iter().map(|outcome| (*outcome, Map::new())).collect();
            let step = step(&json!({ "job": "other", "with": {} }), Some("options.to"));
            assert_eq!(came_to(children, &step).0, expect, "{outcomes:?}");
        }
        check(&[], Outcome::Skipped);
        check(&[Outcome::Succeeded, Outcome::Skipped], Outcome::Succeeded);
        check(&[Outcome::Succeeded, Outcome::Failed], Outcome::Failed);
    }
}
