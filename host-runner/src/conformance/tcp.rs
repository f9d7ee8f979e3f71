//! Connections go where all three sides say, used as they say, and nowhere else.

use anyhow::Result;
use remit_protocol::{Size, capability::Ceiling, limits::LimitsPart};
use serde_json::{Value, json};

use super::{
    bench::Setup,
    table::{LOOPBACK, Table, Try, names},
};

/// A rule for `a.example`, changed by `more`.
fn rule(port: u16, more: &Value) -> Value {
    let mut rule = json!({"host": "a.example", "port": port});
    for (name, value) in more.as_object().into_iter().flatten() {
        rule[name] = value.clone();
    }
    rule
}

/// What a grant says beside the place.
fn given(tls: &str) -> Value {
    json!({"private": true, "tls": tls})
}

/// What a ceiling says beside the place.
fn permitted(tls: &str) -> Value {
    json!({"private": ["127.0.0.0/8"], "tls": tls})
}

fn setup(port: u16, grant: &Value, ceiling: &Value, list: &[(&str, &[&[&str]])]) -> Result<Setup> {
    Ok(Setup {
        guest: "tcp".to_owned(),
        requests: r#"{"tcp":[{"host":"granted"}]}"#.to_owned(),
        grant: json!({ "tcp": [rule(port, grant)] }).to_string(),
        ceiling: Ceiling { tcp: vec![serde_json::from_value(rule(port, ceiling))?], ..Ceiling::default() },
        names: names(list)?,
        ..Setup::default()
    })
}

/// The threat, its name, what grant and ceiling say beside the place, and where the name leads.
type Leads<'a> = (u8, &'a str, &'a Value, &'a Value, &'a [&'a [&'a str]]);

impl Table<'_> {
    /// `a.example` in the clear, permitted by all three sides.
    fn open_tcp(&self) -> Result<Setup> {
        setup(self.plain(), &given("never"), &permitted("never"), LOOPBACK)
    }

    fn ask(&self) -> String {
        format!("ask a.example {}", self.plain())
    }

    /// What is permitted and works.
    fn tcp_works(&self) -> Result<Try> {
        Ok(Try::new(self.open_tcp()?, &self.ask(), "succeeded", "200").on(1))
    }

    pub(super) fn tcp(&mut self) -> Result<()> {
        self.tcp_places()?;
        self.tcp_addresses()?;
        self.tcp_uses()?;
        self.tcp_secrets()?;
        self.tcp_limits()
    }

    fn tcp_places(&mut self) -> Result<()> {
        let (plain, encrypted) = (self.plain(), self.world.encrypted.port());
        let none = Setup { grant: "{}".to_owned(), ..self.open_tcp()? };
        let refused = Try::new(none, &self.ask(), "refused(E_GRANT)", "tcp:").on(0);
        let works = self.tcp_works()?;
        self.add(1, "connects without any rule", refused, works);
        let unlisted = Setup { ceiling: Ceiling::default(), ..self.open_tcp()? };
        let refused = Try::new(unlisted, &self.ask(), "not-loaded", "tcp a.example").on(0);
        let works = self.tcp_works()?;
        self.add(1, "connects without a rule of the owner", refused, works);
        for (name, host, port) in [
            ("connects to a host that no rule names", "b.example", plain),
            ("connects to a port that no rule names", "a.example", encrypted),
            ("connects to an address in place of a name", "127.0.0.1", plain),
            ("connects to a name with a dot behind it", "a.example.", plain),
        ] {
            let act = format!("ask {host} {port}");
            let denied = Try::new(self.open_tcp()?, &act, "failed", "denied: tcp").on(0);
            let works = self.tcp_works()?;
            self.add(1, name, denied, works);
        }
        for (name, host) in [("by its name", "a.example"), ("by another name", "127.0.0.1")] {
            let at = |port| {
                Ok::<_, anyhow::Error>(Setup { orchestrator: (host.to_owned(), port), ..self.open_tcp()? })
            };
            let denied = Try::new(at(plain)?, &self.ask(), "failed", "denied: tcp").on(0);
            let twin = Try::new(at(plain.wrapping_add(1))?, &self.ask(), "succeeded", "200").on(1);
            self.add(3, &format!("connects to the runner's own orchestrator {name}"), denied, twin);
        }
        Ok(())
    }

    fn tcp_addresses(&mut self) -> Result<()> {
        let plain = self.plain();
        let (asked, ranges) = (given("never"), permitted("never"));
        let (unasked, unranged) = (json!({"tls": "never"}), json!({"tls": "never"}));
        let everything = json!({"private": ["0.0.0.0/0", "::/0"], "tls": "never"});
        let home: &[&[&str]] = &[&["127.0.0.1"]];
        let rows: [Leads<'_>; 9] = [
            (2, "a private address that the ceiling does not name", &asked, &unranged, home),
            (2, "a private address that the job did not ask for", &unasked, &ranges, home),
            (2, "a private address among public ones", &asked, &ranges, &[&["1.1.1.1", "127.0.0.1"]]),
            (2, "another private range", &asked, &ranges, &[&["10.9.9.9"]]),
            (
                2,
                "a name that leads elsewhere at first",
                &asked,
                &ranges,
                &[&["169.254.169.254"], &["127.0.0.1"]],
            ),
            (3, "metadata, permitted by everybody", &asked, &everything, &[&["169.254.169.254"]]),
            (3, "metadata as a mapped address", &asked, &everything, &[&["::ffff:169.254.169.254"]]),
            (3, "metadata behind NAT64", &asked, &everything, &[&["64:ff9b::a9fe:a9fe"]]),
            (3, "the unspecified address", &asked, &everything, &[&["0.0.0.0"]]),
        ];
        for (threat, name, grant, ceiling, answers) in rows {
            let leads = setup(plain, grant, ceiling, &[("a.example", answers)])?;
            let denied = Try::new(leads, &self.ask(), "failed", "denied: tcp").on(0);
            let works = self.tcp_works()?;
            self.add(threat, &format!("connects to {name}"), denied, works);
        }
        // Once is asked, and what was judged is dialled.
        let flips = setup(plain, &asked, &ranges, &[("a.example", &[&["127.0.0.1"], &["169.254.169.254"]])])?;
        let again = Try::new(flips, &self.ask(), "succeeded", "200").on(1);
        let works = self.tcp_works()?;
        self.add(
            2,
            "connects to a name that leads elsewhere at the second question, which is never asked",
            again,
            works,
        );
        Ok(())
    }

    fn tcp_uses(&mut self) -> Result<()> {
        let (plain, encrypted, other) = (self.plain(), self.world.encrypted.port(), self.world.other.port());
        let only = json!({"connect_only": true, "private": true});
        let ranges = json!({"connect_only": true, "private": ["127.0.0.0/8"]});
        let looks = setup(plain, &only, &ranges, LOOPBACK)?;
        let denied = Try::new(looks.clone(), &self.ask(), "failed", "denied: bytes over tcp").on(1);
        let twin = Try::new(looks, &format!("connect a.example {plain}"), "succeeded", "connected").on(1);
        self.add(1, "sends over a connection that is only to connect", denied, twin);
        let reads = setup(plain, &only, &ranges, LOOPBACK)?;
        let denied =
            Try::new(reads.clone(), &format!("listen a.example {plain}"), "failed", "denied: bytes over tcp");
        let twin = Try::new(reads, &format!("connect a.example {plain}"), "succeeded", "connected").on(1);
        self.add(1, "reads from a connection that is only to connect", denied.on(1), twin);

        let ca_file = &self.world.ca_file;
        let trusting = |tls: &str| json!({"private": ["127.0.0.0/8"], "tls": tls, "ca_file": ca_file});
        let secure = setup(encrypted, &given("always"), &trusting("always"), LOOPBACK)?;
        let proved = Try::new(secure, &format!("ask a.example {encrypted}"), "succeeded", "200").on(1);
        let wrong = setup(other, &given("always"), &trusting("always"), LOOPBACK)?;
        let act = format!("ask a.example {other}");
        let refused = Try::new(wrong, &act, "failed", "certificate is not acceptable").on(1);
        self.add(6, "speaks to somebody who cannot prove the name", refused, proved.clone());
        let wrong = setup(other, &given("start"), &trusting("start"), LOOPBACK)?;
        let act = format!("start-tls a.example {other}");
        let refused = Try::new(wrong, &act, "failed", "certificate is not acceptable").on(1);
        let start = setup(encrypted, &given("start"), &trusting("start"), LOOPBACK)?;
        let started = Try::new(start, &format!("start-tls a.example {encrypted}"), "succeeded", "200").on(1);
        self.add(6, "begins TLS with somebody who cannot prove the name", refused, started.clone());
        let act = format!("start-tls a.example {plain}");
        let never = Try::new(self.open_tcp()?, &act, "failed", "denied: TLS on tcp").on(1);
        self.add(6, "begins TLS where the rule says never", never, started);
        let mixed = setup(plain, &given("start"), &trusting("start"), LOOPBACK)?;
        let failed = Try::new(mixed, &format!("after-tls a.example {plain}"), "failed", "failed:").on(1);
        self.add(6, "goes on in the clear after a TLS that failed", failed, proved);
        Ok(())
    }

    fn tcp_secrets(&mut self) -> Result<()> {
        let port = self.world.encrypted.port();
        let ca_file = &self.world.ca_file;
        let secret = json!({"name": "token", "use": "scram-sha-256"});
        let given = json!({"private": true, "secret": secret});
        let permitted = json!({"private": ["127.0.0.0/8"], "ca_file": ca_file});
        let with = |grant: &Value, usage: &str| -> Result<Setup> {
            let mut setup = setup(port, grant, &permitted, LOOPBACK)?;
            let place = format!("a.example:{port}");
            let rule = json!([{"path": "keys/test/token", "use": usage, "hosts": [place]}]);
            setup.ceiling.secrets = serde_json::from_value(rule)?;
            Ok(setup)
        };
        let act = |what: &str| format!("prove a.example {port} {what}");
        let bound = || with(&given, "scram-sha-256");
        let works = || Ok::<_, anyhow::Error>(Try::new(bound()?, &act("heard"), "succeeded", "c=biws").on(1));
        for (name, what) in [("words of its own", "unheard"), ("the same words twice", "twice")] {
            let failed = Try::new(bound()?, &act(what), "failed", "what the other side has said").on(1);
            self.add(10, &format!("has the runner prove a password to {name}"), failed, works()?);
        }
        let unbound = with(&json!({"private": true}), "scram-sha-256")?;
        let denied = Try::new(unbound, &act("heard"), "failed", "denied: a secret on tcp").on(1);
        self.add(10, "has the runner prove a password that its rule does not bind", denied, works()?);
        let elsewhere = with(&given, "bearer")?;
        let refused = Try::new(elsewhere, &act("heard"), "not-loaded", "as scram-sha-256").on(0);
        self.add(
            10,
            "has the runner prove a secret that its owner named for something else",
            refused,
            works()?,
        );
        Ok(())
    }

    fn tcp_limits(&mut self) -> Result<()> {
        let plain = self.plain();
        let bytes = Size::from_bytes;
        for (name, limits, act, outcome, connections) in [
            (
                "connects more often than it may",
                LimitsPart { requests: Some(3), ..LimitsPart::default() },
                format!("many a.example {plain} 4"),
                "over-limit(requests)",
                3,
            ),
            (
                "keeps more connections open than it may",
                LimitsPart { handles: Some(2), ..LimitsPart::default() },
                format!("hold a.example {plain} 3"),
                "over-limit(handles)",
                3,
            ),
            (
                "sends more than it may",
                LimitsPart { egress: Some(bytes(16)), ..LimitsPart::default() },
                self.ask(),
                "over-limit(egress)",
                1,
            ),
            (
                "receives more than it may",
                LimitsPart { ingress: Some(bytes(16)), ..LimitsPart::default() },
                self.ask(),
                "over-limit(ingress)",
                1,
            ),
        ] {
            let bounded = Setup { limits, ..self.open_tcp()? };
            let over = Try::new(bounded, &act, outcome, "").on(connections);
            let works = self.tcp_works()?;
            self.add(17, name, over, works);
        }
        Ok(())
    }
}
