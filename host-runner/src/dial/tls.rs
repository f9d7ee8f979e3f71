//! TLS by name: which certificates are trusted, and the handshake.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Most certificates in one file of trusted ones: the whole web's are about 150.
const MAX_CERTIFICATES: usize = 1000;

/// Why there is no encrypted connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// A file of trusted certificates cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Nothing is trusted on this host.
    #[error(
        "no certificate is trusted on this host ({0}): install the system's CA certificates, or name a `ca_file`"
    )]
    NoRoots(String),
    /// What the caller would show is no certificate and key.
    #[error("the client certificate cannot be shown: {0}")]
    Own(&'static str),
    /// The other side's certificate is not acceptable.
    #[error(
        "the certificate of {host} is not acceptable: {why}; if its authority is to be trusted, name its certificate as `ca_file`"
    )]
    Certificate {
        /// The name that was called.
        host: String,
        /// Why.
        why: String,
    },
    /// The handshake failed otherwise.
    #[error("no TLS with {host}: {why}")]
    Handshake {
        /// The name that was called.
        host: String,
        /// Why.
        why: String,
    },
}

/// The certificates that the runner trusts.
pub struct Trust {
    default: Result<Arc<ClientConfig>, TlsError>,
}

impl Trust {
    /// The operating system's certificates and those in `extra`, PEM files.
    ///
    /// A host without any is no error before something is called.
    ///
    /// # Errors
    /// A file of `extra` cannot be read.
    pub fn platform(extra: &[PathBuf]) -> Result<Self, TlsError> {
        let mut certificates = Vec::new();
        for path in extra {
            certificates.extend(read(path)?);
        }
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(certificates, provider());
        let default = verifier
            .map_err(|error| TlsError::NoRoots(error.to_string()))
            .and_then(|verifier| configure(Arc::new(verifier)));
        Ok(Self { default })
    }

    /// Only the certificates in `files`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn only(files: &[PathBuf]) -> Result<Self, TlsError> {
        let mut certificates = Vec::new();
        for path in files {
            certificates.extend(read(path)?);
        }
        Ok(Self { default: Ok(from_roots(Path::new("the trusted certificates"), certificates)?) })
    }

    /// Nothing: only rules with a `ca_file` of their own can call anybody.
    pub fn untrusting() -> Self {
        Self { default: Err(TlsError::NoRoots("nothing was configured".to_owned())) }
    }

    /// What the runner trusts, or only what stands in `ca_file`, read anew.
    ///
    /// # Errors
    /// The file cannot be read, or nothing is trusted.
    pub async fn config(&self, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
        let Some(path) = ca_file else { return self.default.clone() };
        let path = path.to_owned();
        let failed = TlsError::File { path: path.clone(), why: "the runner is stopping".to_owned() };
        tokio::task::spawn_blocking(move || from_roots(&path, read(&path)?)).await.unwrap_or(Err(failed))
    }
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |why: String| TlsError::File { path: path.to_owned(), why };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let certificates = found
        .take(MAX_CERTIFICATES)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("holds no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

fn from_roots(
    path: &Path,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let failed = |why: String| TlsError::File { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| failed(error.to_string()))?;
    configure(verifier)
}

fn configure(verifier: Arc<dyn ServerCertVerifier>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::NoRoots(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Sessions that are resumed would tie the calls of different remits to one another.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// `config` with a certificate of the caller's own, which stands in `pem` before or after its private key.
///
/// # Errors
/// In words: what `pem` lacks.
pub fn identified(config: &ClientConfig, pem: &[u8]) -> Result<Arc<ClientConfig>, &'static str> {
    const LACKS: &str = "it has to hold a certificate, with what signed it, and its private key in PEM";
    let chain = CertificateDer::pem_slice_iter(pem).take(MAX_CERTIFICATES).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(LACKS)?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| LACKS)?;
    let certified = CertifiedKey::from_der(chain, key, &provider())
        .map_err(|_| "its certificate and its private key do not belong together, or are of a kind that TLS here does not do")?;
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    Ok(Arc::new(config))
}

/// Shakes hands with `host` over `stream`.
///
/// # Errors
/// The other side is not `host`, or speaks no TLS that we do.
pub async fn connect<S>(stream: S, host: &str, config: Arc<ClientConfig>) -> Result<TlsStream<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |why: String| TlsError::Handshake { host: host.to_owned(), why };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => {
                TlsError::Certificate { host: host.to_owned(), why: why.to_string() }
            }
            _ => failed(error.to_string()),
        }
    })
}
