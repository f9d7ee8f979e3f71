//! Every rule about a document that needs no component: checked when a job is compiled, and again wherever one is read.

mod component;
mod nodes;
mod reference;
mod step;

use std::collections::{BTreeSet, HashMap};

use remit_protocol::{
    LogLimit, Size, Span, StepName, capability::Effect, endpoint::Fault, log_limit::LogMost,
    notice::Occasion, sealed::MAX_TYPED,
};

use self::reference::View;
use crate::{
    document::{Action, Concurrency, Document, Timeout, VERSION, WhenFull},
    notify::{MAX_NOTIFY, Target},
    options::{self, MAX_OPTIONS},
    schedule::{MAX_SCHEDULES, MOST_MISSED, Missed},
};

/// Longest timeout of a job.
pub(crate) const LONGEST_JOB: Span = Span::from_secs(30 * 24 * 3600);
/// Longest description of a job or an option, in bytes.
const MAX_DESCRIPTION: usize = 16 << 10;
/// Most rules of one capability in a grant, most secrets of a step and most paths of a secret.
const MAX_RULES: usize = 100;

/// Everything that is wrong with `document`, in its order.
pub(crate) fn document(document: &Document) -> Vec<Fault> {
    let mut check = Check { document, faults: Vec::new(), places: HashMap::new() };
    check.head();
    check.options();
    check.nodes();
    check.concurrency();
    check.log_limit();
    check.schedules();
    check.notify();
    check.steps();
    check.faults
}

struct Check<'a> {
    document: &'a Document,
    faults: Vec<Fault>,
    /// The steps before the one that is being checked, by name.
    places: HashMap<&'a StepName, usize>,
}

impl Check<'_> {
    fn fault(&mut self, place: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        let (place, message, remedy) = (place.into(), message.into(), remedy.into());
        self.faults.push(Fault { line: None, column: None, place, message, remedy });
    }

    fn head(&mut self) {
        let document = self.document;
        if document.v != VERSION {
            self.fault(
                "v",
                format!("the document has the form {}; this version reads {VERSION}", document.v),
                "update remit",
            );
        }
        let segment = |name: &str| {
            !name.trim().is_empty() && name.trim() == name && !name.chars().any(char::is_control)
        };
        let group = &document.group;
        if !group.is_empty() && (group.len() > 255 || !group.split('/').all(segment)) {
            self.fault(
                "group",
                format!(
                    "{:?} is not a group: names joined by '/', at most 255 bytes",
                    group.chars().take(80).collect::<String>()
                ),
                "write it like `ops/web`",
            );
        }
        self.description("description", &document.description);
        if document.runner.tags.len() > MAX_RULES {
            self.fault("runner.tags", format!("more than {MAX_RULES} tags"), "name fewer tags");
        }
        match &document.timeout {
            Some(Timeout::Fixed(span)) => self.span("timeout", *span, LONGEST_JOB),
            Some(Timeout::Expression(expression)) => {
                self.references("timeout", expression.references(), View::Trigger);
            }
            None => {}
        }
    }

    fn concurrency(&mut self) {
        let document = self.document;
        if let Some(concurrency) = &document.concurrency {
            let mut number = |key: &str, value: u32, most: u32| {
                if !(1..=most).contains(&value) {
                    let message = format!("{value}; it is at least 1 and at most {most}");
                    self.fault(
                        format!("concurrency.{key}"),
                        message,
                        format!("write a number from 1 to {most}"),
                    );
                }
            };
            number("limit", concurrency.limit, Concurrency::MOST);
            if let Some(most) = concurrency.most_queued {
                number("most_queued", most, Concurrency::MOST_QUEUED);
            }
            if let Some(expires) = concurrency.expires {
                self.span("concurrency.expires", expires, LONGEST_JOB);
            }
            let idle = [
                ("most_queued", concurrency.most_queued.is_some()),
                ("expires", concurrency.expires.is_some()),
            ];
            for (key, _) in idle.into_iter().filter(|(_, there)| *there) {
                if concurrency.when_full == WhenFull::Refuse {
                    self.fault(
                        format!("concurrency.{key}"),
                        format!("`{key}` goes with `when_full: queue`: nothing waits here"),
                        "remove it",
                    );
                }
            }
        }
        if let Some(retry) = &document.retry {
            let effect = document.steps.iter().filter_map(|step| match &step.action {
                Action::Gate(_) | Action::Halt(_) => None,
                Action::Component(_) | Action::Job(_) => Some(step.effect()),
            });
            self.retry("retry", retry, effect.max().unwrap_or(Effect::Pure));
        }
    }

    fn log_limit(&mut self) {
        let Some(limit) = self.document.log_limit else { return };
        let (key, found, least, most) = match limit.most {
            LogMost::Lines(lines) => ("lines", lines, 1, LogLimit::MOST_LINES),
            LogMost::LinesPerNode(lines) => ("lines_per_node", lines, 1, LogLimit::MOST_LINES),
            LogMost::Bytes(size) => {
                let (least, most) = (LogLimit::LEAST_BYTES, LogLimit::MOST_BYTES);
                ("bytes", size.bytes(), least.bytes(), most.bytes())
            }
        };
        if !(least..=most).contains(&found) {
            let shown = |number: u64| match key {
                "bytes" => Size::from_bytes(number).to_string(),
                _ => number.to_string(),
            };
            let (found, least, most) = (shown(found), shown(least), shown(most));
            self.fault(
                format!("log_limit.{key}"),
                format!("{found}; it is at least {least} and at most {most}"),
                format!("write something from {least} to {most}"),
            );
        }
    }

    fn schedules(&mut self) {
        let document = self.document;
        let count = document.schedules.len();
        if count > MAX_SCHEDULES {
            let message = format!("{count} schedules, at most {MAX_SCHEDULES} are allowed");
            self.fault("schedules", message, "split the job, or name several times in one cron expression");
        }
        let mut seen = BTreeSet::new();
        for (at, schedule) in document.schedules.iter().enumerate() {
            let place = format!("schedules[{at}]");
            if !seen.insert(&schedule.name) {
                self.fault(format!("{place}.name"), "this schedule stands twice", "rename one of them");
            }
            if let Missed::All(most) = schedule.missed
                && !(1..=MOST_MISSED).contains(&most)
            {
                let message = format!("{most} is not between 1 and {MOST_MISSED}");
                self.fault(format!("{place}.most"), message, "write `most: 10`");
            }
            let given = schedule.options.iter().map(|(name, value)| (name.to_string(), value.clone()));
            for fault in options::check_ahead(&document.options, &given.collect()) {
                self.faults.push(Fault { place: format!("{place}.{}", fault.place), ..fault });
            }
        }
    }

    fn notify(&mut self) {
        let document = self.document;
        let count = document.notify.len();
        if count > MAX_NOTIFY {
            let message = format!("{count} entries, at most {MAX_NOTIFY} are allowed");
            self.fault("notify", message, "name several occasions in one entry");
        }
        for (at, entry) in document.notify.iter().enumerate() {
            let place = format!("notify[{at}]");
            if entry.when.is_empty() {
                self.fault(format!("{place}.when"), "no occasion is named", "write `when: [failure]`");
            }
            if entry.over.is_some() && !entry.when.contains(&Occasion::Slow) {
                self.fault(format!("{place}.over"), "`over` goes with `when: [slow]` only", "remove it");
            }
            if entry.to == Target::Job(document.job.clone()) {
                let remedy = "name another job";
                self.fault(format!("{place}.job"), "a job does not make itself known through itself", remedy);
            }
        }
    }

    fn description(&mut self, place: &str, text: &str) {
        if text.len() > MAX_DESCRIPTION {
            self.fault(
                place,
                format!("the description has more than {MAX_DESCRIPTION} bytes"),
                "make it shorter",
            );
        }
    }

    fn span(&mut self, place: &str, span: Span, longest: Span) {
        if span.as_millis() == 0 || span > longest {
            self.fault(
                place,
                format!("{span} is not between 1ms and {longest}"),
                format!("write a time up to {longest}"),
            );
        }
    }

    fn options(&mut self) {
        let document = self.document;
        if document.options.len() > MAX_OPTIONS {
            self.fault(
                "options",
                format!("{} options, at most {MAX_OPTIONS} are allowed", document.options.len()),
                "remove some",
            );
        }
        let mut seen = BTreeSet::new();
        for (at, option) in document.options.iter().enumerate() {
            if !seen.insert(&option.name) {
                self.fault(
                    format!("options.{}", option.name),
                    "this option stands twice",
                    "rename one of them",
                );
            }
            self.description(&format!("options.{}.description", option.name), &option.description);
            self.faults.extend(option.faults(&document.options[..at]));
        }
        self.typed();
    }

    /// Secrets that are typed: each arrives at a path of its own that a step uses, and nothing runs the job again unasked.
    fn typed(&mut self) {
        let document = self.document;
        let typed: Vec<_> =
            document.options.iter().filter_map(|option| Some((&option.name, option.kind.typed()?))).collect();
        if typed.len() > MAX_TYPED {
            let message = format!("{} secrets are typed, at most {MAX_TYPED} may be", typed.len());
            self.fault("options", message, "split the job, or let the runner's owner store some of them");
        }
        for (at, (name, path)) in typed.iter().enumerate() {
            let place = format!("options.{name}.typed");
            if typed[..at].iter().any(|(_, other)| other == path) {
                self.fault(&place, format!("{path} is typed twice"), "give each option a path of its own");
            }
            if !document.uses_secret(0..document.steps.len(), path) {
                let remedy = format!("bind it at a step: `secrets: {{ NAME: \"${{options.{name}}}\" }}`");
                self.fault(&place, format!("no step uses {path}"), remedy);
            }
        }
        if let (Some((name, _)), Some(_)) = (typed.first(), &document.retry) {
            let message =
                format!("a job that is tried again is another run, and nobody types {name} for that one");
            self.fault("retry", message, "use `retry` at the step: it is tried again within the same run");
        }
    }
}
