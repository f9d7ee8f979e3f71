//! One run as its supervisor sees it: the worker asks, the broker answers, until the worker says how it ended, or is gone.

use std::{future::Future, pin::Pin, sync::atomic::Ordering, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::Response;
use http_body_util::BodyExt as _;
use remit_protocol::{Outcome, Span, report::Limit};
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep_until},
};

use super::{
    Begin, Finish, Message, Output, Progress, Stop,
    exchange::{Ends, RequestHead, ResponseHead, pump},
    pace::Pace,
    pool::Lease,
    process::Port,
};
use crate::{
    broker::{Answer, Broker, Call, Refused},
    capability::{
        Fault,
        context::Progress as Told,
        http::{Door, HttpError, Pending, WasiBody, WasiHttpHooks as _},
    },
    frames::{Broken, Frame, Kind, Link, encode},
    sandbox::{Cancel, LONG, OverLimit, Said},
};

/// How much later than it should a worker may say that a run ended; then it is ended itself.
const LATE: Duration = Duration::from_secs(5);
/// What a worker says of a run.
pub(super) struct Heard {
    pub(super) frame: Frame,
    /// Of a request: its streams.
    pub(super) ends: Option<Ends>,
}

/// What happens to a run.
enum Event {
    Heard(Heard),
    /// There is no worker any more.
    Gone,
    /// The worker did not say in time that the run ended.
    Late,
}

/// What was heard in the middle of a call, or beside one.
enum Next {
    On,
    Ended(Said),
}

/// What is under way for a run beside its calls.
struct Desk<'a> {
    port: &'a Port,
    heard: Receiver<Heard>,
    exchanges: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
    cancel: &'a Cancel,
    /// What the worker was told last.
    told: Option<Stop>,
    deadline: Instant,
    /// When a worker that was told to cut the run off is late.
    cut_by: Option<Instant>,
    pace: Pace,
    /// Until then nothing more of the run is heard.
    rests: Option<Instant>,
}

impl Lease {
    /// Runs the component once and serves its calls.
    pub(crate) async fn attend(
        &self,
        mut broker: Broker,
        begin: Begin<'_>,
        input: &str,
        wall: Span,
        cancel: &Cancel,
    ) -> (Broker, Said) {
        let (port, heard) = self.open();
        port.link.send(&encode(Kind::Begin, port.run, 0, &begin, input.as_bytes()));
        let mut desk = Desk {
            port: &port,
            heard,
            exchanges: FuturesUnordered::new(),
            cancel,
            told: None,
            deadline: Instant::now() + wall.duration() + LATE,
            cut_by: None,
            pace: Pace::new(Instant::now()),
            rests: None,
        };
        let mut over = None;
        let served = serve(&mut broker, &mut desk, &mut over).await;
        if Span::from_millis(broker.account.used(Limit::Cpu)).duration() >= LONG {
            self.tire();
        }
        let said = match (over, served) {
            // The log went beyond its limit by what redaction made of it: the worker could not know.
            (Some(OverLimit(limit)), Ok(_)) => {
                Said::Stopped(Outcome::OverLimit(limit), OverLimit(limit).to_string())
            }
            (None, Ok(said)) => said,
            (_, Err(broken)) => {
                self.kill(&broken.to_string());
                Said::Stopped(Outcome::HostFault, self.obituary().await)
            }
        };
        (broker, said)
    }
}

/// Serves until the run has ended. An error is a worker that breaks the rules.
async fn serve(
    broker: &mut Broker,
    desk: &mut Desk<'_>,
    over: &mut Option<OverLimit>,
) -> Result<Said, Broken> {
    let mut door = None;
    let mut progress = Told::default();
    loop {
        let heard = match desk.event().await {
            Event::Heard(heard) => heard,
            Event::Gone => return Ok(Said::Stopped(Outcome::HostFault, desk.port.obituary().await)),
            Event::Late => return Err(Broken::new("it did not end a run in time")),
        };
        let Heard { frame, ends } = heard;
        match frame.kind {
            Kind::Finish => {
                if let Some((done, total)) = progress.take() {
                    broker.log.progress(done, total);
                }
                return finished(broker, &frame);
            }
            Kind::Ask => {
                if let Next::Ended(said) = ask(broker, desk, &frame).await? {
                    return Ok(said);
                }
            }
            Kind::Release => broker.release(frame.head()?),
            Kind::Request => {
                let ends = ends.ok_or_else(|| Broken::new("a request without streams"))?;
                desk.request(door.get_or_insert_with(|| broker.door()), &frame, ends)?;
            }
            Kind::Write | Kind::Stdio if over.is_some() => {}
            Kind::Write | Kind::Stdio => {
                *over = words(broker, &frame)?.err();
                desk.rests = desk.pace.rest(frame.bytes.len(), Instant::now());
            }
            Kind::Progress => {
                let (done, total): Progress = frame.head()?;
                if let Some((done, total)) = progress.say(Instant::now(), done, total) {
                    broker.log.progress(done, total);
                }
            }
            other => return Err(Broken(format!("{other:?} is not a worker's to say"))),
        }
        if over.is_some() {
            desk.cut();
        }
    }
}

/// Puts what the component says into its log.
fn words(broker: &Broker, frame: &Frame) -> Result<Result<(), OverLimit>, Broken> {
    if frame.kind == Kind::Stdio {
        let which: Output = frame.head()?;
        return Ok(broker.log.stdio(which, &frame.bytes));
    }
    let (level, fields): Message = frame.head()?;
    Ok(broker.log.write(level, &frame.text()?, fields))
}

/// Has the broker do what a component asks. A worker whose run ended by its own clock does not wait for the answer.
async fn ask(broker: &mut Broker, desk: &mut Desk<'_>, frame: &Frame) -> Result<Next, Broken> {
    let mut call: Call = frame.head()?;
    match call.bytes() {
        Some(bytes) => *bytes = frame.bytes.to_vec(),
        None if frame.bytes.is_empty() => {}
        None => return Err(Broken::new("a call with bytes that it has no place for")),
    }
    let last = {
        let mut asked = Box::pin(broker.ask(call));
        tokio::select! {
            biased;
            answer = &mut asked => {
                desk.answer(answer);
                return Ok(Next::On);
            }
            event = desk.event() => event,
        }
    };
    match last {
        Event::Heard(Heard { frame, .. }) if frame.kind == Kind::Finish => {
            finished(broker, &frame).map(Next::Ended)
        }
        Event::Heard(Heard { frame, .. }) => Err(Broken(format!("{:?} in the middle of a call", frame.kind))),
        Event::Gone => Ok(Next::Ended(Said::Stopped(Outcome::HostFault, desk.port.obituary().await))),
        Event::Late => Err(Broken::new("it did not end a run in time")),
    }
}

/// How the run ended, with what the worker has counted.
fn finished(broker: &Broker, frame: &Frame) -> Result<Said, Broken> {
    let Finish { mut said, mut counted } = frame.head()?;
    if let Some(document) = said.document() {
        *document = frame.text()?;
    }
    // Words of a worker may hold what its component was shown.
    counted.each_text(|text| *text = broker.log.presentable(text).into_owned());
    broker.account.adopt(counted);
    Ok(said)
}

impl Desk<'_> {
    /// The next thing that happens, while exchanges go on and wishes to end are passed on.
    async fn event(&mut self) -> Event {
        loop {
            let end = self.cut_by.map_or(self.deadline, |by| by.min(self.deadline));
            tokio::select! {
                biased;
                heard = self.heard.recv(), if self.rests.is_none() => {
                    let Some(heard) = heard else { return Event::Gone };
                    if heard.frame.kind == Kind::Finish {
                        self.port.finished.store(true, Ordering::Relaxed);
                    }
                    return Event::Heard(heard);
                }
                Some(()) = self.exchanges.next(), if !self.exchanges.is_empty() => {}
                () = self.cancel.cancelled(), if self.told.is_none() => self.tell(Stop::Asked),
                () = self.cancel.over(), if self.told == Some(Stop::Asked) => self.cut(),
                () = sleep_until(self.rests.unwrap_or(end)), if self.rests.is_some() => self.rests = None,
                () = sleep_until(end) => return Event::Late,
            }
        }
    }

    fn tell(&mut self, stop: Stop) {
        self.told = Some(stop);
        self.port.link.send(&encode(Kind::Stop, self.port.run, 0, &stop, &[]));
    }

    /// The run is to end at once.
    fn cut(&mut self) {
        if self.told != Some(Stop::Cut) {
            self.tell(Stop::Cut);
            self.cut_by = Some(Instant::now() + LATE);
        }
    }

    fn answer(&self, answer: Result<Answer, Fault>) {
        let mut answer = answer.map_err(Refused::from);
        let bytes = match &mut answer {
            Ok(answer) => answer.bytes().map(std::mem::take).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        self.port.link.send(&encode(Kind::Answer, self.port.run, 0, &answer, &bytes));
    }

    /// Begins a request: the door decides, and what it answers is passed on.
    fn request(&mut self, door: &mut Door, frame: &Frame, ends: Ends) -> Result<(), Broken> {
        let Ends { body, credit, unwanted, .. } = ends;
        let (request, options) = frame.head::<RequestHead>()?.request(body.boxed_unsync())?;
        let received: Pending<()> = Box::new(std::future::ready(Ok(())));
        let answer = Box::into_pin(door.send_request(request, Some(options), received));
        let (link, streams) = (self.port.link.clone(), self.port.streams.clone());
        let place = (frame.run, frame.stream);
        self.exchanges.push(Box::pin(async move {
            tokio::select! {
                biased;
                () = unwanted.cancelled() => {}
                () = exchange(answer, &link, place, &credit, &unwanted) => {}
            }
            streams.close(place.1);
        }));
        Ok(())
    }
}

type Answered = Result<(Response<WasiBody>, Pending<()>), HttpError>;

async fn exchange(
    answer: Pin<Box<dyn Future<Output = Answered> + Send>>,
    link: &Link,
    (run, stream): (u32, u32),
    credit: &tokio::sync::Semaphore,
    unwanted: &tokio_util::sync::CancellationToken,
) {
    match answer.await {
        Ok((response, _)) => {
            link.send(&encode(Kind::Response, run, stream, &ResponseHead::of(Ok(&response)), &[]));
            pump(response.into_body(), link, (run, stream), credit, unwanted).await;
        }
        Err(error) => {
            link.send(&encode(Kind::Response, run, stream, &ResponseHead::of(Err(&error)), &[]));
        }
    }
}
