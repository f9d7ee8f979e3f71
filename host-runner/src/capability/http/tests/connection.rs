//! Connections: how long they are waited for, who may use one again, and the way through the proxy.

use tokio::net::TcpStream;

use super::*;

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
