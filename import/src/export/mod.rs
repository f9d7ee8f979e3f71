//! Moving out: jobs of Remit as a job file of Rundeck, as far as there is a counterpart.
//!
//! What an import made of a job file is given back as it was, so that it imports to the same jobs again. Everything else is
//! reported: what is lost, and the steps for which a command that fails stands. Secrets are not part of jobs and stay.

mod option;
mod step;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use remit_job::{
    document::{Nodes, OnEmpty, RetryOutcome, Share, Threads, Tiers, Timeout, When, WhenFull},
    filter::{Order, Rank},
    options::{OptionType, Values},
    source::{Does, JobSource, StepSource},
};
use remit_protocol::{
    JobName,
    assignment::Strategy,
    log_limit::{AtLimit, LogHalt, LogMost},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    condition,
    job::{Kind, Notice, Report},
    schedule,
    write::{self, Tree, map},
};
use text::Context;

/// What became of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The job.
    pub job: JobName,
    /// Where the meaning is not what it was.
    pub notices: Vec<Notice>,
}

/// A job file, and what is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobFile {
    /// The file, YAML.
    #[serde(skip)]
    pub text: String,
    /// The jobs in it.
    pub jobs: Vec<Exported>,
}

/// Addresses of values by the jobs that fetch them.
type Fetchers = BTreeMap<JobName, String>;

/// The jobs that are exported together.
struct Exporter<'a> {
    sources: &'a [JobSource],
    fetchers: Fetchers,
}

/// Writes jobs as one job file of Rundeck.
pub fn export(sources: &[JobSource]) -> JobFile {
    let exporter = Exporter { sources, fetchers: fetchers(sources) };
    let (mut trees, mut jobs) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| !exporter.fetchers.contains_key(&source.job)) {
        let mut report = Report::default();
        trees.push(exporter.job(source, &mut report));
        jobs.push(Exported { job: source.job.clone(), notices: report.into_notices() });
    }
    JobFile { text: write::text(&Tree::List(trees)), jobs }
}

/// The jobs that only fetch values of others' options: there they are addresses.
fn fetchers(sources: &[JobSource]) -> Fetchers {
    let wanted: BTreeSet<&JobName> = sources
        .iter()
        .flat_map(|source| &source.options)
        .filter_map(|option| match option.kind.values() {
            Some(Values::Job(of)) if of.step.as_str() == "get" => Some(&of.job),
            _ => None,
        })
        .collect();
    let address = |source: &JobSource| {
        let [step] = &source.steps[..] else { return None };
        let Does::Component(component) = &step.does else { return None };
        let with = component.with.source().as_object()?;
        let plain = step.name.as_str() == "get" && source.options.is_empty() && with.len() == 2;
        let url = with.get("url").and_then(Value::as_str).filter(|url| !url.contains("${"))?;
        (plain
            && component.uses.name().as_str() == "remit/http-request"
            && with.get("method") == Some(&"GET".into()))
        .then(|| url.to_owned())
    };
    let found = sources.iter().filter(|source| wanted.contains(&source.job));
    found.filter_map(|source| Some((source.job.clone(), address(source)?))).collect()
}

impl Exporter<'_> {
    fn job(&self, source: &JobSource, report: &mut Report) -> Tree {
        let (options, context) = option::export(source, &self.fetchers, report);
        let mut members = vec![("name".to_owned(), Tree::from(source.job.as_str()))];
        if !source.group.is_empty() {
            members.push(("group".to_owned(), source.group.as_str().into()));
        }
        members.push(("description".to_owned(), source.description.as_str().into()));
        members.push(("loglevel".to_owned(), "INFO".into()));
        members.extend(concurrency(source, report));
        members.extend(log_limit(source, report));
        members.extend(retry(source, report));
        if !source.runner.tags.is_empty() {
            let tags: Vec<&str> = source.runner.tags.iter().map(|tag| tag.as_str()).collect();
            let selector = [
                ("filter", tags.join(",").into()),
                ("runnerFilterMode", "TAGS".into()),
                ("runnerFilterType", "TAG_FILTER_AND".into()),
            ];
            members.push(("runnerSelector".to_owned(), map(selector)));
        }
        if source.runner.may_override {
            report.add(
                Kind::Lost,
                "runner",
                "whoever runs the job may choose other runners: that is so for all in Rundeck",
            );
        }
        if let Some(timeout) = &source.timeout {
            match self.timeout(timeout, &context) {
                Some(timeout) => members.push(("timeout".to_owned(), timeout.into())),
                None => report.add(Kind::Lost, "timeout", "a timeout by an expression"),
            }
        }
        members.extend(schedule::export(&source.schedules, report));
        if !source.notify.is_empty() {
            report.add(
                Kind::Lost,
                "notify",
                "who is told: the addresses stand in channels, which are not part of jobs",
            );
        }
        if !options.is_empty() {
            members.push(("options".to_owned(), Tree::List(options)));
        }
        if let Some(nodes) = &source.nodes {
            members.push(("nodefilters".to_owned(), self.nodes(nodes, &context, report)));
            members.extend(orchestrator(nodes, report).map(|tree| ("orchestrator".to_owned(), tree)));
        }
        members.push(("sequence".to_owned(), self.sequence(source, &context, report)));
        Tree::Map(members)
    }

    fn timeout(&self, timeout: &Timeout, context: &Context) -> Option<String> {
        match timeout {
            Timeout::Fixed(span) => Some(format!("{}s", span.as_millis().div_ceil(1000))),
            Timeout::Expression(expression) => context.text(&format!("${{{expression}}}")).ok(),
        }
    }

    fn nodes(&self, nodes: &Nodes, context: &Context, report: &mut Report) -> Tree {
        let filter = context.text(nodes.filter.as_str()).unwrap_or_else(|why| {
            report.add(Kind::Lost, "nodes.filter", format!("{why}: the filter selects nothing"));
            String::new()
        });
        let threads = match &nodes.threads {
            Threads::Fixed(threads) => threads.to_string(),
            Threads::Percent(_) => "1".to_owned(),
            Threads::Expression(expression) => {
                let text = expression.as_str();
                let option = text
                    .strip_prefix("int(options.")
                    .and_then(|rest| rest.strip_suffix(')'))
                    .or(text.strip_prefix("options."));
                match option.filter(|name| context.options.contains_key(*name)) {
                    Some(name) => format!("${{option.{name}}}"),
                    None => {
                        report.add(Kind::Lost, "nodes.threads", "threads by an expression: one at a time");
                        "1".to_owned()
                    }
                }
            }
        };
        let mut dispatch = vec![
            ("threadcount".to_owned(), Tree::from(threads)),
            ("keepgoing".to_owned(), Tree::Scalar(nodes.keep_going.into())),
            ("excludePrecedence".to_owned(), Tree::Scalar(true.into())),
        ];
        if nodes.on_empty == OnEmpty::Succeed {
            dispatch.push(("successOnEmptyNodeFilter".to_owned(), Tree::Scalar(true.into())));
        }
        let by_chance = |rank: &&Rank| rank.order != Order::Random;
        if let Some(rank) = nodes.rank.as_ref().filter(by_chance).filter(|_| nodes.limit.is_none()) {
            let order = if rank.order == Order::Ascending { "ascending" } else { "descending" };
            dispatch.push(("rankAttribute".to_owned(), rank.by.as_str().into()));
            dispatch.push(("rankOrder".to_owned(), order.into()));
        }
        map([("filter", filter.into()), ("dispatch", Tree::Map(dispatch))])
    }

    fn sequence(&self, source: &JobSource, context: &Context, report: &mut Report) -> Tree {
        let strategy = match source.strategy {
            Strategy::NodeFirst => "node-first",
            Strategy::StepFirst => "sequential",
            Strategy::Parallel => "parallel",
        };
        // Going on after a failure is a matter of the whole job there, and of each later step here.
        let later = source.steps.get(1..).unwrap_or_default();
        let groups = |at: usize, guarded: bool| {
            let as_text = |template: &str| context.text(template).ok();
            condition::groups(&source.steps[at].when, guarded, &context.options, as_text)
        };
        let goes_on =
            |(at, step): (usize, &StepSource)| step.when == When::Always || groups(at + 1, false).is_some();
        let keepgoing = !later.is_empty() && later.iter().enumerate().all(goes_on);
        let mut commands: Vec<(Option<Value>, Vec<Tree>)> = Vec::new();
        for (at, step) in source.steps.iter().enumerate() {
            let groups = groups(at, !keepgoing && at > 0);
            let usual = if keepgoing && at > 0 { When::Always } else { When::OnSuccess };
            if groups.is_none() && step.when != usual {
                report.add(Kind::Lost, &format!("steps.{}", step.name), "the condition of a step");
            }
            let command = step::export(step, context, self, report);
            match commands.last_mut() {
                Some((known, steps)) if groups.is_some() && *known == groups => steps.push(command),
                _ => commands.push((groups, vec![command])),
            }
        }
        let commands = commands.into_iter().flat_map(|(groups, steps)| match groups {
            Some(groups) => vec![conditional(groups, steps)],
            None => steps,
        });
        map([
            ("keepgoing", Tree::Scalar(keepgoing.into())),
            ("strategy", strategy.into()),
            ("commands", commands.collect()),
        ])
    }

    /// What stands between the values of a list of another job.
    fn delimiter(&self, target: &JobSource, option: &str) -> String {
        let is_list = |kind: &OptionType| matches!(kind, OptionType::List { .. });
        let known = target.options.iter().any(|known| known.name.as_str() == option && is_list(&known.kind));
        if known { option::delimiter(target, option) } else { ",".to_owned() }
    }
}

/// A step that consists of others.
fn conditional(groups: Value, steps: Vec<Tree>) -> Tree {
    map([
        ("type", "conditional".into()),
        ("nodeStep", Tree::Scalar(false.into())),
        ("conditionGroups", groups.into()),
        ("subSteps", Tree::List(steps)),
    ])
}

/// Which of the nodes, and in which portions: one way of these is all that a job has there.
fn orchestrator(nodes: &Nodes, report: &mut Report) -> Option<Tree> {
    let made = |kind: &str, settings: Vec<(&str, String)>| {
        let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        Some(map([("type", kind.into()), ("configuration", Tree::Map(settings))]))
    };
    let (mut tree, mut kept) = (None, "");
    match (&nodes.rank, nodes.limit, &nodes.threads, &nodes.tiers) {
        (Some(rank), Some(Share::Count(count)), ..) if rank.order == Order::Random => {
            (tree, kept) = (made("subset", vec![("count", count.to_string())]), "limit");
        }
        (Some(rank), Some(Share::Count(1)), ..) => {
            let sort = if rank.order == Order::Ascending { "lowest" } else { "highest" };
            let settings = vec![("attribute", rank.by.clone()), ("sort", sort.to_owned())];
            (tree, kept) = (made("orchestrator-highest-lowest-attribute", settings), "limit");
        }
        (_, _, Threads::Percent(percent), _) => {
            let percent = String::from(*percent).trim_end_matches('%').to_owned();
            (tree, kept) = (made("maxPercentage", vec![("percent", percent)]), "threads");
        }
        (Some(_), _, _, Some(Tiers::Rank)) => (tree, kept) = (made("rankTiered", Vec::new()), "tiers"),
        _ => {}
    }
    let random = nodes.rank.as_ref().is_some_and(|rank| rank.order == Order::Random);
    let there = [
        ("limit", nodes.limit.is_some(), "only some of the nodes"),
        ("threads", matches!(nodes.threads, Threads::Percent(_)), "so many nodes of a hundred at once"),
        ("tiers", nodes.tiers.is_some(), "one tier of the nodes after the other"),
        ("rank", random && kept != "limit", "nodes in an order by chance"),
        ("max_failures", nodes.max_failures.is_some(), "how many nodes of a tier may fail"),
        ("spread", nodes.spread, "one fan-out over several runners"),
    ];
    for (key, _, what) in there.into_iter().filter(|(key, there, _)| *there && *key != kept) {
        report.add(Kind::Lost, &format!("nodes.{key}"), what);
    }
    tree
}

/// How many executions go on at once.
fn concurrency(source: &JobSource, report: &mut Report) -> Vec<(String, Tree)> {
    let limit = source.concurrency.as_ref().map(|concurrency| concurrency.limit);
    let several = ("multipleExecutions".to_owned(), Tree::Scalar((limit != Some(1)).into()));
    if source.concurrency.as_ref().is_some_and(|concurrency| concurrency.when_full == WhenFull::Queue) {
        report.add(Kind::Lost, "concurrency", "waiting for one's turn: one more is refused there");
    }
    let most = limit.filter(|limit| *limit > 1).map(|limit| limit.to_string());
    let most = most.map(|most| ("maxMultipleExecutions".to_owned(), most.into()));
    std::iter::once(several).chain(most).collect()
}

/// How much log is kept, and what happens once there is more.
fn log_limit(source: &JobSource, report: &mut Report) -> Vec<(String, Tree)> {
    let Some(limit) = source.log_limit else { return Vec::new() };
    let most = match limit.most {
        LogMost::Lines(lines) => lines.to_string(),
        LogMost::LinesPerNode(lines) => format!("{lines}/node"),
        LogMost::Bytes(size) => format!("{}B", size.bytes()),
    };
    let (action, status) = match limit.at_limit {
        AtLimit::Truncate => ("truncate", None),
        AtLimit::Halt(LogHalt::Failed) => ("halt", Some("failed")),
        AtLimit::Halt(LogHalt::Cancelled) => ("halt", Some("aborted")),
        AtLimit::Halt(LogHalt::OverLimit) => {
            report.add(
                Kind::Differs,
                "log_limit",
                "the execution ends as `failed`, not as `over-limit(log)`",
            );
            ("halt", Some("failed"))
        }
    };
    let mut members = vec![("loglimit", most.into()), ("loglimitAction", action.into())];
    members.extend(status.map(|status| ("loglimitStatus", Tree::from(status))));
    members.into_iter().map(|(key, tree)| (key.to_owned(), tree)).collect()
}

/// How often the job is run again.
fn retry(source: &JobSource, report: &mut Report) -> Option<(String, Tree)> {
    let retry = source.retry.as_ref()?;
    if retry.outcomes != BTreeSet::from([RetryOutcome::Failed, RetryOutcome::TimedOut]) {
        report.add(Kind::Lost, "retry.outcomes", "after which outcomes: after a failure or a timeout there");
    }
    if retry.backoff > 1.0 {
        report.add(Kind::Lost, "retry.backoff", "waiting longer each time");
    }
    let delay = format!("{}s", retry.delay.as_millis().div_ceil(1000));
    let parts = [("retry", retry.attempts.saturating_sub(1).to_string().into()), ("delay", delay.into())];
    (retry.attempts > 1).then(|| ("retry".to_owned(), map(parts)))
}

#[cfg(test)]
mod tests;
