//! What lies on disk from before: a trust policy that was replaced, and what another version remembers and has journalled.

use std::{fs, path::PathBuf};

use anyhow::Result;
use remit_protocol::{AttemptId, Epoch};

use super::{Seen, seen};
use crate::{
    conformance::bench::noon,
    report::record::{self, Record},
    state,
    trust::{NotBelieved, Trust},
};

fn found(error: &NotBelieved) -> Seen {
    seen(false, error.to_string())
}

/// Version 5 was believed; then the file is of this version.
pub(super) fn policy(version: u64) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let (file, state) = (folder.path().join("trust.toml"), folder.path().join("state"));
    state::make_private(&state)?;
    fs::write(&file, "version = 5\n")?;
    let trust = Trust::open(&file, &state, noon)?;
    trust.belief().map_err(|error| anyhow::anyhow!("the policy is not believed: {error}"))?;
    drop(trust);
    fs::write(&file, format!("version = {version}\n"))?;
    let trust = Trust::open(&file, &state, noon)?;
    Ok(match trust.belief() {
        Ok(belief) => seen(true, format!("version {} is believed", belief.policy.version())),
        Err(error) => found(&error),
    })
}

/// What another version remembers.
pub(super) fn memory(form: u32) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let (file, state) = (folder.path().join("trust.toml"), folder.path().join("state"));
    state::make_private(&state)?;
    fs::write(&file, "version = 5\n")?;
    Trust::open(&file, &state, noon)?.belief().map_err(|error| anyhow::anyhow!("{error}"))?;
    let kept: PathBuf = state.join("trust.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&kept)?)?;
    value["v"] = form.into();
    state::write_private(&kept, &serde_json::to_vec(&value)?)?;
    Ok(match Trust::open(&file, &state, noon) {
        Ok(_) => seen(true, "it is read"),
        Err(error) => seen(false, format!("{error:#}")),
    })
}

/// Three records, the second of this kind: nothing from the first that is not understood counts.
pub(super) fn journal(kind: u8) -> Seen {
    let attempt = AttemptId::from_u128(1);
    let begun = Record::Begun { epoch: Epoch(1), first_event: 1, first_entry: 1 };
    let (mut bytes, mut second) = (Vec::new(), Vec::new());
    record::encode(attempt, &begun, &mut bytes);
    record::encode(attempt, &Record::Entry { number: 1, json: "{}" }, &mut second);
    // Head of eight bytes: length and checksum; then the kind.
    if let Some(place) = second.get_mut(8) {
        *place = kind;
    }
    let sum = crc32c::crc32c(second.get(8..).unwrap_or_default());
    if let Some(place) = second.get_mut(4..8) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    bytes.extend(second);
    record::encode(attempt, &Record::Gone, &mut bytes);
    let read = record::decode(&bytes).count();
    seen(read == 3, format!("{read} of 3 records are believed"))
}
