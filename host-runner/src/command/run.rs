//! `remit-runner run`.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use remit_runner::{
    broker::apart::Charter,
    clock,
    config::Config,
    confine::{self, Part, Reach},
    launcher::{Catalogue, Client, Launcher},
    runner::Exit,
    secrets::{ProviderConfig, store::settle},
    start::{self, Environment},
    state,
};

use super::{read_owners_file, runtime};

pub(crate) fn run(
    path: &Path,
    environment: &Environment,
    arguments: Vec<String>,
) -> anyhow::Result<ExitCode> {
    // Variables are taken out of the environment: before there are threads. Programs are started by a process that is not
    // confined; from here on this one cannot start any.
    let (config, launcher) = split_off(path, environment)?;
    confine::close_to_others()?;
    let reach = Reach::of_supervisor(&config, &std::path::absolute(path)?);
    confine::confine(Part::Supervisor, &reach, config.runner.confinement, |lacking| {
        tracing::warn!(%lacking, "the owner lets this runner begin without confinement");
    })?;
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let runner = start::runner(&config, environment, launcher, arguments).await?;
        let (stop, stopped) = tokio::sync::mpsc::channel(4);
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let signals = async move {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if stop.send(()).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), orchestrator = %config.orchestrator.url, slots = config.runner.slots, "starting");
        // Among the runtime's own tasks: whatever happened would have to wake this thread otherwise.
        let life = runtime.spawn(runner.run(stopped));
        tokio::select! {
            exit = life => exit.context("the runner broke off"),
            () = signals => unreachable_signals(),
        }
    })?;
    // Guests that do not end by themselves must not keep the program.
    runtime.shutdown_background();
    match exit {
        Exit::Drained => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Exit::Fatal(why) => bail!("{why}"),
    }
}

/// Everything that is decided before this process has heard a word from outside: what the launcher starts, and what a broker
/// is born with. What came in the environment goes to the launcher alone.
fn split_off(path: &Path, environment: &Environment) -> anyhow::Result<(Config, Launcher)> {
    let (config, text, directory) = read_owners_file(path)?;
    let (program, state) = (&environment.program, &config.runner.state);
    if config.providers.iter().any(|provider| matches!(provider, ProviderConfig::Store { .. })) {
        settle(state)?;
    }
    // Who is not enrolled is told so when it is looked for.
    if let Ok(identity) = state::Identity::read(state) {
        state::sealing::settle(state, &identity, clock::random, clock::system())?;
    }
    let catalogue = Catalogue::new(program, &state.join(state::SCRATCH), config.runner.confinement)
        .with_workers(&state.join(state::WORKERS))
        .with_ceiling(&config.ceiling)
        .with_providers(&config.providers);
    let charter = Charter::new(text, &directory, program, environment.credentials.as_deref())
        .with_variables(&config, environment.take)
        .into_bytes()
        .context("what the broker begins with")?;
    let launcher =
        Launcher::start(program, &catalogue, Client::Supervisor, &charter).context("the launcher process")?;
    Ok((config, launcher))
}

fn unreachable_signals() -> anyhow::Result<Exit> {
    bail!("signals are not heard any more")
}
