//! `remit-runner audit`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use remit_runner::{audit, state};

use super::{Configured, read_config};
use crate::terminal::say;

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Print the key that signs the end of the record: `remit audit verify --key` wants it.
    Key(Configured),
    /// Print the record and its signed end, for `remit audit verify`.
    Export(Configured),
}

pub(crate) fn show_audit(command: Audit) -> anyhow::Result<ExitCode> {
    match command {
        Audit::Key(configured) => {
            let identity = state::Identity::read(&read_config(&configured.config)?.runner.state)?;
            say(&identity.key.vkey().to_string());
        }
        Audit::Export(configured) => {
            let state = read_config(&configured.config)?.runner.state;
            let mut out = std::io::stdout().lock();
            audit::export(&state, &mut out)
                .with_context(|| format!("the record below {}", state.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
