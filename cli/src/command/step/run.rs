//! `remit step run`: the component in the runner's own sandbox, on the author's machine.

use std::path::PathBuf;

use clap::Args;

use crate::{
    failure::{Code, Failure, Result},
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
}

impl Run {
    /// The result stands on standard output as JSON, the log on standard error; the exit code is the runner's.
    pub(crate) fn run(self) -> Result<()> {
        let package = Package::find(&self.folder)?;
        let mut command = programs::sister("remit-runner")?;
        command.args(["step", "run", "--component"]).arg(package.wasm_path());
        command.arg("--manifest").arg(package.manifest_path()).arg("--input").arg(&self.input);
        for (name, value) in [("--grant", &self.grant), ("--node", &self.node)] {
            if let Some(value) = value {
                command.arg(name).arg(value);
            }
        }
        if let Some(ceiling) = &self.ceiling {
            command.arg("--ceiling").arg(ceiling);
        }
        for secret in &self.secrets {
            command.arg("--secret").arg(secret);
        }
        let status =
            command.status().map_err(|error| Failure::new(Code::Unreachable, error.to_string(), ""))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(Code::Failed, "the step did not succeed", ""))
        }
    }
}
