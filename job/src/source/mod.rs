//! What people write: a job as YAML, read to the end so that every mistake is reported with line, column and remedy.
//!
//! [`JobSource`] holds parsed values only, and remembers where in the file each of them stands, so that a fault that is
//! found later (by compile) still says where. Unknown and duplicate keys are faults; nothing is guessed.

mod grant;
mod notify;
mod options;
mod reader;
mod schedules;
mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use remit_protocol::{
    ComponentSelector, JobName, LogLimit, OptionName, SecretName, SecretPath, Span, StepName,
    assignment::Strategy,
    endpoint::Fault,
    limits::{LimitsPart, MAX_JOB},
    log_limit::{AtLimit, LogHalt, LogMost},
};

pub use grant::{GrantSource, HttpRule};

use crate::{
    document::{
        Concurrency, Gate, Halt, JobAction, Nodes, OnEmpty, Per, Retry, RunnerSelection, StepLog, Tiers,
        Timeout, When, WhenFull,
    },
    expression::Expression,
    notify::Notify,
    options::{OptionDefinition, OptionType},
    schedule::Schedule,
    template::Template,
    yaml::{self, Mark, Node, Tree},
};
use reader::Reader;

/// A job file, read.
#[derive(Debug, Clone)]
pub struct JobSource {
    /// The job's name.
    pub job: JobName,
    /// Where lists show it.
    pub group: String,
    /// What it is for.
    pub description: String,
    /// Which runners may run it.
    pub runner: RunnerSelection,
    /// What is asked when it is run.
    pub options: Vec<OptionDefinition>,
    /// On which nodes its node steps run.
    pub nodes: Option<Nodes>,
    /// In which order node steps are run.
    pub strategy: Strategy,
    /// How long an execution may take.
    pub timeout: Option<Timeout>,
    /// How many executions of it go on at once.
    pub concurrency: Option<Concurrency>,
    /// How much log an execution keeps.
    pub log_limit: Option<LogLimit>,
    /// Whether another execution follows one that ended badly.
    pub retry: Option<Retry>,
    /// At which times it is run without being asked.
    pub schedules: Vec<Schedule>,
    /// What of its executions is made known, and to whom.
    pub notify: Vec<Notify>,
    /// What is done.
    pub steps: Vec<StepSource>,
    locations: Locations,
}

/// A step, read: still without component and grant.
#[derive(Debug, Clone)]
pub struct StepSource {
    /// Its name.
    pub name: StepName,
    /// Once, or per node.
    pub per: Per,
    /// When it is run.
    pub when: When,
    /// How long one run may take.
    pub timeout: Option<Span>,
    /// Whether it is tried again.
    pub retry: Option<Retry>,
    /// Which steps stand beside it.
    pub group: Option<u32>,
    /// The list for each item of which it is run.
    pub for_each: Option<Expression>,
    /// What becomes of the lines that it writes.
    pub log: StepLog,
    /// What is done when it has failed, and whether that makes it good.
    pub on_error: Option<(ComponentSource, bool)>,
    /// What it does.
    pub does: Does,
}

/// What a step does, as it is written.
#[derive(Debug, Clone)]
pub enum Does {
    /// `uses`.
    Component(Box<ComponentSource>),
    /// `approve`.
    Gate(Gate),
    /// `halt`.
    Halt(Halt),
    /// `job`.
    Job(Box<JobAction>),
}

/// A component as a step or an error handler uses it.
#[derive(Debug, Clone)]
pub struct ComponentSource {
    /// Which component.
    pub uses: ComponentSelector,
    /// Its input.
    pub with: Template,
    /// Its secrets.
    pub secrets: BTreeMap<SecretName, Vec<SecretPath>>,
    /// The secrets of which the value of an option chooses the path; the paths above are then those of the option.
    pub chosen: BTreeMap<SecretName, OptionName>,
    /// What it may do; absent: what the component requests.
    pub grant: Option<GrantSource>,
    /// Limits below those of the component.
    pub limits: LimitsPart,
}

impl StepSource {
    /// The components that it names, each with its place in the file.
    pub fn components(&self) -> impl Iterator<Item = (String, &ComponentSource)> {
        let own = match &self.does {
            Does::Component(component) => Some((format!("steps.{}", self.name), component.as_ref())),
            Does::Gate(_) | Does::Halt(_) | Does::Job(_) => None,
        };
        let handler = self.on_error.as_ref();
        own.into_iter().chain(handler.map(|(handler, _)| (format!("steps.{}.on_error", self.name), handler)))
    }

    fn components_mut(&mut self) -> impl Iterator<Item = &mut ComponentSource> {
        let own = match &mut self.does {
            Does::Component(component) => Some(component.as_mut()),
            Does::Gate(_) | Does::Halt(_) | Does::Job(_) => None,
        };
        own.into_iter().chain(self.on_error.as_mut().map(|(handler, _)| handler))
    }
}

impl JobSource {
    /// Reads a job file, or says everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let tree = yaml::parse(text)?;
        let locations = Locations::of(&tree);
        let mut reader = Reader::default();
        let source = job(&mut reader, &tree, &locations);
        let mut faults = reader.faults;
        for fault in &mut faults {
            locations.place(fault);
        }
        faults.sort_by_key(|fault| (fault.line, fault.column));
        match source {
            Some(source) if faults.is_empty() => Ok(source),
            _ => Err(faults),
        }
    }

    /// Reads the bytes of a job file.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Vec<Fault>> {
        let fault =
            |message: String, remedy: &str| vec![Mark { line: 1, column: 1 }.fault("file", message, remedy)];
        if bytes.len() > MAX_JOB {
            let message = format!("{} bytes of YAML, at most {MAX_JOB} are allowed", bytes.len());
            return Err(fault(message, "split the job into several"));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| fault(format!("the file is not UTF-8: {error}"), "save it as UTF-8"))?;
        Self::parse(text)
    }

    /// Adds line and column to a fault that has only a place.
    pub fn locate(&self, fault: &mut Fault) {
        self.locations.place(fault);
    }
}

/// Where each place of a file stands.
#[derive(Debug, Clone, Default)]
struct Locations(HashMap<String, Mark>);

impl Locations {
    fn of(tree: &Node) -> Self {
        let mut locations = Self::default();
        locations.add(tree, "");
        locations
    }

    fn add(&mut self, node: &Node, place: &str) {
        match &node.value {
            Tree::Scalar(_) => {}
            Tree::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    let steps =
                        place == "steps" || (place.starts_with("steps[") && place.ends_with("].parallel"));
                    let inner = if steps { step_place(place, items, at) } else { format!("{place}[{at}]") };
                    self.0.insert(inner.clone(), item.mark);
                    self.add(item, &inner);
                }
            }
            Tree::Map(members) => {
                for member in members {
                    let inner = join(place, &member.key);
                    self.0.insert(inner.clone(), member.mark);
                    self.add(&member.node, &inner);
                }
            }
        }
    }

    /// The nearest place that is known: a fault about something absent points to what should hold it.
    fn place(&self, fault: &mut Fault) {
        if fault.line.is_some() {
            return;
        }
        let mut place = fault.place.as_str();
        loop {
            if let Some(mark) = self.0.get(place) {
                (fault.line, fault.column) = (Some(mark.line), Some(mark.column));
                return;
            }
            match place.rfind(['.', '[']) {
                Some(at) => place = &place[..at],
                None => break,
            }
        }
        (fault.line, fault.column) = (Some(1), Some(1));
    }
}

fn join(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}

/// What a step of the list at `list` is called in faults: by its name, or by its number where the name is missing, wrong or
/// taken.
fn step_place(list: &str, items: &[Node], at: usize) -> String {
    let name = |node: &Node| match &node.value {
        Tree::Map(members) => {
            members.iter().find(|member| member.key == "name").and_then(|member| match &member.node.value {
                Tree::Scalar(serde_json::Value::String(name)) => StepName::new(name.as_str()).ok(),
                _ => None,
            })
        }
        _ => None,
    };
    match items.get(at).and_then(name) {
        Some(own) if !items[..at].iter().any(|item| name(item).as_ref() == Some(&own)) => {
            format!("steps.{own}")
        }
        _ => format!("{list}[{at}]"),
    }
}

fn job(reader: &mut Reader, tree: &Node, locations: &Locations) -> Option<JobSource> {
    const KEYS: &[&str] = &[
        "job",
        "group",
        "description",
        "runner",
        "options",
        "nodes",
        "strategy",
        "timeout",
        "concurrency",
        "log_limit",
        "retry",
        "schedules",
        "notify",
        "steps",
    ];
    let fields = reader.map(tree, "", KEYS)?;
    let job = reader
        .required(&fields, "job", "write `job: restart_web`")
        .and_then(|node| reader.text_as(node, "job"));
    let group = fields.get("group").and_then(|node| reader.text(node, "group")).unwrap_or_default();
    let description =
        fields.get("description").and_then(|node| reader.text(node, "description")).unwrap_or_default();
    let runner = fields.get("runner").and_then(|node| runner(reader, node)).unwrap_or_default();
    let options = fields.get("options").map(|node| options::read(reader, node)).unwrap_or_default();
    let nodes = fields.get("nodes").and_then(|node| nodes(reader, node));
    let strategy = fields.get("strategy").and_then(|node| {
        const WORDS: &[(&str, Strategy)] = &[
            ("node-first", Strategy::NodeFirst),
            ("step-first", Strategy::StepFirst),
            ("parallel", Strategy::Parallel),
        ];
        reader.word(node, "strategy", WORDS)
    });
    let timeout = fields.get("timeout").and_then(|node| reader.text_as::<Timeout>(node, "timeout"));
    let concurrency = fields.get("concurrency").and_then(|node| concurrency(reader, node));
    let log_limit = fields.get("log_limit").and_then(|node| log_limit(reader, node));
    let retry = fields.get("retry").and_then(|node| steps::retry(reader, node, "retry"));
    let schedules = fields.get("schedules").map(|node| schedules::read(reader, node)).unwrap_or_default();
    let notify = fields.get("notify").map(|node| notify::read(reader, node)).unwrap_or_default();
    let mut steps = reader
        .required(&fields, "steps", "write `steps:` and below it `- name: …` and `  uses: …`")
        .map(|node| steps::read(reader, node))
        .unwrap_or_default();
    fill_chosen(&mut steps, &options);
    Some(JobSource {
        job: job?,
        group,
        description,
        runner,
        options,
        nodes,
        strategy: strategy.unwrap_or_default(),
        timeout,
        concurrency,
        log_limit,
        retry,
        schedules,
        notify,
        steps,
        locations: locations.clone(),
    })
}

/// Gives a secret that an option chooses the paths of that option.
fn fill_chosen(steps: &mut [StepSource], options: &[OptionDefinition]) {
    for component in steps.iter_mut().flat_map(StepSource::components_mut) {
        for (name, chosen) in &component.chosen {
            let option = options.iter().find(|option| option.name == *chosen);
            if let (Some(OptionType::Secret { values }), Some(paths)) =
                (option.map(|option| &option.kind), component.secrets.get_mut(name))
            {
                paths.clone_from(values);
            }
        }
    }
}

fn runner(reader: &mut Reader, node: &Node) -> Option<RunnerSelection> {
    let fields = reader.map(node, "runner", &["tags", "override"])?;
    let tags = fields.get("tags").map(|node| reader.list_of(node, "runner.tags")).unwrap_or_default();
    let may_override = fields.get("override").and_then(|node| reader.boolean(node, "runner.override"));
    let count = tags.len();
    let tags: BTreeSet<_> = tags.into_iter().collect();
    if tags.len() < count {
        reader.fault("runner.tags", "a tag stands twice", "remove one of them");
    }
    Some(RunnerSelection { tags, may_override: may_override.unwrap_or_default() })
}

/// `concurrency: 1`, or a map.
fn concurrency(reader: &mut Reader, node: &Node) -> Option<Concurrency> {
    const PLACE: &str = "concurrency";
    let plain = |limit| Concurrency { limit, when_full: WhenFull::Queue, most_queued: None, expires: None };
    if matches!(node.value, Tree::Scalar(_)) {
        return reader.count(node, PLACE).map(plain);
    }
    let fields = reader.map(node, PLACE, &["limit", "when_full", "most_queued", "expires"])?;
    let limit = reader
        .required(&fields, "limit", "write `limit: 1`: how many go on at once")
        .and_then(|node| reader.count(node, "concurrency.limit"));
    let when_full = fields.get("when_full").and_then(|node| {
        let words = &[("queue", WhenFull::Queue), ("refuse", WhenFull::Refuse)];
        reader.word(node, "concurrency.when_full", words)
    });
    let most_queued =
        fields.get("most_queued").and_then(|node| reader.count(node, "concurrency.most_queued"));
    let expires = fields.get("expires").and_then(|node| reader.text_as::<Span>(node, "concurrency.expires"));
    Some(Concurrency { when_full: when_full.unwrap_or_default(), most_queued, expires, ..plain(limit?) })
}

/// One of the three measures, and what happens once there is more.
fn log_limit(reader: &mut Reader, node: &Node) -> Option<LogLimit> {
    const PLACE: &str = "log_limit";
    let fields = reader.map(node, PLACE, &["lines", "bytes", "lines_per_node", "at_limit", "outcome"])?;
    let mut lines = |key: &str| {
        let node = fields.get(key)?;
        let place = format!("{PLACE}.{key}");
        let number = reader.integer(node, &place)?;
        let lines = u64::try_from(number).ok();
        if lines.is_none() {
            reader.fault(&place, format!("{number} lines are none"), "write a number from 1");
        }
        lines
    };
    let measures = [
        lines("lines").map(LogMost::Lines),
        lines("lines_per_node").map(LogMost::LinesPerNode),
        fields.get("bytes").and_then(|node| reader.text_as(node, "log_limit.bytes")).map(LogMost::Bytes),
    ];
    let written = ["lines", "lines_per_node", "bytes"].iter().filter(|key| fields.get(key).is_some()).count();
    if written != 1 {
        let message = format!("{written} of `lines`, `bytes` and `lines_per_node` are given");
        reader.fault(PLACE, message, "write one of them, such as `lines: 5000` or `bytes: 10MiB`");
    }
    let outcome = fields.get("outcome").and_then(|node| {
        let words = &[
            ("over-limit", LogHalt::OverLimit),
            ("failed", LogHalt::Failed),
            ("cancelled", LogHalt::Cancelled),
        ];
        reader.word(node, "log_limit.outcome", words)
    });
    let halt = AtLimit::Halt(outcome.unwrap_or_default());
    let at_limit = fields
        .get("at_limit")
        .and_then(|node| {
            reader.word(node, "log_limit.at_limit", &[("halt", halt), ("truncate", AtLimit::Truncate)])
        })
        .unwrap_or(halt);
    if at_limit == AtLimit::Truncate && outcome.is_some() {
        let message = "`outcome` goes with `at_limit: halt`: the execution goes on here";
        reader.fault("log_limit.outcome", message, "remove it");
    }
    let most = measures.into_iter().flatten().next()?;
    Some(LogLimit { most, at_limit })
}

fn nodes(reader: &mut Reader, node: &Node) -> Option<Nodes> {
    const KEYS: &[&str] =
        &["filter", "threads", "keep_going", "rank", "limit", "tiers", "max_failures", "on_empty", "spread"];
    let fields = reader.map(node, "nodes", KEYS)?;
    let filter = reader
        .required(&fields, "filter", "write `filter: \"tags: web\"`; `.*` means all nodes")
        .and_then(|node| reader.text_as(node, "nodes.filter"));
    let threads = fields.get("threads").and_then(|node| reader.threads(node, "nodes.threads"));
    let keep_going = fields.get("keep_going").and_then(|node| reader.boolean(node, "nodes.keep_going"));
    let rank = fields.get("rank").and_then(|node| {
        use crate::filter::{Order, Rank};
        let fields = reader.map(node, "nodes.rank", &["by", "order"])?;
        let order = fields.get("order").and_then(|node| {
            let words = &[
                ("ascending", Order::Ascending),
                ("descending", Order::Descending),
                ("random", Order::Random),
            ];
            reader.word(node, "nodes.rank.order", words)
        });
        let by = match (fields.get("by"), order) {
            (None, Some(Order::Random)) => Some("name".to_owned()),
            _ => reader
                .required(&fields, "by", "write `by: rack`")
                .and_then(|node| reader.text(node, "nodes.rank.by")),
        };
        Some(Rank { by: by?, order: order.unwrap_or_default() })
    });
    let limit = fields.get("limit").and_then(|node| reader.share(node, "nodes.limit"));
    let tiers = fields.get("tiers").and_then(|node| tiers(reader, node));
    let max_failures = fields.get("max_failures").and_then(|node| reader.share(node, "nodes.max_failures"));
    let on_empty = fields.get("on_empty").and_then(|node| {
        let words = &[("succeed", OnEmpty::Succeed), ("fail", OnEmpty::Fail)];
        reader.word(node, "nodes.on_empty", words)
    });
    let spread = fields.get("spread").and_then(|node| reader.boolean(node, "nodes.spread"));
    Some(Nodes {
        filter: filter?,
        threads: threads.unwrap_or(crate::document::Threads::Fixed(1)),
        keep_going: keep_going.unwrap_or_default(),
        rank,
        limit,
        tiers,
        max_failures,
        on_empty: on_empty.unwrap_or_default(),
        spread: spread.unwrap_or_default(),
    })
}

/// `tiers: rank`, or a list of sizes that may end with `rest`.
fn tiers(reader: &mut Reader, node: &Node) -> Option<Tiers> {
    const PLACE: &str = "nodes.tiers";
    if matches!(node.value, Tree::Scalar(_)) {
        return reader.word(node, PLACE, &[("rank", ())]).map(|()| Tiers::Rank);
    }
    let items = reader.list(node, PLACE);
    let is_rest =
        |item: &Node| matches!(&item.value, Tree::Scalar(serde_json::Value::String(word)) if word == "rest");
    let sizes = match items.split_last() {
        Some((last, before)) if is_rest(last) => before,
        _ => items,
    };
    let mut shares = Vec::with_capacity(sizes.len());
    for (at, item) in sizes.iter().enumerate() {
        shares.push(reader.share(item, &format!("{PLACE}[{at}]"))?);
    }
    Some(Tiers::Sizes(shares))
}
