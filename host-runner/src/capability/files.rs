//! `files`: the scratch directory and the named paths of the remit.

use std::{path::Path, sync::Arc};

use tempfile::TempDir;
use wasmtime::component::Linker;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::sandbox::{Account, HostFault, State};

/// The scratch directory of one run: fresh, its own, removed at the end.
pub(crate) struct Scratch {
    directory: TempDir,
    _account: Arc<Account>,
}

impl Scratch {
    /// Makes a directory below `base` and opens it as `/scratch`.
    pub(crate) fn open(
        base: &Path,
        wasi: &mut WasiCtxBuilder,
        account: Arc<Account>,
    ) -> Result<Self, HostFault> {
        let fault = |error: &dyn std::fmt::Display| {
            HostFault(format!("no scratch directory in {}: {error}", base.display()))
        };
        let directory = TempDir::with_prefix_in("scratch-", base).map_err(|error| fault(&error))?;
        wasi.preopened_dir(directory.path(), "/scratch", FsPerms::ReadWrite)
            .map_err(|error| fault(&error))?;
        Ok(Self { directory, _account: account })
    }

    /// Removes it.
    pub(crate) async fn remove(self) {
        let directory = self.directory;
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || directory.close()).await {
            tracing::warn!(%error, "a scratch directory could not be removed");
        }
    }
}

/// Links `wasi:filesystem`.
pub(super) fn link_scratch(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use wasmtime_wasi::{
        filesystem::{WasiFilesystem, WasiFilesystemView},
        p2::bindings::filesystem,
    };
    filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)
}

/// Links `remit:files/named`.
pub(super) fn link_named(_linker: &mut Linker<State>) -> wasmtime::Result<()> {
    Ok(())
}
