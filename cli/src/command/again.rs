//! `remit execution rerun` and `resume`: executions that go back to an earlier one.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, ValueEnum};
use remit_protocol::{
    ExecutionId, IdempotencyKey, Span, Tag,
    operator::{NodeFate, Plan, Rerun, Resume, Triggered, path},
};

use super::{
    execution::{Quiet, follow},
    job::run::{names, plan_text, signed},
    key,
};
use crate::{
    connection::Connection,
    failure::Result,
    output::{Output, note as say},
};

/// How a node ended.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Fate {
    /// Badly, and it is known how.
    Failed,
    /// Its runner was lost: it may have run to its end, and would be run twice.
    Unknown,
    /// Something of it was never begun.
    NotStarted,
}

impl From<Fate> for NodeFate {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Failed => Self::Failed,
            Fate::Unknown => Self::Unknown,
            Fate::NotStarted => Self::NotStarted,
        }
    }
}

#[derive(Args)]
pub(crate) struct RerunExecution {
    /// The earlier execution.
    id: ExecutionId,
    /// On the nodes that ended so; without it: failed and not-started.
    #[arg(long, value_enum, value_delimiter = ',')]
    nodes: Vec<Fate>,
    #[command(flatten)]
    how: How,
    /// Sign the new run with this private key: for runners whose owner wants to know who began it.
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// How long the signature is good, at most 24 hours: nothing begins later.
    #[arg(long, default_value = "1h", requires = "sign")]
    valid_for: Span,
    /// Only say what would be run.
    #[arg(long, conflicts_with_all = ["follow", "sign"])]
    dry_run: bool,
}

#[derive(Args)]
pub(crate) struct ResumeExecution {
    /// The earlier execution.
    id: ExecutionId,
    #[command(flatten)]
    how: How,
}

/// What both have in common.
#[derive(Args)]
struct How {
    /// Other runners than before, where the job allows that. May be repeated.
    #[arg(long = "runner-tag", value_name = "TAG")]
    runner_tags: Vec<Tag>,
    /// The same key is the same execution, however often it is asked for.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    /// Follow the execution; the exit code tells how it ended.
    #[arg(long, short = 'f')]
    follow: bool,
}

impl How {
    fn tags(&self) -> Option<BTreeSet<Tag>> {
        let tags: BTreeSet<Tag> = self.runner_tags.iter().cloned().collect();
        (!tags.is_empty()).then_some(tags)
    }

    async fn begun(&self, triggered: Triggered, connection: &Connection, output: Output) -> Result<()> {
        let id = triggered.execution;
        if self.follow {
            say(&format!("execution {id}"));
            return follow(connection, id, output, Quiet::No).await;
        }
        output.print(&triggered, |_| format!("execution {id}\nfollow it: remit execution follow {id}"));
        Ok(())
    }
}

impl RerunExecution {
    pub(super) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let mut asked = Rerun {
            nodes: self.nodes.iter().map(|fate| NodeFate::from(*fate)).collect(),
            runner_tags: self.how.tags(),
            idempotency_key: self.how.idempotency_key.clone(),
            signed: None,
        };
        if self.dry_run || self.sign.is_some() {
            let address = path::fill(path::EXECUTION_RERUN_PLAN, &[&self.id]);
            let plan: Plan = connection.post(&address, &asked).await?;
            let Some(file) = &self.sign else {
                let nodes = names(&plan)?;
                output.print(&plan, |plan| plan_text(plan, &nodes));
                return Ok(());
            };
            asked.signed = Some(signed(connection, plan, &key::load(file)?, self.valid_for, None).await?);
        }
        let triggered = connection.post(&path::fill(path::EXECUTION_RERUN, &[&self.id]), &asked).await?;
        self.how.begun(triggered, connection, output).await
    }
}

impl ResumeExecution {
    pub(super) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let asked =
            Resume { runner_tags: self.how.tags(), idempotency_key: self.how.idempotency_key.clone() };
        let triggered = connection.post(&path::fill(path::EXECUTION_RESUME, &[&self.id]), &asked).await?;
        self.how.begun(triggered, connection, output).await
    }
}
