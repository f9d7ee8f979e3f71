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
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// Every header.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

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
    #[expect(clippy::disallowed_methods, reason = "a test's own listener")]
    pub fn start_at(authority: &Authority, name: &str, port: u16) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", port)))?;
        let address = listener.local_addr()?;
        let record = Arc::new(Record::default());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(authority.server(name)?));
        let kept = record.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                kept.connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, kept) = (acceptor.clone(), kept.clone());
                tokio::task::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, kept.clone()));
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
) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri().path());
    let echo = request.uri().path().starts_with("/echo");
    let told = record.answers.lock().ok().and_then(|told| told.get(request.uri().path()).cloned());
    let header =
        request.headers().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let headers = request.headers().iter();
    let headers = headers
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let seen =
        Seen { line, authorization: header, headers, body: String::from_utf8_lossy(&body).into_owned() };
    let answer = told.unwrap_or_else(|| {
        serde_json::json!({
            "request": seen.line,
            "credential": seen.authorization.is_some(),
            "echo": echo.then_some(&seen.authorization),
        })
    });
    if let Ok(mut list) = record.seen.lock() {
        list.push(seen);
    }
    Ok(Response::builder()
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(answer.to_string())))
        .unwrap_or_default())
}
