//! What the program does: a file for each command, and here what several of them share.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod conformance;
pub(crate) mod enrol;
pub(crate) mod owner;
pub(crate) mod part;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod step;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use remit_runner::{
    check,
    config::{Config, MAX_CONFIG},
    confine, local,
};

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Form {
    Text,
    Json,
}

#[derive(Args)]
pub(crate) struct Configured {
    /// The owner's file.
    #[arg(long, value_name = "FILE", default_value = "runner.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Args)]
pub(crate) struct Report {
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// The form of the findings.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    pub(crate) output: Form,
}

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).max_blocking_threads(32).on_thread_start(confine::often);
    builder.enable_all().build().context("no threads")
}

pub(crate) fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(work)
}

pub(crate) fn read_config(path: &Path) -> anyhow::Result<Config> {
    Ok(read_owners_file(path)?.0)
}

/// The owner's file, with its text and the directory in which it lies.
pub(crate) fn read_owners_file(path: &Path) -> anyhow::Result<(Config, String, PathBuf)> {
    let bytes = local::read_file(path, MAX_CONFIG).with_context(|| path.display().to_string())?;
    let text = String::from_utf8(bytes).with_context(|| path.display().to_string())?;
    let directory = std::path::absolute(check::directory(path))?;
    let parsed = Config::parse(&text, &directory).map_err(|faults| {
        let lines = faults
            .into_iter()
            .map(|fault| check::Mistake { file: path.to_owned(), fault, warning: false }.to_string());
        anyhow::anyhow!("the configuration has mistakes:\n{}", lines.collect::<Vec<_>>().join("\n"))
    });
    Ok((parsed?, text, directory))
}
