//! How a runner first gets here: hello, and a ticket becomes an identity.

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use remit_protocol::{
    PROTOCOL,
    endpoint::{Enrol, Enrolled, Hello},
    limits::MAX_NOTE,
};
use remit_signing::{
    enrol::{EnrolFault, UnverifiedEnrolment},
    key::PublicKey,
};

use crate::{
    http::{
        App,
        error::Failure,
        extract::{self, Json, content_length},
    },
    store::Enrolment,
};

/// Says that an orchestrator is here, and its clock.
pub(in crate::http) async fn hello(State(app): State<App>) -> Json<Hello> {
    Json(Hello { remit: "orchestrator".to_owned(), protocol: PROTOCOL, now: app.now() })
}

/// Takes in a runner by its ticket.
pub(in crate::http) async fn enrol(State(app): State<App>, request: Request) -> Response {
    app.metrics.runner_calls.add(1);
    match take_in(&app, request).await {
        Ok(enrolled) => Json(enrolled).into_response(),
        Err(failure) => {
            app.metrics.runner_calls_refused.add(1);
            failure.into_response()
        }
    }
}

async fn take_in(app: &App, request: Request) -> Result<Enrolled, Failure> {
    let (parts, body) = request.into_parts();
    // A note, quoted in JSON.
    let body = extract::read(body, content_length(&parts.headers), 2 * MAX_NOTE).await?;
    let Enrol { note } = extract::parse(&body, 2 * MAX_NOTE)?;
    let unverified = UnverifiedEnrolment::parse(note.as_bytes()).map_err(not_enrolled)?;
    let now = app.now();
    let ticket = app.store.ticket(unverified.ticket()).await?.ok_or_else(|| {
        Failure::unsigned(
            "ticket-unknown",
            "This ticket is not known here: a newer one took its place, or it is from another orchestrator.",
            "Make a new one: `remit runner ticket NAME`.",
        )
    })?;
    let key = PublicKey::from_bytes(&ticket.key).map_err(Failure::internal)?;
    let verified = unverified.verify(&key).map_err(not_enrolled)?;
    let enrolment = Enrolment { ticket: ticket.id, key: *verified.identity().as_bytes(), at: now };
    let runner = app.store.enrol(enrolment).await?;
    app.links.forget(runner.id);
    app.scheduler.runner_changed(runner.id).await?;
    let identity = &app.identity;
    let note = verified
        .answer(&identity.answer_key, runner.id, &runner.name, &identity.audience, now)
        .map_err(Failure::internal)?;
    app.audit(&runner.name, "runner.enrol", verified.hostname()).await?;
    tracing::info!(runner = %runner.name, host = verified.hostname(), "a runner was enrolled");
    Ok(Enrolled { note: String::from_utf8(note).map_err(Failure::internal)? })
}

fn not_enrolled(fault: EnrolFault) -> Failure {
    let remedy = "Copy the whole ticket again, or make a new one: `remit runner ticket NAME`.";
    match fault {
        EnrolFault::Malformed(_) => Failure::invalid(format!("Not enrolled: {fault}"), "Update the runner."),
        fault => Failure::unsigned("ticket", format!("Not enrolled: {fault}."), remedy),
    }
}
