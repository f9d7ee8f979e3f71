//! Channels: where executions are made known; and what became of it.

use serde::{Deserialize, Serialize};

use super::ShownOnce;
use crate::{ChannelName, ExecutionId, JobName, Timestamp, notice::Occasion};

/// Most addresses of a channel.
pub const MAX_ADDRESSES: usize = 50;

/// What a channel is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ChannelKind {
    /// [`crate::notice::Announcement`] is posted to this address, signed as standardwebhooks.com describes.
    Webhook {
        /// `https://…`; plain `http` only to this machine.
        url: String,
    },
    /// A mail is sent by the orchestrator's SMTP server.
    Email {
        /// To these addresses.
        to: Vec<String>,
    },
}

/// A channel to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewChannel {
    /// Its name in the project.
    pub name: ChannelName,
    /// What it is.
    pub kind: ChannelKind,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChannelView {
    /// Its name.
    pub name: ChannelName,
    /// What it is.
    pub kind: ChannelKind,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
}

/// A channel with the secret of its webhook, which is shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChannelCreated {
    /// `whsec_…`: with this the receiver checks signatures. Mail has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ShownOnce>,
    /// The channel.
    pub channel: ChannelView,
}

/// What trying a channel came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChannelTried {
    /// Whether it arrived.
    pub delivered: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a notice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum NoticeState {
    /// It is tried now, or again later.
    Waiting,
    /// It was delivered.
    Sent,
    /// It was given up.
    Failed,
}

impl NoticeState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for NoticeState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Waiting, Self::Sent, Self::Failed];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not one of waiting, sent, failed"))
    }
}

/// Which notices are wanted; the newest come first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct NoticeQuery {
    /// Only in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub state: Option<NoticeState>,
    /// `next` of the part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many entries at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl NoticeQuery {
    /// The number of entries to answer with.
    pub fn entries(&self) -> u32 {
        super::entries(self.limit)
    }
}

/// Something that was or is to be made known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NoticeView {
    /// Its number; a webhook's id is `notice-<number>`.
    pub number: u64,
    /// The job.
    pub job: JobName,
    /// The execution.
    pub execution: ExecutionId,
    /// On what occasion.
    pub occasion: Occasion,
    /// To whom: `channel ops` or `job tell`.
    pub to: String,
    /// When it happened.
    pub at: Timestamp,
    /// How it stands.
    pub state: NoticeState,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// Why the newest try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
