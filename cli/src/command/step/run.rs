//! `remit step run`: the component in the runner's own sandbox, on the author's machine.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use clap::Args;

use crate::{
    failure::{Code, Failure, Result},
    output::{Output, harmless},
    package::Package,
    programs,
};

#[derive(Args)]
pub(crate) struct Run {
    /// The package, or the crate that it was built in.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The input, as JSON.
    #[arg(long, default_value = "{}")]
    input: String,
    /// What the step is granted, as JSON; absent: everything literal that it requests.
    #[arg(long, value_name = "JSON")]
    grant: Option<String>,
    /// The ceiling: a runner.toml; absent: what the grant names, and no private address.
    #[arg(long, value_name = "RUNNER.TOML")]
    ceiling: Option<PathBuf>,
    /// The node that it is run for, as JSON: name, tags, attributes.
    #[arg(long, value_name = "JSON")]
    node: Option<String>,
    /// A secret of the ceiling's providers, as NAME=PATH. May be repeated.
    #[arg(long = "secret", value_name = "NAME=PATH")]
    secrets: Vec<String>,
    /// The directory that its artifacts are written to; absent: they are only listed.
    #[arg(long, value_name = "DIRECTORY")]
    artifacts: Option<PathBuf>,
}

impl Run {
    /// The result stands on standard output as JSON, the log on standard error; the exit code is the runner's.
    pub(crate) fn run(self) -> Result<()> {
        let status = self
            .command("run")?
            .status()
            .map_err(|error| Failure::new(Code::Unreachable, error.to_string(), ""))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(Code::Failed, "the step did not succeed", ""))
        }
    }

    /// The least `step.toml` that this run needs stands on standard output; with JSON, beside the result.
    pub(crate) fn record(self, output: Output) -> Result<()> {
        let unreachable = |error: std::io::Error| Failure::new(Code::Unreachable, error.to_string(), "");
        let mut command = self.command("record")?;
        let ended = command.stderr(Stdio::inherit()).output().map_err(unreachable)?;
        let text = String::from_utf8_lossy(&ended.stdout).into_owned();
        let Ok(recorded) = serde_json::from_str::<serde_json::Value>(text.trim_end()) else {
            return Err(Failure::new(Code::Failed, "the step was not run", ""));
        };
        output.print(&recorded, |recorded| {
            let proposal = recorded["proposal"].as_str().unwrap_or_default();
            proposal.lines().map(harmless).collect::<Vec<_>>().join("\n")
        });
        if ended.status.success() {
            return Ok(());
        }
        let why = recorded["message"].as_str().unwrap_or("the step did not succeed");
        Err(Failure::new(Code::Failed, harmless(why), ""))
    }

    fn command(&self, verb: &str) -> Result<Command> {
        let package = Package::find(&self.folder)?;
        let mut command = programs::sister("remit-runner")?;
        command.args(["step", verb, "--component"]).arg(package.wasm_path());
        command.arg("--manifest").arg(package.manifest_path()).arg("--input").arg(&self.input);
        for (name, value) in [("--grant", &self.grant), ("--node", &self.node)] {
            if let Some(value) = value {
                command.arg(name).arg(value);
            }
        }
        if let Some(ceiling) = &self.ceiling {
            command.arg("--ceiling").arg(ceiling);
        }
        if let Some(artifacts) = &self.artifacts {
            command.arg("--artifacts").arg(artifacts);
        }
        for secret in &self.secrets {
            command.arg("--secret").arg(secret);
        }
        Ok(command)
    }
}
