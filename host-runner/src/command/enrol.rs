//! `remit-runner enrol`.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use remit_runner::{
    check,
    config::{OrchestratorUrl, ProxyUrl},
    enrol, local, state,
};
use zeroize::Zeroizing;

use super::read_config;
use crate::terminal::{say, say_error, standard_input};

/// Largest ticket.
const MAX_TICKET: u64 = 4096;

#[derive(Args)]
pub(crate) struct Enrol {
    /// The owner's file, which says where the orchestrator and the state directory are. With --url and --state, one to
    /// begin with is written there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The orchestrator.
    #[arg(long, requires = "state")]
    url: Option<OrchestratorUrl>,
    /// The state directory; it is made.
    #[arg(long, requires = "url", value_name = "DIR")]
    state: Option<PathBuf>,
    /// An HTTP proxy on the way.
    #[arg(long, requires = "url")]
    proxy: Option<String>,
    /// Certificates to trust beside the ticket's, in PEM.
    #[arg(long, requires = "url", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A file that holds the ticket, in place of standard input.
    #[arg(long, value_name = "FILE")]
    ticket: Option<PathBuf>,
    /// Done if the host is enrolled already: for what runs at every start.
    #[arg(long)]
    unless_enrolled: bool,
}

pub(crate) async fn enrol_host(arguments: Enrol) -> anyhow::Result<ExitCode> {
    let plan = match (&arguments.url, &arguments.state, &arguments.config) {
        (Some(url), Some(state), _) => enrol::Plan {
            url: url.clone(),
            proxy: arguments.proxy.map(ProxyUrl::try_from).transpose()?,
            ca_file: arguments.ca_file,
            state: std::path::absolute(state)?,
        },
        (None, None, Some(path)) => {
            let config = read_config(path)?;
            let orchestrator = config.orchestrator;
            enrol::Plan {
                url: orchestrator.url,
                proxy: orchestrator.proxy,
                ca_file: orchestrator.ca_file,
                state: config.runner.state,
            }
        }
        _ => bail!("name the owner's file with --config, or --url and --state"),
    };
    if arguments.unless_enrolled
        && let Ok(identity) = state::Identity::read(&plan.state)
    {
        say(&format!("enrolled already as {}", identity.name));
        return Ok(ExitCode::SUCCESS);
    }
    let ticket = match &arguments.ticket {
        Some(file) => {
            Zeroizing::new(local::read_file(file, MAX_TICKET).with_context(|| file.display().to_string())?)
        }
        None => {
            if std::io::stdin().is_terminal() {
                say_error("paste the ticket, then press Enter and Ctrl-D:");
            }
            standard_input(MAX_TICKET)?
        }
    };
    let enrol::Enrolled { name, key } =
        enrol::enrol(&plan, std::str::from_utf8(&ticket).context("the ticket")?).await?;
    say(&format!("enrolled as {name}; its identity is in {}", plan.state.display()));
    say(&format!("whoever types secrets for it pins its key: remit runner pin {name} {key}"));
    if let (Some(path), Some(_)) = (&arguments.config, &arguments.url) {
        for (path, text) in [
            (path.clone(), enrol::starter_config(&plan)),
            (check::directory(path).join("trust.toml"), enrol::STARTER_TRUST.to_owned()),
        ] {
            if !path.exists() {
                std::fs::write(&path, text).with_context(|| path.display().to_string())?;
                say(&format!("wrote {}", path.display()));
            }
        }
        say(&format!(
            "next: remit-runner check --config {0}, then remit-runner run --config {0}",
            path.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}
