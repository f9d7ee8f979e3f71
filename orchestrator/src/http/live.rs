//! Live events of an execution, as server-sent events: what changed, which steps ended, what was logged.
//!
//! The id of each event is its [`Place`], so that a reader who comes back with `Last-Event-ID` misses and repeats nothing.
//! The feed is read from the store, never from memory: a reader may begin at the beginning at any time.

use std::{collections::VecDeque, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use futures_util::stream;
use remit_protocol::{
    ExecutionId, NodeIndex, NodeName, StepIndex, StepName,
    operator::{EventsQuery, LiveEvent, Place, Progress, path},
};
use tokio::sync::watch;

use super::{
    App,
    error::Failure,
    extract::{Asked, Place as InPath},
    operator::execution::{Known, log_line, names, shown},
};
use crate::{
    execution::Happening,
    store::{FeedEntry, LogFilter, ResultFilter},
};

/// How often a comment keeps the connection open.
const COMMENT: Duration = Duration::from_secs(15);
/// How often the log is looked at while nothing else happens.
const LOOK: Duration = Duration::from_millis(250);
/// Log entries of one event.
const LINES: usize = 500;
/// Failures of one reading whose words are looked up.
const WORDS: usize = 50;
/// Filters on the way hold the beginning of an answer back until it has some size.
const PADDING: usize = 2048;

/// Live events. They begin at `after`, or at the beginning; `Last-Event-ID` wins.
#[utoipa::path(get, path = path::EXECUTION_EVENTS, tag = "executions", params(("execution" = ExecutionId, Path), EventsQuery),
    responses((status = 200, content_type = "text/event-stream", body = LiveEvent)))]
pub(crate) async fn events(
    State(app): State<App>,
    InPath(id): InPath<ExecutionId>,
    Asked(asked): Asked<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let place = match last {
        Some(text) => {
            text.parse().map_err(|error| Failure::invalid(format!("Last-Event-ID is {error}."), ""))?
        }
        None => asked.after.unwrap_or_default(),
    };
    let reader = Reader::new(app, id, place).await?;
    let body = Body::from_stream(stream::unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), reader))
    }));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Somebody who follows an execution.
struct Reader {
    app: App,
    known: Known,
    place: Place,
    changed: watch::Receiver<u64>,
    ready: VecDeque<Bytes>,
    over: bool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.app.metrics.readers.subtract(1);
    }
}

impl Reader {
    async fn new(app: App, id: ExecutionId, place: Place) -> Result<Self, Failure> {
        // Before anything is read, so that no change falls in between.
        let changed = app.scheduler.watch(id);
        let known = Known::read(&app, id).await?;
        app.metrics.readers.add(1);
        let padding = Bytes::from(format!(":{}\n\n", " ".repeat(PADDING)));
        Ok(Self { app, known, place, changed, ready: VecDeque::from([padding]), over: false })
    }

    /// The next piece of the stream; `None` when everything was said.
    async fn next(&mut self) -> Option<Bytes> {
        let mut silent = Duration::ZERO;
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            if self.over {
                return None;
            }
            if let Err(failure) = self.read().await {
                // The reader comes back with the id of what it saw last.
                tracing::warn!(?failure, "live events broke off");
                return None;
            }
            if !self.ready.is_empty() || self.over {
                continue;
            }
            tokio::select! {
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        tokio::time::sleep(LOOK).await;
                    }
                }
                () = tokio::time::sleep(LOOK) => {}
                () = self.app.stop.cancelled() => return None,
            }
            silent += LOOK;
            if silent >= COMMENT {
                return Some(Bytes::from_static(b":\n\n"));
            }
        }
    }

    /// Reads what is new, and says that it is over once it is.
    async fn read(&mut self) -> Result<(), Failure> {
        let id = self.known.record.id;
        let entries = self.app.store.events_after(id, self.place.event).await?;
        if !entries.is_empty() {
            self.known = Known::read(&self.app, id).await?;
            self.tell(entries).await?;
        }
        let from = self.place.entry.max(1);
        let page = self.app.store.logs().page(id, from, LINES, LogFilter::default()).await?;
        let next = page.next;
        if !page.entries.is_empty() {
            let lines = page.entries.into_iter().filter_map(|line| log_line(&self.known, line)).collect();
            self.place.entry = next;
            self.push(&LiveEvent::Log { lines });
        }
        let all = page.end && self.place.event >= self.known.record.last_event;
        if let Some(outcome) = self.known.outcome().filter(|_| all) {
            self.push(&LiveEvent::End { outcome });
            self.over = true;
        }
        Ok(())
    }

    async fn tell(&mut self, entries: Vec<FeedEntry>) -> Result<(), Failure> {
        let names = names(&self.app, &self.known.record).await?;
        let mut words = WORDS;
        for entry in entries {
            let mut events = Vec::new();
            match entry.what {
                Happening::Execution { .. } => {
                    events.push(LiveEvent::Execution { execution: self.known.summary(&self.app) });
                }
                Happening::Section { section, state, message, .. } => {
                    let sections = &self.known.record.sections;
                    if let Some(record) = sections.iter().find(|one| one.place.number == section) {
                        let mut view = self.known.section(&self.app, record, &names);
                        view.state = shown(state);
                        view.outcome = state.outcome();
                        if !message.is_empty() {
                            view.reason = Some(message);
                        }
                        events.push(LiveEvent::Section { section: view });
                    }
                }
                // A workflow step's end is told by `Step`, which every step has.
                Happening::Results { results } => {
                    for result in results {
                        let Some(node) = result.node else { continue };
                        let message = if result.outcome.is_good() || words == 0 {
                            String::new()
                        } else {
                            words -= 1;
                            self.message(result.step, Some(node)).await?
                        };
                        if let (Some(name), Some(node)) = (self.step_name(result.step), self.node_name(node))
                        {
                            let (step, outcome) = (result.step, result.outcome);
                            events.push(LiveEvent::StepEnded {
                                step,
                                name,
                                node: Some(node),
                                outcome,
                                message,
                            });
                        }
                    }
                }
                Happening::Step { step, outcome } => {
                    let message =
                        if outcome.is_good() { String::new() } else { self.message(step, None).await? };
                    if let Some(name) = self.step_name(step) {
                        events.push(LiveEvent::StepEnded { step, name, node: None, outcome, message });
                    }
                }
                Happening::Progress { step, node, done, total } => {
                    events.push(LiveEvent::Progress { step, node, progress: Progress { done, total } });
                }
                Happening::Approved { .. } | Happening::Decided { .. } | Happening::Doubled { .. } => {}
            }
            let last = events.pop();
            for event in &events {
                // Only the last event of an entry carries its number: whoever breaks off before it gets all of it again.
                self.push(event);
            }
            self.place.event = entry.number;
            if let Some(event) = last {
                self.push(&event);
            }
        }
        Ok(())
    }

    fn step_name(&self, step: StepIndex) -> Option<StepName> {
        self.known.step(step).map(|step| step.name.clone())
    }

    fn node_name(&self, node: NodeIndex) -> Option<NodeName> {
        let nodes = &self.known.nodes.as_ref()?.nodes;
        nodes.get(usize::try_from(node.0).unwrap_or(usize::MAX)).map(|node| node.name.clone())
    }

    /// Why a step ended as it did.
    async fn message(&self, step: StepIndex, node: Option<NodeIndex>) -> Result<String, Failure> {
        let wanted = ResultFilter {
            step: Some(step),
            node,
            per_node: Some(node.is_some()),
            limit: 1,
            ..ResultFilter::default()
        };
        let found = self.app.store.results(self.known.record.id, wanted).await?;
        Ok(found.into_iter().next().map(|result| result.ended.message).unwrap_or_default())
    }

    fn push(&mut self, event: &LiveEvent) {
        let kind = match event {
            LiveEvent::Execution { .. } => "execution",
            LiveEvent::Section { .. } => "section",
            LiveEvent::StepEnded { .. } => "step-ended",
            LiveEvent::Progress { .. } => "progress",
            LiveEvent::Log { .. } => "log",
            LiveEvent::End { .. } => "end",
        };
        let data = serde_json::to_string(event).unwrap_or_default();
        self.ready.push_back(Bytes::from(format!("id: {}\nevent: {kind}\ndata: {data}\n\n", self.place)));
    }
}
