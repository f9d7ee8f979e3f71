//! Sessions, polls and reports: verified here, decided by the scheduler.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use remit_protocol::{
    Session,
    endpoint::{HOLD, OpenSession, Poll, Report, TrailHead, TrailKept, Wait, Waited},
    limits::MAX_BODY,
};
use remit_signing::{http::VerifiedRequest, key::PublicKey};

use super::signed::{Answer, Call, Counting, signed};
use crate::{
    http::{App, error::Failure},
    store::Kept,
    trail::NotKept,
};

/// A runner process begins.
pub(in crate::http) async fn session(State(app): State<App>, request: Request) -> Response {
    signed(app, request, MAX_BODY, Counting::Opening, open).await
}

async fn open(app: App, call: Call) -> Result<Answer, Failure> {
    let open: OpenSession = call.message()?;
    if open.runner != call.request.runner() || open.last != call.request.session() {
        return Err(mismatch());
    }
    Answer::message(&app.scheduler.open_session(open).await?)
}

/// Is there something for me? The answer is held until there is.
pub(in crate::http) async fn poll(State(app): State<App>, request: Request) -> Response {
    signed(app, request, MAX_BODY, Counting::InSession, park).await
}

async fn park(app: App, call: Call) -> Result<Answer, Failure> {
    let runner = call.request.runner();
    let poll: Poll = call.message()?;
    check_session(&call.request, poll.session)?;
    // From here on it only waits: its body and its place among the calls that are worked on are free.
    drop(call);
    let parked = Parked::new(&app);
    let answer = tokio::select! {
        answer = app.scheduler.poll(runner, poll) => answer?,
        () = app.stop.cancelled() => return Err(Failure::stopping()),
    };
    drop(parked);
    Answer::message(&answer)
}

/// Holds an answer back for as long as it is asked to.
pub(in crate::http) async fn wait(State(app): State<App>, request: Request) -> Response {
    signed(app, request, MAX_BODY, Counting::InSession, hold_back).await
}

async fn hold_back(app: App, call: Call) -> Result<Answer, Failure> {
    let hold = call.message::<Wait>()?.hold.min(HOLD);
    let _place = Arc::clone(&app.waits).try_acquire_owned().map_err(|_| Failure::overloaded())?;
    drop(call);
    let parked = Parked::new(&app);
    tokio::select! {
        () = tokio::time::sleep(hold.duration()) => {}
        () = app.stop.cancelled() => return Err(Failure::stopping()),
    }
    drop(parked);
    Answer::message(&Waited { hold })
}

/// Starts, events and log entries.
pub(in crate::http) async fn report(State(app): State<App>, request: Request) -> Response {
    signed(app, request, MAX_BODY, Counting::InSession, take).await
}

async fn take(app: App, call: Call) -> Result<Answer, Failure> {
    let report: Report = call.message()?;
    check_session(&call.request, report.session)?;
    Answer::message(&app.scheduler.report(call.request.runner(), report).await?)
}

/// The signed end of the runner's own record: kept, so that a record that is cut off later is seen to be.
pub(in crate::http) async fn trail(State(app): State<App>, request: Request) -> Response {
    signed(app, request, MAX_BODY, Counting::InSession, keep_trail).await
}

async fn keep_trail(app: App, call: Call) -> Result<Answer, Failure> {
    let TrailHead { note } = call.message()?;
    let id = call.request.runner();
    let unknown = || Failure::not_found("runner", id);
    let runner = app.store.runner(id).await?.ok_or_else(unknown)?;
    let key = PublicKey::from_bytes(&runner.key.ok_or_else(unknown)?).map_err(Failure::internal)?;
    let kept = app.trail.keep(id, &key, note, app.now()).await.map_err(|error| match error {
        NotKept::Store(error) => error.into(),
        error => {
            Failure::invalid(format!("The end of the record is not kept: {error}."), "Update the runner.")
        }
    })?;
    if let (Kept::Against { first: true, .. }, entries) = kept {
        let detail = format!("{} of {entries} entries", runner.name);
        tracing::error!(runner = %runner.name, entries, "a runner's record was cut off or rewritten");
        app.audit(&runner.name, "runner.trail-against", detail).await?;
    }
    let (kept, entries) = kept;
    Answer::message(&TrailKept { entries, fits: !matches!(kept, Kept::Against { .. }) })
}

fn check_session(request: &VerifiedRequest, session: Session) -> Result<(), Failure> {
    if request.session() == session { Ok(()) } else { Err(mismatch()) }
}

fn mismatch() -> Failure {
    Failure::runner(
        "session-mismatch",
        "The body speaks of another runner or session than its signature.",
        "Update the runner.",
    )
}

/// Counts a poll for as long as it waits.
struct Parked<'a>(&'a App);

impl<'a> Parked<'a> {
    fn new(app: &'a App) -> Self {
        app.metrics.polls.add(1);
        Self(app)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.metrics.polls.subtract(1);
    }
}
