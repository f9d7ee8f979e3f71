//! Credentials: added by the runner where a rule says so, and seen by nobody else.

use super::*;

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
