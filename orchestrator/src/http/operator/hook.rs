//! Webhooks: made, listed, rotated, deleted; and called, which is the one route that a signature opens instead of a token.

use std::collections::BTreeMap;

use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
};
use remit_job::options;
use remit_protocol::{
    DeliveryId, HookName, JobName, OptionName, Origin, ProjectName, Timestamp,
    operator::{
        HOOK_WINDOW, HookCreated, HookMapping, HookView, LONGEST_OVERLAP, MAX_PAYLOAD, NewHook, Page, Part,
        RotateHook, ShownOnce, Triggered, path,
    },
};
use remit_signing::webhook::{self, WebhookSecret};
use serde_json::{Map, Value};

use super::part;
use crate::{
    http::{
        App,
        auth::Caller,
        error::Failure,
        extract::{self, Asked, Json, Place, content_length},
    },
    scheduler::{self, TriggerError},
    store::{Hook, StoreError},
};

/// Most webhooks of a project.
const MAX_HOOKS: usize = 100;
/// Longest JSON pointer, in bytes.
const MAX_POINTER: usize = 256;

/// What a secret is sealed for.
fn sealed_for(project: &ProjectName, name: &HookName) -> String {
    format!("webhook {project}/{name}")
}

/// The webhooks of a project, by name. Their secrets are not shown again.
#[utoipa::path(get, path = path::HOOKS, tag = "hooks", params(("project" = ProjectName, Path), Part), responses((status = 200, body = Page<HookView>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Place(project): Place<ProjectName>,
    Asked(asked): Asked<Part>,
) -> Result<Json<Page<HookView>>, Failure> {
    super::project::find(&app, &project).await?;
    let all = app.store.hooks(&project).await?;
    Ok(Json(part(&all, &asked, |hook| hook.name.to_string(), |hook| Ok(view(&app, hook)))?))
}

/// Makes a webhook. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = path::HOOKS, tag = "hooks", params(("project" = ProjectName, Path)), request_body = NewHook, responses((status = 201, body = HookCreated)))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place(project): Place<ProjectName>,
    Json(new): Json<NewHook>,
) -> Result<(StatusCode, Json<HookCreated>), Failure> {
    super::project::find(&app, &project).await?;
    check_mapping(&app, &project, &new.job, &new.options).await?;
    if app.store.hooks(&project).await?.len() >= MAX_HOOKS {
        return Err(Failure::conflict(
            format!("The project has {MAX_HOOKS} webhooks, and no project has more."),
            "Delete one that nobody calls.",
        ));
    }
    let (secret, sealed) = new_secret(&app, &project, &new.name)?;
    let now = app.now();
    let hook = Hook {
        project: project.clone(),
        name: new.name,
        job: new.job,
        mapping: new.options,
        secret: sealed,
        previous: None,
        created: now,
        created_by: caller.name().to_string(),
        rotated: now,
    };
    app.store.create_hook(hook.clone()).await?;
    app.audit(caller.name(), "hook.create", format!("{project}/{}", hook.name)).await?;
    Ok((StatusCode::CREATED, Json(HookCreated { secret, hook: view(&app, &hook) })))
}

/// Gives a webhook another secret. It is in this answer and nowhere else.
#[utoipa::path(post, path = path::HOOK_ROTATE, tag = "hooks", params(("project" = ProjectName, Path), ("hook" = HookName, Path)), request_body = RotateHook, responses((status = 200, body = HookCreated)))]
pub(crate) async fn rotate(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, name)): Place<(ProjectName, HookName)>,
    Json(asked): Json<RotateHook>,
) -> Result<Json<HookCreated>, Failure> {
    if asked.overlap.is_some_and(|overlap| overlap > LONGEST_OVERLAP) {
        return Err(Failure::invalid(format!("`overlap` is longer than {LONGEST_OVERLAP}."), ""));
    }
    let now = app.now();
    let until = asked.overlap.map(|overlap| now.plus(overlap.duration()));
    let (secret, sealed) = new_secret(&app, &project, &name)?;
    app.store.rotate_hook(&project, &name, sealed, now, until).await?;
    app.audit(caller.name(), "hook.rotate", format!("{project}/{name}")).await?;
    let hook = app.store.hook(&project, &name).await?.ok_or_else(|| Failure::not_found("webhook", &name))?;
    Ok(Json(HookCreated { secret, hook: view(&app, &hook) }))
}

/// Takes a webhook away.
#[utoipa::path(delete, path = path::HOOK, tag = "hooks", params(("project" = ProjectName, Path), ("hook" = HookName, Path)), responses((status = 204)))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Place((project, name)): Place<(ProjectName, HookName)>,
) -> Result<StatusCode, Failure> {
    if !app.store.delete_hook(&project, &name).await? {
        return Err(Failure::not_found("webhook", &name));
    }
    app.audit(caller.name(), "hook.delete", format!("{project}/{name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs the job of a webhook. It takes the headers `webhook-id`, `webhook-timestamp` and `webhook-signature` of
/// standardwebhooks.com, over a JSON object; each id is taken once.
#[utoipa::path(post, path = path::HOOK_CALL, tag = "hooks", params(("project" = ProjectName, Path), ("hook" = HookName, Path)),
    request_body(content = Object, description = "Any JSON object."), responses((status = 201, body = Triggered), (status = 401), (status = 409)))]
pub(crate) async fn call(
    State(app): State<App>,
    Place((project, name)): Place<(ProjectName, HookName)>,
    request: Request,
) -> Result<(StatusCode, Json<Triggered>), Failure> {
    let (parts, body) = request.into_parts();
    let limit = usize::try_from(MAX_PAYLOAD).unwrap_or(usize::MAX);
    let signed = Signed::read(&parts.headers)?;
    let bytes = extract::read(body, content_length(&parts.headers), limit).await?;
    // Whoever cannot sign does not learn which webhooks there are.
    let found = app.store.hook(&project, &name).await?;
    let Some(hook) = found.filter(|hook| signed.is_of(&app, hook, &bytes)) else {
        return Err(Failure::unauthenticated(
            "There is no such webhook, or this call is not signed with its secret.",
            "Sign `<webhook-id>.<webhook-timestamp>.<body>` with HMAC-SHA256, as standardwebhooks.com describes.",
        ));
    };
    signed.is_recent(app.now())?;
    if let Some(execution) = app.store.delivered(&project, &name, &signed.id).await? {
        return Err(replayed(&signed.id, Some(execution)));
    }
    let payload: Map<String, Value> = extract::parse(&bytes, limit)?;
    let triggered = app
        .scheduler
        .trigger(scheduler::Trigger {
            origin: Origin::Webhook { name: name.clone(), delivery: signed.id.clone(), sent: signed.sent },
            ..scheduler::Trigger::of(
                project.clone(),
                hook.job.clone(),
                mapped(&hook.mapping, &Value::Object(payload)),
                format!("webhook:{name}"),
            )
        })
        .await;
    let triggered = match triggered {
        Err(TriggerError::Store(StoreError::Conflict { what: "delivery", .. })) => {
            return Err(replayed(&signed.id, None));
        }
        other => other?,
    };
    app.tokens.execution_of(triggered.execution, &project);
    app.metrics.triggered.add(1);
    Ok((StatusCode::CREATED, Json(Triggered { execution: triggered.execution, created: true })))
}

fn replayed(id: &DeliveryId, execution: Option<remit_protocol::ExecutionId>) -> Failure {
    let began = execution.map(|execution| format!(": it began execution {execution}")).unwrap_or_default();
    Failure::conflict(
        format!("The delivery {id} was taken before{began}."),
        "Give each delivery an id of its own; to run the job again, send another one.",
    )
}

/// The headers of a call.
struct Signed {
    id: DeliveryId,
    sent: Timestamp,
    signature: String,
}

impl Signed {
    fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or_else(|| {
                Failure::unauthenticated(
                    format!("The header {name} is missing."),
                    "Send webhook-id, webhook-timestamp and webhook-signature, as standardwebhooks.com describes.",
                )
            })
        };
        let id = header(webhook::ID)?;
        let id = id.parse().map_err(|error| Failure::invalid(format!("{}: {error}.", webhook::ID), ""))?;
        let seconds = header(webhook::TIMESTAMP)?;
        let digits = !seconds.is_empty() && seconds.bytes().all(|b| b.is_ascii_digit());
        let seconds = seconds.parse::<u64>().ok().filter(|_| digits);
        let seconds = seconds.ok_or_else(|| {
            Failure::invalid(format!("{} is not a number of seconds since 1970.", webhook::TIMESTAMP), "")
        })?;
        let sent = Timestamp::from_millis(seconds.saturating_mul(1000));
        Ok(Self { id, sent, signature: header(webhook::SIGNATURE)?.to_owned() })
    }

    fn is_of(&self, app: &App, hook: &Hook, body: &[u8]) -> bool {
        let place = sealed_for(&hook.project, &hook.name);
        let previous = hook.previous.as_ref().filter(|(_, until)| app.now() < *until);
        [Some(&hook.secret), previous.map(|(secret, _)| secret)].into_iter().flatten().any(|sealed| {
            let opened = app.seal.open(&place, sealed).inspect_err(|error| tracing::error!(%error));
            let text = opened.ok().and_then(|bytes| std::str::from_utf8(&bytes).ok().map(str::to_owned));
            let secret = text.map(zeroize::Zeroizing::new).and_then(|text| WebhookSecret::parse(&text).ok());
            secret.is_some_and(|secret| secret.verify(&self.id, self.sent.as_secs(), body, &self.signature))
        })
    }

    fn is_recent(&self, now: Timestamp) -> Result<(), Failure> {
        let apart = now.since(self.sent).max(self.sent.since(now));
        if apart <= HOOK_WINDOW.duration() {
            return Ok(());
        }
        Err(Failure::unauthenticated(
            format!("The call was signed at {}, and it is {now} here.", self.sent),
            format!("Sign each call anew; clocks may differ by {HOOK_WINDOW}."),
        ))
    }
}

/// The options of a call: what the mapping names, and nothing else.
fn mapped(mapping: &BTreeMap<OptionName, HookMapping>, payload: &Value) -> BTreeMap<OptionName, Value> {
    let value = |mapping: &HookMapping| match mapping {
        HookMapping::Payload(pointer) => payload.pointer(pointer).filter(|value| !value.is_null()).cloned(),
        HookMapping::Value(value) => Some(value.clone()),
    };
    mapping.iter().filter_map(|(name, from)| Some((name.clone(), value(from)?))).collect()
}

/// The job is there, has these options, and the pointers can be read.
async fn check_mapping(
    app: &App,
    project: &ProjectName,
    job: &JobName,
    mapping: &BTreeMap<OptionName, HookMapping>,
) -> Result<(), Failure> {
    let found = app.store.job(project, job, None).await?;
    let found = found.ok_or_else(|| Failure::not_found("job", job))?;
    let document = app.scheduler.document(found.document).await?;
    for option in document.options.iter().filter(|option| option.kind.typed().is_some()) {
        if option.required || mapping.contains_key(&option.name) {
            return Err(Failure::faults(
                "A webhook cannot run this job.",
                vec![options::nobody_types(&option.name)],
            ));
        }
    }
    for (name, from) in mapping {
        if document.options.iter().all(|option| option.name != *name) {
            let message = format!("The job {job} has no option {name}.");
            return Err(Failure::invalid(message, "Name an option of the job."));
        }
        if let HookMapping::Payload(pointer) = from
            && (pointer.len() > MAX_POINTER || !is_pointer(pointer))
        {
            let message = format!("{pointer:?} is not a JSON pointer of at most {MAX_POINTER} bytes.");
            return Err(Failure::invalid(message, "Write for example /repository/name."));
        }
    }
    Ok(())
}

/// RFC 6901: empty, or segments that each begin with a slash, in which `~` comes as `~0` or `~1`.
fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes
}

fn new_secret(app: &App, project: &ProjectName, name: &HookName) -> Result<(ShownOnce, Vec<u8>), Failure> {
    let text = WebhookSecret::from_random(app.random()?).to_text();
    let sealed = app.seal.seal(&sealed_for(project, name), text.as_bytes()).map_err(Failure::internal)?;
    Ok((ShownOnce::new(text.to_string()), sealed))
}

fn view(app: &App, hook: &Hook) -> HookView {
    HookView {
        name: hook.name.clone(),
        job: hook.job.clone(),
        options: hook.mapping.clone(),
        url: format!("{}{}", app.identity.url, path::fill(path::HOOK_CALL, &[&hook.project, &hook.name])),
        created: hook.created,
        created_by: hook.created_by.clone(),
        rotated: hook.rotated,
        previous_until: hook.previous.as_ref().map(|(_, until)| *until).filter(|until| *until > app.now()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_mapping_names_becomes_an_option() {
        fn check(mapping: Value, expect: Value) {
            let mapping = serde_json::from_value(mapping).unwrap();
            let payload = json!({"repo": {"name": "web", "tags": ["a", "b"], "a/b": 1}, "n": 3, "nothing": null,
                "options": {"n": 9}, "secret": "x"});
            assert_eq!(serde_json::to_value(mapped(&mapping, &payload)).unwrap(), expect);
        }
        check(json!({}), json!({}));
        check(json!({"service": {"payload": "/repo/name"}}), json!({"service": "web"}));
        check(json!({"n": {"payload": "/n"}, "m": {"payload": "/repo/tags/1"}}), json!({"n": 3, "m": "b"}));
        check(json!({"n": {"payload": "/repo/a~1b"}}), json!({"n": 1}));
        check(json!({"n": {"payload": "/nothing"}, "m": {"payload": "/not/there"}}), json!({}));
        check(json!({"n": {"value": "${x}"}}), json!({"n": "${x}"}));
    }

    #[test]
    fn pointers_are_those_of_the_rfc() {
        for good in ["", "/", "/a", "/a/0", "/a~0b~1c"] {
            assert!(is_pointer(good), "{good}");
        }
        for bad in ["a", "$.a", "/a~", "/a~2"] {
            assert!(!is_pointer(bad), "{bad}");
        }
    }
}
