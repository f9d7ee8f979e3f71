//! `secrets`: showing a value to a component that may see it. Most components may not: a secret that is bound to a rule is
//! used by the host.

use remit_protocol::{
    SecretName,
    capability::{Denial, Side, secrets::BoundSecret},
};
use wasmtime::component::{HasSelf, Linker};

use super::{
    Fault,
    bindings::remit::secrets::reveal::{self, Host},
};
use crate::{
    broker::{Answer, Broker, Call},
    sandbox::State,
};

/// The secret that `name` stands for, if the remit shows it.
fn shown<'a>(permitted: &'a [BoundSecret], name: &str) -> Result<&'a BoundSecret, Denial> {
    permitted.iter().find(|secret| secret.name.as_str() == name).ok_or_else(|| {
        let name = SecretName::new(name).map_or_else(|_| "NAME".to_owned(), |name| name.to_string());
        Denial {
            permission: format!("reveal {name}"),
            side: Side::Grant,
            remedy: format!("grant:\n  reveal: [{{ name: {name} }}]"),
        }
    })
}

impl Host for State {
    async fn get(&mut self, name: String) -> Result<String, Fault> {
        match self.broker.ask(Call::Reveal(name)).await? {
            Answer::Text(value) => Ok(value),
            other => Err(other.unexpected()),
        }
    }
}

impl Broker {
    pub(crate) async fn reveal(&mut self, name: &str) -> Result<String, Fault> {
        let remit = self.remit.clone();
        let secret = match shown(remit.reveal(), name) {
            Ok(secret) => secret,
            Err(denial) => return Err(Fault::denied(&self.account, denial)),
        };
        let cancel = self.cancel.clone();
        let resolved = tokio::select! {
            resolved = self.secrets.resolve(&secret.path) => resolved,
            () = cancel.cancelled() => return Err(Fault::cancelled()),
        };
        let value = resolved.map_err(|error| {
            tracing::debug!(%error, "a secret could not be shown");
            Fault::failed(format!("the secret {name} cannot be had at this runner"))
        })?;
        // Known to redaction and recorded before the component has it.
        self.redactor.add([(&secret.path, &value)]);
        self.account.reveal(&secret.name);
        match std::str::from_utf8(value.expose()) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Fault::failed(format!("the secret {name} is not text"))),
        }
    }
}

/// Links `remit:secrets/reveal`.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    reveal::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

#[cfg(test)]
mod tests {
    use remit_protocol::SecretPath;

    use super::*;

    #[test]
    fn only_what_the_remit_shows_is_shown() {
        let permitted = [BoundSecret {
            name: SecretName::new("token").unwrap(),
            path: SecretPath::new("keys/prod/token").unwrap(),
            placement: None,
        }];
        assert_eq!(shown(&permitted, "token").unwrap().path.as_str(), "keys/prod/token");
        for (name, expect) in
            [("other", "reveal other"), ("keys/prod/token", "reveal NAME"), ("", "reveal NAME")]
        {
            assert_eq!(shown(&permitted, name).unwrap_err().permission, expect);
        }
    }
}
