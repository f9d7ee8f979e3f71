//! `remit-runner bench`: what `cargo xtask bench` asks of this program.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Subcommand;
use remit_protocol::limits::MAX_COMPONENT;
use remit_runner::{conformance, local, measure, start::Environment};
use serde::Serialize;

use super::{
    runtime,
    step::{StepRun, local_run},
};
use crate::terminal::say_json;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Instantiate, run and drop, warm.
    WarmStep {
        #[command(flatten)]
        step: StepRun,
        /// How often.
        #[arg(long, default_value_t = 5000)]
        runs: u32,
        /// In a worker, as under a runner.
        #[arg(long)]
        worker: bool,
    },
    /// What a request of a component costs, in this process and in a worker.
    Broker {
        /// The folder of the hostile components, as `cargo xtask guests` leaves it.
        #[arg(long, value_name = "DIR")]
        suite: PathBuf,
        /// How many requests.
        #[arg(long, default_value_t = 3000)]
        requests: u32,
    },
    /// Judge requests, and take secrets out of a text: no component is needed.
    Rules,
    /// What each of many live sandboxes takes of the host's memory.
    Live {
        /// The folder of the hostile components, as `cargo xtask guests` leaves it.
        #[arg(long, value_name = "DIR")]
        suite: PathBuf,
        /// How many at once.
        #[arg(long, default_value_t = 1000)]
        sandboxes: u32,
    },
    /// From the start of a compile process to cached code.
    Compile {
        /// The component.
        #[arg(long, value_name = "FILE")]
        component: PathBuf,
        /// How often.
        #[arg(long, default_value_t = 11)]
        runs: u32,
    },
    /// How a quiet step fares beside hostile neighbours.
    Neighbours {
        /// The folder of the hostile components, as `cargo xtask guests` leaves it.
        #[arg(long, value_name = "DIR")]
        suite: PathBuf,
        /// How many runs of the quiet step, alone and again beside them.
        #[arg(long, default_value_t = 3000)]
        runs: u32,
    },
}

pub(crate) fn measure(bench: Bench, environment: &Environment) -> anyhow::Result<ExitCode> {
    let environment = environment.clone();
    match bench {
        Bench::WarmStep { step, runs, worker } => told(async move {
            let home = if worker { local::Home::Worker } else { local::Home::Here };
            Ok(local::warm_step(local_run(&step)?, runs, home, &environment).await?)
        }),
        Bench::Broker { suite, requests } => {
            told(async move { conformance::cost::requests(&suite, &environment.program, requests).await })
        }
        Bench::Live { suite, sandboxes } => {
            told(async move { conformance::crowd::live(&suite, &environment.program, sandboxes).await })
        }
        Bench::Neighbours { suite, runs } => {
            told(async move { conformance::crowd::neighbours(&suite, &environment.program, runs).await })
        }
        Bench::Compile { component, runs } => told(async move {
            let bytes = local::read_file(&component, MAX_COMPONENT)?;
            conformance::cost::compiling(&environment.program, &bytes, runs).await
        }),
        Bench::Rules => {
            say_json(&measure::rules()?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Measures in one of the runtime's tasks, where a runner's attempts live, and says what was found.
fn told<T: Serialize + Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    say_json(&runtime.block_on(runtime.spawn(work)).context("the measuring broke off")??)?;
    Ok(ExitCode::SUCCESS)
}
