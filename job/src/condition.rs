//! Whether a step is run: its `when`, in the light of what earlier steps came to.

use remit_protocol::{Outcome, assignment::StepView};
use serde_json::Value;

use crate::{
    document::{Document, When},
    expression::{InvalidExpression, Scope},
    sections::Section,
};

/// True if a step with this condition is run. `earlier` are the outcomes of all steps before it, as the step sees them:
/// in a node step those of the same section are the node's own, all others are rolled up.
pub fn holds(
    when: &When,
    earlier: impl IntoIterator<Item = Outcome>,
    scope: &Scope,
) -> Result<bool, InvalidExpression> {
    match when {
        When::OnSuccess => Ok(earlier.into_iter().all(Outcome::is_good)),
        When::OnFailure => Ok(!earlier.into_iter().all(Outcome::is_good)),
        When::Always => Ok(true),
        When::Expression(expression) => match expression.evaluate(scope)? {
            Value::Bool(run) => Ok(run),
            _ => Err(InvalidExpression {
                text: expression.as_str().to_owned(),
                why: "does not come to true or false, which `when` wants".to_owned(),
                column: None,
            }),
        },
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
