//! One call to Vault: a connection of its own, TLS by name, bounded in time and size.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use remit_protocol::capability::http::Via;
use tokio::{task::JoinSet, time::timeout};
use zeroize::Zeroizing;

use super::{Address, Settings};
use crate::dial::{DialError, Dialer};

/// How long a call may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(15);
/// Largest answer: Vault itself limits an entry to 1 MiB where its storage does.
const MAX_ANSWER: usize = 2 << 20;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Slow,
    /// The connection broke, or what came is no HTTP.
    #[error("the exchange broke off: {0}")]
    Exchange(#[from] hyper::Error),
    /// The answer is too long, or broke off.
    #[error("the answer is longer than {MAX_ANSWER} bytes, or broke off")]
    Answer,
    /// A token or a name that no header field can hold.
    #[error("{0} holds characters that no header field can hold")]
    Unprintable(&'static str),
    /// It sends its callers elsewhere.
    #[error(
        "it is a standby that redirects to {0}: name that server, or an address that always leads to the active one"
    )]
    Redirect(String),
}

/// What calls one Vault.
pub(super) struct Call {
    dialer: Arc<Dialer>,
    address: Address,
    namespace: Option<String>,
    ca_file: Option<PathBuf>,
    via: Via,
}

impl Call {
    pub(super) fn new(dialer: Arc<Dialer>, settings: &Settings) -> Self {
        Self {
            dialer,
            address: settings.address.clone(),
            namespace: settings.namespace.as_ref().map(|place| place.0.clone()),
            ca_file: settings.ca_file.clone(),
            via: settings.via,
        }
    }

    /// Reads `path`; gives the status and the body.
    pub(super) async fn get(&self, path: &str, token: &str) -> Result<(u16, Zeroizing<Vec<u8>>), CallError> {
        self.call(Method::GET, path, Some(token), Zeroizing::default()).await
    }

    /// Sends a JSON `body` to `path`; gives the status and the body.
    pub(super) async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<(u16, Zeroizing<Vec<u8>>), CallError> {
        self.call(Method::POST, path, token, body).await
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<(u16, Zeroizing<Vec<u8>>), CallError> {
        let request = self.request(method, path, token, body)?;
        timeout(PATIENCE, Box::pin(self.exchange(request))).await.unwrap_or(Err(CallError::Slow))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Request<Full<bytes::Bytes>>, CallError> {
        let unprintable = |what: &'static str| move |_| CallError::Unprintable(what);
        let authority = self.address.to_string().trim_start_matches("https://").to_owned();
        let host = HeaderValue::try_from(authority).map_err(unprintable("the address"))?;
        let has_body = !body.is_empty();
        let mut request = Request::new(Full::new(bytes::Bytes::from_owner(body)));
        *request.method_mut() = method;
        *request.uri_mut() = http::Uri::try_from(path).map_err(|_| CallError::Unprintable("the path"))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        // Vault's agents and proxies may be told to ask for it: a browser cannot be made to send it.
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if has_body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(namespace) = &self.namespace {
            headers
                .insert(NAMESPACE, HeaderValue::try_from(namespace).map_err(unprintable("the namespace"))?);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(token).map_err(unprintable("the token"))?;
            value.set_sensitive(true);
            headers.insert(TOKEN, value);
        }
        Ok(request)
    }

    async fn exchange(
        &self,
        request: Request<Full<bytes::Bytes>>,
    ) -> Result<(u16, Zeroizing<Vec<u8>>), CallError> {
        let Address { host, port } = &self.address;
        let stream = match self.via {
            Via::Direct => self.dialer.trusted(host, *port).await?.0,
            Via::Proxy => self.dialer.through_proxy(host, *port).await?,
        };
        let stream = self.dialer.encrypt(stream, host, self.ca_file.as_deref()).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with this call.
        let mut driven = JoinSet::new();
        driven.spawn(async {
            // A connection that breaks tells so where its answer is awaited.
            let _ = connection.await;
        });
        let response = sender.send_request(request).await?;
        if response.status().is_redirection() {
            let to = response.headers().get(header::LOCATION).map(HeaderValue::as_bytes).unwrap_or_default();
            let to = String::from_utf8_lossy(to).chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(CallError::Redirect(to));
        }
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|_| CallError::Answer)?.to_bytes();
        Ok((status, Zeroizing::new(body.to_vec())))
    }
}
