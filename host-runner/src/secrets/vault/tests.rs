//! The provider against a Vault: recorded answers over TLS on loopback, or a live server.
//!
//! With `REMIT_TEST_VAULT=https://host:port`, `REMIT_TEST_VAULT_CA=<file>` and `REMIT_TEST_VAULT_TOKEN=<root token>` set,
//! the stories below run against that server: they enable an engine and a login of their own, under a name that begins with
//! `remit-test-`, and take them away again. What cannot be had of a live server in passing (a sealed one, one inside
//! Kubernetes) is tested against recorded answers in both cases.

use std::{
    collections::HashMap,
    sync::{Mutex as Lock, OnceLock},
};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::*;
use crate::dial::{
    BoxConnection,
    tests::{Authority, Scripted, authority, dialer, listener},
    tls::Trust,
};

#[derive(Deserialize)]
struct Fixture {
    status: u16,
    body: Value,
}

fn fixture(name: &str, change: impl FnOnce(&mut Value)) -> (u16, String) {
    let text = match name {
        "read" => include_str!("fixtures/read.json"),
        "deleted" => include_str!("fixtures/deleted.json"),
        "destroyed" => include_str!("fixtures/destroyed.json"),
        "absent" => include_str!("fixtures/absent.json"),
        "no-engine" => include_str!("fixtures/no-engine.json"),
        "denied" => include_str!("fixtures/denied.json"),
        "invalid-token" => include_str!("fixtures/invalid-token.json"),
        "sealed" => include_str!("fixtures/sealed.json"),
        "lookup-self" => include_str!("fixtures/lookup-self.json"),
        "renew-self" => include_str!("fixtures/renew-self.json"),
        "approle-login" => include_str!("fixtures/approle-login.json"),
        "approle-refused" => include_str!("fixtures/approle-refused.json"),
        "kubernetes-login" => include_str!("fixtures/kubernetes-login.json"),
        other => panic!("no fixture {other}"),
    };
    let Fixture { status, mut body } = serde_json::from_str(text).unwrap();
    change(&mut body);
    (status, body.to_string())
}

/// A request as the server saw it.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    head: String,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

type Answers = Arc<Lock<HashMap<String, (u16, String)>>>;

/// A server on loopback that gives recorded answers: by request line, and by token where one is said.
struct Recorded {
    address: String,
    authority: Authority,
    answers: Answers,
    seen: Arc<Lock<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Recorded {
    async fn start() -> Self {
        let authority = authority(&["localhost"]);
        let (listener, port) = listener().await;
        let acceptor = tokio_rustls::TlsAcceptor::from(authority.server.clone());
        let (answers, seen): (Answers, Arc<Lock<Vec<Seen>>>) = Default::default();
        let (known, requests) = (answers.clone(), seen.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                converse(Box::new(stream), &known, &requests).await;
            }
        });
        let address = format!("https://localhost:{port}");
        Self { address, authority, answers, seen, _tasks: tasks }
    }

    /// `line` is answered so from now on, for the token after `#` only if there is one.
    fn answer(&self, line: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.answers.lock().unwrap().insert(line.to_owned(), fixture(name, change));
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

async fn converse(mut stream: BoxConnection, answers: &Answers, seen: &Lock<Vec<Seen>>) {
    let mut bytes = Vec::new();
    let request = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break Seen {
                    line: head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned(),
                    head: head.to_owned(),
                    body: body.to_owned(),
                };
            }
        }
        let Ok(byte) = stream.read_u8().await else { return };
        bytes.push(byte);
    };
    let (status, body) = {
        let known = answers.lock().unwrap();
        let with_token = format!("{} #{}", request.line, request.header("x-vault-token").unwrap_or_default());
        known
            .get(&with_token)
            .or(known.get(&request.line))
            .cloned()
            .unwrap_or_else(|| fixture("denied", |_| ()))
    };
    seen.lock().unwrap().push(request);
    let head = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A live server, with a root token.
struct Live {
    address: String,
    ca_file: PathBuf,
    name: String,
    root: Call,
    token: String,
}

#[expect(clippy::disallowed_methods, reason = "the switch of these tests for a live server")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Live {
    fn named() -> Option<Self> {
        let address = variable("REMIT_TEST_VAULT")?;
        let ca_file: PathBuf = variable("REMIT_TEST_VAULT_CA").expect("REMIT_TEST_VAULT_CA").into();
        let token = variable("REMIT_TEST_VAULT_TOKEN").expect("REMIT_TEST_VAULT_TOKEN");
        let name = format!("remit-test-{:x}", u32::from_le_bytes(crate::clock::random()));
        let settings = settings(&address, &ca_file, json!({"method": "token", "token_file": "/nowhere"}));
        let root = Call::new(system_dialer(), &settings);
        Some(Self { address, ca_file, name, root, token })
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let body = Zeroizing::new(body.to_string().into_bytes());
        let (status, body) = self.root.post(path, Some(&self.token), body).await.unwrap();
        assert!(status < 300, "{path}: {status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap_or_default()
    }
}

/// A Vault in which a test changes things.
enum World {
    Recorded(Box<Recorded>),
    Live(Box<Live>),
}

/// What the secret `prod/token` of a world is.
enum Holding<'a> {
    Value(&'a str),
    Deleted,
    Destroyed,
}

impl World {
    async fn start() -> Self {
        match Live::named() {
            None => Self::Recorded(Box::new(Recorded::start().await)),
            Some(live) => {
                let (engine, policy) = (&live.name, format!("/v1/sys/policies/acl/{}", live.name));
                live.post(
                    &format!("/v1/sys/mounts/{engine}"),
                    json!({"type": "kv", "options": {"version": "2"}}),
                )
                .await;
                let rule = format!("path \"{engine}/data/prod/*\" {{ capabilities = [\"read\"] }}");
                live.post(&policy, json!({"policy": rule})).await;
                Self::Live(Box::new(live))
            }
        }
    }

    fn settings(&self, auth: Value) -> Settings {
        match self {
            Self::Recorded(server) => settings(&server.address, &server.authority.ca_file, auth),
            Self::Live(live) => {
                Settings { engine: Place::new(&live.name), ..settings(&live.address, &live.ca_file, auth) }
            }
        }
    }

    async fn hold(&self, holding: Holding<'_>) {
        match (self, holding) {
            (Self::Recorded(server), holding) => {
                let line = "GET /v1/secret/data/prod/token";
                match holding {
                    Holding::Value(text) => {
                        server.answer(line, "read", |body| body["data"]["data"]["value"] = json!(text));
                    }
                    Holding::Deleted => server.answer(line, "deleted", |_| ()),
                    Holding::Destroyed => server.answer(line, "destroyed", |_| ()),
                }
            }
            (Self::Live(live), holding) => {
                let (engine, versions) = (&live.name, json!({"versions": [1, 2]}));
                match holding {
                    Holding::Value(text) => {
                        let fields = json!({"value": text, "note": "for people", "number": 12_345_678});
                        live.post(&format!("/v1/{engine}/data/prod/token"), json!({"data": fields})).await;
                    }
                    Holding::Deleted => {
                        live.post(&format!("/v1/{engine}/delete/prod/token"), versions).await;
                    }
                    Holding::Destroyed => {
                        live.post(&format!("/v1/{engine}/destroy/prod/token"), versions).await;
                    }
                }
            }
        }
    }

    /// A login by role: its id, and the text of a secret id.
    async fn approle(&self, token: &str) -> (String, String) {
        match self {
            Self::Recorded(server) => {
                server.answer("POST /v1/auth/approle/login", "approle-login", |body| {
                    body["auth"]["client_token"] = json!(token);
                });
                ("role-1".to_owned(), "secret-id-1".to_owned())
            }
            Self::Live(live) => {
                let at = &live.name;
                live.post(&format!("/v1/sys/auth/{at}"), json!({"type": "approle"})).await;
                let role = format!("/v1/auth/{at}/role/remit");
                live.post(&role, json!({"token_policies": [at], "token_ttl": "20m"})).await;
                let (_, id) = live.root.get(&format!("{role}/role-id"), &live.token).await.unwrap();
                let id: Value = serde_json::from_slice(&id).unwrap();
                let secret = live.post(&format!("{role}/secret-id"), json!({})).await;
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (text(&id["data"]["role_id"]), text(&secret["data"]["secret_id"]))
            }
        }
    }

    fn login_path(&self) -> &str {
        match self {
            Self::Recorded(_) => "approle",
            Self::Live(live) => &live.name,
        }
    }

    /// A token that may read.
    async fn token(&self) -> String {
        match self {
            Self::Recorded(server) => {
                server.answer("GET /v1/auth/token/lookup-self", "lookup-self", |_| ());
                "hvs.of-the-owner".to_owned()
            }
            Self::Live(live) => {
                let made = live.post("/v1/auth/token/create", json!({"policies": [live.name]})).await;
                made["auth"]["client_token"].as_str().unwrap().to_owned()
            }
        }
    }

    async fn end(self) {
        if let Self::Live(live) = self {
            for path in ["mounts", "auth", "policies/acl"] {
                let path = format!("/v1/sys/{path}/{}", live.name);
                let _ = live.root.call(Method::DELETE, &path, Some(&live.token), Zeroizing::default()).await;
            }
        }
    }
}

use http::Method;

fn settings(address: &str, ca_file: &std::path::Path, auth: Value) -> Settings {
    serde_json::from_value(
        json!({"mount": "keys/prod", "address": address, "ca_file": ca_file, "auth": auth}),
    )
    .unwrap()
}

fn system_dialer() -> Arc<Dialer> {
    Arc::new(dialer(Arc::new(crate::dial::resolve::System), Trust::untrusting()))
}

fn vault(settings: Settings) -> Vault {
    let loopback = Scripted::new(&[("localhost", &[&["127.0.0.1"]])]);
    let live = LIVE.get_or_init(|| variable("REMIT_TEST_VAULT").is_some());
    let dialer = if *live { system_dialer() } else { Arc::new(dialer(loopback, Trust::untrusting())) };
    Vault::new(settings, dialer)
}

static LIVE: OnceLock<bool> = OnceLock::new();

async fn value(vault: &Vault, path: &str) -> Result<String, String> {
    let found = vault.resolve(&SecretPath::new(path).unwrap()).await;
    found.map(|value| String::from_utf8(value.expose().to_vec()).unwrap()).map_err(|error| error.to_string())
}

async fn refused(vault: &Vault, path: &str, expect: &str) {
    let error = value(vault, path).await.unwrap_err();
    assert!(error.contains(expect), "{path}: {error}");
}

#[tokio::test]
async fn a_role_reads_what_is_there_and_is_told_what_is_not() {
    let world = World::start().await;
    let (role_id, secret_id) = world.approle("hvs.of-the-role").await;
    let folder = tempfile::tempdir().unwrap();
    let secret_id_file = folder.path().join("secret-id");
    std::fs::write(&secret_id_file, format!("{secret_id}\n")).unwrap();
    let auth = json!({"method": "approle", "role_id": role_id, "secret_id_file": secret_id_file, "path": world.login_path()});
    let reader = vault(world.settings(auth.clone()));
    world.hold(Holding::Value("the first value")).await;
    assert_eq!(value(&reader, "keys/prod/token").await.unwrap(), "the first value");
    // Rotated: seen at the next call, by the same session.
    world.hold(Holding::Value("the second value")).await;
    assert_eq!(value(&reader, "keys/prod/token").await.unwrap(), "the second value");
    let by_fields = vault(Settings { names: Names::Fields, ..world.settings(auth.clone()) });
    assert_eq!(value(&by_fields, "keys/prod/token/note").await.unwrap(), "for people");
    refused(&by_fields, "keys/prod/token/absent", "has the fields \"note\", \"number\", \"value\"").await;
    refused(&by_fields, "keys/prod/token/number", "is not a text").await;
    refused(&by_fields, "keys/token", "write keys/SECRET/FIELD").await;
    if let World::Recorded(server) = &world {
        server.answer("GET /v1/secret/data/prod/absent", "absent", |_| ());
    }
    refused(&reader, "keys/prod/absent", "put it there: vault kv put").await;
    refused(&reader, "keys/other/token", "Vault denies it (403)").await;
    world.hold(Holding::Deleted).await;
    refused(&reader, "keys/prod/token", "version 2 was deleted at 20").await;
    world.hold(Holding::Destroyed).await;
    refused(&reader, "keys/prod/token", "was destroyed").await;
    world.end().await;
}

#[tokio::test]
async fn the_owners_token_is_read_anew_when_its_file_changes() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    let reader = vault(world.settings(json!({"method": "token", "token_file": token_file})));
    refused(&reader, "keys/prod/token", "No such file").await;
    world.hold(Holding::Value("the first value")).await;
    std::fs::write(&token_file, world.token().await).unwrap();
    assert_eq!(value(&reader, "keys/prod/token").await.unwrap(), "the first value");
    let second = world.token().await + if matches!(world, World::Recorded(_)) { "-2" } else { "" };
    std::fs::write(&token_file, &second).unwrap();
    assert_eq!(value(&reader, "keys/prod/token").await.unwrap(), "the first value");
    if let World::Recorded(server) = &world {
        let seen = server.seen();
        let tokens = seen.iter().filter_map(|seen| seen.header("x-vault-token")).collect::<Vec<_>>();
        assert_eq!(tokens, ["hvs.of-the-owner", "hvs.of-the-owner", &second, &second]);
    }
    world.end().await;
}

#[tokio::test]
async fn a_pod_logs_in_with_its_service_account() {
    let server = Recorded::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "eyJ.of-the-pod.x\n").unwrap();
    let auth = json!({"method": "kubernetes", "role": "remit", "token_file": token_file});
    let reader = vault(Settings {
        namespace: Some(Place::new("ops/eu")),
        ..settings(&server.address, &server.authority.ca_file, auth)
    });
    server.answer("POST /v1/auth/kubernetes/login", "kubernetes-login", |_| ());
    server.answer("GET /v1/secret/data/prod/token #TOKEN", "read", |_| ());
    // Shorter than a secret may be.
    refused(&reader, "keys/prod/token", "it has 5 bytes").await;
    let seen = server.seen();
    assert_eq!(seen[0].line, "POST /v1/auth/kubernetes/login");
    assert_eq!(seen[0].header("x-vault-token"), None);
    let sent: Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!(sent, json!({"role": "remit", "jwt": "eyJ.of-the-pod.x"}));
    for request in &seen {
        assert_eq!(request.header("x-vault-namespace"), Some("ops/eu"));
        assert_eq!(request.header("x-vault-request"), Some("true"));
    }
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_once() {
    let server = Recorded::start().await;
    let folder = tempfile::tempdir().unwrap();
    let secret_id_file = folder.path().join("id");
    std::fs::write(&secret_id_file, "secret-id-1").unwrap();
    let auth = json!({"method": "approle", "role_id": "role-1", "secret_id_file": secret_id_file});
    let reader = vault(settings(&server.address, &server.authority.ca_file, auth));
    let read = "GET /v1/secret/data/prod/token";
    let login = |token: &'static str| {
        server.answer("POST /v1/auth/approle/login", "approle-login", |body| {
            body["auth"]["client_token"] = json!(token);
        });
    };
    login("first");
    server.answer(read, "invalid-token", |_| ());
    server.answer(&format!("{read} #first"), "read", |body| {
        body["data"]["data"]["value"] = json!("of the first");
    });
    assert_eq!(value(&reader, "keys/prod/token").await.unwrap(), "of the first");
    // Revoked, and another one can be had.
    server.answer(&format!("{read} #first"), "invalid-token", |_| ());
    server.answer(&format!("{read} #second"), "read", |body| {
        body["data"]["data"]["value"] = json!("of the second");
    });
    login("second");
    server.seen();
    assert_eq!(value(&reader, "keys/prod/token").await.unwrap(), "of the second");
    let (get, post) = (read.to_owned(), "POST /v1/auth/approle/login".to_owned());
    assert_eq!(server.lines(), [get.clone(), post.clone(), get.clone()]);
    // Another one does not help: it ends after one try.
    server.answer(&format!("{read} #second"), "invalid-token", |_| ());
    refused(&reader, "keys/prod/token", "let a policy of it give path \"secret/data/prod/token\"").await;
    assert_eq!(server.lines(), [get.clone(), post, get.clone()]);
    // What is denied for lack of a right does not make a login each time.
    server.answer(&format!("{read} #second"), "denied", |_| ());
    refused(&reader, "keys/prod/token", "Vault denies it").await;
    assert_eq!(server.lines(), [get]);
}

#[tokio::test]
async fn each_obstacle_is_named_with_its_remedy() {
    let server = Recorded::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("id");
    std::fs::write(&file, "secret-id-1").unwrap();
    let auth = json!({"method": "approle", "role_id": "role-1", "secret_id_file": file});
    let ours = settings(&server.address, &server.authority.ca_file, auth);
    let check = async |login: &str, read: &str, engine: &str, expect: &str| {
        server.answer("POST /v1/auth/approle/login", login, |_| ());
        server.answer(&format!("GET /v1/{engine}/data/prod/token"), read, |_| ());
        let settings = Settings { engine: Place::new(engine), ..ours.clone() };
        refused(&vault(settings), "keys/prod/token", expect).await;
    };
    check("approle-refused", "read", "secret", "invalid role or secret ID; correct `auth`").await;
    check("denied", "read", "secret", "Vault denies the login (403)").await;
    check("absent", "read", "secret", "Vault has no login at auth/approle").await;
    check("sealed", "read", "secret", "Vault is sealed: unseal it").await;
    check("approle-login", "sealed", "secret", "Vault is sealed: unseal it").await;
    check("approle-login", "no-engine", "nowhere", "there is no key-value engine at \"nowhere\"").await;
    check("approle-login", "approle-login", "secret", "not that of a key-value engine").await;
    check("read", "read", "secret", "is not that of a login").await;
    let stranger = authority(&["localhost"]);
    let settings = Settings { ca_file: Some(stranger.ca_file.clone()), ..ours.clone() };
    refused(&vault(settings), "keys/prod/token", "certificate of localhost is not acceptable").await;
}

#[tokio::test]
async fn a_token_is_renewed_while_it_lives() {
    let server = Recorded::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "hvs.of-the-owner").unwrap();
    let ours = settings(
        &server.address,
        &server.authority.ca_file,
        json!({"method": "token", "token_file": token_file}),
    );
    let reader = vault(ours.clone());
    // A life of so little that it is over two thirds at the next look.
    server.answer("GET /v1/auth/token/lookup-self", "lookup-self", |body| body["data"]["ttl"] = json!(3600));
    server.answer("POST /v1/auth/token/renew-self", "renew-self", |_| ());
    server.answer("GET /v1/secret/data/prod/token", "read", |body| {
        body["data"]["data"]["value"] = json!("long enough");
    });
    value(&reader, "keys/prod/token").await.unwrap();
    reader.session.lock().await.as_mut().unwrap().age(Duration::from_secs(2500));
    value(&reader, "keys/prod/token").await.unwrap();
    value(&reader, "keys/prod/token").await.unwrap();
    let lines = server.lines();
    let expect = ["lookup-self", "data/prod/token", "renew-self", "data/prod/token", "data/prod/token"];
    assert!(
        lines.len() == expect.len() && lines.iter().zip(expect).all(|(line, end)| line.ends_with(end)),
        "{lines:?}"
    );
    // It is not renewed for ever: close to its end it is looked at anew.
    reader.session.lock().await.as_mut().unwrap().age(Duration::from_secs(2_764_700));
    value(&reader, "keys/prod/token").await.unwrap();
    assert!(server.lines()[0].ends_with("lookup-self"));
}

#[test]
fn addresses_and_places_are_read_strictly() {
    fn check(text: &str, expect: Option<&str>) {
        let found = text.parse::<Address>().ok().map(|address| address.to_string());
        assert_eq!(found.as_deref(), expect, "{text}");
    }
    check("https://vault.example", Some("https://vault.example:443"));
    check("https://Vault.example:8200/", Some("https://vault.example:8200"));
    check("https://[::1]:8200", Some("https://[::1]:8200"));
    check("http://vault.example", None);
    check("https://vault.example/v1", None);
    check("https://me@vault.example", None);
    for (text, sound) in
        [("secret", true), ("team/kv", true), ("", false), ("/secret", false), ("a/../b", false)]
    {
        assert_eq!(Place::try_from(text.to_owned()).is_ok(), sound, "{text}");
    }
}
