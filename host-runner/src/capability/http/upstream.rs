//! The effect behind the door: dial, add the credential, send over HTTP/1.1, read the head of the answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use remit_protocol::capability::{
    http::{EndpointName, HttpTarget, Scheme, Via},
    secrets::{BoundSecret, HttpPlacement},
};
use remit_protocol::report::Limit;
use tokio::{task::JoinSet, time::timeout};
use wasmtime_wasi_http::Error as HttpError;
use zeroize::Zeroizing;

use super::{
    Egress, EgressError, Inbound, Outbound,
    body::{Incoming, Outgoing},
    decide, sign,
};
use crate::{
    clock,
    dial::{BoxConnection, DialError, Dialer, tls::TlsError},
    launcher::Launch,
    report::redact::Redactor,
    secrets::{Resolve, SecretValue},
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
    launch: Arc<dyn Launch>,
    secrets: Arc<dyn Resolve>,
    redactor: Redactor,
    connections: Arc<Connections>,
}

impl Upstream {
    /// For one run: what is kept between two requests of it is seen by no other.
    /// `launch` connects to the daemons of this host.
    pub fn new(
        dialer: Arc<Dialer>,
        launch: Arc<dyn Launch>,
        secrets: Arc<dyn Resolve>,
        redactor: Redactor,
    ) -> Self {
        Self { dialer, launch, secrets, redactor, connections: Arc::default() }
    }

    async fn dial(&self, request: &Outbound) -> Result<Lease, EgressError> {
        let stream = match (EndpointName::of_host(&request.target.host), &request.permit.unix) {
            (None, None) => self.over_the_network(request).await?,
            (Some(name), Some(socket)) => {
                let stream = self.launch.connect(socket).await;
                Box::new(stream.map_err(|source| EgressError::Endpoint { name, source })?)
            }
            // A remit says both or neither.
            (Some(name), None) => {
                let source = std::io::ErrorKind::NotFound.into();
                return Err(EgressError::Endpoint { name, source });
            }
            (None, Some(_)) => return Err(EgressError::Answer(HttpError::ConfigurationError)),
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

    async fn over_the_network(&self, request: &Outbound) -> Result<BoxConnection, EgressError> {
        let target = &request.target;
        let stream = match request.permit.via {
            Via::Direct => self.dialer.guarded(&target.host, target.port, &request.permit.private).await?,
            Via::Proxy => self.dialer.through_proxy(&target.host, target.port).await?,
        };
        let (host, ca_file) = (&target.host, request.permit.ca_file.as_deref());
        let shown = request
            .permit
            .secret
            .as_ref()
            .filter(|secret| secret.placement == Some(HttpPlacement::ClientCert));
        Ok(match (target.scheme, shown) {
            (Scheme::Https, None) => self.dialer.encrypt(stream, host, ca_file).await?,
            (Scheme::Https, Some(secret)) => {
                let value = self.value(secret).await?;
                self.dialer.encrypt_as(stream, host, ca_file, value.expose()).await.map_err(|error| {
                    match error {
                        DialError::Tls(TlsError::Own(why)) => unusable(secret, why),
                        other => other.into(),
                    }
                })?
            }
            (Scheme::Http, _) => Box::new(stream),
        })
    }

    /// The value of the rule's secret: looked up here and nowhere earlier, and known to redaction before it is used.
    async fn value(&self, secret: &BoundSecret) -> Result<SecretValue, EgressError> {
        let value = self.secrets.resolve(&secret.path).await?;
        self.redactor.add([(&secret.path, &value)]);
        let parts = secret.placement.iter().flat_map(|placement| parts(placement, value.expose()));
        let parts: Vec<SecretValue> = parts.filter_map(|part| SecretValue::new(part.to_vec()).ok()).collect();
        self.redactor.add(parts.iter().map(|part| (&secret.path, part)));
        Ok(value)
    }

    /// Adds the rule's credential to a request. Gives the body, which is another one if it had to be read, and what was made
    /// of the secret for this request alone.
    async fn inject(
        &self,
        request: &mut Outbound,
        headers: &mut HeaderMap,
        body: Outgoing,
    ) -> Result<(Outgoing, Vec<SecretValue>), EgressError> {
        let Some(secret) = request.permit.secret.clone() else { return Ok((body, Vec::new())) };
        // A compressed answer could hide an echo from redaction.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let Some(placement) =
            secret.placement.as_ref().filter(|placement| **placement != HttpPlacement::ClientCert)
        else {
            return Ok((body, Vec::new()));
        };
        let value = self.value(&secret).await?;
        if placement.signs_body() {
            let fate = body.fate();
            let held =
                body.whole().await.map_err(|error| EgressError::Body(fate.fault().unwrap_or(error)))?;
            let (bytes, body) = held.ok_or(EgressError::LongToSign)?;
            let made = signed(&secret, placement, value.expose(), request, headers, &bytes)?;
            return Ok((body, SecretValue::new(made).into_iter().collect()));
        }
        let text = match placement {
            HttpPlacement::Query { name } => {
                let text = std::str::from_utf8(value.expose())
                    .map_err(|_| unusable(&secret, "it has to be text to stand in an address"))?;
                let pair = format!("{name}={}", sign::encoded(text, b""));
                let query = request.query.iter().filter(|query| !query.is_empty()).chain([&pair]);
                request.query = Some(query.map(String::as_str).collect::<Vec<_>>().join("&"));
                return Ok((body, Vec::new()));
            }
            HttpPlacement::Basic { user } => {
                let pair = match user {
                    Some(user) => Zeroizing::new([user.as_bytes(), b":", value.expose()].concat()),
                    None => Zeroizing::new(value.expose().to_vec()),
                };
                [b"Basic ", Zeroizing::new(STANDARD.encode(pair.as_slice())).as_bytes()].concat()
            }
            HttpPlacement::Header { .. } => value.expose().to_vec(),
            _ => [b"Bearer ", value.expose()].concat(),
        };
        let name = placement.headers().first().copied().unwrap_or_default().to_owned();
        set(&secret, headers, &name, &Zeroizing::new(text))?;
        Ok((body, Vec::new()))
    }

    async fn exchange(
        &self,
        request: &mut Outbound,
        body: Outgoing,
    ) -> Result<(http::Response<hyper::body::Incoming>, Lease, Vec<SecretValue>), EgressError> {
        let fate = body.fate();
        let mut lease = self.lease(request).await?;
        let mut headers = request.headers.clone();
        headers.insert(header::HOST, host(&request.target)?);
        let (body, made) = self.inject(request, &mut headers, body).await?;
        let request = &*request;
        let mut message = message(request, headers, body)?;
        let mut fresh = false;
        loop {
            match lease.sender.try_send_request(message).await {
                Ok(response) => return Ok((response, lease, made)),
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
    async fn send(&self, mut request: Outbound, body: Outgoing) -> Result<Inbound, EgressError> {
        let account = body.account();
        let patience = request.timeouts.head;
        let exchanged = timeout(patience, Box::pin(self.exchange(&mut request, body))).await;
        let (response, lease, made) = exchanged.map_err(|_| EgressError::HeadTimeout)??;
        let (head, body) = response.into_parts();
        let size: usize =
            head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        account
            .charge(Limit::Ingress, u64::try_from(size).unwrap_or(u64::MAX))
            .map_err(|_| EgressError::Answer(HttpError::HttpResponseHeaderSectionSize(None)))?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(EgressError::Answer(HttpError::HttpUpgradeFailed));
        }
        let credentialed = request.permit.secret.as_ref();
        // A signature is worth as much as the secret, for a while.
        let redactor = match credentialed {
            Some(secret) if !made.is_empty() => {
                self.redactor.with(made.iter().map(|made| (&secret.path, made)))
            }
            _ => self.redactor.clone(),
        };
        let headers = answer_headers(&redactor, head.headers, credentialed).map_err(EgressError::Answer)?;
        let redaction = credentialed.map(|_| redactor.stream());
        let body = Incoming::new(body, account, lease, redaction, request.timeouts.between).boxed_unsync();
        Ok(Inbound { status: head.status, headers, body })
    }
}

/// Parts of a value that are secrets by themselves.
fn parts<'a>(placement: &HttpPlacement, value: &'a [u8]) -> Vec<&'a [u8]> {
    let after = |at: usize| value.splitn(at + 1, |byte| *byte == b':').skip(1).collect();
    match placement {
        HttpPlacement::Basic { user: None } => after(1),
        HttpPlacement::AwsSigv4 { .. } => after(2),
        _ => Vec::new(),
    }
}

fn unusable(secret: &BoundSecret, why: &'static str) -> EgressError {
    let usage = secret.placement.as_ref().map_or("it is bound", |placement| placement.kind().as_str());
    EgressError::Unusable { path: secret.path.clone(), usage, why }
}

/// Sets a header that is not printed.
fn set(secret: &BoundSecret, headers: &mut HeaderMap, name: &str, value: &[u8]) -> Result<(), EgressError> {
    let unprintable = || EgressError::Unprintable(secret.path.clone());
    let mut field = HeaderValue::from_bytes(value).map_err(|_| unprintable())?;
    field.set_sensitive(true);
    headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unprintable())?, field);
    Ok(())
}

/// Signs a request; gives the signature.
fn signed(
    secret: &BoundSecret,
    placement: &HttpPlacement,
    value: &[u8],
    request: &mut Outbound,
    headers: &mut HeaderMap,
    body: &[u8],
) -> Result<Vec<u8>, EgressError> {
    let now = clock::system();
    match placement {
        HttpPlacement::AwsSigv4 { region, service } => {
            let keys = sign::Keys::parse(value).ok_or_else(|| {
                unusable(
                    secret,
                    "it has to be <access key id>:<secret access key>, with :<session token> if there is one",
                )
            })?;
            let place = sign::Place { region, service };
            let query = request.query.as_deref();
            request.query = sign::aws(&keys, &place, &request.target, query, headers, body, now)
                .map_err(|_| EgressError::Unprintable(secret.path.clone()))?;
            let whole = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
            let signature = whole.rsplit(|byte| *byte == b'=').next().unwrap_or_default();
            Ok(signature.to_vec())
        }
        HttpPlacement::Hmac { header, timestamp } => {
            if let Some(name) = timestamp {
                set(secret, headers, name, now.as_secs().to_string().as_bytes())?;
            }
            let text = sign::hmac(value, body, timestamp.as_ref().map(|_| now));
            set(secret, headers, header, text.as_bytes())?;
            Ok(text.trim_start_matches("sha256=").as_bytes().to_vec())
        }
        _ => Ok(Vec::new()),
    }
}

/// What the guest sees of an answer's header fields.
fn answer_headers(
    redactor: &Redactor,
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
        let own = secret.placement.iter().any(|placement| placement.headers().contains(&name.as_str()));
        if own || [header::SET_COOKIE, header::AUTHORIZATION, header::CONTENT_LENGTH].contains(name) {
            continue;
        }
        match redactor.bytes(value.as_bytes()) {
            std::borrow::Cow::Borrowed(_) => seen.append(name, value.clone()),
            std::borrow::Cow::Owned(clean) => match HeaderValue::from_bytes(&clean) {
                Ok(clean) => seen.append(name, clean),
                Err(_) => false,
            },
        };
    }
    Ok(seen)
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

/// What two requests must share to use one connection: the rule, and with it credential and way out, to the network or to a
/// socket of this host; and the place.
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
