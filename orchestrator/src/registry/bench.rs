//! How fast the transparency log takes notes: measured inside of this program, as the service would call it.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use remit_signing::{SigningKey, key::KeyName};
use tokio::task::JoinSet;

use super::Log;
use crate::store::Store;

/// Appends `notes` notes of about 700 bytes by `callers` callers at once and gives the number a second. Each caller waits
/// until its note is on disk under a signed head before it appends the next.
///
/// # Errors
/// The store's.
pub async fn append_speed(data: &Path, notes: u32, callers: u32) -> Result<f64> {
    let store = Store::open(data)?;
    let key = SigningKey::from_seed(KeyName::new("bench/log")?, &[7; 32]);
    let log = Arc::new(Log::open(Arc::new(store), key).await?);
    let each = notes / callers.max(1);
    #[expect(clippy::disallowed_methods, reason = "measuring is what this is for")]
    let begun = std::time::Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            for number in 0..each {
                let note = format!("remit/bench/v1\ncaller {caller}\nnumber {number}\n{:0>650}\n", 0);
                log.append(note.as_bytes()).await?;
            }
            Ok::<_, crate::store::StoreError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a caller broke off")??;
    }
    Ok(f64::from(each * callers) / begun.elapsed().as_secs_f64())
}
