//! What stories and the demo stand on: the real programs, and real services for them to talk to.

mod docker;
mod mail;
mod middlebox;
mod postgres;
mod service;
mod squid;
mod sshd;
mod stack;

pub use docker::{Docker, IMAGE};
pub use mail::MailServer;
pub use middlebox::{Faults, Middlebox};
pub use postgres::Postgres;
pub use service::{Authority, Reply, Seen, Service};
pub use squid::{Plan, Squid};
pub use sshd::Sshd;
pub use stack::{Ended, Host, Runner, Stack, components, programs, wait_for};

/// A trust policy that believes the builder of the built-in components, for the namespace `remit`.
pub fn builder_trust() -> anyhow::Result<String> {
    let file = components().join("builder.vkey");
    let vkey = std::fs::read_to_string(&file)
        .map_err(|error| anyhow::anyhow!("{}: {error}: run `cargo xtask build`", file.display()))?;
    Ok(format!("version = 1\n\n{}", trust_lines("remit", vkey.trim(), "builder")?))
}

/// The lines that make a key the publisher of a namespace.
pub fn trust_lines(namespace: &str, vkey: &str, holder: &str) -> anyhow::Result<String> {
    Ok(remit_signing::policy::publisher_lines(&namespace.parse()?, &vkey.parse()?, &holder.parse()?))
}
