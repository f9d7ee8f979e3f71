//! `remit command`: a command that is run once, on nodes or on a runner's host.

use clap::{Args, Subcommand};
use remit_protocol::{
    IdempotencyKey, SecretPath, Span, Tag,
    operator::{Command, CommandPlace, Plan, Triggered, path},
};

use super::{
    execution::{Quiet, follow},
    job::run::{names, plan_text},
};
use crate::{
    connection::Connection,
    failure::{Failure, Result},
    output::{Output, note as say},
};

#[derive(Subcommand)]
pub(crate) enum Adhoc {
    /// Run a command now: on the nodes of a filter over SSH, or on a runner's host. Takes the role editor.
    Run(Run),
}

#[derive(Args)]
pub(crate) struct Run {
    /// On these nodes, such as `tags: web`; `@NAME` is a filter that the project keeps.
    #[arg(long, requires = "key", required_unless_present = "on_runner")]
    filter: Option<String>,
    /// The SSH key that logs in: a path that the runner's owner lets `remit/ssh-command` use.
    #[arg(long, value_name = "PATH")]
    key: Option<SecretPath>,
    /// On the runner's host instead, where its owner has named the program.
    #[arg(long, conflicts_with_all = ["filter", "key", "threads", "stop_at_failure"])]
    on_runner: bool,
    /// On so many nodes at once.
    #[arg(long, default_value_t = 10)]
    threads: u32,
    /// Begin no more nodes after one has failed.
    #[arg(long)]
    stop_at_failure: bool,
    /// By a runner that carries this tag; without it by the local runner. May be repeated.
    #[arg(long = "runner-tag", value_name = "TAG")]
    runner_tags: Vec<Tag>,
    /// How long it may take; on nodes on each of them.
    #[arg(long)]
    timeout: Option<Span>,
    /// The same key is the same execution, however often it is asked for.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    /// Only say what would be run: nodes, runners, the component and what it may do.
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
    /// Do not wait for its end.
    #[arg(long)]
    detach: bool,
    /// The program and its arguments, after `--`. Each arrives as it is typed: no shell reads it.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    argv: Vec<String>,
}

impl Adhoc {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let Self::Run(run) = self;
        let project = connection.project()?;
        let (dry_run, detach) = (run.dry_run, run.detach);
        let command = run.command()?;
        if dry_run {
            let plan: Plan = connection.post(&path::fill(path::COMMAND_PLAN, &[&project]), &command).await?;
            let nodes = names(&plan)?;
            output.print(&plan, |plan| plan_text(plan, &nodes));
            return Ok(());
        }
        let triggered: Triggered =
            connection.post(&path::fill(path::COMMANDS, &[&project]), &command).await?;
        let id = triggered.execution;
        if detach {
            output.print(&triggered, |_| format!("execution {id}\nfollow it: remit execution follow {id}"));
            return Ok(());
        }
        say(&format!("execution {id}"));
        follow(connection, id, output, Quiet::No).await
    }
}

impl Run {
    fn command(self) -> Result<Command> {
        let on = match (self.filter, self.key) {
            _ if self.on_runner => CommandPlace::Runner,
            (Some(filter), Some(key)) => {
                CommandPlace::Nodes { filter, key, threads: self.threads, keep_going: !self.stop_at_failure }
            }
            _ => return Err(Failure::input("say where: --filter FILTER --key PATH, or --on-runner")),
        };
        Ok(Command {
            argv: self.argv,
            on,
            runner_tags: self.runner_tags.into_iter().collect(),
            timeout: self.timeout,
            idempotency_key: self.idempotency_key,
        })
    }
}
