//! Whether a step is run: its `when`, in the light of what earlier steps came to.

use remit_protocol::{Outcome, assignment::StepView};
use serde_json::Value;

use crate::{
    document::{Document, When},
    expression::{Expression, InvalidExpression, Scope},
    sections::Section,
};

/// True if a step with this condition is run. `earlier` are the outcomes of all steps before it, as the step sees them:
/// in a node step those of the same section are the node's own, all others are rolled up.
pub fn holds(
    when: &When,
    earlier: impl IntoIterator<Item = Outcome>,
    scope: &Scope,
) -> Result<bool, InvalidExpression> {
    let fits = match when {
        When::OnSuccess | When::OnSuccessIf(_) => earlier.into_iter().all(Outcome::is_good),
        When::OnFailure | When::OnFailureIf(_) => !earlier.into_iter().all(Outcome::is_good),
        When::Always | When::Expression(_) => true,
    };
    match when.expression() {
        Some(expression) if fits => comes_true(expression, scope),
        _ => Ok(fits),
    }
}

fn comes_true(expression: &Expression, scope: &Scope) -> Result<bool, InvalidExpression> {
    match expression.evaluate(scope)? {
        Value::Bool(run) => Ok(run),
        _ => Err(InvalidExpression {
            text: expression.as_str().to_owned(),
            why: "does not come to true or false, which `when` wants".to_owned(),
            column: None,
        }),
    }
}

/// True if at least one step of a section is run: what an orchestrator asks before it hands the section out. If it is
/// false, every step of the section is skipped and no runner is needed.
pub fn any_holds(
    document: &Document,
    section: &Section,
    earlier: &[Outcome],
    scope: &Scope,
) -> Result<bool, InvalidExpression> {
    let mut outcomes = earlier.to_vec();
    let mut scope = scope.clone();
    for step in section.of(document) {
        if holds(&step.when, outcomes.iter().copied(), &scope)? {
            return Ok(true);
        }
        // The next condition sees this one as skipped, as it would on every node.
        outcomes.push(Outcome::Skipped);
        scope.set_step(&step.name, &StepView { outcome: Outcome::Skipped, outputs: None, nodes: None });
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{expression::tests::scope, sections::plan};

    fn when(text: &str) -> When {
        When::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn conditions_look_at_what_came_before() {
        fn check(condition: &str, earlier: &[Outcome], expect: bool) {
            let found = holds(&when(condition), earlier.iter().copied(), &scope(json!({"go": true})));
            assert_eq!(found, Ok(expect), "{condition} {earlier:?}");
        }
        use Outcome::*;
        check("on-success", &[], true);
        check("on-success", &[Succeeded, Skipped], true);
        for bad in [Failed, TimedOut, Cancelled, Lost, NotStarted] {
            check("on-success", &[Succeeded, bad], false);
            check("on-failure", &[bad, Succeeded], true);
            check("always", &[bad], true);
        }
        check("on-failure", &[], false);
        check("on-failure", &[Skipped, Succeeded], false);
        check("options.go", &[Failed], true);
        check("on-success && options.go", &[], true);
        check("on-success && options.go", &[Succeeded, Skipped], true);
        check("on-success && !options.go", &[Succeeded], false);
        check("on-success && options.go", &[Failed], false);
        check("on-success && options.nosuch", &[Failed], false);
        check("on-failure&&options.go", &[Failed], true);
        check("on-failure && options.go", &[Succeeded], false);
        check("on-failure && (options.go || true)", &[Succeeded], false);
        check("steps.fetch.outputs.status == 404", &[], false);
        check("has(options.nosuch)", &[], false);
    }

    #[test]
    fn a_condition_that_is_no_boolean_is_an_error() {
        for (condition, part) in [
            ("options.go + ''", "boolean"),
            ("1", "true or false"),
            ("options.nosuch", "no value"),
            ("on-success && 1", "true or false"),
        ] {
            let found = holds(&when(condition), [], &scope(json!({"go": true})))
                .map_err(|invalid| invalid.to_string());
            assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{condition}: {found:?}");
        }
    }

    #[test]
    fn a_condition_is_written_as_it_is_read() {
        fn check(text: &str, expect: Result<&str, &str>) {
            match (When::try_from(text.to_owned()), expect) {
                (Ok(when), Ok(expect)) => assert_eq!(String::from(when), expect),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        check("on-success && options.a == 'b && c'", Ok("on-success && options.a == 'b && c'"));
        check("on-failure  &&  options.a", Ok("on-failure && options.a"));
        check("options.a && options.b", Ok("options.a && options.b"));
        check("on-success && (options.a || options.b)", Ok("on-success && (options.a || options.b)"));
        check("on-success && [true || false][0]", Ok("on-success && [true || false][0]"));
        check("on-success && options.a || options.b", Err("write `on-success && (options.a || options.b)`"));
        check("on-failure && options.a && true || false", Err("brackets"));
        check("on-success && options.a ? true : false", Err("`on-success && (options.a ? true : false)`"));
        check("on-success || options.a", Err("on"));
        check("on-success && ", Err(""));
        check("always && options.a", Err("always"));
        let long = format!("on-success && options.a == '{}'", "x".repeat(2000));
        check(&long, Err("1024"));
    }

    fn document(conditions: &[(&str, &str)]) -> Document {
        let steps: Vec<Value> = conditions
            .iter()
            .map(|(name, when)| {
                json!({"name": name, "per": "node", "when": when, "action": {"component": {
                    "name": "remit/transform", "version": "1.0.0", "digest": remit_protocol::Digest::of(b"x"), "kind": "step",
                    "with": {}, "grant": {}, "effect": "pure", "limits": remit_protocol::Limits::default()}}})
            })
            .collect();
        let nodes = json!({"filter": ".*", "threads": 1, "keep_going": false});
        let document = json!({"v": 1, "project": "ops", "job": "j", "nodes": nodes, "steps": steps});
        Document::from_slice(&serde_json::to_vec(&document).unwrap()).unwrap()
    }

    #[test]
    fn a_section_is_handed_out_if_any_of_its_steps_is_run() {
        fn check(conditions: &[(&str, &str)], earlier: &[Outcome], expect: bool) {
            let document = document(conditions);
            let section = plan(&document)[0];
            assert_eq!(
                any_holds(&document, &section, earlier, &scope(json!({}))),
                Ok(expect),
                "{conditions:?} {earlier:?}"
            );
        }
        check(&[("a", "on-success"), ("b", "on-success")], &[], true);
        check(&[("a", "on-success"), ("b", "on-success")], &[Outcome::Failed], false);
        check(&[("a", "on-success"), ("b", "always")], &[Outcome::Failed], true);
        check(&[("a", "on-failure"), ("b", "steps.a.outcome == 'skipped'")], &[], true);
        check(&[("a", "on-failure"), ("b", "steps.a.outcome == 'succeeded'")], &[], false);
    }
}
