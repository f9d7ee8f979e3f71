//! What people write: a job as YAML, read to the end so that every mistake is reported with line, column and remedy.
//!
//! [`JobSource`] holds parsed values only, and remembers where in the file each of them stands, so that a fault that is
//! found later (by compile) still says where. Unknown and duplicate keys are faults; nothing is guessed.

mod bounds;
mod grant;
mod locations;
mod nodes;
mod notify;
mod options;
mod reader;
mod schedules;
mod steps;

use std::collections::BTreeMap;

use remit_protocol::{
    ComponentSelector, JobName, LogLimit, OptionName, SecretName, SecretPath, Span, StepName,
    assignment::Strategy,
    endpoint::Fault,
    limits::{LimitsPart, MAX_JOB},
};

pub use grant::{GrantSource, HttpRule};

use crate::{
    document::{
        Concurrency, Gate, Halt, JobAction, Nodes, Per, Retry, RunnerSelection, StepLog, Timeout, When,
    },
    expression::Expression,
    notify::Notify,
    options::{OptionDefinition, OptionType},
    schedule::Schedule,
    template::Template,
    yaml::{self, Mark, Node},
};
use locations::Locations;
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
    let runner = fields.get("runner").and_then(|node| bounds::runner(reader, node)).unwrap_or_default();
    let options = fields.get("options").map(|node| options::read(reader, node)).unwrap_or_default();
    let nodes = fields.get("nodes").and_then(|node| nodes::read(reader, node));
    let strategy = fields.get("strategy").and_then(|node| {
        const WORDS: &[(&str, Strategy)] = &[
            ("node-first", Strategy::NodeFirst),
            ("step-first", Strategy::StepFirst),
            ("parallel", Strategy::Parallel),
        ];
        reader.word(node, "strategy", WORDS)
    });
    let timeout = fields.get("timeout").and_then(|node| reader.text_as::<Timeout>(node, "timeout"));
    let concurrency = fields.get("concurrency").and_then(|node| bounds::concurrency(reader, node));
    let log_limit = fields.get("log_limit").and_then(|node| bounds::log_limit(reader, node));
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
            match (option.map(|option| &option.kind), component.secrets.get_mut(name)) {
                (Some(OptionType::Secret { values }), Some(paths)) => paths.clone_from(values),
                (Some(OptionType::Typed { path }), Some(paths)) => *paths = vec![path.clone()],
                _ => {}
            }
        }
    }
}
