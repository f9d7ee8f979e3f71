//! `secrets`: showing a value to a component that may see it.

use wasmtime::component::Linker;

use crate::sandbox::State;

/// Links `remit:secrets/reveal`.
pub(super) fn link(_linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Ok(())
}
