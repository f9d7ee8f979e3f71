//! What expressions name, and whether it is there where they look.

use remit_protocol::nearest::nearest;

use super::Check;
use crate::{
    document::{Per, Step},
    expression::{Reference, Root},
    sections,
};

/// From where an expression looks.
#[derive(Clone, Copy)]
pub(super) enum View {
    /// The trigger of the job: no step has been run.
    Trigger,
    /// The condition of the step with this index.
    When(usize),
    /// The list of items of the step with this index.
    Items(usize),
    /// The input of the step with this index.
    With(usize),
    /// The input of its error handler.
    Handler(usize),
}

impl View {
    /// The step in whose name it looks.
    fn step(self) -> Option<usize> {
        match self {
            Self::Trigger => None,
            Self::When(at) | Self::Items(at) | Self::With(at) | Self::Handler(at) => Some(at),
        }
    }
}

impl Check<'_> {
    pub(super) fn references(&mut self, place: &str, references: &[Reference], view: View) {
        for reference in references {
            if let Err((message, remedy)) = self.reference(reference, view) {
                self.fault(place, message, remedy);
            }
        }
    }

    fn reference(&self, reference: &Reference, view: View) -> Result<(), (String, String)> {
        let field = &reference.field;
        match reference.root {
            Root::Project | Root::Execution => Ok(()),
            Root::Clock => Err((
                "`date(…)` can only stand in the default of an option".to_owned(),
                "give the job an option with this default, and use the option here".to_owned(),
            )),
            Root::Options => {
                let names = || self.document.options.iter().map(|option| option.name.as_str());
                if names().any(|name| name == field) {
                    return Ok(());
                }
                let remedy = match nearest(field, names()) {
                    Some(near) => format!("did you mean `options.{near}`?"),
                    None => format!("declare it: `options: {{ {field}: {{ type: string }} }}`"),
                };
                Err((format!("`options.{field}` is not an option of this job"), remedy))
            }
            Root::Node => match view {
                View::Items(at) | View::With(at) | View::Handler(at)
                    if self.document.steps[at].per == Per::Node =>
                {
                    Ok(())
                }
                View::Items(_) | View::With(_) | View::Handler(_) => Err((
                    format!("`node.{field}` is not there in a step that is run once"),
                    "add `per: node` to the step".to_owned(),
                )),
                View::When(_) | View::Trigger => Err((
                    format!("`node.{field}` is only there in the input of a step that is run per node"),
                    "choose nodes with `nodes.filter`".to_owned(),
                )),
            },
            Root::Steps => match view.step() {
                None => Err((
                    format!("`steps.{field}` is not there yet: this is evaluated before any step is run"),
                    "use options".to_owned(),
                )),
                Some(at) => self.earlier_step(reference, at),
            },
            Root::Item => match view {
                View::With(at) | View::Handler(at) if self.document.steps[at].for_each.is_some() => Ok(()),
                _ => Err((
                    "`item` is only there in the input of a step with `for_each`".to_owned(),
                    "add `for_each: \"options.sites\"` to the step".to_owned(),
                )),
            },
            Root::Error => match view {
                View::Handler(_) => Ok(()),
                _ => Err((
                    "`error` is only there in the input of an error handler".to_owned(),
                    "use it in `on_error.with`".to_owned(),
                )),
            },
        }
    }

    fn earlier_step(&self, reference: &Reference, at: usize) -> Result<(), (String, String)> {
        let (field, steps) = (&reference.field, &self.document.steps);
        let visible = |step: &&Step| step.group.is_none() || step.group != steps[at].group;
        let Some(seen) = steps[..at].iter().position(|step| step.name.as_str() == field && visible(&step))
        else {
            let later = steps.iter().any(|step| step.name.as_str() == field);
            let names = steps[..at].iter().filter(visible).map(|step| step.name.as_str());
            let beside = steps.iter().any(|step| step.name.as_str() == field && !visible(&step));
            let (message, remedy) = match nearest(field, names) {
                _ if beside => (
                    format!("`steps.{field}` runs beside this step"),
                    "put it before the group, or read it behind".to_owned(),
                ),
                _ if later => {
                    (format!("`steps.{field}` is not run before this step"), "move it up".to_owned())
                }
                Some(near) => (
                    format!("there is no step `{field}` before this one"),
                    format!("did you mean `steps.{near}`?"),
                ),
                None => {
                    (format!("there is no step `{field}` before this one"), "name an earlier step".to_owned())
                }
            };
            // A part of it is named, too, and the step as such has been reported.
            return if reference.second.is_some() { Ok(()) } else { Err((message, remedy)) };
        };
        let Some(part) = reference.second.as_deref() else { return Ok(()) };
        let same_section = sections::together(&steps[seen..=at]);
        match (steps[at].per, steps[seen].per, part) {
            (_, Per::Once, "nodes") => Err((
                format!("`steps.{field}` is run once, so it has no `nodes`"),
                format!("use `steps.{field}.outcome` or `steps.{field}.outputs`"),
            )),
            (Per::Once, Per::Node, "outputs") => Err((
                format!("`steps.{field}` is run per node, so it has no `outputs` of its own here"),
                format!("use `steps.{field}.nodes.succeeded` or `steps.{field}.nodes.failed`"),
            )),
            (Per::Node, Per::Node, "nodes") if same_section => Err((
                format!("`steps.{field}.nodes` is not complete yet: other nodes are still being run"),
                format!("use `steps.{field}.outcome`, which is this node's own here"),
            )),
            (Per::Node, Per::Node, "outcome" | "outputs") if !same_section => Err((
                format!(
                    "`steps.{field}.{part}` of this node is not known here: a step that is run once lies between"
                ),
                format!(
                    "write `node.name in steps.{field}.nodes.succeeded` in the input, or put the two steps together"
                ),
            )),
            _ => Ok(()),
        }
    }
}
