//! Secrets that somebody typed for one run: opened at the moment of use, over what the providers have.
//!
//! The owner says with a provider of kind `sealed` below which paths such secrets may arrive; elsewhere a path always is what a
//! provider has stored. *Invariant:* nothing typed stands in the place of something stored, and nothing is opened after its
//! time.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use remit_protocol::{RefusalCode, SecretPath, sealed::Sealed};
use remit_signing::{Refusal, run::Order, sealing};
use serde::{Deserialize, Serialize};

use super::{Providers, Resolve, SecretError, SecretValue};
use crate::{clock::Clock, state::sealing::Sealing};

/// The kind of the provider that has what is typed.
pub(super) const KIND: &str = "sealed";

/// What was typed for the steps of a section, still sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypedSecrets {
    /// The run that it was typed for.
    pub order: Order,
    /// One for each path.
    pub values: Vec<Sealed>,
}

/// The provider of kind `sealed`, where nothing was typed.
pub(super) struct Untyped;

#[async_trait]
impl Resolve for Untyped {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        Err(SecretError::Missing {
            path: path.clone(),
            place: "what was typed for this run".to_owned(),
            remedy: "run the job with `remit job run JOB --secret OPTION`; what is typed is good for one run"
                .to_owned(),
        })
    }
}

/// The providers as one run sees them.
pub(crate) struct WithTyped {
    providers: Arc<Providers>,
    key: Arc<Sealing>,
    order: Order,
    values: BTreeMap<SecretPath, Sealed>,
    clock: Clock,
}

impl WithTyped {
    /// Lays what was typed over the providers.
    ///
    /// # Errors
    /// `E_SECRET` where the owner has no provider of kind `sealed` for a path; `E_SEALED` for two values at one path.
    pub(crate) fn new(
        providers: Arc<Providers>,
        key: Option<&Arc<Sealing>>,
        typed: TypedSecrets,
        clock: Clock,
    ) -> Result<Self, Refusal> {
        let mut values = BTreeMap::new();
        for sealed in typed.values {
            let path = sealed.path.clone();
            if providers.holder(&path).map(|(_, kind)| kind) != Some(KIND) {
                let detail = format!(
                    "What is typed would arrive at {path}, and no provider of kind {KIND:?} holds that path: add a [[provider]] with that kind, and a `mount` above the path, to runner.toml."
                );
                return Err(Refusal::new(RefusalCode::Secret, detail));
            }
            if values.insert(path.clone(), sealed).is_some() {
                return Err(Refusal::new(RefusalCode::Sealed, format!("Two values are sealed for {path}.")));
            }
        }
        let Some(key) = key else {
            let detail = "This runner has no sealing key; restart it, and one is made.";
            return Err(Refusal::new(RefusalCode::Sealed, detail));
        };
        Ok(Self { providers, key: Arc::clone(key), order: typed.order, values, clock })
    }

    fn open(&self, sealed: &Sealed) -> Result<SecretValue, SecretError> {
        let key = (self.key.runner, &self.key.key);
        let opened = sealing::open(sealed, &self.order, key, (self.clock)())
            .map_err(|refusal| SecretError::Sealed { path: sealed.path.clone(), why: refusal.detail })?;
        SecretValue::from_zeroizing(opened).map_err(|why| SecretError::Invalid {
            path: sealed.path.clone(),
            place: "what was typed for this run".to_owned(),
            why,
        })
    }
}

#[async_trait]
impl Resolve for WithTyped {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        match self.values.get(path) {
            Some(sealed) => self.open(sealed),
            None => self.providers.resolve(path).await,
        }
    }

    async fn fresh(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        match self.values.get(path) {
            Some(sealed) => self.open(sealed),
            None => self.providers.fresh(path).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use remit_protocol::{ExecutionId, RunnerId, Timestamp, digest::Sized};
    use remit_signing::sealing::{Purpose, SealingKey};

    use super::*;
    use crate::secrets::{Mount, environment::Environment};

    const NOON: u64 = 1_790_000_000;

    fn time(seconds: u64) -> Timestamp {
        Timestamp::from_millis((NOON + seconds) * 1000)
    }

    fn path(text: &str) -> SecretPath {
        SecretPath::new(text).unwrap()
    }

    fn order() -> Order {
        Order {
            run: ExecutionId::from_u128(7),
            job: "ops/x".parse().unwrap(),
            definition: Sized::of(b"document"),
            options: Sized::of(b"{}"),
            nodes: None,
        }
    }

    fn own(seed: u8) -> Arc<Sealing> {
        Arc::new(Sealing { runner: RunnerId::from_u128(5), key: SealingKey::from_seed(&[seed; 32]) })
    }

    fn sealed(at: &str, value: &str) -> Sealed {
        let (order, option, path) = (order(), "password".parse().unwrap(), path(at));
        let runner = RunnerId::from_u128(5);
        let purpose = Purpose {
            order: &order,
            option: &option,
            path: &path,
            runner,
            issued: time(0),
            expires: time(60),
        };
        purpose.seal(&own(9).key.public(), value.as_bytes(), [3; 32]).unwrap()
    }

    /// What is typed arrives below `keys/typed`; one secret is stored.
    fn providers() -> Arc<Providers> {
        let mut providers = Providers::default();
        let mount = |text: &str| Mount::try_from(text.to_owned()).unwrap();
        providers.mount(mount("keys/typed"), KIND, Arc::new(Untyped)).unwrap();
        let stored = SecretValue::new(b"stored value".to_vec()).ok().unwrap();
        let stored = Environment::new(BTreeMap::from([(path("keys/e/token"), stored)]));
        providers.mount(mount("keys/e"), "environment", Arc::new(stored)).unwrap();
        Arc::new(providers)
    }

    fn with(values: Vec<Sealed>, key: Option<&Arc<Sealing>>, clock: Clock) -> Result<WithTyped, Refusal> {
        WithTyped::new(providers(), key, TypedSecrets { order: order(), values }, clock)
    }

    #[tokio::test]
    async fn what_was_typed_is_there_beside_what_is_stored() {
        let key = own(9);
        let typed =
            with(vec![sealed("keys/typed/db", "correct horse")], Some(&key), || time(1)).ok().unwrap();
        let found = async |at: &str| match typed.resolve(&path(at)).await {
            Ok(value) => String::from_utf8(value.expose().to_vec()).unwrap(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found("keys/typed/db").await, "correct horse");
        assert_eq!(typed.fresh(&path("keys/typed/db")).await.ok().unwrap().expose(), b"correct horse");
        assert_eq!(found("keys/e/token").await, "stored value");
        assert!(found("keys/typed/other").await.contains("--secret"));
    }

    #[tokio::test]
    async fn what_does_not_open_is_refused_at_each_use() {
        for (key, clock) in [(own(8), (|| time(1)) as Clock), (own(9), || time(60))] {
            let typed = with(vec![sealed("keys/typed/db", "correct horse")], Some(&key), clock).ok().unwrap();
            let found = typed.resolve(&path("keys/typed/db")).await.err();
            assert!(matches!(found, Some(SecretError::Sealed { .. })), "{found:?}");
        }
        let key = own(9);
        let short = with(vec![sealed("keys/typed/db", "short")], Some(&key), || time(1)).ok().unwrap();
        let found = short.resolve(&path("keys/typed/db")).await.err();
        assert!(matches!(found, Some(SecretError::Invalid { .. })), "{found:?}");
    }

    #[test]
    fn nothing_typed_takes_the_place_of_what_is_stored() {
        fn check(values: Vec<Sealed>, key: Option<&Arc<Sealing>>, expect: RefusalCode, words: &str) {
            let refusal = with(values, key, || time(1)).err().unwrap();
            assert_eq!(refusal.code, expect);
            assert!(refusal.detail.contains(words), "{refusal}");
        }
        let key = own(9);
        let one = |at: &str| vec![sealed(at, "correct horse")];
        check(one("keys/e/token"), Some(&key), RefusalCode::Secret, "kind \"sealed\"");
        check(one("keys/nowhere/x"), Some(&key), RefusalCode::Secret, "[[provider]]");
        check([one("keys/typed/a"), one("keys/typed/a")].concat(), Some(&key), RefusalCode::Sealed, "Two");
        check(one("keys/typed/a"), None, RefusalCode::Sealed, "no sealing key");
    }
}
