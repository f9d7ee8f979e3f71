//! The effect behind the door: dial, add the credential, send over HTTP/1.1, read the head of the answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use remit_protocol::capability::{
    http::{HttpTarget, Scheme, Via},
    secrets::{BoundSecret, HttpPlacement},
};
use tokio::{task::JoinSet, time::timeout};
use wasmtime_wasi_http::Error as HttpError;
use zeroize::Zeroizing;

use super::{
    Egress, EgressError, Inbound, Outbound,
    body::{Incoming, Outgoing},
    decide,
};
use crate::{
    dial::{BoxConnection, Dialer},
    report::redact::Redactor,
    secrets::Resolve,
};

/// Most header fields of an answer.
const MAX_HEADERS: usize = 128;
/// Largest head of an answer.
const MAX_HEAD: usize = 48 << 10;
/// Connections of one run that wait for another request by the same rule.
const MAX_IDLE: usize = 4;

/// Sends for one run. Its connections end with it.
pub struct Upstream {
    dialer: Arc<Dialer>,
    secrets: Arc<dyn Resolve>,
    redactor: Redactor,
    connections: Arc<Connections>,
}

impl Upstream {
    /// For one run: what is kept between two requests of it is seen by no other.
    pub fn new(dialer: Arc<Dialer>, secrets: Arc<dyn Resolve>, redactor: Redactor) -> Self {
        Self { dialer, secrets, redactor, connections: Arc::default() }
    }

    async fn dial(&self, request: &Outbound) -> Result<Lease, EgressError> {
        let target = &request.target;
        let stream = match request.permit.via {
            Via::Direct => self.dialer.guarded(&target.host, target.port, &request.permit.private).await?,
            Via::Proxy => self.dialer.through_proxy(&target.host, target.port).await?,
        };
        let stream: BoxConnection = match target.scheme {
            Scheme::Https => {
                self.dialer.encrypt(stream, &target.host, request.permit.ca_file.as_deref()).await?
            }
            Scheme::Http => Box::new(stream),
        };
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await?;
        self.connections.drive(async {
            // A connection that breaks tells so where its answer is awaited.
            let _ = connection.await;
        });
        Ok(Lease { sender, key: Key::of(request), connections: self.connections.clone() })
    }

    /// Adds the rule's credential. The value is looked up here and nowhere earlier.
    async fn inject(&self, secret: &BoundSecret, headers: &mut HeaderMap) -> Result<(), EgressError> {
        let Some(placement) = &secret.placement else { return Ok(()) };
        let value = self.secrets.resolve(&secret.path).await?;
        self.redactor.add([(&secret.path, &value)]);
        let unprintable = || EgressError::Unprintable(secret.path.clone());
        let text = Zeroizing::new(match placement {
            HttpPlacement::Bearer => [b"Bearer ", value.expose()].concat(),
            HttpPlacement::Header { .. } => value.expose().to_vec(),
            HttpPlacement::Basic { user } => {
                let pair = match user {
                    Some(user) => Zeroizing::new([user.as_bytes(), b":", value.expose()].concat()),
                    None => Zeroizing::new(value.expose().to_vec()),
                };
                [b"Basic ", Zeroizing::new(STANDARD.encode(pair.as_slice())).as_bytes()].concat()
            }
        });
        let mut field = HeaderValue::from_bytes(&text).map_err(|_| unprintable())?;
        field.set_sensitive(true);
        let name =
            header::HeaderName::from_bytes(placement.header().as_bytes()).map_err(|_| unprintable())?;
        headers.insert(name, field);
        // A compressed answer could hide an echo from redaction.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(())
    }

    async fn exchange(
        &self,
        request: &Outbound,
        body: Outgoing,
    ) -> Result<(http::Response<hyper::body::Incoming>, Lease), EgressError> {
        let fate = body.fate();
        let mut lease = self.lease(request).await?;
        let mut headers = request.headers.clone();
        headers.insert(header::HOST, host(&request.target)?);
        if let Some(secret) = &request.permit.secret {
            self.inject(secret, &mut headers).await?;
        }
        let mut message = message(request, headers, body)?;
        let mut fresh = false;
        loop {
            match lease.sender.try_send_request(message).await {
                Ok(response) => return Ok((response, lease)),
                Err(mut error) => match error.take_message() {
                    // The other side closed a waiting connection; nothing of this request was sent.
                    Some(unsent) if !fresh => {
                        message = unsent;
                        lease = self.connect(request).await?;
                        fresh = true;
                    }
                    _ => {
                        let error = error.into_error();
                        return Err(fate.fault().map_or(EgressError::Exchange(error), EgressError::Body));
                    }
                },
            }
        }
    }

    /// A connection that waits and still lives, or a new one.
    async fn lease(&self, request: &Outbound) -> Result<Lease, EgressError> {
        while let Some(mut lease) = self.connections.idle(&Key::of(request)) {
            if lease.sender.ready().await.is_ok() {
                return Ok(lease);
            }
        }
        self.connect(request).await
    }

    async fn connect(&self, request: &Outbound) -> Result<Lease, EgressError> {
        match timeout(request.timeouts.connect, self.dial(request)).await {
            Ok(dialled) => dialled,
            Err(_) => Err(EgressError::ConnectTimeout),
        }
    }
}

#[async_trait]
impl Egress for Upstream {
    async fn send(&self, request: Outbound, body: Outgoing) -> Result<Inbound, EgressError> {
        let account = body.account();
        let exchanged = timeout(request.timeouts.head, Box::pin(self.exchange(&request, body))).await;
        let (response, lease) = exchanged.map_err(|_| EgressError::HeadTimeout)??;
        let (head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(EgressError::Answer(HttpError::HttpUpgradeFailed));
        }
        let credentialed = request.permit.secret.as_ref();
        let headers = self.answer_headers(head.headers, credentialed).map_err(EgressError::Answer)?;
        let redaction = credentialed.map(|_| self.redactor.stream());
        let body = Incoming::new(body, account, lease, redaction, request.timeouts.between).boxed_unsync();
        Ok(Inbound { status: head.status, headers, body })
    }
}

impl Upstream {
    /// What the guest sees of an answer's header fields.
    fn answer_headers(
        &self,
        headers: HeaderMap,
        secret: Option<&BoundSecret>,
    ) -> Result<HeaderMap, HttpError> {
        let mut seen = HeaderMap::with_capacity(headers.len());
        if secret.is_some() {
            // Asked for or not: what is compressed cannot be redacted.
            let encoding = headers.get(header::CONTENT_ENCODING);
            if let Some(encoding) =
                encoding.filter(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
            {
                let name = String::from_utf8_lossy(encoding.as_bytes()).chars().take(64).collect();
                return Err(HttpError::HttpResponseContentCoding(Some(name)));
            }
        }
        for (name, value) in &headers {
            if decide::is_forbidden(name) {
                continue;
            }
            let Some(secret) = secret else {
                seen.append(name, value.clone());
                continue;
            };
            // What authenticates is the runner's; the length changes where something is redacted.
            let own = secret.placement.as_ref().map(HttpPlacement::header);
            if [header::SET_COOKIE, header::AUTHORIZATION, header::CONTENT_LENGTH].contains(name)
                || own == Some(name.as_str())
            {
                continue;
            }
            match self.redactor.bytes(value.as_bytes()) {
                std::borrow::Cow::Borrowed(_) => seen.append(name, value.clone()),
                std::borrow::Cow::Owned(clean) => match HeaderValue::from_bytes(&clean) {
                    Ok(clean) => seen.append(name, clean),
                    Err(_) => false,
                },
            };
        }
        Ok(seen)
    }
}

fn host(target: &HttpTarget) -> Result<HeaderValue, EgressError> {
    let text = if target.port == target.scheme.default_port() {
        target.host.clone()
    } else {
        format!("{}:{}", target.host, target.port)
    };
    HeaderValue::try_from(text).map_err(|_| EgressError::Answer(HttpError::HttpRequestUriInvalid))
}

/// The message in origin form, rebuilt from what was judged.
fn message(request: &Outbound, headers: HeaderMap, body: Outgoing) -> Result<Request<Outgoing>, EgressError> {
    let path = match &request.query {
        Some(query) => format!("{}?{query}", request.target.path),
        None => request.target.path.clone(),
    };
    let mut message = Request::builder()
        .method(request.target.method.as_str())
        .uri(path)
        .version(Version::HTTP_11)
        .body(body)
        .map_err(|_| EgressError::Answer(HttpError::HttpRequestUriInvalid))?;
    *message.headers_mut() = headers;
    Ok(message)
}

/// What two requests must share to use one connection: the rule, and with it credential and way out; and the place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    rule: usize,
    host: String,
}

impl Key {
    fn of(request: &Outbound) -> Self {
        // Scheme and port are the rule's.
        Self { rule: request.rule, host: request.target.host.clone() }
    }
}

/// The connections of one run: driven here, and ended when the last holder is dropped.
#[derive(Default)]
struct Connections {
    idle: Mutex<HashMap<Key, Vec<SendRequest<Outgoing>>>>,
    driven: Mutex<JoinSet<()>>,
}

impl Connections {
    fn drive(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let mut driven = self.driven.lock().unwrap_or_else(PoisonError::into_inner);
        while driven.try_join_next().is_some() {}
        driven.spawn(connection);
    }

    fn idle(self: &Arc<Self>, key: &Key) -> Option<Lease> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = idle.get_mut(key)?.pop()?;
        Some(Lease { sender, key: key.clone(), connections: self.clone() })
    }
}

/// One connection while an exchange uses it.
pub(super) struct Lease {
    sender: SendRequest<Outgoing>,
    key: Key,
    connections: Arc<Connections>,
}

impl Lease {
    /// The exchange is over: another one by the same rule may use it.
    pub(super) fn give_back(self) {
        let mut idle = self.connections.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.entry(self.key).or_default();
        if waiting.len() < MAX_IDLE && !self.sender.is_closed() {
            waiting.push(self.sender);
        }
    }
}
