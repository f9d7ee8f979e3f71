//! Enrolment: a one-use ticket and a key made here become an identity in the state directory.

use std::path::PathBuf;

use remit_protocol::{Digest, RunnerName, endpoint::Enrol};
use remit_signing::{
    KeyName, SigningKey,
    enrol::{EnrolFault, EnrolRequest},
    ticket::{InvalidTicket, Ticket},
};
use zeroize::Zeroizing;

use crate::{
    clock,
    config::{OrchestratorUrl, ProxyUrl},
    orchestrator::{CallError, Caller, Road},
    start::{CannotStart, dialer, hostname},
    state::{Identity, State, StateError, sealing},
};

/// What an enrolment needs beside the ticket.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The orchestrator.
    pub url: OrchestratorUrl,
    /// The proxy on the way.
    pub proxy: Option<ProxyUrl>,
    /// Certificates that are trusted beside the ticket's.
    pub ca_file: Option<PathBuf>,
    /// The state directory; made if it is not there.
    pub state: PathBuf,
}

/// Why a runner is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum NotEnrolled {
    /// The ticket.
    #[error(transparent)]
    Ticket(#[from] InvalidTicket),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The way to the orchestrator.
    #[error(transparent)]
    Start(#[from] CannotStart),
    /// The call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer.
    #[error(transparent)]
    Answer(#[from] EnrolFault),
    /// A name that no key has.
    #[error(transparent)]
    Key(#[from] remit_signing::key::InvalidKey),
}

/// Who this host is from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The name under which people know the runner.
    pub name: RunnerName,
    /// The fingerprint of its identity key.
    pub key: Digest,
}

/// Enrols this host with the ticket in `text`.
///
/// # Errors
/// [`NotEnrolled`]. A ticket that was not taken can be used again.
pub async fn enrol(plan: &Plan, text: &str) -> Result<Enrolled, NotEnrolled> {
    let ticket = Ticket::parse(text)?;
    let state = State::create(&plan.state)?;
    match state.identity() {
        Ok(old) => return Err(StateError::Enrolled(plan.state.clone(), old.name).into()),
        Err(StateError::NotEnrolled(_)) => {}
        Err(other) => return Err(other.into()),
    }
    let dialer = dialer(&plan.url, plan.proxy.as_ref(), plan.ca_file.as_ref())?;
    let road = Road::new(plan.url.clone(), dialer, ticket.ca(), plan.ca_file.as_ref());
    let caller = Caller::new(road.map_err(CannotStart::from)?);
    caller.hello().await?;
    let seed = Zeroizing::new(clock::random());
    let key = SigningKey::from_seed(KeyName::new("runner")?, &seed);
    let request = EnrolRequest::new(&ticket, &key, &hostname(), clock::random(), clock::system())?;
    let note = String::from_utf8_lossy(request.note()).into_owned();
    let answer = caller.enrol(&Enrol { note }).await?;
    let enrolled = request.read_answer(answer.note.as_bytes())?;
    let identity = Identity {
        runner: enrolled.runner,
        name: enrolled.name.clone(),
        key,
        audience: enrolled.audience,
        answer_key: enrolled.answer_key,
        ca: ticket.ca(),
    };
    state.enrol(&identity, enrolled.session)?;
    sealing::settle(state.path(), &identity, clock::random, clock::system())?;
    Ok(Enrolled { name: enrolled.name, key: identity.key.public().fingerprint() })
}

/// A `runner.toml` to begin with: an empty ceiling, under which nothing can happen.
pub fn starter_config(plan: &Plan) -> String {
    let mut text = format!(
        "# What is not here cannot happen on this host, whatever the orchestrator says.\n\
         [orchestrator]\nurl = \"{}\"\n",
        plan.url
    );
    if let Some(proxy) = &plan.proxy {
        text.push_str(&format!("proxy = {:?}\n", proxy.as_str()));
    }
    if let Some(ca_file) = &plan.ca_file {
        text.push_str(&format!("ca_file = {:?}\n", ca_file.display().to_string()));
    }
    text.push_str(&format!(
        "\n[runner]\nstate = {:?}\nslots = 64\ntrust = \"trust.toml\"\n\n[ceiling]\n",
        plan.state.display().to_string()
    ));
    text
}

/// A `trust.toml` to begin with: nobody is believed.
pub const STARTER_TRUST: &str =
    "# Whose work this runner runs. Add a [[key]] and a [[publisher]] for each namespace.\nversion = 1\n";
