//! Sends the orchestrator each end of the owner's record that was signed, so that a record that is cut off is seen to be.

use std::{sync::Arc, time::Duration};

use remit_protocol::{Session, endpoint::TrailHead};
use tokio::sync::watch;

use crate::orchestrator::{CallError, Client};

/// After how long a call that failed is made again.
const AGAIN: Duration = Duration::from_secs(60);

/// Tells each new signed end, in whatever session there is, until it is dropped. An orchestrator that does not know of it
/// is not asked again.
pub(super) async fn tell(
    client: Arc<Client>,
    mut sealed: watch::Receiver<Option<String>>,
    mut session: watch::Receiver<Option<Session>>,
) {
    loop {
        let note = sealed.borrow_and_update().clone();
        let open = session.borrow_and_update().is_some();
        let mut pause = None;
        if let (Some(note), true) = (note, open) {
            match client.trail(&TrailHead { note }).await {
                Ok(kept) if kept.fits => {}
                Ok(kept) => tracing::error!(
                    entries = kept.entries,
                    "the orchestrator has seen a longer record of this runner: its end was cut off, or it is a copy"
                ),
                Err(CallError::Refused { status: 404, .. }) => return,
                Err(error) => {
                    tracing::debug!(%error, "the signed end of the record is sent again later");
                    pause = Some(AGAIN);
                }
            }
        }
        let again = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        let more = tokio::select! {
            more = sealed.changed() => more.is_ok(),
            more = session.changed() => more.is_ok(),
            () = again => true,
        };
        if !more {
            return;
        }
    }
}
