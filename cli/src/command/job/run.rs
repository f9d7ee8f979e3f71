//! `remit job run`: begins a job, says what it would do, or signs that somebody wants it.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;
use remit_job::document::{Action, Document};
use remit_protocol::{
    IdempotencyKey, JobName, RunnerId, Span, Tag, Timestamp,
    digest::Sized,
    json,
    limits::MAX_NODE_SET,
    node::NodeSet,
    operator::{JobView, Plan, SignedRun, Trigger, Triggered, path},
    sealed::SealedRun,
};
use remit_signing::{
    JobPath, note,
    run::{MAX_VALIDITY, Order, RunNote},
};

use super::{
    options,
    typed::{self, Typed, Wanted},
};
use crate::{
    command::{
        execution::{Quiet, follow, word},
        key, note as note_command,
    },
    connection::Connection,
    failure::{Code, Failure, Result},
    output::{Output, harmless, note as say},
};

/// Most nodes that are shown by name.
const SHOWN: usize = 20;

#[derive(Args)]
pub(crate) struct RunJob {
    /// Its name.
    name: JobName,
    #[command(flatten)]
    options: options::Given,
    #[command(flatten)]
    typed: Typed,
    /// Other nodes than the job says.
    #[arg(long)]
    filter: Option<String>,
    /// Other runners than the job says, where it allows that. May be repeated.
    #[arg(long = "runner-tag", value_name = "TAG")]
    runner_tags: Vec<Tag>,
    /// The same key is the same execution, however often it is asked for.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    /// Run it later: a time in UTC such as 2026-11-20T09:30:00Z.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Sign the run with this private key: for runners whose owner wants to know who began it.
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// How long the signature is good, at most 24 hours: nothing begins later.
    #[arg(long, default_value = "1h", requires = "sign")]
    valid_for: Span,
    /// Only say what would be run: nodes, runners, components, what each may do.
    #[arg(long, conflicts_with_all = ["follow", "sign"])]
    dry_run: bool,
    /// Follow the execution; the exit code tells how it ended.
    #[arg(long, short = 'f')]
    follow: bool,
}

impl RunJob {
    pub(super) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let tags: BTreeSet<Tag> = self.runner_tags.iter().cloned().collect();
        let mut trigger = Trigger {
            options: self.options.bring(connection, &self.name).await?,
            filter: self.filter.clone(),
            runner_tags: (!tags.is_empty()).then_some(tags),
            idempotency_key: self.idempotency_key.clone(),
            at: self.at,
            signed: None,
            sealed: None,
        };
        let project = connection.project()?;
        let typed = match self.typed.is_empty() {
            true => None,
            false => {
                let document = typed::document(connection, &self.name).await?;
                Some((self.typed.wanted(&document)?, document))
            }
        };
        for Wanted { option, path, .. } in typed.iter().flat_map(|(wanted, _)| wanted) {
            trigger.options.insert(option.clone(), path.as_str().into());
        }
        if self.dry_run {
            let plan: Plan =
                connection.post(&path::fill(path::JOB_PLAN, &[&project, &self.name]), &trigger).await?;
            let nodes = names(&plan)?;
            output.print(&plan, |plan| plan_text(plan, &nodes));
            return Ok(());
        }
        let key = self.sign.as_deref().map(key::load).transpose()?;
        if typed.is_some() || key.is_some() {
            let plan: Plan =
                connection.post(&path::fill(path::JOB_PLAN, &[&project, &self.name]), &trigger).await?;
            if let Some((wanted, document)) = typed {
                let sealed = self.typed.seal(connection, (&self.name, &plan, &document), wanted, self.at)?;
                trigger.sealed = Some(sealed);
            }
            if let Some(key) = &key {
                let signed = signed(connection, plan, key, self.valid_for, trigger.sealed.as_ref()).await?;
                trigger.signed = Some(signed);
            }
            (trigger.options, trigger.filter) = (Default::default(), None);
        }
        let address = path::fill(path::JOB_EXECUTIONS, &[&project, &self.name]);
        let triggered: Triggered = connection.post(&address, &trigger).await?;
        if self.follow {
            say(&format!("execution {}", triggered.execution));
            return follow(connection, triggered.execution, output, Quiet::No).await;
        }
        output.print(&triggered, |triggered| {
            format!(
                "execution {}\nfollow it: remit execution follow {}",
                triggered.execution, triggered.execution
            )
        });
        Ok(())
    }
}

/// Signs exactly what the plan says, after its parts were looked at: what is shown is what is signed.
pub(in crate::command) async fn signed(
    connection: &Connection,
    plan: Plan,
    key: &remit_signing::SigningKey,
    valid_for: Span,
    sealed: Option<&SealedRun>,
) -> Result<SignedRun> {
    if valid_for.duration() > MAX_VALIDITY {
        return Err(Failure::input("a signed run is valid for at most 24 hours"));
    }
    let nodes = names(&plan)?;
    let view: JobView = connection.get(&path::fill(path::JOB, &[&plan.project, &plan.job])).await?;
    let document: Document = serde_json::from_value(view.document)
        .map_err(|error| Failure::input(format_args!("the job document cannot be read: {error}")))?;
    if view.summary.revision != plan.revision {
        return Err(Failure::new(
            Code::Failed,
            format!(
                "the job {} has changed: it was revision {}, and is {}",
                plan.job, plan.revision, view.summary.revision
            ),
            "what is signed has to be looked at: run the job as it is now, `remit job run --sign`",
        ));
    }
    if Sized::of(&document.to_vec()) != plan.definition || document.job != plan.job {
        return Err(altered("the job document is not the one of the plan"));
    }
    say(&plan_text(&plan, &nodes));
    let second = Timestamp::from_millis(note_command::now().as_secs() * 1000);
    let sealed = sealed.map(|sealed| sealed.values.as_slice()).unwrap_or_default();
    let able: BTreeSet<RunnerId> = match sealed {
        [] => plan.runners.iter().map(|runner| runner.id).collect(),
        sealed => sealed.iter().map(|one| one.runner).collect(),
    };
    // The one runner that is named would have to run the jobs that this one runs, too, and those choose their own.
    let alone = able.len() == 1 && !document.steps.iter().any(|step| matches!(step.action, Action::Job(_)));
    let only = able.first().copied().filter(|_| alone);
    let says = RunNote {
        order: Order {
            run: plan.execution,
            job: JobPath { project: plan.project, job: plan.job },
            definition: plan.definition,
            options: Sized::of(plan.options.as_bytes()),
            nodes: plan.nodes.map(|nodes| nodes.set),
        },
        sealed: sealed.iter().map(|one| one.value.sized()).collect(),
        runner: only,
        issued: second,
        expires: second.plus(valid_for.duration()),
    };
    let signed = note::sign(&says.to_text(), &[key]).map_err(|refusal| note_command::refused(&refusal))?;
    let note = String::from_utf8(signed).map_err(|error| Failure::input(error.to_string()))?;
    Ok(SignedRun { note, options: plan.options })
}

fn altered(what: &str) -> Failure {
    Failure::new(
        Code::Refused,
        format!("the orchestrator contradicts itself: {what}"),
        "sign nothing; ask who runs it",
    )
}

/// The nodes of a plan, out of the very text that its digest names.
pub(in crate::command) fn names(plan: &Plan) -> Result<Vec<String>> {
    let Some(nodes) = &plan.nodes else { return Ok(Vec::new()) };
    if !nodes.set.is(nodes.text.as_bytes()) {
        return Err(altered("the nodes are not those of the plan"));
    }
    let most = usize::try_from(MAX_NODE_SET).unwrap_or(usize::MAX);
    let set: NodeSet = json::from_slice(nodes.text.as_bytes(), most)
        .map_err(|error| Failure::input(format_args!("the nodes cannot be read: {error}")))?;
    Ok(set.nodes.iter().map(|node| node.name.to_string()).collect())
}

pub(in crate::command) fn plan_text(plan: &Plan, nodes: &[String]) -> String {
    let mut lines = vec![
        format!("{}/{} revision {}  {}", plan.project, plan.job, plan.revision, plan.definition.digest),
        format!("options  {}", harmless(&plan.options)),
    ];
    lines.extend(
        plan.typed.iter().map(|typed| format!("typed    {} arrives as {}", typed.option, typed.path)),
    );
    if let Some(planned) = &plan.nodes {
        let more = nodes.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = nodes.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        lines.push(format!(
            "nodes    {}, {} at once: {}{more}",
            nodes.len(),
            planned.threads,
            harmless(&shown)
        ));
    }
    if let Some(planned) = &plan.nodes {
        if !planned.tiers.is_empty() {
            let tiers: Vec<String> = planned.tiers.iter().map(ToString::to_string).collect();
            lines.push(format!("tiers    {} nodes", tiers.join(", then ")));
        }
        lines.extend(planned.split_over.map(|runners| format!("         split over {runners} runners")));
    }
    let runners: Vec<String> =
        plan.runners.iter().map(|runner| format!("{} ({})", runner.name, word(&runner.status))).collect();
    lines.push(match runners.is_empty() {
        true => "runners  none: it would wait".to_owned(),
        false => format!("runners  {}", runners.join(", ")),
    });
    for step in &plan.steps {
        let per = if step.per_node { ", per node" } else { "" };
        lines.push(format!("  {}: {} ({}{per})", step.name, step.does, word(&step.effect)));
        for component in &step.components {
            lines.push(format!("      {} {}", component.component, component.digest));
            if component.grant.as_object().is_some_and(|grant| !grant.is_empty()) {
                lines.push(format!("      may {}", harmless(&component.grant.to_string())));
            }
            for (name, paths) in &component.secrets {
                let paths: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
                lines.push(format!("      uses {} as {name}", paths.join(" or ")));
            }
        }
    }
    lines.push(format!(
        "whether a runner's owner permits it: remit policy explain {}, on that runner",
        plan.job
    ));
    lines.join("\n")
}
