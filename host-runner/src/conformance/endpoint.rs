//! Daemons of this host are called where all three sides say, at the socket that the owner named, and by nobody else.

use anyhow::Result;
use remit_protocol::capability::Ceiling;
use serde_json::{Value, json};

use super::{
    bench::Setup,
    table::{Table, Try},
};

/// What the owner says of the endpoint `daemon`.
fn permitted(socket: &str, component: &str) -> Value {
    json!({"endpoint": "daemon", "unix": socket, "methods": ["GET", "POST"], "paths": ["/"], "components": [component]})
}

fn setup(grant: Value, ceiling: Value) -> Result<Setup> {
    Ok(Setup {
        guest: "http".to_owned(),
        requests: json!({"http": [
            {"endpoint": "daemon", "methods": ["GET", "POST"], "paths": ["/"]},
            {"host": "granted"},
        ]})
        .to_string(),
        grant: json!({ "http": [grant] }).to_string(),
        ceiling: Ceiling { http: vec![serde_json::from_value(ceiling)?], ..Ceiling::default() },
        ..Setup::default()
    })
}

/// What is granted where nothing else is said.
fn granted() -> Value {
    json!({"endpoint": "daemon", "methods": ["GET"], "paths": ["/v1/*/state", "/upgrade"]})
}

const GOOD: &str = "GET http daemon.endpoint.alt /v1/web/state";

impl Table<'_> {
    fn daemon(&self) -> Result<Setup> {
        let socket = self.world.daemon.path("daemon.sock").display().to_string();
        setup(granted(), permitted(&socket, "test/http"))
    }

    pub(super) fn endpoints(&mut self) -> Result<()> {
        let twin = Try::new(self.daemon()?, GOOD, "succeeded", "200 host=daemon.endpoint.alt").on(1);
        for (name, act, says) in [
            ("another path", "GET http daemon.endpoint.alt /v1/web", "HttpRequestDenied"),
            ("a path above", "GET http daemon.endpoint.alt /v1", "HttpRequestDenied"),
            ("one segment more", "GET http daemon.endpoint.alt /v1/a/b/state", "HttpRequestDenied"),
            ("an empty segment for any", "GET http daemon.endpoint.alt /v1//state", "HttpRequestUriInvalid"),
            (
                "a way back",
                "GET http daemon.endpoint.alt /v1/web/state/../../../info",
                "HttpRequestUriInvalid",
            ),
            ("an encoded way back", "GET http daemon.endpoint.alt /v1/%2e%2e/state", "HttpRequestUriInvalid"),
            ("an encoded slash", "GET http daemon.endpoint.alt /v1/web%2fx/state", "HttpRequestUriInvalid"),
            ("encoded letters", "GET http daemon.endpoint.alt /v1/web/%73tate", "HttpRequestDenied"),
            ("another method", "POST http daemon.endpoint.alt /v1/web/state", "HttpRequestDenied"),
            ("CONNECT", "CONNECT http daemon.endpoint.alt /v1/web/state", "HttpRequestMethodInvalid"),
            ("an upgrade", "GET http daemon.endpoint.alt /v1/web/state upgrade=tcp", "upgrade"),
            ("a port", "GET http daemon.endpoint.alt:2375 /v1/web/state", "HttpRequestDenied"),
            ("TLS", "GET https daemon.endpoint.alt /v1/web/state", "HttpRequestDenied"),
            (
                "an endpoint that is not granted",
                "GET http other.endpoint.alt /v1/web/state",
                "HttpRequestDenied",
            ),
            ("what is no endpoint's name", "GET http endpoint.alt /v1/web/state", "HttpRequestDenied"),
            (
                "a name below an endpoint's",
                "GET http a.daemon.endpoint.alt /v1/web/state",
                "HttpRequestDenied",
            ),
        ] {
            let denied = Try::new(self.daemon()?, act, "failed", says).on(0);
            self.add(32, &format!("calls a daemon of the host: {name}"), denied, twin.clone());
        }
        let upgraded =
            Try::new(self.daemon()?, "GET http daemon.endpoint.alt /upgrade", "failed", "HttpUpgradeFailed")
                .on(1);
        self.add(32, "calls a daemon of the host, which changes the protocol", upgraded, twin.clone());
        self.named_sockets(&twin)?;
        self.other_sides(&twin)
    }

    /// It is the owner's socket, and a socket.
    fn named_sockets(&mut self, twin: &Try) -> Result<()> {
        for (name, file, says) in [
            ("by a link", "linked.sock", "DestinationUnavailable"),
            ("that is no socket", "file.sock", "DestinationUnavailable"),
            ("that is not there", "none.sock", "DestinationUnavailable"),
        ] {
            let socket = self.world.daemon.path(file).display().to_string();
            let elsewhere = setup(granted(), permitted(&socket, "test/http"))?;
            let failed = Try::new(elsewhere, GOOD, "failed", says).on(0);
            self.add(32, &format!("calls a daemon of the host {name}"), failed, twin.clone());
        }
        Ok(())
    }

    /// Each of the three sides has its say, and an endpoint is no host.
    fn other_sides(&mut self, twin: &Try) -> Result<()> {
        let socket = self.world.daemon.path("daemon.sock").display().to_string();
        let mut refuse = |name: &str, setup: Setup, says: &str| {
            let refused = Try::new(setup, GOOD, "not-loaded", says).on(0);
            self.add(32, name, refused, twin.clone());
        };
        let owner = || permitted(&socket, "test/http");
        let other = setup(granted(), permitted(&socket, "test/other"))?;
        refuse("calls a daemon that the owner named for another component", other, "components = ");
        let mut unknown = granted();
        unknown["endpoint"] = json!("other");
        let mut asks = setup(unknown, owner())?;
        refuse("is granted an endpoint that its manifest does not ask for", asks.clone(), "endpoint = ");
        asks.requests = asks.requests.replace("daemon", "other");
        refuse("is granted an endpoint that the owner does not name", asks, "endpoint = ");
        let open =
            Setup { requests: r#"{"http":[{"host":"granted"}]}"#.to_owned(), ..setup(granted(), owner())? };
        refuse("takes an endpoint for a host that the job names", open, "endpoint = ");
        for host in ["daemon.endpoint.alt", "*.endpoint.alt", "**.endpoint.alt"] {
            let grant = json!({"scheme": "http", "host": host, "methods": ["GET"], "paths": ["/"]});
            refuse(&format!("is granted the host {host}"), setup(grant, owner())?, "no host of the network");
        }
        Ok(())
    }
}
