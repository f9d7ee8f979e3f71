//! The door against real listeners on loopback. Each refusal asserts that nobody connected, and has a twin that passes.

mod connection;
mod credential;
mod endpoint;

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
