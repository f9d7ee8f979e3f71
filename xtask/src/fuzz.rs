//! `cargo xtask fuzz`: builds the fuzzer without the engine, in a profile of its own, and runs it.

use anyhow::Result;

use crate::shell::{cargo, run};

/// Runs `remit-fuzz` with these arguments.
pub(crate) fn fuzz(arguments: &[String]) -> Result<()> {
    run(cargo("run --quiet --profile fuzz --package remit-fuzz --").args(arguments))
}
