//! The door against real listeners on loopback. Each refusal asserts that nobody connected, and has a twin that passes.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::HeaderName;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use remit_protocol::{
    ComponentName, Limits, ProjectName, SecretName, SecretPath, Size,
    capability::{Ceiling, Subject},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::*;
use crate::{
    dial::{
        BoxConnection, Dialer,
        address::Barred,
        proxy::Proxy,
        tests::{Authority, Scripted, authority, listener},
        tls::Trust,
    },
    launcher::Local,
    secrets::{Resolve, SecretValue, environment::Environment},
};

const TOKEN: &str = "a-very-secret-token";

/// A server that counts connections, remembers requests and answers as it was told.
struct Server {
    port: u16,
    hits: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

type Answer = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

impl Server {
    async fn start(
        tls: Option<&Authority>,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(tls.map(|tls| tls.server.clone()), answer).await
    }

    async fn start_with(
        tls: Arc<rustls::ServerConfig>,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Some(tls), answer).await
    }

    async fn serve(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let (listener, port) = listener().await;
        let acceptor = tls.map(tokio_rustls::TlsAcceptor::from);
        let (hits, seen) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let (counter, requests, answer): (_, Arc<Mutex<Vec<String>>>, Answer) =
            (hits.clone(), Arc::clone(&seen), Arc::new(answer));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let (acceptor, requests, answer) = (acceptor.clone(), requests.clone(), answer.clone());
                connections.spawn(async move {
                    let stream: BoxConnection = match acceptor {
                        None => Box::new(stream),
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    converse(stream, &requests, &answer).await;
                });
            }
        });
        Self { port, hits, seen, _tasks: tasks }
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn converse(mut stream: BoxConnection, requests: &Mutex<Vec<String>>, answer: &Answer) {
    loop {
        let Some(request) = read_request(&mut stream).await else { return };
        requests.lock().unwrap().push(request.clone());
        let bytes = answer(&request);
        if stream.write_all(&bytes).await.is_err() || request.contains("x-close: 1") {
            return;
        }
    }
}

async fn read_request(stream: &mut BoxConnection) -> Option<String> {
    let mut bytes = Vec::new();
    let complete = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let chunked = head.contains("transfer-encoding: chunked");
        (if chunked { body.ends_with("0\r\n\r\n") } else { body.len() >= length.unwrap_or(0) }).then_some(())
    };
    while complete(&bytes).is_none() {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// One run with the rules given: `grant` and `ceiling` lists of http rules, and where the token may go.
struct Run {
    door: Door,
    account: Arc<Account>,
    lookup: Arc<Scripted>,
}

struct Setup<'a> {
    names: &'a [(&'a str, &'a [&'a [&'a str]])],
    grant: Value,
    ceiling: Value,
    secrets: Value,
    limits: Limits,
    proxy: Option<u16>,
    barred: Barred,
    value: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            names: &[("a.example", &[&["127.0.0.1"]])],
            grant: json!([]),
            ceiling: json!([]),
            secrets: json!([]),
            limits: Limits::default(),
            proxy: None,
            barred: Barred::default(),
            value: TOKEN,
        }
    }
}

/// A rule for `a.example` on loopback, as grant and as ceiling.
fn rules(port: u16, grant: Value, ceiling: Value) -> (Value, Value) {
    let base = json!({"scheme": "http", "host": "a.example", "port": port, "methods": ["GET", "POST"], "paths": ["/"]});
    let merged = |more: Value| {
        let mut rule = base.clone();
        for (name, value) in more.as_object().unwrap() {
            rule[name] = value.clone();
        }
        json!([rule])
    };
    (merged(grant), merged(ceiling))
}

fn local(port: u16) -> (Value, Value) {
    rules(port, json!({"private": true}), json!({"private": ["127.0.0.0/8"]}))
}

impl Run {
    fn new(setup: Setup<'_>) -> Self {
        let daemon = json!({"endpoint": "daemon", "methods": ["GET", "POST"], "paths": ["/"],
            "secret": {"name": "token", "use": "header", "header": "x-key"}});
        let requests = json!({"http": [{"host": "granted"}, daemon]});
        let ceiling = Ceiling {
            http: serde_json::from_value(setup.ceiling).unwrap(),
            secrets: serde_json::from_value(setup.secrets).unwrap(),
            ..Ceiling::default()
        };
        let path = SecretPath::new("keys/t").unwrap();
        let bound = BTreeMap::from([(SecretName::new("token").unwrap(), vec![path.clone()])]);
        let remit = Remit::compute(
            Subject {
                component: &ComponentName::new("acme/x").unwrap(),
                project: &ProjectName::new("ops").unwrap(),
            },
            &serde_json::from_value(requests).unwrap(),
            setup.limits,
            &serde_json::from_value(json!({"http": setup.grant})).unwrap(),
            &bound,
            &ceiling,
        )
        .unwrap();
        let lookup = Scripted::new(setup.names);
        let proxy =
            setup.proxy.map(|port| Proxy::parse(&format!("http://me:pw@127.0.0.1:{port}")).ok().unwrap());
        let dialer = Dialer::new(lookup.clone(), proxy, Trust::untrusting(), setup.barred);
        let value = SecretValue::new(setup.value.into()).ok().unwrap();
        let secrets: Arc<dyn Resolve> = Arc::new(Environment::new(BTreeMap::from([(path, value)])));
        let redactor = Redactor::new();
        let account = Arc::new(Account::new(*remit.limits()));
        let launch = Arc::new(Local::new(std::env::temp_dir()));
        let upstream = Upstream::new(Arc::new(dialer), launch, secrets, redactor.clone());
        let door = Door::new(Arc::new(remit), account.clone(), redactor, Arc::new(upstream));
        Self { door, account, lookup }
    }

    async fn send(
        &mut self,
        request: http::request::Builder,
        body: &str,
    ) -> Result<Response<WasiBody>, String> {
        self.send_with(request, full(body), None).await
    }

    async fn send_with(
        &mut self,
        request: http::request::Builder,
        body: WasiBody,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, String> {
        let received: Pending<()> = Box::new(std::future::ready(Ok(())));
        let sent = self.door.send_request(request.body(body).unwrap(), options, received);
        Pin::from(sent).await.map(|(response, _)| response).map_err(|error| format!("{error:?}"))
    }

    async fn get(&mut self, uri: &str) -> Result<Response<WasiBody>, String> {
        self.send(Request::get(uri), "").await
    }

    fn denial(&self) -> String {
        let denials = self.account.take_denials();
        denials.last().map(ToString::to_string).unwrap_or_default()
    }
}

fn full(body: &str) -> WasiBody {
    Full::new(Bytes::from(body.to_owned())).map_err(|never| match never {}).boxed_unsync()
}

async fn text(response: Response<WasiBody>) -> Result<String, String> {
    let collected = response.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
    Ok(String::from_utf8(collected.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn what_no_rule_permits_is_refused_before_any_name_is_resolved() {
    let server = Server::start(None, |_| ok("hello")).await;
    let (port, (grant, ceiling)) = (server.port, local(server.port));
    let mut run = Run::new(Setup { grant, ceiling, ..Setup::default() });
    for uri in [
        format!("http://b.example:{port}/"),
        format!("https://a.example:{port}/"),
        "http://a.example/".to_owned(),
    ] {
        assert_eq!(run.get(&uri).await.unwrap_err(), "HttpRequestDenied", "{uri}");
        let denial = run.denial();
        assert!(denial.contains("grant:"), "{denial}");
    }
    let delete = Request::delete(format!("http://a.example:{port}/"));
    assert_eq!(run.send(delete, "").await.unwrap_err(), "HttpRequestDenied");
    for (uri, method, expect) in [
        (format!("http://user@a.example:{port}/"), "GET", "HttpRequestUriInvalid"),
        (format!("http://127.0.0.1:{port}/"), "GET", "HttpRequestUriInvalid"),
        (format!("http://A.example:{port}/"), "GET", "HttpRequestUriInvalid"),
        (format!("http://a.example:{port}/x/../y"), "GET", "HttpRequestUriInvalid"),
        (format!("http://a.example:{port}/"), "TRACE", "HttpRequestMethodInvalid"),
        (format!("http://a.example:{port}/"), "CONNECT", "HttpRequestMethodInvalid"),
    ] {
        let request = Request::builder().method(method).uri(&uri);
        assert_eq!(run.send(request, "").await.unwrap_err(), expect, "{method} {uri}");
    }
    for header in ["host", "upgrade", "te", "expect", "connection", "proxy-authorization"] {
        let request = Request::get(format!("http://a.example:{port}/")).header(header, "x");
        assert_eq!(run.send(request, "").await.unwrap_err(), "HttpRequestDenied", "{header}");
    }
    assert_eq!((run.lookup.asked.load(Ordering::SeqCst), server.hits()), (0, 0));
    let response = run.get(&format!("http://a.example:{port}/v1?q=1")).await.unwrap();
    assert_eq!(text(response).await.unwrap(), "hello");
    assert_eq!((run.lookup.asked.load(Ordering::SeqCst), server.hits()), (1, 1));
    let seen = server.requests().remove(0);
    assert!(seen.starts_with("GET /v1?q=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains(&format!("host: a.example:{port}\r\n")), "{seen}");
}

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

#[tokio::test]
async fn addresses_are_judged_all_together_and_once() {
    let server = Server::start(None, |_| ok("hello")).await;
    let check = async |answers: &[&[&str]], private: bool, expect: &str, denial: &str| {
        let (grant, ceiling) =
            if private { local(server.port) } else { rules(server.port, json!({}), json!({})) };
        let names: &[(&str, &[&[&str]])] = &[("a.example", answers)];
        let mut run = Run::new(Setup { names, grant, ceiling, ..Setup::default() });
        let before = server.hits();
        let found = run.get(&format!("http://a.example:{}/", server.port)).await;
        assert_eq!(run.lookup.asked.load(Ordering::SeqCst), 1, "{answers:?}");
        match found {
            Ok(_) => assert_eq!((expect, server.hits()), ("ok", before + 1), "{answers:?}"),
            Err(error) => assert_eq!((error.as_str(), server.hits()), (expect, before), "{answers:?}"),
        }
        let found = run.denial();
        assert!(found.contains(denial), "{found}");
    };
    check(&[&["127.0.0.1"]], false, "DestinationIpProhibited", "private = [\"127.0.0.1/32\"]").await;
    check(&[&["127.0.0.1", "1.1.1.1"]], true, "DestinationIpProhibited", "public and to private").await;
    check(&[&["169.254.169.254"]], true, "DestinationIpProhibited", "metadata").await;
    check(&[&["::ffff:127.0.0.1"]], true, "DestinationIpProhibited", "mapped").await;
    check(&[&["10.0.0.1"]], true, "DestinationIpProhibited", "10.0.0.1/32").await;
    check(&[&[]], true, "DnsError { rcode: None, info_code: None }", "").await;
    // The second answer would be another one: it is never asked for.
    check(&[&["127.0.0.1"], &["169.254.169.254"]], true, "ok", "").await;
}

#[tokio::test]
async fn the_orchestrator_is_never_called() {
    let server = Server::start(None, |_| ok("hello")).await;
    let port = server.port;
    for (barred, expect) in [
        (Barred::new("a.example", port), "HttpRequestDenied"),
        (Barred::new("127.0.0.1", port), "HttpRequestDenied"),
        (Barred::new("a.example", port + 1), "ok"),
    ] {
        let (grant, ceiling) = local(port);
        let mut run = Run::new(Setup { grant, ceiling, barred, ..Setup::default() });
        let found = run.get(&format!("http://a.example:{port}/")).await;
        assert_eq!(found.map(|_| "ok".to_owned()).unwrap_or_else(|error| error), expect);
    }
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn redirects_and_upgrades_are_not_followed() {
    let server = Server::start(None, |request| {
        if request.starts_with("GET /up") {
            return b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".to_vec();
        }
        b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\nkeep-alive: x\r\n\r\n".to_vec()
    })
    .await;
    let (grant, ceiling) = local(server.port);
    let mut run = Run::new(Setup { grant, ceiling, ..Setup::default() });
    let response = run.get(&format!("http://a.example:{}/", server.port)).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()["location"], "http://169.254.169.254/");
    assert!(!response.headers().contains_key("keep-alive"));
    drop(response);
    assert_eq!((server.hits(), server.requests().len()), (1, 1));
    assert_eq!(run.get("http://169.254.169.254/").await.unwrap_err(), "HttpRequestUriInvalid");
    let error = run.get(&format!("http://a.example:{}/up", server.port)).await.unwrap_err();
    assert_eq!(error, "HttpUpgradeFailed");
}

fn credentialed(tls: &Authority, port: u16, secret: Value) -> (Value, Value, Value) {
    let (grant, ceiling) = rules(
        port,
        json!({"scheme": "https", "private": true, "secret": secret}),
        json!({"scheme": "https", "private": ["127.0.0.0/8"], "ca_file": tls.ca_file}),
    );
    let usage = secret["use"].clone();
    (grant, ceiling, json!([{"path": "keys/t", "use": usage, "hosts": [format!("a.example:{port}")]}]))
}

#[tokio::test]
async fn the_runner_adds_the_credential_and_the_component_cannot() {
    let tls = authority(&["a.example"]);
    let server = Server::start(Some(&tls), |_| ok("hello")).await;
    let check = async |secret: Value, expect: &str| {
        let (grant, ceiling, secrets) = credentialed(&tls, server.port, secret);
        let mut run = Run::new(Setup { grant, ceiling, secrets, ..Setup::default() });
        let uri = format!("https://a.example:{}/", server.port);
        let before = server.hits();
        for header in ["authorization", "cookie", "x-api-key", "x-amz-date", "x-token"] {
            if header != "x-token" || expect.starts_with("x-token") {
                let request = Request::get(&uri).header(header, "mine");
                assert_eq!(run.send(request, "").await.unwrap_err(), "HttpRequestDenied", "{header}");
                let denial = run.denial();
                assert!(denial.contains(header), "{denial}");
            }
        }
        assert_eq!(server.hits(), before);
        run.send(Request::get(&uri).header("accept-encoding", "gzip"), "").await.unwrap();
        let seen = server.requests().pop().unwrap();
        assert!(seen.contains(&format!("\r\n{expect}\r\n")), "{seen}");
        assert!(seen.contains("\r\naccept-encoding: identity\r\n"), "{seen}");
        assert!(!seen.contains("gzip"), "{seen}");
    };
    check(json!({"name": "token", "use": "bearer"}), "authorization: Bearer a-very-secret-token").await;
    check(
        json!({"name": "token", "use": "basic", "user": "me"}),
        "authorization: Basic bWU6YS12ZXJ5LXNlY3JldC10b2tlbg==",
    )
    .await;
    check(json!({"name": "token", "use": "basic"}), "authorization: Basic YS12ZXJ5LXNlY3JldC10b2tlbg==")
        .await;
    check(json!({"name": "token", "use": "header", "header": "x-token"}), "x-token: a-very-secret-token")
        .await;
    // Without a credential in the rule, the component's own passes, and nothing is added.
    let plain = Server::start(None, |_| ok("hello")).await;
    let (grant, ceiling) = local(plain.port);
    let mut run = Run::new(Setup { grant, ceiling, ..Setup::default() });
    let request = Request::get(format!("http://a.example:{}/", plain.port)).header("authorization", "mine");
    run.send(request, "").await.unwrap();
    let seen = plain.requests().remove(0);
    assert!(seen.contains("authorization: mine\r\n") && !seen.contains("accept-encoding"), "{seen}");
}

#[tokio::test]
async fn an_echo_of_the_credential_does_not_reach_the_component() {
    let tls = authority(&["a.example"]);
    let server = Server::start(Some(&tls), |request| {
        let basic = data_encoding::BASE64.encode(format!("x{TOKEN}").as_bytes());
        let (first, second) = TOKEN.split_at(7);
        match request.split(' ').nth(1).unwrap_or_default() {
            "/plain" => ok(&format!("<{TOKEN}>")),
            "/base64" => ok(&format!("<{basic}>")),
            "/chunks" => format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n<{first}\r\n{:x}\r\n{second}>\r\n0\r\nx-t: {TOKEN}\r\n\r\n",
                first.len() + 1,
                second.len() + 1
            )
            .into_bytes(),
            "/header" => format!(
                "HTTP/1.1 401 No\r\nx-echo: got {TOKEN}\r\nset-cookie: s=1\r\nwww-authenticate: Bearer x\r\nauthorization: x\r\ncontent-length: 1\r\n\r\n<"
            )
            .into_bytes(),
            _ => b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\n<".to_vec(),
        }
    })
    .await;
    let (grant, ceiling, secrets) =
        credentialed(&tls, server.port, json!({"name": "token", "use": "bearer"}));
    let mut run = Run::new(Setup { grant, ceiling, secrets, ..Setup::default() });
    let uri = |path: &str| format!("https://a.example:{}{path}", server.port);
    assert_eq!(text(run.get(&uri("/plain")).await.unwrap()).await.unwrap(), "<[redacted:keys/t]>");
    assert_eq!(text(run.get(&uri("/chunks")).await.unwrap()).await.unwrap(), "<[redacted:keys/t]>");
    let base64 = text(run.get(&uri("/base64")).await.unwrap()).await.unwrap();
    assert!(base64.contains("[redacted:keys/t]") && base64.len() < 30, "{base64}");
    let response = run.get(&uri("/header")).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["x-echo"], "got [redacted:keys/t]");
    assert_eq!(response.headers()["www-authenticate"], "Bearer x");
    for gone in ["set-cookie", "authorization", "content-length"] {
        assert!(!response.headers().contains_key(gone), "{gone}");
    }
    assert_eq!(run.get(&uri("/gzip")).await.unwrap_err(), "HttpResponseContentCoding(Some(\"gzip\"))");
    assert_eq!(run.door.redactor.hits(), 4);
    // By now the value is known: it does not leave in an address either.
    let before = server.requests().len();
    let error = run.get(&uri(&format!("/x?q={TOKEN}"))).await.unwrap_err();
    assert_eq!((error.as_str(), server.requests().len()), ("HttpRequestDenied", before));
    let denial = run.denial();
    assert!(!denial.contains(TOKEN), "{denial}");
}

#[tokio::test]
async fn a_secret_goes_into_the_query_where_the_owner_says_so() {
    let tls = authority(&["a.example"]);
    let server = Server::start(Some(&tls), |_| ok("hello")).await;
    let (grant, ceiling, secrets) =
        credentialed(&tls, server.port, json!({"name": "token", "use": "query", "query": "api_key"}));
    let value = "a secret&with=signs";
    let mut run = Run::new(Setup { grant, ceiling, secrets, value, ..Setup::default() });
    let uri = |rest: &str| format!("https://a.example:{}/v1{rest}", server.port);
    for (rest, expect) in
        [("", "/v1?api_key=a%20secret%26with%3Dsigns"), ("?q=1", "/v1?q=1&api_key=a%20secret%26with%3Dsigns")]
    {
        run.get(&uri(rest)).await.unwrap();
        let seen = server.requests().pop().unwrap();
        assert!(seen.starts_with(&format!("GET {expect} HTTP/1.1\r\n")), "{seen}");
    }
    let before = server.requests().len();
    for rest in ["?api_key=mine", "?API%5fkey=mine"] {
        assert_eq!(run.get(&uri(rest)).await.unwrap_err(), "HttpRequestDenied", "{rest}");
    }
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn a_signed_request_carries_a_signature_of_what_is_sent_and_no_secret() {
    let tls = authority(&["a.example"]);
    // Whatever was signed comes back: a signature is no more the component's than the secret.
    let server = Server::start(Some(&tls), |request| {
        let found =
            request.lines().find_map(|line| line.rsplit_once('=').filter(|_| line.contains("ignature")));
        ok(&format!("<{}>", found.map(|(_, signature)| signature).unwrap_or_default()))
    })
    .await;
    let port = server.port;
    let uri = format!("https://a.example:{port}/v1?b=2&a=1");
    let sent = async |secret: Value, value: &str| {
        let (grant, ceiling, secrets) = credentialed(&tls, port, secret);
        let mut run = Run::new(Setup { grant, ceiling, secrets, value, ..Setup::default() });
        let response = run.send(Request::post(&uri), "the body").await;
        let answer = match response {
            Ok(response) => text(response).await.unwrap(),
            Err(error) => return (error, String::new(), run.denial()),
        };
        (server.requests().pop().unwrap(), answer, String::new())
    };
    let (seen, answer, _) =
        sent(json!({"name": "token", "use": "hmac", "header": "x-signature"}), TOKEN).await;
    let expect = sign::hmac(TOKEN.as_bytes(), b"the body", None);
    assert!(seen.contains(&format!("\r\nx-signature: {}\r\n", *expect)), "{seen}");
    assert!(seen.contains("content-length: 8\r\n") && seen.ends_with("\r\n\r\nthe body"), "{seen}");
    assert_eq!(answer, "<[redacted:keys/t]>");
    let timed = json!({"name": "token", "use": "hmac", "header": "x-signature", "timestamp": "x-time"});
    let (seen, ..) = sent(timed, TOKEN).await;
    let time = seen.lines().find_map(|line| line.strip_prefix("x-time: ")).unwrap();
    let at = remit_protocol::Timestamp::from_millis(time.parse::<u64>().unwrap() * 1000);
    assert!(seen.contains(&*sign::hmac(TOKEN.as_bytes(), b"the body", Some(at))), "{seen}");
    let aws = || json!({"name": "token", "use": "aws-sigv4", "region": "eu-central-1", "service": "s3"});
    let (seen, answer, _) =
        sent(aws(), "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY:a-session-token").await;
    assert!(seen.starts_with("POST /v1?a=1&b=2 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("/eu-central-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, "));
    assert!(
        seen.contains("\r\nx-amz-security-token: a-session-token\r\n") && !seen.contains("wJalrXUtnFEMI")
    );
    assert_eq!(answer, "<[redacted:keys/t]>");
    let (error, _, denial) = sent(aws(), "no-keys-of-aws").await;
    assert_eq!(error, "ConfigurationError");
    assert!(denial.contains("cannot be used as aws-sigv4") && !denial.contains("no-keys"), "{denial}");
}

#[tokio::test]
async fn a_part_of_a_secret_is_a_secret() {
    let tls = authority(&["a.example"]);
    let server = Server::start(Some(&tls), |_| ok("<the-password-alone>")).await;
    let (grant, ceiling, secrets) = credentialed(&tls, server.port, json!({"name": "token", "use": "basic"}));
    let value = "me:the-password-alone";
    let mut run = Run::new(Setup { grant, ceiling, secrets, value, ..Setup::default() });
    let answer = run.get(&format!("https://a.example:{}/", server.port)).await.unwrap();
    assert_eq!(text(answer).await.unwrap(), "<[redacted:keys/t]>");
}

#[tokio::test]
async fn a_rule_shows_its_client_certificate_and_others_show_none() {
    let (tls, clients) = (authority(&["a.example"]), rcgen::KeyPair::generate().unwrap());
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&clients).unwrap();
    let issuer = rcgen::Issuer::new(params, clients);
    let key = rcgen::KeyPair::generate().unwrap();
    let own =
        rcgen::CertificateParams::new(vec!["runner".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let value = format!("{}{}", own.pem(), key.serialize_pem());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let provider = crate::dial::tls::provider();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .unwrap();
    // The same name and authority, and it lets in whom it knows.
    let strict = tls.demanding(verifier);
    let server = Server::start_with(strict, |_| ok("hello")).await;
    let uri = format!("https://a.example:{}/", server.port);
    let ask = async |secret: Value, value: &str| {
        let (grant, ceiling, secrets) = credentialed(&tls, server.port, secret);
        let mut run = Run::new(Setup { grant, ceiling, secrets, value, ..Setup::default() });
        let answer = match run.get(&uri).await {
            Ok(response) => text(response).await,
            Err(error) => Err(error),
        };
        (answer, run.denial())
    };
    let shown = || json!({"name": "token", "use": "client-cert"});
    assert_eq!(ask(shown(), &value).await.0.as_deref(), Ok("hello"));
    let before = server.requests().len();
    assert!(ask(json!({"name": "token", "use": "bearer"}), TOKEN).await.0.is_err());
    let (answer, denial) = ask(shown(), &own.pem()).await;
    assert_eq!(answer.unwrap_err(), "ConfigurationError");
    assert!(denial.contains("its private key in PEM"), "{denial}");
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn a_credential_is_not_sent_to_whoever_cannot_prove_the_name() {
    let (tls, other) = (authority(&["a.example"]), authority(&["a.example"]));
    let server = Server::start(Some(&tls), |_| ok("hello")).await;
    let (grant, ceiling, secrets) =
        credentialed(&other, server.port, json!({"name": "token", "use": "bearer"}));
    let mut run = Run::new(Setup { grant, ceiling, secrets, ..Setup::default() });
    let error = run.get(&format!("https://a.example:{}/", server.port)).await.unwrap_err();
    assert_eq!((error.as_str(), server.requests().len()), ("TlsCertificateError", 0));
    let denial = run.denial();
    assert!(denial.contains("[[tls]]") && denial.contains("a.example"), "{denial}");
}

#[tokio::test]
async fn limits_are_kept_both_ways() {
    let server = Server::start(None, |_| ok(&"x".repeat(1000))).await;
    let (grant, ceiling) = local(server.port);
    let limits = Limits {
        requests: 4,
        // Four heads and one body of 100 bytes.
        egress: Size::from_bytes(2 * 17 + 2 * 16 + 100),
        ingress: Size::from_bytes(1500),
        ..Limits::default()
    };
    let mut run = Run::new(Setup { grant, ceiling, limits, ..Setup::default() });
    let uri = format!("http://a.example:{}/", server.port);
    let chunked = |length: usize| -> WasiBody {
        let pieces = vec![Ok::<_, HttpError>(http_body::Frame::data(Bytes::from(vec![b'y'; length])))];
        UnsyncBoxBody::new(http_body_util::StreamBody::new(futures_util::stream::iter(pieces)))
    };
    let sent = run.send_with(Request::post(&uri), chunked(100), None).await.unwrap();
    assert_eq!(text(sent).await.unwrap().len(), 1000);
    let error = run.send_with(Request::post(&uri), chunked(33), None).await.unwrap_err();
    assert_eq!(error, "HttpRequestBodySize(None)");
    assert_eq!(run.account.first_over(), Some(Limit::Egress));
    let response = run.get(&uri).await.unwrap();
    assert_eq!(text(response).await.unwrap_err(), "HttpResponseBodySize(None)");
    run.get(&uri).await.unwrap();
    let before = server.requests().len();
    assert_eq!(run.get(&uri).await.unwrap_err(), "ConnectionLimitReached");
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn what_a_head_carries_is_counted() {
    let server =
        Server::start(None, |_| b"HTTP/1.1 200 OK\r\nx: 0123456789\r\ncontent-length: 0\r\n\r\n".to_vec())
            .await;
    let (grant, ceiling) = local(server.port);
    let check = async |egress: u64, ingress: u64, expect: Result<u16, &str>, hits: usize| {
        let (egress, ingress) = (Size::from_bytes(egress), Size::from_bytes(ingress));
        let limits = Limits { egress, ingress, ..Limits::default() };
        let (grant, ceiling) = (grant.clone(), ceiling.clone());
        let mut run = Run::new(Setup { grant, ceiling, limits, ..Setup::default() });
        let before = server.hits();
        let request = Request::get(format!("http://a.example:{}/data?in=the-query", server.port));
        let found = run.send(request.header("x-data", "in-a-header"), "").await;
        let status = found.as_ref().map(|response| response.status().as_u16()).map_err(String::as_str);
        assert_eq!((status, server.hits() - before), (expect, hits), "{egress} {ingress}");
        (run.account.used(Limit::Egress), run.account.used(Limit::Ingress))
    };
    let (sent, received) = check(1000, 1000, Ok(200), 1).await;
    assert_eq!((sent, received), (3 + 5 + 13 + 12 + 6 + 11 + 4, 1 + 10 + 4 + 14 + 1 + 4));
    check(sent, received, Ok(200), 1).await;
    check(sent - 1, received, Err("HttpRequestHeaderSectionSize(None)"), 0).await;
    check(sent, received - 1, Err("HttpResponseHeaderSectionSize(None)"), 1).await;
}

#[tokio::test]
async fn answers_are_bounded() {
    let server = Server::start(None, |request| match request.split(' ').nth(1).unwrap_or_default() {
        "/many" => format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200)).into_bytes(),
        "/large" => format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100 << 10)).into_bytes(),
        "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort".to_vec(),
        _ => b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(),
    })
    .await;
    let (grant, ceiling) = local(server.port);
    let mut run = Run::new(Setup { grant, ceiling, ..Setup::default() });
    let uri = |path: &str| format!("http://a.example:{}{path}", server.port);
    for (path, expect) in [
        ("/many", "HttpResponseHeaderSectionSize(None)"),
        ("/large", "HttpResponseHeaderSectionSize(None)"),
        ("/ssh", "HttpProtocolError"),
    ] {
        assert_eq!(run.get(&uri(path)).await.unwrap_err(), expect, "{path}");
    }
    let request = Request::get(uri("/short")).header("x-close", "1");
    let response = run.send(request, "").await.unwrap();
    assert_eq!(text(response).await.unwrap_err(), "HttpResponseIncomplete");
}

#[tokio::test]
async fn trailers_of_an_answer_say_nothing_of_the_connection() {
    let server = Server::start(None, |_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-sum: 1\r\nset-cookie: s=1\r\nupgrade: h2c\r\n\r\n".to_vec()
    })
    .await;
    let (grant, ceiling) = local(server.port);
    let mut run = Run::new(Setup { grant, ceiling, ..Setup::default() });
    let response = run.get(&format!("http://a.example:{}/", server.port)).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-sum"]);
}

#[tokio::test]
async fn nobody_is_waited_for_for_ever() {
    let (silent, port) = listener().await;
    let (grant, ceiling) = local(port);
    let mut run = Run::new(Setup { grant, ceiling, ..Setup::default() });
    let short = Some(Duration::from_millis(5));
    let options =
        RequestOptions { connect_timeout: short, first_byte_timeout: short, between_bytes_timeout: short };
    let request = Request::get(format!("http://a.example:{port}/"));
    let error = run.send_with(request, full(""), Some(options)).await.unwrap_err();
    assert_eq!(error, "HttpResponseTimeout");
    drop(silent);
    let half = Server::start(None, |_| b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()).await;
    let (grant, ceiling) = local(half.port);
    let mut run = Run::new(Setup { grant, ceiling, ..Setup::default() });
    let options = RequestOptions { between_bytes_timeout: short, ..RequestOptions::default() };
    let request = Request::get(format!("http://a.example:{}/", half.port));
    let response = run.send_with(request, full(""), Some(options)).await.unwrap();
    assert_eq!(text(response).await.unwrap_err(), "ConnectionReadTimeout");
}

#[test]
fn a_guests_timeouts_are_clamped() {
    fn check(wish: Option<u64>, connect: u64, between: u64) {
        let wish = wish.map(Duration::from_secs);
        let options =
            RequestOptions { connect_timeout: wish, first_byte_timeout: wish, between_bytes_timeout: wish };
        let found = Timeouts::clamped(Some(options));
        let expect = Timeouts {
            connect: Duration::from_secs(connect),
            head: Duration::from_secs(connect + between),
            between: Duration::from_secs(between),
        };
        assert_eq!(found, expect, "{wish:?}");
    }
    check(None, 10, 60);
    check(Some(0), 10, 60);
    check(Some(3), 3, 3);
    check(Some(100_000), 60, 600);
}

#[tokio::test]
async fn a_connection_is_used_again_only_by_the_same_rule() {
    let server = Server::start(None, |_| ok("hello")).await;
    let port = server.port;
    let rule = |path: &str, private: Value| json!({"scheme": "http", "host": "a.example", "port": port, "methods": ["GET"], "paths": [path], "private": private});
    let grant = json!([rule("/a", json!(true)), rule("/b", json!(true))]);
    let ceiling = json!([rule("/", json!(["127.0.0.0/8"]))]);
    let mut run = Run::new(Setup { grant: grant.clone(), ceiling: ceiling.clone(), ..Setup::default() });
    for (path, connections) in [("/a", 1), ("/a/x", 1), ("/b", 2), ("/a", 2), ("/b", 2)] {
        let response = run.get(&format!("http://a.example:{port}{path}")).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "hello");
        assert_eq!(server.hits(), connections, "{path}");
    }
    // A connection that the server closed meanwhile is replaced, and the request sent once.
    let request = Request::get(format!("http://a.example:{port}/a")).header("x-close", "1");
    text(run.send(request, "").await.unwrap()).await.unwrap();
    let before = server.requests().len();
    text(run.get(&format!("http://a.example:{port}/a")).await.unwrap()).await.unwrap();
    assert_eq!(server.requests().len(), before + 1);
    let mut other = Run::new(Setup { grant, ceiling, ..Setup::default() });
    let before = server.hits();
    text(other.get(&format!("http://a.example:{port}/a")).await.unwrap()).await.unwrap();
    assert_eq!(server.hits(), before + 1, "another run shares nothing");
}

/// A proxy that takes `CONNECT` to one name, and says what it was asked.
async fn proxy(target: u16) -> (u16, Arc<Mutex<Vec<String>>>, JoinSet<()>) {
    let (listener, port) = listener().await;
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (record, mut tasks) = (asked.clone(), JoinSet::new());
    tasks.spawn(async move {
        let mut tunnels = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream: BoxConnection = Box::new(stream);
            let Some(request) = read_request(&mut stream).await else { continue };
            record.lock().unwrap().push(request);
            let mut upstream = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tunnels.spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
            });
        }
    });
    (port, asked, tasks)
}

#[tokio::test]
async fn a_rule_goes_through_the_proxy_where_the_owner_says_so() {
    let tls = authority(&["a.example"]);
    let server = Server::start(Some(&tls), |_| ok("hello")).await;
    let (port, asked, _tasks) = proxy(server.port).await;
    let (grant, ceiling) = rules(
        443,
        json!({"scheme": "https"}),
        json!({"scheme": "https", "via": "proxy", "ca_file": tls.ca_file}),
    );
    let setup = |proxy| Setup {
        names: &[],
        grant: grant.clone(),
        ceiling: ceiling.clone(),
        proxy,
        ..Setup::default()
    };
    let mut run = Run::new(setup(Some(port)));
    let response = run.get("https://a.example/v1").await.unwrap();
    assert_eq!(text(response).await.unwrap(), "hello");
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n"), "{asked:?}");
    assert!(asked[0].contains("Proxy-Authorization: Basic bWU6cHc=\r\n"), "{asked:?}");
    assert_eq!(run.lookup.asked.load(Ordering::SeqCst), 0, "the proxy resolves the name");
    let mut without = Run::new(setup(None));
    assert_eq!(without.get("https://a.example/v1").await.unwrap_err(), "ConfigurationError");
    let denial = without.denial();
    assert!(denial.contains("proxy = "), "{denial}");
    // A proxy that lets nothing through: the guest learns that it did not work, the operator why.
    let refusing =
        Server::start(None, |_| b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let mut refused = Run::new(setup(Some(refusing.port)));
    assert_eq!(refused.get("https://a.example/v1").await.unwrap_err(), "DestinationUnavailable");
    let denial = refused.denial();
    assert!(denial.contains("answers 403") && denial.contains("proxy's owner"), "{denial}");
}
