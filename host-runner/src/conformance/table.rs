//! What is tried: each attack with its twin. Numbers are those of the list of threats in `SECURITY.md`.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Result;
use remit_protocol::{
    Size, Span,
    capability::{Ceiling, exec::ExecCeiling},
    limits::{Fuel, LimitsPart},
};
use serde_json::{Value, json};

use super::{
    World,
    bench::{Setup, Tampering},
    deed::Deed,
};

/// An attack and its twin.
pub(super) struct Case {
    pub(super) threat: u8,
    pub(super) name: String,
    pub(super) attack: Try,
    pub(super) twin: Try,
}

/// One thing that a guest does, and how it has to end.
#[derive(Clone)]
pub(super) struct Try {
    pub(super) setup: Setup,
    pub(super) act: String,
    pub(super) outcome: &'static str,
    /// What message, output, log or denial say.
    pub(super) says: String,
    /// How many connections the services see; none: any number.
    pub(super) connections: Option<u32>,
    pub(super) cancelled: bool,
    /// What is done instead of running a guest.
    pub(super) deed: Option<Deed>,
    pub(super) times: u32,
}

impl Try {
    pub(super) fn new(setup: Setup, act: &str, outcome: &'static str, says: &str) -> Self {
        let (act, says) = (act.to_owned(), says.to_owned());
        Self { setup, act, outcome, says, connections: None, cancelled: false, deed: None, times: 1 }
    }

    /// Something that is done to the runner itself.
    pub(super) fn done(deed: Deed, outcome: &'static str, says: &str) -> Self {
        let act = format!("{deed:?}").to_lowercase();
        Self { deed: Some(deed), ..Self::new(Setup::default(), &act, outcome, says) }
    }

    /// The services see so many connections.
    pub(super) fn on(mut self, connections: u32) -> Self {
        self.connections = Some(connections);
        self
    }

    fn cancelled(mut self) -> Self {
        self.cancelled = true;
        self
    }

    fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}

/// The whole table.
pub(super) fn cases(world: &World) -> Result<Vec<Case>> {
    let mut table = Table { world, cases: Vec::new() };
    table.reach()?;
    table.addresses()?;
    table.tcp()?;
    table.endpoints()?;
    table.spelling()?;
    table.connection()?;
    table.credentials()?;
    table.patterns()?;
    table.computing();
    table.floods()?;
    table.files();
    table.tampering();
    table.words();
    table.programs();
    table.house()?;
    Ok(table.cases)
}

pub(super) struct Table<'w> {
    pub(super) world: &'w World,
    cases: Vec<Case>,
}

/// A rule for a host of the plain service, changed by `more`.
fn rule(port: u16, more: &Value) -> Value {
    let mut rule = json!({"scheme": "http", "host": "a.example", "port": port, "methods": ["GET", "POST"], "paths": ["/"]});
    for (name, value) in more.as_object().into_iter().flatten() {
        rule[name] = value.clone();
    }
    rule
}

pub(super) fn names(
    list: &[(&str, &[&[&str]])],
) -> Result<std::collections::HashMap<String, Vec<Vec<IpAddr>>>> {
    let parsed = |answer: &&[&str]| answer.iter().map(|text| Ok(text.parse()?)).collect::<Result<Vec<_>>>();
    list.iter()
        .map(|(name, answers)| Ok(((*name).to_owned(), answers.iter().map(parsed).collect::<Result<_>>()?)))
        .collect()
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

pub(super) const LOOPBACK: &[(&str, &[&[&str]])] =
    &[("a.example", &[&["127.0.0.1"]]), ("b.example", &[&["127.0.0.1"]])];

fn pure(limits: LimitsPart) -> Setup {
    Setup { limits, ..Setup::default() }
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
    pub(super) fn add(&mut self, threat: u8, name: &str, attack: Try, twin: Try) {
        self.cases.push(Case { threat, name: name.to_owned(), attack, twin });
    }

    pub(super) fn plain(&self) -> u16 {
        self.world.plain.port()
    }

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
    fn reach(&mut self) -> Result<()> {
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
    fn addresses(&mut self) -> Result<()> {
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
    fn spelling(&mut self) -> Result<()> {
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
    fn connection(&mut self) -> Result<()> {
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
    fn credentials(&mut self) -> Result<()> {
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
    fn patterns(&mut self) -> Result<()> {
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

    /// Time and memory end.
    fn computing(&mut self) {
        let short = LimitsPart { cpu: Some(Span::from_millis(100)), ..LimitsPart::default() };
        let brief = LimitsPart { wall: Some(Span::from_millis(500)), ..LimitsPart::default() };
        let small = LimitsPart { memory: Some(Size::from_mib(16)), ..LimitsPart::default() };
        let fine = |limits| Try::new(pure(limits), "nothing", "succeeded", "");
        let tried = |limits, act: &str, outcome| Try::new(pure(limits), act, outcome, "");
        self.add(15, "computes without end", tried(short, "loop", "over-limit(cpu)"), fine(short));
        let fuel = LimitsPart { fuel: Some(Fuel::new(10_000_000)), ..LimitsPart::default() };
        self.add(15, "computes beyond its fuel", tried(fuel, "loop", "over-limit(fuel)"), fine(fuel));
        self.add(15, "sleeps for an hour", tried(brief, "sleep 3600000", "timed-out"), fine(brief));
        self.add(
            15,
            "sleeps for an hour and hears nothing",
            tried(brief, "sleep-deaf 3600000", "timed-out"),
            fine(brief),
        );
        let twin = tried(small, "memory 8", "succeeded");
        self.add(16, "takes memory without end", tried(small, "memory 64", "over-limit(memory)"), twin);
        self.add(
            16,
            "calls itself without end",
            tried(LimitsPart::default(), "recurse", "trapped"),
            fine(small),
        );
        let left = Try::new(pure(LimitsPart::default()), "leftovers", "succeeded", "0").times(5);
        self.add(19, "looks for what the run before left in memory", left, fine(LimitsPart::default()));
        let cancelled = |act| tried(LimitsPart::default(), act, "cancelled").cancelled();
        self.add(29, "is cancelled while it computes", cancelled("loop"), fine(LimitsPart::default()));
        self.add(
            29,
            "is cancelled while it sleeps",
            cancelled("sleep-deaf 3600000"),
            fine(LimitsPart::default()),
        );
    }

    /// Much of everything.
    fn floods(&mut self) -> Result<()> {
        let log = LimitsPart { log: Some(Size::from_bytes(10_000)), ..LimitsPart::default() };
        let output = LimitsPart { output: Some(Size::from_bytes(1000)), ..LimitsPart::default() };
        let handles = LimitsPart { handles: Some(100), ..LimitsPart::default() };
        let wide = LimitsPart { log: Some(Size::from_mib(1000)), ..LimitsPart::default() };
        let tried = |limits, act: &str, outcome| Try::new(pure(limits), act, outcome, "");
        let mut flood = |name: &str, limits, act: &str, outcome, twin: &str| {
            self.add(17, name, tried(limits, act, outcome), tried(limits, twin, "succeeded"));
        };
        flood("logs a million lines", log, "log 1000000", "over-limit(log)", "log 100");
        flood("logs one line of 20 kB", log, "log-bytes 20000", "over-limit(log)", "log-bytes 100");
        let lines = LimitsPart { lines: Some(100), ..LimitsPart::default() };
        flood("logs more lines than it may", lines, "log 101", "over-limit(lines)", "log 100");
        flood("prints empty lines without end", log, "print-flood ", "over-limit(log)", "print x");
        flood("returns 9 MB", output, "output 9000000", "over-limit(output)", "output 100");
        flood(
            "holds a million pollables",
            handles,
            "pollables 1000000",
            "over-limit(handles)",
            "pollables 50",
        );
        flood("hands over a text of 30 MB", wide, "huge-text 30000000", "over-limit(call)", "huge-text 1000");
        let plain = LimitsPart::default();
        flood("asks for 64 MiB of randomness", plain, "random 67108864", "trapped", "random 65536");
        flood("writes nothing, often", plain, "print-nothing 100000", "succeeded", "nothing");
        let many =
            Try::new(self.open()?, &self.get("/v1 many:33000"), "trapped", "total size of fields").on(0);
        let twin = Try::new(self.open()?, &self.get("/v1 many:33"), "succeeded", "200").on(1);
        self.add(17, "sets 33,000 header fields", many, twin);
        // No time at all is no wish, and the longest is cut.
        let none = Try::new(self.open()?, &self.get("/v1 patience:0"), "succeeded", "200").on(1);
        let twin = self.works()?;
        self.add(17, "gives a request no time at all", none, twin);
        let ages = self.get(&format!("/v1 patience:{}", u64::MAX));
        let ages = Try::new(self.open()?, &ages, "succeeded", "200").on(1);
        let twin = self.works()?;
        self.add(17, "gives a request six hundred years", ages, twin);
        let fields = Try::new(self.open()?, &self.get("/fields"), "failed", "HttpResponseHeaderSectionSize");
        let twin = self.works()?;
        self.add(17, "is answered with 33,000 header fields", fields, twin);
        let limits = LimitsPart { ingress: Some(Size::from_mib(1)), ..LimitsPart::default() };
        let flooded =
            Try::new(Setup { limits, ..self.open()? }, &self.get("/flood"), "over-limit(ingress)", "");
        let twin = self.works()?;
        self.add(17, "is answered with more than it may receive", flooded, twin);
        Ok(())
    }

    /// Files of its own, and no others.
    fn files(&mut self) {
        let scratch = r#"{"files":[{"scratch":true}]}"#;
        let limits = LimitsPart { scratch: Some(Size::from_mib(1)), ..LimitsPart::default() };
        let setup = Setup {
            guest: "scratch".to_owned(),
            requests: scratch.to_owned(),
            grant: scratch.to_owned(),
            limits,
            ..Setup::default()
        };
        let twin = Try::new(setup.clone(), "write-read hello", "succeeded", "hello");
        for act in [
            "read /etc/hostname",
            "read /scratch/../../outside.txt",
            "read ../outside.txt",
            "read /proc/self/environ",
            "list /etc",
            "hard-link",
            "symlink /etc/hostname",
            "symlink ../../outside.txt",
            "rename-out /outside",
            "rename-out /scratch/../../moved",
        ] {
            let refused = Try::new(setup.clone(), act, "failed", "");
            self.add(18, &format!("leaves its directory ({act})"), refused, twin.clone());
        }
        for act in ["fill 20", "fill-removed 20", "set-length 1000000000000", "many-files 5000"] {
            let over = Try::new(setup.clone(), act, "over-limit(scratch)", "");
            self.add(18, &format!("writes more than its quota ({act})"), over, twin.clone());
        }
        self.artifacts();
        let none = Setup { grant: "{}".to_owned(), ..setup };
        let refused = Try::new(none, "write-read hello", "refused(E_GRANT)", "scratch: true");
        self.add(18, "uses a directory that it was not given", refused, twin);
    }

    /// What stays with the execution is bounded, and holds no secret.
    fn artifacts(&mut self) {
        let both = r#"{"files":[{"artifacts":true}],"reveal":[{"name":"token"}]}"#;
        let rule = r#"{"path":"keys/test/token","use":"reveal","components":["test/artifacts"]}"#;
        let limits = LimitsPart { artifacts: Some(Size::from_mib(1)), ..LimitsPart::default() };
        let setup = Setup {
            guest: "artifacts".to_owned(),
            requests: both.to_owned(),
            grant: both.to_owned(),
            ceiling: Ceiling {
                secrets: serde_json::from_str(rule).into_iter().collect(),
                ..Ceiling::default()
            },
            limits,
            ..Setup::default()
        };
        let twin = Try::new(setup.clone(), "keep a x", "succeeded", "");
        let binary = Try::new(setup.clone(), "secret-binary", "failed", "holds the value of a secret");
        self.add(18, "keeps a secret where nothing can be replaced", binary, twin.clone());
        let over = Try::new(setup.clone(), "fill 2", "over-limit(artifacts)", "");
        self.add(18, "keeps more than it may", over, twin.clone());
        let out = Try::new(setup.clone(), "keep ../a x", "failed", "is not a name of an artifact");
        self.add(18, "keeps something under a path", out, twin.clone());
        let none = Setup { grant: r#"{"reveal":[{"name":"token"}]}"#.to_owned(), ..setup };
        let refused = Try::new(none, "keep a x", "refused(E_GRANT)", "artifacts: true");
        self.add(18, "keeps something that it was not given", refused, twin);
    }

    /// Only what was signed, by whom the owner trusts, in its time.
    fn tampering(&mut self) {
        for (threat, name, tampering, code) in [
            (21, "is another component than the one that was signed", Tampering::Bytes, "E_DIGEST"),
            (21, "has another manifest than the one that was signed", Tampering::Manifest, "E_DIGEST"),
            (22, "has a note that was changed", Tampering::Note, "E_"),
            (22, "is signed by a stranger under a known name", Tampering::Stranger, "E_THRESHOLD"),
            (22, "is offered after its time", Tampering::Time, "E_WINDOW"),
        ] {
            let setup = Setup { tampering: Some(tampering), ..Setup::default() };
            let twin = Try::new(Setup::default(), "nothing", "succeeded", "");
            self.add(threat, name, Try::new(setup, "nothing", "not-loaded", code), twin);
        }
    }

    /// What leaves is text.
    fn words(&mut self) {
        let says = |act: &str, says: &str| Try::new(Setup::default(), act, "succeeded", says);
        let twin = says("say plain text", "plain text");
        self.add(
            25,
            "clears the screen and sets the clipboard",
            says("say ESC[2Jcleared ESC]52;c;eA==BELend", "cleared end"),
            twin.clone(),
        );
        let over = says("say failedRETsucceeded", "failed\nsucceeded");
        self.add(25, "writes over what it has written", over, twin.clone());
        let bytes = says("print-bytes", "no \u{fffd} text \u{fffd} at \u{fffd} all");
        self.add(25, "prints bytes that are no text", bytes, twin.clone());
        let failed = Try::new(Setup::default(), "fail ESC[31mred\u{202e}", "failed", "red");
        self.add(25, "turns its message around", failed, twin);
    }

    /// Programs as they were named, and no shell.
    fn programs(&mut self) {
        let program = |name: &str, path: &str| ExecCeiling {
            program: name.to_owned(),
            path: path.into(),
            args: "{enum a b}".parse().into_iter().collect(),
            cwd: None,
            env: BTreeMap::new(),
            variables: vec![],
        };
        let setup = Setup {
            guest: "exec".to_owned(),
            requests: r#"{"exec":[{"program":"granted"}]}"#.to_owned(),
            grant: r#"{"exec":[{"program":"echo","args":["{enum a b}"]}]}"#.to_owned(),
            ceiling: Ceiling {
                exec: vec![program("echo", "/bin/echo"), program("cat", "/bin/cat")],
                ..Ceiling::default()
            },
            ..Setup::default()
        };
        let twin = Try::new(setup.clone(), "run echo a", "succeeded", "code 0");
        for (name, act) in [
            ("starts a program that the job did not give", "run cat a"),
            ("starts a program that nobody named", "run sh a"),
            ("starts a program by its path", "run /bin/echo a"),
            ("passes an argument that no pattern has", "run echo c"),
            ("passes an option", "run echo -n"),
            ("passes one argument more", "run echo a b"),
            ("passes a shell's words", "run echo a;id"),
        ] {
            self.add(31, name, Try::new(setup.clone(), act, "failed", "denied"), twin.clone());
        }
    }
}
