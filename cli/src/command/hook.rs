//! `remit hook`.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Subcommand};
use remit_protocol::{
    DeliveryId, HookName, JobName, OptionName, Span,
    operator::{HookCreated, HookMapping, HookView, MAX_PAYLOAD, NewHook, Page, RotateHook, Triggered, path},
};
use remit_signing::webhook::{self, WebhookSecret};
use serde_json::Value;

use super::note::now;
use crate::{
    connection::{Connection, Target},
    failure::{Failure, Result},
    files,
    output::{Output, note, table},
};

#[derive(Subcommand)]
pub(crate) enum Hook {
    /// Make a webhook: other programs run a job by a signed call. Its secret is printed once.
    Create(Create),
    /// List the webhooks of the project.
    List,
    /// Give a webhook another secret, which is printed once.
    Rotate {
        /// Its name.
        name: HookName,
        /// How long the present secret is good as well, such as 1h.
        #[arg(long)]
        overlap: Option<Span>,
    },
    /// Delete a webhook.
    Delete {
        /// Its name.
        name: HookName,
    },
    /// Call a webhook, as another program would: it takes its secret and no token.
    Call(Call),
}

#[derive(Args)]
pub(crate) struct Create {
    /// Its name.
    name: HookName,
    /// The job that it runs.
    #[arg(long)]
    job: JobName,
    /// An option out of the payload, as NAME=/JSON/POINTER. May be repeated.
    #[arg(long = "map", value_name = "NAME=POINTER")]
    map: Vec<String>,
    /// An option that is always the same, as NAME=VALUE. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Call {
    /// Its name.
    name: HookName,
    /// A file with the secret.
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// A file with the payload, a JSON object; absent: an empty one.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// What this delivery is called; absent: something new.
    #[arg(long)]
    id: Option<DeliveryId>,
}

impl Hook {
    pub(crate) async fn run(self, target: &Target, output: Output) -> Result<()> {
        let connection = Connection::open(target)?;
        let project = connection.project()?;
        match self {
            Self::Create(create) => {
                let new = create.parse()?;
                let made: HookCreated = connection.post(&path::fill(path::HOOKS, &[&project]), &new).await?;
                output.print(&made, created_text);
            }
            Self::List => {
                let page: Page<HookView> = connection.all(&path::fill(path::HOOKS, &[&project])).await?;
                output.print(&page, |page| {
                    let columns = ["WEBHOOK", "JOB", "OPTIONS", "SECRET SINCE", "BY", "URL"];
                    table(&columns, &page.items.iter().map(row).collect::<Vec<_>>())
                });
            }
            Self::Rotate { name, overlap } => {
                let address = path::fill(path::HOOK_ROTATE, &[&project, &name]);
                let made: HookCreated = connection.post(&address, &RotateHook { overlap }).await?;
                output.print(&made, created_text);
            }
            Self::Delete { name } => {
                let _: Value = connection.delete(&path::fill(path::HOOK, &[&project, &name])).await?;
                output
                    .print(&serde_json::json!({ "deleted": name }), |_| format!("webhook {name} is deleted"));
            }
            Self::Call(call) => call.run(&connection, &project, output).await?,
        }
        Ok(())
    }
}

fn pair<'a>(text: &'a str, form: &str) -> Result<(OptionName, &'a str)> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| Failure::input(format_args!("{text:?} is not {form}")))?;
    Ok((name.parse().map_err(Failure::input)?, value))
}

impl Create {
    fn parse(self) -> Result<NewHook> {
        let mut options = BTreeMap::new();
        for text in &self.map {
            let (name, pointer) = pair(text, "NAME=/JSON/POINTER")?;
            options.insert(name, HookMapping::Payload(pointer.to_owned()));
        }
        for text in &self.set {
            let (name, value) = pair(text, "NAME=VALUE")?;
            options.insert(name, HookMapping::Value(Value::String(value.to_owned())));
        }
        if options.len() < self.map.len() + self.set.len() {
            return Err(Failure::input("an option is named twice"));
        }
        Ok(NewHook { name: self.name, job: self.job, options })
    }
}

fn created_text(made: &HookCreated) -> String {
    format!(
        "webhook {} runs job {}\nurl:    {}\nsecret: {}\nThe secret is not shown again.",
        made.hook.name,
        made.hook.job,
        made.hook.url,
        made.secret.reveal()
    )
}

fn row(hook: &HookView) -> Vec<String> {
    let option = |(name, from): (&OptionName, &HookMapping)| match from {
        HookMapping::Payload(pointer) => format!("{name}={pointer}"),
        HookMapping::Value(value) => format!("{name}:{value}"),
    };
    vec![
        hook.name.to_string(),
        hook.job.to_string(),
        hook.options.iter().map(option).collect::<Vec<_>>().join(" "),
        hook.rotated.to_seconds_text(),
        hook.created_by.clone(),
        hook.url.clone(),
    ]
}

impl Call {
    async fn run(
        self,
        connection: &Connection,
        project: &remit_protocol::ProjectName,
        output: Output,
    ) -> Result<()> {
        let secret = files::read_text(&self.secret)?;
        let secret = WebhookSecret::parse(&secret)
            .map_err(|error| Failure::input(format_args!("{}: {error}", self.secret.display())))?;
        let body = match &self.data {
            Some(file) => files::read(file, MAX_PAYLOAD)?,
            None => b"{}".to_vec(),
        };
        let now = now();
        let id = match self.id {
            Some(id) => id,
            None => format!("call-{}", now.as_millis()).parse().map_err(Failure::input)?,
        };
        let headers = [
            (webhook::ID, id.to_string()),
            (webhook::TIMESTAMP, now.as_secs().to_string()),
            (webhook::SIGNATURE, secret.sign(&id, now.as_secs(), &body)),
        ];
        let address = path::fill(path::HOOK_CALL, &[project, &self.name]);
        let triggered: Triggered = connection.call_signed(&address, &headers, body).await?;
        if output == Output::Text {
            note(&format!("delivery {id}"));
        }
        output.print(&triggered, |triggered| format!("execution {}", triggered.execution));
        Ok(())
    }
}
