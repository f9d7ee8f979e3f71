//! Every rule about a document that needs no component: checked when a job is compiled, and again wherever one is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use remit_protocol::{
    Limits, LogLimit, OptionName, SecretName, SecretPath, Size, Span, StepName,
    assignment::Strategy,
    capability::{Effect, Grant, files::FilesGrant},
    endpoint::Fault,
    limits::{MAX_STEPS, MAX_THREADS},
    log_limit::LogMost,
    manifest::Kind,
    notice::Occasion,
    sealed::MAX_TYPED,
};

use crate::{
    document::{
        Action, ComponentAction, Concurrency, Document, Gate, JobAction, Nodes, Per, Retry, RetryOutcome,
        Share, Step, StepLog, Threads, Tiers, Timeout, VERSION, WhenFull,
    },
    expression::{Reference, Root},
    filter::Order,
    nearest::nearest,
    notify::{MAX_NOTIFY, Target},
    options::{self, MAX_OPTIONS, OptionDefinition, OptionType},
    schedule::{MAX_SCHEDULES, MOST_MISSED, Missed},
    sections,
    template::Template,
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

/// From where an expression looks.
#[derive(Clone, Copy)]
enum View {
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

    fn nodes(&mut self) {
        let Some(nodes) = &self.document.nodes else { return };
        let references: Vec<_> = nodes.filter.references().cloned().collect();
        self.references("nodes.filter", &references, View::Trigger);
        match &nodes.threads {
            Threads::Fixed(threads) if !(1..=MAX_THREADS).contains(threads) => self.fault(
                "nodes.threads",
                format!("{threads} nodes at once; it is at least 1 and at most {MAX_THREADS}"),
                format!("write a number from 1 to {MAX_THREADS}"),
            ),
            Threads::Fixed(_) | Threads::Percent(_) => {}
            Threads::Expression(expression) => {
                self.references("nodes.threads", expression.references(), View::Trigger);
            }
        }
        self.dispatch(nodes);
        if let Some(rank) = &nodes.rank
            && (rank.by.trim().is_empty() || rank.by.len() > 255 || rank.by.chars().any(char::is_control))
        {
            self.fault(
                "nodes.rank.by",
                "this is not the name of an attribute",
                "write an attribute, such as `rack`, or `name`",
            );
        }
    }

    /// Which of the nodes, in which portions, on which runners.
    fn dispatch(&mut self, nodes: &Nodes) {
        let random = nodes.rank.as_ref().is_some_and(|rank| rank.order == Order::Random);
        if random && nodes.rank.as_ref().is_some_and(|rank| rank.by != "name") {
            self.fault(
                "nodes.rank.by",
                "what is ordered by chance is ordered by no attribute",
                "remove `by`",
            );
        }
        if nodes.limit == Some(Share::Count(0)) {
            self.fault(
                "nodes.limit",
                "0 nodes are none",
                "write a number from 1, or a percentage such as \"10%\"",
            );
        }
        match &nodes.tiers {
            None if nodes.max_failures.is_some() => self.fault(
                "nodes.max_failures",
                "it decides whether another tier is begun, and there are none",
                "add `tiers: [1, \"10%\", rest]`, or remove it",
            ),
            Some(Tiers::Sizes(sizes)) => {
                if sizes.is_empty() || sizes.len() >= Tiers::MOST || sizes.contains(&Share::Count(0)) {
                    self.fault(
                        "nodes.tiers",
                        format!("there are 2 to {} tiers with a node or more in each", Tiers::MOST),
                        "write sizes, such as `[1, \"10%\", rest]`: the rest is the last tier",
                    );
                }
            }
            Some(Tiers::Rank) if random || nodes.rank.is_none() => self.fault(
                "nodes.tiers",
                "tiers by rank are nodes with the same value of an attribute, and none ranks them",
                "add `rank: { by: rack }`",
            ),
            Some(Tiers::Rank) | None => {}
        }
        if nodes.spread && !nodes.keep_going {
            self.fault(
                "nodes.spread",
                "one runner does not see that a node failed on another, and would go on",
                "add `keep_going: true`; to stop early, add `tiers`",
            );
        }
        let rows = self.document.steps.windows(2).any(sections::together);
        if nodes.spread && self.document.strategy == Strategy::StepFirst && rows {
            self.fault(
                "nodes.spread",
                "`strategy: step-first` wants each step to end on all nodes first, and runners do not wait for one another",
                "use `node-first`, or put a step that is run once between the steps",
            );
        }
    }

    fn steps(&mut self) {
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
    fn text(&mut self, place: &str, text: &Template, view: View) {
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

    fn input(&mut self, place: &str, with: &Template, view: View) {
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

    fn retry(&mut self, place: &str, retry: &Retry, effect: Effect) {
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

    fn component(&mut self, place: &str, component: &ComponentAction, view: View) {
        if component.kind != Kind::Step && !self.document.is_discovery() {
            self.fault(
                format!("{place}.uses"),
                format!("{} is a node source, not a step", component.name),
                "use a step here",
            );
        }
        self.input(&format!("{place}.with"), &component.with, view);
        if component.effect != component.grant.effect(component.effect) {
            self.fault(
                format!("{place}.effect"),
                "the retry class is lower than what the grant allows",
                "compile the job again",
            );
        }
        if component.limits != component.limits.least(Limits::MOST).lowered(&component.grant.limits) {
            self.fault(
                format!("{place}.limits"),
                "the limits are above those of the grant, or above the most",
                "compile the job again",
            );
        }
        if let Some((name, wanted, most)) = component.grant.limits.above_most() {
            self.fault(
                format!("{place}.grant.limits.{name}"),
                format!("{wanted} is more than any step may have"),
                format!("write {most} or less"),
            );
        }
        self.rules(place, component);
        self.files(place, component);
        self.secrets(place, component);
    }

    /// A step reads only files that somebody gives.
    fn files(&mut self, place: &str, component: &ComponentAction) {
        for (at, rule) in component.grant.files.iter().enumerate() {
            let FilesGrant::Option(name) = rule else { continue };
            let place = format!("{place}.grant.files[{at}].option");
            match self.document.options.iter().find(|option| option.name == *name) {
                None => self.fault(place, format!("there is no option {name}"), "declare it: `type: file`"),
                Some(option) if !matches!(option.kind, OptionType::File { .. }) => {
                    let message =
                        format!("the option {name} has the type {}, not file", option.kind.as_str());
                    self.fault(place, message, "name an option of `type: file`");
                }
                Some(_) => {}
            }
        }
    }

    fn rules(&mut self, place: &str, component: &ComponentAction) {
        let grant = &component.grant;
        let counts = [
            ("grant.http", grant.http.len()),
            ("grant.exec", grant.exec.len()),
            ("grant.ssh", grant.ssh.len()),
            ("grant.tcp", grant.tcp.len()),
            ("grant.files", grant.files.len()),
            ("grant.reveal", grant.reveal.len()),
            ("secrets", component.secrets.len()),
        ];
        for (part, count) in counts {
            if count > MAX_RULES {
                self.fault(
                    format!("{place}.{part}"),
                    format!("{count} entries, at most {MAX_RULES} are allowed"),
                    "remove some",
                );
            }
        }
    }

    fn secrets(&mut self, place: &str, component: &ComponentAction) {
        let used = used_secrets(&component.grant);
        for (name, part) in &used {
            if !component.secrets.contains_key(name) {
                self.fault(
                    format!("{place}.{part}"),
                    format!("the rule uses the secret `{name}`, and the step binds none of that name"),
                    format!("add `secrets: {{ {name}: keys/… }}` to the step"),
                );
            }
        }
        for (name, option) in &component.chosen {
            let place = format!("{place}.secrets.{name}");
            let paths = component.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
            if let Err((message, remedy)) = self.chooses(option, paths) {
                self.fault(place, message, remedy);
            }
        }
        for (name, paths) in &component.secrets {
            let place = format!("{place}.secrets.{name}");
            let chosen = component.chosen.contains_key(name);
            if !used.contains_key(name) {
                let names = used.keys().map(|name| name.as_str());
                let remedy = match nearest(name.as_str(), names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "remove it, or name it in a rule of the grant".to_owned(),
                };
                self.fault(&place, format!("no rule of the step's grant uses the secret `{name}`"), remedy);
            }
            let several = component
                .grant
                .ssh
                .iter()
                .any(|rule| rule.secret.as_ref().is_some_and(|secret| secret.name == *name));
            if paths.is_empty() && chosen {
                // That its option does not fit has been said.
            } else if paths.is_empty() {
                self.fault(&place, "no path is given", "write a path such as keys/prod/token");
            } else if paths.len() > 1 && !several && !chosen {
                self.fault(
                    &place,
                    "several paths are given, but only ssh can choose among them",
                    "write one path",
                );
            } else if paths.len() > MAX_RULES || (1..paths.len()).any(|at| paths[..at].contains(&paths[at])) {
                self.fault(
                    &place,
                    format!("a path stands twice, or there are more than {MAX_RULES}"),
                    "list each path once",
                );
            }
        }
    }

    /// An option that chooses a secret: it is there, always has a value, and offers just the listed paths.
    fn chooses(&self, option: &OptionName, paths: &[SecretPath]) -> Result<(), (String, String)> {
        let known = |other: &&OptionDefinition| other.name == *option;
        let Some(definition) = self.document.options.iter().find(known) else {
            return Err((
                format!("`options.{option}` is not an option of this job"),
                format!("declare it: `options: {{ {option}: {{ type: secret, values: [keys/…] }} }}`"),
            ));
        };
        let values = match &definition.kind {
            OptionType::Secret { values } => values.as_slice(),
            OptionType::Typed { path } => std::slice::from_ref(path),
            _ => {
                return Err((
                    format!("the option `{option}` is of the type {}", definition.kind.as_str()),
                    "a secret's path can only be chosen by an option of the type `secret`".to_owned(),
                ));
            }
        };
        if values != paths {
            return Err((
                format!("the paths are not those of the option `{option}`"),
                "compile the job again".to_owned(),
            ));
        }
        if !definition.required && definition.default.is_none() {
            return Err((
                format!("the option `{option}` may be left out, and then there is no path"),
                match definition.kind.typed() {
                    Some(_) => "add `required: true` to the option".to_owned(),
                    None => "add `required: true` or a `default` to the option".to_owned(),
                },
            ));
        }
        Ok(())
    }

    fn references(&mut self, place: &str, references: &[Reference], view: View) {
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

/// The secrets that a grant's rules use, each with the place of a rule that does.
pub(crate) fn used_secrets(grant: &Grant) -> BTreeMap<SecretName, String> {
    let http = grant.http.iter().enumerate();
    let http =
        http.filter_map(|(at, rule)| Some((rule.secret.as_ref()?.name.clone(), format!("grant.http[{at}]"))));
    let exec = grant.exec.iter().enumerate();
    let exec =
        exec.filter_map(|(at, rule)| Some((rule.secret.as_ref()?.name.clone(), format!("grant.exec[{at}]"))));
    let ssh = grant.ssh.iter().enumerate();
    let ssh =
        ssh.filter_map(|(at, rule)| Some((rule.secret.as_ref()?.name.clone(), format!("grant.ssh[{at}]"))));
    let tcp = grant.tcp.iter().enumerate();
    let tcp =
        tcp.filter_map(|(at, rule)| Some((rule.secret.as_ref()?.name.clone(), format!("grant.tcp[{at}]"))));
    let reveal = grant.reveal.iter().enumerate();
    let reveal = reveal.map(|(at, rule)| (rule.name.clone(), format!("grant.reveal[{at}]")));
    http.chain(exec).chain(ssh).chain(tcp).chain(reveal).collect()
}
