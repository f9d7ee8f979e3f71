//! HTTP between a worker and its broker: a request's head, its answer's head, and their bodies as streams with credit.
//!
//! Both ends hold an entry a request in [`Streams`]. A side sends at most [`WINDOW`] bytes that the other has not taken; who
//! sends more breaks the rules. Dropping a [`FarBody`] tells the other side that the body is not wanted any more.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame as Piece};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{
    Semaphore,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};
use tokio_util::sync::CancellationToken;

use crate::{
    capability::http::{HttpError, RequestOptions, WasiBody},
    frames::{Broken, Frame, Kind, Link, encode, plain},
};

/// Bytes of a body that are on their way.
const WINDOW: usize = 256 << 10;
/// Largest piece of a body.
const PIECE: usize = 64 << 10;
/// Requests of one run at once.
const MAX_STREAMS: usize = 256;

/// Header fields as they travel: each byte of a value is one character.
type Fields = Vec<(String, String)>;

fn fields(headers: &HeaderMap) -> Fields {
    let value = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    headers.iter().map(|(name, content)| (name.as_str().to_owned(), value(content))).collect()
}

fn headers(fields: Fields) -> Result<HeaderMap, Broken> {
    let broken = || Broken("a header field that is none".to_owned());
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken())?;
        let value: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        let value = value.and_then(|value| HeaderValue::from_bytes(&value).ok()).ok_or_else(broken)?;
        headers.try_append(name, value).map_err(|_| broken())?;
    }
    Ok(headers)
}

/// The head of a request.
#[derive(Serialize, Deserialize)]
pub(super) struct RequestHead {
    method: String,
    uri: String,
    fields: Fields,
    /// Milliseconds for connecting, for the first byte and between two bytes, where the guest names them.
    patience: [Option<u64>; 3],
}

impl RequestHead {
    pub(super) fn of(head: &http::request::Parts, options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let patience = [options.connect_timeout, options.first_byte_timeout, options.between_bytes_timeout]
            // Less than a millisecond is one: none at all would be no wish.
            .map(|patience| {
                patience.map(|time| u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
            });
        Self {
            method: head.method.as_str().to_owned(),
            uri: head.uri.to_string(),
            fields: fields(&head.headers),
            patience,
        }
    }

    /// The request as the broker's door takes it.
    pub(super) fn request(self, body: WasiBody) -> Result<(Request<WasiBody>, RequestOptions), Broken> {
        let broken = || Broken("a request's head that is none".to_owned());
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).map_err(|_| broken())?;
        *request.uri_mut() = Uri::try_from(self.uri).map_err(|_| broken())?;
        *request.headers_mut() = headers(self.fields)?;
        let [connect, first, between] = self.patience.map(|time| time.map(Duration::from_millis));
        let options = RequestOptions {
            connect_timeout: connect,
            first_byte_timeout: first,
            between_bytes_timeout: between,
        };
        Ok((request, options))
    }
}

/// The head of an answer, or why there is none.
#[derive(Serialize, Deserialize)]
pub(super) struct ResponseHead(Result<(u16, Fields), Code>);

impl ResponseHead {
    pub(super) fn of(answer: Result<&Response<WasiBody>, &HttpError>) -> Self {
        Self(match answer {
            Ok(response) => Ok((response.status().as_u16(), fields(response.headers()))),
            Err(error) => Err(Code::of(error)),
        })
    }

    /// The answer as the guest's side takes it.
    pub(super) fn response(self, body: WasiBody) -> Result<Response<WasiBody>, HttpError> {
        let (status, fields) = self.0.map_err(Code::error)?;
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).map_err(|_| HttpError::HttpProtocolError)?;
        *response.headers_mut() = headers(fields).map_err(|_| HttpError::HttpProtocolError)?;
        Ok(response)
    }
}

macro_rules! codes {
    ($($plain:ident)* ; $($sized:ident: $number:ty),*) => {
        /// An error of `wasi:http` as it travels.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub(super) enum Code {
            $($plain,)*
            $($sized(Option<$number>),)*
            DnsError,
            HttpResponseContentCoding(Option<String>),
        }

        impl Code {
            pub(super) fn of(error: &HttpError) -> Self {
                match error {
                    $(HttpError::$plain => Self::$plain,)*
                    $(HttpError::$sized(number) => Self::$sized(*number),)*
                    HttpError::DnsError { .. } => Self::DnsError,
                    HttpError::HttpResponseContentCoding(name) => Self::HttpResponseContentCoding(name.clone()),
                    // What has words of its own is for the operator, not for a guest.
                    HttpError::Connect(_) => Self::DestinationUnavailable,
                    HttpError::Tls(_) => Self::TlsProtocolError,
                    _ => Self::HttpProtocolError,
                }
            }

            pub(super) fn error(self) -> HttpError {
                match self {
                    $(Self::$plain => HttpError::$plain,)*
                    $(Self::$sized(number) => HttpError::$sized(number),)*
                    Self::DnsError => HttpError::DnsError { rcode: None, info_code: None },
                    Self::HttpResponseContentCoding(name) => HttpError::HttpResponseContentCoding(name),
                }
            }
        }
    };
}

codes! {
    DnsTimeout DestinationNotFound DestinationUnavailable DestinationIpProhibited DestinationIpUnroutable
    ConnectionRefused ConnectionTerminated ConnectionTimeout ConnectionReadTimeout ConnectionWriteTimeout
    ConnectionLimitReached TlsProtocolError TlsCertificateError HttpRequestDenied HttpRequestLengthRequired
    HttpRequestMethodInvalid HttpRequestUriInvalid HttpRequestUriTooLong HttpResponseIncomplete HttpResponseTimeout
    HttpUpgradeFailed HttpProtocolError LoopDetected ConfigurationError;
    HttpRequestBodySize: u64, HttpRequestHeaderSectionSize: u32, HttpRequestTrailerSectionSize: u32,
    HttpResponseHeaderSectionSize: u32, HttpResponseBodySize: u64, HttpResponseTrailerSectionSize: u32
}

/// The requests of one run that are under way.
#[derive(Default)]
pub(super) struct Streams(Mutex<HashMap<u32, Entry>>);

struct Entry {
    pieces: UnboundedSender<Result<Piece<Bytes>, Code>>,
    /// Bytes that came and were not taken yet.
    untaken: Arc<AtomicUsize>,
    credit: Arc<Semaphore>,
    head: Option<oneshot::Sender<ResponseHead>>,
    unwanted: CancellationToken,
}

/// What one side of a request needs.
pub(super) struct Ends {
    /// The body that comes from the other side.
    pub(super) body: FarBody,
    /// What the body that goes there may send.
    pub(super) credit: Arc<Semaphore>,
    /// The other side does not want what goes there any more.
    pub(super) unwanted: CancellationToken,
    /// The answer's head, once it comes.
    pub(super) head: oneshot::Receiver<ResponseHead>,
}

impl Streams {
    /// Opens one; none if there are too many, or one of that number.
    pub(super) fn open(self: &Arc<Self>, link: &Arc<Link>, run: u32, stream: u32) -> Option<Ends> {
        let (pieces, coming) = unbounded_channel();
        let (head, awaited) = oneshot::channel();
        let (untaken, credit) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(WINDOW)));
        let unwanted = CancellationToken::new();
        let entry = Entry {
            pieces,
            untaken: untaken.clone(),
            credit: credit.clone(),
            head: Some(head),
            unwanted: unwanted.clone(),
        };
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() >= MAX_STREAMS || streams.contains_key(&stream) {
            return None;
        }
        streams.insert(stream, entry);
        let body =
            FarBody { coming, untaken, link: link.clone(), streams: self.clone(), run, stream, ended: false };
        Some(Ends { body, credit, unwanted, head: awaited })
    }

    /// It is over.
    pub(super) fn close(&self, stream: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream);
    }

    /// Takes a frame about a stream. One that is not open was closed here a moment ago.
    pub(super) fn hear(&self, frame: &Frame) -> Result<(), Broken> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = streams.get_mut(&frame.stream) else { return Ok(()) };
        let piece = match frame.kind {
            Kind::Response => {
                if let Some(head) = entry.head.take() {
                    // Whoever does not wait any more does not want it.
                    let _ = head.send(frame.head()?);
                }
                return Ok(());
            }
            Kind::Data => {
                let length = frame.bytes.len();
                let untaken = entry.untaken.fetch_add(length, Ordering::Relaxed) + length;
                if length == 0 || untaken > WINDOW {
                    return Err(Broken(format!("{untaken} bytes of a body that nobody has taken")));
                }
                Ok(Piece::data(frame.bytes.clone()))
            }
            Kind::Trailers => Ok(Piece::trailers(headers(frame.head()?)?)),
            Kind::Fail => Err(frame.head()?),
            Kind::Window => {
                let taken: usize = frame.head()?;
                if taken > WINDOW - entry.credit.available_permits().min(WINDOW) {
                    return Err(Broken("more was taken of a body than was sent".to_owned()));
                }
                entry.credit.add_permits(taken);
                return Ok(());
            }
            Kind::Cancel => {
                entry.unwanted.cancel();
                return Ok(());
            }
            // The end is no piece: the channel's other side sees that nothing comes any more.
            Kind::End => {
                let (closed, _) = unbounded_channel();
                entry.pieces = closed;
                return Ok(());
            }
            other => return Err(Broken(format!("{other:?} about a request"))),
        };
        // A body that was dropped here takes nothing.
        let _ = entry.pieces.send(piece);
        Ok(())
    }

    /// The other side is gone: nothing comes any more, for any of them.
    pub(super) fn break_off(&self) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, entry) in streams.drain() {
            let _ = entry.pieces.send(Err(Code::ConnectionTerminated));
            entry.unwanted.cancel();
        }
    }
}

/// A body whose pieces come over the socket.
pub(super) struct FarBody {
    coming: UnboundedReceiver<Result<Piece<Bytes>, Code>>,
    untaken: Arc<AtomicUsize>,
    link: Arc<Link>,
    streams: Arc<Streams>,
    run: u32,
    stream: u32,
    ended: bool,
}

/// Who lets the entry go: the side on which the guest is, when its answer is over.
pub(super) struct Closing(FarBody);

impl FarBody {
    /// The same body; the request is over with it.
    pub(super) fn closing(self) -> Closing {
        Closing(self)
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.streams.close(self.0.stream);
    }
}

impl Drop for FarBody {
    fn drop(&mut self) {
        if !self.ended {
            self.link.send(&plain(Kind::Cancel, self.run, self.stream, &[]));
        }
    }
}

impl Body for FarBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece<Bytes>, HttpError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.coming.poll_recv(context));
        match &piece {
            Some(Ok(piece)) => {
                if let Some(data) = piece.data_ref() {
                    self.untaken.fetch_sub(data.len(), Ordering::Relaxed);
                    self.link.send(&encode(Kind::Window, self.run, self.stream, &data.len(), &[]));
                }
            }
            Some(Err(_)) | None => self.ended = true,
        }
        Poll::Ready(piece.map(|piece| piece.map_err(Code::error)))
    }
}

impl Body for Closing {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece<Bytes>, HttpError>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }
}

/// Sends a body to the other side, as fast as that takes it, until it ends or is not wanted any more.
pub(super) async fn pump(
    body: WasiBody,
    link: &Link,
    (run, stream): (u32, u32),
    credit: &Semaphore,
    unwanted: &CancellationToken,
) {
    tokio::select! {
        biased;
        () = unwanted.cancelled() => {}
        () = pieces(body, link, (run, stream), credit) => {}
    }
}

async fn pieces(body: WasiBody, link: &Link, (run, stream): (u32, u32), credit: &Semaphore) {
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        match frame.map(Piece::into_data) {
            Ok(Ok(data)) => {
                for piece in data.chunks(PIECE) {
                    let wanted = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                    // The semaphore is never closed.
                    let Ok(permit) = credit.acquire_many(wanted).await else { return };
                    permit.forget();
                    link.send(&plain(Kind::Data, run, stream, piece));
                }
            }
            Ok(Err(other)) => {
                if let Ok(trailers) = other.into_trailers() {
                    link.send(&encode(Kind::Trailers, run, stream, &fields(&trailers), &[]));
                }
            }
            Err(error) => return link.send(&encode(Kind::Fail, run, stream, &Code::of(&error), &[])),
        }
    }
    link.send(&plain(Kind::End, run, stream, &[]));
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;
    use crate::frames::Frames;

    /// Two ends of a socket, each with the streams of one run.
    fn pair() -> [(Arc<Link>, Arc<Streams>); 2] {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        [near, far].map(|end| (Arc::new(Link::new(end, 16 << 20).unwrap()), Arc::default()))
    }

    async fn listen(link: &Link, streams: &Streams) -> Broken {
        let mut frames = Frames::new(1 << 20);
        loop {
            let frame = link.receive(&mut frames).await.unwrap().unwrap();
            if let Err(broken) = streams.hear(&frame) {
                return broken;
            }
        }
    }

    fn boxed(body: impl Body<Data = Bytes, Error = HttpError> + Send + 'static) -> WasiBody {
        body.boxed_unsync()
    }

    #[tokio::test]
    async fn a_body_arrives_whole_and_with_its_trailers() {
        let [(near, here), (far, there)] = pair();
        let Ends { credit, unwanted, .. } = here.open(&near, 1, 1).unwrap();
        let body = there.open(&far, 1, 1).unwrap().body;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_bytes(b"\xff1").unwrap());
        let pieces = (0..40).map(|n| Ok(Piece::data(Bytes::from(vec![n; 50_000]))));
        let last = std::iter::once(Ok(Piece::trailers(trailers.clone())));
        let sent = boxed(StreamBody::new(futures_util::stream::iter(pieces.chain(last))));
        let read = async {
            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers(), Some(&trailers));
            collected.to_bytes()
        };
        let bytes = tokio::select! {
            ((), bytes) = async { tokio::join!(pump(sent, &near, (1, 1), &credit, &unwanted), read) } => bytes,
            broken = listen(&near, &here) => unreachable!("{broken}"),
            broken = listen(&far, &there) => unreachable!("{broken}"),
            _ = near.flush() => unreachable!(),
        };
        assert_eq!(bytes.len(), 40 * 50_000);
        assert!(bytes.chunks(50_000).zip(0..).all(|(piece, n)| piece.iter().all(|byte| *byte == n)));
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_stops_the_other_side() {
        let [(near, here), (far, there)] = pair();
        let Ends { credit, unwanted, .. } = here.open(&near, 1, 1).unwrap();
        drop(there.open(&far, 1, 1).unwrap().body);
        let endless = futures_util::stream::repeat_with(|| Ok(Piece::data(Bytes::from(vec![0; 1000]))));
        let sent = boxed(StreamBody::new(endless));
        tokio::select! {
            () = pump(sent, &near, (1, 1), &credit, &unwanted) => {}
            broken = listen(&near, &here) => unreachable!("{broken}"),
        }
    }

    #[tokio::test]
    async fn who_sends_beyond_the_credit_or_takes_what_was_not_sent_breaks_the_rules() {
        async fn check(frames: Vec<Vec<u8>>) {
            let [(near, _), (far, there)] = pair();
            let _ends = there.open(&far, 1, 1).unwrap();
            frames.iter().for_each(|frame| near.send(frame));
            // What does not fit into the socket at once is written on the way.
            tokio::select! {
                _ = listen(&far, &there) => {}
                _ = near.flush() => unreachable!(),
            }
        }
        check(vec![plain(Kind::Data, 1, 1, &[0; 50_000]); 6]).await;
        check(vec![plain(Kind::Data, 1, 1, &[])]).await;
        check(vec![encode(Kind::Window, 1, 1, &1, &[])]).await;
        check(vec![plain(Kind::Begin, 1, 1, &[])]).await;
        check(vec![encode(Kind::Trailers, 1, 1, &[("a b", "c")], &[])]).await;
        check(vec![encode(Kind::Fail, 1, 1, &"NoSuchCode", &[])]).await;
    }

    #[tokio::test]
    async fn requests_at_once_are_bounded_and_end_when_the_other_side_is_gone() {
        let [(near, here), _] = pair();
        let mut open: Vec<_> = (0..256).map(|n| here.open(&near, 1, n).unwrap()).collect();
        assert!(here.open(&near, 1, 256).is_none() && here.open(&near, 1, 0).is_none());
        here.break_off();
        assert!(open.pop().unwrap().body.frame().await.unwrap().is_err());
        assert!(here.open(&near, 1, 300).is_some());
    }

    #[test]
    fn heads_come_back_as_they_were() {
        let mut request = Request::new(boxed(Full::new(Bytes::new()).map_err(|e| match e {})));
        *request.uri_mut() = Uri::from_static("https://a.example:8443/b?c=d");
        *request.method_mut() = Method::from_bytes(b"PROPFIND").unwrap();
        request.headers_mut().append("x-a", HeaderValue::from_bytes(b"\xe4\xff").unwrap());
        request.headers_mut().append("x-a", HeaderValue::from_static("two"));
        let options = RequestOptions {
            connect_timeout: Some(Duration::from_secs(3)),
            first_byte_timeout: None,
            between_bytes_timeout: Some(Duration::from_millis(1)),
        };
        let (head, body) = request.into_parts();
        let text = serde_json::to_string(&RequestHead::of(&head, Some(options))).unwrap();
        let (back, options) = serde_json::from_str::<RequestHead>(&text).unwrap().request(body).unwrap();
        assert_eq!((back.uri(), back.method(), back.headers()), (&head.uri, &head.method, &head.headers));
        assert_eq!(options.connect_timeout, Some(Duration::from_secs(3)));
        assert_eq!(
            (options.first_byte_timeout, options.between_bytes_timeout),
            (None, Some(Duration::from_millis(1)))
        );
    }

    #[test]
    fn errors_come_back_as_far_as_a_guest_may_know_them() {
        fn check(error: HttpError, expect: &str) {
            let text = serde_json::to_string(&Code::of(&error)).unwrap();
            let back = serde_json::from_str::<Code>(&text).unwrap().error();
            assert_eq!(format!("{back:?}"), expect);
        }
        check(HttpError::HttpRequestDenied, "HttpRequestDenied");
        check(HttpError::HttpRequestBodySize(Some(7)), "HttpRequestBodySize(Some(7))");
        check(
            HttpError::HttpResponseContentCoding(Some("br".into())),
            "HttpResponseContentCoding(Some(\"br\"))",
        );
        check(HttpError::Connect(std::io::Error::other("10.0.0.1")), "DestinationUnavailable");
        check(HttpError::InternalError(Some("words".into())), "HttpProtocolError");
    }
}
