//! `remit`: the command line of authors, operators and auditors.
//!
//! Thin: what needs the sandbox is asked of the `remit-runner` beside it, everything else of an orchestrator. *Never
//! here:* wasmtime, SQL, a rule of the product. Every command takes `--output json`; exit codes are listed in
//! [`failure::Code`]; a failure says what to do next.

mod command;
mod connection;
mod failure;
mod files;
mod output;
mod package;
mod pins;
mod programs;
mod sse;
mod terminal;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    command::{
        adhoc, audit, channel, component, execution, export, hook, import, job, key, log, login, nodes, note,
        policy, project, runner, schedule, step, token, up,
    },
    connection::{Connection, Target},
    failure::Result,
    output::Output,
};

#[derive(Parser)]
#[command(
    name = "remit",
    version,
    about = "Runs automation where the infrastructure is: signed steps, each within exactly its remit.",
    after_help = "Exit codes: 0 done, 1 what was asked for ended badly, 2 usage, 3 bad input, 4 refused by a signature, \
                  policy or remit, 5 unreachable, 6 forbidden, 7 not found, 8 nothing to check."
)]
struct Arguments {
    /// Text for people, JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Orchestrator and local runner on this machine, over loopback TLS.
    Up(up::Up),
    /// Keep address, token and project for the commands to come.
    Login(login::Login),
    /// Make, build, test, run, sign, publish and inspect steps and node sources.
    #[command(subcommand)]
    Step(step::Step),
    /// Components in the registry.
    #[command(subcommand)]
    Component(component::Component),
    /// Keys that sign.
    #[command(subcommand)]
    Key(key::Key),
    /// Signed notes.
    #[command(subcommand)]
    Note(note::Note),
    /// The transparency log.
    #[command(subcommand)]
    Log(log::Log),
    /// Records of what was done.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Projects.
    #[command(subcommand)]
    Project(project::Project),
    /// Runners.
    #[command(subcommand)]
    Runner(runner::Runner),
    /// What a runner's owner would say.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Jobs.
    #[command(subcommand)]
    Job(job::Job),
    /// Move in from another product.
    #[command(subcommand)]
    Import(import::Import),
    /// When jobs are run without being asked.
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    /// Webhooks: other programs run a job by a signed call.
    #[command(subcommand)]
    Hook(hook::Hook),
    /// Where jobs make their executions known: webhooks and mail addresses.
    #[command(subcommand)]
    Channel(channel::Channel),
    /// Write jobs as files.
    #[command(subcommand)]
    Export(export::Export),
    /// Commands that are no job.
    #[command(subcommand, name = "command")]
    Adhoc(adhoc::Adhoc),
    /// Executions of jobs.
    #[command(subcommand)]
    Execution(execution::Execution),
    /// Nodes and their sources.
    #[command(subcommand)]
    Nodes(nodes::Nodes),
    /// API tokens.
    #[command(subcommand)]
    Token(token::Token),
    /// Print a completion script for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = arguments.output;
    // The one provider of cryptography; a second call would only find it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match output {
                Output::Json => output.print(&failure.problem(), |_| String::new()),
                Output::Text => output::note(&failure.to_string()),
            }
            failure.exit_code()
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { output, target, command } = arguments;
    match command {
        Command::Up(up) => up.run(output).await,
        Command::Login(login) => login.run(&target, output).await,
        Command::Key(key) => key.run(output),
        Command::Note(note) => note.run(output),
        Command::Log(log) => log.run(&target, output).await,
        Command::Audit(audit) => audit.run(&target, output).await,
        Command::Import(import) => import.run(output),
        Command::Hook(hook) => hook.run(&target, output).await,
        Command::Channel(channel) => channel.run(&Connection::open(&target)?, output).await,
        Command::Schedule(schedule) => schedule.run(&target, output).await,
        Command::Step(step) => step.run(&target, output).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "remit", &mut std::io::stdout());
            Ok(())
        }
        Command::Component(component) => component.run(&Connection::open(&target)?, output).await,
        Command::Project(project) => project.run(&Connection::open(&target)?, output).await,
        Command::Runner(runner) => runner.run(&Connection::open(&target)?, output).await,
        Command::Policy(policy) => policy.run(&Connection::open(&target)?, output).await,
        Command::Job(job) => job.run(&Connection::open(&target)?, output).await,
        Command::Export(export) => export.run(&Connection::open(&target)?, output).await,
        Command::Execution(execution) => execution.run(&Connection::open(&target)?, output).await,
        Command::Adhoc(adhoc) => adhoc.run(&Connection::open(&target)?, output).await,
        Command::Nodes(nodes) => nodes.run(&Connection::open(&target)?, output).await,
        Command::Token(token) => token.run(&Connection::open(&target)?, output).await,
    }
}
