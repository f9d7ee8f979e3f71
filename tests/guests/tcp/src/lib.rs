//! A component that connects to wherever it is told.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/step", "../../../wit/tcp"],
        inline: "
            package guest:tcp;
            world guest {
                include remit:step/step@0.1.0;
                import remit:tcp/connect@0.1.0;
            }
        ",
        world: "guest:tcp/guest",
        generate_all,
    });
}

use bindings::{
    exports::remit::step::main::{End, Guest},
    remit::{
        step::types::{CapabilityError, Failure},
        tcp::connect::Connection,
    },
};

struct Tcp;
bindings::export!(Tcp with_types_in bindings);

impl Guest for Tcp {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":{}}"#.to_owned()
    }

    /// `connect HOST PORT`; `ask` for the first line of an answer; `listen` to what comes; `start-tls` before asking;
    /// `after-tls` asks again, in the clear, after a TLS that failed; `many` and `hold` make a number of connections, one
    /// after the other or at once.
    fn run(input: String) -> Result<String, End> {
        let words: Vec<_> = input.trim_matches('"').split(' ').collect();
        let open = |host: &str, at: &str| Connection::open(host, at.parse().unwrap_or_default());
        let answer = match words[..] {
            ["connect", host, at] => open(host, at).map(|_| "connected".to_owned()),
            ["ask", host, at] => open(host, at).and_then(|connection| ask(&connection, host)),
            ["listen", host, at] => {
                open(host, at).and_then(|connection| connection.read(10).map(|bytes| format!("{bytes:?}")))
            }
            ["start-tls", host, at] => open(host, at).and_then(|connection| {
                connection.start_tls()?;
                ask(&connection, host)
            }),
            ["after-tls", host, at] => open(host, at).and_then(|connection| {
                let _ = connection.start_tls();
                ask(&connection, host)
            }),
            ["prove", host, at, what] => open(host, at).and_then(|connection| prove(&connection, what)),
            ["many", host, at, count] => {
                let count: usize = count.parse().unwrap_or_default();
                (0..count).try_for_each(|_| open(host, at).map(drop)).map(|()| "many".to_owned())
            }
            ["hold", host, at, count] => {
                let count: usize = count.parse().unwrap_or_default();
                let held: Result<Vec<_>, _> = (0..count).map(|_| open(host, at)).collect();
                held.map(|held| format!("{} held", held.len()))
            }
            _ => Err(CapabilityError::Failed("no such act".to_owned())),
        };
        answer.map(|text| format!("{text:?}")).map_err(|error| {
            let message = match error {
                CapabilityError::Denied(why) => format!("denied: {why}"),
                CapabilityError::OverLimit(why) => format!("over limit: {why}"),
                CapabilityError::Cancelled => "cancelled".to_owned(),
                CapabilityError::Failed(why) => format!("failed: {why}"),
            };
            End::Failed(Failure { message, fields: Vec::new() })
        })
    }
}

/// `prove HOST PORT heard` to words that the service was made to say, `unheard` to words of its own, `twice`.
fn prove(connection: &Connection, what: &str) -> Result<String, CapabilityError> {
    let asked = "r=0123456789abcdefXY,s=c2FsdHNhbHQ=,i=4096";
    if what != "unheard" {
        connection
            .write(format!("GET /echo HTTP/1.1\r\nauthorization: Bearer {asked}\r\n\r\n").as_bytes())?;
        connection.read(1000)?;
    }
    let mut proof = connection.scram_sha256("n=,r=0123456789abcdef", asked)?;
    if what == "twice" {
        proof = connection.scram_sha256("n=,r=0123456789abcdef", asked)?;
    }
    Ok(proof.answer)
}

fn ask(connection: &Connection, host: &str) -> Result<String, CapabilityError> {
    connection.write(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())?;
    let bytes = connection.read(1000)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
