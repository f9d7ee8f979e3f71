//! Steps: what each does, when, how often, and with what.

use remit_protocol::{Limits, capability::Effect, limits::MAX_STEPS};

use super::{Check, MAX_RULES, reference::View};
use crate::{
    document::{Action, Gate, JobAction, Per, Retry, RetryOutcome, Step, StepLog},
    template::Template,
};

impl Check<'_> {
    pub(super) fn steps(&mut self) {
        let document = self.document;
        if document.steps.is_empty() {
            self.fault("steps", "the job has no steps", "add one");
        }
        if document.steps.len() > MAX_STEPS {
            let remedy = "split the job into several";
            self.fault(
                "steps",
                format!("{} steps, at most {MAX_STEPS} are allowed", document.steps.len()),
                remedy,
            );
            return;
        }
        for (at, step) in document.steps.iter().enumerate() {
            self.step(at, step);
            if self.places.insert(&step.name, at).is_some() {
                self.fault(
                    format!("steps.{}.name", step.name),
                    "this name stands twice",
                    "rename one of the steps",
                );
            }
        }
    }

    fn step(&mut self, at: usize, step: &Step) {
        let place = format!("steps.{}", step.name);
        if step.per == Per::Node && self.document.nodes.is_none() {
            self.fault(
                format!("{place}.per"),
                "the step is run per node, but the job says nothing about nodes",
                "add `nodes: { filter: \"tags: …\" }` to the job",
            );
        }
        if let Some(expression) = step.when.expression() {
            self.references(&format!("{place}.when"), expression.references(), View::When(at));
        }
        if let Some(items) = &step.for_each {
            self.references(&format!("{place}.for_each"), items.references(), View::Items(at));
        }
        self.kind(&place, step);
        if let Some(timeout) = step.timeout {
            self.span(&format!("{place}.timeout"), timeout, Limits::MOST.wall);
        }
        if let Some(retry) = &step.retry {
            self.retry(&format!("{place}.retry"), retry, step.effect());
        }
        match &step.action {
            Action::Component(component) => self.component(&place, component, View::With(at)),
            Action::Gate(gate) => {
                self.text(&format!("{place}.approve"), &gate.question, View::With(at));
                if !(1..=Gate::MOST).contains(&gate.needed) {
                    let message = format!("{} people; at least 1 and at most {}", gate.needed, Gate::MOST);
                    self.fault(format!("{place}.approve.needed"), message, "write how many have to agree");
                }
            }
            Action::Halt(halt) => self.text(&format!("{place}.message"), &halt.message, View::With(at)),
            Action::Job(job) => self.child(&place, at, job),
        }
        if let Some(handler) = &step.on_error {
            self.component(&format!("{place}.on_error"), &handler.run, View::Handler(at));
        }
        self.log(&format!("{place}.log"), &step.log);
        self.group(&place, at, step);
    }

    /// What becomes of a step's lines.
    fn log(&mut self, place: &str, log: &StepLog) {
        for (key, count) in [("outputs", log.outputs.len()), ("mask", log.mask.len())] {
            if count > StepLog::MOST {
                let message = format!("{count} patterns, at most {} are allowed", StepLog::MOST);
                self.fault(format!("{place}.{key}"), message, "put several into one, with `|`");
            }
        }
        if log.keep == Some(0) {
            self.fault(
                format!("{place}.keep"),
                "a log of no lines says nothing",
                "write how many lines are kept",
            );
        }
        for (at, reading) in log.outputs.iter().enumerate() {
            let place = format!("{place}.outputs[{at}]");
            let (groups, remedy) = match &reading.name {
                Some(_) => (1, "write one group, which is the value: `^version (.+)$`"),
                None => (2, "write two groups, name and value: `^([a-z]+)=(.*)$`; or one, and a `name`"),
            };
            if reading.pattern.groups() != groups {
                let found = reading.pattern.groups();
                self.fault(format!("{place}.pattern"), format!("it has {found} groups in brackets"), remedy);
            }
            let name = |name: &String| {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
                !name.is_empty() && name.len() <= StepLog::LONGEST_NAME && name.chars().all(plain)
            };
            if reading.name.as_ref().is_some_and(|text| !name(text)) {
                self.fault(format!("{place}.name"), "this is not a name", "write letters, digits and `_`");
            }
        }
    }

    /// What stands on a step whose kind has no use for it.
    fn kind(&mut self, place: &str, step: &Step) {
        let (kind, timeout, items) = match &step.action {
            Action::Component(_) => return,
            Action::Gate(_) => ("a gate", true, false),
            Action::Halt(_) => ("a halt", false, false),
            Action::Job(_) => ("a job", false, true),
        };
        let idle = [
            ("per", step.per == Per::Node),
            ("timeout", step.timeout.is_some() && !timeout),
            ("retry", step.retry.is_some()),
            ("for_each", step.for_each.is_some() && !items),
            ("log", !step.log.is_empty()),
            ("on_error", step.on_error.is_some()),
        ];
        for (key, _) in idle.into_iter().filter(|(_, there)| *there) {
            self.fault(
                format!("{place}.{key}"),
                format!("`{key}` has no meaning for {kind}"),
                "remove it, or put it on a step with `uses`",
            );
        }
    }

    /// A text with `${…}`.
    pub(super) fn text(&mut self, place: &str, text: &Template, view: View) {
        if !text.source().is_string() {
            self.fault(place, "this is no text", "write a text");
        }
        for (_, reference) in text.references() {
            self.references(place, &[reference], view);
        }
    }

    fn child(&mut self, place: &str, at: usize, child: &JobAction) {
        if child.job == self.document.job {
            self.fault(format!("{place}.job"), "the job would run itself", "name another job");
        }
        self.input(&format!("{place}.with"), &child.with, View::With(at));
        if child.tags.as_ref().is_some_and(|tags| tags.len() > MAX_RULES) {
            self.fault(
                format!("{place}.runner.tags"),
                format!("more than {MAX_RULES} tags"),
                "name fewer tags",
            );
        }
        if let Some(filter) = &child.nodes {
            let references: Vec<_> = filter.references().cloned().collect();
            self.references(&format!("{place}.nodes"), &references, View::With(at));
        }
    }

    pub(super) fn input(&mut self, place: &str, with: &Template, view: View) {
        if !with.source().is_object() {
            self.fault(place, "the input is not a map", "write `with:` and names with values below it");
        }
        for (inner, reference) in with.references() {
            let inner = if inner.is_empty() { String::new() } else { format!(".{inner}") };
            self.references(&format!("{place}{inner}"), &[reference], view);
        }
    }

    /// Steps side by side stand together, and each is done by itself.
    fn group(&mut self, place: &str, at: usize, step: &Step) {
        let Some(group) = step.group else { return };
        let before = self.document.steps[..at].iter();
        let apart = before.clone().rev().skip_while(|other| other.group == Some(group));
        if apart.into_iter().any(|other| other.group == Some(group)) {
            self.fault(
                place,
                format!("the steps of group {group} do not stand together"),
                "compile the job again",
            );
        }
        if matches!(step.action, Action::Halt(_)) {
            self.fault(
                place,
                "a halt beside other steps would not say what becomes of them",
                "move it behind them",
            );
        }
    }

    pub(super) fn retry(&mut self, place: &str, retry: &Retry, effect: Effect) {
        if !(1..=Retry::MOST).contains(&retry.attempts) {
            let message = format!("{} tries; it is at least 1 and at most {}", retry.attempts, Retry::MOST);
            self.fault(format!("{place}.attempts"), message, "write how often the step is run in all");
        }
        if retry.outcomes.is_empty() {
            self.fault(
                format!("{place}.outcomes"),
                "no outcome is listed, so nothing would be tried again",
                "write `outcomes: [failed]`",
            );
        }
        if retry.delay > Retry::LONGEST_DELAY {
            let message = format!("{} is longer than {}", retry.delay, Retry::LONGEST_DELAY);
            self.fault(format!("{place}.delay"), message, "wait less");
        }
        if !(1.0..=10.0).contains(&retry.backoff) {
            self.fault(
                format!("{place}.backoff"),
                format!("{} is not between 1 and 10", retry.backoff),
                "write a factor such as 2",
            );
        }
        if retry.outcomes.contains(&RetryOutcome::Lost) && effect == Effect::Effect {
            self.fault(
                format!("{place}.outcomes"),
                "`lost` cannot be listed: the step changes the world, and a lost one may have done so already",
                "remove `lost`; a person decides then. A component that repeats safely says effect = \"idempotent\"",
            );
        }
    }
}
