//! `http`: the one door through which requests leave. Components call `wasi:http`; nothing in it is theirs to decide.
//!
//! [`Door`] is the guest's face: it reads a request once ([`decide`]), counts it and judges it, before any name is resolved.
//! What passes goes to an [`Egress`], the effect: [`upstream`] dials, adds the credential, sends, and redacts the answer.
//!
//! *Must not know:* the sandbox beyond its account. *Invariant:* no byte leaves for a request that no rule of the remit
//! permits; no credential leaves for a place that its rule does not name; redirects are the guest's to follow, as new requests.
//! Requests for a named endpoint go to the socket that the owner named, and nothing of the network is ever asked for them.

mod body;
pub mod decide;
mod sign;
pub mod target;
mod upstream;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, Request, Response, StatusCode, uri::Scheme as UriScheme};
use remit_protocol::{
    capability::{
        Denial, Remit, Side,
        http::{EndpointName, HttpPermit, HttpTarget, Scheme},
    },
    report::Limit,
};
use wasmtime::component::Linker;
pub(crate) use wasmtime_wasi_http::{
    Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

pub use self::upstream::Upstream;
use self::{body::Outgoing, decide::BadHeaders, target::BadTarget};
use crate::{
    dial::{DialError, address::Prohibited, proxy::ProxyError, tls::TlsError},
    report::redact::Redactor,
    sandbox::{Account, State},
    secrets::SecretError,
};

/// Time for resolving, connecting and TLS, where the guest names none, and the most that it may name.
const CONNECT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// Time from then to the head of the answer.
const FIRST_BYTE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
/// Time between two pieces of the answer.
const BETWEEN_BYTES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
/// Bytes that one write of the guest hands over at most.
pub(crate) const CHUNK: usize = 64 << 10;

/// What a hook gives back before it is done.
pub(crate) type Pending<T> = Box<dyn Future<Output = Result<T, HttpError>> + Send>;

/// How long each part of a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Resolving, connecting, TLS.
    pub connect: Duration,
    /// From the beginning to the head of the answer, connecting included.
    pub head: Duration,
    /// Between two pieces of the answer.
    pub between: Duration,
}

impl Timeouts {
    /// The guest's wishes within bounds; none, and zero, is the default.
    pub fn clamped(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let within = |wish: Option<Duration>, (default, most): (Duration, Duration)| {
            wish.filter(|wish| !wish.is_zero()).unwrap_or(default).min(most)
        };
        let connect = within(options.connect_timeout, CONNECT);
        Self {
            connect,
            head: connect + within(options.first_byte_timeout, FIRST_BYTE),
            between: within(options.between_bytes_timeout, BETWEEN_BYTES),
        }
    }
}

/// A request that a rule permits, ready to be sent.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Where it goes.
    pub target: HttpTarget,
    /// The query, without the question mark.
    pub query: Option<String>,
    /// The guest's header fields, checked.
    pub headers: HeaderMap,
    /// The rule that permits it.
    pub permit: HttpPermit,
    /// The rule's number in the remit: connections are reused for the same rule only.
    pub rule: usize,
    /// How long it may take.
    pub timeouts: Timeouts,
}

/// The head of an answer, redacted, and its body.
pub struct Inbound {
    /// The status.
    pub status: StatusCode,
    /// Header fields without those of the connection.
    pub headers: HeaderMap,
    /// The body, counted and redacted while it is read.
    pub body: WasiBody,
}

/// Why a permitted request was not answered. The operator's words; the guest gets a code.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// There is no connection to a daemon of this host.
    #[error("the endpoint {name} is not reached: {source}")]
    Endpoint {
        /// Its name.
        name: EndpointName,
        /// Why not.
        source: std::io::Error,
    },
    /// The rule's secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The rule's secret cannot stand in a header field.
    #[error("the secret {0} holds characters that no header field can hold")]
    Unprintable(remit_protocol::SecretPath),
    /// The rule's secret is none that can be used so.
    #[error("the secret {path} cannot be used as {usage}: {why}")]
    Unusable {
        /// The secret.
        path: remit_protocol::SecretPath,
        /// As what it is to be used.
        usage: &'static str,
        /// What it has to be.
        why: &'static str,
    },
    /// The rule signs the body, and there is more of it than is held for that.
    #[error("a body that is signed has at most {} bytes", body::MAX_SIGNED)]
    LongToSign,
    /// No connection in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// No answer in time.
    #[error("no answer in time")]
    HeadTimeout,
    /// The request's body went beyond a limit or could not be had.
    #[error("the request's body was not sent: {0}")]
    Body(HttpError),
    /// The answer is none that we accept.
    #[error("the answer is not acceptable: {0}")]
    Answer(HttpError),
    /// The connection broke, or what came is no HTTP.
    #[error("the exchange broke off: {0}")]
    Exchange(#[from] hyper::Error),
}

/// The effect behind the door. The guest's account is charged for what the bodies carry.
#[async_trait]
pub trait Egress: Send + Sync {
    /// Sends `request` and returns the head of the answer.
    async fn send(&self, request: Outbound, body: Outgoing) -> Result<Inbound, EgressError>;
}

/// The guest's face of one run: the hooks of `wasi:http`.
pub struct Door {
    remit: Arc<Remit>,
    account: Arc<Account>,
    redactor: Redactor,
    egress: Arc<dyn Egress>,
    tell: Arc<dyn Fn(&HttpTarget) + Send + Sync>,
}

impl Door {
    /// A door with the rules of `remit`, for one run.
    pub fn new(
        remit: Arc<Remit>,
        account: Arc<Account>,
        redactor: Redactor,
        egress: Arc<dyn Egress>,
    ) -> Self {
        Self { remit, account, redactor, egress, tell: Arc::new(|_| {}) }
    }

    /// The same door, which tells of each request that it lets out.
    #[must_use]
    pub fn telling(self, tell: impl Fn(&HttpTarget) + Send + Sync + 'static) -> Self {
        Self { tell: Arc::new(tell), ..self }
    }

    /// Judges a request by everything that needs no network.
    fn judge(
        &self,
        head: &http::request::Parts,
        options: Option<RequestOptions>,
    ) -> Result<Outbound, HttpError> {
        // Refused requests count too: a component that asks in a loop comes to an end.
        self.account.charge(Limit::Requests, 1).map_err(|_| HttpError::ConnectionLimitReached)?;
        let target = target::target(&head.method, &head.uri).map_err(bad_target)?;
        let denied = |denial: Denial| {
            self.deny(denial);
            HttpError::HttpRequestDenied
        };
        let (rule, permit) = decide::decide(self.remit.http(), &target).map_err(denied)?;
        decide::headers(&head.headers).map_err(bad_headers)?;
        let query = head.uri.query().map(str::to_owned);
        decide::own_credentials(permit, &head.headers, query.as_deref()).map_err(denied)?;
        // What the head carries leaves this host as much as what the body carries.
        let sent = decide::size(&target, query.as_deref(), &head.headers);
        self.account
            .charge(Limit::Egress, sent)
            .map_err(|_| HttpError::HttpRequestHeaderSectionSize(None))?;
        if query.as_deref().is_some_and(|query| self.holds_secret(query)) || self.holds_secret(&target.path) {
            return Err(denied(Denial {
                permission: format!("a secret in the address of a request by {}", permit.scope),
                side: Side::Request,
                remedy: "# addresses are logged on the way: let the runner add the secret as a header"
                    .to_owned(),
            }));
        }
        let timeouts = Timeouts::clamped(options);
        Ok(Outbound { target, query, headers: head.headers.clone(), permit: permit.clone(), rule, timeouts })
    }

    fn holds_secret(&self, text: &str) -> bool {
        matches!(self.redactor.text(text), std::borrow::Cow::Owned(_))
    }

    fn deny(&self, denial: Denial) {
        let text = |text: String| self.redactor.text(&text).into_owned();
        self.account.deny(Denial {
            permission: text(denial.permission),
            remedy: text(denial.remedy),
            ..denial
        });
    }
}

fn bad_target(error: BadTarget) -> HttpError {
    tracing::debug!(%error, "a component's request was refused");
    match error {
        BadTarget::Method(_) => HttpError::HttpRequestMethodInvalid,
        BadTarget::Uri(_) => HttpError::HttpRequestUriInvalid,
        BadTarget::Long => HttpError::HttpRequestUriTooLong,
    }
}

fn bad_headers(error: BadHeaders) -> HttpError {
    tracing::debug!(%error, "a component's request was refused");
    match error {
        BadHeaders::Many => HttpError::HttpRequestHeaderSectionSize(None),
        BadHeaders::Forbidden(_) => HttpError::HttpRequestDenied,
    }
}

/// What the operator reads of a failure that a rule could have prevented.
fn failure_denial(target: &HttpTarget, permit: &HttpPermit, error: &EgressError) -> Option<Denial> {
    let (permission, side, remedy) = match error {
        EgressError::Dial(DialError::Prohibited(prohibited)) => (
            format!("http {target}: {prohibited}"),
            Side::Ceiling,
            match prohibited {
                Prohibited::Unlisted { address, .. } => format!(
                    "[[ceiling.http]]\n{}host = \"{}\"\nport = {}\nmethods = [\"{}\"]\npaths = [{:?}]\nprivate = [\"{}\"]   # and `private: true` in the job's grant",
                    if target.scheme == Scheme::Http { "scheme = \"http\"\n" } else { "" },
                    permit.scope.host,
                    target.port,
                    target.method.as_str(),
                    target.path,
                    ipnet::IpNet::from(*address),
                ),
                _ => "# nothing allows this: such a place is never called on behalf of a step".to_owned(),
            },
        ),
        EgressError::Dial(DialError::Proxy(ProxyError::Absent)) => (
            format!("http {target} through the proxy"),
            Side::Ceiling,
            "[orchestrator]\nproxy = \"http://proxy.corp.example:3128\"".to_owned(),
        ),
        EgressError::Dial(DialError::Proxy(refused)) => (
            format!("http {target} through the proxy: {refused}"),
            Side::Ceiling,
            "# ask the proxy's owner to let this host's tunnels through, or correct `proxy` in [orchestrator]".to_owned(),
        ),
        EgressError::Dial(DialError::Tls(TlsError::Certificate { .. })) => (
            format!("http {target}: {error}"),
            Side::Ceiling,
            format!(
                "[[tls]]\nname = \"NAME\"\nca_file = \"CERTIFICATES.pem\"\n\n# and in the [[ceiling.http]] of {}:\ntls = \"NAME\"",
                permit.scope.host
            ),
        ),
        EgressError::Endpoint { name, source } => (
            format!("http {target}: {error}"),
            Side::Ceiling,
            format!("# [[ceiling.http]] with endpoint = \"{name}\": {}", socket_remedy(source)),
        ),
        EgressError::Secret(_) | EgressError::Unprintable(_) | EgressError::Unusable { .. } => {
            (format!("http {target} with its secret: {error}"), Side::Ceiling, format!("# {error}"))
        }
        _ => return None,
    };
    Some(Denial { permission, side, remedy })
}

/// What is to be done where a daemon's socket cannot be used.
pub(crate) fn socket_remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "start the daemon, or correct `unix`: no socket is there",
        ErrorKind::PermissionDenied => {
            "let the runner's user write to the socket, such as by the socket's group, and restart the runner"
        }
        ErrorKind::ConnectionRefused => "start the daemon: nobody listens at its socket",
        ErrorKind::InvalidInput => "correct `unix`: it names no socket",
        _ if error.raw_os_error() == Some(libc::ELOOP) => {
            "write the socket's own path as `unix`, such as `realpath` prints it: a link is on the way"
        }
        _ => "look at the daemon, and at `unix`; after a change of runner.toml restart the runner",
    }
}

/// What the guest is told: a code of `wasi:http`, without addresses, rules or reasons.
fn guest_error(error: EgressError) -> HttpError {
    use std::io::ErrorKind;
    match error {
        EgressError::Dial(DialError::Resolve { .. }) => HttpError::DnsError { rcode: None, info_code: None },
        EgressError::Dial(DialError::Prohibited(Prohibited::Orchestrator { .. })) => {
            HttpError::HttpRequestDenied
        }
        EgressError::Dial(DialError::Prohibited(_)) => HttpError::DestinationIpProhibited,
        EgressError::Dial(DialError::Connect { source, .. }) => match source.kind() {
            ErrorKind::ConnectionRefused => HttpError::ConnectionRefused,
            ErrorKind::TimedOut => HttpError::ConnectionTimeout,
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => HttpError::DestinationIpUnroutable,
            _ => HttpError::DestinationUnavailable,
        },
        EgressError::Dial(DialError::Proxy(ProxyError::Literal(_))) => HttpError::HttpRequestDenied,
        EgressError::Dial(DialError::Proxy(ProxyError::Absent | ProxyError::Invalid)) => {
            HttpError::ConfigurationError
        }
        EgressError::Dial(DialError::Proxy(_)) => HttpError::DestinationUnavailable,
        EgressError::Dial(DialError::Tls(TlsError::Certificate { .. })) => HttpError::TlsCertificateError,
        EgressError::Dial(DialError::Tls(TlsError::Handshake { .. })) => HttpError::TlsProtocolError,
        EgressError::Dial(DialError::Tls(
            TlsError::File { .. } | TlsError::NoRoots(_) | TlsError::Own(_),
        ))
        | EgressError::Secret(_)
        | EgressError::Unprintable(_)
        | EgressError::Unusable { .. } => HttpError::ConfigurationError,
        EgressError::Endpoint { source, .. } => match source.kind() {
            ErrorKind::ConnectionRefused => HttpError::ConnectionRefused,
            ErrorKind::TimedOut => HttpError::ConnectionTimeout,
            _ => HttpError::DestinationUnavailable,
        },
        EgressError::LongToSign => HttpError::HttpRequestBodySize(None),
        EgressError::ConnectTimeout => HttpError::ConnectionTimeout,
        EgressError::HeadTimeout => HttpError::HttpResponseTimeout,
        EgressError::Body(error) | EgressError::Answer(error) => error,
        EgressError::Exchange(error) if error.is_incomplete_message() => HttpError::HttpResponseIncomplete,
        EgressError::Exchange(error) if error.is_parse_too_large() => {
            HttpError::HttpResponseHeaderSectionSize(None)
        }
        EgressError::Exchange(error) if error.is_parse() => HttpError::HttpProtocolError,
        EgressError::Exchange(_) => HttpError::ConnectionTerminated,
    }
}

impl WasiHttpHooks for Door {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(decide::is_forbidden)
    }

    fn is_supported_scheme(&mut self, scheme: &UriScheme) -> bool {
        *scheme == UriScheme::HTTPS || *scheme == UriScheme::HTTP
    }

    /// `Host` is made from the parsed target, never taken over.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn default_scheme(&mut self) -> Option<UriScheme> {
        None
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _received: Pending<()>,
    ) -> Pending<(Response<WasiBody>, Pending<()>)> {
        let (head, body) = request.into_parts();
        let outbound = match self.judge(&head, options) {
            Ok(outbound) => outbound,
            // The body is dropped here: what the guest still writes ends in a closed stream, and it reads the denial.
            Err(error) => return Box::new(std::future::ready(Err(error))),
        };
        let (egress, account, redactor) = (self.egress.clone(), self.account.clone(), self.redactor.clone());
        let body = Outgoing::new(body, account.clone());
        (self.tell)(&outbound.target);
        let remit = self.remit.clone();
        let door = Self { remit, account, redactor, egress: egress.clone(), tell: self.tell.clone() };
        Box::new(async move {
            let (target, permit) = (outbound.target.clone(), outbound.permit.clone());
            match egress.send(outbound, body).await {
                Ok(inbound) => {
                    let mut response = Response::new(inbound.body);
                    *response.status_mut() = inbound.status;
                    *response.headers_mut() = inbound.headers;
                    let done: Pending<()> = Box::new(std::future::ready(Ok(())));
                    Ok((response, done))
                }
                Err(error) => {
                    tracing::debug!(host = target.host, port = target.port, %error, "a request of a component failed");
                    if let Some(denial) = failure_denial(&target, &permit, &error) {
                        door.deny(denial);
                    }
                    Err(guest_error(error))
                }
            }
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}

/// What one store holds for `wasi:http`.
pub(crate) struct Http {
    context: WasiHttpCtx,
    way: Box<dyn WasiHttpHooks>,
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let http =
            self.http.get_or_insert_with(|| Http { context: WasiHttpCtx::new(), way: self.broker.way_out() });
        WasiHttpCtxView { ctx: &mut http.context, table: &mut self.table, hooks: &mut *http.way }
    }
}

/// Links `wasi:http`.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

#[cfg(test)]
mod tests;
