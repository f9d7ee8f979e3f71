//! A real HTTPS service on loopback that remembers who connected and what was asked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    /// The query, without the question mark.
    pub query: String,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// Every header.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl Seen {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What a service answers.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// Status 200 with a body of this content type.
    pub fn of(content_type: &str, body: impl Into<String>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
        }
    }

    /// With another status.
    #[must_use]
    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

type Answering = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

#[derive(Default)]
struct Record {
    connections: AtomicU32,
    seen: Mutex<Vec<Seen>>,
    answers: Mutex<BTreeMap<String, serde_json::Value>>,
}

/// The service; it stops when this is dropped.
pub struct Service {
    address: SocketAddr,
    record: Arc<Record>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// A certificate authority that tests trust.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
    key: String,
}

impl Authority {
    /// Makes one.
    pub fn new() -> anyhow::Result<Self> {
        let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "Remit tests");
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let pair = rcgen::KeyPair::generate()?;
        let (pem, key) = (parameters.self_signed(&pair)?.pem(), pair.serialize_pem());
        Ok(Self { issuer: rcgen::Issuer::new(parameters, pair), pem, key })
    }

    /// Certificate and private key in one text of PEM: whoever inspects TLS signs with it.
    pub fn certificate_and_key(&self) -> String {
        format!("{}{}", self.pem, self.key)
    }

    /// Writes the authority's certificate where a policy can name it.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        Ok(std::fs::write(path, &self.pem)?)
    }

    /// Writes a certificate for a server of this name, and its key.
    pub fn write_server(&self, name: &str, certificate: &Path, key: &Path) -> anyhow::Result<()> {
        let pair = rcgen::KeyPair::generate()?;
        let signed = rcgen::CertificateParams::new(vec![name.to_owned()])?.signed_by(&pair, &self.issuer)?;
        std::fs::write(certificate, signed.pem())?;
        Ok(std::fs::write(key, pair.serialize_pem())?)
    }

    fn server(&self, name: &str) -> anyhow::Result<rustls::ServerConfig> {
        let key = rcgen::KeyPair::generate()?;
        let certificate =
            rcgen::CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &self.issuer)?;
        let private =
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?)
    }
}

impl Service {
    /// Starts the service under `name`, which the authority vouches for. It answers every request with what it saw:
    /// method, path, and whether there was a credential (never the credential, unless the path begins with `/echo`).
    pub fn start(authority: &Authority, name: &str) -> anyhow::Result<Self> {
        Self::start_at(authority, name, 0)
    }

    /// As [`start`](Self::start), at a port where one was before.
    pub fn start_at(authority: &Authority, name: &str, port: u16) -> anyhow::Result<Self> {
        Self::serve(authority, name, port, |seen| {
            let echo = seen.line.split(' ').nth(1).is_some_and(|path| path.starts_with("/echo"));
            let answer = serde_json::json!({
                "request": seen.line,
                "credential": seen.authorization.is_some(),
                "echo": echo.then_some(&seen.authorization),
            });
            Reply::of("application/json", answer.to_string())
        })
    }

    /// Starts a service that answers as `answering` says.
    pub fn answering(
        authority: &Authority,
        name: &str,
        answering: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        Self::serve(authority, name, 0, answering)
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own listener")]
    fn serve(
        authority: &Authority,
        name: &str,
        port: u16,
        answering: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let answering: Answering = Arc::new(answering);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", port)))?;
        let address = listener.local_addr()?;
        let record = Arc::new(Record::default());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(authority.server(name)?));
        let kept = record.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                kept.connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, kept, answering) = (acceptor.clone(), kept.clone(), answering.clone());
                tokio::task::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, kept.clone(), answering.clone()));
                    // A client that goes away is none of the service's business.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { address, record, runtime: Some(runtime) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections were made.
    pub fn connections(&self) -> u32 {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// What is asked at `path` is answered so from now on.
    pub fn answer(&self, path: &str, body: serde_json::Value) {
        if let Ok(mut answers) = self.record.answers.lock() {
            answers.insert(path.to_owned(), body);
        }
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.record.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    record: Arc<Record>,
    answering: Answering,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri().path());
    let told = record.answers.lock().ok().and_then(|told| told.get(request.uri().path()).cloned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let headers = request.headers().iter();
    let headers: BTreeMap<String, String> = headers
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let authorization = headers.get("authorization").cloned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let seen = Seen { line, query, headers, authorization, body };
    let reply = match told {
        Some(told) => Reply::of("application/json", told.to_string()),
        None => answering(&seen),
    };
    if let Ok(mut list) = record.seen.lock() {
        list.push(seen);
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(reply.body))).unwrap_or_default())
}
