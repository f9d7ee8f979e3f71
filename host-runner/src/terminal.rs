//! Words out, bytes in.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, bail};
use serde::Serialize;
use zeroize::Zeroizing;

pub(crate) fn say(text: &str) {
    // A reader that went away has seen enough.
    let _ = writeln!(std::io::stdout(), "{text}");
}

pub(crate) fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub(crate) fn say_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    say(&serde_json::to_string(value)?);
    Ok(())
}

pub(crate) fn standard_input(limit: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).context("standard input")?;
    if bytes.len() as u64 > limit {
        bail!("standard input: more than {limit} bytes");
    }
    Ok(bytes)
}
