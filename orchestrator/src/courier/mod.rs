//! The courier: brings what the outbox holds to whom it is for. Nothing waits for it.
//!
//! At least once: a notice is crossed off after its receiver said yes, so a kill in between sends it again under the same
//! id. A try that fails is made again later, each wait longer than the one before, and given up in the end; what became of
//! each notice is kept. *Never here:* SQL, a job's secret. *Invariant:* a receiver that is slow, dead or hostile costs one
//! of a few places and a bounded time.

mod mail;
mod message;
mod post;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use remit_job::notify::Target;
use remit_protocol::{Origin, Span, Timestamp, notice::Announcement, operator::ChannelKind, report::backoff};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Notify,
    http::Clock,
    scheduler::{Scheduler, Trigger, TriggerError},
    seal::Seal,
    store::{Channel, Store, StoreError, StoredNotice, Tried},
};
use mail::Mailer;
pub use mail::{InvalidMail, check_address};
use post::Poster;

/// How often it looks into the outbox.
const ROUND: Duration = Duration::from_secs(1);
/// Notices that it takes out at once.
const BATCH: u32 = 64;
/// Receivers that are talked to at once.
const AT_ONCE: usize = 8;
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The wait after the first try that failed; it doubles, up to an hour.
const FIRST_WAIT: Span = Span::from_secs(5);
/// After so many tries, about half a day, a notice is given up.
const MOST_TRIES: u32 = 20;

/// Why something did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// It may arrive later.
    Later(String),
    /// It will not, however often it is tried.
    Never(String),
}

impl Undelivered {
    /// Why, in words.
    pub fn why(self) -> String {
        match self {
            Self::Later(why) | Self::Never(why) => why,
        }
    }
}

/// The courier. Cheap to clone.
#[derive(Clone)]
pub struct Courier(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    scheduler: Scheduler,
    seal: Arc<Seal>,
    poster: Poster,
    mailer: Option<Mailer>,
    /// How the orchestrator is reached, for links.
    url: String,
    clock: Clock,
}

impl Courier {
    /// Gets ready to deliver.
    ///
    /// # Errors
    /// A certificate, a password or an address of the configuration cannot be used.
    pub fn new(
        config: &Notify,
        url: &str,
        seal: Arc<Seal>,
        (store, scheduler): (Arc<Store>, Scheduler),
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let poster = Poster::new(config, PATIENCE)?;
        let mailer = config.smtp.as_ref().map(|smtp| Mailer::new(smtp, PATIENCE)).transpose()?;
        Ok(Self(Arc::new(Inner { store, scheduler, seal, poster, mailer, url: url.to_owned(), clock })))
    }

    /// True if mail can be sent.
    pub fn sends_mail(&self) -> bool {
        self.0.mailer.is_some()
    }

    /// Brings out what is due until it is told to stop.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = round.tick() => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                done = self.deliver_due() => {
                    if let Err(error) = done {
                        tracing::error!(%error, "the outbox could not be read or written; it is tried again");
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    }

    /// Tries everything once that is due.
    pub async fn deliver_due(&self) -> Result<(), StoreError> {
        loop {
            let due = self.0.store.notices_due((self.0.clock)(), BATCH).await?;
            let more = due.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);
            let mut tries = stream::iter(due).map(|notice| self.try_one(notice)).buffer_unordered(AT_ONCE);
            while let Some(recorded) = tries.next().await {
                recorded?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn try_one(&self, notice: StoredNotice) -> Result<(), StoreError> {
        let outcome = match tokio::time::timeout(PATIENCE * 2, self.deliver(&notice)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Undelivered::Later("the receiver took too long".to_owned())),
        };
        let now = (self.0.clock)();
        let tries = notice.tries + 1;
        let tried = match outcome {
            Ok(()) => Tried::Sent,
            Err(Undelivered::Later(why)) if tries < MOST_TRIES => {
                Tried::Again(now.plus(backoff(FIRST_WAIT, 2.0, tries).duration()), why)
            }
            Err(undelivered) => Tried::Failed(undelivered.why()),
        };
        if let Tried::Failed(why) = &tried {
            tracing::warn!(notice = notice.number, project = %notice.project, job = %notice.job, %why, "a notification is given up");
        }
        self.0.store.notice_tried(notice.number, tried, now).await
    }

    async fn deliver(&self, notice: &StoredNotice) -> Result<(), Undelivered> {
        let store = &self.0.store;
        let record = store.execution(notice.execution).await.map_err(unread)?;
        let record = record.ok_or_else(|| Undelivered::Never("its execution is gone".to_owned()))?;
        match &notice.target {
            Target::Channel(name) => {
                let channel = store.channel(&notice.project, name).await.map_err(unread)?;
                let channel = channel
                    .ok_or_else(|| Undelivered::Never(format!("the project has no channel {name}")))?;
                let message = message::about(notice, &record, &self.0.url);
                self.send(&channel, &format!("notice-{}", notice.number), &message).await
            }
            Target::Job(job) => {
                let known = store.job(&notice.project, job, None).await.map_err(unread)?;
                let known =
                    known.ok_or_else(|| Undelivered::Never(format!("the project has no job {job}")))?;
                let document = self.0.scheduler.document(known.document).await.map_err(unread)?;
                let trigger = Trigger {
                    // Tried again after a kill, it is the same execution.
                    idempotency_key: format!("notice-{}", notice.number).parse().ok(),
                    origin: Origin::Notification { execution: notice.execution },
                    ..Trigger::of(
                        notice.project.clone(),
                        job.clone(),
                        message::options(notice, &record, &document),
                        format!("notification:{}", notice.job),
                    )
                };
                match self.0.scheduler.trigger(trigger).await {
                    Ok(_) => Ok(()),
                    Err(TriggerError::Store(error)) => Err(unread(error)),
                    Err(error) => Err(Undelivered::Never(error.to_string())),
                }
            }
        }
    }

    /// Tries a channel now.
    pub async fn try_channel(&self, channel: &Channel, by: &str) -> Result<(), Undelivered> {
        let now = (self.0.clock)();
        let id = format!("test-{}", now.as_millis());
        self.send(channel, &id, &message::test(channel, by, now)).await
    }

    async fn send(&self, channel: &Channel, id: &str, message: &Announcement) -> Result<(), Undelivered> {
        match &channel.kind {
            ChannelKind::Webhook { url } => {
                let place = sealed_for(channel);
                let sealed = channel.secret.as_deref().unwrap_or_default();
                let secret = self.0.seal.open(&place, sealed);
                let secret = secret.map_err(|error| Undelivered::Later(error.to_string()))?;
                self.0.poster.post(url, id, &secret, message, (self.0.clock)()).await
            }
            ChannelKind::Email { to } => match &self.0.mailer {
                Some(mailer) => mailer.send(to, id, message).await,
                None => Err(Undelivered::Later(NO_MAIL.to_owned())),
            },
        }
    }
}

/// What mail takes.
pub const NO_MAIL: &str =
    "the orchestrator has no mail server: its orchestrator.toml needs [smtp] with host and from";

/// What the secret of a channel is sealed for.
pub fn sealed_for(channel: &Channel) -> String {
    format!("channel {}/{}", channel.project, channel.name)
}

fn unread(error: StoreError) -> Undelivered {
    Undelivered::Later(error.to_string())
}

/// The time until which notices that were delivered or given up are forgotten at `now`.
pub fn forgotten_before(now: Timestamp) -> Timestamp {
    /// Milliseconds of 30 days.
    const KEPT: u64 = 30 * 86_400_000;
    Timestamp::from_millis(now.as_millis().saturating_sub(KEPT))
}
