//! Real listeners on loopback, plain and with TLS, that count who connects.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::net::TcpListener;

use super::{resolve::Fixed, *};

/// A lookup that counts how often it is asked and gives the next answer each time.
pub(crate) struct Scripted {
    pub(crate) asked: AtomicUsize,
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
}

impl Scripted {
    pub(crate) fn new(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        let answers = names.iter().map(|(name, list)| ((*name).to_owned(), list.iter().map(parse).collect()));
        Arc::new(Self { asked: AtomicUsize::new(0), answers: Mutex::new(answers.collect()) })
    }
}

#[async_trait::async_trait]
impl Lookup for Scripted {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap();
        let list = answers.get_mut(host).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(if list.len() > 1 { list.remove(0) } else { list[0].clone() })
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's listener on loopback")]
pub(crate) async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A certificate authority of a test, as a file, and a server's configuration for `names`.
pub(crate) struct Authority {
    pub(crate) ca_file: PathBuf,
    pub(crate) server: Arc<rustls::ServerConfig>,
    chain: rustls_pki_types::CertificateDer<'static>,
    key: rustls_pki_types::PrivateKeyDer<'static>,
    _directory: tempfile::TempDir,
}

impl Authority {
    /// The same server, which lets in only clients that `verifier` knows.
    pub(crate) fn demanding(
        &self,
        verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    ) -> Arc<rustls::ServerConfig> {
        let config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.chain.clone()], self.key.clone_key())
            .unwrap();
        Arc::new(config)
    }
}

pub(crate) fn authority(names: &[&str]) -> Authority {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, ca.pem()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.clone_key())
        .unwrap();
    Authority { ca_file, server: Arc::new(server), chain: leaf.der().clone(), key, _directory: directory }
}

pub(crate) fn dialer(lookup: Arc<dyn Lookup>, trust: Trust) -> Dialer {
    Dialer::new(lookup, None, trust, Barred::default())
}

fn loopback() -> Vec<IpNet> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

#[tokio::test]
async fn what_was_judged_is_dialled_and_nothing_is_asked_twice() {
    let (listener, port) = listener().await;
    let lookup = Scripted::new(&[("flips.example", &[&["127.0.0.1"], &["169.254.169.254"]])]);
    let dialer = dialer(lookup.clone(), Trust::untrusting());
    let stream = dialer.guarded("flips.example", port, &loopback()).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 1]));
    assert_eq!(lookup.asked.load(Ordering::Relaxed), 1);
    listener.accept().await.unwrap();
    let error = dialer.guarded("flips.example", port, &loopback()).await.unwrap_err();
    assert!(matches!(error, DialError::Prohibited(Prohibited::Never { .. })), "{error}");
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let (_listener, port) = listener().await;
    let names = HashMap::from([(
        "two.example".to_owned(),
        vec![IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 1])],
    )]);
    let dialer = dialer(Arc::new(Fixed(names)), Trust::untrusting());
    // Nothing listens at the first address: the listener is bound to the second one only.
    dialer.guarded("two.example", port, &loopback()).await.unwrap();
}

#[tokio::test]
async fn names_that_are_not_in_the_dns_are_not_asked_for() {
    let (_listener, port) = listener().await;
    let lookup = Scripted::new(&[("docker.endpoint.alt", &[&["127.0.0.1"]]), ("salt", &[&["127.0.0.1"]])]);
    let dialer = dialer(lookup.clone(), Trust::untrusting());
    for name in ["docker.endpoint.alt", "alt"] {
        let error = dialer.guarded(name, port, &loopback()).await.unwrap_err();
        assert!(matches!(error, DialError::Resolve { .. }), "{error}");
        let error = dialer.through_proxy(name, port).await.unwrap_err();
        assert!(matches!(error, DialError::Resolve { .. }), "{error}");
    }
    assert_eq!(lookup.asked.load(Ordering::Relaxed), 0);
    dialer.guarded("salt", port, &loopback()).await.unwrap();
}

#[tokio::test]
async fn the_system_resolver_knows_this_host() {
    let (_listener, port) = listener().await;
    let found = resolve::System.addresses("localhost").await.unwrap();
    assert!(found.contains(&IpAddr::from([127, 0, 0, 1])), "{found:?}");
    let dialer = dialer(Arc::new(resolve::System), Trust::untrusting());
    let error = dialer.guarded("localhost", port, &[]).await.unwrap_err();
    assert!(matches!(error, DialError::Prohibited(Prohibited::Unlisted { .. })), "{error}");
    let error = dialer.guarded("no-such-name.invalid", port, &[]).await.unwrap_err();
    assert!(matches!(error, DialError::Resolve { .. }), "{error}");
}

#[tokio::test]
async fn tls_proves_the_name() {
    let (listener, port) = listener().await;
    let good = authority(&["a.example"]);
    let other = authority(&["a.example"]);
    let acceptor = tokio_rustls::TlsAcceptor::from(good.server.clone());
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust us breaks off: that is what is tested.
            let _ = acceptor.accept(stream).await;
        }
    });
    let names = ["a.example", "b.example"].map(|name| (name.to_owned(), vec![IpAddr::from([127, 0, 0, 1])]));
    let dialer = dialer(
        Arc::new(Fixed(HashMap::from(names))),
        Trust::only(std::slice::from_ref(&other.ca_file)).unwrap(),
    );
    let attempt = async |host: &str, ca_file: Option<&Path>| {
        let stream = dialer.guarded(host, port, &loopback()).await.unwrap();
        dialer.encrypt(stream, host, ca_file).await.map(|_| ()).map_err(|error| error.to_string())
    };
    attempt("a.example", Some(&good.ca_file)).await.unwrap();
    let wrong_name = attempt("b.example", Some(&good.ca_file)).await.unwrap_err();
    assert!(wrong_name.contains("certificate of b.example"), "{wrong_name}");
    let unknown = attempt("a.example", None).await.unwrap_err();
    assert!(unknown.contains("ca_file"), "{unknown}");
    let missing = attempt("a.example", Some(Path::new("/nowhere/ca.pem"))).await.unwrap_err();
    assert!(missing.contains("/nowhere/ca.pem"), "{missing}");
}

#[tokio::test]
async fn literals_and_the_orchestrator_do_not_go_through_the_proxy() {
    let (listener, port) = listener().await;
    let proxy = Proxy::parse(&format!("http://127.0.0.1:{port}")).ok();
    let dialer = Dialer::new(
        Arc::new(Fixed(HashMap::new())),
        proxy,
        Trust::untrusting(),
        Barred::new("remit.corp.example", 443),
    );
    for (host, expect) in
        [("10.0.0.1", "is an address"), ("[::1]", "is an address"), ("remit.corp.example", "orchestrator")]
    {
        let error = dialer.through_proxy(host, 443).await.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
    let mut accept = Box::pin(listener.accept());
    assert!(futures_util::poll!(&mut accept).is_pending(), "nobody connected");
    let without = super::tests::dialer(Arc::new(Fixed(HashMap::new())), Trust::untrusting());
    let error = without.through_proxy("a.example", 443).await.unwrap_err().to_string();
    assert!(error.contains("names none"), "{error}");
}

#[tokio::test]
async fn where_the_orchestrator_was_found_no_step_goes_by_another_name() {
    let (_listener, port) = listener().await;
    let both = ["127.0.0.1", "127.0.0.3"].map(|text| text.parse::<IpAddr>().unwrap());
    let names = HashMap::from([
        ("remit.corp.example".to_owned(), both.to_vec()),
        ("alias.example".to_owned(), vec![both[0]]),
        ("second.example".to_owned(), vec![both[1]]),
    ]);
    let barred = Barred::new("remit.corp.example", port);
    let dialer = Dialer::new(Arc::new(Fixed(names)), None, Trust::untrusting(), barred);
    dialer.guarded("alias.example", port, &loopback()).await.unwrap();
    dialer.own("remit.corp.example", port).await.unwrap();
    for host in ["remit.corp.example", "alias.example", "second.example"] {
        let error = dialer.guarded(host, port, &loopback()).await.unwrap_err();
        assert!(matches!(error, DialError::Prohibited(Prohibited::Orchestrator { .. })), "{host}: {error}");
    }
}
