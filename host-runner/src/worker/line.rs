//! The worker's way to the broker of a run: calls and their answers, words for the log, requests.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use http::{Request, Response, uri::Scheme};
use http_body_util::BodyExt as _;
use remit_protocol::report::Level;
use tokio::{sync::oneshot, task::JoinSet};

use super::{
    Message, Progress,
    exchange::{Ends, RequestHead, Streams, pump},
};
use crate::{
    broker::{Answer, Ask, Call, Handle, Refused},
    capability::{
        Fault,
        http::{
            CHUNK, ForbiddenHeaderFilter, HttpError, Pending, RequestOptions, WasiBody, WasiHttpHooks, decide,
        },
        log::{Line as LogLine, Log, LogSink, Stdio, Words},
    },
    frames::{Broken, Frame, Kind, Link, encode},
    report::redact::Redactor,
    sandbox::{Account, HostFault, OverLimit},
};

/// Most fields of a message, and the longest text of one: far above what a log keeps, and what redaction has to see.
const MAX_FIELDS: usize = 64;
const MAX_FIELD: usize = 128 << 10;

/// The one call of a run that waits for its answer.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Option<oneshot::Sender<Result<Answer, Refused>>>>);

impl Waiting {
    /// Takes the frame of an answer.
    pub(super) fn hear(&self, frame: &Frame) -> Result<(), Broken> {
        let mut answer: Result<Answer, Refused> = frame.head()?;
        if let Ok(answer) = &mut answer
            && let Some(bytes) = answer.bytes()
        {
            *bytes = frame.bytes.to_vec();
        }
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            // A call that is not awaited any more belongs to a run that has ended.
            let _ = waiting.send(answer);
        }
        Ok(())
    }
}

/// The way of one run to its broker.
pub(super) struct Line {
    pub(super) link: Arc<Link>,
    pub(super) run: u32,
    pub(super) waiting: Arc<Waiting>,
    pub(super) streams: Arc<Streams>,
}

#[async_trait]
impl Ask for Line {
    async fn ask(&mut self, mut call: Call) -> Result<Answer, Fault> {
        let (sender, answer) = oneshot::channel();
        *self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let bytes = call.bytes().map(std::mem::take).unwrap_or_default();
        let frame = encode(Kind::Ask, self.run, 0, &call, &bytes);
        if frame.len() > super::MAX_FROM_WORKER {
            return Err(Fault::failed("it is too much for one call"));
        }
        self.link.send(&frame);
        match answer.await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Fault::Halt(HostFault("the broker is gone".to_owned()).into())),
        }
    }

    fn release(&mut self, handle: Handle) {
        self.link.send(&encode(Kind::Release, self.run, 0, &handle, &[]));
    }

    fn way_out(&mut self) -> Box<dyn WasiHttpHooks> {
        Box::new(WayOut {
            link: self.link.clone(),
            run: self.run,
            streams: self.streams.clone(),
            last: AtomicU32::new(0),
            pumps: JoinSet::new(),
        })
    }
}

/// A run's way to its log. What it costs is counted here as well, so that a component is stopped at the very word that goes
/// beyond the limit; what becomes of the words is the other side's.
pub(super) struct FarLog {
    counting: Log,
    link: Arc<Link>,
    run: u32,
}

impl FarLog {
    pub(super) fn new(link: Arc<Link>, run: u32, account: Arc<Account>) -> Self {
        Self { counting: Log::new(Arc::new(Discard), Redactor::new(), account), link, run }
    }
}

struct Discard;

impl LogSink for Discard {
    fn line(&self, _: LogLine) {}
    fn progress(&self, _: u64, _: u64) {}
}

#[async_trait]
impl Words for FarLog {
    fn full(&self) -> bool {
        self.link.full()
    }

    async fn room(&self) {
        self.link.room().await;
    }

    fn write(&self, level: Level, message: &str, fields: Vec<(String, String)>) -> Result<(), OverLimit> {
        // Beyond these bounds nothing of a field is shown: it need not travel.
        let shorter = |mut text: String| {
            text.truncate(text.floor_char_boundary(MAX_FIELD));
            text
        };
        let fields = fields.into_iter().take(MAX_FIELDS).map(|(name, value)| (shorter(name), shorter(value)));
        let head: Message = (level, fields.collect());
        self.link.send(&encode(Kind::Write, self.run, 0, &head, message.as_bytes()));
        self.counting.write(level, message, head.1)
    }

    fn stdio(&self, which: Stdio, bytes: &[u8]) -> Result<(), OverLimit> {
        self.link.send(&encode(Kind::Stdio, self.run, 0, &which, bytes));
        self.counting.stdio(which, bytes)
    }

    fn progress(&self, done: u64, total: u64) {
        let head: Progress = (done, total);
        self.link.send(&encode(Kind::Progress, self.run, 0, &head, &[]));
    }
}

/// A run's way out for HTTP: nothing is decided here.
struct WayOut {
    link: Arc<Link>,
    run: u32,
    streams: Arc<Streams>,
    last: AtomicU32,
    /// Bodies on their way to the broker.
    pumps: JoinSet<()>,
}

impl WasiHttpHooks for WayOut {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(decide::is_forbidden)
    }

    fn is_supported_scheme(&mut self, scheme: &Scheme) -> bool {
        *scheme == Scheme::HTTPS || *scheme == Scheme::HTTP
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn default_scheme(&mut self) -> Option<Scheme> {
        None
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _received: Pending<()>,
    ) -> Pending<(Response<WasiBody>, Pending<()>)> {
        let (link, run) = (self.link.clone(), self.run);
        let stream = self.last.fetch_add(1, Ordering::Relaxed);
        let Some(ends) = self.streams.open(&link, run, stream) else {
            return Box::new(std::future::ready(Err(HttpError::ConnectionLimitReached)));
        };
        let (head, body) = request.into_parts();
        link.send(&encode(Kind::Request, run, stream, &RequestHead::of(&head, options), &[]));
        let Ends { body: answer, credit, unwanted, head } = ends;
        while self.pumps.try_join_next().is_some() {}
        self.pumps.spawn(async move { pump(body, &link, (run, stream), &credit, &unwanted).await });
        let answer = answer.closing();
        Box::new(async move {
            let head = head.await.map_err(|_| HttpError::ConnectionTerminated)?;
            let done: Pending<()> = Box::new(std::future::ready(Ok(())));
            Ok((head.response(answer.boxed_unsync())?, done))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}
