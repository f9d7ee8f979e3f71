//! Bodies on their way: counted both ways, and redacted on the way in where the rule carries a credential.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use remit_protocol::report::Limit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use super::{decide, upstream::Lease};
use crate::{report::redact::Stream, sandbox::Account};

/// Largest set of trailer fields.
const MAX_TRAILERS: usize = 8 << 10;

/// Largest body that is held whole because its rule signs it. In sum the limit of bytes sent bounds them.
pub(super) const MAX_SIGNED: usize = 8 << 20;

/// Why a request's body was cut off: hyper's error would not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    OverLimit,
    Trailers,
    Source,
}

/// The guest's body, charged against the limit of bytes sent.
pub struct Outgoing {
    body: WasiBody,
    account: Arc<Account>,
    cut: Arc<OnceLock<Cut>>,
    /// What is still to come was charged before.
    charged: bool,
}

/// Tells, after the exchange broke off, whether the request's body was the reason.
pub(super) struct Fate(Arc<OnceLock<Cut>>);

impl Fate {
    pub(super) fn fault(&self) -> Option<HttpError> {
        self.0.get().map(|cut| match cut {
            Cut::OverLimit => HttpError::HttpRequestBodySize(None),
            Cut::Trailers => HttpError::HttpRequestTrailerSectionSize(Some(0)),
            Cut::Source => HttpError::HttpProtocolError,
        })
    }
}

impl Outgoing {
    /// Counts what `body` carries on `account`.
    pub(super) fn new(body: WasiBody, account: Arc<Account>) -> Self {
        Self { body, account, cut: Arc::default(), charged: false }
    }

    /// Reads the whole body; what it gives besides is a body of the same bytes. None if there are too many.
    pub(super) async fn whole(mut self) -> Result<Option<(Bytes, Self)>, HttpError> {
        let mut bytes = Vec::new();
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                if bytes.len() + data.len() > MAX_SIGNED {
                    return Ok(None);
                }
                bytes.extend_from_slice(&data);
            }
        }
        let bytes = Bytes::from(bytes);
        let body = Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync();
        Ok(Some((bytes, Self { body, charged: true, ..self })))
    }

    pub(super) fn fate(&self) -> Fate {
        Fate(self.cut.clone())
    }

    pub(super) fn account(&self) -> Arc<Account> {
        self.account.clone()
    }

    fn cut(&self, cut: Cut) -> HttpError {
        let fate = Fate(self.cut.clone());
        self.cut.get_or_init(|| cut);
        fate.fault().unwrap_or(HttpError::HttpProtocolError)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                self.cut.get_or_init(|| Cut::Source);
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame,
        };
        let Some(data) = frame.data_ref() else {
            // Trailers would be header fields that nobody has judged.
            return match frame.trailers_ref().is_none_or(HeaderMap::is_empty) {
                true => Poll::Ready(None),
                false => Poll::Ready(Some(Err(self.cut(Cut::Trailers)))),
            };
        };
        if self.charged {
            return Poll::Ready(Some(Ok(frame)));
        }
        match self.account.charge(Limit::Egress, data.len() as u64) {
            Ok(()) => Poll::Ready(Some(Ok(frame))),
            Err(_) => Poll::Ready(Some(Err(self.cut(Cut::OverLimit)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, charged against the limit of bytes received.
pub(super) struct Incoming {
    body: hyper::body::Incoming,
    account: Arc<Account>,
    /// The connection, given back when the body has been read to its end.
    lease: Option<Lease>,
    redaction: Option<Stream>,
    waiting: VecDeque<Frame<Bytes>>,
    ended: bool,
    between: Duration,
    patience: Pin<Box<Sleep>>,
}

impl Incoming {
    pub(super) fn new(
        body: hyper::body::Incoming,
        account: Arc<Account>,
        lease: Lease,
        redaction: Option<Stream>,
        between: Duration,
    ) -> Self {
        let mut incoming = Self {
            body,
            account,
            lease: Some(lease),
            redaction,
            waiting: VecDeque::new(),
            ended: false,
            between,
            patience: Box::pin(tokio::time::sleep(between)),
        };
        if incoming.body.is_end_stream() {
            incoming.end(None);
        }
        incoming
    }

    /// The last piece has come.
    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.ended = true;
        if let Some(mut stream) = self.redaction.take() {
            let mut rest = Vec::new();
            stream.finish(&mut rest);
            if !rest.is_empty() {
                self.waiting.push_back(Frame::data(rest.into()));
            }
        }
        if let Some(trailers) = trailers {
            self.waiting.push_back(Frame::trailers(trailers));
        }
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), HttpError> {
        match frame.into_data() {
            Ok(data) => {
                self.account
                    .charge(Limit::Ingress, data.len() as u64)
                    .map_err(|_| HttpError::HttpResponseBodySize(None))?;
                match &mut self.redaction {
                    None => self.waiting.push_back(Frame::data(data)),
                    Some(stream) => {
                        let mut clean = Vec::with_capacity(data.len());
                        stream.push(&data, &mut clean);
                        if !clean.is_empty() {
                            self.waiting.push_back(Frame::data(clean.into()));
                        }
                    }
                }
            }
            // Of an answer that could echo a credential, trailers are dropped; elsewhere they are bounded.
            Err(frame) if self.redaction.is_some() => drop(frame),
            Err(frame) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                // What belongs to the connection, or could change how the message was read, is not a trailer's to say.
                let foreign: Vec<_> = trailers.keys().filter(|name| belongs_before(name)).cloned().collect();
                foreign.iter().for_each(|name| drop(trailers.remove(name)));
                let size: usize =
                    trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
                if size > MAX_TRAILERS {
                    return Err(HttpError::HttpResponseTrailerSectionSize(u32::try_from(size).ok()));
                }
                self.end(Some(trailers));
            }
        }
        Ok(())
    }
}

/// Fields that mean something only before a body (RFC 9110 §6.5.1).
fn belongs_before(name: &HeaderName) -> bool {
    use http::header::{
        AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        LOCATION, SET_COOKIE, WWW_AUTHENTICATE,
    };
    decide::is_forbidden(name)
        || [
            AUTHORIZATION,
            CACHE_CONTROL,
            CONTENT_ENCODING,
            CONTENT_LENGTH,
            CONTENT_RANGE,
            CONTENT_TYPE,
            LOCATION,
            SET_COOKIE,
            WWW_AUTHENTICATE,
        ]
        .contains(name)
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.patience.as_mut().poll(context));
                    self.ended = true;
                    return Poll::Ready(Some(Err(HttpError::ConnectionReadTimeout)));
                }
            };
            let taken = match frame {
                None => {
                    self.end(None);
                    Ok(())
                }
                Some(Ok(frame)) => {
                    let next = Instant::now() + self.between;
                    self.patience.as_mut().reset(next);
                    self.take(frame)
                }
                Some(Err(_)) => Err(HttpError::HttpResponseIncomplete),
            };
            if let Err(error) = taken {
                self.ended = true;
                self.lease = None;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }
}
