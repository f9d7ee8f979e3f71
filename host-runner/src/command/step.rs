//! `remit-runner step`: a component on this machine.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use remit_protocol::{
    SecretName, SecretPath,
    capability::{Grant, imports::Profile},
    limits::{MAX_COMPONENT, MAX_MANIFEST},
    manifest::Kind,
    node::Node,
};
use remit_runner::{
    local,
    secrets::Providers,
    start::{self, Environment},
};

use super::{block_on, read_config, runtime};
use crate::terminal::say_json;

#[derive(Subcommand)]
pub(crate) enum Step {
    /// Run it once: the result as JSON on standard output, its log on standard error.
    Run(StepRun),
    /// Run it once and add what it really used, as the least that a step.toml has to ask for.
    Record(StepRun),
    /// Print the schemas of its input and output.
    Describe {
        /// The component.
        #[arg(long, value_name = "WASM")]
        component: PathBuf,
        /// What it is.
        #[arg(long, value_enum, default_value_t = KindName::Step)]
        kind: KindName,
        /// The language whose toolchain made it, if that has a profile.
        #[arg(long, value_enum)]
        profile: Option<ProfileName>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ProfileName {
    Python,
    Js,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Self {
        match name {
            ProfileName::Python => Self::Python,
            ProfileName::Js => Self::Js,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum KindName {
    Step,
    NodeSource,
}

#[derive(Args)]
pub(crate) struct StepRun {
    /// The component.
    #[arg(long, value_name = "WASM")]
    component: PathBuf,
    /// Its manifest.
    #[arg(long, value_name = "JSON-FILE")]
    manifest: PathBuf,
    /// Its input, as JSON.
    #[arg(long, default_value = "{}")]
    input: String,
    /// What it is granted, as JSON; absent: everything literal that it requests.
    #[arg(long, value_name = "JSON")]
    grant: Option<String>,
    /// The ceiling and the secrets providers; absent: what the grant names, and no private address.
    #[arg(long, value_name = "RUNNER.TOML")]
    ceiling: Option<PathBuf>,
    /// The node that it is run for, as JSON: name, tags, attributes.
    #[arg(long, value_name = "JSON")]
    node: Option<String>,
    /// A secret of the ceiling's providers. May be repeated.
    #[arg(long = "secret", value_name = "NAME=PATH")]
    secrets: Vec<String>,
    /// A file that the component may read by name. May be repeated.
    #[arg(long = "file", value_name = "NAME=PATH")]
    files: Vec<String>,
    /// The directory that its artifacts are written to; absent: they are only listed.
    #[arg(long, value_name = "DIRECTORY")]
    artifacts: Option<PathBuf>,
}

pub(crate) fn step(step: Step, environment: &Environment) -> anyhow::Result<ExitCode> {
    match step {
        Step::Run(step) => step_run(&step, environment),
        Step::Record(step) => step_record(&step, environment),
        Step::Describe { component, kind, profile } => {
            block_on(describe(component, kind, profile, environment))
        }
    }
}

fn step_run(step: &StepRun, environment: &Environment) -> anyhow::Result<ExitCode> {
    let local::Recorded { report, .. } = run_recorded(step, environment)?;
    if let Some(usage) = &report.usage {
        // A closed standard error is the reader's own wish.
        let _ = writeln!(std::io::stderr(), "used: {}", usage.words());
    }
    say_json(&report)?;
    Ok(if report.outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn step_record(step: &StepRun, environment: &Environment) -> anyhow::Result<ExitCode> {
    let recorded = run_recorded(step, environment)?;
    say_json(&recorded)?;
    Ok(if recorded.report.outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_recorded(step: &StepRun, environment: &Environment) -> anyhow::Result<local::Recorded> {
    let run = local_run(step)?;
    // Providers may take variables out of the environment: before there are threads.
    let providers = match &run.config {
        Some(config) => start::providers(config, environment)?,
        None => Providers::default(),
    };
    Ok(runtime()?.block_on(local::run(run, providers, environment))?)
}

pub(crate) fn local_run(step: &StepRun) -> anyhow::Result<local::Run> {
    let read = |path: &Path, limit| local::read_file(path, limit).with_context(|| path.display().to_string());
    let mut secrets: BTreeMap<SecretName, Vec<SecretPath>> = BTreeMap::new();
    for (name, path) in pairs(&step.secrets)? {
        secrets.entry(SecretName::new(name)?).or_default().push(SecretPath::new(path)?);
    }
    let mut files = Vec::new();
    for (name, path) in pairs(&step.files)? {
        files.push((name.to_owned(), std::path::absolute(path)?));
    }
    Ok(local::Run {
        component: read(&step.component, MAX_COMPONENT)?,
        manifest: read(&step.manifest, MAX_MANIFEST as u64)?,
        input: serde_json::from_str(&step.input).context("--input")?,
        grant: step.grant.as_deref().map(serde_json::from_str::<Grant>).transpose().context("--grant")?,
        config: step.ceiling.as_deref().map(read_config).transpose()?,
        node: step.node.as_deref().map(serde_json::from_str::<Node>).transpose().context("--node")?,
        secrets,
        files,
        artifacts: step.artifacts.clone(),
    })
}

fn pairs(texts: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    let split = |text: &'_ String| -> anyhow::Result<()> {
        if text.contains('=') { Ok(()) } else { bail!("{text:?}: write NAME=PATH") }
    };
    texts.iter().try_for_each(split)?;
    Ok(texts.iter().filter_map(|text| text.split_once('=')).collect())
}

async fn describe(
    component: PathBuf,
    kind: KindName,
    profile: Option<ProfileName>,
    environment: &Environment,
) -> anyhow::Result<ExitCode> {
    let bytes =
        local::read_file(&component, MAX_COMPONENT).with_context(|| component.display().to_string())?;
    let kind = match kind {
        KindName::Step => Kind::Step,
        KindName::NodeSource => Kind::NodeSource,
    };
    let described = local::describe(bytes, kind, profile.map(Profile::from), environment).await?;
    say_json(&serde_json::json!({ "input": described.input, "output": described.output }))?;
    Ok(ExitCode::SUCCESS)
}
