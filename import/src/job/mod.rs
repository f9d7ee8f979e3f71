//! One job of a file.

mod nodes;
pub(crate) mod xml;

use std::collections::{BTreeSet, HashMap};

use remit_job::{
    document::{Concurrency, Retry},
    source::JobSource,
};
use remit_protocol::{Tag, endpoint::Fault};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    command::{self, Options},
    log, notification, option, schedule, step,
    write::{self, Tree, map},
    yaml::{text, truthy},
};

/// How much of the meaning is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is there, and means something slightly different.
    Differs,
    /// It is not there.
    Lost,
    /// A step that fails when it is run stands for it.
    Placeholder,
}

/// One place where the meaning is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// How much is kept.
    pub kind: Kind,
    /// Where in the job, such as `options.env` or `steps[2]`.
    pub place: String,
    /// What differs, and what to do.
    pub message: String,
}

/// What became of one job of the file.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    /// Its number in the file, from 1.
    pub entry: usize,
    /// Its name in the file, with its group.
    pub was: String,
    /// Its name here.
    pub name: String,
    /// The job file; nothing if it cannot be imported.
    #[serde(skip)]
    pub source: Option<String>,
    /// Why it cannot be imported.
    pub faults: Vec<Fault>,
    /// Where the meaning is not what it was.
    pub notices: Vec<Notice>,
}

/// The notices of a job.
#[derive(Default)]
pub(crate) struct Report {
    notices: Vec<Notice>,
}

impl Report {
    pub(crate) fn into_notices(self) -> Vec<Notice> {
        self.notices
    }

    pub(crate) fn add(&mut self, kind: Kind, place: &str, message: impl Into<String>) {
        self.notices.push(Notice { kind, place: place.to_owned(), message: message.into() });
    }
}

/// `[a-z][a-z0-9_]*`, at most 60 bytes, as close to `name` as can be.
pub(crate) fn identifier(name: &str) -> String {
    let mut out: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .take(58)
        .collect();
    if !out.starts_with(|c: char| c.is_ascii_lowercase()) {
        out.insert_str(0, "x_");
    }
    out
}

/// A name that no job before had.
fn unused(name: &str, taken: &mut BTreeSet<String>) -> String {
    let base: String = identifier(name).chars().take(50).collect();
    let mut found = base.clone();
    let mut number = 2;
    while !taken.insert(found.clone()) {
        found = format!("{base}_{number}");
        number += 1;
    }
    found
}

/// A job that others may refer to.
pub(crate) struct Target {
    /// Its name here.
    pub(crate) name: String,
    /// What it asks.
    pub(crate) asked: option::Asked,
    /// It is for nodes.
    pub(crate) on_nodes: bool,
}

/// What the jobs of a file are called here.
#[derive(Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
    targets: Vec<Target>,
    /// By group and name, and by uuid. What stands twice names none.
    by_path: HashMap<String, Option<usize>>,
    by_uuid: HashMap<String, Option<usize>>,
}

impl Names {
    /// Gives every job a name.
    pub(crate) fn of<'a>(jobs: impl Iterator<Item = &'a Map<String, Value>>) -> Self {
        let mut names = Self::default();
        for (at, job) in jobs.enumerate() {
            let name = unused(&member(job, "name"), &mut names.taken);
            let on_nodes = job.get("nodefilters").is_some_and(nodes::dispatches);
            names.targets.push(Target { name, asked: option::asked(job.get("options")), on_nodes });
            let note = |index: &mut HashMap<String, Option<usize>>, key: String| {
                index.entry(key).and_modify(|known| *known = None).or_insert(Some(at));
            };
            note(&mut names.by_path, path(&member(job, "group"), &member(job, "name")));
            let uuid = member(job, "uuid");
            if !uuid.is_empty() {
                note(&mut names.by_uuid, uuid);
            }
        }
        names
    }

    /// The job here that a reference means.
    pub(crate) fn find(&self, group: &str, name: &str, uuid: &str) -> Option<&Target> {
        let at = match (name.is_empty(), uuid.is_empty()) {
            (true, true) => None,
            (true, false) => self.by_uuid.get(uuid),
            (false, _) => self.by_path.get(&path(group, name)),
        };
        self.targets.get((*at?)?)
    }
}

/// `group/name`.
fn path(group: &str, name: &str) -> String {
    let group = group.trim_matches('/');
    if group.is_empty() { name.to_owned() } else { format!("{group}/{name}") }
}

/// A member as text; empty if there is none.
pub(crate) fn member(map: &Map<String, Value>, key: &str) -> String {
    map.get(key).map(text).unwrap_or_default()
}

/// A job and those that fetch values for its options.
pub(crate) fn import(at: usize, job: &Map<String, Value>, key: &str, names: &mut Names) -> Vec<Imported> {
    let name = names.targets.get(at).map(|target| target.name.clone()).unwrap_or_default();
    let was = path(&member(job, "group"), &member(job, "name"));
    let mut report = Report::default();
    let built = if member(job, "name").is_empty() {
        Err(vec![fault("the job has no name".to_owned())])
    } else {
        Builder { job, name: &name, key, names }.build(&mut report).map_err(|message| vec![fault(message)])
    };
    if name != member(job, "name") {
        report.add(Kind::Differs, "name", format!("the job is named `{name}` here"));
    }
    let entry = at + 1;
    let mut made = Vec::new();
    let (tree, fetched) = match built {
        Ok((tree, fetched)) => (Ok(tree), fetched),
        Err(faults) => (Err(faults), Vec::new()),
    };
    for fetched in &fetched {
        let tree = option::fetching(fetched, &name).map_err(|message| vec![fault(message)]);
        let tree = match names.taken.insert(fetched.job.clone()) {
            true => tree,
            false => Err(vec![fault(format!("there is another job named `{}`", fetched.job))]),
        };
        let was = format!("{was}, values of {}", fetched.option);
        made.push(Imported::of(entry, was, fetched.job.clone(), tree, Vec::new()));
    }
    made.insert(0, Imported::of(entry, was, name, tree, report.notices));
    made
}

fn fault(message: String) -> Fault {
    Fault {
        line: None,
        column: None,
        place: "job".to_owned(),
        message,
        remedy: "change it in Rundeck or in the file, and import it again".to_owned(),
    }
}

impl Imported {
    /// What was made, if our own reader takes it.
    fn of(
        entry: usize,
        was: String,
        name: String,
        tree: Result<Tree, Vec<Fault>>,
        notices: Vec<Notice>,
    ) -> Self {
        let source = tree.and_then(|tree| {
            let source = write::text(&tree);
            JobSource::parse(&source).map(|_| source)
        });
        let (source, faults) = match source {
            Ok(source) => (Some(source), Vec::new()),
            Err(faults) => (None, faults),
        };
        Self { entry, was, name, source, faults, notices }
    }
}

/// One job while it is built.
struct Builder<'a> {
    job: &'a Map<String, Value>,
    name: &'a str,
    key: &'a str,
    names: &'a Names,
}

impl<'a> Builder<'a> {
    fn field(&self, key: &str) -> Option<&'a Value> {
        self.job.get(key).filter(|value| !value.is_null())
    }

    fn build(&self, report: &mut Report) -> Result<(Tree, Vec<option::Fetched>), String> {
        let mut members = vec![("job".to_owned(), Tree::from(self.name))];
        let mut add = |key: &str, tree: Tree| members.push((key.to_owned(), tree));
        for key in ["group", "description"] {
            let value = member(self.job, key);
            let value = if key == "group" { value.trim_matches('/').to_owned() } else { value };
            if !value.is_empty() {
                add(key, value.into());
            }
        }
        if let Some(runner) = runner(self.job, report)? {
            add("runner", runner);
        }
        let option::Found { trees, known, fetched } =
            option::import(self.field("options"), self.name, report)?;
        if !trees.is_empty() {
            add("options", Tree::Map(trees));
        }
        let nodes = self
            .field("nodefilters")
            .map(|filters| nodes::import(filters, self.field("orchestrator"), &known, report));
        let nodes = nodes.transpose()?.flatten();
        let on_nodes = nodes.is_some();
        if let Some(nodes) = nodes {
            add("nodes", nodes);
        }
        let sequence =
            self.field("sequence").and_then(Value::as_object).ok_or("the job has no `sequence`")?;
        add("strategy", strategy(sequence)?.into());
        if let Some(timeout) = timeout(&member(self.job, "timeout"), &known, report)? {
            add("timeout", timeout.into());
        }
        if let Some(concurrency) = concurrency(self.job) {
            add("concurrency", concurrency);
        }
        if let Some(limit) = log::limit(self.job, report)? {
            add("log_limit", limit);
        }
        if let Some(retry) = self.field("retry").and_then(|written| retry(written, report)) {
            add("retry", retry);
        }
        if let Some(schedules) = schedule::import(self.job, report) {
            add("schedules", schedules);
        }
        if let Some(notify) = notification::import(self.job, report) {
            add("notify", notify);
        }
        lost(self.job, report);
        let filters = log::Filters::read(sequence.get("pluginConfig"), "sequence.pluginConfig", report);
        let keep_going = sequence.get("keepgoing").is_some_and(truthy);
        let (key, names) = (self.key, self.names);
        let context = step::Job { options: &known, on_nodes, key, names, filters, keep_going };
        add("steps", steps(sequence, context, report)?);
        Ok((Tree::Map(members), fetched))
    }
}

fn strategy(sequence: &Map<String, Value>) -> Result<&'static str, String> {
    match member(sequence, "strategy").as_str() {
        "" | "node-first" => Ok("node-first"),
        "sequential" | "step-first" => Ok("step-first"),
        "parallel" => Ok("parallel"),
        other => {
            Err(format!("the strategy {other:?} has no counterpart; use node-first, sequential or parallel"))
        }
    }
}

/// A duration, or the option that holds one.
fn timeout(written: &str, options: &Options, report: &mut Report) -> Result<Option<String>, String> {
    if written.is_empty() {
        return Ok(None);
    }
    if let Some(reference) = written.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        report.add(
            Kind::Differs,
            "timeout",
            "the option has to hold a duration with a unit, such as 90s or 5m",
        );
        return command::expression(reference, options).map(Some);
    }
    match seconds(written) {
        Some(seconds) if seconds > 0 => Ok(Some(format!("{seconds}s"))),
        _ => Err(format!("the timeout {written:?} comes to nothing in Rundeck; write 90s, 5m or 2h")),
    }
}

/// One at a time unless the job says otherwise; one more is refused.
fn concurrency(job: &Map<String, Value>) -> Option<Tree> {
    let most = member(job, "maxMultipleExecutions").trim().parse::<u32>().unwrap_or(0);
    let limit = match (job.get("multipleExecutions").is_some_and(truthy), most) {
        (false, _) => 1,
        (true, 0) => return None,
        (true, most) => most.min(Concurrency::MOST),
    };
    Some(map([("limit", Tree::Scalar(limit.into())), ("when_full", "refuse".into())]))
}

/// A number of retries, alone or with the time between them.
fn retry(written: &Value, report: &mut Report) -> Option<Tree> {
    let parts = written.as_object();
    let number = text(parts.and_then(|parts| parts.get("retry")).unwrap_or(written));
    let delay = parts.map(|parts| member(parts, "delay")).filter(|delay| !delay.is_empty());
    let Ok(number) = number.trim().parse::<u32>() else {
        if !number.trim().is_empty() {
            report.add(Kind::Lost, "retry", "a number of retries that an option gives: write a number");
        }
        return None;
    };
    if number == 0 {
        return None;
    }
    let attempts = number.saturating_add(1).min(Retry::MOST);
    let mut members = vec![("attempts".to_owned(), Tree::Scalar(attempts.into()))];
    match delay.as_deref().map(|delay| (delay, seconds(delay))) {
        None => {}
        Some((_, Some(seconds))) => {
            let most = Retry::LONGEST_DELAY.as_millis() / 1000;
            if seconds > most {
                report.add(
                    Kind::Differs,
                    "retry",
                    format!("the time between tries is {most} seconds, the longest there is"),
                );
            }
            members.push(("delay".to_owned(), format!("{}s", seconds.min(most)).into()));
        }
        Some((delay, None)) => {
            report.add(
                Kind::Differs,
                "retry",
                format!("{delay:?} is no duration: tries follow one another at once"),
            );
        }
    }
    Some(Tree::Map(members))
}

fn steps(sequence: &Map<String, Value>, context: step::Job<'_>, report: &mut Report) -> Result<Tree, String> {
    let commands = sequence.get("commands").and_then(Value::as_array).filter(|list| !list.is_empty());
    if context.keep_going {
        report.add(Kind::Differs, "sequence.keepgoing", "steps after a failure run by `when: always`");
    }
    let mut steps = step::Steps::new(context);
    for (at, command) in commands.ok_or("the job has no steps")?.iter().enumerate() {
        let command = command.as_object().ok_or_else(|| format!("step {} is not a map", at + 1))?;
        steps.add(command, &format!("steps[{at}]"), report);
    }
    Ok(steps.into_tree())
}

/// What has no counterpart at the level of the job.
fn lost(job: &Map<String, Value>, report: &mut Report) {
    for (key, message) in [
        ("schedules", "schedules that are defined elsewhere: write them as `schedules` of the job"),
        ("plugins", "plugins of the job"),
    ] {
        if job.get(key).is_some_and(truthy) {
            report.add(Kind::Lost, key, message);
        }
    }
    if job.get("executionEnabled").is_some_and(|value| !value.is_null() && !truthy(value)) {
        report.add(Kind::Differs, "executionEnabled", "the job was switched off; here it can be run");
    }
}

fn runner(job: &Map<String, Value>, report: &mut Report) -> Result<Option<Tree>, String> {
    let Some(selector) = job.get("runnerSelector").and_then(Value::as_object) else { return Ok(None) };
    let mode = text(selector.get("runnerFilterMode").unwrap_or(&Value::Null));
    let filter = text(selector.get("filter").unwrap_or(&Value::Null));
    if mode == "LOCAL" || filter.trim().is_empty() {
        return Ok(None);
    }
    let tags: BTreeSet<String> =
        filter.split(',').map(|tag| tag.trim().to_lowercase()).filter(|tag| !tag.is_empty()).collect();
    if tags.iter().any(|tag| tag.contains("${") || Tag::new(tag.as_str()).is_err()) {
        return Err(format!("runnerSelector.filter {filter:?} is no list of tags; write them out"));
    }
    report.add(
        Kind::Differs,
        "runnerSelector",
        "the runner has to have all of these tags; names of runners do not count",
    );
    Ok(Some(map([("tags", tags.into_iter().map(Tree::from).collect())])))
}

/// A duration as Rundeck adds it up: a term with an unknown unit is dropped.
fn seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..end].parse().ok()?;
        let unit = rest[end..].chars().next();
        let factor = match unit {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            Some('y') => 31_536_000,
            Some(_) => 0,
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[end + unit.map_or(0, char::len_utf8)..];
    }
    Some(total)
}

#[cfg(test)]
mod tests;
