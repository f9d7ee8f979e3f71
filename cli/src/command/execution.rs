//! `remit execution`: how runs stand, what they say, and stopping them.

use clap::{Args, Subcommand, ValueEnum};
use remit_protocol::{
    ExecutionId, JobName, NodeIndex, Outcome, SectionNumber, StepIndex, StepName,
    limits::Spent,
    operator::{
        Cancel, CancelMode, Decide, Decision, ExecutionSummary, ExecutionView, LiveEvent, LogLine, LogPage,
        NodeResult, Page, QueueEntry, SectionView, StepResult, path,
    },
    report::{Level, Usage},
};
use serde::Serialize;

use super::{
    again,
    artifact::{self, Artifact},
    gate,
    nodes::query,
};
use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    output::{self, Output, harmless, note, table},
    sse,
};

#[derive(Subcommand)]
pub(crate) enum Execution {
    /// Show an execution: state, steps, and why it waits.
    Show {
        /// Its id.
        id: ExecutionId,
    },
    /// List executions, newest first.
    List(List),
    /// Print the log.
    Log(Log),
    /// Show a step node by node.
    Nodes {
        /// Its id.
        id: ExecutionId,
        /// The step's number, from 0.
        #[arg(long)]
        step: StepNumber,
        /// Only nodes with this outcome, such as failed.
        #[arg(long)]
        outcome: Option<String>,
        /// What each node's run used, of what its remit allowed: a line for each limit.
        #[arg(long)]
        usage: bool,
    },
    /// List the files that its steps kept.
    Artifacts {
        /// Its id.
        id: ExecutionId,
    },
    /// Download a file that a step kept.
    #[command(subcommand)]
    Artifact(Artifact),
    /// Follow it until it ends; the exit code tells how.
    Follow {
        /// Its id.
        id: ExecutionId,
    },
    /// Cancel it.
    Cancel {
        /// Its id.
        id: ExecutionId,
        /// End it in the record at once, whether or not its runner answers.
        #[arg(long)]
        force: bool,
    },
    /// Agree at the gate that it waits at.
    Approve {
        /// Its id.
        id: ExecutionId,
        /// The gate, where it waits at several.
        #[arg(long)]
        step: Option<StepName>,
        #[command(flatten)]
        signing: gate::Signing,
    },
    /// Refuse at the gate that it waits at.
    Deny {
        /// Its id.
        id: ExecutionId,
        /// The gate, where it waits at several.
        #[arg(long)]
        step: Option<StepName>,
        /// Why, for people.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Say what becomes of a held section.
    Decide {
        /// Its id.
        id: ExecutionId,
        /// The section's number.
        #[arg(long, default_value = "0")]
        section: u32,
        /// What becomes of it.
        decision: Choice,
    },
    /// What waits, and why.
    Queue,
    /// Run its job again, from the beginning, on the nodes that did not end well.
    Rerun(again::RerunExecution),
    /// Go on with it, from the first step that did not end well; what came before is taken over.
    Resume(again::ResumeExecution),
}

/// The number of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepNumber(StepIndex);

impl std::str::FromStr for StepNumber {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        text.parse().map(|number| Self(StepIndex(number)))
    }
}

/// What becomes of a held section.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Choice {
    /// It did what it should.
    Done,
    /// It failed.
    Failed,
    /// Run it again.
    Rerun,
}

#[derive(Args)]
pub(crate) struct List {
    /// Only of this job.
    #[arg(long)]
    job: Option<JobName>,
    /// Only in this state: waiting, running, held, cancelling, ended.
    #[arg(long)]
    state: Option<String>,
    /// Only with this outcome.
    #[arg(long)]
    outcome: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

#[derive(Args)]
pub(crate) struct Log {
    /// The execution's id.
    id: ExecutionId,
    /// Only of this step, by number.
    #[arg(long)]
    step: Option<StepNumber>,
    /// Only of this node, by number.
    #[arg(long)]
    node: Option<u32>,
    /// Go on until the execution ends.
    #[arg(long, short = 'f')]
    follow: bool,
}

pub(crate) fn word<T: Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) fn standing(summary: &ExecutionSummary) -> String {
    summary.outcome.map_or_else(|| word(&summary.state), |outcome| outcome.to_string())
}

fn summary_row(summary: &ExecutionSummary) -> Vec<String> {
    vec![
        summary.id.to_string(),
        summary.job.to_string(),
        standing(summary),
        summary.created.to_seconds_text(),
        summary.started_by.clone(),
        summary.waiting.clone().unwrap_or_default(),
    ]
}

const COLUMNS: [&str; 6] = ["EXECUTION", "JOB", "STATE", "CREATED", "BY", "WAITING FOR"];

fn step_line(step: &StepResult) -> String {
    let outcome = step.outcome.map_or_else(|| "…".to_owned(), |outcome| outcome.to_string());
    let counts: Vec<_> = step.counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let counts = if counts.is_empty() { String::new() } else { format!("  nodes: {}", counts.join(", ")) };
    let run = step.run.as_ref();
    let output = run
        .and_then(|run| run.output.as_ref())
        .map(|output| format!("\n      output: {output}"))
        .unwrap_or_default();
    let message = run
        .map(|run| run.message.as_str())
        .filter(|message| !message.is_empty())
        .map(|message| format!("\n      {}", harmless(message).replace('\n', "\n      ")))
        .unwrap_or_default();
    let used = run.and_then(|run| run.usage.as_deref()).map(Usage::words).filter(|words| !words.is_empty());
    let used = used.map(|words| format!("\n      used: {words}")).unwrap_or_default();
    format!(
        "  {}. {}  {outcome}{counts}  ({}){message}{}{used}",
        step.index,
        step.name,
        step.does,
        harmless(&output)
    )
}

/// A line for each node.
fn results(nodes: &[NodeResult]) -> String {
    let row = |node: &NodeResult| {
        let run = node.run.as_ref();
        let nearest = run.and_then(|run| run.usage.as_deref()).and_then(Usage::nearest);
        let nearest = nearest.map(|spent| format!("{} {}%", spent.limit, spent.percent));
        let message = run.map(|run| run.message.lines().next().unwrap_or_default());
        vec![
            node.node.to_string(),
            node.outcome.map_or_else(|| "…".to_owned(), |outcome| outcome.to_string()),
            run.map(|run| run.tries.to_string()).unwrap_or_default(),
            nearest.unwrap_or_default(),
            harmless(message.unwrap_or_default()),
        ]
    };
    let columns = ["NODE", "OUTCOME", "TRIES", "NEAREST LIMIT", ""];
    table(&columns, &nodes.iter().map(row).collect::<Vec<_>>())
}

/// A line for each limit of each node.
fn usages(nodes: &[NodeResult]) -> String {
    let of_node = |node: &NodeResult| {
        let usage = node.run.as_ref().and_then(|run| run.usage.as_deref());
        let each = usage.map(Usage::each).unwrap_or_default().into_iter();
        let name = node.node.to_string();
        let row = move |spent: Spent| {
            let percent = format!("{}%", spent.percent);
            vec![name.clone(), spent.limit.to_owned(), spent.used, spent.allowed, percent]
        };
        each.map(row).collect::<Vec<_>>()
    };
    let columns = ["NODE", "LIMIT", "USED", "ALLOWED", ""];
    table(&columns, &nodes.iter().flat_map(of_node).collect::<Vec<_>>())
}

/// One part of a step whose nodes are split.
fn part_line(part: &SectionView) -> String {
    let state = part.outcome.map_or_else(|| word(&part.state), |outcome| outcome.to_string());
    let runner = part.runner.as_ref().map(|runner| format!(" on {runner}")).unwrap_or_default();
    let reason = part.reason.as_ref().map(|reason| format!(": {}", harmless(reason))).unwrap_or_default();
    let (tier, nodes) = (part.tier + 1, part.nodes.unwrap_or_default());
    format!("      tier {tier}, {nodes} nodes{runner}: {state}{reason}")
}

fn view_text(view: &ExecutionView) -> String {
    let summary = &view.summary;
    let mut lines = vec![format!(
        "execution {}  {} revision {}  {}",
        summary.id,
        summary.job,
        summary.revision,
        standing(summary)
    )];
    lines.push(format!("begun by {} at {}", summary.started_by, summary.created.to_seconds_text()));
    if !summary.origin.is_operator() {
        lines.push(format!("trigger: {}", summary.origin));
    }
    lines.extend(view.command.as_ref().map(|command| format!("command: {}", harmless(command))));
    lines.extend(view.again.as_ref().map(ToString::to_string));
    lines.extend(view.sealed.as_ref().map(|sealed| {
        let names: Vec<&str> = sealed.runners.iter().map(|name| name.as_str()).collect();
        format!("sealed to {}, until {}", names.join(", "), sealed.until.to_seconds_text())
    }));
    if let Some(until) = view.waited_until.filter(|_| summary.outcome == Some(Outcome::TimedOut)) {
        lines.push(format!("its turn in the job's queue did not come until {}", until.to_seconds_text()));
    }
    lines.extend(view.log_limit.map(|limit| format!("log: {limit}")));
    if let Some(ended) = summary.ended {
        lines.push(format!(
            "ended at {} after {} ms",
            ended.to_seconds_text(),
            ended.since(summary.created).as_millis()
        ));
    }
    if let Some(waiting) = &summary.waiting {
        lines.push(format!("waiting: {waiting}"));
    }
    for step in &view.steps {
        lines.push(step_line(step));
        let parts: Vec<_> = view.sections.iter().filter(|part| part.first_step == step.index).collect();
        if parts.len() > 1 {
            lines.extend(parts.into_iter().map(part_line));
        }
    }
    lines.extend(view.children.iter().map(|child| {
        let outcome = child.outcome.map_or_else(|| word(&child.state), |outcome| outcome.to_string());
        let step = view.sections.iter().find(|section| section.number == child.section);
        let step = step.and_then(|section| view.steps.iter().find(|step| step.index == section.first_step));
        let name = step.map(|step| step.name.to_string()).unwrap_or_default();
        format!("    {name}[{}]: execution {}  {outcome}", child.item, child.execution)
    }));
    lines.join("\n")
}

fn log_line(line: &LogLine) -> String {
    let entry = &line.entry;
    let level = match entry.level {
        Level::Debug => "debug",
        Level::Info => "",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    };
    let node = line.node_name.as_ref().map(|node| format!("@{node}")).unwrap_or_default();
    let fields: String = entry.fields.iter().map(|(name, value)| format!("  {name}={value}")).collect();
    let level = if level.is_empty() { String::new() } else { format!("{level} ") };
    harmless(&format!("{}  {}{node}  {level}{}{fields}", entry.at, line.step_name, entry.text))
}

/// Whether following prints the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quiet {
    Yes,
    No,
}

/// Follows an execution to its end. Anything but success is a failure of the command.
pub(crate) async fn follow(
    connection: &Connection,
    id: ExecutionId,
    output: Output,
    quiet: Quiet,
) -> Result<()> {
    let mut after = None;
    loop {
        let query = query(&[("after", after.as_deref())]);
        let mut events = sse::Events::new(
            connection.stream(&format!("{}{query}", path::fill(path::EXECUTION_EVENTS, &[&id]))).await?,
        );
        while let Some(event) = events.next().await {
            after = event.id.or(after);
            let Ok(live) = serde_json::from_str::<LiveEvent>(&event.data) else { continue };
            if quiet == Quiet::No {
                show_live(output, &live);
            }
            if let LiveEvent::End { outcome } = live {
                let view: ExecutionView = connection.get(&path::fill(path::EXECUTION, &[&id])).await?;
                if quiet == Quiet::No {
                    output.print(&view, |view| format!("\n{}", view_text(view)));
                }
                return ended(id, outcome);
            }
        }
        note("the connection was cut; going on where it was");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

fn ended(id: ExecutionId, outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Succeeded => Ok(()),
        Outcome::Refused(code) => Err(Failure::new(
            Code::Refused,
            format!("execution {id} was refused: {code}: {}", code.meaning()),
            code.remedy(),
        )),
        other => Err(Failure::new(Code::Failed, format!("execution {id} ended: {other}"), "")),
    }
}

fn show_live(output: Output, live: &LiveEvent) {
    if output == Output::Json {
        output.print(live, |_| String::new());
        return;
    }
    match live {
        LiveEvent::Log { lines } => lines.iter().for_each(|line| output::line(&log_line(line))),
        LiveEvent::StepEnded { name, node, outcome, message, .. } => {
            let node = node.as_ref().map(|node| format!("@{node}")).unwrap_or_default();
            let message = if message.is_empty() { String::new() } else { format!(": {}", harmless(message)) };
            output::line(&format!("── {name}{node} {outcome}{message}"));
        }
        LiveEvent::Execution { execution } => {
            if let Some(waiting) = &execution.waiting {
                output::line(&format!("── waiting: {waiting}"));
            }
        }
        LiveEvent::Section { .. } | LiveEvent::Progress { .. } | LiveEvent::End { .. } => {}
    }
}

impl Execution {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        match self {
            Self::Show { id } => {
                let view: ExecutionView = connection.get(&path::fill(path::EXECUTION, &[&id])).await?;
                output.print(&view, view_text);
            }
            Self::List(list) => list.run(connection, output).await?,
            Self::Log(log) => log.run(connection, output).await?,
            Self::Nodes { id, step, outcome, usage } => {
                let address = path::fill(path::EXECUTION_NODES, &[&id, &step.0]);
                let query = query(&[("outcome", outcome.as_deref())]);
                let page: Page<NodeResult> = connection.all(&format!("{address}{query}")).await?;
                let show = if usage { usages } else { results };
                output.print(&page, |page| show(&page.items));
            }
            Self::Artifacts { id } => artifact::list(connection, id, output).await?,
            Self::Artifact(artifact) => artifact.run(connection, output).await?,
            Self::Follow { id } => follow(connection, id, output, Quiet::No).await?,
            Self::Cancel { id, force } => {
                let mode = if force { CancelMode::Force } else { CancelMode::Ask };
                let summary: ExecutionSummary =
                    connection.post(&path::fill(path::EXECUTION_CANCEL, &[&id]), &Cancel { mode }).await?;
                output.print(&summary, |summary| format!("execution {id}: {}", standing(summary)));
            }
            Self::Approve { id, step, signing } => {
                gate::approve(connection, id, step, signing, output).await?;
            }
            Self::Deny { id, step, why } => gate::deny(connection, id, step, why, output).await?,
            Self::Decide { id, section, decision } => {
                let decision = match decision {
                    Choice::Done => Decision::Done,
                    Choice::Failed => Decision::Failed,
                    Choice::Rerun => Decision::Rerun,
                };
                let address = path::fill(path::EXECUTION_DECIDE, &[&id, &SectionNumber(section)]);
                let summary: ExecutionSummary = connection.post(&address, &Decide { decision }).await?;
                output.print(&summary, |summary| format!("execution {id}: {}", standing(summary)));
            }
            Self::Rerun(rerun) => rerun.run(connection, output).await?,
            Self::Resume(resume) => resume.run(connection, output).await?,
            Self::Queue => {
                let page: Page<QueueEntry> = connection.all(path::QUEUE).await?;
                output.print(&page, |page| {
                    let row = |entry: &QueueEntry| {
                        vec![
                            entry.execution.to_string(),
                            entry.job.to_string(),
                            word(&entry.state),
                            entry.since.map(|time| time.to_seconds_text()).unwrap_or_default(),
                            entry.reason.clone(),
                        ]
                    };
                    let columns = ["EXECUTION", "JOB", "STATE", "SINCE", "WHY"];
                    table(&columns, &page.items.iter().map(row).collect::<Vec<_>>())
                });
            }
        }
        Ok(())
    }
}

impl List {
    async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let project = connection.project().ok().map(|project| project.to_string());
        let limit = self.limit.to_string();
        let query = query(&[
            ("project", project.as_deref()),
            ("job", self.job.as_ref().map(JobName::as_str)),
            ("state", self.state.as_deref()),
            ("outcome", self.outcome.as_deref()),
            ("limit", Some(&limit)),
        ]);
        let page: Page<ExecutionSummary> = connection.get(&format!("{}{query}", path::EXECUTIONS)).await?;
        output.print(&page, |page| table(&COLUMNS, &page.items.iter().map(summary_row).collect::<Vec<_>>()));
        Ok(())
    }
}

impl Log {
    async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let mut from = 1;
        loop {
            let step = self.step.map(|step| step.0.to_string());
            let node = self.node.map(|node| NodeIndex(node).to_string());
            let first = u64::to_string(&from);
            let query =
                query(&[("from", Some(&first)), ("step", step.as_deref()), ("node", node.as_deref())]);
            let page: LogPage =
                connection.get(&format!("{}{query}", path::fill(path::EXECUTION_LOG, &[&self.id]))).await?;
            for line in &page.lines {
                output.print(line, log_line);
            }
            let more = page.next > from;
            from = page.next;
            if page.complete || (!more && !self.follow) {
                return Ok(());
            }
            if !more {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        }
    }
}
