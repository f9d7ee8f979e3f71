//! `remit channel`.

use clap::{ArgGroup, Args, Subcommand};
use remit_protocol::{
    ChannelName,
    operator::{
        ChannelCreated, ChannelKind, ChannelTried, ChannelView, NewChannel, NoticeState, NoticeView, Page,
        path,
    },
};
use serde_json::Value;

use super::nodes::query;
use crate::{
    connection::Connection,
    failure::{Code, Failure, Result},
    output::{Output, harmless, table},
};

#[derive(Subcommand)]
pub(crate) enum Channel {
    /// Make a channel: a webhook or mail addresses to which jobs make executions known.
    Create(Create),
    /// List the channels of the project.
    List,
    /// Send something over a channel now.
    Test {
        /// Its name.
        name: ChannelName,
    },
    /// Delete a channel; what waits for it is given up.
    Delete {
        /// Its name.
        name: ChannelName,
    },
    /// What was or is to be made known, the newest first.
    Notices {
        /// Only waiting, sent or failed ones.
        #[arg(long)]
        state: Option<NoticeState>,
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
}

#[derive(Args)]
#[command(group = ArgGroup::new("kind").required(true).args(["webhook", "email"]))]
pub(crate) struct Create {
    /// Its name.
    name: ChannelName,
    /// Post to this address; the secret with which the receiver checks signatures is printed once.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// Send mail to this address. May be repeated.
    #[arg(long, value_name = "ADDRESS")]
    email: Vec<String>,
}

impl Channel {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let project = connection.project()?;
        match self {
            Self::Create(Create { name, webhook, email }) => {
                let kind = match webhook {
                    Some(url) => ChannelKind::Webhook { url },
                    None => ChannelKind::Email { to: email },
                };
                let address = path::fill(path::CHANNELS, &[&project]);
                let made: ChannelCreated = connection.post(&address, &NewChannel { name, kind }).await?;
                output.print(&made, |made| {
                    let secret = made.secret.as_ref().map(|secret| {
                        format!("\nsecret: {}\nThe secret is not shown again.", secret.reveal())
                    });
                    format!("channel {} is there{}", made.channel.name, secret.unwrap_or_default())
                });
            }
            Self::List => {
                let page: Page<ChannelView> =
                    connection.all(&path::fill(path::CHANNELS, &[&project])).await?;
                output.print(&page, |page| {
                    table(&["CHANNEL", "TO", "SINCE", "BY"], &page.items.iter().map(row).collect::<Vec<_>>())
                });
            }
            Self::Test { name } => {
                let address = path::fill(path::CHANNEL_TEST, &[&project, &name]);
                let tried: ChannelTried = connection.post(&address, &serde_json::json!({})).await?;
                if let Some(error) = tried.error {
                    let remedy = "correct the address, the receiver or the orchestrator's [smtp]";
                    return Err(Failure::new(
                        Code::Failed,
                        format!("it did not arrive: {}", harmless(&error)),
                        remedy,
                    ));
                }
                output.print(&tried, |_| format!("channel {name} works"));
            }
            Self::Delete { name } => {
                let _: Value = connection.delete(&path::fill(path::CHANNEL, &[&project, &name])).await?;
                output
                    .print(&serde_json::json!({ "deleted": name }), |_| format!("channel {name} is deleted"));
            }
            Self::Notices { state, limit } => {
                let limit = limit.to_string();
                let query = query(&[("state", state.map(NoticeState::as_str)), ("limit", Some(&limit))]);
                let address = path::fill(path::NOTICES, &[&project]);
                let page: Page<NoticeView> = connection.get(&format!("{address}{query}")).await?;
                output.print(&page, |page| {
                    let columns =
                        ["NOTICE", "EXECUTION", "JOB", "OCCASION", "TO", "STATE", "TRIES", "NEXT", "PROBLEM"];
                    table(&columns, &page.items.iter().map(notice_row).collect::<Vec<_>>())
                });
            }
        }
        Ok(())
    }
}

fn row(channel: &ChannelView) -> Vec<String> {
    let to = match &channel.kind {
        ChannelKind::Webhook { url } => url.clone(),
        ChannelKind::Email { to } => to.join(" "),
    };
    vec![channel.name.to_string(), to, channel.created.to_seconds_text(), channel.created_by.clone()]
}

fn notice_row(notice: &NoticeView) -> Vec<String> {
    vec![
        notice.number.to_string(),
        notice.execution.to_string(),
        notice.job.to_string(),
        notice.occasion.to_string(),
        notice.to.clone(),
        notice.state.as_str().to_owned(),
        notice.tries.to_string(),
        notice.next.map(|next| next.to_seconds_text()).unwrap_or_default(),
        harmless(notice.error.as_deref().unwrap_or_default()),
    ]
}
