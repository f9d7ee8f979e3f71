//! `remit-runner check`, `doctor` and `explain`: what the owner's files say, and what this host makes of them.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use remit_protocol::{Digest, RunnerId, RunnerName, manifest::Manifest, weigh};
use remit_runner::{
    check,
    doctor::{self, Finding, Severity, Thorough},
    explain,
    start::Environment,
    state,
};
use serde::Serialize;

use super::{Configured, Form, Report, read_config, runtime};
use crate::terminal::{say, say_json, standard_input};

/// Longest question of `explain`: a manifest and a grant.
const MAX_QUESTION: u64 = 4 << 20;

#[derive(Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    configured: Configured,
    /// The question is a manifest: what the ceiling says to each of its requests.
    #[arg(long)]
    requests: bool,
}

pub(crate) fn check_files(report: &Report) -> anyhow::Result<ExitCode> {
    let mistakes = check::check(&report.configured.config);
    match report.output {
        Form::Json => say_json(&mistakes)?,
        Form::Text if mistakes.is_empty() => say("no mistake found"),
        Form::Text => mistakes.iter().for_each(|mistake| say(&mistake.to_string())),
    }
    Ok(if mistakes.iter().all(|mistake| mistake.warning) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Who a runner is.
#[derive(Serialize)]
struct Shown {
    runner: RunnerId,
    name: RunnerName,
    /// Its identity key, as a `[[peer]]` of a trust policy names it.
    key: String,
    /// How it is pinned.
    fingerprint: Digest,
    /// The note on its sealing key.
    #[serde(skip_serializing_if = "Option::is_none")]
    sealing: Option<String>,
}

pub(crate) fn show_identity(report: &Report) -> anyhow::Result<ExitCode> {
    let state = read_config(&report.configured.config)?.runner.state;
    let identity = state::Identity::read(&state)?;
    let shown = Shown {
        runner: identity.runner,
        fingerprint: identity.key.public().fingerprint(),
        key: identity.key.vkey().to_string(),
        sealing: state::sealing::note(&state)?,
        name: identity.name,
    };
    match report.output {
        Form::Json => say_json(&shown)?,
        Form::Text => {
            let Shown { runner, name, key, fingerprint, sealing } = &shown;
            let sealed = match sealing {
                Some(_) => "there is a key to which secrets are sealed",
                None => "no key yet to which secrets are sealed: one is made when the runner starts",
            };
            say(&format!(
                "runner       {name} ({runner})\nkey          {key}\nfingerprint  {fingerprint}\nsealing      {sealed}"
            ));
            say(&format!("who types secrets for it pins it: remit runner pin {name} {fingerprint}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn examine(
    report: &Report,
    thorough: Thorough,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let mut worst = Severity::Good;
    let mut findings = Vec::new();
    let mut hear = |finding: Finding| {
        worst = worst.max(finding.severity);
        if let Form::Text = report.output {
            let mark = match finding.severity {
                Severity::Good => "ok     ",
                Severity::Warning => "warning",
                Severity::Bad => "BAD    ",
            };
            say(&format!("{mark} {}: {}", finding.what, finding.found));
            if !finding.remedy.is_empty() {
                say(&format!("        {}", finding.remedy));
            }
        }
        findings.push(finding);
    };
    let path = &report.configured.config;
    // Providers may take variables out of the environment: before there are threads.
    if let Some(config) = doctor::configuration(path, &mut hear) {
        hear(doctor::providers(&config, environment));
        runtime()?.block_on(doctor::examine(&config, thorough, &mut hear));
    }
    if let Form::Json = report.output {
        say_json(&findings)?;
    }
    Ok(if worst == Severity::Bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(crate) fn explain_step(asked: &Explain) -> anyhow::Result<ExitCode> {
    let config = read_config(&asked.configured.config)?;
    let question = standard_input(MAX_QUESTION)?;
    if asked.requests {
        let manifest = Manifest::from_slice(&question).context("the manifest")?;
        say_json(&weigh::weigh(&manifest.name, &manifest.requests, &config.ceiling))?;
        return Ok(ExitCode::SUCCESS);
    }
    let question = serde_json::from_slice(&question).context("the question")?;
    say_json(&explain::explain(&config, &question))?;
    Ok(ExitCode::SUCCESS)
}
