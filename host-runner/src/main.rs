//! `remit-runner`: for the owner of a host that runs steps.
//!
//! Thin: arguments in, one call of the library, words and an exit code out. Exit codes: 0 done; 1 it failed, or mistakes
//! were found; 2 the command line is wrong.

mod command;
mod terminal;

use std::{ffi::CString, io::IsTerminal as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use remit_protocol::Size;
use remit_runner::{
    confine::Confinement, conformance::probe::probe, doctor::Thorough, launcher, sandbox::Metering,
    start::Environment,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use zeroize::Zeroizing;

use command::{
    Configured, Report, audit, bench, block_on, conformance, enrol, owner, part, run, secret, step,
};
use terminal::{say, say_error};

/// Fetches signed work, confines it to its remit, runs it.
#[derive(Parser)]
#[command(name = "remit-runner", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The form of the runner's own log, on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text, env = "REMIT_LOG_FORM")]
    log_form: LogForm,
    /// What is logged, such as info or remit_runner=debug.
    #[arg(long, global = true, default_value = "info", env = "REMIT_LOG")]
    log: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogForm {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Make this host a runner: reads a one-use ticket from standard input.
    Enrol(enrol::Enrol),
    /// Run until told to stop: SIGTERM ends what runs, a second one cancels it.
    Run {
        #[command(flatten)]
        configured: Configured,
        /// Stop when the process that started it ends, however that ends.
        #[arg(long, hide = true)]
        end_with_parent: bool,
    },
    /// Find every mistake in runner.toml and trust.toml.
    Check(Report),
    /// Find out what is wrong on this host, and what to do.
    Doctor {
        #[command(flatten)]
        report: Report,
        /// Leave out the call that takes as long as a parked poll, half a minute.
        #[arg(long)]
        quick: bool,
    },
    /// Let hostile components attack this program on this host, and report what held.
    Conformance(conformance::Conformance),
    /// Say who this runner is: the key that people pin who type secrets for it, or whose owners believe its results.
    Identity(Report),
    /// Values in this host's encrypted store.
    #[command(subcommand)]
    Secret(secret::Secret),
    /// The record of what this runner did and refused.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Say what the owner's file would allow a step: a question in JSON on standard input, the answer on standard output.
    #[command(hide = true)]
    Explain(owner::Explain),
    /// A component on this machine, for its author.
    #[command(subcommand)]
    Step(step::Step),
    /// Measure.
    #[command(subcommand, hide = true)]
    Bench(bench::Bench),
    /// Start what the runner at the other end of standard input orders.
    #[command(hide = true)]
    Launch,
    /// Keep secrets and call out for the runner at the other end of standard input; the launcher is behind standard output.
    #[command(hide = true)]
    Broker,
    /// Compile: wasm on standard input, native code on standard output.
    #[command(hide = true)]
    Compile {
        /// The code counts the fuel that it uses.
        #[arg(long)]
        fuel: bool,
        /// Its address space.
        #[arg(long)]
        memory: Option<Size>,
        /// Its processor time.
        #[arg(long)]
        cpu_seconds: Option<u64>,
    },
    /// Try one thing that only somebody who has broken out of a worker would try, confined like one or not.
    #[command(hide = true)]
    Probe {
        /// Confined as workers are.
        #[arg(long)]
        confined: bool,
        /// What is tried: `connect`, `read`, `list` or `start`.
        what: String,
        /// At what.
        at: String,
    },
    /// Run one component for the runner at the other end of standard input; its native code is behind standard output.
    #[command(hide = true)]
    Worker {
        /// Whether it begins on a kernel that cannot confine it.
        #[arg(long)]
        confinement: Confinement,
        /// Where its runs have their scratch directories.
        #[arg(long)]
        scratch: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Secrets pass through this process: it leaves no image of its memory when it dies.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        say_error(&format!("remit-runner: core dumps cannot be switched off: {error}"));
        return ExitCode::FAILURE;
    }
    // Before there is any other thread: variables that hold secrets are read and removed.
    let environment = environment();
    log(&cli);
    let arguments = broker_arguments(&cli);
    match dispatch(cli.command, &environment, arguments) {
        Ok(code) => code,
        Err(error) => {
            say_error(&format!("remit-runner: {}", words(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; a cause that the error has told already is not told again.
fn words(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !told.contains(&cause) {
            let separator = if told.is_empty() { "" } else { ": " };
            told.extend([separator, &cause]);
        }
    }
    told
}

#[expect(clippy::disallowed_methods, reason = "the one place where the runner reads its environment")]
fn environment() -> Environment {
    Environment {
        credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        take: take_variable,
        program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("remit-runner")),
    }
}

/// Called while there is one thread: see [`run::run`].
#[expect(
    clippy::disallowed_methods,
    unsafe_code,
    reason = "the one place where the runner reads its environment"
)]
fn take_variable(name: &str) -> Option<Zeroizing<Vec<u8>>> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name).map(|value| Zeroizing::new(value.into_vec()))?;
    let place = CString::new(name).ok()?;
    // SAFETY: no other thread exists yet that could read the environment meanwhile. Where the value stands, the process was
    // given as many bytes by the kernel, which would show them in /proc for as long as it lives.
    unsafe {
        let held = libc::getenv(place.as_ptr());
        if !held.is_null() {
            held.cast::<u8>().write_bytes(0, libc::strlen(held));
        }
        std::env::remove_var(name);
    }
    Some(value)
}

fn log(cli: &Cli) {
    let filter = tracing_subscriber::EnvFilter::new(&cli.log);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_form {
        LogForm::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).init(),
        LogForm::Json => subscriber.json().init(),
    }
}

/// How the broker of this runner is started: it writes to the same log.
fn broker_arguments(cli: &Cli) -> Vec<String> {
    let form = match cli.log_form {
        LogForm::Text => "text",
        LogForm::Json => "json",
    };
    vec![launcher::BROKER.to_owned(), format!("--log={}", cli.log), format!("--log-form={form}")]
}

fn dispatch(command: Command, environment: &Environment, arguments: Vec<String>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Compile { fuel, memory, cpu_seconds } => {
            part::compile(Metering::where_counted(fuel), memory, cpu_seconds)
        }
        Command::Probe { confined, what, at } => {
            say(&probe(confined, &what, &at)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Launch => part::launch(),
        Command::Worker { confinement, scratch } => part::work(scratch, confinement),
        Command::Broker => part::keep_and_call(),
        Command::Check(report) => owner::check_files(&report),
        Command::Identity(report) => owner::show_identity(&report),
        Command::Audit(audit) => audit::show_audit(audit),
        Command::Explain(asked) => owner::explain_step(&asked),
        Command::Conformance(suite) => block_on(conformance::conform(suite, environment)),
        Command::Secret(secret) => secret::keep_secret(secret, environment),
        Command::Enrol(plan) => block_on(enrol::enrol_host(plan)),
        Command::Run { configured, end_with_parent } => {
            if end_with_parent {
                set_parent_process_death_signal(Some(Signal::TERM))?;
            }
            run::run(&configured.config, environment, arguments)
        }
        Command::Doctor { report, quick } => {
            let thorough = if quick { Thorough::No } else { Thorough::Yes };
            owner::examine(&report, thorough, environment)
        }
        Command::Step(step) => step::step(step, environment),
        Command::Bench(bench) => bench::measure(bench, environment),
    }
}
