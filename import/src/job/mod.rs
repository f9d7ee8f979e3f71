//! One job of a file.

use std::collections::BTreeSet;

use remit_job::source::JobSource;
use remit_protocol::{Tag, endpoint::Fault};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    command::{self, Options},
    option, step,
    write::{self, Tree, map},
    yaml::{text, truthy},
};

/// How much of the meaning is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

pub(crate) fn import(
    entry: usize,
    job: &Map<String, Value>,
    key: &str,
    taken: &mut BTreeSet<String>,
) -> Imported {
    let was = text(job.get("name").unwrap_or(&Value::Null));
    let group = text(job.get("group").unwrap_or(&Value::Null));
    let name = unused(&was, taken);
    let mut report = Report::default();
    let fault = |message: String| Fault {
        line: None,
        column: None,
        place: "job".to_owned(),
        message,
        remedy: "change it in Rundeck or in the file, and import it again".to_owned(),
    };
    let built = if was.is_empty() {
        Err(vec![fault("the job has no name".to_owned())])
    } else {
        build(job, &name, key, &mut report).map_err(|message| vec![fault(message)]).and_then(|tree| {
            let source = write::text(&tree);
            JobSource::parse(&source).map(|_| source)
        })
    };
    if name != was {
        report.add(Kind::Differs, "name", format!("the job is named `{name}` here"));
    }
    let (source, faults) = match built {
        Ok(source) => (Some(source), Vec::new()),
        Err(faults) => (None, faults),
    };
    let was = if group.is_empty() { was } else { format!("{group}/{was}") };
    Imported { entry, was, name, source, faults, notices: report.notices }
}

fn build(job: &Map<String, Value>, name: &str, key: &str, report: &mut Report) -> Result<Tree, String> {
    let field = |key: &str| job.get(key).filter(|value| !value.is_null());
    let mut members = vec![("job".to_owned(), Tree::from(name))];
    let mut add = |key: &str, tree: Tree| members.push((key.to_owned(), tree));
    for key in ["group", "description"] {
        let value = field(key).map(text).unwrap_or_default();
        if !value.is_empty() {
            add(key, value.into());
        }
    }
    if let Some(runner) = runner(job, report)? {
        add("runner", runner);
    }
    let (trees, options) = option::import(field("options"), report)?;
    if !options.is_empty() {
        add("options", trees);
    }
    let nodes = field("nodefilters").map(|filters| nodes(filters, &options, report)).transpose()?.flatten();
    let on_nodes = nodes.is_some();
    if let Some(nodes) = nodes {
        add("nodes", nodes);
    }
    let sequence = field("sequence").and_then(Value::as_object).ok_or("the job has no `sequence`")?;
    let strategy = match text(sequence.get("strategy").unwrap_or(&Value::Null)).as_str() {
        "" | "node-first" => "node-first",
        "sequential" | "step-first" => "step-first",
        "parallel" => "parallel",
        other => {
            return Err(format!(
                "the strategy {other:?} has no counterpart; use node-first, sequential or parallel"
            ));
        }
    };
    add("strategy", strategy.into());
    if sequence.get("keepgoing").is_some_and(truthy) {
        report.add(Kind::Differs, "sequence.keepgoing", "steps after a failure run by `when: always`");
    }
    if let Some(timeout) = field("timeout").map(text).filter(|timeout| !timeout.is_empty()) {
        match seconds(&timeout) {
            Some(seconds) if seconds > 0 => add("timeout", format!("{seconds}s").into()),
            _ => {
                return Err(format!(
                    "the timeout {timeout:?} comes to nothing in Rundeck; write 90s, 5m or 2h"
                ));
            }
        }
    }
    lost(job, report);
    let commands = sequence.get("commands").and_then(Value::as_array).filter(|list| !list.is_empty());
    let context = step::Job { options: &options, on_nodes, key };
    let always = sequence.get("keepgoing").is_some_and(truthy);
    let mut steps = Vec::new();
    for (at, command) in commands.ok_or("the job has no steps")?.iter().enumerate() {
        let command = command.as_object().ok_or_else(|| format!("step {} is not a map", at + 1))?;
        let mut made = step::import(at + 1, command, &context, report);
        if let (true, Tree::Map(members)) = (always && at > 0, &mut made) {
            members.push(("when".to_owned(), "always".into()));
        }
        steps.push(made);
    }
    add("steps", Tree::List(steps));
    Ok(Tree::Map(members))
}

/// What has no counterpart at the level of the job.
fn lost(job: &Map<String, Value>, report: &mut Report) {
    for (key, message) in [
        ("schedule", "the schedule: start the job from a scheduler of your own, by the API"),
        ("schedules", "the schedules: start the job from a scheduler of your own, by the API"),
        ("notification", "notifications: write a last step with `when: always` that sends them"),
        ("retry", "the job is not run again when it fails: write `retry` at its steps"),
        ("loglimit", "the log limit: write `limits: { log: … }` at the steps"),
        ("orchestrator", "the orchestrator: nodes run in the order of `rank`, `threads` at a time"),
        ("plugins", "plugins of the job"),
        ("maxMultipleExecutions", "the limit of executions at a time"),
    ] {
        if job.get(key).is_some_and(truthy) {
            report.add(Kind::Lost, key, message);
        }
    }
    if !job.get("multipleExecutions").is_some_and(truthy) {
        report.add(Kind::Differs, "multipleExecutions", "the job may run several times at once");
    }
    for key in ["executionEnabled", "scheduleEnabled"] {
        if job.get(key).is_some_and(|value| !value.is_null() && !truthy(value)) {
            report.add(Kind::Differs, key, "the job was switched off; here it can be run");
        }
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

/// The nodes, or nothing for a job that runs where the server was.
fn nodes(filters: &Value, options: &Options, report: &mut Report) -> Result<Option<Tree>, String> {
    const PLACE: &str = "nodefilters";
    let Some(filters) = filters.as_object() else { return Err("`nodefilters` is not a map".to_owned()) };
    if !filters.contains_key("filter") {
        if filters.contains_key("include") || filters.contains_key("exclude") {
            return Err("`include` and `exclude` are the old form of a filter; write `filter`".to_owned());
        }
        return Ok(None);
    }
    let source = text(&filters["filter"]);
    if filters.get("filterExclude").is_some_and(truthy) {
        return Err("`filterExclude` has no counterpart; write `!key: value` in `filter`".to_owned());
    }
    let filter = command::template(&source, options)?;
    let words = command::words(&source);
    if words.iter().filter(|word| word.starts_with('!') && word.contains(':')).count() > 1 {
        report.add(
            Kind::Differs,
            PLACE,
            "a node is out when one `!key` matches; in Rundeck only when all do",
        );
    }
    if source.trim().is_empty() {
        report.add(Kind::Differs, PLACE, "the empty filter selects no node");
    }
    if source.contains("${") {
        report.add(
            Kind::Differs,
            PLACE,
            "the value of an option stays one value of the filter; it cannot add keys",
        );
    }
    let empty = Map::new();
    let dispatch = filters.get("dispatch").and_then(Value::as_object).unwrap_or(&empty);
    let field = |key: &str| dispatch.get(key).filter(|value| !value.is_null());
    if field("excludePrecedence").is_some_and(|value| !truthy(value)) {
        return Err(
            "`excludePrecedence: false` has no counterpart: a node that is excluded is out".to_owned()
        );
    }
    if field("successOnEmptyNodeFilter").is_some_and(truthy) {
        report.add(Kind::Lost, PLACE, "`successOnEmptyNodeFilter`: not imported");
    }
    let threads = field("threadcount").map_or_else(|| "1".to_owned(), text);
    let threads =
        match (threads.parse::<u32>(), threads.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))) {
            (Ok(number), _) => Tree::Scalar(number.max(1).into()),
            (_, Some(reference)) => {
                let name = reference.strip_prefix("option.").and_then(|name| options.get(name));
                let known = name.ok_or_else(|| format!("threadcount {threads:?} names no option"))?;
                format!("int(options.{})", known.name).into()
            }
            _ => return Err(format!("threadcount {threads:?} is not a number")),
        };
    let mut members = vec![
        ("filter".to_owned(), Tree::from(filter)),
        ("threads".to_owned(), threads),
        ("keep_going".to_owned(), Tree::Scalar(field("keepgoing").is_some_and(truthy).into())),
    ];
    if let Some(rank) = field("rankAttribute").map(text).filter(|rank| !rank.is_empty()) {
        let order = field("rankOrder").map_or_else(|| "ascending".to_owned(), text);
        let order = if order == "ascending" { "ascending" } else { "descending" };
        members.push(("rank".to_owned(), map([("by", rank.into()), ("order", order.into())])));
    }
    Ok(Some(Tree::Map(members)))
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
