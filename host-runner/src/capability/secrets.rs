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
        match self.ask(Call::Reveal(name)).await? {
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
    use std::{collections::BTreeMap, sync::Arc};

    use remit_protocol::{
        ComponentName, ExecutionId, Limits, ProjectName, SecretPath, StepName,
        capability::{Ceiling, Remit, Subject},
        manifest::Kind,
    };
    use serde_json::json;

    use super::*;
    use crate::{
        capability::{
            Effects,
            context::StepContext,
            log::{Line, LogSink},
        },
        dial::{resolve, tests::dialer, tls::Trust},
        launcher,
        report::redact::Redactor,
        sandbox::{Cancel, Invocation, SandboxConfig},
        secrets::{SecretValue, environment::Environment},
    };

    struct Discard;

    impl LogSink for Discard {
        fn line(&self, _: Line) {}
        fn progress(&self, _: u64, _: u64) {}
    }

    /// A broker whose remit shows `token`, whose path has this value.
    fn broker(value: &[u8]) -> Broker {
        let path = SecretPath::new("keys/prod/token").unwrap();
        let reveal = json!({"reveal": [{"name": "token"}]});
        let rule = json!({"path": path, "use": "reveal", "components": ["acme/x"]});
        let remit = Remit::compute(
            Subject {
                component: &ComponentName::new("acme/x").unwrap(),
                project: &ProjectName::new("ops").unwrap(),
            },
            &serde_json::from_value(reveal.clone()).unwrap(),
            Limits::default(),
            &serde_json::from_value(reveal).unwrap(),
            &BTreeMap::from([(SecretName::new("token").unwrap(), vec![path.clone()])]),
            &Ceiling { secrets: vec![serde_json::from_value(rule).unwrap()], ..Ceiling::default() },
        );
        let value = SecretValue::new(value.to_vec()).ok().unwrap();
        let invocation = Invocation {
            files: Arc::default(),
            remit: Arc::new(remit.unwrap()),
            secrets: Arc::new(Environment::new(BTreeMap::from([(path, value)]))),
            input: String::new(),
            context: StepContext {
                execution: ExecutionId::from_u128(0),
                step: StepName::new("test").unwrap(),
                node: None,
                try_number: 1,
                idempotency_key: String::new(),
            },
            log: Arc::new(Discard),
            cancel: Cancel::new(),
            redactor: Redactor::new(),
            realm: remit_protocol::Digest::of(b"test"),
            admitted: None,
            timeout: None,
        };
        let scratch = std::env::temp_dir();
        let launch: Arc<dyn launcher::Launch> = Arc::new(launcher::Local::new(scratch.clone()));
        let dialer = Arc::new(dialer(Arc::new(resolve::System), Trust::untrusting()));
        let config = SandboxConfig { slots: 1, scratch, dialer, launch: launch.clone() };
        Broker::new(&invocation, Kind::Step, Arc::new(config), Arc::new(Effects::local(launch)))
    }

    #[tokio::test]
    async fn who_is_shown_a_secret_is_recorded_and_it_is_redacted_from_then_on() {
        let mut broker = broker(b"the-value-itself");
        let before = broker.redactor.text("got the-value-itself").into_owned();
        assert_eq!(before, "got the-value-itself");
        assert_eq!(broker.reveal("token").await.unwrap(), "the-value-itself");
        assert_eq!(broker.redactor.text("got the-value-itself"), "got [redacted:keys/prod/token]");
        assert_eq!(broker.account.take_revealed(), [SecretName::new("token").unwrap()]);
    }

    #[tokio::test]
    async fn what_was_not_shown_is_not_recorded_as_shown() {
        let mut named = broker(b"the-value-itself");
        assert!(named.reveal("other").await.is_err());
        assert_eq!(named.account.take_denials()[0].permission, "reveal other");
        assert!(named.account.take_revealed().is_empty());
        // It is not text: the component gets nothing, and the record errs on the side of the owner.
        let mut bytes = broker(b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8");
        assert!(matches!(bytes.reveal("token").await, Err(Fault::Answer(_))));
    }

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
