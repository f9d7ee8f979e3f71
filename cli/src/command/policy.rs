//! `remit policy explain`: who would refuse a job on a runner, and the least that would allow it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use clap::Subcommand;
use remit_job::document::{ComponentAction, Document};
use remit_protocol::{
    ProjectName, Timestamp,
    capability::{Denial, Side},
    manifest::Manifest,
    operator::{Applied, Apply, ApplyMode, ComponentView, path},
};
use remit_signing::{TrustPolicy, verify};
use serde::{Deserialize, Serialize};

use crate::{
    command::note as note_command,
    connection::Connection,
    failure::{Code, Failure, Result},
    files,
    output::{Output, harmless},
    programs,
};

#[derive(Subcommand)]
pub(crate) enum Policy {
    /// Say for each step of a job which side would refuse it on a runner, and the smallest rule that would allow it.
    ///
    /// Nothing is saved and nothing runs. Exit code 0: every step would run; 4: one would be refused.
    Explain {
        /// The job file.
        job: PathBuf,
        /// The runner's `runner.toml`.
        #[arg(long, value_name = "RUNNER.TOML")]
        runner: PathBuf,
        /// The runner's `trust.toml`; left out: whom it believes is not looked at.
        #[arg(long, value_name = "TRUST.TOML")]
        trust: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Explained {
    schema: u32,
    allowed: bool,
    steps: Vec<Step>,
    /// What the runner's trust policy lets pass without a review that it asks for.
    exemptions: Vec<Debt>,
}

/// A release that runs without its review.
#[derive(Serialize)]
struct Debt {
    component: String,
    criteria: String,
    reason: String,
    until: Timestamp,
    /// It has not run out.
    holds: bool,
    /// This job uses it.
    used: bool,
}

/// The debts of a policy, the ones that this job uses first.
fn debts(policy: &TrustPolicy, steps: &[Step]) -> Vec<Debt> {
    let mut debts: Vec<Debt> = policy
        .exemptions()
        .iter()
        .map(|exemption| {
            let component = format!("{}@{}", exemption.component, exemption.version);
            Debt {
                used: steps.iter().any(|step| step.component == component),
                component,
                criteria: exemption.criteria.to_string(),
                reason: exemption.reason.clone(),
                until: exemption.until,
                holds: exemption.holds(note_command::now()),
            }
        })
        .collect();
    debts.sort_by_key(|debt| !debt.used);
    debts
}

#[derive(Serialize)]
struct Step {
    step: String,
    component: String,
    remit: Option<String>,
    denials: Vec<Said>,
}

#[derive(Serialize)]
struct Said {
    /// `trust`, `request`, `grant` or `ceiling`.
    side: &'static str,
    what: String,
    /// The lines to add on that side.
    allow: String,
}

/// What the runner's program answers.
#[derive(Deserialize)]
struct Answer {
    remit: Option<String>,
    denials: Vec<Denial>,
}

impl Policy {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let Self::Explain { job, runner, trust } = self;
        let trust = trust.as_deref().map(note_command::trust).transpose()?;
        let project = connection.project()?;
        let document = compiled(connection, &project, &job).await?;
        let mut steps = Vec::new();
        for step in &document.steps {
            for action in step.components() {
                let address = path::fill(
                    path::COMPONENT,
                    &[&action.name.namespace(), &action.name.name(), &action.version],
                );
                let view: ComponentView = connection.get(&address).await?;
                let mut denials: Vec<Said> =
                    trust.as_ref().and_then(|trust| distrusted(&view, trust)).into_iter().collect();
                let answer = ask(&runner, &project, action, &view.manifest)?;
                denials.extend(answer.denials.iter().map(said));
                steps.push(Step {
                    step: step.name.to_string(),
                    component: format!("{}@{}", action.name, action.version),
                    remit: answer.remit,
                    denials,
                });
            }
        }
        let allowed = steps.iter().all(|step| step.denials.is_empty());
        let exemptions = trust.as_ref().map(|trust| debts(trust, &steps)).unwrap_or_default();
        output.print(&Explained { schema: 1, allowed, steps, exemptions }, text);
        if allowed {
            return Ok(());
        }
        Err(Failure::new(
            Code::Refused,
            "the runner would refuse this job",
            "add the lines above where they say",
        ))
    }
}

/// The job as the orchestrator would save it.
async fn compiled(connection: &Connection, project: &ProjectName, file: &Path) -> Result<Document> {
    let apply =
        Apply { source: files::read_text(file)?, mode: ApplyMode::Check, accept_wider: true, signed: None };
    let applied: Applied = connection.post(&path::fill(path::JOBS, &[project]), &apply).await?;
    serde_json::from_value(applied.document).map_err(Failure::input)
}

/// Why the runner would not believe the component, if so.
fn distrusted(view: &ComponentView, trust: &TrustPolicy) -> Option<Said> {
    let verdicts: Vec<String> = view.verdicts.iter().map(|verdict| verdict.note.clone()).collect();
    let published = verify::Published { note: view.note.as_bytes(), proof: None, verdicts: &verdicts };
    let refusal = verify::release(published, trust, note_command::now()).err()?;
    Some(Said {
        side: "trust",
        what: harmless(&refusal.to_string()),
        allow: format!("# trust.toml: {}", refusal.code.remedy()),
    })
}

/// What the runner's owner would say to a step: asked of the runner's own program, so that there is one answer.
fn ask(
    config: &Path,
    project: &ProjectName,
    action: &ComponentAction,
    manifest: &Manifest,
) -> Result<Answer> {
    let failed =
        |error: std::io::Error| Failure::new(Code::Unreachable, format!("remit-runner explain: {error}"), "");
    let question = serde_json::json!({
        "project": project, "manifest": manifest, "grant": action.grant, "secrets": action.secrets,
    });
    let mut command = programs::sister("remit-runner")?;
    command.args(["explain", "--config"]).arg(config).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(question.to_string().as_bytes()).map_err(failed)?;
    }
    let answered = child.wait_with_output().map_err(failed)?;
    if !answered.status.success() {
        return Err(Failure::input(format_args!("{} cannot be used", config.display()))
            .with_remedy("the message of remit-runner stands above"));
    }
    serde_json::from_slice(&answered.stdout).map_err(Failure::input)
}

fn said(denial: &Denial) -> Said {
    let side = match denial.side {
        Side::Request => "request",
        Side::Grant => "grant",
        Side::Ceiling => "ceiling",
    };
    Said { side, what: harmless(&denial.permission), allow: denial.remedy.clone() }
}

fn text(explained: &Explained) -> String {
    let mut lines = Vec::new();
    for step in &explained.steps {
        let verdict = if step.denials.is_empty() { "would run" } else { "would be refused" };
        lines.push(format!("{}  {}  {verdict}", step.step, step.component));
        if let (true, Some(remit)) = (step.denials.is_empty(), &step.remit) {
            lines.push(format!("  remit {remit}"));
        }
        for said in &step.denials {
            let whose = match said.side {
                "trust" => "the runner's trust.toml does not believe it",
                "request" => "the component does not ask for it",
                "grant" => "the job does not give it",
                _ => "the runner's owner does not permit it",
            };
            lines.push(format!("  {}: {}: {whose}; add:", said.side, said.what));
            lines.extend(said.allow.lines().map(|line| format!("    {}", harmless(line))));
        }
    }
    if !explained.exemptions.is_empty() {
        lines.push("runs without a review that trust.toml asks for:".to_owned());
    }
    for debt in &explained.exemptions {
        lines.push(format!(
            "  {} {} until {}{}{}: {}",
            debt.component,
            debt.criteria,
            debt.until.to_seconds_text(),
            if debt.holds { "" } else { ", HAS RUN OUT" },
            if debt.used { ", used here" } else { "" },
            harmless(&debt.reason)
        ));
    }
    lines.join("\n")
}
