//! How a run is ended from outside: first it is asked, and when the grace is over it is cut off.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Ends a run. Clones end the same one.
#[derive(Debug, Clone)]
pub struct Cancel {
    asked: CancellationToken,
    /// When the grace is over, once somebody has asked.
    over: Arc<watch::Sender<Option<Instant>>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self { asked: CancellationToken::new(), over: Arc::new(watch::Sender::new(None)) }
    }
}

impl Cancel {
    /// Nobody has asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the run to end, and has it cut off after `grace`. Of several graces the one that is over first counts.
    pub fn within(&self, grace: Duration) {
        let new = Instant::now() + grace;
        self.over.send_modify(|over| *over = Some(over.map_or(new, |old| old.min(new))));
        self.asked.cancel();
    }

    /// True once somebody has asked.
    pub fn is_cancelled(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Waits until somebody asks.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.asked.cancelled()
    }

    /// What a capability watches.
    pub(crate) fn asked(&self) -> &CancellationToken {
        &self.asked
    }

    /// Waits until the grace is over.
    pub(crate) async fn over(&self) {
        self.asked.cancelled().await;
        let mut changes = self.over.subscribe();
        loop {
            let over = changes.borrow_and_update().unwrap_or_else(Instant::now);
            tokio::select! {
                () = sleep_until(over) => return,
                // This holds the sender, so that there is no end of changes.
                _ = changes.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn of_several_graces_the_one_that_is_over_first_counts() {
        for graces in [[HOUR, Duration::ZERO], [Duration::ZERO, HOUR]] {
            let cancel = Cancel::new();
            assert!(!cancel.is_cancelled());
            graces.into_iter().for_each(|grace| cancel.within(grace));
            assert!(cancel.is_cancelled());
            cancel.over().await;
        }
    }

    #[tokio::test]
    async fn a_shorter_grace_is_heard_while_waiting() {
        let cancel = Cancel::new();
        cancel.within(HOUR);
        tokio::join!(biased; cancel.over(), async { cancel.within(Duration::ZERO) });
    }
}
