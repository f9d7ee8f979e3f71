//! The server's certificate: from an authority of its own that is made at the first start, or from files.
//!
//! *Invariant:* private keys are files that only the owner reads, and there is no start without TLS.

use std::{
    fs,
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use remit_protocol::{Digest, Timestamp};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::config::Certificate;

const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
/// How long the authority is good: it is pinned by runners, so it outlives hardware.
const AUTHORITY_YEARS: i32 = 20;
/// How long a leaf is good; it is made anew at each start and each day.
const LEAF_MONTHS: u32 = 3;

/// The certificate cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What a file holds.
    #[error("{path}: {message}", path = path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// Making the authority or the leaf.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Setting up TLS.
    #[error("cannot set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// What the server shows to its callers, renewable while it runs.
#[derive(Debug)]
pub struct Identity {
    source: Source,
    current: RwLock<Arc<CertifiedKey>>,
}

#[derive(Debug)]
enum Source {
    Own { state: PathBuf, names: Vec<String>, authority: CertificateDer<'static> },
    Files { certificate: PathBuf, key: PathBuf },
}

impl Identity {
    /// Loads the certificate, or makes authority and leaf in `state`. `names` are host names and addresses for the leaf.
    ///
    /// # Errors
    /// A file that cannot be read, written or used.
    pub fn load(
        certificate: &Certificate,
        state: &Path,
        names: Vec<String>,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let source = match certificate {
            Certificate::Files { certificate, key } => {
                Source::Files { certificate: certificate.clone(), key: key.clone() }
            }
            Certificate::Own => {
                let authority = authority(state, now)?;
                Source::Own { state: state.to_owned(), names, authority }
            }
        };
        let current = RwLock::new(Arc::new(source.certified(now)?));
        Ok(Self { source, current })
    }

    /// Makes or loads the leaf again.
    ///
    /// # Errors
    /// As [`Self::load`]; the present leaf stays.
    pub fn renew(&self, now: Timestamp) -> Result<(), TlsError> {
        let fresh = Arc::new(self.source.certified(now)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The digest of its own authority's certificate (DER), for tickets; absent where people manage the certificate.
    pub fn authority(&self) -> Option<Digest> {
        match &self.source {
            Source::Own { authority, .. } => Some(Digest::of(authority)),
            Source::Files { .. } => None,
        }
    }

    /// Where its own authority's certificate is, for clients on this host.
    pub fn authority_file(&self) -> Option<PathBuf> {
        match &self.source {
            Source::Own { state, .. } => Some(state.join(AUTHORITY)),
            Source::Files { .. } => None,
        }
    }

    /// TLS for the server: HTTP/1.1 only, no tickets and no stored sessions, which would be memory a connection.
    ///
    /// # Errors
    /// If the provider does not have the default versions.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let resolver = Arc::new(Resolver(Arc::clone(self)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

#[derive(Debug)]
struct Resolver(Arc<Identity>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

impl Source {
    fn certified(&self, now: Timestamp) -> Result<CertifiedKey, TlsError> {
        let (chain, key) = match self {
            Self::Own { state, names, authority } => leaf(state, names, authority, now)?,
            Self::Files { certificate, key } => from_files(certificate, key)?,
        };
        Ok(CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?)
    }
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn from_files(certificate: &Path, key: &Path) -> Result<ChainAndKey, TlsError> {
    let content = |path: &Path, message: String| TlsError::Content { path: path.to_owned(), message };
    let chain = read(certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|e| content(certificate, format!("not a PEM certificate: {e}")))?;
    if chain.is_empty() {
        return Err(content(certificate, "holds no certificate".to_owned()));
    }
    let private = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|e| content(key, format!("not a PEM private key: {e}")))?;
    Ok((chain, private))
}

fn authority_params(now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let (year, month, day) = date(now);
    let mut params = CertificateParams::new(Vec::new())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Remit orchestrator authority");
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A runner's clock may be behind.
    params.not_before = date_time_ymd(year - 1, month, day.min(28));
    params.not_after = date_time_ymd(year + AUTHORITY_YEARS, month, day.min(28));
    Ok(params)
}

/// Loads the authority's certificate, or makes the authority.
fn authority(state: &Path, now: Timestamp) -> Result<CertificateDer<'static>, TlsError> {
    let file = state.join(AUTHORITY);
    if !file.exists() {
        let key = KeyPair::generate()?;
        let certificate = authority_params(now)?.self_signed(&key)?;
        // The certificate last: it is what says that the authority is complete.
        write_private(&state.join(AUTHORITY_KEY), key.serialize_pem().as_bytes())?;
        write(&file, certificate.pem().as_bytes(), 0o644)?;
    }
    CertificateDer::from_pem_slice(&read(&file)?)
        .map_err(|e| TlsError::Content { path: file, message: format!("not a PEM certificate: {e}") })
}

fn leaf(
    state: &Path,
    names: &[String],
    authority: &CertificateDer<'static>,
    now: Timestamp,
) -> Result<ChainAndKey, TlsError> {
    let key_file = state.join(AUTHORITY_KEY);
    let content = |message: String| TlsError::Content { path: key_file.clone(), message };
    let pem = String::from_utf8(read(&key_file)?).map_err(|_| content("not text".to_owned()))?;
    let key = KeyPair::from_pem(&pem).map_err(|e| content(format!("not a PEM private key: {e}")))?;
    // Of the issuer's parameters only its name and key enter the leaf, and the name never changes.
    let issuer = Issuer::new(authority_params(now)?, key);
    let mut params = CertificateParams::new(names.to_vec())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Remit orchestrator");
    params.distinguished_name = name;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let (year, month, day) = date(now);
    let last = u32::from(month) - 1 + LEAF_MONTHS;
    let (years, last) = (i32::try_from(last / 12).unwrap_or(0), u8::try_from(last % 12 + 1).unwrap_or(1));
    params.not_before = date_time_ymd(year - 1, month, day.min(28));
    params.not_after = date_time_ymd(year + years, last, day.min(28));
    let own = KeyPair::generate()?;
    let certificate = params.signed_by(&own, &issuer)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der()));
    Ok((vec![certificate.der().clone(), authority.clone()], private))
}

fn date(now: Timestamp) -> (i32, u8, u8) {
    let text = now.to_string();
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<u16>().ok());
    let small = |range| part(range).and_then(|n| u8::try_from(n).ok()).unwrap_or(1);
    (part(0..4).map_or(2026, i32::from), small(5..7), small(8..10))
}

/// The names that a leaf has to carry: those of `url` and the address that is listened on, and this host for itself.
pub fn names(url: &str, listen: IpAddr) -> Vec<String> {
    let authority = url.strip_prefix("https://").unwrap_or(url);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), host];
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), error })
}

/// Writes a file that only its owner reads, whole or not at all.
///
/// # Errors
/// The file system's.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    write(path, bytes, 0o600)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let file = |error| TlsError::File { path: path.to_owned(), error };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // Left over from a start that was cut short: its mode may be another one.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
        _ => {}
    }
    let mut out =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).map_err(file)?;
    out.write_all(bytes).and_then(|()| out.sync_all()).map_err(file)?;
    fs::rename(&beside, path).map_err(file)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::File::open(directory).and_then(|dir| dir.sync_all()).map_err(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T09:30:00Z".parse().unwrap()
    }

    fn load(state: &Path) -> Arc<Identity> {
        let names = names("https://127.0.0.1:8443", IpAddr::from([127, 0, 0, 1]));
        Arc::new(Identity::load(&Certificate::Own, state, names, now()).unwrap())
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let state = tempfile::tempdir().unwrap();
        let first = load(state.path());
        let second = load(state.path());
        assert!(first.authority().is_some());
        assert_eq!(first.authority(), second.authority());
        let mode = fs::metadata(state.path().join(AUTHORITY_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn clients_that_know_the_authority_accept_the_leaf() {
        let state = tempfile::tempdir().unwrap();
        let identity = load(state.path());
        identity.renew(now()).unwrap();
        let config = identity.server_config().unwrap();
        let mut roots = rustls::RootCertStore::empty();
        let pem = fs::read(identity.authority_file().unwrap()).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let shake = |name: &'static str| {
            let server = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let client = Arc::new(client.clone());
            let client = rustls::ClientConnection::new(client, name.try_into().unwrap()).unwrap();
            handshake(client, server)
        };
        assert_eq!(shake("127.0.0.1"), Ok(()));
        assert_eq!(shake("localhost"), Ok(()));
        assert!(shake("elsewhere.example").is_err());
    }

    fn handshake(
        mut client: rustls::ClientConnection,
        mut server: rustls::ServerConnection,
    ) -> Result<(), rustls::Error> {
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut &wire[..]).unwrap();
            server.process_new_packets()?;
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn leaves_carry_every_name_once() {
        fn check(url: &str, listen: [u8; 4], expect: &[&str]) {
            assert_eq!(names(url, IpAddr::from(listen)), expect, "{url}");
        }
        let here = ["localhost", "127.0.0.1", "::1"];
        check("https://remit.example", [0, 0, 0, 0], &[&here[..], &["remit.example"]].concat());
        check(
            "https://remit.example:8443",
            [10, 0, 0, 1],
            &[&here[..], &["remit.example", "10.0.0.1"]].concat(),
        );
        check("https://127.0.0.1:1", [127, 0, 0, 1], &here);
        check("https://[::1]:1", [127, 0, 0, 1], &here);
    }

    #[test]
    fn bad_files_are_named() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("x.pem");
        fs::write(&path, "nonsense").unwrap();
        let files = Certificate::Files { certificate: path.clone(), key: path };
        let error = Identity::load(&files, state.path(), Vec::new(), now()).unwrap_err();
        assert!(error.to_string().contains("x.pem"), "{error}");
    }
}
