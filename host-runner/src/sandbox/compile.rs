//! From the wasm of a verified component to native code. Runs in a process of its own, which lives for one component.

use super::{Metering, engine};

/// Native code of this engine: loading it executes what it says. It comes from [`compile`], or from a cache that has
/// checked its own MAC over it; nothing else in the runner makes one.
pub struct NativeCode {
    bytes: Vec<u8>,
    metering: Metering,
}

impl NativeCode {
    /// Takes bytes whose origin was checked: written by this runner's compile process, or under the cache's MAC.
    pub(crate) fn from_checked(bytes: Vec<u8>, metering: Metering) -> Self {
        Self { bytes, metering }
    }

    /// Whether it counts its fuel.
    pub(super) fn metering(&self) -> Metering {
        self.metering
    }

    /// The bytes, to be written to the compile process's parent or to the cache.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A component that this engine does not compile.
#[derive(Debug, thiserror::Error)]
#[error("the component could not be compiled: {0}")]
pub struct CompileError(String);

/// Compiles a component. Takes seconds and gigabytes for a hostile one: call it in a process with limits.
///
/// # Errors
/// The bytes are no component, or use a proposal of WebAssembly that is switched off here.
pub fn compile(wasm: &[u8], metering: Metering) -> Result<NativeCode, CompileError> {
    let engine = engine::compiling(metering).map_err(|error| CompileError(error.to_string()))?;
    match engine.precompile_component(wasm) {
        Ok(bytes) => Ok(NativeCode { bytes, metering }),
        Err(error) => Err(CompileError(format!("{error:#}"))),
    }
}
