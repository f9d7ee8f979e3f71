//! The way to the orchestrator: a connection, through the proxy if there is one, and TLS that the ticket's pin or the
//! owner's certificates vouch for.

use std::{path::PathBuf, sync::Arc, time::Duration};

use remit_protocol::Digest;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{
    config::OrchestratorUrl,
    dial::{DialError, Dialer, tls},
};

/// Longest time for name, connection, proxy and handshake together.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the orchestrator is and how it is known.
#[derive(Clone)]
pub struct Road {
    url: OrchestratorUrl,
    dialer: Arc<Dialer>,
    tls: Arc<ClientConfig>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NoRoad {
    /// The owner's certificates cannot be used.
    #[error("{}: {why}", path.display())]
    Certificates {
        /// Their file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] TlsError),
    /// Name, connection, proxy or handshake.
    #[error("the orchestrator {url} cannot be reached: {source}")]
    Dial {
        /// Its address.
        url: OrchestratorUrl,
        /// Which step failed, and why.
        source: DialError,
    },
    /// It takes too long.
    #[error("the orchestrator {url} does not answer within {} seconds", PATIENCE.as_secs())]
    Slow {
        /// Its address.
        url: OrchestratorUrl,
    },
}

impl Road {
    /// The way to `url` by `dialer`. `pin` is the digest of the orchestrator's own CA, `extra` the owner's certificates in
    /// PEM; without a pin, the operating system's certificates decide together with `extra`.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn new(
        url: OrchestratorUrl,
        dialer: Arc<Dialer>,
        pin: Option<Digest>,
        extra: Option<&PathBuf>,
    ) -> Result<Self, NoRoad> {
        let extra = extra.map(certificates).transpose()?.unwrap_or_default();
        let provider = tls::provider();
        let verifier: Arc<dyn ServerCertVerifier> = match pin {
            Some(pin) => Arc::new(Pinned { pin, extra, provider: Arc::clone(&provider) }),
            None => Arc::new(rustls_platform_verifier::Verifier::new_with_extra_roots(
                extra,
                Arc::clone(&provider),
            )?),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { url, dialer, tls: Arc::new(config) })
    }

    /// The orchestrator's address.
    pub fn url(&self) -> &OrchestratorUrl {
        &self.url
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`NoRoad`], with the step that failed.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>, NoRoad> {
        let (host, port) = (self.url.host(), self.url.port());
        let dialled = async {
            let stream = self.dialer.own(host, port).await?;
            Ok::<_, DialError>(tls::connect(stream, host, Arc::clone(&self.tls)).await?)
        };
        match tokio::time::timeout(PATIENCE, dialled).await {
            Ok(connected) => connected.map_err(|source| NoRoad::Dial { url: self.url.clone(), source }),
            Err(_) => Err(NoRoad::Slow { url: self.url.clone() }),
        }
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, NoRoad> {
    let failed = |why: String| NoRoad::Certificates { path: path.clone(), why };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let read: Result<Vec<_>, _> = found.collect();
    let read = read.map_err(|error| failed(error.to_string()))?;
    if read.is_empty() { Err(failed("it holds no certificate in PEM".to_owned())) } else { Ok(read) }
}

/// Believes the CA whose digest the ticket carried, and the owner's certificates.
#[derive(Debug)]
struct Pinned {
    pin: Digest,
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let mut roots = RootCertStore::empty();
        let pinned = intermediates.iter().filter(|certificate| Digest::of(certificate) == self.pin);
        for certificate in pinned.chain(&self.extra) {
            roots.add(certificate.clone().into_owned())?;
        }
        if roots.is_empty() {
            return Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| TlsError::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
