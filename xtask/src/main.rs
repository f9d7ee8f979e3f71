//! Builds, signs, demonstrates, tests and measures Remit: `cargo xtask <task>`.

mod bench;
mod build;
mod demo;
mod fuzz;
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
    /// Measure, each number beside a baseline of the same run.
    Bench(bench::Bench),
    /// Make hostile inputs for everything that reads what others wrote: `[--minutes N | --iterations N] [--seed N] [TARGET]`.
    Fuzz {
        /// As `remit-fuzz --help` says.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The fleet simulator that `bench` starts.
    #[command(hide = true)]
    Fleet(bench::Fleet),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Build { release } => build::all(release),
        Task::Guests => build::guests(),
        Task::Test => test::all(),
        Task::Demo { check } => demo::run(check),
        Task::Bench(bench) => bench.run(),
        Task::Fuzz { arguments } => fuzz::fuzz(&arguments),
        Task::Fleet(fleet) => bench::simulate(&fleet),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
