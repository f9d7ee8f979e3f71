//! Requests over HTTP leave as all three sides say: where names lead, how hosts and paths are spelled, what belongs to the
//! connection, and the credentials that only the runner adds.

use anyhow::Result;
use remit_protocol::capability::Ceiling;
use serde_json::{Value, json};

use super::{
    World,
    bench::Setup,
    table::{LOOPBACK, Table, Try, names},
};

/// A rule for a host of the plain service, changed by `more`.
fn rule(port: u16, more: &Value) -> Value {
    let mut rule = json!({"scheme": "http", "host": "a.example", "port": port, "methods": ["GET", "POST"], "paths": ["/"]});
    for (name, value) in more.as_object().into_iter().flatten() {
        rule[name] = value.clone();
    }
    rule
}

fn http(grants: Value, ceilings: Value, list: &[(&str, &[&[&str]])]) -> Result<Setup> {
    Ok(Setup {
        guest: "http".to_owned(),
        requests: r#"{"http":[{"host":"granted"}]}"#.to_owned(),
        grant: json!({ "http": grants }).to_string(),
        ceiling: Ceiling { http: serde_json::from_value(ceilings)?, ..Ceiling::default() },
        names: names(list)?,
        ..Setup::default()
    })
}

/// `a.example` over TLS, with a credential on everything below `/` but `/open`.
pub(super) fn encrypted(world: &World, port: u16) -> Result<Setup> {
    let ca_file = &world.ca_file;
    let secret = json!({"name": "token", "use": "bearer"});
    let base = json!({"scheme": "https", "private": true});
    let with = |more: Value| {
        let mut merged = base.clone();
        more.as_object().into_iter().flatten().for_each(|(name, value)| merged[name] = value.clone());
        rule(port, &merged)
    };
    let grants = json!([with(json!({"secret": secret})), with(json!({"paths": ["/open"]}))]);
    let ceilings =
        json!([rule(port, &json!({"scheme": "https", "private": ["127.0.0.0/8"], "ca_file": ca_file}))]);
    let mut setup = http(grants, ceilings, LOOPBACK)?;
    let place = format!("a.example:{port}");
    setup.ceiling.secrets =
        serde_json::from_value(json!([{"path": "keys/test/token", "use": "bearer", "hosts": [place]}]))?;
    Ok(setup)
}

impl Table<'_> {
    /// `a.example` on the plain service, permitted by all three sides.
    pub(super) fn open(&self) -> Result<Setup> {
        let port = self.plain();
        http(
            json!([rule(port, &json!({"private": true}))]),
            json!([rule(port, &json!({"private": ["127.0.0.0/8"]}))]),
            LOOPBACK,
        )
    }

    pub(super) fn get(&self, path: &str) -> String {
        format!("GET http a.example:{} {path}", self.plain())
    }

    /// What is permitted and works.
    pub(super) fn works(&self) -> Result<Try> {
        Ok(Try::new(self.open()?, &self.get("/v1"), "succeeded", "200 host=a.example").on(1))
    }

    /// Nothing is reached that was not given.
    pub(super) fn reach(&mut self) -> Result<()> {
        let none = Setup { grant: "{}".to_owned(), ..self.open()? };
        let refused = Try::new(none, &self.get("/v1"), "refused(E_GRANT)", "grant:").on(0);
        self.add(1, "calls over HTTP without any rule", refused, self.works()?);
        let elsewhere = self.get("/v1").replace("a.example", "b.example");
        let denied = Try::new(self.open()?, &elsewhere, "failed", "HttpRequestDenied").on(0);
        self.add(1, "calls a host that no rule names", denied, self.works()?);
        let sockets = Setup { guest: "sockets".to_owned(), ..Setup::default() };
        let act = format!("127.0.0.1:{}", self.plain());
        let twin = Try::new(Setup::default(), "nothing", "succeeded", "");
        self.add(
            1,
            "brings sockets and a resolver of its own",
            Try::new(sockets, &act, "not-loaded", "wasi:sockets").on(0),
            twin,
        );
        for (what, change) in [("DELETE", "GET"), ("PUT", "GET")] {
            let act = self.get("/v1").replace(change, what);
            let denied = Try::new(self.open()?, &act, "failed", "HttpRequestDenied").on(0);
            self.add(1, &format!("uses the method {what} that no rule names"), denied, self.works()?);
        }
        Ok(())
    }

    /// Where names lead.
    pub(super) fn addresses(&mut self) -> Result<()> {
        let port = self.plain();
        let (private, ranges) = (json!({"private": true}), json!({"private": ["127.0.0.0/8"]}));
        let setup = |grant: &Value, ceiling: &Value, answers: &[&[&str]]| {
            http(json!([rule(port, grant)]), json!([rule(port, ceiling)]), &[("a.example", answers)])
        };
        let home: &[&[&str]] = &[&["127.0.0.1"]];
        let mut deny = |threat, name: &str, setup: Setup| -> Result<()> {
            let denied = Try::new(setup, &self.get("/v1"), "failed", "DestinationIpProhibited").on(0);
            let works = self.works()?;
            self.add(threat, name, denied, works);
            Ok(())
        };
        deny(
            2,
            "reaches a private address that the ceiling does not name",
            setup(&private, &json!({}), home)?,
        )?;
        deny(2, "reaches a private address that the job did not ask for", setup(&json!({}), &ranges, home)?)?;
        deny(
            2,
            "hides a private address among public ones",
            setup(&private, &ranges, &[&["1.1.1.1", "127.0.0.1"]])?,
        )?;
        deny(2, "lets a name lead to another private range", setup(&private, &ranges, &[&["10.9.9.9"]])?)?;
        deny(
            2,
            "lets a name lead elsewhere at first",
            setup(&private, &ranges, &[&["169.254.169.254"], &["127.0.0.1"]])?,
        )?;
        let everything = json!({"private": ["0.0.0.0/0", "::/0"]});
        for (name, address) in [
            ("metadata", "169.254.169.254"),
            ("metadata of containers", "169.254.170.2"),
            ("metadata at a public address", "168.63.129.16"),
            ("metadata over IPv6", "fd00:ec2::254"),
            ("metadata as a mapped address", "::ffff:169.254.169.254"),
            ("metadata behind NAT64", "64:ff9b::a9fe:a9fe"),
            ("metadata behind 6to4", "2002:a9fe:a9fe::1"),
            ("the unspecified address", "0.0.0.0"),
            ("broadcast", "255.255.255.255"),
        ] {
            let answers: &[&[&str]] = &[&[address]];
            deny(
                3,
                &format!("reaches {name}, permitted by everybody"),
                setup(&private, &everything, answers)?,
            )?;
        }
        for (name, host) in [("by its name", "a.example"), ("by another name", "127.0.0.1")] {
            let at = |port| {
                Ok::<_, anyhow::Error>(Setup { orchestrator: (host.to_owned(), port), ..self.open()? })
            };
            let denied = Try::new(at(port)?, &self.get("/v1"), "failed", "HttpRequestDenied").on(0);
            let twin = Try::new(at(port.wrapping_add(1))?, &self.get("/v1"), "succeeded", "200").on(1);
            self.add(3, &format!("calls the runner's own orchestrator {name}"), denied, twin);
        }
        // Once is asked, and what was judged is dialled.
        let flips = setup(&private, &ranges, &[&["127.0.0.1"], &["169.254.169.254"]])?;
        let (attack, twin) = (
            Try::new(flips.clone(), &self.get("/v1"), "succeeded", "200").on(1),
            Try::new(flips, &self.get("/v1"), "succeeded", "200").on(1),
        );
        self.add(2, "lets a name lead elsewhere at the second question, which is never asked", attack, twin);
        for (name, place) in
            [("metadata", "/metadata"), ("a name that no rule has, at the same address", "/elsewhere")]
        {
            let followed =
                Try::new(self.open()?, &self.get(&format!("{place} follow")), "failed", "HttpRequest").on(1);
            let twin = Try::new(self.open()?, &self.get("/home follow"), "succeeded", "200 host=a.example");
            self.add(4, &format!("follows a redirect to {name}"), followed, twin);
        }
        Ok(())
    }

    /// One reading of an address.
    pub(super) fn spelling(&mut self) -> Result<()> {
        let port = self.plain();
        for (threat, name, authority) in [
            (3, "a literal address", format!("127.0.0.1:{port}")),
            (3, "a literal address of IPv6", format!("[::1]:{port}")),
            (3, "a mapped literal address", "[::ffff:a9fe:a9fe]".to_owned()),
            (3, "an address in hexadecimal", "0xa9fea9fe".to_owned()),
            (3, "an address in decimal", "2852039166".to_owned()),
            (3, "an address in octal", "0251.0376.0251.0376".to_owned()),
            (3, "a shortened address", format!("127.1:{port}")),
            (5, "a user before the host", format!("b.example@a.example:{port}")),
            (5, "a trailing dot", format!("a.example.:{port}")),
            (5, "upper case", format!("A.example:{port}")),
            (5, "no port after the colon", "a.example:".to_owned()),
            (5, "a port beyond the last one", "a.example:99999".to_owned()),
            (5, "a port with a leading zero", format!("a.example:0{port}")),
            (5, "letters beyond ASCII", format!("ä.example:{port}")),
            (5, "two ports", format!("a.example:{port}:{port}")),
        ] {
            let act = format!("GET http {authority} /v1");
            let refused = Try::new(self.open()?, &act, "failed", "").on(0);
            let twin = self.works()?;
            self.add(threat, &format!("names its host by {name}"), refused, twin);
        }
        for (name, act) in [
            ("an absolute address as path", format!("GET http a.example:{port} http://b.example/")),
            ("another scheme", format!("GET ftp a.example:{port} /v1")),
            ("a backslash", self.get("/v1\\admin")),
            ("a line break in a path", self.get("/v1%0d%0ahost:b")),
        ] {
            // An encoded line break stays encoded: it is one path, and nobody's line.
            let encoded = act.contains("%0d");
            let (outcome, says, hits) =
                if encoded { ("succeeded", "host=a.example", 1) } else { ("failed", "", 0) };
            let tried = Try::new(self.open()?, &act, outcome, says).on(hits);
            let twin = self.works()?;
            self.add(5, &format!("sends {name}"), tried, twin);
        }
        Ok(())
    }

    /// What belongs to the connection is the host's.
    pub(super) fn connection(&mut self) -> Result<()> {
        let port = self.plain();
        for (threat, header) in [
            (6, "host=b.example"),
            (7, "transfer-encoding=chunked"),
            (28, "upgrade=websocket"),
            (28, "connection=upgrade"),
            (28, "http2-settings=x"),
            (28, "te=trailers"),
            (28, "expect=100-continue"),
            (28, "proxy-authorization=x"),
        ] {
            let refused = Try::new(self.open()?, &self.get(&format!("/v1 {header}")), "failed", "").on(0);
            let twin = Try::new(self.open()?, &self.get("/v1 x-any=x"), "succeeded", "200").on(1);
            self.add(
                threat,
                &format!("sets the header {}", header.split('=').next().unwrap_or_default()),
                refused,
                twin,
            );
        }
        for method in ["CONNECT", "TRACE", "PRI", "get"] {
            let act = format!("{method} http a.example:{port} /v1");
            let refused = Try::new(self.open()?, &act, "failed", "").on(0);
            let twin = self.works()?;
            self.add(28, &format!("uses the method {method}"), refused, twin);
        }
        let upgraded = Try::new(self.open()?, &self.get("/upgrade"), "failed", "HttpUpgradeFailed");
        let twin = self.works()?;
        self.add(28, "is answered by a change of protocol", upgraded, twin);
        let post = |extra: &str| format!("POST http a.example:{port} /v1 body:x {extra}");
        for trailer in ["x-a=b", "host=b.example", "authorization=x"] {
            let act = post(&format!("trailer:{trailer}"));
            let refused = Try::new(self.open()?, &act, "failed", "");
            let twin = Try::new(self.open()?, post("").trim_end(), "succeeded", "200");
            self.add(
                7,
                &format!("sends {} after the body", trailer.split('=').next().unwrap_or_default()),
                refused,
                twin,
            );
        }
        let wrong = Try::new(self.open()?, &post("content-length=5"), "failed", "");
        let twin = Try::new(self.open()?, &post("content-length=1"), "succeeded", "200");
        self.add(7, "sends a body of another length than it says", wrong, twin);
        let split = Try::new(self.open()?, &self.get("/split"), "failed", "");
        let twin = self.works()?;
        self.add(7, "is answered with two lengths", split, twin);
        let (attack, twin) =
            (self.encrypted(self.world.other.port())?, self.encrypted(self.world.encrypted.port())?);
        let get = |port: u16| format!("GET https a.example:{port} /v1");
        self.add(
            6,
            "is answered by a server that cannot prove the name",
            Try::new(attack, &get(self.world.other.port()), "failed", "TlsCertificateError"),
            Try::new(twin, &get(self.world.encrypted.port()), "succeeded", "credential=true"),
        );
        Ok(())
    }

    pub(super) fn encrypted(&self, port: u16) -> Result<Setup> {
        encrypted(self.world, port)
    }

    /// What the runner adds is the runner's.
    pub(super) fn credentials(&mut self) -> Result<()> {
        let port = self.world.encrypted.port();
        let get = |path: &str| format!("GET https a.example:{port} {path}");
        let twin = Try::new(self.encrypted(port)?, &get("/v1"), "succeeded", "credential=true").on(1);
        for header in ["authorization", "cookie", "x-api-key"] {
            let act = get(&format!("/v1 {header}=mine"));
            let refused = Try::new(self.encrypted(port)?, &act, "failed", "HttpRequestDenied").on(0);
            self.add(8, &format!("sets {header} beside the runner's credential"), refused, twin.clone());
        }
        for path in ["/echo", "/base64", "/chunks"] {
            let echoed =
                Try::new(self.encrypted(port)?, &get(path), "succeeded", "[redacted:keys/test/token]").on(1);
            self.add(9, &format!("lets the server repeat the credential ({path})"), echoed, twin.clone());
        }
        let other = Try::new(self.encrypted(port)?, &get("/open"), "succeeded", "credential=false").on(1);
        self.add(10, "uses the credential of another rule", other, twin);
        Ok(())
    }

    /// Hosts by label, paths by segment.
    pub(super) fn patterns(&mut self) -> Result<()> {
        let port = self.plain();
        let inside: &[&[&str]] = &[&["127.0.0.1"]];
        let hosts = ["a.b.example", "x.a.b.example", "b.example", "evil-b.example", "a.b.example.evil"];
        let known: Vec<_> = hosts.iter().map(|host| (*host, inside)).collect();
        let wild = |private: Value| rule(port, &json!({"host": "*.b.example", "private": private}));
        let setup = http(json!([wild(json!(true))]), json!([wild(json!(["127.0.0.0/8"]))]), &known)?;
        let get = |host: &str| format!("GET http {host}:{port} /v1");
        let twin = Try::new(setup.clone(), &get("a.b.example"), "succeeded", "host=a.b.example").on(1);
        for host in &hosts[1..] {
            let denied = Try::new(setup.clone(), &get(host), "failed", "HttpRequestDenied").on(0);
            self.add(12, &format!("takes {host} for *.b.example"), denied, twin.clone());
        }
        let labels = Try::new(setup, &get("c2vjcmv0.bgvhaw.b.example"), "failed", "HttpRequestDenied").on(0);
        self.add(14, "writes data into the labels of a name", labels, twin);
        let below = |private: Value| rule(port, &json!({"paths": ["/v1"], "private": private}));
        let setup = http(json!([below(json!(true))]), json!([below(json!(["127.0.0.0/8"]))]), LOOPBACK)?;
        for path in [
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "//v1",
            "/v1evil",
            "/v1/..;/admin",
            "/v1%2f..%2fadmin",
            "/V1",
        ] {
            let denied = Try::new(setup.clone(), &self.get(path), "failed", "HttpRequest").on(0);
            let twin = Try::new(setup.clone(), &self.get("/v1/x"), "succeeded", "200").on(1);
            self.add(13, &format!("takes {path} for something below /v1"), denied, twin);
        }
        Ok(())
    }
}
