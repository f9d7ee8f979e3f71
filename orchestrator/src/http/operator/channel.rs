//! Channels, and what became of what was sent over them.

use axum::{Extension, extract::State, http::StatusCode};
use remit_job::notify::Target;
use remit_protocol::{
    ChannelName, ProjectName,
    operator::{
        ChannelCreated, ChannelKind, ChannelTried, ChannelView, MAX_ADDRESSES, NewChannel, NoticeQuery,
        NoticeView, Page, Part, ShownOnce, path,
    },
};
use remit_signing::webhook::WebhookSecret;

use super::part;
use crate::{
    courier,
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{Asked, Json, Place},
    },
    store::{Channel, StoredNotice},
};

/// Most channels of a project.
const MAX_CHANNELS: usize = 100;
/// Longest address of a webhook, in bytes.
const MAX_URL: usize = 2000;

/// The channels of a project, by name.
#[utoipa::path(get, path = path::CHANNELS, tag = "channels", params(("project" = ProjectName, Path), Part), responses((status = 200, body = Page<ChannelView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Place(project): Place<ProjectName>,
    Asked(asked): Asked<Part>,
) -> Result<Json<Page<ChannelView>>, Failure> {
    super::project::find(&app, &project).await?;
    let all = app.store.channels(&project).await?;
    Ok(Json(part(&all, &asked, |channel| channel.name.to_string(), |channel| Ok(view(channel)))?))
}

/// Makes a channel. The secret of a webhook is in this answer and nowhere else. Since the orchestrator then calls the
/// address from where it stands, this takes an administrator of the installation.
#[utoipa::path(post, path = path::CHANNELS, tag = "channels", params(("project" = ProjectName, Path)), request_body = NewChannel, responses((status = 201, body = ChannelCreated)))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(project): Place<ProjectName>,
    Json(new): Json<NewChannel>,
) -> Result<(StatusCode, Json<ChannelCreated>), Failure> {
    super::project::find(&app, &project).await?;
    check(&app, &new.kind)?;
    if app.store.channels(&project).await?.len() >= MAX_CHANNELS {
        return Err(Failure::conflict(
            format!("The project has {MAX_CHANNELS} channels, and no project has more."),
            "",
        ));
    }
    let mut channel = Channel {
        project: project.clone(),
        name: new.name,
        kind: new.kind,
        secret: None,
        created: app.now(),
        created_by: caller.name().to_string(),
    };
    let mut shown = None;
    if let ChannelKind::Webhook { .. } = channel.kind {
        let text = WebhookSecret::from_random(app.random()?).to_text();
        let sealed = app.seal.seal(&courier::sealed_for(&channel), text.as_bytes());
        channel.secret = Some(sealed.map_err(Failure::internal)?);
        shown = Some(ShownOnce::new(text.to_string()));
    }
    app.store.create_channel(channel.clone()).await?;
    app.audit(caller.name(), "channel.create", format!("{project}/{}", channel.name)).await?;
    Ok((StatusCode::CREATED, Json(ChannelCreated { secret: shown, channel: view(&channel) })))
}

/// Takes a channel away. What waits for it is given up.
#[utoipa::path(delete, path = path::CHANNEL, tag = "channels", params(("project" = ProjectName, Path), ("channel" = ChannelName, Path)), responses((status = 204)))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, name)): Place<(ProjectName, ChannelName)>,
) -> Result<StatusCode, Failure> {
    if !app.store.delete_channel(&project, &name).await? {
        return Err(Failure::not_found("channel", &name));
    }
    app.audit(caller.name(), "channel.delete", format!("{project}/{name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends something over a channel now, and says what came of it.
#[utoipa::path(post, path = path::CHANNEL_TEST, tag = "channels", params(("project" = ProjectName, Path), ("channel" = ChannelName, Path)), responses((status = 200, body = ChannelTried)))]
pub(crate) async fn test(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, name)): Place<(ProjectName, ChannelName)>,
) -> Result<Json<ChannelTried>, Failure> {
    let channel = app.store.channel(&project, &name).await?;
    let channel = channel.ok_or_else(|| Failure::not_found("channel", &name))?;
    let tried = app.courier.try_channel(&channel, caller.name().as_str()).await;
    let error = tried.err().map(courier::Undelivered::why);
    Ok(Json(ChannelTried { delivered: error.is_none(), error }))
}

/// What was or is to be made known of the project's executions, the newest first.
#[utoipa::path(get, path = path::NOTICES, tag = "channels", params(("project" = ProjectName, Path), NoticeQuery), responses((status = 200, body = Page<NoticeView>)))]
pub(crate) async fn notices(
    State(app): State<App>,
    Place(project): Place<ProjectName>,
    Asked(asked): Asked<NoticeQuery>,
) -> Result<Json<Page<NoticeView>>, Failure> {
    super::project::find(&app, &project).await?;
    let limit = asked.entries();
    let found = app.store.notices(&project, asked.state, asked.after, limit).await?;
    let full = found.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = found.last().filter(|_| full).map(|last| last.number.to_string());
    Ok(Json(Page { items: found.into_iter().map(notice).collect(), next }))
}

fn notice(stored: StoredNotice) -> NoticeView {
    NoticeView {
        number: stored.number,
        job: stored.job,
        execution: stored.execution,
        occasion: stored.occasion,
        to: match stored.target {
            Target::Channel(name) => format!("channel {name}"),
            Target::Job(name) => format!("job {name}"),
        },
        at: stored.at,
        state: stored.state,
        tries: stored.tries,
        next: stored.next,
        error: stored.error,
    }
}

fn check(app: &App, kind: &ChannelKind) -> Result<(), Failure> {
    match kind {
        ChannelKind::Webhook { url } if is_acceptable(url) => Ok(()),
        ChannelKind::Webhook { url } => {
            let shown: String = url.chars().take(80).collect();
            let message = format!("{shown:?} is not an address to which a webhook can be sent.");
            Err(Failure::invalid(
                message,
                "Write https://HOST/PATH without user and password; http only for 127.0.0.1.",
            ))
        }
        ChannelKind::Email { .. } if !app.courier.sends_mail() => Err(Failure::conflict(
            format!("Mail cannot be sent: {}.", courier::NO_MAIL),
            "Configure it and start the orchestrator again.",
        )),
        ChannelKind::Email { to } if to.is_empty() || to.len() > MAX_ADDRESSES => {
            Err(Failure::invalid(format!("{} addresses: a channel has 1 to {MAX_ADDRESSES}.", to.len()), ""))
        }
        ChannelKind::Email { to } => {
            for one in to {
                courier::check_address(one).map_err(|error| {
                    Failure::invalid(format!("{error}."), "Write for example ops@example.com.")
                })?;
            }
            Ok(())
        }
    }
}

/// An absolute https address, or http to this machine; its authority is a host and perhaps a port, and nothing more.
fn is_acceptable(url: &str) -> bool {
    let Ok(parsed) = url.parse::<axum::http::Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else { return false };
    let own = matches!(authority.host(), "127.0.0.1" | "[::1]" | "localhost");
    let plain = url.len() <= MAX_URL && !authority.as_str().contains('@') && !authority.host().is_empty();
    plain && (scheme == "https" || (scheme == "http" && own))
}

fn view(channel: &Channel) -> ChannelView {
    ChannelView {
        name: channel.name.clone(),
        kind: channel.kind.clone(),
        created: channel.created,
        created_by: channel.created_by.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain_and_safe() {
        for good in
            ["https://hooks.example/x?y=1", "https://h:8443/", "http://127.0.0.1:99/x", "http://localhost/"]
        {
            assert!(is_acceptable(good), "{good}");
        }
        for bad in [
            "",
            "hooks.example",
            "/x",
            "http://hooks.example/",
            "ftp://h/",
            "https://",
            "https://u:p@h/",
            "https://h/ x",
            "file:///etc/passwd",
            "http://127.0.0.1.evil.example/",
            &format!("https://h/{}", "x".repeat(2000)),
        ] {
            assert!(!is_acceptable(bad), "{bad}");
        }
    }
}
