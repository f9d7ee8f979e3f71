//! The processes that a runner is made of, each started by another of them.

use std::{io::Write as _, os::fd::AsFd as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use remit_protocol::{Size, limits::MAX_COMPONENT};
use remit_runner::{
    broker::apart,
    component::compile::{Bounds, limit_this_process},
    confine::{self, Confinement, Part, Reach},
    launcher,
    sandbox::{self, Metering},
    worker,
};

use super::runtime;
use crate::terminal::standard_input;

pub(crate) fn launch() -> anyhow::Result<ExitCode> {
    // It keeps what brokers begin with.
    confine::close_to_others().context("the launcher process")?;
    // Whatever started it: no program that it starts is let in before others.
    confine::evenly();
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    launcher::serve(socket)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn keep_and_call() -> anyhow::Result<ExitCode> {
    confine::begin().context("the broker's process")?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let line = std::io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
    apart::live(socket, line, || runtime().map_err(std::io::Error::other))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn work(scratch: Option<PathBuf>, confinement: Confinement) -> anyhow::Result<ExitCode> {
    confine::worker::begin().context("the worker's process")?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let code = std::io::stdout().as_fd().try_clone_to_owned().context("standard output")?;
    worker::live(socket, code, scratch, confinement)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn compile(
    metering: Metering,
    memory: Option<Size>,
    cpu_seconds: Option<u64>,
) -> anyhow::Result<ExitCode> {
    let most = Bounds::default();
    let bounds = Bounds {
        memory: memory.unwrap_or(most.memory).min(most.memory),
        cpu_seconds: cpu_seconds.unwrap_or(most.cpu_seconds).min(most.cpu_seconds),
    };
    limit_this_process(bounds).context("limits of the compile process")?;
    // It needs nothing but its pipes. Where the kernel cannot hold it to that, the owner has agreed to do without, or this
    // is an author's own machine.
    confine::confine(Part::Supervisor, &Reach::default(), Confinement::WherePossible, |_| {})?;
    let wasm = standard_input(MAX_COMPONENT)?;
    let native = sandbox::compile(&wasm, metering)?;
    std::io::stdout().lock().write_all(native.as_bytes()).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}
