//! Builds, signs, demonstrates, tests and measures Remit: `cargo xtask <task>`.

mod build;
mod demo;
mod shell;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, signs, demonstrates, tests and measures Remit.")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the programs and the built-in components, and sign those with the local builder key.
    Build {
        /// Optimised programs.
        #[arg(long)]
        release: bool,
    },
    /// Build the hostile guests that tests run.
    Guests,
    /// Run all that CI checks.
    Test,
    /// Show the whole product at work on this machine.
    Demo {
        /// Unattended: exit non-zero if anything is not as it should be.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Build { release } => build::all(release),
        Task::Guests => build::guests(),
        Task::Test => test::all(),
        Task::Demo { check } => demo::run(check),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
