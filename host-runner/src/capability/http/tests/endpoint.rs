//! Named endpoints: a socket of this host, and nothing of the network.

use super::*;

/// A daemon at a socket, which answers with what it was asked.
struct Daemon {
    folder: tempfile::TempDir,
    hits: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(folder.path().join("daemon.sock")).unwrap();
        let hits = Arc::new(AtomicUsize::new(0));
        let counter = hits.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                connections.spawn(async move {
                    let answer: Answer = Arc::new(ok);
                    converse(Box::new(stream), &Mutex::default(), &answer).await;
                });
            }
        });
        Self { folder, hits, _tasks: tasks }
    }

    /// Grant and ceiling of the endpoint, changed by `more`.
    fn rules(&self, socket: &str, more: &Value) -> (Value, Value) {
        let path = std::fs::canonicalize(self.folder.path()).unwrap().join(socket);
        let mut grant = json!({"endpoint": "daemon", "methods": ["GET"], "paths": ["/v1"]});
        more.as_object().into_iter().flatten().for_each(|(name, value)| grant[name] = value.clone());
        let ceiling = json!({"endpoint": "daemon", "unix": path, "methods": ["GET"], "paths": ["/"],
            "components": ["acme/x"]});
        (json!([grant]), json!([ceiling]))
    }
}

#[tokio::test]
async fn an_endpoint_leads_to_its_socket_and_nowhere_else() {
    let daemon = Daemon::start();
    let (grant, ceiling) = daemon.rules("daemon.sock", &json!({}));
    let names: &[(&str, &[&[&str]])] = &[("daemon.endpoint.alt", &[&["127.0.0.1"]])];
    let mut run = Run::new(Setup { names, grant, ceiling, ..Setup::default() });
    for uri in
        ["http://daemon.endpoint.alt/v2", "http://other.endpoint.alt/v1", "https://daemon.endpoint.alt/v1"]
    {
        assert_eq!(run.get(uri).await.unwrap_err(), "HttpRequestDenied", "{uri}");
        let denial = run.denial();
        assert!(denial.contains("endpoint: "), "{denial}");
    }
    assert_eq!(daemon.hits.load(Ordering::SeqCst), 0);
    for _ in 0..2 {
        let answer = text(run.get("http://daemon.endpoint.alt/v1/x?a=b").await.unwrap()).await.unwrap();
        assert!(answer.starts_with("GET /v1/x?a=b HTTP/1.1\r\n"), "{answer}");
        assert!(answer.contains("host: daemon.endpoint.alt\r\n"), "{answer}");
    }
    assert_eq!(daemon.hits.load(Ordering::SeqCst), 1, "a connection is used again");
    assert_eq!(run.lookup.asked.load(Ordering::SeqCst), 0, "nothing is looked up");
}

#[tokio::test]
async fn a_socket_that_cannot_be_used_is_told_with_what_to_do() {
    let daemon = Daemon::start();
    std::os::unix::fs::symlink("daemon.sock", daemon.folder.path().join("linked.sock")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(daemon.folder.path().join("dead.sock")).unwrap());
    for (socket, code, remedy) in [
        ("none.sock", "DestinationUnavailable", "start the daemon, or correct `unix`"),
        ("dead.sock", "ConnectionRefused", "nobody listens"),
        ("linked.sock", "DestinationUnavailable", "a link is on the way"),
    ] {
        let (grant, ceiling) = daemon.rules(socket, &json!({}));
        let mut run = Run::new(Setup { grant, ceiling, ..Setup::default() });
        assert_eq!(run.get("http://daemon.endpoint.alt/v1").await.unwrap_err(), code, "{socket}");
        let denial = run.denial();
        assert!(denial.contains("the endpoint daemon is not reached") && denial.contains(remedy), "{denial}");
        // Where things lie on the host stays there.
        assert!(!denial.contains(socket), "{denial}");
    }
    assert_eq!(daemon.hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_secret_goes_to_an_endpoint_that_its_owner_named_and_comes_back_redacted() {
    let daemon = Daemon::start();
    let secret = json!({"secret": {"name": "token", "use": "header", "header": "x-key"}});
    let (grant, ceiling) = daemon.rules("daemon.sock", &secret);
    let secrets = json!([{"path": "keys/t", "use": "header", "hosts": ["daemon.endpoint.alt:80"]}]);
    let mut run = Run::new(Setup { grant, ceiling, secrets, ..Setup::default() });
    let answer = text(run.get("http://daemon.endpoint.alt/v1").await.unwrap()).await.unwrap();
    assert!(answer.contains("x-key: [redacted:keys/t]"), "{answer}");
}
