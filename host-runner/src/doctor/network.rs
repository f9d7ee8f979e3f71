//! The way to the orchestrator, step by step: each obstacle has a finding of its own.

use std::time::Duration;

use remit_protocol::{Digest, Span, Timestamp, digest::Sized, endpoint::Hello};
use remit_signing::http::RequestSigner;
use tokio::time::Instant;

use super::{Finding, Severity, Thorough};
use crate::{
    clock,
    config::Config,
    dial::{DialError, proxy::ProxyError, tls::TlsError},
    orchestrator::{CallError, Caller, Client, NoRoad, Road},
    runner::HOLDS,
    start,
    state::Identity,
};

/// A clock that is farther off than this is worth a warning: notes expire by it.
const MOST_SKEW: Duration = Duration::from_secs(30);

pub(super) async fn examine(config: &Config, thorough: Thorough, say: &mut impl FnMut(Finding)) {
    let identity = Identity::read(&config.runner.state).ok();
    let road = match road(config, identity.as_ref()) {
        Ok(road) => road,
        Err(why) => {
            return say(Finding::bad("network", why, "correct [orchestrator] in runner.toml"));
        }
    };
    let connection = connection(&road, config).await;
    let broken = connection.severity == Severity::Bad;
    say(connection);
    if broken {
        return;
    }
    let caller = Caller::new(road);
    let before = clock::system();
    let hello = match caller.hello().await {
        Ok(hello) => hello,
        Err(error) => return say(Finding::bad("orchestrator", error.to_string(), call_remedy(&error))),
    };
    say(Finding::good("orchestrator", format!("answers, protocol {}", hello.protocol)));
    say(clock_skew(before, hello.now));
    if let Some(identity) = identity {
        let client = client(caller, identity, &hello);
        let signed = signed_request(&client).await;
        let broken = signed.severity == Severity::Bad;
        say(signed);
        if !broken && thorough == Thorough::Yes {
            say(held_request(&client, &HOLDS).await);
        }
    }
}

fn road(config: &Config, identity: Option<&Identity>) -> Result<Road, String> {
    let orchestrator = &config.orchestrator;
    let dialer = start::dialer(&orchestrator.url, orchestrator.proxy.as_ref(), orchestrator.ca_file.as_ref())
        .map_err(|error| error.to_string())?;
    let pin = identity.and_then(|identity| identity.ca);
    Road::new(orchestrator.url.clone(), dialer, pin, orchestrator.ca_file.as_ref())
        .map_err(|error| error.to_string())
}

fn client(caller: Caller, identity: Identity, hello: &Hello) -> Client {
    let signer = RequestSigner::new(identity.key, identity.runner, identity.audience);
    let client = Client::new(caller, signer, identity.answer_key, clock::system, clock::random);
    client.tell_time(hello.now);
    client
}

async fn connection(road: &Road, config: &Config) -> Finding {
    const WHAT: &str = "connection";
    let way = match &config.orchestrator.proxy {
        Some(proxy) => format!("through the proxy {}", proxy.authority()),
        None => "directly".to_owned(),
    };
    match road.connect().await {
        Ok(stream) => {
            let (_, tls) = stream.get_ref();
            let chain = tls.peer_certificates().unwrap_or_default();
            let issuer = chain.last().map(|der| Digest::of(der).to_string()).unwrap_or_default();
            Finding::good(WHAT, format!("{} {way}, TLS; the last certificate shown is {issuer}", road.url()))
        }
        Err(error) => Finding::bad(WHAT, error.to_string(), connection_remedy(&error, config)),
    }
}

fn connection_remedy(error: &NoRoad, config: &Config) -> &'static str {
    let proxied = config.orchestrator.proxy.is_some();
    match error {
        NoRoad::Dial { source: DialError::Resolve { .. }, .. } if proxied => {
            "the proxy's own name does not resolve here: correct DNS, or write its address"
        }
        NoRoad::Dial { source: DialError::Resolve { .. }, .. } => {
            "the name does not resolve here: correct DNS, or set `proxy` if names are resolved there"
        }
        NoRoad::Dial { source: DialError::Connect { .. }, .. } if proxied => {
            "the proxy does not answer: correct `proxy`, or open the firewall toward it"
        }
        NoRoad::Dial { source: DialError::Connect { .. }, .. } | NoRoad::Slow { .. } => {
            "open the firewall for outbound HTTPS to this address, or set `proxy`"
        }
        NoRoad::Dial { source: DialError::Proxy(ProxyError::Credentials { .. }), .. } => {
            "write `proxy = \"http://user:password@host:port\"`, with what the proxy's owner gave you"
        }
        NoRoad::Dial { source: DialError::Proxy(ProxyError::Broken { .. }), .. } => {
            "what listens there is no HTTP proxy: correct `proxy`"
        }
        NoRoad::Dial { source: DialError::Proxy(_), .. } => {
            "ask the proxy's owner to allow CONNECT to this host and port"
        }
        NoRoad::Dial { source: DialError::Tls(TlsError::Certificate { .. }), .. } => {
            "somebody else answers in the orchestrator's place: if TLS is inspected on the way, name the inspecting authority's certificate as `ca_file`"
        }
        NoRoad::Dial { source: DialError::Tls(_), .. } => {
            "what answers there speaks no TLS that we do: correct `url`, or exempt the address from what cuts TLS"
        }
        _ => "correct [orchestrator] in runner.toml",
    }
}

fn call_remedy(error: &CallError) -> &'static str {
    match error {
        CallError::Cut(_) => {
            "something between this host and the orchestrator answers in its place: exempt it there"
        }
        CallError::NotBelieved(_) => "exempt the orchestrator from whatever rewrites requests or answers",
        CallError::Refused { .. } => {
            "see the orchestrator's words; a runner that it does not know is enrolled anew"
        }
        _ => "see the message",
    }
}

fn clock_skew(ours: Timestamp, theirs: Timestamp) -> Finding {
    const WHAT: &str = "clock";
    let skew = ours.since(theirs).max(theirs.since(ours));
    let found = format!("{} s apart from the orchestrator's", skew.as_secs());
    if skew < MOST_SKEW {
        Finding::good(WHAT, found)
    } else {
        let remedy = "requests are corrected for it, but signatures expire by this host's clock: run NTP";
        Finding::warning(WHAT, found, remedy)
    }
}

/// Whether requests arrive and answers come back as they were signed. Asked without a session, so nothing of a running
/// runner is disturbed; that there is no such blob, said in a signed answer, is a good answer.
async fn signed_request(client: &Client) -> Finding {
    const WHAT: &str = "signed request";
    let begun = Instant::now();
    let nothing = Digest::of(b"doctor");
    match client.blob(Sized { digest: nothing, length: 0 }).await {
        Ok(_) => believed(WHAT, begun),
        Err(CallError::Refused { problem, .. }) if !disowned(&problem.code) => believed(WHAT, begun),
        Err(error) => Finding::bad(WHAT, error.to_string(), call_remedy(&error)),
    }
}

fn believed(what: &'static str, begun: Instant) -> Finding {
    Finding::good(what, format!("believed and answered in {} ms", begun.elapsed().as_millis()))
}

/// Refusals that say that this runner's calls are not taken at all.
fn disowned(code: &str) -> bool {
    ["runner-unknown", "runner-locked", "signature", "audience", "clock", "body-digest", "unsigned"]
        .contains(&code)
}

/// Whether an answer that is held back as long as a parked poll's comes through: what is silent may be cut on the way.
async fn held_request(client: &Client, holds: &[Span]) -> Finding {
    const WHAT: &str = "held request";
    const REMEDY: &str = "raise the idle time of what lies between (proxy, firewall, load balancer) above 30 s; the runner \
                          makes do with shorter polls meanwhile";
    let mut cut = None;
    for hold in holds.iter().filter(|hold| hold.as_millis() > 0) {
        let begun = Instant::now();
        match client.wait(*hold).await {
            Ok(_) => {
                return match cut {
                    None => {
                        Finding::good(WHAT, format!("an answer that was held back for {hold} came through"))
                    }
                    Some(after) => Finding::warning(
                        WHAT,
                        format!("a silent call is cut after {after} s; {hold} come through"),
                        REMEDY,
                    ),
                };
            }
            Err(CallError::Cut(_)) => cut = Some(begun.elapsed().as_secs()),
            Err(CallError::Refused { status: 404, .. }) => {
                return Finding::good(
                    WHAT,
                    "not tried: this orchestrator is older and holds back polls only",
                );
            }
            Err(error) => return Finding::bad(WHAT, error.to_string(), call_remedy(&error)),
        }
    }
    let after = cut.unwrap_or_default();
    Finding::warning(WHAT, format!("a silent call is cut after {after} s"), REMEDY)
}
