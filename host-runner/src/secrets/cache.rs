//! A short memory before a provider that has to be called: many uses in one step are one call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use remit_protocol::SecretPath;
use tokio::time::Instant;

use super::{Resolve, SecretError, SecretValue};

/// One path's value and when it was asked for. Who reads it holds the lock, so that others wait for the same answer.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, SecretValue)>>>;

/// What time it is.
type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Keeps what `inner` gave for a while. Failures are not kept.
pub(super) struct Cached<R> {
    inner: R,
    life: Duration,
    clock: Clock,
    slots: Mutex<HashMap<SecretPath, Slot>>,
}

impl<R: Resolve> Cached<R> {
    /// Keeps values for `life`; zero keeps none.
    pub(super) fn new(inner: R, life: Duration, clock: Clock) -> Self {
        Self { inner, life, clock, slots: Mutex::default() }
    }

    /// The slot of `path`. Values that nobody asked for in time are overwritten on the way.
    fn slot(&self, path: &SecretPath) -> Slot {
        let now = (self.clock)();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| match slot.try_lock() {
            Ok(held) => held.as_ref().is_some_and(|(asked, _)| now.duration_since(*asked) < self.life),
            // Somebody is reading it.
            Err(_) => true,
        });
        slots.entry(path.clone()).or_default().clone()
    }

    /// The value, if it was asked for at `since` or later, else a new one.
    async fn since(&self, path: &SecretPath, since: Option<Instant>) -> Result<SecretValue, SecretError> {
        let slot = self.slot(path);
        let mut held = slot.lock().await;
        if let Some((asked, value)) = held.as_ref()
            && since.is_some_and(|since| *asked >= since)
        {
            return Ok(value.duplicate());
        }
        *held = None;
        let asked = (self.clock)();
        let value = self.inner.resolve(path).await?;
        *held = (!self.life.is_zero()).then(|| (asked, value.duplicate()));
        Ok(value)
    }
}

#[async_trait]
impl<R: Resolve> Resolve for Cached<R> {
    async fn resolve(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        self.since(path, (self.clock)().checked_sub(self.life)).await
    }

    async fn fresh(&self, path: &SecretPath) -> Result<SecretValue, SecretError> {
        self.since(path, Some((self.clock)())).await
    }

    async fn keep(&self) {
        self.inner.keep().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Gives another value at each call.
    #[derive(Default)]
    struct Counting(Arc<AtomicUsize>);

    #[async_trait]
    impl Resolve for Counting {
        async fn resolve(&self, _: &SecretPath) -> Result<SecretValue, SecretError> {
            let number = self.0.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(SecretValue::new(format!("value number {number}").into_bytes()).ok().unwrap())
        }
    }

    fn text(value: &SecretValue) -> &str {
        std::str::from_utf8(value.expose()).unwrap()
    }

    /// A clock that a test moves; it goes on by a nanosecond with each look.
    #[derive(Clone, Default)]
    struct Hand(Arc<Mutex<Duration>>);

    impl Hand {
        fn forward(&self, by: Duration) {
            *self.0.lock().unwrap() += by;
        }

        fn clock(&self) -> Clock {
            let (begin, hand) = (Instant::now() + Duration::from_secs(3600), self.clone());
            Arc::new(move || {
                hand.forward(Duration::from_nanos(1));
                begin + *hand.0.lock().unwrap()
            })
        }
    }

    #[tokio::test]
    async fn a_value_lives_a_short_time_and_a_new_attempt_asks_anew() {
        let hand = Hand::default();
        let cached = Cached::new(Counting::default(), Duration::from_secs(10), hand.clock());
        let (a, b) = (SecretPath::new("keys/a").unwrap(), SecretPath::new("keys/b").unwrap());
        let expect = async |path: &SecretPath, expect: &str| {
            assert_eq!(text(&cached.resolve(path).await.ok().unwrap()), expect);
        };
        expect(&a, "value number 0").await;
        expect(&b, "value number 1").await;
        hand.forward(Duration::from_secs(9));
        expect(&a, "value number 0").await;
        hand.forward(Duration::from_secs(1));
        expect(&a, "value number 2").await;
        assert_eq!(text(&cached.fresh(&a).await.ok().unwrap()), "value number 3");
        expect(&a, "value number 3").await;
        // What nobody asked for any more is gone.
        assert_eq!(cached.slots.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn who_waits_shares_a_call_that_began_after_he_came() {
        let calls = Arc::new(AtomicUsize::new(0));
        let clock = Hand::default().clock();
        let cached = Cached::new(Counting(calls.clone()), Duration::from_secs(10), clock);
        let path = SecretPath::new("keys/a").unwrap();
        let (one, two, three) = tokio::join!(cached.fresh(&path), cached.fresh(&path), cached.fresh(&path));
        let found = [one, two, three].map(|value| text(&value.ok().unwrap()).to_owned());
        assert_eq!(found, ["value number 0", "value number 1", "value number 1"]);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn no_life_keeps_nothing() {
        let cached = Cached::new(Counting::default(), Duration::ZERO, Hand::default().clock());
        let path = SecretPath::new("keys/a").unwrap();
        for expect in ["value number 0", "value number 1"] {
            assert_eq!(text(&cached.resolve(&path).await.ok().unwrap()), expect);
        }
    }
}
